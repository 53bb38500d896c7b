//! Files of blobs that are kept open, and a deletion beside (`cold-file: open_files.rs`).

use std::sync::{Arc, OnceLock};

use aether_core::BlobKey;

use super::{part, together};
use crate::shuttled::open_files::{OpenBlob, OpenFiles};
use crate::shuttled::sync::{AtomicU64, Ordering::SeqCst};

fn blob() -> Arc<OpenBlob> {
    static BLOB: OnceLock<Arc<OpenBlob>> = OnceLock::new();
    let open = || {
        let file = tempfile::tempfile().expect("a temporary file");
        Arc::new(OpenBlob {
            file: Box::new(file),
            len: 0,
        })
    };
    BLOB.get_or_init(open).clone()
}

/// Reads that began before a deletion leave nothing of the blob behind it.
pub fn a_deleted_blob_is_not_kept() {
    reads_beside_a_deletion(false);
}

/// Readers that note the generation after they opened the file.
pub fn planted_a_deleted_blob_is_kept() {
    reads_beside_a_deletion(true);
}

fn reads_beside_a_deletion(planted: bool) {
    let key = BlobKey::new("segments/1").expect("a key");
    let files = Arc::new(OpenFiles::new(2));
    let there = Arc::new(AtomicU64::new(1));
    let mut parts = Vec::new();
    for _ in 0..3 {
        let (key, files, there) = (key.clone(), files.clone(), there.clone());
        parts.push(part(move || {
            // In the order of the store's reads: looked up, generation noted, opened, kept.
            if files.get(&key).is_some() {
                return;
            }
            let mut generation = files.generation();
            if there.load(SeqCst) == 1 {
                let opened = blob();
                assert_eq!(opened.len, 0);
                assert!(opened.file.kind().is_ok());
                if planted {
                    generation = files.generation();
                }
                files.insert(&key, &opened, generation);
            }
        }));
    }
    let (deletes, gone) = (files.clone(), key.clone());
    parts.push(part(move || {
        there.store(0, SeqCst);
        deletes.deleted(&gone);
        assert!(
            deletes.get(&gone).is_none(),
            "it is readable after its deletion"
        );
    }));
    together(parts);
    assert!(files.get(&key).is_none(), "it came back after its deletion");
}

//! Blobs kept open between reads.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::sync::Arc;

use aether_core::BlobKey;

use super::sync::Mutex;

use crate::files::Handle;

/// A blob's open file. Blobs never change, so the length holds as long as the file is open.
#[derive(Debug)]
pub(crate) struct OpenBlob {
    pub(crate) file: Box<dyn Handle>,
    pub(crate) len: u64,
}

impl OpenBlob {
    /// Fills `out` from `at` on; waits for the disk.
    ///
    /// # Errors
    /// `UnexpectedEof` when the file ends before.
    pub(crate) fn read_exact_at(&self, mut out: &mut [u8], mut at: u64) -> io::Result<()> {
        while !out.is_empty() {
            match self.file.read_at(out, at) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(read) => {
                    out = out.get_mut(read..).unwrap_or_default();
                    at += read as u64;
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

/// A bounded set of open blobs; the least recently used goes first. O(1) on a hit, O(limit) on an insertion into a
/// full set, which an `open` dwarfs.
///
/// A delete must not leave a deleted blob readable: whoever opens a file notes [`OpenFiles::generation`] before, and the
/// insertion is passed over when a delete came between.
#[derive(Debug)]
pub(crate) struct OpenFiles {
    limit: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    by_key: HashMap<BlobKey, (Arc<OpenBlob>, u64)>,
    uses: u64,
    generation: u64,
}

impl OpenFiles {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            inner: Mutex::default(),
        }
    }

    pub(crate) fn get(&self, key: &BlobKey) -> Option<Arc<OpenBlob>> {
        let mut inner = self.inner.lock();
        inner.uses += 1;
        let uses = inner.uses;
        let (blob, used) = inner.by_key.get_mut(key)?;
        *used = uses;
        Some(blob.clone())
    }

    /// To be noted before a file is opened.
    pub(crate) fn generation(&self) -> u64 {
        self.inner.lock().generation
    }

    /// Keeps a file that was opened after `generation` was noted.
    pub(crate) fn insert(&self, key: &BlobKey, blob: &Arc<OpenBlob>, generation: u64) {
        if self.limit == 0 {
            return;
        }
        let mut inner = self.inner.lock();
        if inner.generation != generation {
            return;
        }
        if inner.by_key.len() >= self.limit && !inner.by_key.contains_key(key) {
            let oldest = inner.by_key.iter().min_by_key(|(_, (_, used))| *used);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                inner.by_key.remove(&oldest);
            }
        }
        inner.uses += 1;
        let uses = inner.uses;
        inner.by_key.insert(key.clone(), (blob.clone(), uses));
    }

    /// To be called after a blob's file was removed.
    pub(crate) fn deleted(&self, key: &BlobKey) {
        let mut inner = self.inner.lock();
        inner.generation += 1;
        inner.by_key.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> BlobKey {
        BlobKey::new(name).unwrap()
    }

    fn blob() -> Arc<OpenBlob> {
        let file = Box::new(tempfile::tempfile().unwrap());
        Arc::new(OpenBlob { file, len: 0 })
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        let files = OpenFiles::new(2);
        files.insert(&key("a"), &blob(), 0);
        files.insert(&key("b"), &blob(), 0);
        assert!(files.get(&key("a")).is_some());
        files.insert(&key("c"), &blob(), 0);
        assert!(files.get(&key("b")).is_none());
        assert!(files.get(&key("a")).is_some() && files.get(&key("c")).is_some());
        assert_eq!(files.inner.lock().by_key.len(), 2);
    }

    #[test]
    fn a_file_opened_before_a_delete_is_not_kept_after_it() {
        let files = OpenFiles::new(2);
        let generation = files.generation();
        let opened = blob();
        files.deleted(&key("a"));
        files.insert(&key("a"), &opened, generation);
        assert!(files.get(&key("a")).is_none());
        files.insert(&key("a"), &opened, files.generation());
        files.deleted(&key("a"));
        assert!(files.get(&key("a")).is_none());
    }

    #[test]
    fn a_limit_of_none_keeps_none() {
        let files = OpenFiles::new(0);
        files.insert(&key("a"), &blob(), 0);
        assert!(files.get(&key("a")).is_none());
    }
}

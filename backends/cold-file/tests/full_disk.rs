//! A put that meets the end of the disk is `Capacity` and leaves nothing.
//!
//! The end of the disk is a limit on file sizes that a shell sets for a second run of this test: the write fails in the
//! middle, with a part already on the disk.

use std::process::Command;

use aether_cold_file::{FileStore, FileStoreConfig};
use aether_core::BlobKey;
use aether_core::role::ColdStore;

const LIMITED: &str = "AETHER_TEST_LIMITED_FOLDER";

#[test]
fn a_put_beyond_the_limit_leaves_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let this = std::env::current_exe().unwrap();
    // 64 blocks of 512 bytes; the signal that would end the process is ignored, so that the write answers.
    let script =
        "trap '' XFSZ; ulimit -f 64; exec \"$0\" --exact under_the_limit --ignored --nocapture";
    let run = Command::new("sh")
        .args(["-c", script])
        .arg(this)
        .env(LIMITED, temp.path())
        .output()
        .unwrap();
    let (out, err) = (
        String::from_utf8_lossy(&run.stdout),
        String::from_utf8_lossy(&run.stderr),
    );
    assert!(run.status.success(), "{out}\n{err}");
    assert!(
        out.contains("1 passed"),
        "the second run ran nothing: {out}"
    );
}

#[tokio::test]
#[ignore = "run by a_put_beyond_the_limit_leaves_nothing, under a limit"]
async fn under_the_limit() {
    let folder = std::env::var_os(LIMITED).expect("run by the other test");
    let folder = std::path::Path::new(&folder);
    let store = FileStore::open(folder, &FileStoreConfig::default(), false).unwrap();
    let key = |name: &str| BlobKey::new(name).unwrap();
    store.put(&key("fits"), vec![1; 4096].into()).await.unwrap();
    let error = store.put(&key("large"), vec![2; 1 << 20].into()).await;
    let error = error.unwrap_err();
    assert!(error.is_capacity(), "{error:?}");
    assert_eq!(store.size(&key("large")).await.unwrap(), None);
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, [".lock", "fits"]);
    store.put(&key("large"), vec![2; 100].into()).await.unwrap();
}

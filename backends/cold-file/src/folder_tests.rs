use std::fs::{self, File};

use super::*;
use crate::files::Machine;

fn open(path: &Path) -> Result<(Folder, FolderLock)> {
    Folder::open(Arc::new(Machine), path)
}

fn open_read_only(path: &Path) -> Result<Folder> {
    Folder::open_read_only(Arc::new(Machine), path)
}

fn key(name: &str) -> BlobKey {
    BlobKey::new(name).unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let name = |e: io::Result<fs::DirEntry>| e.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<String> = entries.map(name).collect();
    names.retain(|n| n != LOCK_NAME);
    names.sort();
    names
}

/// A folder below two that do not exist either is made.
#[test]
fn missing_folders_are_made_and_nothing_but_blobs_stays_in_them() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("a/b/cold");
    let (folder, _lock) = open(&path).unwrap();
    folder.put(&key("x/1"), b"one").unwrap();
    folder.put(&key("x/1"), b"one").unwrap();
    assert!(folder.put(&key("x/1"), b"two").unwrap_err().is_conflict());
    assert_eq!(names(&path), ["x+1"]);
    assert_eq!(fs::read(path.join("x+1")).unwrap(), b"one");
}

#[test]
fn a_second_store_on_one_folder_is_told_who_holds_it() {
    let temp = tempfile::tempdir().unwrap();
    let (_folder, lock) = open(temp.path()).unwrap();
    let error = open(temp.path()).unwrap_err();
    assert!(error.is_locked(), "{error:?}");
    let holder = format!("process {}", std::process::id());
    assert!(error.to_string().contains(&holder), "{error}");
    // Reading only locks nothing and is not locked out.
    open_read_only(temp.path()).unwrap();
    drop(lock);
    open(temp.path()).unwrap();
}

#[test]
fn leftovers_go_at_the_next_opening_and_strangers_stay() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path();
    for name in [
        ".put-1-00000000",
        ".put-99-0000ffff",
        "seg+1",
        "README.TXT",
        ".hidden",
    ] {
        fs::write(path.join(name), b"x").unwrap();
    }
    fs::create_dir(path.join("lost+found")).unwrap();
    let folder = open_read_only(path).unwrap();
    assert_eq!(folder.list("").unwrap().len(), 1);
    assert_eq!(names(path).len(), 6);
    let (folder, _lock) = open(path).unwrap();
    assert_eq!(
        names(path),
        [".hidden", "README.TXT", "lost+found", "seg+1"]
    );
    let listed = folder.list("").unwrap();
    assert_eq!((listed.len(), &listed[0].key), (1, &key("seg/1")));
}

/// A link in a blob's place leads out of the folder: it is not followed, not listed, not replaced.
#[test]
fn a_symbolic_link_is_not_followed() {
    let temp = tempfile::tempdir().unwrap();
    let secret = temp.path().join("secret");
    fs::write(&secret, b"secret").unwrap();
    let path = temp.path().join("cold");
    let (folder, _lock) = open(&path).unwrap();
    std::os::unix::fs::symlink(&secret, path.join("link")).unwrap();
    let error = folder.open_blob(&key("link")).unwrap_err();
    assert!(
        error.is_corrupt() && error.to_string().contains("link"),
        "{error:?}"
    );
    assert!(
        folder
            .put(&key("link"), b"secret")
            .unwrap_err()
            .is_corrupt()
    );
    assert_eq!(folder.list("").unwrap(), []);
    folder.delete(&key("link")).unwrap();
    assert_eq!(fs::read(&secret).unwrap(), b"secret");
    fs::create_dir(path.join("folder")).unwrap();
    assert!(folder.open_blob(&key("folder")).unwrap_err().is_corrupt());
}

#[test]
fn a_file_in_place_of_the_folder_is_an_error_in_the_configuration() {
    let file = tempfile::NamedTempFile::new().unwrap();
    assert!(open(file.path()).unwrap_err().is_config());
    assert!(open_read_only(file.path()).unwrap_err().is_config());
}

/// `/dev/null` cannot be synced, as a broken disk cannot.
#[test]
fn after_a_failed_sync_nothing_is_acknowledged_and_reads_go_on() {
    let temp = tempfile::tempdir().unwrap();
    let (folder, _lock) = open(temp.path()).unwrap();
    folder.put(&key("before"), b"abc").unwrap();
    let null = Box::new(File::open("/dev/null").unwrap());
    let broken = Folder::new(Arc::new(Machine), temp.path(), Some(null));
    let error = broken.put(&key("during"), b"abc").unwrap_err();
    assert!(
        error.is_poisoned() && error.retry() == Retry::Unknown,
        "{error:?}"
    );
    for error in [
        broken.put(&key("during"), b"abc").unwrap_err(),
        broken.put(&key("after"), b"abc").unwrap_err(),
        broken.delete(&key("before")).unwrap_err(),
    ] {
        assert!(
            error.is_poisoned() && error.retry() == Retry::Never,
            "{error:?}"
        );
    }
    assert_eq!(broken.open_blob(&key("before")).unwrap().unwrap().len, 3);
    assert_eq!(names(temp.path()), ["before", "during"]);
}

/// Where hard links are not offered a rename that replaces nothing publishes as well: one winner.
#[cfg(target_os = "linux")]
#[test]
fn renaming_publishes_once_too() {
    let temp = tempfile::tempdir().unwrap();
    let place = temp.path().join("blob");
    for round in 0..20_u8 {
        let publish = |byte: u8| {
            let aside = Aside::write(&Machine, temp.path(), &[byte; 100]).unwrap();
            aside.rename(&place).unwrap().unwrap()
        };
        let wins: Vec<bool> = std::thread::scope(|scope| {
            let threads =
                [0, 1, 2].map(|i| scope.spawn(move || publish(round.wrapping_mul(3) + i)));
            threads.map(|t| t.join().unwrap()).into()
        });
        assert_eq!(wins.iter().filter(|won| **won).count(), 1);
        assert_eq!(names(temp.path()), ["blob"]);
        let winner = wins.iter().position(|won| *won).unwrap();
        let expected = [round.wrapping_mul(3) + winner as u8; 100];
        assert_eq!(fs::read(&place).unwrap(), expected);
        fs::remove_file(&place).unwrap();
    }
}

#[test]
fn puts_that_wait_for_one_another_share_a_sync() {
    let temp = tempfile::tempdir().unwrap();
    let (folder, _lock) = open(temp.path()).unwrap();
    std::thread::scope(|scope| {
        for i in 0..8 {
            let folder = &folder;
            scope.spawn(move || folder.put(&key(&format!("k{i}")), &[i; 10]).unwrap());
        }
    });
    // One count for the opening and one for each put, and all of it synced.
    assert_eq!(folder.unsynced.load(Ordering::SeqCst), 9);
    assert_eq!(*folder.synced.lock(), 9);
    assert_eq!(folder.list("k").unwrap().len(), 8);
}

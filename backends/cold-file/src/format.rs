//! Names on disk. A blob's file holds its bytes and nothing else.
//!
//! ```text
//! <folder>/segments+0001-00ff.seg    a blob; '/' of its key is written '+', which no key contains
//! <folder>/.put-4711-0000002a        a put under way, or cut short: process id, number within the process
//! <folder>/.lock                     locked while a store is open for writing; holds the process id as text
//! ```
//!
//! All files lie in one folder: a put syncs one folder, a key may be the beginning of another (`a` and `a/b`), and a
//! listing is one pass. A blob's name begins with a letter, digit, `-` or `_`, never with `.`, since no part of a key does. Names are at
//! most 200 bytes long, as keys are.
//!
//! | what | recovery does |
//! |---|---|
//! | a blob | leaves it: it was whole and synced before it got its name |
//! | `.put-*` | removes it at the next opening for writing |
//! | `.lock` | nothing: the lock went with the process that held it |
//! | anything else | leaves it, never lists it |

use aether_core::{BlobKey, Result};

/// Beginning of the name of a put under way.
pub(crate) const PUT_PREFIX: &str = ".put-";
/// Name of the lock.
pub(crate) const LOCK_NAME: &str = ".lock";

/// The file name of a blob.
pub(crate) fn file_name(key: &BlobKey) -> String {
    key.as_str().replace('/', "+")
}

/// The blob of a file name, if it is a blob's.
pub(crate) fn blob_key(file_name: &str) -> Option<BlobKey> {
    // A slash cannot be in a file name, so only '+' becomes one.
    let key: Result<BlobKey> = BlobKey::new(file_name.replace('+', "/"));
    key.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_survive_and_never_meet() {
        let names = ["a", "a/b", "a/b/c", "a-b", "a.b", "0/_.x", &"x".repeat(200)];
        let mut files: Vec<String> = Vec::new();
        for name in names {
            let key = BlobKey::new(name).unwrap();
            let file = file_name(&key);
            assert!(!file.contains('/') && !file.starts_with('.') && file.len() <= 200);
            assert_eq!(blob_key(&file), Some(key));
            files.push(file);
        }
        files.sort();
        files.dedup();
        assert_eq!(files.len(), names.len());
    }

    #[test]
    fn the_stores_own_files_are_no_blobs() {
        for name in [
            LOCK_NAME,
            ".put-1-00000001",
            "lost+found",
            "A",
            "a+",
            "+a",
            "a++b",
            "ü",
            "",
        ] {
            // `lost+found` reads as a key; it is a folder and is passed over as such.
            let is_key = name == "lost+found";
            assert_eq!(blob_key(name).is_some(), is_key, "{name}");
        }
    }
}

//! Blob keys and the names of their objects.
//!
//! | where | key `segments/0001.seg` |
//! |---|---|
//! | services and memory | `prefix/segments/0001.seg` |
//! | local folder | `segments+0001.seg`, all in one folder |
//!
//! In a local folder `a` and `a/b` could not both be: a name is a file or a folder. So the parts are joined by `+`, which no key
//! contains, as the `file` store does.

use aether_core::BlobKey;
use object_store::path::Path;

/// How keys become names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Names {
    /// Under a prefix, which may be empty.
    Below(Path),
    /// In one folder.
    Flat,
}

impl Names {
    /// The name of a key's object.
    pub(crate) fn path(&self, key: &BlobKey) -> Path {
        match self {
            Self::Below(base) => key.as_str().split('/').fold(base.clone(), Path::join),
            Self::Flat => Path::from(key.as_str().replace('/', "+")),
        }
    }

    /// The name of an object that is no blob: a part that starts with '.' is in no key.
    pub(crate) fn hidden(&self, name: &str) -> Path {
        match self {
            Self::Below(base) => base.clone().join(format!(".{name}")),
            Self::Flat => Path::from(format!(".{name}")),
        }
    }

    /// The key of an object, if it is a blob's.
    pub(crate) fn key(&self, path: &Path) -> Option<BlobKey> {
        let name = match self {
            Self::Below(base) => {
                let parts: Vec<_> = path.prefix_match(base)?.collect();
                let parts: Vec<&str> = parts.iter().map(AsRef::as_ref).collect();
                parts.join("/")
            }
            // A name in a sub-folder is not ours.
            Self::Flat if path.as_ref().contains('/') => return None,
            Self::Flat => path.as_ref().replace('+', "/"),
        };
        BlobKey::new(name).ok()
    }

    /// The narrowest folder in which all objects are whose key starts with `prefix`; `None` if no key can.
    pub(crate) fn folder(&self, prefix: &str) -> Option<Option<Path>> {
        let base = match self {
            Self::Below(base) if base.as_ref().is_empty() => None,
            Self::Below(base) => Some(base.clone()),
            Self::Flat => None,
        };
        let Some((folder, _)) = prefix.rsplit_once('/') else {
            return Some(base);
        };
        let folder = BlobKey::new(folder).ok()?;
        match self {
            Self::Below(_) => Some(Some(self.path(&folder))),
            Self::Flat => Some(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_survive_their_names() {
        for names in [
            Names::Flat,
            Names::Below(Path::default()),
            Names::Below(Path::from("a/b")),
        ] {
            for name in ["a", "a/b", "a/b/c.seg", "b", "a.b/-/_", &"x".repeat(200)] {
                let key = BlobKey::new(name).unwrap();
                let path = names.path(&key);
                assert_eq!(names.key(&path), Some(key), "{names:?} {path}");
            }
            assert_eq!(names.key(&names.hidden("probe")), None);
        }
    }

    #[test]
    fn names_of_strangers_are_no_keys() {
        let below = Names::Below(Path::from("a"));
        for path in ["b/x", "ab", "a", "a/X", "a/.hidden", "a/b#1"] {
            assert_eq!(below.key(&Path::from(path)), None, "{path}");
        }
        for path in ["x/y", "X", ".x", "a++b"] {
            assert_eq!(Names::Flat.key(&Path::from(path)), None, "{path}");
        }
    }

    #[test]
    fn a_listing_is_asked_of_the_narrowest_folder() {
        let below = Names::Below(Path::from("base"));
        let folder = |prefix| below.folder(prefix).map(|f| f.unwrap().to_string());
        assert_eq!(folder(""), Some("base".to_owned()));
        assert_eq!(folder("seg"), Some("base".to_owned()));
        assert_eq!(folder("seg/"), Some("base/seg".to_owned()));
        assert_eq!(folder("seg/a/0"), Some("base/seg/a".to_owned()));
        for impossible in ["/", "a//", "../x", "A/", "a/./b"] {
            assert_eq!(folder(impossible), None, "{impossible}");
        }
    }
}

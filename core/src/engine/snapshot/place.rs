//! The folder that a snapshot is written into, in the order that a power cut asks for: `DONE` gets its name when the names and bytes of
//! all other files are durable, and the snapshot is reported when that name is.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::super::folders;
use super::{DONE_FILE, failed};
use crate::error::{Error, Result};

/// Makes a file's bytes durable, or without a file the names in a folder.
type Sync<'a> = &'a (dyn Fn(&Path, Option<&File>) -> io::Result<()> + Send + std::marker::Sync);

fn sync(path: &Path, file: Option<&File>) -> io::Result<()> {
    match file {
        Some(file) => file.sync_all(),
        None => folders::sync(path),
    }
}

/// A snapshot's folder while it is written.
pub(super) struct Place<'a> {
    root: &'a Path,
    sync: Sync<'a>,
    /// Folders with new names in them, beside the root.
    below: BTreeSet<PathBuf>,
}

impl<'a> Place<'a> {
    /// Makes the folder, whose own name is durable from then on.
    ///
    /// # Errors
    /// `InvalidInput` when there are files in it, `Unavailable` when it cannot be made.
    pub(super) fn make(root: &'a Path) -> Result<Self> {
        Self::make_with(root, &sync)
    }

    fn make_with(root: &'a Path, sync: Sync<'a>) -> Result<Self> {
        folders::make_with(root, &mut |folder| sync(folder, None)).map_err(failed(root))?;
        let mut names = std::fs::read_dir(root).map_err(failed(root))?;
        if names.next().is_some() {
            return Err(Error::invalid_input(format!(
                "snapshot: expected a new or empty folder, but {} holds files",
                root.display()
            )));
        }
        Ok(Self {
            root,
            sync,
            below: BTreeSet::new(),
        })
    }

    /// A new file, whose bytes are durable after [`NewFile::keep`].
    pub(super) fn create(&mut self, name: &str) -> Result<NewFile<'a>> {
        let path = self.root.join(name);
        if let Some(above) = path.parent().filter(|above| *above != self.root)
            && !self.below.contains(above)
        {
            let mut sync = |folder: &Path| (self.sync)(folder, None);
            folders::make_with(above, &mut sync).map_err(failed(above))?;
            self.below.insert(above.to_owned());
        }
        let file = File::create_new(&path).map_err(failed(&path))?;
        let sync = self.sync;
        Ok(NewFile { file, path, sync })
    }

    /// Says that the snapshot is whole. On an error it does not say so.
    pub(super) fn end(self, text: &str) -> Result<()> {
        for folder in &self.below {
            (self.sync)(folder, None).map_err(failed(folder))?;
        }
        (self.sync)(self.root, None).map_err(failed(self.root))?;
        let done = self.root.join(DONE_FILE);
        let say = || {
            let mut file = File::create_new(&done)?;
            file.write_all(text.as_bytes())?;
            (self.sync)(&done, Some(&file))?;
            (self.sync)(self.root, None)
        };
        say().map_err(|e| {
            let removed = std::fs::remove_file(&done);
            let error = failed(&done)(e);
            match removed {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    error.with("left behind", done.display())
                }
                _ => error,
            }
        })
    }
}

/// A file of a snapshot while it is written.
pub(super) struct NewFile<'a> {
    file: File,
    pub(super) path: PathBuf,
    sync: Sync<'a>,
}

impl Write for NewFile<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl NewFile<'_> {
    /// Makes the bytes durable.
    pub(super) fn keep(self) -> Result<()> {
        (self.sync)(&self.path, Some(&self.file)).map_err(failed(&self.path))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Names in a folder, in order.
    fn names(folder: &Path) -> Vec<String> {
        let names = std::fs::read_dir(folder).unwrap();
        let mut names: Vec<String> = names
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// A sync.
    #[derive(Clone, Debug)]
    struct Synced {
        path: PathBuf,
        /// What the file held, or the names that stood in the folder.
        held: Vec<String>,
        /// Whether the snapshot said by then that it is whole.
        said: bool,
    }

    const FILES: [&str; 3] = ["meta.aether", "segments/a", "segments/b"];

    /// What is wrong with the order in which a snapshot is written.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Planted {
        Nothing,
        /// It says that it is whole, and then the last file is synced.
        SaysTooEarly,
        /// The bytes of a file are synced by nobody.
        ForgetsAFile,
        /// The names of segments are synced by nobody.
        ForgetsAFolder,
    }

    fn write_as(root: &Path, fails: Option<usize>, planted: Planted) -> (Vec<Synced>, Result<()>) {
        let synced = Mutex::new(Vec::new());
        let note = |path: &Path, file: Option<&File>| {
            let mut synced = synced.lock().unwrap();
            let held = match file {
                Some(_) => vec![std::fs::read_to_string(path).unwrap()],
                None => names(path),
            };
            synced.push(Synced {
                path: path.to_owned(),
                held,
                said: root.join(DONE_FILE).exists(),
            });
            match fails {
                Some(n) if n == synced.len() => Err(io::Error::other("no")),
                _ => Ok(()),
            }
        };
        let all = || {
            let mut place = Place::make_with(root, &note)?;
            let mut late = None;
            for name in FILES {
                let mut file = place.create(name)?;
                file.write_all(b"bytes").map_err(failed(root))?;
                match planted {
                    Planted::SaysTooEarly if name == "segments/b" => late = Some(file),
                    Planted::ForgetsAFile if name == "segments/a" => drop(file),
                    _ => file.keep()?,
                }
            }
            if planted == Planted::ForgetsAFolder {
                place.below.clear();
            }
            place.end("done")?;
            late.map_or(Ok(()), NewFile::keep)
        };
        let ended = all();
        (synced.into_inner().unwrap(), ended)
    }

    /// Writes a snapshot of two segments; the syncs, and how it ended.
    fn write(root: &Path, fails: Option<usize>) -> (Vec<Synced>, Result<()>) {
        write_as(root, fails, Planted::Nothing)
    }

    /// What a power cut could spoil: the first thing that was not durable when it had to be.
    fn judge(root: &Path, synced: &[Synced]) -> std::result::Result<(), String> {
        let holds = |said: bool, path: &Path, what: &str| {
            let fits = |s: &Synced| {
                s.said == said && s.path == path && s.held.iter().any(|held| held == what)
            };
            let found = synced.iter().any(fits);
            found.then_some(()).ok_or(format!("{what} in {path:?}"))
        };
        let folder = |path: &Path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (path.parent().unwrap().to_owned(), name)
        };
        for name in FILES {
            let path = root.join(name);
            holds(false, &path, "bytes")?;
            let (above, name) = folder(&path);
            holds(false, &above, &name)?;
        }
        for path in [root.to_owned(), root.join("segments")] {
            let (above, name) = folder(&path);
            holds(false, &above, &name)?;
        }
        // Its bytes are for people: that it is there is all it says.
        holds(true, root, DONE_FILE)
    }

    #[test]
    fn each_file_and_each_new_name_is_synced_before_the_last_file_and_that_one_after() {
        let above = tempfile::tempdir().unwrap();
        let (above, root) = (above.path(), above.path().join("s"));
        let (mut synced, ended) = write(&root, None);
        ended.unwrap();
        assert_eq!(judge(&root, &synced), Ok(()));
        // Folders that were there before are synced as well.
        synced.retain(|s| s.path.starts_with(above));
        let segments = root.join("segments");
        let expected = [
            (above.to_owned(), vec!["s"]),
            (root.join("meta.aether"), vec!["bytes"]),
            (above.to_owned(), vec!["s"]),
            (root.clone(), vec!["meta.aether", "segments"]),
            (segments.join("a"), vec!["bytes"]),
            (segments.join("b"), vec!["bytes"]),
            (segments, vec!["a", "b"]),
            (root.clone(), vec!["meta.aether", "segments"]),
            (root.join("DONE"), vec!["done"]),
            (root, vec!["DONE", "meta.aether", "segments"]),
        ];
        let expected = expected.map(|(folder, names)| {
            let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
            (folder, names)
        });
        let synced = synced.into_iter().map(|s| (s.path, s.held));
        assert_eq!(synced.collect::<Vec<_>>(), expected);
    }

    /// The syncs of each file and folder are left out in turn. Only the last file's own bytes need none.
    #[test]
    fn each_sync_of_a_snapshot_is_needed() {
        let above = tempfile::tempdir().unwrap();
        let root = above.path().join("s");
        let (mut synced, ended) = write(&root, None);
        ended.unwrap();
        synced.retain(|s| s.path.starts_with(above.path()));
        let paths: BTreeSet<PathBuf> = synced.iter().map(|s| s.path.clone()).collect();
        assert_eq!(paths.len(), 7, "{paths:?}");
        for path in paths {
            let without = synced.iter().filter(|s| s.path != path).cloned();
            let found = judge(&root, &without.collect::<Vec<_>>());
            let needless = path == root.join(DONE_FILE);
            assert_eq!(found.is_ok(), needless, "without {path:?}: {found:?}");
        }
    }

    #[test]
    fn planted_snapshots_that_say_too_early_that_they_are_whole_are_found() {
        let above = tempfile::tempdir().unwrap();
        for planted in [
            Planted::SaysTooEarly,
            Planted::ForgetsAFile,
            Planted::ForgetsAFolder,
        ] {
            let root = above.path().join(format!("{planted:?}"));
            let (synced, ended) = write_as(&root, None, planted);
            ended.unwrap();
            let found = judge(&root, &synced);
            assert!(found.is_err(), "{planted:?} is not found");
        }
    }

    #[test]
    fn a_snapshot_whose_names_are_not_durable_does_not_say_that_it_is_whole() {
        let above = tempfile::tempdir().unwrap();
        let all = write(&above.path().join("s"), None).0.len();
        for n in 1..=all {
            let root = above.path().join(n.to_string());
            let (synced, ended) = write(&root, Some(n));
            assert_eq!(synced.len(), n);
            ended.unwrap_err();
            assert!(!root.join(DONE_FILE).exists(), "sync {n} failed");
        }
    }
}

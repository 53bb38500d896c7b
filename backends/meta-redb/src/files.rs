//! What the store asks of the folder that its file is in, so that a test can put a file system under it whose crashes and faults are
//! drawn from a seed.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use aether_core::{Error, Result};
use redb::StorageBackend;
use redb::backends::FileBackend;

use crate::error;

/// Names in a folder, and the files under them.
pub trait Files: fmt::Debug + Send + Sync {
    /// Whether a name is taken.
    ///
    /// # Errors
    /// What the file system says: that it cannot be looked at does not say that there is nothing.
    fn exists(&self, path: &Path) -> io::Result<bool>;

    /// Opens a file; for writing it is made if there is none.
    ///
    /// # Errors
    /// `Config` for a file that cannot be opened, `Locked` for one that is only to be read and that a writer holds.
    fn open(&self, path: &Path, read_only: bool) -> Result<Arc<dyn StorageBackend>>;

    /// Removes a name.
    ///
    /// # Errors
    /// `NotFound` for none.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Gives a file another name, replacing what has it.
    ///
    /// # Errors
    /// What the file system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Makes the names in a folder survive a power cut.
    ///
    /// # Errors
    /// What the file system says.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;

    /// Whether every call answers at once, so that no thread need wait for it.
    fn never_waits(&self) -> bool {
        false
    }
}

/// The machine's own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Machine;

impl Files for Machine {
    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }

    fn open(&self, path: &Path, read_only: bool) -> Result<Arc<dyn StorageBackend>> {
        let wrong = |e: io::Error| cannot_open(e, path, read_only);
        if read_only {
            let file = File::open(path).map_err(wrong)?;
            let file = FileBackend::new(file).map_err(error::map)?;
            // A writer locks the whole file. Asking takes no lock; a system that cannot answer has no lock to ask for.
            let byte = (Bound::Included(0), Bound::Excluded(1));
            if matches!(file.query_lock_range(byte.0, byte.1), Ok(true)) {
                return Err(error::map(redb::Error::DatabaseAlreadyOpen));
            }
            return Ok(Arc::new(file));
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(wrong)?;
        Ok(Arc::new(FileBackend::new(file).map_err(error::map)?))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    #[cfg(unix)]
    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }

    /// Elsewhere a folder cannot be opened for syncing; the file system does it.
    #[cfg(not(unix))]
    fn sync_folder(&self, _folder: &Path) -> io::Result<()> {
        Ok(())
    }
}

/// The error of a file that cannot be opened.
fn cannot_open(e: io::Error, path: &Path, read_only: bool) -> Error {
    let what = "expected a file that can be opened";
    let error = match e.kind() {
        ErrorKind::NotFound => Error::config(if read_only {
            "expected a metadata file: there is none, so there is no memory in this folder"
        } else {
            "expected a folder for the metadata file: create it first"
        }),
        ErrorKind::PermissionDenied | ErrorKind::IsADirectory => Error::config(what),
        _ => return error::io(&e, what).with("file", path.display()),
    };
    error.with("file", path.display()).with_source(e)
}

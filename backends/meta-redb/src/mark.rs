//! The watermark beside the file: how many durable commits there were, see [`aether_core::watermark`].
//!
//! The count stands in the file too, and each durable commit writes both: the file's first, with its two syncs, then the watermark, without
//! one. What this finds that no checksum can: redb's header flipped to the older of its two roots in the file of a killed process, a file
//! copied back from before, a disk that loses what it said was synced.
//!
//! A watermark that cannot be read or written says nothing, or less than it could, and keeps no store from opening.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aether_core::watermark::{self, WATERMARK_BYTES};
use aether_core::{Error, Result};
use redb::StorageBackend;

use crate::error;
use crate::files::Files;

/// The watermark of a store that is being opened or open.
#[derive(Debug)]
pub(crate) struct Mark {
    path: PathBuf,
    /// What it said before the store was opened.
    said: Option<u64>,
    /// `None` where it is only to be read, or cannot be written.
    file: Option<Arc<dyn StorageBackend>>,
    /// Whether a write failed and was told of.
    failed: AtomicBool,
}

impl Mark {
    /// The watermark of the file at a path. Read before the file is, which may come further meanwhile.
    pub(crate) fn open(files: &dyn Files, of: &Path, read_only: bool) -> Self {
        let path = Self::path(of);
        let file = match read_only {
            true => None,
            false => files.open(&path, false).map_or_else(
                |error| {
                    tracing::warn!(file = %path.display(), %error,
                        "the watermark cannot be written until the memory is opened again: an older metadata file would not be found out");
                    None
                },
                Some,
            ),
        };
        let said = match &file {
            Some(file) => read(&**file).map_err(unreadable),
            None => Self::look(files, &path),
        };
        let said = said.unwrap_or_else(|error| {
            tracing::warn!(file = %path.display(), %error, "the watermark cannot be read, and says nothing");
            None
        });
        Self::new(path, said, file)
    }

    pub(crate) fn new(
        path: PathBuf,
        said: Option<u64>,
        file: Option<Arc<dyn StorageBackend>>,
    ) -> Self {
        Self {
            path,
            said,
            file,
            failed: AtomicBool::new(false),
        }
    }

    /// The path of the watermark of a file.
    pub(crate) fn path(of: &Path) -> PathBuf {
        let mut name = OsString::from(of);
        name.push(".watermark");
        name.into()
    }

    /// Refuses a file that is gone while its watermark is there.
    ///
    /// # Errors
    /// `Corrupt` for that, and as the file system where it cannot be seen.
    pub(crate) fn check_gone(files: &dyn Files, of: &Path) -> Result<()> {
        let path = Self::path(of);
        let said = Self::look(files, &path).map_err(|e| e.with("watermark", path.display()))?;
        watermark::check_gone(said, &path)
    }

    /// Whether it said anything.
    pub(crate) fn speaks(&self) -> bool {
        self.said.is_some()
    }

    #[cfg(test)]
    pub(crate) fn said(&self) -> Option<u64> {
        self.said
    }

    /// Refuses a store in which fewer commits were made durable than it said.
    ///
    /// # Errors
    /// `Corrupt`.
    pub(crate) fn check(&self, found: u64) -> Result<()> {
        watermark::check(self.said, found, &self.path)
    }

    /// What a watermark says that is only read.
    fn look(files: &dyn Files, path: &Path) -> Result<Option<u64>> {
        let unseen = |e: io::Error| error::io(&e, "the watermark cannot be looked at");
        if !files.exists(path).map_err(unseen)? {
            return Ok(None);
        }
        let file = files.open(path, true)?;
        read(&*file).map_err(unreadable)
    }

    /// Says that so many commits are durable. One that cannot be written stays behind.
    pub(crate) fn write(&self, count: u64) {
        let Some(file) = &self.file else { return };
        let written = || {
            if file.len()? != WATERMARK_BYTES as u64 {
                file.set_len(WATERMARK_BYTES as u64)?;
            }
            file.write(0, &watermark::encode(count))
        };
        if let Err(error) = written()
            && !self.failed.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(file = %self.path.display(), %error,
                "the watermark cannot be written: an older metadata file may not be found out");
        }
    }
}

fn unreadable(e: io::Error) -> Error {
    error::io(&e, "the watermark cannot be read")
}

/// What is in a watermark's file, if that is one.
pub(crate) fn read(file: &dyn StorageBackend) -> io::Result<Option<u64>> {
    let mut bytes = [0; WATERMARK_BYTES];
    if file.len()? != WATERMARK_BYTES as u64 {
        return Ok(None);
    }
    file.read(0, &mut bytes)?;
    Ok(watermark::decode(&bytes))
}

//! What sled leaves undone on the disk: it syncs its log with `sync_file_range` on Linux, which flushes neither the disk's
//! cache nor the file's length, and never syncs the files it puts large pages in. `durable` does both here, after sled's
//! own flush.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use aether_core::Result;
use aether_core::watermark::{self, WATERMARK_BYTES};

use crate::error;

/// Our own lock, since sled's is given up late, by threads of its own.
const LOCK: &str = "aether.lock";

/// There once the store was begun: without it an empty log is a new store, with it a lost one.
const BEGUN: &str = "aether.begun";

/// sled's log.
const LOG: &str = "db";

/// sled's files of large pages.
const BLOBS: &str = "blobs";

/// The locked folder.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    synced_blobs: HashSet<OsString>,
    /// Open once it was written to.
    watermark: Option<File>,
    /// Whether a write of it failed and was told of.
    unmarked: bool,
    /// Held as long as the folder is.
    _lock: File,
}

impl Folder {
    /// Makes and locks the folder.
    ///
    /// # Errors
    /// `Locked` when somebody else holds it.
    pub(crate) fn lock(path: &Path) -> Result<Self> {
        let wrong = |e: io::Error| error::io(&e, "the folder cannot be made or locked");
        fs::create_dir_all(path).map_err(wrong)?;
        // A watermark that somebody removed must not come back.
        path.parent().map_or(Ok(()), sync_dir).map_err(wrong)?;
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path.join(LOCK))
            .map_err(wrong)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(error::locked()),
            Err(TryLockError::Error(e)) => return Err(wrong(e)),
        }
        Ok(Self {
            path: path.to_owned(),
            synced_blobs: HashSet::new(),
            watermark: None,
            unmarked: false,
            _lock: lock,
        })
    }

    /// Whether the store was begun before.
    pub(crate) fn is_begun(&self) -> bool {
        self.path.join(BEGUN).exists()
    }

    /// Notes that the store is begun, after all that belongs to it is durable.
    pub(crate) fn begin(&mut self) -> io::Result<()> {
        self.sync_all()?;
        File::create(self.path.join(BEGUN))?.sync_all()?;
        sync_dir(&self.path)
    }

    /// How many batches were synced, if anything says so.
    pub(crate) fn watermark(&self) -> io::Result<Option<u64>> {
        watermark_of(&self.path)
    }

    pub(crate) fn watermark_path(&self) -> PathBuf {
        watermark_path(&self.path)
    }

    /// Says that so many batches are synced. A watermark that cannot be written stays behind: it says less than it could, and nothing wrong.
    pub(crate) fn set_watermark(&mut self, count: u64) {
        if let Err(error) = self.try_set_watermark(count)
            && !self.unmarked
        {
            self.unmarked = true;
            tracing::warn!(file = %self.watermark_path().display(), %error,
                "the watermark cannot be written: an older store may not be found out");
        }
    }

    fn try_set_watermark(&mut self, count: u64) -> io::Result<()> {
        let path = self.watermark_path();
        let mut file = match &self.watermark {
            Some(file) => file,
            None => {
                let mut options = OpenOptions::new();
                let options = options.write(true).create(true).truncate(false);
                self.watermark.insert(options.open(path)?)
            }
        };
        if file.metadata()?.len() != WATERMARK_BYTES as u64 {
            file.set_len(WATERMARK_BYTES as u64)?;
        }
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&watermark::encode(count))
    }

    /// Makes names and contents of all files durable; for a folder that was just made.
    fn sync_all(&mut self) -> io::Result<()> {
        for entry in fs::read_dir(&self.path)? {
            let path = entry?.path();
            if path.is_file() {
                sync(&path)?;
            }
        }
        self.sync()?;
        sync_dir(&self.path)?;
        match self.path.parent() {
            Some(parent) => sync_dir(parent),
            None => Ok(()),
        }
    }

    /// Makes durable what sled has flushed.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        let blobs = self.path.join(BLOBS);
        let mut there = HashSet::new();
        let mut new = false;
        for entry in fs::read_dir(&blobs)? {
            let name = entry?.file_name();
            if !self.synced_blobs.contains(&name) {
                match sync(&blobs.join(&name)) {
                    Ok(()) => new = true,
                    // sled removed it meanwhile, as it does with pages that were rewritten.
                    Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                    Err(e) => return Err(e),
                }
            }
            there.insert(name);
        }
        if new {
            sync_dir(&blobs)?;
        }
        // Blob numbers are never used again, so what is gone needs no memory.
        self.synced_blobs = there;
        sync(&self.path.join(LOG))
    }
}

/// The file that tells how many batches were synced: beside the folder, so that whoever copies an older folder back does not copy it too.
pub(crate) fn watermark_path(folder: &Path) -> PathBuf {
    let mut name = folder.as_os_str().to_owned();
    name.push(".watermark");
    name.into()
}

/// What that file of a folder says, if anything.
pub(crate) fn watermark_of(folder: &Path) -> io::Result<Option<u64>> {
    let file = match File::open(watermark_path(folder)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let mut bytes = Vec::new();
    file.take(WATERMARK_BYTES as u64 + 1)
        .read_to_end(&mut bytes)?;
    Ok(watermark::decode(&bytes))
}

/// Syncs a file; any handle on it will do. Opened for writing, which some systems ask for.
fn sync(path: &Path) -> io::Result<()> {
    OpenOptions::new().write(true).open(path)?.sync_all()
}

#[cfg(unix)]
fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Elsewhere a folder cannot be opened for syncing; the file system does it.
#[cfg(not(unix))]
fn sync_dir(_path: &Path) -> io::Result<()> {
    Ok(())
}

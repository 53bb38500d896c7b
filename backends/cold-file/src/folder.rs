//! What waits for the disk: opening, putting, deleting and listing in one folder. Never called on an async worker.

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use aether_core::role::BlobInfo;
use aether_core::{BlobKey, Error, Result, Retry};
use parking_lot::Mutex;
use rustix::io::Errno;

use crate::error::{map, sync_failed};
use crate::files::{Files, Handle, Kind};
use crate::format::{LOCK_NAME, PUT_PREFIX, blob_key, file_name};
use crate::open_files::OpenBlob;

/// Numbers the puts of this process, also across stores, so that two never share a name.
static PUTS: AtomicU64 = AtomicU64::new(0);

/// Piece in which a blob is compared with what a key holds.
const COMPARE_BYTES: usize = 256 << 10;

/// Held while a store is open for writing; the kernel lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct FolderLock {
    _held: Box<dyn fmt::Debug + Send + Sync>,
}

/// The folder of a store.
#[derive(Debug)]
pub(crate) struct Folder {
    files: Arc<dyn Files>,
    path: PathBuf,
    /// The folder itself, for syncing it. `None` when open for reading only.
    handle: Option<Box<dyn Handle>>,
    /// Counts what wants to be synced; a sync covers all that was counted before it began.
    unsynced: AtomicU64,
    /// How much of that count is synced. Held during a sync, so that those who wait share the next one, and so that
    /// a failure, which the kernel reports once, is seen by all.
    synced: Mutex<u64>,
    poisoned: AtomicBool,
}

impl Folder {
    /// A folder to read from; it need not exist, and is then empty.
    ///
    /// # Errors
    /// `Config` when something that is no folder stands in its place.
    pub(crate) fn open_read_only(files: Arc<dyn Files>, path: &Path) -> Result<Self> {
        if let Ok(found) = files.kind(path, true)
            && found != Kind::Folder
        {
            return Err(no_folder(path));
        }
        Ok(Self::new(files, path, None))
    }

    /// A folder to write to: makes it if need be, locks it, and clears away what cut puts left.
    ///
    /// # Errors
    /// `Locked` when another store holds it, `Config` when it is no folder, `Unavailable` when it cannot be made or read.
    pub(crate) fn open(files: Arc<dyn Files>, path: &Path) -> Result<(Self, FolderLock)> {
        make_durable_folder(&*files, path)?;
        let lock = FolderLock {
            _held: files.lock(path, &path.join(LOCK_NAME))?,
        };
        let handle = files.open_folder(path);
        let handle = handle.map_err(|e| map(e, "open the folder"))?;
        let folder = Self::new(files, path, Some(handle));
        for name in folder.names()? {
            if name.starts_with(PUT_PREFIX) {
                let removed = folder.files.remove(&path.join(name));
                removed.map_err(|e| map(e, "remove a cut put's leftover"))?;
            }
        }
        folder.sync().map_err(|e| {
            let place = path.display();
            Error::unavailable(format!(
                "{place}: this file system cannot sync a folder, so nothing in it is durable"
            ))
            .with_retry(Retry::Never)
            .with_source(e)
        })?;
        Ok((folder, lock))
    }

    fn new(files: Arc<dyn Files>, path: &Path, handle: Option<Box<dyn Handle>>) -> Self {
        Self {
            files,
            path: path.to_owned(),
            handle,
            unsynced: AtomicU64::new(0),
            synced: Mutex::new(0),
            poisoned: AtomicBool::new(false),
        }
    }

    fn place(&self, key: &BlobKey) -> PathBuf {
        self.path.join(file_name(key))
    }

    fn names(&self) -> Result<Vec<String>> {
        match self.files.names(&self.path) {
            Ok(names) => Ok(names),
            // Open for reading only, where there is nothing yet.
            Err(e) if e.kind() == ErrorKind::NotFound && self.handle.is_none() => Ok(vec![]),
            Err(e) => Err(map(e, "list the folder")),
        }
    }

    /// Makes the names in the folder survive a power cut. Callers that wait for one another share a sync. After a failure
    /// nobody knows which names survive, and a later success would prove nothing.
    fn sync(&self) -> Result<()> {
        let handle = self.handle.as_ref().ok_or_else(|| {
            Error::internal("a store that is open for reading only came to sync its folder")
        })?;
        let mine = self.unsynced.fetch_add(1, Ordering::SeqCst) + 1;
        let mut synced = self.synced.lock();
        self.writable()?;
        if *synced >= mine {
            return Ok(());
        }
        let covers = self.unsynced.load(Ordering::SeqCst);
        handle.sync().map_err(|e| {
            self.poisoned.store(true, Ordering::SeqCst);
            sync_failed(e)
        })?;
        *synced = covers;
        Ok(())
    }

    /// # Errors
    /// `Poisoned` after a failed sync.
    pub(crate) fn writable(&self) -> Result<()> {
        if self.poisoned.load(Ordering::SeqCst) {
            return Err(Error::poisoned(
                "an earlier sync of the folder failed: reads go on; mend the disk and open the memory again to write",
            ));
        }
        Ok(())
    }

    /// Opens a blob for reading; `None` if there is none.
    pub(crate) fn open_blob(&self, key: &BlobKey) -> Result<Option<OpenBlob>> {
        let file = match self.files.open(&self.place(key)) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) if e.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => {
                return Err(not_a_file("a symbolic link"));
            }
            Err(e) => return Err(map(e, "open the blob's file")),
        };
        let found = file.kind();
        match found.map_err(|e| map(e, "ask for the blob file's length"))? {
            Kind::File(len) => Ok(Some(OpenBlob { file, len })),
            Kind::Folder | Kind::Other => Err(not_a_file("no regular file")),
        }
    }

    /// Whether a key holds exactly `data`; `None` if it is free.
    fn holds(&self, key: &BlobKey, data: &[u8]) -> Result<Option<bool>> {
        let Some(blob) = self.open_blob(key)? else {
            return Ok(None);
        };
        if blob.len != data.len() as u64 {
            return Ok(Some(false));
        }
        let mut piece = vec![0; COMPARE_BYTES.min(data.len())];
        for (n, expected) in data.chunks(COMPARE_BYTES).enumerate() {
            let got = &mut piece[..expected.len()];
            let read = blob.read_exact_at(got, (n * COMPARE_BYTES) as u64);
            read.map_err(|e| map(e, "compare with what the key holds"))?;
            if got != expected {
                return Ok(Some(false));
            }
        }
        // Whoever put it first may not have come to its sync.
        let synced = blob.file.sync();
        synced.map_err(|e| map(e, "sync the blob's file"))?;
        Ok(Some(true))
    }

    /// Creates a blob: write aside, sync, give it its name unless that is taken, sync the folder.
    pub(crate) fn put(&self, key: &BlobKey, data: &[u8]) -> Result<()> {
        self.writable()?;
        let mut held = self.holds(key, data)?;
        if held.is_none() {
            let aside = Aside::write(&*self.files, &self.path, data)?;
            // If the name was taken meanwhile, `holds` says by what.
            if aside.publish(&self.place(key))? {
                return self.sync();
            }
            held = self.holds(key, data)?;
        }
        match held {
            Some(true) => self.sync(),
            Some(false) => Err(Error::conflict(format!(
                "the key holds other bytes than the {} put: a blob is never replaced",
                data.len()
            ))),
            None => Err(Error::unavailable(
                "the key was taken and became free again while the blob was put: put it again",
            )),
        }
    }

    /// Removes a blob's file, if there is one, and makes that survive a power cut.
    pub(crate) fn delete(&self, key: &BlobKey) -> Result<()> {
        self.writable()?;
        match self.files.remove(&self.place(key)) {
            Ok(()) => self.sync(),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
            Err(e) => Err(map(e, "remove the blob's file")),
        }
    }

    /// All blobs whose key starts with `prefix`, sorted. O(files of the folder).
    pub(crate) fn list(&self, prefix: &str) -> Result<Vec<BlobInfo>> {
        let mut found = Vec::new();
        for name in self.names()? {
            let Some(key) = blob_key(&name).filter(|k| k.as_str().starts_with(prefix)) else {
                continue;
            };
            match self.files.kind(&self.path.join(name), false) {
                Ok(Kind::File(bytes)) => found.push(BlobInfo { key, bytes }),
                // A folder or a link is not ours.
                Ok(Kind::Folder | Kind::Other) => {}
                // Deleted since the folder was read.
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                Err(e) => return Err(map(e, "ask for a blob file's length")),
            }
        }
        found.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        Ok(found)
    }
}

/// A blob that is written and synced but has no name yet; removed when dropped.
struct Aside<'a> {
    files: &'a dyn Files,
    path: PathBuf,
}

impl<'a> Aside<'a> {
    fn write(files: &'a dyn Files, folder: &Path, data: &[u8]) -> Result<Self> {
        let (file, aside) = loop {
            let number = PUTS.fetch_add(1, Ordering::Relaxed);
            let name = format!("{PUT_PREFIX}{}-{number:08x}", std::process::id());
            let path = folder.join(name);
            match files.create(&path) {
                Ok(file) => break (file, Self { files, path }),
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
                Err(e) => return Err(map(e, "create a file aside")),
            }
        };
        let written = file.append(data).and_then(|()| file.sync());
        written.map_err(|e| map(e, "write the blob aside"))?;
        Ok(aside)
    }

    /// Gives the file its name; `false` if that is taken. Atomic: of several at once one succeeds.
    fn publish(self, place: &Path) -> Result<bool> {
        match self.files.link(&self.path, place) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(false),
            Err(e) => self
                .rename(place)
                .unwrap_or_else(|| Err(map(e, "give the blob its name"))),
        }
    }

    /// The same on a file system without hard links; `None` where that is not offered either.
    fn rename(&self, place: &Path) -> Option<Result<bool>> {
        match self.files.rename_new(&self.path, place) {
            Ok(()) => Some(Ok(true)),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => Some(Ok(false)),
            Err(_) => None,
        }
    }
}

impl Drop for Aside<'_> {
    fn drop(&mut self) {
        match self.files.remove(&self.path) {
            Ok(()) => {}
            // Renamed into place.
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => {
                tracing::warn!(file = %self.path.display(), error = %e, "a file aside stays until the next opening");
            }
        }
    }
}

fn not_a_file(what: &str) -> Error {
    Error::corrupt(format!(
        "expected the blob's own file, got {what} in its place: the folder belongs to this store alone"
    ))
}

fn no_folder(path: &Path) -> Error {
    Error::config(format!(
        "{}: expected a folder for blobs, got a file: choose another `path`",
        path.display()
    ))
}

/// Makes a folder and those above it that are missing, and syncs the parent of each, for a new folder is a name in it. Also where the
/// folder is there: whoever made it may have been killed before the sync.
fn make_durable_folder(files: &dyn Files, path: &Path) -> Result<()> {
    match files.kind(path, true) {
        Ok(Kind::Folder) => {
            return match sync_above(files, path) {
                // Others made it, where this user may not look.
                Err(e) if e.kind() == ErrorKind::PermissionDenied => Ok(()),
                synced => {
                    synced.map_err(|e| map(e, "sync the folder above").with("path", path.display()))
                }
            };
        }
        Ok(_) => return Err(no_folder(path)),
        Err(e) if e.kind() == ErrorKind::NotFound => {}
        Err(e) => return Err(map(e, "look at the folder").with("path", path.display())),
    }
    let parent = above(path);
    if parent != Path::new(".") {
        make_durable_folder(files, parent)?;
    }
    match files.make_folder(path) {
        Ok(()) => {}
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
        Err(e) => return Err(map(e, "make the folder").with("path", path.display())),
    }
    let synced = sync_above(files, path);
    synced.map_err(|e| map(e, "sync the folder above").with("path", path.display()))
}

/// The folder that a path is a name in.
fn above(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn sync_above(files: &dyn Files, path: &Path) -> io::Result<()> {
    files.open_folder(above(path))?.sync()
}

#[cfg(test)]
#[path = "folder_tests.rs"]
mod tests;

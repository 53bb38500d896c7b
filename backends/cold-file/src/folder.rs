//! What waits for the disk: opening, putting, deleting and listing in one folder. Never called on an async worker.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use aether_core::role::BlobInfo;
use aether_core::{BlobKey, Error, Result, Retry};
use parking_lot::Mutex;
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::error::{map, sync_failed};
use crate::format::{LOCK_NAME, PUT_PREFIX, blob_key, file_name};
use crate::open_files::OpenBlob;

/// Numbers the puts of this process, also across stores, so that two never share a name.
static PUTS: AtomicU64 = AtomicU64::new(0);

/// Piece in which a blob is compared with what a key holds.
const COMPARE_BYTES: usize = 256 << 10;

/// Held while a store is open for writing; the kernel lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct FolderLock {
    _file: File,
}

/// The folder of a store.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    /// The folder itself, for syncing it. `None` when open for reading only.
    handle: Option<File>,
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
    pub(crate) fn open_read_only(path: &Path) -> Result<Self> {
        if let Ok(found) = fs::metadata(path)
            && !found.is_dir()
        {
            return Err(no_folder(path));
        }
        Ok(Self::new(path, None))
    }

    /// A folder to write to: makes it if need be, locks it, and clears away what cut puts left.
    ///
    /// # Errors
    /// `Locked` when another store holds it, `Config` when it is no folder, `Unavailable` when it cannot be made or read.
    pub(crate) fn open(path: &Path) -> Result<(Self, FolderLock)> {
        make_durable_folder(path)?;
        let lock = lock(path)?;
        let handle = File::open(path).map_err(|e| map(e, "open the folder"))?;
        let folder = Self::new(path, Some(handle));
        for entry in folder.entries()? {
            let name = entry.file_name();
            if name.as_encoded_bytes().starts_with(PUT_PREFIX.as_bytes()) {
                fs::remove_file(entry.path()).map_err(|e| map(e, "remove a cut put's leftover"))?;
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

    fn new(path: &Path, handle: Option<File>) -> Self {
        Self {
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

    fn entries(&self) -> Result<Vec<fs::DirEntry>> {
        let entries = match fs::read_dir(&self.path) {
            Ok(entries) => entries,
            // Open for reading only, where there is nothing yet.
            Err(e) if e.kind() == ErrorKind::NotFound && self.handle.is_none() => {
                return Ok(vec![]);
            }
            Err(e) => return Err(map(e, "list the folder")),
        };
        let entries: io::Result<Vec<_>> = entries.collect();
        entries.map_err(|e| map(e, "list the folder"))
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
        handle.sync_all().map_err(|e| {
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
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(flags.bits().cast_signed())
            .open(self.place(key));
        let file = match opened {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) if e.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => {
                return Err(not_a_file("a symbolic link"));
            }
            Err(e) => return Err(map(e, "open the blob's file")),
        };
        let found = file.metadata();
        let found = found.map_err(|e| map(e, "ask for the blob file's length"))?;
        if !found.is_file() {
            return Err(not_a_file("no regular file"));
        }
        let len = found.len();
        Ok(Some(OpenBlob { file, len }))
    }

    /// Whether a key holds exactly `data`; `None` if it is free.
    fn holds(&self, key: &BlobKey, data: &[u8]) -> Result<Option<bool>> {
        let Some(mut blob) = self.open_blob(key)? else {
            return Ok(None);
        };
        if blob.len != data.len() as u64 {
            return Ok(Some(false));
        }
        let mut piece = vec![0; COMPARE_BYTES.min(data.len())];
        for expected in data.chunks(COMPARE_BYTES) {
            let got = &mut piece[..expected.len()];
            let read = blob.file.read_exact(got);
            read.map_err(|e| map(e, "compare with what the key holds"))?;
            if got != expected {
                return Ok(Some(false));
            }
        }
        // Whoever put it first may not have come to its sync.
        let synced = blob.file.sync_all();
        synced.map_err(|e| map(e, "sync the blob's file"))?;
        Ok(Some(true))
    }

    /// Creates a blob: write aside, sync, give it its name unless that is taken, sync the folder.
    pub(crate) fn put(&self, key: &BlobKey, data: &[u8]) -> Result<()> {
        self.writable()?;
        let mut held = self.holds(key, data)?;
        if held.is_none() {
            let aside = Aside::write(&self.path, data)?;
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
        match fs::remove_file(self.place(key)) {
            Ok(()) => self.sync(),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
            Err(e) => Err(map(e, "remove the blob's file")),
        }
    }

    /// All blobs whose key starts with `prefix`, sorted. O(files of the folder).
    pub(crate) fn list(&self, prefix: &str) -> Result<Vec<BlobInfo>> {
        let mut found = Vec::new();
        for entry in self.entries()? {
            let name = entry.file_name();
            let Some(key) = name.to_str().and_then(blob_key) else {
                continue;
            };
            if !key.as_str().starts_with(prefix) {
                continue;
            }
            match entry.metadata() {
                Ok(file) if file.is_file() => found.push(BlobInfo {
                    key,
                    bytes: file.len(),
                }),
                // A folder or a link is not ours.
                Ok(_) => {}
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
struct Aside {
    path: PathBuf,
}

impl Aside {
    fn write(folder: &Path, data: &[u8]) -> Result<Self> {
        let (mut file, aside) = loop {
            let number = PUTS.fetch_add(1, Ordering::Relaxed);
            let name = format!("{PUT_PREFIX}{}-{number:08x}", std::process::id());
            let path = folder.join(name);
            // Creating anew follows no link and takes no file that is there.
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => break (file, Self { path }),
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
                Err(e) => return Err(map(e, "create a file aside")),
            }
        };
        let written = file.write_all(data).and_then(|()| file.sync_all());
        written.map_err(|e| map(e, "write the blob aside"))?;
        Ok(aside)
    }

    /// Gives the file its name; `false` if that is taken. Atomic: of several at once one succeeds.
    fn publish(self, place: &Path) -> Result<bool> {
        match fs::hard_link(&self.path, place) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(false),
            Err(e) => match self.rename(place) {
                Some(renamed) => renamed,
                None => Err(map(e, "give the blob its name")),
            },
        }
    }

    /// The same on a file system without hard links; `None` where that is not offered either.
    #[cfg(target_os = "linux")]
    fn rename(&self, place: &Path) -> Option<Result<bool>> {
        use rustix::fs::{CWD, RenameFlags, renameat_with};

        match renameat_with(CWD, &self.path, CWD, place, RenameFlags::NOREPLACE) {
            Ok(()) => Some(Ok(true)),
            Err(Errno::EXIST) => Some(Ok(false)),
            Err(_) => None,
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn rename(&self, _place: &Path) -> Option<Result<bool>> {
        None
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        match fs::remove_file(&self.path) {
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

/// Makes a folder and those above it that are missing, and syncs the parent of each, for a new folder is a name in it.
fn make_durable_folder(path: &Path) -> Result<()> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => return Ok(()),
        Ok(_) => return Err(no_folder(path)),
        Err(e) if e.kind() == ErrorKind::NotFound => {}
        Err(e) => return Err(map(e, "look at the folder").with("path", path.display())),
    }
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    if parent != Path::new(".") {
        make_durable_folder(parent)?;
    }
    match fs::create_dir(path) {
        Ok(()) => {}
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
        Err(e) => return Err(map(e, "make the folder").with("path", path.display())),
    }
    let synced = File::open(parent).and_then(|parent| parent.sync_all());
    synced.map_err(|e| map(e, "sync the folder above").with("path", parent.display()))
}

fn lock(folder: &Path) -> Result<FolderLock> {
    let path = folder.join(LOCK_NAME);
    let failed = |e: io::Error| map(e, "open the lock").with("path", path.display());
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(&path);
    let mut file = opened.map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let read = (&file).take(20).read_to_string(&mut holder);
            let holder = match read {
                Ok(_) if !holder.is_empty() => format!("process {holder}"),
                _ => "another process".to_owned(),
            };
            return Err(Error::locked(format!(
                "{}: expected a folder for this store alone, got one that {holder} holds: stop it, or choose another \
                 `path`",
                folder.display()
            )));
        }
        // A file system without locks: the lock of the memory's own folder has to do.
        Err(TryLockError::Error(e)) if e.kind() == ErrorKind::Unsupported => {}
        Err(TryLockError::Error(e)) => return Err(failed(e)),
    }
    let written = file
        .set_len(0)
        .and_then(|()| file.write_all(std::process::id().to_string().as_bytes()));
    written.map_err(failed)?;
    Ok(FolderLock { _file: file })
}

#[cfg(test)]
#[path = "folder_tests.rs"]
mod tests;

//! What the store asks of a file system, so that a test can put one under it whose crashes and faults are drawn from a seed.

use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use aether_core::{Error, Result};
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::error::map;

/// What stands under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file of so many bytes.
    File(u64),
    /// A folder.
    Folder,
    /// A link or something else that is not ours.
    Other,
}

/// An open file, or an open folder, of which only [`Handle::sync`] is asked.
pub trait Handle: fmt::Debug + Send + Sync {
    /// What it is.
    ///
    /// # Errors
    /// What the file system says.
    fn kind(&self) -> io::Result<Kind>;

    /// Reads bytes from `at` on; fewer than asked for are no error, none is the end.
    ///
    /// # Errors
    /// What the file system says.
    fn read_at(&self, out: &mut [u8], at: u64) -> io::Result<usize>;

    /// The same as far as no disk has to be waited for; `None` when it would have to be.
    fn read_at_once(&self, out: &mut [u8], at: u64) -> Option<usize>;

    /// Adds bytes at the end.
    ///
    /// # Errors
    /// What the file system says.
    fn append(&self, data: &[u8]) -> io::Result<()>;

    /// Makes a file's bytes, or a folder's names, survive a power cut.
    ///
    /// # Errors
    /// What the file system says; then nobody knows what survives.
    fn sync(&self) -> io::Result<()>;
}

/// A file system.
pub trait Files: fmt::Debug + Send + Sync + 'static {
    /// What stands under a name; a link at its end is followed only if told to.
    ///
    /// # Errors
    /// `NotFound` for nothing.
    fn kind(&self, path: &Path, follow: bool) -> io::Result<Kind>;

    /// Opens a file for reading, following no link and waiting for no pipe.
    ///
    /// # Errors
    /// `NotFound` for none; `ELOOP` for a link.
    fn open(&self, path: &Path) -> io::Result<Box<dyn Handle>>;

    /// Opens a folder to sync it.
    ///
    /// # Errors
    /// What the file system says.
    fn open_folder(&self, path: &Path) -> io::Result<Box<dyn Handle>>;

    /// Makes an empty file.
    ///
    /// # Errors
    /// `AlreadyExists` when the name is taken.
    fn create(&self, path: &Path) -> io::Result<Box<dyn Handle>>;

    /// Gives a file a second name.
    ///
    /// # Errors
    /// `AlreadyExists` when that is taken.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Gives a file another name.
    ///
    /// # Errors
    /// `AlreadyExists` when that is taken; `Unsupported` where it could not be done without replacing what is there.
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file's name.
    ///
    /// # Errors
    /// `NotFound` for none.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// The names in a folder, but those that are no text.
    ///
    /// # Errors
    /// `NotFound` for none.
    fn names(&self, path: &Path) -> io::Result<Vec<String>>;

    /// Makes a folder, whose parent is there.
    ///
    /// # Errors
    /// `AlreadyExists` when the name is taken.
    fn make_folder(&self, path: &Path) -> io::Result<()>;

    /// Holds a folder by its lock file until the answer is dropped or the process ends.
    ///
    /// # Errors
    /// `Locked` when another holds it.
    fn lock(&self, folder: &Path, lock: &Path) -> Result<Box<dyn fmt::Debug + Send + Sync>>;

    /// Whether every call answers at once, so that no thread need wait for it.
    fn never_waits(&self) -> bool {
        false
    }
}

/// The machine's own.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Machine;

fn kind_of(found: &fs::Metadata) -> Kind {
    match found.file_type() {
        t if t.is_file() => Kind::File(found.len()),
        t if t.is_dir() => Kind::Folder,
        _ => Kind::Other,
    }
}

impl Handle for File {
    fn kind(&self) -> io::Result<Kind> {
        self.metadata().map(|found| kind_of(&found))
    }

    fn read_at(&self, out: &mut [u8], at: u64) -> io::Result<usize> {
        FileExt::read_at(self, out, at)
    }

    #[cfg(target_os = "linux")]
    fn read_at_once(&self, out: &mut [u8], at: u64) -> Option<usize> {
        use rustix::io::{ReadWriteFlags, preadv2};

        loop {
            let mut rest = [io::IoSliceMut::new(out)];
            match preadv2(self, &mut rest, at, ReadWriteFlags::NOWAIT) {
                Ok(read) => return Some(read),
                Err(Errno::INTR) => {}
                // Not in the page cache, no such way on this file system, or an error that the waiting read tells.
                Err(_) => return None,
            }
        }
    }

    /// There is no such way here.
    #[cfg(not(target_os = "linux"))]
    fn read_at_once(&self, _out: &mut [u8], _at: u64) -> Option<usize> {
        None
    }

    fn append(&self, data: &[u8]) -> io::Result<()> {
        let mut file = self;
        file.write_all(data)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_all()
    }
}

impl Files for Machine {
    fn kind(&self, path: &Path, follow: bool) -> io::Result<Kind> {
        let found = if follow {
            fs::metadata(path)
        } else {
            fs::symlink_metadata(path)
        };
        found.map(|found| kind_of(&found))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn Handle>> {
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(flags.bits().cast_signed())
            .open(path)?;
        Ok(Box::new(file))
    }

    fn open_folder(&self, path: &Path) -> io::Result<Box<dyn Handle>> {
        Ok(Box::new(File::open(path)?))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn Handle>> {
        // Creating anew follows no link and takes no file that is there.
        let file = OpenOptions::new().write(true).create_new(true).open(path)?;
        Ok(Box::new(file))
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    #[cfg(target_os = "linux")]
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        use rustix::fs::{CWD, RenameFlags, renameat_with};

        match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => Err(ErrorKind::AlreadyExists.into()),
            Err(_) => Err(ErrorKind::Unsupported.into()),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn rename_new(&self, _from: &Path, _to: &Path) -> io::Result<()> {
        Err(ErrorKind::Unsupported.into())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn names(&self, path: &Path) -> io::Result<Vec<String>> {
        let names = fs::read_dir(path)?.map(|entry| Ok(entry?.file_name().into_string().ok()));
        names.filter_map(io::Result::transpose).collect()
    }

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn lock(&self, folder: &Path, lock: &Path) -> Result<Box<dyn fmt::Debug + Send + Sync>> {
        let failed = |e: io::Error| map(e, "open the lock").with("path", lock.display());
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(lock);
        let mut file = opened.map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(held(folder, &file)),
            // A file system without locks: the lock of the memory's own folder has to do.
            Err(TryLockError::Error(e)) if e.kind() == ErrorKind::Unsupported => {}
            Err(TryLockError::Error(e)) => return Err(failed(e)),
        }
        let written = file
            .set_len(0)
            .and_then(|()| file.write_all(std::process::id().to_string().as_bytes()));
        written.map_err(failed)?;
        Ok(Box::new(file))
    }
}

/// Another process has the lock; it left its number in the file.
fn held(folder: &Path, file: &File) -> Error {
    let mut holder = String::new();
    let read = file.take(20).read_to_string(&mut holder);
    let holder = match read {
        Ok(_) if !holder.is_empty() => format!("process {holder}"),
        _ => "another process".to_owned(),
    };
    Error::locked(format!(
        "{}: expected a folder for this store alone, got one that {holder} holds: stop it, or choose another `path`",
        folder.display()
    ))
}

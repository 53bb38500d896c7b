//! One process a folder.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use super::folders;
use crate::error::{Error, Result};

const NAME: &str = "LOCK";

/// Holds a memory's folder until dropped or until the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct DirLock {
    _file: File,
}

impl DirLock {
    /// Locks a folder, creating it if needed, and leaves this process's number in the lock file.
    ///
    /// # Errors
    /// `Locked` with the holder's process number. `Unavailable` when the folder cannot be written.
    pub(crate) fn acquire(folder: &Path) -> Result<Self> {
        let failed = |e: std::io::Error| {
            Error::unavailable(format!(
                "cannot lock the memory's folder {}",
                folder.display()
            ))
            .with_source(e)
        };
        folders::make(folder).map_err(failed)?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(folder.join(NAME))
            .map_err(failed)?;
        lock(&mut file, folder)?;
        file.set_len(0).map_err(failed)?;
        file.rewind().map_err(failed)?;
        write!(file, "{}", std::process::id()).map_err(failed)?;
        file.flush().map_err(failed)?;
        Ok(Self { _file: file })
    }

    /// Locks a folder without writing anything; `None` if it was never locked.
    ///
    /// # Errors
    /// As [`DirLock::acquire`].
    pub(crate) fn acquire_read_only(folder: &Path) -> Result<Option<Self>> {
        match File::open(folder.join(NAME)) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::unavailable(format!(
                "cannot read the lock of the memory's folder {}",
                folder.display()
            ))
            .with_source(e)),
            Ok(mut file) => {
                lock(&mut file, folder)?;
                Ok(Some(Self { _file: file }))
            }
        }
    }
}

fn lock(file: &mut File, folder: &Path) -> Result<()> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let holder = match file.read_to_string(&mut holder) {
                Ok(_) if !holder.trim().is_empty() => format!("process {}", holder.trim()),
                _ => "another process".to_owned(),
            };
            Err(Error::locked(format!(
                "the memory in {} is in use by {holder}: stop it, or choose another folder (memory.path)",
                folder.display()
            )))
        }
        Err(TryLockError::Error(e)) => Err(Error::unavailable(format!(
            "cannot lock the memory's folder {}",
            folder.display()
        ))
        .with_source(e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_holds_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let first = DirLock::acquire(folder.path()).unwrap();
        let refused = DirLock::acquire(folder.path()).unwrap_err();
        assert!(refused.is_locked());
        assert!(
            refused
                .to_string()
                .contains(&format!("process {}", std::process::id())),
            "{refused}"
        );
        assert!(
            DirLock::acquire_read_only(folder.path())
                .unwrap_err()
                .is_locked()
        );
        drop(first);
        assert!(DirLock::acquire(folder.path()).is_ok());
    }
}

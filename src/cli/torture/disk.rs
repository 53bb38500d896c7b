//! A file that fills a disk.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use crate::cli::{Done, Failure, io_failure};

/// Bytes that a disk to be filled may have free.
const FREE_MAX: u64 = 256 << 20;
const PIECE: usize = 1 << 20;

/// Takes the room of a small disk.
#[derive(Debug)]
pub(super) struct Filler {
    path: PathBuf,
}

impl Filler {
    /// For the disk of a folder. The file lies in it, and no part of a memory has its name.
    pub(super) fn beside(folder: &Path) -> Self {
        Self {
            path: folder.join("torture.fill"),
        }
    }

    /// Fills the disk, all but `left` bytes.
    ///
    /// # Errors
    /// `Usage` when the disk has more than 256 MiB free: filling another's disk helps nobody.
    pub(super) fn fill(&self, left: u64) -> Done<()> {
        let failed = |e| {
            io_failure(
                format_args!("fill the disk with {}", self.path.display()),
                e,
            )
        };
        let mut file = File::create(&self.path).map_err(failed)?;
        let zeros = vec![0; PIECE];
        let mut size = 0u64;
        let mut piece = PIECE;
        while piece >= 4096 {
            match file.write(&zeros[..piece]) {
                Ok(n) => size += n as u64,
                Err(e) if e.kind() == ErrorKind::StorageFull => piece /= 2,
                Err(e) => return Err(failed(e)),
            }
            if size > FREE_MAX {
                self.empty()?;
                return Err(Failure::usage(format!(
                    "--fill: expected a disk with at most {} MiB free, such as a tmpfs, got more",
                    FREE_MAX >> 20
                )));
            }
        }
        file.set_len(size.saturating_sub(left)).map_err(failed)
    }

    /// Gives the room back.
    pub(super) fn empty(&self) -> Done<()> {
        std::fs::remove_file(&self.path)
            .map_err(|e| io_failure(format_args!("remove {}", self.path.display()), e))
    }
}

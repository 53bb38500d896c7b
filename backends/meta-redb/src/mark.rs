//! The watermark beside the file: how many durable commits there were, see [`aether_core::watermark`].
//!
//! The count stands in the file too, and each durable commit writes both: the file's first, with its two syncs, then the watermark, without
//! one. What this finds that no checksum can: redb's header flipped to the older of its two roots in the file of a killed process, a file
//! copied back from before, a disk that loses what it said was synced.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aether_core::watermark::{self, WATERMARK_BYTES};
use redb::StorageBackend;

/// The watermark of an open store.
#[derive(Debug)]
pub(crate) struct Mark(Arc<dyn StorageBackend>);

impl Mark {
    pub(crate) fn new(file: Arc<dyn StorageBackend>) -> Self {
        Self(file)
    }

    /// The path of the watermark of a file.
    pub(crate) fn path(of: &Path) -> PathBuf {
        let mut name = OsString::from(of);
        name.push(".watermark");
        name.into()
    }

    /// What it says, if anything.
    pub(crate) fn read(&self) -> io::Result<Option<u64>> {
        let mut bytes = [0; WATERMARK_BYTES];
        if self.0.len()? != WATERMARK_BYTES as u64 {
            return Ok(None);
        }
        self.0.read(0, &mut bytes)?;
        Ok(watermark::decode(&bytes))
    }

    /// Says that so many commits are durable.
    pub(crate) fn write(&self, count: u64) -> io::Result<()> {
        if self.0.len()? != WATERMARK_BYTES as u64 {
            self.0.set_len(WATERMARK_BYTES as u64)?;
        }
        self.0.write(0, &watermark::encode(count))
    }
}

//! The file under redb: passes everything through until a write fails, then keeps what follows in RAM.
//!
//! redb gives up reads together with writes after an I/O error, and would go on with the second phase of a commit whose
//! first sync was only *said* to have worked. Both are wrong for us: reads must go on, and a state that may not be on disk
//! must never be made the current one. So the first failed write, growth or sync
//!
//! 1. is remembered ([`Failure`]), which makes every later `commit` and `durable` answer `Poisoned`; so is a commit that
//!    redb gave up half-way;
//! 2. turns the guard over: nothing is written to the file any more, later writes are kept in 4 KiB blocks in RAM and laid
//!    over what is read. redb sees no error and goes on reading its newest state. Since no further commit is begun, that
//!    is at most what was left of one batch.
//!
//! The file keeps its last synced state, which the next opening finds.
//!
//! A store opened for reading only, or for verifying, is turned over from the start: redb's repair after a crash then
//! happens in RAM, and a damaged file stays as it was found.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::ops::Bound;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use redb::{BackendError, StorageBackend};

const BLOCK: usize = 4096;

/// The first error of a write, growth or sync, seen by the store.
#[derive(Clone, Debug, Default)]
pub(crate) struct Failure(Arc<Mutex<Option<Arc<io::Error>>>>);

impl Failure {
    pub(crate) fn get(&self) -> Option<Arc<io::Error>> {
        self.0.lock().clone()
    }

    pub(crate) fn set(&self, error: io::Error) {
        self.0.lock().get_or_insert_with(|| Arc::new(error));
    }
}

/// Writes that are not in the file.
#[derive(Default)]
struct Overlay {
    blocks: BTreeMap<u64, Box<[u8; BLOCK]>>,
    len: u64,
    /// What the file holds from here on does not count: it was cut off, or was never there.
    base_len: u64,
}

/// See the module's head.
pub(crate) struct Guard {
    file: Arc<dyn StorageBackend>,
    overlay: RwLock<Option<Overlay>>,
    failure: Failure,
    locks: bool,
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard")
            .field("file", &self.file)
            .field("failure", &self.failure)
            .finish_non_exhaustive()
    }
}

impl Guard {
    pub(crate) fn new(file: Arc<dyn StorageBackend>, failure: Failure) -> Self {
        Self {
            file,
            overlay: RwLock::new(None),
            failure,
            locks: true,
        }
    }

    /// A guard that never writes to `file`, and locks it only if told to.
    pub(crate) fn reading(file: Arc<dyn StorageBackend>, locks: bool) -> io::Result<Self> {
        let len = file.len()?;
        Ok(Self {
            file,
            overlay: RwLock::new(Some(Overlay {
                len,
                base_len: len,
                ..Overlay::default()
            })),
            failure: Failure::default(),
            locks,
        })
    }

    /// Does `direct` on the file, or `covered` on the overlay once there is one; a failure of the former is remembered
    /// and followed by the latter.
    fn change(
        &self,
        direct: impl FnOnce(&dyn StorageBackend) -> io::Result<()>,
        covered: impl FnOnce(&mut Overlay, &dyn StorageBackend) -> io::Result<()>,
    ) -> io::Result<()> {
        {
            let overlay = self.overlay.read();
            if overlay.is_none() && self.failure.get().is_none() {
                match direct(&*self.file) {
                    Ok(()) => return Ok(()),
                    Err(e) => self.failure.set(e),
                }
            }
        }
        let mut overlay = self.overlay.write();
        if overlay.is_none() {
            let len = self.file.len()?;
            *overlay = Some(Overlay {
                len,
                base_len: len,
                ..Overlay::default()
            });
        }
        match overlay.as_mut() {
            Some(overlay) => covered(overlay, &*self.file),
            None => Ok(()),
        }
    }
}

impl Overlay {
    /// The file's bytes at `offset`, zero beyond what counts.
    fn base(&self, file: &dyn StorageBackend, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let there = self.base_len.saturating_sub(offset);
        let there = usize::try_from(there).unwrap_or(usize::MAX).min(out.len());
        let (inside, beyond) = out.split_at_mut(there);
        beyond.fill(0);
        if inside.is_empty() {
            return Ok(());
        }
        file.read(offset, inside)
    }

    fn read(&self, file: &dyn StorageBackend, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let end = check_inside(offset, out.len(), self.len)?;
        self.base(file, offset, out)?;
        let blocks = offset / BLOCK as u64..end.div_ceil(BLOCK as u64);
        for (index, block) in self.blocks.range(blocks) {
            let (source, target, n) = overlap(*index, offset, out.len());
            out[target..target + n].copy_from_slice(&block[source..source + n]);
        }
        Ok(())
    }

    fn write(&mut self, file: &dyn StorageBackend, offset: u64, data: &[u8]) -> io::Result<()> {
        let end = check_inside(offset, data.len(), self.len)?;
        for index in offset / BLOCK as u64..end.div_ceil(BLOCK as u64) {
            let (source, target, n) = overlap(index, offset, data.len());
            if !self.blocks.contains_key(&index) {
                let mut block = Box::new([0; BLOCK]);
                self.base(file, index * BLOCK as u64, &mut block[..])?;
                self.blocks.insert(index, block);
            }
            if let Some(block) = self.blocks.get_mut(&index) {
                block[source..source + n].copy_from_slice(&data[target..target + n]);
            }
        }
        Ok(())
    }

    fn set_len(&mut self, len: u64) {
        self.len = len;
        self.base_len = self.base_len.min(len);
        self.blocks.split_off(&len.div_ceil(BLOCK as u64));
        let tail = (len % BLOCK as u64) as usize;
        if tail > 0
            && let Some(block) = self.blocks.get_mut(&(len / BLOCK as u64))
        {
            block[tail..].fill(0);
        }
    }
}

/// Where block `index` and the bytes from `offset` on meet: place in the block, place in the bytes, length.
fn overlap(index: u64, offset: u64, len: usize) -> (usize, usize, usize) {
    let start = index * BLOCK as u64;
    let source = offset.saturating_sub(start) as usize;
    let target = start.saturating_sub(offset) as usize;
    (source, target, (BLOCK - source).min(len - target))
}

/// The end of a span, if it lies within `len`.
fn check_inside(offset: u64, span: usize, len: u64) -> io::Result<u64> {
    offset
        .checked_add(span as u64)
        .filter(|end| *end <= len)
        .ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("expected {span} bytes at {offset}, the file has {len}"),
            )
        })
}

impl StorageBackend for Guard {
    fn len(&self) -> io::Result<u64> {
        match &*self.overlay.read() {
            Some(overlay) => Ok(overlay.len),
            None => self.file.len(),
        }
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        match &*self.overlay.read() {
            Some(overlay) => overlay.read(&*self.file, offset, out),
            None => self.file.read(offset, out),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(
            |file| file.set_len(len),
            |overlay, _| {
                overlay.set_len(len);
                Ok(())
            },
        )
    }

    fn sync_data(&self) -> io::Result<()> {
        self.change(|file| file.sync_data(), |_, _| Ok(()))
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.change(
            |file| file.write(offset, data),
            |overlay, file| overlay.write(file, offset, data),
        )
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        if !self.locks {
            return Ok(true); // whoever opens so has asked for a writer before
        }
        self.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        if !self.locks {
            return Ok(true);
        }
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        if !self.locks {
            return Ok(());
        }
        self.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        if !self.locks {
            return Ok(());
        }
        self.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        if !self.locks {
            return Ok(());
        }
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        if !self.locks {
            return Ok(false);
        }
        self.file.query_lock_range(start, end)
    }
}

//! What is done under which lock; runs on blocking threads.
//!
//! Invariants
//! - A batch is one `apply_batch` of sled's default tree, which sled recovers whole or not at all; batches never overlap,
//!   because the writer holds `db` alone. (Overlapping ones are where sled's recovery was found wanting.)
//! - sled's readers may see a batch half-way, so reads hold `db` shared for the time of one call.
//! - `durable` and `close` hold `folder`, never `db`, while they sync: reads and commits go on.
//! - Each batch counts itself, and the watermark says how many are synced, before anybody is told so: a log that sled cut off is found.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use aether_core::role::{Batch, Epoch, KeyRange, Op, Seq, Table};
use aether_core::{Error, Result, Retry, watermark};
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};

use crate::config::SledConfig;
use crate::disk::{Folder, watermark_of, watermark_path};
use crate::error::{closed, io, map, poisoned, torn};
use crate::format::{
    FORMAT, KEY_COMMITS, KEY_EPOCH, KEY_FORMAT, full_key, full_range, open_sealed, own_number,
    sealed,
};

/// The open folder.
#[derive(Debug)]
pub(crate) struct Core {
    /// `None` once closed.
    db: RwLock<Option<sled::Db>>,
    /// `None` once closed.
    folder: Mutex<Option<Folder>>,
    poisoned: AtomicBool,
    /// A batch may be half-way in what readers see.
    torn: AtomicBool,
    epoch: AtomicU64,
    /// Batches in the store's life, as the store has them.
    history: AtomicU64,
    committed: AtomicU64,
    durable: AtomicU64,
}

/// How often and how long to wait for a former handle's threads to let go of sled's own lock: two seconds in all.
const LOCK_TRIES: u32 = 400;
const LOCK_WAIT: Duration = Duration::from_millis(5);

impl Core {
    pub(crate) fn open(path: &Path, config: &SledConfig) -> Result<Self> {
        let unreadable = |e: std::io::Error| {
            let error = io(&e, "the watermark cannot be read");
            error.with("watermark", watermark_path(path).display())
        };
        let there = path.try_exists();
        if !there.map_err(|e| io(&e, "the folder cannot be looked at"))? {
            // Before a folder is made: somebody may want to move the right one here.
            let said = watermark_of(path).map_err(unreadable)?;
            watermark::check_gone(said, &watermark_path(path))?;
        }
        let mut folder = Folder::lock(path)?;
        let said = match folder.watermark() {
            Ok(said) => said,
            Err(error) if folder.is_begun() => {
                let file = folder.watermark_path();
                tracing::warn!(file = %file.display(), %error, "the watermark cannot be read, and says nothing");
                None
            }
            Err(error) => return Err(unreadable(error)),
        };
        if !folder.is_begun() {
            watermark::check_gone(said, &folder.watermark_path())?;
        }
        let settings = sled::Config::new()
            .path(path)
            .cache_capacity(config.cache.0)
            // Everything that must be durable is flushed by `durable`; a timer would only add disk work.
            .flush_every_ms(None);
        let mut tries = 0;
        let db = loop {
            match settings.open() {
                Ok(db) => break db,
                Err(sled::Error::Io(e)) if e.to_string().contains("could not acquire lock") => {
                    tries += 1;
                    if tries > LOCK_TRIES {
                        return Err(crate::error::locked().with_source(e));
                    }
                    std::thread::sleep(LOCK_WAIT);
                }
                Err(e) => return Err(map(e)),
            }
        };
        let number = |key: &[u8]| db.get(key).map_err(map);
        if !folder.is_begun() {
            // Also after a crash in the middle of beginning. A folder of somebody else's sled fails below.
            if db.is_empty() {
                let mut own = sled::Batch::default();
                own.insert(KEY_FORMAT, sealed(KEY_FORMAT, &FORMAT.to_le_bytes()));
                own.insert(KEY_EPOCH, sealed(KEY_EPOCH, &0u64.to_le_bytes()));
                db.apply_batch(own).map_err(map)?;
                db.flush().map_err(map)?;
            }
            own_number::<4>(KEY_FORMAT, number(KEY_FORMAT)?.as_deref())?;
            folder
                .begin()
                .map_err(|e| io(&e, "the new store cannot be made durable"))?;
        }
        let format = u32::from_le_bytes(own_number(KEY_FORMAT, number(KEY_FORMAT)?.as_deref())?);
        if format != FORMAT {
            return Err(Error::unsupported(format!(
                "format: expected {FORMAT}, got {format}; open the folder with the version of Aether that wrote it"
            )));
        }
        let epoch = u64::from_le_bytes(own_number(KEY_EPOCH, number(KEY_EPOCH)?.as_deref())?);
        // None in a store that was last written when they were not counted.
        let history = match number(KEY_COMMITS)? {
            Some(found) => u64::from_le_bytes(own_number(KEY_COMMITS, Some(&found))?),
            None => 0,
        };
        watermark::check(said, history, &folder.watermark_path())?;
        Ok(Self {
            db: RwLock::new(Some(db)),
            folder: Mutex::new(Some(folder)),
            poisoned: AtomicBool::new(false),
            torn: AtomicBool::new(false),
            epoch: AtomicU64::new(epoch),
            history: AtomicU64::new(history),
            committed: AtomicU64::new(0),
            durable: AtomicU64::new(0),
        })
    }

    fn healthy(&self) -> Result<()> {
        if self.poisoned.load(Ordering::SeqCst) {
            return Err(poisoned());
        }
        Ok(())
    }

    fn with_db<T>(&self, read: impl FnOnce(&sled::Db) -> Result<T>) -> Result<T> {
        let db = self.db.read();
        let db = db.as_ref().ok_or_else(closed)?;
        if self.torn.load(Ordering::SeqCst) {
            return Err(torn());
        }
        read(db)
    }

    pub(crate) fn get(&self, table: Table, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>> {
        self.with_db(|db| {
            let one = |key: &Bytes| {
                let key = full_key(table, key);
                let found = db.get(&key).map_err(map)?;
                found
                    .map(|stored| open_sealed(&key, &stored).map(Bytes::copy_from_slice))
                    .transpose()
            };
            keys.iter().map(one).collect()
        })
    }

    pub(crate) fn scan(
        &self,
        table: Table,
        range: &KeyRange,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>> {
        self.with_db(|db| {
            if range.is_empty() {
                return Ok(Vec::new());
            }
            let mut out: Vec<(Bytes, Bytes)> = Vec::new();
            for pair in db.range(full_range(table, range)).take(limit) {
                let (full, stored) = pair.map_err(map)?;
                let value = Bytes::copy_from_slice(open_sealed(&full, &stored)?);
                let key = Bytes::copy_from_slice(full.get(1..).unwrap_or_default());
                if out.last().is_some_and(|(last, _)| *last >= key) {
                    return Err(Error::corrupt("keys out of order")
                        .with("table", table.name())
                        .with("key", key.escape_ascii()));
                }
                out.push((key, value));
            }
            Ok(out)
        })
    }

    pub(crate) fn claim(&self) -> Result<Epoch> {
        let next = {
            let db = self.db.write();
            let db = db.as_ref().ok_or_else(closed)?;
            self.healthy()?;
            let next = self
                .epoch
                .load(Ordering::SeqCst)
                .checked_add(1)
                .ok_or_else(|| Error::corrupt("epoch: no number is left"))?;
            let mut own = sled::Batch::default();
            own.insert(KEY_EPOCH, sealed(KEY_EPOCH, &next.to_le_bytes()));
            self.apply(db, own)?;
            // Whatever comes of the sync, this number is not given again.
            self.epoch.store(next, Ordering::SeqCst);
            next
        };
        self.sync()?;
        Ok(Epoch(next))
    }

    fn apply(&self, db: &sled::Db, mut batch: sled::Batch) -> Result<()> {
        let count = self.history.load(Ordering::SeqCst).saturating_add(1);
        batch.insert(KEY_COMMITS, sealed(KEY_COMMITS, &count.to_le_bytes()));
        // Set first and cleared after, so that a panic leaves it set.
        self.torn.store(true, Ordering::SeqCst);
        match db.apply_batch(batch) {
            Ok(()) => {
                self.history.store(count, Ordering::SeqCst);
                self.torn.store(false, Ordering::SeqCst);
                Ok(())
            }
            Err(e) => {
                self.poisoned.store(true, Ordering::SeqCst);
                Err(map(e).with_retry(Retry::Unknown))
            }
        }
    }

    pub(crate) fn commit(&self, batch: &Batch) -> Result<Seq> {
        let db = self.db.write();
        let db = db.as_ref().ok_or_else(closed)?;
        self.healthy()?;
        if self.torn.load(Ordering::SeqCst) {
            return Err(torn());
        }
        let epoch = self.epoch.load(Ordering::SeqCst);
        if batch.epoch.0 != epoch {
            return Err(Error::fenced(format!(
                "epoch: expected {epoch}, got {}; another writer has claimed the store",
                batch.epoch.0
            )));
        }
        for required in &batch.preconditions {
            let key = full_key(required.table, &required.key);
            let stored = db.get(&key).map_err(map)?;
            let found = match &stored {
                Some(stored) => Some(open_sealed(&key, stored)?),
                None => None,
            };
            if found != required.value.as_deref() {
                return Err(required.conflict(found));
            }
        }
        // sled's batch keeps the last operation of a key, as the contract asks.
        let mut changes = sled::Batch::default();
        for op in &batch.ops {
            match op {
                Op::Put(table, key, value) => {
                    let key = full_key(*table, key);
                    let value = sealed(&key, value);
                    changes.insert(key, value);
                }
                Op::Delete(table, key) => changes.remove(full_key(*table, key)),
            }
        }
        self.apply(db, changes)?;
        Ok(Seq(self.committed.fetch_add(1, Ordering::SeqCst) + 1))
    }

    pub(crate) fn durable(&self, seq: Seq) -> Result<()> {
        if self.durable.load(Ordering::SeqCst) >= seq.0 {
            self.with_db(|_| Ok(()))?;
            return self.healthy();
        }
        self.sync()
    }

    /// Makes durable all that was committed before it began.
    fn sync(&self) -> Result<()> {
        let mut folder = self.folder.lock();
        let folder = folder.as_mut().ok_or_else(closed)?;
        self.healthy()?;
        // A clone is another handle on the same tree; `close` waits for `folder` before it drops the last.
        let db = self.with_db(|db| Ok(db.clone()))?;
        let covered = self.committed.load(Ordering::SeqCst);
        self.flush(&db, folder)?;
        self.durable.fetch_max(covered, Ordering::SeqCst);
        Ok(())
    }

    fn flush(&self, db: &sled::Db, folder: &mut Folder) -> Result<()> {
        let count = self.history.load(Ordering::SeqCst);
        let result = db
            .flush()
            .map_err(map)
            .and_then(|_| folder.sync().map_err(|e| io(&e, "the sync failed")));
        result.map_err(|e| {
            self.poisoned.store(true, Ordering::SeqCst);
            poisoned().with_source(e)
        })?;
        folder.set_watermark(count);
        Ok(())
    }

    pub(crate) fn close(&self) -> Result<()> {
        let mut slot = self.folder.lock();
        let mut folder = slot.take().ok_or_else(closed)?;
        let db = self.db.write().take().ok_or_else(closed)?;
        let result = self.healthy().and_then(|()| self.flush(&db, &mut folder));
        drop(db);
        drop(folder);
        result
    }
}

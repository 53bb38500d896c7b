//! The transactions; runs on the threads of `lanes`, and gets on those of callers.
//!
//! Invariants
//! - `commit` and `durable` run on the one writer thread, so sequence numbers are those of the file's history.
//! - A commit is a redb commit without durability; `durable` is a durable one of a counter alone, which covers everything before it.
//! - Nothing is begun after a failure of the file, see `guard`.
//! - The watermark is written when a durable commit is, and before anybody is told of it.
//!
//! Why two commits instead of one durable one: measured on redb alone with 24 batches of 4,096 values of 1.6 KB and with
//! single puts, on one virtual disk shared with other work, with 64 and 256 MiB of cache. One durable commit: 161 to 283
//! MB/s, 0.4 to 6.7 ms a put; two: 166 to 296 MB/s, 0.45 to 5.5 ms. The spread is the disk's; the commit without
//! durability takes 13 µs of it. Two let the engine apply a batch while the sync runs, let one sync cover many batches,
//! and spare it for batches that need none. The example `figures` measures what was chosen.
//!
//! Durable commits are two-phase, with redb's allocator state saved in each ("quick repair"): opening 157 MB after a crash
//! took 13 to 38 ms with it and 186 to 725 ms without, growing with the file; commits were not measurably slower.

use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aether_core::role::{Batch, Epoch, KeyRange, Op, Seq, Table};
use aether_core::{Error, Result, Retry};
use bytes::Bytes;
use parking_lot::RwLock;
use redb::{
    Builder, Database, Durability, ReadableDatabase, ReadableTable, StorageBackend,
    WriteTransaction,
};

use crate::error::{closed, map, poisoned, read_only};
use crate::format::{
    FORMAT, KEY_DURABLE, KEY_EPOCH, KEY_FORMAT, OWN, OWN_NAME, copy_sealed, definition,
    open_sealed, own_number, sealed_len, write_sealed,
};
use crate::guard::{Failure, Guard};
use crate::lanes::contain;
use crate::mark::Mark;

type RwTable<'t> = redb::Table<'t, &'static [u8], &'static [u8]>;

/// The open file.
#[derive(Debug)]
pub(crate) struct Core {
    /// `None` once closed. Held shared for as long as a transaction lives.
    db: RwLock<Option<Database>>,
    failure: Failure,
    read_only: bool,
    epoch: AtomicU64,
    /// Durable commits in the file's life, as the file has them.
    history: AtomicU64,
    /// `None` while a file is begun: nothing in it can be lost.
    mark: Option<Mark>,
    committed: AtomicU64,
    durable: AtomicU64,
}

/// How to open.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mode {
    pub(crate) cache_bytes: usize,
    pub(crate) read_only: bool,
    pub(crate) verify: bool,
}

impl Core {
    /// Opens a file, or begins an empty one.
    pub(crate) fn open(
        file: Arc<dyn StorageBackend>,
        mark: Option<Mark>,
        mode: Mode,
    ) -> Result<Self> {
        let unreadable = |e: std::io::Error| crate::error::io(&e, "the file cannot be read");
        let empty = file.len().map_err(unreadable)? == 0;
        if empty && mode.read_only {
            return Err(Error::corrupt(
                "expected a metadata store, got an empty file",
            ));
        }
        let create = |guard| {
            Builder::new()
                .set_cache_size(mode.cache_bytes)
                .create_with_backend(guard)
                .map_err(map)
        };
        let failure = Failure::default();
        let db = if mode.read_only {
            let mut db = create(Guard::reading(file, false).map_err(unreadable)?)?;
            verify(&mut db)?;
            db
        } else {
            if !empty && (mode.verify || mark.as_ref().is_some_and(Mark::speaks)) {
                // In an overlay, since redb would put damage right by going back to an older state and keep that. The
                // lock is given up between here and the opening proper; who comes in between makes that `Locked`.
                let mut db = create(Guard::reading(file.clone(), true).map_err(unreadable)?)?;
                if mode.verify {
                    verify(&mut db)?;
                }
                newest(&db, mark.as_ref())?;
            }
            create(Guard::new(file, failure.clone()))?
        };
        if empty {
            begin_file(&db)?;
        }
        let own = newest(&db, mark.as_ref())?;
        let core = Self {
            epoch: AtomicU64::new(own.epoch),
            history: AtomicU64::new(own.durable),
            mark,
            db: RwLock::new(Some(db)),
            failure,
            read_only: mode.read_only,
            committed: AtomicU64::new(0),
            durable: AtomicU64::new(0),
        };
        core.healthy()?;
        Ok(core)
    }

    /// Fails when the file has failed.
    fn healthy(&self) -> Result<()> {
        if let Some(e) = self.failure.get() {
            return Err(poisoned().with_source(e.to_string()));
        }
        Ok(())
    }

    fn writable(&self) -> Result<()> {
        if self.read_only {
            return Err(read_only());
        }
        self.healthy()
    }

    fn with_db<T>(&self, work: impl FnOnce(&Database) -> Result<T>) -> Result<T> {
        work(self.db.read().as_ref().ok_or_else(closed)?)
    }

    /// Whether somebody has the database for himself, to close it.
    pub(crate) fn is_closing(&self) -> bool {
        self.db.is_locked_exclusive()
    }

    pub(crate) fn get(&self, table: Table, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>> {
        self.with_db(|db| {
            let txn = db.begin_read().map_err(map)?;
            let rows = txn.open_table(definition(table)).map_err(map)?;
            let one = |key: &Bytes| {
                let found = rows.get(&key[..]).map_err(map)?;
                found
                    .map(|stored| copy_sealed(stored.value(), table.name(), key))
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
            let txn = db.begin_read().map_err(map)?;
            let rows = txn.open_table(definition(table)).map_err(map)?;
            let bounds: (Bound<&[u8]>, Bound<&[u8]>) = (
                range.start.as_ref().map(|b| &b[..]),
                range.end.as_ref().map(|b| &b[..]),
            );
            let mut out: Vec<(Bytes, Bytes)> = Vec::new();
            for pair in rows.range::<&[u8]>(bounds).map_err(map)?.take(limit) {
                let (key, stored) = pair.map_err(map)?;
                let key = Bytes::copy_from_slice(key.value());
                if out.last().is_some_and(|(last, _)| *last >= key) {
                    return Err(Error::corrupt("keys out of order")
                        .with("table", table.name())
                        .with("key", key.escape_ascii()));
                }
                let value = copy_sealed(stored.value(), table.name(), &key)?;
                out.push((key, value));
            }
            Ok(out)
        })
    }

    pub(crate) fn claim(&self) -> Result<Epoch> {
        self.with_db(|db| {
            self.writable()?;
            let next = self
                .epoch
                .load(Ordering::SeqCst)
                .checked_add(1)
                .ok_or_else(|| Error::corrupt("epoch: no number is left"))?;
            let txn = db.begin_write().map_err(map)?;
            put(
                &mut txn.open_table(OWN).map_err(map)?,
                OWN_NAME,
                KEY_EPOCH,
                &next.to_le_bytes(),
            )?;
            // Whatever comes of it, this number is not given again.
            self.epoch.store(next, Ordering::SeqCst);
            self.commit_durable(txn)?;
            Ok(Epoch(next))
        })
    }

    pub(crate) fn commit(&self, batch: &Batch) -> Result<Seq> {
        self.with_db(|db| {
            self.writable()?;
            let epoch = self.epoch.load(Ordering::SeqCst);
            if batch.epoch.0 != epoch {
                return Err(Error::fenced(format!(
                    "epoch: expected {epoch}, got {}; another writer has claimed the store",
                    batch.epoch.0
                )));
            }
            let mut txn = db.begin_write().map_err(map)?;
            txn.set_durability(Durability::None).map_err(map)?;
            if let Err(e) = apply(&txn, batch) {
                txn.abort().map_err(map)?;
                return Err(e);
            }
            // A full cache may have written pages of this batch.
            if let Some(e) = self.failure.get() {
                txn.abort().map_err(map)?;
                return Err(crate::error::io(&e, "the batch was not written"));
            }
            self.finish(txn)?;
            Ok(Seq(self.committed.fetch_add(1, Ordering::SeqCst) + 1))
        })
    }

    /// Whether a commit is known to be durable in an open and healthy store. Never waits.
    pub(crate) fn is_settled(&self, seq: Seq) -> bool {
        self.covers(seq)
            && self.healthy().is_ok()
            && self.db.try_read().is_some_and(|db| db.is_some())
    }

    fn covers(&self, seq: Seq) -> bool {
        self.durable.load(Ordering::SeqCst) >= seq.0
    }

    pub(crate) fn durable(&self, seq: Seq) -> Result<()> {
        self.with_db(|db| {
            self.writable()?;
            if self.covers(seq) {
                return Ok(()); // a sync for another caller covered it meanwhile
            }
            self.commit_durable(db.begin_write().map_err(map)?)
        })
    }

    fn commit_durable(&self, mut txn: WriteTransaction) -> Result<()> {
        let covered = self.committed.load(Ordering::SeqCst);
        let count = self.history.load(Ordering::SeqCst).saturating_add(1);
        txn.set_two_phase_commit(true);
        txn.set_quick_repair(true);
        put(
            &mut txn.open_table(OWN).map_err(map)?,
            OWN_NAME,
            KEY_DURABLE,
            &count.to_le_bytes(),
        )?;
        self.finish(txn)?;
        self.healthy()?;
        self.history.store(count, Ordering::SeqCst);
        if let Some(mark) = &self.mark {
            mark.write(count);
        }
        self.durable.store(covered, Ordering::SeqCst);
        Ok(())
    }

    fn finish(&self, txn: WriteTransaction) -> Result<()> {
        let mut broken = Broken(&self.failure, true);
        // Nothing but a failing read or damage comes back from here, since `guard` keeps failed writes to itself.
        txn.commit()
            .map_err(|e| map(e).with_retry(Retry::Unknown))?;
        broken.1 = false;
        Ok(())
    }

    pub(crate) fn close(&self) -> Result<()> {
        let mut slot = self.db.write();
        let db = slot.take().ok_or_else(closed)?;
        let result = if self.read_only {
            Ok(())
        } else {
            self.healthy()
                .and_then(|()| self.commit_durable(db.begin_write().map_err(map)?))
        };
        drop(db);
        result.and_then(|()| {
            if self.read_only {
                Ok(())
            } else {
                self.healthy()
            }
        })
    }
}

impl Drop for Core {
    /// redb writes its books on closing, and may panic over damaged ones.
    fn drop(&mut self) {
        let db = self.db.get_mut().take();
        if let Err(e) = contain(|| {
            drop(db);
            Ok(())
        }) {
            // Nobody is left to tell; the next opening finds the same damage.
            drop(e);
        }
    }
}

/// Fails the store when dropped, unless told otherwise: also when redb panics.
struct Broken<'a>(&'a Failure, bool);

impl Drop for Broken<'_> {
    fn drop(&mut self) {
        if self.1 {
            self.0.set(std::io::Error::other(
                "redb gave up in the middle of a commit",
            ));
        }
    }
}

/// Checks every page of every table against its checksum, and redb's books of free pages against the tables.
fn verify(db: &mut Database) -> Result<()> {
    if db.check_integrity().map_err(map)? {
        return Ok(());
    }
    Err(Error::corrupt(
        "pages of the file do not match their checksums; run `aether check` and restore from a snapshot",
    ))
}

fn put(table: &mut RwTable<'_>, name: &str, key: &[u8], value: &[u8]) -> Result<()> {
    let mut slot = table
        .insert_reserve(key, sealed_len(value.len()))
        .map_err(map)?;
    write_sealed(slot.as_mut(), name, key, value);
    Ok(())
}

type Open<'t> = [Option<RwTable<'t>>; Table::ALL.len()];

/// The redb table of one of the engine's tables, opened once for the transaction.
fn rows<'a, 't>(
    txn: &'t WriteTransaction,
    open: &'a mut Open<'t>,
    table: Table,
) -> Result<&'a mut RwTable<'t>> {
    let slot = &mut open[table as usize];
    if slot.is_none() {
        *slot = Some(txn.open_table(definition(table)).map_err(map)?);
    }
    slot.as_mut()
        .ok_or_else(|| Error::internal("a table was not opened"))
}

fn place(op: &Op) -> (Table, &Bytes) {
    match op {
        Op::Put(table, key, _) | Op::Delete(table, key) => (*table, key),
    }
}

/// Deletes that are made in one walk, at least; fewer cost as much one by one.
const RUN_MIN: usize = 16;

/// Checks the preconditions and makes the changes.
fn apply(txn: &WriteTransaction, batch: &Batch) -> Result<()> {
    let mut open: Open<'_> = [const { None }; Table::ALL.len()];
    for required in &batch.preconditions {
        let rows = rows(txn, &mut open, required.table)?;
        let stored = rows.get(&required.key[..]).map_err(map)?;
        let found = match &stored {
            Some(stored) => Some(open_sealed(
                stored.value(),
                required.table.name(),
                &required.key,
            )?),
            None => None,
        };
        if found != required.value.as_deref() {
            return Err(required.conflict(found));
        }
    }
    // In order of keys, so that each page is visited once: a compaction names rows from all over the table. Of one key, the later stays
    // the later.
    let mut ops: Vec<&Op> = batch.ops.iter().collect();
    ops.sort_by(|a, b| place(a).cmp(&place(b)));
    let mut rest = &ops[..];
    while let Some((op, later)) = rest.split_first() {
        let run = dense(rest);
        if run >= RUN_MIN {
            let (run, later) = rest.split_at(run);
            delete_run(rows(txn, &mut open, place(op).0)?, run)?;
            rest = later;
            continue;
        }
        rest = later;
        match op {
            Op::Put(table, key, value) => {
                put(rows(txn, &mut open, *table)?, table.name(), key, value)?;
            }
            Op::Delete(table, key) => {
                rows(txn, &mut open, *table)?
                    .remove(&key[..])
                    .map_err(map)?;
            }
        }
    }
    Ok(())
}

/// How many of the first operations, in order of keys, delete numbers that lie close together: more than half of the numbers between the
/// first and the last.
fn dense(ops: &[&Op]) -> usize {
    let number = |op: &&Op| match op {
        Op::Delete(table, key) => Some((*table, u64::from_be_bytes(key[..].try_into().ok()?))),
        Op::Put(..) => None,
    };
    let Some((table, first)) = ops.first().and_then(number) else {
        return 0;
    };
    let near = |(i, op): (usize, &&Op)| {
        number(op).is_some_and(|(t, n)| t == table && n - first < 2 * (i as u64 + 1))
    };
    ops.iter()
        .enumerate()
        .take_while(|(i, op)| near((*i, op)))
        .count()
}

/// Deletes the keys of a run of operations in one walk over its pages.
fn delete_run(rows: &mut RwTable<'_>, run: &[&Op]) -> Result<()> {
    let keys = || run.iter().map(|op| &place(op).1[..]);
    let (Some(first), Some(last)) = (keys().next(), keys().next_back()) else {
        return Ok(());
    };
    let mut gone = keys().peekable();
    let stays = |key: &[u8], _: &[u8]| {
        while gone.next_if(|k| *k < key).is_some() {}
        gone.peek() != Some(&key)
    };
    rows.retain_in::<&[u8], _>(first..=last, stays).map_err(map)
}

fn begin_file(db: &Database) -> Result<()> {
    let mut txn = db.begin_write().map_err(map)?;
    txn.set_two_phase_commit(true);
    txn.set_quick_repair(true);
    for table in Table::ALL {
        txn.open_table(definition(table)).map_err(map)?;
    }
    {
        let mut own = txn.open_table(OWN).map_err(map)?;
        put(&mut own, OWN_NAME, KEY_FORMAT, &FORMAT.to_le_bytes())?;
        put(&mut own, OWN_NAME, KEY_EPOCH, &0u64.to_le_bytes())?;
    }
    txn.commit().map_err(map)
}

/// What the store keeps of its own.
struct Own {
    epoch: u64,
    /// Durable commits; none in a file that was last written when they were not counted.
    durable: u64,
}

/// Checks the format and reads the rest.
fn read_own(db: &Database) -> Result<Own> {
    let txn = db.begin_read().map_err(map)?;
    let own = txn.open_table(OWN).map_err(map)?;
    let some = |key: &'static [u8]| own.get(key).map_err(map);
    let number = |key: &'static [u8]| {
        some(key)?.ok_or_else(|| {
            Error::corrupt("expected a number of the store's own, got none")
                .with("key", key.escape_ascii())
        })
    };
    let format = u32::from_le_bytes(own_number(number(KEY_FORMAT)?.value(), KEY_FORMAT)?);
    if format != FORMAT {
        return Err(Error::unsupported(format!(
            "format: expected {FORMAT}, got {format}; open the file with the version of Aether that wrote it"
        )));
    }
    for table in Table::ALL {
        txn.open_table(definition(table)).map_err(map)?;
    }
    let durable = match some(KEY_DURABLE)? {
        Some(found) => u64::from_le_bytes(own_number(found.value(), KEY_DURABLE)?),
        None => 0,
    };
    Ok(Own {
        epoch: u64::from_le_bytes(own_number(number(KEY_EPOCH)?.value(), KEY_EPOCH)?),
        durable,
    })
}

/// The same, of a file that is no older than its watermark says.
fn newest(db: &Database, mark: Option<&Mark>) -> Result<Own> {
    let own = read_own(db)?;
    mark.map_or(Ok(()), |mark| mark.check(own.durable))?;
    Ok(own)
}

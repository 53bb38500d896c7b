//! A store in RAM with two images: what readers see, and what a power cut leaves.
//!
//! Stricter than real stores: nothing becomes durable unless `durable` or `close` was called, and a crash loses all of the
//! rest. Commits since then are kept in order, so that a crash may also leave any prefix of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use aether_core::role::{
    Batch, Epoch, KeyRange, MetaCapability, MetaStore, Op, Precondition, Seq, Table,
};
use aether_core::{Error, Result};
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;

use super::fault::{Gate, Hook};

/// Limits just at the contract's least, so that an engine that exceeds them is found.
const CAPABILITY: MetaCapability = MetaCapability {
    key_bytes_max: 1 << 10,
    value_bytes_max: 1 << 20,
    batch_bytes_max: 8 << 20,
    persistent: true,
};

type Image = BTreeMap<(Table, Bytes), Bytes>;

fn apply(image: &mut Image, ops: &[Op]) {
    for op in ops {
        match op {
            Op::Put(table, key, value) => {
                image.insert((*table, key.clone()), value.clone());
            }
            Op::Delete(table, key) => {
                image.remove(&(*table, key.clone()));
            }
        }
    }
}

#[derive(Debug, Default)]
struct Disk {
    live: Image,
    durable: Image,
    /// Commits after the durable image, oldest first.
    pending: Vec<(u64, Vec<Op>)>,
    /// Grown by `claim`, durably.
    epoch: u64,
    seq: u64,
    commits: u64,
}

impl Disk {
    fn settle(&mut self, upto: u64) {
        let n = self.pending.partition_point(|(seq, _)| *seq <= upto);
        for (_, ops) in self.pending.drain(..n) {
            apply(&mut self.durable, &ops);
        }
    }
}

/// An in-memory [`MetaStore`] that survives [`StrictMeta::crash`] only as far as `durable` reached.
///
/// A clone is the same handle. [`StrictMeta::handle`] is a second process on the same store.
#[derive(Clone, Debug, Default)]
pub struct StrictMeta {
    disk: Arc<Mutex<Disk>>,
    closed: Arc<Mutex<bool>>,
    gate: Gate,
}

impl StrictMeta {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Another handle on the same store, as another process would have: what one claims fences the other. It has no hook
    /// and its own counts.
    pub fn handle(&self) -> Self {
        Self {
            disk: self.disk.clone(),
            ..Self::default()
        }
    }

    /// The store as a power cut now would leave it: only what `durable` or `close` covered. This handle goes on as
    /// before, on its own copy, which nobody will see again.
    pub fn crash(&self) -> Self {
        self.crash_keeping(0)
    }

    /// As [`StrictMeta::crash`], but the first `n` commits after the durable ones survived too, as they may.
    pub fn crash_keeping(&self, n: usize) -> Self {
        let disk = self.disk.lock();
        let mut image = disk.durable.clone();
        for (_, ops) in disk.pending.iter().take(n) {
            apply(&mut image, ops);
        }
        let after = Disk {
            live: image.clone(),
            durable: image,
            epoch: disk.epoch,
            // A real store may begin again; numbers are comparable within one epoch only.
            ..Disk::default()
        };
        Self {
            disk: Arc::new(Mutex::new(after)),
            ..Self::default()
        }
    }

    /// A crash that keeps the first half of a batch; for a fake that is wrong on purpose.
    pub(super) fn crash_torn(&self) -> Self {
        let after = self.crash();
        if let Some((_, ops)) = self.disk.lock().pending.first() {
            let mut disk = after.disk.lock();
            let half = &ops[..ops.len().div_ceil(2)];
            apply(&mut disk.durable, half);
            apply(&mut disk.live, half);
        }
        after
    }

    /// How many commits a crash now would lose at most; [`StrictMeta::crash_keeping`] is worth trying with 0 to this.
    pub fn pending(&self) -> usize {
        self.disk.lock().pending.len()
    }

    /// How many commits have succeeded, over all handles.
    pub fn commits(&self) -> u64 {
        self.disk.lock().commits
    }

    /// Asks `hook` before every operation of this handle from now on; counts go on from where they are.
    pub fn set_hook(&self, hook: Hook) {
        self.gate.set_hook(hook);
    }

    /// How many operations of a name this handle was asked for so far.
    pub fn count(&self, op: &str) -> u64 {
        self.gate.count(op)
    }

    /// How many operations this handle was asked for so far.
    pub fn total(&self) -> u64 {
        self.gate.total()
    }

    /// Everything readers see now, in order of table and key; for comparing whole states.
    pub fn dump(&self) -> Vec<(Table, Bytes, Bytes)> {
        let disk = self.disk.lock();
        disk.live
            .iter()
            .map(|((t, k), v)| (*t, k.clone(), v.clone()))
            .collect()
    }

    /// Replaces a stored value in both images behind the store's back, as damage that a store without checksums would
    /// hand out.
    pub fn tamper(&self, table: Table, key: &[u8], value: impl Into<Bytes>) {
        let mut disk = self.disk.lock();
        let (key, value) = ((table, Bytes::copy_from_slice(key)), value.into());
        disk.durable.insert(key.clone(), value.clone());
        disk.live.insert(key, value);
    }

    /// Takes a stored pair out of both images behind the store's back.
    pub fn lose(&self, table: Table, key: &[u8]) {
        let mut disk = self.disk.lock();
        let key = (table, Bytes::copy_from_slice(key));
        disk.durable.remove(&key);
        disk.live.remove(&key);
    }

    /// Whether this handle was closed.
    pub fn is_closed(&self) -> bool {
        *self.closed.lock()
    }

    /// Closes without making anything durable; for a fake that is wrong on purpose.
    pub(super) fn close_losing(&self) -> Result<()> {
        self.open()?;
        *self.closed.lock() = true;
        Ok(())
    }

    fn open(&self) -> Result<()> {
        if self.is_closed() {
            return Err(Error::closed("the store was closed; open it again"));
        }
        Ok(())
    }

    fn commit_now(&self, batch: Batch) -> Result<Seq> {
        check(&batch)?;
        let mut disk = self.disk.lock();
        if batch.epoch.0 != disk.epoch {
            return Err(Error::fenced(format!(
                "epoch: expected {}, got {}",
                disk.epoch, batch.epoch.0
            )));
        }
        for Precondition { table, key, value } in &batch.preconditions {
            if disk.live.get(&(*table, key.clone())) != value.as_ref() {
                return Err(Error::conflict("precondition does not hold")
                    .with("table", table.name())
                    .with("key", key.escape_ascii()));
            }
        }
        apply(&mut disk.live, &batch.ops);
        disk.seq += 1;
        disk.commits += 1;
        let seq = disk.seq;
        disk.pending.push((seq, batch.ops));
        Ok(Seq(seq))
    }
}

fn check(batch: &Batch) -> Result<()> {
    let parts = batch.ops.iter().map(|op| match op {
        Op::Put(_, key, value) => (key.len(), value.len()),
        Op::Delete(_, key) => (key.len(), 0),
    });
    for (key, value) in parts.chain(batch.preconditions.iter().map(|p| (p.key.len(), 0))) {
        if key == 0 {
            return Err(Error::invalid_input("key: expected at least 1 byte, got 0"));
        }
        for (what, got, max) in [
            ("key", key, CAPABILITY.key_bytes_max),
            ("value", value, CAPABILITY.value_bytes_max),
        ] {
            if got > max {
                return Err(Error::capacity(format!(
                    "{what}: expected at most {max} bytes, got {got}"
                )));
            }
        }
    }
    if batch.bytes() > CAPABILITY.batch_bytes_max {
        return Err(Error::capacity(format!(
            "batch: expected at most {} bytes, got {}",
            CAPABILITY.batch_bytes_max,
            batch.bytes()
        )));
    }
    Ok(())
}

#[async_trait]
impl MetaStore for StrictMeta {
    async fn claim(&self) -> Result<Epoch> {
        let pass = self.gate.pass("claim")?;
        self.open()?;
        let mut disk = self.disk.lock();
        disk.epoch += 1;
        pass.answer(Ok(Epoch(disk.epoch)))
    }

    async fn get(&self, table: Table, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>> {
        let pass = self.gate.pass("get")?;
        self.open()?;
        let disk = self.disk.lock();
        let get = |key: &Bytes| disk.live.get(&(table, key.clone())).cloned();
        pass.answer(Ok(keys.iter().map(get).collect()))
    }

    async fn scan(
        &self,
        table: Table,
        range: KeyRange,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>> {
        use std::ops::Bound::{Excluded, Included, Unbounded};
        let pass = self.gate.pass("scan")?;
        self.open()?;
        if range.is_empty() {
            return pass.answer(Ok(Vec::new()));
        }
        let start = match range.start {
            Unbounded => Included((table, Bytes::new())),
            other => other.map(|key| (table, key)),
        };
        let inside = |key: &Bytes| match &range.end {
            Unbounded => true,
            Included(end) => key <= end,
            Excluded(end) => key < end,
        };
        let disk = self.disk.lock();
        let pairs = disk
            .live
            .range((start, Unbounded))
            .take_while(|((t, key), _)| *t == table && inside(key))
            .take(limit)
            .map(|((_, k), v)| (k.clone(), v.clone()));
        pass.answer(Ok(pairs.collect()))
    }

    async fn commit(&self, batch: Batch) -> Result<Seq> {
        let pass = self.gate.pass("commit")?;
        self.open()?;
        pass.answer(self.commit_now(batch))
    }

    async fn durable(&self, seq: Seq) -> Result<()> {
        let pass = self.gate.pass("durable")?;
        self.open()?;
        self.disk.lock().settle(seq.0);
        pass.answer(Ok(()))
    }

    fn capability(&self) -> MetaCapability {
        CAPABILITY
    }

    async fn close(&self) -> Result<()> {
        let pass = self.gate.pass("close")?;
        self.open()?;
        self.disk.lock().settle(u64::MAX);
        *self.closed.lock() = true;
        pass.answer(Ok(()))
    }
}

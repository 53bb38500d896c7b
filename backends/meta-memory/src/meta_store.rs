//! The store: one ordered map for each table, under one lock.
//!
//! Invariants: a batch is checked whole before the first change and applied under one write lock, so a reader sees all of
//! it or nothing; `epoch` only grows; nothing waits while the lock is held.

use std::collections::BTreeMap;
use std::ops::Bound;

use aether_core::role::{Batch, Epoch, KeyRange, MetaCapability, MetaStore, Op, Seq, Table};
use aether_core::{Error, Result, Role};
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::RwLock;

const CAPABILITY: MetaCapability = MetaCapability {
    key_bytes_max: 4 << 10,
    value_bytes_max: 64 << 20,
    batch_bytes_max: 256 << 20,
    persistent: false,
};

#[derive(Debug, Default)]
struct State {
    tables: [BTreeMap<Bytes, Bytes>; Table::ALL.len()],
    epoch: u64,
    seq: u64,
    closed: bool,
}

impl State {
    fn table(&self, table: Table) -> &BTreeMap<Bytes, Bytes> {
        &self.tables[table as usize]
    }

    fn open(&self, operation: &'static str) -> Result<()> {
        if self.closed {
            return Err(at(
                Error::closed("the store was closed; open it again"),
                operation,
            ));
        }
        Ok(())
    }
}

/// A [`MetaStore`] in RAM.
///
/// **Durability**: none; `durable` returns at once and nothing survives the process. **Threads**: readers share a lock, a
/// commit takes it alone for the time of its map operations. **Complexity**: O(log n) for each key.
#[derive(Debug, Default)]
pub struct MemoryMeta {
    state: RwLock<State>,
}

impl MemoryMeta {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }
}

fn at(error: Error, operation: &'static str) -> Error {
    error.at(Role::Meta, "memory", operation)
}

#[async_trait]
impl MetaStore for MemoryMeta {
    async fn claim(&self) -> Result<Epoch> {
        let mut state = self.state.write();
        state.open("claim")?;
        state.epoch += 1;
        Ok(Epoch(state.epoch))
    }

    async fn get(&self, table: Table, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>> {
        let state = self.state.read();
        state.open("get")?;
        let map = state.table(table);
        Ok(keys.iter().map(|key| map.get(key).cloned()).collect())
    }

    async fn scan(
        &self,
        table: Table,
        range: KeyRange,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>> {
        let state = self.state.read();
        state.open("scan")?;
        // `BTreeMap::range` panics on a reversed range.
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let bounds: (Bound<Bytes>, Bound<Bytes>) = (range.start, range.end);
        let pairs = state.table(table).range(bounds).take(limit);
        Ok(pairs.map(|(k, v)| (k.clone(), v.clone())).collect())
    }

    async fn commit(&self, batch: Batch) -> Result<Seq> {
        CAPABILITY.check(&batch).map_err(|e| at(e, "commit"))?;
        let mut state = self.state.write();
        state.open("commit")?;
        if batch.epoch.0 != state.epoch {
            return Err(at(
                Error::fenced(format!(
                    "epoch: expected {}, got {}; another writer has claimed the store",
                    state.epoch, batch.epoch.0
                )),
                "commit",
            ));
        }
        for required in &batch.preconditions {
            let found = state.table(required.table).get(&required.key);
            if found != required.value.as_ref() {
                return Err(at(required.conflict(found.map(|v| &v[..])), "commit"));
            }
        }
        for op in batch.ops {
            match op {
                Op::Put(table, key, value) => {
                    state.tables[table as usize].insert(key, value);
                }
                Op::Delete(table, key) => {
                    state.tables[table as usize].remove(&key);
                }
            }
        }
        state.seq += 1;
        Ok(Seq(state.seq))
    }

    async fn durable(&self, _seq: Seq) -> Result<()> {
        self.state.read().open("durable")
    }

    fn capability(&self) -> MetaCapability {
        CAPABILITY
    }

    async fn close(&self) -> Result<()> {
        let mut state = self.state.write();
        state.open("close")?;
        state.tables = Default::default();
        state.closed = true;
        Ok(())
    }
}

//! Ordered key-value tables with atomic, conditional batches and one fenced writer: the single source of truth.

use std::fmt;
use std::ops::Bound;

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::{Error, Result};

/// The engine's tables. Every store keeps them apart; keys are compared as unsigned bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Table {
    /// Point id key to its current row.
    Points,
    /// Row to its full record, vector and payload included: rows whose home is the metadata store.
    Fresh,
    /// Row to its stub: rows whose home is a segment.
    Cold,
    /// Rows of `Cold` that are resident in the hot index.
    Resident,
    /// The manifest: segment to its blob and figures.
    Segments,
    /// Rows in a segment that no longer live.
    Dead,
    /// Migrations in flight.
    Intents,
    /// Identity, counters, centroids, policy state.
    State,
}

impl Table {
    /// All tables.
    pub const ALL: [Table; 8] = [
        Table::Points,
        Table::Fresh,
        Table::Cold,
        Table::Resident,
        Table::Segments,
        Table::Dead,
        Table::Intents,
        Table::State,
    ];

    /// The table's stable name on disk.
    pub fn name(self) -> &'static str {
        match self {
            Self::Points => "points",
            Self::Fresh => "fresh",
            Self::Cold => "cold",
            Self::Resident => "resident",
            Self::Segments => "segments",
            Self::Dead => "dead",
            Self::Intents => "intents",
            Self::State => "state",
        }
    }
}

/// The writer's number: each [`MetaStore::claim`] gives a larger one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Epoch(pub u64);

/// The number of a commit: later commits have larger ones. Comparable within one epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Seq(pub u64);

/// One change of a batch. Within a batch later ones win.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Sets a key.
    Put(Table, Bytes, Bytes),
    /// Removes a key; nothing happens if it is not there.
    Delete(Table, Bytes),
}

/// What must hold just before a batch is applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Precondition {
    /// Table of the key.
    pub table: Table,
    /// The key.
    pub key: Bytes,
    /// The value that it must have; `None`: the key must be absent.
    pub value: Option<Bytes>,
}

impl Precondition {
    /// The `Conflict` for a key that holds something else.
    pub fn conflict(&self, found: Option<&[u8]>) -> Error {
        let say = |value: Option<&[u8]>| {
            value.map_or_else(
                || "no value".to_owned(),
                |v| format!("a value of {} bytes", v.len()),
            )
        };
        let differs = self.value.is_some() && found.is_some();
        Error::conflict(format!(
            "precondition: expected {}, got {}{}",
            say(self.value.as_deref()),
            say(found),
            if differs { " that differs" } else { "" }
        ))
        .with("table", self.table.name())
        .with("key", self.key.escape_ascii())
    }
}

/// Changes that happen together or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The writer's epoch.
    pub epoch: Epoch,
    /// All must hold.
    pub preconditions: Vec<Precondition>,
    /// The changes in order.
    pub ops: Vec<Op>,
}

impl Batch {
    /// An empty batch of a writer.
    pub fn new(epoch: Epoch) -> Self {
        Self {
            epoch,
            preconditions: Vec::new(),
            ops: Vec::new(),
        }
    }

    /// Adds a put.
    pub fn put(&mut self, table: Table, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.ops.push(Op::Put(table, key.into(), value.into()));
    }

    /// Adds a delete.
    pub fn delete(&mut self, table: Table, key: impl Into<Bytes>) {
        self.ops.push(Op::Delete(table, key.into()));
    }

    /// Adds a precondition.
    pub fn require(&mut self, table: Table, key: impl Into<Bytes>, value: Option<Bytes>) {
        self.preconditions.push(Precondition {
            table,
            key: key.into(),
            value,
        });
    }

    /// Bytes of all keys and values.
    pub fn bytes(&self) -> usize {
        self.ops
            .iter()
            .map(|op| match op {
                Op::Put(_, k, v) => k.len() + v.len(),
                Op::Delete(_, k) => k.len(),
            })
            .sum()
    }
}

/// A range of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    /// Where it begins.
    pub start: Bound<Bytes>,
    /// Where it ends.
    pub end: Bound<Bytes>,
}

impl KeyRange {
    /// Every key.
    pub fn all() -> Self {
        Self {
            start: Bound::Unbounded,
            end: Bound::Unbounded,
        }
    }

    /// Every key greater than `key`: the next page of a scan.
    pub fn after(key: Bytes) -> Self {
        Self {
            start: Bound::Excluded(key),
            end: Bound::Unbounded,
        }
    }

    /// Every key that starts with `prefix`.
    pub fn prefix(prefix: &[u8]) -> Self {
        let mut end = prefix.to_vec();
        while end.last() == Some(&0xff) {
            end.pop();
        }
        let end = match end.last_mut() {
            Some(last) => {
                *last += 1;
                Bound::Excluded(Bytes::from(end))
            }
            None => Bound::Unbounded,
        };
        Self {
            start: Bound::Included(Bytes::copy_from_slice(prefix)),
            end,
        }
    }

    /// Whether no key can lie inside, as when the start is beyond the end.
    pub fn is_empty(&self) -> bool {
        use Bound::{Excluded, Included};
        match (&self.start, &self.end) {
            (Included(s), Included(e)) => s > e,
            (Included(s) | Excluded(s), Excluded(e)) | (Excluded(s), Included(e)) => s >= e,
            (Bound::Unbounded, Excluded(e)) => e.is_empty(),
            _ => false,
        }
    }
}

/// What a metadata store can do; the engine splits what is larger and refuses what cannot be split.
#[derive(Clone, Copy, Debug)]
pub struct MetaCapability {
    /// Longest key in bytes; at least 1,024.
    pub key_bytes_max: usize,
    /// Largest value in bytes; at least 1 MiB.
    pub value_bytes_max: usize,
    /// Largest batch in bytes of keys and values; at least 8 MiB.
    pub batch_bytes_max: usize,
    /// Whether anything survives the process.
    pub persistent: bool,
}

impl MetaCapability {
    /// Refuses a batch with an empty key or anything beyond these limits: what every store asks before it queues one.
    ///
    /// # Errors
    /// `InvalidInput` for an empty key, `Capacity` for a key, value or batch that is too large.
    pub fn check(&self, batch: &Batch) -> Result<()> {
        let ops = batch.ops.iter().map(|op| match op {
            Op::Put(table, key, value) => (*table, key, value.len()),
            Op::Delete(table, key) => (*table, key, 0),
        });
        let required = batch.preconditions.iter().map(|p| (p.table, &p.key, 0));
        for (table, key, value_len) in ops.chain(required) {
            if key.is_empty() {
                return Err(Error::invalid_input(format!(
                    "key: expected 1 to {} bytes, got none",
                    self.key_bytes_max
                ))
                .with("table", table.name()));
            }
            for (what, len, max) in [
                ("key", key.len(), self.key_bytes_max),
                ("value", value_len, self.value_bytes_max),
            ] {
                if len > max {
                    return Err(Error::capacity(format!(
                        "{what}: expected at most {max} bytes, got {len}; split or shorten it"
                    ))
                    .with("table", table.name()));
                }
            }
        }
        let (len, max) = (batch.bytes(), self.batch_bytes_max);
        if len > max {
            return Err(Error::capacity(format!(
                "batch: expected at most {max} bytes, got {len}; split it"
            )));
        }
        Ok(())
    }
}

/// Ordered key-value tables with atomic, conditional batches and one fenced writer.
///
/// Shaped so that a local file (redb), a log on object storage and a transactional cluster all fit.
///
/// **Consistency.** `get` and `scan` see every batch whose `commit` returned, and each batch wholly or not at all within
/// one call. **Repetition** is the caller's affair: a commit whose outcome is unknown (`Retry::Unknown`) is looked up by
/// reading what it would have written. **Threads.** Reads may run at once and beside a commit; commits queue. No method
/// blocks an async worker. **Integrity.** A value that is not what was written is `Corrupt`, never returned.
/// **After a failed sync** the store answers `Poisoned` to `commit` and `durable` until it is reopened.
#[async_trait]
pub trait MetaStore: fmt::Debug + Send + Sync + 'static {
    /// Becomes the only writer, durably: a commit of any former epoch, in this process or another, fails `Fenced`.
    /// Epochs only grow, also across reopening.
    async fn claim(&self) -> Result<Epoch>;

    /// The values of many keys of one table, in the order asked.
    async fn get(&self, table: Table, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>>;

    /// Up to `limit` pairs of a range in key order. An empty or reversed range gives nothing.
    async fn scan(
        &self,
        table: Table,
        range: KeyRange,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>>;

    /// Applies a batch: all of it, under its preconditions and epoch, visible on return; or an error and nothing of it.
    /// Durable only after [`MetaStore::durable`] (or earlier, as the store likes).
    ///
    /// # Errors
    /// `Conflict` naming the key of the first precondition that failed. `Fenced` for a former epoch. `Capacity` beyond the
    /// declared limits or a full disk. `Poisoned` after a failed sync.
    async fn commit(&self, batch: Batch) -> Result<Seq>;

    /// Returns when every commit up to `seq` survives a power cut.
    async fn durable(&self, seq: Seq) -> Result<()>;

    /// Declared limits.
    fn capability(&self) -> MetaCapability;

    /// Makes everything durable and gives up files and locks; later calls answer `Closed`. `Drop` promises nothing.
    async fn close(&self) -> Result<()>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_range_ends_where_the_prefix_does() {
        let end = |p: &[u8]| KeyRange::prefix(p).end;
        assert_eq!(end(b"ab"), Bound::Excluded(Bytes::from_static(b"ac")));
        assert_eq!(end(b"a\xff"), Bound::Excluded(Bytes::from_static(b"b")));
        assert_eq!(end(b"\xff\xff"), Bound::Unbounded);
        assert_eq!(end(b""), Bound::Unbounded);
    }
}

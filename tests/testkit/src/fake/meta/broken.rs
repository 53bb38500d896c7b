//! Stores that are wrong on purpose, one fault each, to prove that the suite finds it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use aether_core::role::{Batch, Epoch, KeyRange, MetaCapability, MetaStore, Op, Seq, Table};
use aether_core::{Error, ErrorKind, Result};
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;

use super::StrictMeta;

/// The one thing that is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each name is its description")]
pub enum Break {
    Nothing,
    CommitsInTwoHalves,
    AppliesBeforePreconditions,
    IgnoresPreconditions,
    LooksAtValuesOnly,
    ConflictWithoutKey,
    FirstOperationWins,
    EpochNeverGrows,
    DoesNotFence,
    EpochRestarts,
    GetSorts,
    GetDropsDuplicates,
    ScanIgnoresLimit,
    ScanIgnoresEnd,
    ScanStartsInclusive,
    ScanBackwards,
    MixesTables,
    AcceptsEmptyKeys,
    AcceptsOversize,
    RefusesLargeValues,
    TreatsEmptyAsAbsent,
    ForgetsOnReopen,
    DurableDoesNothing,
    CloseLosesWrites,
    AnswersAfterClose,
    SeqStandsStill,
    VisibleLater,
    RefusedBatchLeavesOps,
    PreconditionsSeeOwnOperations,
    TwoHolders,
    LimitsTooSmall,
    KillLeavesHalfABatch,
    LosesRaces,
    ReadOnlyWrites,
}

impl Break {
    /// Every fault.
    pub const ALL: [Break; 33] = {
        use Break::*;
        [
            CommitsInTwoHalves,
            AppliesBeforePreconditions,
            IgnoresPreconditions,
            LooksAtValuesOnly,
            ConflictWithoutKey,
            FirstOperationWins,
            EpochNeverGrows,
            DoesNotFence,
            EpochRestarts,
            GetSorts,
            GetDropsDuplicates,
            ScanIgnoresLimit,
            ScanIgnoresEnd,
            ScanStartsInclusive,
            ScanBackwards,
            MixesTables,
            AcceptsEmptyKeys,
            AcceptsOversize,
            RefusesLargeValues,
            TreatsEmptyAsAbsent,
            ForgetsOnReopen,
            DurableDoesNothing,
            CloseLosesWrites,
            AnswersAfterClose,
            SeqStandsStill,
            VisibleLater,
            RefusedBatchLeavesOps,
            PreconditionsSeeOwnOperations,
            TwoHolders,
            LimitsTooSmall,
            KillLeavesHalfABatch,
            LosesRaces,
            ReadOnlyWrites,
        ]
    };
}

/// What each folder holds, and who holds it.
type Disks = BTreeMap<PathBuf, (StrictMeta, Weak<Broken>)>;

/// Broken stores that share folders: what one leaves, a reopening finds.
#[derive(Clone, Debug, Default)]
pub struct BrokenMeta {
    fault: Option<Break>,
    disks: Arc<Mutex<Disks>>,
}

impl BrokenMeta {
    /// A family of stores with one fault.
    pub fn new(fault: Break) -> Self {
        Self {
            fault: Some(fault),
            disks: Arc::default(),
        }
    }

    /// Opens the store of a folder; what an earlier handle of it did not make durable is lost, as after a crash.
    ///
    /// # Errors
    /// `Locked` while an earlier handle is neither closed nor dropped.
    pub fn open(&self, dir: &Path) -> Result<Arc<dyn MetaStore>> {
        let fault = self.fault.unwrap_or(Break::Nothing);
        let mut disks = self.disks.lock();
        let disk = match disks.get(dir) {
            Some((disk, holder))
                if holder.strong_count() > 0 && !disk.is_closed() && fault != Break::TwoHolders =>
            {
                return Err(Error::locked("another handle holds the folder"));
            }
            Some(_) if fault == Break::ForgetsOnReopen => StrictMeta::new(),
            Some((disk, _)) if fault == Break::KillLeavesHalfABatch => disk.crash_torn(),
            Some((disk, _)) => disk.crash(),
            None => StrictMeta::new(),
        };
        let store = Arc::new(Broken {
            fault,
            inner: disk.clone(),
            late: Mutex::new(None),
            claims: AtomicU64::new(0),
            reads: AtomicU64::new(0),
        });
        disks.insert(dir.to_owned(), (disk, Arc::downgrade(&store)));
        Ok(store)
    }
}

#[derive(Debug)]
struct Broken {
    fault: Break,
    inner: StrictMeta,
    late: Mutex<Option<Vec<Op>>>,
    claims: AtomicU64,
    reads: AtomicU64,
}

impl Broken {
    fn is(&self, fault: Break) -> bool {
        self.fault == fault
    }

    /// The epoch that the inner store will take, whatever the caller's is.
    async fn current(&self) -> Result<Epoch> {
        // Every epoch the inner store gave was given through this handle or before it; try upwards.
        for epoch in 0..1_000 {
            match self.inner.commit(Batch::new(Epoch(epoch))).await {
                Ok(_) => return Ok(Epoch(epoch)),
                Err(e) if e.is_fenced() => {}
                Err(e) => return Err(e),
            }
        }
        Err(Error::internal("no epoch fits"))
    }

    async fn force(&self, ops: Vec<Op>) -> Result<Seq> {
        let mut batch = Batch::new(self.current().await?);
        batch.ops = ops;
        self.inner.commit(batch).await
    }
}

#[async_trait]
impl MetaStore for Broken {
    async fn claim(&self) -> Result<Epoch> {
        let epoch = self.inner.claim().await?;
        let n = self.claims.fetch_add(1, Ordering::SeqCst);
        Ok(match self.fault {
            Break::EpochNeverGrows => Epoch(1),
            Break::EpochRestarts => Epoch(n + 1),
            _ => epoch,
        })
    }

    async fn get(&self, table: Table, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>> {
        let mut keys = keys.to_vec();
        match self.fault {
            Break::GetSorts => keys.sort(),
            Break::GetDropsDuplicates => keys.dedup(),
            _ => {}
        }
        let table = if self.is(Break::MixesTables) && table == Table::Dead {
            Table::Cold
        } else {
            table
        };
        let mut found = match self.inner.get(table, &keys).await {
            Err(e) if e.is_closed() && self.is(Break::AnswersAfterClose) => vec![None; keys.len()],
            other => other?,
        };
        self.reads.fetch_add(1, Ordering::SeqCst);
        if self.is(Break::TreatsEmptyAsAbsent) {
            found
                .iter_mut()
                .for_each(|v| *v = v.take().filter(|v| !v.is_empty()));
        }
        Ok(found)
    }

    async fn scan(
        &self,
        table: Table,
        mut range: KeyRange,
        mut limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>> {
        use std::ops::Bound;
        match self.fault {
            Break::ScanIgnoresLimit => limit = usize::MAX,
            Break::ScanIgnoresEnd => range.end = Bound::Unbounded,
            Break::ScanStartsInclusive => {
                if let Bound::Excluded(key) = range.start {
                    range.start = Bound::Included(key);
                }
            }
            _ => {}
        }
        let mut pairs = self.inner.scan(table, range, limit).await?;
        self.reads.fetch_add(1, Ordering::SeqCst);
        if self.is(Break::ScanBackwards) {
            pairs.reverse();
        }
        Ok(pairs)
    }

    async fn commit(&self, mut batch: Batch) -> Result<Seq> {
        if let Some(late) = self.late.lock().take() {
            batch.ops.splice(0..0, late);
        }
        let ops = batch.ops.clone();
        match self.fault {
            Break::CommitsInTwoHalves if batch.ops.len() > 1 => {
                let second = batch.ops.split_off(batch.ops.len() / 2);
                let epoch = batch.epoch;
                self.inner.commit(batch).await?;
                // Leaves the half open until a reader has looked, if there is one.
                let seen = self.reads.load(Ordering::SeqCst);
                for _ in 0..2_000 {
                    if self.reads.load(Ordering::SeqCst) != seen {
                        break;
                    }
                    tokio::task::yield_now().await;
                }
                let mut rest = Batch::new(epoch);
                rest.ops = second;
                return self.inner.commit(rest).await;
            }
            Break::IgnoresPreconditions => batch.preconditions.clear(),
            Break::PreconditionsSeeOwnOperations => batch.preconditions.retain(|p| {
                !ops.iter().any(|op| match op {
                    Op::Put(table, key, value) => {
                        (*table, key, Some(value)) == (p.table, &p.key, p.value.as_ref())
                    }
                    Op::Delete(..) => false,
                })
            }),
            Break::LosesRaces if !batch.preconditions.is_empty() => {
                let mut check = Batch::new(batch.epoch);
                check.preconditions = std::mem::take(&mut batch.preconditions);
                self.inner.commit(check).await?;
                for _ in 0..3 {
                    tokio::task::yield_now().await;
                }
            }
            Break::LooksAtValuesOnly => batch.preconditions.retain(|p| p.value.is_some()),
            Break::AppliesBeforePreconditions => {
                let mut first = Batch::new(batch.epoch);
                first.ops.clone_from(&batch.ops);
                self.inner.commit(first).await?;
            }
            Break::FirstOperationWins => batch.ops.reverse(),
            Break::DoesNotFence | Break::EpochNeverGrows | Break::EpochRestarts => {
                batch.epoch = self.current().await?;
            }
            Break::AcceptsEmptyKeys => batch.ops.retain(|op| match op {
                Op::Put(_, key, _) | Op::Delete(_, key) => !key.is_empty(),
            }),
            Break::AcceptsOversize => batch.ops.retain(|op| match op {
                Op::Put(_, key, value) => key.len() <= 1 << 10 && value.len() <= 1 << 20,
                Op::Delete(..) => true,
            }),
            Break::RefusesLargeValues if batch.bytes() > 1_000_000 => {
                return Err(Error::capacity("too large for me"));
            }
            Break::MixesTables => batch.ops.iter_mut().for_each(|op| {
                let (Op::Put(table, ..) | Op::Delete(table, _)) = op;
                if *table == Table::Dead {
                    *table = Table::Cold;
                }
            }),
            Break::VisibleLater if batch.preconditions.is_empty() => {
                *self.late.lock() = Some(std::mem::take(&mut batch.ops));
            }
            _ => {}
        }
        match self.inner.commit(batch).await {
            Ok(_) if self.is(Break::SeqStandsStill) => Ok(Seq(1)),
            Err(e) if e.is_conflict() && self.is(Break::ConflictWithoutKey) => {
                Err(Error::new(ErrorKind::Conflict, "something did not hold"))
            }
            Err(e) if e.is_capacity() && self.is(Break::RefusedBatchLeavesOps) => {
                let fits = |op: &Op| matches!(op, Op::Put(_, _, v) if v.len() < 1 << 10);
                self.force(ops.into_iter().filter(fits).collect()).await?;
                Err(e)
            }
            other => other,
        }
    }

    async fn durable(&self, seq: Seq) -> Result<()> {
        match self.fault {
            Break::DurableDoesNothing => Ok(()),
            Break::SeqStandsStill => self.inner.durable(Seq(u64::MAX)).await,
            _ => self.inner.durable(seq).await,
        }
    }

    fn capability(&self) -> MetaCapability {
        let mut limits = self.inner.capability();
        if self.is(Break::LimitsTooSmall) {
            limits.value_bytes_max = 1_000;
        }
        limits
    }

    async fn close(&self) -> Result<()> {
        if self.is(Break::CloseLosesWrites) {
            return self.inner.close_losing();
        }
        self.inner.close().await
    }
}

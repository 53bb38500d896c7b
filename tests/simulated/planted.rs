//! Mistakes of what stands between a memory and its disk, which the tests of faults must find.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use aether::role::{
    Batch, BlobInfo, ColdStore, Epoch, KeyRange, MetaCapability, MetaStore, Seq, Table,
};
use aether::{BlobKey, Error, Result};
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;

use crate::ground::Layer;

/// A mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mistake {
    /// A commit that failed is told as done.
    CommitsInWords,
    /// A put that failed is told as done.
    PutsInWords,
    /// One in five looks for points finds none.
    Forgets,
    /// A read that failed once fails for ever.
    HoldsAGrudge,
    /// The second half of what is read is zero: nobody went on reading.
    GivesHalf,
    /// Who asks whether a table holds anything is told that it does not.
    SeemsEmpty,
}

/// A store with a mistake.
#[derive(Debug)]
struct Planted<S: ?Sized> {
    mistake: Mistake,
    calls: AtomicU64,
    /// The last commit that was one.
    last: Mutex<Seq>,
    grudge: Mutex<Vec<BlobKey>>,
    store: Arc<S>,
}

impl<S: ?Sized> Planted<S> {
    fn new(mistake: Mistake, store: Arc<S>) -> Arc<Self> {
        Arc::new(Self {
            mistake,
            calls: AtomicU64::new(0),
            last: Mutex::new(Seq(0)),
            grudge: Mutex::default(),
            store,
        })
    }
}

/// The mistake in every life.
pub(crate) fn layer(mistake: Mistake) -> Layer {
    Arc::new(move |_, meta, cold, _| (Planted::new(mistake, meta), Planted::new(mistake, cold)))
}

#[async_trait]
impl MetaStore for Planted<dyn MetaStore> {
    async fn claim(&self) -> Result<Epoch> {
        self.store.claim().await
    }

    async fn get(&self, table: Table, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>> {
        let got = self.store.get(table, keys).await?;
        if self.mistake == Mistake::Forgets
            && table == Table::Points
            && self.calls.fetch_add(1, SeqCst) % 5 == 4
        {
            return Ok(vec![None; got.len()]);
        }
        Ok(got)
    }

    async fn scan(
        &self,
        table: Table,
        range: KeyRange,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>> {
        if self.mistake == Mistake::SeemsEmpty && limit == 1 {
            return Ok(Vec::new());
        }
        self.store.scan(table, range, limit).await
    }

    async fn commit(&self, batch: Batch) -> Result<Seq> {
        match self.store.commit(batch).await {
            Ok(seq) => {
                *self.last.lock() = seq;
                Ok(seq)
            }
            Err(_) if self.mistake == Mistake::CommitsInWords => Ok(*self.last.lock()),
            Err(error) => Err(error),
        }
    }

    async fn durable(&self, seq: Seq) -> Result<()> {
        match self.store.durable(seq).await {
            Err(_) if self.mistake == Mistake::CommitsInWords => Ok(()),
            done => done,
        }
    }

    fn capability(&self) -> MetaCapability {
        self.store.capability()
    }

    async fn close(&self) -> Result<()> {
        self.store.close().await
    }
}

#[async_trait]
impl ColdStore for Planted<dyn ColdStore> {
    async fn put(&self, key: &BlobKey, data: Bytes) -> Result<()> {
        match self.store.put(key, data).await {
            Err(_) if self.mistake == Mistake::PutsInWords => Ok(()),
            done => done,
        }
    }

    async fn read(&self, key: &BlobKey, ranges: &[Range<u64>]) -> Result<Option<Vec<Bytes>>> {
        if self.grudge.lock().contains(key) {
            return Err(Error::unavailable("injected: it failed before"));
        }
        let read = self.store.read(key, ranges).await;
        if read.is_err() && self.mistake == Mistake::HoldsAGrudge {
            self.grudge.lock().push(key.clone());
        }
        if self.mistake != Mistake::GivesHalf {
            return read;
        }
        let half = |bytes: Bytes| {
            let mut bytes = bytes.to_vec();
            let middle = bytes.len().div_ceil(2);
            bytes[middle..].fill(0);
            Bytes::from(bytes)
        };
        Ok(read?.map(|all| all.into_iter().map(half).collect()))
    }

    async fn size(&self, key: &BlobKey) -> Result<Option<u64>> {
        self.store.size(key).await
    }

    async fn delete(&self, key: &BlobKey) -> Result<()> {
        self.store.delete(key).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<BlobInfo>> {
        self.store.list(prefix).await
    }
}

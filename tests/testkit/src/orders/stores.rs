//! Stores whose every call waits for its turn, before its effect and again before its reply.

use std::ops::Range;
use std::sync::Arc;

use aether_core::role::{
    Batch, BlobInfo, ColdStore, Epoch, KeyRange, MetaCapability, MetaStore, Seq, Table,
};
use aether_core::{BlobKey, Result};
use async_trait::async_trait;
use bytes::Bytes;

use super::turns::Turns;

/// A store that asks [`Turns`] before each effect and before each reply.
#[derive(Debug)]
pub struct InTurn<S> {
    inner: S,
    turns: Turns,
}

impl<S> InTurn<S> {
    /// Lets `turns` decide about the calls of `inner`.
    pub fn new(inner: S, turns: &Turns) -> Self {
        Self {
            inner,
            turns: turns.clone(),
        }
    }

    async fn run<T>(
        &self,
        [before, after]: [&'static str; 2],
        effect: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        self.turns.turn(before).await;
        let result = effect.await;
        self.turns.turn(after).await;
        result
    }
}

#[async_trait]
impl MetaStore for InTurn<Arc<dyn MetaStore>> {
    async fn claim(&self) -> Result<Epoch> {
        self.run(["claim", "claimed"], self.inner.claim()).await
    }

    async fn get(&self, table: Table, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>> {
        let get = self.inner.get(table, keys);
        self.run(["get", "got"], get).await
    }

    async fn scan(
        &self,
        table: Table,
        range: KeyRange,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>> {
        let scan = self.inner.scan(table, range, limit);
        self.run(["scan", "scanned"], scan).await
    }

    async fn commit(&self, batch: Batch) -> Result<Seq> {
        let commit = self.inner.commit(batch);
        self.run(["commit", "committed"], commit).await
    }

    async fn durable(&self, seq: Seq) -> Result<()> {
        let durable = self.inner.durable(seq);
        self.run(["sync", "synced"], durable).await
    }

    fn capability(&self) -> MetaCapability {
        self.inner.capability()
    }

    async fn close(&self) -> Result<()> {
        self.run(["close", "closed"], self.inner.close()).await
    }
}

#[async_trait]
impl ColdStore for InTurn<Arc<dyn ColdStore>> {
    async fn put(&self, key: &BlobKey, data: Bytes) -> Result<()> {
        self.run(["put", "put done"], self.inner.put(key, data))
            .await
    }

    async fn read(&self, key: &BlobKey, ranges: &[Range<u64>]) -> Result<Option<Vec<Bytes>>> {
        let read = self.inner.read(key, ranges);
        self.run(["read", "read done"], read).await
    }

    async fn size(&self, key: &BlobKey) -> Result<Option<u64>> {
        self.run(["size", "sized"], self.inner.size(key)).await
    }

    async fn delete(&self, key: &BlobKey) -> Result<()> {
        self.run(["delete", "deleted"], self.inner.delete(key))
            .await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<BlobInfo>> {
        self.run(["list", "listed"], self.inner.list(prefix)).await
    }
}

//! Requests and bytes of the cold store, and what they cost.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use async_trait::async_trait;
use bytes::Bytes;
use serde::Serialize;

use crate::config::RemoteConfig;
use crate::error::{Error, Result};
use crate::id::BlobKey;
use crate::role::{BlobInfo, ColdStore, Usage, UsageCounter};

/// Counts calls, for a store that does not count its requests itself.
#[derive(Debug)]
pub struct Metered {
    inner: Arc<dyn ColdStore>,
    calls: UsageCounter,
}

impl Metered {
    /// Wraps a store.
    pub fn new(inner: Arc<dyn ColdStore>) -> Self {
        let calls = UsageCounter::default();
        Self { inner, calls }
    }
}

#[async_trait]
impl ColdStore for Metered {
    async fn put(&self, key: &BlobKey, data: Bytes) -> Result<()> {
        self.calls.put(data.len() as u64);
        self.inner.put(key, data).await
    }

    async fn read(&self, key: &BlobKey, ranges: &[Range<u64>]) -> Result<Option<Vec<Bytes>>> {
        let bytes = ranges.iter().map(|r| r.end.saturating_sub(r.start)).sum();
        self.calls.get(bytes);
        self.inner.read(key, ranges).await
    }

    async fn size(&self, key: &BlobKey) -> Result<Option<u64>> {
        self.calls.heads.fetch_add(1, Relaxed);
        self.inner.size(key).await
    }

    async fn delete(&self, key: &BlobKey) -> Result<()> {
        self.calls.deletes.fetch_add(1, Relaxed);
        self.inner.delete(key).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<BlobInfo>> {
        self.calls.lists.fetch_add(1, Relaxed);
        self.inner.list(prefix).await
    }

    fn usage(&self) -> Option<Usage> {
        Some(self.inner.usage().unwrap_or_else(|| self.calls.read()))
    }

    fn verified(&self, key: &BlobKey, range: Range<u64>, bytes: &Bytes) {
        self.inner.verified(key, range, bytes);
    }
}

/// What a memory asked of its cold store, and how many searches it answered, since it was created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Ledger {
    /// Requests and bytes.
    pub usage: Usage,
    /// Searches answered.
    pub searches: u64,
    /// Bytes of segments put, by demotions and compactions.
    pub segment_bytes: u64,
    /// Bytes of ids, vectors and payloads that went cold.
    pub demoted_bytes: u64,
}

impl Ledger {
    /// The ledger as it is written down.
    pub(crate) fn encode(&self) -> Bytes {
        serde_json::to_vec(self).unwrap_or_default().into()
    }

    /// # Errors
    /// `Corrupt` when it was not written by [`Ledger::encode`].
    pub(crate) fn decode(value: &[u8]) -> Result<Self> {
        serde_json::from_slice(value)
            .map_err(|e| Error::corrupt("the ledger of requests cannot be read").with_source(e))
    }

    /// This and what came on top.
    pub(crate) fn plus(self, more: Self) -> Self {
        Self {
            usage: self.usage + more.usage,
            searches: self.searches + more.searches,
            segment_bytes: self.segment_bytes + more.segment_bytes,
            demoted_bytes: self.demoted_bytes + more.demoted_bytes,
        }
    }

    /// Bytes put into the cold store for each byte that went cold; `None` before the first.
    pub fn write_amplification(&self) -> Option<f64> {
        (self.demoted_bytes > 0).then(|| self.segment_bytes as f64 / self.demoted_bytes as f64)
    }
}

/// Money, in dollars, by the price table of `[remote]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Dollars {
    /// All reads, questions for lengths, and bytes read, since the memory was created.
    pub reads: f64,
    /// All puts and listings since then.
    pub writes: f64,
    /// What is stored now, kept for a month.
    pub month: f64,
    /// Reads for a thousand searches, those for promotions and compaction included; `None` before the first search.
    pub per_thousand_queries: Option<f64>,
    /// A month's price of what is stored, for each gigabyte (1e9 bytes) of cold vectors as the user gave them; `None` without cold rows.
    pub per_gb_month: Option<f64>,
}

impl Dollars {
    /// The price of a ledger, of `stored` bytes, and of `plain` bytes of vectors in them.
    pub fn of(prices: &RemoteConfig, ledger: &Ledger, stored: u64, plain: u64) -> Self {
        let u = &ledger.usage;
        let reads = (u.gets + u.heads) as f64 / 1e3 * prices.price_get
            + u.read_bytes as f64 / 1e9 * prices.price_transfer;
        let month = stored as f64 / 1e9 * prices.price_month;
        Self {
            reads,
            writes: (u.puts + u.lists) as f64 / 1e3 * prices.price_put,
            month,
            per_thousand_queries: (ledger.searches > 0)
                .then(|| reads / ledger.searches as f64 * 1e3),
            per_gb_month: (plain > 0).then(|| month / (plain as f64 / 1e9)),
        }
    }
}

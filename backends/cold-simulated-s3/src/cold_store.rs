//! The store.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use aether_core::plugin::Role;
use aether_core::role::{BlobInfo, ColdStore, Usage, UsageCounter, runs};
use aether_core::{BlobKey, Error, Result, Retry};
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

use crate::NAME;
use crate::config::SimulatedS3Config;
use crate::latency::Latency;

/// Entries of one page of a listing, as S3 gives them.
const PAGE: usize = 1000;

/// Another store, as slow and as unreliable as object storage.
///
/// **Requests.** `put`, `size` and `delete` one; `read` one for each run of near ranges, all runs at the same time; `list` one for each
/// thousand blobs, one after the other. The length of a blob is taken as known, as `object-store` remembers it.
/// **Time.** A request takes what is drawn for it and then its bytes at the bandwidth, or as long as the store inside if that takes
/// longer. Requests do not slow one another down. Time is tokio's, so that a paused runtime skips it.
#[derive(Debug)]
pub struct SimulatedS3 {
    inner: Arc<dyn ColdStore>,
    read: Latency,
    write: Latency,
    bytes_per_s: f64,
    scale: f64,
    gap: u64,
    errors: f64,
    lost_replies: f64,
    rng: Mutex<fastrand::Rng>,
    usage: UsageCounter,
}

/// What is drawn for a request when it begins.
#[derive(Clone, Copy, Debug)]
struct Fate {
    begun: Instant,
    latency: Duration,
    fails: bool,
    loses_reply: bool,
}

impl SimulatedS3 {
    /// Wraps a store; `seed` counts where the settings have none.
    pub fn new(inner: Arc<dyn ColdStore>, config: &SimulatedS3Config, seed: u64) -> Self {
        Self {
            inner,
            read: Latency::new(config.read_median.0, config.read_p99.0),
            write: Latency::new(config.put_median.0, config.put_p99.0),
            bytes_per_s: config.bandwidth.0 as f64,
            scale: config.scale,
            gap: config.gap.0,
            errors: config.errors,
            lost_replies: config.lost_replies,
            rng: Mutex::new(fastrand::Rng::with_seed(config.seed.unwrap_or(seed))),
            usage: UsageCounter::default(),
        }
    }

    /// Draws always as many numbers, so that a setting does not shift the series.
    fn draw(&self, latency: Latency) -> Fate {
        let mut rng = self.rng.lock();
        Fate {
            begun: Instant::now(),
            latency: latency.draw(&mut rng),
            fails: rng.f64() < self.errors,
            loses_reply: rng.f64() < self.lost_replies,
        }
    }

    async fn wait(&self, fate: Fate, bytes: u64) {
        let transfer = Duration::from_secs_f64(bytes as f64 / self.bytes_per_s);
        let all = (fate.latency + transfer).mul_f64(self.scale);
        if !all.is_zero() {
            sleep_until(fate.begun + all).await;
        }
    }

    async fn refused(&self, fate: Fate, operation: &'static str) -> Result<()> {
        if !fate.fails {
            return Ok(());
        }
        self.wait(fate, 0).await;
        let error = Error::unavailable("simulated: the service asks to slow down");
        Err(error.at(Role::Cold, NAME, operation))
    }

    fn replied(&self, fate: Fate, operation: &'static str) -> Result<()> {
        if !fate.loses_reply {
            return Ok(());
        }
        let error = Error::unavailable("simulated: the reply was lost");
        Err(error
            .with_retry(Retry::Unknown)
            .at(Role::Cold, NAME, operation))
    }
}

#[async_trait]
impl ColdStore for SimulatedS3 {
    async fn put(&self, key: &BlobKey, data: Bytes) -> Result<()> {
        let (fate, bytes) = (self.draw(self.write), data.len() as u64);
        self.usage.put(bytes);
        self.refused(fate, "put").await?;
        let put = self.inner.put(key, data).await;
        self.wait(fate, bytes).await;
        put?;
        self.replied(fate, "put")
    }

    async fn read(&self, key: &BlobKey, ranges: &[Range<u64>]) -> Result<Option<Vec<Bytes>>> {
        let runs = runs(ranges, self.gap);
        // An absent blob and a list of empty ranges are found out by one request too.
        let runs = if runs.is_empty() { vec![0..0] } else { runs };
        let fates: Vec<Fate> = runs.iter().map(|_| self.draw(self.read)).collect();
        for run in &runs {
            self.usage.get(run.end - run.start);
        }
        if let Some(fate) = fates.iter().find(|f| f.fails) {
            self.refused(*fate, "read").await?;
        }
        let read = self.inner.read(key, ranges).await;
        let found = matches!(read, Ok(Some(_)));
        let waits = runs.iter().zip(fates).map(|(run, fate)| {
            let bytes = if found { run.end - run.start } else { 0 };
            self.wait(fate, bytes)
        });
        futures::future::join_all(waits).await;
        read
    }

    async fn size(&self, key: &BlobKey) -> Result<Option<u64>> {
        let fate = self.draw(self.read);
        self.usage.heads.fetch_add(1, Relaxed);
        self.refused(fate, "size").await?;
        let size = self.inner.size(key).await;
        self.wait(fate, 0).await;
        size
    }

    async fn delete(&self, key: &BlobKey) -> Result<()> {
        let fate = self.draw(self.write);
        self.usage.deletes.fetch_add(1, Relaxed);
        self.refused(fate, "delete").await?;
        let deleted = self.inner.delete(key).await;
        self.wait(fate, 0).await;
        deleted?;
        self.replied(fate, "delete")
    }

    async fn list(&self, prefix: &str) -> Result<Vec<BlobInfo>> {
        let listed = self.inner.list(prefix).await?;
        for _ in 0..listed.len().div_ceil(PAGE).max(1) {
            let fate = self.draw(self.read);
            self.usage.lists.fetch_add(1, Relaxed);
            self.refused(fate, "list").await?;
            self.wait(fate, 0).await;
        }
        Ok(listed)
    }

    fn usage(&self) -> Option<Usage> {
        Some(self.usage.read())
    }

    fn verified(&self, key: &BlobKey, range: Range<u64>, bytes: &Bytes) {
        self.inner.verified(key, range, bytes);
    }
}

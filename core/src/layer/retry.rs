//! What failed for now is tried again after a pause.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::sleep;

use super::LayerCounts;
use crate::config::RemoteConfig;
use crate::error::{Error, Result, Retry};
use crate::id::BlobKey;
use crate::role::{BlobInfo, ColdStore, Usage};

/// Repeats calls by their error's class.
///
/// | class | read, size, list, delete | put |
/// |---|---|---|
/// | `Later`: nothing happened | repeated | repeated |
/// | `Unknown`: the reply was lost | repeated, for they repeat harmlessly | passed on: the engine looks it up |
/// | `Never` | passed on | passed on |
///
/// Only `Unavailable` is repeated: a full disk or a conflict does not pass by itself. The pause is drawn evenly between nothing and
/// `retry_pause * 2^n`, at most `retry_pause_max` ("full jitter": Brooker, "Exponential backoff and jitter", 2015), and is not
/// shorter than what the store asks for.
#[derive(Debug)]
pub struct Retried {
    inner: Arc<dyn ColdStore>,
    retries: u32,
    pause: Duration,
    pause_max: Duration,
    rng: Mutex<fastrand::Rng>,
    counts: Arc<LayerCounts>,
}

impl Retried {
    /// Wraps a store.
    pub fn new(
        inner: Arc<dyn ColdStore>,
        config: &RemoteConfig,
        seed: u64,
        counts: Arc<LayerCounts>,
    ) -> Self {
        Self {
            inner,
            retries: config.retries,
            pause: config.retry_pause.0,
            pause_max: config.retry_pause_max.0,
            rng: Mutex::new(fastrand::Rng::with_seed(seed)),
            counts,
        }
    }

    fn pause(&self, tried: u32, error: &Error) -> Duration {
        let most = self.pause.saturating_mul(1 << tried.min(20));
        let share = self.rng.lock().f64();
        let drawn = most.min(self.pause_max).mul_f64(share);
        drawn.max(error.retry_after().unwrap_or_default())
    }

    /// Waits for the next try of a call that failed, or hands the failure back.
    async fn again(&self, tried: &mut u32, repeats_harmlessly: bool, error: Error) -> Result<()> {
        let passes = match error.retry() {
            Retry::Later => true,
            Retry::Unknown => repeats_harmlessly,
            Retry::Never => false,
        };
        if !passes || !error.is_unavailable() || *tried == self.retries {
            return Err(error);
        }
        self.counts.retried.fetch_add(1, Relaxed);
        sleep(self.pause(*tried, &error)).await;
        *tried += 1;
        Ok(())
    }
}

/// Makes a call until it succeeds or is given up.
macro_rules! repeat {
    ($self:ident, $repeats_harmlessly:literal, $call:expr) => {{
        let mut tried = 0;
        loop {
            match $call.await {
                Ok(answer) => return Ok(answer),
                Err(error) => $self.again(&mut tried, $repeats_harmlessly, error).await?,
            }
        }
    }};
}

#[async_trait]
impl ColdStore for Retried {
    async fn put(&self, key: &BlobKey, data: Bytes) -> Result<()> {
        repeat!(self, false, self.inner.put(key, data.clone()))
    }

    async fn read(&self, key: &BlobKey, ranges: &[Range<u64>]) -> Result<Option<Vec<Bytes>>> {
        repeat!(self, true, self.inner.read(key, ranges))
    }

    async fn size(&self, key: &BlobKey) -> Result<Option<u64>> {
        repeat!(self, true, self.inner.size(key))
    }

    async fn delete(&self, key: &BlobKey) -> Result<()> {
        repeat!(self, true, self.inner.delete(key))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<BlobInfo>> {
        repeat!(self, true, self.inner.list(prefix))
    }

    fn usage(&self) -> Option<Usage> {
        self.inner.usage()
    }

    fn verified(&self, key: &BlobKey, range: Range<u64>, bytes: &Bytes) {
        self.inner.verified(key, range, bytes);
    }
}

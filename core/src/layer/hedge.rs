//! A read that is late is sent a second time, and the first answer counts ("The Tail at Scale", Dean and Barroso, 2013).

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::{Either, select};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

use super::LayerCounts;
use super::window::Window;
use crate::config::RemoteConfig;
use crate::error::Result;
use crate::id::BlobKey;
use crate::role::{BlobInfo, ColdStore, Usage};

/// Second requests that may come at once after quiet times.
const BURST: f64 = 8.0;

/// Sends a read again that takes longer than a quantile of the last reads.
///
/// Late is what takes longer than `hedge` of the last 512 reads, and longer than `hedge_after`; nothing is, before 64 reads are known. At most
/// `hedge_share` of all reads are sent again, so that a store that is slow as a whole is not asked for twice as much.
/// A request that was overtaken is dropped; the time it had taken until then counts among the last reads', or the quantile would sink with
/// each overtaking.
#[derive(Debug)]
pub struct Hedged {
    inner: Arc<dyn ColdStore>,
    after: Duration,
    share: f64,
    state: Mutex<State>,
    counts: Arc<LayerCounts>,
}

#[derive(Debug)]
struct State {
    window: Window,
    /// Second requests that may still be sent.
    credit: f64,
}

type Answer = Result<Option<Vec<Bytes>>>;

impl Hedged {
    /// Wraps a store.
    pub fn new(inner: Arc<dyn ColdStore>, config: &RemoteConfig, counts: Arc<LayerCounts>) -> Self {
        Self {
            inner,
            after: config.hedge_after.0,
            share: config.hedge_share,
            state: Mutex::new(State {
                window: Window::new(config.hedge),
                credit: 1.0,
            }),
            counts,
        }
    }

    /// When a read that begins now is late.
    fn late(&self) -> Option<Duration> {
        let mut state = self.state.lock();
        state.credit = (state.credit + self.share).min(BURST);
        state.window.late().map(|late| late.max(self.after))
    }

    fn may_hedge(&self) -> bool {
        let mut state = self.state.lock();
        let may = state.credit >= 1.0;
        state.credit -= f64::from(u8::from(may));
        may
    }

    fn took(&self, time: Duration) {
        self.state.lock().window.add(time);
    }

    /// The answer of a read that was not sent again. Failures are often quick, and would make every good read look late.
    fn alone(&self, begun: Instant, answer: Answer) -> Answer {
        if answer.is_ok() {
            self.took(begun.elapsed());
        }
        answer
    }

    /// The first of two answers that is none of a failure.
    async fn race(
        &self,
        begun: Instant,
        first: impl Future<Output = Answer> + Unpin,
        second: impl Future<Output = Answer> + Unpin,
    ) -> Answer {
        let sent = Instant::now();
        match select(first, second).await {
            Either::Left((Ok(answer), _)) => {
                self.took(begun.elapsed());
                Ok(answer)
            }
            Either::Right((Ok(answer), _)) => {
                self.counts.hedges_won.fetch_add(1, Relaxed);
                self.took(begun.elapsed());
                self.took(sent.elapsed());
                Ok(answer)
            }
            // One failed: what the other says counts, and if that fails too, the first failure.
            Either::Left((Err(failure), second)) => match second.await {
                Ok(answer) => {
                    self.counts.hedges_won.fetch_add(1, Relaxed);
                    self.took(sent.elapsed());
                    Ok(answer)
                }
                Err(_) => Err(failure),
            },
            Either::Right((Err(_), first)) => {
                let answer = first.await;
                self.alone(begun, answer)
            }
        }
    }
}

#[async_trait]
impl ColdStore for Hedged {
    async fn read(&self, key: &BlobKey, ranges: &[Range<u64>]) -> Answer {
        let (begun, late) = (Instant::now(), self.late());
        let mut first = self.inner.read(key, ranges);
        if let Some(late) = late {
            match select(first, Box::pin(sleep_until(begun + late))).await {
                Either::Left((answer, _)) => return self.alone(begun, answer),
                Either::Right(((), waiting)) => first = waiting,
            }
            if self.may_hedge() {
                self.counts.hedged.fetch_add(1, Relaxed);
                let second = self.inner.read(key, ranges);
                return self.race(begun, first, second).await;
            }
        }
        let answer = first.await;
        self.alone(begun, answer)
    }

    async fn put(&self, key: &BlobKey, data: Bytes) -> Result<()> {
        self.inner.put(key, data).await
    }

    async fn size(&self, key: &BlobKey) -> Result<Option<u64>> {
        self.inner.size(key).await
    }

    async fn delete(&self, key: &BlobKey) -> Result<()> {
        self.inner.delete(key).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<BlobInfo>> {
        self.inner.list(prefix).await
    }

    fn usage(&self) -> Option<Usage> {
        self.inner.usage()
    }

    fn verified(&self, key: &BlobKey, range: Range<u64>, bytes: &Bytes) {
        self.inner.verified(key, range, bytes);
    }
}

//! The layers over a store whose every answer is scripted, in virtual time.

#![allow(
    clippy::single_range_in_vec_init,
    reason = "a list of one range is what is meant"
)]

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use super::*;
use crate::error::{Error, Result, Retry};
use crate::id::BlobKey;
use crate::role::{BlobInfo, Usage};

/// What happens to one call: it takes so long, and then succeeds or fails.
type Turn = (u64, Option<Retry>);

/// Answers reads with the number of the request; turns that are not written down take 10 ms and succeed.
#[derive(Debug, Default)]
struct Scripted {
    turns: BTreeMap<u64, Turn>,
    calls: Mutex<u64>,
    done: Mutex<u64>,
}

impl Scripted {
    fn new(turns: impl IntoIterator<Item = (u64, Turn)>) -> Arc<Self> {
        Arc::new(Self {
            turns: turns.into_iter().collect(),
            ..Self::default()
        })
    }

    async fn turn(&self) -> Result<u64> {
        let number = {
            let mut calls = self.calls.lock();
            *calls += 1;
            *calls
        };
        let (ms, fails) = self.turns.get(&number).copied().unwrap_or((10, None));
        sleep(Duration::from_millis(ms)).await;
        *self.done.lock() += 1;
        match fails {
            None => Ok(number),
            Some(retry) => Err(Error::unavailable("scripted").with_retry(retry)),
        }
    }

    fn calls(&self) -> u64 {
        *self.calls.lock()
    }
}

#[async_trait]
impl ColdStore for Scripted {
    async fn put(&self, _: &BlobKey, _: Bytes) -> Result<()> {
        self.turn().await.map(drop)
    }

    async fn read(&self, _: &BlobKey, _: &[std::ops::Range<u64>]) -> Result<Option<Vec<Bytes>>> {
        let number = self.turn().await?;
        Ok(Some(vec![Bytes::from(number.to_le_bytes().to_vec())]))
    }

    async fn size(&self, _: &BlobKey) -> Result<Option<u64>> {
        self.turn().await.map(Some)
    }

    async fn delete(&self, _: &BlobKey) -> Result<()> {
        self.turn().await.map(drop)
    }

    async fn list(&self, _: &str) -> Result<Vec<BlobInfo>> {
        self.turn().await.map(|_| Vec::new())
    }
}

fn key() -> BlobKey {
    BlobKey::new("blob").unwrap()
}

fn config(toml: &str) -> RemoteConfig {
    let text = format!("[remote]\n{toml}\n");
    crate::Config::from_toml(&text).unwrap().remote
}

struct World {
    script: Arc<Scripted>,
    store: Arc<dyn ColdStore>,
    counts: Arc<LayerCounts>,
}

fn world(toml: &str, turns: impl IntoIterator<Item = (u64, Turn)>) -> World {
    let (script, counts) = (Scripted::new(turns), Arc::new(LayerCounts::default()));
    let store = wrap(script.clone(), &config(toml), 7, &counts);
    World {
        script,
        store,
        counts,
    }
}

impl World {
    /// The number of the request that answered, and how long it took.
    async fn read(&self) -> (Result<u64>, u64) {
        let begun = Instant::now();
        let read = self.store.read(&key(), &[0..8]).await;
        let number = read.map(|parts| {
            let parts = parts.unwrap();
            u64::from_le_bytes(parts[0][..].try_into().unwrap())
        });
        (number, begun.elapsed().as_millis() as u64)
    }

    async fn warm_up(&self) {
        for _ in 0..64 {
            self.read().await.0.unwrap();
        }
    }
}

/// After 64 reads of 10 ms, one that is not there after `hedge_after` is sent again, and the quicker answer comes.
#[tokio::test(start_paused = true)]
async fn a_late_read_is_sent_again_and_the_first_answer_counts() {
    let slow = [(10, (500, None)), (65, (500, None)), (67, (21, None))];
    let w = world("hedge_after = \"20ms\"", slow);
    // Nothing is known yet, so the tenth is waited for.
    for n in 1..=64 {
        let expected = if n == 10 { 500 } else { 10 };
        let (number, ms) = w.read().await;
        assert_eq!((number.unwrap(), ms), (n, expected));
    }
    let (number, ms) = w.read().await;
    assert_eq!(
        (number.unwrap(), ms),
        (66, 30),
        "20 ms of waiting and 10 more"
    );
    assert_eq!(w.script.calls(), 66);
    assert_eq!(*w.script.done.lock(), 65, "the loser was dropped");
    // The first is still the quicker one of the two.
    let (number, ms) = w.read().await;
    assert_eq!((number.unwrap(), ms), (67, 21));
    let counts = (
        w.counts.hedged.load(Relaxed),
        w.counts.hedges_won.load(Relaxed),
    );
    assert_eq!(counts, (2, 1));
    let usage = w.store.usage().unwrap();
    assert_eq!(
        (usage.gets, usage.read_bytes),
        (68, 68 * 8),
        "both requests count"
    );
}

/// Of two requests one may fail; only if both do, the read fails, with what the first said.
#[tokio::test(start_paused = true)]
async fn one_failure_of_two_is_no_failure() {
    let turns = [
        (65, (100, Some(Retry::Later))),
        (66, (90, None)),
        (67, (100, None)),
        (68, (10, Some(Retry::Later))),
        (69, (100, Some(Retry::Never))),
        (70, (10, Some(Retry::Later))),
    ];
    let w = world("hedge_share = 1.0", turns);
    w.warm_up().await;
    let (number, ms) = w.read().await;
    assert_eq!((number.unwrap(), ms), (66, 110));
    let (number, ms) = w.read().await;
    assert_eq!((number.unwrap(), ms), (67, 100));
    let (failure, ms) = w.read().await;
    assert_eq!((failure.unwrap_err().retry(), ms), (Retry::Never, 100));
}

/// A store that is slow as a whole is not asked for twice as much: at most the share, and a few at once.
#[tokio::test(start_paused = true)]
async fn second_requests_are_rationed() {
    let w = world("hedge_share = 0.1", (65..1100).map(|n| (n, (1000, None))));
    w.warm_up().await;
    for _ in 0..200 {
        w.read().await.0.unwrap();
    }
    let hedged = w.counts.hedged.load(Relaxed);
    assert!((8..=28).contains(&hedged), "{hedged} of 200");
    // By now a second is the normal pace, and nothing is late.
    let before = w.counts.hedged.load(Relaxed);
    for _ in 0..400 {
        w.read().await.0.unwrap();
    }
    assert_eq!(w.counts.hedged.load(Relaxed), before);
}

#[tokio::test(start_paused = true)]
async fn quick_stores_and_a_quantile_of_zero_see_no_second_request() {
    for toml in ["hedge = 0.0\nhedge_after = \"0us\"", "hedge_after = \"2s\""] {
        let w = world(toml, (65..200).map(|n| (n, (1000, None))));
        w.warm_up().await;
        for _ in 0..20 {
            w.read().await.0.unwrap();
        }
        assert_eq!(w.script.calls(), 84, "{toml}");
    }
}

/// Failures for now are repeated within the pauses' bounds, others are not; an unknown put never is.
#[tokio::test(start_paused = true)]
async fn calls_are_repeated_by_the_class_of_their_failure() {
    const TOML: &str = "retries = 3\nretry_pause = \"100ms\"\nhedge = 0.0";
    let fails = |n: u64, retry| (1..=n).map(move |i| (i, (0, Some(retry))));
    let w = world(TOML, fails(3, Retry::Later));
    let (number, ms) = w.read().await;
    assert_eq!(number.unwrap(), 4);
    assert!(ms <= 10 + 100 + 200 + 400 + 3, "{ms}");
    assert_eq!(w.counts.retried.load(Relaxed), 3);

    let w = world(TOML, fails(4, Retry::Later));
    assert!(w.read().await.0.unwrap_err().is_unavailable());
    assert_eq!(w.script.calls(), 4);

    let w = world(TOML, fails(9, Retry::Never));
    w.read().await.0.unwrap_err();
    assert_eq!(w.script.calls(), 1);

    let w = world(TOML, fails(2, Retry::Unknown));
    w.read().await.0.unwrap();
    let w = world(TOML, fails(2, Retry::Unknown));
    w.store.delete(&key()).await.unwrap();
    let w = world(TOML, fails(1, Retry::Unknown));
    let put = w.store.put(&key(), Bytes::from_static(b"x")).await;
    assert_eq!(put.unwrap_err().retry(), Retry::Unknown);
    assert_eq!(w.script.calls(), 1, "looked up, not sent again");
    let w = world(TOML, fails(1, Retry::Later));
    w.store.put(&key(), Bytes::from_static(b"x")).await.unwrap();
}

/// By hand: 3,000 reads and 1,000 lengths at 0.4 dollars a million, 2 GB at 0.09, 500 puts at 5 a million; 10 GB stored of 20 GB plain.
#[test]
fn prices_are_those_of_the_table() {
    let prices = config("price_transfer = 0.09");
    let usage = Usage {
        gets: 3000,
        heads: 1000,
        puts: 500,
        read_bytes: 2_000_000_000,
        ..Usage::default()
    };
    let ledger = Ledger::default()
        .plus(Ledger {
            usage,
            searches: 400,
            ..Ledger::default()
        })
        .plus(Ledger {
            searches: 100,
            ..Ledger::default()
        });
    let dollars = Dollars::of(&prices, &ledger, 10_000_000_000, 20_000_000_000);
    let near = |a: f64, b: f64| (a - b).abs() < 1e-9;
    assert!(near(dollars.reads, 0.0016 + 0.18), "{dollars:?}");
    assert!(near(dollars.writes, 0.0025), "{dollars:?}");
    assert!(near(dollars.month, 0.23), "{dollars:?}");
    assert!(
        near(dollars.per_thousand_queries.unwrap(), 0.3632),
        "{dollars:?}"
    );
    assert!(near(dollars.per_gb_month.unwrap(), 0.0115), "{dollars:?}");
    assert_eq!(Ledger::decode(&ledger.encode()).unwrap(), ledger);
    assert!(Ledger::decode(b"{").unwrap_err().is_corrupt());
    let none = Dollars::of(&prices, &Ledger::default(), 0, 0);
    assert_eq!(none, Dollars::default());
}

//! Many callers at once: some write their own ids, others move points between the tiers, others search and get. Whatever is
//! settled, that is: not being written from before a search to after it, must be in the answer exactly once, as its last version.
//!
//! `AETHER_SEED` runs one seed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use aether_core::config::SearchMode;
use aether_core::{Memory, Metric, Point, PointId, SearchRequest};
use parking_lot::Mutex;

use common::{DIM, Settings, World};

const WRITERS: u64 = 3;
const IDS_EACH: u64 = 120;
const ROUNDS: u64 = 150;
/// Moves of each mover.
const MOVES: u64 = 300;

/// What is known of an id: its version, if it lives, and how often it began or ended to be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Known {
    version: Option<u64>,
    /// Odd while it is being written.
    stamp: u64,
}

type Book = Mutex<BTreeMap<u64, Known>>;

fn vector(id: u64, version: u64) -> Vec<f32> {
    let mut rng = fastrand::Rng::with_seed(id << 24 | version);
    (0..DIM).map(|_| rng.f32()).collect()
}

/// What a memory may do wrong to its writers, which the searches and gets beside them must find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Planted {
    Nothing,
    /// It acknowledges a write before it can be seen.
    AcknowledgesTooEarly,
    /// One deletion in so many is acknowledged and was none.
    ForgetsDeletions,
}

async fn write(memory: Memory, book: Arc<Book>, writer: u64, seed: u64, planted: Planted) {
    let mut rng = fastrand::Rng::with_seed(seed ^ writer);
    for version in 1..=ROUNDS {
        let first = writer * 1000 + rng.u64(..IDS_EACH);
        let ids: Vec<u64> =
            (first..(writer * 1000 + IDS_EACH).min(first + rng.u64(1..12))).collect();
        let lives = rng.u8(..4) > 0;
        let mark = |change: &dyn Fn(&mut Known)| {
            let mut book = book.lock();
            ids.iter()
                .for_each(|id| change(book.entry(*id).or_default()));
        };
        let work = async {
            if lives {
                let points = ids.iter().map(|id| Point::new(*id, vector(*id, version)));
                memory.upsert(points.collect()).await.unwrap();
            } else if planted != Planted::ForgetsDeletions || version % 4 > 0 {
                let ids: Vec<PointId> = ids.iter().copied().map(PointId::Int).collect();
                memory.delete(&ids).await.unwrap();
            }
        };
        let acknowledge = || {
            mark(&|known| {
                known.version = lives.then_some(version);
                known.stamp += 1;
            });
        };
        mark(&|known| known.stamp += 1);
        if planted == Planted::AcknowledgesTooEarly {
            acknowledge();
            work.await;
        } else {
            work.await;
            acknowledge();
        }
    }
}

/// Moves what it likes.
async fn shuffle(memory: Memory, seed: u64, moved: Arc<AtomicU64>) {
    let mut rng = fastrand::Rng::with_seed(seed);
    for _ in 0..MOVES {
        let ids: Vec<PointId> = (0..rng.u64(1..40))
            .map(|_| PointId::Int(rng.u64(..WRITERS) * 1000 + rng.u64(..IDS_EACH)))
            .collect();
        let n = match rng.u8(..6) {
            0 | 1 => memory.demote(&ids).await.unwrap(),
            2 | 3 => memory.promote(&ids).await.unwrap(),
            4 => memory.compact().await.unwrap().rows as usize,
            _ => {
                let report = memory.tick().await.unwrap();
                report.demoted + report.promoted + report.compacted
            }
        };
        moved.fetch_add(n as u64, SeqCst);
        if n == 0 {
            // Nothing there yet, or everything moved: the others' turn.
            tokio::task::yield_now().await;
        }
        let stats = memory.stats();
        assert!(stats.hot_bytes <= stats.budget_bytes, "{stats:#?}");
    }
}

fn settled(before: &BTreeMap<u64, Known>, after: &BTreeMap<u64, Known>) -> BTreeMap<u64, Known> {
    let same = |(id, known): (&u64, &Known)| {
        let quiet = known.stamp % 2 == 0 && after.get(id) == Some(known);
        quiet.then_some((*id, *known))
    };
    before.iter().filter_map(same).collect()
}

/// Searches for everything until told to stop; answers how many settled points it compared.
async fn search(memory: Memory, book: Arc<Book>, seed: u64, stop: Arc<AtomicBool>) -> usize {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut compared = 0;
    while !stop.load(SeqCst) {
        let query: Vec<f32> = (0..DIM).map(|_| rng.f32()).collect();
        let before = book.lock().clone();
        let request = SearchRequest::new(query.clone(), (WRITERS * IDS_EACH) as usize);
        let request = request.mode(SearchMode::Complete);
        let answer = memory.search(request).await.unwrap();
        let after = book.lock().clone();
        assert!(answer.coverage.is_whole(), "{:?}", answer.coverage);
        let mut hits: BTreeMap<u64, f32> = BTreeMap::new();
        for hit in &answer.hits {
            let PointId::Int(id) = hit.id else {
                panic!("an id that nobody wrote: {hit:?}");
            };
            let twice = hits.insert(id, hit.distance);
            assert!(
                twice.is_none(),
                "seed {seed}: {id} twice: {:?}",
                answer.hits
            );
        }
        for (id, known) in settled(&before, &after) {
            compared += 1;
            let expected = known
                .version
                .map(|v| Metric::L2.distance(&query, &vector(id, v)));
            match (expected, hits.get(&id)) {
                (None, None) => {}
                (Some(e), Some(got)) if (e - got).abs() < 1e-4 => {}
                (e, got) => panic!("seed {seed}: {id} is {known:?} at {e:?}, found at {got:?}"),
            }
        }
    }
    compared
}

/// Gets single points until told to stop.
async fn get(memory: Memory, book: Arc<Book>, seed: u64, stop: Arc<AtomicBool>) {
    let mut rng = fastrand::Rng::with_seed(seed);
    while !stop.load(SeqCst) {
        let id = rng.u64(..WRITERS) * 1000 + rng.u64(..IDS_EACH);
        let before = book.lock().get(&id).copied().unwrap_or_default();
        let record = memory.get(&PointId::Int(id)).await.unwrap();
        let after = book.lock().get(&id).copied().unwrap_or_default();
        if before == after && before.stamp % 2 == 0 {
            let expected = before.version.map(|v| vector(id, v));
            let got = record.and_then(|r| r.vector);
            assert_eq!(got, expected, "seed {seed}: {id} is {before:?}");
        }
    }
}

fn run(seed: u64, planted: Planted) {
    let seed = match std::env::var("AETHER_SEED") {
        Ok(text) => text.parse().unwrap(),
        Err(_) => seed,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async {
        let world = World::with(Settings {
            budget: "96KiB",
            insert_wait: "2ms",
            hot: "fake",
            flux: "batch_rows = 20\nsample = 32",
            // Steps of 64 rows, as often as they like; what is not needed goes as soon as no search reads it.
            compaction: "ratio = 3\nsegment_bytes = \"4KiB\"\nrate = \"0B\"\npatience = \"0s\"\ngrace = \"0s\"",
            ..Settings::default()
        });
        let memory = world.open().await;
        let book: Arc<Book> = Arc::default();
        let stop = Arc::new(AtomicBool::new(false));
        let moved = Arc::new(AtomicU64::new(0));
        let (mut others, mut movers) = (Vec::new(), Vec::new());
        for i in 0..2 {
            let (memory, moved) = (memory.clone(), moved.clone());
            movers.push(tokio::spawn(shuffle(memory, seed ^ (100 + i), moved)));
        }
        let (gets, stopped) = (memory.clone(), stop.clone());
        others.push(tokio::spawn(get(gets, book.clone(), seed ^ 300, stopped)));
        let searches: Vec<_> = (0..2)
            .map(|i| {
                let (memory, book, stop) = (memory.clone(), book.clone(), stop.clone());
                tokio::spawn(search(memory, book, seed ^ (200 + i), stop))
            })
            .collect();
        let writers: Vec<_> = (0..WRITERS)
            .map(|w| tokio::spawn(write(memory.clone(), book.clone(), w, seed, planted)))
            .collect();
        for task in writers.into_iter().chain(movers) {
            task.await.unwrap();
        }
        stop.store(true, SeqCst);
        let mut compared = 0;
        for search in searches {
            compared += search.await.unwrap();
        }
        for other in others {
            other.await.unwrap();
        }
        let live = book.lock().values().filter(|k| k.version.is_some()).count();
        assert_eq!(memory.stats().points as usize, live);
        assert!(compared > 1000, "{compared} settled points compared");
        assert!(moved.load(SeqCst) > 100, "{moved:?} rows moved");
        let stats = memory.stats();
        assert!(stats.counted.compactions > 5, "{stats:#?}");
        assert!(stats.counted.blobs_swept > 20, "{stats:#?}");
        memory.compact().await.unwrap();
        while memory.stats().garbage > 0 {
            memory.tick().await.unwrap();
        }
        assert_eq!(world.segments().len() as u64, memory.stats().segments);
        memory.close().await.unwrap();
        world.check_clean().await;
    });
}

#[test]
fn settled_points_are_seen_exactly_once_whatever_goes_on_beside() {
    for seed in 1..=2 {
        run(seed, Planted::Nothing);
    }
}

#[test]
fn planted_mistakes_are_seen_beside_everything_else() {
    for planted in [Planted::AcknowledgesTooEarly, Planted::ForgetsDeletions] {
        let panic = std::panic::catch_unwind(|| run(1, planted));
        let panic = panic.expect_err("a planted mistake is not found");
        let said = panic.downcast_ref::<String>().unwrap();
        // What a search or a get says of a point that is not as it should be.
        assert!(said.contains("is Known {"), "{planted:?}: {said}");
    }
}

//! The partition index stays good while clusters come, drift and go: sizes, places, recall, and what is stored of it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use aether_core::config::SearchMode;
use aether_core::{Memory, Metric, Point, PointId, SearchRequest};
use proptest::prelude::*;

use common::{Settings, World};

const DIM: usize = 16;
/// Of `[search]` in these worlds.
const PARTITION_ROWS: u64 = 16;

fn settings(metric: Metric) -> Settings {
    Settings {
        dim: DIM,
        metric,
        budget: "64MiB",
        compaction: "ratio = 4\nsegment_bytes = \"256KiB\"\nrate = \"0B\"\ngrace = \"1s\"",
        search: "compare = 0.0",
        ..Settings::default()
    }
}

/// Clusters that wander, and points that come and go with them.
struct Drift {
    rng: fastrand::Rng,
    centres: Vec<Vec<f32>>,
    live: BTreeMap<u64, Vec<f32>>,
    next: u64,
}

impl Drift {
    fn new(seed: u64, clusters: usize) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let centre = |_| (0..DIM).map(|_| rng.f32() * 8.0 - 4.0).collect();
        Self {
            centres: (0..clusters).map(centre).collect(),
            rng,
            live: BTreeMap::new(),
            next: 0,
        }
    }

    /// Every cluster moves; one jumps elsewhere.
    fn wander(&mut self) {
        for centre in &mut self.centres {
            for x in centre.iter_mut() {
                *x += self.rng.f32() * 0.8 - 0.4;
            }
        }
        let one = self.rng.usize(..self.centres.len());
        for x in &mut self.centres[one] {
            *x = self.rng.f32() * 8.0 - 4.0;
        }
    }

    fn vector(&mut self) -> Vec<f32> {
        // Some clusters are much larger than others.
        let one = (self.rng.f32().powi(2) * self.centres.len() as f32) as usize;
        let centre = self.centres[one].clone();
        centre.iter().map(|c| c + self.rng.f32() - 0.5).collect()
    }

    fn arrive(&mut self, rows: usize) -> Vec<Point> {
        let mut points = Vec::new();
        for _ in 0..rows {
            let vector = self.vector();
            self.live.insert(self.next, vector.clone());
            points.push(Point::new(self.next, vector));
            self.next += 1;
        }
        points
    }

    /// The oldest go.
    fn leave(&mut self, rows: usize) -> Vec<PointId> {
        let gone: Vec<u64> = self.live.keys().take(rows).copied().collect();
        gone.iter().for_each(|i| drop(self.live.remove(i)));
        gone.into_iter().map(PointId::Int).collect()
    }

    fn points(&self) -> Vec<Point> {
        let point = |(i, v): (&u64, &Vec<f32>)| Point::new(*i, v.clone());
        self.live.iter().map(point).collect()
    }
}

async fn send_cold(memory: &Memory, points: Vec<Point>) {
    for some in points.chunks(300) {
        let ids: Vec<PointId> = some.iter().map(|p| p.id.clone()).collect();
        memory.upsert(some.to_vec()).await.unwrap();
        assert_eq!(memory.demote(&ids).await.unwrap(), ids.len());
    }
}

/// Share of the ten nearest that a search of a share of the rows finds.
async fn recall(memory: &Memory, drift: &Drift, metric: Metric, share: f64, seed: u64) -> f64 {
    let mut rng = fastrand::Rng::with_seed(seed);
    let all: Vec<&Vec<f32>> = drift.live.values().collect();
    let (mut found, mut wanted) = (0, 0);
    for _ in 0..200 {
        let near = all[rng.usize(..all.len())];
        let query: Vec<f32> = near.iter().map(|x| x + rng.f32() * 0.6 - 0.3).collect();
        let mut truth: Vec<(f32, u64)> = (drift.live.iter())
            .map(|(i, v)| (metric.distance(&query, v), *i))
            .collect();
        truth.sort_by(|a, b| a.0.total_cmp(&b.0));
        let request = SearchRequest::new(query, 10)
            .mode(SearchMode::Bounded)
            .probe(share);
        let hits = memory.search(request).await.unwrap().hits;
        wanted += 10;
        let among = |i: &u64| hits.iter().any(|h| h.id == PointId::Int(*i));
        found += truth[..10].iter().filter(|(_, i)| among(i)).count();
    }
    found as f64 / f64::from(wanted)
}

/// All is there, by its id.
async fn assert_nothing_lost(memory: &Memory, drift: &Drift) {
    let ids: Vec<PointId> = drift.live.keys().copied().map(PointId::Int).collect();
    for some in ids.chunks(1000) {
        let got = memory
            .get_many(some, aether_core::engine::Parts::default())
            .await
            .unwrap();
        for (id, record) in some.iter().zip(got) {
            let PointId::Int(i) = id else { unreachable!() };
            assert_eq!(record.unwrap().vector.as_ref(), drift.live.get(i), "{id}");
        }
    }
}

struct Outcome {
    least: u64,
    most: u64,
    off: f64,
    aged: f64,
    fresh: f64,
    split: u64,
    ended: u64,
    moves: f64,
    /// Before settling by hand.
    unsettled_most: u64,
    unsettled_off: f64,
}

async fn live_through(seed: u64, metric: Metric, rounds: usize, rows: usize) -> Outcome {
    let mut drift = Drift::new(seed, 24);
    let world = World::with(settings(metric));
    let memory = world.open().await;
    for round in 0..rounds {
        let points = drift.arrive(rows);
        send_cold(&memory, points).await;
        if round > rounds / 2 {
            memory.delete(&drift.leave(rows)).await.unwrap();
        }
        drift.wander();
        for _ in 0..20 {
            world.clock.advance(Duration::from_millis(250));
            memory.tick().await.unwrap();
        }
    }
    let written = memory.stats().write_amplification().unwrap();
    let unsettled = world.check().await;
    memory.compact().await.unwrap();
    let counted = memory.stats().counted;
    assert_nothing_lost(&memory, &drift).await;
    let aged = recall(&memory, &drift, metric, 0.06, seed).await;
    memory.close().await.unwrap();
    drop(memory);
    let report = world.check().await;
    assert!(report.is_clean(), "{report:#?}");
    assert_eq!(report.cold_rows, drift.live.len() as u64);

    let again = world.open().await;
    assert_nothing_lost(&again, &drift).await;
    let reopened = recall(&again, &drift, metric, 0.06, seed).await;
    assert!((reopened - aged).abs() < 0.005, "{aged} and {reopened}");

    let world = World::with(settings(metric));
    let memory = world.open().await;
    let points = drift.points();
    for some in points.chunks(300) {
        memory.upsert(some.to_vec()).await.unwrap();
    }
    let ids: Vec<PointId> = points.iter().map(|p| p.id.clone()).collect();
    memory.demote(&ids).await.unwrap();
    memory.compact().await.unwrap();
    let fresh = recall(&memory, &drift, metric, 0.06, seed).await;
    Outcome {
        least: report.partition_rows_least,
        most: report.partition_rows_most,
        off: report.off_partition as f64 / report.cold_rows as f64,
        aged,
        fresh,
        split: counted.partitions_split,
        ended: counted.partitions_ended,
        moves: written,
        unsettled_most: unsettled.partition_rows_most,
        unsettled_off: unsettled.off_partition as f64 / unsettled.cold_rows as f64,
    }
}

#[tokio::test]
async fn partitions_stay_in_bounds_and_are_found_as_in_a_memory_built_afresh() {
    for metric in Metric::ALL {
        let o = live_through(7, metric, 24, 400).await;
        println!(
            "{metric}: {} to {} rows a partition, {:.4} off their nearest, recall {:.3} (afresh {:.3}), {} split, {} ended, \
             write amplification before settling {:.2}",
            o.least, o.most, o.off, o.aged, o.fresh, o.split, o.ended, o.moves
        );
        assert!(
            o.split > 20 && o.ended > 0,
            "{} split, {} ended",
            o.split,
            o.ended
        );
        assert!(o.least >= PARTITION_ROWS / 4, "{metric}: {} rows", o.least);
        assert!(o.most <= PARTITION_ROWS * 2, "{metric}: {} rows", o.most);
        assert!(o.off < 0.02, "{metric}: {}", o.off);
        // In the background only what is far too large is split at once.
        assert!(
            o.unsettled_most <= PARTITION_ROWS * 6,
            "{metric}: {} rows",
            o.unsettled_most
        );
        assert!(o.unsettled_off < 0.05, "{metric}: {}", o.unsettled_off);
        assert!(o.moves < 10.0, "{metric}: {}", o.moves);
        assert!(
            o.aged > o.fresh - 0.01,
            "{metric}: {} and {}",
            o.aged,
            o.fresh
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_drifts_sizes_and_places_settle(seed: u64, rounds in 4usize..10, rows in 40usize..300, metric in 0usize..3) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let o = runtime.block_on(live_through(seed, Metric::ALL[metric], rounds, rows));
        prop_assert!(o.most <= PARTITION_ROWS * 5 / 2, "{} rows", o.most);
        prop_assert!(o.off < 0.05, "{}", o.off);
        // Over 61 seeds of 8 rounds of 253 rows by inner product the two differ by -0.002 in the mean, with a deviation of 0.0175.
        prop_assert!(o.aged > o.fresh - 0.07, "{} and {}", o.aged, o.fresh);
    }
}

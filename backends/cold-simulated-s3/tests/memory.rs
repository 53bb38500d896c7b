//! A whole memory on simulated object storage, in virtual time: how many rounds a search takes, and that a store which fails and loses replies
//! costs time and nothing else.

use std::sync::Arc;
use std::time::Duration;

use aether_cold_simulated_s3::PLUGIN;
use aether_core::clock::ManualClock;
use aether_core::config::SearchMode;
use aether_core::engine::Parts;
use aether_core::{Config, Memory, MemoryBuilder, Metric, Point, PointId, Registry, SearchRequest};
use tokio::time::Instant;

const DIM: usize = 8;
const ROWS: u64 = 240;

fn vector(i: u64) -> Vec<f32> {
    let mut rng = fastrand::Rng::with_seed(i);
    (0..DIM).map(|_| rng.f32()).collect()
}

async fn open(cold: &str, remote: &str) -> Memory {
    let mut registry = Registry::empty();
    for plugin in [
        &PLUGIN,
        &aether_cold_memory::PLUGIN,
        &aether_hot_flat::PLUGIN,
        &aether_meta_memory::PLUGIN,
        &aether_codec_raw::PLUGIN,
        &aether_policies::lru::PLUGIN,
    ] {
        registry.add(plugin).expect("a plug-in");
    }
    let text = format!(
        "[memory]\ndim = {DIM}\nmetric = \"l2\"\n[flux]\ntick = \"0s\"\n[search]\ncache = \"1B\"\n[remote]\n{remote}\n\
         [hot]\nbackend = \"flat\"\n[meta]\nbackend = \"memory\"\n[codec]\nbackend = \"raw\"\n[policy]\nbackend = \"lru\"\n\
         [cold]\nbackend = \"simulated-s3\"\n{cold}\n[cold.inner]\nbackend = \"memory\"\n"
    );
    let config = Config::from_toml(&text).expect("a configuration");
    MemoryBuilder::new(config, Arc::new(registry))
        .clock(Arc::new(ManualClock::new()))
        .open()
        .await
        .expect("the memory opens")
}

/// All rows but the last 40 cold, in four segments.
async fn fill(memory: &Memory) {
    let points = (0..ROWS)
        .map(|i| Point::new(i, vector(i)).with_payload(i.into()))
        .collect();
    memory.upsert(points).await.expect("upsert");
    for first in (0..200).step_by(50) {
        let ids: Vec<PointId> = (first..first + 50).map(PointId::Int).collect();
        // A put that failed for good leaves its rows hot; the next try moves them.
        let mut moved = 0;
        for _ in 0..20 {
            moved += memory.demote(&ids).await.unwrap_or(0);
            if moved == ids.len() {
                break;
            }
        }
        assert_eq!(moved, ids.len(), "rows from {first} on");
    }
    assert_eq!(memory.stats().hot_rows, 40);
}

async fn nearest(memory: &Memory, query: u64, mode: SearchMode) -> (Vec<u64>, bool) {
    let request = SearchRequest::new(vector(query), 10).mode(mode);
    let answer = memory.search(request).await.expect("a search");
    let id = |id: &PointId| match id {
        PointId::Int(n) => *n,
        other => panic!("{other}"),
    };
    let found = answer.hits.iter().map(|h| id(&h.id)).collect();
    (found, answer.coverage.is_whole())
}

fn exact(query: u64) -> Vec<u64> {
    let query = vector(query);
    let mut all: Vec<(f32, u64)> = (0..ROWS)
        .map(|i| (Metric::L2.distance(&query, &vector(i)), i))
        .collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    all.into_iter().take(10).map(|(_, i)| i).collect()
}

/// Every read takes 63 ms sharp, so the time of a search counts its dependent rounds.
#[tokio::test(start_paused = true)]
async fn a_search_takes_at_most_two_dependent_rounds() {
    let memory = open("read_p99 = \"63ms\"\nbandwidth = \"100GB\"", "").await;
    fill(&memory).await;
    for mode in [SearchMode::Bounded, SearchMode::Complete] {
        for query in 1000..1020 {
            let begun = Instant::now();
            let (found, whole) = nearest(&memory, query, mode).await;
            let rounds = begun.elapsed().as_millis().div_ceil(63 + 2);
            assert!((1..=2).contains(&rounds), "{mode:?}: {rounds} rounds");
            if mode == SearchMode::Complete {
                assert!(whole);
                assert_eq!(found, exact(query));
            }
        }
    }
    let stats = memory.stats().remote;
    assert_eq!(stats.ledger.searches, 40);
    assert!(
        stats.ledger.usage.puts >= 4 && stats.ledger.usage.gets >= 40,
        "{stats:?}"
    );
    assert!(stats.dollars.per_thousand_queries.is_some_and(|d| d > 0.0));
    assert!(stats.dollars.per_gb_month.is_some_and(|d| d > 0.0));
    memory.close().await.expect("close");
}

/// Vectors and payloads of the answers come side by side, from all segments and blocks at once.
#[tokio::test(start_paused = true)]
async fn what_is_asked_for_with_the_answers_takes_one_round_more() {
    let memory = open("read_p99 = \"63ms\"\nbandwidth = \"100GB\"", "").await;
    fill(&memory).await;
    for mode in [SearchMode::Bounded, SearchMode::Complete] {
        for query in 1000..1010 {
            let request = SearchRequest::new(vector(query), 40).mode(mode);
            let request = request.parts(Parts::default());
            let (begun, before) = (Instant::now(), memory.stats().remote.ledger.usage.gets);
            let answer = memory.search(request).await.expect("a search");
            let rounds = begun.elapsed().as_millis().div_ceil(63 + 2);
            let coverage = &answer.coverage;
            assert!((2..=3).contains(&rounds), "{mode:?}: {rounds} rounds");
            assert_eq!(rounds, u128::from(coverage.rounds), "{coverage:?}");
            let gets = memory.stats().remote.ledger.usage.gets - before;
            assert!(
                coverage.requests >= 5 && coverage.requests <= gets,
                "{coverage:?}, {gets}"
            );
            for hit in &answer.hits {
                let PointId::Int(i) = hit.id else {
                    panic!("{hit:?}")
                };
                assert_eq!(hit.vector.as_deref(), Some(&vector(i)[..]));
                assert_eq!(hit.payload, Some(i.into()));
            }
        }
    }
    memory.close().await.expect("close");
}

/// One call in ten fails, and one put in five is carried out without a reply. With repetitions every answer is whole and right.
#[tokio::test(start_paused = true)]
async fn failures_and_lost_replies_cost_time_and_nothing_else() {
    let memory = open(
        "errors = 0.1\nlost_replies = 0.2",
        "retries = 8\nretry_pause = \"20ms\"\nretry_pause_max = \"200ms\"",
    )
    .await;
    fill(&memory).await;
    for query in 1000..1050 {
        let (found, whole) = nearest(&memory, query, SearchMode::Complete).await;
        assert!(whole, "query {query}");
        assert_eq!(found, exact(query));
    }
    for i in 0..ROWS {
        let record = memory.get(&PointId::Int(i)).await.expect("get");
        assert_eq!(record.and_then(|r| r.vector), Some(vector(i)), "point {i}");
    }
    let stats = memory.stats();
    assert!(stats.remote.retried > 20, "{:?}", stats.remote);
    assert!(stats.poisoned.is_none());
    memory.close().await.expect("close");
}

/// With a 99th percentile of a second and a half (seed of the memory), 500 hedged reads have theirs at least 30 % lower, and at most one read in
/// eight was sent twice.
#[tokio::test(start_paused = true)]
async fn hedging_cuts_the_tail() {
    async fn p99(remote: &str) -> (Duration, u64, u64) {
        let memory = open("read_p99 = \"1500ms\"", remote).await;
        fill(&memory).await;
        let mut times = Vec::new();
        for query in 0..600 {
            let begun = Instant::now();
            let id = PointId::Int(query % 200);
            assert!(memory.get(&id).await.expect("get").is_some());
            times.push(begun.elapsed());
        }
        // The first reads only teach what is late.
        let mut times = times.split_off(100);
        times.sort();
        let stats = memory.stats().remote;
        memory.close().await.expect("close");
        (times[495], stats.hedged, stats.ledger.usage.gets)
    }
    let (alone, none, _) = p99("hedge = 0.0").await;
    let (hedged, sent, gets) = p99("hedge = 0.9").await;
    assert_eq!(none, 0);
    assert!(
        sent > 5 && sent <= gets / 8,
        "{sent} of {gets} reads sent twice"
    );
    assert!(hedged < alone.mul_f64(0.7), "{hedged:?} beside {alone:?}");
}

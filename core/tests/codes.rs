//! Bounded searches by codes: what they find, what they read, what they claim, and that no copy, dead row or damage misleads them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use aether_core::config::SearchMode;
use aether_core::engine::{Answer, Cut, Parts};
use aether_core::{Memory, Metric, Point, PointId, SearchRequest};
use common::{Call, Settings, Verdict, World, ids};
use parking_lot::Mutex;

const DIM: usize = 48;

fn normal(rng: &mut fastrand::Rng) -> f32 {
    (0..12).map(|_| rng.f32()).sum::<f32>() - 6.0
}

/// Clusters of unequal spread; `i` decides everything.
fn vector(i: u64) -> Vec<f32> {
    let mut cluster = fastrand::Rng::with_seed(i % 40);
    let mut own = fastrand::Rng::with_seed(i ^ 0x5eed);
    let spread = 0.3 + cluster.f32();
    (0..DIM)
        .map(|_| 2.0 * normal(&mut cluster) + spread * normal(&mut own))
        .collect()
}

fn settings(metric: Metric, search: &'static str) -> Settings {
    Settings {
        dim: DIM,
        metric,
        search,
        ..Settings::default()
    }
}

/// `n` points, all cold but the last `hot`.
async fn filled(world: &World, n: u64, hot: u64) -> Memory {
    let memory = world.open().await;
    for from in (0..n).step_by(500) {
        let points = (from..n.min(from + 500)).map(|i| Point::new(PointId::Int(i), vector(i)));
        memory.upsert(points.collect()).await.unwrap();
    }
    assert_eq!(
        memory.demote(&ids(0..n - hot)).await.unwrap() as u64,
        n - hot
    );
    memory
}

fn rows(answer: &Answer) -> Vec<u64> {
    answer.hits.iter().map(|h| h.row.0).collect()
}

async fn truth(memory: &Memory, query: &[f32], k: usize) -> Answer {
    let request = SearchRequest::new(query.to_vec(), k)
        .mode(SearchMode::Complete)
        .untouched();
    memory.search(request).await.unwrap()
}

fn bounded(query: &[f32], k: usize) -> SearchRequest {
    SearchRequest::new(query.to_vec(), k)
        .mode(SearchMode::Bounded)
        .untouched()
}

/// Share of the true answers among those found.
async fn recall(
    memory: &Memory,
    queries: std::ops::Range<u64>,
    request: impl Fn(&[f32]) -> SearchRequest,
) -> f64 {
    let (mut hits, mut wanted) = (0, 0);
    for q in queries {
        let query = vector(1_000_000 + q);
        let answer = memory.search(request(&query)).await.unwrap();
        assert!(answer.hits.is_sorted_by(|a, b| a.distance <= b.distance));
        let expected = rows(&truth(memory, &query, 10).await);
        let found = rows(&answer);
        wanted += expected.len();
        hits += expected.iter().filter(|r| found.contains(r)).count();
    }
    hits as f64 / wanted as f64
}

#[tokio::test]
async fn every_partition_by_codes_finds_what_comparing_all_finds_and_reads_little() {
    for metric in Metric::ALL {
        let world = World::with(settings(metric, "compare = 0.0"));
        let memory = filled(&world, 2_000, 200).await;
        let everywhere = |q: &[f32]| bounded(q, 10).probe(1.0);
        // At 0.99 a row is lost once in 200 times, and then only if it was among the worst: 0.99 leaves room for either.
        let got = recall(&memory, 0..60, everywhere).await;
        assert!(got >= 0.99, "{metric}: {got}");
        for q in 0..20 {
            let query = vector(2_000_000 + q);
            let c = memory.search(everywhere(&query)).await.unwrap().coverage;
            assert!(c.is_whole() && c.proven, "{metric}: {c:?}");
            assert!(c.cold_rows_scored < c.cold_rows / 10, "{metric}: {c:?}");
            assert!(c.cold_rows_estimated <= c.cold_rows);
        }
        memory.close().await.unwrap();
        world.check_clean().await;
    }
}

#[tokio::test]
async fn a_search_that_looks_at_few_partitions_does_not_call_itself_proven_unless_it_is() {
    let world = World::with(settings(Metric::L2, "compare = 0.0\nprobe_min = 1"));
    let memory = filled(&world, 2_000, 0).await;
    let (mut proven, mut unproven) = (0, 0);
    for q in 0..200u64 {
        let query = if q % 2 == 0 {
            vector(q)
        } else {
            vector(1_000_000 + q)
        };
        let answer = memory.search(bounded(&query, 3).probe(0.02)).await.unwrap();
        let expected = rows(&truth(&memory, &query, 3).await);
        if answer.coverage.proven {
            proven += 1;
            assert_eq!(rows(&answer), expected, "query {q} was called proven");
        } else {
            unproven += 1;
        }
    }
    assert!(unproven > 0, "{proven} proven");
}

#[tokio::test]
async fn the_recall_asked_for_is_learned_and_kept() {
    let world = World::with(settings(Metric::L2, "compare = 1.0\nprobe_min = 1"));
    let memory = filled(&world, 4_000, 0).await;
    // Comparisons run beside the searches and take no more than half of a processor: so many searches bring enough of them.
    let mut searches = 0u64;
    while memory.stats().counted.searches_compared < 100 {
        let query = vector(3_000_000 + searches);
        memory.search(bounded(&query, 10)).await.unwrap();
        tokio::task::yield_now().await;
        searches += 1;
        assert!(searches < 200_000, "{:?}", memory.stats());
    }
    let stats = memory.stats();
    let measured = stats.recall.unwrap();
    assert!(measured > 0.9, "{measured}");
    let mut looked_at = Vec::new();
    for target in [0.8, 0.98] {
        let got = recall(&memory, 0..100, |q| bounded(q, 10).recall(target)).await;
        assert!(got >= target - 0.03, "asked for {target}, got {got}");
        let mut probed = 0;
        for q in 0..100 {
            let request = bounded(&vector(1_000_000 + q), 10).recall(target);
            probed += memory
                .search(request)
                .await
                .unwrap()
                .coverage
                .cold_rows_estimated;
        }
        looked_at.push(probed);
    }
    assert!(looked_at[0] <= looked_at[1], "{looked_at:?}");
    assert!(looked_at[1] < 100 * 4_000 / 2, "{looked_at:?}");
    let measured = memory.stats().recall.unwrap();
    memory.close().await.unwrap();
    // And known from the first search on when the memory is opened again.
    let memory = world.open().await;
    let known = memory.stats().recall.unwrap();
    assert!((known - measured).abs() < 0.01, "{known}, was {measured}");
    assert_eq!(memory.stats().counted.searches_compared, 0);
    assert!(memory.stats().recall_comparisons >= 100);
    memory.close().await.unwrap();
}

#[tokio::test]
async fn codes_that_are_not_in_ram_are_read_first_in_two_rounds_at_most() {
    let world = World::with(settings(
        Metric::L2,
        "cache = \"1B\"\ncompare = 0.0\n[codes]\nram = \"1B\"",
    ));
    let memory = filled(&world, 1_000, 0).await;
    let segments = memory.stats().segments;
    assert_eq!(memory.stats().codes_bytes, 0);
    let reads: Arc<Mutex<Vec<String>>> = Arc::default();
    let log = reads.clone();
    world.power.script(move |call, _| {
        if let Call::Read(key) = call {
            log.lock().push(key.to_string());
        }
        Verdict::Pass
    });
    let query = vector(77);
    let answer = memory.search(bounded(&query, 10).probe(1.0)).await.unwrap();
    assert_eq!(rows(&answer), rows(&truth(&memory, &query, 10).await));
    let (mut read, c) = (reads.lock().clone(), &answer.coverage);
    read.truncate(c.requests as usize);
    assert!(c.requests <= 2 * segments && c.rounds == 2, "{c:?}");
    for key in &read {
        let times = read.iter().filter(|k| *k == key).count();
        assert!(times <= 2, "{key} was read {times} times");
    }
}

/// 400 kB of codes where a quarter of the working space is 256.
async fn reopened_with_many_codes(search: &'static str) -> (World, Memory) {
    let mut settings = settings(Metric::L2, search);
    settings.memory = "working_space = \"1MiB\"";
    let world = World::with(settings);
    let memory = filled(&world, 6_000, 0).await;
    // Else every partition had some rows in every segment.
    memory.compact().await.unwrap();
    memory.close().await.unwrap();
    let memory = world.open().await;
    assert_eq!(memory.stats().codes_bytes, 0);
    (world, memory)
}

#[tokio::test]
async fn codes_that_may_stay_in_ram_come_in_one_round_however_many() {
    let (_world, memory) =
        reopened_with_many_codes("cache = \"1B\"\ncompare = 0.0\n[codes]\nbits = 8").await;
    let query = vector(77);
    let answer = memory.search(bounded(&query, 10).probe(1.0)).await.unwrap();
    assert_eq!(answer.coverage.rounds, 2, "{:?}", answer.coverage);
    assert!(memory.stats().codes_bytes > 300_000);
    assert_eq!(rows(&answer), rows(&truth(&memory, &query, 10).await));
    // And are not read again.
    let again = memory.search(bounded(&query, 10).probe(1.0)).await.unwrap();
    assert_eq!(again.coverage.rounds, 1, "{:?}", again.coverage);
    memory.close().await.unwrap();
}

/// Payloads of two megabytes where a quarter of the working space is one eighth of that.
#[tokio::test]
async fn many_payloads_come_a_part_of_the_working_space_at_a_time() {
    let mut settings = settings(Metric::L2, "cache = \"1B\"\ncompare = 0.0");
    settings.memory = "working_space = \"1MiB\"";
    let world = World::with(settings);
    let memory = world.open().await;
    // What no compression shortens.
    let payload = |i: u64| {
        let mut rng = fastrand::Rng::with_seed(i);
        let text: String = std::iter::repeat_with(|| rng.alphanumeric())
            .take(2_000)
            .collect();
        serde_json::Value::from(text)
    };
    for from in (0..1_000).step_by(250) {
        let points = (from..from + 250).map(|i| Point::new(i, vector(i)).with_payload(payload(i)));
        memory.upsert(points.collect()).await.unwrap();
    }
    assert_eq!(memory.demote(&ids(0..1_000)).await.unwrap(), 1_000);
    let request = SearchRequest::new(vector(3), 1_000).mode(SearchMode::Complete);
    let request = request.parts(Parts {
        vector: false,
        payload: true,
    });
    let answer = memory.search(request).await.unwrap();
    assert_eq!(answer.hits.len(), 1_000);
    for hit in &answer.hits {
        let PointId::Int(i) = hit.id else {
            panic!("{hit:?}")
        };
        assert_eq!(hit.payload, Some(payload(i)));
    }
    // One or two for the rows, then the payloads.
    let rounds = answer.coverage.rounds;
    assert!((5..20).contains(&rounds), "{:?}", answer.coverage);
    memory.close().await.unwrap();
}

/// Together, searches have no more codes on their way than one of them may.
#[tokio::test]
async fn searches_at_once_share_the_room_for_codes_on_their_way() {
    const RAM: &str = "cache = \"1B\"\ncompare = 0.0\n[codes]\nbits = 8\nram = \"1B\"";
    let (world, memory) = reopened_with_many_codes(RAM).await;
    let segments = memory.stats().segments as usize;
    world.power.script(|call, _| match call {
        Call::Read(_) => Verdict::Hold,
        _ => Verdict::Pass,
    });
    let searches: Vec<_> = (0..4)
        .map(|i| {
            let memory = memory.clone();
            let request = bounded(&vector(i), 10).probe(1.0);
            tokio::spawn(async move { memory.search(request).await.unwrap() })
        })
        .collect();
    world.power.wait_for_held(1).await;
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    let held = world.power.held();
    assert!(
        (1..=segments).contains(&held),
        "{held} reads of codes at once"
    );
    world.power.unscript();
    world.power.release();
    for (i, search) in (0..).zip(searches) {
        let answer = search.await.unwrap();
        assert!(answer.coverage.is_whole(), "{:?}", answer.coverage);
        assert!(answer.coverage.rounds > 2, "{:?}", answer.coverage);
        assert_eq!(rows(&answer), rows(&truth(&memory, &vector(i), 10).await));
    }
    memory.close().await.unwrap();
}

/// A search that finds no room by its deadline says what it did not look at.
#[tokio::test]
async fn codes_that_come_too_late_are_said_to_be_missing() {
    const RAM: &str = "cache = \"1B\"\ncompare = 0.0\n[codes]\nbits = 8\nram = \"1B\"";
    let (world, memory) = reopened_with_many_codes(RAM).await;
    world.power.script(|call, _| match call {
        Call::Read(_) => Verdict::Hold,
        _ => Verdict::Pass,
    });
    let late = |i| {
        let memory = memory.clone();
        let request = bounded(&vector(i), 10).probe(1.0);
        let request = request.deadline(Duration::from_millis(40));
        tokio::spawn(async move { memory.search(request).await.unwrap() })
    };
    for search in [late(1), late(2)] {
        let coverage = search.await.unwrap().coverage;
        assert_eq!(coverage.cold_rows_estimated, 0);
        let missed = coverage.partitions;
        assert!(
            missed > 0 && coverage.partitions_probed == 0,
            "{coverage:?}"
        );
        let cut = Cut::Deadline { partitions: missed };
        assert!(coverage.cuts.contains(&cut), "{coverage:?}");
    }
    world.power.unscript();
    world.power.release();
    let query = vector(3);
    let answer = memory.search(bounded(&query, 10).probe(1.0)).await.unwrap();
    assert_eq!(rows(&answer), rows(&truth(&memory, &query, 10).await));
    memory.close().await.unwrap();
}

#[tokio::test]
async fn the_read_budget_is_kept_and_said() {
    let world = World::with(settings(Metric::L2, "cache = \"1B\"\ncompare = 0.0"));
    let memory = filled(&world, 1_000, 0).await;
    let query = vector(5_000_000);
    let whole = memory.search(bounded(&query, 20).probe(1.0)).await.unwrap();
    assert!(whole.coverage.is_whole());
    let budget = whole.coverage.bytes / 2;
    let request = bounded(&query, 20).probe(1.0).read_budget(budget);
    let answer = memory.search(request).await.unwrap();
    assert!(answer.coverage.bytes <= budget, "{:?}", answer.coverage);
    assert!(!answer.coverage.is_whole() && !answer.coverage.proven);
    let [Cut::ReadBudget { rows }] = answer.coverage.cuts[..] else {
        panic!("{:?}", answer.coverage);
    };
    assert!(rows > 0 && !answer.hits.is_empty());
}

#[tokio::test]
async fn copies_dead_and_filtered_rows_take_no_places() {
    let world = World::with(settings(Metric::L2, "compare = 0.0"));
    let memory = filled(&world, 1_000, 0).await;
    let query = vector(42);
    let nearest = truth(&memory, &query, 12).await;
    let near: Vec<PointId> = nearest.hits.iter().map(|h| h.id.clone()).collect();
    // The nearest are resident as well as in their segment.
    assert_eq!(memory.promote(&near[..6]).await.unwrap(), 6);
    let everywhere = || bounded(&query, 10).probe(1.0);
    let answer = memory.search(everywhere()).await.unwrap();
    assert_eq!(rows(&answer), rows(&truth(&memory, &query, 10).await));
    memory.delete(&near[3..9]).await.unwrap();
    let answer = memory.search(everywhere()).await.unwrap();
    assert_eq!(rows(&answer), rows(&truth(&memory, &query, 10).await));
    assert!(
        near[3..9]
            .iter()
            .all(|id| answer.hits.iter().all(|h| h.id != *id))
    );
    let even = |request: SearchRequest| request.filter(|row| row.0.is_multiple_of(2));
    let answer = memory.search(even(everywhere())).await.unwrap();
    assert!(answer.hits.iter().all(|h| h.row.0.is_multiple_of(2)));
    let all = even(SearchRequest::new(query.clone(), 10).mode(SearchMode::Complete));
    assert_eq!(rows(&answer), rows(&memory.search(all).await.unwrap()));
    memory.close().await.unwrap();
    world.check_clean().await;
}

#[tokio::test]
async fn a_recall_that_is_no_share_is_refused() {
    let world = World::with(settings(Metric::L2, ""));
    let memory = filled(&world, 20, 0).await;
    for share in [1.5, -0.1, f64::NAN] {
        let error = memory
            .search(bounded(&vector(1), 3).recall(share))
            .await
            .unwrap_err();
        let expected = format!("recall: expected 0.0 to 1.0, got {share}");
        assert!(error.to_string().contains(&expected), "{error}");
    }
}

/// A search that filled its places with rows that had expired and the rest with hot rows took itself for full: nearer cold rows were missing.
#[tokio::test]
async fn rows_that_have_expired_take_no_places_from_nearer_cold_rows() {
    let world = World::with(settings(Metric::L2, "compare = 0.0"));
    let memory = world.open().await;
    let at = |i: u64| {
        let mut v = vec![0.0; DIM];
        v[0] = i as f32;
        v
    };
    let point = |i: u64| {
        let point = Point::new(PointId::Int(i), at(i));
        let mortal = i <= 8;
        if mortal {
            point.with_ttl(Duration::from_secs(60), false)
        } else {
            point
        }
    };
    memory.upsert((1..60).map(point).collect()).await.unwrap();
    // 1 to 8 will have expired, 9 to 39 are cold, 40 to 59 are hot.
    assert_eq!(memory.demote(&ids(1..40)).await.unwrap(), 39);
    world.clock.advance(Duration::from_secs(61));
    for mode in [SearchMode::Complete, SearchMode::Bounded] {
        let request = SearchRequest::new(at(0), 5).mode(mode).probe(1.0);
        let answer = memory.search(request).await.unwrap();
        let found: Vec<&PointId> = answer.hits.iter().map(|h| &h.id).collect();
        let expected: Vec<PointId> = (9..14).map(PointId::Int).collect();
        assert_eq!(found, expected.iter().collect::<Vec<_>>(), "{mode:?}");
    }
}

//! The engine over the kit's strict stores: what a user relies on, one promise a test.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use aether_core::engine::Parts;
use aether_core::role::Tier;
use aether_core::{Memory, Metric, Point, PointId, SearchRequest};

use common::{DIM, World, complete, exact, found, ids, points, vector};

#[tokio::test]
async fn points_go_cold_and_come_back_and_stay_found_all_the_way() {
    let world = World::new("64MiB");
    let memory = world.open().await;
    memory.upsert(points(0..200)).await.unwrap();
    let query = vector(9_999);
    let truth = exact(0..200, &query, 10);
    assert_eq!(found(&complete(&memory, query.clone(), 10).await), truth);
    assert_eq!(memory.demote(&ids(0..150)).await.unwrap(), 150);
    let stats = memory.stats();
    assert_eq!(
        (stats.points, stats.hot_rows, stats.cold_rows),
        (200, 50, 150)
    );
    assert_eq!(found(&complete(&memory, query.clone(), 10).await), truth);
    let record = memory.get(&PointId::Int(7)).await.unwrap().unwrap();
    assert_eq!(record.tier, Tier::Cold);
    assert_eq!(record.vector.unwrap(), vector(7));
    assert_eq!(record.payload.unwrap()["n"], 7);
    assert_eq!(memory.promote(&ids(0..20)).await.unwrap(), 20);
    assert_eq!(
        memory.get(&PointId::Int(7)).await.unwrap().unwrap().tier,
        Tier::Hot
    );
    assert_eq!(found(&complete(&memory, query.clone(), 10).await), truth);
    let written = world.cold.counts().puts;
    assert_eq!(memory.demote(&ids(0..20)).await.unwrap(), 20);
    assert_eq!(
        world.cold.counts().puts,
        written,
        "a segment held them already"
    );
    assert_eq!(found(&complete(&memory, query, 10).await), truth);
    memory.close().await.unwrap();
    world.check_clean().await;
}

#[tokio::test]
async fn updates_and_deletes_of_cold_points_leave_no_ghost() {
    let world = World::new("64MiB");
    let memory = world.open().await;
    memory.upsert(points(0..100)).await.unwrap();
    memory.demote(&ids(0..100)).await.unwrap();
    assert_eq!(memory.delete(&ids(0..10)).await.unwrap(), 10);
    assert_eq!(memory.delete(&ids(0..10)).await.unwrap(), 0);
    let moved: Vec<Point> = (10..20u64)
        .map(|i| Point::new(i, vector(i + 1000)))
        .collect();
    memory.upsert(moved).await.unwrap();
    let answer = complete(&memory, vector(15), 90).await;
    let mut ids: Vec<u64> = found(&answer);
    ids.sort_unstable();
    assert_eq!(ids, (10..100).collect::<Vec<_>>());
    let hit = answer
        .hits
        .iter()
        .find(|h| h.id == PointId::Int(15))
        .unwrap();
    assert!((hit.distance - Metric::L2.distance(&vector(15), &vector(1015))).abs() < 1e-4);
    assert!(memory.get(&PointId::Int(3)).await.unwrap().is_none());
    drop(memory);
    let memory = world.open().await;
    assert_eq!(memory.stats().points, 90);
    let mut ids = found(&complete(&memory, vector(15), 90).await);
    ids.sort_unstable();
    assert_eq!(ids, (10..100).collect::<Vec<_>>());
    memory.close().await.unwrap();
    world.check_clean().await;
}

#[tokio::test]
async fn the_budget_holds_and_what_finds_no_room_is_found_cold() {
    let world = World::new("128KiB");
    let memory = world.open().await;
    // How many are hot just now depends on how far a demotion is; at some time the tier is used.
    let mut most = 0;
    for start in (0..4000).step_by(200) {
        memory.upsert(points(start..start + 200)).await.unwrap();
        let stats = memory.stats();
        assert!(stats.hot_bytes <= stats.budget_bytes, "{stats:#?}");
        most = stats.hot_rows.max(most);
    }
    let stats = memory.stats();
    assert_eq!(stats.points, 4000);
    assert!(most > 100 && stats.hot_rows < 3000, "{most} {stats:#?}");
    for probe in [5u64, 2345, 3999] {
        let answer = complete(&memory, vector(probe), 1).await;
        assert_eq!(found(&answer), [probe]);
        assert!(answer.coverage.is_whole());
    }
    let query = vector(77_777);
    let truth = exact(0..4000, &query, 20);
    assert_eq!(found(&complete(&memory, query.clone(), 20).await), truth);
    for _ in 0..5 {
        memory.tick().await.unwrap();
        assert_eq!(found(&complete(&memory, query.clone(), 20).await), truth);
    }
    assert!(
        memory.stats().pressure <= 0.95 + 1e-9,
        "{:#?}",
        memory.stats()
    );
    drop(memory);
    let memory = world.open().await;
    assert_eq!(found(&complete(&memory, query, 20).await), truth);
    memory.close().await.unwrap();
    world.check_clean().await;
}

#[tokio::test]
async fn a_time_to_live_ends_points_in_both_tiers_and_reads_may_renew_it() {
    let world = World::new("64MiB");
    let memory = world.open().await;
    let minute = Duration::from_secs(60);
    let mut batch = points(0..4);
    batch[0] = batch[0].clone().with_ttl(minute, false);
    batch[1] = batch[1].clone().with_ttl(minute, false);
    batch[2] = batch[2].clone().with_ttl(minute, true);
    memory.upsert(batch).await.unwrap();
    memory.demote(&[PointId::Int(1)]).await.unwrap();
    world.clock.advance(minute / 2);
    assert_eq!(found(&complete(&memory, vector(1), 9).await).len(), 4);
    let left = memory
        .get(&PointId::Int(0))
        .await
        .unwrap()
        .unwrap()
        .expires_in
        .unwrap();
    assert_eq!(left, minute / 2);
    world.clock.advance(minute / 2);
    let mut seen = found(&complete(&memory, vector(1), 9).await);
    seen.sort_unstable();
    assert_eq!(seen, [2, 3]);
    assert!(memory.get(&PointId::Int(0)).await.unwrap().is_none());
    let report = memory.tick().await.unwrap();
    assert_eq!(report.expired, 2);
    assert_eq!(memory.stats().points, 2);
    world.clock.advance(minute * 2);
    memory.tick().await.unwrap();
    assert_eq!(memory.stats().points, 1);
    memory.close().await.unwrap();
    world.check_clean().await;
}

#[tokio::test]
async fn pins_keep_points_hot_across_pressure_updates_and_restarts() {
    let world = World::new("128KiB");
    let memory = world.open().await;
    memory.upsert(points(0..50)).await.unwrap();
    assert_eq!(memory.pin(&ids(0..5)).await.unwrap(), 5);
    for start in (100..2100).step_by(200) {
        memory.upsert(points(start..start + 200)).await.unwrap();
        memory.tick().await.unwrap();
    }
    memory.upsert(points(0..1)).await.unwrap();
    let tier = async |memory: &Memory, i: u64| {
        memory
            .get_many(&[PointId::Int(i)], Parts::NONE)
            .await
            .unwrap()[0]
            .as_ref()
            .unwrap()
            .tier
    };
    for i in 0..5 {
        assert_eq!(tier(&memory, i).await, Tier::Hot, "point {i}");
    }
    assert_eq!(tier(&memory, 20).await, Tier::Cold);
    assert_eq!(
        memory.demote(&ids(0..5)).await.unwrap(),
        0,
        "pinned points stay"
    );
    memory.close().await.unwrap();
    let memory = world.open().await;
    assert_eq!(memory.stats().pinned, 5);
    assert_eq!(memory.unpin(&ids(0..5)).await.unwrap(), 5);
    assert_eq!(memory.demote(&ids(0..5)).await.unwrap(), 5);
    memory.close().await.unwrap();
    world.check_clean().await;
}

#[tokio::test]
async fn what_is_used_comes_back_and_explain_tells_the_story() {
    let world = World::new("64MiB");
    let memory = world.open().await;
    memory.upsert(points(0..100)).await.unwrap();
    memory.demote(&ids(0..100)).await.unwrap();
    let told = memory.explain(&PointId::Int(5)).await.unwrap().unwrap();
    assert_eq!(told.tier, Tier::Cold);
    assert!(
        told.home.contains("segment") && told.home.contains("partition"),
        "{told}"
    );
    assert_eq!(told.moves.len(), 1, "{told}");
    memory.get(&PointId::Int(5)).await.unwrap();
    let report = memory.tick().await.unwrap();
    assert_eq!(report.promoted, 1, "{report:?}");
    let told = memory.explain(&PointId::Int(5)).await.unwrap().unwrap();
    assert_eq!(told.tier, Tier::Hot, "{told}");
    assert!(
        memory
            .explain(&PointId::Int(12345))
            .await
            .unwrap()
            .is_none()
    );
    memory.close().await.unwrap();
}

#[tokio::test]
async fn a_snapshot_restores_to_the_same_memory() {
    let world = World::new("64MiB");
    let memory = world.open().await;
    memory.upsert(points(0..100)).await.unwrap();
    memory.demote(&ids(0..60)).await.unwrap();
    memory.delete(&ids(50..55)).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let report = memory.snapshot(folder.path().join("s")).await.unwrap();
    assert_eq!(report.segments, 1);
    assert!(
        memory
            .snapshot(folder.path().join("s"))
            .await
            .unwrap_err()
            .is_invalid_input()
    );
    memory.close().await.unwrap();
    assert!(memory.upsert(points(0..1)).await.unwrap_err().is_closed());
}

#[tokio::test]
async fn bad_input_is_refused_and_changes_nothing() {
    let world = World::new("64MiB");
    let memory = world.open().await;
    memory.upsert(points(0..3)).await.unwrap();
    let bad: Vec<(Vec<Point>, &str)> = vec![
        (
            vec![Point::new(9, vec![1.0; DIM + 1])],
            "expected 8 dimensions, got 9",
        ),
        (vec![Point::new(9, vec![f32::NAN; DIM])], "vector[0]"),
        (vec![Point::new(9, vec![f32::INFINITY; DIM])], "vector[0]"),
        (vec![Point::new("", vector(1))], "empty text"),
        (vec![Point::new("x".repeat(513), vector(1))], "513 bytes"),
        (
            vec![Point::new(9, vector(1)), Point::new(9, vector(2))],
            "twice",
        ),
        (
            vec![Point::new(9, vector(1)).with_ttl(Duration::ZERO, false)],
            "ttl",
        ),
        (
            vec![Point::new(9, vector(1)), Point::new(10, vec![])],
            "point 1",
        ),
        (
            vec![Point::new(9, vector(1)).with_payload("x".repeat(300_000).into())],
            "limits.payload_bytes",
        ),
    ];
    for (batch, words) in bad {
        let error = memory.upsert(batch).await.unwrap_err();
        assert!(
            error.is_invalid_input() && error.to_string().contains(words),
            "{words}: {error}"
        );
    }
    let search = async |r: SearchRequest| memory.search(r).await.unwrap_err().to_string();
    assert!(
        search(SearchRequest::new(vector(1), 0))
            .await
            .contains("k: expected 1")
    );
    assert!(
        search(SearchRequest::new(vector(1), 10_001))
            .await
            .contains("got 10001")
    );
    assert!(
        search(SearchRequest::new(vec![0.0; 2], 1))
            .await
            .contains("query")
    );
    assert!(
        search(SearchRequest::new(vector(1), 1).ef(0))
            .await
            .contains("ef")
    );
    assert!(
        search(SearchRequest::new(vector(1), 1).probe(f64::NAN))
            .await
            .contains("probe")
    );
    assert!(
        memory
            .feedback(&PointId::Int(1), 1.5)
            .await
            .unwrap_err()
            .is_invalid_input()
    );
    assert!(
        memory
            .set_temperature(f64::NAN)
            .unwrap_err()
            .is_invalid_input()
    );
    assert!(
        memory
            .delete(&[PointId::from("")])
            .await
            .unwrap_err()
            .is_invalid_input()
    );
    assert_eq!(memory.stats().points, 3);
    assert!(memory.get(&PointId::Int(9)).await.unwrap().is_none());
    memory.close().await.unwrap();
    world.check_clean().await;
}

#[tokio::test]
async fn explain_tells_tier_worth_threshold_moves_and_outlook_in_words_and_json() {
    let world = World::new("64MiB");
    let memory = world.open().await;
    memory.upsert(points(0..100)).await.unwrap();
    memory.demote(&ids(0..100)).await.unwrap();
    memory.promote(&ids(0..1)).await.unwrap();
    memory.tick().await.unwrap();
    let told = memory.explain(&PointId::Int(0)).await.unwrap().unwrap();
    let json = serde_json::to_value(&told).unwrap();
    assert_eq!(json["tier"], "hot");
    let moves: Vec<_> = json["moves"].as_array().unwrap().iter().collect();
    let to: Vec<_> = moves.iter().map(|m| m["to"].clone()).collect();
    assert_eq!(to, ["hot", "cold"], "{told}");
    for made in moves {
        assert!(made["at"].is_number(), "{made}");
        assert_eq!(made["by"], "hand");
        assert!(!made["reason"].as_str().unwrap().is_empty(), "{made}");
        assert_eq!(made["policy"], json["policy"]);
    }
    let keep = json["standing"]["keep"].as_f64().unwrap();
    assert!(!json["standing"]["figures"].as_array().unwrap().is_empty());
    assert!(json["threshold"].is_number(), "a turn has looked: {told}");
    assert_eq!(json["next"]["to"], "cold");
    assert_eq!(
        json["next"]["chance"], 0.0,
        "the tier is nearly empty: {told}"
    );
    let words = told.to_string();
    for part in [
        "is hot",
        "a call moved it into RAM",
        "a call moved it to the cold store",
        "s ago",
        &format!("Worth {keep:.4}"),
        "threshold",
        "Next: it stays while the hot tier is at most 90 % full",
    ] {
        assert!(words.contains(part), "{part} is missing in:\n{words}");
    }
    // A shadow is asked the same way; there is none here, and the error says so.
    let error = memory
        .explain_by(&PointId::Int(0), "nobody")
        .await
        .unwrap_err();
    assert!(error.to_string().contains("there is no shadow"), "{error}");
    memory.close().await.unwrap();
    // Whoever asks from another process, which no turn has looked in, is told the same.
    let memory = world.open().await;
    let again = memory.explain(&PointId::Int(0)).await.unwrap().unwrap();
    assert_eq!((again.moves, again.threshold), (told.moves, told.threshold));
    memory.close().await.unwrap();
}

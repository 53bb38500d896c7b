//! A hot tier that is sized by an objective: what stays, what is said of it, and what a restart keeps.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use aether_core::engine::Parts;
use aether_core::role::Tier;
use aether_core::{Memory, PointId};

use common::{Settings, World, ids, points};

const POINTS: u64 = 2000;
const USED: u64 = 200;

/// RAM at a price at which a row of 300 bytes, read back for a millionth of a dollar, breaks even at 100 seconds; a row of the tests takes
/// about that.
const DEAR: &str = "objective = { ram = 87660.0, request = 0.001, object_store = 0.0 }";
/// A ten-thousandth of that.
const CHEAP: &str = "objective = { ram = 8.766, request = 0.001, object_store = 0.0 }";

fn world(flux: &'static str) -> World {
    World::with(Settings {
        budget: "4MiB",
        flux,
        ..Settings::default()
    })
}

/// Uses the first rows every ten seconds, `rounds` times.
async fn live(world: &World, memory: &Memory, rounds: u64) {
    for _ in 0..rounds {
        world.clock.advance(Duration::from_secs(10));
        memory.get_many(&ids(0..USED), Parts::NONE).await.unwrap();
        memory.tick().await.unwrap();
    }
}

async fn hot(memory: &Memory, id: u64) -> bool {
    let explained = memory.explain(&PointId::Int(id)).await.unwrap().unwrap();
    explained.tier == Tier::Hot
}

#[tokio::test]
async fn rows_stay_while_their_ram_costs_less_than_reading_them_back() {
    let world = world(DEAR);
    let memory = world.open().await;
    memory.upsert(points(0..POINTS)).await.unwrap();
    live(&world, &memory, 3).await;
    let early = memory.stats();
    assert_eq!((early.hot_rows, early.budget_bytes), (POINTS, 4 << 20));
    let steps = early.objective.unwrap().steps.join("\n");
    assert!(steps.contains("the whole bound is taken"), "{steps}");

    live(&world, &memory, 150).await;
    let stats = memory.stats();
    // The rows in use, at nine tenths of the tier.
    assert!(
        (USED..USED * 5 / 4).contains(&stats.hot_rows),
        "{}",
        stats.hot_rows
    );
    assert!(stats.budget_bytes < 1 << 20, "{}", stats.budget_bytes);
    assert!(hot(&memory, 7).await && !hot(&memory, USED + 7).await);
    let sizing = stats.objective.clone().unwrap();
    assert_eq!(sizing.met, Some(true));
    let interval = sizing.interval_s.unwrap();
    assert!((30.0..300.0).contains(&interval), "{interval}");
    let steps = sizing.steps.join("\n");
    for part in [
        "break-even interval",
        "about 200 of 2000 rows were used within",
    ] {
        assert!(steps.contains(part), "{part}: {steps}");
    }
    let explained = memory.explain(&PointId::Int(7)).await.unwrap().unwrap();
    let told = explained.to_string();
    assert!(
        told.contains("The hot tier is sized for the least cost"),
        "{told}"
    );
    assert!(told.contains("break-even interval"), "{told}");
    let json = serde_json::to_value(&stats).unwrap();
    assert_eq!(json["objective"]["met"], true);
    assert!(json["objective"]["steps"].as_array().unwrap().len() >= 4);
    assert_eq!(
        serde_json::to_value(&explained).unwrap()["objective"],
        json["objective"]
    );
    memory.close().await.unwrap();
    world.check_clean().await;
}

#[tokio::test]
async fn where_ram_is_cheap_all_rows_stay() {
    let world = world(CHEAP);
    let memory = world.open().await;
    memory.upsert(points(0..POINTS)).await.unwrap();
    live(&world, &memory, 150).await;
    let stats = memory.stats();
    assert_eq!((stats.hot_rows, stats.budget_bytes), (POINTS, 4 << 20));
    memory.close().await.unwrap();
}

#[tokio::test]
async fn without_an_objective_nothing_is_derived() {
    let world = world("");
    let memory = world.open().await;
    memory.upsert(points(0..POINTS)).await.unwrap();
    live(&world, &memory, 20).await;
    let stats = memory.stats();
    assert_eq!((stats.hot_rows, stats.budget_bytes), (POINTS, 4 << 20));
    assert!(stats.objective.is_none());
    let told = memory
        .explain(&PointId::Int(7))
        .await
        .unwrap()
        .unwrap()
        .to_string();
    assert!(!told.contains("sized for"), "{told}");
    memory.close().await.unwrap();
}

#[tokio::test]
async fn what_was_observed_outlives_a_restart() {
    let world = world(DEAR);
    let memory = world.open().await;
    memory.upsert(points(0..POINTS)).await.unwrap();
    live(&world, &memory, 150).await;
    let before = memory.stats();
    memory.close().await.unwrap();

    let memory = world.open().await;
    let after = memory.stats();
    let (then, now) = (before.objective.unwrap(), after.objective.unwrap());
    assert_eq!((now.met, now.rows), (Some(true), then.rows));
    assert!(after.budget_bytes < 1 << 20, "{}", after.budget_bytes);
    live(&world, &memory, 3).await;
    assert!(memory.stats().hot_rows < USED * 5 / 4);
    memory.close().await.unwrap();
    world.check_clean().await;
}

#[tokio::test]
async fn rows_come_back_when_more_are_in_use() {
    let world = world(DEAR);
    let memory = world.open().await;
    memory.upsert(points(0..POINTS)).await.unwrap();
    live(&world, &memory, 150).await;
    for _ in 0..30 {
        world.clock.advance(Duration::from_secs(10));
        memory
            .get_many(&ids(0..USED * 4), Parts::NONE)
            .await
            .unwrap();
        memory.tick().await.unwrap();
    }
    let stats = memory.stats();
    assert!(
        (USED * 4..USED * 5).contains(&stats.hot_rows),
        "{}",
        stats.hot_rows
    );
    memory.close().await.unwrap();
    world.check_clean().await;
}

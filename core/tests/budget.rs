//! The hot tier without room: the budget holds whatever the rows are, and nobody waits for one who waits for them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use aether_core::config::SearchMode;
use aether_core::engine::Parts;
use aether_core::{Memory, Point, PointId, SearchRequest};
use tokio::time::Instant;

use common::{Call, Settings, Verdict, World, ids, points, vector};

/// The kit's exact index, so that the budget is a sharp edge.
fn world(budget: &'static str, insert_wait: &'static str) -> World {
    World::with(Settings {
        budget,
        insert_wait,
        hot: "fake",
        ..Settings::default()
    })
}

fn assert_within(memory: &Memory) {
    let stats = memory.stats();
    assert!(stats.hot_bytes <= stats.budget_bytes, "{stats:#?}");
}

/// Writes points until some land cold; answers how many were written.
async fn fill_up(memory: &Memory) -> u64 {
    let mut written = 0;
    loop {
        let done = memory.upsert(points(written..written + 8)).await.unwrap();
        written += 8;
        if done.cold > 0 || memory.stats().cold_rows > 0 {
            return written;
        }
    }
}

/// Promotions counted rows, but neither the text of their ids nor the places of their times to live: with long ids the tier took 434 kB of
/// a budget of 164.
#[tokio::test]
async fn promotions_of_long_ids_and_mortal_points_stay_within_the_budget() {
    let long = |i: u64| format!("{i:0>400}");
    let named = |i: u64| Point::new(long(i).as_str(), vector(i));
    let mortal = |i: u64| Point::new(i, vector(i)).with_ttl(Duration::from_secs(900), true);
    for make in [&named as &dyn Fn(u64) -> Point, &mortal] {
        let world = world("160KiB", "0s");
        let memory = world.open().await;
        let mut all: Vec<PointId> = Vec::new();
        for start in (0..800).step_by(50) {
            let some: Vec<Point> = (start..start + 50).map(make).collect();
            let some_ids: Vec<PointId> = some.iter().map(|p| p.id.clone()).collect();
            memory.upsert(some).await.unwrap();
            memory.demote(&some_ids).await.unwrap();
            all.extend(some_ids);
        }
        assert_eq!(memory.stats().cold_rows, 800);
        let promoted = memory.promote(&all).await.unwrap();
        assert_within(&memory);
        // What fits came, and not less because the others did not.
        assert!((100..800).contains(&promoted), "{promoted}");
        memory.promote(&all).await.unwrap();
        assert_within(&memory);
        memory.promote(&all).await.unwrap();
        assert_within(&memory);
        memory.close().await.unwrap();
        world.check_clean().await;
    }
}

/// A turn of the scheduler held the flux while the committer was to remove what had expired, and the committer waited for the flux to
/// make room: both waited for all of `memory.insert_wait`, and the rows landed cold.
#[tokio::test(start_paused = true)]
async fn a_turn_that_removes_what_has_expired_does_not_hold_up_a_write_that_needs_room() {
    let world = world("160KiB", "60s");
    let memory = world.open().await;
    let mortal = Point::new(9_999, vector(1)).with_ttl(Duration::from_secs(5), false);
    memory.upsert(vec![mortal]).await.unwrap();
    let mut written = 0;
    while memory.stats().pressure < 1.0 {
        memory.upsert(points(written..written + 1)).await.unwrap();
        written += 1;
    }
    world.clock.advance(Duration::from_secs(10));
    // The turn looks for what has expired, and stops there.
    world.power.script(|call, _| match call {
        Call::Meta("scan") => Verdict::Hold,
        _ => Verdict::Pass,
    });
    let turn = tokio::spawn({
        let memory = memory.clone();
        async move { memory.tick().await }
    });
    world.power.wait_for_held(1).await;
    let began = Instant::now();
    let writing = tokio::spawn({
        let memory = memory.clone();
        async move { memory.upsert(points(written..written + 4)).await }
    });
    tokio::time::sleep(Duration::from_millis(10)).await;
    world.power.unscript();
    world.power.release();
    assert_eq!(turn.await.unwrap().unwrap().expired, 1);
    assert_eq!(writing.await.unwrap().unwrap().cold, 0);
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );
    assert_within(&memory);
    memory.close().await.unwrap();
    world.check_clean().await;
}

/// Rows that were demoted stay in RAM until the searches that may see them have ended. Writes and turns that found no room meanwhile
/// sent others after them, again and again, until one slow search had emptied the tier.
#[tokio::test(start_paused = true)]
async fn a_slow_reader_does_not_empty_the_tier() {
    let world = world("160KiB", "5ms");
    let memory = world.open().await;
    let written = fill_up(&memory).await;
    let full = memory.stats().hot_rows;
    world.power.script(|call, _| match call {
        Call::Read(_) => Verdict::Hold,
        _ => Verdict::Pass,
    });
    let request = SearchRequest::new(vector(1), 5)
        .mode(SearchMode::Complete)
        .deadline(Duration::from_secs(3_600))
        .parts(Parts::default());
    let reading = tokio::spawn({
        let memory = memory.clone();
        async move { memory.search(request).await }
    });
    world.power.wait_for_held(1).await;
    for round in 0..40 {
        let start = written + round * 4;
        memory.upsert(points(start..start + 4)).await.unwrap();
        memory.tick().await.unwrap();
        assert_within(&memory);
    }
    let left = memory.stats().hot_rows;
    world.power.unscript();
    world.power.release();
    assert!(reading.await.unwrap().unwrap().coverage.is_whole());
    assert!(left * 10 >= full * 8, "{left} rows are left of {full}");
    memory.close().await.unwrap();
    world.check_clean().await;
}

/// Two batches are under way at once, and the commit of each carries the intent of the one after it. Whatever number of batches
/// there are, and though rows of a later one go before it is packed, none of these intents is left.
#[tokio::test]
async fn no_intent_stays_after_a_demotion_of_many_batches() {
    for rows in [1, 4, 5, 8, 12, 13, 40] {
        for gone in [0, 1, 4, 8, rows] {
            let world = World::with(Settings {
                flux: "batch_rows = 4",
                ..Settings::default()
            });
            let memory = world.open().await;
            memory.upsert(points(0..rows)).await.unwrap();
            // The last rows go while the first batch is put.
            world.power.script(|call, _| match call {
                Call::Put(_) => Verdict::Hold,
                _ => Verdict::Pass,
            });
            let moving = tokio::spawn({
                let memory = memory.clone();
                async move { memory.demote(&ids(0..rows)).await }
            });
            world.power.wait_for_held(1).await;
            let last = ids(rows - gone.min(rows)..rows);
            memory.delete(&last).await.unwrap();
            world.power.unscript();
            world.power.release();
            let moved = moving.await.unwrap().unwrap();
            assert_eq!(moved as u64, rows - gone.min(rows));
            assert_eq!(world.intents(), [""; 0], "{rows} rows, {gone} gone");
            memory.close().await.unwrap();
            world.check_clean().await;
        }
    }
}

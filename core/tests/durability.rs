//! What each level of `memory.durability` has done when it answers, and what a power cut takes then.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use aether_core::role::{Table, Tier};
use aether_core::{Metric, PointId};
use aether_testkit::run::FLUSH;
use aether_testkit::workload::{Profile, Workload};

use common::{Call, Run, Settings, Verdict, World, complete, exact, found, ids, points, vector};

fn world(memory: &'static str) -> World {
    World::with(Settings {
        memory,
        ..Settings::default()
    })
}

fn syncs(world: &World) -> usize {
    let trace = world.power.trace();
    trace
        .iter()
        .filter(|c| **c == Call::Meta("durable"))
        .count()
}

fn rows_of(world: &World, table: Table) -> usize {
    world
        .meta
        .dump()
        .iter()
        .filter(|(t, ..)| *t == table)
        .count()
}

async fn holds(world: &World, n: u64, what: &str) {
    let memory = world.open().await;
    let query = vector(4_711);
    let answer = complete(&memory, query.clone(), 200).await;
    assert_eq!(found(&answer), exact(0..n, &query, 200), "{what}");
    assert_eq!(memory.stats().points, n, "{what}");
    memory.close().await.unwrap();
    world.check_clean().await;
}

#[tokio::test]
async fn commit_has_synced_when_it_answers() {
    let mut world = world("durability = \"commit\"");
    let memory = world.open().await;
    let before = syncs(&world);
    memory.upsert(points(0..50)).await.unwrap();
    assert_eq!(syncs(&world), before + 1);
    assert_eq!(world.meta.pending(), 0);
    drop(memory);
    world.crash(0);
    holds(&world, 50, "a power cut after the answer").await;
}

#[tokio::test]
async fn none_does_not_wait_for_a_sync_and_loses_whole_writes_from_the_end_only() {
    for survive in 0..=3 {
        let mut world = world("durability = \"none\"\nflush_every = \"5s\"");
        let memory = world.open().await;
        memory.upsert(points(0..10)).await.unwrap();
        // The flush makes durable what was written before it.
        world.clock.advance(Duration::from_secs(6));
        memory.tick().await.unwrap();
        assert_eq!(world.meta.pending(), 0);
        let before = syncs(&world);
        for n in 1..=3 {
            memory.upsert(points(n * 10..(n + 1) * 10)).await.unwrap();
        }
        assert_eq!(syncs(&world), before, "a write waited for the disk");
        assert_eq!(world.meta.pending(), 3);
        let query = vector(5);
        assert_eq!(
            found(&complete(&memory, query.clone(), 60).await),
            exact(0..40, &query, 60),
            "what is not durable is seen all the same"
        );
        drop(memory);
        world.crash(survive);
        let n = 10 + 10 * survive as u64;
        holds(&world, n, &format!("{survive} commits survived")).await;
    }
}

#[tokio::test]
async fn none_keeps_everything_over_a_closing_and_every_move() {
    let mut world = world("durability = \"none\"");
    let memory = world.open().await;
    memory.upsert(points(0..40)).await.unwrap();
    // A move syncs, and with it what came before.
    assert_eq!(memory.demote(&ids(0..10)).await.unwrap(), 10);
    assert_eq!(world.meta.pending(), 0);
    memory.upsert(points(40..60)).await.unwrap();
    memory.close().await.unwrap();
    drop(memory);
    world.crash(0);
    holds(&world, 60, "a closing, then a power cut").await;
}

#[tokio::test]
async fn cold_has_the_rows_in_a_segment_when_it_answers_and_keeps_them_hot() {
    let mut world = world("durability = \"cold\"");
    let memory = world.open().await;
    memory.upsert(points(0..30)).await.unwrap();
    assert_eq!(world.segments().len(), 1, "one segment for the group");
    assert_eq!(rows_of(&world, Table::Fresh), 0, "no other home");
    assert_eq!(rows_of(&world, Table::Cold), 30);
    assert_eq!(world.meta.pending(), 0);
    let stats = memory.stats();
    // Those whose home is a segment count as rows of the cold tier, hot or not, as after a promotion.
    assert_eq!((stats.hot_rows, stats.cold_rows), (30, 30), "{stats:#?}");
    assert_eq!(stats.counted.landed_cold, 0);
    // Each is found once, by its vector and by its id, although it is in both tiers.
    let query = vector(4_711);
    let answer = complete(&memory, query.clone(), 60).await;
    assert_eq!(found(&answer), exact(0..30, &query, 60));
    let records = memory
        .get_many(&ids(0..30), Default::default())
        .await
        .unwrap();
    for (n, record) in (0..).zip(records.into_iter().map(Option::unwrap)) {
        assert_eq!(record.vector, Some(vector(n)));
        assert_eq!(record.payload.unwrap()["n"], n);
        assert_eq!(record.tier, Tier::Hot);
    }
    // A home in the cold store makes a demotion free.
    assert_eq!(memory.demote(&ids(0..10)).await.unwrap(), 10);
    assert_eq!(world.segments().len(), 1);
    // Updates and deletions of such rows.
    memory.upsert(points(5..15)).await.unwrap();
    assert_eq!(memory.delete(&ids(28..30)).await.unwrap(), 2);
    assert_eq!(world.segments().len(), 2);
    assert_eq!(
        found(&complete(&memory, query.clone(), 60).await),
        exact(0..28, &query, 60)
    );
    drop(memory);
    world.crash(0);
    holds(&world, 28, "a power cut after the answer").await;
    let memory = world.open().await;
    assert_eq!(memory.stats().hot_rows, 23, "what was hot comes back hot");
    memory.close().await.unwrap();
}

#[tokio::test]
async fn cold_refuses_a_write_that_the_cold_store_does_not_take() {
    let world = world("durability = \"cold\"");
    let memory = world.open().await;
    memory.upsert(points(0..20)).await.unwrap();
    world.power.script(|call, _| match call {
        Call::Put(_) => Verdict::Fail,
        _ => Verdict::Pass,
    });
    let error = memory.upsert(points(10..30)).await.unwrap_err();
    assert!(error.is_unavailable(), "{error}");
    world.power.unscript();
    let query = vector(1);
    assert_eq!(
        found(&complete(&memory, query.clone(), 60).await),
        exact(0..20, &query, 60)
    );
    let stats = memory.stats();
    assert_eq!((stats.points, stats.hot_rows), (20, 20));
    memory.upsert(points(10..30)).await.unwrap();
    memory.close().await.unwrap();
    holds(&world, 30, "after the store came back").await;
}

/// Random work with power cuts, as `model.rs` has it for the default level.
#[test]
fn cold_keeps_every_promise_under_power_cuts() {
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_time().build().unwrap();
    runtime.block_on(async {
        for seed in 1..=3 {
            let profile = Profile {
                dim: 16,
                ids: 500,
                batch: 40,
                crash_every: 25,
            };
            let memory: &str = format!("{FLUSH}\ndurability = \"cold\"").leak();
            let mut run = Run::new(World::with(Settings {
                dim: 16,
                metric: Metric::L2,
                budget: "96KiB",
                memory,
                flux: "batch_rows = 40\nsample = 32",
                compaction: "ratio = 4\nsegment_bytes = \"4KiB\"\ngrace = \"8s\"",
                ..Settings::default()
            }))
            .await;
            let mut workload = Workload::new(seed, profile);
            for n in 0..1_500 {
                let op = workload.next_op();
                let done = run.step(op.clone()).await;
                done.unwrap_or_else(|what| panic!("seed {seed}, step {n}: {op:?}: {what}"));
            }
            run.world.power.unscript();
            run.check_everything().await.unwrap();
            run.memory().close().await.unwrap();
            run.check_stored().await.unwrap();
            assert!(
                run.crashes > 20 && run.moved > 50,
                "{} {}",
                run.crashes,
                run.moved
            );
        }
    });
}

/// A cold point is deleted, or replaced by a version that lands cold, and the sync does not come: nobody is told of it until it does, since
/// a power cut would bring the former one back.
#[tokio::test]
async fn what_a_power_cut_would_undo_is_not_told() {
    for replaced in [false, true] {
        let world = world("durability = \"cold\"");
        let memory = world.open().await;
        memory.upsert(points(0..4)).await.unwrap();
        memory.demote(&ids(0..2)).await.unwrap();
        let read = async || memory.get(&PointId::Int(0)).await;
        let before = read().await.unwrap().unwrap();
        // The note of the segment comes before the version that lands in it.
        let notes = AtomicUsize::new(usize::from(replaced));
        world.power.script(move |call, _| {
            let syncs = *call == Call::Meta("durable");
            let is_note = |n: usize| n.checked_sub(1);
            match syncs && notes.fetch_update(SeqCst, SeqCst, is_note).is_err() {
                true => Verdict::Hold,
                false => Verdict::Pass,
            }
        });
        let writing = tokio::spawn({
            let memory = memory.clone();
            async move {
                match replaced {
                    true => memory.upsert(points(0..1)).await.map(drop),
                    false => memory.delete(&ids(0..1)).await.map(drop),
                }
            }
        });
        world.power.wait_for_held(1).await;
        let mut asking = std::pin::pin!(read());
        let waited = tokio::time::timeout(Duration::from_millis(50), &mut asking).await;
        match waited {
            Ok(told) => assert_eq!(told.unwrap().unwrap().row, before.row),
            Err(_) => {
                world.power.unscript();
                world.power.release();
                let told = asking.await.unwrap();
                assert_eq!(told.is_some(), replaced);
                assert!(told.is_none_or(|r| r.row > before.row));
            }
        }
        world.power.unscript();
        world.power.release();
        writing.await.unwrap().unwrap();
        // Another point is answered whatever is under way.
        assert!(memory.get(&PointId::Int(1)).await.unwrap().is_some());
        memory.close().await.unwrap();
    }
}

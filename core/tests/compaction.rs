//! Compaction: what it costs, what it gives back, and that nobody notices but those who ask.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use aether_core::role::Tier;
use aether_core::{Memory, Metric, Point, PointId};

use common::{Call, DIM, Settings, Verdict, World, complete, exact, found, ids, points, vector};

/// No rate, since the clock stands still unless a test moves it.
const FREE: &str = "ratio = 4\nsegment_bytes = \"8KiB\"\nrate = \"0B\"\ngrace = \"1min\"";

fn world() -> World {
    World::with(Settings {
        compaction: FREE,
        ..Settings::default()
    })
}

/// Writes points and sends them cold in segments of ten.
async fn send_cold(memory: &Memory, range: std::ops::Range<u64>) {
    memory.upsert(points(range.clone())).await.unwrap();
    let all = ids(range);
    for some in all.chunks(10) {
        assert_eq!(memory.demote(some).await.unwrap(), some.len());
    }
}

async fn assert_found(memory: &Memory, live: impl Iterator<Item = u64> + Clone) {
    let query = vector(77_777);
    let answer = complete(memory, query.clone(), 50).await;
    assert!(answer.coverage.is_whole(), "{:?}", answer.coverage);
    assert_eq!(found(&answer), exact(live.clone(), &query, 50));
    for i in live {
        let record = memory.get(&PointId::Int(i)).await.unwrap().unwrap();
        assert_eq!(record.vector.unwrap(), vector(i), "point {i}");
        assert_eq!(record.payload.unwrap()["n"], i);
    }
}

/// Lets the grace pass, and the sweep come round.
async fn sweep(world: &World, memory: &Memory) {
    world.clock.advance(Duration::from_secs(61));
    while memory.stats().garbage > 0 {
        memory.tick().await.unwrap();
    }
}

#[tokio::test]
async fn twenty_times_turnover_writes_less_than_ten_bytes_for_one() {
    // Every row of 4,000 is replaced 20 times, in batches of 200 that go cold at once; the scheduler keeps things in order meanwhile.
    const ROWS: u64 = 4_000;
    const WIDE: usize = 64;
    let world = World::with(Settings {
        dim: WIDE,
        compaction: "segment_bytes = \"256KiB\"\nrate = \"0B\"\ngrace = \"1s\"",
        ..Settings::default()
    });
    let memory = world.open().await;
    let mut rng = fastrand::Rng::with_seed(20);
    for round in 0..21u64 {
        let mut order: Vec<u64> = (0..ROWS).collect();
        rng.shuffle(&mut order);
        for batch in order.chunks(200) {
            let some: Vec<PointId> = batch.iter().copied().map(PointId::Int).collect();
            let point = |i: &u64| {
                let mut rng = fastrand::Rng::with_seed(round << 32 | *i);
                Point::new(*i, (0..WIDE).map(|_| rng.f32()).collect::<Vec<f32>>())
            };
            memory
                .upsert(batch.iter().map(point).collect())
                .await
                .unwrap();
            assert_eq!(memory.demote(&some).await.unwrap(), some.len());
            world.clock.advance(Duration::from_millis(250));
            memory.tick().await.unwrap();
        }
    }
    while memory.tick().await.unwrap().compacted > 0 {}
    let stats = memory.stats();
    let amplification = stats.write_amplification().unwrap();
    println!(
        "write amplification {amplification:.2}, {} segments, {} steps",
        stats.segments, stats.counted.compactions
    );
    assert!((1.0..10.0).contains(&amplification), "{amplification}");
    assert_eq!(stats.cold_rows, ROWS);
    let live = ROWS * WIDE as u64 * 4;
    assert!(
        stats.cold_bytes < live * 5 / 2,
        "{} bytes kept of {live}",
        stats.cold_bytes
    );
    assert!(stats.segments < 40, "{} segments", stats.segments);
    sweep(&world, &memory).await;
    assert_eq!(world.segments().len() as u64, memory.stats().segments);
    memory.close().await.unwrap();
    world.check_clean().await;
    // Of the memory's whole life, not of one opening.
    let memory = world.open().await;
    assert_eq!(memory.stats().write_amplification(), Some(amplification));
}

#[tokio::test]
async fn dead_and_expired_rows_leave_and_the_others_stay_where_they_are() {
    let world = world();
    let memory = world.open().await;
    send_cold(&memory, 0..300).await;
    let mortal = |i| Point::new(i, vector(i)).with_ttl(Duration::from_secs(30), false);
    memory
        .upsert((300..400).map(mortal).collect())
        .await
        .unwrap();
    memory.demote(&ids(300..400)).await.unwrap();
    memory.promote(&ids(0..20)).await.unwrap();
    memory.pin(&ids(0..5)).await.unwrap();
    memory.delete(&ids(100..250)).await.unwrap();
    let before = memory.stats();
    world.clock.advance(Duration::from_secs(31));
    let report = memory.compact().await.unwrap();
    let after = memory.stats();
    assert_eq!(report.segments_before as u64, before.segments);
    assert_eq!((after.cold_rows, after.points), (150, 150));
    assert!(after.segments <= 4, "{} segments", after.segments);
    assert!(after.cold_bytes * 2 < before.cold_bytes, "{after:#?}");
    assert_eq!(
        after.hot_rows, 20,
        "compaction moves nothing between the tiers"
    );
    assert_found(&memory, (0..100).chain(250..300)).await;
    // What is in RAM knows its new home: it leaves without anything being written.
    let written = memory.stats().counted.segments_written;
    assert_eq!(
        memory.demote(&ids(0..20)).await.unwrap(),
        15,
        "five are pinned"
    );
    assert_eq!(memory.stats().counted.segments_written, written);
    assert_found(&memory, (0..100).chain(250..300)).await;
    let again = memory.compact().await.unwrap();
    assert_eq!(again.rows, 0, "all is in order: {again:?}");
    sweep(&world, &memory).await;
    assert_eq!(world.segments().len() as u64, memory.stats().segments);
    memory.close().await.unwrap();
    world.check_clean().await;
    let memory = world.open().await;
    assert_found(&memory, (0..100).chain(250..300)).await;
}

#[tokio::test]
async fn blobs_stay_while_a_search_that_began_before_reads_them() {
    let world = world();
    let memory = world.open().await;
    send_cold(&memory, 0..100).await;
    let first = Arc::new(AtomicBool::new(true));
    let held = first.clone();
    world.power.script(move |call, _| match call {
        Call::Read(_) if held.swap(false, SeqCst) => Verdict::Hold,
        _ => Verdict::Pass,
    });
    let (searcher, query) = (memory.clone(), vector(5));
    let search = tokio::spawn(async move { complete(&searcher, query, 100).await });
    world.power.wait_for_held(1).await;
    let before = world.segments().len();
    memory.compact().await.unwrap();
    memory.delete(&ids(0..10)).await.unwrap();
    world.clock.advance(Duration::from_secs(3600));
    memory.tick().await.unwrap();
    assert!(
        world.segments().len() > before,
        "a blob went under a search"
    );
    assert!(memory.stats().garbage as usize >= before);
    world.power.release();
    let answer = search.await.unwrap();
    assert!(answer.coverage.is_whole(), "{:?}", answer.coverage);
    // It sees the moment in which it began, or begins again where a name is gone: never a gap.
    let hits = found(&answer);
    assert!(hits.len() == 100 || hits.len() == 90, "{}", hits.len());
    sweep(&world, &memory).await;
    assert_eq!(world.segments().len() as u64, memory.stats().segments);
    assert_found(&memory, 10..100).await;
}

#[tokio::test]
async fn a_store_that_is_down_makes_compaction_wait_and_loses_nothing() {
    let world = world();
    let memory = world.open().await;
    send_cold(&memory, 0..100).await;
    world.power.script(|call, _| match call {
        Call::Put(_) => Verdict::Lost,
        _ => Verdict::Pass,
    });
    assert_eq!(memory.tick().await.unwrap().compacted, 0);
    assert_eq!(memory.stats().counted.compactions_failed, 1);
    assert_found(&memory, 0..100).await;
    world.power.unscript();
    assert_eq!(
        memory.tick().await.unwrap().compacted,
        0,
        "it waits a while"
    );
    world.clock.advance(Duration::from_secs(2));
    assert!(memory.tick().await.unwrap().compacted > 0);
    assert_found(&memory, 0..100).await;
    sweep(&world, &memory).await;
    memory.close().await.unwrap();
    world.check_clean().await;
}

#[tokio::test]
async fn a_commit_whose_outcome_is_unknown_keeps_every_point_in_sight() {
    // The commit of the move happens, its reply is lost: names lead to the new segment, searches scan the old ones.
    let mut world = world();
    let memory = world.open().await;
    send_cold(&memory, 0..60).await;
    let put = Arc::new(AtomicBool::new(false));
    world.power.script(move |call, _| match call {
        Call::Put(_) => {
            put.store(true, SeqCst);
            Verdict::Pass
        }
        Call::Meta("commit") if put.load(SeqCst) => Verdict::LoseReply,
        _ => Verdict::Pass,
    });
    assert!(memory.compact().await.is_err());
    assert!(memory.stats().poisoned.is_some());
    world.power.unscript();
    assert_found(&memory, 0..60).await;
    drop(memory);
    world.crash(usize::MAX);
    let memory = world.open().await;
    assert_found(&memory, 0..60).await;
    memory.compact().await.unwrap();
    sweep(&world, &memory).await;
    assert_eq!(world.segments().len() as u64, memory.stats().segments);
}

#[tokio::test]
async fn a_damaged_segment_is_left_alone_and_the_others_are_merged() {
    let world = world();
    let memory = world.open().await;
    send_cold(&memory, 0..100).await;
    let (key, bytes) = world.segments().into_iter().next().unwrap();
    let mut damaged = bytes.to_vec();
    // Half of it: codes are not read, vectors are.
    let half = damaged.len() / 2;
    damaged[60..half].iter_mut().for_each(|b| *b ^= 1);
    world.cold.tamper(&key, Some(damaged.into()));
    let mut moved = 0;
    for _ in 0..20 {
        world.clock.advance(Duration::from_secs(100));
        moved += memory.tick().await.unwrap().compacted;
    }
    assert_eq!(moved, 90);
    assert!(memory.stats().counted.compactions_failed >= 1);
    assert_eq!(memory.stats().segments, 2);
    world.cold.tamper(&key, Some(bytes));
    assert_found(&memory, 0..100).await;
    // What was wrong may have been the reading: within the hour it is tried again.
    let failed = memory.stats().counted.compactions_failed;
    world.clock.advance(Duration::from_secs(3_600));
    memory.tick().await.unwrap();
    send_cold(&memory, 100..130).await;
    memory.compact().await.unwrap();
    assert_eq!(memory.stats().counted.compactions_failed, failed);
    sweep(&world, &memory).await;
    assert!(world.segments().iter().all(|(left, _)| *left != key));
    assert_found(&memory, 0..130).await;
}

#[tokio::test]
async fn the_background_keeps_to_its_rate() {
    let world = World::with(Settings {
        compaction: "ratio = 4\nsegment_bytes = \"4KiB\"\nrate = \"4kB\"",
        ..Settings::default()
    });
    let memory = world.open().await;
    send_cold(&memory, 0..400).await;
    let before = memory.stats().counted.cold_read_bytes;
    let seconds = 10;
    for _ in 0..seconds * 4 {
        memory.tick().await.unwrap();
        world.clock.advance(Duration::from_millis(250));
    }
    let c = memory.stats().counted;
    let spent = c.cold_read_bytes - before + c.compacted_bytes;
    assert!(c.compactions > 1, "{} steps", c.compactions);
    // One step may be owed.
    assert!(
        spent < 4_000 * (seconds + 1) + 32_000,
        "{spent} bytes in {seconds} s"
    );
    assert_found(&memory, 0..400).await;
}

/// A step waits while a search is under way, but not for ever; what is left to do is told until there is nothing.
#[tokio::test]
async fn a_step_gives_way_to_searches_for_a_while() {
    let world = world();
    let memory = world.open().await;
    send_cold(&memory, 0..100).await;
    let query = vector(5);
    world.power.script(|call, _| match call {
        Call::Read(_) => Verdict::Hold,
        _ => Verdict::Pass,
    });
    let (searcher, asked) = (memory.clone(), query.clone());
    let search = tokio::spawn(async move { complete(&searcher, asked, 100).await });
    world.power.wait_for_held(1).await;
    world.power.unscript();
    for yielded in 1..4 {
        assert_eq!(memory.tick().await.unwrap().compacted, 0);
        assert_eq!(memory.stats().counted.compactions_yielded, yielded);
        world.clock.advance(Duration::from_millis(500));
    }
    assert!(memory.stats().counted.compaction_left_bytes > 0);
    world.clock.advance(Duration::from_secs(1));
    assert!(
        memory.tick().await.unwrap().compacted > 0,
        "its patience is over"
    );
    world.power.release();
    let answer = search.await.unwrap();
    assert_eq!(found(&answer), exact(0..100, &query, 100));
    while memory.tick().await.unwrap().compacted > 0 {}
    let counted = memory.stats().counted;
    assert_eq!(counted.compaction_left_bytes, 0);
    assert_eq!(counted.compactions_yielded, 3);
    assert_found(&memory, 0..100).await;
}

#[tokio::test]
async fn names_in_ram_and_tiers_are_as_before() {
    let world = world();
    let memory = world.open().await;
    send_cold(&memory, 0..40).await;
    memory.promote(&ids(0..10)).await.unwrap();
    memory.compact().await.unwrap();
    let answer = complete(&memory, vector(3), 40).await;
    for hit in &answer.hits {
        let hot = matches!(hit.id, PointId::Int(i) if i < 10);
        assert_eq!(hit.tier == Tier::Hot, hot, "{hit:?}");
    }
    assert_eq!(answer.hits.len(), 40);
    assert_eq!(Metric::L2, memory.metric());
    assert_eq!(memory.dim(), DIM);
}

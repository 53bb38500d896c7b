//! Stores that are down, slow, wrong or silent, and callers that are too many: what a user sees, and that it heals.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use aether_core::config::SearchMode;
use aether_core::engine::{Cut, Parts};
use aether_core::role::Tier;
use aether_core::{Memory, PointId, SearchRequest};
use aether_testkit::fake::cold::{ColdFault, ColdOp};
use common::{Call, Settings, Verdict, World, complete, exact, found, ids, points, vector};

/// Nothing that was read before is at hand, so that every read goes to the store.
const NO_CACHE: &str = "cache = \"1B\"";

fn world(search: &'static str) -> World {
    World::with(Settings {
        search,
        ..Settings::default()
    })
}

/// So many points, all cold but the last `hot`.
async fn filled(world: &World, n: u64, hot: u64) -> Memory {
    let memory = world.open().await;
    memory.upsert(points(0..n)).await.unwrap();
    let cold = n - hot;
    assert_eq!(memory.demote(&ids(0..cold)).await.unwrap() as u64, cold);
    memory
}

fn cold_calls(call: &Call) -> bool {
    !matches!(call, Call::Meta(_))
}

#[tokio::test]
async fn a_cold_store_that_is_down_is_said_and_nothing_is_lost() {
    let world = World::with(Settings {
        budget: "128KiB",
        search: NO_CACHE,
        ..Settings::default()
    });
    let memory = world.open().await;
    memory.upsert(points(0..100)).await.unwrap();
    memory.demote(&ids(0..50)).await.unwrap();
    let query = vector(7_777);
    world.power.script(|call, _| {
        if cold_calls(call) {
            Verdict::Fail
        } else {
            Verdict::Pass
        }
    });

    let request = SearchRequest::new(query.clone(), 10).mode(SearchMode::HotOnly);
    let answer = memory.search(request).await.unwrap();
    assert!(answer.coverage.is_whole());
    assert_eq!(found(&answer), exact(50..100, &query, 10));
    let answer = complete(&memory, query.clone(), 10).await;
    assert_eq!(found(&answer), exact(50..100, &query, 10), "what is hot");
    let [Cut::Unreachable { segment, error }] = &answer.coverage.cuts[..] else {
        panic!("{:?}", answer.coverage);
    };
    assert!(*segment == 0 && error.contains("injected"), "{error}");
    assert!(memory.get(&PointId::Int(60)).await.unwrap().is_some());
    let error = memory.get(&PointId::Int(3)).await.unwrap_err();
    assert!(error.is_unavailable(), "{error}");
    let error = memory.demote(&ids(50..60)).await.unwrap_err();
    assert!(error.is_unavailable(), "{error}");

    // Writes go on while there is room in RAM; then they are refused, and change nothing.
    let mut n = 100;
    let refused = loop {
        match memory.upsert(points(n..n + 50)).await {
            Ok(_) => n += 50,
            Err(error) => break error,
        }
    };
    assert!(refused.is_unavailable(), "{refused}");
    let stats = memory.stats();
    assert!(n > 100 && stats.points == n, "{stats:#?}");
    assert!(stats.hot_bytes <= stats.budget_bytes && stats.poisoned.is_none());
    assert!(stats.counted.migrations_failed > 1, "it was tried");
    let report = memory.tick().await.unwrap();
    assert_eq!(report.demoted, 0, "demotion waits");
    assert!(memory.get(&PointId::Int(n)).await.unwrap().is_none());

    world.power.unscript();
    let answer = complete(&memory, query.clone(), 10).await;
    assert!(answer.coverage.is_whole());
    assert_eq!(found(&answer), exact(0..n, &query, 10));
    memory.upsert(points(n..n + 50)).await.unwrap();
    let healed = memory.stats().counted;
    assert!(
        healed.demoted > stats.counted.demoted,
        "it recovers by itself"
    );
    assert_eq!(
        found(&complete(&memory, query.clone(), 10).await),
        exact(0..n + 50, &query, 10)
    );
    memory.close().await.unwrap();
    world.check_clean().await;
}

#[tokio::test]
async fn wrong_bytes_are_corruption_and_never_an_answer() {
    let world = world(NO_CACHE);
    let memory = filled(&world, 100, 20).await;
    let query = vector(5_555);
    world.cold.set_hook(|op, _| match op {
        ColdOp::Read(..) => ColdFault::WrongBytes,
        _ => ColdFault::None,
    });
    let answer = complete(&memory, query.clone(), 10).await;
    assert_eq!(found(&answer), exact(80..100, &query, 10));
    let cut = format!("{:?}", answer.coverage.cuts);
    assert!(
        cut.contains("Unreachable") && cut.contains("checksum"),
        "{cut}"
    );
    let error = memory.get(&PointId::Int(3)).await.unwrap_err();
    assert!(error.is_corrupt(), "{error}");
    assert!(memory.promote(&ids(0..5)).await.unwrap_err().is_corrupt());
    assert_eq!(memory.stats().hot_rows, 20);
    world.cold.clear_hook();
    let answer = complete(&memory, query.clone(), 10).await;
    assert_eq!(found(&answer), exact(0..100, &query, 10));
    assert_eq!(memory.promote(&ids(0..5)).await.unwrap(), 5);
    memory.close().await.unwrap();
    world.check_clean().await;
}

#[tokio::test]
async fn payloads_that_cannot_be_read_leave_the_answer_and_mark_it() {
    // The blocks of rows and vectors are in the cache, those of payloads are not.
    let world = world("");
    let memory = filled(&world, 60, 0).await;
    let query = vector(9);
    complete(&memory, query.clone(), 5).await;
    world.power.script(|call, _| match call {
        Call::Read(_) => Verdict::Fail,
        _ => Verdict::Pass,
    });
    let request = SearchRequest::new(query.clone(), 5).mode(SearchMode::Complete);
    let answer = memory
        .search(request.clone().parts(Parts::default()))
        .await
        .unwrap();
    assert_eq!(found(&answer), exact(0..60, &query, 5));
    assert!(answer.hits.iter().all(|h| h.payload.is_none()));
    assert!(!answer.coverage.is_whole(), "{:?}", answer.coverage);
    world.power.unscript();
    let answer = memory
        .search(request.parts(Parts::default()))
        .await
        .unwrap();
    assert!(answer.coverage.is_whole());
    assert!(
        answer
            .hits
            .iter()
            .all(|h| h.payload.is_some() && h.vector.is_some())
    );
}

#[tokio::test]
async fn a_lost_put_reply_is_looked_up_and_nothing_is_deleted_in_line() {
    let world = world("");
    let memory = world.open().await;
    memory.upsert(points(0..40)).await.unwrap();
    let puts = |verdict| {
        move |call: &Call, _: u64| match call {
            Call::Put(_) => verdict,
            _ => Verdict::Pass,
        }
    };
    world.power.script(puts(Verdict::LoseReply));
    assert_eq!(
        memory.demote(&ids(0..20)).await.unwrap(),
        20,
        "it was there"
    );
    world.power.script(puts(Verdict::Lost));
    let error = memory.demote(&ids(20..40)).await.unwrap_err();
    assert!(error.is_unavailable(), "{error}");
    world.power.unscript();
    assert_eq!(memory.stats().hot_rows, 20, "they stay where they were");
    let trace = world.power.trace();
    assert_eq!(
        trace
            .iter()
            .filter(|c| matches!(c, Call::Size(key) if key.as_str().starts_with("segments/")))
            .count(),
        2
    );
    assert!(!trace.iter().any(|c| matches!(c, Call::Delete(_))));
    assert_eq!(world.check().await.garbage, 1);
    let query = vector(77);
    assert_eq!(
        found(&complete(&memory, query.clone(), 9).await),
        exact(0..40, &query, 9)
    );
    assert_eq!(memory.demote(&ids(20..40)).await.unwrap(), 20);
    memory.close().await.unwrap();
    // The note stays until a late put cannot arrive any more. An opening waits for no deletion: a turn sweeps.
    world.clock.advance(Duration::from_secs(60));
    let memory = world.open().await;
    memory.tick().await.unwrap();
    memory.close().await.unwrap();
    assert_eq!(world.check().await.garbage, 1);
    world.clock.advance(Duration::from_secs(700));
    let memory = world.open().await;
    assert!(
        !world
            .power
            .trace()
            .iter()
            .any(|c| matches!(c, Call::Delete(_)))
    );
    memory.tick().await.unwrap();
    memory.close().await.unwrap();
    let report = world.check().await;
    assert_eq!((report.garbage, report.orphans), (0, 0), "{report:#?}");
    assert!(report.is_clean());
}

/// After a commit whose outcome is unknown reads go on and writes do not, and reopening finds out.
async fn lost_commit(happens: bool) {
    let mut world = world("");
    let memory = filled(&world, 60, 30).await;
    let query = vector(31);
    world.power.script(move |call, _| match call {
        Call::Meta("commit") if happens => Verdict::LoseReply,
        Call::Meta("commit") => Verdict::Lost,
        _ => Verdict::Pass,
    });
    // Hot ones and cold ones get new versions.
    let batch: Vec<_> = [1u64, 2, 40, 41, 900]
        .map(|i| aether_core::Point::new(i, vector(i + 5_000)))
        .to_vec();
    let error = memory.upsert(batch).await.unwrap_err();
    assert!(error.is_unavailable(), "{error}");
    world.power.unscript();
    assert!(memory.stats().poisoned.is_some());
    for refused in [
        memory.upsert(points(0..1)).await.unwrap_err(),
        memory.delete(&ids(0..1)).await.unwrap_err(),
        memory.demote(&ids(40..41)).await.unwrap_err(),
        memory.promote(&ids(0..1)).await.unwrap_err(),
    ] {
        assert!(refused.is_poisoned(), "{refused}");
        assert!(refused.to_string().contains("reopen"), "{refused}");
    }
    memory.tick().await.unwrap();
    // Reads: everything that the write did not touch is there; of what it may have changed nothing wrong is said.
    let answer = complete(&memory, query.clone(), 60).await;
    let ids_found = found(&answer);
    let touched = [1, 2, 40, 41, 900];
    for i in (0..60).filter(|i| !touched.contains(i)) {
        assert!(ids_found.contains(&i), "{i}: {:?}", answer.coverage);
        assert!(memory.get(&PointId::Int(i)).await.unwrap().is_some());
    }
    let whole = ids_found.len() == 60;
    assert_eq!(answer.coverage.is_whole(), whole, "{:?}", answer.coverage);
    assert_eq!(whole, !happens, "{:?}", answer.coverage);
    for i in touched {
        match memory.get(&PointId::Int(i)).await {
            Ok(record) => {
                let old = record.and_then(|r| r.vector);
                assert_eq!(old, (i < 60).then(|| vector(i)), "{i}");
            }
            Err(e) => assert!(happens && e.is_poisoned(), "{i}: {e}"),
        }
    }
    drop(memory);
    world.crash(usize::MAX);
    let memory = world.open().await;
    for i in touched {
        let record = memory.get(&PointId::Int(i)).await.unwrap();
        let expected = if happens {
            Some(vector(i + 5_000))
        } else {
            (i < 60).then(|| vector(i))
        };
        assert_eq!(record.and_then(|r| r.vector), expected, "{i}");
    }
    memory.upsert(points(0..3)).await.unwrap();
    memory.close().await.unwrap();
    world.check_clean().await;
}

#[tokio::test]
async fn a_lost_commit_reply_stops_writes_until_the_memory_is_reopened() {
    lost_commit(true).await;
    lost_commit(false).await;
}

#[tokio::test]
async fn a_fenced_writer_is_told_so_and_its_reads_go_on() {
    let world = world("");
    let old = filled(&world, 40, 20).await;
    let new = world.open().await;
    for _ in 0..2 {
        let error = old.upsert(points(50..51)).await.unwrap_err();
        assert!(error.is_fenced(), "{error}");
    }
    assert!(old.delete(&ids(0..1)).await.unwrap_err().is_fenced());
    assert!(old.demote(&ids(30..31)).await.unwrap_err().is_fenced());
    assert!(old.stats().poisoned.is_some());
    let query = vector(3);
    assert_eq!(
        found(&complete(&old, query.clone(), 5).await),
        exact(0..40, &query, 5)
    );
    new.upsert(points(40..60)).await.unwrap();
    new.demote(&ids(40..50)).await.unwrap();
    assert_eq!(
        found(&complete(&new, query.clone(), 5).await),
        exact(0..60, &query, 5)
    );
    old.close().await.unwrap();
    new.close().await.unwrap();
    world.check_clean().await;
}

#[tokio::test(start_paused = true)]
async fn a_read_that_never_answers_ends_at_the_deadline() {
    let world = world(NO_CACHE);
    let memory = filled(&world, 100, 20).await;
    world.power.script(|call, _| match call {
        Call::Read(_) => Verdict::Hold,
        _ => Verdict::Pass,
    });
    let query = vector(8);
    let begun = tokio::time::Instant::now();
    let request = SearchRequest::new(query.clone(), 10)
        .mode(SearchMode::Complete)
        .deadline(Duration::from_millis(100));
    let answer = memory.search(request.clone()).await.unwrap();
    assert_eq!(begun.elapsed(), Duration::from_millis(100));
    assert_eq!(found(&answer), exact(80..100, &query, 10));
    let [Cut::Deadline { partitions }] = answer.coverage.cuts[..] else {
        panic!("{:?}", answer.coverage);
    };
    assert!(partitions > 0);
    // Nobody who writes waits for it either.
    let promoting = tokio::spawn({
        let memory = memory.clone();
        async move { memory.promote(&ids(0..5)).await }
    });
    world.power.wait_for_held(1).await;
    let writes = tokio::time::timeout(Duration::from_secs(1), memory.upsert(points(100..110)));
    writes
        .await
        .expect("a write waits for a cold read")
        .unwrap();
    memory.delete(&ids(0..1)).await.unwrap();
    world.power.unscript();
    world.power.release();
    assert_eq!(
        promoting.await.unwrap().unwrap(),
        4,
        "the deleted one stays gone"
    );
    assert!(memory.get(&PointId::Int(0)).await.unwrap().is_none());
    let answer = memory.search(request).await.unwrap();
    assert_eq!(found(&answer), exact(1..110, &query, 10));
    memory.close().await.unwrap();
    world.check_clean().await;
}

/// The soak found this one: such a search panicked, or told of 2^64 partitions.
#[tokio::test(start_paused = true)]
async fn a_search_that_leaves_partitions_of_dead_rows_unread_counts_right() {
    let world = world(NO_CACHE);
    let memory = filled(&world, 200, 0).await;
    // All but some neighbours: most partitions hold no row any more, while their segment does.
    let nearest = exact(0..200, &vector(3), 200);
    let gone: Vec<PointId> = nearest[5..].iter().map(|n| PointId::Int(*n)).collect();
    memory.delete(&gone).await.unwrap();
    memory.close().await.unwrap();
    let memory = world.open().await;
    world.power.script(|call, _| match call {
        Call::Read(_) => Verdict::Hold,
        _ => Verdict::Pass,
    });
    let request = SearchRequest::new(vector(8), 10)
        .mode(SearchMode::Complete)
        .deadline(Duration::from_millis(100));
    let answer = memory.search(request).await.unwrap();
    let coverage = answer.coverage;
    assert!(
        coverage.partitions_probed <= coverage.partitions,
        "{coverage:?}"
    );
    let [Cut::Deadline { partitions }] = coverage.cuts[..] else {
        panic!("{coverage:?}");
    };
    assert!(partitions > coverage.partitions, "{coverage:?}");
    world.power.unscript();
    world.power.release();
    memory.close().await.unwrap();
    world.check_clean().await;
}

#[tokio::test(start_paused = true)]
async fn payloads_that_never_come_end_at_the_deadline_too() {
    let world = world("");
    let memory = filled(&world, 60, 0).await;
    let query = vector(9);
    complete(&memory, query.clone(), 5).await;
    world.power.script(|call, _| match call {
        Call::Read(_) => Verdict::Hold,
        _ => Verdict::Pass,
    });
    let begun = tokio::time::Instant::now();
    let request = SearchRequest::new(query.clone(), 5)
        .mode(SearchMode::Complete)
        .parts(Parts::default())
        .deadline(Duration::from_millis(100));
    let answer = memory.search(request).await.unwrap();
    assert_eq!(begun.elapsed(), Duration::from_millis(100));
    assert_eq!(found(&answer), exact(0..60, &query, 5));
    assert!(matches!(answer.coverage.cuts[..], [Cut::Deadline { .. }]));
}

#[tokio::test(start_paused = true)]
async fn too_many_searches_are_refused_at_once() {
    let world = world("cache = \"1B\"\nconcurrent = 1\nqueue = 1");
    let memory = filled(&world, 50, 0).await;
    world.power.script(|call, _| match call {
        Call::Read(_) => Verdict::Hold,
        _ => Verdict::Pass,
    });
    let search = |memory: &Memory| {
        let memory = memory.clone();
        let request = SearchRequest::new(vector(1), 3).mode(SearchMode::Complete);
        tokio::spawn(async move { memory.search(request).await })
    };
    let first = search(&memory);
    world.power.wait_for_held(1).await;
    let second = search(&memory);
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    let begun = tokio::time::Instant::now();
    let refused = search(&memory).await.unwrap().unwrap_err();
    assert!(refused.is_overloaded(), "{refused}");
    assert!(refused.retry_after().is_some() && refused.to_string().contains("search.queue"));
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert_eq!(memory.stats().counted.overloaded, 1);
    world.power.unscript();
    world.power.release();
    for waited in [first, second] {
        let answer = waited.await.unwrap().unwrap();
        assert_eq!(found(&answer), exact(0..50, &vector(1), 3));
    }
}

#[tokio::test(start_paused = true)]
async fn too_many_writes_are_refused_in_time() {
    let world = World::with(Settings {
        limits: "write_queue = 1\nwrite_wait = \"50ms\"",
        ..Settings::default()
    });
    let memory = world.open().await;
    world.power.script(|call, _| match call {
        Call::Meta("durable") => Verdict::Hold,
        _ => Verdict::Pass,
    });
    let write = |i: u64| {
        let memory = memory.clone();
        tokio::spawn(async move { memory.upsert(points(i..i + 1)).await })
    };
    let first = write(0);
    world.power.wait_for_held(1).await;
    let second = write(1);
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    let begun = tokio::time::Instant::now();
    let refused = write(2).await.unwrap().unwrap_err();
    assert!(refused.is_overloaded() && refused.to_string().contains("limits.write_queue"));
    assert_eq!(begun.elapsed(), Duration::from_millis(50));
    world.power.unscript();
    world.power.release();
    first.await.unwrap().unwrap();
    second.await.unwrap().unwrap();
    assert_eq!(memory.stats().points, 2, "what was refused was not written");
}

#[tokio::test]
async fn a_full_restore_queue_is_counted() {
    let world = World::with(Settings {
        flux: "restore_queue = 4",
        ..Settings::default()
    });
    let memory = filled(&world, 50, 0).await;
    for i in 0..20 {
        memory.get(&PointId::Int(i)).await.unwrap().unwrap();
    }
    let report = memory.tick().await.unwrap();
    assert_eq!(report.promoted, 4);
    assert_eq!(memory.stats().counted.restores_dropped, 16);
}

#[tokio::test]
async fn a_promotion_that_fails_for_good_is_shown_and_blocks_nothing() {
    let world = World::with(Settings {
        flux: "restore_tries = 3\nrestore_backoff = \"1s\"",
        search: NO_CACHE,
        ..Settings::default()
    });
    let memory = filled(&world, 50, 0).await;
    memory.get(&PointId::Int(7)).await.unwrap().unwrap();
    world.power.script(|call, _| match call {
        Call::Read(_) => Verdict::Fail,
        _ => Verdict::Pass,
    });
    for tries in 1..=3 {
        assert_eq!(memory.tick().await.unwrap().promoted, 0);
        let stats = memory.stats();
        assert_eq!(stats.restore_queue, u64::from(tries < 3), "{stats:#?}");
        assert_eq!(stats.restore_failures.len(), usize::from(tries == 3));
        // The wait doubles with each try, and jitter may make it half as long again.
        world.clock.advance(Duration::from_secs(2 << tries));
    }
    let failure = &memory.stats().restore_failures[0];
    assert_eq!(failure.tries, 3);
    assert!(failure.error.contains("injected"), "{failure:?}");
    world.power.unscript();
    let record = memory.get(&PointId::Int(7)).await.unwrap().unwrap();
    assert_eq!(record.tier, Tier::Cold);
    assert_eq!(
        memory.tick().await.unwrap().promoted,
        1,
        "it may be asked for again"
    );
    let record = memory.get(&PointId::Int(7)).await.unwrap().unwrap();
    assert_eq!(record.tier, Tier::Hot);
}

#[tokio::test]
async fn a_delete_in_mid_sync_neither_fails_a_search_nor_is_undone_by_it() {
    let world = world("");
    let memory = filled(&world, 30, 0).await;
    world.power.script(|call, _| match call {
        Call::Meta("durable") => Verdict::Hold,
        _ => Verdict::Pass,
    });
    let deleting = tokio::spawn({
        let memory = memory.clone();
        async move { memory.delete(&ids(0..3)).await }
    });
    world.power.wait_for_held(1).await;
    let searching = tokio::spawn({
        let memory = memory.clone();
        async move { complete(&memory, vector(1), 30).await }
    });
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    world.power.unscript();
    world.power.release();
    assert_eq!(deleting.await.unwrap().unwrap(), 3);
    let answer = searching.await.unwrap();
    let mut seen = found(&answer);
    seen.sort_unstable();
    // It waited: what it answers is the moment after.
    assert_eq!(seen, (3..30).collect::<Vec<_>>());
}

#[tokio::test]
async fn rows_that_were_deleted_before_their_demotion_began_are_no_error() {
    let world = world("");
    let memory = world.open().await;
    memory.upsert(points(0..30)).await.unwrap();
    world.power.script(|call, _| match call {
        Call::Meta("durable") => Verdict::Hold,
        _ => Verdict::Pass,
    });
    let deleting = tokio::spawn({
        let memory = memory.clone();
        async move { memory.delete(&ids(0..10)).await }
    });
    world.power.wait_for_held(1).await;
    let demoting = tokio::spawn({
        let memory = memory.clone();
        async move { memory.demote(&ids(0..10)).await }
    });
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    world.power.unscript();
    world.power.release();
    assert_eq!(deleting.await.unwrap().unwrap(), 10);
    assert_eq!(demoting.await.unwrap().unwrap(), 0);
    assert_eq!(memory.stats().counted.migrations_failed, 0);
    assert!(world.segments().is_empty());
}

#[tokio::test]
async fn a_renewal_survives_a_flush_that_fails() {
    let world = World::with(Settings {
        memory: "flush_every = \"1s\"",
        ..Settings::default()
    });
    let memory = world.open().await;
    let minute = Duration::from_secs(60);
    memory
        .upsert(vec![points(0..1).remove(0).with_ttl(minute, true)])
        .await
        .unwrap();
    memory.demote(&ids(0..1)).await.unwrap();
    world.clock.advance(minute / 2);
    memory.get(&PointId::Int(0)).await.unwrap().unwrap();
    world.power.script(|call, _| match call {
        Call::Meta("commit") => Verdict::Fail,
        _ => Verdict::Pass,
    });
    memory.demote(&ids(0..1)).await.ok();
    assert!(memory.tick().await.unwrap_err().is_unavailable());
    world.power.unscript();
    world.clock.advance(minute * 3 / 4);
    // 75 s after the write, 45 s after the read that renewed it.
    assert!(memory.get(&PointId::Int(0)).await.unwrap().is_some());
    memory.close().await.unwrap();
    world.check_clean().await;
}

#[tokio::test]
async fn a_point_named_twice_is_promoted_once_and_leaves_no_ghost() {
    let world = world("");
    let memory = filled(&world, 10, 0).await;
    let twice = [PointId::Int(4), PointId::Int(4)];
    assert_eq!(memory.promote(&twice).await.unwrap(), 1);
    assert_eq!(memory.stats().hot_rows, 1);
    assert_eq!(memory.delete(&twice[..1]).await.unwrap(), 1);
    assert!(memory.get(&twice[0]).await.unwrap().is_none());
    assert_eq!(memory.stats().hot_rows, 0);
    memory.close().await.unwrap();
    world.check_clean().await;
}

#[tokio::test]
async fn time_goes_on_across_a_crash_before_the_first_flush() {
    let mut world = world("");
    let memory = world.open().await;
    let minute = Duration::from_secs(60);
    memory
        .upsert(vec![points(0..1).remove(0).with_ttl(minute, false)])
        .await
        .unwrap();
    world.clock.advance(minute * 3 / 4);
    drop(memory);
    world.crash(0);
    let memory = world.open().await;
    let record = memory.get(&PointId::Int(0)).await.unwrap().unwrap();
    assert_eq!(record.expires_in, Some(minute / 4));
    world.clock.advance(minute / 4);
    assert!(memory.get(&PointId::Int(0)).await.unwrap().is_none());
}

#[tokio::test]
async fn pinned_points_that_found_no_room_at_open_are_found_and_come_back() {
    let mut world = World::new("256KiB");
    let memory = world.open().await;
    memory.upsert(points(0..1000)).await.unwrap();
    assert_eq!(memory.pin(&ids(990..1000)).await.unwrap(), 10);
    memory.close().await.unwrap();
    world.settings.budget = "128KiB";
    let memory = world.open().await;
    let stats = memory.stats();
    assert!(stats.hot_rows < 990 && stats.pinned == 10, "{stats:#?}");
    let query = vector(4_242);
    assert_eq!(
        found(&complete(&memory, query.clone(), 20).await),
        exact(0..1000, &query, 20)
    );
    memory.tick().await.unwrap();
    let records = memory.get_many(&ids(990..1000), Parts::NONE).await.unwrap();
    assert!(
        records.iter().flatten().all(|r| r.tier == Tier::Hot),
        "{records:#?}"
    );
    memory.close().await.unwrap();
    world.check_clean().await;
}

#[tokio::test]
async fn a_row_that_is_still_leaving_can_be_promoted() {
    let world = world(NO_CACHE);
    let memory = filled(&world, 60, 20).await;
    assert_eq!(memory.promote(&ids(0..3)).await.unwrap(), 3);
    world.power.script(|call, _| match call {
        Call::Read(_) => Verdict::Hold,
        _ => Verdict::Pass,
    });
    // A search in mid-read: what goes cold now stays in RAM until it is done.
    let searching = tokio::spawn({
        let memory = memory.clone();
        async move { complete(&memory, vector(1), 60).await }
    });
    world.power.wait_for_held(1).await;
    assert_eq!(memory.demote(&ids(0..3)).await.unwrap(), 3);
    let pinning = tokio::spawn({
        let memory = memory.clone();
        async move { memory.pin(&ids(0..3)).await }
    });
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    world.power.unscript();
    world.power.release();
    assert_eq!(found(&searching.await.unwrap()).len(), 60);
    assert_eq!(pinning.await.unwrap().unwrap(), 3);
    let records = memory.get_many(&ids(0..3), Parts::NONE).await.unwrap();
    let hot = |r: &aether_core::engine::Record| r.tier == Tier::Hot;
    assert!(records.iter().flatten().all(hot), "{records:#?}");
    memory.close().await.unwrap();
    world.check_clean().await;
}

/// A write that found no room in RAM went into a segment; its commit happened and the reply was lost. What the metadata store then says
/// of its points leads into a segment that this process never showed: a get cannot know, and that is what it says.
#[tokio::test]
async fn a_get_after_a_cold_write_of_unknown_outcome_blames_nobody() {
    let mut world = World::with(Settings {
        budget: "64KiB",
        insert_wait: "0s",
        ..Settings::default()
    });
    let memory = world.open().await;
    let mut n = 0;
    while memory.upsert(points(n..n + 10)).await.unwrap().cold == 0 {
        memory.pin(&ids(n..n + 10)).await.unwrap();
        n += 10;
    }
    memory.pin(&ids(n..n + 10)).await.unwrap();
    let put = Arc::new(AtomicBool::new(false));
    world.power.script(move |call, _| match call {
        Call::Put(_) => {
            put.store(true, SeqCst);
            Verdict::Pass
        }
        Call::Meta("commit") if put.load(SeqCst) => Verdict::LoseReply,
        _ => Verdict::Pass,
    });
    memory.upsert(points(5_000..5_010)).await.unwrap_err();
    world.power.unscript();
    assert!(memory.stats().poisoned.is_some());
    for id in ids(5_000..5_010) {
        let error = memory.get(&id).await.unwrap_err();
        assert!(error.is_poisoned(), "{id}: {error}");
        assert!(error.to_string().contains("reopen"), "{id}: {error}");
    }
    drop(memory);
    world.crash(usize::MAX);
    let memory = world.open().await;
    for i in 5_000..5_010 {
        let record = memory.get(&PointId::Int(i)).await.unwrap().unwrap();
        assert_eq!(record.vector.unwrap(), vector(i));
    }
}

/// A move that was under way when a write's outcome was lost ends without a commit of its own: its books are those of before the write.
#[tokio::test]
async fn after_a_lost_commit_a_move_under_way_commits_nothing() {
    // What is visible may survive, whatever the sync says of another try.
    for sync in [Verdict::LoseReply, Verdict::Deny] {
        a_move_beside_a_write_whose_sync_fails(sync).await;
    }
}

async fn a_move_beside_a_write_whose_sync_fails(sync: Verdict) {
    let mut world = world("");
    let memory = filled(&world, 60, 30).await;
    world.power.script(|call, _| match call {
        Call::Put(_) => Verdict::Hold,
        _ => Verdict::Pass,
    });
    let moving = tokio::spawn({
        let memory = memory.clone();
        async move { memory.demote(&ids(30..40)).await }
    });
    world.power.wait_for_held(1).await;
    world.power.script(move |call, _| match call {
        Call::Meta("durable") => sync,
        _ => Verdict::Pass,
    });
    memory.delete(&ids(50..51)).await.unwrap_err();
    assert!(memory.stats().poisoned.is_some());
    world.power.unscript();
    // What is left of the put would be noted, for the sweep.
    world.cold.set_hook(|op, _| match op {
        ColdOp::Put(..) => ColdFault::FailBefore,
        _ => ColdFault::None,
    });
    let before = world.power.trace().len();
    world.power.release();
    let error = moving.await.unwrap().unwrap_err();
    assert!(error.is_unavailable() || error.is_poisoned(), "{error}");
    let after = world.power.trace().split_off(before);
    assert!(!after.contains(&Call::Meta("commit")), "{after:?}");
    drop(memory);
    world.cold.set_hook(|_, _| ColdFault::None);
    world.crash(usize::MAX);
    world.check_clean().await;
    let memory = world.open().await;
    assert_eq!(memory.stats().points, 59);
    memory.close().await.unwrap();
    world.check_clean().await;
}

//! Staged changes: all of them at once or none, whoever else writes meanwhile.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use aether_core::engine::Changes;
use aether_core::{Memory, Point, PointId};

use common::{Call, Settings, Verdict, World, complete, found, ids, points, vector};

/// Points of one generation.
const EACH: u64 = 20;

fn generation(n: u64) -> Range<u64> {
    n * EACH..(n + 1) * EACH
}

/// The change from one generation to the next.
fn change(from: u64) -> Changes {
    let mut changes = Changes::new();
    for id in ids(generation(from)) {
        changes.delete(id);
    }
    for point in points(generation(from + 1)) {
        changes.upsert(point);
    }
    changes
}

/// The generations that a search of everything finds, each with how many of its points.
async fn seen(memory: &Memory) -> Vec<(u64, usize)> {
    let mut all = found(&complete(memory, vector(1), 1_000).await);
    all.retain(|id| *id < 1_000_000);
    all.sort_unstable();
    let groups = all.chunk_by(|a, b| a / EACH == b / EACH);
    groups.map(|group| (group[0] / EACH, group.len())).collect()
}

/// Readers see one whole generation at every moment, while others write and points move between the tiers.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn readers_see_all_changes_or_none() {
    const LAST: u64 = 60;
    const OTHERS: u64 = 5;
    let world = World::new("64MiB");
    let memory = world.open().await;
    memory.upsert(points(generation(0))).await.unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let reader = tokio::spawn({
        let (memory, done) = (memory.clone(), done.clone());
        async move {
            let mut looks = 0;
            while !done.load(SeqCst) {
                let seen = seen(&memory).await;
                assert!(
                    matches!(seen[..], [(_, n)] if n == EACH as usize),
                    "{seen:?}"
                );
                looks += 1;
            }
            looks
        }
    });
    let other = tokio::spawn({
        let (memory, done) = (memory.clone(), done.clone());
        async move {
            let mut writes = 0;
            while !done.load(SeqCst) || writes < OTHERS {
                let id = 1_000_000 + writes % OTHERS;
                memory.upsert(points(id..id + 1)).await.unwrap();
                writes += 1;
                tokio::task::yield_now().await;
            }
        }
    });
    for n in 0..LAST {
        if n % 3 == 0 {
            memory.demote(&ids(generation(n))).await.unwrap();
        }
        let changed = memory.apply(change(n)).await.unwrap();
        assert_eq!(
            (changed.deleted, changed.written.rows.len()),
            (EACH as usize, EACH as usize)
        );
    }
    done.store(true, SeqCst);
    other.await.unwrap();
    assert!(reader.await.unwrap() > 0);
    assert_eq!(seen(&memory).await, [(LAST, EACH as usize)]);
    assert_eq!(memory.stats().points, EACH + OTHERS);
    memory.close().await.unwrap();
    world.check_clean().await;
}

/// Changes that cannot be made leave everything as it was, also what another caller wrote between staging and the try.
#[tokio::test]
async fn changes_that_fail_are_rolled_back_and_leave_those_of_others_alone() {
    let world = World::with(Settings::default());
    let memory = world.open().await;
    memory.upsert(points(generation(0))).await.unwrap();
    let staged = change(0);
    memory.upsert(points(1_000_000..1_000_001)).await.unwrap();
    world.power.script(|call, _| match call {
        Call::Meta("commit") => Verdict::Fail,
        _ => Verdict::Pass,
    });
    let error = memory.apply(staged.clone()).await.unwrap_err();
    assert!(error.is_unavailable(), "{error}");
    world.power.unscript();
    assert_eq!(seen(&memory).await, [(0, EACH as usize)]);
    assert_eq!(memory.stats().points, EACH + 1);
    let mut all = found(&complete(&memory, vector(1), 1_000).await);
    all.sort_unstable();
    assert_eq!(all.last(), Some(&1_000_000), "what another wrote meanwhile");

    // Dropped changes were never there; the same ones again are made whole.
    drop(staged.clone());
    memory.apply(staged).await.unwrap();
    assert_eq!(seen(&memory).await, [(1, EACH as usize)]);
    memory.close().await.unwrap();
    world.check_clean().await;
}

#[tokio::test]
async fn changes_that_contradict_themselves_are_refused_and_change_nothing() {
    let world = World::new("64MiB");
    let memory = world.open().await;
    memory.upsert(points(0..5)).await.unwrap();
    let refuse = async |changes: Changes, words: &str| {
        let error = memory.apply(changes).await.unwrap_err();
        assert!(
            error.is_invalid_input() && error.to_string().contains(words),
            "{error}"
        );
    };
    let mut both = Changes::new();
    both.delete(PointId::Int(1))
        .upsert(Point::new(1, vector(1)));
    refuse(both, "in the changes twice").await;
    let mut twice = Changes::new();
    twice.delete(PointId::Int(1)).delete(PointId::Int(1));
    refuse(twice, "in the changes twice").await;
    let mut bad = Changes::new();
    bad.delete(PointId::Int(1))
        .upsert(Point::new(9, vec![f32::NAN; common::DIM]));
    refuse(bad, "point 0").await;
    let mut many = Changes::new();
    for n in 0..10_001 {
        many.delete(PointId::Int(n));
    }
    refuse(many, "limits.batch_rows").await;
    assert_eq!(memory.stats().points, 5);
    let nothing = memory.apply(Changes::new()).await.unwrap();
    assert_eq!((nothing.deleted, nothing.written.rows.len()), (0, 0));
    let mut absent = Changes::new();
    absent.delete(PointId::Int(77)).delete(PointId::Int(0));
    assert_eq!(memory.apply(absent).await.unwrap().deleted, 1);
    assert_eq!(memory.stats().points, 4);
}

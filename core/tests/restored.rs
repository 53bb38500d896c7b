//! A restore from a snapshot is cut at each of its calls, and of what was not synced any part survives. What is there afterwards is the whole
//! memory, or none, or it says that it is not whole and is opened by nobody; and a restore of any snapshot makes it whole. The same over a
//! simulated file system, where a restore also fails and goes on: `tests/simulated/restored.rs`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use aether_testkit::workload::every_kind;
use common::script::settings;
use common::{Run, World};
use tempfile::TempDir;

/// A memory that was closed after so many operations of the workload, and a snapshot of it.
async fn origin(ops: usize) -> (Run, TempDir) {
    let mut run = Run::new(World::with(settings())).await;
    run.work(&every_kind()[..ops], "before the snapshot").await;
    let snapshot = tempfile::tempdir().unwrap();
    let memory = run.memory.take().unwrap();
    memory.snapshot(snapshot.path()).await.unwrap();
    memory.close().await.unwrap();
    (run, snapshot)
}

/// What opens is that memory, wholly.
async fn is_whole((run, _): &(Run, TempDir), mut world: World, at: &str) {
    world.clock = run.world.clock.clone();
    let mut run = run.on(world);
    let opened = run.world.builder().open().await;
    run.memory = Some(opened.unwrap_or_else(|e| panic!("{at}: {e}")));
    let looked = run.look().await;
    looked.unwrap_or_else(|what| panic!("{at}: half a memory opens: {what}"));
    run.end(at).await;
}

/// Restores once more, over what is left; of a memory that is whole this is refused.
async fn again(next: &(Run, TempDir), world: World, whole: bool, at: &str) {
    let restored = world.builder().restore(next.1.path()).await;
    match restored {
        Ok(_) => assert!(!whole, "{at}: restored over a memory"),
        Err(error) => {
            assert!(whole && error.is_invalid_input(), "{at}: {error}");
            return;
        }
    }
    // Another life, on what is durable.
    is_whole(next, world.fork(0), at).await;
}

#[tokio::test]
async fn a_restore_that_is_cut_at_each_call_leaves_no_half_a_memory() {
    aether_core::engine::compute_in_place(true);
    let (first, other) = (origin(21).await, origin(34).await);
    let [mut none, mut part, mut whole] = [0; 3];
    for after in [false, true] {
        for n in 1.. {
            let world = World::with(settings());
            world.power.die_at(n, after);
            let restored = world.builder().restore(first.1.path()).await;
            if !world.power.is_dead() {
                restored.unwrap();
                is_whole(&first, world.fork(0), "uncut").await;
                break;
            }
            for keep in 0..=world.meta.pending() {
                let at = format!("cut at call {n}, after: {after}, {keep} commits survive");
                let opened = world.fork(keep).builder().open().await;
                let is_there = match opened {
                    Err(error) => {
                        let says = error.message().contains("Restore it again");
                        assert!(error.is_config() && says, "{at}: {error}");
                        let checked = world.fork(keep).builder().check().await;
                        let error = checked.unwrap_err();
                        assert!(error.message().contains("restore it again"), "{error}");
                        part += 1;
                        false
                    }
                    Ok(memory) if memory.stats().points == 0 => {
                        memory.close().await.unwrap();
                        none += 1;
                        false
                    }
                    Ok(memory) => {
                        memory.close().await.unwrap();
                        is_whole(&first, world.fork(keep), &at).await;
                        whole += 1;
                        true
                    }
                };
                for next in [&first, &other] {
                    again(next, world.fork(keep), is_there, &at).await;
                }
            }
        }
    }
    println!(
        "cut restores left nothing {none} times, a part {part} times, the whole {whole} times"
    );
    assert!(none > 5 && part > 5 && whole > 1, "{none} {part} {whole}");
}

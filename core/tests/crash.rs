//! A power cut at every single call of a store, before and after its effect, with every prefix of the commits that were not
//! durable yet surviving; a second cut at every call of the recovery from the first; and cuts at drawn calls of drawn workloads.
//!
//! `AETHER_SEEDS` sets the number of drawn workloads (200), `AETHER_SEED` the first of them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use aether_testkit::env::variable;
use aether_testkit::workload::{Profile, Workload, every_kind};

use common::script::settings;
use common::{Run, World};

#[tokio::test]
async fn the_workload_splits_and_merges_partitions() {
    let mut run = Run::new(World::with(settings())).await;
    run.work(&every_kind(), "uncut").await;
    assert!(
        run.split > 0 && run.ended > 0,
        "{} {}",
        run.split,
        run.ended
    );
    run.end("uncut").await;
}

#[tokio::test]
async fn at_every_call_of_a_store_and_work_goes_on() {
    let ops = every_kind();
    let mut cuts = 0;
    for after in [false, true] {
        for keep in [0, 1, usize::MAX] {
            for n in 1.. {
                let at = format!("cut at call {n}, after its effect: {after}, keeping {keep}");
                let mut run = Run::new(World::with(settings())).await;
                run.keep = keep;
                run.world.power.die_at(n, after);
                run.work(&ops, &at).await;
                run.end(&at).await;
                if run.crashes == 0 {
                    break;
                }
                cuts += 1;
            }
        }
    }
    assert!(cuts > 300, "{cuts} cuts");
    println!("{cuts} cuts survived");
}

#[tokio::test]
async fn again_at_every_call_of_the_recovery() {
    let ops = every_kind();
    let mut cuts = 0;
    for n in 1.. {
        let mut run = Run::new(World::with(settings())).await;
        run.world.power.die_at(n, n % 2 == 0);
        let at = format!("first cut at call {n}");
        let mut first = None;
        for op in &ops {
            match run.step_without_rising(op.clone()).await {
                Ok(()) if run.world.power.is_dead() => {
                    first = Some(run.world.meta.pending());
                    break;
                }
                Ok(()) => {}
                Err(what) => panic!("{at}: {what}"),
            }
        }
        let Some(pending) = first else { break };
        for m in 1.. {
            let world: World = run.world.fork(pending * (m as usize % 2));
            let mut again = run.on(world);
            again.world.power.die_at(m, m % 2 == 0);
            let opened = again.world.builder().open().await;
            let died = again.world.power.is_dead();
            assert!(died || opened.is_ok(), "{at}, second {m}: {opened:?}");
            drop(opened);
            let risen = again.rise().await;
            risen.unwrap_or_else(|e| panic!("{at}, second at call {m} of the recovery: {e}"));
            if !died {
                break;
            }
            cuts += 1;
        }
    }
    assert!(cuts > 500, "{cuts} cuts");
    println!("{cuts} double cuts survived");
}

/// Cuts in every drawn workload.
const CUTS: u64 = 60;
/// Operations of a drawn workload.
const OPS: usize = 30;

#[tokio::test]
async fn at_drawn_calls_of_drawn_workloads() {
    let first = variable("AETHER_SEED").unwrap_or(1);
    let seeds = variable("AETHER_SEEDS").unwrap_or(200);
    let profile = Profile {
        dim: settings().dim,
        ids: 120,
        batch: 30,
        crash_every: 0,
    };
    let mut cuts = 0;
    for seed in first..first + seeds {
        let mut workload = Workload::new(seed, profile);
        let drawn = std::iter::repeat_with(|| workload.next_op());
        let ops: Vec<_> = drawn.take(OPS).collect();
        let mut uncut = Run::new(World::with(settings())).await;
        let before = uncut.world.power.calls();
        uncut
            .work(&ops, &format!("AETHER_SEED={seed}, uncut"))
            .await;
        let calls = uncut.world.power.calls() - before;
        let mut rng = fastrand::Rng::with_seed(seed);
        for part in 0..CUTS {
            // One in each of equal parts of the run, so that none is left out for long.
            let (from, to) = (part * calls / CUTS, (part + 1) * calls / CUTS);
            let n = rng.u64(from..=to).max(1);
            let at = format!("AETHER_SEED={seed}, cut at call {n} of {calls}");
            let mut run = Run::new(World::with(settings())).await;
            run.keep = rng.usize(0..4);
            run.again = (rng.u8(0..3) == 0).then(|| rng.u64(1..25));
            run.world.power.die_at(n, rng.bool());
            run.work(&ops, &at).await;
            run.end(&at).await;
            assert!(run.crashes > 0, "{at}: nothing was cut");
            cuts += run.crashes;
        }
    }
    println!("{cuts} cuts in {seeds} workloads survived");
}

//! A power cut at every single call of a store, before and after its effect, with every prefix of the commits that were not
//! durable yet surviving; a second cut at every call of the recovery from the first, and after some a third in the recovery from that; and cuts
//! at drawn calls of drawn workloads.
//!
//! `AETHER_SEEDS` sets the number of drawn workloads (200), `AETHER_SEED` the first of them; `AETHER_EVERY=1` cuts with every number of
//! surviving commits at each call, and each recovery at each of its calls.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;

use aether_testkit::env::{every, seeds};
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

/// How often a step was cut before its effect, and after it.
type Steps = BTreeMap<String, [usize; 2]>;

fn count(steps: &mut Steps, cuts: &[(String, bool)]) {
    for (step, after) in cuts {
        steps.entry(step.clone()).or_default()[usize::from(*after)] += 1;
    }
}

/// Each of these steps was cut on both sides of its effect.
fn assert_cut(steps: &Steps, expected: &[&str]) {
    for (step, [before, after]) in steps {
        println!("{step}: {before} cuts before, {after} after");
    }
    for step in expected {
        let [before, after] = steps.get(*step).copied().unwrap_or_default();
        assert!(
            before > 0 && after > 0,
            "{step}: {before} before, {after} after"
        );
    }
}

/// Each of these operations was cut at some of its steps.
fn assert_each_cut(steps: &Steps, operations: &[&str]) {
    for operation in operations {
        let of = |step: &String| step.split(':').next() == Some(operation);
        assert!(steps.keys().any(of), "{operation} was never cut");
    }
}

#[tokio::test]
async fn at_every_call_of_a_store_and_work_goes_on() {
    // Two batches of a demotion are under way at once: the same calls in each run, so that none is passed over.
    aether_core::engine::compute_in_place(true);
    let ops = every_kind();
    let mut steps = Steps::new();
    let mut cuts = 0;
    // Each number of surviving commits at each call, or at each third of them another.
    let keeps: &[usize] = if every() { &[0, 1, 2] } else { &[0] };
    for after in [false, true] {
        for keep in keeps {
            for n in 1.. {
                let keep = [0, 1, usize::MAX][(n as usize + keep) % 3];
                let at = format!("cut at call {n}, after its effect: {after}, keeping {keep}");
                let mut run = Run::new(World::with(settings())).await;
                run.keep = keep;
                run.world.power.die_at(n, after);
                run.work(&ops, &at).await;
                run.end(&at).await;
                if run.crashes == 0 {
                    break;
                }
                count(&mut steps, &run.world.cuts);
                cuts += 1;
            }
        }
    }
    assert!(cuts > 300, "{cuts} cuts");
    println!("{cuts} cuts survived");
    assert_cut(
        &steps,
        &[
            "upsert: write",
            "upsert: durable after write",
            "upsert: intent",
            "upsert: put",
            "upsert: cold write",
            "upsert: durable after cold write",
            "delete: write",
            "delete: durable after write",
            "pin: flush",
            "demote: partitions",
            "demote: intent",
            "demote: durable after intent",
            "demote: put",
            "demote: demotion",
            "demote: durable after demotion",
            "demote: release",
            "promote: read",
            "promote: promotion",
            "promote: durable after promotion",
            "compact: read",
            "compact: intent",
            "compact: put",
            "compact: compaction",
            "compact: durable after compaction",
            "compact: split or merge",
            "compact: durable after split or merge",
            "tick: flush",
            "tick: delete",
            "tick: intent's end",
            "snapshot: flush",
            "snapshot: scan",
            "snapshot: read",
            "close: flush",
            "close: durable after flush",
            "close: close",
            "open: claim",
            "open: scan",
            "open: list",
        ],
    );
}

#[tokio::test]
async fn again_at_every_call_of_the_recovery() {
    aether_core::engine::compute_in_place(true);
    let ops = every_kind();
    let (mut firsts_by_step, mut steps) = (Steps::new(), Steps::new());
    let (mut cuts, mut thirds) = (0, 0);
    // Of the first cut each call, before and after its effect; else each third on one side.
    let (stride, sides) = if every() { (1, 2) } else { (3, 1) };
    let firsts = (1..).step_by(stride);
    for (n, side) in firsts.flat_map(|n| (0..sides).map(move |side| (n, side))) {
        let mut run = Run::new(World::with(settings())).await;
        let after = (n + side) % 2 == 0;
        run.world.power.die_at(n, after);
        let at = format!("first cut at call {n}, after its effect: {after}");
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
        count(&mut firsts_by_step, run.world.power.cut().as_slice());
        // Each call of each recovery; else every other one: the next recovery is cut at those between.
        let (from, step) = if every() { (1, 1) } else { (1 + n % 2, 2) };
        for m in (from..).step_by(step) {
            let world: World = run.world.fork(pending * (m as usize / 2 % 2));
            let mut again = run.on(world);
            again.world.power.die_at(m, (n / 2 + m / 2 + side) % 2 == 0);
            let opened = aether_testkit::run::World::open(&again.world).await;
            let died = again.world.power.is_dead();
            if let Err(e) = &opened {
                assert!(died && again.is_honest(e), "{at}, second {m}: {e:?}");
            }
            drop(opened);
            // After each third of them a third cut, which mostly falls into the recovery from the second.
            again.again = (died && m % 3 == 0).then_some(1 + (n + m) % 12);
            let met = again.world.cuts.len();
            let risen = again.rise().await;
            risen.unwrap_or_else(|e| panic!("{at}, second at call {m} of the recovery: {e}"));
            thirds += usize::from(again.world.cuts.len() - met > 1);
            if !died {
                break;
            }
            count(&mut steps, &again.world.cuts);
            cuts += 1;
        }
    }
    assert!(cuts > 1_000, "{cuts} cuts");
    assert!(thirds > 100, "{thirds} third cuts");
    println!("{cuts} double cuts survived, {thirds} of them with a third");
    assert_each_cut(
        &firsts_by_step,
        &[
            "upsert", "delete", "demote", "promote", "compact", "tick", "snapshot", "close",
        ],
    );
    let by_step = |step: &str| firsts_by_step.contains_key(&format!("compact: {step}"));
    assert!(by_step("split or merge") && by_step("compaction"));
    assert_cut(
        &steps,
        &[
            "open: claim",
            "open: get",
            "open: scan",
            "open: list",
            "open: delete",
            "open: intent's end",
            "open: durable after intent's end",
        ],
    );
}

/// Cuts in every drawn workload.
const CUTS: u64 = 60;
/// Operations of a drawn workload.
const OPS: usize = 30;

#[tokio::test]
async fn at_drawn_calls_of_drawn_workloads() {
    // The calls of the uncut run are those of each other, so that a cut falls where it was drawn and not behind the work.
    aether_core::engine::compute_in_place(true);
    let seeds = seeds(200);
    let profile = Profile {
        dim: settings().dim,
        ids: 120,
        batch: 30,
        crash_every: 0,
    };
    let mut cuts = 0;
    for seed in seeds.clone() {
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
            // Work on blocking threads makes a call more or less from run to run: the last one may not come.
            assert!(run.crashes > 0 || n + 3 > calls, "{at}: nothing was cut");
            cuts += run.crashes;
        }
    }
    println!(
        "{cuts} cuts in {} workloads survived",
        seeds.end - seeds.start
    );
}

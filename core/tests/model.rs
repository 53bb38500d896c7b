//! Random operations on a memory, with power cuts or with a cold store that fails, against a plain map and an exact scan.
//!
//! `AETHER_SEED` runs one seed, `AETHER_OPS` so many operations of each.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use aether_core::{ErrorKind, Metric};
use aether_testkit::env::variable;
use aether_testkit::run::{FLUSH, Step};
use aether_testkit::workload::{Op, Profile, Workload};
use common::{Call, Run, Settings, Verdict, World};

/// Runs one seed.
fn run(seed: u64, ops: u64, settings: Settings, profile: Profile) -> Run {
    let seed = variable("AETHER_SEED").unwrap_or(seed);
    let ops = variable("AETHER_OPS").unwrap_or(ops);
    drive(seed, ops, settings, profile, async |run, op| {
        run.step(op).await
    })
}

/// Does every operation of a seed by `step`; every fact that depends on it is in the message of a failure.
fn drive(
    seed: u64,
    ops: u64,
    settings: Settings,
    profile: Profile,
    mut step: impl AsyncFnMut(&mut Run, Op) -> Step,
) -> Run {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut workload = Workload::new(seed, profile);
        let mut run = Run::new(World::with(settings.clone())).await;
        for n in 0..ops {
            let op = workload.next_op();
            let mut text = format!("{op:?}");
            text.truncate(text.floor_char_boundary(200));
            run.log.push(format!("{n}: {text}"));
            if let Err(what) = step(&mut run, op).await {
                let from = run.log.len().saturating_sub(12);
                panic!(
                    "AETHER_SEED={seed} {settings:?}: step {n}: {what}\nthe last steps:\n{}",
                    run.log[from..].join("\n")
                );
            }
        }
        let end = async {
            run.world.power.unscript();
            run.faulty = false;
            run.check_everything().await?;
            run.memory().close().await.map_err(|e| e.to_string())?;
            run.check_stored().await
        };
        end.await
            .unwrap_or_else(|e| panic!("AETHER_SEED={seed}: at the end: {e}"));
        run
    })
}

fn settings(metric: Metric, hot: &'static str) -> Settings {
    Settings {
        dim: 16,
        metric,
        budget: "112KiB",
        hot,
        memory: FLUSH,
        flux: "batch_rows = 40\nsample = 32",
        search: "probe_min = 2",
        // Steps of 64 rows: most compactions take several.
        compaction: "ratio = 4\nsegment_bytes = \"4KiB\"\ngrace = \"8s\"",
        ..Settings::default()
    }
}

fn profile(crash_every: u32) -> Profile {
    Profile {
        dim: 16,
        ids: 900,
        batch: 60,
        crash_every,
    }
}

/// The run must have been about something.
fn assert_lively(run: &Run, crashes: usize) {
    let stats = run.world.cold.counts();
    assert!(run.crashes >= crashes, "{} crashes", run.crashes);
    assert!(run.moved > 100, "{} rows moved by hand", run.moved);
    assert!(run.cold_hits > 100, "{} cold hits", run.cold_hits);
    assert!(stats.puts > 20, "{stats:?}");
    assert!(run.compacted > 100, "{} rows compacted", run.compacted);
    assert!(run.split > 5, "{} partitions split", run.split);
    assert!(run.ended > 5, "{} partitions ended", run.ended);
    assert!(stats.deletes > 20, "{stats:?}");
}

#[test]
fn without_crashes_l2() {
    assert_lively(&run(1, 9_000, settings(Metric::L2, "flat"), profile(0)), 0);
}

#[test]
fn with_crashes_l2() {
    assert_lively(
        &run(2, 12_000, settings(Metric::L2, "flat"), profile(40)),
        50,
    );
}

#[test]
fn with_crashes_of_rows_that_land_cold() {
    let mut cold = settings(Metric::L2, "flat");
    cold.memory = "flush_every = \"5s\"\ndurability = \"cold\"";
    assert_lively(&run(6, 9_000, cold, profile(40)), 40);
}

#[test]
fn with_crashes_inner_product() {
    let run = run(
        3,
        10_000,
        settings(Metric::InnerProduct, "flat"),
        profile(40),
    );
    assert_lively(&run, 40);
}

#[test]
fn with_crashes_cosine() {
    let run = run(4, 10_000, settings(Metric::Cosine, "flat"), profile(40));
    assert_lively(&run, 40);
}

#[test]
fn with_crashes_all_the_time_and_little_room() {
    let mut tight = settings(Metric::L2, "fake");
    tight.budget = "96KiB";
    assert_lively(&run(5, 9_000, tight, profile(12)), 100);
}

/// What a cold store does to a call, as a seed draws it: one in so many fails, is lost, loses its reply, comes late, or is read wrong.
fn fault(seed: u64, one_in: u64) -> impl Fn(&Call, u64) -> Verdict + Send + Sync {
    move |call, n| {
        let mut rng = fastrand::Rng::with_seed(seed ^ (n << 20));
        if matches!(call, Call::Meta(_)) || rng.u64(..one_in) > 0 {
            return Verdict::Pass;
        }
        let late = Verdict::Late(Duration::from_millis(rng.u64(1..8)));
        let reads = [Verdict::Fail, Verdict::Lost, late, Verdict::Garble];
        let changes = [Verdict::Fail, Verdict::Lost, late, Verdict::LoseReply];
        let ways = if call.changes() { changes } else { reads };
        ways[rng.usize(..ways.len())]
    }
}

/// Stretches in which the cold store fails now and then, between others in which it does not: an operation fails or is done, an answer is
/// right or says that it is not whole, and when the store is well again nothing is missing.
#[test]
fn with_a_cold_store_that_fails() {
    let seed = variable("AETHER_SEED").unwrap_or(7);
    let ops = variable("AETHER_OPS").unwrap_or(9_000);
    let mut rng = fastrand::Rng::with_seed(seed);
    let (mut failed, mut left) = (0, 0);
    let run = drive(
        seed,
        ops,
        settings(Metric::L2, "flat"),
        profile(0),
        async |run, op| {
            // Bits that were never written.
            run.also = &[ErrorKind::Corrupt];
            if left == 0 {
                left = rng.u64(1..60);
                run.faulty = !run.faulty;
                match run.faulty {
                    true => run.world.power.script(fault(rng.u64(..), rng.u64(1..8))),
                    false => run.world.power.unscript(),
                }
            }
            left -= 1;
            let closing = matches!(op, Op::Reopen);
            run.step(op).await?;
            if !run.failed.replace(false) {
                return Ok(());
            }
            failed += 1;
            left = 0;
            run.faulty = false;
            run.world.power.unscript();
            // Closed half, not opened, or as a user would who believes nothing any more.
            if closing || rng.u8(..4) == 0 {
                run.rise().await
            } else {
                run.look().await
            }
        },
    );
    println!("{failed} of {ops} operations failed, and nothing was lost");
    assert!(failed * 50 > ops, "{failed}");
    assert_lively(&run, 10);
}

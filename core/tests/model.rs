//! Random operations on a memory, with power cuts, against a plain map and an exact scan.
//!
//! `AETHER_SEED` runs one seed, `AETHER_OPS` so many operations of each.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use aether_core::Metric;
use aether_testkit::env::variable;
use aether_testkit::workload::{Profile, Workload};

use aether_testkit::run::FLUSH;
use common::{Run, Settings, World};

/// Runs one seed; every fact that depends on it is in the message of a failure.
fn run(seed: u64, ops: u64, settings: Settings, profile: Profile) -> Run {
    let seed = variable("AETHER_SEED").unwrap_or(seed);
    let ops = variable("AETHER_OPS").unwrap_or(ops);
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
            if let Err(what) = run.step(op).await {
                let from = run.log.len().saturating_sub(12);
                panic!(
                    "AETHER_SEED={seed} {settings:?}: step {n}: {what}\nthe last steps:\n{}",
                    run.log[from..].join("\n")
                );
            }
        }
        let end = async {
            run.world.power.unscript();
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

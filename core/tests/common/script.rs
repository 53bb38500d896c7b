//! One workload with every kind of write and of move, for tests that break something at each of its calls.

use std::time::Duration;

use aether_core::config::SearchMode;
use aether_core::{Metric, Point};
use aether_testkit::strategy;
use aether_testkit::workload::Op;

use super::Settings;
use super::run::{FLUSH, Run};

const DIM: usize = 8;

pub fn settings() -> Settings {
    Settings {
        dim: DIM,
        metric: Metric::L2,
        // The kit's exact index: the budget is a sharp edge.
        budget: "84KiB",
        hot: "fake",
        memory: FLUSH,
        flux: "batch_rows = 12\nsample = 16",
        search: "probe_min = 1",
        // Steps of 12 rows, so that compactions are cut between two of them.
        compaction: "ratio = 3\nsegment_bytes = \"4KiB\"\ngrace = \"4s\"\nenabled = true",
        ..Settings::default()
    }
}

fn some(range: std::ops::Range<u64>, seed: u64) -> Vec<Point> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let point = |i| {
        let point = strategy::point(&mut rng, strategy::id(i), DIM);
        match i % 7 {
            3 => point.with_ttl(Duration::from_secs(40), false),
            5 => point.with_ttl(Duration::from_secs(40), true),
            _ => point,
        }
    };
    range.map(point).collect()
}

fn ids(range: std::ops::Range<u64>) -> Vec<aether_core::PointId> {
    range.map(strategy::id).collect()
}

/// Points in one corner.
fn near(range: std::ops::Range<u64>, seed: u64) -> Vec<Point> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let point = |i| {
        let vector: Vec<f32> = (0..DIM).map(|_| 3.0 + rng.f32()).collect();
        Point::new(strategy::id(i), vector)
    };
    range.map(point).collect()
}

/// Every kind of write and of move, each at least once with something under it that changed.
pub fn workload() -> Vec<Op> {
    let search = |seed| Op::Search {
        query: strategy::vector(&mut fastrand::Rng::with_seed(seed), DIM),
        k: 7,
        mode: SearchMode::Complete,
        filter: None,
        parts: true,
    };
    vec![
        Op::Upsert(some(0..20, 1)),
        Op::Demote(ids(0..15)),
        Op::Upsert(some(10..30, 2)),
        Op::Delete(ids(0..4)),
        Op::Promote(ids(4..9)),
        search(3),
        Op::Demote(ids(4..9)),
        Op::Pin(ids(20..22), true),
        // More than the hot tier has room for: rows are made to leave, and some land cold.
        Op::Upsert(some(100..180, 4)),
        Op::Tick,
        search(5),
        Op::Advance(Duration::from_secs(6)),
        Op::Tick,
        Op::Compact,
        Op::Delete(ids(100..110)),
        Op::Upsert(some(110..115, 6)),
        Op::Advance(Duration::from_secs(36)),
        Op::Tick,
        Op::Reopen,
        Op::Promote(ids(120..124)),
        Op::Compact,
        Op::Advance(Duration::from_secs(5)),
        Op::Tick,
        Op::Pin(ids(20..21), false),
        search(7),
        // A cluster that grows beyond its partition, and shrinks again.
        Op::Upsert(near(200..250, 8)),
        Op::Demote(ids(200..250)),
        Op::Compact,
        search(9),
        Op::Delete(ids(204..250)),
        Op::Compact,
        search(11),
    ]
}

pub async fn work(run: &mut Run, ops: &[Op], at: &str) {
    for (i, op) in ops.iter().enumerate() {
        if let Err(what) = run.step(op.clone()).await {
            let mut text = format!("{op:?}");
            text.truncate(text.floor_char_boundary(300));
            panic!("{at}: operation {i} ({text}): {what}");
        }
    }
}

/// Compares everything, closes, and verifies what is stored.
pub async fn end(run: &mut Run, at: &str) {
    let ended = async {
        run.check_everything().await?;
        run.memory().close().await.map_err(|e| e.to_string())?;
        run.check_stored().await
    };
    ended
        .await
        .unwrap_or_else(|e: String| panic!("{at}: at the end: {e}"));
}

//! What is on its way between the tiers keeps to `memory.working_space`, counted at the allocator: one test, since every thread counts.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

#[allow(
    unsafe_code,
    reason = "an allocator that counts is an unsafe trait's implementation"
)]
mod counting;

use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;

use aether::{BlockingMemory, Config, Point, PointId};
use counting::{Counting, HELD, PEAK};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const DIM: usize = 64;
const ROWS: u64 = 60_000;
/// Rows of a write.
const BATCH: u64 = 2_000;
const SPACE: i64 = 8 << 20;

fn vector(i: u64) -> Vec<f32> {
    let mut centre = fastrand::Rng::with_seed(i % 50);
    let mut own = fastrand::Rng::with_seed(i.wrapping_mul(0x9E37_79B9));
    (0..DIM)
        .map(|_| centre.f32() - 0.5 + 0.3 * own.f32())
        .collect()
}

/// A memory on disk whose own caches are small.
fn open(folder: &Path, working_space: &str, hot_budget: &str) -> BlockingMemory {
    let text = format!(
        "[memory]\npath = {folder:?}\ndim = {DIM}\nhot_budget = {hot_budget:?}\ninsert_wait = \"0s\"\n\
         working_space = {working_space:?}\n[flux]\ntick = \"0s\"\nbatch_rows = 100000\n[search]\ncache = \"0B\"\n\
         [hot]\nbackend = \"flat\"\n[meta]\ncache = \"1MiB\"\n"
    );
    aether::open_blocking(Config::from_toml(&text).unwrap()).unwrap()
}

fn fill(memory: &BlockingMemory, rows: u64) {
    for from in (0..rows).step_by(BATCH as usize) {
        let points = (from..from + BATCH).map(|i| Point::new(i, vector(i)));
        memory.upsert(points.collect()).unwrap();
    }
}

/// The most that some work held beyond what was there before it and what it left, whichever is more.
fn beyond<T>(work: impl FnOnce() -> T) -> (i64, T) {
    let before = HELD.load(Relaxed);
    PEAK.store(before, Relaxed);
    let done = work();
    let peak = PEAK.load(Relaxed);
    (peak - before.max(HELD.load(Relaxed)), done)
}

/// Merges and splits a cold tier of 15 MB raw, twice as much as the space; answers what that took.
fn compacted(working_space: &str) -> i64 {
    let folder = tempfile::tempdir().unwrap();
    let memory = open(&folder.path().join("memory"), working_space, "256KiB");
    fill(&memory, ROWS);
    let (took, done) = beyond(|| memory.compact().unwrap());
    assert!(done.rows >= ROWS / 2, "{done:?}");
    let stats = memory.stats();
    assert!(
        stats.cold_rows > ROWS - 1000 && stats.counted.compactions > 1,
        "{stats:?}"
    );
    memory.close().unwrap();
    took
}

#[test]
fn compaction_and_demotion_keep_to_the_working_space() {
    let took = compacted("8MiB");
    let ample = compacted("256MiB");
    println!("compaction of 15 MB: {took} bytes of {SPACE}, {ample} where there is more");
    assert!(
        ample > SPACE * 3 / 2,
        "{ample} bytes: the test would not see a step that takes too much"
    );
    assert!(took < SPACE, "{took} bytes of {SPACE}");

    let folder = tempfile::tempdir().unwrap();
    let memory = open(&folder.path().join("memory"), "8MiB", "64MiB");
    fill(&memory, ROWS);
    assert_eq!(memory.stats().hot_rows, ROWS);
    let ids: Vec<PointId> = (0..5_000).map(PointId::Int).collect();
    memory.demote(&ids).unwrap();
    let ids: Vec<PointId> = (5_000..ROWS).map(PointId::Int).collect();
    let (mut took, mut moved) = (0, 0);
    for some in ids.chunks(10_000) {
        let (once, n) = beyond(|| memory.demote(some).unwrap());
        (took, moved) = (took.max(once), moved + n);
    }
    println!("demotion of {moved} rows: {took} bytes");
    assert_eq!(moved, ids.len());
    assert!(took < SPACE, "{took} bytes of {SPACE}");
    memory.close().unwrap();
    payloads();
}

/// Rows whose payloads weigh far more than their vectors: 26 MB of text that hardly packs.
fn payloads() {
    const HEAVY: u64 = 800;
    let folder = tempfile::tempdir().unwrap();
    let memory = open(&folder.path().join("memory"), "8MiB", "64MiB");
    let mut rng = fastrand::Rng::with_seed(9);
    for from in (0..HEAVY).step_by(50) {
        let mut heavy = |i| {
            let text: String = (0..32 << 10).map(|_| rng.alphanumeric()).collect();
            Point::new(i, vector(i)).with_payload(serde_json::json!({ "text": text }))
        };
        memory
            .upsert((from..from + 50).map(&mut heavy).collect())
            .unwrap();
    }
    let ids: Vec<PointId> = (0..HEAVY).map(PointId::Int).collect();
    memory.demote(&ids[..10]).unwrap();
    let (demoted, moved) = beyond(|| memory.demote(&ids[10..]).unwrap());
    assert_eq!(moved, ids.len() - 10);
    let (compacted, _) = beyond(|| memory.compact().unwrap());
    println!("payloads: demotion {demoted} bytes, compaction {compacted}");
    assert!(demoted < SPACE, "{demoted} bytes of {SPACE}");
    assert!(compacted < SPACE, "{compacted} bytes of {SPACE}");
    memory.close().unwrap();
}

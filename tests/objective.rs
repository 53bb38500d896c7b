//! A latency as the objective of the hot tier: with a bound that is too small, and with one that is larger than needed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use aether::{BlockingMemory, Config, ManualClock, MemoryBuilder, Parts, Point, PointId};

const POINTS: u64 = 3_000;

fn config(path: &std::path::Path, within: &str) -> Config {
    let toml = format!(
        "[memory]\npath = {path:?}\ndim = 8\nmetric = \"l2\"\n\
         [flux]\ntick = \"0s\"\nobjective = {{ p99_ms = 5, within = {within:?} }}\n[search]\ncache = \"0B\"\n\
         [hot]\nbackend = \"flat\"\n[policy]\nbackend = \"lru\"\n\
         [cold]\nbackend = \"simulated-s3\"\nread_median = \"12ms\"\nread_p99 = \"14ms\"\nput_median = \"1ms\"\nput_p99 = \"2ms\"\n\
         [cold.inner]\nbackend = \"file\"\n"
    );
    Config::from_toml(&toml).unwrap()
}

fn fill(memory: &BlockingMemory) {
    for start in (0..POINTS).step_by(250) {
        let ids = start..start + 250;
        let points =
            ids.map(|i| Point::new(i, (0..8).map(|d| ((i * 7 + d) % 101) as f32).collect()));
        memory.upsert(points.collect()).unwrap();
    }
}

#[test]
fn a_bound_that_is_too_small_is_kept_and_what_is_missing_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let memory = aether::open_blocking(config(folder.path(), "256KiB")).unwrap();
    fill(&memory);
    let held = memory.stats();
    assert!(
        held.hot_bytes <= 256 << 10 && held.hot_rows < POINTS / 2,
        "{held:#?}"
    );
    let mut rng = fastrand::Rng::with_seed(4);
    for _ in 0..600 {
        memory.get(&PointId::Int(rng.u64(..POINTS))).unwrap();
    }
    memory.tick().unwrap();
    let stats = memory.stats();
    let sizing = stats.objective.unwrap();
    assert_eq!(
        (sizing.met, sizing.budget_bytes),
        (Some(false), 256 << 10),
        "{sizing:#?}"
    );
    assert!(sizing.needed_bytes.unwrap() > 256 << 10, "{sizing:#?}");
    assert!(sizing.p99_ms.unwrap() >= 12.0, "{sizing:#?}");
    let steps = sizing.steps.join("\n");
    for part in [
        "99 of 100 requests within 5 ms needs about",
        "within allows 256.0 KiB",
        "need the cold tier",
    ] {
        assert!(steps.contains(part), "{part}: {steps}");
    }
    assert!(stats.hot_bytes <= 256 << 10, "{}", stats.hot_bytes);
    let explained = memory.explain(&PointId::Int(1)).unwrap().unwrap();
    let told = explained.to_string();
    assert!(told.contains("99 of 100 requests within 5 ms"), "{told}");
    assert_eq!(explained.objective.unwrap().steps, sizing.steps);
    memory.close().unwrap();
}

#[test]
fn a_bound_larger_than_needed_is_not_filled() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new());
    let registry = Arc::new(aether::registry().unwrap());
    let builder = MemoryBuilder::new(config(folder.path(), "8MiB"), registry).clock(clock.clone());
    let memory = builder.open_blocking().unwrap();
    fill(&memory);
    assert_eq!(memory.stats().hot_rows, POINTS);
    let mut rng = fastrand::Rng::with_seed(4);
    for _ in 0..120 {
        for _ in 0..600 {
            memory
                .get_many(&[PointId::Int(rng.u64(..300))], Parts::NONE)
                .unwrap();
        }
        clock.advance(Duration::from_secs(1));
        memory.tick().unwrap();
    }
    let stats = memory.stats();
    let sizing = stats.objective.unwrap();
    assert_eq!(sizing.met, Some(true), "{sizing:#?}");
    assert!(
        (250..600).contains(&stats.hot_rows),
        "{}: {sizing:#?}",
        stats.hot_rows
    );
    assert!(stats.budget_bytes < 1 << 20, "{}", stats.budget_bytes);
    memory.close().unwrap();
}

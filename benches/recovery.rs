//! How long does opening take? 20,000 points of 384 dimensions, half of them cold, after a `close` (the hot index comes from its snapshot) and
//! after a kill (no snapshot: the index is rebuilt from its rows' homes), for both indexes, over redb and `file` with `zstd`. Reading the
//! plain bytes of all vectors from a file is the baseline. All from the page cache.

#![allow(clippy::unwrap_used, reason = "a bench stops at the first surprise")]

mod common;

use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};

const ROWS: u64 = 20_000;

fn recovery(c: &mut Criterion) {
    let vectors = common::clustered(ROWS as usize, 8);
    let runtime = common::runtime();
    let mut group = c.benchmark_group("recovery");
    group.sample_size(10);
    let plain: Vec<u8> = vectors
        .iter()
        .flatten()
        .flat_map(|x| x.to_le_bytes())
        .collect();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &plain).unwrap();
    group.bench_function("plain_file", |b| {
        b.iter(|| std::fs::read(file.path()).unwrap().len())
    });
    for backend in ["flat", "hnsw"] {
        let folder = tempfile::tempdir().unwrap();
        let config = common::config(folder.path(), &format!("[hot]\nbackend = \"{backend}\"\n"));
        let memory = common::open(&runtime, config.clone());
        common::fill(&runtime, &memory, &vectors);
        for from in (ROWS / 2..ROWS).step_by(1000) {
            runtime
                .block_on(memory.demote(&common::ids(from..from + 1000)))
                .unwrap();
        }
        runtime.block_on(memory.close()).unwrap();
        drop(memory);
        let snapshot = config.memory.path.join("hot.snapshot");
        for (name, killed) in [("after_close", false), ("after_kill", true)] {
            group.bench_function(format!("{backend}/{name}"), |b| {
                b.iter_custom(|n| {
                    let mut took = Duration::ZERO;
                    for _ in 0..n {
                        if killed {
                            std::fs::remove_file(&snapshot).unwrap();
                        }
                        let begun = Instant::now();
                        let memory = common::open(&runtime, config.clone());
                        took += begun.elapsed();
                        assert_eq!(memory.stats().points, ROWS);
                        runtime.block_on(memory.close()).unwrap();
                        drop(memory);
                    }
                    took
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, recovery);
criterion_main!(benches);

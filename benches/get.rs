//! What does one `get` cost? Of a hot point, of a cold one whose block is in the block cache, and of a cold one that comes from a file in the
//! page cache (block cache off). 20,000 points of 384 dimensions without payload, half of them cold, over redb and `file` with `zstd`.

#![allow(clippy::unwrap_used, reason = "a bench stops at the first surprise")]

mod common;

use std::hint::black_box;
use std::time::Instant;

use aether::PointId;
use criterion::{Criterion, criterion_group, criterion_main};

const ROWS: u64 = 20_000;

fn get(c: &mut Criterion) {
    let vectors = common::clustered(ROWS as usize, 5);
    let runtime = common::runtime();
    let mut group = c.benchmark_group("get");
    for (cache, cold) in [("\"64MiB\"", "cold_cached"), ("\"0B\"", "cold_page_cache")] {
        let folder = tempfile::tempdir().unwrap();
        let more = format!("[hot]\nbackend = \"flat\"\n[search]\ncache = {cache}\n");
        let memory = common::open(&runtime, common::config(folder.path(), &more));
        common::fill(&runtime, &memory, &vectors);
        for from in (ROWS / 2..ROWS).step_by(1000) {
            runtime
                .block_on(memory.demote(&common::ids(from..from + 1000)))
                .unwrap();
        }
        let mut kinds = vec![(cold, ROWS / 2..ROWS)];
        if cold == "cold_cached" {
            kinds.push(("hot", 0..ROWS / 2));
        }
        for (name, range) in kinds {
            group.bench_function(name, |b| {
                b.iter_custom(|n| {
                    runtime.block_on(async {
                        let mut rng = fastrand::Rng::with_seed(6);
                        let begun = Instant::now();
                        for _ in 0..n {
                            let id = PointId::Int(rng.u64(range.clone()));
                            black_box(memory.get(&id).await.unwrap().unwrap());
                        }
                        begun.elapsed()
                    })
                });
            });
        }
        runtime.block_on(memory.close()).unwrap();
    }
    group.finish();
}

criterion_group!(benches, get);
criterion_main!(benches);

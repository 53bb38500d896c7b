//! How many points a second does a bulk load make durable? `upsert` of 384 dimensions into `flat` over redb with the default durability, in
//! batches of 1,000 from one and from four callers at once, and, as the baseline, the same bytes written to one file and synced after
//! each batch. Each measurement fills a new folder with 10,000 points.

#![allow(clippy::unwrap_used, reason = "a bench stops at the first surprise")]

mod common;

use std::io::Write;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const ROWS: usize = 10_000;
const BATCH: usize = 1_000;

fn load(callers: usize, vectors: &[Vec<f32>]) -> Duration {
    let runtime = common::runtime();
    let folder = tempfile::tempdir().unwrap();
    let memory = common::open(
        &runtime,
        common::config(folder.path(), "[hot]\nbackend = \"flat\"\n"),
    );
    let batches: Vec<_> = (0..)
        .zip(vectors.chunks(BATCH))
        .map(|(i, v)| common::points(v, i * BATCH as u64))
        .collect();
    runtime.block_on(async {
        let begun = Instant::now();
        let mut tasks = Vec::new();
        for caller in 0..callers {
            let mine: Vec<_> = batches
                .iter()
                .skip(caller)
                .step_by(callers)
                .cloned()
                .collect();
            let memory = memory.clone();
            tasks.push(tokio::spawn(async move {
                for batch in mine {
                    memory.upsert(batch).await.unwrap();
                }
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
        let took = begun.elapsed();
        assert_eq!(memory.stats().points, ROWS as u64);
        memory.close().await.unwrap();
        took
    })
}

fn plain_file(vectors: &[Vec<f32>]) -> Duration {
    let mut file = tempfile::tempfile().unwrap();
    let begun = Instant::now();
    for batch in vectors.chunks(BATCH) {
        let bytes: Vec<u8> = batch
            .iter()
            .flatten()
            .flat_map(|x| x.to_le_bytes())
            .collect();
        file.write_all(&bytes).unwrap();
        file.sync_all().unwrap();
    }
    begun.elapsed()
}

fn write(c: &mut Criterion) {
    let vectors = common::clustered(ROWS, 4);
    let mut group = c.benchmark_group("write");
    group
        .sample_size(10)
        .throughput(Throughput::Elements(ROWS as u64));
    group.bench_function("plain_file", |b| {
        b.iter_custom(|n| (0..n).map(|_| plain_file(&vectors)).sum())
    });
    for callers in [1, 4] {
        group.bench_function(format!("upsert/{callers}_callers"), |b| {
            b.iter_custom(|n| (0..n).map(|_| load(callers, &vectors)).sum());
        });
    }
    group.finish();
}

criterion_group!(benches, write);
criterion_main!(benches);

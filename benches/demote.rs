//! How many rows a second go cold? Rows of 384 dimensions in `flat`, over redb and `file` on a real folder, are demoted a few thousand at a
//! time: read from their homes, sorted by partition, coded (4 bits), packed (`zstd`, exact, and `raw`), written, synced and committed. The
//! first rows are demoted beforehand, so that the centroids are there; how long training them takes is a line of its own.
//!
//! The baseline is the codec alone: the same rows packed by `zstd` with shuffled bytes, in groups of 8 KiB as segments have them, on
//! every processor.

#![allow(clippy::unwrap_used, reason = "a bench stops at the first surprise")]

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use aether::config::Slot;
use aether::vector::{Shape, VectorBlock};
use aether::{BuildContext, Metric, Role, SystemClock};
use aether_core::codec::BlockCodec;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const ROWS: u64 = 40_000;
/// Rows demoted before the clock runs.
const FIRST: u64 = 2_000;
/// Rows of a group: those of 8 KiB.
const GROUP: usize = 5;

struct Took {
    training: Duration,
    demoting: Duration,
}

fn demote(vectors: &[Vec<f32>], codec: &str) -> Took {
    let runtime = common::runtime();
    let folder = tempfile::tempdir().unwrap();
    let more = format!("[hot]\nbackend = \"flat\"\n[codec]\nbackend = \"{codec}\"\n");
    let memory = common::open(&runtime, common::config(folder.path(), &more));
    common::fill(&runtime, &memory, vectors);
    let begun = Instant::now();
    runtime
        .block_on(memory.demote(&common::ids(0..FIRST)))
        .unwrap();
    let training = begun.elapsed();
    let begun = Instant::now();
    let moved = runtime
        .block_on(memory.demote(&common::ids(FIRST..ROWS)))
        .unwrap();
    let demoting = begun.elapsed();
    assert_eq!(moved as u64, ROWS - FIRST);
    assert_eq!(memory.stats().cold_rows, ROWS);
    runtime.block_on(memory.close()).unwrap();
    Took { training, demoting }
}

/// Packs groups of rows on every processor.
fn pack(codec: &BlockCodec, data: &[f32]) -> usize {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let groups: Vec<&[f32]> = data.chunks(GROUP * common::DIM).collect();
    let part = |groups: &[&[f32]]| {
        let mut out = Vec::new();
        let mut bytes = 0;
        for group in groups {
            let shape = Shape {
                rows: group.len() / common::DIM,
                dim: common::DIM,
            };
            out.clear();
            let block = VectorBlock::new(group, shape).unwrap();
            codec.encode_block(block, &mut out).unwrap();
            bytes += out.len();
        }
        bytes
    };
    std::thread::scope(|scope| {
        let parts = groups.chunks(groups.len().div_ceil(threads));
        let running: Vec<_> = parts.map(|p| scope.spawn(move || part(p))).collect();
        running.into_iter().map(|t| t.join().unwrap()).sum()
    })
}

fn bench(c: &mut Criterion) {
    let vectors = common::clustered(ROWS as usize, 8);
    let mut group = c.benchmark_group("demote");
    group.sample_size(10);

    let context = BuildContext {
        dim: common::DIM,
        metric: Metric::Cosine,
        data_dir: None,
        clock: Arc::new(SystemClock::new()),
        seed: 42,
        read_only: false,
        hot_budget: None,
        registry: common::registry(),
    };
    let data = vectors.concat();
    group.throughput(Throughput::Elements(ROWS));
    for name in ["zstd", "raw"] {
        let slot = Slot::named(Role::Codec, name);
        let codec = context.registry.codec(&slot, &context).unwrap();
        let codec = BlockCodec::new(codec, None).unwrap();
        group.bench_function(format!("codec_alone/{name}"), |b| {
            b.iter(|| pack(&codec, &data));
        });
    }

    group.throughput(Throughput::Elements(ROWS - FIRST));
    for name in ["zstd", "raw"] {
        group.bench_function(format!("engine/{name}"), |b| {
            b.iter_custom(|n| {
                let mut took = Duration::ZERO;
                for _ in 0..n {
                    let once = demote(&vectors, name);
                    took += once.demoting;
                    println!("first {FIRST} rows and training: {:?}", once.training);
                }
                took
            });
        });
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);

//! How quick are insert and scan beside plain memory copies and reads of the same bytes?
//!
//! 384 dimensions, seeded random data. `copy` and `sum` are the baselines that memory allows on one thread: 77 MB, more than most caches. A
//! line `scan-of-64` is one call with 64 queries; 64 times the time of `scan` over its time is what reading the rows once is worth.

use std::hint::black_box;

use aether_core::role::HotIndex;
use aether_core::vector::{Shape, VectorBlock};
use aether_core::{Metric, Row};
use aether_hot_flat::{Flat, FlatConfig};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

const DIM: usize = 384;
const ROWS: usize = 50_000;
/// Queries of a batch.
const BATCH: usize = 64;

fn benches(c: &mut Criterion) {
    let mut rng = fastrand::Rng::with_seed(7);
    let data: Vec<f32> = (0..ROWS * DIM).map(|_| rng.f32() - 0.5).collect();
    let rows: Vec<Row> = (0..ROWS as u64).map(Row).collect();
    let build = |metric| Flat::new(&FlatConfig::default(), metric, DIM).expect("an index");
    let mut group = c.benchmark_group("flat-384");
    group
        .sample_size(10)
        .throughput(Throughput::Elements(ROWS as u64));
    group.bench_function("insert/copy", |b| {
        b.iter_batched(
            Vec::new,
            |mut v: Vec<f32>| {
                v.extend_from_slice(&data);
                v
            },
            BatchSize::PerIteration,
        );
    });
    for metric in [Metric::L2, Metric::Cosine] {
        group.bench_function(format!("insert/batch-{metric}"), |b| {
            b.iter_batched(
                || build(metric),
                |flat| {
                    flat.insert_batch(&rows, &data).expect("a batch");
                    flat
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.bench_function("scan/sum", |b| {
        b.iter(|| {
            let mut lanes = [0.0f32; 32];
            for chunk in black_box(&data).chunks_exact(32) {
                lanes.iter_mut().zip(chunk).for_each(|(l, x)| *l += x);
            }
            lanes
        });
    });
    for metric in Metric::ALL {
        let flat = build(metric);
        flat.insert_batch(&rows, &data).expect("a batch");
        let query = &data[..DIM];
        group.bench_function(format!("scan/{metric}"), |b| {
            b.iter(|| {
                flat.search(query, 10, &Default::default())
                    .expect("a search")
            });
        });
        let shape = Shape {
            rows: BATCH,
            dim: DIM,
        };
        let queries = VectorBlock::new(&data[..BATCH * DIM], shape).expect("a block");
        group.bench_function(format!("scan-of-{BATCH}/{metric}"), |b| {
            b.iter(|| {
                flat.search_batch(queries, 10, &Default::default())
                    .expect("a search")
            });
        });
    }
    group.finish();
}

criterion_group!(flat, benches);
criterion_main!(flat);

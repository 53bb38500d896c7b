//! How small and how fast is each codec? Blocks of 256 rows: clustered synthetic vectors, and the speeches of Shakespeare (text embeddings).
//! The ratio (plain bytes over packed bytes) is printed before the times; throughput is in plain bytes.

#![allow(clippy::unwrap_used, reason = "a bench stops at the first surprise")]

mod common;

use std::hint::black_box;
use std::sync::Arc;

use aether::config::Slot;
use aether::vector::{Shape, VectorBlock};
use aether::{BuildContext, Metric, Role, SystemClock};
use aether_core::codec::BlockCodec;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const ROWS: usize = 256;
/// The codec, and the byte codec behind it, if any.
const CODECS: &[(&str, Option<&str>)] = &[
    ("raw", None),
    ("lz4", None),
    ("zstd", None),
    ("f16", None),
    ("f16", Some("zstd")),
    ("sq8", None),
    ("sq8", Some("zstd")),
];

fn codec(c: &mut Criterion) {
    let mut sets = vec![("clustered", common::clustered(ROWS, 7))];
    if let Some(speeches) = common::shakespeare() {
        sets.push(("shakespeare", speeches.into_iter().take(ROWS).collect()));
    }
    for (set, vectors) in sets {
        let dim = vectors[0].len();
        let context = BuildContext {
            dim,
            metric: Metric::Cosine,
            data_dir: None,
            clock: Arc::new(SystemClock::new()),
            seed: 42,
            read_only: false,
            hot_budget: None,
            registry: common::registry(),
        };
        let data = vectors.concat();
        let shape = Shape {
            rows: vectors.len(),
            dim,
        };
        let block = VectorBlock::new(&data, shape).unwrap();
        let mut group = c.benchmark_group(format!("codec/{set}"));
        group
            .throughput(Throughput::Bytes(data.len() as u64 * 4))
            .sample_size(20);
        for (first, then) in CODECS {
            let make = |name: &str| {
                let slot = Slot::named(Role::Codec, name);
                context.registry.codec(&slot, &context).unwrap()
            };
            let codec = BlockCodec::new(make(first), then.map(make)).unwrap();
            let decoders =
                aether_core::codec::Decoders::new(context.registry.clone(), context.clone());
            let name = then.map_or_else(|| (*first).to_owned(), |then| format!("{first}+{then}"));
            let mut packed = Vec::new();
            codec.encode_block(block, &mut packed).unwrap();
            println!(
                "codec/{set}/{name}: ratio {:.3}",
                data.len() as f64 * 4.0 / packed.len() as f64
            );
            group.bench_function(format!("{name}/encode"), |b| {
                let mut out = Vec::new();
                b.iter(|| {
                    out.clear();
                    codec.encode_block(black_box(block), &mut out).unwrap();
                });
            });
            group.bench_function(format!("{name}/decode"), |b| {
                let mut out = Vec::new();
                b.iter(|| {
                    out.clear();
                    decoders
                        .decode_block(black_box(&packed), shape, &mut out)
                        .unwrap();
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, codec);
criterion_main!(benches);

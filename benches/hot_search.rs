//! What does the engine add to a search of the hot index? The bare index and a `hot-only` search through the engine, on the same rows, one
//! after the other. 10,000 clustered rows of 384 dimensions, k = 10, cosine. The difference of the two lines of an index is the overhead.

#![allow(clippy::unwrap_used, reason = "a bench stops at the first surprise")]

mod common;

use std::hint::black_box;
use std::time::Instant;

use aether::config::{SearchMode, Slot};
use aether::role::SearchOptions;
use aether::{BuildContext, Metric, Role, Row, SearchRequest, SystemClock};
use criterion::{Criterion, criterion_group, criterion_main};
use std::sync::Arc;

const ROWS: usize = 10_000;
const K: usize = 10;

fn hot_search(c: &mut Criterion) {
    let vectors = common::clustered(ROWS, 2);
    let queries = common::clustered(256, 3);
    let runtime = common::runtime();
    for backend in ["flat", "hnsw"] {
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
        let index = context
            .registry
            .hot(&Slot::named(Role::Hot, backend), &context)
            .unwrap();
        let rows: Vec<Row> = (0..ROWS as u64).map(Row).collect();
        index.insert_batch(&rows, &vectors.concat()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let stores = "[meta]\nbackend = \"memory\"\n[cold]\nbackend = \"memory\"\n";
        let config = common::config(
            folder.path(),
            &format!("{stores}[hot]\nbackend = \"{backend}\"\n"),
        );
        let memory = common::open(&runtime, config);
        common::fill(&runtime, &memory, &vectors);

        let mut group = c.benchmark_group(format!("hot_search/{backend}"));
        group.bench_function("bare", |b| {
            let mut next = queries.iter().cycle();
            let options = SearchOptions::default();
            b.iter(|| {
                index
                    .search(black_box(next.next().unwrap()), K, &options)
                    .unwrap()
            });
        });
        for (name, touch) in [("engine", true), ("engine_untouched", false)] {
            group.bench_function(name, |b| {
                b.iter_custom(|n| {
                    runtime.block_on(async {
                        let mut next = queries.iter().cycle();
                        let begun = Instant::now();
                        for _ in 0..n {
                            let query = next.next().unwrap().clone();
                            let mut request =
                                SearchRequest::new(query, K).mode(SearchMode::HotOnly);
                            request.touch = touch;
                            black_box(memory.search(request).await.unwrap());
                        }
                        begun.elapsed()
                    })
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, hot_search);
criterion_main!(benches);

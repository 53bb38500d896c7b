//! What does a search of the cold tier cost? 20,000 points of 384 dimensions, all of them cold, over redb and `file` with `raw`: the nearest ten,
//! bounded (at the default recall, and at a twentieth and a fifth of the rows whatever that finds) and complete, with the vectors read from the page
//! cache (block cache off) and from the block cache. Before each line stand recall and what a query reads, of 50 queries.
//!
//! The baseline is `flat` with the same rows in RAM, through the same engine: an exact scan, as `complete` is one.

#![allow(clippy::unwrap_used, reason = "a bench stops at the first surprise")]

mod common;

use std::hint::black_box;
use std::time::Instant;

use aether::config::SearchMode;
use aether::{Memory, PointId, SearchRequest};
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main};
use tokio::runtime::Runtime;

const ROWS: u64 = 20_000;
const QUERIES: usize = 50;
const K: usize = 10;

fn request(query: &[f32], mode: SearchMode, probe: Option<f64>) -> SearchRequest {
    SearchRequest {
        mode: Some(mode),
        probe,
        touch: false,
        ..SearchRequest::new(query.to_vec(), K)
    }
}

/// Ids of the nearest, as a scan of every row finds them.
fn truth(runtime: &Runtime, memory: &Memory, queries: &[Vec<f32>]) -> Vec<Vec<PointId>> {
    let one = |query: &Vec<f32>| {
        let asked = memory.search(request(query, SearchMode::Complete, None));
        let answer = runtime.block_on(asked).unwrap();
        assert!(answer.coverage.is_whole(), "{:?}", answer.coverage);
        answer.hits.into_iter().map(|hit| hit.id).collect()
    };
    queries.iter().map(one).collect()
}

/// Prints what the queries find and read.
fn tell(
    name: &str,
    runtime: &Runtime,
    memory: &Memory,
    asked: &[SearchRequest],
    of: &[Vec<PointId>],
) {
    let (mut found, mut requests, mut bytes) = (0, 0, 0);
    for (request, truth) in asked.iter().zip(of) {
        let answer = runtime.block_on(memory.search(request.clone())).unwrap();
        found += answer
            .hits
            .iter()
            .filter(|hit| truth.contains(&hit.id))
            .count();
        requests += answer.coverage.requests;
        bytes += answer.coverage.bytes;
    }
    let queries = asked.len() as f64;
    println!(
        "{name}: recall {:.3}, {:.1} requests and {:.1} kB a query",
        found as f64 / queries / K as f64,
        requests as f64 / queries,
        bytes as f64 / queries / 1e3
    );
}

fn time<M: criterion::measurement::Measurement<Value = std::time::Duration>>(
    group: &mut BenchmarkGroup<'_, M>,
    name: &str,
    runtime: &Runtime,
    memory: &Memory,
    asked: &[SearchRequest],
) {
    group.bench_function(name, |b| {
        b.iter_custom(|n| {
            runtime.block_on(async {
                let begun = Instant::now();
                for request in asked.iter().cycle().take(n as usize) {
                    black_box(memory.search(request.clone()).await.unwrap());
                }
                begun.elapsed()
            })
        });
    });
}

fn cold_search(c: &mut Criterion) {
    let vectors = common::clustered(ROWS as usize, 11);
    let queries = common::clustered(QUERIES, 12);
    let runtime = common::runtime();
    let mut group = c.benchmark_group("cold_search");
    let kinds = [
        ("bounded", SearchMode::Bounded, None),
        ("bounded_twentieth", SearchMode::Bounded, Some(0.05)),
        ("bounded_fifth", SearchMode::Bounded, Some(0.2)),
        ("complete", SearchMode::Complete, None),
    ];
    for (cache, place) in [("1B", "page_cache"), ("128MiB", "block_cache")] {
        let folder = tempfile::tempdir().unwrap();
        let more = format!(
            "[hot]\nbackend = \"flat\"\n[codec]\nbackend = \"raw\"\n[search]\ncache = \"{cache}\"\n"
        );
        let memory = common::open(&runtime, common::config(folder.path(), &more));
        common::fill(&runtime, &memory, &vectors);
        let truth = truth(&runtime, &memory, &queries);
        let asked = |mode, probe| -> Vec<SearchRequest> {
            queries.iter().map(|q| request(q, mode, probe)).collect()
        };
        if place == "page_cache" {
            let hot = asked(SearchMode::HotOnly, None);
            time(&mut group, "flat_in_ram", &runtime, &memory, &hot);
        }
        for from in (0..ROWS).step_by(1000) {
            let ids = common::ids(from..from + 1000);
            assert_eq!(runtime.block_on(memory.demote(&ids)).unwrap(), 1000);
        }
        runtime.block_on(memory.compact()).unwrap();
        for (kind, mode, probe) in kinds {
            let (name, asked) = (format!("{kind}/{place}"), asked(mode, probe));
            tell(&name, &runtime, &memory, &asked, &truth);
            time(&mut group, &name, &runtime, &memory, &asked);
        }
        runtime.block_on(memory.close()).unwrap();
    }
    group.finish();
}

criterion_group!(benches, cold_search);
criterion_main!(benches);

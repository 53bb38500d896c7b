//! Seeded vectors and the exact answer, shared by the test files.
#![allow(dead_code, reason = "not every test file uses every helper")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use aether_core::role::{HotIndex, Neighbor, SearchOptions};
use aether_core::{Metric, Row};
use aether_hot_hnsw::{HnswConfig, HnswIndex};

/// Rows in `blobs` groups: nearer to what embeddings are like than noise without structure.
pub(crate) fn blobs(rng: &mut fastrand::Rng, rows: usize, dim: usize, blobs: usize) -> Vec<f32> {
    let mut normal = {
        let mut rng = rng.fork();
        move || (0..6).map(|_| rng.f32() - 0.5).sum::<f32>()
    };
    let centres: Vec<f32> = (0..blobs * dim).map(|_| normal()).collect();
    let mut all = Vec::with_capacity(rows * dim);
    for _ in 0..rows {
        let at = rng.usize(0..blobs) * dim;
        all.extend(centres[at..at + dim].iter().map(|c| c + 0.6 * normal()));
    }
    all
}

pub(crate) fn index(dim: usize, metric: Metric) -> HnswIndex {
    one_thread(dim, metric, HnswConfig::default())
}

pub(crate) fn one_thread(dim: usize, metric: Metric, config: HnswConfig) -> HnswIndex {
    HnswIndex::new(
        dim,
        metric,
        42,
        HnswConfig {
            threads: 1,
            ..config
        },
    )
    .unwrap()
}

pub(crate) fn rows(range: std::ops::Range<u64>) -> Vec<Row> {
    range.map(Row).collect()
}

pub(crate) fn exact() -> SearchOptions<'static> {
    SearchOptions {
        exact: true,
        ..SearchOptions::default()
    }
}

/// Share of the exact `k` nearest that a search of the index's own breadth finds.
pub(crate) fn recall(
    index: &HnswIndex,
    queries: &[f32],
    dim: usize,
    k: usize,
    options: &SearchOptions<'_>,
) -> f64 {
    let (mut hits, mut wanted) = (0, 0);
    for query in queries.chunks_exact(dim) {
        let truth = index
            .search(
                query,
                k,
                &SearchOptions {
                    exact: true,
                    ..*options
                },
            )
            .unwrap();
        let found = index.search(query, k, options).unwrap();
        check_order(&found);
        assert_eq!(found.len(), truth.len());
        wanted += truth.len();
        hits += found
            .iter()
            .filter(|n| truth.iter().any(|t| t.row == n.row))
            .count();
    }
    hits as f64 / wanted.max(1) as f64
}

/// Nearest first, ties by row, each row once.
pub(crate) fn check_order(found: &[Neighbor]) {
    assert!(found.windows(2).all(|w| w[0] < w[1]), "{found:?}");
    let mut rows: Vec<Row> = found.iter().map(|n| n.row).collect();
    rows.sort_unstable();
    rows.dedup();
    assert_eq!(rows.len(), found.len());
}

/// The exact answer by the definition of the metric, from plain vectors.
pub(crate) fn truth(metric: Metric, all: &[(Row, Vec<f32>)], query: &[f32], k: usize) -> Vec<Row> {
    let mut found: Vec<Neighbor> = all
        .iter()
        .map(|(row, v)| Neighbor {
            row: *row,
            distance: metric.distance(query, v),
        })
        .collect();
    found.sort_unstable();
    found.truncate(k);
    found.iter().map(|n| n.row).collect()
}

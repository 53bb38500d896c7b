//! Searches that find their way by codes answer as those that go by vectors.
#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

mod common;

use aether_core::role::{HotIndex, Neighbor, SearchOptions};
use aether_core::{Metric, Row};
use aether_hot_hnsw::{HnswConfig, HnswIndex, Place};
use common::{blobs, one_thread};

fn coded(bits: u8) -> HnswConfig {
    HnswConfig {
        code_bits: Some(bits),
        ..HnswConfig::default()
    }
}

fn fill(index: &HnswIndex, vectors: &[f32], dim: usize, from: u64) {
    let rows: Vec<Row> = (from..).take(vectors.len() / dim).map(Row).collect();
    index.insert_batch(&rows, vectors).unwrap();
}

fn search(index: &HnswIndex, query: &[f32], ef: usize, exact: bool) -> Vec<Neighbor> {
    let options = SearchOptions {
        ef: Some(ef),
        exact,
        ..SearchOptions::default()
    };
    index.search(query, 10, &options).unwrap()
}

/// Recall at 10 of a breadth, against the exact answer of the same index. Every distance must be the exact one.
fn recall(index: &HnswIndex, queries: &[f32], dim: usize, ef: usize) -> f64 {
    let (mut hits, mut all) = (0, 0);
    for query in queries.chunks_exact(dim) {
        let truth = search(index, query, ef, true);
        let found = search(index, query, ef, false);
        for f in &found {
            if let Some(same) = truth.iter().find(|t| t.row == f.row) {
                assert_eq!(same.distance, f.distance);
                hits += 1;
            }
        }
        all += truth.len();
    }
    f64::from(hits) / all as f64
}

#[test]
fn codes_cost_hardly_any_recall() {
    for (dim, metric) in [
        (64, Metric::L2),
        (100, Metric::Cosine),
        (384, Metric::Cosine),
        (784, Metric::L2),
        (72, Metric::InnerProduct),
    ] {
        let mut rng = fastrand::Rng::with_seed(dim as u64);
        let all = blobs(&mut rng, 3_100, dim, 60);
        let (base, queries) = all.split_at(3_000 * dim);
        let by = |bits| {
            let index = one_thread(dim, metric, coded(bits));
            fill(&index, base, dim, 0);
            recall(&index, queries, dim, 40)
        };
        let (plain, four, eight) = (by(0), by(4), by(8));
        println!("{dim} {metric:?}: vectors {plain}, 4 bits {four}, 8 bits {eight}");
        assert!(
            four > plain - 0.02 && eight > plain - 0.01,
            "{dim} {metric:?}"
        );
        assert!(plain > 0.9, "{dim} {metric:?}");
    }
}

/// Rows that come later lie elsewhere: around the centres of the first ones their codes would say little.
#[test]
fn codes_follow_data_that_drift() {
    let dim = 96;
    let mut rng = fastrand::Rng::with_seed(4);
    let by = [0, 4].map(|bits| one_thread(dim, Metric::L2, coded(bits)));
    let mut queries = Vec::new();
    for (i, shift) in [0.0f32, 12.0, -24.0].into_iter().enumerate() {
        let mut rows = blobs(&mut rng, 4_050, dim, 300);
        rows.iter_mut().for_each(|x| *x += shift);
        queries.extend_from_slice(&rows[4_000 * dim..]);
        for index in &by {
            fill(index, &rows[..4_000 * dim], dim, 4_000 * i as u64);
        }
    }
    let [plain, coded] = by.map(|index| recall(&index, &queries, dim, 64));
    println!("after drift: by vectors {plain}, by codes {coded}");
    assert!(coded > plain - 0.02 && plain > 0.9, "{coded} {plain}");
}

#[test]
fn filters_removals_and_compaction_go_with_codes() {
    let (dim, n) = (80, 4_000u64);
    let mut rng = fastrand::Rng::with_seed(9);
    let vectors = blobs(&mut rng, n as usize, dim, 50);
    let index = one_thread(dim, Metric::Cosine, coded(4));
    fill(&index, &vectors, dim, 0);
    let bytes = index.bytes();
    for row in (0..n).filter(|r| r % 4 != 0) {
        assert!(index.remove(Row(row)).unwrap());
    }
    index.compact().unwrap();
    assert!(index.bytes() < bytes / 2, "{} of {bytes}", index.bytes());
    let queries = blobs(&mut rng, 50, dim, 50);
    assert!(recall(&index, &queries, dim, 40) > 0.95);
    let accepts = |row: Row| row.0.is_multiple_of(8);
    let options = SearchOptions {
        filter: Some(&accepts),
        ..SearchOptions::default()
    };
    for query in queries.chunks_exact(dim) {
        let found = index.search(query, 10, &options).unwrap();
        assert_eq!(found.len(), 10);
        assert!(found.iter().all(|f| accepts(f.row)));
    }
    for row in (0..n).filter(|r| r % 4 == 0) {
        let own = &vectors[row as usize * dim..][..dim];
        assert_eq!(search(&index, own, 20, false)[0].row, Row(row));
    }
}

/// A snapshot has no codes in it: an index with any number of bits reads it.
#[test]
fn a_snapshot_is_read_with_any_number_of_bits() {
    let (dim, n) = (65, 1_500);
    let mut rng = fastrand::Rng::with_seed(3);
    let vectors = blobs(&mut rng, n, dim, 40);
    let queries = blobs(&mut rng, 40, dim, 40);
    let (mut bytes, written) = (Vec::new(), one_thread(dim, Metric::L2, coded(4)));
    fill(&written, &vectors, dim, 0);
    written.save(&mut bytes).unwrap();
    for bits in [0, 4, 8] {
        let read = one_thread(dim, Metric::L2, coded(bits));
        read.load(&mut bytes.as_slice()).unwrap();
        assert_eq!(read.len(), n);
        assert!(recall(&read, &queries, dim, 64) > 0.95, "{bits} bits");
        let mut again = Vec::new();
        read.save(&mut again).unwrap();
        assert_eq!(again, bytes, "{bits} bits");
    }
}

/// Rows so far from every centre that the numbers beside their codes overflow: searches go by the vectors from then on.
#[test]
fn rows_too_far_for_codes_are_found_all_the_same() {
    let (dim, n) = (64, 600);
    let mut rng = fastrand::Rng::with_seed(8);
    let mut vectors = blobs(&mut rng, n, dim, 20);
    // Half the rows lie at one end of what f32 can square, the others at the other.
    let end = (f32::MAX / dim as f32).sqrt() * 0.9;
    for (i, x) in vectors.iter_mut().enumerate() {
        let sign = if i < n / 2 * dim { 1.0 } else { -1.0 };
        *x = sign * end * (1.0 + 1e-3 * *x);
    }
    let by = [0, 4].map(|bits| {
        let index = one_thread(dim, Metric::L2, coded(bits));
        fill(&index, &vectors, dim, 0);
        recall(&index, &vectors[(n - 20) * dim..], dim, 40)
    });
    assert!(by[0] > 0.9 && by[1] > by[0] - 0.02, "{by:?}");
}

/// With its vectors in a file an index answers as one with all in RAM, and holds a third of the vectors' bytes at most; the file
/// grows, shrinks and has no name.
#[cfg(unix)]
#[test]
fn vectors_in_a_file_answer_as_those_in_ram() {
    let (dim, n) = (768, 4_000u64);
    let folder = tempfile::tempdir().unwrap();
    let mut rng = fastrand::Rng::with_seed(2);
    let vectors = blobs(&mut rng, n as usize, dim, 100);
    let queries = blobs(&mut rng, 40, dim, 100);
    let config = HnswConfig {
        threads: 1,
        vectors: Place::File,
        ..HnswConfig::default()
    };
    let filed = HnswIndex::new_in(dim, Metric::L2, 42, config, Some(folder.path())).unwrap();
    let in_ram = one_thread(dim, Metric::L2, HnswConfig::default());
    fill(&filed, &vectors, dim, 0);
    fill(&in_ram, &vectors, dim, 0);
    let raw = n * dim as u64 * 4;
    assert!(filed.bytes() * 100 < raw * 35, "{} of {raw}", filed.bytes());
    assert!(in_ram.bytes() > filed.bytes() + raw);
    let stats = filed.stats();
    assert_eq!(stats.parts.values().sum::<u64>(), stats.bytes);
    let same = |what: &str| {
        for query in queries.chunks_exact(dim) {
            assert_eq!(
                search(&filed, query, 40, false),
                search(&in_ram, query, 40, false),
                "{what}"
            );
            assert_eq!(
                search(&filed, query, 40, true),
                search(&in_ram, query, 40, true),
                "{what}"
            );
        }
    };
    same("filled");
    for index in [&filed, &in_ram] {
        for row in (0..n).filter(|r| r % 3 > 0) {
            assert!(index.remove(Row(row)).unwrap());
        }
        index.compact().unwrap();
    }
    same("shrunk");
    for index in [&filed, &in_ram] {
        fill(index, &vectors, dim, n);
    }
    same("grown again");
    let mut out = vec![0.0; dim];
    for row in 0..n {
        assert!(filed.read(Row(n + row), &mut out).unwrap());
        assert_eq!(out, vectors[row as usize * dim..][..dim]);
    }
    assert_eq!(folder.path().read_dir().unwrap().count(), 0);
}

#[test]
fn a_file_of_vectors_without_codes_is_refused() {
    let config = HnswConfig {
        vectors: Place::File,
        ..HnswConfig::default()
    };
    let error = HnswIndex::new(8, Metric::L2, 1, config).unwrap_err();
    assert!(
        error.is_config() && error.to_string().contains("code_bits"),
        "{error}"
    );
}

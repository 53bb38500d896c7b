//! Many threads at once, against what each of them knows of its own rows.
#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

mod common;

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use aether_core::role::{HotIndex, SearchOptions};
use aether_core::{Metric, Row};
use aether_hot_hnsw::{HnswConfig, HnswIndex, Place};
use common::{check_order, exact};

const DIM: usize = 24;

/// The vector of a row: the row itself is written in its first two numbers, so that a torn or misplaced vector shows.
fn vector_of(row: u64, dim: usize) -> Vec<f32> {
    let mut rng = fastrand::Rng::with_seed(row);
    let mut v: Vec<f32> = (0..dim).map(|_| rng.f32() - 0.5).collect();
    v[0] = (row % 4_096) as f32 / 4_096.0;
    v[1] = (row / 4_096) as f32 / 4_096.0;
    v
}

/// Writers own disjoint rows and put them in, take them out and bring them back, while one compacts again and again and searchers
/// look on. Every row that stays is found by its own vector under exact search, no row that is gone is
/// returned, no answer has a row twice, and every distance is that of the row's own vector.
fn writers_searchers_and_compaction_agree(
    dim: usize,
    metric: Metric,
    config: HnswConfig,
    least: f64,
) {
    let config = HnswConfig {
        m: 8,
        ef_construction: 40,
        threads: 2,
        ..config
    };
    let quiet = config.clone();
    let vector_of = move |row| vector_of(row, dim);
    let index = HnswIndex::new(dim, metric, 1, config).unwrap();
    let settled: Vec<Row> = (0..400).map(Row).collect();
    let vectors: Vec<f32> = settled.iter().flat_map(|r| vector_of(r.0)).collect();
    index.insert_batch(&settled, &vectors).unwrap();
    // Rows that were removed for good, each pushed after its removal returned.
    let gone = Mutex::new(Vec::new());
    let (stop, searches) = (AtomicBool::new(false), AtomicU64::new(0));
    let live: Vec<HashMap<u64, ()>> = std::thread::scope(|scope| {
        let (index, gone, stop, searches) = (&index, &gone, &stop, &searches);
        let writers: Vec<_> = (0..3u64)
            .map(|w| {
                scope.spawn(move || {
                    let mut rng = fastrand::Rng::with_seed(w);
                    let (mut live, mut next) = (HashMap::new(), (w + 1) * 100_000);
                    for _ in 0..3_000 {
                        let some = live.keys().copied().nth(rng.usize(0..10));
                        match (rng.u8(0..10), some) {
                            (0..=5, _) | (_, None) => {
                                index.insert(Row(next), &vector_of(next)).unwrap();
                                live.insert(next, ());
                                next += 1;
                            }
                            (6, Some(row)) => {
                                assert!(index.remove(Row(row)).unwrap());
                                assert!(!index.contains(Row(row)));
                                index.insert(Row(row), &vector_of(row)).unwrap();
                            }
                            (_, Some(row)) => {
                                assert!(index.remove(Row(row)).unwrap());
                                live.remove(&row);
                                gone.lock().unwrap().push(Row(row));
                            }
                        }
                    }
                    live
                })
            })
            .collect();
        scope.spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                index.compact().unwrap();
                std::thread::yield_now();
            }
        });
        for s in 0..2u64 {
            scope.spawn(move || {
                let mut rng = fastrand::Rng::with_seed(100 + s);
                let mut out = vec![0.0; dim];
                while !stop.load(Ordering::Relaxed) {
                    let dead: Vec<Row> = gone.lock().unwrap().clone();
                    let own = rng.u64(0..400);
                    let query = vector_of(own);
                    let options = if rng.bool() {
                        exact()
                    } else {
                        SearchOptions::default()
                    };
                    let found = index.search(&query, 20, &options).unwrap();
                    check_order(&found);
                    assert_eq!(found.len(), 20);
                    for n in &found {
                        assert!(!dead.contains(&n.row), "{} is gone", n.row);
                        let want = metric.distance(&query, &vector_of(n.row.0));
                        assert!((n.distance - want).abs() < 1e-4, "{} {want}", n.distance);
                    }
                    if options.exact {
                        assert!(
                            found.iter().any(|n| n.row == Row(own)),
                            "row {own} not found"
                        );
                    }
                    let any = found[19].row;
                    if index.read(any, &mut out).unwrap() {
                        assert_eq!(out, vector_of(any.0));
                    }
                    searches.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let live = writers.into_iter().map(|w| w.join().unwrap()).collect();
        stop.store(true, Ordering::Relaxed);
        live
    });
    println!(
        "{metric}: {} searches beside the writers",
        searches.load(Ordering::Relaxed)
    );
    let mut expected: Vec<Row> = settled.clone();
    expected.extend(live.iter().flat_map(|l| l.keys().copied().map(Row)));
    expected.sort_unstable();
    let mut rows = index.rows();
    rows.sort_unstable();
    assert_eq!(rows, expected);
    assert_eq!(index.len(), expected.len());
    for row in &expected {
        let found = index.search(&vector_of(row.0), 1, &exact()).unwrap();
        assert_eq!(found[0].row, *row);
    }
    // The graph leads to nearly as many as one that was built in peace, of which the codes had seen all rows before.
    let fresh = HnswIndex::new(dim, metric, 1, quiet).unwrap();
    let vectors: Vec<f32> = expected.iter().flat_map(|r| vector_of(r.0)).collect();
    fresh.insert_batch(&expected, &vectors).unwrap();
    let reached = |index: &HnswIndex| {
        let found = |row: &&Row| {
            let query = vector_of(row.0);
            let found = index.search(&query, 1, &SearchOptions::default()).unwrap();
            found[0].row == **row
        };
        expected.iter().filter(found).count() as f64 / expected.len() as f64
    };
    let (share, in_peace) = (reached(&index), reached(&fresh));
    println!(
        "{metric}: {share:.4} of {} rows reached through the graph, {in_peace:.4} of one built in peace",
        expected.len()
    );
    assert!(
        share >= least && share >= in_peace - 0.015,
        "{share} {in_peace}"
    );
}

#[test]
fn writers_searchers_and_compaction_agree_by_vectors() {
    for metric in [Metric::L2, Metric::Cosine] {
        writers_searchers_and_compaction_agree(DIM, metric, HnswConfig::default(), 0.99);
    }
}

/// The default from 64 dimensions on.
#[test]
fn writers_searchers_and_compaction_agree_by_codes() {
    let config = HnswConfig {
        code_bits: Some(4),
        ..HnswConfig::default()
    };
    for metric in [Metric::L2, Metric::Cosine] {
        writers_searchers_and_compaction_agree(64, metric, config.clone(), 0.97);
    }
}

#[cfg(unix)]
#[test]
fn writers_searchers_and_compaction_agree_with_vectors_in_a_file() {
    let config = HnswConfig {
        code_bits: Some(4),
        vectors: Place::File,
        ..HnswConfig::default()
    };
    writers_searchers_and_compaction_agree(64, Metric::L2, config, 0.97);
}

/// Rows that many threads insert and remove at once, the same ones, are in the end there once or not at all.
#[test]
fn threads_may_quarrel_over_the_same_rows() {
    let config = HnswConfig {
        m: 8,
        ef_construction: 32,
        ..HnswConfig::default()
    };
    let index = HnswIndex::new(DIM, Metric::L2, 5, config).unwrap();
    let (inserted, removed) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let (index, inserted, removed) = (&index, &inserted, &removed);
            scope.spawn(move || {
                let mut rng = fastrand::Rng::with_seed(thread);
                for _ in 0..2_000 {
                    let row = rng.u64(0..40);
                    if rng.bool() {
                        index.insert(Row(row), &vector_of(row, DIM)).unwrap();
                        inserted.fetch_add(1, Ordering::Relaxed);
                    } else if index.remove(Row(row)).unwrap() {
                        removed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert!(inserted.load(Ordering::Relaxed) >= removed.load(Ordering::Relaxed));
    let rows = index.rows();
    assert_eq!(rows.len(), index.len());
    let found = index.search(&[0.0; DIM], 100, &exact()).unwrap();
    check_order(&found);
    assert_eq!(found.len(), rows.len());
    assert!(found.iter().all(|n| rows.contains(&n.row)));
}

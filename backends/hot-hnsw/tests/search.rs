//! What a search finds: against the exact answer, for every metric, with filters, and after the rows were replaced.

mod common;

use aether_core::role::{HotIndex, SearchOptions};
use aether_core::{Metric, Row};
use common::{blobs, check_order, exact, index, recall, rows, truth};

#[test]
fn exact_search_agrees_with_the_definition_of_each_metric() {
    for metric in Metric::ALL {
        for dim in [1, 3, 17, 100] {
            let mut rng = fastrand::Rng::with_seed(dim as u64);
            let vectors = blobs(&mut rng, 300, dim, 10);
            let index = index(dim, metric);
            index.insert_batch(&rows(0..300), &vectors).unwrap();
            let all: Vec<_> = (0u64..)
                .map(Row)
                .zip(vectors.chunks_exact(dim).map(<[f32]>::to_vec))
                .collect();
            for query in blobs(&mut rng, 20, dim, 10).chunks_exact(dim) {
                let expected = truth(metric, &all, query, 10);
                let found = index.search(query, 10, &exact()).unwrap();
                check_order(&found);
                let distance = |row: &Row| metric.distance(query, &all[row.0 as usize].1);
                // Sums differ in their last digits, so rows that are equally far may change places.
                for (n, row) in found.iter().zip(&expected) {
                    let (got, want) = (n.distance, distance(row));
                    let slack = 1e-4 * (1.0 + want.abs());
                    assert!((got - want).abs() <= slack, "{metric} {dim}: {got} {want}");
                    assert!((got - distance(&n.row)).abs() <= slack);
                }
            }
        }
    }
}

/// Recall at 10 with the defaults (`m` 16, `ef_search` 64), seed 42, 3,000 rows (1,000 in 4,096 dimensions) and 60 queries from
/// 750 blobs. Measured 0.955 to 1; a graph over which searches lose their way falls far below the floor.
#[test]
fn recall_holds_for_every_metric_and_dimension() {
    for metric in Metric::ALL {
        for dim in [1, 2, 7, 33, 128, 384, 1_000, 4_096] {
            let n = if dim > 1_000 { 1_000 } else { 3_000 };
            let mut rng = fastrand::Rng::with_seed(42);
            let all = blobs(&mut rng, n + 60, dim, n / 4);
            let (base, queries) = all.split_at(n * dim);
            let index = index(dim, metric);
            index.insert_batch(&rows(0..n as u64), base).unwrap();
            let recall = recall(&index, queries, dim, 10, &SearchOptions::default());
            println!("{metric} {dim}: {recall:.4}");
            // In one dimension cosine knows two directions only: every answer is a tie.
            if metric == Metric::Cosine && dim == 1 {
                continue;
            }
            let floor = 0.92;
            assert!(recall >= floor, "{metric}, {dim} dimensions: {recall}");
        }
    }
}

#[test]
fn a_broader_search_finds_more_and_k_above_ef_is_answered_in_full() {
    let dim = 48;
    let mut rng = fastrand::Rng::with_seed(5);
    let all = blobs(&mut rng, 5_050, dim, 500);
    let (base, queries) = all.split_at(5_000 * dim);
    let index = index(dim, Metric::L2);
    index.insert_batch(&rows(0..5_000), base).unwrap();
    let at = |ef| {
        let options = SearchOptions {
            ef: Some(ef),
            ..SearchOptions::default()
        };
        recall(&index, queries, dim, 10, &options)
    };
    let (narrow, broad) = (at(1), at(400));
    assert!(narrow < broad && broad >= 0.99, "{narrow} {broad}");
    let found = index
        .search(&queries[..dim], 300, &SearchOptions::default())
        .unwrap();
    assert_eq!(found.len(), 300);
    let all = index
        .search(&queries[..dim], usize::MAX, &SearchOptions::default())
        .unwrap();
    assert_eq!(all.len(), 5_000);
    assert!(
        index
            .search(&queries[..dim], 0, &exact())
            .unwrap()
            .is_empty()
    );
}

/// From all rows to one in a thousand, both spread evenly and gathered in one corner far from the query.
#[test]
fn filters_of_every_share_are_answered_in_full() {
    let (dim, n) = (32, 12_000);
    let mut rng = fastrand::Rng::with_seed(9);
    let all = blobs(&mut rng, n + 40, dim, n / 4);
    let (base, queries) = all.split_at(n * dim);
    let index = index(dim, Metric::L2);
    index.insert_batch(&rows(0..n as u64), base).unwrap();
    for accepted in [
        n,
        n / 2,
        n / 5,
        n / 10,
        n / 20,
        n / 50,
        n / 100,
        n / 1_000,
        3,
        1,
        0,
    ] {
        let spread = move |row: Row| {
            let draw = row.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
            (draw * n as u64) >> 32 < accepted as u64
        };
        let corner = |row: Row| base[row.0 as usize * dim] > 1.6;
        let filters: [(&str, &(dyn Fn(Row) -> bool + Sync)); 2] =
            [("spread", &spread), ("corner", &corner)];
        for (name, filter) in filters {
            let options = SearchOptions {
                filter: Some(filter),
                ..SearchOptions::default()
            };
            let recall = recall(&index, queries, dim, 10, &options);
            println!("{accepted} {name}: {recall:.4}");
            assert!(
                recall >= 0.95 || accepted == 0,
                "{accepted} {name}: {recall}"
            );
            let found = index.search(&queries[..dim], 10, &options).unwrap();
            assert!(found.iter().all(|n| filter(n.row)));
            let there = (0..n as u64).filter(|r| filter(Row(*r))).count();
            assert_eq!(found.len(), there.min(10));
        }
    }
}

/// Replaces every row twice, in an order of its own, and compares with an index that never knew the former rows.
#[test]
fn replacing_every_row_twice_costs_no_recall() {
    let (dim, n) = (64, 4_000usize);
    for metric in [Metric::L2, Metric::Cosine] {
        let mut rng = fastrand::Rng::with_seed(77);
        let all = blobs(&mut rng, 3 * n + 500, dim, n);
        let (base, queries) = all.split_at(3 * n * dim);
        let vector = |i: usize| &base[i * dim..(i + 1) * dim];
        let churned = index(dim, metric);
        let mut live: Vec<usize> = (0..n).collect();
        for i in &live {
            churned.insert(Row(*i as u64), vector(*i)).unwrap();
        }
        let bytes = churned.bytes();
        for round in 1..3 {
            rng.shuffle(&mut live);
            for (i, place) in live.iter_mut().enumerate() {
                assert!(churned.remove(Row(*place as u64)).unwrap());
                *place = round * n + i;
                churned.insert(Row(*place as u64), vector(*place)).unwrap();
            }
        }
        assert_eq!(churned.bytes(), bytes, "slots were not reused");
        let fresh = index(dim, metric);
        for i in &live {
            fresh.insert(Row(*i as u64), vector(*i)).unwrap();
        }
        for ef in [16, 64] {
            let options = SearchOptions {
                ef: Some(ef),
                ..SearchOptions::default()
            };
            let worn = recall(&churned, queries, dim, 10, &options);
            let new = recall(&fresh, queries, dim, 10, &options);
            println!("{metric} ef {ef}: churned {worn:.4}, fresh {new:.4}");
            assert!(worn >= new - 0.01, "{metric} ef {ef}: {worn} {new}");
        }
    }
}

/// A third of the rows go, those of whole regions among them; what is left is found as well as before.
#[test]
fn removing_many_rows_leaves_the_others_reachable() {
    let (dim, n) = (32, 9_000usize);
    let mut rng = fastrand::Rng::with_seed(3);
    let base = blobs(&mut rng, n, dim, 90);
    let index = index(dim, Metric::L2);
    index.insert_batch(&rows(0..n as u64), &base).unwrap();
    let gone = |i: usize| base[i * dim] > 0.4 || i.is_multiple_of(10);
    for i in (0..n).filter(|i| gone(*i)) {
        assert!(index.remove(Row(i as u64)).unwrap());
    }
    let left: Vec<usize> = (0..n).filter(|i| !gone(*i)).collect();
    assert!(left.len() < n * 7 / 10);
    assert_eq!(index.len(), left.len());
    let found = |index: &aether_hot_hnsw::HnswIndex| {
        left.iter()
            .filter(|i| {
                let own = &base[**i * dim..(**i + 1) * dim];
                let found = index.search(own, 1, &SearchOptions::default()).unwrap();
                found[0].row == Row(**i as u64)
            })
            .count() as f64
            / left.len() as f64
    };
    let before = found(&index);
    index.compact().unwrap();
    let after = found(&index);
    println!("found by their own vector: {before:.4}, compacted {after:.4}");
    assert!(before >= 0.99 && after >= 0.99, "{before} {after}");
    assert_eq!(index.stats().removed, 0);
}

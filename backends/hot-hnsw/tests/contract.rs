//! The contract beside searching: rows come, go, come back, are read bit for bit, and take no more memory than foretold.

mod common;

use aether_core::config::Slot;
use aether_core::plugin::{BuildContext, Role};
use aether_core::role::{HotIndex, SearchOptions};
use aether_core::{ManualClock, Metric, Registry, Row};
use aether_hot_hnsw::{HnswConfig, HnswIndex, PLUGIN};
use common::{blobs, check_order, exact, index, one_thread, rows};

#[test]
fn a_row_that_is_there_stays_as_it_is_and_one_that_left_may_come_back() {
    let index = index(2, Metric::L2);
    index.insert(Row(7), &[1.0, 2.0]).unwrap();
    index.insert(Row(7), &[9.0, 9.0]).unwrap();
    let mut out = [0.0; 2];
    assert!(index.read(Row(7), &mut out).unwrap());
    assert_eq!((out, index.len()), ([1.0, 2.0], 1));
    assert!(index.remove(Row(7)).unwrap());
    assert!(!index.remove(Row(7)).unwrap());
    assert!(!index.contains(Row(7)) && index.is_empty());
    assert!(!index.read(Row(7), &mut out).unwrap());
    assert_eq!(out, [1.0, 2.0], "out is untouched");
    assert!(index.search(&[1.0, 2.0], 3, &exact()).unwrap().is_empty());
    index.insert(Row(7), &[5.0, 6.0]).unwrap();
    assert!(index.read(Row(7), &mut out).unwrap());
    assert_eq!((out, index.rows()), ([5.0, 6.0], vec![Row(7)]));
}

#[test]
fn vectors_come_back_bit_for_bit_under_every_metric() {
    for metric in Metric::ALL {
        let dim = 19;
        let mut rng = fastrand::Rng::with_seed(8);
        let index = index(dim, metric);
        let mut vectors = blobs(&mut rng, 100, dim, 100);
        vectors[3] = -0.0;
        vectors[4] = f32::from_bits(1);
        index.insert_batch(&rows(0..100), &vectors).unwrap();
        let mut out = vec![0.0; dim];
        for (i, v) in vectors.chunks_exact(dim).enumerate() {
            assert!(index.read(Row(i as u64), &mut out).unwrap());
            let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&out), bits(v));
        }
    }
}

#[test]
fn wrong_lengths_and_numbers_are_refused_and_change_nothing() {
    let index = index(3, Metric::Cosine);
    index.insert(Row(1), &[1.0, 0.0, 0.0]).unwrap();
    let refused = |result: aether_core::Result<()>, words: &str| {
        let error = result.unwrap_err();
        assert!(
            error.is_invalid_input() && error.to_string().contains(words),
            "{error}"
        );
        assert!(error.to_string().starts_with("hot hnsw "), "{error}");
    };
    refused(index.insert(Row(2), &[1.0]), "expected 3 dimensions, got 1");
    refused(
        index.insert_batch(&rows(2..4), &[1.0; 5]),
        "expected 2 x 3 floats, got 5",
    );
    refused(index.insert_batch(&[], &[1.0; 3]), "expected 0 x 3 floats");
    refused(
        index.read(Row(1), &mut [0.0; 2]).map(|_| ()),
        "out: expected 3",
    );
    let search = |q: &[f32]| index.search(q, 1, &SearchOptions::default()).map(|_| ());
    refused(search(&[0.0; 4]), "query: expected 3");
    refused(search(&[0.0, f32::NAN, 0.0]), "query[1]");
    refused(search(&[f32::INFINITY, 0.0, 0.0]), "query[0]");
    refused(search(&[3e38, 3e38, 0.0]), "squared norm");
    index.insert_batch(&[], &[]).unwrap();
    assert_eq!(index.rows(), [Row(1)]);
    // A zero query has no direction, but is finite: everything is at distance 1.
    let found = index
        .search(&[0.0; 3], 5, &SearchOptions::default())
        .unwrap();
    assert_eq!((found.len(), found[0].distance), (1, 1.0));
}

#[test]
fn equal_vectors_are_told_apart_by_row() {
    let index = index(4, Metric::L2);
    for row in (0..2_000).rev() {
        index.insert(Row(row), &[(row % 4) as f32; 4]).unwrap();
    }
    let found = index.search(&[2.0; 4], 5, &exact()).unwrap();
    let found: Vec<u64> = found.iter().map(|n| n.row.0).collect();
    assert_eq!(found, [2, 6, 10, 14, 18]);
    let near = index
        .search(&[2.0; 4], 50, &SearchOptions::default())
        .unwrap();
    check_order(&near);
    assert!(near.iter().all(|n| n.distance == 0.0));
}

/// After every call the index holds no more than was foretold before it, and the parts sum to the whole.
#[test]
fn memory_never_exceeds_what_was_foretold() {
    for (dim, m, bits) in [(1, 4, 0), (24, 16, 8), (1_000, 32, 0), (1_000, 16, 4)] {
        let config = HnswConfig {
            m,
            code_bits: Some(bits),
            ef_construction: m.max(40),
            ..HnswConfig::default()
        };
        let index = one_thread(dim, Metric::L2, config);
        let mut rng = fastrand::Rng::with_seed(dim as u64);
        let (mut next, mut live, mut most) = (0, Vec::new(), 0);
        for step in 0..400 {
            let before = index.bytes();
            assert_eq!(index.bytes_after(0), before);
            let stats = index.stats();
            assert_eq!(stats.parts.values().sum::<u64>(), stats.bytes);
            assert_eq!((stats.bytes, stats.rows), (before, live.len() as u64));
            let batch = rng.u64(1..40);
            let allowed = index.bytes_after(batch as usize);
            assert!(allowed >= before);
            if rng.u8(0..10) < if step % 100 < 60 { 7 } else { 2 } {
                let vectors = blobs(&mut rng, batch as usize, dim, 3);
                index
                    .insert_batch(&rows(next..next + batch), &vectors)
                    .unwrap();
                live.extend(next..next + batch);
                next += batch;
                assert!(
                    index.bytes() <= allowed,
                    "step {step}: {} > {allowed}",
                    index.bytes()
                );
            } else {
                for _ in 0..batch.min(live.len() as u64) {
                    let row = live.swap_remove(rng.usize(0..live.len()));
                    assert!(index.remove(Row(row)).unwrap());
                }
                assert!(index.bytes() <= before);
                // What was removed makes room for as many.
                assert_eq!(index.bytes_after(index.stats().removed as usize), before);
            }
            if step % 90 == 89 {
                index.compact().unwrap();
                assert!(index.bytes() <= before.max(allowed));
            }
            most = most.max(index.bytes());
        }
        assert!(index.bytes_after(usize::MAX) > most);
        assert_eq!(index.len(), live.len());
        for row in live {
            assert!(index.remove(Row(row)).unwrap());
        }
        index.compact().unwrap();
        let (empty, rest) = (index.stats(), index.bytes());
        assert_eq!((empty.rows, empty.removed), (0, 0));
        // Codes keep their centres and their rotation: some copies of a few vectors.
        let kept = if bits > 0 { 160 * (dim as u64 + 64) } else { 0 };
        assert!(
            rest < 20_000 + kept,
            "an empty index still holds {rest} bytes of {most}"
        );
    }
}

/// A small index is small: the smallest hot budget, 64 KiB, holds a hundred rows of 16 dimensions.
#[test]
fn a_small_index_takes_little() {
    let index = index(16, Metric::L2);
    assert!(
        index.bytes_after(100) < 64 << 10,
        "{}",
        index.bytes_after(100)
    );
    assert!(index.bytes() < 8 << 10, "{}", index.bytes());
}

/// Compaction gives memory back, keeps every row where it can be found, and leaves nothing marked as removed.
#[test]
fn compaction_gives_memory_back() {
    let (dim, n) = (64, 5_000u64);
    let mut rng = fastrand::Rng::with_seed(6);
    let vectors = blobs(&mut rng, n as usize, dim, 500);
    let index = index(dim, Metric::Cosine);
    index.insert_batch(&rows(0..n), &vectors).unwrap();
    let full = index.bytes();
    for row in (0..n).filter(|r| r % 5 != 0) {
        index.remove(Row(row)).unwrap();
    }
    assert_eq!(index.bytes(), full);
    index.compact().unwrap();
    let (stats, bytes) = (index.stats(), index.bytes());
    assert_eq!((stats.rows, stats.removed), (n / 5, 0));
    assert!(bytes < full * 3 / 10, "{bytes} of {full}");
    let mut out = vec![0.0; dim];
    for row in 0..n {
        let own = &vectors[row as usize * dim..][..dim];
        assert_eq!(index.read(Row(row), &mut out).unwrap(), row % 5 == 0);
        if row % 5 == 0 {
            assert_eq!(out, own);
            let found = index.search(own, 1, &SearchOptions::default()).unwrap();
            assert_eq!(found[0].row, Row(row));
        }
    }
    index.insert_batch(&rows(n..2 * n), &vectors).unwrap();
    assert_eq!(index.len() as u64, n + n / 5);
}

#[test]
fn one_thread_and_one_seed_give_one_graph() {
    let (dim, n) = (20, 2_500u64);
    let mut rng = fastrand::Rng::with_seed(12);
    let vectors = blobs(&mut rng, n as usize, dim, 2_000);
    let build = |seed| {
        let config = HnswConfig {
            threads: 1,
            ..HnswConfig::default()
        };
        let index = HnswIndex::new(dim, Metric::L2, seed, config).unwrap();
        index.insert_batch(&rows(0..n), &vectors).unwrap();
        for row in (0..n).step_by(3) {
            index.remove(Row(row)).unwrap();
            index
                .insert(Row(n + row), &vectors[row as usize * dim..][..dim])
                .unwrap();
        }
        let mut bytes = Vec::new();
        index.save(&mut bytes).unwrap();
        bytes
    };
    assert_eq!(build(1), build(1));
    assert_ne!(build(1), build(2));
}

/// A row that stands twice in a batch keeps its first vector, also when many threads insert it.
#[test]
fn a_batch_keeps_the_first_of_two_equal_rows() {
    for threads in [1, 4] {
        let config = HnswConfig {
            threads,
            ..HnswConfig::default()
        };
        let index = HnswIndex::new(1, Metric::L2, 3, config).unwrap();
        let twice: Vec<Row> = (0..500).chain(0..500).map(Row).collect();
        let vectors: Vec<f32> = (0..1_000).map(|i| i as f32).collect();
        index.insert_batch(&twice, &vectors).unwrap();
        assert_eq!(index.len(), 500);
        let mut out = [0.0];
        for row in 0..500 {
            index.read(Row(row), &mut out).unwrap();
            assert_eq!(out, [row as f32]);
        }
    }
}

#[test]
fn the_plugin_is_found_and_built_from_its_keys() {
    let registry = Registry::discover().unwrap();
    let context = BuildContext {
        dim: 8,
        metric: Metric::Cosine,
        data_dir: None,
        clock: std::sync::Arc::new(ManualClock::new()),
        seed: 1,
        read_only: false,
        hot_budget: None,
        registry: std::sync::Arc::new(registry.clone()),
    };
    assert!(std::ptr::eq(
        registry.get(Role::Hot, "hnsw").unwrap(),
        &PLUGIN
    ));
    let slot = Slot::with_keys(Role::Hot, "hnsw", "m = 8\nef_search = 20").unwrap();
    let index = registry.hot(&slot, &context).unwrap();
    index.insert(Row(1), &[1.0; 8]).unwrap();
    let capability = index.capability();
    assert!(capability.approximate && capability.exact_read && capability.snapshot);
    let slot = Slot::with_keys(Role::Hot, "hnsw", "m = 800").unwrap();
    let error = registry.hot(&slot, &context).unwrap_err();
    assert!(
        error.is_config() && error.to_string().contains("1:5"),
        "{error}"
    );
}

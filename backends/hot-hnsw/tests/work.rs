//! What a search says it did is what it must have done.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use aether_core::role::{HotIndex, SearchOptions, SearchTally, SearchWork};
use aether_core::{Metric, Row};
use aether_hot_hnsw::{HnswConfig, HnswIndex};
use common::{blobs, one_thread, rows};

const DIM: usize = 64;
const ROWS: u64 = 6_000;

fn filled(bits: u8) -> (HnswIndex, Vec<f32>) {
    let mut rng = fastrand::Rng::with_seed(11);
    let all = blobs(&mut rng, ROWS as usize + 20, DIM, 600);
    let (base, queries) = all.split_at(ROWS as usize * DIM);
    let config = HnswConfig {
        code_bits: Some(bits),
        ..HnswConfig::default()
    };
    let index = one_thread(DIM, Metric::L2, config);
    index.insert_batch(&rows(0..ROWS), base).unwrap();
    (index, queries.to_vec())
}

fn work(index: &HnswIndex, query: &[f32], options: SearchOptions<'_>) -> SearchWork {
    let tally = SearchTally::default();
    let options = SearchOptions {
        tally: Some(&tally),
        ..options
    };
    index.search(query, 10, &options).unwrap();
    tally.read()
}

#[test]
fn a_walk_by_vectors_follows_as_many_rows_as_it_keeps_and_estimates_nothing() {
    let (index, queries) = filled(0);
    for query in queries.chunks_exact(DIM) {
        let ef = |ef| SearchOptions {
            ef: Some(ef),
            ..SearchOptions::default()
        };
        let (narrow, broad) = (work(&index, query, ef(20)), work(&index, query, ef(200)));
        for (work, ef) in [(narrow, 20), (broad, 200)] {
            assert!(work.hops[0] >= ef, "{work:?}");
            assert!(
                work.hops[1] >= 1 && work.estimated == 0 && work.scanned == 0,
                "{work:?}"
            );
            assert!(
                work.compared > work.hops[0] && work.compared < ROWS,
                "{work:?}"
            );
            assert_eq!(work.vector_bytes, work.compared * 4 * DIM as u64);
            let above: u64 = work.hops[1..].iter().sum();
            assert_eq!(work.link_bytes, work.hops[0] * 32 * 4 + above * 18 * 4);
        }
        assert!(broad.compared > 2 * narrow.compared);
    }
}

#[test]
fn a_walk_by_codes_compares_only_what_may_be_an_answer() {
    let (index, queries) = filled(4);
    for query in queries.chunks_exact(DIM) {
        let work = work(&index, query, SearchOptions::default());
        assert!(work.estimated > 10 * work.compared, "{work:?}");
        assert!(work.compared >= 10 && work.scanned == 0, "{work:?}");
        assert_eq!(work.code_bytes, work.estimated * 64);
    }
}

#[test]
fn a_scan_compares_every_accepted_row_and_follows_none() {
    let (index, queries) = filled(4);
    let accepts = |row: Row| row.0.is_multiple_of(4);
    let options = SearchOptions {
        exact: true,
        filter: Some(&accepts),
        ..SearchOptions::default()
    };
    let work = work(&index, &queries[..DIM], options);
    assert_eq!(work.scanned, ROWS / 4);
    assert_eq!(
        (work.hops.iter().sum::<u64>(), work.estimated, work.compared),
        (0, 0, 0)
    );
}

/// Levels follow rows that come, go and move.
#[test]
fn rows_are_counted_by_level() {
    let (index, _) = filled(0);
    let levels = index.stats().levels;
    assert_eq!(levels[0], ROWS);
    assert!(levels.windows(2).all(|w| w[1] < w[0]), "{levels:?}");
    // One row in sixteen reaches the next level.
    assert!((ROWS / 24..ROWS / 10).contains(&levels[1]), "{levels:?}");
    for row in 0..ROWS - 100 {
        index.remove(Row(row)).unwrap();
    }
    assert_eq!(index.stats().levels[0], 100);
    index.compact().unwrap();
    assert_eq!(index.stats().levels[0], 100);
    let mut bytes = Vec::new();
    index.save(&mut bytes).unwrap();
    let loaded = one_thread(DIM, Metric::L2, HnswConfig::default());
    loaded.load(&mut bytes.as_slice()).unwrap();
    assert_eq!(loaded.stats().levels, index.stats().levels);
    for row in ROWS - 100..ROWS {
        index.remove(Row(row)).unwrap();
    }
    assert!(index.stats().levels.is_empty());
}

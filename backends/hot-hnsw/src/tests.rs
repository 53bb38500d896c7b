//! Looks inside the graph.

use std::collections::HashSet;
use std::sync::atomic::Ordering;

use aether_core::role::HotIndex;
use aether_core::{Metric, Row};

use crate::link::read_links;
use crate::map::Heads;
use crate::node::{NONE, slot_of};
use crate::{HnswConfig, HnswIndex};

/// Mean number of live and of dead links a row at level 0.
fn links_of_level_0(index: &HnswIndex) -> (f64, f64) {
    let graph = &index.graph;
    let (mut live, mut dead, mut rows) = (0, 0, 0);
    for slot in 0..graph.used() {
        if graph.head(slot).tag.load(Ordering::Acquire) == NONE {
            continue;
        }
        rows += 1;
        for link in graph.links(slot, 0).into_iter().flat_map(read_links) {
            if graph.is_live(link) {
                live += 1;
            } else {
                dead += 1;
            }
        }
    }
    (
        f64::from(live) / f64::from(rows),
        f64::from(dead) / f64::from(rows),
    )
}

fn small(dim: usize) -> HnswIndex {
    let config = HnswConfig {
        threads: 1,
        ..HnswConfig::default()
    };
    HnswIndex::new(dim, Metric::L2, 1, config).unwrap()
}

fn noise(rng: &mut fastrand::Rng, dim: usize) -> Vec<f32> {
    (0..dim)
        .map(|_| (0..6).map(|_| rng.f32() - 0.5).sum())
        .collect()
}

/// A removal finds nearly all links to the row, and lists do not get shorter: measured 20.6 links a row before, 21.7 after, 0.35
/// of them dead.
#[test]
fn churn_leaves_full_lists_and_few_dead_links() {
    let (dim, n) = (64, 4_000);
    let mut rng = fastrand::Rng::with_seed(1);
    let index = small(dim);
    for i in 0..n {
        index.insert(Row(i), &noise(&mut rng, dim)).unwrap();
    }
    let (before, none) = links_of_level_0(&index);
    assert_eq!(none, 0.0);
    for i in n..3 * n {
        assert!(index.remove(Row(i - n)).unwrap());
        index.insert(Row(i), &noise(&mut rng, dim)).unwrap();
    }
    let (live, dead) = links_of_level_0(&index);
    println!("links before {before}, after {live}, dead {dead}");
    assert!(live > 0.95 * before && dead < 0.05 * live);
    index.remove(Row(n * 2)).unwrap();
    index.compact().unwrap();
    assert_eq!(links_of_level_0(&index).1, 0.0);
}

/// Level l holds about n / m^l rows, and the upper records suffice for nearly all.
#[test]
fn levels_are_as_rare_as_the_paper_says() {
    let index = small(1);
    let n = 40_000u64;
    let at_least = |l| {
        (0..n)
            .filter(|r| index.graph.level_of(Row(*r)) >= l)
            .count() as f64
    };
    for (level, expected) in [(1, n as f64 / 16.0), (2, n as f64 / 256.0)] {
        let got = at_least(level);
        assert!(
            (got - expected).abs() < 5.0 * expected.sqrt(),
            "{level}: {got} {expected}"
        );
    }
    for i in 0..3_000 {
        index.insert(Row(i), &[i as f32]).unwrap();
    }
    let cut = (0..3_000).filter(|i| {
        let (slot, _stays) = index.graph.map.get(Row(*i), &index.graph).unwrap();
        index.graph.head(slot).level.load(Ordering::Relaxed) < index.graph.level_of(Row(*i))
    });
    assert!(cut.count() < 3);
}

/// Threads that begin with an empty index, and others that empty it again and again, cut no row off: every row is reached over links
/// from the entry point. (Whether a narrow search finds the way is another question, and one of recall.)
#[test]
fn an_index_that_is_empty_now_and_then_cuts_no_row_off() {
    let dim = 24;
    for round in 0..200 {
        let config = HnswConfig {
            m: 4,
            ef_construction: 16,
            ..HnswConfig::default()
        };
        let index = HnswIndex::new(dim, Metric::L2, round, config).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..4u64 {
                let index = &index;
                scope.spawn(move || {
                    for row in thread * 1_000..thread * 1_000 + 12 {
                        let vector = noise(&mut fastrand::Rng::with_seed(row), dim);
                        index.insert(Row(row), &vector).unwrap();
                        if row % 4 != 3 {
                            assert!(index.remove(Row(row)).unwrap());
                        }
                    }
                });
            }
        });
        assert_eq!(index.len(), 12);
        let mut reached = rows_reached(&index);
        reached.sort_unstable();
        let mut rows = index.rows();
        rows.sort_unstable();
        assert_eq!(reached, rows, "round {round}");
    }
}

/// The rows that can be reached from the entry point over live links of any level.
fn rows_reached(index: &HnswIndex) -> Vec<Row> {
    let graph = &index.graph;
    let mut todo = vec![graph.entry.load(Ordering::Acquire)];
    let mut seen = HashSet::new();
    let mut rows = Vec::new();
    while let Some(link) = todo.pop() {
        if link == NONE || !graph.is_live(link) || !seen.insert(link) {
            continue;
        }
        let slot = slot_of(link);
        rows.push(Row(graph.head(slot).row.load(Ordering::Relaxed)));
        for level in 0..=graph.head(slot).level.load(Ordering::Relaxed) {
            todo.extend(graph.links(slot, level).into_iter().flat_map(read_links));
        }
    }
    rows
}

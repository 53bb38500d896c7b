//! Looks inside the graph.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;

use aether_core::role::{HotIndex, SearchOptions};
use aether_core::{Metric, Row};

use crate::graph::Point;
use crate::map::Heads;
use crate::node::Links;
use crate::node::{NONE, slot_of};
use crate::scratch::Scratch;
use crate::sight::Sight;
use crate::{HnswConfig, HnswIndex};

/// Mean number of live and of dead links a row at level 0.
fn links_of_level_0(index: &HnswIndex) -> (f64, f64) {
    let graph = &index.graph;
    let (mut live, mut dead, mut rows) = (0, 0, 0);
    for slot in 0..graph.used() {
        if graph.head(slot).tag.get() == NONE {
            continue;
        }
        rows += 1;
        for link in graph.links(slot, 0).into_iter().flat_map(Links::read) {
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

/// Few enough for Miri, which looks at every access: rows come and go from two threads while a third searches, and the space of those that
/// went is used again.
#[test]
fn a_handful_of_rows_comes_and_goes_under_a_search() {
    let (dim, rows) = (8, 6_u64);
    let index = small(dim);
    let vector = |row: u64| noise(&mut fastrand::Rng::with_seed(row), dim);
    let kept = [1_000, 1_001];
    for row in kept {
        index.insert(Row(row), &vector(row)).unwrap();
    }
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let (index, vector) = (&index, &vector);
            scope.spawn(move || {
                for row in thread * 100..thread * 100 + rows {
                    index.insert(Row(row), &vector(row)).unwrap();
                    assert!(row % 3 == 2 || index.remove(Row(row)).unwrap());
                }
            });
        }
        scope.spawn(|| {
            for row in kept {
                let found = index
                    .search(&vector(row), 2, &SearchOptions::default())
                    .unwrap();
                assert_eq!(found[0].row, Row(row), "{found:?}");
            }
        });
    });
    index.compact().unwrap();
    assert_eq!(index.len(), kept.len() + 4);
    for row in [2, 5, 101, 104] {
        let found = index
            .search(&vector(row), 1, &SearchOptions::default())
            .unwrap();
        assert_eq!(found[0].row, Row(row), "{found:?}");
    }
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
            // Room for all links: what is asked is whether rows find each other.
            m: 8,
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
        let cut = rows.iter().filter(|r| reached.binary_search(r).is_err());
        let cut: Vec<_> = cut.map(|r| neighborhood(&index, *r)).collect();
        assert!(cut.is_empty(), "round {round}: {cut:?}");
    }
}

/// However narrow the lists and whatever comes and goes, some list leads to every row, and the count of those lists is right.
#[test]
fn the_last_list_that_leads_to_a_row_stays() {
    let (n, dim) = (2_000, 24);
    let config = HnswConfig {
        m: 4,
        ef_construction: 32,
        ..HnswConfig::default()
    };
    let index = HnswIndex::new(dim, Metric::L2, 5, config).unwrap();
    let mut rng = fastrand::Rng::with_seed(6);
    for i in 0..2 * n {
        // Few centres far apart, and rows close around them: lists are full of better links than those to rows aside.
        let mut vector = noise(&mut rng, dim);
        vector[i as usize % 4] += 20.0 * rng.f32();
        index.insert(Row(i), &vector).unwrap();
        if i >= n {
            assert!(index.remove(Row(i - n)).unwrap());
        }
    }
    let graph = &index.graph;
    let mut lists: HashMap<u32, u32> = HashMap::new();
    let slots = graph.map.slots(graph);
    for slot in &slots {
        for link in graph.links(*slot, 0).into_iter().flat_map(Links::read) {
            if graph.is_live(link) {
                *lists.entry(slot_of(link)).or_default() += 1;
            }
        }
    }
    let mut bad = Vec::new();
    for slot in slots {
        let counted = graph.head(slot).incoming.load(Ordering::Relaxed);
        let lists = lists.get(&slot).copied().unwrap_or(0);
        if counted == 0 || lists != counted {
            bad.push((graph.head(slot).row.load(Ordering::Relaxed), lists, counted));
        }
    }
    assert_eq!(bad, [], "row, lists that lead to it, lists counted");
}

/// A row with the live links of its level 0, those out of it and those into it.
fn neighborhood(index: &HnswIndex, row: Row) -> (Row, Vec<Row>, Vec<Row>) {
    let graph = &index.graph;
    let (slot, _stays) = graph.map.get(row, graph).unwrap();
    let row_at = |slot: u32| Row(graph.head(slot).row.load(Ordering::Relaxed));
    let out = |slot: u32| {
        let links = graph.links(slot, 0).into_iter().flat_map(Links::read);
        links.filter(|l| graph.is_live(*l)).map(slot_of)
    };
    let into = graph.map.slots(graph).into_iter();
    let into = into.filter(|s| out(*s).any(|to| to == slot));
    (
        row,
        out(slot).map(row_at).collect(),
        into.map(row_at).collect(),
    )
}

/// The rows that can be reached from the entry point over live links of any level.
fn rows_reached(index: &HnswIndex) -> Vec<Row> {
    let graph = &index.graph;
    let mut todo = vec![graph.entry.get()];
    let mut seen = HashSet::new();
    let mut rows = Vec::new();
    while let Some(link) = todo.pop() {
        if link == NONE || !graph.is_live(link) || !seen.insert(link) {
            continue;
        }
        let slot = slot_of(link);
        rows.push(Row(graph.head(slot).row.load(Ordering::Relaxed)));
        for level in 0..=graph.head(slot).level.load(Ordering::Relaxed) {
            todo.extend(graph.links(slot, level).into_iter().flat_map(Links::read));
        }
    }
    rows
}

/// The estimate of a distance by codes is right in the mean, and off by as much as it says.
#[test]
fn estimates_err_as_they_say() {
    for (metric, bits) in [
        (Metric::L2, 4),
        (Metric::Cosine, 4),
        (Metric::InnerProduct, 8),
    ] {
        let (dim, n) = (120, 2_000u64);
        let config = HnswConfig {
            threads: 1,
            code_bits: Some(bits),
            ..HnswConfig::default()
        };
        let index = HnswIndex::new(dim, metric, 1, config).unwrap();
        let mut rng = fastrand::Rng::with_seed(6);
        for i in 0..n {
            let vector: Vec<f32> = noise(&mut rng, dim).iter().map(|x| x + 0.7).collect();
            index.insert(Row(i), &vector).unwrap();
        }
        let (graph, codes) = (&index.graph, index.graph.codes.as_ref().unwrap());
        assert!(codes.centres.len() > 1, "the rows have a mean");
        let query: Vec<f32> = noise(&mut rng, dim).iter().map(|x| x + 0.7).collect();
        let (mut off, mut off2, mut far) = (0.0, 0.0, 0);
        Scratch::with(|scratch| {
            let point = Point {
                vector: scratch.set_query(&query),
                scale: metric.scale(&query),
            };
            graph.with_sought(scratch, codes, point, |scratch, sight| {
                for slot in 0..n as u32 {
                    let link = graph.head(slot).tag.get();
                    sight.measure(graph, &[link], f32::INFINITY, &mut scratch.met);
                    let exact = graph.distance(point, graph.point(slot), f32::INFINITY);
                    let z = (scratch.met.distances[0] - exact) / sight.deviation(slot);
                    off += f64::from(z);
                    off2 += f64::from(z * z);
                    far += usize::from(z.abs() > 4.0);
                }
            });
        });
        let (mean, spread) = (off / n as f64, (off2 / n as f64).sqrt());
        println!("{metric:?} {bits}: mean {mean}, spread {spread}, beyond four {far}");
        assert!(mean.abs() < 0.25 && (0.3..1.3).contains(&spread) && far < 4);
    }
}

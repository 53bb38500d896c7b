//! Looks inside the graph.

use std::sync::atomic::Ordering;

use aether_core::role::HotIndex;
use aether_core::{Metric, Row};

use crate::link::read_links;
use crate::map::Heads;
use crate::node::NONE;
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
    (f64::from(live) / f64::from(rows), f64::from(dead) / f64::from(rows))
}

#[test]
fn churn_links() {
    let (dim, n) = (64, 6_000u64);
    let mut rng = fastrand::Rng::with_seed(1);
    let mut vector = || (0..dim).map(|_| (0..6).map(|_| rng.f32() - 0.5).sum::<f32>()).collect::<Vec<_>>();
    let config = HnswConfig { threads: 1, ..HnswConfig::default() };
    let index = HnswIndex::new(dim, Metric::L2, 1, config).unwrap();
    for i in 0..n { index.insert(Row(i), &vector()).unwrap(); }
    println!("fresh {:?}", links_of_level_0(&index));
    for i in n..3*n { index.remove(Row(i - n)).unwrap(); index.insert(Row(i), &vector()).unwrap(); }
    println!("churned {:?}", links_of_level_0(&index));
}

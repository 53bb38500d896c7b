//! The scan: one chunk after the other into a bounded heap.

use std::collections::BinaryHeap;

use aether_core::role::{Neighbor, RowFilter};
use aether_core::{Metric, Row};

use crate::arena::List;

/// What a scan found, nearest first, and how many rows it compared.
pub(crate) struct Scanned {
    pub(crate) found: Vec<Neighbor>,
    pub(crate) compared: u64,
}

/// The `k` nearest so far, the farthest on top.
pub(crate) struct TopK {
    k: usize,
    heap: BinaryHeap<Neighbor>,
    /// The distance of the worst once there are `k`: what lies beyond is told from what does not by one comparison.
    bar: f32,
}

impl TopK {
    /// Nothing yet. `rows` is about how many there are.
    pub(crate) fn new(k: usize, rows: usize) -> Self {
        Self {
            k,
            heap: BinaryHeap::with_capacity(k.min(rows)),
            bar: f32::INFINITY,
        }
    }

    /// Whether a row at this distance could still enter.
    #[inline(always)]
    pub(crate) fn wants(&self, candidate: &Neighbor) -> bool {
        if candidate.distance > self.bar {
            return false;
        }
        self.heap.len() < self.k || self.heap.peek().is_some_and(|worst| candidate < worst)
    }

    pub(crate) fn push(&mut self, candidate: Neighbor) {
        if self.heap.len() < self.k {
            self.heap.push(candidate);
        } else if let Some(mut worst) = self.heap.peek_mut()
            && candidate < *worst
        {
            *worst = candidate;
        }
        if self.heap.len() == self.k {
            self.bar = self.heap.peek().map_or(f32::INFINITY, |w| w.distance);
        }
    }

    /// All of them, nearest first.
    pub(crate) fn into_sorted(self) -> Vec<Neighbor> {
        self.heap.into_sorted_vec()
    }
}

/// The nearest accepted rows of a list of chunks, nearest first. `rows` is about how many there are. O(n dim + n log k).
///
/// A chunk's lock is given up before the filter is asked, so that a filter may look into the index. The filter is asked only for rows
/// that would enter the answer: on a scan a distance costs less than most filters.
pub(crate) fn scan(
    list: &List,
    metric: Metric,
    query: &[f32],
    k: usize,
    rows: usize,
    filter: Option<&RowFilter<'_>>,
) -> Scanned {
    let scale = metric.scale(query);
    let mut top = TopK::new(k, rows);
    let mut candidates: Vec<Neighbor> = Vec::new();
    let mut compared = 0;
    for cell in list.iter().flatten() {
        let chunk = cell.read();
        compared += chunk.count() as u64;
        chunk.distances(query, scale, |row, distance| {
            let candidate = Neighbor {
                row: Row(row),
                distance,
            };
            if top.wants(&candidate) {
                match filter {
                    None => top.push(candidate),
                    Some(_) => candidates.push(candidate),
                }
            }
        });
        drop(chunk);
        for candidate in candidates.drain(..) {
            if top.wants(&candidate) && filter.is_none_or(|accept| accept(candidate.row)) {
                top.push(candidate);
            }
        }
    }
    Scanned {
        found: top.into_sorted(),
        compared,
    }
}

/// Whether a row stands twice in an answer.
pub(crate) fn has_duplicates(found: &[Neighbor]) -> bool {
    let mut rows: Vec<Row> = found.iter().map(|n| n.row).collect();
    rows.sort_unstable();
    rows.windows(2).any(|pair| pair[0] == pair[1])
}

//! The scan for several queries at once: a chunk comes from memory once for all of them.
//!
//! Four rows and four queries are compared at a time, so that each number that is loaded is used several times, and some rows with some
//! queries before others come, so that both are loaded from the near caches. With one query a scan waits for memory; with many the
//! processor's arithmetic binds.

use aether_codes::{TILE_OTHERS, TILE_ROWS, Term, pair, tile};
use aether_core::role::{Neighbor, RowFilter};
use aether_core::{Metric, Row};

use crate::arena::List;
use crate::chunk::Chunk;
use crate::search::{Scanned, TopK};

/// Bytes of rows that every query is compared with before the next rows come: half of a small second-level cache.
const ROWS_BYTES: usize = 128 << 10;
/// Bytes of queries that these rows are compared with before the next queries come: half of a small first-level cache.
const QUERIES_BYTES: usize = 16 << 10;

/// One query on its way over the rows.
struct Lane<'a> {
    query: &'a [f32],
    scale: f32,
    top: TopK,
    /// Rows of the chunk at hand that would enter the answer, where a filter has still to be asked.
    candidates: Vec<Neighbor>,
}

/// How rows and queries are compared.
#[derive(Clone, Copy)]
struct Rule {
    metric: Metric,
    term: Term,
}

impl Rule {
    fn new(metric: Metric) -> Self {
        let term = match metric {
            Metric::L2 => Term::SquaredDifference,
            Metric::InnerProduct | Metric::Cosine => Term::Product,
        };
        Self { metric, term }
    }

    /// The distance that a sum over a pair stands for.
    fn distance(self, sum: f32, scale: f32, own: f32) -> f32 {
        match self.metric {
            Metric::L2 => sum,
            Metric::InnerProduct => -sum,
            Metric::Cosine => 1.0 - sum * scale * own,
        }
    }
}

/// What [`scan`](crate::search::scan) finds for each of the queries, up to the rounding of sums. O(n dim) for each query, but the rows are
/// read once. A chunk's lock is held for the time that it takes to compare all queries with it.
pub(crate) fn scan_batch<'a>(
    list: &List,
    metric: Metric,
    queries: impl Iterator<Item = &'a [f32]>,
    k: usize,
    rows: usize,
    filter: Option<&RowFilter<'_>>,
) -> Vec<Scanned> {
    let mut lanes: Vec<Lane<'_>> = queries
        .map(|query| Lane {
            query,
            scale: metric.scale(query),
            top: TopK::new(k, rows),
            candidates: Vec::new(),
        })
        .collect();
    let rule = Rule::new(metric);
    let mut compared = 0;
    for cell in list.iter().flatten() {
        let chunk = cell.read();
        compared += chunk.count() as u64;
        compare(&chunk, rule, &mut lanes, filter.is_some());
        drop(chunk);
        for lane in &mut lanes {
            lane.ask(filter);
        }
    }
    let scanned = lanes.into_iter().map(|lane| Scanned {
        found: lane.top.into_sorted(),
        compared,
    });
    scanned.collect()
}

impl Lane<'_> {
    #[inline]
    fn meet(&mut self, row: u64, distance: f32, filtered: bool) {
        let candidate = Neighbor {
            row: Row(row),
            distance,
        };
        if self.top.wants(&candidate) {
            if filtered {
                self.candidates.push(candidate);
            } else {
                self.top.push(candidate);
            }
        }
    }

    fn ask(&mut self, filter: Option<&RowFilter<'_>>) {
        for candidate in self.candidates.drain(..) {
            let wanted = self.top.wants(&candidate);
            if wanted && filter.is_none_or(|accept| accept(candidate.row)) {
                self.top.push(candidate);
            }
        }
    }
}

/// Compares every row of a chunk with every query.
fn compare(chunk: &Chunk, rule: Rule, lanes: &mut [Lane<'_>], filtered: bool) {
    let rows: Vec<(usize, u64)> = chunk.iter().collect();
    let bytes = lanes
        .first()
        .map_or(1, |lane| size_of_val(lane.query))
        .max(1);
    let some_rows = (ROWS_BYTES / bytes).next_multiple_of(TILE_ROWS);
    let some_lanes = (QUERIES_BYTES / bytes).next_multiple_of(TILE_OTHERS);
    for rows in rows.chunks(some_rows.max(TILE_ROWS)) {
        for lanes in lanes.chunks_mut(some_lanes.max(TILE_OTHERS)) {
            let (fours, rest) = rows.as_chunks::<TILE_ROWS>();
            for four in fours {
                compare_four(chunk, rule, four, lanes, filtered);
            }
            for lane in lanes {
                compare_one_by_one(chunk, rule, rest, lane, filtered);
            }
        }
    }
}

fn compare_four(
    chunk: &Chunk,
    rule: Rule,
    rows: &[(usize, u64); TILE_ROWS],
    lanes: &mut [Lane<'_>],
    filtered: bool,
) {
    let vectors: [&[f32]; TILE_ROWS] = rows.map(|(place, _)| chunk.vector(place));
    for some in lanes.chunks_mut(TILE_OTHERS) {
        let mut queries: [&[f32]; TILE_OTHERS] = [&[]; TILE_OTHERS];
        for (query, lane) in queries.iter_mut().zip(some.iter()) {
            *query = lane.query;
        }
        let sums = tile(rule.term, &vectors, &queries[..some.len()]);
        for ((place, row), sums) in rows.iter().zip(sums) {
            for (lane, sum) in some.iter_mut().zip(sums) {
                let distance = rule.distance(sum, lane.scale, chunk.scale(*place));
                lane.meet(*row, distance, filtered);
            }
        }
    }
}

fn compare_one_by_one(
    chunk: &Chunk,
    rule: Rule,
    rows: &[(usize, u64)],
    lane: &mut Lane<'_>,
    filtered: bool,
) {
    for (place, row) in rows {
        let sum = pair(rule.term, chunk.vector(*place), lane.query);
        let distance = rule.distance(sum, lane.scale, chunk.scale(*place));
        lane.meet(*row, distance, filtered);
    }
}

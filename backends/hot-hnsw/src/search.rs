//! Finding the nearest rows: through the graph, through the graph with a filter, and by looking at every row.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::sync::atomic::Ordering;

use aether_core::Row;
use aether_core::role::{Neighbor, RowFilter};

use crate::graph::{Graph, Point};
use crate::kernel::prefetch;
use crate::map::{Heads, mix};
use crate::node::{Link, MARK, NONE, slot_of};
use crate::scratch::{Candidate, Scratch};

/// Rows that a graph search meets for each candidate it keeps, about: measured with `m` 16 on the two real data sets of the
/// benchmark, at a breadth of 80, 14 (text embeddings) and 8 (images). Only decides when a scan is cheaper, and how
/// much room the visited marks get.
const VISITS_PER_EF: usize = 12;

/// A row met at random is taken to cost so many times as much as one in a scan, where most are passed over after a look at
/// their head. An estimate; both ways give good answers.
const RANDOM_COST: usize = 3;

/// Rows whose acceptance is asked to guess a filter's share.
const SAMPLE: usize = 128;

/// Cache lines of a vector asked for as soon as its link is seen, head included.
const LINES_EARLY: usize = 3;

impl Graph {
    /// The up to `k` nearest accepted rows. The caller is pinned.
    pub(crate) fn find(
        &self,
        scratch: &mut Scratch,
        query: Point,
        k: usize,
        ef: usize,
        exact: bool,
        filter: Option<&RowFilter<'_>>,
    ) -> Vec<Neighbor> {
        let resident = self.map.len();
        let ef = ef.max(k);
        if exact || resident <= ef.saturating_mul(4) {
            return self.scan(query, k, filter);
        }
        let found = match filter {
            None => {
                self.descend_to(scratch, query, 0);
                self.search_level(scratch, query, ef, 0, NONE);
                let mut found: Vec<_> = scratch.pool.iter().map(|c| self.neighbor(c)).collect();
                finish(&mut found, k);
                found
            }
            Some(filter) => {
                let share = self.accepted_share(filter);
                let visits = (ef * VISITS_PER_EF * RANDOM_COST) as f64 / share;
                if visits > resident as f64 {
                    return self.scan(query, k, Some(filter));
                }
                match self.search_filtered(scratch, query, k, ef, filter) {
                    Some(found) => found,
                    None => return self.scan(query, k, Some(filter)),
                }
            }
        };
        // Rows may be cut off from the graph, or the filter may have hidden the way: a scan finds all there are.
        if found.len() < k.min(self.map.len()) {
            return self.scan(query, k, filter);
        }
        found
    }

    fn neighbor(&self, c: &Candidate) -> Neighbor {
        let head = self.head(slot_of(c.link));
        Neighbor {
            row: Row(head.row.load(Ordering::Relaxed)),
            distance: c.distance,
        }
    }

    /// Leaves in the pool the one row nearest to the query on the way down to `level`, greedily from the entry point; none if the
    /// index is empty.
    pub(crate) fn descend_to(&self, scratch: &mut Scratch, query: Point, level: u32) {
        scratch.pool.clear();
        let entry = self.entry.load(Ordering::Acquire);
        if entry != NONE {
            self.descend_from(scratch, entry, query, level);
        }
    }

    /// As [`Graph::descend_to`], from the row `entry`.
    pub(crate) fn descend_from(
        &self,
        scratch: &mut Scratch,
        entry: Link,
        query: Point,
        level: u32,
    ) {
        scratch.pool.clear();
        let mut best = Candidate {
            distance: self.distance(query, self.point(slot_of(entry)), f32::INFINITY),
            link: entry,
        };
        let top = self.head(slot_of(entry)).level.load(Ordering::Relaxed);
        for level in (level + 1..=top).rev() {
            loop {
                let from = best.link;
                let Some(links) = self.links(slot_of(from), level) else {
                    break;
                };
                let count = links.count.load(Ordering::Acquire) as usize;
                for cell in &links.cells[..count.min(links.cells.len())] {
                    prefetch(self.head_address(slot_of(cell.load(Ordering::Acquire))));
                }
                for cell in &links.cells[..count.min(links.cells.len())] {
                    let link = cell.load(Ordering::Acquire);
                    if self.is_live(link) {
                        let d = self.distance(query, self.point(slot_of(link)), best.distance);
                        if d < best.distance {
                            best = Candidate { distance: d, link };
                        }
                    }
                }
                if best.link == from {
                    break;
                }
            }
        }
        scratch.pool.push(best);
    }

    #[inline(always)]
    fn head_address(&self, slot: u32) -> *const u8 {
        std::ptr::from_ref(self.head(slot)).cast()
    }

    /// Collects the links of a row at a level that this search has not met, and asks for their memory.
    #[inline(always)]
    fn gather(&self, scratch: &mut Scratch, slot: u32, level: u32) {
        scratch.fetch.clear();
        let Some(links) = self.links(slot, level) else {
            return;
        };
        let count = links.count.load(Ordering::Acquire) as usize;
        for cell in &links.cells[..count.min(links.cells.len())] {
            let link = cell.load(Ordering::Acquire);
            if scratch.visited.insert(link) {
                let head = self.head_address(slot_of(link));
                for line in 0..LINES_EARLY {
                    prefetch(head.wrapping_add(64 * line));
                }
                scratch.fetch.push(link);
            }
        }
    }

    /// Asks for the rest of a vector.
    #[inline(always)]
    fn prefetch_vector(&self, link: Link) {
        let head = self.head_address(slot_of(link));
        let lines = 1 + self.shape.padded / 16;
        for line in LINES_EARLY..lines.min(LINES_EARLY + 8) {
            prefetch(head.wrapping_add(64 * line));
        }
    }

    /// Best-first search of one level (algorithm 2 of the paper), starting from what is in the pool and leaving there the
    /// up to `ef` nearest rows, nearest first. `except` is left out.
    pub(crate) fn search_level(
        &self,
        scratch: &mut Scratch,
        query: Point,
        ef: usize,
        level: u32,
        except: Link,
    ) {
        scratch
            .visited
            .reset(ef.saturating_mul(2 * VISITS_PER_EF).min(1 << 16));
        for c in &mut scratch.pool {
            c.link &= !MARK;
            scratch.visited.insert(c.link);
        }
        if except != NONE {
            scratch.visited.insert(except);
        }
        scratch.pool.truncate(ef);
        let mut cursor = 0;
        while cursor < scratch.pool.len() {
            let link = scratch.pool[cursor].link;
            if link & MARK != 0 {
                cursor += 1;
                continue;
            }
            scratch.pool[cursor].link |= MARK;
            cursor += 1;
            if let Some(next) = scratch.pool.get(cursor) {
                let record = self.nodes.at(slot_of(next.link));
                prefetch(record);
                prefetch(record.wrapping_add(64));
            }
            self.gather(scratch, slot_of(link), level);
            let pool = &mut scratch.pool;
            let mut worst = if pool.len() == ef {
                pool[ef - 1].distance
            } else {
                f32::INFINITY
            };
            for (i, &link) in scratch.fetch.iter().enumerate() {
                if let Some(&next) = scratch.fetch.get(i + 1) {
                    self.prefetch_vector(next);
                }
                if !self.is_live(link) {
                    continue;
                }
                let distance = self.distance(query, self.point(slot_of(link)), worst);
                if pool.len() == ef {
                    if distance >= worst {
                        continue;
                    }
                    pool.pop();
                }
                let place = pool.partition_point(|c| c.distance <= distance);
                pool.insert(place, Candidate { distance, link });
                cursor = cursor.min(place);
                if pool.len() == ef {
                    worst = pool[ef - 1].distance;
                }
            }
        }
        for c in &mut scratch.pool {
            c.link &= !MARK;
        }
    }

    /// Best-first search that goes through every row but keeps accepted ones only. `None` when it met so many rows that a scan
    /// is cheaper.
    fn search_filtered(
        &self,
        scratch: &mut Scratch,
        query: Point,
        k: usize,
        ef: usize,
        filter: &RowFilter<'_>,
    ) -> Option<Vec<Neighbor>> {
        self.descend_to(scratch, query, 0);
        let start = *scratch.pool.first()?;
        let budget = self.map.len() / RANDOM_COST;
        scratch
            .visited
            .reset(ef.saturating_mul(4 * VISITS_PER_EF).min(1 << 16));
        scratch.nearest.clear();
        scratch.accepted.clear();
        scratch.visited.insert(start.link);
        scratch.nearest.push(Reverse(start));
        if filter(self.neighbor(&start).row) {
            scratch.accepted.push(start);
        }
        while let Some(Reverse(next)) = scratch.nearest.pop() {
            let mut worst = self.worst_accepted(scratch, ef);
            if next.distance > worst {
                break;
            }
            if scratch.visited.len() > budget {
                return None;
            }
            self.gather(scratch, slot_of(next.link), 0);
            for i in 0..scratch.fetch.len() {
                let link = scratch.fetch[i];
                if let Some(&next) = scratch.fetch.get(i + 1) {
                    self.prefetch_vector(next);
                }
                if !self.is_live(link) {
                    continue;
                }
                let distance = self.distance(query, self.point(slot_of(link)), worst);
                if distance < worst {
                    let c = Candidate { distance, link };
                    scratch.nearest.push(Reverse(c));
                    if filter(self.neighbor(&c).row) {
                        scratch.accepted.push(c);
                        if scratch.accepted.len() > ef {
                            scratch.accepted.pop();
                        }
                        worst = self.worst_accepted(scratch, ef);
                    }
                }
            }
        }
        let mut found: Vec<_> = scratch.accepted.iter().map(|c| self.neighbor(c)).collect();
        finish(&mut found, k);
        Some(found)
    }

    fn worst_accepted(&self, scratch: &Scratch, ef: usize) -> f32 {
        match scratch.accepted.peek() {
            Some(worst) if scratch.accepted.len() >= ef => worst.distance,
            _ => f32::INFINITY,
        }
    }

    /// Guesses the share of rows that a filter accepts, never below what the sample can tell.
    fn accepted_share(&self, filter: &RowFilter<'_>) -> f64 {
        let used = u64::from(self.used().max(1));
        let (mut seen, mut accepted) = (0, 0);
        for i in 0..SAMPLE as u64 {
            // One place drawn from each of the equal parts of the slots.
            let part = (
                i * used / SAMPLE as u64,
                ((i + 1) * used / SAMPLE as u64).max(1),
            );
            let width = (part.1 - part.0.min(part.1 - 1)).max(1);
            let slot = part.0.min(used - 1) + mix(i ^ self.seed) % width;
            let head = self.head(u32::try_from(slot.min(used - 1)).unwrap_or(0));
            if head.tag.load(Ordering::Acquire) != NONE {
                seen += 1;
                accepted += usize::from(filter(Row(head.row.load(Ordering::Relaxed))));
            }
        }
        (accepted as f64).max(0.5) / f64::from(seen.max(1))
    }

    /// Compares the query with every row. Exact.
    fn scan(&self, query: Point, k: usize, filter: Option<&RowFilter<'_>>) -> Vec<Neighbor> {
        let found = if self.moving.load(Ordering::Acquire) {
            None
        } else {
            let found = self.scan_once(query, k, filter, None);
            (!has_twins(&found)).then_some(found)
        };
        // A row that moved, or left and came back, was met twice and took the place of another: look again, and look out.
        found.unwrap_or_else(|| self.scan_once(query, k, filter, Some(HashSet::new())))
    }

    /// Slots are taken from the last to the first, the way opposite to the one that compaction moves rows, so that a row
    /// that moves meanwhile is met at least once. With `among`, the rows in the answer so far, a row met again is passed over.
    fn scan_once(
        &self,
        query: Point,
        k: usize,
        filter: Option<&RowFilter<'_>>,
        mut among: Option<HashSet<Row>>,
    ) -> Vec<Neighbor> {
        let used = self.used();
        let k = k.min(used as usize);
        if k == 0 {
            return Vec::new();
        }
        let mut nearest: BinaryHeap<Neighbor> = BinaryHeap::with_capacity(k.min(1 << 16) + 1);
        for slot in (0..used).rev() {
            prefetch(self.head_address(slot.saturating_sub(4)));
            let head = self.head(slot);
            if head.tag.load(Ordering::Acquire) == NONE {
                continue;
            }
            let row = Row(head.row.load(Ordering::Relaxed));
            if filter.is_some_and(|accepts| !accepts(row)) {
                continue;
            }
            let full = nearest.len() == k;
            let bound = match nearest.peek() {
                Some(worst) if full => worst.distance,
                _ => f32::INFINITY,
            };
            let distance = self.distance(query, self.point(slot), bound);
            let found = Neighbor { row, distance };
            if full && nearest.peek().is_some_and(|worst| found >= *worst) {
                continue;
            }
            if among.as_mut().is_some_and(|among| !among.insert(row)) {
                continue;
            }
            if full
                && let Some(out) = nearest.pop()
                && let Some(among) = &mut among
            {
                among.remove(&out.row);
            }
            nearest.push(found);
        }
        nearest.into_sorted_vec()
    }
}

/// Orders, drops the second meeting of a row that moved or came back meanwhile, and keeps `k`.
fn finish(found: &mut Vec<Neighbor>, k: usize) {
    found.sort_unstable();
    found.dedup_by_key(|n| n.row);
    found.truncate(k);
    if has_twins(found) {
        let mut seen = HashSet::new();
        found.retain(|n| seen.insert(n.row));
    }
}

/// Whether a row stands in an answer twice.
fn has_twins(found: &[Neighbor]) -> bool {
    if found.len() <= 32 {
        return (1..found.len()).any(|i| found[..i].iter().any(|n| n.row == found[i].row));
    }
    let mut rows: Vec<Row> = found.iter().map(|n| n.row).collect();
    rows.sort_unstable();
    rows.windows(2).any(|w| w[0] == w[1])
}

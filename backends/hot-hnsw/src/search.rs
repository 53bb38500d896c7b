//! Finding the nearest rows: through the graph, through the graph with a filter, and by looking at every row.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::sync::atomic::Ordering;

use aether_core::Row;
use aether_core::role::{Neighbor, RowFilter, SearchWork};

use crate::codes::Codes;
use crate::graph::{Graph, Point};
use crate::kernel::prefetch;
use crate::map::{Heads, mix};
use crate::node::{Link, MARK, NONE, slot_of};
use crate::scratch::{Candidate, Scratch};
use crate::sight::{Coded, Exact, Sight};

/// Rows that a graph search meets for each candidate it keeps, about: measured with `m` 16 on the two real data sets of the
/// benchmark, at a breadth of 80, 14 (text embeddings) and 8 (images). Only decides when a scan is cheaper, and how
/// much room the visited marks get.
const VISITS_PER_EF: usize = 12;

/// A row met at random is taken to cost so many times as much as one in a scan, where most are passed over after a look at
/// their head. An estimate; both ways give good answers.
const RANDOM_COST: usize = 3;

/// Rows whose acceptance is asked to guess a filter's share.
const SAMPLE: usize = 128;

/// Standard deviations by which an estimate may be off before a row is passed over without a look at its vector.
const SURE: f32 = 3.0;

/// Distances that tell whether estimates were good enough.
const TELLING: usize = 8;

/// Places beyond the row that is next at which a row may come up soon: its list is asked for.
const AHEAD: usize = 2;

/// Cache lines of a vector asked for ahead when estimates are checked.
const LINES_AHEAD: usize = 16;

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
            return self.scan(scratch, query, k, filter);
        }
        if let Some(filter) = filter {
            let share = self.accepted_share(filter);
            let visits = (ef * VISITS_PER_EF * RANDOM_COST) as f64 / share;
            if visits > resident as f64 {
                return self.scan(scratch, query, k, Some(filter));
            }
        }
        let found = match self.usable_codes() {
            None => {
                let walked = self.walk(scratch, Exact(query), ef, filter);
                walked.then(|| scratch.pool.iter().map(|c| self.neighbor(c)).collect())
            }
            Some(codes) => self.with_sought(scratch, codes, query, |scratch, sight| {
                if !self.walk(scratch, sight, ef, filter) {
                    return None;
                }
                self.rescore(scratch, query, k.max(TELLING), sight);
                if !self.is_too_coarse(sight, &scratch.rescored) {
                    let nearest = scratch.rescored.iter();
                    return Some(nearest.map(|c| self.neighbor(c)).collect());
                }
                let walked = self.walk(scratch, Exact(query), ef, filter);
                walked.then(|| scratch.pool.iter().map(|c| self.neighbor(c)).collect())
            }),
        };
        if let Some(mut found) = found {
            finish(&mut found, k);
            // Rows may be cut off from the graph, or the filter may have hidden the way: a scan finds all there are.
            if found.len() == k.min(self.map.len()) {
                return found;
            }
        }
        self.scan(scratch, query, k, filter)
    }

    /// The codes, if there are any and searches can go by them.
    pub(crate) fn usable_codes(&self) -> Option<&Codes> {
        self.codes.as_ref().filter(|codes| codes.usable())
    }

    /// Runs `work` with the query prepared for codes.
    pub(crate) fn with_sought<T>(
        &self,
        scratch: &mut Scratch,
        codes: &Codes,
        query: Point,
        work: impl FnOnce(&mut Scratch, Coded<'_>) -> T,
    ) -> T {
        let mut sought = std::mem::take(&mut scratch.sought);
        // SAFETY: a point is a padded vector of this shape.
        let vector = unsafe { std::slice::from_raw_parts(query.vector, self.shape.dim) };
        codes.seek(&mut sought, vector, query.vector);
        let sought_by = Coded {
            codes,
            sought: &sought,
        };
        let answer = work(scratch, sought_by);
        scratch.sought = sought;
        answer
    }

    /// Leaves in the pool the up to `ef` nearest accepted rows, nearest first; `false` if it met so many rows that a scan is cheaper.
    fn walk<S: Sight>(
        &self,
        scratch: &mut Scratch,
        sight: S,
        ef: usize,
        filter: Option<&RowFilter<'_>>,
    ) -> bool {
        self.descend_to(scratch, sight, 0);
        match filter {
            None => {
                self.search_level(scratch, sight, ef, 0, NONE);
                true
            }
            Some(filter) => self.search_filtered(scratch, sight, ef, filter),
        }
    }

    /// Leaves in `rescored` the `k` nearest of the pool, which holds estimates: vectors are compared, nearest estimates first, as long as
    /// a row may be among them.
    fn rescore(&self, scratch: &mut Scratch, query: Point, k: usize, sight: Coded<'_>) {
        let Scratch {
            pool,
            rescored: found,
            done,
            ..
        } = scratch;
        found.clear();
        for (i, c) in pool.iter().enumerate() {
            if let Some(next) = pool.get(i + 1) {
                self.prefetch_vector(next.link);
            }
            let full = found.len() == k;
            let worst = if full {
                found[k - 1].distance
            } else {
                f32::INFINITY
            };
            let slot = slot_of(c.link);
            if full && c.distance - SURE * sight.deviation(slot) > worst {
                continue;
            }
            done.compared += 1;
            let exact = Candidate {
                distance: self.distance(query, self.point(slot), worst),
                link: c.link,
            };
            if exact.distance <= worst {
                let place = found.partition_point(|f| *f <= exact);
                found.insert(place, exact);
                found.truncate(k);
            }
        }
    }

    /// Whether estimates cannot tell the nearest rows from each other: their distances, nearest first, differ by less than an estimate
    /// errs. So it is where many rows lie close together and far from every centre, or are equal.
    pub(crate) fn is_too_coarse<S: Sight>(&self, sight: S, nearest: &[Candidate]) -> bool {
        let (Some(first), Some(last)) = (nearest.first(), nearest.last()) else {
            return false;
        };
        nearest.len() > 1 && last.distance - first.distance < sight.deviation(slot_of(last.link))
    }

    /// Asks for the beginning of a vector.
    #[inline(always)]
    pub(crate) fn prefetch_vector(&self, link: Link) {
        let vector: *const u8 = self.vector(slot_of(link)).cast();
        for line in 0..(self.shape.padded / 16).min(LINES_AHEAD) {
            prefetch(vector.wrapping_add(64 * line));
        }
    }

    /// Asks for a row's list of level 0, and its head, which has the list's length.
    #[inline(always)]
    fn prefetch_links(&self, link: Link) {
        let record: *const u8 = self.nodes.at(slot_of(link));
        for line in 0..=self.shape.head / 64 {
            prefetch(record.wrapping_add(64 * line));
        }
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
    pub(crate) fn descend_to<S: Sight>(&self, scratch: &mut Scratch, sight: S, level: u32) {
        scratch.pool.clear();
        let entry = self.entry.get();
        if entry != NONE {
            self.descend_from(scratch, entry, sight, level);
        }
    }

    /// As [`Graph::descend_to`], from the row `entry`.
    pub(crate) fn descend_from<S: Sight>(
        &self,
        scratch: &mut Scratch,
        entry: Link,
        sight: S,
        level: u32,
    ) {
        scratch.pool.clear();
        sight.measure(self, &[entry], f32::INFINITY, &mut scratch.met);
        scratch.met.count::<S>(&mut scratch.done);
        let mut best = scratch.met.candidates().next().unwrap_or(Candidate {
            distance: f32::INFINITY,
            link: entry,
        });
        let top = self.head(slot_of(entry)).level.load(Ordering::Relaxed);
        for level in (level + 1..=top).rev() {
            loop {
                let from = best.link;
                let Some(links) = self.links(slot_of(from), level) else {
                    break;
                };
                scratch.fetch.clear();
                for link in links.read() {
                    sight.ask(self, slot_of(link));
                    scratch.fetch.push(link);
                }
                sight.measure(self, &scratch.fetch, best.distance, &mut scratch.met);
                scratch.met.count::<S>(&mut scratch.done);
                scratch.done.hops[level as usize] += 1;
                let nearest = scratch.met.candidates().min();
                if let Some(nearest) = nearest
                    && nearest.distance < best.distance
                {
                    best = nearest;
                }
                if best.link == from {
                    break;
                }
            }
        }
        scratch.pool.push(best);
    }

    /// Collects the links of a row at a level that this search has not met, and asks for their memory.
    #[inline(always)]
    fn gather<S: Sight>(&self, scratch: &mut Scratch, sight: S, slot: u32, level: u32) {
        scratch.fetch.clear();
        let Some(links) = self.links(slot, level) else {
            return;
        };
        for link in links.read() {
            if scratch.visited.insert(link) {
                sight.ask(self, slot_of(link));
                scratch.fetch.push(link);
            }
        }
    }

    /// Best-first search of one level (algorithm 2 of the paper), starting from what is in the pool and leaving there the
    /// up to `ef` nearest rows, nearest first. `except` is left out.
    pub(crate) fn search_level<S: Sight>(
        &self,
        scratch: &mut Scratch,
        sight: S,
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
                self.prefetch_links(next.link);
            }
            self.gather(scratch, sight, slot_of(link), level);
            let pool = &mut scratch.pool;
            let mut worst = if pool.len() == ef {
                pool[ef - 1].distance
            } else {
                f32::INFINITY
            };
            sight.measure(self, &scratch.fetch, worst, &mut scratch.met);
            scratch.met.count::<S>(&mut scratch.done);
            scratch.done.hops[level as usize] += 1;
            for new in scratch.met.candidates() {
                if new.distance >= worst {
                    continue;
                }
                if pool.len() == ef {
                    pool.pop();
                }
                let place = pool.partition_point(|c| c.distance <= new.distance);
                pool.insert(place, new);
                if place <= cursor + AHEAD {
                    self.prefetch_links(new.link);
                }
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

    /// Best-first search that goes through every row but keeps accepted ones only, starting from the pool and leaving the up to `ef`
    /// nearest accepted there. `false` when it met so many rows that a scan is cheaper.
    fn search_filtered<S: Sight>(
        &self,
        scratch: &mut Scratch,
        sight: S,
        ef: usize,
        filter: &RowFilter<'_>,
    ) -> bool {
        let Some(start) = scratch.pool.pop() else {
            return false;
        };
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
                return false;
            }
            self.gather(scratch, sight, slot_of(next.link), 0);
            sight.measure(self, &scratch.fetch, worst, &mut scratch.met);
            scratch.met.count::<S>(&mut scratch.done);
            scratch.done.hops[0] += 1;
            for c in scratch.met.candidates() {
                if c.distance >= worst {
                    continue;
                }
                scratch.nearest.push(Reverse(c));
                if filter(self.neighbor(&c).row) {
                    scratch.accepted.push(c);
                    if scratch.accepted.len() > ef {
                        scratch.accepted.pop();
                    }
                    if scratch.accepted.len() >= ef
                        && let Some(last) = scratch.accepted.peek()
                    {
                        worst = last.distance;
                    }
                }
            }
        }
        scratch.pool.clear();
        scratch.pool.extend(scratch.accepted.drain());
        scratch.pool.sort_unstable();
        true
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
            if head.tag.get() != NONE {
                seen += 1;
                accepted += usize::from(filter(Row(head.row.load(Ordering::Relaxed))));
            }
        }
        (accepted as f64).max(0.5) / f64::from(seen.max(1))
    }

    /// Compares the query with every row. Exact.
    fn scan(
        &self,
        scratch: &mut Scratch,
        query: Point,
        k: usize,
        filter: Option<&RowFilter<'_>>,
    ) -> Vec<Neighbor> {
        let done = &mut scratch.done;
        let found = if self.moving.load(Ordering::Acquire) {
            None
        } else {
            let found = self.scan_once(done, query, k, filter, None);
            (!has_twins(&found)).then_some(found)
        };
        // A row that moved, or left and came back, was met twice and took the place of another: look again, and look out.
        found.unwrap_or_else(|| self.scan_once(done, query, k, filter, Some(HashSet::new())))
    }

    /// Slots are taken from the last to the first, the way opposite to the one that compaction moves rows, so that a row
    /// that moves meanwhile is met at least once. With `among`, the rows in the answer so far, a row met again is passed over.
    fn scan_once(
        &self,
        done: &mut SearchWork,
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
            prefetch(std::ptr::from_ref(self.head(slot.saturating_sub(4))).cast());
            let head = self.head(slot);
            if head.tag.get() == NONE {
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
            done.scanned += 1;
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

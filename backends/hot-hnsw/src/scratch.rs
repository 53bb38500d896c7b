//! What one search needs while it runs. Belongs to the thread, not to the index: it is used again by the next search of any
//! index, and its size depends on the breadth of searches, not on the number of rows.

use std::cell::Cell;
use std::collections::BinaryHeap;

use aether_codes::Workspace;
use aether_core::role::SearchWork;

use crate::codes::Sought;
use crate::kernel::LANES;
use crate::node::{Link, MARK};
use crate::sight::Sight;

/// Bytes of visited marks that a thread keeps between searches.
const KEPT_BYTES: usize = 1 << 20;

/// A row met during a search.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    pub(crate) distance: f32,
    /// The row's link; [`MARK`] is set once its own links were followed.
    pub(crate) link: Link,
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Candidate {}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.distance
            .total_cmp(&other.distance)
            .then(self.link.cmp(&other.link))
    }
}

/// A cache line of floats.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(64))]
pub(crate) struct Line([f32; LANES]);

/// Writes a vector to whole lines, padded with zeros.
pub(crate) fn fill(lines: &mut Vec<Line>, vector: &[f32]) {
    lines.clear();
    lines.extend(vector.chunks(LANES).map(|chunk| {
        let mut line = Line::default();
        line.0[..chunk.len()].copy_from_slice(chunk);
        line
    }));
}

/// Rows that were just looked at, and their distances.
#[derive(Debug, Default)]
pub(crate) struct Met {
    pub(crate) links: Vec<Link>,
    pub(crate) distances: Vec<f32>,
    /// Where their codes lie, and the products of these with the query.
    pub(crate) records: Vec<*const u8>,
    pub(crate) products: Vec<i32>,
}

impl Met {
    pub(crate) fn clear(&mut self) {
        self.links.clear();
        self.distances.clear();
        self.records.clear();
    }

    /// Counts the rows that were just looked at.
    #[inline(always)]
    pub(crate) fn count<S: Sight>(&self, done: &mut SearchWork) {
        let rows = self.links.len() as u64;
        if S::ESTIMATES {
            done.estimated += rows;
        } else {
            done.compared += rows;
        }
    }

    /// Every row with its distance.
    pub(crate) fn candidates(&self) -> impl Iterator<Item = Candidate> {
        let rows = self.links.iter().zip(&self.distances);
        rows.map(|(link, distance)| Candidate {
            distance: *distance,
            link: *link,
        })
    }
}

#[derive(Debug, Default)]
pub(crate) struct Scratch {
    query: Vec<Line>,
    pub(crate) visited: Visited,
    /// The nearest so far, nearest first.
    pub(crate) pool: Vec<Candidate>,
    /// Those of the pool that were compared by their vectors, nearest first.
    pub(crate) rescored: Vec<Candidate>,
    /// Links about to be looked at.
    pub(crate) fetch: Vec<Link>,
    pub(crate) met: Met,
    pub(crate) sought: Sought,
    pub(crate) work: Workspace,
    /// What was done since it was last set to nothing. Counted a list at a time, so that it costs nothing that could be measured.
    pub(crate) done: SearchWork,
    pub(crate) chosen: Vec<Candidate>,
    pub(crate) list: Vec<Candidate>,
    pub(crate) links: Vec<Link>,
    pub(crate) more: Vec<Link>,
    pub(crate) nearest: BinaryHeap<std::cmp::Reverse<Candidate>>,
    pub(crate) accepted: BinaryHeap<Candidate>,
}

thread_local! {
    static KEPT: Cell<Option<Box<Scratch>>> = const { Cell::new(None) };
}

impl Scratch {
    /// Runs `work` with this thread's scratch, or with a fresh one inside another search of the same thread.
    pub(crate) fn with<T>(work: impl FnOnce(&mut Scratch) -> T) -> T {
        let mut scratch = KEPT.take().unwrap_or_default();
        let answer = work(&mut scratch);
        if scratch.visited.bytes() <= KEPT_BYTES {
            KEPT.set(Some(scratch));
        }
        answer
    }

    /// Copies a vector to where kernels can read it: aligned, and padded with zeros.
    pub(crate) fn set_query(&mut self, vector: &[f32]) -> *const f32 {
        fill(&mut self.query, vector);
        self.query.as_ptr().cast()
    }
}

/// The links met by one search: a hash set with linear probing, cleared by writing zeros over it, which is cheap since its size
/// follows the breadth of the search. 0 is an empty place, so entries carry [`MARK`].
#[derive(Debug, Default)]
pub(crate) struct Visited {
    cells: Vec<u32>,
    /// Places in use by this search, a power of two; `cells` may be longer.
    size: usize,
    shift: u32,
    len: usize,
}

impl Visited {
    /// Forgets everything and makes room for about `expected` links; more are welcome.
    pub(crate) fn reset(&mut self, expected: usize) {
        self.size = (expected * 2).next_power_of_two().clamp(1 << 10, 1 << 26);
        self.shift = 32 - self.size.ilog2();
        self.len = 0;
        if self.cells.len() < self.size {
            self.cells.clear();
            self.cells.resize(self.size, 0);
        } else {
            self.cells[..self.size].fill(0);
        }
    }

    /// Adds a link; `false` if it was there.
    #[inline(always)]
    pub(crate) fn insert(&mut self, link: Link) -> bool {
        if self.len * 2 >= self.size {
            self.grow();
        }
        let (entry, mask) = (link | MARK, self.size - 1);
        let mut place = (link.wrapping_mul(0x9e37_79b1) >> self.shift) as usize;
        loop {
            let cell = &mut self.cells[place & mask];
            if *cell == 0 {
                *cell = entry;
                self.len += 1;
                return true;
            }
            if *cell == entry {
                return false;
            }
            place += 1;
        }
    }

    #[cold]
    fn grow(&mut self) {
        let former: Vec<u32> = self.cells[..self.size]
            .iter()
            .copied()
            .filter(|c| *c != 0)
            .collect();
        self.reset(self.size);
        for entry in former {
            self.insert(entry & !MARK);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    fn bytes(&self) -> usize {
        self.cells.capacity() * size_of::<u32>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn visited_is_a_set_that_grows_and_forgets() {
        let mut visited = Visited::default();
        for round in 0..3u32 {
            visited.reset(100);
            for i in 0..20_000u32 {
                assert!(visited.insert(i * 7 + round));
            }
            for i in 0..20_000u32 {
                assert!(!visited.insert(i * 7 + round));
            }
            assert_eq!(visited.len(), 20_000);
        }
    }

    #[test]
    fn a_query_is_padded_with_zeros_and_aligned() {
        let mut scratch = Scratch::default();
        scratch.set_query(&[9.0; 40]);
        let p = scratch.set_query(&[1.0; 17]);
        assert!(p.addr().is_multiple_of(64));
        // SAFETY: 17 floats take two lines of 16.
        let seen = unsafe { std::slice::from_raw_parts(p, 32) };
        assert_eq!(seen.iter().sum::<f32>(), 17.0);
    }
}

//! Offline limits: what could be reached by knowing the future. They live in the laboratory alone, since no memory has it.
//!
//! - `belady`: the row that is needed farthest in the future leaves (L. A. Belady, "A study of replacement algorithms for a
//!   virtual-storage computer", IBM Systems Journal 5(2), 1966). Exact where all sizes are equal and every miss must be taken in, as
//!   here.
//! - `belady-size`: of 128 random rows the one with the greatest size times distance leaves, and what is never used again is not
//!   taken in; for object misses with sizes. A good limit, not the best there is: that one is NP-hard.

use aether_core::Row;
use aether_core::role::{Context, Item, Verdict};

use super::heap::Heap;
use super::run::Subject;
use super::trace::NEVER;

/// Name of Belady's limit.
pub const BELADY: &str = "belady";
/// Name of the limit that weighs size.
pub const BELADY_SIZE: &str = "belady-size";

/// Rows looked at for a victim, as libCacheSim does.
const SAMPLE: usize = 128;

/// Farthest in the future leaves first.
#[derive(Debug)]
pub(super) struct Belady(Heap);

impl Belady {
    pub(super) fn new(keys: usize) -> Self {
        Self(Heap::new(keys))
    }
}

/// A limit is certain of all it says.
fn certain(row: u32) -> Verdict {
    Verdict {
        row: Row(u64::from(row)),
        keep: 0.0,
        certain: true,
        reason: "by the future",
    }
}

impl Subject for Belady {
    fn hit(&mut self, row: Row, next: u64, _context: &Context) {
        self.0.set(row.0 as u32, next);
    }

    fn missed(&mut self, item: &Item, _next: u64, _context: &Context) -> Option<Verdict> {
        Some(certain(item.row.0 as u32))
    }

    fn victim(&mut self, _bytes: u64, _context: &Context) -> Option<Verdict> {
        self.0.top().map(certain)
    }

    fn left(&mut self, item: &Item, _context: &Context) {
        self.0.remove(item.row.0 as u32);
    }

    fn entered(&mut self, item: &Item, next: u64, _context: &Context) {
        self.0.set(item.row.0 as u32, next);
    }

    fn judged(&mut self, _row: Row, _reward: f32, _context: &Context) {}

    fn len(&self) -> usize {
        self.0.len()
    }

    fn bytes(&self) -> u64 {
        self.0.bytes()
    }
}

/// One hot row of `belady-size`.
#[derive(Clone, Copy, Debug)]
struct Held {
    row: u32,
    size: u32,
    next: u64,
}

/// Greatest size times distance leaves first, of a sample.
#[derive(Debug)]
pub(super) struct BeladySize {
    held: Vec<Held>,
    /// Place in `held` of each key.
    places: Vec<u32>,
    /// Hot rows that are never used again: they leave before any other.
    done: Vec<u32>,
    /// Requests so far: the clock of `next`.
    at: u64,
    rng: fastrand::Rng,
}

impl BeladySize {
    pub(super) fn new(keys: usize, seed: u64) -> Self {
        Self {
            held: Vec::new(),
            places: vec![u32::MAX; keys],
            done: Vec::new(),
            at: 0,
            rng: fastrand::Rng::with_seed(seed),
        }
    }

    fn worth_leaving(&self, held: &Held) -> u128 {
        u128::from(held.next.saturating_sub(self.at)) * u128::from(held.size)
    }
}

impl Subject for BeladySize {
    fn hit(&mut self, row: Row, next: u64, _context: &Context) {
        self.at += 1;
        let row = row.0 as u32;
        if let Some(held) = self.held.get_mut(self.places[row as usize] as usize) {
            held.next = next;
        }
        if next == NEVER {
            self.done.push(row);
        }
    }

    fn missed(&mut self, item: &Item, next: u64, _context: &Context) -> Option<Verdict> {
        self.at += 1;
        (next != NEVER).then(|| certain(item.row.0 as u32))
    }

    fn victim(&mut self, _bytes: u64, _context: &Context) -> Option<Verdict> {
        if let Some(row) = self.done.last() {
            return Some(certain(*row));
        }
        let mut worst: Option<(u128, u32)> = None;
        for _ in 0..SAMPLE.min(self.held.len()) {
            let held = self.held[self.rng.usize(..self.held.len())];
            let score = self.worth_leaving(&held);
            if worst.is_none_or(|(most, _)| score > most) {
                worst = Some((score, held.row));
            }
        }
        worst.map(|(_, row)| certain(row))
    }

    fn left(&mut self, item: &Item, _context: &Context) {
        let row = item.row.0 as u32;
        if self.done.last() == Some(&row) {
            self.done.pop();
        }
        let place = std::mem::replace(&mut self.places[row as usize], u32::MAX) as usize;
        if place < self.held.len() {
            self.held.swap_remove(place);
            if let Some(moved) = self.held.get(place) {
                self.places[moved.row as usize] = place as u32;
            }
        }
    }

    fn entered(&mut self, item: &Item, next: u64, _context: &Context) {
        let row = item.row.0 as u32;
        self.places[row as usize] = self.held.len() as u32;
        self.held.push(Held {
            row,
            size: item.bytes,
            next,
        });
    }

    fn judged(&mut self, _row: Row, _reward: f32, _context: &Context) {}

    fn len(&self) -> usize {
        self.held.len()
    }

    fn bytes(&self) -> u64 {
        (self.held.capacity() * size_of::<Held>()
            + (self.places.capacity() + self.done.capacity()) * size_of::<u32>()) as u64
    }
}

//! Books that policies share: which rows are hot, which of them are pinned, what each weighs, and their order in lists.
//!
//! Invariants:
//! - hot rows lie densely in slots `0..len`; taking one out moves the last into its place;
//! - rows that are not pinned come first, in slots `0..free`: a policy that samples never meets a pinned one;
//! - a pinned row is in no list;
//! - each slot is in the chain of its row's bucket, and in no other;
//! - the slot of a row that was taken out may wait, in no chain and no list, for the next row that comes in, since mostly one comes right
//!   away: then nothing has to move. Whoever goes through slots by their numbers closes that gap first ([`Books::settle`]).
//!
//! A row costs its record, 8 bytes of links if there are lists, and 2.3 to 4.6 bytes of buckets. A use looks at one bucket, then at one
//! record, or two where rows share a bucket: two lines of cache that have to come one after the other.

mod chunked;
mod ghosts;
mod heap;
mod history;
mod index;
mod lists;
mod order;
mod packed;
#[cfg(test)]
pub(crate) mod play;
mod policy;
mod prints;
mod queues;
mod ring;
mod rings;
mod rules;
mod sampled;
mod saved;
mod shelf;
mod shuffle;
mod sketch;
mod table;

use std::fmt;

use aether_core::config::RawConfig;
use aether_core::role::{Context, Figure, Verdict, Want};
use aether_core::{Result, Row};

use chunked::Chunked;
pub(crate) use ghosts::Ghosts;
use heap::Heap;
pub(crate) use heap::Urgency;
use history::History;
use index::Buckets;
pub(crate) use index::Slots;
use lists::Lists;
pub(crate) use order::{Load, Shape};
pub(crate) use packed::{Input, Packed, Stamp, words_of};
pub(crate) use policy::Policy;
pub(crate) use prints::{Moment, Prints};
pub(crate) use queues::Queued;
use rings::Rings;
pub(crate) use rules::{Rules, Standing};
pub(crate) use sampled::worst_of_sample;
pub(crate) use shelf::{Queues, Shelf, WORD_MAX};
pub(crate) use shuffle::Shuffle;
pub(crate) use sketch::Sketch;

/// Pinned rows that are remembered while they are not hot; a further one is forgotten, and the engine, which never
/// demotes a pinned row whatever a policy says, is then the only guard.
const PINS_MAX: usize = 1024;

/// A number of the configuration, checked against the range it may have.
pub(crate) fn within(
    raw: &RawConfig,
    key: &str,
    value: f64,
    (low, high): (f64, f64),
) -> Result<f64> {
    match value >= low && value <= high {
        true => Ok(value),
        false => Err(raw.error(key, format!("expected {low} to {high}, got {value}"))),
    }
}

/// A part of a row's worth; all parts of a row add up to it.
pub(crate) fn part(name: &'static str, value: f64) -> Figure {
    Figure {
        name,
        value,
        unit: Figure::PART,
    }
}

/// Marks a pinned row in saved books, in the highest bit of its weight.
const PINNED: u32 = 1 << 31;

/// Spreads a row over 64 bits (the finaliser of MurmurHash3). Rows are given out by the engine, so that no seed is
/// needed against chosen ones.
pub(crate) fn hash(row: Row) -> u64 {
    let mut x = row.0;
    x = (x ^ x >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    x = (x ^ x >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    x ^ x >> 33
}

/// One hot row. Packed, as a million of them are held.
#[derive(Clone, Copy)]
#[repr(C, packed(2))]
struct Record<X> {
    row: u64,
    /// RAM of the row, saturated at 31 bits.
    weight: u32,
    /// The next slot in the row's bucket.
    next: u32,
    figures: X,
}

/// The hot rows of a policy, each with figures `X`.
pub(crate) struct Books<X> {
    buckets: Buckets,
    records: Chunked<Record<X>>,
    lists: Lists,
    queues: Rings,
    loads: Vec<Load>,
    second: Lists,
    heap: Option<Heap>,
    /// Slots of rows that are not pinned, a gap among them included.
    free: u32,
    /// A slot without a row; only while no row is pinned.
    gap: Option<u32>,
    /// Pinned rows that are not hot.
    pins: Vec<u64>,
}

fn record<X>(row: Row, bytes: u32, figures: X) -> Record<X> {
    Record {
        row: row.0,
        weight: bytes.min(!PINNED),
        next: index::NONE,
        figures,
    }
}

impl<X> fmt::Debug for Books<X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Books")
            .field("records", &self.records)
            .field("free", &self.free)
            .finish_non_exhaustive()
    }
}

impl<X: Packed> Books<X> {
    /// Empty books with so many lists, numbered from 0.
    #[cfg(test)]
    pub(crate) fn new(lists: u32) -> Self {
        Self::shaped(Shape {
            lists,
            ..Shape::default()
        })
    }

    /// Empty books.
    pub(crate) fn shaped(shape: Shape) -> Self {
        // Counted ones are queues.
        let (lists, queues) = match shape.counted {
            true => (0, shape.lists),
            false => (shape.lists, 0),
        };
        Self {
            buckets: Buckets::default(),
            records: Chunked::new(),
            lists: Lists::new(lists),
            queues: Rings::new(queues),
            loads: vec![Load::default(); queues as usize],
            second: Lists::new(shape.second),
            heap: shape.heap.then(Heap::new),
            free: 0,
            gap: None,
            pins: Vec::new(),
        }
    }

    /// Hot rows.
    pub(crate) fn len(&self) -> usize {
        self.records.len() - usize::from(self.gap.is_some())
    }

    /// Hot rows that are not pinned: slots `0..free`, once the gap is closed.
    pub(crate) fn free(&self) -> u32 {
        self.free - u32::from(self.gap.is_some())
    }

    pub(crate) fn row(&self, slot: u32) -> Row {
        Row(self.records.at(slot).row)
    }

    /// What is known of the row's RAM, in bytes; 0 if nothing is.
    pub(crate) fn weight(&self, slot: u32) -> u32 {
        self.records.at(slot).weight
    }

    pub(crate) fn set_weight(&mut self, slot: u32, bytes: u32) {
        if self.weight(slot) == bytes {
            return;
        }
        let former = self.weight(slot);
        self.records.at_mut(slot).weight = bytes.min(!PINNED);
        if let Some(list) = self.queues.owner(slot) {
            let now = self.weight(slot);
            let load = &mut self.loads[list as usize];
            load.bytes = load.bytes - u64::from(former.max(1)) + u64::from(now.max(1));
        }
    }

    pub(crate) fn pinned(&self, slot: u32) -> bool {
        slot >= self.free
    }

    pub(crate) fn figures(&self, slot: u32) -> X {
        self.records.at(slot).figures
    }

    pub(crate) fn set_figures(&mut self, slot: u32, figures: X) {
        self.records.at_mut(slot).figures = figures;
    }

    /// Adds a row that is not in the books; it is in no list, and pinned if it was while it was not hot. `None` when
    /// slot numbers are used up, at 2^31 rows.
    pub(crate) fn insert(&mut self, row: Row, bytes: u32, figures: X) -> Option<u32> {
        let slot = match self.gap.take() {
            Some(gap) => {
                self.records.set(gap, record(row, bytes, figures));
                self.enter(gap);
                gap
            }
            None => {
                let slot = self.append_record(row, bytes, figures)?;
                self.swap(slot, self.free);
                self.free += 1;
                self.free - 1
            }
        };
        Some(if self.unremember(row) {
            self.set_pinned(slot, true)
        } else {
            slot
        })
    }

    fn append_record(&mut self, row: Row, bytes: u32, figures: X) -> Option<u32> {
        let slot = self.append_place(record(row, bytes, figures))?;
        self.enter(slot);
        Some(slot)
    }

    /// Adds a slot that is in no chain and no list.
    fn append_place(&mut self, record: Record<X>) -> Option<u32> {
        if self.records.len() >= (1 << 31) {
            return None;
        }
        let slot = self.records.len() as u32;
        self.records.push(record);
        self.lists.push();
        self.queues.push();
        self.second.push();
        if let Some(heap) = &mut self.heap {
            heap.push_slot();
        }
        Some(slot)
    }

    /// Adds a row in the last slot, as saved books list them: `None`, and nothing is added, if the row is in the books
    /// already, or if it is not pinned and comes after one that is.
    pub(crate) fn restore(&mut self, row: Row, weight: u32, figures: X) -> Option<u32> {
        let pinned = weight & PINNED != 0;
        let misplaced = !pinned && self.records.len() > self.free as usize;
        if misplaced || self.find(row).is_some() {
            return None;
        }
        let slot = self.append_record(row, weight & !PINNED, figures)?;
        self.free += u32::from(!pinned);
        Some(slot)
    }

    /// Takes a row out and returns its figures.
    pub(crate) fn remove(&mut self, slot: u32) -> X {
        let figures = self.figures(slot);
        self.leave(slot);
        let pinned = self.pinned(slot);
        if !pinned {
            self.unorder(slot);
        }
        let last = self.records.len() as u32 - 1;
        if self.free <= last {
            return self.close_among_pinned(slot, pinned, figures);
        }
        match self.gap {
            None => self.gap = Some(slot),
            Some(_) if slot == last => self.drop_free(),
            Some(gap) => {
                self.gap = Some(slot);
                self.close(gap);
            }
        }
        figures
    }

    /// Fills the slot of a row that was taken out while others are pinned.
    fn close_among_pinned(&mut self, slot: u32, pinned: bool, figures: X) -> X {
        let mut hole = slot;
        if !pinned {
            self.free -= 1;
            hole = self.fill(hole, self.free);
        }
        self.fill(hole, self.records.len() as u32 - 1);
        self.drop_last();
        figures
    }

    /// Closes the gap that a row left which was taken out. O(1).
    pub(crate) fn settle(&mut self) {
        if let Some(gap) = self.gap.take() {
            self.close(gap);
        }
    }

    /// Moves the last slot into one without a row, while no row is pinned.
    fn close(&mut self, gap: u32) {
        self.fill(gap, self.free - 1);
        self.drop_free();
    }

    fn drop_free(&mut self) {
        self.free -= 1;
        self.drop_last();
    }

    fn drop_last(&mut self) {
        self.records.pop();
        self.lists.pop();
        self.queues.pop();
        self.second.pop();
        if let Some(heap) = &mut self.heap {
            heap.pop_slot();
        }
        self.shrink();
    }

    /// Moves a row into a slot that was given up; answers which slot is free then.
    fn fill(&mut self, hole: u32, from: u32) -> u32 {
        if hole != from {
            self.point(from, hole);
            self.records.set(hole, self.records.get(from));
            self.swap_order(hole, from);
        }
        from
    }

    /// Gives a slot to another row, which is not in the books; figures, weight, pin and place stay.
    pub(crate) fn rename(&mut self, slot: u32, to: Row) {
        self.leave(slot);
        self.records.at_mut(slot).row = to.0;
        self.enter(slot);
    }

    /// Pins or unpins a hot row and returns its new slot. Either way it is in no list if anything changed.
    pub(crate) fn set_pinned(&mut self, slot: u32, pinned: bool) -> u32 {
        if self.pinned(slot) == pinned {
            return slot;
        }
        debug_assert!(self.gap.is_none(), "pinning moves rows by their slots");
        self.unorder(slot);
        let border = if pinned { self.free - 1 } else { self.free };
        self.swap(slot, border);
        self.free = if pinned { border } else { border + 1 };
        border
    }

    /// Remembers that a row that is not hot is pinned.
    pub(crate) fn remember(&mut self, row: Row) {
        if self.pins.len() < PINS_MAX && !self.pins.contains(&row.0) {
            self.pins.push(row.0);
        }
    }

    /// Forgets the pin of a row that is not hot; whether there was one.
    pub(crate) fn unremember(&mut self, row: Row) -> bool {
        let at = self.pins.iter().position(|p| *p == row.0);
        at.map(|at| self.pins.swap_remove(at)).is_some()
    }

    /// Whether a row that is not hot is pinned.
    pub(crate) fn remembered(&self, row: Row) -> bool {
        self.pins.contains(&row.0)
    }

    /// Verdicts on slots in order, at most `want.rows` and, if `want.bytes` is not 0, no more than enough for it.
    pub(crate) fn take_in_order(
        &self,
        order: impl Iterator<Item = u32>,
        want: Want,
        context: &Context,
        verdict: impl Fn(u32) -> Verdict,
    ) -> Vec<Verdict> {
        let (mut verdicts, mut bytes) = (Vec::new(), 0_u64);
        for slot in order.take(want.rows) {
            verdicts.push(verdict(slot));
            bytes = bytes.saturating_add(self.weight_or_mean(slot, context));
            if want.bytes > 0 && bytes >= want.bytes {
                break;
            }
        }
        verdicts
    }

    /// A row's RAM in bytes; the mean of the hot tier for a row that came in by an access, which does not tell.
    pub(crate) fn weight_or_mean(&self, slot: u32, context: &Context) -> u64 {
        match self.weight(slot) {
            0 => context.hot_bytes / self.len() as u64,
            weight => u64::from(weight),
        }
    }

    /// Empties the books.
    pub(crate) fn clear(&mut self) {
        self.buckets = Buckets::default();
        self.records.clear();
        self.lists.clear();
        self.queues.clear();
        self.loads.fill(Load::default());
        self.second.clear();
        self.heap = self.heap.as_ref().map(|_| Heap::new());
        self.free = 0;
        self.gap = None;
        self.pins = Vec::new();
    }

    /// Bytes allocated. O(1).
    pub(crate) fn bytes(&self) -> u64 {
        self.buckets.bytes()
            + self.records.bytes()
            + self.lists.bytes()
            + self.queues.bytes()
            + (self.loads.capacity() * size_of::<Load>()) as u64
            + self.second.bytes()
            + self.heap.as_ref().map_or(0, Heap::bytes)
            + (self.pins.capacity() * size_of::<u64>()) as u64
    }

    /// Upper bound of [`Books::bytes`] at any number of rows up to `rows`. O(1).
    pub(crate) fn bytes_bound(&self, rows: u64) -> u64 {
        self.buckets
            .bytes_bound(rows)
            .saturating_add(self.records.bytes_bound(rows))
            .saturating_add(self.lists.bytes_bound(rows))
            .saturating_add(self.queues.bytes_bound(rows))
            .saturating_add((self.loads.capacity() * size_of::<Load>()) as u64)
            .saturating_add(self.second.bytes_bound(rows))
            .saturating_add(self.heap.as_ref().map_or(0, |h| h.bytes_bound(rows)))
            .saturating_add((PINS_MAX * size_of::<u64>()) as u64)
    }

    /// Takes a slot out of every order.
    fn unorder(&mut self, slot: u32) {
        self.lists.unlink(slot);
        self.unqueue(slot);
        self.second.unlink(slot);
        if let Some(heap) = &mut self.heap {
            heap.remove(slot);
        }
    }

    fn swap(&mut self, a: u32, b: u32) {
        if a == b {
            return;
        }
        let (of_a, of_b) = (self.records.get(a), self.records.get(b));
        self.leave(a);
        self.leave(b);
        self.records.set(a, of_b);
        self.records.set(b, of_a);
        self.enter(a);
        self.enter(b);
        self.swap_order(a, b);
    }

    fn swap_order(&mut self, a: u32, b: u32) {
        self.lists.swap(a, b);
        self.queues.swap(a, b);
        self.second.swap(a, b);
        if let Some(heap) = &mut self.heap {
            heap.swap(a, b);
        }
    }
}

#[cfg(test)]
mod tests;

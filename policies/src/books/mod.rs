//! Books that policies share: which rows are hot, which of them are pinned, what each weighs, and their order in lists.
//!
//! Invariants:
//! - hot rows lie densely in slots `0..len`; taking one out moves the last into its place;
//! - rows that are not pinned come first, in slots `0..free`: a policy that samples never meets a pinned one;
//! - a pinned row is in no list;
//! - the hash table holds each slot once, under its row's hash.
//!
//! A row costs its record, 8 bytes of links if there are lists, and 5.7 to 12.2 bytes of the hash table.

mod chunked;
mod ghosts;
mod heap;
mod history;
mod lists;
mod order;
mod packed;
#[cfg(test)]
pub(crate) mod play;
mod policy;
mod queues;
mod rules;
mod sampled;
mod saved;
mod shelf;
mod shuffle;
mod sketch;

use std::fmt;

use aether_core::config::RawConfig;
use aether_core::role::{Context, Verdict, Want};
use aether_core::{Result, Row};
use hashbrown::HashTable;

use chunked::Chunked;
pub(crate) use ghosts::Ghosts;
use heap::Heap;
pub(crate) use heap::Urgency;
use history::History;
use lists::Lists;
pub(crate) use order::{Load, Shape};
pub(crate) use packed::{Input, Packed, Stamp, words_of};
pub(crate) use policy::Policy;
pub(crate) use queues::Queued;
pub(crate) use rules::{Rules, Standing};
pub(crate) use sampled::worst_of_sample;
pub(crate) use shelf::{Queues, Shelf, WORD_MAX};
pub(crate) use shuffle::Shuffle;
pub(crate) use sketch::Sketch;

/// Pinned rows that are remembered while they are not hot; a further one is forgotten, and the engine, which never
/// demotes a pinned row whatever a policy says, is then the only guard.
const PINS_MAX: usize = 1024;

/// Buckets of the smallest table. A table of `b` buckets holds up to 7/8 b slots and takes 5 b + 16 bytes.
const BUCKETS_MIN: u64 = 64;

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
    figures: X,
}

/// The hot rows of a policy, each with figures `X`.
pub(crate) struct Books<X> {
    table: HashTable<u32>,
    records: Chunked<Record<X>>,
    lists: Lists,
    loads: Vec<Load>,
    second: Lists,
    heap: Option<Heap>,
    free: u32,
    /// Pinned rows that are not hot.
    pins: Vec<u64>,
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
        let (lists, loads) = match shape.counted {
            true => (Lists::owned(shape.lists), shape.lists as usize),
            false => (Lists::new(shape.lists), 0),
        };
        Self {
            table: HashTable::new(),
            records: Chunked::new(),
            lists,
            loads: vec![Load::default(); loads],
            second: Lists::new(shape.second),
            heap: shape.heap.then(Heap::new),
            free: 0,
            pins: Vec::new(),
        }
    }

    /// Hot rows.
    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// Hot rows that are not pinned: slots `0..free`.
    pub(crate) fn free(&self) -> u32 {
        self.free
    }

    /// The slot of a hot row. Good until the next change.
    pub(crate) fn find(&self, row: Row) -> Option<u32> {
        let same = |slot: &u32| self.row(*slot) == row;
        self.table.find(hash(row), same).copied()
    }

    pub(crate) fn row(&self, slot: u32) -> Row {
        Row(self.records.get(slot).row)
    }

    /// What is known of the row's RAM, in bytes; 0 if nothing is.
    pub(crate) fn weight(&self, slot: u32) -> u32 {
        self.records.get(slot).weight
    }

    pub(crate) fn set_weight(&mut self, slot: u32, bytes: u32) {
        let mut record = self.records.get(slot);
        if record.weight == bytes {
            return;
        }
        self.unload(slot);
        record.weight = bytes.min(!PINNED);
        self.records.set(slot, record);
        if let Some(list) = self.lists.owner(slot) {
            self.load_onto(list, slot);
        }
    }

    pub(crate) fn pinned(&self, slot: u32) -> bool {
        slot >= self.free
    }

    pub(crate) fn figures(&self, slot: u32) -> X {
        self.records.get(slot).figures
    }

    pub(crate) fn set_figures(&mut self, slot: u32, figures: X) {
        let mut record = self.records.get(slot);
        record.figures = figures;
        self.records.set(slot, record);
    }

    /// Adds a row that is not in the books; it is in no list, and pinned if it was while it was not hot. `None` when
    /// slot numbers are used up, at 2^31 rows.
    pub(crate) fn insert(&mut self, row: Row, bytes: u32, figures: X) -> Option<u32> {
        let slot = self.append_record(row, bytes, figures)?;
        self.swap(slot, self.free);
        let slot = self.free;
        self.free += 1;
        Some(if self.unremember(row) {
            self.set_pinned(slot, true)
        } else {
            slot
        })
    }

    fn append_record(&mut self, row: Row, bytes: u32, figures: X) -> Option<u32> {
        if self.len() >= (1 << 31) {
            return None;
        }
        let slot = self.records.len() as u32;
        self.records.push(Record {
            row: row.0,
            weight: bytes.min(!PINNED),
            figures,
        });
        self.lists.push();
        self.second.push();
        if let Some(heap) = &mut self.heap {
            heap.push_slot();
        }
        self.enter(row, slot);
        Some(slot)
    }

    /// Adds a row in the last slot, as saved books list them: `None`, and nothing is added, if the row is in the books
    /// already, or if it is not pinned and comes after one that is.
    pub(crate) fn restore(&mut self, row: Row, weight: u32, figures: X) -> Option<u32> {
        let pinned = weight & PINNED != 0;
        let misplaced = !pinned && self.len() > self.free as usize;
        if misplaced || self.find(row).is_some() {
            return None;
        }
        let slot = self.append_record(row, weight & !PINNED, figures)?;
        self.free += u32::from(!pinned);
        Some(slot)
    }

    /// Takes a row out and returns its figures.
    pub(crate) fn remove(&mut self, slot: u32) -> X {
        let slot = self.set_pinned(slot, true);
        let last = self.records.len() as u32 - 1;
        self.swap(slot, last);
        let record = self.records.get(last);
        self.forget(Row(record.row), last);
        self.records.pop();
        self.lists.pop();
        self.second.pop();
        if let Some(heap) = &mut self.heap {
            heap.pop_slot();
        }
        self.shrink();
        record.figures
    }

    /// Gives a slot to another row, which is not in the books; figures, weight, pin and place stay.
    pub(crate) fn rename(&mut self, slot: u32, to: Row) {
        let mut record = self.records.get(slot);
        self.forget(Row(record.row), slot);
        record.row = to.0;
        self.records.set(slot, record);
        self.enter(to, slot);
    }

    /// Pins or unpins a hot row and returns its new slot. Either way it is in no list if anything changed.
    pub(crate) fn set_pinned(&mut self, slot: u32, pinned: bool) -> u32 {
        if self.pinned(slot) == pinned {
            return slot;
        }
        self.unload(slot);
        self.lists.unlink(slot);
        self.second.unlink(slot);
        if let Some(heap) = &mut self.heap {
            heap.remove(slot);
        }
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
        self.table = HashTable::new();
        self.records.clear();
        self.lists.clear();
        self.loads.fill(Load::default());
        self.second.clear();
        self.heap = self.heap.as_ref().map(|_| Heap::new());
        self.free = 0;
        self.pins = Vec::new();
    }

    /// Bytes allocated. O(1).
    pub(crate) fn bytes(&self) -> u64 {
        self.table.allocation_size() as u64
            + self.records.bytes()
            + self.lists.bytes()
            + (self.loads.capacity() * size_of::<Load>()) as u64
            + self.second.bytes()
            + self.heap.as_ref().map_or(0, Heap::bytes)
            + (self.pins.capacity() * size_of::<u64>()) as u64
    }

    /// Upper bound of [`Books::bytes`] at any number of rows up to `rows`. O(1).
    pub(crate) fn bytes_bound(&self, rows: u64) -> u64 {
        let mut buckets = BUCKETS_MIN.max(self.table.num_buckets() as u64);
        while crowded(rows, buckets) {
            buckets = buckets.saturating_mul(2);
        }
        buckets
            .saturating_mul(size_of::<u32>() as u64 + 1)
            .saturating_add(64)
            .saturating_add(self.records.bytes_bound(rows))
            .saturating_add(self.lists.bytes_bound(rows))
            .saturating_add((self.loads.capacity() * size_of::<Load>()) as u64)
            .saturating_add(self.second.bytes_bound(rows))
            .saturating_add(self.heap.as_ref().map_or(0, |h| h.bytes_bound(rows)))
            .saturating_add((PINS_MAX * size_of::<u64>()) as u64)
    }

    fn swap(&mut self, a: u32, b: u32) {
        if a == b {
            return;
        }
        let (of_a, of_b) = (self.records.get(a), self.records.get(b));
        // Both are looked up before either changes: in between, two entries would name one slot.
        let places = [(of_a, a, b), (of_b, b, a)].map(|(record, from, to)| {
            let same = |slot: &u32| *slot == from;
            (
                self.table.find_bucket_index(hash(Row(record.row)), same),
                record,
                to,
            )
        });
        for (place, record, to) in places {
            if let Some(slot) = place.and_then(|p| self.table.get_bucket_mut(p)) {
                *slot = to;
            }
            self.records.set(to, record);
        }
        self.lists.swap(a, b);
        self.second.swap(a, b);
        if let Some(heap) = &mut self.heap {
            heap.swap(a, b);
        }
    }

    fn forget(&mut self, row: Row, slot: u32) {
        if let Ok(entry) = self.table.find_entry(hash(row), |s| *s == slot) {
            entry.remove();
        }
    }

    fn enter(&mut self, row: Row, slot: u32) {
        if self.table.len() == self.table.capacity() {
            let (rows, buckets) = (self.table.len() as u64 + 1, self.table.num_buckets() as u64);
            let buckets = match buckets {
                b if b < BUCKETS_MIN => BUCKETS_MIN,
                b if crowded(rows, b) => b * 2,
                b => b,
            };
            self.rebuild(buckets, slot);
        }
        let records = &self.records;
        self.table
            .insert_unique(hash(row), slot, |s| hash(Row(records.get(*s).row)));
    }

    /// Makes the table anew from the records of all slots but `without`. The old one goes first: no two at a time.
    fn rebuild(&mut self, buckets: u64, without: u32) {
        self.table = HashTable::new();
        self.table = HashTable::with_capacity(fill(buckets) as usize);
        let records = &self.records;
        let hasher = |s: &u32| hash(Row(records.get(*s).row));
        for slot in (0..records.len() as u32).filter(|s| *s != without) {
            self.table.insert_unique(hasher(&slot), slot, hasher);
        }
    }

    fn shrink(&mut self) {
        let buckets = self.table.num_buckets() as u64;
        if buckets > BUCKETS_MIN && (self.len() as u64) < buckets / 8 {
            self.rebuild((buckets / 4).max(BUCKETS_MIN), u32::MAX);
        }
    }
}

/// Slots that a table of so many buckets holds before it must grow.
fn fill(buckets: u64) -> u64 {
    buckets / 8 * 7
}

/// Whether a table must double to hold so many rows. Below that, places that removed rows spoilt are won back in the
/// same size, at least `fill / 16` insertions apart, so that rebuilding stays a constant cost of each.
fn crowded(rows: u64, buckets: u64) -> bool {
    rows > fill(buckets) / 16 * 15 && buckets < 1 << 60
}

#[cfg(test)]
mod tests;

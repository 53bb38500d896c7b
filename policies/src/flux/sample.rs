//! The rows on which settings are tried: those whose hash falls into the sample and that were used last.

use aether_core::{Result, Row};
use hashbrown::HashTable;

use crate::books::{Input, hash};

use super::wrong;

/// No slot, and no row in one.
pub(super) const NONE: u16 = u16::MAX;
const VACANT: u64 = u64::MAX;

/// An order of use over slots, least recent first.
#[derive(Debug)]
pub(super) struct Order {
    /// The slots before and after each; `NONE` at the ends.
    links: Vec<[u16; 2]>,
    first: u16,
    last: u16,
}

impl Order {
    pub(super) fn after(&self, slot: u16) -> u16 {
        self.links[usize::from(slot)][1]
    }

    fn unlink(&mut self, slot: u16) {
        let [before, after] = self.links[usize::from(slot)];
        match self.links.get_mut(usize::from(before)) {
            Some(links) => links[1] = after,
            None => self.first = after,
        }
        match self.links.get_mut(usize::from(after)) {
            Some(links) => links[0] = before,
            None => self.last = before,
        }
    }

    /// Puts a slot that is in no place between two that follow one another.
    fn insert(&mut self, before: u16, slot: u16, after: u16) {
        self.links[usize::from(slot)] = [before, after];
        match self.links.get_mut(usize::from(before)) {
            Some(links) => links[1] = slot,
            None => self.first = slot,
        }
        match self.links.get_mut(usize::from(after)) {
            Some(links) => links[0] = slot,
            None => self.last = slot,
        }
    }

    fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        let some = |slot: u16| Some(slot).filter(|slot| *slot != NONE);
        std::iter::successors(some(self.first), move |slot| some(self.after(*slot)))
    }
}

/// The sampled rows.
#[derive(Debug)]
pub(super) struct Sample {
    index: HashTable<u16>,
    rows: Vec<u64>,
    /// RAM of each slot's row, in bytes.
    pub(super) bytes: Vec<u32>,
    /// The part of each slot's worth that is not its score.
    pub(super) value: Vec<f32>,
    pub(super) order: Order,
}

impl Sample {
    pub(super) fn new() -> Self {
        Self {
            index: HashTable::new(),
            rows: Vec::new(),
            bytes: Vec::new(),
            value: Vec::new(),
            order: Order {
                links: Vec::new(),
                first: NONE,
                last: NONE,
            },
        }
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Slots for which there is room.
    pub(super) fn capacity(&self) -> usize {
        self.rows.capacity()
    }

    /// Makes room for so many slots, exactly.
    pub(super) fn reserve(&mut self, slots: usize) {
        let more = slots - self.rows.len();
        self.rows.reserve_exact(more);
        self.bytes.reserve_exact(more);
        self.value.reserve_exact(more);
        self.order.links.reserve_exact(more);
        self.rebuild_index(slots);
    }

    /// Makes the index anew, without the places that rows taken out have spoilt.
    fn rebuild_index(&mut self, slots: usize) {
        let rows = &self.rows;
        let hasher = |slot: &u16| hash(Row(rows[usize::from(*slot)]));
        self.index = HashTable::with_capacity(slots);
        for (slot, row) in (0..).zip(rows) {
            if *row != VACANT {
                self.index.insert_unique(hash(Row(*row)), slot, hasher);
            }
        }
    }

    pub(super) fn find(&self, row: u64) -> Option<u16> {
        let same = |slot: &u16| self.rows[usize::from(*slot)] == row;
        self.index.find(hash(Row(row)), same).copied()
    }

    /// Adds a vacant slot, as the next to be given away.
    pub(super) fn push_slot(&mut self) -> u16 {
        let slot = self.rows.len() as u16;
        self.rows.push(VACANT);
        self.bytes.push(0);
        self.value.push(0.0);
        self.order.links.push([NONE; 2]);
        self.order.insert(NONE, slot, self.order.first);
        slot
    }

    /// Gives a vacant slot to a row that has none.
    pub(super) fn assign(&mut self, slot: u16, row: u64) {
        // Left alone, a table full of spoilt places would double.
        if self.index.len() == self.index.capacity() {
            self.rebuild_index(self.rows.capacity());
        }
        self.rows[usize::from(slot)] = row;
        let rows = &self.rows;
        let hasher = |slot: &u16| hash(Row(rows[usize::from(*slot)]));
        self.index.insert_unique(hash(Row(row)), slot, hasher);
    }

    /// Notes a use: the slot becomes the most recent.
    pub(super) fn used(&mut self, slot: u16, bytes: u32, value: f32) {
        self.bytes[usize::from(slot)] = bytes;
        self.value[usize::from(slot)] = value;
        self.order.unlink(slot);
        self.order.insert(self.order.last, slot, NONE);
    }

    pub(super) fn is_vacant(&self, slot: u16) -> bool {
        self.rows[usize::from(slot)] == VACANT
    }

    /// Takes the row out of a slot, which becomes the next to be given away.
    pub(super) fn vacate(&mut self, slot: u16) {
        let row = Row(self.rows[usize::from(slot)]);
        if let Ok(entry) = self.index.find_entry(hash(row), |other| *other == slot) {
            entry.remove();
        }
        self.rows[usize::from(slot)] = VACANT;
        self.order.unlink(slot);
        self.order.insert(NONE, slot, self.order.first);
    }

    /// Slots whose rows are outside a sample of one in 2^`shift`.
    pub(super) fn outside(&self, shift: u32) -> Vec<u16> {
        let rows = self.rows.iter().zip(0_u16..);
        let outside = rows.filter(|(row, _)| **row != VACANT && !is_sampled(**row, shift));
        outside.map(|(_, slot)| slot).collect()
    }

    /// Slots from the least recent.
    pub(super) fn by_use(&self) -> impl Iterator<Item = u16> + '_ {
        self.order.iter()
    }

    /// RAM beyond the struct, in bytes.
    pub(super) fn bytes_held(&self) -> u64 {
        self.index.allocation_size() as u64
            + (self.rows.capacity() * 8
                + self.bytes.capacity() * 4
                + self.value.capacity() * 4
                + self.order.links.capacity() * 4) as u64
    }

    /// Bytes that the index takes for one slot, at most, when there is room for a power of two of them: an entry of two bytes and one of
    /// marks for each bucket, and twice as many buckets.
    pub(super) const BYTES_A_SLOT: u64 = 8 + 4 + 4 + 4 + 2 * 3;

    /// Appends rows from the least recent, and returns the number that each slot is saved under.
    pub(super) fn save(&self, out: &mut Vec<u8>) -> Vec<u16> {
        let mut numbers = vec![NONE; self.rows.len()];
        let taken = || self.order.iter().filter(|slot| !self.is_vacant(*slot));
        out.extend_from_slice(&(self.index.len() as u32).to_le_bytes());
        for (slot, number) in taken().zip(0..) {
            let at = usize::from(slot);
            numbers[at] = number;
            out.extend_from_slice(&self.rows[at].to_le_bytes());
            out.extend_from_slice(&self.bytes[at].to_le_bytes());
            out.extend_from_slice(&self.value[at].to_le_bytes());
        }
        numbers
    }

    /// Takes up one row that `save` wrote, in a vacant slot.
    pub(super) fn load_row(&mut self, slot: u16, input: &mut Input<'_>) -> Result<()> {
        let (row, bytes, value) = (input.u64()?, input.u32()?, f32::from_bits(input.u32()?));
        if row == VACANT || self.find(row).is_some() || !value.is_finite() {
            return Err(wrong(format!("row {row} is sampled wrongly")));
        }
        self.assign(slot, row);
        self.used(slot, bytes, value);
        Ok(())
    }
}

/// Whether a row belongs to a sample of one in 2^`shift`.
pub(super) fn is_sampled(row: u64, shift: u32) -> bool {
    row != VACANT && hash(Row(row)).leading_zeros() >= shift
}

//! Where a row's slot is found: a chain of slots for each bucket, linked through the records.
//!
//! Chains instead of open addressing, since rows come and go with every miss: a removal leaves no spoilt place that would have to be won
//! back, and the row that is looked for lies in the same line of cache as the link to the next one.

use aether_core::Row;
use aether_core::role::PREFETCH_MAX;

use super::{Books, Packed};

/// No slot.
pub(super) const NONE: u32 = u32::MAX;
/// Buckets of the smallest table.
const BUCKETS_MIN: u64 = 64;
/// 2^64 over the golden ratio (Knuth, The Art of Computer Programming 3, section 6.4): consecutive numbers are spread evenly.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Rows that so many buckets hold before they double: seven for four, which bounds a row's share of them by 4.6 bytes.
fn holds(buckets: u64) -> u64 {
    buckets.saturating_add(buckets / 4 * 3)
}

/// The first slot of each bucket: a power of two of them.
#[derive(Debug, Default)]
pub(super) struct Buckets {
    heads: Vec<u32>,
}

impl Buckets {
    fn new(buckets: u64) -> Self {
        Self {
            heads: vec![NONE; buckets as usize],
        }
    }

    fn len(&self) -> u64 {
        self.heads.len() as u64
    }

    fn of(&self, row: u64) -> usize {
        // Without buckets any number will do: there is none to be found.
        let bits = self.heads.len().checked_ilog2().unwrap_or(1).max(1);
        ((row ^ row >> 32).wrapping_mul(GOLDEN) >> (64 - bits)) as usize
    }

    /// Bytes allocated.
    pub(super) fn bytes(&self) -> u64 {
        (self.heads.capacity() * size_of::<u32>()) as u64
    }

    /// Upper bound of [`Buckets::bytes`] at any number of rows up to `rows`.
    pub(super) fn bytes_bound(&self, rows: u64) -> u64 {
        let mut buckets = BUCKETS_MIN.max(self.len());
        while holds(buckets) < rows && buckets < 1 << 60 {
            buckets *= 2;
        }
        buckets.saturating_mul(size_of::<u32>() as u64)
    }
}

/// Up to [`PREFETCH_MAX`] things without an allocation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Few<T> {
    all: [T; PREFETCH_MAX],
    len: usize,
}

pub(crate) type Rows = Few<Row>;
pub(crate) type Slots = Few<u32>;

impl<T: Copy> Few<T> {
    /// Adds one, if there is room.
    fn push(&mut self, one: T) {
        if let Some(place) = self.all.get_mut(self.len) {
            *place = one;
            self.len += 1;
        }
    }

    /// Adds as many as there is room for.
    pub(crate) fn extend(&mut self, more: impl Iterator<Item = T>) {
        for (place, one) in self.all[self.len..].iter_mut().zip(more) {
            *place = one;
            self.len += 1;
        }
    }

    pub(crate) fn as_slice(&self) -> &[T] {
        &self.all[..self.len]
    }
}

impl Default for Rows {
    fn default() -> Self {
        Self {
            all: [Row(0); PREFETCH_MAX],
            len: 0,
        }
    }
}

impl Default for Slots {
    fn default() -> Self {
        Self {
            all: [NONE; PREFETCH_MAX],
            len: 0,
        }
    }
}

impl<X: Packed> Books<X> {
    /// The slot of a hot row. Good until the next change.
    pub(crate) fn find(&self, row: Row) -> Option<u32> {
        let mut slot = *self.buckets.heads.get(self.buckets.of(row.0))?;
        while slot != NONE {
            let record = self.records.at(slot);
            if record.row == row.0 {
                return Some(slot);
            }
            slot = record.next;
        }
        None
    }

    /// Touches what is kept of these rows, [`PREFETCH_MAX`] at most, and if they will be `moved` their neighbours in the lists: all buckets first,
    /// then all records, then all links, so that none waits for another. Answers which of the rows are not hot, and maybe a few that are.
    pub(crate) fn prefetch(&self, rows: &[Row], moved: bool) -> Rows {
        let mut slots = [NONE; PREFETCH_MAX];
        let rows = &rows[..rows.len().min(PREFETCH_MAX)];
        for (slot, row) in slots.iter_mut().zip(rows) {
            let head = self.buckets.heads.get(self.buckets.of(row.0));
            *slot = head.copied().unwrap_or(NONE);
        }
        // Few chains are longer than two. Whether a row is found decides by arithmetic which slot comes next: a branch that waits for memory
        // would hold up the loads behind it.
        let mut missing = Rows::default();
        let Some(last) = self.records.len().checked_sub(1) else {
            missing.extend(rows.iter().copied());
            return missing;
        };
        let last = last as u32;
        for _ in 0..2 {
            for (slot, row) in slots.iter_mut().zip(rows) {
                let record = self.records.at((*slot).min(last));
                let stays = u32::from(record.row == row.0 || *slot == NONE).wrapping_neg();
                *slot = *slot & stays | record.next & !stays;
            }
        }
        let slots = &mut slots[..rows.len()];
        for (slot, row) in slots.iter().zip(rows) {
            if *slot == NONE {
                missing.push(*row);
            }
        }
        if moved {
            slots.iter_mut().for_each(|slot| *slot = (*slot).min(last));
            self.lists.prefetch(slots);
            self.queues.prefetch(slots);
        }
        std::hint::black_box(slots);
        missing
    }

    /// Touches what is kept of the rows in these slots, [`PREFETCH_MAX`] at most, and what leads to them; answers the rows.
    pub(crate) fn prefetch_slots(&self, slots: &[u32]) -> Rows {
        let mut rows = Rows::default();
        rows.extend(slots.iter().map(|slot| self.row(*slot)));
        self.lists.prefetch(slots);
        self.queues.prefetch(slots);
        // The first row of each bucket mostly is the one that leaves or the one that points to it.
        let heads = rows.as_slice().iter().map(|row| {
            let head = self.buckets.heads[self.buckets.of(row.0)];
            self.records.at(head).next
        });
        std::hint::black_box(heads.fold(0, u32::wrapping_add));
        rows
    }

    /// Puts a slot that is in no chain into that of its row.
    pub(super) fn enter(&mut self, slot: u32) {
        if self.records.len() as u64 > holds(self.buckets.len()) {
            let buckets = (self.buckets.len() * 2).max(BUCKETS_MIN);
            return self.rebuild(buckets);
        }
        self.chain(slot);
    }

    fn chain(&mut self, slot: u32) {
        let record = self.records.at_mut(slot);
        let bucket = self.buckets.of(record.row);
        if let Some(head) = self.buckets.heads.get_mut(bucket) {
            record.next = std::mem::replace(head, slot);
        }
    }

    /// Takes a slot out of its chain.
    pub(super) fn leave(&mut self, slot: u32) {
        self.point(slot, self.records.at(slot).next);
    }

    /// Lets what points to a slot in its chain point to `to`.
    pub(super) fn point(&mut self, slot: u32, to: u32) {
        let bucket = self.buckets.of(self.records.at(slot).row);
        let Some(head) = self.buckets.heads.get_mut(bucket) else {
            return;
        };
        if *head == slot {
            *head = to;
            return;
        }
        let mut at = *head;
        while at != NONE {
            let record = self.records.at_mut(at);
            if record.next == slot {
                record.next = to;
                return;
            }
            at = record.next;
        }
    }

    /// Makes the buckets anew from the records. The old ones go first: no two at a time.
    fn rebuild(&mut self, buckets: u64) {
        self.buckets = Buckets::default();
        self.buckets = Buckets::new(buckets);
        let slots = (0..self.records.len() as u32).filter(|slot| Some(*slot) != self.gap);
        slots
            .collect::<Vec<_>>()
            .into_iter()
            .for_each(|slot| self.chain(slot));
    }

    /// Gives back buckets when rows have become few.
    pub(super) fn shrink(&mut self) {
        let buckets = self.buckets.len();
        if buckets > BUCKETS_MIN && (self.len() as u64) < buckets / 8 {
            self.rebuild((buckets / 4).max(BUCKETS_MIN));
        }
    }
}

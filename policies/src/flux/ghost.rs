//! A cache in miniature: which rows of the sample the hot tier would hold under one setting.
//!
//! The same order as the policy's own: the most recently used share stays whatever its worth, of the rest the lowest worth leaves.
//! Which rows were used last is the same for all ghosts of a sample, and so is a row's worth under one half-life: a ghost keeps no
//! more than where its recent rows begin, and a heap of the others. 4 bytes a slot.

use aether_core::Result;

use crate::books::Input;

use super::sample::{NONE, Order};
use super::wrong;

/// Not in this cache.
const ABSENT: u16 = u16::MAX;
/// Among the most recently used.
const RECENT: u16 = u16::MAX - 1;

/// What a ghost is told of the sample that it shares with others.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'a> {
    /// Bytes of each slot's row.
    pub(super) bytes: &'a [u32],
    /// Order of use.
    pub(super) order: &'a Order,
    /// Time-invariant worth of each slot's row under the ghost's half-life.
    pub(super) worth: &'a [f32],
}

/// One setting under trial.
#[derive(Debug, Default)]
pub(super) struct Ghost {
    /// `ABSENT`, `RECENT`, or the position in the heap.
    place: Vec<u16>,
    /// Lowest worth first.
    heap: Vec<u16>,
    /// The least recent of the rows that stay by recency: all that were used since are such, too.
    oldest: u16,
    recent: usize,
    used: u64,
}

impl Ghost {
    pub(super) fn new() -> Self {
        Self {
            oldest: NONE,
            ..Self::default()
        }
    }

    /// Makes room for so many slots, exactly.
    pub(super) fn reserve(&mut self, slots: usize) {
        self.place.reserve_exact(slots - self.place.len());
    }

    pub(super) fn push_slot(&mut self) {
        self.place.push(ABSENT);
    }

    pub(super) fn holds(&self, slot: u16) -> bool {
        self.place[usize::from(slot)] != ABSENT
    }

    /// Takes a slot's row out, before its worth or its place in the order of use changes; answers whether it was there. O(log n).
    pub(super) fn take(&mut self, slot: u16, view: View<'_>) -> bool {
        let at = usize::from(slot);
        match self.place[at] {
            ABSENT => return false,
            RECENT => self.unlink(slot, view),
            position => self.take_out(position, view),
        }
        self.place[at] = ABSENT;
        self.used = self.used.saturating_sub(u64::from(view.bytes[at]));
        true
    }

    /// Puts in the row that was used last, then lets others go until all fits: the least recent pass from recency to worth, the
    /// lowest worth leaves.
    pub(super) fn put(&mut self, slot: u16, share: f64, capacity: u64, view: View<'_>) {
        self.place[usize::from(slot)] = RECENT;
        self.used += u64::from(view.bytes[usize::from(slot)]);
        self.recent += 1;
        if self.oldest == NONE {
            self.oldest = slot;
        }
        loop {
            let rows = self.recent + self.heap.len();
            if self.recent as f64 > (rows as f64 * share).floor()
                || (self.used > capacity && self.heap.is_empty() && self.recent > 0)
            {
                let oldest = self.oldest;
                self.unlink(oldest, view);
                self.heap.push(oldest);
                self.rise(self.heap.len() - 1, view);
            } else if self.used > capacity && !self.heap.is_empty() {
                self.take(self.heap[0], view);
            } else {
                return;
            }
        }
    }

    /// Takes a row out of the recent ones.
    fn unlink(&mut self, slot: u16, view: View<'_>) {
        if self.oldest == slot {
            self.oldest = view.order.after(slot);
        }
        self.recent -= 1;
    }

    fn take_out(&mut self, position: u16, view: View<'_>) {
        let position = usize::from(position);
        self.heap.swap_remove(position);
        if position < self.heap.len() {
            let risen = self.rise(position, view);
            self.sink(risen, view);
        }
    }

    fn set(&mut self, position: usize, slot: u16) {
        self.heap[position] = slot;
        self.place[usize::from(slot)] = position as u16;
    }

    fn rise(&mut self, mut position: usize, view: View<'_>) -> usize {
        let slot = self.heap[position];
        let worth = view.worth[usize::from(slot)];
        while position > 0 {
            let parent = (position - 1) / 2;
            if view.worth[usize::from(self.heap[parent])] <= worth {
                break;
            }
            self.set(position, self.heap[parent]);
            position = parent;
        }
        self.set(position, slot);
        position
    }

    fn sink(&mut self, mut position: usize, view: View<'_>) {
        let slot = self.heap[position];
        let of = |slot: u16| view.worth[usize::from(slot)];
        loop {
            let left = 2 * position + 1;
            let Some(mut child) = self.heap.get(left).map(|_| left) else {
                break;
            };
            if let Some(right) = self.heap.get(left + 1) {
                child += usize::from(of(*right) < of(self.heap[left]));
            }
            if of(self.heap[child]) >= of(slot) {
                break;
            }
            self.set(position, self.heap[child]);
            position = child;
        }
        self.set(position, slot);
    }

    /// RAM beyond the struct, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        ((self.place.capacity() + self.heap.capacity()) * size_of::<u16>()) as u64
    }

    /// Appends where the recent rows begin, and the heap, by the numbers that slots are saved under.
    pub(super) fn save(&self, numbers: &[u16], out: &mut Vec<u8>) {
        let number = |slot: u16| numbers.get(usize::from(slot)).copied().unwrap_or(NONE);
        out.extend_from_slice(&number(self.oldest).to_le_bytes());
        out.extend_from_slice(&(self.heap.len() as u32).to_le_bytes());
        for slot in &self.heap {
            out.extend_from_slice(&number(*slot).to_le_bytes());
        }
    }

    /// Takes up what `save` wrote, in an empty ghost that has all its slots.
    pub(super) fn load(&mut self, view: View<'_>, input: &mut Input<'_>) -> Result<()> {
        let slots = self.place.len();
        self.oldest = input.u16()?;
        let heap = (0..input.count(2)?).map(|_| input.u16());
        let heap = heap.collect::<Result<Vec<u16>>>()?;
        if self.oldest != NONE && usize::from(self.oldest) >= slots {
            return Err(wrong(format!("recency begins at slot {}", self.oldest)));
        }
        let mut recent = self.oldest;
        while recent != NONE {
            self.recent += 1;
            self.place[usize::from(recent)] = RECENT;
            self.used += u64::from(view.bytes[usize::from(recent)]);
            recent = view.order.after(recent);
        }
        for slot in heap {
            let at = usize::from(slot);
            if at >= slots || self.place[at] != ABSENT {
                let what = format!("a ghost holds slot {slot} of {slots} wrongly");
                return Err(wrong(what));
            }
            self.used += u64::from(view.bytes[at]);
            self.place[at] = self.heap.len() as u16;
            self.heap.push(slot);
        }
        Ok(())
    }
}

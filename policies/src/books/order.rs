//! The orders in which books keep their rows: lists, a second set of lists, a heap.

use super::{Books, Heap, Packed, Slots, Urgency};

/// How a policy orders its rows.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Shape {
    /// Lists; with any, every row that is not pinned is in one.
    pub(crate) lists: u32,
    /// Whether each row's list and each list's load is known, for lists that rows mostly leave at the front: 12 to 13 bytes a row instead
    /// of 8.
    pub(crate) counted: bool,
    /// Lists of a second order beside the first, in which rows may be.
    pub(crate) second: u32,
    /// Whether rows may be in a heap: 20 bytes a row.
    pub(crate) heap: bool,
}

/// What is in a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) rows: u64,
    /// Of rows of unknown weight, 1 each.
    pub(crate) bytes: u64,
}

impl Load {
    pub(super) fn add(&mut self, bytes: u64) {
        self.rows += 1;
        self.bytes += bytes;
    }

    pub(super) fn take(&mut self, bytes: u64) {
        self.rows -= 1;
        self.bytes -= bytes;
    }
}

impl<X: Packed> Books<X> {
    /// The list that a row is in, in counted books.
    pub(crate) fn list_of(&self, slot: u32) -> Option<u32> {
        self.queues.owner(slot)
    }

    /// What is in a list, in counted books.
    pub(crate) fn load(&self, list: u32) -> Load {
        self.loads.get(list as usize).copied().unwrap_or_default()
    }

    /// The first slot of a list.
    pub(crate) fn front(&self, list: u32) -> Option<u32> {
        match self.is_counted() {
            true => self.queues.first(list),
            false => self.lists.first(list),
        }
    }

    /// Tells the first slots of a list, in counted books.
    pub(crate) fn fronts(&self, list: u32, count: usize, slots: &mut Slots) {
        self.queues.fronts(list, count, slots);
    }

    fn is_counted(&self) -> bool {
        self.queues.count() > 0
    }

    /// Lists of the first order.
    pub(super) fn count(&self) -> u32 {
        self.lists.count() + self.queues.count()
    }

    /// Takes a slot out of its queue, and off its load.
    pub(super) fn unqueue(&mut self, slot: u32) {
        if let Some(former) = self.queues.unlink(slot) {
            let bytes = u64::from(self.weight(slot).max(1));
            self.loads[former as usize].take(bytes);
        }
    }

    /// Puts a slot at a list's end, out of any other list; a pinned row stays out.
    pub(crate) fn push_back(&mut self, list: u32, slot: u32) {
        if !self.pinned(slot) {
            if self.is_counted() {
                let bytes = u64::from(self.weight(slot).max(1));
                let former = self.queues.push_back(list, slot);
                if former != Some(list) {
                    self.loads[list as usize].add(bytes);
                    if let Some(former) = former {
                        self.loads[former as usize].take(bytes);
                    }
                }
            } else {
                self.lists.push_back(list, slot);
            }
        }
    }

    /// Puts a slot at the end of a list of the second order, out of any other of that order; a pinned row stays out.
    pub(crate) fn push_second(&mut self, list: u32, slot: u32) {
        if !self.pinned(slot) {
            self.second.push_back(list, slot);
        }
    }

    /// Slots of a list of the second order from its front.
    pub(crate) fn second(&self, list: u32) -> impl Iterator<Item = u32> {
        let first = (list < self.second.count()).then(|| self.second.first(list));
        std::iter::successors(first.flatten(), |slot| self.second.after(*slot))
    }

    /// The first and the last slot of a list of the second order.
    pub(crate) fn second_ends(&self, list: u32) -> Option<(u32, u32)> {
        self.second.ends(list)
    }

    /// Takes a slot out of the second order.
    pub(crate) fn unlink_second(&mut self, slot: u32) {
        self.second.unlink(slot);
    }

    /// Puts a slot in its place in the heap; a pinned row stays out.
    pub(crate) fn rank(&mut self, slot: u32, urgency: Urgency) {
        if self.pinned(slot) {
            return;
        }
        if let Some(heap) = &mut self.heap {
            heap.put(slot, urgency);
        }
    }

    /// A row's place in the order of the heap; `None` if it is not in it.
    pub(crate) fn urgency(&self, slot: u32) -> Option<Urgency> {
        self.heap.as_ref()?.urgency(slot)
    }

    /// Slots in the order of the heap, each found in O(log n).
    pub(crate) fn ranked(&self) -> impl Iterator<Item = u32> {
        self.heap.iter().flat_map(Heap::sorted)
    }

    /// Slots of a list from its front.
    pub(crate) fn list(&self, list: u32) -> impl Iterator<Item = u32> {
        let first = (list < self.lists.count()).then(|| self.lists.first(list));
        let linked = std::iter::successors(first.flatten(), |slot| self.lists.after(*slot));
        linked.chain(self.queues.queue(list))
    }

    /// Appends all of list `from` to the end of `to`. O(1).
    pub(crate) fn append(&mut self, from: u32, to: u32) {
        self.lists.append(from, to);
    }

    pub(super) fn linked(&self, slot: u32) -> bool {
        self.lists.linked(slot) || self.queues.owner(slot).is_some()
    }
}

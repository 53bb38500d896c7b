//! Slots of the books in order of urgency: a binary heap that finds each slot's place.

use super::chunked::Chunked;

/// How soon a row leaves: the lowest value first, among equals the earliest use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Urgency {
    /// The bits of a value that is 0 or more, and no NaN: they are ordered as the values are.
    value: u64,
    /// The number of the use that set the value; wraps after 4.3 billion.
    pub(crate) used: u32,
}

impl Urgency {
    /// Values below 0 and those that are no numbers count as 0.
    pub(crate) fn new(value: f64, used: u32) -> Self {
        let value = if value > 0.0 { value.to_bits() } else { 0 };
        Self { value, used }
    }

    pub(crate) fn value(self) -> f64 {
        f64::from_bits(self.value)
    }
}

#[derive(Clone, Copy)]
#[repr(C, packed(4))]
struct Entry {
    urgency: Urgency,
    slot: u32,
}

/// Not in the heap.
const OUT: u32 = u32::MAX;

/// A binary heap of slots, least urgency first. A slot's place is known, so that it can change or leave: O(log n).
pub(crate) struct Heap {
    entries: Chunked<Entry>,
    places: Chunked<u32>,
}

impl Heap {
    pub(crate) fn new() -> Self {
        Self {
            entries: Chunked::new(),
            places: Chunked::new(),
        }
    }

    /// Makes room for one more slot, not in the heap.
    pub(crate) fn push_slot(&mut self) {
        self.places.push(OUT);
    }

    /// Drops the last slot, which must not be in the heap.
    pub(crate) fn pop_slot(&mut self) {
        self.places.pop();
    }

    fn len(&self) -> u32 {
        self.entries.len() as u32
    }

    fn write(&mut self, place: u32, entry: Entry) {
        self.entries.set(place, entry);
        self.places.set(entry.slot, place);
    }

    /// Lets an entry sink or rise from a place to its own.
    fn settle(&mut self, mut place: u32, entry: Entry) {
        let own = entry.urgency;
        while place > 0 {
            let parent = (place - 1) / 2;
            let above = self.entries.get(parent);
            if { above.urgency } <= own {
                break;
            }
            self.write(place, above);
            place = parent;
        }
        loop {
            let left = 2 * u64::from(place) + 1;
            let children = (left..left + 2).filter(|c| *c < u64::from(self.len()));
            let least = children
                .map(|c| (c as u32, self.entries.get(c as u32)))
                .min_by_key(|(_, child)| child.urgency);
            match least {
                Some((at, child)) if { child.urgency } < own => {
                    self.write(place, child);
                    place = at;
                }
                _ => break,
            }
        }
        self.write(place, entry);
    }

    /// Puts a slot in its place, new or changed.
    pub(crate) fn put(&mut self, slot: u32, urgency: Urgency) {
        let entry = Entry { urgency, slot };
        let place = match self.places.get(slot) {
            OUT => {
                self.entries.push(entry);
                self.len() - 1
            }
            place => place,
        };
        self.settle(place, entry);
    }

    /// Takes a slot out, if it is in.
    pub(crate) fn remove(&mut self, slot: u32) {
        let place = self.places.get(slot);
        if place == OUT {
            return;
        }
        self.places.set(slot, OUT);
        if let Some(last) = self.entries.pop()
            && last.slot != slot
        {
            self.settle(place, last);
        }
    }

    pub(crate) fn urgency(&self, slot: u32) -> Option<Urgency> {
        let place = self.places.get(slot);
        (place != OUT).then(|| self.entries.get(place).urgency)
    }

    /// Lets two slots trade places, as the books trade their records.
    pub(crate) fn swap(&mut self, a: u32, b: u32) {
        let (of_a, of_b) = (self.places.get(a), self.places.get(b));
        for (slot, place) in [(b, of_a), (a, of_b)] {
            self.places.set(slot, place);
            if place != OUT {
                let entry = self.entries.get(place);
                self.entries.set(place, Entry { slot, ..entry });
            }
        }
    }

    /// Slots in order: O(log k) for the k-th, by a walk from the root with the heap's nodes next to those met.
    pub(crate) fn sorted(&self) -> Sorted<'_> {
        let mut walk = Sorted {
            heap: self,
            next: std::collections::BinaryHeap::new(),
        };
        walk.meet(0);
        walk
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.entries.bytes() + self.places.bytes()
    }

    pub(crate) fn bytes_bound(&self, slots: u64) -> u64 {
        self.entries
            .bytes_bound(slots)
            .saturating_add(self.places.bytes_bound(slots))
    }
}

/// A walk through a heap in order.
pub(crate) struct Sorted<'a> {
    heap: &'a Heap,
    next: std::collections::BinaryHeap<std::cmp::Reverse<(Urgency, u32)>>,
}

impl Sorted<'_> {
    fn meet(&mut self, place: u64) {
        if place < u64::from(self.heap.len()) {
            let entry = self.heap.entries.get(place as u32);
            self.next
                .push(std::cmp::Reverse((entry.urgency, place as u32)));
        }
    }
}

impl Iterator for Sorted<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let std::cmp::Reverse((_, place)) = self.next.pop()?;
        let left = 2 * u64::from(place) + 1;
        self.meet(left);
        self.meet(left + 1);
        Some(self.heap.entries.get(place).slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Over random changes the walk gives what sorting a plain list gives.
    #[test]
    fn it_sorts_as_a_plain_list_does() {
        let mut random = fastrand::Rng::with_seed(9);
        let mut heap = Heap::new();
        let mut model: Vec<Option<Urgency>> = Vec::new();
        for step in 0..20_000_u32 {
            let slots = model.len() as u32;
            match random.u8(..10) {
                0 if slots < 300 => {
                    heap.push_slot();
                    model.push(None);
                }
                1 if slots > 0 => {
                    let slot = random.u32(..slots);
                    heap.remove(slot);
                    model[slot as usize] = None;
                }
                2 if slots > 1 => {
                    let (a, b) = (random.u32(..slots), random.u32(..slots));
                    if a != b {
                        heap.swap(a, b);
                        model.swap(a as usize, b as usize);
                    }
                }
                _ if slots > 0 => {
                    let slot = random.u32(..slots);
                    let urgency = Urgency::new(f64::from(random.u8(..20)) - 2.0, step);
                    heap.put(slot, urgency);
                    model[slot as usize] = Some(urgency);
                }
                _ => {}
            }
            if step % 97 == 0 {
                let mut expected: Vec<(Urgency, u32)> = model
                    .iter()
                    .enumerate()
                    .filter_map(|(s, u)| u.map(|u| (u, s as u32)))
                    .collect();
                expected.sort_unstable();
                let expected: Vec<u32> = expected.into_iter().map(|(_, s)| s).collect();
                assert_eq!(heap.sorted().collect::<Vec<_>>(), expected, "step {step}");
            }
        }
    }
}

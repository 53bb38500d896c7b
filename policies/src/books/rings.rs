//! Queues over the slots of the books: any number of them, each slot in at most one.
//!
//! A queue is a [`Ring`]. A slot that is taken out of the midst leaves a hole; holes are closed when they are more than a quarter of the slots.

use super::chunked::Chunked;
use super::index::Slots;
use super::ring::{Item, Ring};

/// Holes that a ring may have however few slots it holds.
const HOLES_MIN: usize = 64;
/// No slot, and no queue.
const NONE: u32 = u32::MAX;

/// Where a slot is.
#[derive(Clone, Copy, Debug)]
struct Place {
    queue: u32,
    /// Its number in the queue's ring.
    at: u32,
}

const NOWHERE: Place = Place { queue: NONE, at: 0 };

impl Item for u32 {
    fn hole() -> Self {
        NONE
    }

    fn is_hole(self) -> bool {
        self == NONE
    }
}

/// The queues, and where each slot is.
#[derive(Debug)]
pub(crate) struct Rings {
    rings: Vec<Ring<u32>>,
    places: Chunked<Place>,
}

impl Rings {
    /// Empty queues; none, and nothing is kept of slots.
    pub(crate) fn new(queues: u32) -> Self {
        Self {
            rings: (0..queues).map(|_| Ring::default()).collect(),
            places: Chunked::new(),
        }
    }

    pub(crate) fn count(&self) -> u32 {
        self.rings.len() as u32
    }

    /// The queue that a slot is in.
    pub(crate) fn owner(&self, slot: u32) -> Option<u32> {
        if self.rings.is_empty() {
            return None;
        }
        let queue = self.places.at(slot).queue;
        (queue != NONE).then_some(queue)
    }

    /// Touches what is kept of these slots.
    pub(super) fn prefetch(&self, slots: &[u32]) {
        if self.rings.is_empty() {
            return;
        }
        let ats = slots.iter().map(|slot| self.places.at(*slot).at);
        std::hint::black_box(ats.fold(0, u32::wrapping_add));
    }

    /// Makes room for one more slot, in no queue.
    pub(crate) fn push(&mut self) {
        if !self.rings.is_empty() {
            self.places.push(NOWHERE);
        }
    }

    /// Drops the last slot, which must be in no queue.
    pub(crate) fn pop(&mut self) {
        self.places.pop();
    }

    /// Takes a slot out of its queue; answers which one it was in.
    pub(crate) fn unlink(&mut self, slot: u32) -> Option<u32> {
        if self.rings.is_empty() {
            return None;
        }
        let place = std::mem::replace(self.places.at_mut(slot), NOWHERE);
        self.vacate(place)
    }

    /// Takes what stands in a place out of its queue; answers which queue that is.
    fn vacate(&mut self, place: Place) -> Option<u32> {
        let ring = self.rings.get_mut(place.queue as usize)?;
        ring.remove(ring.index(place.at));
        if ring.holes() > HOLES_MIN.max(ring.filled() / 4) {
            self.close_holes(place.queue);
        }
        Some(place.queue)
    }

    /// Moves a queue's slots together, in their order. As many steps as slots and holes, which were as many removals.
    fn close_holes(&mut self, queue: u32) {
        let places = &mut self.places;
        self.rings[queue as usize].close_holes(|slot, _, at| places.set(slot, Place { queue, at }));
    }

    /// Puts a slot at a queue's end; answers in which queue it was before.
    pub(crate) fn push_back(&mut self, queue: u32, slot: u32) -> Option<u32> {
        let former = self.vacate(self.places.get(slot));
        let at = self.rings[queue as usize].push_back(slot);
        self.places.set(slot, Place { queue, at });
        former
    }

    /// First slot of a queue.
    pub(crate) fn first(&self, queue: u32) -> Option<u32> {
        self.rings.get(queue as usize)?.front()
    }

    /// Slots of a queue from its front.
    pub(crate) fn queue(&self, queue: u32) -> impl Iterator<Item = u32> {
        let ring = self.rings.get(queue as usize);
        ring.into_iter().flat_map(Ring::items)
    }

    /// Tells the slots in the first places of a queue.
    pub(crate) fn fronts(&self, queue: u32, count: usize, slots: &mut Slots) {
        if let Some(ring) = self.rings.get(queue as usize) {
            slots.extend(ring.first_places(count));
        }
    }

    /// Lets two slots trade places, as the books trade their records.
    pub(crate) fn swap(&mut self, a: u32, b: u32) {
        if self.rings.is_empty() || a == b {
            return;
        }
        let (of_a, of_b) = (self.places.get(a), self.places.get(b));
        for (slot, place) in [(a, of_b), (b, of_a)] {
            self.places.set(slot, place);
            if let Some(ring) = self.rings.get_mut(place.queue as usize) {
                let index = ring.index(place.at);
                ring.set(index, slot);
            }
        }
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::new(self.count());
    }

    /// Bytes allocated.
    pub(crate) fn bytes(&self) -> u64 {
        let rings: u64 = self.rings.iter().map(Ring::bytes).sum();
        rings + (self.rings.capacity() * size_of::<Ring<u32>>()) as u64 + self.places.bytes()
    }

    /// Upper bound of [`Rings::bytes`] at any number of slots up to `slots`.
    pub(crate) fn bytes_bound(&self, slots: u64) -> u64 {
        let rings = self.rings.len() as u64;
        if rings == 0 {
            return 0;
        }
        let entries = slots
            .saturating_add(slots / 4)
            .saturating_add(rings * HOLES_MIN as u64);
        Ring::bytes_bound(&self.rings, entries)
            .saturating_add((self.rings.capacity() * size_of::<Ring<u32>>()) as u64)
            .saturating_add(self.places.bytes_bound(slots))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(rings: &Rings, queue: u32) -> Vec<u32> {
        rings.queue(queue).collect()
    }

    /// Random moves beside plain vectors.
    #[test]
    fn queues_are_as_vectors_are() {
        for seed in 0..20 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let slots = rng.u32(1..900);
            let mut rings = Rings::new(3);
            (0..slots).for_each(|_| rings.push());
            let mut model = vec![Vec::new(); 3];
            for _ in 0..8_000 {
                let (slot, other, queue) = (rng.u32(..slots), rng.u32(..slots), rng.u32(..3));
                match rng.u8(..8) {
                    0..4 => {
                        rings.push_back(queue, slot);
                        model.iter_mut().for_each(|q| q.retain(|s| *s != slot));
                        model[queue as usize].push(slot);
                    }
                    4 => {
                        rings.unlink(slot);
                        model.iter_mut().for_each(|q| q.retain(|s| *s != slot));
                    }
                    5 => {
                        rings.swap(slot, other);
                        for s in model.iter_mut().flatten() {
                            *s = match *s {
                                s if s == slot => other,
                                s if s == other => slot,
                                s => s,
                            };
                        }
                    }
                    _ => {
                        if let Some(first) = rings.first(queue) {
                            assert_eq!(model[queue as usize].remove(0), first);
                            rings.unlink(first);
                        }
                    }
                }
                let first = model[queue as usize].first().copied();
                assert_eq!(rings.first(queue), first);
                let owner = model.iter().position(|q| q.contains(&slot));
                assert_eq!(rings.owner(slot), owner.map(|q| q as u32));
                assert!(rings.bytes() <= rings.bytes_bound(u64::from(slots)));
            }
            for queue in 0..3 {
                assert_eq!(of(&rings, queue), model[queue as usize]);
            }
        }
    }

    #[test]
    fn a_queue_that_is_gone_through_for_ever_takes_no_more_room() {
        let mut rings = Rings::new(2);
        (0..1_000).for_each(|_| rings.push());
        (0..1_000).for_each(|slot| assert_eq!(rings.push_back(0, slot), None));
        let bytes = rings.bytes();
        for n in 0..100_000 {
            let first = rings.first(0).unwrap();
            assert_eq!(first, n % 1_000);
            rings.push_back(0, first);
        }
        // One is always taken from the midst.
        for n in 0..100_000 {
            rings.push_back(0, n * 7 % 1_000);
        }
        assert!(rings.bytes() <= bytes * 2, "{} {bytes}", rings.bytes());
        assert_eq!(of(&rings, 0).len(), 1_000);
        (0..1_000).for_each(|slot| assert_eq!(rings.unlink(slot), Some(0)));
        assert!(rings.bytes() < bytes);
        assert_eq!(rings.first(0), None);
    }
}

//! Which slot a row lies in: linear hashing, chained through the heads of the rows themselves.
//!
//! The table grows by one bucket at a time, so it needs no moment at which everything is hashed anew, and its size follows the
//! number of slots exactly: four bytes a slot.
//!
//! The lock is held for a look-up, a change of one chain, or the copying of one vector; searches do not come here.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use aether_core::{Result, Row};
use parking_lot::{RwLock, RwLockReadGuard};

use crate::arena::Arena;
use crate::node::{Head, NONE};

#[derive(Debug)]
pub(crate) struct RowMap {
    /// One `AtomicU32` a bucket: the first slot of its chain.
    heads: Arena,
    /// Number of buckets.
    buckets: RwLock<u32>,
    len: AtomicUsize,
}

/// Finds the head of a slot.
pub(crate) trait Heads {
    fn head(&self, slot: u32) -> &Head;
}

/// Mixes all bits of a row number into all bits of the hash (the finaliser of SplitMix64).
pub(crate) fn mix(mut x: u64) -> u64 {
    x ^= x >> 30;
    x = x.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x ^= x >> 27;
    x = x.wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

fn bucket_of(row: Row, buckets: u32) -> u32 {
    let hash = mix(row.0.wrapping_add(0x9e37_79b9_7f4a_7c15)) as u32;
    let mask = buckets.next_power_of_two() - 1;
    let bucket = hash & mask;
    if bucket < buckets {
        bucket
    } else {
        bucket & (mask >> 1)
    }
}

impl RowMap {
    pub(crate) fn new() -> Self {
        Self {
            heads: Arena::new(size_of::<u32>(), 0xff),
            buckets: RwLock::new(0),
            len: AtomicUsize::new(0),
        }
    }

    pub(crate) fn arena(&self) -> &Arena {
        &self.heads
    }

    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Acquire)
    }

    fn first(&self, bucket: u32) -> &AtomicU32 {
        // SAFETY: a bucket's record was made by the growth that came before the bucket.
        unsafe { &*self.heads.at(bucket).cast::<AtomicU32>() }
    }

    fn find(&self, row: Row, buckets: u32, at: &impl Heads) -> Option<u32> {
        if buckets == 0 {
            return None;
        }
        let mut slot = self.first(bucket_of(row, buckets)).load(Ordering::Relaxed);
        while slot != NONE {
            let head = at.head(slot);
            if head.row.load(Ordering::Relaxed) == row.0 {
                return Some(slot);
            }
            slot = head.next.load(Ordering::Relaxed);
        }
        None
    }

    /// Looks a row up. While the guard lives, the row stays where it is and is not removed.
    pub(crate) fn get(&self, row: Row, at: &impl Heads) -> Option<(u32, RwLockReadGuard<'_, u32>)> {
        let buckets = self.buckets.read();
        self.find(row, *buckets, at).map(|slot| (slot, buckets))
    }

    /// Adds a row that is not there.
    pub(crate) fn insert(&self, row: Row, slot: u32, at: &impl Heads) {
        let mut buckets = self.buckets.write();
        let len = self.len.load(Ordering::Relaxed);
        if len >= *buckets as usize {
            self.split(&mut buckets, at);
        }
        self.push(bucket_of(row, *buckets), slot, at);
        self.len.store(len + 1, Ordering::Release);
    }

    fn push(&self, bucket: u32, slot: u32, at: &impl Heads) {
        let first = self.first(bucket);
        at.head(slot)
            .next
            .store(first.load(Ordering::Relaxed), Ordering::Relaxed);
        first.store(slot, Ordering::Relaxed);
    }

    /// Adds the next bucket, and moves to it what now belongs there; all of that is in one other bucket.
    fn split(&self, buckets: &mut u32, at: &impl Heads) {
        let fresh = *buckets;
        *buckets += 1;
        self.first(fresh).store(NONE, Ordering::Relaxed);
        if fresh == 0 {
            return;
        }
        let parent = fresh & ((fresh + 1).next_power_of_two() / 2 - 1);
        let mut slot = self.first(parent).swap(NONE, Ordering::Relaxed);
        while slot != NONE {
            let head = at.head(slot);
            let next = head.next.load(Ordering::Relaxed);
            let row = Row(head.row.load(Ordering::Relaxed));
            self.push(bucket_of(row, *buckets), slot, at);
            slot = next;
        }
    }

    /// Takes a row out and returns its slot.
    pub(crate) fn remove(&self, row: Row, at: &impl Heads) -> Option<u32> {
        let buckets = self.buckets.write();
        let slot = self.find(row, *buckets, at)?;
        self.unlink(row, slot, *buckets, at);
        self.len.fetch_sub(1, Ordering::Release);
        Some(slot)
    }

    fn unlink(&self, row: Row, slot: u32, buckets: u32, at: &impl Heads) {
        let next = at.head(slot).next.load(Ordering::Relaxed);
        let mut cell = self.first(bucket_of(row, buckets));
        while cell.load(Ordering::Relaxed) != slot {
            cell = &at.head(cell.load(Ordering::Relaxed)).next;
        }
        cell.store(next, Ordering::Relaxed);
    }

    /// Makes a row's slot another one. Readers see the one or the other.
    pub(crate) fn relocate(&self, row: Row, from: u32, to: u32, at: &impl Heads) {
        let buckets = self.buckets.write();
        self.unlink(row, from, *buckets, at);
        self.push(bucket_of(row, *buckets), to, at);
    }

    /// Every slot in use, as of one moment.
    pub(crate) fn slots(&self, at: &impl Heads) -> Vec<u32> {
        let buckets = self.buckets.read();
        let mut slots = Vec::with_capacity(self.len());
        for bucket in 0..*buckets {
            let mut slot = self.first(bucket).load(Ordering::Relaxed);
            while slot != NONE {
                slots.push(slot);
                slot = at.head(slot).next.load(Ordering::Relaxed);
            }
        }
        slots
    }

    /// Gives back the room of buckets beyond `slots`, which must be at least the number of rows.
    pub(crate) fn shrink(&self, slots: usize, at: &impl Heads) {
        let mut buckets = self.buckets.write();
        while *buckets as usize > slots {
            *buckets -= 1;
            let mut slot = self.first(*buckets).load(Ordering::Relaxed);
            while slot != NONE {
                let head = at.head(slot);
                let next = head.next.load(Ordering::Relaxed);
                let row = Row(head.row.load(Ordering::Relaxed));
                self.push(bucket_of(row, *buckets), slot, at);
                slot = next;
            }
        }
        // SAFETY: buckets are only looked at under the lock, which is held, and none beyond `slots` is left.
        unsafe { self.heads.shrink(slots) };
    }

    /// Makes room for as many buckets as slots.
    pub(crate) fn grow(&self, slots: usize) -> Result<()> {
        self.heads.grow(slots, |_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    impl Heads for Vec<Head> {
        fn head(&self, slot: u32) -> &Head {
            &self[slot as usize]
        }
    }

    #[test]
    fn the_map_agrees_with_the_standard_one_while_growing_and_shrinking() {
        let (map, mut model) = (RowMap::new(), HashMap::new());
        let heads: Vec<Head> = (0..2_000).map(|_| Head::unused()).collect();
        let mut free: Vec<u32> = (0..2_000).collect();
        map.grow(2_000).unwrap();
        let mut rng = fastrand::Rng::with_seed(11);
        // Miri takes a thousand times as long for a step.
        for step in 0..if cfg!(miri) { 500 } else { 40_000 } {
            let row = Row(rng.u64(0..3_000));
            let grow = (step / 5_000) % 2 == 0;
            if rng.u32(0..10) < if grow { 7 } else { 3 } {
                if !model.contains_key(&row)
                    && let Some(slot) = free.pop()
                {
                    heads[slot as usize].row.store(row.0, Ordering::Relaxed);
                    map.insert(row, slot, &heads);
                    model.insert(row, slot);
                }
            } else {
                let slot = map.remove(row, &heads);
                assert_eq!(slot, model.remove(&row));
                free.extend(slot);
            }
            if step % 9_000 == 8_999 {
                map.shrink(model.len(), &heads);
                map.grow(2_000).unwrap();
            }
            let other = Row(rng.u64(0..3_000));
            let found = map.get(other, &heads).map(|(slot, _)| slot);
            assert_eq!(found, model.get(&other).copied());
        }
        assert_eq!(map.len(), model.len());
        let mut slots = map.slots(&heads);
        slots.sort_unstable();
        let mut expected: Vec<u32> = model.values().copied().collect();
        expected.sort_unstable();
        assert_eq!(slots, expected);
    }
}

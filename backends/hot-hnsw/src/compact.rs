//! Giving memory back: rows move from the last slots to free ones before them, dead links are swept out, and the extents
//! that are empty then are freed, while searches and writes go on.
//!
//! 1. The number of rows says how many slots are needed; the slots beyond are to go. Free ones among them are not handed out any
//!    more. An insertion that finds no other slot calls the shrinking off.
//! 2. Each row that lies there is written to a free slot before it and linked, the map is switched over, and the old
//!    place is removed as if the row had been. In between a search may meet the row twice; it returns it once.
//! 3. When all searches and writes that ran then have ended, none holds a link to a slot that goes.
//! 4. Every list is swept of dead links, so that no link to those slots stands anywhere.
//! 5. When all searches that may have read a list before the sweep have ended, the slots are forgotten and whole
//!    extents of them freed.

use std::sync::atomic::Ordering;

use aether_core::{Result, Row};

use crate::arena::Arena;
use crate::graph::Graph;
use crate::map::Heads;
use crate::node::NONE;
use crate::slots::Slots;

/// Times that compaction waits for insertions under way before it leaves the memory as it is.
const TRIES: usize = 1_000;

impl Graph {
    /// Reclaims what removed rows left.
    pub(crate) fn compact(&self) -> Result<()> {
        let _one = self.maintenance.lock();
        let limit = {
            let mut slots = self.lock_slots();
            let used = self.used();
            let limit = used - u32::try_from(self.removed()).unwrap_or(used).min(used);
            (limit < used).then(|| {
                self.set_limit(&mut slots, limit);
                limit
            })
        };
        let Some(limit) = limit else {
            self.sweep(self.used());
            return Ok(());
        };
        self.moving.store(true, Ordering::SeqCst);
        let emptied = self.empty_from(limit)?;
        self.pins.wait();
        self.sweep(if emptied { limit } else { self.used() });
        if emptied {
            self.free_from(limit);
        }
        self.pins.wait();
        self.moving.store(false, Ordering::SeqCst);
        Ok(())
    }

    /// Moves every row from `limit` on to a slot before it; `false` if that was called off.
    fn empty_from(&self, limit: u32) -> Result<bool> {
        let used = self.used();
        let mut vector = vec![0f32; self.shape.dim];
        for _ in 0..TRIES {
            for slot in (limit..used).rev() {
                let row = Row(self.head(slot).row.load(Ordering::Relaxed));
                let _row = self.stripe(row);
                if self.map.get(row, self).is_none_or(|(at, _)| at != slot) {
                    continue;
                }
                let scale = f32::from_bits(self.head(slot).scale.load(Ordering::Relaxed));
                // SAFETY: the row stays while its stripe is held; a vector is `dim` floats.
                unsafe {
                    std::ptr::copy_nonoverlapping(
                        self.vector(slot),
                        vector.as_mut_ptr(),
                        vector.len(),
                    );
                }
                let Some(to) = self.place_before(limit, row, &vector, scale) else {
                    return Ok(false);
                };
                self.connect(to);
                self.map.relocate(row, slot, to, self);
                self.disconnect(slot);
            }
            let slots = self.lock_slots();
            if slots.limit != limit {
                return Ok(false);
            }
            if slots.going_count == (used - limit) as usize {
                return Ok(true);
            }
            // An insertion that took its slot before the limit was set is still under way.
            drop(slots);
            std::thread::yield_now();
        }
        self.call_off(&mut self.lock_slots());
        Ok(false)
    }

    /// Drops dead links from the lists of every row below `end`.
    fn sweep(&self, end: u32) {
        let mut live = Vec::with_capacity(self.shape.m0);
        for slot in 0..end {
            let _pin = self.pins.pin();
            let head = self.head(slot);
            let _head = head.lock.lock();
            if head.tag.get() == NONE {
                continue;
            }
            for level in 0..=head.level.load(Ordering::Relaxed) {
                let Some(links) = self.links(slot, level) else {
                    break;
                };
                live.clear();
                live.extend(links.read().filter(|l| self.is_live(*l)));
                if live.len() < links.len() {
                    links.write(live.iter().copied());
                }
            }
        }
    }

    /// Frees the slots from `limit` on, unless that was called off meanwhile.
    fn free_from(&self, limit: u32) {
        let mut slots = self.lock_slots();
        if slots.limit != limit || slots.going_count != (self.used() - limit) as usize {
            return;
        }
        self.cut(&mut slots, limit);
        self.shrink_to(&mut slots, limit);
    }

    /// Frees memory beyond `keep` slots, which are all that are used. Waits for searches with the slot lock held, which is
    /// safe because nobody asks for that lock while pinned.
    fn shrink_to(&self, slots: &mut Slots, keep: u32) {
        self.pins.wait();
        // SAFETY: slots beyond `keep` were given up, no list holds a link to them, and every search that began before that
        // has ended.
        unsafe { self.nodes.shrink(keep as usize) };
        self.map.shrink(keep as usize, self);
        for arena in self.others() {
            // SAFETY: as above.
            unsafe { arena.shrink(keep as usize) };
        }
        let room = self.nodes.capacity().min(self.map.arena().capacity());
        let room = self.others().map(Arena::capacity).fold(room, usize::min);
        self.set_room(room);
        if keep == 0 {
            slots.reset_upper();
            // SAFETY: without rows there is no upper record in use, and no search that could still look at one.
            unsafe { self.upper.shrink(0) };
        }
    }

    /// Makes an index without rows as good as new. The caller holds every stripe, so no write is under way, and is not pinned.
    pub(crate) fn clear(&self, slots: &mut Slots) {
        self.set_limit(slots, 0);
        self.pins.wait();
        self.cut(slots, 0);
        self.shrink_to(slots, 0);
    }
}

//! Handing out places for rows, and taking them back.
//!
//! A slot that a row left waits in a queue, oldest first, until no search is left that may look at it; then it is the first to
//! be used again. So a number of rows takes the same memory whether rows come and go or stay.

use std::sync::atomic::Ordering;

use aether_core::{Error, Result, Row};

use crate::graph::Graph;
use crate::map::{Heads, mix};
use crate::node::{Head, Link, NONE, SLOTS_MAX, link_of};
use crate::scratch::Scratch;

/// Levels above 0 that a row may have.
const LEVEL_MAX: u32 = 12;
/// All levels, the ground level included.
pub(crate) const LEVELS: usize = LEVEL_MAX as usize + 1;
const _: () = assert!(LEVELS <= aether_core::role::WORK_LEVELS);

/// Slots that hold no row. The queue is threaded through the heads' `next`, oldest first.
#[derive(Debug)]
pub(crate) struct Slots {
    first: u32,
    last: u32,
    /// Upper records ever handed out, and the first of those given back (chained through their second word).
    upper_used: u32,
    upper_free: u32,
    /// While the index is compacted: slots from here on are to go, and are not handed out.
    pub(crate) limit: u32,
    /// Slots at or beyond `limit` that hold no row, chained as the queue is.
    pub(crate) going: u32,
    pub(crate) going_count: usize,
}

impl Slots {
    pub(crate) fn new() -> Self {
        Self {
            first: NONE,
            last: NONE,
            upper_used: 0,
            upper_free: NONE,
            limit: u32::MAX,
            going: NONE,
            going_count: 0,
        }
    }

    /// Forgets all upper records, when there is no row.
    pub(crate) fn reset_upper(&mut self) {
        self.upper_used = 0;
        self.upper_free = NONE;
    }
}

impl Graph {
    /// The level that a row gets: a draw from the exponential distribution of section 4.1 of the paper, m_L = 1 / ln(m), made
    /// from seed and row alone.
    pub(crate) fn level_of(&self, row: Row) -> u32 {
        let draw = mix(row.0 ^ mix(self.seed ^ 0x6c65_7665_6c73)) >> 11;
        let uniform = (draw as f64 + 1.0) / (1u64 << 53) as f64;
        ((-uniform.ln() / (self.shape.m as f64).ln()) as u32).min(LEVEL_MAX)
    }

    /// Takes a slot and writes a row into it; nobody can find it yet. The caller must not be pinned.
    ///
    /// # Errors
    /// `Capacity` at the end of memory or beyond [`SLOTS_MAX`].
    pub(crate) fn place(&self, row: Row, vector: &[f32], scale: f32) -> Result<u32> {
        let mut slots = self.slots.lock();
        let slot = loop {
            if let Some(slot) = self.take_removed(&mut slots) {
                break slot;
            }
            let used = self.used.get();
            if used < self.room.load(Ordering::Relaxed) && used < slots.limit {
                self.used.set(used + 1);
                break used;
            }
            if slots.going_count > 0 || slots.limit != u32::MAX {
                self.call_off(&mut slots);
            } else if self.removed() > 0 {
                // A search still runs that might look at the removed row: it ends soon, and growing instead would break
                // what `bytes_after` promised.
                drop(slots);
                std::thread::yield_now();
                slots = self.slots.lock();
            } else {
                self.make_room(used as usize + 1)?;
            }
        };
        self.fill(&mut slots, slot, row, self.level_of(row));
        drop(slots);
        self.write_vector(slot, vector, scale);
        Ok(slot)
    }

    /// As [`Graph::place`], in a free slot before `limit`; `None` when the compaction that asks was called off.
    pub(crate) fn place_before(
        &self,
        limit: u32,
        row: Row,
        vector: &[f32],
        scale: f32,
    ) -> Option<u32> {
        let mut slots = self.slots.lock();
        let slot = loop {
            if slots.limit != limit {
                return None;
            }
            if let Some(slot) = self.take_removed(&mut slots) {
                break slot;
            }
            if slots.first == NONE {
                self.call_off(&mut slots);
                return None;
            }
            drop(slots);
            std::thread::yield_now();
            slots = self.slots.lock();
        };
        self.fill(&mut slots, slot, row, self.level_of(row));
        drop(slots);
        self.write_vector(slot, vector, scale);
        Some(slot)
    }

    pub(crate) fn write_vector(&self, slot: u32, vector: &[f32], scale: f32) {
        let head = self.head(slot);
        head.scale.store(scale.to_bits(), Ordering::Relaxed);
        let to = self.vector(slot).cast_mut();
        // SAFETY: the slot belongs to this thread, and no search that saw a former row is left; the padding
        // was zeroed when the page was made and is never written.
        unsafe { std::ptr::copy_nonoverlapping(vector.as_ptr(), to, vector.len()) };
        if let Some(codes) = &self.codes {
            Scratch::with(|scratch| codes.write(slot, vector, &mut scratch.work));
        }
    }

    /// Sets up the head of a slot that was just taken.
    pub(crate) fn fill(&self, slots: &mut Slots, slot: u32, row: Row, level: u32) {
        let head = self.head(slot);
        self.give_back_upper(slots, head);
        head.row.store(row.0, Ordering::Relaxed);
        head.count.store(0, Ordering::Relaxed);
        head.incoming.store(0, Ordering::Relaxed);
        head.linked.clear();
        let mut granted = 0;
        let mut chain = head.upper();
        while granted < level {
            let Some(record) = self.take_upper(slots) else {
                break;
            };
            let words = self.upper_words(record);
            words[0].store(0, Ordering::Relaxed);
            words[1].store(NONE, Ordering::Relaxed);
            chain.set(record);
            chain = self.upper_next(record);
            granted += 1;
        }
        head.level.store(granted, Ordering::Relaxed);
    }

    fn take_upper(&self, slots: &mut Slots) -> Option<u32> {
        if slots.upper_free != NONE {
            let record = slots.upper_free;
            slots.upper_free = self.upper_next(record).get();
            return Some(record);
        }
        let most = self.shape.upper_records(self.room());
        ((slots.upper_used as usize) < most).then(|| {
            slots.upper_used += 1;
            slots.upper_used - 1
        })
    }

    /// Gives the upper records of a slot back; nobody reads them any more.
    pub(crate) fn give_back_upper(&self, slots: &mut Slots, head: &Head) {
        let mut record = head.upper().replace(NONE);
        while record != NONE {
            let next = self.upper_next(record).replace(slots.upper_free);
            slots.upper_free = record;
            record = next;
        }
    }

    /// Grows every arena to hold `wanted` slots.
    pub(crate) fn make_room(&self, wanted: usize) -> Result<()> {
        if wanted > SLOTS_MAX {
            return Err(Error::capacity(format!(
                "rows: expected at most {SLOTS_MAX} in one hnsw index, got one more; spread them over more memories"
            )));
        }
        let head_offset = self.shape.head;
        self.nodes.grow(wanted, |record| {
            // SAFETY: `record` is a fresh record of the node arena, zeroed, with a head at this offset.
            unsafe { record.add(head_offset).cast::<Head>().write(Head::unused()) };
        })?;
        let room = self.nodes.capacity().min(SLOTS_MAX);
        self.upper.grow(self.shape.upper_records(room), |_| ())?;
        if let (Some(codes), Some(vectors)) = (&self.codes, &self.vectors) {
            vectors.grow(room, |_| ())?;
            codes.arena.grow(room, |record| codes.init(record))?;
        }
        self.map.grow(room)?;
        self.room
            .store(u32::try_from(room).unwrap_or(u32::MAX), Ordering::Relaxed);
        Ok(())
    }

    /// The slot that was removed first, if no search can still look at it.
    fn take_removed(&self, slots: &mut Slots) -> Option<u32> {
        let slot = slots.first;
        if slot == NONE {
            return None;
        }
        let head = self.head(slot);
        if head.retired.load(Ordering::Relaxed) >= self.pins.oldest() {
            return None;
        }
        slots.first = head.next.load(Ordering::Relaxed);
        if slots.first == NONE {
            slots.last = NONE;
        }
        self.removed.fetch_sub(1, Ordering::Relaxed);
        let generation = head.generation.load(Ordering::Relaxed).wrapping_add(1);
        head.generation.store(generation, Ordering::Relaxed);
        Some(slot)
    }

    /// Takes a slot back whose tag is [`NONE`] and that is not in the map.
    pub(crate) fn give_back(&self, slot: u32) {
        let mut slots = self.slots.lock();
        let head = self.head(slot);
        head.retired.store(self.pins.retire(), Ordering::Relaxed);
        head.next.store(NONE, Ordering::Relaxed);
        self.removed.fetch_add(1, Ordering::Relaxed);
        if slot >= slots.limit {
            head.next.store(slots.going, Ordering::Relaxed);
            slots.going = slot;
            slots.going_count += 1;
        } else {
            self.enqueue(&mut slots, slot);
        }
    }

    fn enqueue(&self, slots: &mut Slots, slot: u32) {
        if slots.last == NONE {
            slots.first = slot;
        } else {
            let last = self.head(slots.last);
            last.next.store(slot, Ordering::Relaxed);
        }
        slots.last = slot;
    }

    /// Ends a compaction's claim on slots: they go back to the queue.
    pub(crate) fn call_off(&self, slots: &mut Slots) {
        let mut slot = slots.going;
        while slot != NONE {
            let head = self.head(slot);
            let next = head.next.swap(NONE, Ordering::Relaxed);
            // The queue is in order of epochs; these may be older than its last, so they wait as long as that.
            head.retired.store(self.pins.retire(), Ordering::Relaxed);
            self.enqueue(slots, slot);
            slot = next;
        }
        slots.going = NONE;
        slots.going_count = 0;
        slots.limit = u32::MAX;
    }

    /// Splits the queue at `limit`: slots below stay in it, the others are to go.
    pub(crate) fn set_limit(&self, slots: &mut Slots, limit: u32) {
        slots.limit = limit;
        let mut slot = slots.first;
        (slots.first, slots.last) = (NONE, NONE);
        while slot != NONE {
            let head = self.head(slot);
            let next = head.next.swap(NONE, Ordering::Relaxed);
            if slot >= limit {
                head.next.store(slots.going, Ordering::Relaxed);
                slots.going = slot;
                slots.going_count += 1;
            } else {
                self.enqueue(slots, slot);
            }
            slot = next;
        }
    }

    /// Forgets the slots from `keep` on. All of them are in `going`; the caller frees their memory when it may.
    pub(crate) fn cut(&self, slots: &mut Slots, keep: u32) {
        let mut slot = slots.going;
        while slot != NONE {
            let head = self.head(slot);
            self.give_back_upper(slots, head);
            slot = head.next.load(Ordering::Relaxed);
        }
        self.removed.fetch_sub(slots.going_count, Ordering::Relaxed);
        slots.going = NONE;
        slots.going_count = 0;
        slots.limit = u32::MAX;
        self.used.set(keep);
    }

    /// Sets how many slots are in use, when a snapshot is loaded.
    pub(crate) fn set_used(&self, used: u32) {
        self.used.set(used);
    }

    /// Sets how many slots there is room for, after the arenas were shrunk.
    pub(crate) fn set_room(&self, room: usize) {
        self.room
            .store(u32::try_from(room).unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    /// Makes a slot's row visible to searches that hold its link.
    pub(crate) fn publish(&self, slot: u32) -> Link {
        let head = self.head(slot);
        let link = link_of(slot, head.generation.load(Ordering::Relaxed));
        if let Some(codes) = &self.codes {
            codes.set_tag(slot, link);
        }
        head.tag.set(link);
        self.tops[head.level.load(Ordering::Relaxed) as usize].fetch_add(1, Ordering::Relaxed);
        link
    }
}

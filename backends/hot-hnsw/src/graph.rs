//! The graph's memory: slots, entry point, and the rules under which threads share them.
//!
//! # Who may do what
//!
//! | what | guarded by |
//! |---|---|
//! | one row's insertion and removal against each other | the row's stripe lock |
//! | row to slot | the map's lock |
//! | handing out and taking back slots, growing and shrinking | the slot lock |
//! | links of one row, of all levels; its tag becoming [`NONE`] | the lock in the row's head |
//! | entry point | the entry lock; a row's tag becomes [`NONE`] under this lock as well |
//!
//! Order: stripe, then entry or slots or map, then one head. Nobody holds two heads, nobody waits for readers to end while pinned,
//! and nobody asks for a stripe or the slot lock while pinned.
//!
//! # Why a search is safe without a lock
//!
//! 1. A search is pinned ([`Pins`]) from before its first look at the graph until after its last.
//! 2. Row, scale and vector of a slot are written only between taking the slot from the queue and storing its tag (`Release`).
//!    A slot enters the queue after its tag became [`NONE`], and leaves it when no search is left that was pinned before.
//! 3. A search follows a link only after it has read (`Acquire`) an equal tag in the slot's head; so it sees the
//!    vector whole. While it stays pinned the slot is not given out again, so the vector stays.
//! 4. A removed row is not returned by a search that begins after `remove` returned: its tag is [`NONE`] by then, the entry
//!    point is another row, and a row is only taken up through a link that equals its tag.
//! 5. Links are atomics. A list that is read while it is rewritten may show some links twice or not at all; each is a link that
//!    once was written, and rule 3 holds for it.
//! 6. The entry point is always a row whose tag is set: whoever clears a tag does so under the entry lock, after making
//!    another row the entry.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use aether_core::{Error, Metric, Result, Row};
use parking_lot::{Mutex, MutexGuard};

use crate::arena::Arena;
use crate::epoch::Pins;
use crate::kernel::Kernels;
use crate::map::{Heads, RowMap, mix};
use crate::node::{Head, Link, Links, NONE, SLOTS_MAX, Shape, link_of, slot_of};

/// Locks that keep an insertion and a removal of one row apart.
const STRIPES: usize = 128;

/// Levels above 0 that a row may have.
const LEVEL_MAX: u32 = 12;

/// A vector in kernel form, and its [`Metric::scale`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Point {
    pub(crate) vector: *const f32,
    pub(crate) scale: f32,
}

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
    /// Forgets all upper records, when there is no row.
    pub(crate) fn reset_upper(&mut self) {
        self.upper_used = 0;
        self.upper_free = NONE;
    }
}

#[derive(Debug)]
pub(crate) struct Graph {
    pub(crate) shape: Shape,
    pub(crate) metric: Metric,
    pub(crate) kernels: Kernels,
    pub(crate) seed: u64,
    pub(crate) ef_construction: usize,
    pub(crate) nodes: Arena,
    pub(crate) upper: Arena,
    pub(crate) map: RowMap,
    slots: Mutex<Slots>,
    /// Slots ever handed out: a scan looks below this.
    used: AtomicU32,
    /// Slots that every arena has room for.
    room: AtomicU32,
    /// Slots that wait to be used again.
    removed: AtomicUsize,
    pub(crate) entry: AtomicU32,
    entry_lock: Mutex<()>,
    pub(crate) pins: Pins,
    stripes: [Mutex<()>; STRIPES],
    /// Set while rows move to other slots, when a row may be met twice.
    pub(crate) moving: AtomicBool,
    /// Held by the one compaction or load that runs.
    pub(crate) maintenance: Mutex<()>,
}

impl Heads for Graph {
    #[inline(always)]
    fn head(&self, slot: u32) -> &Head {
        // SAFETY: every record has a head at this offset, written when the page was made.
        unsafe { &*self.nodes.at(slot).add(self.shape.head).cast::<Head>() }
    }
}

impl Graph {
    pub(crate) fn new(
        dim: usize,
        metric: Metric,
        m: usize,
        ef_construction: usize,
        seed: u64,
    ) -> Self {
        let shape = Shape::new(dim, m);
        Self {
            shape,
            metric,
            kernels: Kernels::detect(),
            seed,
            ef_construction,
            nodes: Arena::new(shape.stride, 0),
            upper: Arena::new(shape.upper_stride, 0xff),
            map: RowMap::new(),
            slots: Mutex::new(Slots {
                first: NONE,
                last: NONE,
                upper_used: 0,
                upper_free: NONE,
                limit: u32::MAX,
                going: NONE,
                going_count: 0,
            }),
            used: AtomicU32::new(0),
            room: AtomicU32::new(0),
            removed: AtomicUsize::new(0),
            entry: AtomicU32::new(NONE),
            entry_lock: Mutex::new(()),
            pins: Pins::new(),
            stripes: std::array::from_fn(|_| Mutex::new(())),
            moving: AtomicBool::new(false),
            maintenance: Mutex::new(()),
        }
    }

    // ---- looking at rows ----

    #[inline(always)]
    pub(crate) fn vector(&self, slot: u32) -> *const f32 {
        // SAFETY: the vector follows the head within the record.
        unsafe {
            let head = self.nodes.at(slot).add(self.shape.head);
            head.add(size_of::<Head>()).cast::<f32>().cast_const()
        }
    }

    /// The row's vector and scale. The caller has seen the row's tag while pinned, or keeps it from being removed.
    #[inline(always)]
    pub(crate) fn point(&self, slot: u32) -> Point {
        Point {
            vector: self.vector(slot),
            scale: f32::from_bits(self.head(slot).scale.load(Ordering::Relaxed)),
        }
    }

    /// The links of a row at a level; `None` if it has no such level.
    #[inline]
    pub(crate) fn links(&self, slot: u32, level: u32) -> Option<Links<'_>> {
        if level == 0 {
            let cells = self.nodes.at(slot).cast::<AtomicU32>();
            // SAFETY: a record begins with its `m0` links, zeroed when the page was made.
            let cells = unsafe { std::slice::from_raw_parts(cells, self.shape.m0) };
            return Some(Links {
                count: &self.head(slot).count,
                cells,
            });
        }
        let mut record = self.head(slot).upper.load(Ordering::Acquire);
        for _ in 1..level {
            if record == NONE {
                return None;
            }
            record = self.upper_words(record)[1].load(Ordering::Relaxed);
        }
        if record == NONE {
            return None;
        }
        let words = self.upper_words(record);
        Some(Links {
            count: &words[0],
            cells: &words[2..],
        })
    }

    fn upper_words(&self, record: u32) -> &[AtomicU32] {
        // SAFETY: an upper record is `2 + m` words, filled when its page was made.
        unsafe {
            std::slice::from_raw_parts(self.upper.at(record).cast::<AtomicU32>(), 2 + self.shape.m)
        }
    }

    /// Whether a link leads to the row it was made for.
    #[inline(always)]
    pub(crate) fn is_live(&self, link: Link) -> bool {
        self.head(slot_of(link)).tag.load(Ordering::Acquire) == link
    }

    /// Distance between a point and a row; some number beyond `bound` if it is beyond `bound`.
    #[inline(always)]
    pub(crate) fn distance(&self, from: Point, to: Point, bound: f32) -> f32 {
        // SAFETY: points are padded vectors of this shape.
        unsafe {
            let n = self.shape.padded;
            match self.metric {
                Metric::L2 => self.kernels.l2(from.vector, to.vector, n, bound),
                Metric::InnerProduct => -self.kernels.dot(from.vector, to.vector, n),
                Metric::Cosine => {
                    1.0 - self.kernels.dot(from.vector, to.vector, n) * from.scale * to.scale
                }
            }
        }
    }

    // ---- counting ----

    /// Slots that may hold a row.
    pub(crate) fn used(&self) -> u32 {
        self.used.load(Ordering::Acquire)
    }

    pub(crate) fn removed(&self) -> usize {
        self.removed.load(Ordering::Relaxed)
    }

    /// Slots there is memory for.
    pub(crate) fn room(&self) -> usize {
        self.room.load(Ordering::Relaxed) as usize
    }

    pub(crate) fn arena_bytes(&self) -> u64 {
        (self.nodes.bytes() + self.upper.bytes() + self.map.arena().bytes()) as u64
    }

    /// What [`Graph::arena_bytes`] is at most after `additional` more insertions.
    pub(crate) fn arena_bytes_after(&self, additional: usize) -> u64 {
        let fresh = additional.saturating_sub(self.removed());
        let wanted = (self.used() as usize).saturating_add(fresh).min(SLOTS_MAX);
        if wanted <= self.room() {
            return self.arena_bytes();
        }
        let room = self.nodes.capacity_for(wanted).max(self.nodes.capacity());
        (self.nodes.bytes_for(wanted)
            + self.upper.bytes_for(self.shape.upper_records(room))
            + self.map.arena().bytes_for(room)) as u64
    }

    // ---- locks ----

    pub(crate) fn stripe(&self, row: Row) -> MutexGuard<'_, ()> {
        self.stripes[mix(row.0) as usize % STRIPES].lock()
    }

    /// Every stripe: while they are held, nothing is inserted or removed.
    pub(crate) fn all_stripes(&self) -> Vec<MutexGuard<'_, ()>> {
        self.stripes.iter().map(Mutex::lock).collect()
    }

    pub(crate) fn lock_entry(&self) -> MutexGuard<'_, ()> {
        self.entry_lock.lock()
    }

    pub(crate) fn lock_slots(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock()
    }

    // ---- slots ----

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
            let used = self.used.load(Ordering::Relaxed);
            if used < self.room.load(Ordering::Relaxed) && used < slots.limit {
                self.used.store(used + 1, Ordering::Release);
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
    }

    /// Sets up the head of a slot that was just taken.
    pub(crate) fn fill(&self, slots: &mut Slots, slot: u32, row: Row, level: u32) {
        let head = self.head(slot);
        self.give_back_upper(slots, head);
        head.row.store(row.0, Ordering::Relaxed);
        head.count.store(0, Ordering::Relaxed);
        head.linked.store(0, Ordering::Relaxed);
        let mut granted = 0;
        let mut last: Option<u32> = None;
        while granted < level {
            let Some(record) = self.take_upper(slots) else {
                break;
            };
            let words = self.upper_words(record);
            words[0].store(0, Ordering::Relaxed);
            words[1].store(NONE, Ordering::Relaxed);
            match last {
                None => head.upper.store(record, Ordering::Release),
                Some(former) => self.upper_words(former)[1].store(record, Ordering::Release),
            }
            last = Some(record);
            granted += 1;
        }
        head.level.store(granted, Ordering::Relaxed);
    }

    fn take_upper(&self, slots: &mut Slots) -> Option<u32> {
        if slots.upper_free != NONE {
            let record = slots.upper_free;
            slots.upper_free = self.upper_words(record)[1].load(Ordering::Relaxed);
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
        let mut record = head.upper.swap(NONE, Ordering::Relaxed);
        while record != NONE {
            let words = self.upper_words(record);
            let next = words[1].swap(slots.upper_free, Ordering::Relaxed);
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
        self.used.store(keep, Ordering::Release);
    }

    /// Sets how many slots are in use, when a snapshot is loaded.
    pub(crate) fn set_used(&self, used: u32) {
        self.used.store(used, Ordering::Release);
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
        head.tag.store(link, Ordering::Release);
        link
    }
}

// SAFETY: the raw pointers inside the arenas are owned by them; everything behind them that is shared is atomic or follows
// the rules at the top of this module.
unsafe impl Send for Graph {}
// SAFETY: as above.
unsafe impl Sync for Graph {}

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
//!    The label beside a row's code has a copy of the tag, set before it and cleared before it; code and label follow the same rules.
//! 6. The entry point is always a row whose tag is set: whoever clears a tag does so under the entry lock, after making
//!    another row the entry.

use std::fs::File;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use aether_core::role::SearchWork;
use aether_core::{Metric, Row};
use parking_lot::{Mutex, MutexGuard};

use crate::arena::Arena;
use crate::cells::{Chain, Entry, Used};
use crate::codes::Codes;
use crate::epoch::Pins;
use crate::kernel::Kernels;
use crate::map::{Heads, RowMap, mix};
use crate::node::{Head, Link, Links, NONE, SLOTS_MAX, Shape, slot_of};
use crate::slots::{LEVELS, Slots};

/// Locks that keep an insertion and a removal of one row apart.
const STRIPES: usize = 128;

/// A vector in kernel form, and its [`Metric::scale`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Point {
    pub(crate) vector: *const f32,
    pub(crate) scale: f32,
}

#[derive(Debug)]
pub(crate) struct Graph {
    pub(crate) shape: Shape,
    pub(crate) metric: Metric,
    pub(crate) kernels: Kernels,
    pub(crate) seed: u64,
    pub(crate) ef_construction: usize,
    pub(crate) nodes: Arena,
    /// Vectors of rows that have codes; they lie in the node records otherwise.
    pub(crate) vectors: Option<Arena>,
    pub(crate) codes: Option<Codes>,
    pub(crate) upper: Arena,
    pub(crate) map: RowMap,
    pub(crate) slots: Mutex<Slots>,
    /// Slots ever handed out: a scan looks below this.
    pub(crate) used: Used,
    /// Slots that every arena has room for.
    pub(crate) room: AtomicU32,
    /// Slots that wait to be used again.
    pub(crate) removed: AtomicUsize,
    /// Rows with a tag, by the highest level that they reach.
    pub(crate) tops: [AtomicUsize; LEVELS],
    pub(crate) entry: Entry,
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
        bits: u8,
        vectors: Option<File>,
        seed: u64,
    ) -> Self {
        let kernels = Kernels::detect();
        let codes = Codes::new(dim, bits, metric, kernels);
        let shape = Shape::new(dim, m, codes.is_none());
        Self {
            shape,
            metric,
            kernels,
            seed,
            ef_construction,
            nodes: Arena::new(shape.stride, 0),
            vectors: codes.as_ref().map(|_| match vectors {
                Some(file) => Arena::in_file(shape.vector_bytes(), file),
                None => Arena::new(shape.vector_bytes(), 0),
            }),
            codes,
            upper: Arena::new(shape.upper_stride, 0xff),
            map: RowMap::new(),
            slots: Mutex::new(Slots::new()),
            used: Used::none(),
            room: AtomicU32::new(0),
            removed: AtomicUsize::new(0),
            tops: std::array::from_fn(|_| AtomicUsize::new(0)),
            entry: Entry::none(),
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
        if let Some(vectors) = &self.vectors {
            return vectors.at(slot).cast::<f32>().cast_const();
        }
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
        let mut record = self.head(slot).upper().get();
        for _ in 1..level {
            if record == NONE {
                return None;
            }
            record = self.upper_next(record).get();
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

    pub(crate) fn upper_words(&self, record: u32) -> &[AtomicU32] {
        // SAFETY: an upper record is `2 + m` words, filled when its page was made.
        unsafe {
            std::slice::from_raw_parts(self.upper.at(record).cast::<AtomicU32>(), 2 + self.shape.m)
        }
    }

    /// Where a chain goes on behind a record.
    #[inline]
    pub(crate) fn upper_next(&self, record: u32) -> Chain<'_> {
        Chain(&self.upper_words(record)[1])
    }

    /// Whether a link leads to the row it was made for.
    #[inline(always)]
    pub(crate) fn is_live(&self, link: Link) -> bool {
        self.head(slot_of(link)).tag.get() == link
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

    /// What was done, with the bytes that were looked at for it.
    pub(crate) fn with_bytes(&self, done: SearchWork) -> SearchWork {
        let above: u64 = done.hops[1..].iter().sum();
        let links = (self.shape.m0 * size_of::<Link>()) as u64;
        let code = self.codes.as_ref().map_or(0, Codes::record_bytes) as u64;
        SearchWork {
            link_bytes: done.hops[0] * links + above * self.shape.upper_stride as u64,
            code_bytes: done.estimated * code,
            vector_bytes: (done.compared + done.scanned) * self.shape.vector_bytes() as u64,
            ..done
        }
    }

    /// Slots that may hold a row.
    pub(crate) fn used(&self) -> u32 {
        self.used.get()
    }

    pub(crate) fn removed(&self) -> usize {
        self.removed.load(Ordering::Relaxed)
    }

    /// Rows on each level, the ground level, which has all, first.
    pub(crate) fn rows_by_level(&self) -> Vec<u64> {
        let mut rows: Vec<u64> = self
            .tops
            .iter()
            .map(|n| n.load(Ordering::Relaxed) as u64)
            .collect();
        for level in (1..rows.len()).rev() {
            rows[level - 1] += rows[level];
        }
        rows.truncate(rows.iter().rposition(|n| *n > 0).map_or(0, |top| top + 1));
        rows
    }

    /// Slots there is memory for.
    pub(crate) fn room(&self) -> usize {
        self.room.load(Ordering::Relaxed) as usize
    }

    pub(crate) fn arena_bytes(&self) -> u64 {
        let others = self.others().map(Arena::ram_bytes).sum::<usize>();
        let bytes = self.nodes.bytes() + self.upper.bytes() + self.map.arena().bytes() + others;
        (bytes + self.codes.as_ref().map_or(0, Codes::bytes)) as u64
    }

    /// The arenas, beside that of the nodes, that have a record for each slot.
    pub(crate) fn others(&self) -> impl Iterator<Item = &Arena> {
        let codes = self.codes.as_ref().map(|c| &c.arena);
        self.vectors.iter().chain(codes)
    }

    /// What [`Graph::arena_bytes`] is at most after `additional` more insertions.
    pub(crate) fn arena_bytes_after(&self, additional: usize) -> u64 {
        let fresh = additional.saturating_sub(self.removed());
        let wanted = (self.used() as usize).saturating_add(fresh).min(SLOTS_MAX);
        if wanted <= self.room() {
            return self.arena_bytes();
        }
        let room = self.nodes.capacity_for(wanted).max(self.nodes.capacity());
        let others = self.others().map(|a| a.ram_bytes_for(room)).sum::<usize>();
        let bytes = self.nodes.bytes_for(wanted)
            + self.upper.bytes_for(self.shape.upper_records(room))
            + self.map.arena().bytes_for(room)
            + others;
        (bytes + self.codes.as_ref().map_or(0, Codes::bytes)) as u64
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
}

// SAFETY: the raw pointers inside the arenas are owned by them; everything behind them that is shared is atomic or follows
// the rules at the top of this module.
unsafe impl Send for Graph {}
// SAFETY: as above.
unsafe impl Sync for Graph {}

//! How one row lies in memory.
//!
//! ```text
//! record of the node arena, a whole number of cache lines
//! | links of level 0: 2m x u32, padded | head: 64 bytes | vector: dim x f32, padded with zeros to 16 floats |
//!
//! record of the upper arena, one for each level above 0
//! | count u32 | next record u32 | links: m x u32 |
//! ```
//!
//! Head and vector are neighbours because a search looks at both of every row that it meets, and at the links of few.

use std::sync::atomic::{AtomicU32, AtomicU64};

use parking_lot::Mutex;

pub(crate) use crate::cells::{Links, NONE};

use crate::cells::{Chain, Linked, Tag};
use crate::kernel::LANES;

/// A row's place and its generation: bits 0 to 27 the slot, bits 28 to 30 how often the slot was given out, modulo 8.
///
/// A link is followed only if it equals the tag that stands in the slot's head. So a link to a row that was removed is dead at
/// once, wherever it stands, and stays dead when another row moves in. (After eight rows it may come to life
/// again as a link to a row that is far away: a wasted distance, not a wrong answer.)
pub(crate) type Link = u32;

/// Rows an index can hold at most, removed ones not yet reused included.
pub(crate) const SLOTS_MAX: usize = 1 << SLOT_BITS;
const SLOT_BITS: u32 = 28;
const GENERATIONS: u32 = 8;

/// Bit 31, never set in a link; the search marks expanded candidates with it.
pub(crate) const MARK: u32 = 1 << 31;

#[inline(always)]
pub(crate) fn slot_of(link: Link) -> u32 {
    link & (SLOTS_MAX as u32 - 1)
}

pub(crate) fn link_of(slot: u32, generation: u32) -> Link {
    slot | (generation % GENERATIONS) << SLOT_BITS
}

/// What is known of a row beside its vector and links.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Head {
    /// The slot's own link while it holds a row, else [`NONE`]. Set after the vector.
    pub(crate) tag: Tag,
    /// `Metric::scale` of the vector, as bits.
    pub(crate) scale: AtomicU32,
    pub(crate) row: AtomicU64,
    /// Links of level 0.
    pub(crate) count: AtomicU32,
    /// First record in the upper arena, that of level 1; or [`NONE`].
    upper: AtomicU32,
    pub(crate) level: AtomicU32,
    pub(crate) generation: AtomicU32,
    /// Next slot in the map's bucket, or in the queue of free slots.
    pub(crate) next: AtomicU32,
    /// Set once the row may serve as the entry point.
    pub(crate) linked: Linked,
    /// Epoch in which the slot was given up.
    pub(crate) retired: AtomicU64,
    /// Lists of level 0 that lead here. The last of them is not pruned away.
    pub(crate) incoming: AtomicU32,
    /// Guards writing the links of every level, and setting `tag` to [`NONE`].
    pub(crate) lock: Mutex<()>,
}

const _: () = assert!(size_of::<Head>() == 64);

impl Head {
    /// The head of a slot that was never used.
    pub(crate) fn unused() -> Self {
        Self {
            tag: Tag::none(),
            scale: AtomicU32::new(0),
            row: AtomicU64::new(0),
            count: AtomicU32::new(0),
            upper: AtomicU32::new(NONE),
            level: AtomicU32::new(0),
            generation: AtomicU32::new(0),
            next: AtomicU32::new(NONE),
            linked: Linked::none(),
            retired: AtomicU64::new(0),
            incoming: AtomicU32::new(0),
            lock: Mutex::new(()),
        }
    }

    /// Where the chain of upper records begins.
    #[inline(always)]
    pub(crate) fn upper(&self) -> Chain<'_> {
        Chain(&self.upper)
    }
}

/// Sizes that follow from dimension and `m`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) dim: usize,
    /// `dim` padded to whole vector registers.
    pub(crate) padded: usize,
    pub(crate) m: usize,
    /// Most links at level 0.
    pub(crate) m0: usize,
    /// Offset of the head in a node record.
    pub(crate) head: usize,
    /// Bytes of a node record.
    pub(crate) stride: usize,
    /// Bytes of an upper record.
    pub(crate) upper_stride: usize,
}

impl Shape {
    /// `inline` says that vectors lie in the node records.
    pub(crate) fn new(dim: usize, m: usize, inline: bool) -> Self {
        let padded = dim.next_multiple_of(LANES);
        let m0 = 2 * m;
        let head = (m0 * size_of::<u32>()).next_multiple_of(64);
        Self {
            dim,
            padded,
            m,
            m0,
            head,
            stride: head + size_of::<Head>() + if inline { padded * size_of::<f32>() } else { 0 },
            upper_stride: (2 + m) * size_of::<u32>(),
        }
    }

    /// Bytes of a vector.
    pub(crate) fn vector_bytes(&self) -> usize {
        self.padded * size_of::<f32>()
    }

    /// Upper records for so many slots: a quarter more than the expected number of levels above 0, which is 1 / (m - 1) a
    /// row. When they are used up, a row gets fewer levels; so the memory of a number of rows is known beforehand.
    pub(crate) fn upper_records(&self, slots: usize) -> usize {
        if slots == 0 {
            0
        } else {
            slots * 5 / (4 * (self.m - 1)) + 16
        }
    }
}

//! The cells that searches read while others write them, without a lock: the tag of a row, a list of links, the chain of its upper records,
//! the mark that it is linked, the entry point, how many slots there are, and where the regions of an arena lie.
//!
//! What orders these is here and nowhere else, so that its interleavings can be explored, and what weak memory may show
//! (`tests/schedules`).

use super::sync::{AtomicPtr, AtomicU32, Ordering};

/// The tag of a slot that holds no row, and the end of every list.
pub(crate) const NONE: u32 = u32::MAX;

/// Which row a slot holds: its link, or [`NONE`]. Whoever sees a link here sees all that was written of the row before it was set.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct Tag(AtomicU32);

impl Tag {
    /// The tag of a slot without a row.
    pub(crate) fn none() -> Self {
        Self(AtomicU32::new(NONE))
    }

    #[inline(always)]
    pub(crate) fn get(&self) -> u32 {
        self.0.load(Ordering::Acquire)
    }

    /// Shows the row of a slot, written before, to whoever has its link.
    pub(crate) fn set(&self, link: u32) {
        self.0.store(link, Ordering::Release);
    }
}

/// Where searches enter the graph: the link of a row, or [`NONE`]. Whoever sees a link here sees its row's tag, or what came after it.
#[derive(Debug)]
pub(crate) struct Entry(AtomicU32);

impl Entry {
    /// That of an empty graph.
    pub(crate) fn none() -> Self {
        Self(AtomicU32::new(NONE))
    }

    pub(crate) fn get(&self) -> u32 {
        self.0.load(Ordering::Acquire)
    }

    /// The caller holds the entry's lock.
    pub(crate) fn set(&self, link: u32) {
        self.0.store(link, Ordering::Release);
    }
}

/// Whether a row is linked, so that it may serve as the entry point. Whoever sees the mark sees the links that lead to the row, or what came after.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct Linked(AtomicU32);

impl Linked {
    /// That of a row which is not linked yet.
    pub(crate) fn none() -> Self {
        Self(AtomicU32::new(0))
    }

    pub(crate) fn get(&self) -> bool {
        self.0.load(Ordering::Acquire) == 1
    }

    pub(crate) fn set(&self) {
        self.0.store(1, Ordering::Release);
    }

    /// Of a row that goes, or is about to come. Nobody reads anything by a mark that is not there.
    pub(crate) fn clear(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// Where a row's chain of upper records goes on: the number of a record, or [`NONE`]. One stands in the row's head and one in each record.
/// Whoever sees a record here sees it empty, as it was when it was added, or what came after.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chain<'a>(pub(crate) &'a AtomicU32);

impl Chain<'_> {
    #[inline(always)]
    pub(crate) fn get(self) -> u32 {
        self.0.load(Ordering::Acquire)
    }

    /// Adds a record, emptied before.
    pub(crate) fn set(self, record: u32) {
        self.0.store(record, Ordering::Release);
    }

    /// Puts another record here, or the end, where no search can look any more; the former.
    pub(crate) fn replace(self, record: u32) -> u32 {
        self.0.swap(record, Ordering::Relaxed)
    }
}

/// How many slots may hold a row. Whoever sees a number here sees the memory of all slots below it, as it was when they were new or later.
#[derive(Debug)]
pub(crate) struct Used(AtomicU32);

impl Used {
    pub(crate) fn none() -> Self {
        Self(AtomicU32::new(0))
    }

    pub(crate) fn get(&self) -> u32 {
        self.0.load(Ordering::Acquire)
    }

    /// The caller holds the lock of the slots, and has made the memory.
    pub(crate) fn set(&self, slots: u32) {
        self.0.store(slots, Ordering::Release);
    }
}

/// Where a region of an arena lies; null while it has no memory. A reader has the number of what it looks for from a tag, a list, the entry
/// point or the count, written after this one, and that orders the two: so reading it costs no more than any load.
#[derive(Debug)]
pub(crate) struct Base<T>(AtomicPtr<T>);

impl<T> Base<T> {
    pub(crate) fn none() -> Self {
        Self(AtomicPtr::new(std::ptr::null_mut()))
    }

    #[inline(always)]
    pub(crate) fn get(&self) -> *mut T {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn set(&self, base: *mut T) {
        self.0.store(base, Ordering::Release);
    }
}

/// One list of links. Readers may see a list while it is rewritten: every value that they can meet is or was a link, and is
/// checked against the slot's tag before it is followed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Links<'a> {
    pub(crate) count: &'a AtomicU32,
    pub(crate) cells: &'a [AtomicU32],
}

impl<'a> Links<'a> {
    /// The links as of about now. Whoever sees a link sees its row's tag, and what is behind it.
    #[inline(always)]
    pub(crate) fn read(self) -> impl Iterator<Item = u32> + 'a {
        let count = self.count.load(Ordering::Acquire) as usize;
        self.cells[..count.min(self.cells.len())]
            .iter()
            .map(|c| c.load(Ordering::Acquire))
    }

    /// How many, for who holds the lock of the list's head.
    pub(crate) fn len(self) -> usize {
        self.count.load(Ordering::Relaxed) as usize
    }

    /// Adds a link at the end; `false` if the list is full. The caller holds the lock of its head.
    pub(crate) fn append(self, link: u32) -> bool {
        let count = self.count.load(Ordering::Relaxed);
        let Some(cell) = self.cells.get(count as usize) else {
            return false;
        };
        cell.store(link, Ordering::Release);
        self.count.store(count + 1, Ordering::Release);
        true
    }

    /// Rewrites the list. The caller holds the lock of its head.
    pub(crate) fn write(self, fresh: impl Iterator<Item = u32>) {
        let mut count = 0;
        for (cell, link) in self.cells.iter().zip(fresh) {
            cell.store(link, Ordering::Release);
            count += 1;
        }
        self.count.store(count, Ordering::Release);
    }
}

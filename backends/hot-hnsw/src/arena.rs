//! Fixed-size records in pages that never move.
//!
//! Records lie in pages of a power of two records; a directory holds one pointer a page. Pages are allocated in extents:
//! each is an eighth of what is there, at least one page and at most about [`EXTENT_BYTES`], so that a small index wastes
//! little and a large one grows in even steps. The ends of the extents are a fixed sequence, the same on every way there,
//! which is what makes [`Arena::bytes_for`] exact.
//!
//! # Threads
//!
//! [`Arena::at`] may run beside [`Arena::grow`]: pages do not move, and the directory is replaced by a longer copy while the
//! older copies stay until the arena is dropped (together they are shorter than the last). A caller may only ask for
//! a record whose number reached it through a synchronising read after the growth that made it. `grow` and `shrink` are
//! called under the slot lock; before `shrink` the caller has made sure that nobody can ask for what goes.

use std::alloc::{Layout, alloc, dealloc};
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use aether_core::{Error, Result};

/// Size that extents of a large arena approach: a huge page of x86-64 and aarch64.
const EXTENT_BYTES: usize = 2 << 20;
/// Size that a page approaches; small, so that an index of few rows is small.
const PAGE_BYTES: usize = 16 << 10;
/// Alignment of every page: a cache line, and the widest vector register.
const ALIGN: usize = 64;
/// Entries of the first directory.
const DIRECTORY_MIN: usize = 32;
/// Entries at the head of a directory that point to the former one.
const DIRECTORY_HEAD: usize = 1;

type Cell = AtomicPtr<u8>;

#[derive(Debug)]
pub(crate) struct Arena {
    stride: usize,
    shift: u32,
    extent_pages_max: usize,
    /// Entry 0 points to the former directory, entry `1 + p` to page `p`.
    directory: AtomicPtr<Cell>,
    directory_len: AtomicUsize,
    pages: AtomicUsize,
    /// Byte that fresh pages are filled with.
    fill: u8,
}

impl Arena {
    /// An arena without pages. `stride` is the size of a record in bytes, a multiple of 4.
    pub(crate) fn new(stride: usize, fill: u8) -> Self {
        let fit = (PAGE_BYTES / stride).max(1);
        let shift = fit.ilog2().min(8);
        // A page is a whole number of cache lines, whatever the stride.
        let shift = shift.max(if stride.is_multiple_of(ALIGN) { 0 } else { 4 });
        let page_bytes = stride << shift;
        Self {
            stride,
            shift,
            extent_pages_max: (EXTENT_BYTES / page_bytes).max(1),
            directory: AtomicPtr::default(),
            directory_len: AtomicUsize::new(0),
            pages: AtomicUsize::new(0),
            fill,
        }
    }

    /// The address of a record.
    #[inline(always)]
    pub(crate) fn at(&self, index: u32) -> *mut u8 {
        let directory = self.directory.load(Ordering::Acquire);
        let page = (index >> self.shift) as usize;
        debug_assert!(page < self.pages.load(Ordering::Relaxed));
        // SAFETY: the caller got `index` after the growth that made its page, so the directory it sees has
        // that entry, and the page is at least `(mask + 1) * stride` bytes long.
        unsafe {
            let page = (*directory.add(DIRECTORY_HEAD + page)).load(Ordering::Relaxed);
            page.add((index as usize & ((1 << self.shift) - 1)) * self.stride)
        }
    }

    /// Records there is room for.
    pub(crate) fn capacity(&self) -> usize {
        self.pages.load(Ordering::Relaxed) << self.shift
    }

    fn page_bytes(&self) -> usize {
        self.stride << self.shift
    }

    fn pages_for(&self, records: usize) -> usize {
        records.div_ceil(1 << self.shift)
    }

    /// Pages of the extent that begins at page `from`.
    fn extent_at(&self, from: usize) -> usize {
        (from / 8).clamp(1, self.extent_pages_max)
    }

    /// The first end of an extent, at or beyond `from` (itself such an end), that holds `pages`.
    fn end_for(&self, mut from: usize, pages: usize) -> usize {
        while from < pages && from / 8 < self.extent_pages_max {
            from += self.extent_at(from);
        }
        if from < pages {
            from += (pages - from).div_ceil(self.extent_pages_max) * self.extent_pages_max;
        }
        from
    }

    /// All directories up to one of `len` entries: each is twice the former.
    fn directory_bytes(len: usize) -> usize {
        let all = if len == 0 { 0 } else { 2 * len - DIRECTORY_MIN };
        all * size_of::<Cell>()
    }

    fn directory_len_for(&self, pages: usize) -> usize {
        let len = self.directory_len.load(Ordering::Relaxed);
        if pages == 0 {
            return len;
        }
        len.max(
            (pages + DIRECTORY_HEAD)
                .next_power_of_two()
                .max(DIRECTORY_MIN),
        )
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        self.pages.load(Ordering::Relaxed) * self.page_bytes()
            + Self::directory_bytes(self.directory_len.load(Ordering::Relaxed))
    }

    /// Bytes held after growing to `records`, exactly. O(log) in the size.
    pub(crate) fn bytes_for(&self, records: usize) -> usize {
        let pages = self.end_for(self.pages.load(Ordering::Relaxed), self.pages_for(records));
        pages * self.page_bytes() + Self::directory_bytes(self.directory_len_for(pages))
    }

    /// Makes room for `records`. Each new record is filled with the fill byte, then handed to `init`.
    pub(crate) fn grow(&self, records: usize, init: impl Fn(*mut u8)) -> Result<()> {
        let wanted = self.pages_for(records);
        while self.pages.load(Ordering::Relaxed) < wanted {
            let from = self.pages.load(Ordering::Relaxed);
            let pages = self.extent_at(from);
            self.grow_directory(from + pages)?;
            let layout = layout(pages * self.page_bytes())?;
            // SAFETY: the layout is not of size zero.
            let extent = unsafe { alloc(layout) };
            if extent.is_null() {
                return Err(out_of_memory(layout.size()));
            }
            // SAFETY: `extent` is `layout.size()` fresh bytes.
            unsafe { extent.write_bytes(self.fill, layout.size()) };
            for record in 0..pages << self.shift {
                // SAFETY: within the extent.
                init(unsafe { extent.add(record * self.stride) });
            }
            let directory = self.directory.load(Ordering::Relaxed);
            for page in 0..pages {
                // SAFETY: the directory was grown to hold these pages; each lies within the extent.
                unsafe {
                    (*directory.add(DIRECTORY_HEAD + from + page))
                        .store(extent.add(page * self.page_bytes()), Ordering::Relaxed);
                }
            }
            self.pages.store(from + pages, Ordering::Release);
        }
        Ok(())
    }

    fn grow_directory(&self, pages: usize) -> Result<()> {
        loop {
            let (len, wanted) = (
                self.directory_len.load(Ordering::Relaxed),
                self.directory_len_for(pages),
            );
            if wanted <= len {
                return Ok(());
            }
            // Step by doubling, so that all directories together are what `directory_bytes` says.
            let longer = if len == 0 { DIRECTORY_MIN } else { len * 2 };
            let layout = layout(longer * size_of::<Cell>())?;
            // SAFETY: the layout is not of size zero.
            let fresh = unsafe { alloc(layout) }.cast::<Cell>();
            if fresh.is_null() {
                return Err(out_of_memory(layout.size()));
            }
            let former = self.directory.load(Ordering::Relaxed);
            for entry in 0..longer {
                let pointer = match entry {
                    0 => former.cast(),
                    // SAFETY: the former directory has `len` entries.
                    e if e < len => unsafe { (*former.add(e)).load(Ordering::Relaxed) },
                    _ => std::ptr::null_mut(),
                };
                // SAFETY: the fresh directory has `longer` entries.
                unsafe { fresh.add(entry).write(Cell::new(pointer)) };
            }
            self.directory.store(fresh, Ordering::Release);
            self.directory_len.store(longer, Ordering::Relaxed);
        }
    }

    /// The smallest capacity at an end of an extent that still holds `records`.
    pub(crate) fn capacity_for(&self, records: usize) -> usize {
        self.end_for(0, self.pages_for(records)) << self.shift
    }

    /// Frees the extents beyond `records`.
    ///
    /// # Safety
    /// Nobody holds or can still ask for a record beyond `capacity_for(records)`.
    pub(crate) unsafe fn shrink(&self, records: usize) {
        let keep = self.end_for(0, self.pages_for(records));
        let (mut from, end) = (0, self.pages.load(Ordering::Relaxed));
        let directory = self.directory.load(Ordering::Relaxed);
        self.pages.store(keep.min(end), Ordering::Release);
        while from < end {
            let pages = self.extent_at(from);
            if from >= keep {
                // SAFETY: the page at the beginning of an extent is the pointer its allocation gave, with this very layout
                // (it was valid then); the caller says that nobody uses it.
                unsafe {
                    let extent = (*directory.add(DIRECTORY_HEAD + from)).load(Ordering::Relaxed);
                    let bytes = pages * self.page_bytes();
                    dealloc(
                        extent,
                        Layout::from_size_align_unchecked(bytes, align_of_extent(bytes)),
                    );
                }
            }
            from += pages;
        }
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: the arena is not shared any more.
        unsafe { self.shrink(0) };
        let mut directory = *self.directory.get_mut();
        let mut len = *self.directory_len.get_mut();
        while !directory.is_null() {
            let bytes = len * size_of::<Cell>();
            // SAFETY: entry 0 is the former directory, half as long; the layout is that of its allocation.
            unsafe {
                let former = (*directory).load(Ordering::Relaxed).cast::<Cell>();
                dealloc(
                    directory.cast(),
                    Layout::from_size_align_unchecked(bytes, align_of_extent(bytes)),
                );
                directory = former;
            }
            len /= 2;
        }
    }
}

/// Extents that are about a huge page long begin at one.
fn align_of_extent(bytes: usize) -> usize {
    if bytes > EXTENT_BYTES / 2 {
        4096
    } else {
        ALIGN
    }
}

fn layout(bytes: usize) -> Result<Layout> {
    Layout::from_size_align(bytes, align_of_extent(bytes)).map_err(|_| out_of_memory(bytes))
}

fn out_of_memory(bytes: usize) -> Error {
    Error::capacity(format!(
        "no memory: expected {bytes} bytes from the system, got none; lower the hot budget"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_stay_where_they_are_and_sizes_are_foretold() {
        for stride in [4, 72, 256, 3_328, 70_000 * 64] {
            let most = if stride > 100_000 { 20 } else { 3_000 };
            let arena = Arena::new(stride, 0xff);
            let mut first = std::ptr::null_mut();
            for n in 1..=most {
                let foretold = arena.bytes_for(n);
                arena.grow(n, |_| ()).unwrap();
                assert_eq!(arena.bytes(), foretold, "stride {stride}, {n} records");
                assert!(arena.capacity() >= n);
                assert_eq!(arena.capacity(), arena.capacity_for(n));
                let at = arena.at(u32::try_from(n - 1).unwrap());
                // SAFETY: a record of the arena.
                unsafe {
                    assert_eq!(at.read(), 0xff);
                    at.cast::<u32>().write(n as u32);
                }
                if n == 1 {
                    first = arena.at(0);
                }
            }
            assert_eq!(arena.at(0), first);
            for n in 1..=most {
                // SAFETY: a record of the arena.
                let read = unsafe { arena.at(n as u32 - 1).cast::<u32>().read() };
                assert_eq!(read, n as u32);
            }
            // SAFETY: this test alone uses the arena.
            unsafe { arena.shrink(most / 3) };
            assert_eq!(arena.capacity(), arena.capacity_for(most / 3));
            let foretold = arena.bytes_for(most);
            arena.grow(most, |_| ()).unwrap();
            assert_eq!(arena.bytes(), foretold);
        }
    }

    #[test]
    fn growth_wastes_an_eighth_at_most() {
        let arena = Arena::new(1_728, 0);
        for n in (200..200_000).step_by(997) {
            assert!(arena.bytes_for(n) as f64 <= 1_728.0 * 1.15 * n as f64 + 20_000.0);
        }
    }
}

//! An allocator that counts, for tests of what something takes in RAM.
//!
//! ```
//! use aether_testkit::alloc::{Counting, peak_of};
//!
//! #[global_allocator]
//! static ALLOCATOR: Counting = Counting;
//!
//! let (length, peak) = peak_of(|| vec![0u8; 1000].len());
//! assert_eq!((length, peak), (1000, 1000));
//! ```

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    /// Bytes that this thread holds, and the most it held since that was set. Each test runs in a thread of its own, so tests do not
    /// count one another; nor is what other threads hold counted.
    static HELD: Cell<i64> = const { Cell::new(0) };
    static PEAK: Cell<i64> = const { Cell::new(0) };
    /// How often this thread took memory or asked for more.
    static TAKEN: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, counting by thread.
#[derive(Clone, Copy, Debug)]
pub struct Counting;

/// Bytes that this thread holds; below zero when it frees what others took.
pub fn held() -> i64 {
    HELD.with(Cell::get)
}

/// Does something; what it gave, and how many bytes more than before this thread held at most.
pub fn peak_of<T>(work: impl FnOnce() -> T) -> (T, i64) {
    let before = held();
    PEAK.with(|peak| peak.set(before));
    let done = work();
    (done, PEAK.with(Cell::get) - before)
}

/// Does something; what it gave, and how often this thread took memory for it or asked for more.
pub fn takings_of<T>(work: impl FnOnce() -> T) -> (T, u64) {
    let before = TAKEN.with(Cell::get);
    let done = work();
    (done, TAKEN.with(Cell::get) - before)
}

fn note_taking() {
    TAKEN
        .try_with(|taken| taken.set(taken.get() + 1))
        .unwrap_or_default();
}

fn count(bytes: i64) {
    let counted = HELD.try_with(|held| {
        held.set(held.get() + bytes);
        held.get()
    });
    // A thread that ends frees after its cells are gone; those bytes are nobody's question.
    if let Ok(held) = counted {
        PEAK.try_with(|peak| peak.set(peak.get().max(held)))
            .unwrap_or_default();
    }
}

// SAFETY: every call goes on to the system's allocator unchanged; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note_taking();
        count(layout.size() as i64);
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        // SAFETY: the caller's promise, passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note_taking();
        count(size as i64 - layout.size() as i64);
        // SAFETY: the caller's promise, passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

//! What the whole process holds, counted at the allocator: every thread counts, so such a test stands alone in its program.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

/// Bytes that the process holds.
pub(crate) static HELD: AtomicI64 = AtomicI64::new(0);
/// The most it held since this was set.
pub(crate) static PEAK: AtomicI64 = AtomicI64::new(0);

/// The system's allocator, counting.
pub(crate) struct Counting;

fn count(bytes: i64) {
    let held = HELD.fetch_add(bytes, Relaxed) + bytes;
    if bytes > 0 {
        PEAK.fetch_max(held, Relaxed);
    }
}

// SAFETY: every call goes on to the system's allocator unchanged; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
    }

    // As the system does it: a large zeroed block costs no page until it is written.
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        // SAFETY: the caller's promise, passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

//! What `epoch` and `cells` are built from, named in one place so that its interleavings can be explored with others (`tests/schedules`).

use std::sync::atomic::AtomicUsize as Counter;

pub(super) use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
pub(super) use std::thread::yield_now;

/// Readers that have a cell of their own; more are only counted, and hold up all reuse while they run.
pub(super) const CELLS: usize = 32;

/// A small number for each thread, so that threads mostly keep to cells of their own.
pub(super) fn thread_number() -> usize {
    static NEXT: Counter = Counter::new(0);
    thread_local! {
        static NUMBER: usize = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    NUMBER.with(|n| *n)
}

//! What `stage` and `growth` are built from, named in one place so that its interleavings can be explored with others (`tests/schedules`).

pub(super) use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

pub(super) use parking_lot::{Mutex, MutexGuard};

/// Locks that keep a move and a removal of one row apart.
pub(super) const STRIPES: usize = 64;

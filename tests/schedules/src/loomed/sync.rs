//! Loom's primitives under the names that `epoch` and `cells` ask for.

pub(crate) use loom::sync::atomic::{
    AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};
pub(crate) use loom::thread::yield_now;

/// As few as show every case: each is a place where a schedule may turn.
pub(crate) const CELLS: usize = 2;

/// Always the same: which cell a thread tries first must not differ from run to run.
pub(crate) fn thread_number() -> usize {
    0
}

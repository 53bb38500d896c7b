//! Loom's primitives under the names, and with the manners, of those that the sources ask for.

use std::cell::Cell;

pub(crate) use loom::sync::MutexGuard;
pub(crate) use loom::sync::atomic::{
    AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};
pub(crate) use loom::thread::yield_now;

/// As few as show every case: each is a place where a schedule may turn.
pub(crate) const CELLS: usize = 2;

/// As few as keep two rows apart.
pub(crate) const STRIPES: usize = 2;

/// Always the same: which cell a thread tries first must not differ from run to run.
pub(crate) fn thread_number() -> usize {
    0
}

/// A mutex that is never poisoned, as `parking_lot`'s.
#[derive(Debug)]
pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

impl<T: Default> Default for Mutex<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(loom::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        match self.0.lock() {
            Ok(guard) => guard,
            Err(_) => panic!("a thread panicked while it held a lock"),
        }
    }

    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.0.try_lock().ok()
    }
}

/// Orderings that a planted mistake takes from the sources; each then is relaxed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weakened {
    /// None.
    Nothing,
    /// Of loads.
    Loads,
    /// Of stores, and of what is subtracted.
    Stores,
    /// Of loads and stores of any value but this one.
    AllBut(u8),
}

thread_local! {
    static WEAKENED: Cell<Weakened> = const { Cell::new(Weakened::Nothing) };
}

/// Weakens [`AtomicU8`] and [`Counter`] in the execution that begins, and in those after it until it is called again.
pub(crate) fn weaken(what: Weakened) {
    WEAKENED.set(what);
}

/// A byte that may be weakened.
#[derive(Debug)]
pub(crate) struct AtomicU8(loom::sync::atomic::AtomicU8);

impl AtomicU8 {
    pub(crate) fn new(value: u8) -> Self {
        Self(loom::sync::atomic::AtomicU8::new(value))
    }

    pub(crate) fn load(&self, ordering: Ordering) -> u8 {
        match WEAKENED.get() {
            Weakened::Nothing | Weakened::Stores => self.0.load(ordering),
            Weakened::Loads => self.0.load(Ordering::Relaxed),
            Weakened::AllBut(strong) => {
                let value = self.0.load(Ordering::Relaxed);
                if value == strong {
                    fence(ordering);
                }
                value
            }
        }
    }

    pub(crate) fn store(&self, value: u8, ordering: Ordering) {
        let weak = match WEAKENED.get() {
            Weakened::Nothing | Weakened::Loads => false,
            Weakened::Stores => true,
            Weakened::AllBut(strong) => value != strong,
        };
        let ordering = if weak { Ordering::Relaxed } else { ordering };
        self.0.store(value, ordering);
    }
}

/// A number that may be weakened.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn load(&self, ordering: Ordering) -> u64 {
        let weak = WEAKENED.get() == Weakened::Loads;
        self.0.load(if weak { Ordering::Relaxed } else { ordering })
    }

    pub(crate) fn fetch_add(&self, value: u64, ordering: Ordering) -> u64 {
        self.0.fetch_add(value, ordering)
    }

    pub(crate) fn fetch_sub(&self, value: u64, ordering: Ordering) -> u64 {
        let weak = WEAKENED.get() == Weakened::Stores;
        let ordering = if weak { Ordering::Relaxed } else { ordering };
        self.0.fetch_sub(value, ordering)
    }
}

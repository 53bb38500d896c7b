//! What `readers`, `admission` and `timeline` are built from, named in one place so that their interleavings can be explored with others
//! (`tests/schedules`).

pub(super) use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

pub(super) use parking_lot::Mutex;
pub(super) use tokio::sync::{Semaphore, SemaphorePermit};
pub(super) use tokio::time::{Instant, timeout_at};

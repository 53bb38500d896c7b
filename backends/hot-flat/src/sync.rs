//! What `held` is built from, named in one place so that its interleavings can be explored with others (`tests/schedules`).

pub(super) use std::sync::atomic::{AtomicU64 as Counter, Ordering};

//! What `open_files` is built from, named in one place so that its interleavings can be explored with others (`tests/schedules`).

pub(super) use parking_lot::Mutex;

//! The concurrent parts of Aether under schedulers that choose every interleaving.
//!
//! The very sources of the parts are compiled here a second time, with the primitives of [shuttle](https://docs.rs/shuttle) or
//! [loom](https://docs.rs/loom) in place of their own: each of them takes its locks and atomics from a module `sync` beside it, and this crate
//! has another module of that name. Shuttle draws schedules at random, one step at a time, of sequentially consistent memory; loom goes
//! through all of them up to a bound, and through what weak memory may show.
//!
//! What is not here: the engine as a whole. It lives on tokio's tasks, timers and blocking threads, for which there is no such second
//! version; the order of its effects is explored by the testkit's `sim`, and its threads run for real in `core/tests/concurrent.rs`.
#![allow(
    clippy::duplicate_mod,
    reason = "one source with two sets of primitives is the point"
)]

// As a library's test this crate is empty: the unit tests of the sources run where they belong.
#[cfg(not(test))]
pub mod scenario;

/// With shuttle's primitives.
#[cfg(not(test))]
mod shuttled {
    #[path = "../../../../core/src/engine/admission.rs"]
    #[allow(dead_code, reason = "only a part of it is driven")]
    pub(crate) mod admission;
    #[path = "../../../../backends/hot-hnsw/src/epoch.rs"]
    pub(crate) mod epoch;
    #[path = "../../../../backends/cold-file/src/open_files.rs"]
    #[allow(dead_code, reason = "only a part of it is driven")]
    pub(crate) mod open_files;
    #[path = "../../../../core/src/engine/readers.rs"]
    #[allow(dead_code, reason = "only a part of it is driven")]
    pub(crate) mod readers;
    pub(crate) mod sync;
    #[path = "../../../../core/src/engine/timeline.rs"]
    #[allow(dead_code, reason = "only a part of it is driven")]
    pub(crate) mod timeline;

    /// What `readers` carries and never looks into.
    pub(crate) mod cold {
        /// A segment of the cold tier.
        #[derive(Debug)]
        pub(crate) struct Segment;
    }
}

/// With loom's primitives.
#[cfg(not(test))]
mod loomed {
    #[path = "../../../../backends/hot-hnsw/src/cells.rs"]
    #[allow(dead_code, reason = "only a part of it is driven")]
    pub(crate) mod cells;
    #[path = "../../../../backends/hot-hnsw/src/epoch.rs"]
    #[allow(dead_code, reason = "only a part of it is driven")]
    pub(crate) mod epoch;
    #[path = "../../../../backends/hot-auto/src/growth.rs"]
    #[allow(dead_code, reason = "only a part of it is driven")]
    pub(crate) mod growth;
    #[path = "../../../../backends/hot-flat/src/held.rs"]
    #[allow(dead_code, reason = "only a part of it is driven")]
    pub(crate) mod held;
    #[path = "../../../../backends/hot-auto/src/stage.rs"]
    pub(crate) mod stage;
    pub(crate) mod sync;
}

#[cfg(not(test))]
mod clock {
    pub(crate) use aether_core::clock::{Clock, Time};
}

#[cfg(not(test))]
mod error {
    pub(crate) use aether_core::{Error, Result};
}

#[cfg(not(test))]
mod files {
    pub(crate) use aether_cold_file::files::Handle;
}

#[cfg(not(test))]
mod id {
    pub(crate) use aether_core::{Row, SegmentId};
}

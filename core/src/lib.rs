//! Contracts and engine of Aether, a plug-in based tiered vector memory.
//!
//! Start with [`role`] for the five contracts, [`plugin`] for how an implementation announces itself, and
//! [`config`] for how a TOML file picks among them.

pub mod clock;
pub mod codec;
pub mod config;
pub mod engine;
pub mod error;
pub mod flux;
pub mod id;
pub mod layer;
pub mod migrate;
mod partition;
pub mod plugin;
pub mod registry;
pub mod role;
pub mod seal;
mod segment;
pub mod shuffle;
pub mod vector;
pub mod watermark;
mod wire;

/// Tests of decoders count what they hold.
#[cfg(test)]
#[global_allocator]
static ALLOCATOR: aether_testkit::alloc::Counting = aether_testkit::alloc::Counting;

pub use clock::{Clock, ManualClock, SystemClock, Time};
pub use config::Config;
pub use engine::{BlockingMemory, Memory, MemoryBuilder, Point, SearchRequest};
pub use error::{Error, ErrorKind, Result, Retry};
pub use id::{BlobKey, PointId, Row, SegmentId};
pub use plugin::{BuildContext, Factory, OptionSpec, Plugin, Role};
pub use registry::Registry;
pub use vector::Metric;

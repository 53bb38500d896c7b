//! The memory itself: one handle over hot index, cold store, metadata store, codec and policy.
//!
//! Where to look: [`types`](self) what goes in and out, `commit` how writes become durable, `query` how a search travels, `cold_search` and
//! `cold_scan` what it does in the cold tier, `probing` how far it goes there, `parts` how vectors and payloads are read, `driver` how rows
//! move, `pack` how they come into a segment, `partitions` which ones there are, `turn` what a tick does, `compaction` and `garbage` how the
//! cold tier stays in order, `builder` how a memory opens and recovers, `working` how much RAM any of that may take.

mod admission;
mod aim;
mod blocking;
mod builder;
mod check;
mod cold;
mod cold_scan;
mod cold_search;
mod commit;
mod compaction;
mod compare;
#[doc(hidden)]
pub mod decoders;
mod demotion;
mod desk;
mod directory;
mod driver;
mod estimate;
mod estimating;
mod explain;
mod explained;
mod folders;
mod garbage;
mod inner;
mod lock;
mod lost;
mod memory;
mod moves;
mod offload;
mod outlook;
mod owner;
mod pack;
mod partitions;
mod parts;
mod probing;
mod query;
mod readers;
mod record;
mod recorder;
mod remote;
mod restore;
mod shadow;
mod snapshot;
mod stats;
mod sync;
mod timeline;
mod turn;
mod types;
mod working;

pub use crate::flux::Sizing;
pub use blocking::BlockingMemory;
pub use builder::MemoryBuilder;
pub use check::{CheckReport, Problem, check};
pub use explained::{Explained, Move, Mover};
pub use memory::Memory;
#[doc(hidden)]
pub use offload::{compute_in_place, compute_in_turn};
pub use outlook::Outlook;
pub use recorder::{Recorded, Recording};
pub use remote::RemoteStats;
pub use shadow::ShadowStats;
pub use snapshot::SnapshotReport;
pub use stats::{Counted, RestoreFailure, Stats};
pub use types::{
    Answer, Changed, Changes, Compacted, Coverage, Cut, Hit, Parts, Point, Record, RowPredicate,
    SearchRequest, TickReport, Ttl, Written,
};

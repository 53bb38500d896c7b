//! The laboratory: traces, and the replay of policies on them through the very trait that a memory's engine uses.
//!
//! A replay keeps no books of its own but one bit a key: what is hot. Every request is an access. A hit is `Accessed`; a miss is
//! `Missed`, and unless the object is larger than the cache the policy is asked to admit it. While it does not fit, the policy's first
//! victim leaves; a candidate that the policy is not certain of enters only over victims that it values less. Nothing is charged for
//! metadata and cold misses count. These are the rules of libCacheSim, so that its miss ratios can be met digit by digit.

mod heap;
mod limits;
mod plan;
mod reader;
mod reference;
mod run;
mod semantic;
mod trace;

pub use limits::{BELADY, BELADY_SIZE};
pub use plan::{CacheSize, Cell, Choice, Plan};
pub use reader::{IMPORTANCE_MAX, Request, TraceFormat, TraceReader};
pub use reference::{Published, Reference};
pub use run::Tally;
pub use semantic::Topics;
pub use trace::{Trace, TraceOptions};

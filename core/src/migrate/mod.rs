//! How a row changes its home or its tier, as a machine without clock, thread, store or randomness.
//!
//! [`Machine::step`] takes what happened and says what to do next; a driver does it and reports back. The engine's driver
//! talks to real stores; the testkit's runs every interleaving and stops at every effect.
//!
//! Invariants, which the testkit checks at every point:
//! 1. A blob is put only under a durable intent that names it.
//! 2. [`Effect::CommitMove`] is the one commit point: before it recovery rolls back, after it nothing is left to do on disk.
//! 3. Rows leave RAM only after the partition index has them, and it gains them only after the commit point.
//! 4. An input of a compaction leaves the manifest in the batch that names its successor and notes its blob as garbage; the blob goes
//!    only when no search reads it any more.
//! 5. What may have happened (a put or commit whose reply was lost) is looked up, never undone.

mod event;
mod machine;
mod recovery;

pub use event::{Effect, Event, Failure, Kind, Outcome};
pub use machine::Machine;
pub use recovery::{Intent, IntentKind, Repair, plan as plan_recovery};

#[cfg(test)]
mod tests;

//! What can happen to a migration, and what it can ask for.

use crate::id::{BlobKey, SegmentId};

/// What is migrated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Hot rows whose home is the metadata store go into a new segment and leave RAM.
    Demote,
    /// Hot rows whose home already is a segment leave RAM; nothing is written but their residency.
    Release,
    /// New rows that found no room in RAM are written straight into a segment; the user's own batch is the commit.
    Write,
    /// Cold rows enter RAM; their segment stays their home.
    Promote,
    /// Live rows of some segments go into a new one, and the segments that hold no others end. Rows change neither tier nor number.
    Compact,
}

/// What a driver does. At most one effect of a machine is under way at a time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Durably commit an intent that names segment and blob.
    CommitIntent(SegmentId, BlobKey),
    /// Put the blob.
    PutBlob(BlobKey),
    /// Ask the store whether the blob is there, whole.
    LookBlob(BlobKey),
    /// In one atomic batch: the rows' new home, the manifest entry, rows that died meanwhile marked dead, the intent gone. For a
    /// compaction also the end of its inputs: their manifest entries gone, a note of garbage for each of their blobs.
    CommitMove,
    /// Show the segment to searches; for a compaction, in place of its inputs.
    IndexCold,
    /// Let the inputs' blobs be swept, once no search that began before reads them.
    RetireInputs,
    /// Take the rows out of RAM, once no search that began before needs them there.
    DropHot,
    /// Read the rows from their segments and put them into the hot index, not yet counted as resident.
    InsertHot,
    /// Durably commit which rows are resident.
    CommitResidency,
    /// Count the rows as resident, so that answers come from RAM.
    ShowHot,
    /// Take out what `InsertHot` put in.
    UndoHot,
    /// Commit that the intent is over and its blob, which may or may not exist, is to be swept later.
    CommitGarbage(SegmentId, BlobKey),
    /// The machine has ended.
    Finish(Outcome),
}

/// How an effect failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Failure {
    /// Surely nothing happened.
    Nothing,
    /// It may have happened.
    Unknown,
    /// This process may not write any more: fenced, poisoned or closed.
    Final,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// Begin.
    Begin,
    /// The effect under way succeeded.
    Done,
    /// The effect under way failed.
    Failed(Failure),
    /// The blob asked for is there, whole.
    Present,
    /// The blob asked for is not there, or could not be asked for.
    Absent,
}

/// How a machine ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// All is done.
    Completed,
    /// Nothing moved; what may be left of a blob is noted for the sweep.
    RolledBack,
    /// What is on disk is unknown or not ours to change: nothing was undone, the next open resolves it.
    Abandoned,
}

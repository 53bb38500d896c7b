//! What an open has to put right, as a pure function.

use std::collections::BTreeSet;

use crate::id::{BlobKey, SegmentId};

/// Why an intent is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IntentKind {
    /// A blob was about to be put, and was not committed.
    Started,
    /// A blob may exist that nothing needs.
    Garbage,
}

/// A durable note of a migration in flight.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Intent {
    /// Its number in the table.
    pub number: u64,
    /// Why it is there.
    pub kind: IntentKind,
    /// The segment that was to be.
    pub segment: SegmentId,
    /// Its blob.
    pub blob: BlobKey,
}

/// One thing to do, in the order given.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Repair {
    /// Delete a blob that nothing needs.
    DeleteBlob(BlobKey),
    /// Then delete the intent that named it.
    DeleteIntent(u64),
    /// The manifest names a blob that the store does not have: rows are lost. Report it, change nothing.
    Missing(SegmentId, BlobKey),
}

/// Compares what was intended with what is there.
///
/// - `manifest`: every committed segment and its blob.
/// - `present`: every blob that the store lists.
///
/// A started intent never has a manifest entry (one batch makes the entry and removes the intent), so each is rolled back:
/// blob first, then intent, so that a crash in between repeats harmlessly. A listed blob that neither manifest nor intent names is
/// an orphan of a store that lists late, and goes too. A blob of the manifest that a listing lacks may only be listed late, so the
/// caller asks for it by name before it believes [`Repair::Missing`].
pub fn plan(
    intents: &[Intent],
    manifest: &[(SegmentId, BlobKey)],
    present: &[BlobKey],
) -> Vec<Repair> {
    let named: BTreeSet<&BlobKey> = manifest.iter().map(|(_, blob)| blob).collect();
    let present: BTreeSet<&BlobKey> = present.iter().collect();
    let mut repairs = Vec::new();
    let mut doomed = BTreeSet::new();
    for intent in intents {
        if !named.contains(&intent.blob) {
            doomed.insert(&intent.blob);
            repairs.push(Repair::DeleteBlob(intent.blob.clone()));
        }
        repairs.push(Repair::DeleteIntent(intent.number));
    }
    for blob in &present {
        if !named.contains(*blob) && !doomed.contains(*blob) {
            repairs.push(Repair::DeleteBlob((*blob).clone()));
        }
    }
    for (segment, blob) in manifest {
        if !present.contains(blob) {
            repairs.push(Repair::Missing(*segment, blob.clone()));
        }
    }
    repairs
}

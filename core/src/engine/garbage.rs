//! Blobs that nothing needs any more: noted durably, swept while the memory runs.
//!
//! A note is there from the commit that made a blob needless, or from a put whose outcome is unknown, until the blob is gone. A blob
//! goes when no search that began before can still read it, and when the grace is over in which a lost put might still arrive.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use futures::StreamExt;

use super::inner::Inner;
use super::record::dead_key;
use crate::clock::Time;
use crate::error::Result;
use crate::id::{BlobKey, SegmentId};
use crate::role::{Batch, KeyRange, Table};

/// Blobs swept in one turn.
const SWEPT_PER_TURN: usize = 16;
/// Deletions under way at once.
const DELETED_AT_ONCE: usize = 16;
/// Marks of dead rows deleted in one commit.
const MARKS_PER_COMMIT: usize = 8_192;

/// The notes of garbage that are durable.
#[derive(Debug, Default)]
pub(crate) struct Garbage {
    notes: BTreeMap<u64, Note>,
}

#[derive(Clone, Debug)]
struct Note {
    since: Time,
    segment: SegmentId,
    blob: BlobKey,
    /// A search may still read the blob.
    held: bool,
    /// Marks of dead rows may be left of the segment.
    marked: bool,
}

impl Garbage {
    /// Remembers a note by its number among the intents.
    pub(crate) fn note(
        &mut self,
        number: u64,
        since: Time,
        segment: SegmentId,
        blob: BlobKey,
        held: bool,
    ) {
        let note = Note {
            since,
            segment,
            blob,
            held,
            marked: true,
        };
        self.notes.insert(number, note);
    }

    /// No search reads these blobs any more.
    pub(crate) fn release(&mut self, numbers: &[u64]) {
        for number in numbers {
            if let Some(note) = self.notes.get_mut(number) {
                note.held = false;
            }
        }
    }

    /// Blobs that wait.
    pub(crate) fn len(&self) -> usize {
        self.notes.len()
    }

    fn marked(&self) -> Vec<(u64, SegmentId)> {
        let marked = self.notes.iter().filter(|(_, n)| n.marked);
        marked.map(|(number, n)| (*number, n.segment)).collect()
    }

    fn due(&self, now: Time, grace: Duration) -> Vec<(u64, BlobKey)> {
        let due = |n: &Note| !n.held && !n.marked && now.since(n.since) >= grace;
        let due = self.notes.iter().filter(|(_, n)| due(n));
        due.map(|(number, n)| (*number, n.blob.clone()))
            .take(SWEPT_PER_TURN)
            .collect()
    }
}

impl Inner {
    /// Sweeps what is due; answers how many blobs went. Called with the compaction's lock, so that a snapshot is not robbed.
    pub(super) async fn sweep(self: &Arc<Self>) -> Result<usize> {
        let marked = self.garbage.lock().marked();
        for (number, segment) in marked {
            self.clear_marks(segment).await?;
            if let Some(note) = self.garbage.lock().notes.get_mut(&number) {
                note.marked = false;
            }
        }
        let grace = self.config.compaction.grace.0;
        let due = self.garbage.lock().due(self.now(), grace);
        if due.is_empty() {
            return Ok(0);
        }
        let (numbers, blobs): (Vec<u64>, Vec<BlobKey>) = due.into_iter().unzip();
        let (mut swept, mut failed) = (Vec::new(), None);
        for (number, deleted) in numbers.into_iter().zip(self.delete_blobs(blobs).await) {
            match deleted {
                Ok(()) => swept.push(number),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        if !swept.is_empty() {
            let writer = self.writer.lock().await;
            let mut batch = Batch::new(writer.epoch);
            for number in &swept {
                batch.delete(Table::Intents, number.to_be_bytes().to_vec());
            }
            self.commit_durably(&writer, batch).await?;
            drop(writer);
            let mut garbage = self.garbage.lock();
            swept.iter().for_each(|n| drop(garbage.notes.remove(n)));
            self.counts
                .blobs_swept
                .fetch_add(swept.len() as u64, Relaxed);
            metrics::gauge!("aether_garbage_blobs").set(garbage.len() as f64);
        }
        failed.map_or(Ok(swept.len()), Err)
    }

    /// Deletes blobs, some at once, since a remote store takes a tenth of a second for each; answers in their order what became of them.
    pub(super) async fn delete_blobs(&self, blobs: Vec<BlobKey>) -> Vec<Result<()>> {
        let store = self.blocks.store();
        let delete = |blob: BlobKey| async move {
            let deleted = store.delete(&blob).await;
            deleted.map_err(|error| error.with("blob", blob))
        };
        // Gathered first: a future that holds an iterator which lends to a closure cannot be spawned.
        let deletes: Vec<_> = blobs.into_iter().map(delete).collect();
        let deletes = futures::stream::iter(deletes).buffered(DELETED_AT_ONCE);
        deletes.collect().await
    }

    /// Deletes the marks of dead rows of a segment that has left the manifest.
    pub(super) async fn clear_marks(&self, segment: SegmentId) -> Result<()> {
        let range = KeyRange {
            start: std::ops::Bound::Included(dead_key(segment, 0)),
            end: std::ops::Bound::Included(dead_key(segment, u32::MAX)),
        };
        loop {
            let page = self
                .meta
                .scan(Table::Dead, range.clone(), MARKS_PER_COMMIT)
                .await?;
            if page.is_empty() {
                return Ok(());
            }
            let writer = self.writer.lock().await;
            let mut batch = Batch::new(writer.epoch);
            page.into_iter()
                .for_each(|(key, _)| batch.delete(Table::Dead, key));
            self.commit_durably(&writer, batch).await?;
        }
    }
}

//! Segments that cannot be opened, since their blob is missing or damaged: the memory goes on without them, and says so.
//!
//! Every search of the cold tier is marked with the blob's name, a read of a row that lies there is a typed error with the same words, and
//! nothing that belongs to the segment is forgotten. Now and then the blob is asked for again: when it is back, so are its rows. A segment
//! whose every row has been deleted meanwhile is struck from the manifest.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;

use super::builder::Pages;
use super::cold::{ColdView, Segment};
use super::inner::Inner;
use super::record::{Manifest, decode_dead_key, encode_intent};
use super::types::Cut;
use crate::error::{Error, Result};
use crate::id::SegmentId;
use crate::migrate::IntentKind;
use crate::partition::Partitions;
use crate::role::{Batch, KeyRange, Table};
use crate::segment::Centroids;

/// Time between two looks for blobs.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(30);
/// Blobs that are still lost end a look: each costs a request.
pub(super) const STILL_LOST: usize = 8;
/// Lost segments that an answer names.
const NAMED: usize = 16;

/// A segment of the manifest that is not searched.
#[derive(Debug)]
pub(crate) struct Lost {
    pub(crate) id: SegmentId,
    pub(crate) manifest: Manifest,
    /// What was said of it.
    pub(crate) error: String,
    dead: RwLock<BTreeSet<u32>>,
}

impl Lost {
    pub(super) fn new(id: SegmentId, manifest: Manifest, error: &Error) -> Self {
        tracing::error!(segment = %id, blob = %manifest.blob, rows = manifest.rows, %error,
            "a segment cannot be opened: its rows are not found until its blob is back");
        Self {
            id,
            manifest,
            error: error.to_string(),
            dead: RwLock::default(),
        }
    }

    /// Marks a row as deleted.
    pub(crate) fn mark_dead(&self, ordinal: u32) {
        self.dead.write().insert(ordinal);
    }

    /// Rows that would be found if it could be opened.
    pub(crate) fn live(&self) -> u64 {
        u64::from(self.manifest.rows).saturating_sub(self.dead.read().len() as u64)
    }

    /// The error of a read of one of its rows.
    pub(crate) fn refusal(&self) -> Error {
        Error::corrupt(self.error.clone())
    }
}

impl ColdView {
    /// What a search of the cold tier could not look at, whatever it looks at; the first [`NAMED`] of it.
    pub(crate) fn lost_cuts(&self) -> Vec<Cut> {
        let lost = self.lost.values().filter(|l| l.live() > 0);
        let cut = |l: &Arc<Lost>| Cut::Unreachable {
            segment: l.id.0,
            error: l.error.clone(),
        };
        lost.take(NAMED).map(cut).collect()
    }

    /// Rows that live in segments that cannot be opened.
    pub(crate) fn lost_rows(&self) -> u64 {
        self.lost.values().map(|l| l.live()).sum()
    }
}

impl Inner {
    /// Reads a segment's footer.
    ///
    /// # Errors
    /// `Corrupt` when the blob is missing or damaged, both with its name. As the store otherwise.
    pub(super) async fn open_segment(
        &self,
        id: SegmentId,
        manifest: &Manifest,
        index: &Partitions,
    ) -> Result<Segment> {
        let segment = self.blocks.footer(id, manifest).await?;
        let mut named = segment.directory.blocks.iter().map(|b| b.partition);
        if let Some(unknown) = named.find(|p| index.centroid(*p).is_none()) {
            return Err(Error::corrupt(format!(
                "segment footer: partition {unknown} has no centroid"
            ))
            .with("segment", id)
            .with("blob", &manifest.blob));
        }
        Ok(segment)
    }

    /// Looks again for the blobs of segments that could not be opened, in turn after the one that was `last`, until so many are still lost;
    /// ends segments of which no row is left. Called with the compaction's lock, so that no partition is forgotten and no snapshot is taken
    /// meanwhile.
    pub(super) async fn tend_lost(
        &self,
        last: &mut Option<SegmentId>,
        still_lost: usize,
    ) -> Result<()> {
        let view = self.view();
        let (before, after): (Vec<_>, Vec<_>) =
            (view.lost.values()).partition(|l| last.is_some_and(|last| l.id <= last));
        let mut misses = 0;
        for lost in after.into_iter().chain(before) {
            *last = Some(lost.id);
            if lost.live() == 0 {
                self.end_lost(lost).await?;
                continue;
            }
            match self
                .open_segment(lost.id, &lost.manifest, &view.index)
                .await
            {
                Ok(segment) => self.take_back(segment).await?,
                Err(error) => {
                    tracing::debug!(segment = %lost.id, %error, "still lost");
                    misses += 1;
                    if misses >= still_lost {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// Shows a segment whose blob is back.
    async fn take_back(&self, segment: Segment) -> Result<()> {
        // With the writer's lock: every row deleted so far has its mark in the store, and nobody deletes another one meanwhile.
        let _writer = self.writer.lock().await;
        let mut marks = Pages::within(
            &*self.meta,
            Table::Dead,
            KeyRange::prefix(&segment.id.key()),
        );
        while let Some(page) = marks.next().await? {
            for (key, _) in page {
                segment.mark_dead(decode_dead_key(&key)?.1);
            }
        }
        tracing::info!(segment = %segment.id, rows = segment.live(), "a lost segment is back");
        let mut cold = self.cold.write();
        let next = cold.without_lost(segment.id);
        *cold = Arc::new(next.with_segment(Arc::new(segment)));
        Ok(())
    }

    /// Strikes a segment without live rows from the manifest; what there may be of its blob is swept.
    async fn end_lost(&self, lost: &Lost) -> Result<()> {
        let now = self.now();
        let blob = &lost.manifest.blob;
        let mut writer = self.writer.lock().await;
        let number = writer.counters.next_intent;
        writer.counters.next_intent += 1;
        let mut batch = Batch::new(writer.epoch);
        let note = encode_intent(IntentKind::Garbage, lost.id, now.0, blob);
        batch.put(Table::Intents, number.to_be_bytes().to_vec(), note);
        batch.delete(Table::Segments, lost.id.key().to_vec());
        self.commit_durably(&writer, batch).await?;
        let mut garbage = self.garbage.lock();
        garbage.note(number, now, lost.id, blob.clone(), false);
        drop(garbage);
        let mut cold = self.cold.write();
        *cold = Arc::new(cold.without_lost(lost.id));
        tracing::info!(segment = %lost.id, "a lost segment has no live rows and was given up");
        Ok(())
    }
}

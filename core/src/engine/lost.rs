//! Segments that cannot be opened, since their blob is missing or damaged: the memory goes on without them, and says so.
//!
//! Every search of the cold tier is marked with the blob's name, a read of a row that lies there is a typed error with the same words, and
//! nothing that belongs to the segment is forgotten. Now and then its blob is looked for: when it is back, so are its rows. A segment whose
//! every row has been deleted meanwhile is struck from the manifest.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use super::builder::{BLOB_PREFIX, Pages};
use super::cold::{ColdView, Segment};
use super::inner::Inner;
use super::record::{Manifest, Stub, decode_dead_key, encode_intent};
use super::types::Cut;
use crate::error::{Error, Result};
use crate::id::{BlobKey, Row, SegmentId};
use crate::migrate::IntentKind;
use crate::partition::Partitions;
use crate::role::{Batch, KeyRange, Table};
use crate::segment::Centroids;

/// Time between two looks for blobs.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(30);
/// Blobs that are there and still cannot be opened end a look.
const STILL_DAMAGED: usize = 8;
/// Reads of a footer at an opening, before its blob is believed to be damaged.
const TRIES: u32 = 4;
/// Segments that come back together.
const AT_ONCE: usize = 64;
/// Lost segments that an answer and the statistics name.
pub(super) const NAMED: usize = 16;

/// A segment of the manifest that is not searched.
#[derive(Debug)]
pub(crate) struct Lost {
    pub(crate) id: SegmentId,
    pub(crate) manifest: Manifest,
    error: Error,
    live: AtomicU64,
    dead: Mutex<HashSet<u32>>,
}

impl Lost {
    pub(super) fn new(id: SegmentId, manifest: Manifest, error: Error) -> Self {
        tracing::error!(segment = %id, blob = %manifest.blob, rows = manifest.rows, %error,
            "a segment cannot be opened: its rows are not found until its blob is back");
        let live = AtomicU64::new(u64::from(manifest.rows));
        Self {
            id,
            manifest,
            error,
            live,
            dead: Mutex::default(),
        }
    }

    /// Marks a row as deleted.
    pub(crate) fn mark_dead(&self, ordinal: u32) {
        if ordinal < self.manifest.rows && self.dead.lock().insert(ordinal) {
            self.live.fetch_sub(1, Relaxed);
        }
    }

    /// Rows that would be found if it could be opened.
    pub(crate) fn live(&self) -> u64 {
        self.live.load(Relaxed)
    }

    /// The error of a read of one of its rows.
    pub(crate) fn refusal(&self) -> Error {
        self.error.duplicate()
    }
}

impl ColdView {
    /// Segments that cannot be opened and hold rows.
    pub(crate) fn missed(&self) -> impl Iterator<Item = &Arc<Lost>> {
        self.lost.values().filter(|l| l.live() > 0)
    }

    /// What a search of the cold tier could not look at, whatever it looks at; the first [`NAMED`] of it.
    pub(crate) fn lost_cuts(&self) -> Vec<Cut> {
        let cut = |l: &Arc<Lost>| Cut::Unreachable {
            segment: l.id.0,
            error: l.error.to_string(),
        };
        self.missed().take(NAMED).map(cut).collect()
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

    /// Looks for the blobs of segments that could not be opened, in turn after the one that was `last`, and ends segments of which no row is
    /// left. One listing tells which blobs are there, however many are not. Called with the compaction's lock, so that no partition is
    /// forgotten and no snapshot is taken meanwhile.
    ///
    /// # Errors
    /// As the store; nothing is lost by that.
    pub(super) async fn tend_lost(&self, last: &mut Option<SegmentId>) -> Result<()> {
        let view = self.view();
        if view.lost.is_empty() {
            return Ok(());
        }
        for lost in view.lost.values().filter(|l| l.live() == 0) {
            self.end_lost(lost).await?;
        }
        let listed = self.blocks.store().list(BLOB_PREFIX).await?;
        let listed: HashSet<BlobKey> = listed.into_iter().map(|b| b.key).collect();
        let there = view.missed().filter(|l| listed.contains(&l.manifest.blob));
        let (before, after): (Vec<_>, Vec<_>) =
            there.partition(|l| last.is_some_and(|last| l.id <= last));
        let (mut back, mut damaged) = (Vec::new(), 0);
        for lost in after.into_iter().chain(before) {
            *last = Some(lost.id);
            match self
                .open_segment(lost.id, &lost.manifest, &view.index)
                .await
            {
                Ok(segment) => back.push(segment),
                Err(error) if error.is_corrupt() => {
                    tracing::debug!(segment = %lost.id, %error, "still lost");
                    damaged += 1;
                }
                Err(error) => {
                    self.take_back(back).await?;
                    return Err(error);
                }
            }
            if back.len() == AT_ONCE {
                self.take_back(std::mem::take(&mut back)).await?;
            }
            if damaged == STILL_DAMAGED {
                break;
            }
        }
        self.take_back(back).await
    }

    /// The same at an opening: a blob that is there is read more than once before it is believed to be damaged, for what is garbled on its way
    /// would hide its rows until it is looked for again.
    pub(super) async fn open_surely(
        &self,
        id: SegmentId,
        manifest: &Manifest,
        index: &Partitions,
    ) -> Result<Segment> {
        let mut tries = 1;
        loop {
            let opened = self.open_segment(id, manifest, index).await;
            match &opened {
                Err(error) if error.is_corrupt() && tries < TRIES => tries += 1,
                _ => return opened,
            }
            if self.blocks.store().size(&manifest.blob).await? != Some(manifest.bytes) {
                return opened;
            }
        }
    }

    /// Those rows among some whose home is a segment that cannot be opened.
    pub(super) async fn lost_among(&self, rows: &[Row]) -> Result<HashSet<Row>> {
        let view = self.view();
        if view.lost.is_empty() {
            return Ok(HashSet::new());
        }
        let keys: Vec<Bytes> = (rows.iter().map(|r| Bytes::copy_from_slice(&r.key()))).collect();
        let mut lost = HashSet::new();
        for (row, value) in rows.iter().zip(self.get_chunked(Table::Cold, &keys).await?) {
            let stub = value.as_deref().map(Stub::decode).transpose()?;
            if stub.is_some_and(|stub| view.lost.contains_key(&stub.segment)) {
                lost.insert(*row);
            }
        }
        Ok(lost)
    }

    /// Shows segments whose blobs are back, and lets the pinned rows among theirs wait for room.
    async fn take_back(&self, segments: Vec<Segment>) -> Result<()> {
        if segments.is_empty() {
            return Ok(());
        }
        // With the writer's lock: every row deleted so far has its mark in the store, and nobody deletes another one meanwhile.
        let writer = self.writer.lock().await;
        self.check_unpoisoned()?;
        for segment in &segments {
            let of = KeyRange::prefix(&segment.id.key());
            let mut marks = Pages::within(&*self.meta, Table::Dead, of);
            while let Some(page) = marks.next().await? {
                for (key, _) in page {
                    segment.mark_dead(decode_dead_key(&key)?.1);
                }
            }
            tracing::info!(segment = %segment.id, rows = segment.live(), "a lost segment is back");
        }
        {
            let mut cold = self.cold.write();
            let mut next = ColdView::clone(&cold);
            segments.iter().for_each(|s| drop(next.lost.remove(&s.id)));
            *cold = Arc::new(next.with_segments(segments.into_iter().map(Arc::new)));
        }
        drop(writer);
        self.queue_pinned();
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
        let mut next = ColdView::clone(&cold);
        next.lost.remove(&lost.id);
        *cold = Arc::new(next);
        tracing::info!(segment = %lost.id, "a lost segment has no live rows and was given up");
        Ok(())
    }
}

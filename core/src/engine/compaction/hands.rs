//! The hands of a step: one commit moves its rows, and the partitions with them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::MutexGuard;

use super::super::cold::Segment;
use super::super::driver::{Draft, Work};
use super::super::inner::{Inner, Writer};
use super::super::readers::Deferred;
use super::super::record::{Home, Stub, dead_key, encode_intent, key};
use super::gather::Taken;
use crate::error::{Error, Result, Retry};
use crate::id::{BlobKey, Row, SegmentId};
use crate::migrate::{Effect, IntentKind};
use crate::partition::{Partition, Partitions};
use crate::role::{Batch, Table};

/// What becomes of the partitions in the commit that moves rows.
pub(super) struct Change {
    /// The partitions afterwards.
    pub(super) next: Arc<Partitions>,
    pub(super) added: Vec<Partition>,
    /// Those that end.
    pub(super) retired: BTreeSet<u32>,
}

impl Change {
    fn put(&self, batch: &mut Batch) {
        for partition in &self.added {
            let value = partition.encode();
            batch.put(Table::State, key::partition(partition.number), value);
        }
        for number in &self.retired {
            if let Some(value) = self.next.encode(*number, true) {
                batch.put(Table::State, key::partition(*number), value);
            }
        }
    }
}

/// The hands of one step.
pub(super) struct Compaction<'a> {
    pub(super) inner: &'a Arc<Inner>,
    pub(super) taken: Vec<Taken>,
    /// `None` when the partitions stay as they are.
    pub(super) change: Option<Change>,
    /// `None` when no row lives.
    pub(super) draft: Option<Draft>,
    pub(super) places: BTreeMap<Row, (SegmentId, u32)>,
    /// Held from the commit until searches find the segment and every row knows its new home.
    pub(super) writer: Option<MutexGuard<'a, Writer>>,
    /// In order of ordinals.
    pub(super) packed: Vec<(Row, Stub)>,
    pub(super) moved: Vec<(Row, Stub)>,
    pub(super) segment: Option<Arc<Segment>>,
    /// Numbers of the notes of garbage, one for each input that ended.
    pub(super) notes: Vec<u64>,
    /// What searches that began before still read.
    pub(super) beside: Vec<Arc<Segment>>,
}

impl Compaction<'_> {
    /// Inputs that end.
    pub(super) fn retired(&self) -> impl Iterator<Item = &Arc<Segment>> {
        self.taken.iter().filter(|t| t.whole).map(|t| &t.segment)
    }

    fn draft(&mut self) -> Result<&mut Draft> {
        let missing = || Error::internal("a compaction without rows has no segment to write");
        self.draft.as_mut().ok_or_else(missing)
    }

    /// Whether a row still lives where it was read. Asked under the writer's lock, so that nothing is killed in between.
    fn lives(&self, from: &HashMap<SegmentId, &Segment>, row: Row) -> bool {
        let Some((id, ordinal)) = self.places.get(&row) else {
            return false;
        };
        // In this order: whoever marks a row dead takes it off the kills afterwards.
        !self.inner.kills.read().contains(row) && from.get(id).is_some_and(|s| !s.is_dead(*ordinal))
    }

    async fn commit(&mut self) -> Result<()> {
        let inner = self.inner;
        let mut writer = inner.writer.lock().await;
        let mut batch = Batch::new(writer.epoch);
        // The segment first: it gives up its bytes before those of the commit are made.
        if let Some(draft) = &mut self.draft {
            draft.commit_into(&mut batch)?;
            self.segment = Some(Arc::new(inner.take_segment(draft)?));
        }
        let ending: BTreeSet<SegmentId> = self.retired().map(|s| s.id).collect();
        let taken = self.taken.iter().map(|t| (t.segment.id, &*t.segment));
        let taken: HashMap<SegmentId, &Segment> = taken.collect();
        let (mut rows, mut dead) = (std::mem::take(&mut self.packed), Vec::new());
        rows.retain(|(row, stub)| {
            let key = Bytes::copy_from_slice(&row.key());
            if !self.lives(&taken, *row) {
                batch.put(Table::Dead, dead_key(stub.segment, stub.ordinal), key);
                dead.push(stub.ordinal);
                return false;
            }
            if let Some((old, ordinal)) = self.places.get(row).filter(|p| !ending.contains(&p.0)) {
                batch.put(Table::Dead, dead_key(*old, *ordinal), key.clone());
            }
            batch.put(Table::Cold, key, stub.encode());
            true
        });
        self.moved = rows;
        if let Some(segment) = &self.segment {
            dead.iter().for_each(|o| segment.mark_dead(*o));
        }
        let now = inner.now();
        let retired: Vec<(SegmentId, BlobKey)> =
            self.retired().map(|s| (s.id, s.blob.clone())).collect();
        for (segment, blob) in &retired {
            let number = writer.counters.next_intent;
            writer.counters.next_intent += 1;
            let note = encode_intent(IntentKind::Garbage, *segment, now.0, blob);
            batch.put(Table::Intents, number.to_be_bytes().to_vec(), note);
            batch.delete(Table::Segments, segment.key().to_vec());
            self.notes.push(number);
        }
        if let Some(change) = &self.change {
            change.put(&mut batch);
        }
        let committed = inner.commit_durably(&writer, batch).await;
        match &committed {
            Ok(()) => {
                let mut garbage = inner.garbage.lock();
                for (number, (segment, blob)) in self.notes.iter().zip(retired) {
                    garbage.note(*number, now, segment, blob, true);
                }
                drop(garbage);
                self.writer = Some(writer);
            }
            // Nobody knows where the rows are now: their names may lead to either segment, and both are there.
            Err(error) if error.retry() == Retry::Unknown => {
                if let Some(segment) = self.segment.take() {
                    let mut cold = inner.cold.write();
                    *cold = Arc::new(cold.with_beside(segment));
                }
            }
            Err(_) => {}
        }
        committed
    }

    /// Shows the new segment in place of the inputs.
    fn publish(&mut self) {
        let inner = self.inner;
        let mut gone: BTreeMap<SegmentId, Vec<u32>> = BTreeMap::new();
        for (row, _) in &self.moved {
            if let Some((segment, ordinal)) = self.places.get(row) {
                gone.entry(*segment).or_default().push(*ordinal);
            }
        }
        {
            // Nobody marks rows dead while an input is copied.
            let _still = inner.reaping.lock();
            let lessened = self
                .taken
                .iter()
                .filter(|t| !t.whole && !t.blocks.is_empty());
            let without = |t: &Taken| {
                let gone = gone.get(&t.segment.id).map_or(&[][..], Vec::as_slice);
                Arc::new(t.segment.without(gone))
            };
            let lessened: Vec<Arc<Segment>> = lessened.map(without).collect();
            let removed: Vec<SegmentId> = self.retired().map(|s| s.id).collect();
            let before = |id: SegmentId| self.taken.iter().find(|t| t.segment.id == id);
            let ids = lessened.iter().map(|s| s.id).chain(removed.iter().copied());
            self.beside = ids.filter_map(before).map(|t| t.segment.clone()).collect();
            let mut cold = inner.cold.write();
            let mut next = cold.compacted(self.segment.take(), &removed, lessened);
            if let Some(change) = &self.change {
                next = next.with_index(change.next.clone());
            }
            *cold = Arc::new(next);
        }
        let mut directory = inner.directory.write();
        for (row, stub) in &self.moved {
            directory.rehome(*row, Home::Segment(stub.segment, stub.ordinal));
        }
    }
}

impl Work for Compaction<'_> {
    async fn perform(&mut self, effect: &Effect) -> Result<()> {
        let inner = self.inner;
        match effect {
            Effect::CommitIntent(..) => {
                let writer = inner.writer.lock().await;
                let draft = self.draft()?;
                inner
                    .commit_intent(&writer, draft, IntentKind::Started)
                    .await
            }
            Effect::PutBlob(_) => inner.put_blob(self.draft()?).await,
            Effect::CommitMove => self.commit().await,
            Effect::IndexCold => {
                self.publish();
                self.writer = None;
                Ok(())
            }
            Effect::RetireInputs => {
                inner.readers.defer(Deferred::Retired {
                    segments: std::mem::take(&mut self.beside),
                    notes: std::mem::take(&mut self.notes),
                });
                inner.reap_off_worker().await;
                Ok(())
            }
            Effect::CommitGarbage(..) => {
                let writer = inner.writer.lock().await;
                let draft = self.draft()?;
                inner
                    .commit_intent(&writer, draft, IntentKind::Garbage)
                    .await
            }
            other => Err(Error::internal(format!("a compaction cannot do {other:?}"))),
        }
    }

    async fn look(&mut self, _: &BlobKey) -> Result<bool> {
        let inner = self.inner;
        inner.look_blob(self.draft()?).await
    }
}

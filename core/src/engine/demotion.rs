//! Demotes rows: what must be written is packed into segments, what a segment holds already is let go.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;
use tokio::sync::MutexGuard;

use super::directory::Entry;
use super::driver::{Draft, Story, Work, drive};
use super::inner::{Inner, Step, Why, Writer};
use super::offload::offload;
use super::pack::stubs;
use super::readers::Deferred;
use super::record::{Fresh, Home, Stub, dead_key};
use crate::error::{Error, Result};
use crate::id::{BlobKey, Row};
use crate::migrate::{Effect, IntentKind, Machine, Outcome};
use crate::role::{Batch, Table, Tier};
use crate::segment::SegmentRow;

/// Rows read from the metadata store together.
const STORED_TOGETHER: usize = 16;

impl Inner {
    /// Demotes hot rows: those with a segment as home are released, the others go into a new segment. Rows that are not hot,
    /// pinned or on their way out are passed over. Answers how many moved.
    pub(super) async fn demote(self: &Arc<Self>, steps: &[Step], why: &Why) -> Result<usize> {
        self.check_writable()?;
        let by_row: BTreeMap<Row, Step> = steps.iter().map(|s| (s.row, *s)).collect();
        let (mut fresh, mut released) = (Vec::new(), Vec::new());
        {
            let directory = self.directory.read();
            for row in by_row.keys() {
                let Some(entry) = directory.row(*row).filter(|e| e.settled()) else {
                    continue;
                };
                if self.pinned(*row) {
                    continue;
                }
                match entry.home() {
                    Home::Fresh => fresh.push(*row),
                    Home::Segment(..) => released.push(*row),
                }
            }
        }
        let mut moved = 0;
        if !released.is_empty() {
            let mut work = Release {
                inner: self,
                story: Story {
                    why,
                    steps: &by_row,
                },
                rows: released,
                moved: Vec::new(),
            };
            let ended = drive(&mut Machine::release(), &mut work).await?;
            moved += self.demotion_ended(ended, &work.moved)?;
            self.counts
                .released
                .fetch_add(work.moved.len() as u64, Relaxed);
        }
        let line = Line {
            inner: self,
            story: Story {
                why,
                steps: &by_row,
            },
            unbegun: AtomicUsize::new(fresh.len()),
            left: tokio::sync::Mutex::new(VecDeque::from(fresh)),
            failed: AtomicBool::new(false),
        };
        // While one batch waits for the stores, the processors pack the next.
        let (one, other) = tokio::join!(line.run(), line.run());
        Ok(moved + one? + other?)
    }

    /// Takes back the intent of a draft that nothing was written for.
    async fn forget(&self, draft: &Draft) -> Result<()> {
        let writer = self.writer.lock().await;
        if !draft.noted || self.check_unpoisoned().is_err() {
            return Ok(());
        }
        let mut batch = Batch::new(writer.epoch);
        batch.delete(Table::Intents, draft.intent.to_be_bytes().to_vec());
        // Need not be durable: should it stay, the next opening finds no blob to it.
        self.commit_undurable(writer.counters, batch).await
    }

    fn demotion_ended(
        &self,
        (outcome, error): (Outcome, Option<Error>),
        moved: &[Row],
    ) -> Result<usize> {
        if outcome != Outcome::Completed {
            self.counts.migrations_failed.fetch_add(1, Relaxed);
            metrics::counter!("aether_migrations_failed_total").increment(1);
            return Err(
                error.unwrap_or_else(|| Error::internal("a migration failed without a reason"))
            );
        }
        self.counts.demoted.fetch_add(moved.len() as u64, Relaxed);
        Ok(moved.len())
    }
}

/// Rows that are demoted in batches, of which two are under way: they take turns at being packed, and are written beside one another.
struct Line<'a> {
    inner: &'a Arc<Inner>,
    story: Story<'a>,
    /// Rows that no batch has taken yet. Locked while one is packed.
    left: tokio::sync::Mutex<VecDeque<Row>>,
    /// How many they are.
    unbegun: AtomicUsize,
    failed: AtomicBool,
}

impl Line<'_> {
    /// Moves one batch after another until no row is left; answers how many rows moved.
    async fn run(&self) -> Result<usize> {
        let mut ahead = None;
        let moved = self.batches(&mut ahead).await;
        if moved.is_err() {
            self.failed.store(true, Relaxed);
        }
        if let Some(unused) = ahead {
            let forgotten = self.inner.forget(&unused).await;
            return moved.and_then(|moved| forgotten.map(|()| moved));
        }
        moved
    }

    /// The same. `ahead` is the draft for the next batch, where an intent for it is there.
    async fn batches(&self, ahead: &mut Option<Draft>) -> Result<usize> {
        let mut moved = 0;
        while let Some(mut work) = self.packed(ahead).await? {
            let mut machine = Machine::demote(work.draft.segment, work.draft.blob.clone());
            let ended = drive(&mut machine, &mut work).await;
            *ahead = work.ahead.take();
            moved += self.inner.demotion_ended(ended?, &work.moved)?;
        }
        Ok(moved)
    }

    /// The next batch, packed; `None` when there is none left.
    async fn packed(&self, ahead: &mut Option<Draft>) -> Result<Option<Demotion<'_>>> {
        let mut left = self.left.lock().await;
        while !left.is_empty() && !self.failed.load(Relaxed) {
            let most = self.inner.batch_rows().min(left.len());
            let rows = left.drain(..most).collect();
            self.unbegun.store(left.len(), Relaxed);
            let draft = match ahead.take() {
                Some(draft) => draft,
                None => self.inner.draft(&mut *self.inner.writer.lock().await)?,
            };
            let mut work = Demotion::new(self, draft, rows);
            let packed = work.pack().await;
            if let Ok((true, unread)) = packed {
                let unread = unread.into_iter().rev();
                unread.for_each(|row| left.push_front(row));
                self.unbegun.store(left.len(), Relaxed);
                return Ok(Some(work));
            }
            // Nothing was written.
            *ahead = Some(work.draft);
            // Else every one of them was deleted or replaced since it was chosen: there is nothing to move, and nothing went wrong.
            let (_, unread) = packed?;
            let unread = unread.into_iter().rev();
            unread.for_each(|row| left.push_front(row));
        }
        Ok(None)
    }
}

/// Hot rows whose segment already holds them.
struct Release<'a> {
    inner: &'a Arc<Inner>,
    story: Story<'a>,
    rows: Vec<Row>,
    moved: Vec<Row>,
}

impl Work for Release<'_> {
    async fn perform(&mut self, effect: &Effect) -> Result<()> {
        let inner = self.inner;
        match effect {
            Effect::CommitResidency => {
                let writer = inner.writer.lock().await;
                let mut batch = Batch::new(writer.epoch);
                self.moved = {
                    let directory = inner.directory.read();
                    let stays = |r: &Row| directory.row(*r).is_some_and(Entry::settled);
                    self.rows.iter().copied().filter(stays).collect()
                };
                for row in &self.moved {
                    batch.delete(Table::Resident, row.key().to_vec());
                }
                inner.commit_durably(&writer, batch).await?;
                // Still under the writer's lock, so that nothing promotes or kills them in between.
                let mut directory = inner.directory.write();
                self.moved
                    .iter()
                    .for_each(|row| directory.leave(*row, None));
                drop(directory);
                self.story
                    .tell(inner, self.moved.iter().copied(), Tier::Cold);
                Ok(())
            }
            Effect::DropHot => {
                inner.readers.defer(Deferred::Demoted(self.moved.clone()));
                inner.reap_off_worker().await;
                Ok(())
            }
            other => Err(Error::internal(format!("a release cannot do {other:?}"))),
        }
    }

    async fn look(&mut self, _: &BlobKey) -> Result<bool> {
        Err(Error::internal("a release has no blob"))
    }
}

/// Hot rows on their way into a new segment.
struct Demotion<'a> {
    line: &'a Line<'a>,
    inner: &'a Arc<Inner>,
    draft: Draft,
    /// A draft for the batch after this one. Its intent was part of this one's commit, which spares it a commit of its own.
    ahead: Option<Draft>,
    /// Held from the commit until searches find the segment and every row knows its new home.
    writer: Option<MutexGuard<'a, Writer>>,
    rows: Vec<Row>,
    /// In order of ordinals, once packed. Vectors and payloads are given up then.
    packed: Vec<(Row, Stub)>,
    moved: Vec<Row>,
    /// Ordinals of rows that were killed while the blob was put.
    dead: Vec<u32>,
}

impl<'a> Demotion<'a> {
    fn new(line: &'a Line<'a>, draft: Draft, rows: Vec<Row>) -> Self {
        Self {
            line,
            inner: line.inner,
            draft,
            ahead: None,
            writer: None,
            rows,
            packed: Vec::new(),
            moved: Vec::new(),
            dead: Vec::new(),
        }
    }

    /// Reads the rows and packs them; `false` when none of them is there any more. Beside that the rows that their payloads left no
    /// room for.
    async fn pack(&mut self) -> Result<(bool, Vec<Row>)> {
        let mut rows = Vec::with_capacity(self.rows.len());
        let mut ttl = BTreeSet::new();
        let stored = self.read_hot(&mut rows, &mut ttl).await?;
        let read = self.read_stored(&stored, &mut rows, &mut ttl).await?;
        let unread = stored[read..].to_vec();
        if rows.is_empty() {
            return Ok((false, unread));
        }
        let rows = self.inner.pack(None, &mut self.draft, rows).await?;
        self.packed = stubs(self.draft.segment, rows, |row| ttl.contains(&row));
        Ok((true, unread))
    }

    /// Takes rows without payload from RAM, where the index gives back what it was given; answers those that must be read from their
    /// homes.
    async fn read_hot(
        &self,
        rows: &mut Vec<SegmentRow>,
        ttl: &mut BTreeSet<Row>,
    ) -> Result<Vec<Row>> {
        if !self.inner.hot.capability().exact_read {
            return Ok(self.rows.clone());
        }
        let (mut bare, mut others) = (Vec::new(), Vec::new());
        {
            let directory = self.inner.directory.read();
            for row in &self.rows {
                match directory.row(*row) {
                    Some(entry) if !entry.payload() => {
                        bare.push((*row, entry.id.clone()));
                        if directory.expiry(*row).is_some() {
                            ttl.insert(*row);
                        }
                    }
                    Some(_) => others.push(*row),
                    // Gone: replaced or deleted since it was chosen.
                    None => {}
                }
            }
        }
        let inner = self.inner.clone();
        let read = offload(move || {
            let (mut rows, mut absent) = (Vec::with_capacity(bare.len()), Vec::new());
            for (row, id) in bare {
                let mut vector = vec![0.0; inner.dim];
                if inner.hot.read(row, &mut vector)? {
                    rows.push(SegmentRow {
                        row,
                        id,
                        vector,
                        payload: None,
                        partition: 0,
                    });
                } else {
                    // Found no room in RAM when the memory was opened, or was removed since it was chosen.
                    absent.push(row);
                }
            }
            Ok::<_, Error>((rows, absent))
        });
        let (mut read, absent) = read.await??;
        rows.append(&mut read);
        others.extend(absent);
        Ok(others)
    }

    /// Reads rows from the metadata store as far as there is room for their payloads; answers how many.
    async fn read_stored(
        &self,
        wanted: &[Row],
        rows: &mut Vec<SegmentRow>,
        ttl: &mut BTreeSet<Row>,
    ) -> Result<usize> {
        let (mut read, mut payloads) = (0, 0);
        for some in wanted.chunks(STORED_TOGETHER) {
            if payloads > self.inner.payload_bytes() {
                break;
            }
            let keys: Vec<Bytes> = (some.iter())
                .map(|r| Bytes::copy_from_slice(&r.key()))
                .collect();
            let values = self.inner.meta.get(Table::Fresh, &keys).await?;
            for (row, value) in some.iter().zip(values) {
                // Gone, as above.
                let Some(value) = value else { continue };
                let fresh = Fresh::decode(&value, self.inner.dim)?;
                payloads += fresh.payload.as_ref().map_or(0, Bytes::len);
                if fresh.ttl {
                    ttl.insert(*row);
                }
                rows.push(SegmentRow {
                    row: *row,
                    id: fresh.id,
                    vector: fresh.vector,
                    payload: fresh.payload,
                    partition: 0,
                });
            }
            read += some.len();
        }
        Ok(read)
    }
}

impl Work for Demotion<'_> {
    async fn perform(&mut self, effect: &Effect) -> Result<()> {
        let inner = self.inner;
        match effect {
            // The batch before noted it.
            Effect::CommitIntent(..) if self.draft.noted => Ok(()),
            Effect::CommitIntent(..) => {
                let writer = inner.writer.lock().await;
                inner.check_unpoisoned()?;
                inner
                    .commit_intent(&writer, &self.draft, IntentKind::Started)
                    .await
            }
            Effect::PutBlob(_) => inner.put_blob(&self.draft).await,
            Effect::CommitMove => {
                let lock = inner.writer.lock().await;
                // The outcome of the other batch's commit may be unknown by now.
                inner.check_unpoisoned()?;
                let writer = self.writer.insert(lock);
                let mut batch = Batch::new(writer.epoch);
                {
                    let directory = inner.directory.read();
                    for (row, stub) in &self.packed {
                        if directory.row(*row).is_some_and(Entry::settled) {
                            batch.put(Table::Cold, row.key().to_vec(), stub.encode());
                            batch.delete(Table::Fresh, row.key().to_vec());
                            self.moved.push(*row);
                        } else {
                            let key = dead_key(self.draft.segment, stub.ordinal);
                            batch.put(Table::Dead, key, row.key().to_vec());
                            self.dead.push(stub.ordinal);
                        }
                    }
                }
                self.draft.commit_into(&mut batch)?;
                let mut ahead = None;
                if self.line.unbegun.load(Relaxed) > 0 {
                    let draft = ahead.insert(inner.draft(writer)?);
                    inner.note_intent(&mut batch, draft, IntentKind::Started);
                    draft.noted = true;
                }
                let committed = inner.commit_durably(writer, batch).await;
                match &committed {
                    Ok(()) => self.ahead = ahead,
                    Err(_) => self.writer = None,
                }
                committed
            }
            Effect::IndexCold => {
                inner.index_segment(&mut self.draft)?;
                if let Some(segment) = inner.view().segments.get(&self.draft.segment) {
                    self.dead
                        .drain(..)
                        .for_each(|ordinal| segment.mark_dead(ordinal));
                }
                let mut directory = inner.directory.write();
                // Only those that moved: another's home is not this segment, where it is dead.
                let moved: BTreeSet<Row> = self.moved.iter().copied().collect();
                for (row, stub) in self.packed.iter().filter(|(row, _)| moved.contains(row)) {
                    directory.leave(*row, Some(Home::Segment(stub.segment, stub.ordinal)));
                }
                drop(directory);
                let moved = self.moved.iter().copied();
                self.line.story.tell(inner, moved, Tier::Cold);
                self.writer = None;
                Ok(())
            }
            Effect::DropHot => {
                inner.readers.defer(Deferred::Demoted(self.moved.clone()));
                inner.reap_off_worker().await;
                Ok(())
            }
            Effect::CommitGarbage(..) => {
                let writer = inner.writer.lock().await;
                inner
                    .commit_intent(&writer, &self.draft, IntentKind::Garbage)
                    .await
            }
            other => Err(Error::internal(format!("a demotion cannot do {other:?}"))),
        }
    }

    async fn look(&mut self, _: &BlobKey) -> Result<bool> {
        self.inner.look_blob(&self.draft).await
    }
}

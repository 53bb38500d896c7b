//! Runs migrations: does what the machine asks for, and tells it what came of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use tokio::sync::MutexGuard;
use tracing::Instrument;

use super::cold::Segment;
use super::directory::Entry;
use super::inner::{Inner, Step, Why, Writer};
use super::offload::offload;
use super::pack::stubs;
use super::query::Fetched;
use super::readers::Deferred;
use super::record::{Counters, Fresh, Home, Manifest, Stub, dead_key, encode_intent, key};
use crate::error::{Error, ErrorKind, Result, Retry};
use crate::id::{BlobKey, PointId, Row, SegmentId};
use crate::migrate::{Effect, Event, Failure, IntentKind, Machine, Outcome};
use crate::partition::Partitions;
use crate::role::{Batch, Table, Tier};
use crate::segment::{SegmentRow, WrittenSegment, blob_key};

/// Rows read from the metadata store together.
const STORED_TOGETHER: usize = 16;

/// One kind of migration's hands.
pub(super) trait Work {
    /// Does one effect.
    async fn perform(&mut self, effect: &Effect) -> Result<()>;

    /// Whether the blob is in the store, whole.
    async fn look(&mut self, blob: &BlobKey) -> Result<bool>;
}

/// Drives a machine to its end. The second half is the first error met, if any.
pub(super) async fn drive(
    machine: &mut Machine,
    work: &mut impl Work,
) -> Result<(Outcome, Option<Error>)> {
    let segment = machine.segment().map(|s| s.0);
    let span = tracing::debug_span!("migration", kind = ?machine.kind(), segment);
    drive_steps(machine, work).instrument(span).await
}

async fn drive_steps(
    machine: &mut Machine,
    work: &mut impl Work,
) -> Result<(Outcome, Option<Error>)> {
    let mut event = Event::Begin;
    let mut first_error = None;
    loop {
        let effect = machine.step(event)?;
        tracing::trace!(kind = ?machine.kind(), ?effect, "migration step");
        event = match &effect {
            Effect::Finish(outcome) => return Ok((*outcome, first_error)),
            Effect::LookBlob(blob) => match work.look(blob).await {
                Ok(true) => Event::Present,
                Ok(false) | Err(_) => Event::Absent,
            },
            other => match work.perform(other).await {
                Ok(()) => Event::Done,
                Err(error) => {
                    let failure = failure_of(&error);
                    tracing::warn!(kind = ?machine.kind(), ?effect, %error, "migration step failed");
                    first_error.get_or_insert(error);
                    Event::Failed(failure)
                }
            },
        };
    }
}

fn failure_of(error: &Error) -> Failure {
    match (error.kind(), error.retry()) {
        (ErrorKind::Fenced | ErrorKind::Poisoned | ErrorKind::Closed, _) => Failure::Final,
        (_, Retry::Unknown) => Failure::Unknown,
        (_, Retry::Never | Retry::Later) => Failure::Nothing,
    }
}

/// A segment being written.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) segment: SegmentId,
    pub(super) blob: BlobKey,
    pub(super) intent: u64,
    pub(super) written: Option<WrittenSegment>,
    /// What its rows were sorted by. Held as long as the draft is: no partition that was in use then is forgotten meanwhile.
    pub(super) partitions: Option<Arc<Partitions>>,
    /// Bytes of ids, vectors and payloads in it.
    pub(super) user_bytes: u64,
}

impl Draft {
    /// What a row of the draft is once it is committed.
    pub(super) fn manifest(&self) -> Result<Manifest> {
        let w = self
            .written
            .as_ref()
            .ok_or_else(|| Error::internal("a segment was committed before it was written"))?;
        Ok(Manifest {
            blob: self.blob.clone(),
            bytes: w.data.len() as u64,
            footer_offset: w.footer_offset,
            footer_bytes: w.footer_bytes,
            rows: w.directory.rows,
            generation: w.directory.generation,
        })
    }

    /// Adds manifest entry and the intent's end to the batch that makes the segment real.
    pub(super) fn commit_into(&self, batch: &mut Batch) -> Result<()> {
        batch.put(
            Table::Segments,
            self.segment.key().to_vec(),
            self.manifest()?.encode(),
        );
        batch.delete(Table::Intents, self.intent.to_be_bytes().to_vec());
        Ok(())
    }
}

impl Inner {
    /// Reserves numbers for a new segment. The blob's name is unique for all time.
    pub(super) fn draft(&self, writer: &mut Writer) -> Result<Draft> {
        let segment = SegmentId(writer.counters.next_segment);
        let intent = writer.counters.next_intent;
        writer.counters.next_segment += 1;
        writer.counters.next_intent += 1;
        let unique = writer.rng.u64(..) ^ self.timeline.save().1;
        Ok(Draft {
            segment,
            blob: blob_key(segment, writer.epoch, unique)?,
            intent,
            written: None,
            partitions: None,
            user_bytes: 0,
        })
    }

    /// Commits a batch together with the counters, and waits until it is durable.
    pub(super) async fn commit_durably(&self, writer: &Writer, batch: Batch) -> Result<()> {
        self.commit_counting(writer.counters, batch).await
    }

    /// The same with other counters than the writer's: those that hold once the batch does, and not before.
    pub(super) async fn commit_counting(&self, counters: Counters, batch: Batch) -> Result<()> {
        self.commit_batch(counters, batch, true).await
    }

    /// As [`Inner::commit_counting`], but a crash may take the batch back, until a later one is durable.
    pub(super) async fn commit_undurable(&self, counters: Counters, batch: Batch) -> Result<()> {
        self.commit_batch(counters, batch, false).await
    }

    async fn commit_batch(
        &self,
        counters: Counters,
        mut batch: Batch,
        durable: bool,
    ) -> Result<()> {
        batch.put(Table::State, key::COUNTERS, counters.encode());
        let done = async {
            let seq = self.meta.commit(batch).await?;
            if !durable {
                return Ok(());
            }
            self.meta.durable(seq).await.map_err(|e| {
                // The commit is visible; whether it survives is unknown.
                if e.retry() == Retry::Later {
                    e.with_retry(Retry::Unknown)
                } else {
                    e
                }
            })
        };
        let result: Result<()> = done.await;
        if let Err(error) = &result {
            self.poison_if_unsure(error);
        }
        result
    }

    pub(super) async fn commit_intent(
        &self,
        writer: &Writer,
        draft: &Draft,
        kind: IntentKind,
    ) -> Result<()> {
        let mut batch = Batch::new(writer.epoch);
        let value = encode_intent(kind, draft.segment, self.now().0, &draft.blob);
        batch.put(Table::Intents, draft.intent.to_be_bytes().to_vec(), value);
        if kind == IntentKind::Garbage {
            // Also when the commit fails: the intent of before is there then, and its blob is as unneeded.
            self.garbage.lock().note(
                draft.intent,
                self.now(),
                draft.segment,
                draft.blob.clone(),
                false,
            );
        }
        self.commit_durably(writer, batch).await
    }

    pub(super) async fn put_blob(&self, draft: &Draft) -> Result<()> {
        let data = draft.written.as_ref().map(|w| w.data.clone());
        let data =
            data.ok_or_else(|| Error::internal("a segment was put before it was written"))?;
        let bytes = data.len() as u64;
        self.blocks.store().put(&draft.blob, data).await?;
        self.counts.segments_written.fetch_add(1, Relaxed);
        self.counts.cold_written_bytes.fetch_add(bytes, Relaxed);
        Ok(())
    }

    pub(super) async fn look_blob(&self, draft: &Draft) -> Result<bool> {
        let size = self.blocks.store().size(&draft.blob).await?;
        let expected = draft.written.as_ref().map(|w| w.data.len() as u64);
        Ok(size.is_some() && size == expected)
    }

    /// The written segment as searches see it; gives up its bytes, of which its codes are kept.
    pub(super) fn take_segment(&self, draft: &mut Draft) -> Result<Segment> {
        let manifest = draft.manifest()?;
        let missing = || Error::internal("a segment was shown before it was written");
        let written = draft.written.take().ok_or_else(missing)?;
        let fidelity = self.codec.fidelity();
        let segment = Segment::new(draft.segment, &manifest, written.directory, fidelity);
        if let Err(error) = self.blocks.keep_written(&segment, &written.data) {
            // They are read again when they are wanted.
            tracing::error!(%error, segment = draft.segment.0, "codes could not be kept");
        }
        Ok(segment)
    }

    /// Shows a committed segment to searches.
    pub(super) fn index_segment(&self, draft: &mut Draft) -> Result<()> {
        if draft.written.is_some() {
            let segment = self.take_segment(draft)?;
            let mut cold = self.cold.write();
            *cold = Arc::new(cold.with_segment(Arc::new(segment)));
            self.counts
                .demoted_bytes
                .fetch_add(draft.user_bytes, Relaxed);
        }
        Ok(())
    }

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
        let mut left = VecDeque::from(fresh);
        let story = Story {
            why,
            steps: &by_row,
        };
        let mut ready = self.packed_demotion(&mut left, story).await?;
        while let Some(mut work) = ready {
            let mut machine = Machine::demote(work.draft.segment, work.draft.blob.clone());
            // While one batch waits for the stores, the processors pack the next.
            let (ended, next) = tokio::join!(
                drive(&mut machine, &mut work),
                self.packed_demotion(&mut left, story)
            );
            moved += self.demotion_ended(ended?, &work.moved)?;
            ready = next?;
        }
        Ok(moved)
    }

    /// The next batch of rows to demote, packed; `None` when there is none left.
    async fn packed_demotion<'a>(
        self: &'a Arc<Self>,
        left: &mut VecDeque<Row>,
        story: Story<'a>,
    ) -> Result<Option<Demotion<'a>>> {
        while !left.is_empty() {
            let batch = left.drain(..self.batch_rows().min(left.len())).collect();
            let draft = self.draft(&mut *self.writer.lock().await)?;
            let mut work = Demotion::new(self, story, draft, batch);
            let (packed, unread) = work.pack().await?;
            unread
                .into_iter()
                .rev()
                .for_each(|row| left.push_front(row));
            // Else every one of them was deleted or replaced since it was chosen: there is nothing to move, and nothing went wrong.
            if packed {
                return Ok(Some(work));
            }
        }
        Ok(None)
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

    /// Promotes cold rows as far as the budget allows. Answers those that moved, and those for which there was no room.
    pub(super) async fn promote(
        self: &Arc<Self>,
        steps: &[Step],
        why: &Why,
    ) -> Result<(Vec<Row>, Vec<Row>)> {
        self.check_writable()?;
        let by_row: BTreeMap<Row, Step> = steps.iter().map(|s| (s.row, *s)).collect();
        let mut work = Promotion::new(
            self,
            Story {
                why,
                steps: &by_row,
            },
        );
        let (outcome, error) = drive(&mut Machine::promote(), &mut work).await?;
        if outcome != Outcome::Completed {
            self.counts.migrations_failed.fetch_add(1, Relaxed);
            metrics::counter!("aether_migrations_failed_total").increment(1);
            return Err(
                error.unwrap_or_else(|| Error::internal("a promotion failed without a reason"))
            );
        }
        let promoted: Vec<Row> = work.inserted.iter().map(|e| e.row).collect();
        let no_room = std::mem::take(&mut work.no_room);
        drop(work);
        self.counts
            .promoted
            .fetch_add(promoted.len() as u64, Relaxed);
        Ok((promoted, no_room))
    }
}

/// Why rows move, and what each was worth. Told to the policy under the writer's lock: told later, a delete in between would be
/// heard first, and the policy would keep a row for ever that is gone.
#[derive(Clone, Copy)]
struct Story<'a> {
    why: &'a Why,
    steps: &'a BTreeMap<Row, Step>,
}

impl Story<'_> {
    fn tell(&self, inner: &Inner, moved: impl IntoIterator<Item = Row>, to: Tier) {
        let moved = moved.into_iter();
        let steps: Vec<Step> = moved
            .filter_map(|row| self.steps.get(&row))
            .copied()
            .collect();
        inner.moved(&steps, to, self.why);
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
    inner: &'a Arc<Inner>,
    story: Story<'a>,
    draft: Draft,
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
    fn new(inner: &'a Arc<Inner>, story: Story<'a>, draft: Draft, rows: Vec<Row>) -> Self {
        Self {
            inner,
            story,
            draft,
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
            Effect::CommitIntent(..) => {
                let writer = inner.writer.lock().await;
                inner
                    .commit_intent(&writer, &self.draft, IntentKind::Started)
                    .await
            }
            Effect::PutBlob(_) => inner.put_blob(&self.draft).await,
            Effect::CommitMove => {
                let writer = self.writer.insert(inner.writer.lock().await);
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
                let committed = inner.commit_durably(writer, batch).await;
                if committed.is_err() {
                    self.writer = None;
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
                self.story
                    .tell(inner, self.moved.iter().copied(), Tier::Cold);
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

/// Cold rows on their way into RAM.
struct Promotion<'a> {
    inner: &'a Arc<Inner>,
    story: Story<'a>,
    rows: Vec<Row>,
    /// Held once the rows are read, to the last step, so that nothing else moves or kills them.
    writer: Option<MutexGuard<'a, Writer>>,
    inserted: Vec<Entry>,
    expiries: Vec<(Row, super::record::Expiry)>,
    no_room: Vec<Row>,
}

impl<'a> Promotion<'a> {
    fn new(inner: &'a Arc<Inner>, story: Story<'a>) -> Self {
        // Each row once: one named twice would get two entries in the directory, of which only one would ever leave.
        let rows = story.steps.keys().copied().collect();
        let (inserted, expiries, no_room) = (Vec::new(), Vec::new(), Vec::new());
        Self {
            inner,
            story,
            rows,
            writer: None,
            inserted,
            expiries,
            no_room,
        }
    }

    async fn insert(&mut self) -> Result<()> {
        let inner = self.inner;
        let leaving = {
            let directory = inner.directory.read();
            let leaves = |r: &Row| {
                directory
                    .row(*r)
                    .is_some_and(|e| e.leaving() && !e.killed())
            };
            self.rows.iter().any(leaves)
        };
        if leaving {
            // Demoted a moment ago, and still there for searches that began before. Passed over, it would go cold after all, a pinned
            // one too; so it leaves first. Those searches end by their deadlines.
            let ticket = inner.readers.defer(Deferred::Demoted(Vec::new()));
            inner.reaped(ticket).await;
        }
        let mut rows: Vec<Row> = {
            let directory = inner.directory.read();
            self.rows
                .iter()
                .copied()
                .filter(|r| directory.row(*r).is_none())
                .collect()
        };
        let free = inner.fill().free as usize;
        if rows.len() > free {
            self.no_room = rows.split_off(free);
        }
        // Before the lock: a cold store that is slow, or never answers, must not hold up those who write.
        let mut found = inner.fetch_cold(&rows).await?;
        self.writer = Some(inner.writer.lock().await);
        self.keep_current(&mut found).await?;
        let free = inner.fill().free as usize;
        if found.len() > free {
            self.no_room.extend(found.drain(free..).map(|f| f.0));
        }
        let mut vectors = Vec::with_capacity(found.len() * inner.dim);
        let mut resident = Vec::with_capacity(found.len());
        for (row, stub, vector, expiry) in found {
            vectors.extend_from_slice(&vector);
            resident.push(row);
            self.expiries.extend(expiry.map(|e| (row, e)));
            let home = Home::Segment(stub.segment, stub.ordinal);
            self.inserted
                .push(Entry::new(stub.id, row, home, stub.payload));
        }
        inner.insert_hot(resident, vectors).await
    }

    /// Drops what was killed or promoted by another since it was read, and takes the times to live of now. Called under the
    /// writer's lock. A row never changes, so what was read of one that stayed is right.
    async fn keep_current(&self, found: &mut Vec<Fetched>) -> Result<()> {
        let inner = self.inner;
        let keys: Vec<Bytes> = found
            .iter()
            .map(|f| Bytes::copy_from_slice(&f.0.key()))
            .collect();
        let now = inner.get_chunked(Table::Cold, &keys).await?;
        let mortal: Vec<Row> = found.iter().filter(|f| f.1.ttl).map(|f| f.0).collect();
        let expiries = inner.expiries(&mortal).await?;
        let directory = inner.directory.read();
        let mut kept = Vec::with_capacity(found.len());
        for ((row, _, vector, _), value) in found.drain(..).zip(now) {
            // A compaction may have given it another place meanwhile.
            let stub = value.as_deref().map(Stub::decode).transpose()?;
            if let Some(stub) = stub.filter(|_| directory.row(row).is_none()) {
                kept.push((row, stub, vector, expiries.get(&row).copied()));
            }
        }
        *found = kept;
        Ok(())
    }
}

impl Work for Promotion<'_> {
    async fn perform(&mut self, effect: &Effect) -> Result<()> {
        let inner = self.inner;
        match effect {
            Effect::InsertHot => self.insert().await,
            Effect::CommitResidency => {
                let Some(writer) = &self.writer else {
                    return Err(Error::internal("a promotion without the writer's lock"));
                };
                if self.inserted.is_empty() {
                    return Ok(());
                }
                let mut batch = Batch::new(writer.epoch);
                for entry in &self.inserted {
                    batch.put(Table::Resident, entry.row.key().to_vec(), Bytes::new());
                }
                inner.commit_durably(writer, batch).await
            }
            Effect::ShowHot => {
                let mut directory = inner.directory.write();
                for entry in &self.inserted {
                    directory.insert(entry.clone());
                }
                self.expiries
                    .iter()
                    .for_each(|(row, expiry)| directory.set_expiry(*row, *expiry));
                drop(directory);
                self.story
                    .tell(inner, self.inserted.iter().map(|e| e.row), Tier::Hot);
                self.writer = None;
                Ok(())
            }
            Effect::UndoHot => {
                for entry in self.inserted.drain(..) {
                    inner.hot.remove(entry.row)?;
                }
                self.writer = None;
                Ok(())
            }
            other => Err(Error::internal(format!("a promotion cannot do {other:?}"))),
        }
    }

    async fn look(&mut self, _: &BlobKey) -> Result<bool> {
        Err(Error::internal("a promotion has no blob"))
    }
}

impl Inner {
    /// Inserts rows into the hot index on a blocking thread; on an error none of them stays.
    pub(super) async fn insert_hot(
        self: &Arc<Self>,
        rows: Vec<Row>,
        vectors: Vec<f32>,
    ) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let inner = self.clone();
        let inserted = offload(move || {
            inner.hot.insert_batch(&rows, &vectors).inspect_err(|_| {
                for row in &rows {
                    if let Err(error) = inner.hot.remove(*row) {
                        tracing::error!(%error, row = row.0, "the hot index refused to remove a row");
                    }
                }
            })
        });
        inserted.await?
    }

    /// A point's id as it stands in messages, cut when it is long.
    pub(super) fn brief(id: &PointId) -> String {
        let text = id.to_string();
        if text.len() <= 64 {
            text
        } else {
            format!("{}…", &text[..text.floor_char_boundary(60)])
        }
    }
}

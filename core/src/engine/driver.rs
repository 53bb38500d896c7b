//! Runs migrations: does what the machine asks for, and tells it what came of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use tokio::sync::MutexGuard;
use tracing::Instrument;

use super::cold::Segment;
use super::directory::{Entry, extra_bytes};
use super::inner::{Inner, Step, Why, Writer};
use super::offload::offload;
use super::query::Fetched;
use super::readers::Deferred;
use super::record::{Counters, Home, Manifest, Stub, encode_intent, key};
use crate::error::{Error, ErrorKind, Result, Retry};
use crate::id::{BlobKey, PointId, Row, SegmentId};
use crate::migrate::{Effect, Event, Failure, IntentKind, Machine, Outcome};
use crate::partition::Partitions;
use crate::role::{Batch, Table, Tier};
use crate::segment::{WrittenSegment, blob_key};

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
    /// Whether the intent is there already.
    pub(super) noted: bool,
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
            noted: false,
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
        // A move that was under way may not go on: after an unknown outcome these counters may be behind what is stored.
        self.check_unpoisoned()?;
        batch.put(Table::State, key::COUNTERS, counters.encode());
        let done = async {
            let seq = self.meta.commit(batch).await?;
            if !durable {
                return Ok(());
            }
            // The commit is visible; whether it survives is unknown, whatever the error is.
            let synced = self.meta.durable(seq).await;
            synced.map_err(|e| e.with_retry(Retry::Unknown))
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
        self.note_intent(&mut batch, draft, kind);
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

    /// Adds a draft's intent to a batch.
    pub(super) fn note_intent(&self, batch: &mut Batch, draft: &Draft, kind: IntentKind) {
        let value = encode_intent(kind, draft.segment, self.now().0, &draft.blob);
        batch.put(Table::Intents, draft.intent.to_be_bytes().to_vec(), value);
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
pub(super) struct Story<'a> {
    pub(super) why: &'a Why,
    pub(super) steps: &'a BTreeMap<Row, Step>,
}

impl Story<'_> {
    pub(super) fn tell(&self, inner: &Inner, moved: impl IntoIterator<Item = Row>, to: Tier) {
        let moved = moved.into_iter();
        let steps: Vec<Step> = moved
            .filter_map(|row| self.steps.get(&row))
            .copied()
            .collect();
        inner.moved(&steps, to, self.why);
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
        let extra = |(_, stub, _, expiry): &Fetched| extra_bytes(&stub.id, expiry.is_some());
        let room = inner.fitting(found.iter().map(extra));
        self.no_room.extend(found.drain(room..).map(|f| f.0));
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

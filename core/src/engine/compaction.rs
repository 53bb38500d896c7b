//! Compaction: keeps the cold tier small and in order, a step at a time.
//!
//! A step takes live rows of its inputs, partition by partition, until one segment is full, and moves them into a new segment. Inputs that
//! hold no others end with it; of the others, the rows that moved are marked dead, and the next step goes on with what is left. So a
//! step's RAM and its commit are bounded whatever the inputs are, and a crash between two steps leaves a memory in order.
//!
//! Only the commit and its publication hold the writer's lock. What was killed while the blob was written is dead in the new segment from
//! the start; a row in RAM stays there and learns its new home. No policy hears of any of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::MutexGuard;

use super::cold::Segment;
use super::driver::{Draft, Work, drive, stubs};
use super::inner::{Inner, Writer};
use super::readers::Deferred;
use super::record::{Home, Stub, dead_key, encode_intent};
use super::types::Compacted;
use crate::clock::Time;
use crate::error::{Error, Result, Retry};
use crate::id::{BlobKey, PointId, Row, SegmentId};
use crate::migrate::{Effect, IntentKind, Machine, Outcome};
use crate::role::{Batch, Fidelity, Table};
use crate::segment::compaction::{Candidate, Shape, choose};
use crate::segment::{Block, SEGMENT_ROWS_MAX, SegmentRow};

/// What one row adds to a step's commit at most: a stub with the longest id, and a mark where it was. Unit: bytes.
const ROW_META_BYTES: usize = 576;
/// Bytes read by one request.
const READ_BYTES: u64 = 8 << 20;
/// The longest wait after failures.
const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// What compaction keeps between steps.
#[derive(Debug, Default)]
pub(crate) struct CompactionState {
    /// Segments that the compaction under way has still to empty.
    inputs: Vec<SegmentId>,
    /// Segments that cannot be read: left alone until the memory is opened anew.
    barred: BTreeSet<SegmentId>,
    /// Bytes that may be read and written now; below zero they are owed.
    tokens: f64,
    filled: Time,
    /// Since when searches have kept the next step waiting.
    yielding: Option<Time>,
    failures: u32,
    not_before: Time,
}

impl CompactionState {
    /// Whether the rate allows a step now. A second's worth is saved up at most.
    fn may_spend(&mut self, rate: f64, now: Time) -> bool {
        if rate <= 0.0 {
            return true;
        }
        self.tokens = (self.tokens + rate * now.seconds_since(self.filled)).min(rate);
        self.filled = now;
        self.tokens >= 0.0
    }
}

/// What one step did.
#[derive(Clone, Copy, Debug, Default)]
struct Step {
    rows: usize,
    read: u64,
    written: u64,
}

/// Blocks of one input that a step takes.
struct Taken {
    segment: Arc<Segment>,
    blocks: Vec<usize>,
    /// Whether no live block is left.
    whole: bool,
}

/// Rows on their way, and the places where they were.
#[derive(Default)]
struct Gathered {
    rows: Vec<SegmentRow>,
    places: BTreeMap<Row, (SegmentId, u32)>,
    ttl: BTreeSet<Row>,
    read: u64,
}

impl Inner {
    /// One turn in the background: sweeps, then takes one step if there is something to do, the rate allows it and no search is under
    /// way. Answers how many rows moved.
    pub(super) async fn compaction_turn(self: &Arc<Self>) -> Result<usize> {
        let Ok(mut state) = self.compaction.try_lock() else {
            return Ok(0);
        };
        if self.check_writable().is_err() {
            return Ok(0);
        }
        let now = self.now();
        if now < state.not_before {
            return Ok(0);
        }
        let config = &self.config.compaction;
        let state = &mut *state;
        let turn = async {
            self.sweep().await?;
            if !config.enabled || !state.may_spend(config.rate.0 as f64, now) {
                return Ok(0);
            }
            if state.inputs.is_empty() {
                state.inputs = self.choose_inputs(&state.barred).unwrap_or_default();
            }
            if state.inputs.is_empty() || self.gives_way(state, now) {
                return Ok(0);
            }
            let step = self.step(state).await?;
            state.tokens -= (step.read + step.written) as f64;
            Ok(step.rows)
        };
        let done: Result<usize> = turn.await;
        match done {
            Ok(rows) => {
                state.failures = 0;
                Ok(rows)
            }
            Err(error) => {
                self.counts.compactions_failed.fetch_add(1, Relaxed);
                state.failures += 1;
                let wait = Duration::from_millis(500) * (1 << state.failures.min(8));
                state.not_before = now.after(wait.min(BACKOFF_MAX));
                tracing::warn!(%error, "compaction waits");
                // What is down for now, or lost for ever in one segment, must not stop the scheduler.
                if error.retry() == Retry::Never && !error.is_corrupt() {
                    return Err(error);
                }
                Ok(0)
            }
        }
    }

    /// Whether searches go first this time.
    fn gives_way(&self, state: &mut CompactionState, now: Time) -> bool {
        if !self.admission.is_busy() {
            state.yielding = None;
            return false;
        }
        let since = *state.yielding.get_or_insert(now);
        if now.since(since) >= self.config.compaction.patience.0 {
            state.yielding = None;
            return false;
        }
        self.counts.compactions_yielded.fetch_add(1, Relaxed);
        true
    }

    /// Merges everything that is not in order, now, whatever the rate.
    pub(super) async fn compact(self: &Arc<Self>) -> Result<Compacted> {
        self.check_writable()?;
        let mut state = self.compaction.lock().await;
        // What has expired is not known to be dead before that.
        while self.expire().await? > 0 {}
        self.reap_off_worker().await;
        let mut report = Compacted {
            segments_before: self.view().segments.len(),
            ..Compacted::default()
        };
        state.inputs = self.all_inputs(&state.barred);
        while !state.inputs.is_empty() {
            self.check_writable()?;
            let step = self.step(&mut state).await?;
            report.rows += step.rows as u64;
            report.bytes_read += step.read;
            report.bytes_written += step.written;
            if state.inputs.is_empty() {
                state.inputs = self.choose_inputs(&state.barred).unwrap_or_default();
            }
        }
        report.blobs_swept = self.sweep().await?;
        report.segments_after = self.view().segments.len();
        Ok(report)
    }

    /// Rows that one segment may hold, by size, by what one commit takes, and by the directory's places.
    fn segment_rows(&self) -> usize {
        let by_bytes = self.config.compaction.segment_bytes.0 as usize / (self.dim * 4);
        let by_commit = self.meta_capability.batch_bytes_max / 2 / ROW_META_BYTES;
        by_bytes.min(by_commit).clamp(1, SEGMENT_ROWS_MAX)
    }

    /// How large so many rows in so many packed bytes count: a full segment is `segment_bytes`.
    fn size(&self, rows: u64, packed: u64) -> u64 {
        let full = self.config.compaction.segment_bytes.0;
        let by_rows = rows as f64 / self.segment_rows() as f64;
        let by_bytes = packed as f64 / (full as f64 * 2.0);
        (by_rows.max(by_bytes) * full as f64) as u64
    }

    /// Whether rows may be written anew without losing what they did not lose yet: in the same codec, or from exact to exact.
    fn may_recode(&self, segment: &Segment) -> bool {
        segment.directory.codec == self.codec.header()
            || (segment.fidelity == Fidelity::Exact && self.codec.fidelity() == Fidelity::Exact)
    }

    fn candidates(&self, barred: &BTreeSet<SegmentId>) -> Vec<Candidate> {
        let view = self.view();
        let segments = view
            .segments
            .values()
            .filter(|s| s.live() == 0 || (!barred.contains(&s.id) && self.may_recode(s)));
        let candidate = |s: &Arc<Segment>| {
            let blocks = s.directory.blocks.iter();
            let mut partitions: Vec<u32> = blocks.map(|b| b.partition).collect();
            partitions.sort_unstable();
            partitions.dedup();
            Candidate {
                id: s.id,
                bytes: self.size(u64::from(s.directory.rows), s.bytes),
                rows: s.directory.rows,
                live: s.live(),
                partitions,
            }
        };
        segments.map(candidate).collect()
    }

    fn choose_inputs(&self, barred: &BTreeSet<SegmentId>) -> Option<Vec<SegmentId>> {
        let config = &self.config.compaction;
        let shape = Shape {
            ratio: config.ratio,
            dead_share: config.dead_share,
            segment_bytes: config.segment_bytes.0,
            partitions: self.view().partitions(),
        };
        choose(&self.candidates(barred), &shape)
    }

    /// Every segment that holds dead rows or is not full, if merging them changes anything.
    fn all_inputs(&self, barred: &BTreeSet<SegmentId>) -> Vec<SegmentId> {
        let full = self.config.compaction.segment_bytes.0;
        let candidates = self.candidates(barred);
        let dead = |c: &Candidate| c.live < u64::from(c.rows);
        let loose: Vec<&Candidate> = candidates
            .iter()
            .filter(|c| dead(c) || c.bytes * 2 < full)
            .collect();
        if loose.len() < 2 && !loose.iter().any(|c| dead(c)) {
            return Vec::new();
        }
        loose.into_iter().map(|c| c.id).collect()
    }

    /// One step of the compaction whose inputs are in `state`; when they are empty afterwards, it is done.
    async fn step(self: &Arc<Self>, state: &mut CompactionState) -> Result<Step> {
        let view = self.view();
        let inputs: Vec<Arc<Segment>> = state
            .inputs
            .iter()
            .filter_map(|id| view.segments.get(id).cloned())
            .collect();
        let left = inputs.iter().map(|s| s.bytes).sum();
        self.counts.compaction_left_bytes.store(left, Relaxed);
        let taken = self.take_blocks(&inputs);
        let mut gathered = Gathered::default();
        for part in &taken {
            if let Err(error) = self.gather_rows(part, &mut gathered).await {
                if error.is_corrupt() {
                    state.barred.insert(part.segment.id);
                }
                // What is wrong with one input is no reason to try the same set again.
                state.inputs.clear();
                return Err(error);
            }
        }
        self.drop_dead(&mut gathered).await?;
        let Gathered {
            rows,
            places,
            ttl,
            read,
        } = gathered;
        let mut work = Compaction {
            inner: self,
            taken,
            draft: None,
            places,
            writer: None,
            packed: Vec::new(),
            moved: Vec::new(),
            dead: Vec::new(),
            segment: None,
            notes: Vec::new(),
            beside: Vec::new(),
        };
        let mut target = None;
        let mut written = 0;
        if !rows.is_empty() {
            let mut draft = self.draft(&mut *self.writer.lock().await)?;
            let rows = self.pack(None, &mut draft, rows).await?;
            written = draft.written.as_ref().map_or(0, |w| w.data.len() as u64);
            work.packed = stubs(draft.segment, &rows, |row| ttl.contains(&row));
            target = Some((draft.segment, draft.blob.clone()));
            work.draft = Some(draft);
        }
        let (outcome, error) = drive(&mut Machine::compact(target), &mut work).await?;
        if outcome != Outcome::Completed {
            self.counts.migrations_failed.fetch_add(1, Relaxed);
            metrics::counter!("aether_migrations_failed_total").increment(1);
            return Err(
                error.unwrap_or_else(|| Error::internal("a compaction failed without a reason"))
            );
        }
        let step = Step {
            rows: work.moved.len(),
            read,
            written,
        };
        let gone: BTreeSet<SegmentId> = work.retired().map(|s| s.id).collect();
        state
            .inputs
            .retain(|id| !gone.contains(id) && view.segments.contains_key(id));
        let left = view
            .segments
            .values()
            .filter(|s| state.inputs.contains(&s.id));
        let left = left.map(|s| s.bytes).sum();
        self.counts.compaction_left_bytes.store(left, Relaxed);
        self.count(&step);
        Ok(step)
    }

    fn count(&self, step: &Step) {
        self.counts.compactions.fetch_add(1, Relaxed);
        self.counts
            .compacted_rows
            .fetch_add(step.rows as u64, Relaxed);
        self.counts.compacted_bytes.fetch_add(step.written, Relaxed);
        metrics::counter!("aether_compactions_total").increment(1);
        metrics::counter!("aether_compaction_bytes_total", "way" => "read").increment(step.read);
        metrics::counter!("aether_compaction_bytes_total", "way" => "written")
            .increment(step.written);
        let (written, demoted) = (&self.counts.cold_written_bytes, &self.counts.demoted_bytes);
        let amplification = written.load(Relaxed) as f64 / demoted.load(Relaxed).max(1) as f64;
        metrics::gauge!("aether_write_amplification").set(amplification);
    }

    /// The blocks with live rows, partition by partition, until they fill a segment.
    fn take_blocks(&self, inputs: &[Arc<Segment>]) -> Vec<Taken> {
        let mut live = Vec::new();
        for (input, segment) in inputs.iter().enumerate() {
            for (index, block) in segment.directory.blocks.iter().enumerate() {
                let dead = segment.dead_in(block);
                let rows = dead.iter().filter(|d| !**d).count() as u64;
                if rows > 0 {
                    let bytes = whole_bytes(block) * rows / u64::from(block.rows);
                    live.push((block.partition, input, index, rows, bytes));
                }
            }
        }
        live.sort_unstable();
        let (mut rows, mut bytes) = (0, 0);
        let most = self.config.compaction.segment_bytes.0;
        let fits = live
            .iter()
            .take_while(|b| {
                let first = rows == 0;
                (rows, bytes) = (rows + b.3, bytes + b.4);
                first || self.size(rows, bytes) <= most
            })
            .count();
        let mut taken: Vec<Taken> = inputs
            .iter()
            .map(|segment| Taken {
                segment: segment.clone(),
                blocks: Vec::new(),
                whole: true,
            })
            .collect();
        for (at, (_, input, index, ..)) in live.into_iter().enumerate() {
            if at < fits {
                taken[input].blocks.push(index);
            } else {
                taken[input].whole = false;
            }
        }
        taken
    }

    /// Reads the rows of some blocks that are not marked dead.
    async fn gather_rows(self: &Arc<Self>, part: &Taken, gathered: &mut Gathered) -> Result<()> {
        let mut rest = part.blocks.as_slice();
        while !rest.is_empty() {
            let mut bytes = 0;
            let within = |index: &&usize| {
                let first = bytes == 0;
                bytes += whole_bytes(&part.segment.directory.blocks[**index]);
                first || bytes <= READ_BYTES
            };
            let n = rest.iter().take_while(within).count();
            let (now, later) = rest.split_at(n);
            rest = later;
            let blocks = now.iter().map(|i| part.segment.directory.blocks[*i]);
            let blocks: Vec<_> = blocks.collect();
            let parts: Vec<_> = blocks
                .iter()
                .map(|b| part.segment.whole_ranges(b))
                .collect();
            let ranges = parts.concat();
            let read = self.blocks.read_past_cache(&part.segment, &ranges).await?;
            gathered.read += read.iter().map(|b| b.len() as u64).sum::<u64>();
            let (inner, segment) = (self.clone(), part.segment.clone());
            let unpacked = tokio::task::spawn_blocking(move || {
                let mut rows = Vec::new();
                let mut read = &read[..];
                for (block, parts) in blocks.iter().zip(&parts) {
                    let (now, later) = read.split_at(parts.len());
                    read = later;
                    let dead = segment.dead_in(block);
                    let unpacked = inner.blocks.unpack_whole(&segment, block, now)?;
                    let placed = (block.first_ordinal..).zip(unpacked).zip(dead);
                    rows.extend(placed.filter(|(_, dead)| !dead).map(|(row, _)| row));
                }
                Ok::<_, Error>(rows)
            });
            for (ordinal, row) in unpacked.await.map_err(Error::task)?? {
                gathered.places.insert(row.row, (part.segment.id, ordinal));
                gathered.rows.push(row);
            }
        }
        Ok(())
    }

    /// Leaves out what was killed and is not marked yet, and what has expired, which is removed first.
    async fn drop_dead(&self, gathered: &mut Gathered) -> Result<()> {
        let keys = |rows: &[SegmentRow]| -> Vec<Bytes> {
            let key = |r: &SegmentRow| Bytes::copy_from_slice(&r.row.key());
            rows.iter().map(key).collect()
        };
        let mut live: BTreeSet<Row> = BTreeSet::new();
        let stored = self.get_chunked(Table::Cold, &keys(&gathered.rows)).await?;
        for (row, value) in gathered.rows.iter().zip(stored) {
            let Some(stub) = value.as_deref().map(Stub::decode).transpose()? else {
                continue;
            };
            if gathered.places.get(&row.row) == Some(&(stub.segment, stub.ordinal)) {
                live.insert(row.row);
                if stub.ttl {
                    gathered.ttl.insert(row.row);
                }
            }
        }
        let mortal: Vec<Row> = gathered.ttl.iter().copied().collect();
        let now = self.now();
        let mut expiries = self.expiries_now(&mortal).await?;
        expiries.retain(|_, e| e.at <= now.0);
        if !expiries.is_empty() {
            let ended = gathered
                .rows
                .iter()
                .filter(|r| expiries.contains_key(&r.row));
            let ended: Vec<(PointId, Row)> = ended.map(|r| (r.id.clone(), r.row)).collect();
            let removed = self.expire_rows(ended).await?;
            self.counts.expired.fetch_add(removed as u64, Relaxed);
            let rows: Vec<Row> = expiries.into_keys().collect();
            let keys: Vec<Bytes> = rows
                .iter()
                .map(|r| Bytes::copy_from_slice(&r.key()))
                .collect();
            for (row, value) in rows.iter().zip(self.get_chunked(Table::Cold, &keys).await?) {
                if value.is_none() {
                    live.remove(row);
                }
            }
        }
        gathered.rows.retain(|r| live.contains(&r.row));
        Ok(())
    }
}

/// Bytes that are read of a block: all but its codes.
fn whole_bytes(block: &Block) -> u64 {
    u64::from(block.vectors_bytes) + u64::from(block.keys_bytes) + u64::from(block.payloads_bytes)
}

/// The hands of one step.
struct Compaction<'a> {
    inner: &'a Arc<Inner>,
    taken: Vec<Taken>,
    /// `None` when no row lives.
    draft: Option<Draft>,
    places: BTreeMap<Row, (SegmentId, u32)>,
    /// Held from the commit until searches find the segment and every row knows its new home.
    writer: Option<MutexGuard<'a, Writer>>,
    /// In order of ordinals.
    packed: Vec<(Row, Stub)>,
    moved: Vec<(Row, Stub)>,
    /// Ordinals of rows that were killed while the blob was put.
    dead: Vec<u32>,
    segment: Option<Arc<Segment>>,
    /// Numbers of the notes of garbage, one for each input that ended.
    notes: Vec<u64>,
    /// What searches that began before still read.
    beside: Vec<Arc<Segment>>,
}

impl Compaction<'_> {
    /// Inputs that end.
    fn retired(&self) -> impl Iterator<Item = &Arc<Segment>> {
        self.taken.iter().filter(|t| t.whole).map(|t| &t.segment)
    }

    fn draft(&mut self) -> Result<&mut Draft> {
        let missing = || Error::internal("a compaction without rows has no segment to write");
        self.draft.as_mut().ok_or_else(missing)
    }

    /// Whether a row still lives where it was read. Asked under the writer's lock, so that nothing is killed in between.
    fn lives(&self, row: Row) -> bool {
        let Some((id, ordinal)) = self.places.get(&row) else {
            return false;
        };
        // In this order: whoever marks a row dead takes it off the kills afterwards.
        !self.inner.kills.read().contains(row)
            && (self.taken.iter())
                .find(|t| t.segment.id == *id)
                .is_some_and(|t| !t.segment.is_dead(*ordinal))
    }

    async fn commit(&mut self) -> Result<()> {
        let inner = self.inner;
        let mut writer = inner.writer.lock().await;
        let mut batch = Batch::new(writer.epoch);
        let ending: BTreeSet<SegmentId> = self.retired().map(|s| s.id).collect();
        for (row, stub) in std::mem::take(&mut self.packed) {
            if !self.lives(row) {
                batch.put(
                    Table::Dead,
                    dead_key(stub.segment, stub.ordinal),
                    row.key().to_vec(),
                );
                self.dead.push(stub.ordinal);
                continue;
            }
            batch.put(Table::Cold, row.key().to_vec(), stub.encode());
            if let Some((old, ordinal)) = self.places.get(&row).filter(|p| !ending.contains(&p.0)) {
                batch.put(Table::Dead, dead_key(*old, *ordinal), row.key().to_vec());
            }
            self.moved.push((row, stub));
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
        if let Some(draft) = &mut self.draft {
            draft.commit_into(&mut batch)?;
            let segment = inner.take_segment(draft)?;
            self.dead.iter().for_each(|o| segment.mark_dead(*o));
            self.segment = Some(Arc::new(segment));
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
            *cold = Arc::new(cold.compacted(self.segment.take(), &removed, lessened));
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

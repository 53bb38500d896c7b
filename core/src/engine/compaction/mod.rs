//! Compaction: keeps the cold tier small and in order, a step at a time.
//!
//! A step takes live rows of its inputs, partition by partition, until one segment is full, and moves them into a new segment. Inputs that
//! hold no others end with it; of the others, the rows that moved are marked dead, and the next step goes on with what is left. So a
//! step's RAM and its commit are bounded whatever the inputs are, and a crash between two steps leaves a memory in order.
//!
//! Partitions are split and merged by such steps too (`reshape`): the rows concerned move, and the commit that moves them makes the
//! partitions what they are from then on.
//!
//! Only the commit and its publication hold the writer's lock. What was killed while the blob was written is dead in the new segment from
//! the start; a row in RAM stays there and learns its new home. No policy hears of any of it.

mod gather;
mod hands;
mod reshape;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::cold::Segment;
use super::driver::drive;
use super::inner::Inner;
use super::lost::LOOK_EVERY;
use super::pack::stubs;
use super::types::Compacted;
use crate::clock::Time;
use crate::error::{Error, Result, Retry};
use crate::id::SegmentId;
use crate::migrate::{Machine, Outcome};
use crate::partition::Partitions;
use crate::partition::balance::Urgency;
use crate::role::Fidelity;
use crate::segment::compaction::{Candidate, Shape, choose};
use gather::{Gathered, Taken};
use hands::{Change, Compaction};

/// How often a compaction by hand goes back from merging segments to the partitions.
const ROUNDS: usize = 4;
/// How often such a round may move a row from partition to partition, on the average: what is not in bounds then stays so for now.
const MOVES: u64 = 4;
/// How often the background tries segments again that could not be read, whenever that was.
const TRY_BARRED_EVERY: Duration = Duration::from_secs(3600);
/// The longest wait after failures.
const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// What compaction keeps between steps.
#[derive(Debug, Default)]
pub(crate) struct CompactionState {
    /// Segments that the compaction under way has still to empty.
    inputs: Vec<SegmentId>,
    /// Segments that could not be read: left alone for a while, since what was wrong may have been the reading.
    barred: BTreeSet<SegmentId>,
    /// When the last ones were taken up again.
    admitted: Time,
    /// Bytes that may be read and written now; below zero they are owed.
    tokens: f64,
    filled: Time,
    /// Since when searches have kept the next step waiting.
    yielding: Option<Time>,
    failures: u32,
    not_before: Time,
    /// Indices of partitions that were in use, and what ended when another took their place.
    superseded: Vec<(Weak<Partitions>, BTreeSet<u32>)>,
    /// Live rows of partitions when they were made, or when they could not be split.
    before: BTreeMap<u32, u64>,
    /// The cold tier when its partitions were last found in order.
    looked: Option<(u64, usize, Option<SegmentId>)>,
    /// When lost segments were last looked for, and which was the last.
    tended: Time,
    tended_last: Option<SegmentId>,
    /// Indices held and segments when partitions were last forgotten.
    forgot: Option<(usize, usize, Option<SegmentId>)>,
}

impl CompactionState {
    /// Leaves a damaged segment alone for now.
    fn bar(&mut self, part: &Taken, error: Error) -> Error {
        if error.is_corrupt() {
            self.barred.insert(part.segment.id);
        }
        error
    }

    /// From time to time segments that were left alone are tried again.
    fn admit_barred(&mut self, now: Time) {
        if now.since(self.admitted) >= TRY_BARRED_EVERY {
            self.admitted = now;
            if !std::mem::take(&mut self.barred).is_empty() {
                self.looked = None;
            }
        }
    }

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
#[derive(Clone, Debug, Default)]
struct Step {
    rows: usize,
    read: u64,
    written: u64,
    /// Rows written to each partition.
    partitions: BTreeMap<u32, u64>,
    /// Segments that ended.
    gone: BTreeSet<SegmentId>,
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
        state.admit_barred(now);
        let turn = async {
            if now.since(state.tended) >= LOOK_EVERY {
                state.tended = now;
                self.tend_lost(&mut state.tended_last).await?;
            }
            self.sweep().await?;
            self.forget_partitions(state).await?;
            if !config.enabled || !state.may_spend(config.rate.0 as f64, now) {
                return Ok(0);
            }
            let mut plan = None;
            if state.inputs.is_empty() {
                let points = self.points.load(Relaxed);
                plan = self.choose_reshape(state, Urgency::WhenWorthIt { points });
                state.inputs = self.choose_inputs(&state.barred).unwrap_or_default();
                self.note_left(state);
            }
            if (plan.is_none() && state.inputs.is_empty()) || self.gives_way(state, now) {
                return Ok(0);
            }
            let step = match plan {
                Some(plan) => self.reshape(state, plan).await?,
                None => self.step(state).await?,
            };
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
        let mut add = |step: &Step| {
            report.rows += step.rows as u64;
            report.bytes_read += step.read;
            report.bytes_written += step.written;
        };
        // Moving rows between partitions leaves loose segments, and merging those moves rows: a few rounds settle both.
        for _ in 0..ROUNDS {
            let mut moves = self.view().live_rows() * MOVES;
            while let Some(plan) = self.choose_reshape(&mut state, Urgency::Now) {
                self.check_writable()?;
                let step = self.reshape(&mut state, plan).await?;
                add(&step);
                moves = moves.saturating_sub(step.rows as u64);
                if moves == 0 {
                    break;
                }
            }
            state.inputs = self.all_inputs(&state.barred);
            if state.inputs.is_empty() {
                break;
            }
            while !state.inputs.is_empty() {
                self.check_writable()?;
                add(&self.step(&mut state).await?);
                if state.inputs.is_empty() {
                    state.inputs = self.choose_inputs(&state.barred).unwrap_or_default();
                }
            }
        }
        self.tend_lost(&mut state.tended_last).await?;
        self.forget_partitions(&mut state).await?;
        report.blobs_swept = self.sweep().await?;
        report.segments_after = self.view().segments.len();
        Ok(report)
    }

    /// How large so many rows in so many packed bytes count: a full segment is `segment_bytes`.
    fn size(&self, rows: u64, packed: u64) -> u64 {
        let full = self.config.compaction.segment_bytes.0;
        let by_rows = rows as f64 / self.segment_rows() as f64;
        let by_bytes = packed as f64 / self.packed_bytes() as f64;
        (by_rows.max(by_bytes) * full as f64) as u64
    }

    /// Whether rows may be written anew without losing what they did not lose yet: in the same codec, or from exact to exact.
    fn may_recode(&self, segment: &Segment) -> bool {
        segment.directory.codec == self.codec.header()
            || (segment.fidelity == Fidelity::Exact && self.codec.fidelity() == Fidelity::Exact)
    }

    /// Whether rows of a segment may be moved to another.
    fn may_move(&self, segment: &Segment, barred: &BTreeSet<SegmentId>) -> bool {
        !barred.contains(&segment.id) && self.may_recode(segment)
    }

    fn candidates(&self, barred: &BTreeSet<SegmentId>) -> Vec<Candidate> {
        let view = self.view();
        let segments = view
            .segments
            .values()
            .filter(|s| s.live() == 0 || self.may_move(s, barred));
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
        self.note_left(state);
        let taken = self.take_blocks(&inputs);
        let mut gathered = Gathered::default();
        let read = self
            .gather_rows(&taken, None, || false, &mut gathered)
            .await;
        if let Err((place, error)) = read {
            // What is wrong with one input is no reason to try the same set again.
            state.inputs.clear();
            return Err(state.bar(&taken[place], error));
        }
        self.drop_dead(&mut gathered).await?;
        let done = self.carry_out(taken, gathered, None).await?;
        state
            .inputs
            .retain(|id| !done.gone.contains(id) && view.segments.contains_key(id));
        self.note_left(state);
        Ok(done)
    }

    /// Tells how much of the inputs is still to be merged.
    fn note_left(&self, state: &CompactionState) {
        let view = self.view();
        let left = state.inputs.iter().filter_map(|id| view.segments.get(id));
        let left = left.map(|s| s.bytes).sum();
        self.counts.compaction_left_bytes.store(left, Relaxed);
    }

    /// Writes rows into a new segment and puts it in the place of what held them.
    async fn carry_out(
        self: &Arc<Self>,
        taken: Vec<Taken>,
        gathered: Gathered,
        change: Option<Change>,
    ) -> Result<Step> {
        let Gathered {
            rows,
            places,
            ttl,
            read,
        } = gathered;
        let mut step = Step {
            read,
            ..Step::default()
        };
        let mut work = Compaction {
            inner: self,
            taken,
            change,
            draft: None,
            places,
            writer: None,
            packed: Vec::new(),
            moved: Vec::new(),
            segment: None,
            notes: Vec::new(),
            beside: Vec::new(),
        };
        let mut target = None;
        if !rows.is_empty() {
            let mut draft = self.draft(&mut *self.writer.lock().await)?;
            let rows = match &work.change {
                Some(change) => {
                    self.pack_into(change.next.clone(), &mut draft, rows)
                        .await?
                }
                None => self.pack(None, &mut draft, rows).await?,
            };
            step.written = draft.written.as_ref().map_or(0, |w| w.data.len() as u64);
            for row in &rows {
                *step.partitions.entry(row.partition).or_default() += 1;
            }
            work.packed = stubs(draft.segment, rows, |row| ttl.contains(&row));
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
        step.rows = work.moved.len();
        step.gone = work.retired().map(|s| s.id).collect();
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
        if let Some(amplification) = self.ledger().write_amplification() {
            metrics::gauge!("aether_write_amplification").set(amplification);
        }
    }
}

//! What all parts of the engine share.
//!
//! Lock order, outermost first: `compaction`, `expiring`, `flux`, `writer`, then the small locks (`desk`, `directory`, `kills`, `cold`, `pins`, `restore`,
//! `moves`), of which none is held across an await and at most two at once, in the order named here. The hot index has locks of its
//! own, and asks `kills` and `directory` (through a search's filter) while it holds them: it is never called with one of these held.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use tokio::sync::{Mutex as AsyncMutex, mpsc};

use super::admission::Admission;
use super::aim::Aim;
use super::cold::{BlockReader, ColdView};
use super::commit::Call;
use super::compaction::CompactionState;
use super::desk::Desk;
use super::directory::Directory;
use super::estimate::Coders;
use super::explained::Mover;
use super::garbage::Garbage;
use super::lock::DirLock;
use super::lost::NAMED;
use super::moves::{Made, MoveLog};
use super::offload::offload;
use super::probing::Probing;
use super::readers::{Deferred, Readers};
use super::record::{Counters, Expiry};
use super::recorder::Recorder;
use super::remote::Remote;
use super::restore::RestoreQueue;
use super::stats::{Counts, Stats};
use super::timeline::Timeline;
use super::turn::FluxState;
use super::working::Room;
use crate::clock::Time;
use crate::codec::BlockCodec;
use crate::config::Config;
use crate::error::{Error, ErrorKind, Result, Retry};
use crate::flux::{Fill, Midpoint};
use crate::id::{PointId, Row, SegmentId};
use crate::registry::Registry;
use crate::role::{
    Context, Epoch, Event, HotIndex, Item, MetaCapability, MetaStore, SearchTally, Tier,
};
use crate::vector::Metric;

/// What only the writer may touch.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) epoch: Epoch,
    pub(crate) counters: Counters,
    pub(crate) rng: fastrand::Rng,
}

/// Rows killed so recently that a search may still see them alive.
#[derive(Debug, Default)]
pub(crate) struct Kills {
    marks: HashMap<Row, u64>,
}

impl Kills {
    pub(crate) fn insert(&mut self, row: Row, mark: u64) {
        self.marks.insert(row, mark);
    }

    fn remove(&mut self, row: Row) {
        self.marks.remove(&row);
    }

    /// Whether a row was killed and is not yet marked where it lies.
    pub(crate) fn contains(&self, row: Row) -> bool {
        self.marks.contains_key(&row)
    }

    /// Whether a search that began at `high` sees the row as dead.
    pub(crate) fn is_dead(&self, row: Row, high: u64) -> bool {
        !self.marks.is_empty() && self.marks.get(&row).is_some_and(|mark| *mark <= high)
    }
}

/// RAM that one hot row takes, about: its vector, index and directory.
pub(crate) fn row_bytes(dim: usize) -> u32 {
    u32::try_from(dim * 4 + 192).unwrap_or(u32::MAX)
}

/// Why rows are being moved.
#[derive(Clone, Debug)]
pub(crate) struct Why {
    pub(crate) by: Mover,
    pub(crate) midpoint: Option<f64>,
}

/// One row that is to move, its worth where a policy was asked, and the reason in a few words.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Step {
    pub(crate) row: Row,
    pub(crate) keep: Option<f64>,
    pub(crate) reason: &'static str,
}

impl Step {
    /// A move that no policy was asked about.
    pub(crate) fn unasked(row: Row, reason: &'static str) -> Self {
        Self {
            row,
            keep: None,
            reason,
        }
    }
}

/// Everything that the parts of the engine share.
pub(crate) struct Inner {
    pub(crate) config: Config,
    pub(crate) dim: usize,
    pub(crate) metric: Metric,
    pub(crate) registry: Arc<Registry>,
    pub(crate) hot: Arc<dyn HotIndex>,
    pub(crate) meta: Arc<dyn MetaStore>,
    pub(crate) meta_capability: MetaCapability,
    pub(crate) codec: BlockCodec,
    pub(crate) blocks: BlockReader,
    pub(crate) codes_room: Room,
    pub(crate) parts_room: Room,
    pub(crate) coders: Coders,
    /// Standard deviations of the bounds of a search.
    pub(crate) deviations: f32,
    /// How far bounded searches must go.
    pub(crate) probing: Probing,
    pub(crate) timeline: Timeline,
    pub(crate) readers: Readers,
    /// The last commit that searches see: rows above it are not there yet.
    pub(crate) visible: AtomicU64,
    pub(crate) directory: RwLock<Directory>,
    pub(crate) kills: RwLock<Kills>,
    pub(crate) cold: RwLock<Arc<ColdView>>,
    pub(crate) desk: Desk,
    pub(crate) recorder: Option<Recorder>,
    pub(crate) pins: RwLock<HashSet<Row>>,
    pub(crate) restore: Mutex<RestoreQueue>,
    pub(crate) renewals: Mutex<BTreeMap<Row, Expiry>>,
    pub(crate) moves: Mutex<MoveLog>,
    pub(crate) writer: AsyncMutex<Writer>,
    pub(crate) flux: AsyncMutex<FluxState>,
    pub(crate) compaction: AsyncMutex<CompactionState>,
    /// Held by whoever removes points whose time is up. The committer's answer is waited for meanwhile, so never taken under `flux`.
    pub(crate) expiring: AsyncMutex<()>,
    pub(crate) garbage: Mutex<Garbage>,
    /// Temperature and midpoint for those who only look.
    pub(crate) gauge: Mutex<Gauge>,
    pub(crate) admission: Admission,
    pub(crate) counts: Arc<Counts>,
    pub(crate) points: AtomicU64,
    pub(crate) poisoned: RwLock<Option<Error>>,
    pub(crate) closed: AtomicBool,
    pub(crate) calls: mpsc::Sender<Call>,
    pub(crate) hot_search_us: AtomicU64,
    /// What searches did in the hot index.
    pub(crate) hot_work: SearchTally,
    pub(crate) reaping: Mutex<()>,
    pub(crate) lock: Mutex<Option<DirLock>>,
    pub(crate) remote: Remote,
    pub(crate) aim: Aim,
}

/// What the last turn of the scheduler saw.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Gauge {
    pub(crate) temperature: f64,
    /// Set by hand since the last turn.
    pub(crate) wanted: Option<f64>,
    pub(crate) midpoint: Option<Midpoint>,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory")
            .field("dim", &self.dim)
            .field("metric", &self.metric)
            .field("hot", &self.hot)
            .field("meta", &self.meta)
            .field("codec", &self.codec)
            .finish_non_exhaustive()
    }
}

impl Inner {
    pub(crate) fn now(&self) -> Time {
        self.timeline.now()
    }

    /// Refuses work on a closed memory.
    pub(crate) fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::closed("the memory was closed: open it again"));
        }
        Ok(())
    }

    /// Refuses writes on a closed or poisoned memory.
    pub(crate) fn check_writable(&self) -> Result<()> {
        self.check_open()?;
        self.check_unpoisoned()
    }

    /// The same while the memory is being closed.
    pub(crate) fn check_unpoisoned(&self) -> Result<()> {
        match &*self.poisoned.read() {
            None => Ok(()),
            // Reopening would throw the other writer out in turn: that is for people to decide.
            Some(e) if e.is_fenced() => Err(e.duplicate()),
            Some(e) => Err(Error::poisoned(format!(
                "writes are refused since an earlier one failed with its outcome unknown; reads go on; reopen the memory \
                 to write again. It said: {e}"
            ))),
        }
    }

    /// After a failure that leaves the outcome unknown, or that says another has taken over, this process writes no more.
    pub(crate) fn poison_if_unsure(&self, error: &Error) {
        let taken_over = matches!(
            error.kind(),
            ErrorKind::Fenced | ErrorKind::Poisoned | ErrorKind::Closed
        );
        if taken_over || error.retry() == Retry::Unknown {
            let mut poisoned = self.poisoned.write();
            if poisoned.is_none() {
                tracing::error!(%error, "writes are refused from now on");
                *poisoned = Some(error.duplicate());
            }
        }
    }

    pub(crate) fn view(&self) -> Arc<ColdView> {
        self.cold.read().clone()
    }

    /// The last commit that a search sees, and the cold tier as it was while that was the last: a compaction leaves out what was killed
    /// before it, so a later view would miss rows that live at this moment.
    pub(crate) fn moment(&self) -> (u64, Arc<ColdView>) {
        loop {
            let high = self.visible.load(Ordering::Acquire);
            let view = self.view();
            if self.visible.load(Ordering::Acquire) == high {
                return (high, view);
            }
        }
    }

    pub(crate) fn pinned(&self, row: Row) -> bool {
        let pins = self.pins.read();
        !pins.is_empty() && pins.contains(&row)
    }

    /// What a hot row costs in RAM, as policies are told: vector, links and directory, about.
    pub(crate) fn row_bytes(&self) -> u32 {
        row_bytes(self.dim)
    }

    /// Records the points that one call touched, where a recording is wanted.
    pub(crate) fn record<'a>(&self, ids: impl IntoIterator<Item = &'a PointId>, write: bool) {
        if let Some(recorder) = &self.recorder {
            recorder.access(ids, self.row_bytes(), write, self.now());
        }
    }

    /// Writes down what was recorded. A recording that fails costs a warning, never the memory.
    pub(crate) async fn write_recording(self: &Arc<Self>) {
        if self.recorder.is_none() {
            return;
        }
        let inner = self.clone();
        let written = offload(move || match &inner.recorder {
            Some(recorder) => recorder.write(),
            None => Ok(()),
        });
        if let Ok(Err(error)) | Err(error) = written.await {
            tracing::warn!(%error, "accesses were not recorded");
        }
    }

    /// What a policy is told of a row.
    pub(crate) fn item(&self, row: Row) -> Item {
        Item {
            row,
            bytes: self.row_bytes(),
            restore_us: self.blocks.read_us(),
        }
    }

    /// How full the hot tier is. The policy hears all events first, since its books count.
    pub(crate) fn fill(&self) -> Fill {
        self.fill_beside(0)
    }

    /// The same with so many bytes of the budget spoken for.
    pub(crate) fn fill_beside(&self, spoken_for: u64) -> Fill {
        self.fill_unlimited(spoken_for).limited(self.aim.rows())
    }

    /// The same where nothing but the bound in bytes counts.
    pub(crate) fn fill_unlimited(&self, spoken_for: u64) -> Fill {
        self.desk.with(|policy| {
            // The directory is never locked while the index is asked: a search asks the directory from inside the index, and the two
            // orders together, with a writer waiting at each, would stop everyone for ever.
            let after = |n: usize| {
                let directory = self.directory.read().bytes_after(n);
                self.hot.bytes_after(n) + directory + policy.bytes_after(n) + spoken_for
            };
            let present = self.directory.read().present() as u64;
            Fill::measure(present, self.config.hot_bound(), after)
        })
    }

    /// How many of these rows fit, from the first on, if each takes so many bytes beside those of any row
    /// ([`extra_bytes`](super::directory::extra_bytes)).
    pub(crate) fn fitting(&self, extra: impl Iterator<Item = u64>) -> usize {
        let sums = extra.scan(0, |sum, bytes| {
            *sum += bytes;
            Some(*sum)
        });
        let sums: Vec<(u64, u64)> = (1..).zip(sums).collect();
        let fit = |(rows, bytes): &(u64, u64)| self.fill_beside(*bytes).free >= *rows;
        // Nearly always there is room for all, or for none.
        if sums.last().is_none_or(fit) {
            return sums.len();
        }
        if sums.first().is_some_and(|first| !fit(first)) {
            return 0;
        }
        sums.partition_point(fit)
    }

    /// Rows that were demoted, replaced or deleted and only wait for readers to be taken out of RAM.
    pub(crate) fn leaving(&self) -> u64 {
        let directory = self.directory.read();
        (directory.present() - directory.len()) as u64
    }

    /// How full the hot tier will be once those rows are out.
    pub(crate) fn staying(&self, fill: Fill) -> Fill {
        fill.without(self.leaving())
    }

    /// The hot tier's bytes by part.
    pub(crate) fn hot_parts(&self) -> BTreeMap<String, u64> {
        let mut parts: BTreeMap<String, u64> = self
            .hot
            .stats()
            .parts
            .into_iter()
            .map(|(k, v)| (format!("index.{k}"), v))
            .collect();
        parts.insert("directory".to_owned(), self.directory.read().bytes());
        parts.insert("policy".to_owned(), self.desk.with(|p| p.bytes()));
        parts
    }

    pub(crate) fn context(&self, fill: Fill) -> Context {
        let budget = self.aim.bytes();
        Context {
            now: self.now(),
            temperature: self.gauge.lock().temperature,
            hot_bytes: (budget as f64 * fill.share()) as u64,
            budget_bytes: budget,
        }
    }

    /// Remembers moves and tells the policy.
    pub(crate) fn moved(&self, steps: &[Step], to: Tier, why: &Why) {
        self.remember(steps, to, why);
        let moved = |step: &Step| Event::Moved {
            item: self.item(step.row),
            to,
        };
        self.desk.tell(steps.iter().map(moved), self.now());
    }

    /// Remembers moves for `explain`.
    pub(crate) fn remember(&self, steps: &[Step], to: Tier, why: &Why) {
        let (at, temperature) = (self.now(), self.gauge.lock().temperature);
        let mut log = self.moves.lock();
        for step in steps {
            let made = Made {
                at,
                to,
                by: why.by,
                reason: step.reason,
                keep: step.keep,
                midpoint: why.midpoint,
                temperature,
            };
            log.push(step.row, made);
        }
        let to = if to == Tier::Hot { "hot" } else { "cold" };
        metrics::counter!("aether_moves_total", "to" => to).increment(steps.len() as u64);
    }

    /// Does the deferred work whose readers are gone. CPU only; may take a while, so not for an async worker's hot path.
    pub(crate) fn reap(&self) {
        // One at a time: a ticket counts as done only when all before it are.
        let _one = self.reaping.lock();
        while let Some((ticket, work)) = self.readers.next() {
            match work {
                Deferred::Killed(rows) => self.reap_killed(&rows),
                Deferred::Demoted(rows) => {
                    for row in rows {
                        self.drop_hot(row);
                    }
                }
                Deferred::Retired { segments, notes } => {
                    let mut cold = self.cold.write();
                    *cold = Arc::new(cold.without_beside(&segments));
                    drop(cold);
                    let view = self.view();
                    for segment in &segments {
                        match view.find(segment.id) {
                            None => self.blocks.forget(segment),
                            Some(now) => self.blocks.forget_emptied(now),
                        }
                    }
                    self.garbage.lock().release(&notes);
                }
            }
            self.readers.finished(ticket);
        }
    }

    fn drop_hot(&self, row: Row) {
        // First the index, then the directory: a row that a search can still find has an entry.
        if let Err(error) = self.hot.remove(row) {
            tracing::error!(%error, row = row.0, "the hot index refused to remove a row");
        }
        self.directory.write().remove(row);
    }

    fn reap_killed(&self, rows: &[(Row, Option<(SegmentId, u32)>)]) {
        let view = self.view();
        for (row, place) in rows {
            if let Some((segment, ordinal)) = place {
                view.mark_dead(*segment, *ordinal);
            }
            if self.directory.read().row(*row).is_some() {
                self.drop_hot(*row);
            }
            self.kills.write().remove(*row);
        }
    }

    /// Waits until the work of a ticket is done, doing it where nobody else does.
    pub(crate) async fn reaped(self: &Arc<Self>, ticket: u64) {
        let reap = || self.reap_off_worker();
        self.readers.until_done(ticket, reap).await;
    }

    /// [`Inner::reap`] on a blocking thread, if there is anything to do.
    pub(crate) async fn reap_off_worker(self: &Arc<Self>) {
        if self.readers.has_work() {
            let inner = self.clone();
            if let Err(error) = offload(move || inner.reap()).await {
                tracing::error!(%error, "removing rows from RAM failed");
            }
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        let fill = self.fill();
        let view = self.view();
        let gauge = *self.gauge.lock();
        let (restore_queue, restore_failures) = {
            let queue = self.restore.lock();
            (queue.len() as u64, queue.failures())
        };
        let (hot, hot_parts) = (self.hot.stats(), self.hot_parts());
        // Each lock is given up before the next is asked for: a guard within the expression below would live to its end, and who holds
        // the directory while it waits for the policy stops everyone for ever.
        let hot_rows = self.directory.read().len() as u64;
        let pinned = self.pins.read().len() as u64;
        let garbage = self.garbage.lock().len() as u64;
        let shadows = self.desk.with_shadows(|s| s.stats());
        let poisoned = self.poisoned.read().as_ref().map(ToString::to_string);
        Stats {
            points: self.points.load(Ordering::Acquire),
            hot_rows,
            cold_rows: view.live_rows() + view.lost_rows(),
            lost_rows: view.lost_rows(),
            lost_segments: view.lost.len() as u64,
            lost_blobs: (view.missed().take(NAMED))
                .map(|l| l.manifest.blob.to_string())
                .collect(),
            hot_bytes: hot_parts.values().sum(),
            hot_parts,
            hot_choice: hot.choice,
            hot_levels: hot.levels,
            hot_work: self.hot_work.read(),
            budget_bytes: self.aim.bytes(),
            hot_capacity_rows: fill.capacity(),
            cold_bytes: view.blob_bytes(),
            cold_index_bytes: view.ram_bytes(),
            codes_bytes: self.blocks.codes_bytes(),
            segments: view.segments.len() as u64,
            partitions: view.partitions() as u64,
            cache_bytes: self.blocks.cache_bytes(),
            garbage,
            pinned,
            restore_queue,
            restore_failures,
            temperature: gauge.temperature,
            pressure: fill.share(),
            midpoint: gauge.midpoint.map(|m| m.at),
            recall: self.probing.recall(),
            recall_comparisons: self.probing.comparisons(),
            policy: self.config.policy.backend.clone(),
            records_dropped: self.recorder.as_ref().map_or(0, Recorder::dropped),
            shadows,
            poisoned,
            remote: self.remote_stats(view.blob_bytes(), view.live_rows()),
            objective: self.aim.derived(),
            counted: self.counts.read(),
        }
    }
}

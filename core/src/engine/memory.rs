//! The handle that users hold.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use super::builder::MemoryBuilder;
use super::commit::{self, Call, Prepared, Reply, Wish};
use super::explained::{Explained, Mover};
use super::inner::{Inner, Step, Why};
use super::offload::offload;
use super::snapshot::{self, SnapshotReport};
use super::stats::Stats;
use super::turn::BY_HAND;
use super::types::{
    Answer, Changed, Changes, Compacted, Parts, Point, Record, SearchRequest, TickReport, Written,
    check_reward,
};
use crate::clock::SystemClock;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::id::{PointId, Row};
use crate::registry::Registry;
use crate::role::Event;
use crate::vector::Metric;

/// A running memory. Cloning gives another handle to the same one; all methods may be called from many tasks at once.
///
/// Dropping the last handle stops the background work without a farewell: nothing acknowledged is lost, but the next open takes
/// longer. [`Memory::close`] says farewell.
#[derive(Clone, Debug)]
pub struct Memory {
    inner: Arc<Inner>,
    tasks: Arc<Tasks>,
}

/// The background tasks; they end with the last handle.
#[derive(Debug)]
struct Tasks {
    running: Mutex<Vec<JoinHandle<()>>>,
    stop: Arc<Notify>,
}

impl Drop for Tasks {
    fn drop(&mut self) {
        for task in self.running.get_mut().drain(..) {
            task.abort();
        }
    }
}

impl Memory {
    /// Opens the memory that a configuration describes, with every plug-in linked into this program.
    ///
    /// # Errors
    /// As [`MemoryBuilder::open`].
    pub async fn open(config: Config) -> Result<Self> {
        MemoryBuilder::new(config, Arc::new(Registry::discover()?))
            .open()
            .await
    }

    pub(super) fn start(inner: Arc<Inner>, calls: mpsc::Receiver<Call>) -> Self {
        let stop = Arc::new(Notify::new());
        let mut running = vec![tokio::spawn(commit::run(inner.clone(), calls))];
        running.push(tokio::spawn(reap_when_readers_leave(inner.clone())));
        if !inner.config.flux.tick.0.is_zero() {
            running.push(tokio::spawn(tick_by_itself(inner.clone(), stop.clone())));
            running.push(tokio::spawn(compact_by_itself(inner.clone(), stop.clone())));
        }
        Self {
            inner,
            tasks: Arc::new(Tasks {
                running: Mutex::new(running),
                stop,
            }),
        }
    }

    /// Writes points; each replaces the point of its id, if there is one. All of them or, on an error, none. On return, under the
    /// default durability, they survive a power cut, and every search that begins later finds them.
    ///
    /// # Errors
    /// `InvalidInput` naming the point and field: a wrong dimension, NaN or infinity, a zero vector under cosine, an empty or
    /// oversized id, a payload or batch beyond `[limits]`, an id twice in one batch, a time to live of zero. `Overloaded` when the queue
    /// stays full. `Poisoned` after a failed sync. `Unavailable` when rows had to land cold and the cold store is down.
    pub async fn upsert(&self, points: Vec<Point>) -> Result<Written> {
        self.inner.check_writable()?;
        let prepared = self.prepare(points)?;
        if prepared.is_empty() {
            return Ok(Written {
                rows: Vec::new(),
                cold: 0,
            });
        }
        match self.inner.call(Wish::Upsert(prepared)).await? {
            Reply::Written(written) => Ok(written),
            _ => Err(Error::internal("an upsert was answered as something else")),
        }
    }

    /// Makes staged changes: all of them or, on an error, none. Every reader sees either all or none of them, as of one moment between the
    /// call and its return; what others wrote meanwhile stays.
    ///
    /// # Errors
    /// As [`Memory::upsert`] and [`Memory::delete`], whose limits hold for points and ids together; `InvalidInput` for an id that is both
    /// written and deleted, or deleted twice.
    pub async fn apply(&self, changes: Changes) -> Result<Changed> {
        self.inner.check_writable()?;
        if changes.is_empty() {
            let written = Written {
                rows: Vec::new(),
                cold: 0,
            };
            return Ok(Changed {
                written,
                deleted: 0,
            });
        }
        let Changes { points, ids } = changes;
        self.check_batch(points.len() + ids.len(), "changes")?;
        let mut seen: std::collections::HashSet<&PointId> = points.iter().map(|p| &p.id).collect();
        for id in &ids {
            id.validate()?;
            if !seen.insert(id) {
                return Err(Error::invalid_input(format!(
                    "id {} is in the changes twice: which one should count is not said",
                    Inner::brief(id)
                )));
            }
        }
        let prepared = self.prepare(points)?;
        match self.inner.call(Wish::Change(prepared, ids)).await? {
            Reply::Changed(changed) => Ok(changed),
            _ => Err(Error::internal("changes were answered as something else")),
        }
    }

    fn check_batch(&self, len: usize, what: &str) -> Result<()> {
        let most = self.inner.config.limits.batch_rows;
        if len <= most {
            return Ok(());
        }
        Err(Error::invalid_input(format!(
            "batch: expected at most {most} {what} (limits.batch_rows), got {len}; split it"
        )))
    }

    fn prepare(&self, points: Vec<Point>) -> Result<Vec<Prepared>> {
        let limits = &self.inner.config.limits;
        self.check_batch(points.len(), "points")?;
        let mut prepared = Vec::with_capacity(points.len());
        let mut seen = std::collections::HashSet::with_capacity(points.len());
        let mut bytes = 0;
        for (i, point) in points.into_iter().enumerate() {
            let at = |e: Error| e.prefixed(format!("point {i}"));
            point.id.validate().map_err(at)?;
            self.inner
                .metric
                .check(&point.vector, self.inner.dim)
                .map_err(at)?;
            if let Some(ttl) = point.ttl
                && ttl.lifetime.is_zero()
            {
                return Err(at(Error::invalid_input("ttl: expected more than zero")));
            }
            if !seen.insert(point.id.clone()) {
                return Err(at(Error::invalid_input(format!(
                    "id {} is in the batch twice: which one should stay is not said",
                    Inner::brief(&point.id)
                ))));
            }
            let payload = match point.payload {
                None => None,
                Some(value) => {
                    let text = serde_json::to_vec(&value).map_err(|e| {
                        at(Error::invalid_input("payload: not JSON").with_source(e))
                    })?;
                    if text.len() as u64 > limits.payload_bytes.0 {
                        return Err(at(Error::invalid_input(format!(
                            "payload: expected at most {} of JSON text (limits.payload_bytes), got {} bytes",
                            limits.payload_bytes,
                            text.len()
                        ))));
                    }
                    Some(Bytes::from(text))
                }
            };
            bytes += point.vector.len() as u64 * 4 + payload.as_ref().map_or(0, |p| p.len() as u64);
            prepared.push(Prepared {
                id: point.id,
                vector: point.vector,
                payload,
                ttl: point.ttl,
            });
        }
        if bytes > limits.batch_bytes.0 {
            return Err(Error::invalid_input(format!(
                "batch: expected at most {} of vectors and payloads (limits.batch_bytes), got {bytes} bytes; split it",
                limits.batch_bytes
            )));
        }
        Ok(prepared)
    }

    /// A point with its vector and payload; `None` if there is none, or its time is up. Counts as an access.
    ///
    /// # Errors
    /// `InvalidInput` for an invalid id; `Corrupt` or `Unavailable` when a cold point cannot be read.
    pub async fn get(&self, id: &PointId) -> Result<Option<Record>> {
        let mut found = self
            .inner
            .get(std::slice::from_ref(id), Parts::default())
            .await?;
        Ok(found.pop().flatten())
    }

    /// Many points, in the order asked, with the parts wanted. Counts as accesses.
    ///
    /// # Errors
    /// As [`Memory::get`], for the first of them that cannot be read; the others are had by asking for fewer at once.
    pub async fn get_many(&self, ids: &[PointId], parts: Parts) -> Result<Vec<Option<Record>>> {
        self.inner.get(ids, parts).await
    }

    /// The nearest points, and what was looked at to find them.
    ///
    /// # Errors
    /// `InvalidInput` for a bad query, `k`, `ef` or `probe`. `Overloaded` when too many searches wait, or no turn came before the
    /// deadline, or writes and moves disturbed it until then. A segment that cannot be read is no error: the answer is marked, see [`Coverage::cuts`](super::Coverage).
    pub async fn search(&self, request: SearchRequest) -> Result<Answer> {
        self.inner.search(request).await
    }

    /// Deletes points; answers how many there were. On return, under the default durability, none comes back.
    ///
    /// # Errors
    /// `InvalidInput` for an invalid id or too many of them; otherwise as [`Memory::upsert`].
    pub async fn delete(&self, ids: &[PointId]) -> Result<usize> {
        self.count(ids, Wish::Delete).await
    }

    /// Keeps points in RAM whatever the policy says, and brings cold ones back. Answers how many there are. Survives restarts.
    ///
    /// # Errors
    /// As [`Memory::delete`].
    pub async fn pin(&self, ids: &[PointId]) -> Result<usize> {
        let count = self.count(ids, |ids| Wish::Pin(ids, true)).await?;
        self.promote(ids).await?;
        Ok(count)
    }

    /// Leaves points to the policy again. Answers how many there are.
    ///
    /// # Errors
    /// As [`Memory::delete`].
    pub async fn unpin(&self, ids: &[PointId]) -> Result<usize> {
        self.count(ids, |ids| Wish::Pin(ids, false)).await
    }

    async fn count(
        &self,
        ids: &[PointId],
        wish: impl FnOnce(Vec<PointId>) -> Wish,
    ) -> Result<usize> {
        self.inner.check_writable()?;
        ids.iter().try_for_each(PointId::validate)?;
        self.check_batch(ids.len(), "ids")?;
        if ids.is_empty() {
            return Ok(0);
        }
        match self.inner.call(wish(ids.to_vec())).await? {
            Reply::Count(n) => Ok(n),
            _ => Err(Error::internal("a count was answered as something else")),
        }
    }

    /// Tells the policy how useful an answer was, from 0 (useless) to 1 (just right); `false` if there is no such point.
    ///
    /// # Errors
    /// `InvalidInput` for an invalid id or a reward outside 0 to 1.
    pub async fn feedback(&self, id: &PointId, reward: f32) -> Result<bool> {
        self.inner.check_open()?;
        id.validate()?;
        check_reward(reward)?;
        let Some(row) = self.current_row(id).await? else {
            return Ok(false);
        };
        self.inner
            .desk
            .tell([Event::Feedback { row, reward }], self.inner.now());
        if let Some(recorder) = &self.inner.recorder {
            recorder.judge(id, reward);
        }
        Ok(true)
    }

    async fn current_row(&self, id: &PointId) -> Result<Option<Row>> {
        if let Some(entry) = self.inner.directory.read().id(id) {
            return Ok(Some(entry.row));
        }
        Ok(self.inner.find_cold(id).await?.map(|(row, _)| row))
    }

    async fn current_rows(&self, ids: &[PointId]) -> Result<Vec<Row>> {
        ids.iter().try_for_each(PointId::validate)?;
        let mut rows = Vec::with_capacity(ids.len());
        for id in ids {
            rows.extend(self.current_row(id).await?);
        }
        Ok(rows)
    }

    /// Moves points to the cold store now. Pinned ones stay. Answers how many moved.
    ///
    /// # Errors
    /// `InvalidInput` for an invalid id; `Unavailable` when a store is down; nothing is lost then.
    pub async fn demote(&self, ids: &[PointId]) -> Result<usize> {
        let rows = self.current_rows(ids).await?;
        let steps: Vec<Step> = rows
            .into_iter()
            .map(|r| Step::unasked(r, BY_HAND))
            .collect();
        let inner = self.inner.clone();
        // A task of its own, so that a caller who gives up does not cut a migration in half.
        let moving = tokio::spawn(async move {
            let _flux = inner.flux.lock().await;
            inner
                .demote(
                    &steps,
                    &Why {
                        by: Mover::Hand,
                        midpoint: None,
                    },
                )
                .await
        });
        moving.await.map_err(Error::task)?
    }

    /// Brings points into RAM now, as far as the budget allows. Answers how many moved.
    ///
    /// # Errors
    /// As [`Memory::demote`].
    pub async fn promote(&self, ids: &[PointId]) -> Result<usize> {
        let rows = self.current_rows(ids).await?;
        let steps: Vec<Step> = rows
            .into_iter()
            .map(|r| Step::unasked(r, BY_HAND))
            .collect();
        let inner = self.inner.clone();
        let moving = tokio::spawn(async move {
            let _flux = inner.flux.lock().await;
            let mut moved = 0;
            for steps in steps.chunks(1024) {
                let why = Why {
                    by: Mover::Hand,
                    midpoint: None,
                };
                moved += inner.promote(steps, &why).await?.0.len();
            }
            Ok(moved)
        });
        moving.await.map_err(Error::task)?
    }

    /// Why a point is where it is, and what would move it; `None` if there is no such point. Counts as no access.
    ///
    /// # Errors
    /// `InvalidInput` for an invalid id; `Unavailable` or `Corrupt` when the metadata store cannot be read.
    pub async fn explain(&self, id: &PointId) -> Result<Option<Explained>> {
        self.inner.explain(id).await
    }

    /// The same in the eyes of a shadow of `[shadow] policies`: where it would have the point, and why.
    ///
    /// # Errors
    /// As [`Memory::explain`]; `InvalidInput` for a policy that is neither live nor a shadow.
    pub async fn explain_by(&self, id: &PointId, policy: &str) -> Result<Option<Explained>> {
        self.inner.explain_by(id, policy).await
    }

    /// The memory's figures now.
    pub fn stats(&self) -> Stats {
        self.inner.stats()
    }

    /// Sets the flux's temperature from the next turn on, within its configured bounds.
    ///
    /// # Errors
    /// `InvalidInput` for a negative number or one that is not finite.
    pub fn set_temperature(&self, temperature: f64) -> Result<()> {
        if !temperature.is_finite() || temperature < 0.0 {
            return Err(Error::invalid_input(format!(
                "temperature: expected 0 or more, got {temperature}"
            )));
        }
        self.inner.gauge.lock().wanted = Some(temperature);
        Ok(())
    }

    /// One turn of the scheduler, now.
    ///
    /// # Errors
    /// What a migration says when it fails for good; a store that is down for now only delays it.
    pub async fn tick(&self) -> Result<TickReport> {
        let inner = self.inner.clone();
        let turn = async move {
            let mut report = inner.tick().await?;
            report.compacted = inner.compaction_turn().await?;
            Ok(report)
        };
        tokio::spawn(turn).await.map_err(Error::task)?
    }

    /// Reclaims what removed rows left in the hot index, and merges the cold tier's segments, leaving out what is dead or has expired, as
    /// fast as it goes. Searches and writes go on. The blobs of merged segments go after `compaction.grace`, when no search reads them.
    ///
    /// # Errors
    /// What the index says; `Poisoned` or `Closed` where nothing may be written; `Unavailable` when a store is down, `Corrupt` when a
    /// segment is damaged. What was merged until then stays so, and nothing is lost.
    pub async fn compact(&self) -> Result<Compacted> {
        self.inner.check_open()?;
        let inner = self.inner.clone();
        // A task of its own, so that a caller who gives up does not cut it in half.
        let compacting = async move {
            let hot = inner.clone();
            let reclaimed = offload(move || hot.hot.compact());
            reclaimed.await??;
            inner.compact().await
        };
        tokio::spawn(compacting).await.map_err(Error::task)?
    }

    /// Copies the whole memory, as of one moment, into a new folder. Writes wait while the metadata is copied.
    ///
    /// # Errors
    /// `InvalidInput` when the folder exists and is not empty. `Unavailable` when it cannot be written. `Corrupt` when a segment cannot be read: a
    /// copy would have a hole.
    pub async fn snapshot(&self, folder: impl AsRef<Path>) -> Result<SnapshotReport> {
        self.inner.check_open()?;
        snapshot::write(&self.inner, folder.as_ref()).await
    }

    /// Copies a snapshot into the stores that a configuration names, which must be empty; open the memory afterwards.
    ///
    /// # Errors
    /// `InvalidInput` when the stores hold a memory already; `Config` when the cold store holds anything of another. `Corrupt` for a damaged snapshot; the stores may then hold part of it,
    /// but no memory opens from them. `Config` when the plug-ins cannot be built.
    pub async fn restore(
        folder: impl AsRef<Path>,
        config: Config,
        registry: Arc<Registry>,
    ) -> Result<SnapshotReport> {
        let clock = Arc::new(SystemClock::new());
        snapshot::restore(folder.as_ref(), config, registry, clock).await
    }

    /// Says farewell: refuses new calls, finishes what was acknowledged, writes down access statistics, the policy's books and the hot
    /// index's snapshot, and gives up the folder. A second call does nothing.
    ///
    /// # Errors
    /// What a store says; the folder is given up all the same, and nothing acknowledged is lost.
    pub async fn close(&self) -> Result<()> {
        if self.inner.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        self.inner.admission.close();
        self.tasks.stop.notify_waiters();
        // Whoever holds these finishes first; nobody comes after.
        let compaction = self.inner.compaction.lock().await;
        let flux = self.inner.flux.lock().await;
        self.inner.write_recording().await;
        let flushed = if self.inner.poisoned.read().is_some() {
            Ok(0)
        } else {
            self.inner.flush(true).await
        };
        let writer = self.inner.writer.lock().await;
        self.inner.reap_off_worker().await;
        let inner = self.inner.clone();
        let saved = offload(move || inner.save_snapshot()).await?;
        let closed = self.inner.meta.close().await;
        drop(self.inner.lock.lock().take());
        drop((writer, flux, compaction));
        let running: Vec<_> = self.tasks.running.lock().drain(..).collect();
        running.iter().for_each(JoinHandle::abort);
        // Until they have ended they hold the stores, and with them the stores' own locks. That they were stopped is no error.
        futures::future::join_all(running).await;
        flushed?;
        saved?;
        closed
    }

    /// The settings in force.
    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    /// The plug-ins it was assembled from.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.inner.registry
    }

    /// Dimension of every vector.
    pub fn dim(&self) -> usize {
        self.inner.dim
    }

    /// How near two vectors are.
    pub fn metric(&self) -> Metric {
        self.inner.metric
    }
}

async fn tick_by_itself(inner: Arc<Inner>, stop: Arc<Notify>) {
    let mut turns = tokio::time::interval(inner.config.flux.tick.0);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = turns.tick() => {}
            () = stop.notified() => return,
        }
        match inner.tick().await {
            Ok(_) => {}
            Err(error) if error.is_closed() => return,
            Err(error) => tracing::warn!(%error, "a turn of the scheduler failed"),
        }
    }
}

/// Beside the scheduler's turns, so that rows find room while a segment is written.
async fn compact_by_itself(inner: Arc<Inner>, stop: Arc<Notify>) {
    let mut turns = tokio::time::interval(inner.config.flux.tick.0);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = turns.tick() => {}
            () = stop.notified() => return,
        }
        match inner.compaction_turn().await {
            Ok(_) => {}
            Err(error) if error.is_closed() => return,
            Err(error) => tracing::warn!(%error, "compaction failed"),
        }
    }
}

async fn reap_when_readers_leave(inner: Arc<Inner>) {
    loop {
        inner.readers.changed().await;
        inner.reap_off_worker().await;
    }
}

//! One turn of the scheduler: temperature, expiry, demotion, promotion, and what is due to be written down.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::commit::{Call, Reply, Wish};
use super::explained::Mover;
use super::inner::{Inner, Step, Why};
use super::readers::Deferred;
use super::record::{Expiry, encode_clock, key};
use super::restore::Waiting;
use super::types::TickReport;
use crate::clock::Time;
use crate::error::{Error, Result, Retry};
use crate::flux::{Draw, Fill, Midpoint, Temperature};
use crate::id::{PointId, Row};
use crate::role::{Batch, Context, Event, KeyRange, Table, Tier, Verdict, Want};
use crate::seal::seal;

/// Rows promoted in one turn at most, so that writers wait milliseconds for it and not seconds.
const PROMOTED_PER_TURN: usize = 256;
/// Rows that a policy may wish for in one turn.
const WISHES_PER_TURN: usize = 64;
/// Points removed in one turn because their time was up.
const EXPIRED_PER_TURN: usize = 4096;
/// The policy's books are written down less often the larger they are: once a flush for each so many bytes.
const POLICY_BYTES_PER_FLUSH: u64 = 4 << 20;
/// Part of the policy's books that goes into one value.
pub(super) const POLICY_PART: usize = 512 << 10;
/// Binds the policy's checksum to its place.
const POLICY_SEED: u64 = 0x706f_6c69_6379;

/// What the scheduler keeps between turns.
#[derive(Debug)]
pub(crate) struct FluxState {
    pub(super) temperature: Temperature,
    pub(super) rng: fastrand::Rng,
    pub(super) flushed: Time,
    pub(super) flushes_until_policy: u64,
    /// Rows drawn to leave that wait for enough others to make a migration worth it.
    pub(super) drifting: BTreeMap<Row, Verdict>,
    /// The spread and midpoint that the last sample gave.
    pub(super) midpoint: Option<Midpoint>,
}

impl Inner {
    /// One turn.
    pub(super) async fn tick(self: &Arc<Self>) -> Result<TickReport> {
        let mut report = TickReport::default();
        self.counts.ticks.fetch_add(1, Ordering::Relaxed);
        if !self.may_turn()? {
            return Ok(report);
        }
        // Before the flux is taken: what has expired goes through the committer, and that may be waiting for room, which takes the flux.
        report.expired = self.expire().await?;
        let mut flux = self.flux.lock().await;
        self.reap_off_worker().await;
        if !self.may_turn()? {
            return Ok(report);
        }
        self.steer();
        let fill = self.fill();
        self.resize_shadows(fill);
        let high_water = self.config.flux.high_water;
        if let Some(wanted) = self.gauge.lock().wanted.take() {
            flux.temperature.set(wanted);
        } else {
            let queue = self.restore.lock().len() as f64 / self.config.flux.restore_queue as f64;
            flux.temperature
                .tick(fill.share() > high_water || queue > 0.5);
        }
        self.gauge.lock().temperature = flux.temperature.value();

        let (victims, scored) = self.victims(&mut flux, self.staying(fill));
        report.scored = scored;
        if !victims.is_empty() {
            report.demoted = self.demote_verdicts(&victims, flux.midpoint).await?;
        }
        self.queue_missed(&mut flux);
        report.promoted = self.restore_turn(&mut flux).await?;
        self.reclaim().await?;
        self.write_recording().await;
        self.flush_if_due(&mut flux).await?;

        let fill = self.fill();
        report.temperature = flux.temperature.value();
        report.pressure = fill.share();
        report.midpoint = flux.midpoint.map(|m| m.at);
        {
            let mut gauge = self.gauge.lock();
            gauge.temperature = report.temperature;
            gauge.midpoint = flux.midpoint;
        }
        metrics::gauge!("aether_temperature").set(report.temperature);
        metrics::gauge!("aether_pressure").set(report.pressure);
        metrics::gauge!("aether_hot_budget_bytes").set(self.aim.bytes() as f64);
        metrics::gauge!("aether_hot_rows").set(fill.rows as f64);
        metrics::gauge!("aether_hot_bytes").set(self.hot_parts().values().sum::<u64>() as f64);
        let view = self.view();
        let lost = view.lost_rows();
        metrics::gauge!("aether_cold_rows").set((view.live_rows() + lost) as f64);
        metrics::gauge!("aether_lost_rows").set(lost as f64);
        self.publish_remote();
        Ok(report)
    }

    /// Whether anything may move: where nothing may be written, reads go on and nothing can.
    fn may_turn(&self) -> Result<bool> {
        self.check_open()?;
        Ok(self.poisoned.read().is_none())
    }

    /// Which rows leave this turn, and how many were scored. Over the high-water mark probability ends: the worst go until the
    /// low-water mark. Between the marks each row of a sample leaves by chance. Below, only what the policy is certain of.
    fn victims(&self, flux: &mut FluxState, fill: Fill) -> (Vec<Verdict>, usize) {
        let config = &self.config.flux;
        let context = self.context(fill);
        let over_high = fill.share() > config.high_water;
        let excess = fill.above(config.low_water);
        let sample = self.desk.with(|policy| {
            policy.victims(
                Want {
                    rows: config.sample,
                    bytes: 0,
                },
                &context,
            )
        });
        let scored = sample.len();
        let mut keeps: Vec<f64> = sample
            .iter()
            .map(|v| v.keep)
            .filter(|k| k.is_finite())
            .collect();
        let leaving = excess as f64 / fill.rows.max(1) as f64;
        if let Some(midpoint) = Midpoint::of(&mut keeps, leaving) {
            flux.midpoint = Some(midpoint);
        }
        if over_high {
            let bytes = excess * u64::from(self.row_bytes());
            let rows = (excess as usize).min(config.batch_rows * 4).max(1);
            let worst = self
                .desk
                .with(|p| p.victims(Want { rows, bytes }, &context));
            return (worst, scored);
        }
        let temperature = flux.temperature.value();
        let draw = flux.midpoint.map(|midpoint| Draw {
            midpoint,
            steepness: config.steepness,
            temperature,
        });
        let mut leaving: Vec<Verdict> = Vec::new();
        for verdict in sample {
            let room = excess as usize > flux.drifting.len();
            if verdict.certain {
                leaving.push(verdict);
            } else if room && draw.is_some_and(|d| flux.rng.f64() < d.leave(verdict.keep)) {
                flux.drifting.insert(verdict.row, verdict);
            }
        }
        // Rows that drift out wait for one another: a segment for each would cost a request each for ever.
        if flux.drifting.len() >= self.batch_min(fill) {
            let drifting = std::mem::take(&mut flux.drifting);
            let at = flux.midpoint.map_or(f64::INFINITY, |m| m.at);
            leaving.extend(self.desk.with(|policy| {
                let still = |v: &Verdict| {
                    // Used again since it was drawn: it stays.
                    policy
                        .explain(v.row, &context)
                        .keep
                        .is_some_and(|k| k <= at.max(v.keep))
                };
                drifting.into_values().filter(still).collect::<Vec<_>>()
            }));
        }
        (leaving, scored)
    }

    /// Rows that make a migration worth its segment: half of what lies between the marks, 256 at most.
    fn batch_min(&self, fill: Fill) -> usize {
        let config = &self.config.flux;
        let between = fill.capacity() as f64 * (config.high_water - config.low_water);
        ((between / 2.0) as usize).clamp(1, 256)
    }

    async fn demote_verdicts(
        self: &Arc<Self>,
        victims: &[Verdict],
        midpoint: Option<Midpoint>,
    ) -> Result<usize> {
        self.mend_books(victims);
        let step = |v: &Verdict| Step {
            row: v.row,
            keep: Some(v.keep),
            reason: v.reason,
        };
        let steps: Vec<Step> = victims.iter().map(step).collect();
        let why = Why {
            by: Mover::Flux,
            midpoint: midpoint.map(|m| m.at),
        };
        match self.demote(&steps, &why).await {
            Ok(moved) => Ok(moved),
            // A cold store that is down for now must not stop the scheduler: demotion waits, nothing is lost.
            Err(error) if error.retry() != Retry::Never => {
                tracing::warn!(%error, "demotion waits");
                Ok(0)
            }
            Err(error) => Err(error),
        }
    }

    /// Tells the policy again where a row is, or that it is pinned, when it proposes one that cannot leave: its books may have been
    /// cut short by a restart or a dropped access.
    fn mend_books(&self, victims: &[Verdict]) {
        let mut events = Vec::new();
        {
            let directory = self.directory.read();
            for Verdict { row, .. } in victims {
                match directory.row(*row) {
                    Some(e) if e.killed() => events.push(Event::Removed { row: *row }),
                    Some(e) if !e.leaving() => {}
                    _ => events.push(Event::Moved {
                        item: self.item(*row),
                        to: Tier::Cold,
                    }),
                }
                if self.pinned(*row) {
                    events.push(Event::Pinned {
                        row: *row,
                        pinned: true,
                    });
                }
            }
        }
        if !events.is_empty() {
            self.desk.remind(events, self.now());
        }
    }

    /// Asks the policy about cold rows that were used since the last turn, and which others it wishes for, and queues those that it
    /// admits.
    fn queue_missed(&self, flux: &mut FluxState) {
        let missed = self.desk.take_missed();
        let fill = self.fill();
        let context = self.context(fill);
        let mut verdicts: Vec<Verdict> = self.desk.with(|policy| {
            let admitted = missed.iter().map(|item| policy.admit(item, &context));
            admitted.collect()
        });
        verdicts.extend(self.wishes(&context));
        if verdicts.is_empty() {
            return;
        }
        let roomy = fill.share() < self.config.flux.low_water;
        let mut restore = self.restore.lock();
        for verdict in verdicts {
            let draw = flux.midpoint.map(|midpoint| Draw {
                midpoint,
                steepness: self.config.flux.steepness,
                temperature: flux.temperature.value(),
            });
            // With room to spare there is nothing to weigh a candidate against.
            let enters = verdict.certain
                || roomy
                || draw.is_none_or(|d| flux.rng.f64() < d.enter(verdict.keep));
            if enters && !restore.admit(&verdict) {
                self.counts.restores_dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Cold rows that the policy would like in the hot tier although nobody asked for them just now.
    fn wishes(&self, context: &Context) -> Vec<Verdict> {
        let mut wishes = self.desk.with(|p| p.wishes(WISHES_PER_TURN, context));
        let directory = self.directory.read();
        // Its books may lag behind: what is hot already needs no promotion.
        wishes.retain(|v| directory.row(v.row).is_none());
        wishes
    }

    /// Promotes what waits, making room by demoting what is worth less.
    async fn restore_turn(self: &Arc<Self>, flux: &mut FluxState) -> Result<usize> {
        let now = self.now();
        let ready = self.restore.lock().take(PROMOTED_PER_TURN, now);
        if ready.is_empty() {
            return Ok(0);
        }
        let fill = self.fill();
        let ceiling = (fill.capacity() as f64 * self.config.flux.high_water) as u64;
        let room = ceiling.saturating_sub(fill.rows) as usize;
        if ready.len() > room {
            self.swap_out(&ready[room..], flux, fill).await?;
        }
        let midpoint = flux.midpoint.map(|m| m.at);
        let mut promoted = 0;
        for by in [Mover::Hand, Mover::Flux] {
            let mine = ready.iter().filter(|w| mover_of(w.reason) == by);
            let mut parts: Vec<Vec<Waiting>> = vec![mine.cloned().collect()];
            while let Some(mut mine) = parts.pop() {
                if mine.is_empty() {
                    continue;
                }
                let step = |w: &Waiting| Step {
                    row: w.row,
                    keep: Some(w.keep),
                    reason: w.reason,
                };
                let steps: Vec<Step> = mine.iter().map(step).collect();
                match self.promote(&steps, &Why { by, midpoint }).await {
                    Ok((moved, no_room)) => {
                        promoted += moved.len();
                        let mut restore = self.restore.lock();
                        // A row that found no room is worth less than what is there: it comes back when it is used again. Only what a
                        // caller asked for keeps waiting.
                        let asked =
                            |w: &Waiting| no_room.contains(&w.row) && w.keep == f64::INFINITY;
                        mine.into_iter()
                            .filter(asked)
                            .for_each(|w| restore.put_back(w));
                    }
                    // Some of them are damaged or lost: the others need not wait for those.
                    Err(error) if error.is_corrupt() && mine.len() > 1 => {
                        let later = mine.split_off(mine.len() / 2);
                        parts.extend([later, mine]);
                    }
                    Err(error) => {
                        let mut restore = self.restore.lock();
                        for waiting in mine {
                            restore.failed(waiting, now, flux.rng.f64(), &error.to_string());
                        }
                        drop(restore);
                        self.check_writable()?;
                    }
                }
            }
        }
        Ok(promoted)
    }

    /// Demotes as many rows as wait, but only such that are worth less than the least worthy of them.
    async fn swap_out(
        self: &Arc<Self>,
        waiting: &[Waiting],
        flux: &FluxState,
        fill: Fill,
    ) -> Result<()> {
        // What the policy is certain of enters over any victim; the others only over what is worth less than all of them.
        let weighed = waiting.iter().filter(|w| !w.certain).map(|w| w.keep);
        let least = weighed.fold(f64::INFINITY, f64::min);
        // A little more than is needed, so that the next ones find room and segments do not become tiny.
        let rows = waiting.len().max(self.batch_min(fill));
        let bytes = rows as u64 * u64::from(self.row_bytes());
        let context = self.context(fill);
        let want = Want { rows, bytes };
        let victims = self.desk.with(|policy| policy.victims(want, &context));
        let worse: Vec<Verdict> = victims
            .into_iter()
            .filter(|v| v.certain || v.keep < least)
            .collect();
        if !worse.is_empty() {
            self.demote_verdicts(&worse, flux.midpoint).await?;
        }
        Ok(())
    }

    /// Makes room for so many new rows, waiting at most `memory.insert_wait`. Whoever asked looks at the room itself afterwards.
    pub(super) async fn make_room(self: &Arc<Self>, rows: usize) {
        let deadline = Instant::now() + self.config.memory.insert_wait.0;
        loop {
            let fill = self.fill();
            let short = (rows as u64).saturating_sub(fill.free);
            if short == 0 || fill.capacity() == 0 || Instant::now() >= deadline {
                return;
            }
            let made = tokio::time::timeout_at(deadline, self.make_room_once(fill, short)).await;
            match made {
                Ok(Ok(true)) => {}
                Ok(Ok(false)) | Err(_) => return,
                Ok(Err(error)) => {
                    tracing::warn!(%error, "no room could be made for new rows");
                    return;
                }
            }
        }
    }

    /// Demotes what is needed and a little more, less what is on its way out already: a slow reader holds rows in RAM after they were
    /// demoted, and others in their place would have to wait for the same reader. `false` when nothing can leave.
    async fn make_room_once(self: &Arc<Self>, fill: Fill, short: u64) -> Result<bool> {
        let inner = self.clone();
        // On a task of its own: a migration that the caller's deadline cut in half would leave its machine undone.
        let made = tokio::spawn(async move {
            let mut flux = inner.flux.lock().await;
            flux.temperature.tick(true);
            inner.gauge.lock().temperature = flux.temperature.value();
            let leaving = inner.leaving();
            let moved = if leaving < short {
                inner.send_away(&flux, fill, short - leaving).await?
            } else {
                0
            };
            drop(flux);
            if moved as u64 + leaving == 0 {
                return Ok(false);
            }
            let ticket = inner.readers.defer(Deferred::Demoted(Vec::new()));
            inner.reaped(ticket).await;
            Ok(true)
        });
        made.await.map_err(Error::task)?
    }

    /// Demotes so many rows and a little more; answers how many moved.
    async fn send_away(
        self: &Arc<Self>,
        flux: &FluxState,
        fill: Fill,
        short: u64,
    ) -> Result<usize> {
        let slack = (fill.capacity() as f64 * (1.0 - self.config.flux.low_water)) as u64 / 4;
        let rows = (short + slack).min(fill.rows);
        let context = self.context(fill);
        let want = Want {
            rows: rows as usize,
            bytes: rows * u64::from(self.row_bytes()),
        };
        let victims = self.desk.with(|policy| policy.victims(want, &context));
        if victims.is_empty() {
            return Ok(0);
        }
        self.demote_verdicts(&victims, flux.midpoint).await
    }

    /// Removes points whose time is up, oldest first.
    pub(super) async fn expire(self: &Arc<Self>) -> Result<usize> {
        let _one = self.expiring.lock().await;
        let now = self.now();
        let end = key::due(now.0.saturating_add(1), Row(0));
        let range = KeyRange {
            start: std::ops::Bound::Included(Bytes::from_static(key::DUE)),
            end: std::ops::Bound::Excluded(end),
        };
        let due = self
            .meta
            .scan(Table::State, range, EXPIRED_PER_TURN)
            .await?;
        if due.is_empty() {
            return Ok(0);
        }
        let mut rows: Vec<(PointId, Row)> = Vec::with_capacity(due.len());
        for (k, id) in &due {
            let row = k.get(key::DUE.len() + 8..).unwrap_or_default();
            rows.push((PointId::decode(id)?, Row::decode(row)?));
        }
        let expiries = self
            .expiries_now(&rows.iter().map(|(_, r)| *r).collect::<Vec<_>>())
            .await?;
        // A point that reads have renewed gets a later place in the order.
        let later: Vec<(PointId, Row, Expiry)> = rows
            .iter()
            .filter_map(|(id, row)| expiries.get(row).map(|e| (id.clone(), *row, *e)))
            .filter(|(_, _, e)| e.at > now.0)
            .collect();
        let ended = |row: &Row| expiries.get(row).is_some_and(|e| e.at <= now.0);
        let wish: Vec<(PointId, Row)> = rows.into_iter().filter(|(_, row)| ended(row)).collect();
        let removed = if wish.is_empty() {
            0
        } else {
            self.expire_rows(wish).await?
        };
        let writer = self.writer.lock().await;
        // The memory may have been closed meanwhile.
        self.check_writable()?;
        let keys: Vec<Bytes> = later.iter().map(|(_, row, _)| key::expiry(*row)).collect();
        let present = self.get_chunked(Table::State, &keys).await?;
        let mut batch = Batch::new(writer.epoch);
        due.into_iter()
            .for_each(|(k, _)| batch.delete(Table::State, k));
        for ((id, row, expiry), present) in later.into_iter().zip(present) {
            // Gone: deleted or replaced since it was looked up. Writing it again would leave it for ever.
            if present.is_none() {
                continue;
            }
            batch.put(Table::State, key::due(expiry.at, row), id.key());
            batch.put(Table::State, key::expiry(row), expiry.encode());
        }
        self.commit_durably(&writer, batch).await?;
        self.counts
            .expired
            .fetch_add(removed as u64, Ordering::Relaxed);
        Ok(removed)
    }

    /// Times to live of rows, as reads have renewed them, in RAM too.
    pub(super) async fn expiries_now(&self, rows: &[Row]) -> Result<BTreeMap<Row, Expiry>> {
        let mut expiries = self.expiries(rows).await?;
        let directory = self.directory.read();
        for row in rows {
            if let Some(expiry) = directory.expiry(*row) {
                expiries.insert(*row, expiry);
            }
        }
        Ok(expiries)
    }

    pub(super) async fn expire_rows(&self, rows: Vec<(PointId, Row)>) -> Result<usize> {
        match self.call(Wish::Expire(rows)).await? {
            Reply::Count(n) => Ok(n),
            _ => Err(Error::internal("an expiry was answered as something else")),
        }
    }

    /// Queues a wish and waits for its answer.
    pub(super) async fn call(&self, wish: Wish) -> Result<Reply> {
        self.check_writable()?;
        let (reply, answer) = oneshot::channel();
        let wait = self.config.limits.write_wait.0;
        let closed = |_| Error::closed("the memory was closed: open it again");
        match tokio::time::timeout(wait, self.calls.send(Call { wish, reply })).await {
            Ok(sent) => sent.map_err(|_| Error::closed("the memory was closed: open it again"))?,
            Err(_) => {
                self.counts.overloaded.fetch_add(1, Ordering::Relaxed);
                return Err(Error::overloaded(format!(
                    "writes: no place in the queue within {} ms (limits.write_queue, limits.write_wait); nothing was written",
                    wait.as_millis()
                ))
                .with_retry_after(Duration::from_millis(200)));
            }
        }
        answer.await.map_err(closed)?
    }

    async fn flush_if_due(self: &Arc<Self>, flux: &mut FluxState) -> Result<()> {
        let now = self.now();
        if now.since(flux.flushed) < self.config.memory.flush_every.0 {
            return Ok(());
        }
        flux.flushed = now;
        flux.flushes_until_policy = flux.flushes_until_policy.saturating_sub(1);
        let policy = flux.flushes_until_policy == 0;
        let bytes = self.flush(policy).await?;
        if policy {
            flux.flushes_until_policy = 1 + bytes / POLICY_BYTES_PER_FLUSH;
        }
        Ok(())
    }

    /// Writes down the clock, renewed times to live, and, if asked, the policy's books with the newest moves, whose size it answers.
    pub(super) async fn flush(self: &Arc<Self>, policy: bool) -> Result<u64> {
        // They stay until they are written down: a read meanwhile must find them, and a flush that fails must not lose them.
        let renewed = self.renewals.lock().clone();
        let writer = self.writer.lock().await;
        let mut batch = Batch::new(writer.epoch);
        let (time, wall) = self.timeline.save();
        batch.put(
            Table::State,
            Bytes::from_static(key::CLOCK),
            encode_clock(time, wall),
        );
        self.flush_ledger(&mut batch);
        let rows: Vec<Row> = renewed.keys().copied().collect();
        let keys: Vec<Bytes> = rows.iter().map(|r| key::expiry(*r)).collect();
        for (row, present) in rows
            .iter()
            .zip(self.get_chunked(Table::State, &keys).await?)
        {
            // Gone: deleted or replaced since.
            if let (Some(_), Some(expiry)) = (present, renewed.get(row)) {
                batch.put(Table::State, key::expiry(*row), expiry.encode());
            }
        }
        let mut bytes = 0;
        if policy {
            let mut books = Vec::new();
            self.desk.with(|p| p.save(&mut books));
            bytes = books.len() as u64;
            seal(&mut books, 0, POLICY_SEED);
            let name = self.config.policy.backend.as_bytes();
            let mut parts: Vec<Vec<u8>> = vec![name.to_vec()];
            parts.extend(books.chunks(POLICY_PART).map(<[u8]>::to_vec));
            let range = KeyRange::prefix(key::POLICY);
            let old = self.meta.scan(Table::State, range, 1 << 20).await?;
            old.into_iter()
                .for_each(|(k, _)| batch.delete(Table::State, k));
            for (i, part) in parts.into_iter().enumerate() {
                batch.put(Table::State, key::policy(i), part);
            }
            bytes += self.put_shadows(&mut batch).await?;
            self.flush_aim(&mut batch);
            self.flush_probing(&mut batch);
            let midpoint = self.gauge.lock().midpoint;
            let moves = (self.moves.lock()).save(midpoint, &self.config.policy.backend);
            bytes += moves.len() as u64;
            batch.put(Table::State, Bytes::from_static(key::MOVES), moves);
        }
        self.commit_durably(&writer, batch).await?;
        // What was renewed again since waits for the next flush.
        self.renewals
            .lock()
            .retain(|row, expiry| renewed.get(row) != Some(expiry));
        Ok(bytes)
    }

    /// The policy's books as they were written down last, if they are whole and of the policy that is live now.
    pub(super) async fn saved_books(&self) -> Result<Option<Vec<u8>>> {
        let range = KeyRange::prefix(key::POLICY);
        let parts = self.meta.scan(Table::State, range, 1 << 20).await?;
        let Some(((_, name), books)) = parts.split_first() else {
            return Ok(None);
        };
        if &name[..] != self.config.policy.backend.as_bytes() {
            return Ok(None);
        }
        let mut sealed = Vec::new();
        books
            .iter()
            .for_each(|(_, part)| sealed.extend_from_slice(part));
        match crate::seal::unseal(&sealed, POLICY_SEED, "the policy's books") {
            Ok(books) => Ok(Some(books.to_vec())),
            Err(error) => {
                tracing::warn!(%error, "the policy begins with empty books");
                Ok(None)
            }
        }
    }
}

/// Reason of promotions that a call asked for.
pub(super) const BY_HAND: &str = "asked for by a call";

fn mover_of(reason: &str) -> Mover {
    if reason == BY_HAND {
        Mover::Hand
    } else {
        Mover::Flux
    }
}

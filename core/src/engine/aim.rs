//! The hot tier's size where the user states an objective: what is observed for it, when it is derived anew, and how the tier follows.
//!
//! The derivation itself is [`derive`]. The tier follows at once when it is to grow, and by a sixteenth a second when it is to shrink, so that
//! rows leave in batches that the cold store keeps up with. It is bounded in rows: `within` stays the bound in bytes, and is never exceeded.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::inner::Inner;
use super::offload::offload;
use super::record::key;
use crate::clock::Time;
use crate::config::Objective;
use crate::error::Result;
use crate::flux::objective::derive;
use crate::flux::{Latencies, Observed, Reuse, Sizing};
use crate::role::{Batch, Table};
use crate::seal::{seal, unseal};
use crate::wire::Reader;

/// Memory's time between two derivations, in seconds.
const EVERY_S: f64 = 1.0;
/// What is left at least of the tier's rows after a second in which it shrinks.
const SHRINK: f64 = 15.0 / 16.0;
/// Memory's time between two reclamations of the index's RAM, in seconds.
const RECLAIM_EVERY_S: f64 = 60.0;
/// Uses of cold rows that must be known before their requests are averaged.
const MISSES_MIN: u64 = 100;
/// Binds what is written down to its place.
const SEED: u64 = 0x6169_6d00;

/// The objective of a memory, and where it stands.
#[derive(Debug)]
pub(crate) struct Aim {
    objective: Option<Objective>,
    /// Rows that the tier may hold; the greatest number where bytes alone bound it.
    rows: AtomicU64,
    /// RAM that it may take, in bytes.
    bytes: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Since when uses are watched.
    since: Option<Time>,
    derived: Option<(Time, Sizing)>,
    /// When the index's RAM was reclaimed last.
    reclaimed: Time,
    latencies: Latencies,
}

impl Aim {
    /// Nothing known yet: the tier takes its whole bound.
    pub(super) fn new(objective: Option<Objective>, bound: u64) -> Self {
        Self {
            objective,
            rows: AtomicU64::new(u64::MAX),
            bytes: AtomicU64::new(bound),
            state: Mutex::default(),
        }
    }

    /// Whether there is an objective.
    pub(super) fn is_set(&self) -> bool {
        self.objective.is_some()
    }

    /// Rows that the tier may hold.
    pub(super) fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    /// RAM that the tier may take, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// How its size was derived last; `None` without an objective, and before the first turn.
    pub(super) fn derived(&self) -> Option<Sizing> {
        let state = self.state.lock();
        state.derived.as_ref().map(|(_, derived)| derived.clone())
    }

    /// Takes note of a request that used `rows` rows, `needed_cold` of them cold or not.
    pub(super) fn note(&self, took_us: u64, needed_cold: bool, rows: usize) {
        if let Some(Objective::Latency { .. }) = self.objective {
            let mut state = self.state.lock();
            state.latencies.note(took_us as f64, needed_cold, rows);
        }
    }

    /// Whether it is time to derive anew.
    fn due(&self, now: Time) -> bool {
        let mut state = self.state.lock();
        state.since.get_or_insert(now);
        let last = state.derived.as_ref().map(|(at, _)| *at);
        last.is_none_or(|last| now.seconds_since(last) >= EVERY_S)
    }

    /// Lets the tier's size follow what was derived, `seconds` after the last time.
    fn follow(&self, derived: &Sizing, observed: &Observed<'_>, seconds: f64) {
        let least = observed.rows as f64 * SHRINK.powf(seconds);
        let rows = derived.rows.max(least as u64);
        let (rows, bytes) = match rows >= observed.within_rows {
            true => (u64::MAX, observed.within),
            false => (rows, (rows as f64 * observed.row_ram) as u64),
        };
        self.rows.store(rows, Ordering::Relaxed);
        self.bytes
            .store(bytes.min(observed.within), Ordering::Relaxed);
    }

    /// What it would need to go on after a restart.
    fn save(&self, reuse: Vec<u64>) -> Vec<u8> {
        let state = self.state.lock();
        let since = state.since.map_or(u64::MAX, |at| at.0);
        let parts = [vec![since, self.rows()], state.latencies.save(), reuse];
        let mut out = Vec::new();
        for part in parts {
            out.extend_from_slice(&(part.len() as u64).to_le_bytes());
            part.iter()
                .for_each(|word| out.extend_from_slice(&word.to_le_bytes()));
        }
        seal(&mut out, 0, SEED);
        out
    }

    /// Takes up what `save` wrote; answers the reuse.
    fn load(&self, bytes: &[u8]) -> Result<Reuse> {
        let what = "what was observed for the objective";
        let mut r = Reader::new(unseal(bytes, SEED, what)?, what);
        let mut part = || -> Result<Vec<u64>> {
            let words = r.u64()?;
            (0..words).map(|_| r.u64()).collect()
        };
        let (head, latencies, reuse) = (part()?, part()?, part()?);
        let parsed = match head.as_slice() {
            [since, rows] => Latencies::load(&latencies)
                .zip(Reuse::load(&reuse))
                .map(|(l, r)| (*since, *rows, l, r)),
            _ => None,
        };
        let Some((since, rows, latencies, reuse)) = parsed else {
            return Err(r.bad("it is of another shape"));
        };
        let mut state = self.state.lock();
        state.since = (since != u64::MAX).then_some(Time(since));
        state.latencies = latencies;
        self.rows.store(rows.max(1), Ordering::Relaxed);
        Ok(reuse)
    }
}

impl Inner {
    /// Derives the tier's size anew when it is time, and lets the tier follow.
    pub(super) fn steer(&self) {
        let (Some(objective), now) = (self.aim.objective, self.now()) else {
            return;
        };
        if !self.aim.due(now) {
            return;
        }
        let whole = self.fill_unlimited(0);
        let within = self.config.hot_bound();
        let row_ram = match whole.capacity() {
            0 => f64::from(self.row_bytes()),
            rows => within as f64 / rows as f64,
        };
        let view = self.view();
        let row_disk = self.dim as f64 * 4.0;
        let row_cold = match view.live_rows() {
            0 => row_disk,
            rows => view.blob_bytes() as f64 / rows as f64,
        };
        let (requests_per_miss, bytes_per_miss) = self.cost_of_a_miss(row_cold);
        let (since, last, latencies) = {
            let state = self.aim.state.lock();
            let last = state.derived.as_ref().map_or(now, |(at, _)| *at);
            (state.since.unwrap_or(now), last, state.latencies.clone())
        };
        let derived = self.desk.with_reuse(|reuse| {
            let observed = Observed {
                now,
                watched_s: now.seconds_since(since),
                within,
                within_rows: whole.capacity(),
                rows: self.aim.rows().min(whole.capacity()),
                filled: self.config.flux.low_water,
                points: self.points.load(Ordering::Relaxed),
                row_ram,
                row_disk,
                row_cold,
                requests_per_miss,
                bytes_per_miss,
                reuse,
                latencies: &latencies,
            };
            let derived = derive(&objective, &observed);
            self.aim
                .follow(&derived, &observed, now.seconds_since(last));
            derived
        });
        self.aim.state.lock().derived = Some((now, derived));
    }

    /// Requests and bytes that the use of a cold row takes, on average; one request of a row's bytes until enough are known.
    fn cost_of_a_miss(&self, row_cold: f64) -> (f64, f64) {
        let missed = self.counts.rows_missed.load(Ordering::Relaxed);
        if missed < MISSES_MIN {
            return (1.0, row_cold);
        }
        let each = |n: &AtomicU64| n.load(Ordering::Relaxed) as f64 / missed as f64;
        (
            each(&self.counts.cold_requests),
            each(&self.counts.cold_read_bytes),
        )
    }

    /// Gives the index's RAM back once much more is held than the rows need.
    pub(super) async fn reclaim(self: &Arc<Self>) -> Result<()> {
        if self.aim.rows() == u64::MAX {
            return Ok(());
        }
        let now = self.now();
        let held: u64 = self.hot_parts().values().sum();
        let wasted = held > self.aim.bytes().saturating_mul(2);
        {
            let mut state = self.aim.state.lock();
            if !wasted || now.seconds_since(state.reclaimed) < RECLAIM_EVERY_S {
                return Ok(());
            }
            state.reclaimed = now;
        }
        let inner = self.clone();
        let reclaimed = offload(move || inner.hot.compact());
        reclaimed.await?
    }

    /// Adds what was observed for the objective to a batch.
    pub(super) fn flush_aim(&self, batch: &mut Batch) {
        if self.aim.is_set() {
            let reuse = self.desk.with_reuse(|reuse| reuse.save());
            let saved = self.aim.save(reuse);
            batch.put(Table::State, bytes::Bytes::from_static(key::AIM), saved);
        }
    }

    /// Takes up what was observed before this opening; damage only costs what was known.
    pub(super) async fn load_aim(&self) -> Result<()> {
        if !self.aim.is_set() {
            return Ok(());
        }
        if let Some(saved) = super::builder::state(&*self.meta, key::AIM).await? {
            match self.aim.load(&saved) {
                Ok(reuse) => self.desk.with_reuse(|mine| *mine = reuse),
                Err(error) => {
                    tracing::warn!(%error, "the objective's size is derived from what is observed from now on");
                }
            }
        }
        self.steer();
        Ok(())
    }
}

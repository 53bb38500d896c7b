//! How a search travels, and how a point is got.
//!
//! A search takes a ticket, then looks at `visible` and the cold view: from then on it sees that moment. It asks the hot index,
//! reads the chosen partitions, merges by row, and names the answers. If a row it found was deleted or replaced meanwhile so that its
//! name is gone, it begins again.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use hashbrown::HashMap;
use tokio::sync::MutexGuard;
use tokio::time::Instant;

use super::cold::{ColdView, ReadCost};
use super::cold_scan::{ColdScan, Seen};
use super::directory::Entry;
use super::inner::{Inner, Writer};
use super::offload::offload;
use super::parts::ReadLimit;
use super::record::{Expiry, Home, Stub};
use super::types::{Answer, Coverage, Cut, Hit, Parts, Record, SearchRequest};
use crate::clock::Time;
use crate::config::SearchMode;
use crate::error::{Error, Result};
use crate::id::{PointId, Row};
use crate::role::{Event, Fidelity, Neighbor, SearchOptions, Table, Tier};

/// A read that was overtaken by writes begins again so often before it makes them wait.
const REPEATS: usize = 8;
/// When to come back after that was not enough.
const DISTURBED_HINT: Duration = Duration::from_millis(50);
/// The longest time that anything waits: a moment further away is not always one that the clock can tell.
pub(super) const LONGEST: Duration = Duration::from_secs(30 * 86_400);
/// Floats that are scored on the caller's own thread: about 50 microseconds of work.
pub(super) const INLINE_FLOATS: usize = 64 * 1024;
/// A hot search that takes longer than this on average goes to a blocking thread, in microseconds.
const INLINE_HOT_US: u64 = 1_000;

/// A cold row with what is known of it.
pub(super) type Fetched = (Row, Stub, Vec<f32>, Option<Expiry>);

/// One moment of the memory, as a search sees it.
#[derive(Clone)]
pub(super) struct Moment<'a> {
    pub(super) inner: &'a Arc<Inner>,
    pub(super) high: u64,
    pub(super) view: Arc<ColdView>,
    pub(super) now: Time,
}

impl Moment<'_> {
    /// Whether a resident row is an answer at this moment.
    fn sees_hot(&self, row: Row) -> bool {
        if row.0 > self.high || self.inner.kills.read().is_dead(row, self.high) {
            return false;
        }
        let directory = self.inner.directory.read();
        directory.row(row).is_some() && directory.expiry(row).is_none_or(|e| e.at > self.now.0)
    }
}

/// A candidate: where it was found decides how its name is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Candidate {
    neighbor: Neighbor,
    cold: bool,
}

impl Inner {
    fn check_request(&self, r: &SearchRequest) -> Result<()> {
        self.metric
            .check(&r.vector, self.dim)
            .map_err(|e| e.prefixed("query"))?;
        let most = self.config.limits.k;
        if r.k == 0 || r.k > most {
            return Err(Error::invalid_input(format!(
                "k: expected 1 to {most} (limits.k), got {}",
                r.k
            )));
        }
        for (name, share) in [("probe", r.probe), ("recall", r.recall)] {
            if let Some(share) = share.filter(|s| !(0.0..=1.0).contains(s)) {
                return Err(Error::invalid_input(format!(
                    "{name}: expected 0.0 to 1.0, got {share}"
                )));
            }
        }
        if r.ef == Some(0) {
            return Err(Error::invalid_input("ef: expected at least 1, got 0"));
        }
        Ok(())
    }

    /// Searches the hot and the cold tier.
    pub(super) async fn search(self: &Arc<Self>, request: SearchRequest) -> Result<Answer> {
        self.check_open()?;
        // A caller whose reads are all answered from RAM would never yield, and tasks woken on its thread would starve.
        tokio::task::coop::consume_budget().await;
        self.check_request(&request)?;
        let (begun, began) = (Instant::now(), self.now());
        let allowed = request.deadline.unwrap_or(self.config.search.deadline.0);
        let deadline = begun + allowed.min(LONGEST);
        let _place = self.admission.enter(deadline).await.inspect_err(|_| {
            self.counts.overloaded.fetch_add(1, Ordering::Relaxed);
        })?;
        let mode = request.mode.unwrap_or(self.config.search.mode);
        let request = Arc::new(request);
        for repeats in 0.. {
            let still = tokio::time::timeout_at(deadline, self.hold_still(repeats));
            let still = still.await.map_err(|_| {
                self.counts.overloaded.fetch_add(1, Ordering::Relaxed);
                Error::overloaded("search: no time was left after writes and moves had disturbed it; try again, or allow more time")
                    .with_retry_after(DISTURBED_HINT)
            })?;
            let high = self.visible.load(Ordering::Acquire);
            if let Some((answer, asked_cold)) = self.search_once(&request, mode, deadline).await? {
                self.note_search(&answer, &request, begun);
                self.note_latency(&answer, asked_cold, began);
                self.consider_comparing(&request, &answer, high);
                return Ok(answer);
            }
            if still.is_some() {
                break;
            }
            self.counts
                .searches_repeated
                .fetch_add(1, Ordering::Relaxed);
        }
        Err(Error::internal(
            "search: a point that was found has no name although nothing was written meanwhile; run `aether check`",
        ))
    }

    /// A reader that was disturbed by writes and moves tries again. After some tries it holds the writer, so that the last try cannot
    /// be disturbed: under a storm of updates a read is slow, but it does not fail.
    async fn hold_still(&self, repeats: usize) -> Option<MutexGuard<'_, Writer>> {
        match repeats {
            0 => None,
            1..REPEATS => {
                // Whoever is moving or replacing the row holds this lock until everyone can see where it is.
                drop(self.writer.lock().await);
                None
            }
            _ => Some(self.writer.lock().await),
        }
    }

    fn note_search(&self, answer: &Answer, request: &SearchRequest, begun: Instant) {
        let hot = answer.hits.iter().filter(|h| h.tier == Tier::Hot).count() as u64;
        let cold = answer.hits.len() as u64 - hot;
        let mode = answer.coverage.mode.name();
        self.counts.searches.fetch_add(1, Ordering::Relaxed);
        metrics::counter!("aether_searches_total", "mode" => mode).increment(1);
        metrics::histogram!("aether_search_seconds", "mode" => mode)
            .record(begun.elapsed().as_secs_f64());
        let coverage = &answer.coverage;
        (self.counts.rows_estimated).fetch_add(coverage.cold_rows_estimated, Ordering::Relaxed);
        (self.counts.rows_compared).fetch_add(coverage.cold_rows_scored, Ordering::Relaxed);
        if !answer.coverage.is_whole() {
            self.counts.searches_partial.fetch_add(1, Ordering::Relaxed);
            metrics::counter!("aether_searches_partial_total").increment(1);
        }
        if request.touch {
            self.counts.hits_hot.fetch_add(hot, Ordering::Relaxed);
            self.counts.hits_cold.fetch_add(cold, Ordering::Relaxed);
            self.counts.rows_missed.fetch_add(cold, Ordering::Relaxed);
            metrics::counter!("aether_hits_total", "tier" => "hot").increment(hot);
            metrics::counter!("aether_hits_total", "tier" => "cold").increment(cold);
            let touched = |h: &Hit| match h.tier {
                Tier::Hot => Event::Accessed { row: h.row },
                Tier::Cold => Event::Missed {
                    item: self.item(h.row),
                },
            };
            let now = self.now();
            self.desk.access(answer.hits.iter().map(touched), now);
            self.record(answer.hits.iter().map(|h| &h.id), false);
            self.desk.together(answer.hits.iter().map(|h| h.row), now);
        }
    }

    /// Takes note of a search's time, where the hot tier's size follows from it.
    fn note_latency(&self, answer: &Answer, asked_cold: bool, began: Time) {
        let took = u64::try_from(self.now().since(began).as_micros()).unwrap_or(u64::MAX);
        let cold = answer.hits.iter().any(|h| h.tier == Tier::Cold);
        self.aim.note(took, cold || asked_cold, answer.hits.len());
    }

    /// One try, and whether finding the answers took a request to the cold store; `None` when what it found was changed under it.
    async fn search_once(
        self: &Arc<Self>,
        request: &Arc<SearchRequest>,
        mode: SearchMode,
        deadline: Instant,
    ) -> Result<Option<(Answer, bool)>> {
        let _ticket = self.readers.enter();
        let (high, view) = self.moment();
        let moment = Moment {
            inner: self,
            high,
            view,
            now: self.now(),
        };
        let hot_rows = self.directory.read().len() as u64;
        let mut wanted = request.k;
        let (mut rounds, mut spent) = (0, ReadCost::default());
        loop {
            let hot = self.search_hot(&moment, request, mode).await?;
            let seen = Seen {
                inner: self.clone(),
                request: request.clone(),
                high,
            };
            let scan = match mode {
                SearchMode::HotOnly => None,
                SearchMode::Complete => Some(
                    self.scan_complete(&moment.view, &seen, deadline, wanted)
                        .await?,
                ),
                SearchMode::Bounded => {
                    let asked = self.bounded(request, deadline, &hot, wanted);
                    Some(self.search_codes(&moment.view, &seen, &asked).await?)
                }
            };
            let cold = scan.as_ref().map_or(&[][..], |s| &s.found[..]);
            let ahead = scan.as_ref().map(|s| &s.named);
            let merged = merge(&hot, cold);
            let named = self.name_hits(&moment, request, merged, ahead, deadline);
            let Some(NamedHits {
                hits,
                expired,
                mut cuts,
                cost,
                rounds: parts_rounds,
            }) = named.await?
            else {
                return Ok(None);
            };
            if let Some(scan) = &scan {
                rounds += scan.rounds;
                spent.add(scan.cost);
            }
            let asked_cold = spent.requests > 0;
            rounds += parts_rounds;
            spent.add(cost);
            let last = hits.last().map(|h| h.distance);
            let crowded = |s: &ColdScan| s.crowded(expired, hits.len(), last, request.k);
            if scan.as_ref().is_some_and(crowded) {
                // Points that had expired took the places of others: look again with more places.
                wanted = wanted.saturating_mul(4).saturating_add(16);
                continue;
            }
            if let Some(scan) = &scan {
                cuts.splice(0..0, scan.cuts.iter().cloned());
            }
            let coverage = Coverage {
                mode,
                hot_rows,
                cold_rows: moment.view.live_rows() + moment.view.lost_rows(),
                cold_rows_estimated: scan.as_ref().map_or(0, |s| s.estimated),
                cold_rows_scored: scan.as_ref().map_or(0, |s| s.scored),
                partitions: moment.view.partitions(),
                partitions_probed: scan.as_ref().map_or(0, |s| s.probed),
                requests: spent.requests,
                rounds,
                bytes: spent.bytes,
                proven: cuts.is_empty() && scan.as_ref().is_some_and(|s| s.proven),
                cuts,
            };
            return Ok(Some((Answer { hits, coverage }, asked_cold)));
        }
    }

    pub(super) async fn search_hot(
        self: &Arc<Self>,
        moment: &Moment<'_>,
        request: &Arc<SearchRequest>,
        mode: SearchMode,
    ) -> Result<Vec<Neighbor>> {
        let slow = self.hot_search_us.load(Ordering::Relaxed) > INLINE_HOT_US
            || (mode == SearchMode::Complete && self.hot.len() * self.dim > INLINE_FLOATS * 8);
        let (high, now) = (moment.high, moment.now);
        let begun = Instant::now();
        let found = if slow {
            let (inner, request, view) = (self.clone(), request.clone(), moment.view.clone());
            offload(move || {
                let moment = Moment {
                    inner: &inner,
                    high,
                    view,
                    now,
                };
                inner.search_hot_here(&moment, &request, mode)
            })
            .await?
        } else {
            self.search_hot_here(moment, request, mode)
        }?;
        let took = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        let before = self.hot_search_us.load(Ordering::Relaxed);
        self.hot_search_us
            .store(before - before / 8 + took / 8, Ordering::Relaxed);
        Ok(found)
    }

    fn search_hot_here(
        &self,
        moment: &Moment<'_>,
        request: &SearchRequest,
        mode: SearchMode,
    ) -> Result<Vec<Neighbor>> {
        let exact = mode == SearchMode::Complete;
        let accept =
            |row: Row| request.filter.as_ref().is_none_or(|f| f(row)) && moment.sees_hot(row);
        if request.filter.is_none() {
            // Nearly always every row that is found is an answer, so the filter's cost is paid only when one is not.
            let options = SearchOptions {
                ef: request.ef,
                exact,
                filter: None,
                tally: Some(&self.hot_work),
            };
            let found = self.hot.search(&request.vector, request.k, &options)?;
            if found.iter().all(|n| moment.sees_hot(n.row)) {
                return Ok(found);
            }
        }
        let options = SearchOptions {
            ef: request.ef,
            exact,
            filter: Some(&accept),
            tally: Some(&self.hot_work),
        };
        self.hot.search(&request.vector, request.k, &options)
    }

    /// Turns candidates into answers: ids, times to live, and the parts asked for, as far as they can be read by the deadline; `ahead`
    /// are names read before. `None` when a candidate's name is gone.
    pub(super) async fn name_hits(
        self: &Arc<Self>,
        moment: &Moment<'_>,
        request: &SearchRequest,
        candidates: Vec<Candidate>,
        ahead: Option<&HashMap<Row, Stub>>,
        deadline: Instant,
    ) -> Result<Option<NamedHits>> {
        let mut hits: Vec<Hit> = Vec::with_capacity(request.k.min(candidates.len()));
        let mut named_rows: Vec<(Row, Named)> = Vec::with_capacity(hits.capacity());
        let mut expired = 0;
        let mut limit = ReadLimit::until(deadline);
        let mut rest = candidates.as_slice();
        while hits.len() < request.k && !rest.is_empty() {
            let (page, later) = rest.split_at(rest.len().min(request.k - hits.len()));
            rest = later;
            let Some(named) = self.name_rows(moment, page, ahead, &mut limit).await? else {
                return Ok(None);
            };
            for (candidate, named) in page.iter().zip(named) {
                let Some(named) = named else {
                    expired += 1;
                    continue;
                };
                hits.push(Hit {
                    id: named.id.clone(),
                    row: candidate.neighbor.row,
                    distance: candidate.neighbor.distance,
                    tier: named.tier,
                    vector: None,
                    fidelity: Fidelity::Exact,
                    payload: None,
                });
                named_rows.push((candidate.neighbor.row, named));
            }
        }
        let parts = self.read_parts(&named_rows, request.parts, &mut limit);
        let Some(parts) = parts.await? else {
            return Ok(None);
        };
        for (hit, (vector, fidelity, payload)) in hits.iter_mut().zip(parts) {
            hit.vector = vector;
            hit.fidelity = fidelity;
            hit.payload = payload;
        }
        if request.touch {
            self.renew(&named_rows, moment.now);
        }
        let (cost, rounds) = (limit.cost, limit.rounds);
        Ok(Some(NamedHits {
            hits,
            expired,
            cuts: limit.cuts(),
            cost,
            rounds,
        }))
    }

    /// Names candidates; an inner `None` has expired, an outer one says that a candidate's name is gone.
    async fn name_rows(
        &self,
        moment: &Moment<'_>,
        page: &[Candidate],
        ahead: Option<&HashMap<Row, Stub>>,
        limit: &mut ReadLimit,
    ) -> Result<Option<Vec<Option<Named>>>> {
        let mut named: Vec<Option<(Row, Named)>> = vec![None; page.len()];
        let mut cold = Vec::new();
        {
            let directory = self.directory.read();
            for (i, c) in page.iter().enumerate() {
                // A row found cold may be resident by now or all along: then its name is at hand.
                match directory.row(c.neighbor.row) {
                    Some(e) => {
                        named[i] = Some((e.row, Named::hot(e, directory.expiry(e.row), c.cold)))
                    }
                    None => cold.push((i, c.neighbor.row)),
                }
            }
        }
        if !self.name_cold(cold, ahead, &mut named, limit).await? {
            return Ok(None);
        }
        let alive = |n: Option<(Row, Named)>| n.map(|(_, n)| n).filter(|n| n.lives(moment.now));
        Ok(Some(named.into_iter().map(alive).collect()))
    }

    /// Names cold rows, each for its place in `named`; `false` when one is gone.
    async fn name_cold(
        &self,
        cold: Vec<(usize, Row)>,
        ahead: Option<&HashMap<Row, Stub>>,
        named: &mut [Option<(Row, Named)>],
        limit: &mut ReadLimit,
    ) -> Result<bool> {
        let mut mortal = Vec::new();
        let mut name = |i: usize, row: Row, stub: Stub| {
            if stub.ttl {
                mortal.push((i, row));
            }
            named[i] = Some((row, Named::cold(stub)));
        };
        let (mut asked, mut keys) = (Vec::new(), Vec::new());
        for (i, row) in cold {
            match ahead.and_then(|a| a.get(&row)) {
                Some(stub) => name(i, row, stub.clone()),
                None => {
                    asked.push((i, row));
                    keys.push(Bytes::copy_from_slice(&row.key()));
                }
            }
        }
        if !keys.is_empty() {
            let stored = self.get_chunked(Table::Cold, &keys).await?;
            for ((i, row), value) in asked.into_iter().zip(stored) {
                match value {
                    Some(value) => name(i, row, Stub::decode(&value)?),
                    None if self.leave_unsure(limit)? => {}
                    None => return Ok(false),
                }
            }
        }
        if !mortal.is_empty() {
            let rows: Vec<Row> = mortal.iter().map(|(_, row)| *row).collect();
            let expiries = self.expiries(&rows).await?;
            for (i, row) in mortal {
                match (expiries.get(&row), &mut named[i]) {
                    (Some(expiry), Some((_, name))) => name.expiry = Some(*expiry),
                    // Its time to live went with the row, between the two reads: without it, it would seem to live for ever.
                    (None, unsure) if self.leave_unsure(limit)? => *unsure = None,
                    _ => return Ok(false),
                }
            }
        }
        Ok(true)
    }

    /// Gets points by id. An access for the policy, and renews times to live.
    pub(super) async fn get(
        self: &Arc<Self>,
        ids: &[PointId],
        parts: Parts,
    ) -> Result<Vec<Option<Record>>> {
        self.check_open()?;
        // As in a search.
        tokio::task::coop::consume_budget().await;
        ids.iter().try_for_each(PointId::validate)?;
        self.counts
            .gets
            .fetch_add(ids.len() as u64, Ordering::Relaxed);
        let began = self.now();
        for repeats in 0.. {
            let still = self.hold_still(repeats).await;
            if let Some((records, unsettled)) = self.get_once(ids, parts).await? {
                if unsettled && still.is_none() {
                    self.settle_absent().await?;
                }
                let now = self.now();
                let cold = records
                    .iter()
                    .flatten()
                    .filter(|r| r.tier == Tier::Cold)
                    .count();
                self.counts
                    .rows_missed
                    .fetch_add(cold as u64, Ordering::Relaxed);
                let took = u64::try_from(now.since(began).as_micros()).unwrap_or(u64::MAX);
                self.aim
                    .note(took, cold > 0, records.iter().flatten().count());
                let events = records.iter().flatten().map(|r| match r.tier {
                    Tier::Hot => Event::Accessed { row: r.row },
                    Tier::Cold => Event::Missed {
                        item: self.item(r.row),
                    },
                });
                self.desk.access(events, now);
                let found = ids.iter().zip(&records).filter(|(_, r)| r.is_some());
                self.record(found.map(|(id, _)| id), false);
                return Ok(records);
            }
            if still.is_some() {
                break;
            }
        }
        Err(Error::internal(
            "get: a point is not where it is said to be although nothing was written meanwhile; run `aether check`",
        ))
    }

    /// Waits until the write that is under way can no longer be undone. A point that was not found may have gone by it a moment ago: nobody
    /// is told so while a power cut could bring it back. No ticket is held meanwhile, since a writer may wait for readers.
    async fn settle_absent(&self) -> Result<()> {
        drop(self.writer.lock().await);
        self.leave_unsure(&mut ReadLimit::default()).map(drop)
    }

    /// `None` when the read was overtaken. With the records: whether one that is not there may have gone by a write that is under way.
    async fn get_once(
        self: &Arc<Self>,
        ids: &[PointId],
        parts: Parts,
    ) -> Result<Option<(Vec<Option<Record>>, bool)>> {
        let _ticket = self.readers.enter();
        let now = self.now();
        let mut named: Vec<Option<(Row, Named)>> = vec![None; ids.len()];
        let mut missing = Vec::new();
        {
            let directory = self.directory.read();
            for (i, id) in ids.iter().enumerate() {
                match directory.id(id) {
                    Some(e) => {
                        named[i] = Some((e.row, Named::hot(e, directory.expiry(e.row), false)))
                    }
                    None => missing.push(i),
                }
            }
        }
        let mut limit = ReadLimit::default();
        let mut absent = false;
        if !missing.is_empty() {
            let keys: Vec<Bytes> = missing.iter().map(|i| Bytes::from(ids[*i].key())).collect();
            let mut cold = Vec::new();
            let stored = self.get_chunked(Table::Points, &keys).await?;
            for (i, value) in missing.into_iter().zip(stored) {
                match value {
                    Some(value) => cold.push((i, Row::decode(&value)?)),
                    None => absent = true,
                }
            }
            if !self.name_cold(cold, None, &mut named, &mut limit).await? {
                return Ok(None);
            }
        }
        let unsettled = absent && self.writer.try_lock().is_err();
        named
            .iter_mut()
            .for_each(|slot| drop(slot.take_if(|(_, n)| !n.lives(now))));
        let wants: Vec<(Row, Named)> = named.iter().flatten().cloned().collect();
        let Some(read) = self.read_parts(&wants, parts, &mut limit).await? else {
            return Ok(None);
        };
        self.renew(&wants, now);
        let mut read = read.into_iter();
        let record = |slot: Option<(Row, Named)>| {
            let (row, n) = slot?;
            let (vector, fidelity, payload) = read.next()?;
            let expires_in = n.expiry.map(|e| Time(e.at).since(now));
            Some(Record {
                id: n.id,
                row,
                tier: n.tier,
                vector,
                fidelity,
                payload,
                expires_in,
            })
        };
        let records = named.into_iter().map(record).collect();
        Ok(Some((records, unsettled)))
    }

    /// Starts the times to live of rows anew, where their points ask for it. In RAM; written down with the next flush.
    fn renew(&self, rows: &[(Row, Named)], now: Time) {
        let renewing = |(row, n): &(Row, Named)| {
            let e = n.expiry.filter(|e| e.renew)?;
            Some((
                *row,
                n.resident,
                Expiry {
                    at: now.0.saturating_add(e.lifetime),
                    ..e
                },
            ))
        };
        let renewed: Vec<_> = rows.iter().filter_map(renewing).collect();
        if renewed.is_empty() {
            return;
        }
        let mut directory = self.directory.write();
        for (row, resident, expiry) in &renewed {
            if *resident && directory.expiry(*row).is_some() {
                directory.set_expiry(*row, *expiry);
            }
        }
        drop(directory);
        self.renewals
            .lock()
            .extend(renewed.into_iter().map(|(row, _, expiry)| (row, expiry)));
    }

    /// Reads cold rows for promotion: those that still live and whose home is a segment. Not with the writer's lock held: whoever moves a
    /// row holds it.
    pub(super) async fn fetch_cold(self: &Arc<Self>, rows: &[Row]) -> Result<Vec<Fetched>> {
        for _ in 0..REPEATS {
            if let Some(fetched) = self.fetch_cold_once(rows).await? {
                return Ok(fetched);
            }
            drop(self.writer.lock().await);
        }
        Err(Error::unavailable(
            "a row was moved while it was read; it will be tried again",
        ))
    }

    async fn fetch_cold_once(self: &Arc<Self>, rows: &[Row]) -> Result<Option<Vec<Fetched>>> {
        // A compaction deletes no segment that is being read.
        let _ticket = self.readers.enter();
        let keys: Vec<Bytes> = rows
            .iter()
            .map(|r| Bytes::copy_from_slice(&r.key()))
            .collect();
        let mut wants = Vec::new();
        let mut found = Vec::new();
        for (row, value) in rows.iter().zip(self.get_chunked(Table::Cold, &keys).await?) {
            if let Some(value) = value {
                let stub = Stub::decode(&value)?;
                wants.push((*row, Named::cold(stub.clone())));
                found.push((*row, stub));
            }
        }
        let mortal: Vec<Row> = found
            .iter()
            .filter(|(_, s)| s.ttl)
            .map(|(r, _)| *r)
            .collect();
        let expiries = self.expiries(&mortal).await?;
        let parts = Parts {
            vector: true,
            payload: false,
        };
        let mut limit = ReadLimit::default();
        let Some(read) = self.read_parts(&wants, parts, &mut limit).await? else {
            return Ok(None);
        };
        let mut fetched = Vec::with_capacity(found.len());
        for ((row, stub), (vector, _, _)) in found.into_iter().zip(read) {
            let vector =
                vector.ok_or_else(|| Error::internal("a cold row came without its vector"))?;
            fetched.push((row, stub, vector, expiries.get(&row).copied()));
        }
        Ok(Some(fetched))
    }
}

/// What must be known of a row to read the rest of it.
#[derive(Clone, Debug)]
pub(super) struct Named {
    pub(super) id: PointId,
    pub(super) tier: Tier,
    pub(super) home: Home,
    pub(super) resident: bool,
    pub(super) payload: bool,
    pub(super) expiry: Option<Expiry>,
}

/// Answers with what was asked of them.
#[derive(Debug)]
pub(super) struct NamedHits {
    pub(super) hits: Vec<Hit>,
    /// Candidates that had expired.
    pub(super) expired: usize,
    /// What could not be read.
    pub(super) cuts: Vec<Cut>,
    pub(super) cost: ReadCost,
    pub(super) rounds: u32,
}

impl Named {
    fn hot(e: &Entry, expiry: Option<Expiry>, found_cold: bool) -> Self {
        // A row that has left but for its readers counts as cold already.
        let tier = if e.leaving() || (found_cold && e.killed()) {
            Tier::Cold
        } else {
            Tier::Hot
        };
        Self {
            id: e.id.clone(),
            tier,
            home: e.home(),
            resident: true,
            payload: e.payload(),
            expiry,
        }
    }

    fn cold(stub: Stub) -> Self {
        Self {
            id: stub.id,
            tier: Tier::Cold,
            home: Home::Segment(stub.segment, stub.ordinal),
            resident: false,
            payload: stub.payload,
            expiry: None,
        }
    }

    fn lives(&self, now: Time) -> bool {
        self.expiry.is_none_or(|e| e.at > now.0)
    }
}

/// Nearest first, each row once; a row found in both tiers counts as found hot.
pub(super) fn merge(hot: &[Neighbor], cold: &[Neighbor]) -> Vec<Candidate> {
    let mut all: Vec<Candidate> = (hot.iter().map(|n| Candidate {
        neighbor: *n,
        cold: false,
    }))
    .chain(cold.iter().map(|n| Candidate {
        neighbor: *n,
        cold: true,
    }))
    .collect();
    all.sort_unstable_by(|a, b| {
        a.neighbor
            .row
            .cmp(&b.neighbor.row)
            .then(a.cold.cmp(&b.cold))
    });
    all.dedup_by_key(|c| c.neighbor.row);
    all.sort_unstable();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merging_keeps_each_row_once_and_in_order() {
        let n = |row, distance| Neighbor {
            row: Row(row),
            distance,
        };
        let merged = merge(&[n(1, 0.5), n(2, 0.7)], &[n(2, 0.7), n(3, 0.1), n(4, 0.5)]);
        let rows: Vec<(u64, bool)> = merged.iter().map(|c| (c.neighbor.row.0, c.cold)).collect();
        assert_eq!(rows, [(3, true), (1, false), (4, true), (2, false)]);
    }
}

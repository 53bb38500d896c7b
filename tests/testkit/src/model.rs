//! What a memory must hold, as a plain map with an exact scan, and what it may hold after an operation that was never
//! acknowledged: all of it or nothing.
//!
//! Time is the memory's own, in microseconds since it was created. Where a crash may have lost a renewal that was not written
//! down yet, a point's end is a span: before it the point must be found, after it it must not, within it either is right.

use std::collections::{BTreeMap, BTreeSet};

use aether_core::config::SearchMode;
use aether_core::engine::{Answer, Hit, Record};
use aether_core::{Metric, Point, PointId, Row};
use serde_json::Value;

/// When a point ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct End {
    /// It surely lives before this.
    from: u64,
    /// It surely has ended at this.
    until: u64,
    /// What is surely written down of `from`.
    kept: u64,
    lifetime: u64,
    renew: bool,
}

/// What is stored of a point.
#[derive(Clone, Debug, PartialEq)]
pub struct Version {
    /// Its row, where it is known.
    pub row: Option<Row>,
    /// Its vector.
    pub vector: Vec<f32>,
    /// Its payload.
    pub payload: Option<Value>,
    end: Option<End>,
}

impl Version {
    fn surely_lives(&self, now: u64) -> bool {
        self.end.is_none_or(|e| now < e.from)
    }

    fn may_live(&self, now: u64) -> bool {
        self.end.is_none_or(|e| now < e.until)
    }
}

/// A change of one point: its new version, or none.
type Change = (PointId, Option<Version>);

/// The model.
#[derive(Clone, Debug)]
pub struct Model {
    metric: Metric,
    /// Grace that an open gives to points whose reads renew them.
    grace_us: u64,
    points: BTreeMap<PointId, Version>,
    /// Points known to be pinned; a pin whose outcome is unknown is not in here.
    pins: BTreeSet<PointId>,
    /// The operation whose outcome is unknown.
    doubt: Vec<Change>,
}

/// What is wrong, in words.
pub type Verdict = Result<(), String>;

impl Model {
    /// An empty memory. `grace_us` is its `memory.flush_every`.
    pub fn new(metric: Metric, grace_us: u64) -> Self {
        Self {
            metric,
            grace_us,
            points: BTreeMap::new(),
            pins: BTreeSet::new(),
            doubt: Vec::new(),
        }
    }

    fn changes(points: &[Point], rows: Option<&[Row]>, now: u64) -> Vec<Change> {
        let version = |(i, p): (usize, &Point)| {
            let end = p.ttl.map(|ttl| {
                let lifetime = u64::try_from(ttl.lifetime.as_micros()).unwrap_or(u64::MAX);
                let at = now + lifetime;
                End {
                    from: at,
                    until: at,
                    kept: at,
                    lifetime,
                    renew: ttl.renew,
                }
            });
            let version = Version {
                row: rows.and_then(|r| r.get(i)).copied(),
                vector: p.vector.clone(),
                payload: p.payload.clone(),
                end,
            };
            (p.id.clone(), Some(version))
        };
        points.iter().enumerate().map(version).collect()
    }

    fn apply(&mut self, changes: Vec<Change>) {
        for (id, version) in changes {
            match version {
                Some(version) => drop(self.points.insert(id, version)),
                None => {
                    self.points.remove(&id);
                    self.pins.remove(&id);
                }
            }
        }
    }

    /// A point whose time may have been up may have ended, and its pin with it, before it was written anew.
    fn doubt_pins(&mut self, points: &[Point], now: u64) {
        for point in points {
            if self
                .points
                .get(&point.id)
                .is_some_and(|v| !v.surely_lives(now))
            {
                self.pins.remove(&point.id);
            }
        }
    }

    /// An upsert that was acknowledged.
    pub fn upserted(&mut self, points: &[Point], rows: &[Row], now: u64) {
        self.doubt_pins(points, now);
        self.apply(Self::changes(points, Some(rows), now));
    }

    /// An upsert that may have happened.
    pub fn maybe_upserted(&mut self, points: &[Point], now: u64) {
        self.doubt_pins(points, now);
        self.doubt.extend(Self::changes(points, None, now));
    }

    /// A delete that was acknowledged.
    pub fn deleted(&mut self, ids: &[PointId]) {
        self.apply(ids.iter().map(|id| (id.clone(), None)).collect());
    }

    /// A delete that may have happened.
    pub fn maybe_deleted(&mut self, ids: &[PointId]) {
        self.doubt.extend(ids.iter().map(|id| (id.clone(), None)));
    }

    /// A pin or its end that was acknowledged. A point whose time may be up may or may not have taken it.
    pub fn pinned(&mut self, ids: &[PointId], pinned: bool, now: u64) {
        for id in ids {
            self.pins.remove(id);
            if pinned && self.points.get(id).is_some_and(|v| v.surely_lives(now)) {
                self.pins.insert(id.clone());
            }
        }
    }

    /// A pin or its end that may have happened.
    pub fn maybe_pinned(&mut self, ids: &[PointId]) {
        self.pins.retain(|id| !ids.contains(id));
    }

    /// Whether a point is surely pinned.
    pub fn is_pinned(&self, id: &PointId) -> bool {
        self.pins.contains(id)
    }

    /// Least and most points that there can be.
    pub fn count(&self, now: u64) -> (usize, usize) {
        let least = self.points.values().filter(|v| v.surely_lives(now));
        (least.count(), self.points.len())
    }

    /// Least and most of these points that there can be.
    pub fn count_of(&self, ids: &[PointId], now: u64) -> (usize, usize) {
        let here: Vec<&Version> = ids.iter().filter_map(|id| self.points.get(id)).collect();
        let least = here.iter().filter(|v| v.surely_lives(now)).count();
        (least, here.len())
    }

    /// Every id that the model has heard of and that may be there.
    pub fn ids(&self) -> Vec<PointId> {
        self.points.keys().cloned().collect()
    }

    /// A turn of the scheduler went well: what had surely ended is gone.
    pub fn ticked(&mut self, now: u64) {
        self.points.retain(|_, v| v.may_live(now));
        let points = &self.points;
        self.pins.retain(|id| points.contains_key(id));
    }

    /// The memory was closed, everything written down, and opened again.
    pub fn reopened(&mut self) {
        self.after_open(|e| e.kept = e.kept.max(e.from));
    }

    /// The memory died and was opened again: renewals may be lost.
    pub fn crashed(&mut self) {
        self.after_open(|e| e.from = e.kept);
    }

    fn after_open(&mut self, change: impl Fn(&mut End)) {
        let grace = self.grace_us;
        for end in self.points.values_mut().filter_map(|v| v.end.as_mut()) {
            if end.renew {
                change(end);
                end.until = end.until.saturating_add(grace);
            }
        }
    }

    /// Takes over what another model knows of ids that this one has not heard of.
    pub fn join(&mut self, other: Self) {
        self.points.extend(other.points);
        self.pins.extend(other.pins);
        self.doubt.extend(other.doubt);
    }

    /// Ids whose last operation has an unknown outcome.
    pub fn doubted(&self) -> Vec<PointId> {
        self.doubt.iter().map(|(id, _)| id.clone()).collect()
    }

    /// Takes what the memory says about the ids in doubt, in their order: all of the operation happened, or nothing of it.
    ///
    /// # Errors
    /// When only a part of it happened, or something else.
    pub fn resolve(&mut self, records: &[Option<Record>], now: u64) -> Verdict {
        let mut changes = std::mem::take(&mut self.doubt);
        let mut sides = Vec::new();
        for ((id, after), record) in changes.iter_mut().zip(records) {
            let before = self.points.get(id);
            let row = record.as_ref().map(|r| r.row);
            let fits = |v: Option<&Version>| match (v, record) {
                (Some(v), Some(r)) => {
                    v.may_live(now) && v.row.is_none_or(|row| row == r.row) && same(v, r)
                }
                (Some(v), None) => !v.surely_lives(now),
                (None, r) => r.is_none(),
            };
            let side = (fits(before), fits(after.as_ref()));
            if side == (false, false) {
                return Err(format!(
                    "{id}: found {record:?}, neither what was before ({before:?}) nor after ({after:?})"
                ));
            }
            if let Some(version) = after {
                version.row = row;
            }
            sides.push(side);
        }
        let all_before = sides.iter().all(|s| s.0);
        let all_after = sides.iter().all(|s| s.1);
        match (all_before, all_after) {
            (false, false) => Err(format!(
                "a batch happened in part: {:?}",
                changes.iter().map(|c| &c.0).zip(&sides).collect::<Vec<_>>()
            )),
            // Where both fit, nothing can tell them apart but rows, which the later reads then teach.
            (true, _) => Ok(()),
            (false, true) => {
                self.apply(changes);
                Ok(())
            }
        }
    }

    /// Compares a `get`. A reader's renewal is noted.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check_get(&mut self, id: &PointId, record: Option<&Record>, now: u64) -> Verdict {
        let Some(version) = self.points.get_mut(id) else {
            return match record {
                None => Ok(()),
                Some(r) => Err(format!("{id}: there is no such point, got {r:?}")),
            };
        };
        match record {
            None if version.surely_lives(now) => {
                Err(format!("{id}: lives as {version:?}, not found"))
            }
            None => Ok(()),
            Some(r) if !version.may_live(now) => Err(format!("{id}: has ended, got {r:?}")),
            Some(r) => {
                if version.row.is_some_and(|row| row != r.row) || !same(version, r) || r.id != *id {
                    return Err(format!("{id}: expected {version:?}, got {r:?}"));
                }
                version.row = Some(r.row);
                renew(version, now);
                Ok(())
            }
        }
    }

    /// A point was read, and its time to live begins anew if it is one of that kind.
    pub fn was_read(&mut self, id: &PointId, now: u64) {
        if let Some(version) = self.points.get_mut(id) {
            renew(version, now);
        }
    }

    /// Compares an answer; `rest` is the filter's remainder by three. Renewals are noted.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check_answer(
        &mut self,
        answer: &Answer,
        query: &[f32],
        k: usize,
        filter: Option<u64>,
        now: u64,
    ) -> Verdict {
        let mut seen = BTreeSet::new();
        if answer.hits.len() > k {
            return Err(format!("{} answers, asked for {k}", answer.hits.len()));
        }
        for hit in &answer.hits {
            if !seen.insert(hit.id.clone()) {
                return Err(format!("{} is in the answer twice", hit.id));
            }
            self.check_hit(hit, query, filter, now)?;
        }
        if let Some(w) = answer
            .hits
            .windows(2)
            .find(|w| w[0].distance > w[1].distance)
        {
            return Err(format!("out of order: {w:?}"));
        }
        if answer.coverage.mode == SearchMode::Complete && answer.coverage.is_whole() {
            self.check_complete(answer, query, k, filter, now, &seen)?;
        }
        for id in seen {
            if let Some(version) = self.points.get_mut(&id) {
                renew(version, now);
            }
        }
        Ok(())
    }

    /// A whole answer that was asked for vectors and payloads has them.
    ///
    /// # Errors
    /// What is missing.
    pub fn check_parts(&self, answer: &Answer) -> Verdict {
        for hit in answer.hits.iter().filter(|_| answer.coverage.is_whole()) {
            let Some(v) = self.points.get(&hit.id) else {
                continue;
            };
            if hit.vector.is_none() || hit.payload != v.payload {
                return Err(format!(
                    "without what was asked for: {hit:?}, expected {v:?}"
                ));
            }
        }
        Ok(())
    }

    fn check_hit(&self, hit: &Hit, query: &[f32], filter: Option<u64>, now: u64) -> Verdict {
        let Some(v) = self.points.get(&hit.id).filter(|v| v.may_live(now)) else {
            return Err(format!("a ghost: {hit:?}"));
        };
        if v.row.is_some_and(|row| row != hit.row) {
            return Err(format!("an old version: {hit:?}, expected row {:?}", v.row));
        }
        if filter.is_some_and(|rest| hit.row.0 % 3 != rest) {
            return Err(format!("the filter refuses {hit:?}"));
        }
        let distance = self.metric.distance(query, &v.vector);
        if (distance - hit.distance).abs() > tolerance(distance) {
            return Err(format!("distance of {hit:?}: expected {distance}"));
        }
        if hit.vector.as_ref().is_some_and(|got| *got != v.vector) {
            return Err(format!("another vector: {hit:?}, expected {v:?}"));
        }
        if hit.payload.is_some() && hit.payload != v.payload {
            return Err(format!("another payload: {hit:?}, expected {v:?}"));
        }
        Ok(())
    }

    /// Whoever surely lives and was left out must be no nearer than the last answer.
    fn check_complete(
        &self,
        answer: &Answer,
        query: &[f32],
        k: usize,
        filter: Option<u64>,
        now: u64,
        seen: &BTreeSet<PointId>,
    ) -> Verdict {
        let last = answer.hits.last().map(|h| h.distance);
        for (id, v) in &self.points {
            // A row that is not known yet may or may not pass a filter.
            let passes = filter.is_none_or(|rest| v.row.is_some_and(|row| row.0 % 3 == rest));
            if seen.contains(id) || !passes || !v.surely_lives(now) {
                continue;
            }
            let distance = self.metric.distance(query, &v.vector);
            if answer.hits.len() < k || last.is_some_and(|l| distance < l - tolerance(l)) {
                return Err(format!(
                    "{id} ({:?}) lives at distance {distance} and is not among the {} of {k} answers, the last at {last:?}",
                    v.row,
                    answer.hits.len()
                ));
            }
        }
        Ok(())
    }
}

/// Distances are sums in f32, and two orders of summing differ in the last digits.
fn tolerance(distance: f32) -> f32 {
    1e-4 * (1.0 + distance.abs())
}

fn same(version: &Version, record: &Record) -> bool {
    record.payload == version.payload && record.vector.as_ref().is_none_or(|v| *v == version.vector)
}

fn renew(version: &mut Version, now: u64) {
    if let Some(end) = version.end.as_mut().filter(|e| e.renew) {
        (end.from, end.until) = (now + end.lifetime, now + end.lifetime);
    }
}

//! Shadow policies: what others would have done with the same accesses, on a sample of the rows.
//!
//! A row is in the sample by a hash of its number, so that a shadow sees all events of some rows and none of others. It keeps a tier of
//! its own, as large as the sample's share of the live one, and the books of its policy; nothing moves. The figures are estimates by the
//! sample; the live policy is counted on the same rows over the same time, and by the same arithmetic, so that they can be compared.
//!
//! An update makes a new row, which is in the sample or not by its own number: as many enter so as leave. Where both versions are in it,
//! the new one takes over what the shadow knew.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::clock::Time;
use crate::config::ShadowConfig;
use crate::error::Result;
use crate::id::Row;
use crate::role::{Context, Event, EvictionPolicy, Explanation, Item, Tier, Verdict};
use crate::seal::{checksum, seal, unseal};
use crate::wire::Reader;

/// Makes the sample independent of other hashes of rows.
const SAMPLE_SEED: u64 = 0x7368_6164_6f77;
/// Binds a saved shadow to its place, and to what is counted of it.
const SAVED_SEED: u64 = 0x7368_6164_6f79;
/// Rows that a shadow may wish for after rows were used together.
const WISHES: usize = 16;

/// What one shadow, or the live policy on the same rows, would have made of the accesses since the memory was opened first with it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ShadowStats {
    /// The policy.
    pub policy: String,
    /// Share of the rows that are looked at.
    pub sample: f64,
    /// Rows of the sample that its tier holds.
    pub rows: u64,
    /// Rows that its tier may hold.
    pub capacity_rows: u64,
    /// Uses of rows of the sample.
    pub accesses: u64,
    /// Uses that found their row hot.
    pub hits: u64,
    /// Uses that found their row hot in the live tier.
    pub live_hits: u64,
    /// Rows brought in.
    pub promoted: u64,
    /// Rows of the sample that the live policy, or a person, brought in.
    pub live_promoted: u64,
    /// Rows moved out, those included that found no room when they were written.
    pub demoted: u64,
    /// Rows of the sample that left the live tier, or found no room in it.
    pub live_demoted: u64,
    /// Estimated time spent on reading cold rows, for each access, in microseconds: misses times the time of a read.
    pub read_us_per_access: f64,
    /// The same of the live policy, by the same estimate.
    pub live_read_us_per_access: f64,
    /// Estimated dollars, for the whole memory: a read of the cold store for each miss, and a segment for each `flux.batch_rows` rows
    /// moved out.
    pub usd: f64,
    /// The same of the live policy, by the same estimate.
    pub live_usd: f64,
    /// RAM that its books take, beside the hot tier's budget.
    pub bytes: u64,
}

impl ShadowStats {
    /// Share of the accesses that found their row hot; `None` before the first.
    pub fn hit_rate(&self) -> Option<f64> {
        (self.accesses > 0).then(|| self.hits as f64 / self.accesses as f64)
    }

    /// The same of the live policy on the same rows.
    pub fn live_hit_rate(&self) -> Option<f64> {
        (self.accesses > 0).then(|| self.live_hits as f64 / self.accesses as f64)
    }
}

/// What a policy made of the accesses to rows of the sample.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    hits: u64,
    promoted: u64,
    demoted: u64,
}

/// One policy beside the live one.
#[derive(Debug)]
pub(crate) struct Shadow {
    name: String,
    policy: Box<dyn EvictionPolicy>,
    /// Its tier.
    hot: BTreeSet<Row>,
    accesses: u64,
    own: Tally,
    /// Of the live policy since this shadow began.
    live: Tally,
}

/// All shadows of a memory.
#[derive(Debug)]
pub(crate) struct Shadows {
    sample: f64,
    read_usd: f64,
    write_usd: f64,
    batch_rows: u64,
    /// Rows that each tier may hold.
    capacity: u64,
    row_bytes: u32,
    restore_us: f32,
    all: Vec<Shadow>,
}

impl Shadows {
    /// Shadows with empty tiers. `row_bytes`: RAM of a hot row.
    pub(crate) fn new(
        config: &ShadowConfig,
        batch_rows: usize,
        row_bytes: u32,
        policies: Vec<(String, Box<dyn EvictionPolicy>)>,
    ) -> Self {
        let shadow = |(name, policy)| Shadow {
            name,
            policy,
            hot: BTreeSet::new(),
            accesses: 0,
            own: Tally::default(),
            live: Tally::default(),
        };
        Self {
            sample: config.sample,
            read_usd: config.read_usd,
            write_usd: config.write_usd,
            batch_rows: batch_rows.max(1) as u64,
            capacity: 1,
            row_bytes,
            restore_us: 0.0,
            all: policies.into_iter().map(shadow).collect(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Follows the live tier: `rows` fit into it, and reading a cold one takes `restore_us`.
    pub(crate) fn resize(&mut self, rows: u64, restore_us: f32) {
        self.capacity = ((rows as f64 * self.sample).round() as u64).max(1);
        self.restore_us = restore_us;
    }

    fn sampled(&self, row: Row) -> bool {
        let part = checksum(&row.0.to_le_bytes(), SAMPLE_SEED) >> 11;
        // 53 bits: exact in a float.
        (part as f64) < self.sample * (1_u64 << 53) as f64
    }

    fn context(&self, shadow: usize, now: Time) -> Context {
        let bytes = u64::from(self.row_bytes);
        Context {
            now,
            temperature: 1.0,
            hot_bytes: self.all[shadow].hot.len() as u64 * bytes,
            budget_bytes: self.capacity * bytes,
        }
    }

    fn item(&self, row: Row) -> Item {
        Item {
            row,
            bytes: self.row_bytes,
            restore_us: self.restore_us,
        }
    }

    /// What the live policy hears.
    pub(crate) fn hear(&mut self, event: &Event, now: Time) {
        match *event {
            Event::Accessed { row } if self.sampled(row) => self.access(row, true, now),
            Event::Missed { item } if self.sampled(item.row) => self.access(item.row, false, now),
            Event::Inserted { item, tier } if self.sampled(item.row) => {
                self.count_landed(tier);
                self.enter_new(item.row, now);
            }
            Event::Replaced { old, item, tier } => {
                if self.sampled(item.row) {
                    self.count_landed(tier);
                }
                match (self.sampled(old), self.sampled(item.row)) {
                    (true, true) => self.replace(old, item.row, now),
                    (true, false) => self.remove(old, now),
                    (false, true) => self.enter_new(item.row, now),
                    (false, false) => {}
                }
            }
            Event::Removed { row } if self.sampled(row) => self.remove(row, now),
            Event::Feedback { row, .. } | Event::Pinned { row, .. } if self.sampled(row) => {
                for shadow in &mut self.all {
                    shadow.policy.on_event(event, now);
                }
            }
            // Moves of the live tier are the live policy's: they are counted, and no shadow hears of them.
            Event::Moved { item, to } if self.sampled(item.row) => {
                self.count_live(|live| match to {
                    Tier::Hot => live.promoted += 1,
                    Tier::Cold => live.demoted += 1,
                });
            }
            _ => {}
        }
    }

    fn count_live(&mut self, count: impl Fn(&mut Tally)) {
        self.all.iter_mut().for_each(|s| count(&mut s.live));
    }

    /// A row that was written went to a tier; to the cold one it went in a segment, as rows do that are moved out.
    fn count_landed(&mut self, tier: Tier) {
        if tier == Tier::Cold {
            self.count_live(|live| live.demoted += 1);
        }
    }

    /// Rows that were used together.
    pub(crate) fn hear_together(&mut self, rows: &[Row], now: Time) {
        let mine: Vec<Row> = rows.iter().copied().filter(|r| self.sampled(*r)).collect();
        if mine.len() < 2 {
            return;
        }
        for at in 0..self.all.len() {
            let context = self.context(at, now);
            let policy = &mut self.all[at].policy;
            policy.on_together(&mine, now);
            for wish in policy.wishes(WISHES, &context) {
                if self.sampled(wish.row) && !self.all[at].hot.contains(&wish.row) {
                    self.bring_in(at, &wish, now);
                }
            }
        }
    }

    fn access(&mut self, row: Row, live_hit: bool, now: Time) {
        for at in 0..self.all.len() {
            let context = self.context(at, now);
            let item = self.item(row);
            let shadow = &mut self.all[at];
            shadow.accesses += 1;
            shadow.live.hits += u64::from(live_hit);
            if shadow.hot.contains(&row) {
                shadow.own.hits += 1;
                shadow.policy.on_event(&Event::Accessed { row }, now);
            } else {
                shadow.policy.on_event(&Event::Missed { item }, now);
                let candidate = shadow.policy.admit(&item, &context);
                self.bring_in(at, &candidate, now);
            }
        }
    }

    /// A new point's row is hot at first, as in the live tier.
    fn enter_new(&mut self, row: Row, now: Time) {
        let item = self.item(row);
        for at in 0..self.all.len() {
            let entered = self.all[at].hot.contains(&row) || self.make_room(at, None, now);
            let shadow = &mut self.all[at];
            let tier = if entered { Tier::Hot } else { Tier::Cold };
            if entered {
                shadow.hot.insert(row);
            } else {
                shadow.own.demoted += 1;
            }
            shadow.policy.on_event(&Event::Inserted { item, tier }, now);
        }
    }

    /// A new version takes over the former one's history. It is hot at first, and needs no room where the former one was.
    fn replace(&mut self, old: Row, new: Row, now: Time) {
        let item = self.item(new);
        for at in 0..self.all.len() {
            let hot = &mut self.all[at].hot;
            let has_room = hot.remove(&old) || hot.contains(&new);
            let tier = match has_room || self.make_room(at, None, now) {
                true => Tier::Hot,
                false => Tier::Cold,
            };
            let shadow = &mut self.all[at];
            if tier == Tier::Hot {
                shadow.hot.insert(new);
            } else {
                shadow.own.demoted += 1;
            }
            let replaced = Event::Replaced { old, item, tier };
            shadow.policy.on_event(&replaced, now);
        }
    }

    fn remove(&mut self, row: Row, now: Time) {
        for shadow in &mut self.all {
            shadow.hot.remove(&row);
            shadow.policy.on_event(&Event::Removed { row }, now);
        }
    }

    fn bring_in(&mut self, at: usize, candidate: &Verdict, now: Time) {
        let item = self.item(candidate.row);
        if self.make_room(at, Some(candidate), now) {
            let shadow = &mut self.all[at];
            shadow.hot.insert(item.row);
            shadow.own.promoted += 1;
            let to = Tier::Hot;
            shadow.policy.on_event(&Event::Moved { item, to }, now);
        }
    }

    /// Moves victims out until one more row fits; whether it does. `None` weighs no candidate.
    fn make_room(&mut self, at: usize, candidate: Option<&Verdict>, now: Time) -> bool {
        while self.all[at].hot.len() as u64 >= self.capacity {
            let context = self.context(at, now);
            let bytes = u64::from(self.row_bytes);
            let Some(victim) = self.all[at].policy.victim(bytes, &context) else {
                return false;
            };
            if candidate.is_some_and(|c| !victim.yields_to(c)) {
                return false;
            }
            let item = self.item(victim.row);
            let shadow = &mut self.all[at];
            // A policy that proposes what is not hot is told so once; a shadow must not hold up the live tier.
            let was_hot = shadow.hot.remove(&victim.row);
            shadow.own.demoted += u64::from(was_hot);
            let to = Tier::Cold;
            shadow.policy.on_event(&Event::Moved { item, to }, now);
            if !was_hot {
                return false;
            }
        }
        true
    }

    /// The figures of all.
    pub(crate) fn stats(&self) -> Vec<ShadowStats> {
        // Dollars, and microseconds of reading for each access.
        let price = |accesses: u64, of: Tally| {
            let misses = accesses.saturating_sub(of.hits) as f64;
            let segments = of.demoted as f64 / self.batch_rows as f64;
            let usd = (misses * self.read_usd + segments * self.write_usd) / self.sample;
            let read_us = misses / accesses.max(1) as f64 * f64::from(self.restore_us);
            (usd, read_us)
        };
        let figures = |s: &Shadow| {
            let (usd, read_us_per_access) = price(s.accesses, s.own);
            let (live_usd, live_read_us_per_access) = price(s.accesses, s.live);
            ShadowStats {
                policy: s.name.clone(),
                sample: self.sample,
                rows: s.hot.len() as u64,
                capacity_rows: self.capacity,
                accesses: s.accesses,
                hits: s.own.hits,
                live_hits: s.live.hits,
                promoted: s.own.promoted,
                live_promoted: s.live.promoted,
                demoted: s.own.demoted,
                live_demoted: s.live.demoted,
                read_us_per_access,
                live_read_us_per_access,
                usd,
                live_usd,
                bytes: s.policy.bytes() + s.hot.len() as u64 * 16,
            }
        };
        self.all.iter().map(figures).collect()
    }

    /// Names of all.
    pub(crate) fn names(&self) -> Vec<&str> {
        self.all.iter().map(|s| s.name.as_str()).collect()
    }

    /// Where a shadow has a row, no place for one outside its sample, and why; `None` for a policy that is no shadow.
    pub(crate) fn explain(
        &self,
        name: &str,
        row: Row,
        now: Time,
    ) -> Option<(Option<Tier>, Explanation)> {
        let at = self.all.iter().position(|s| s.name == name)?;
        let shadow = &self.all[at];
        let mut explanation = shadow.policy.explain(row, &self.context(at, now));
        if !self.sampled(row) {
            explanation.words = format!(
                "not in the sample of {}% of the rows that this shadow looks at",
                self.sample * 100.0
            );
            return Some((None, explanation));
        }
        let tier = match shadow.hot.contains(&row) {
            true => Tier::Hot,
            false => Tier::Cold,
        };
        Some((Some(tier), explanation))
    }

    /// Every shadow's state, sealed, with its name.
    pub(crate) fn save(&self) -> Vec<(String, Vec<u8>)> {
        let saved = |s: &Shadow| {
            let mut out = Vec::new();
            let counts = [s.own, s.live].map(|of| [of.hits, of.promoted, of.demoted]);
            let head = [self.sample.to_bits(), s.hot.len() as u64];
            let rows = s.hot.iter().map(|row| row.0);
            let words = std::iter::once(s.accesses).chain(counts.into_iter().flatten());
            for word in words.chain(head).chain(rows) {
                out.extend_from_slice(&word.to_le_bytes());
            }
            s.policy.save(&mut out);
            seal(&mut out, 0, SAVED_SEED);
            (s.name.clone(), out)
        };
        self.all.iter().map(saved).collect()
    }

    /// Takes up what `save` wrote of one shadow.
    pub(crate) fn load(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let Some(shadow) = self.all.iter_mut().find(|s| s.name == name) else {
            return Ok(());
        };
        let what = "a shadow's books";
        let mut r = Reader::new(unseal(bytes, SAVED_SEED, what)?, what);
        let accesses = r.u64()?;
        let mut tallies = [Tally::default(); 2];
        for of in &mut tallies {
            *of = Tally {
                hits: r.u64()?,
                promoted: r.u64()?,
                demoted: r.u64()?,
            };
        }
        if r.u64()? != self.sample.to_bits() {
            return Err(r.bad("they are of another sample"));
        }
        let mut hot = BTreeSet::new();
        for _ in 0..r.u64()? {
            hot.insert(Row(r.u64()?));
        }
        shadow.policy.load(r.remaining())?;
        shadow.hot = hot;
        shadow.accesses = accesses;
        [shadow.own, shadow.live] = tallies;
        Ok(())
    }
}

mod keep;
#[cfg(test)]
mod tests;

pub(super) use keep::build;

//! One policy, one trace, one cache size.

use std::fmt;
use std::time::{Duration, Instant};

use aether_core::role::{
    Context, Event, EvictionPolicy, Item, PREFETCH_MAX, TOGETHER_MAX, Tier, Verdict,
};
use aether_core::{Error, Result, Row, Time};

use super::reader::IMPORTANCE_MAX;
use super::trace::{Step, Trace};

/// What a replay asks: a policy, or a limit that is told the future. `next` is the number of the request that uses the row next.
pub(super) trait Subject: fmt::Debug {
    /// Rows that are used next. A limit has nothing to fetch.
    fn prefetch(&self, _rows: &[Row]) {}
    /// A hot row was used.
    fn hit(&mut self, row: Row, next: u64, context: &Context);
    /// A cold row was used: what it would be worth; `None` refuses it.
    fn missed(&mut self, item: &Item, next: u64, context: &Context) -> Option<Verdict>;
    /// The row to leave first.
    fn victim(&mut self, bytes: u64, context: &Context) -> Option<Verdict>;
    /// A row left the hot tier.
    fn left(&mut self, item: &Item, context: &Context);
    /// A row entered the hot tier.
    fn entered(&mut self, item: &Item, next: u64, context: &Context);
    /// The use was judged.
    fn judged(&mut self, row: Row, reward: f32, context: &Context);
    /// Rows were used together. A limit learns nothing from it.
    fn together(&mut self, _rows: &[Row], _context: &Context) {}
    /// Cold rows that it would like in the hot tier, best first.
    fn wishes(&mut self, _rows: usize, _context: &Context) -> Vec<Verdict> {
        Vec::new()
    }
    /// Hot rows in its books.
    fn len(&self) -> usize;
    /// Bytes of its books.
    fn bytes(&self) -> u64;
}

/// Any policy, as the engine feeds it.
impl Subject for Box<dyn EvictionPolicy> {
    fn prefetch(&self, rows: &[Row]) {
        EvictionPolicy::prefetch(&**self, rows);
    }

    fn hit(&mut self, row: Row, _next: u64, context: &Context) {
        self.on_event(&Event::Accessed { row }, context.now);
    }

    fn missed(&mut self, item: &Item, _next: u64, context: &Context) -> Option<Verdict> {
        self.on_event(&Event::Missed { item: *item }, context.now);
        Some(self.admit(item, context))
    }

    fn victim(&mut self, bytes: u64, context: &Context) -> Option<Verdict> {
        EvictionPolicy::victim(&mut **self, bytes, context)
    }

    fn left(&mut self, item: &Item, context: &Context) {
        let to = Tier::Cold;
        self.on_event(&Event::Moved { item: *item, to }, context.now);
    }

    fn entered(&mut self, item: &Item, _next: u64, context: &Context) {
        let to = Tier::Hot;
        self.on_event(&Event::Moved { item: *item, to }, context.now);
    }

    fn judged(&mut self, row: Row, reward: f32, context: &Context) {
        self.on_event(&Event::Feedback { row, reward }, context.now);
    }

    fn together(&mut self, rows: &[Row], context: &Context) {
        self.on_together(rows, context.now);
    }

    fn wishes(&mut self, rows: usize, context: &Context) -> Vec<Verdict> {
        EvictionPolicy::wishes(&mut **self, rows, context)
    }

    fn len(&self) -> usize {
        EvictionPolicy::len(&**self)
    }

    fn bytes(&self) -> u64 {
        EvictionPolicy::bytes(&**self)
    }
}

/// What a replay counted.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tally {
    /// Requests.
    pub accesses: u64,
    /// Requests whose row was not hot.
    pub misses: u64,
    /// Bytes of all requests.
    pub bytes: u64,
    /// Bytes of those whose row was not hot.
    pub missed_bytes: u64,
    /// Rows that entered the hot tier.
    pub promoted: u64,
    /// Of these, rows that nobody asked for: wishes of the policy.
    pub wished: u64,
    /// Of these, rows that were used before they left.
    pub wished_used: u64,
    /// Rows that left it.
    pub demoted: u64,
    /// Misses of rows larger than the cache.
    pub too_large: u64,
    /// Sum of the importance, 0 to 1, of all judged requests.
    pub importance: f64,
    /// The same over those whose row was not hot.
    pub missed_importance: f64,
    /// Bytes of the policy's books at the end.
    pub books: u64,
    /// Hot rows at the end.
    pub rows: u64,
    /// Time spent in the replay, without reading the trace.
    pub took: Duration,
}

impl Tally {
    /// Share of the requests that missed.
    pub fn object_miss_ratio(&self) -> f64 {
        self.misses as f64 / self.accesses as f64
    }

    /// Share of the bytes that missed.
    pub fn byte_miss_ratio(&self) -> f64 {
        self.missed_bytes as f64 / self.bytes as f64
    }

    /// Rows that changed their tier, either way, for each request.
    pub fn moves_per_access(&self) -> f64 {
        (self.promoted + self.demoted) as f64 / self.accesses as f64
    }

    /// Rows that entered the hot tier, for each request.
    pub fn promotions_per_access(&self) -> f64 {
        self.promoted as f64 / self.accesses as f64
    }

    /// Bytes of the policy's books, its history included, for each hot row.
    pub fn metadata_bytes_per_item(&self) -> f64 {
        self.books as f64 / self.rows.max(1) as f64
    }

    /// Rows that were brought in by wishes of the policy, for each request.
    pub fn wishes_per_access(&self) -> f64 {
        self.wished as f64 / self.accesses as f64
    }

    /// Nanoseconds for each request.
    pub fn ns_per_access(&self) -> f64 {
        self.took.as_nanos() as f64 / self.accesses as f64
    }

    /// Share of the importance that missed, where requests are judged.
    pub fn importance_miss_ratio(&self) -> Option<f64> {
        (self.importance > 0.0).then(|| self.missed_importance / self.importance)
    }
}

/// What a replay holds constant.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setup {
    /// Size of the hot tier: rows, or bytes.
    pub(super) capacity: u64,
    /// Whether a row weighs its bytes; else it weighs 1.
    pub(super) by_bytes: bool,
    /// Microseconds of one unit of the trace's clock.
    pub(super) unit_us: u64,
    /// Whether requests of equal time are one retrieval, of which the policy is told, and its wishes granted.
    pub(super) retrievals: bool,
}

/// Time to read a row back that policies are told: a local disk's.
const RESTORE_US: f32 = 100.0;

/// A hot tier that keeps a byte a row.
struct Replay<'a, S> {
    subject: &'a mut S,
    name: &'a str,
    sizes: &'a [u32],
    setup: Setup,
    /// Of each row whether it is hot, and whether it is there by an unused wish.
    hot: Vec<Place>,
    used: u64,
    tally: Tally,
    /// Rows of the retrieval that is going on.
    retrieved: Vec<Row>,
    time: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Cold,
    Hot,
    /// Hot by a wish, and not used since.
    Wished,
}

impl<'a, S: Subject> Replay<'a, S> {
    fn new(subject: &'a mut S, name: &'a str, sizes: &'a [u32], setup: Setup) -> Self {
        Self {
            subject,
            name,
            sizes,
            setup,
            hot: vec![Place::Cold; sizes.len()],
            used: 0,
            tally: Tally::default(),
            retrieved: Vec::new(),
            time: 0,
        }
    }

    /// Bytes are those of a row in the hot tier: what the capacity counts.
    fn item(&self, id: u32) -> Item {
        Item {
            row: Row(u64::from(id)),
            bytes: if self.setup.by_bytes {
                self.sizes[id as usize]
            } else {
                1
            },
            restore_us: RESTORE_US,
        }
    }

    fn context(&self, now: Time) -> Context {
        Context {
            now,
            temperature: 1.0,
            hot_bytes: self.used,
            budget_bytes: self.setup.capacity,
        }
    }

    fn at(&self, time: u64) -> Time {
        Time(time.saturating_mul(self.setup.unit_us))
    }

    /// One request.
    fn access(&mut self, step: &Step, next: u64) -> Result<()> {
        let id = step.id;
        if self.setup.retrievals {
            if step.time != self.time {
                self.retrieval_ends()?;
                self.time = step.time;
            }
            self.retrieved.push(Row(u64::from(id)));
        }
        let size = u64::from(self.sizes[id as usize]);
        let now = self.at(step.time);
        let reward = step
            .judged
            .checked_sub(1)
            .map(|i| i as f32 / f32::from(IMPORTANCE_MAX));
        let importance = f64::from(reward.unwrap_or(0.0));
        self.tally.accesses += 1;
        self.tally.bytes += size;
        self.tally.importance += importance;
        let item = self.item(id);
        let place = self.hot[id as usize];
        if place != Place::Cold {
            if place == Place::Wished {
                self.hot[id as usize] = Place::Hot;
                self.tally.wished_used += 1;
            }
            let context = self.context(now);
            self.subject.hit(item.row, next, &context);
        } else {
            self.tally.misses += 1;
            self.tally.missed_bytes += size;
            self.tally.missed_importance += importance;
            if u64::from(item.bytes) > self.setup.capacity {
                // No policy could do anything about it, so none is told.
                self.tally.too_large += 1;
                return Ok(());
            }
            let context = self.context(now);
            if let Some(candidate) = self.subject.missed(&item, next, &context) {
                self.bring_in(&item, &candidate, next, now)?;
            }
        }
        if let Some(reward) = reward {
            let context = self.context(now);
            self.subject.judged(item.row, reward, &context);
        }
        Ok(())
    }

    /// Tells of rows that were used together, and grants what is wished for.
    fn retrieval_ends(&mut self) -> Result<()> {
        let mut rows = std::mem::take(&mut self.retrieved);
        rows.truncate(TOGETHER_MAX);
        if rows.len() > 1 {
            let now = self.at(self.time);
            let context = self.context(now);
            self.subject.together(&rows, &context);
            for wish in self.subject.wishes(rows.len(), &context) {
                let id = u32::try_from(wish.row.0)
                    .ok()
                    .filter(|id| (*id as usize) < self.sizes.len());
                let Some(id) = id else {
                    return Err(Error::internal(format!(
                        "policy {}: expected wishes for rows it has heard of, got row {}",
                        self.name, wish.row
                    )));
                };
                let item = self.item(id);
                let fits = u64::from(item.bytes) <= self.setup.capacity;
                if self.hot[id as usize] == Place::Cold
                    && fits
                    && self.bring_in(&item, &wish, 0, now)?
                {
                    self.hot[id as usize] = Place::Wished;
                    self.tally.wished += 1;
                }
            }
        }
        rows.clear();
        self.retrieved = rows;
        Ok(())
    }

    /// Makes room for a cold row, victim by victim, and lets it in; answers whether it got in.
    fn bring_in(&mut self, item: &Item, candidate: &Verdict, next: u64, now: Time) -> Result<bool> {
        loop {
            let over = (self.used + u64::from(item.bytes)).saturating_sub(self.setup.capacity);
            let context = self.context(now);
            if over == 0 {
                self.hot[item.row.0 as usize] = Place::Hot;
                self.used += u64::from(item.bytes);
                self.tally.promoted += 1;
                self.subject.entered(item, next, &context);
                return Ok(true);
            }
            let Some(victim) = self.subject.victim(over, &context) else {
                return Ok(false);
            };
            // What is not certain is weighed, as the engine's swaps are.
            if !victim.yields_to(candidate) {
                return Ok(false);
            }
            let known = usize::try_from(victim.row.0).ok();
            let place = known.and_then(|r| self.hot.get(r));
            if place.is_none_or(|place| *place == Place::Cold) {
                return Err(Error::internal(format!(
                    "policy {}: request {}: expected a hot row as victim, got row {}",
                    self.name, self.tally.accesses, victim.row
                )));
            }
            let left = self.item(victim.row.0 as u32);
            self.hot[victim.row.0 as usize] = Place::Cold;
            self.used -= u64::from(left.bytes);
            self.tally.demoted += 1;
            self.subject.left(&left, &context);
        }
    }

    /// Ends the last retrieval and reads the books once more.
    fn finish(mut self) -> Result<Tally> {
        self.retrieval_ends()?;
        self.tally.books = self.subject.bytes();
        self.tally.rows = self.subject.len() as u64;
        Ok(self.tally)
    }
}

/// Replays a trace. `progress` hears how many more requests are done; an error of it ends the replay.
pub(super) fn replay<S: Subject>(
    subject: &mut S,
    name: &str,
    trace: &Trace,
    setup: Setup,
    knows_future: bool,
    progress: &dyn Fn(u64) -> Result<()>,
) -> Result<Tally> {
    let mut replay = Replay::new(subject, name, trace.sizes(), setup);
    let mut took = Duration::ZERO;
    trace.each_block(knows_future, &mut |steps, next| {
        let begun = Instant::now();
        for (chunk, steps) in steps.chunks(PREFETCH_MAX).enumerate() {
            let mut rows = [Row(0); PREFETCH_MAX];
            for (row, step) in rows.iter_mut().zip(steps) {
                *row = Row(u64::from(step.id));
            }
            replay.subject.prefetch(&rows[..steps.len()]);
            for (at, step) in steps.iter().enumerate() {
                let next = next.get(chunk * PREFETCH_MAX + at);
                replay.access(step, next.copied().unwrap_or(0))?;
            }
        }
        took += begun.elapsed();
        progress(steps.len() as u64)
    })?;
    let mut tally = replay.finish()?;
    tally.took = took;
    Ok(tally)
}

#[cfg(test)]
mod tests;

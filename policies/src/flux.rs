//! The default policy: keeps what is most likely to be used again, weighed by what a miss of it would cost.
//!
//! ```text
//! worth = probability of reuse * (1 + importance) * cost of a miss / bytes
//! keep  = log2(worth) = score - now + value
//! score = log2(decayed count of uses) + virtual time of the last use
//! ```
//!
//! Virtual time advances by one half-life while a count halves; it is driven by uses, not by the clock, and its speed is
//! steered. As the score does not change by waiting, an order of rows by score stays right without looking at any. Counts
//! decay by C. Lee, D. Choi et al., "LRFU: A Spectrum of Policies that Subsumes the LRU and LFU Policies", IEEE Transactions on
//! Computers 50(12), 2001; dividing by size is P. Cao, S. Irani, "Cost-Aware WWW Proxy Caching Algorithms", USITS 1997.
//! What differs: counts outlive a stay in the hot tier, and nothing about them is set by hand.
//!
//! - **History.** Counts of rows that left, or were only missed, are remembered in 20 bytes each.
//! - **Recency.** The most recently used share of the rows stays whatever its score: the probation of new rows.
//! - **Steering.** Half-life and share of recency are those that do best in miniature on a sample of the rows ([`steer`]).
//! - **Victims.** Buckets of scores, each a sixteenth of a doubling wide ([`order`]): the lowest leave, always. A use costs O(1).
//! - **Admission.** With a share of recency every missed row enters it. Without, a row enters when the uses expected until
//!   its score falls to the lowest save more than the move costs. A few refused ones are let in all the same, the more the
//!   higher the temperature, so that a wrong order can be found out.
//!
//! 30 bytes of record, 8 of links, 5.7 to 12.2 of hash table, and history.

use aether_core::config::RawConfig;
use aether_core::role::{Context, EvictionPolicy, Figure, Item, Verdict, Want};
use aether_core::{BuildContext, Error, Factory, Plugin, Result, Row, Time};

use crate::books::{Books, Input, Policy, Rules, Shuffle, Standing};

mod config;
mod figures;
mod ghost;
mod order;
mod steer;
mod words;

use config::FluxConfig;
use figures::{Hot, Past, Score};
use order::{RECENT, Ring, Step};
use steer::Steer;

/// Keeps what is likely to be used again and dear to miss; learns by itself how fast to forget.
pub static PLUGIN: Plugin = Plugin {
    name: "flux",
    crate_name: env!("CARGO_PKG_NAME"),
    summary: "Keeps what is likely to be used again, important and dear to miss; learns by itself how fast to forget.",
    options: config::OPTIONS,
    persistent: false,
    factory: Factory::Policy(build),
};
aether_core::register!(PLUGIN);

fn build(raw: &RawConfig, context: &BuildContext) -> Result<Box<dyn EvictionPolicy>> {
    let config: FluxConfig = raw.parse()?;
    config.check(raw)?;
    Ok(Box::new(Policy::new(
        Flux::new(&config, context.seed),
        config.history,
    )))
}

/// A keep-value without recency lies between minus and plus so many doublings.
const KEEP_MOST: f64 = 64.0;
/// Added to the keep-value of a row that stays by recency: it is above that of every other.
const RECENT_KEEP: f64 = 2.0 * KEEP_MOST;
/// Rows looked at beyond those wanted within the last bucket, to put the lowest first.
const LOOK_AT_MORE: usize = 8;
/// Hot rows from which on a share of them stays by recency.
const RECENT_LEAST: u32 = 8;
/// Rows that pass from recency to score in one event, at most: a smaller share comes about over some uses.
const PASS_AT_ONCE: usize = 8;
/// Events from one row put in order anew to the next, in turn: importance decays and the mean size drifts.
const REFRESH_EVERY: u64 = 8;
/// Uses that a new version of a point counts for: a sign of life, but nobody asked for it.
const RENEWAL_USES: f64 = 0.5;
/// Bytes and time of a miss at which neither counts.
const UNIT_BYTES: f64 = 1024.0;
const UNIT_US: f64 = 1000.0;
/// Uses over which the mean size of rows is taken.
const MEAN_OVER: f64 = 256.0;
/// Half-life in uses as long as the capacity is not known: that of so many rows.
const CAPACITY_LEAST: f64 = 64.0;

/// The state beyond the books.
#[derive(Debug)]
struct Flux {
    importance_weight: f64,
    importance_half_life_s: f64,
    importance_rate: f64,
    miss_cost_us: f64,
    move_cost: f64,
    probe: f64,
    seed: u64,
    random: fastrand::Rng,
    steer: Steer,
    /// Virtual time, in half-lives; begins at 1, so that no score is 0.
    now: f64,
    ring: Ring,
    /// Rows in the list of the most recently used.
    recent: u32,
    events: u64,
    /// The next row to be put in order anew.
    cursor: u32,
    /// Mean bytes of rows used lately; 0 before the first.
    mean_bytes: f64,
}

fn wrong(what: String) -> Error {
    Error::corrupt(format!("policy books: flux: {what}"))
}

/// The parts of a row's keep-value, in doublings.
#[derive(Clone, Copy, Debug)]
struct Terms {
    /// Uses, decayed to now.
    count: f64,
    /// log2 of the count; its lower bound without any.
    reuse: f64,
    importance: f64,
    /// log2(1 + weight * importance).
    importance_gain: f64,
    restore_us: f64,
    /// log2 of the cost of a miss, in milliseconds.
    cost: f64,
    bytes: f64,
    /// -log2 of the size, in KiB.
    size: f64,
}

impl Terms {
    fn value(&self) -> f64 {
        self.importance_gain + self.cost + self.size
    }

    fn keep(&self) -> f64 {
        (self.reuse + self.value()).clamp(-KEEP_MOST, KEEP_MOST)
    }
}

impl Flux {
    fn new(config: &FluxConfig, seed: u64) -> Self {
        Self {
            importance_weight: config.importance_weight,
            importance_half_life_s: config.importance_half_life.0.as_secs_f64(),
            importance_rate: config.importance_rate,
            miss_cost_us: config.miss_cost.0.as_secs_f64() * 1e6,
            move_cost: config.move_cost,
            probe: config.probe,
            seed,
            random: fastrand::Rng::with_seed(seed),
            steer: Steer::new(),
            now: 1.0,
            ring: Ring::default(),
            recent: 0,
            events: 0,
            cursor: 0,
            mean_bytes: 0.0,
        }
    }

    fn importance(&self, past: Past, now: Time) -> f64 {
        let left = (-past.judged_age_s(now) / self.importance_half_life_s).exp2();
        past.importance() * left
    }

    fn bytes_of(&self, bytes: u32) -> f64 {
        match bytes {
            0 => self.mean_bytes.max(1.0),
            bytes => f64::from(bytes),
        }
    }

    fn size_value(&self, bytes: u32) -> f64 {
        -(self.bytes_of(bytes) / UNIT_BYTES).log2()
    }

    fn terms(&self, past: Past, restore_us: f64, bytes: u32, now: Time) -> Terms {
        let count = past.score.count(self.now);
        let importance = self.importance(past, now);
        Terms {
            count,
            reuse: past
                .score
                .value()
                .map_or(-self.now, |score| score - self.now),
            importance,
            importance_gain: (1.0 + self.importance_weight * importance).log2(),
            restore_us,
            cost: ((self.miss_cost_us + restore_us) / UNIT_US).log2(),
            bytes: self.bytes_of(bytes),
            size: self.size_value(bytes),
        }
    }

    fn terms_of(&self, books: &Books<Hot>, slot: u32, now: Time) -> Terms {
        let hot = books.figures(slot);
        self.terms(hot.past(), hot.restore_us(), books.weight(slot), now)
    }

    fn keep_of(&self, books: &Books<Hot>, slot: u32, now: Time) -> f64 {
        let keep = self.terms_of(books, slot, now).keep();
        match books.figures(slot).recent() {
            true => keep + RECENT_KEEP,
            false => keep,
        }
    }

    fn judged(&self, past: Past, reward: f32, now: Time) -> Past {
        let before = self.importance(past, now);
        let after = before + self.importance_rate * (f64::from(reward) - before);
        past.judged_at(now, after)
    }

    /// Rows that may stay by recency, of so many; none of a handful, where one row more or less would decide everything.
    fn recent_of(&self, rows: u32) -> u32 {
        if rows < RECENT_LEAST {
            return 0;
        }
        (f64::from(rows) * self.steer.recent_share()) as u32
    }

    /// Puts a row that is in no list, or among those with a score, in the bucket of its worth.
    fn place(&mut self, books: &mut Books<Hot>, slot: u32, now: Time) {
        let terms = self.terms_of(books, slot, now);
        let value = terms.value().clamp(-KEEP_MOST, KEEP_MOST);
        self.ring
            .link(books, slot, self.now + terms.reuse + value + KEEP_MOST);
    }

    /// Makes a row the most recently used; those beyond the share of recency pass on to their buckets, oldest first.
    fn bring_forward(&mut self, books: &mut Books<Hot>, slot: u32, now: Time) {
        let hot = books.figures(slot);
        if !hot.recent() {
            self.recent += 1;
            books.set_figures(slot, hot.placed(true));
        }
        books.push_back(RECENT, slot);
        for _ in 0..PASS_AT_ONCE {
            if self.recent <= self.recent_of(books.free()) {
                break;
            }
            let Some(oldest) = books.list(RECENT).next() else {
                break;
            };
            self.recent -= 1;
            books.set_figures(oldest, books.figures(oldest).placed(false));
            self.place(books, oldest, now);
        }
    }

    /// Learns the capacity of the hot tier from what fills it.
    fn observe(&mut self, books: &Books<Hot>, context: &Context) {
        let budget = context.budget_bytes as f64;
        let rows = if books.len() > 0 && context.hot_bytes >= context.budget_bytes / 2 {
            books.len() as f64 * budget / (context.hot_bytes as f64).max(1.0)
        } else if self.mean_bytes > 0.0 {
            budget / self.mean_bytes
        } else {
            return;
        };
        if rows >= 1.0 {
            self.steer.fit(rows, budget);
        }
    }

    fn verdict(&self, books: &Books<Hot>, slot: u32, now: Time) -> Verdict {
        Verdict {
            row: books.row(slot),
            keep: self.keep_of(books, slot, now),
            certain: false,
            reason: match books.figures(slot).recent() {
                true => "the least worthy of the rows used last",
                false => "least likely to be used again for its size and cost",
            },
        }
    }

    fn in_order(&self, books: &Books<Hot>, slots: Vec<u32>, now: Time) -> Vec<(f64, Row, u32)> {
        let with_keep = |slot: u32| (self.keep_of(books, slot, now), books.row(slot), slot);
        let mut rows: Vec<_> = slots.into_iter().map(with_keep).collect();
        rows.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        rows
    }

    /// The lowest rows: whole buckets, of the last one a few more than are wanted.
    fn worst(&mut self, books: &Books<Hot>, want: Want, context: &Context) -> Vec<u32> {
        let mut slots = Vec::with_capacity(want.rows.min(64) + LOOK_AT_MORE);
        let (mut bytes, mut more) = (0_u64, 0);
        for step in self.ring.ascending(books) {
            let enough = slots.len() >= want.rows || bytes >= want.bytes;
            match step {
                Step::End if enough => break,
                Step::End => {}
                Step::Row(_) if enough && more >= LOOK_AT_MORE => break,
                Step::Row(slot) => {
                    more += usize::from(enough);
                    slots.push(slot);
                    bytes = bytes.saturating_add(books.weight_or_mean(slot, context));
                }
            }
        }
        let rows = self.in_order(books, slots, context.now);
        let mut bytes = 0_u64;
        let until = rows.iter().take(want.rows).position(|(.., slot)| {
            bytes = bytes.saturating_add(books.weight_or_mean(*slot, context));
            bytes >= want.bytes
        });
        let count = until.map_or(want.rows, |last| last + 1);
        rows.into_iter()
            .take(count)
            .map(|(.., slot)| slot)
            .collect()
    }

    /// The lowest keep-value of the hot rows, and whether that row stays by recency; `None` without any.
    fn lowest(&self, books: &Books<Hot>, now: Time) -> Option<f64> {
        let mut ring = self.ring;
        let first = ring.ascending(books).find_map(|step| match step {
            Step::Row(slot) => Some(slot),
            Step::End => None,
        });
        first.map(|slot| self.keep_of(books, slot, now))
    }

    /// Uses expected until a row's keep-value has fallen to the lowest: a count `c` that halves with every half-life stands for
    /// `c ln 2` uses a half-life now, and for `c (1 - 2^-d)` over `d` of them.
    fn expected_uses(count: f64, keep: f64, lowest: f64) -> f64 {
        count * (1.0 - (lowest - keep).min(0.0).exp2())
    }
}

impl Rules for Flux {
    const NAME: &'static str = "flux";
    const LISTS: u32 = order::LISTS;
    const HISTORY_LEAST: u64 = 16_384;
    type Hot = Hot;
    type Past = Past;

    fn seen(&mut self, books: &mut Books<Hot>, row: Row, bytes: u32) {
        if bytes > 0 {
            let over = if self.mean_bytes > 0.0 {
                MEAN_OVER
            } else {
                1.0
            };
            self.mean_bytes += (f64::from(bytes) - self.mean_bytes) / over;
        }
        let capacity = match self.steer.capacity_rows() {
            rows if rows >= 1.0 => rows,
            _ => (books.len() as f64).max(CAPACITY_LEAST),
        };
        self.now += 1.0 / (self.steer.half_life() * capacity);
        let size = self.size_value(bytes) as f32;
        let bytes = self.bytes_of(bytes) as u32;
        self.steer.used(row, bytes, size);
        self.events += 1;
    }

    fn gone(&mut self, row: Row) {
        self.steer.gone(row);
    }

    fn changed(&mut self, books: &mut Books<Hot>, slot: u32, now: Time) {
        if !books.figures(slot).recent() {
            self.place(books, slot, now);
        }
    }

    fn unlink(&mut self, figures: Hot) {
        self.recent -= u32::from(figures.recent()).min(self.recent);
    }

    fn enter(&mut self, restore_us: f32, past: Option<Past>, now: Time) -> Hot {
        let past =
            past.unwrap_or_else(|| Past::default().scored(Score::default().used(1.0, self.now)));
        Hot::new(past, restore_us, now)
    }

    fn update(&mut self, figures: Hot, restore_us: f32) -> Hot {
        figures.restored_in(restore_us)
    }

    fn touch(&mut self, books: &mut Books<Hot>, slot: u32, now: Time) {
        let hot = books.figures(slot);
        let past = hot.past();
        let used = past.scored({ past.score }.used(1.0, self.now));
        books.set_figures(slot, hot.used_at(used, now));
        if !books.pinned(slot) {
            self.bring_forward(books, slot, now);
        }
        if self.events.is_multiple_of(REFRESH_EVERY) && books.free() > 0 {
            self.cursor = (self.cursor + 1) % books.free();
            self.changed(books, self.cursor, now);
        }
    }

    fn renew(&mut self, books: &mut Books<Hot>, slot: u32, now: Time) {
        let hot = books.figures(slot);
        let past = hot.past();
        let renewed = past.scored({ past.score }.used(RENEWAL_USES, self.now));
        books.set_figures(slot, hot.used_at(renewed, now));
        if !books.pinned(slot) {
            self.bring_forward(books, slot, now);
        }
    }

    fn link(&mut self, books: &mut Books<Hot>, slot: u32, now: Time) {
        books.set_figures(slot, books.figures(slot).placed(false));
        self.bring_forward(books, slot, now);
    }

    fn leave(&self, figures: Hot) -> Past {
        figures.past()
    }

    fn miss(&mut self, _books: &mut Books<Hot>, past: Option<Past>, _now: Time) -> Past {
        let past = past.unwrap_or_default();
        past.scored({ past.score }.used(1.0, self.now))
    }

    fn judge(&mut self, figures: Hot, reward: f32, now: Time) -> Hot {
        figures.with(self.judged(figures.past(), reward, now))
    }

    fn judge_past(&mut self, past: Option<Past>, reward: f32, now: Time) -> Option<Past> {
        Some(self.judged(past.unwrap_or_default(), reward, now))
    }

    fn victims(&mut self, books: &Books<Hot>, want: Want, context: &Context) -> Vec<Verdict> {
        self.observe(books, context);
        let slots: Vec<u32> = if want.bytes > 0 {
            self.worst(books, want, context)
        } else {
            let walk = Shuffle::new(books.free(), self.random.u64(..));
            let sample = walk.take(want.rows).collect();
            let rows = self.in_order(books, sample, context.now);
            rows.into_iter().map(|(.., slot)| slot).collect()
        };
        let verdict = |slot: &u32| self.verdict(books, *slot, context.now);
        slots.iter().map(verdict).collect()
    }

    fn admit(
        &mut self,
        books: &Books<Hot>,
        item: &Item,
        past: Option<Past>,
        context: &Context,
    ) -> Verdict {
        self.observe(books, context);
        let past =
            past.unwrap_or_else(|| Past::default().scored(Score::default().used(1.0, self.now)));
        let restore_us = Hot::new(past, item.restore_us, context.now).restore_us();
        let terms = self.terms(past, restore_us, item.bytes, context.now);
        let keep = terms.keep();
        let verdict = |keep, certain, reason| Verdict {
            row: item.row,
            keep,
            certain,
            reason,
        };
        if self.recent_of(books.free() + 1) > 0 {
            let reason = "used just now: it stays while it is among the rows used last";
            return verdict(keep + RECENT_KEEP, true, reason);
        }
        let lowest = self.lowest(books, context.now).unwrap_or(-KEEP_MOST);
        if context.hot_bytes.saturating_add(u64::from(item.bytes)) <= context.budget_bytes {
            return verdict(keep, true, "used, and there is room");
        }
        if Self::expected_uses(terms.count, keep, lowest) > self.move_cost {
            return verdict(
                keep,
                false,
                "likelier to be used again than what would leave",
            );
        }
        if self.random.f64() < self.probe * context.temperature.clamp(0.0, 1.0) {
            return verdict(keep, true, "let in to try it");
        }
        let reason = "not likely enough to be used again to pay for the move";
        verdict(keep.min(lowest), false, reason)
    }

    fn explain(
        &self,
        books: &Books<Hot>,
        standing: Standing<Hot, Past>,
        context: &Context,
    ) -> (f64, Vec<Figure>, String) {
        let of = match standing {
            Standing::Hot { figures, pinned } => words::Of::Hot {
                figures,
                bytes: 0,
                pinned,
            },
            Standing::Past(past) => words::Of::Past(past),
        };
        words::explain(self, books, of, context)
    }

    fn explain_hot(
        &self,
        books: &Books<Hot>,
        slot: u32,
        context: &Context,
    ) -> (f64, Vec<Figure>, String) {
        let of = words::Of::Hot {
            figures: books.figures(slot),
            bytes: books.weight(slot),
            pinned: books.pinned(slot),
        };
        words::explain(self, books, of, context)
    }

    fn save(&self, out: &mut Vec<u8>) {
        let bits = [self.now, self.mean_bytes].map(f64::to_bits);
        let numbers = [
            self.random.get_seed(),
            bits[0],
            bits[1],
            self.ring.top,
            self.ring.low,
            self.events,
        ];
        for number in numbers {
            out.extend_from_slice(&number.to_le_bytes());
        }
        for number in [self.recent, self.cursor] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        self.steer.save(out);
    }

    fn load(&mut self, input: &mut Input<'_>) -> Result<()> {
        self.random.seed(input.u64()?);
        self.now = f64::from_bits(input.u64()?);
        self.mean_bytes = f64::from_bits(input.u64()?);
        if !(self.now >= 1.0 && self.now < 1e12 && self.mean_bytes >= 0.0 && self.mean_bytes < 1e12)
        {
            return Err(wrong(format!(
                "time {} or mean size {} cannot be",
                self.now, self.mean_bytes
            )));
        }
        self.ring = Ring {
            top: input.u64()?,
            low: input.u64()?,
        };
        if self.ring.top > 1 << 48 || self.ring.low > self.ring.top {
            return Err(wrong(format!("the buckets stand wrongly: {:?}", self.ring)));
        }
        self.events = input.u64()?;
        self.recent = input.u32()?;
        self.cursor = input.u32()?;
        self.steer.load(input)
    }

    fn clear(&mut self) {
        self.random.seed(self.seed);
        self.steer = Steer::new();
        self.now = 1.0;
        self.ring = Ring::default();
        (self.recent, self.events, self.cursor) = (0, 0, 0);
        self.mean_bytes = 0.0;
    }

    fn bytes(&self) -> u64 {
        self.steer.bytes()
    }

    fn bytes_most(&self) -> u64 {
        Steer::BYTES_MOST
    }
}

#[cfg(test)]
mod tests;

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
//! - **Recency.** The most recently used share of the rows stays whatever its score: the probation of new rows. It begins as all of them.
//! - **Steering.** Half-life and share of recency are those that do best in miniature on a sample of the rows (`steer`); any that is not
//!   clearly better than plain recency gives way to it.
//! - **Victims.** Buckets of worth, each an eighth of a doubling wide (`order`): the lowest leave, always. A use costs O(1).
//! - **Admission.** With a share of recency every missed row enters it. Without, a row enters when the uses expected until
//!   its score falls to the lowest save more than the move costs. A few refused ones are let in all the same, the more the
//!   higher the temperature, so that a wrong order can be found out. While more rows entered than plain recency would have let in, by
//!   its trial, a row that was not used before waits for its second use.
//! - **Neighbours.** Where asked for, cold rows that were retrieved together with rows just used are wished for (`together`).
//!
//! 34 bytes of record, 8 of links, 2.3 to 4.6 of buckets, the trials', and history; with neighbours 256 more.
//! The trials take 70 bytes a slot, of which there are two for each hot row, but not fewer than 1,024 (72 kB, as rows are met)
//! and not more than 16,384 (1.1 MB).

use aether_core::config::RawConfig;
use aether_core::role::{Context, EvictionPolicy, Figure, Item, Verdict, Want};
use aether_core::{BuildContext, Error, Factory, Plugin, Result, Row, Time};

use crate::books::{Books, Input, Policy, Rules, Shuffle, Slots, Standing};

mod config;
mod figures;
mod ghost;
mod order;
mod place;
mod sample;
mod steer;
mod together;
mod words;
mod worth;

use config::FluxConfig;
use figures::{Hot, Past, Score};
use order::Ring;
use steer::{Steer, Trust};
use together::Together;
use worth::{Terms, recent_keep};

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
/// Events from one row put in order anew to the next, in turn: importance decays and the mean size drifts.
const REFRESH_EVERY: u64 = 8;
/// Uses that a new version of a point counts for: a sign of life, but nobody asked for it.
const RENEWAL_USES: f64 = 0.5;
/// Decayed uses from which a row is known to have been used before.
const USED_AGAIN: f64 = 1.5;
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
    together: Together,
    /// A use that the trials are still to hear of: row, bytes, and microseconds to restore.
    sampled: Option<(Row, u32, f64)>,
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
    /// The worth last worked out of a restore time and a size: rows of one memory are much alike.
    priced: (f64, u32, f64),
}

fn wrong(what: String) -> Error {
    Error::corrupt(format!("policy books: flux: {what}"))
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
            steer: Steer::new(Trust {
                horizon: config.horizon,
                lead: config.lead,
            }),
            together: Together::new(config.neighbours),
            sampled: None,
            now: 1.0,
            ring: Ring::default(),
            recent: 0,
            events: 0,
            cursor: 0,
            mean_bytes: 0.0,
            priced: (f64::NAN, 0, 0.0),
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
            self.steer.fit(books.len() as u64, rows, budget);
        }
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
        self.events += 1;
        self.together.used();
        self.sampled = self.steer.samples(row).then_some((row, bytes, 0.0));
    }

    fn upcoming(&self, books: &Books<Hot>, rows: usize, slots: &mut Slots) {
        slots.extend(self.ring.ascending(books).take(rows));
        slots.extend(books.list(order::RECENT).take(rows));
    }

    fn gone(&mut self, row: Row) {
        self.steer.gone(row);
        self.together.gone(row);
    }

    fn together(&mut self, books: &Books<Hot>, rows: &[Row]) {
        let is_hot = |row| books.find(row).is_some();
        self.together.heard(rows, books.len() as u64, is_hot);
    }

    fn wishes(
        &mut self,
        books: &Books<Hot>,
        rows: usize,
        _context: &Context,
    ) -> Vec<(Verdict, f64)> {
        let wishes = self.together.wishes(rows, |row| books.find(row).is_some());
        let verdict = |(row, expected)| {
            let verdict = Verdict {
                row,
                keep: recent_keep(0.0),
                certain: true,
                reason: "often retrieved together with rows used just now",
            };
            (verdict, expected)
        };
        wishes.into_iter().map(verdict).collect()
    }

    fn expect(&self, past: Option<Past>, uses: f64) -> Option<Past> {
        let past = past.unwrap_or_default();
        Some(past.scored({ past.score }.used(uses, self.now)))
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
        let hot = Hot::new(past, restore_us, now);
        self.simulate(past, hot.restore_us(), now);
        hot
    }

    fn update(&mut self, figures: Hot, restore_us: f32) -> Hot {
        // Told again of what it knows: no use.
        self.sampled = None;
        figures.restored_in(restore_us)
    }

    fn touch(&mut self, books: &mut Books<Hot>, slot: u32, now: Time) {
        self.use_row(books, slot, 1.0, now);
        if self.events.is_multiple_of(REFRESH_EVERY) && books.free() > 0 {
            self.cursor = (self.cursor + 1) % books.free();
            // What only gains may wait where it is.
            let past = books.figures(self.cursor).past();
            if past.importance() > 0.0 || books.weight(self.cursor) == 0 {
                self.changed(books, self.cursor, now);
            }
        }
    }

    fn renew(&mut self, books: &mut Books<Hot>, slot: u32, now: Time) {
        self.use_row(books, slot, RENEWAL_USES, now);
    }

    fn link(&mut self, books: &mut Books<Hot>, slot: u32, now: Time) {
        let hot = books.figures(slot);
        books.set_figures(slot, hot.used_at(hot.past(), now).placed(false));
        // What was wished for has an allowance of its own.
        if !self.together.entered(books.row(slot)) {
            self.steer.entered(books.row(slot));
        }
        self.bring_forward(books, slot, now);
    }

    fn departed(
        &mut self,
        _books: &mut Books<Hot>,
        row: Row,
        _bytes: u32,
        _figures: Hot,
        _list: Option<u32>,
    ) {
        self.together.left(row);
    }

    fn leave(&self, figures: Hot) -> Past {
        figures.past()
    }

    fn miss(&mut self, books: &mut Books<Hot>, past: Option<Past>, now: Time) -> Past {
        // What is asked next is whether the row is worth more than the lowest.
        self.settle(books, 1, now);
        let past = past.unwrap_or_default();
        let restore_us = self.sampled.map_or(0.0, |(.., restore_us)| restore_us);
        self.simulate(past, restore_us, now);
        past.scored({ past.score }.used(1.0, self.now))
    }

    fn missed(&mut self, _books: &mut Books<Hot>, item: &Item, now: Time) {
        if let Some((.., restore_us)) = &mut self.sampled {
            *restore_us = Hot::new(Past::default(), item.restore_us, now).restore_us();
        }
    }

    fn judge(&mut self, figures: Hot, reward: f32, now: Time) -> Hot {
        figures.with(self.judged(figures.past(), reward, now))
    }

    fn judge_past(&mut self, past: Option<Past>, reward: f32, now: Time) -> Option<Past> {
        Some(self.judged(past.unwrap_or_default(), reward, now))
    }

    fn prepare(&mut self, books: &mut Books<Hot>, want: Want, context: &Context) {
        self.observe(books, context);
        self.settle(books, want.rows, context.now);
    }

    fn victim(&mut self, books: &Books<Hot>, want: Want, context: &Context) -> Option<Verdict> {
        if want.bytes == 0 {
            return self.victims(books, want, context).into_iter().next();
        }
        let slot = self.first(books)?;
        Some(self.verdict(books, slot, context.now))
    }

    fn victims(&mut self, books: &Books<Hot>, want: Want, context: &Context) -> Vec<Verdict> {
        let slots: Vec<u32> = if want.bytes > 0 {
            self.worst(books, want, context)
        } else {
            let walk = Shuffle::new(books.free(), self.random.u64(..));
            self.in_order(books, walk.take(want.rows).collect(), context.now)
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
        let verdict = |keep, certain, reason| Verdict {
            row: item.row,
            keep,
            certain,
            reason,
        };
        let is_new = || past.is_none_or(|past| { past.score }.count(self.now) < USED_AGAIN);
        let is_full =
            context.hot_bytes.saturating_add(u64::from(item.bytes)) > context.budget_bytes;
        if is_full && self.steer.owes_moves() && is_new() {
            let reason =
                "not used before as far as is known, and more rows moved than by recency alone";
            return verdict(-KEEP_MOST, false, reason);
        }
        if self.recent_of(books.free() + 1) > 0 {
            let reason = "used just now: it stays while it is among the rows used last";
            return verdict(recent_keep(0.0), true, reason);
        }
        let past =
            past.unwrap_or_else(|| Past::default().scored(Score::default().used(1.0, self.now)));
        let restore_us = Hot::new(past, item.restore_us, context.now).restore_us();
        let terms = self.terms(past, restore_us, item.bytes, context.now);
        let keep = terms.keep();
        let lowest = match self.first(books) {
            Some(slot) => self.keep_of(books, slot, context.now),
            None => -KEEP_MOST,
        };
        if !is_full {
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
        self.together.save(out);
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
        self.steer.load(input)?;
        self.together.load(input)
    }

    fn clear(&mut self) {
        self.random.seed(self.seed);
        self.steer = Steer::new(self.steer.trust());
        self.together = Together::new(self.together.rate());
        self.sampled = None;
        self.now = 1.0;
        self.ring = Ring::default();
        (self.recent, self.events, self.cursor) = (0, 0, 0);
        self.mean_bytes = 0.0;
        self.priced = (f64::NAN, 0, 0.0);
    }

    fn bytes(&self) -> u64 {
        self.steer.bytes() + self.together.bytes()
    }

    fn bytes_bound(&self, hot: u64) -> u64 {
        self.steer.bytes_bound(hot) + self.together.bytes_bound(hot)
    }
}

#[cfg(test)]
mod tests;

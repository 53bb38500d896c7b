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
//! - **Victims.** Buckets of worth, each an eighth of a doubling wide ([`order`]): the lowest leave, always. A use costs O(1).
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
mod sample;
mod steer;
mod together;
mod words;

use config::FluxConfig;
use figures::{Hot, Past, Score};
use order::{RECENT, Ring};
use steer::Steer;
use together::Together;

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
/// Rows looked at for the lowest keep-value, where nothing may be put in order.
const LOOK_AT: usize = 16;
/// Hot rows from which on a share of them stays by recency, unless all do.
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
    together: Together,
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

/// The keep-value of a row that stays by recency: above that of every other, and less with every doubling of its age.
fn recent_keep(age_s: f64) -> f64 {
    RECENT_KEEP - (1.0 + age_s).log2()
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
            together: Together::new(config.neighbours),
            now: 1.0,
            ring: Ring::default(),
            recent: 0,
            events: 0,
            cursor: 0,
            mean_bytes: 0.0,
            priced: (f64::NAN, 0, 0.0),
        }
    }

    fn importance(&self, past: Past, now: Time) -> f64 {
        if past.importance() == 0.0 {
            return 0.0;
        }
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
            importance_gain: self.importance_gain(importance),
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

    /// A hot row's worth, which waiting does not change: [`Terms::keep`] with virtual time added, and no less than 0.
    fn worth(&self, books: &Books<Hot>, slot: u32, now: Time) -> f64 {
        let (hot, bytes) = (books.figures(slot), books.weight(slot));
        let past = hot.past();
        let (restore_us, bytes_us, price) = self.priced;
        let price = match bytes > 0 && bytes == bytes_us && hot.restore_us() == restore_us {
            true => price,
            false => self.price(hot.restore_us(), bytes),
        };
        let importance = self.importance(past, now);
        let value = match importance > 0.0 {
            true => price + self.importance_gain(importance),
            false => price,
        };
        { past.score }.value().unwrap_or(0.0) + value.clamp(-KEEP_MOST, KEEP_MOST) + KEEP_MOST
    }

    fn importance_gain(&self, importance: f64) -> f64 {
        (1.0 + self.importance_weight * importance).log2()
    }

    /// log2 of the cost of a miss over the size.
    fn price(&self, restore_us: f64, bytes: u32) -> f64 {
        ((self.miss_cost_us + restore_us) / UNIT_US).log2() + self.size_value(bytes)
    }

    fn keep_of(&self, books: &Books<Hot>, slot: u32, now: Time) -> f64 {
        let hot = books.figures(slot);
        match hot.recent() {
            true => recent_keep(hot.used_age_s(now)),
            false => self.terms_of(books, slot, now).keep(),
        }
    }

    fn judged(&self, past: Past, reward: f32, now: Time) -> Past {
        let before = self.importance(past, now);
        let after = before + self.importance_rate * (f64::from(reward) - before);
        past.judged_at(now, after)
    }

    /// Rows that may stay by recency, of so many: no share of a handful, where one row more or less would decide everything.
    fn recent_of(&self, rows: u32) -> u32 {
        let share = self.steer.recent_share();
        if share < 1.0 && rows < RECENT_LEAST {
            return 0;
        }
        (f64::from(rows) * share) as u32
    }

    /// Puts a row that is in no list, or in a bucket, in the bucket of its worth.
    fn place(&mut self, books: &mut Books<Hot>, slot: u32, now: Time) {
        let (restore_us, bytes) = (books.figures(slot).restore_us(), books.weight(slot));
        if (restore_us, bytes) != (self.priced.0, self.priced.1) {
            self.priced = (restore_us, bytes, self.price(restore_us, bytes));
        }
        let worth = self.worth(books, slot, now);
        self.ring.link(books, slot, worth);
    }

    /// A hot row is used.
    fn use_row(&mut self, books: &mut Books<Hot>, slot: u32, uses: f64, now: Time) {
        let hot = books.figures(slot);
        let past = hot.past();
        let used = past.scored({ past.score }.used(uses, self.now));
        books.set_figures(slot, hot.used_at(used, now));
        // Without recency the row has gained worth and may wait where it is.
        if !books.pinned(slot) && (hot.recent() || self.recent_of(books.free()) > 0) {
            self.bring_forward(books, slot, now);
        }
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
            if self.recent <= self.recent_of(books.free()) || !self.pass_oldest(books, now) {
                break;
            }
        }
    }

    /// The oldest of the recent rows passes on to the bucket of its worth; `false` without any.
    fn pass_oldest(&mut self, books: &mut Books<Hot>, now: Time) -> bool {
        let Some(oldest) = books.front(RECENT) else {
            return false;
        };
        self.recent -= 1;
        books.set_figures(oldest, books.figures(oldest).placed(false));
        self.place(books, oldest, now);
        true
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

    fn verdict(&self, books: &Books<Hot>, slot: u32, now: Time) -> Verdict {
        Verdict {
            row: books.row(slot),
            keep: self.keep_of(books, slot, now),
            certain: false,
            reason: match books.figures(slot).recent() {
                true => "the least recent of the rows used last",
                false => "least likely to be used again for its size and cost",
            },
        }
    }

    /// Rows by their keep-values, lowest first; equal ones in the order in which they were.
    fn in_order(&self, books: &Books<Hot>, slots: Vec<u32>, now: Time) -> Vec<u32> {
        let with_keep = |slot: u32| (self.keep_of(books, slot, now), slot);
        let mut rows: Vec<_> = slots.into_iter().map(with_keep).collect();
        rows.sort_by(|a, b| a.0.total_cmp(&b.0));
        rows.into_iter().map(|(_, slot)| slot).collect()
    }

    /// The lowest rows, in order.
    fn worst(&self, books: &Books<Hot>, want: Want, context: &Context) -> Vec<u32> {
        let mut bytes = 0_u64;
        let rows = self.ring.ascending(books).chain(books.list(RECENT));
        let enough = rows.take(want.rows).take_while(|slot| {
            let before = bytes;
            bytes = bytes.saturating_add(books.weight_or_mean(*slot, context));
            before < want.bytes
        });
        self.in_order(books, enough.collect(), context.now)
    }

    /// Puts the lowest rows in the order in which they are to leave.
    fn settle(&mut self, books: &mut Books<Hot>, rows: usize, now: Time) {
        let mut ring = self.ring;
        ring.settle(books, rows, |books, slot| self.worth(books, slot, now));
        self.ring = ring;
    }

    /// The row to leave first.
    fn first(&mut self, books: &Books<Hot>) -> Option<u32> {
        self.ring.first(books).or_else(|| books.front(RECENT))
    }

    /// The lowest keep-value of the hot rows, as far as those that gained since they were put in order do not hide it; `None` without
    /// any.
    fn lowest(&self, books: &Books<Hot>, now: Time) -> Option<f64> {
        let rows = self.ring.ascending(books).chain(books.list(RECENT));
        let keeps = rows
            .take(LOOK_AT)
            .map(|slot| self.keep_of(books, slot, now));
        keeps.min_by(f64::total_cmp)
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
        if self.steer.samples(row) {
            let size = self.size_value(bytes) as f32;
            self.steer.used(row, self.bytes_of(bytes) as u32, size);
        }
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
        Hot::new(past, restore_us, now)
    }

    fn update(&mut self, figures: Hot, restore_us: f32) -> Hot {
        figures.restored_in(restore_us)
    }

    fn touch(&mut self, books: &mut Books<Hot>, slot: u32, now: Time) {
        self.use_row(books, slot, 1.0, now);
        if self.events.is_multiple_of(REFRESH_EVERY) && books.free() > 0 {
            self.cursor = (self.cursor + 1) % books.free();
            self.changed(books, self.cursor, now);
        }
    }

    fn renew(&mut self, books: &mut Books<Hot>, slot: u32, now: Time) {
        self.use_row(books, slot, RENEWAL_USES, now);
    }

    fn link(&mut self, books: &mut Books<Hot>, slot: u32, now: Time) {
        let hot = books.figures(slot);
        books.set_figures(slot, hot.used_at(hot.past(), now).placed(false));
        self.bring_forward(books, slot, now);
    }

    fn leave(&self, figures: Hot) -> Past {
        figures.past()
    }

    fn miss(&mut self, books: &mut Books<Hot>, past: Option<Past>, now: Time) -> Past {
        // What is asked next is whether the row is worth more than the lowest.
        self.settle(books, 1, now);
        let past = past.unwrap_or_default();
        past.scored({ past.score }.used(1.0, self.now))
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
            return verdict(recent_keep(0.0), true, reason);
        }
        let lowest = match self.first(books) {
            Some(slot) => self.keep_of(books, slot, context.now),
            None => -KEEP_MOST,
        };
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
        self.steer = Steer::new();
        self.together = Together::new(self.together.rate());
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

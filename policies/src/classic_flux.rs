//! The plain additive formula: recency, decayed frequency, learned importance and the cost of reading back, in one keep-value.
//!
//! ```text
//! s = alpha * recency + beta * ln(1 + frequency) + gamma * importance + delta * cost
//! ```
//!
//! | term | range | how it comes about |
//! |---|---|---|
//! | recency | 0 to 1 | 2^(-age / recency_half_life); age is the time since the last use, or since the row became hot |
//! | frequency | 0 and more | each use adds 1, and the sum halves every frequency_half_life; the first entry counts as a use |
//! | importance | 0 to 1 | each feedback draws it towards the reward by importance_rate; halves every importance_half_life |
//! | cost | 0 to 1 | t / (t + cost_scale) for an estimated restore time t |
//!
//! All decay is computed when a figure is read: nothing is ever scanned. A higher value stays, always: each term rises with
//! its figure and no weight may be negative.
//!
//! **Victims** come from random samples. Without pressure the answer is one sample of as many rows as asked, scored and
//! sorted: the flux reads the spread of the tier from it. Under pressure five rows are looked at for each that must go, eight at least,
//! next to a pool of the worst rows that earlier samples met (the eviction pool of Redis 3.0, `evict.c`), of which only those in question
//! are weighed anew; if that frees too little, ever more are looked at, in an order that meets each row once, so that the answer is short
//! only when no other row may go.
//!
//! 30 bytes of record, 7.2 to 10.4 of hash table and up to 6 of history a row.

use std::cmp::Ordering;

use aether_core::config::RawConfig;
use aether_core::role::{Context, EvictionPolicy, Figure, Item, Verdict, Want};
use aether_core::{BuildContext, Factory, Plugin, Result, Row, Time};

use crate::books::{Books, Input, Policy, Rules, Shuffle, Standing, part, words_of};

mod config;
mod figures;

use config::ClassicFluxConfig;
use figures::{Hot, Past};

/// Weighs recency, frequency, importance and cost to restore.
pub static PLUGIN: Plugin = Plugin {
    name: "classic-flux",
    crate_name: env!("CARGO_PKG_NAME"),
    summary: "Weighs recency, decayed frequency, learned importance and the cost of reading back; the lowest sum leaves first.",
    options: config::OPTIONS,
    persistent: false,
    factory: Factory::Policy(build),
};
aether_core::register!(PLUGIN);

fn build(raw: &RawConfig, context: &BuildContext) -> Result<Box<dyn EvictionPolicy>> {
    let config: ClassicFluxConfig = raw.parse()?;
    config.check(raw)?;
    Ok(Box::new(Policy::new(
        ClassicFlux::new(&config, context.seed),
        config.history,
    )))
}

/// Rows looked at for each that must go: Redis' default of `maxmemory-samples`.
const LOOK_AT_EACH: usize = 5;
/// Rows looked at whatever must go.
const LOOK_AT_LEAST: usize = 8;
/// Worst rows remembered from one answer under pressure to the next.
const POOL_ROWS: usize = 64;

/// Weights, half-lives and the random draws.
#[derive(Debug)]
struct ClassicFlux {
    alpha: f64,
    beta: f64,
    gamma: f64,
    delta: f64,
    recency_half_life_s: f64,
    frequency_half_life_s: f64,
    importance_half_life_s: f64,
    importance_rate: f64,
    cost_scale_us: f64,
    seed: u64,
    random: fastrand::Rng,
    /// Worst rows of the last answer, in order, with their values then.
    pool: Vec<Weighed>,
}

/// The terms of one row's keep-value, before their weights.
#[derive(Clone, Copy, Debug)]
struct Terms {
    age_s: f64,
    recency: f64,
    frequency: f64,
    importance: f64,
    restore_us: f64,
    cost: f64,
}

/// What is left of 1 after a time.
fn decay(age_s: f64, half_life_s: f64) -> f64 {
    (-age_s / half_life_s).exp2()
}

impl ClassicFlux {
    fn new(config: &ClassicFluxConfig, seed: u64) -> Self {
        Self {
            alpha: config.recency_weight,
            beta: config.frequency_weight,
            gamma: config.importance_weight,
            delta: config.cost_weight,
            recency_half_life_s: config.recency_half_life.0.as_secs_f64(),
            frequency_half_life_s: config.frequency_half_life.0.as_secs_f64(),
            importance_half_life_s: config.importance_half_life.0.as_secs_f64(),
            importance_rate: config.importance_rate,
            cost_scale_us: config.cost_scale.0.as_secs_f64() * 1e6,
            seed,
            random: fastrand::Rng::with_seed(seed),
            pool: Vec::with_capacity(POOL_ROWS),
        }
    }

    fn frequency(&self, past: Past, now: Time) -> f64 {
        let age_s = past.used.age_s(now);
        f64::from(past.frequency) * decay(age_s, self.frequency_half_life_s)
    }

    fn importance(&self, past: Past, now: Time) -> f64 {
        let age_s = past.judged_age_s(now);
        past.importance() * decay(age_s, self.importance_half_life_s)
    }

    fn terms(&self, past: Past, restore_us: f64, now: Time) -> Terms {
        let age_s = past.used.age_s(now);
        Terms {
            age_s,
            recency: decay(age_s, self.recency_half_life_s),
            frequency: self.frequency(past, now),
            importance: self.importance(past, now),
            restore_us,
            cost: restore_us / (restore_us + self.cost_scale_us),
        }
    }

    fn keep(&self, terms: &Terms) -> f64 {
        self.alpha * terms.recency
            + self.beta * terms.frequency.ln_1p()
            + self.gamma * terms.importance
            + self.delta * terms.cost
    }

    fn keep_of(&self, hot: Hot, now: Time) -> f64 {
        self.keep(&self.terms(hot.past(), hot.restore_us(), now))
    }

    /// A use now: the count decays to now and grows by one.
    fn used(&self, past: Past, now: Time) -> Past {
        let frequency = self.frequency(past, now) + 1.0;
        past.used_at(now, frequency)
    }

    fn judged(&self, past: Past, reward: f32, now: Time) -> Past {
        let before = self.importance(past, now);
        let after = before + self.importance_rate * (f64::from(reward) - before);
        past.judged_at(now, after)
    }

    fn reason(&self, terms: &Terms) -> &'static str {
        let lately = terms.age_s < self.recency_half_life_s;
        match (lately, terms.frequency >= 2.0, terms.importance >= 0.5) {
            (false, false, false) => "not used lately, seldom used, not important",
            (false, false, true) => "important, but not used lately and seldom used",
            (false, true, false) => "used often, but not lately, and not important",
            (false, true, true) => "used often and important, but not used lately",
            (true, false, false) => "used lately, but seldom, and not important",
            (true, false, true) => "used lately and important, but seldom used",
            (true, true, false) => "used lately and often, but not important",
            (true, true, true) => "used lately and often, and important",
        }
    }

    fn verdict(&self, books: &Books<Hot>, slot: u32, now: Time) -> Verdict {
        let hot = books.figures(slot);
        let terms = self.terms(hot.past(), hot.restore_us(), now);
        Verdict {
            row: books.row(slot),
            keep: self.keep(&terms),
            certain: false,
            reason: self.reason(&terms),
        }
    }

    /// A slot's row with its keep-value now.
    fn weighed(&self, books: &Books<Hot>, slot: u32, now: Time) -> Weighed {
        Weighed {
            keep: self.keep_of(books.figures(slot), now),
            row: books.row(slot),
            slot: Some(slot),
        }
    }

    /// The worst of the pool and of as many rows as it takes, in order.
    fn worst(&mut self, books: &Books<Hot>, want: Want, context: &Context) -> Vec<u32> {
        let mean = (context.hot_bytes / books.len() as u64).max(1);
        let need = usize::try_from(want.bytes / mean).unwrap_or(usize::MAX);
        let rows = need.saturating_add(1).min(want.rows);
        let mut look = rows.saturating_mul(LOOK_AT_EACH).max(LOOK_AT_LEAST);
        let mut walk = Shuffle::new(books.free(), self.random.u64(..));
        let mut met = self.pool.clone();
        loop {
            let looked_at = walk.by_ref().take(look);
            let anew: Vec<Weighed> = looked_at
                .map(|slot| self.weighed(books, slot, context.now))
                .collect();
            let mut rows: Vec<Row> = anew.iter().map(|m| m.row).collect();
            rows.sort_unstable();
            met.retain(|m| rows.binary_search(&m.row).is_err());
            look = anew.len().max(1).saturating_mul(2);
            met.extend(anew);
            // Stable, since it is quick where a long beginning is in order already.
            met.sort_by(Weighed::order);
            let (chosen, enough) = self.choose(books, want, context, &mut met);
            if enough || walk.is_done() {
                met.truncate(POOL_ROWS);
                met.iter_mut().for_each(|m| m.slot = None);
                self.pool.clear();
                self.pool.extend(met);
                return chosen;
            }
        }
    }

    /// The first rows of `met`, which is in order, until they are enough, and whether they are. A figure from an earlier answer counts only
    /// until its row is met: then it is worked out anew, and the row put where it belongs.
    fn choose(
        &self,
        books: &Books<Hot>,
        want: Want,
        context: &Context,
        met: &mut Vec<Weighed>,
    ) -> (Vec<u32>, bool) {
        let (mut at, mut bytes) = (0, 0_u64);
        while at < want.rows && bytes < want.bytes {
            let Some(&Weighed { row, slot, .. }) = met.get(at) else {
                break;
            };
            if let Some(slot) = slot {
                bytes = bytes.saturating_add(books.weight_or_mean(slot, context));
                at += 1;
                continue;
            }
            met.remove(at);
            if let Some(slot) = books.find(row).filter(|slot| !books.pinned(*slot)) {
                let anew = self.weighed(books, slot, context.now);
                let behind = met[at..].partition_point(|m| m.order(&anew).is_lt());
                met.insert(at + behind, anew);
            }
        }
        // What fell since it was weighed may stand behind what was chosen before it.
        met[..at].sort_by(Weighed::order);
        let chosen = met[..at].iter().filter_map(|m| m.slot).collect();
        (chosen, at >= want.rows || bytes >= want.bytes)
    }
}

/// A row and its keep-value.
#[derive(Clone, Copy, Debug)]
struct Weighed {
    keep: f64,
    row: Row,
    /// Its slot, if the value is of now.
    slot: Option<u32>,
}

impl Weighed {
    /// Worst first, ties by row.
    fn order(&self, other: &Self) -> Ordering {
        self.keep
            .total_cmp(&other.keep)
            .then(self.row.cmp(&other.row))
    }
}

impl Rules for ClassicFlux {
    const NAME: &'static str = "classic-flux";
    const LISTS: u32 = 0;
    type Hot = Hot;
    type Past = Past;

    fn enter(&mut self, restore_us: f32, past: Option<Past>, now: Time) -> Hot {
        let past = match past {
            Some(past) => past.used_at(now, self.frequency(past, now)),
            None => Past::default().used_at(now, 1.0),
        };
        Hot::new(past, restore_us)
    }

    fn update(&mut self, figures: Hot, restore_us: f32) -> Hot {
        Hot::new(figures.past(), restore_us)
    }

    fn touch(&mut self, books: &mut Books<Hot>, slot: u32, now: Time) {
        let hot = books.figures(slot);
        books.set_figures(slot, hot.with(self.used(hot.past(), now)));
    }

    fn renew(&mut self, books: &mut Books<Hot>, slot: u32, now: Time) {
        let hot = books.figures(slot);
        let past = hot.past();
        let renewed = past.used_at(now, self.frequency(past, now));
        books.set_figures(slot, hot.with(renewed));
    }

    fn link(&mut self, _books: &mut Books<Hot>, _slot: u32, _now: Time) {}

    fn leave(&self, figures: Hot) -> Past {
        figures.past()
    }

    fn miss(&mut self, _books: &mut Books<Hot>, past: Option<Past>, now: Time) -> Past {
        self.used(past.unwrap_or_default(), now)
    }

    fn judge(&mut self, figures: Hot, reward: f32, now: Time) -> Hot {
        figures.with(self.judged(figures.past(), reward, now))
    }

    fn judge_past(&mut self, past: Option<Past>, reward: f32, now: Time) -> Option<Past> {
        Some(self.judged(past.unwrap_or_default(), reward, now))
    }

    fn victims(&mut self, books: &Books<Hot>, want: Want, context: &Context) -> Vec<Verdict> {
        let slots: Vec<u32> = if want.bytes > 0 {
            self.worst(books, want, context)
        } else {
            let walk = Shuffle::new(books.free(), self.random.u64(..));
            let sample = walk.take(want.rows);
            let mut sample: Vec<Weighed> = sample
                .map(|slot| self.weighed(books, slot, context.now))
                .collect();
            sample.sort_unstable_by(Weighed::order);
            sample.iter().filter_map(|m| m.slot).collect()
        };
        let verdict = |slot: &u32| self.verdict(books, *slot, context.now);
        slots.iter().map(verdict).collect()
    }

    fn admit(
        &mut self,
        _books: &Books<Hot>,
        item: &Item,
        past: Option<Past>,
        context: &Context,
    ) -> Verdict {
        // Entering renews recency, and a row without a record enters with one use.
        let hot = self.enter(item.restore_us, past, context.now);
        Verdict {
            row: item.row,
            keep: self.keep_of(hot, context.now),
            certain: false,
            reason: match past {
                Some(_) => "used again, with a past",
                None => "used for the first time in memory",
            },
        }
    }

    fn explain(
        &self,
        _books: &Books<Hot>,
        standing: Standing<Hot, Past>,
        context: &Context,
    ) -> (f64, Vec<Figure>, String) {
        let now = context.now;
        let terms = match standing {
            Standing::Hot { figures, .. } => self.terms(figures.past(), figures.restore_us(), now),
            Standing::Past(past) => self.terms(past, 0.0, now),
        };
        let keep = self.keep(&terms);
        let then = match standing {
            Standing::Hot { pinned: true, .. } => {
                format!("pinned, so it stays whatever its keep-value {keep:.2}")
            }
            Standing::Hot { .. } => {
                format!("leaves when its keep-value {keep:.2} falls below the midpoint")
            }
            Standing::Past(_) => format!(
                "not hot; comes in when a use lifts its keep-value, now {keep:.2} without the cost to restore, above the midpoint"
            ),
        };
        let used = match terms.frequency > 0.0 {
            true => format!("used {} ago, ", words_of(terms.age_s)),
            false => String::new(),
        };
        let words = format!(
            "{used}decayed frequency {:.1}, importance {:.1}; {then}",
            terms.frequency, terms.importance
        );
        let figure = |name, value, unit| Figure { name, value, unit };
        let figures = vec![
            figure("age", terms.age_s, "s"),
            figure("recency", terms.recency, "0 to 1"),
            figure("frequency", terms.frequency, "uses, decayed"),
            figure("importance", terms.importance, "0 to 1"),
            figure("restore", terms.restore_us, "us"),
            figure("cost", terms.cost, "0 to 1"),
            figure("recency_weight", self.alpha, ""),
            figure("frequency_weight", self.beta, "of ln(1 + frequency)"),
            figure("importance_weight", self.gamma, ""),
            figure("cost_weight", self.delta, ""),
            part("recency_part", self.alpha * terms.recency),
            part("frequency_part", self.beta * terms.frequency.ln_1p()),
            part("importance_part", self.gamma * terms.importance),
            part("cost_part", self.delta * terms.cost),
        ];
        (keep, figures, words)
    }

    fn save(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.random.get_seed().to_le_bytes());
        out.extend_from_slice(&(self.pool.len() as u32).to_le_bytes());
        for Weighed { keep, row, .. } in &self.pool {
            out.extend_from_slice(&row.0.to_le_bytes());
            out.extend_from_slice(&keep.to_bits().to_le_bytes());
        }
    }

    fn load(&mut self, input: &mut Input<'_>) -> Result<()> {
        self.random.seed(input.u64()?);
        for _ in 0..input.count(16)? {
            let (row, keep) = (Row(input.u64()?), f64::from_bits(input.u64()?));
            if self.pool.len() < POOL_ROWS {
                let slot = None;
                self.pool.push(Weighed { keep, row, slot });
            }
        }
        Ok(())
    }

    fn clear(&mut self) {
        self.random.seed(self.seed);
        self.pool.clear();
    }

    fn bytes(&self) -> u64 {
        (self.pool.capacity() * size_of::<Weighed>()) as u64
    }
}

#[cfg(test)]
mod tests;

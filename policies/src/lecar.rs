//! LeCaR: each victim is chosen by last use or by frequency, at odds that follow which of the two is regretted more. O(1) an event.
//!
//! G. Vietri, L. V. Rodriguez, W. A. Martinez, S. Lyons, J. Liu, R. Rangaswami, M. Zhao, G. Narasimhan, "Driving Cache Replacement with
//! ML-based LeCaR", HotStorage 2018, algorithms 1 and 2. One history of the size of the tier serves both experts, and the discount is
//! counted in uses. Counts are lost when a row leaves; from 255 on they are equal. 29 bytes of record, links and list a row, 8 of
//! the order by count, 7.2 to 10.4 of hash table, and 29 to 43 for each of as many ghosts as hot rows.

use aether_core::config::RawConfig;
use aether_core::role::{EvictionPolicy, Item};
use aether_core::{BuildContext, Factory, OptionSpec, Plugin, Result, Row, Time};
use serde::Deserialize;

use crate::books::{Input, Policy, Queued, Queues, Shelf, Stamp, within};

/// Learns whether last use or frequency tells more.
pub static PLUGIN: Plugin = Plugin {
    name: "lecar",
    crate_name: env!("CARGO_PKG_NAME"),
    summary: "Chooses each victim by last use or by frequency, at odds learned from what is missed after it left.",
    options: &[
        OptionSpec {
            name: "rate",
            default: "0.45",
            unit: "",
            help: "How fast the odds follow a regret.",
        },
        OptionSpec {
            name: "discount",
            default: "0.005",
            unit: "share",
            help: "What is left of a regret after as many uses as the tier has rows.",
        },
    ],
    persistent: false,
    factory: Factory::Policy(build),
};
aether_core::register!(PLUGIN);

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct LecarConfig {
    rate: f64,
    discount: f64,
}

impl Default for LecarConfig {
    /// The paper's constants (section 3.1).
    fn default() -> Self {
        Self {
            rate: 0.45,
            discount: 0.005,
        }
    }
}

fn build(raw: &RawConfig, context: &BuildContext) -> Result<Box<dyn EvictionPolicy>> {
    let config: LecarConfig = raw.parse()?;
    let rate = within(raw, "rate", config.rate, (0.0, 10.0))?;
    let discount = within(raw, "discount", config.discount, (1e-9, 1.0))?;
    let lecar = Lecar::new(rate, discount, context.seed);
    Ok(Box::new(Policy::new(Queued::new(lecar, GHOSTS_SHARE), 0.0)))
}

/// Ghosts for each hot row at most: one, and room for ghosts smaller than hot rows.
const GHOSTS_SHARE: f64 = 1.25;

#[derive(Debug)]
struct Lecar {
    rate: f64,
    discount: f64,
    seed: u64,
    random: fastrand::Rng,
    /// The odds that last use chooses; frequency has the rest.
    by_last_use: f64,
    /// Uses so far: the clock of the history.
    uses: u64,
    /// No row has a lower count.
    least: u32,
}

/// The queue of hot rows, least recently used first; the second order has a list for each count.
const RECENCY: u32 = 0;
const COUNTS: u32 = 255;
/// Beside the count: a row that frequency chose.
const BY_COUNT: u16 = 1 << 11;
/// The least that an expert's odds become, so that it can recover.
const ODDS_MIN: f64 = 1e-10;

impl Lecar {
    fn new(rate: f64, discount: f64, seed: u64) -> Self {
        Self {
            rate,
            discount,
            seed,
            random: fastrand::Rng::with_seed(seed),
            by_last_use: 0.5,
            uses: 0,
            least: 0,
        }
    }

    fn put(&mut self, shelf: &mut Shelf<'_, Stamp>, slot: u32, count: u16) {
        let count = count.min(COUNTS as u16);
        shelf.place(RECENCY, slot, count);
        let list = u32::from(count.max(1)) - 1;
        shelf.rank(list, slot);
        self.least = self.least.min(list);
    }

    /// The row of the lowest count, longest unused.
    fn least_used(&mut self, shelf: &Shelf<'_, Stamp>) -> Option<u32> {
        let found = (self.least..COUNTS).find_map(|list| Some((list, shelf.ranked(list)?.0)));
        self.least = found.map_or(0, |(list, _)| list);
        found.map(|(_, slot)| slot)
    }

    /// Lowers the odds of the expert that chose a row which is missed now, the more the sooner it is missed.
    fn regret(&mut self, by_count: bool, ago: u64, rows: u64) {
        let left = self.discount.powf(ago as f64 / rows.max(1) as f64);
        let factor = (-self.rate * left).exp();
        let (mut last, mut count) = (self.by_last_use, 1.0 - self.by_last_use);
        match by_count {
            true => count *= factor,
            false => last *= factor,
        }
        let (last, count) = (last + ODDS_MIN, count + ODDS_MIN);
        self.by_last_use = last / (last + count);
    }
}

impl Queues for Lecar {
    const NAME: &'static str = "lecar";
    const QUEUES: u32 = 1;
    const GHOSTS: u32 = 1;
    const SECOND: u32 = COUNTS;
    /// The use after which it left, doubled, and 1 when frequency chose it.
    type Ghost = Stamp;

    fn enter(&mut self, shelf: &mut Shelf<'_, Stamp>, slot: u32, _ghost: Option<(u32, Stamp)>) {
        self.put(shelf, slot, 1);
    }

    fn used(&mut self, shelf: &mut Shelf<'_, Stamp>, slot: u32) {
        let count = shelf.word(slot) & !BY_COUNT;
        self.put(shelf, slot, count + 1);
    }

    fn renewed(&mut self, shelf: &mut Shelf<'_, Stamp>, slot: u32, _queue: u32) {
        let count = shelf.word(slot) & !BY_COUNT;
        self.put(shelf, slot, count);
    }

    fn counted(&mut self, _row: Row) {
        self.uses += 1;
    }

    fn missed(&mut self, shelf: &mut Shelf<'_, Stamp>, item: &Item, ghost: Option<(u32, Stamp)>) {
        if let Some((_, left)) = ghost {
            let left = left.time().0 >> 4;
            let ago = self.uses.saturating_sub(left >> 1);
            // Capacity in rows of this size.
            let rows = shelf.capacity / u64::from(item.bytes.max(1));
            self.regret(left & 1 == 1, ago, rows);
        }
    }

    fn next(&mut self, shelf: &mut Shelf<'_, Stamp>) -> Option<u32> {
        if self.random.f64() < self.by_last_use {
            return shelf.front(RECENCY);
        }
        let Some(slot) = self.least_used(shelf) else {
            return shelf.front(RECENCY);
        };
        shelf.set_word(slot, shelf.word(slot) | BY_COUNT);
        Some(slot)
    }

    fn left(&mut self, shelf: &mut Shelf<'_, Stamp>, row: Row, bytes: u32, word: u16, _queue: u32) {
        let left = self.uses << 1 | u64::from(word & BY_COUNT > 0);
        shelf
            .ghosts
            .put(0, row, bytes.max(1), Stamp::of(Time(left << 4)));
        shelf.ghosts.trim(0, shelf.capacity);
    }

    fn words(&self, _queue: u32, _word: u16) -> &'static str {
        "leaves when chance, at the learned odds, asks for the least recently or the least often used row and it is that"
    }

    fn save(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.random.get_seed().to_le_bytes());
        out.extend_from_slice(&self.by_last_use.to_bits().to_le_bytes());
        out.extend_from_slice(&self.uses.to_le_bytes());
        out.extend_from_slice(&self.least.to_le_bytes());
    }

    fn load(&mut self, input: &mut Input<'_>) -> Result<()> {
        self.random.seed(input.u64()?);
        let odds = f64::from_bits(input.u64()?);
        self.by_last_use = if odds.is_finite() {
            odds.clamp(0.0, 1.0)
        } else {
            0.5
        };
        self.uses = input.u64()?;
        self.least = input.u32()?.min(COUNTS);
        Ok(())
    }

    fn clear(&mut self) {
        *self = Self::new(self.rate, self.discount, self.seed);
    }
}

#[cfg(test)]
mod tests;

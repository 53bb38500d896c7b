//! CACHEUS: LeCaR's bargain between a scan-resistant LRU and a churn-resistant LFU, with a learning rate that adapts. O(1) an event.
//!
//! L. V. Rodriguez, F. Yusuf, S. Lyons, E. Paz, R. Rangaswami, J. Liu, M. Zhao, G. Narasimhan, "Learning Cache Replacement with CACHEUS", FAST
//! 2021: sections 4.1 (rate), 4.2.1 (SR-LRU), 4.2.2 (CR-LFU). One history of the size of the tier serves SR-LRU; each expert's,
//! half as long, goes on where that ends. Counts stop at 255. 29 bytes of record, links and list a row, 8 of the order by count, 7.2 to
//! 10.4 of hash table, and 29 to 43 for each of up to twice as many ghosts as hot rows.
//!
//! The defaults are those of libCacheSim 0.3.5, with whose miss ratios this policy is compared. It departs from the paper twice. The
//! border between SR and R makes room for SR and never gives it back, by steps that its counts make one row nearly always. And its hit
//! ratio is an integer division, 0 unless a whole window hits, so that the rate falls from where it begins instead of climbing.
//! `both_ways` and `climb` give the paper's. We depart from both where SR is over its size and the tier is not full: there a row stays,
//! as a store has no reason to push it out.

use aether_core::config::RawConfig;
use aether_core::role::{EvictionPolicy, Item};
use aether_core::{BuildContext, Factory, OptionSpec, Plugin, Result, Row};
use serde::Deserialize;

use crate::books::{Input, Packed, Policy, Queued, Queues, Shelf, within};

mod rate;

use rate::Rate;

/// Learns whether last use or frequency tells more, and how fast to learn.
pub static PLUGIN: Plugin = Plugin {
    name: "cacheus",
    crate_name: env!("CARGO_PKG_NAME"),
    summary: "Chooses each victim by a scan-resistant last use or a churn-resistant frequency, at learned odds and a learned rate.",
    options: &[
        OptionSpec {
            name: "both_ways",
            default: "false",
            unit: "",
            help: "Whether the border between new rows and rows used again moves both ways, as the paper has it, or only makes room for new rows.",
        },
        OptionSpec {
            name: "climb",
            default: "false",
            unit: "",
            help: "Whether the learning rate follows the hit ratio from a random beginning, as the paper has it, or falls from `rate` until it rests.",
        },
        OptionSpec {
            name: "rate",
            default: "0.698",
            unit: "",
            help: "Learning rate at the beginning, unless it climbs. Some traces end in one of two states by this and by the seed alone.",
        },
    ],
    persistent: false,
    factory: Factory::Policy(build),
};
aether_core::register!(PLUGIN);

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct CacheusConfig {
    both_ways: bool,
    climb: bool,
    rate: f64,
}

impl Default for CacheusConfig {
    /// The simulator's; its generator draws this rate with the seed that it begins with.
    fn default() -> Self {
        Self {
            both_ways: false,
            climb: false,
            rate: 0.698,
        }
    }
}

fn build(raw: &RawConfig, context: &BuildContext) -> Result<Box<dyn EvictionPolicy>> {
    let config: CacheusConfig = raw.parse()?;
    within(raw, "rate", config.rate, (rate::MIN, 1.0))?;
    let cacheus = Cacheus::new(config, context.seed);
    Ok(Box::new(Policy::new(
        Queued::new(cacheus, GHOSTS_SHARE),
        0.0,
    )))
}

/// Ghosts for each hot row at most: one of the history, a half of each expert's, and room for ghosts smaller than hot rows.
const GHOSTS_SHARE: f64 = 2.25;

/// SR: new rows and rows demoted from R, least recently used first.
const SR: u32 = 0;
/// R: rows used again, least recently used first.
const R: u32 = 1;
/// The history of SR-LRU, as large as the tier.
const HISTORY: u32 = 0;
/// After it, what fell out of that history and is still in that of the expert that chose it: last use, then frequency.
const BY_EXPERT: u32 = 1;
/// The second order has a list for each count up to this.
const COUNTS: u32 = 255;
/// The count in a row's figure; above it stand the marks.
const COUNT: u16 = 255;
/// Has not been used again since it came.
const NEW: u16 = 1 << 8;
/// Was moved from R to SR.
const DEMOTED: u16 = 1 << 9;
/// Was chosen to leave by last use, or by frequency; both, when they agreed.
const BY_LAST_USE: u16 = 1 << 10;
const BY_COUNT: u16 = 1 << 11;

/// A row's figure when it left, and the number of its eviction by its expert.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, packed(2))]
struct Left {
    word: u16,
    number: u32,
}

impl Packed for Left {
    const BYTES: usize = 6;

    fn put(self, out: &mut Vec<u8>) {
        { self.word }.put(out);
        out.extend_from_slice(&{ self.number }.to_le_bytes());
    }

    fn take(input: &mut Input<'_>) -> Result<Self> {
        Ok(Self {
            word: input.u16()?,
            number: input.u32()?,
        })
    }
}

#[derive(Debug)]
struct Cacheus {
    config: CacheusConfig,
    seed: u64,
    random: fastrand::Rng,
    rate: Rate,
    /// The odds that last use chooses; frequency has the rest.
    by_last_use: f64,
    /// Evictions by each expert alone, wrapping.
    chosen: [u32; 2],
    /// No row has a lower count.
    least: u32,
    /// Bytes that SR may have; 0 until the tier's are known.
    sr_bytes: f64,
    /// Demoted rows that are hot, and new rows in the history; of a border that moves one way, demotions of rows that did not leave
    /// again, and new rows that ever left.
    demoted: u64,
    new: u64,
}

impl Cacheus {
    fn new(config: CacheusConfig, seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let rate = match config.climb {
            true => Rate::climbing(&mut random),
            false => Rate::falling(config.rate),
        };
        Self {
            config,
            seed,
            random,
            rate,
            by_last_use: 0.5,
            chosen: [0; 2],
            least: 0,
            sr_bytes: 0.0,
            demoted: 0,
            new: 0,
        }
    }

    /// Half of the tier when it becomes known.
    fn sizes(&mut self, capacity: u64) -> (f64, f64) {
        let capacity = capacity as f64;
        if self.sr_bytes <= 0.0 || self.sr_bytes > capacity {
            self.sr_bytes = capacity / 2.0;
        }
        (self.sr_bytes, capacity - self.sr_bytes)
    }

    /// Moves the border between SR and R.
    fn resize(&mut self, by: f64, capacity: u64) {
        let most = (capacity as f64 - 1.0).max(1.0);
        self.sr_bytes = (self.sr_bytes + by).clamp(1.0, most);
    }

    /// Whether a row that left is still in the history of the expert that chose it alone: half as long as the tier.
    fn chosen_by(&self, left: Left, rows: u64) -> Option<usize> {
        let expert = match { left.word } & (BY_LAST_USE | BY_COUNT) {
            BY_LAST_USE => 0,
            BY_COUNT => 1,
            _ => return None,
        };
        let since = self.chosen[expert].wrapping_sub(left.number);
        (u64::from(since) < (rows / 2).max(1)).then_some(expert)
    }

    fn count(&mut self, shelf: &mut Shelf<'_, Left>, slot: u32) {
        let count = u32::from(shelf.word(slot) & COUNT).max(1);
        shelf.rank(count - 1, slot);
        self.least = self.least.min(count - 1);
    }

    /// The row of the lowest count that was used last: the others of its count have been there for longer, and churn must not push
    /// them out.
    fn least_used(&mut self, shelf: &Shelf<'_, Left>) -> Option<u32> {
        let found = (self.least..COUNTS).find_map(|list| Some((list, shelf.ranked(list)?.1)));
        self.least = found.map_or(0, |(list, _)| list);
        found.map(|(_, slot)| slot)
    }

    /// Puts a row at the end of R; what R cannot hold is demoted to SR.
    fn put_in_r(&mut self, shelf: &mut Shelf<'_, Left>, slot: u32, word: u16) {
        let (_, r_bytes) = self.sizes(shelf.capacity);
        shelf.place(R, slot, word);
        while shelf.capacity > 0 && shelf.bytes(R) as f64 > r_bytes && shelf.rows(R) > 1 {
            let Some(oldest) = shelf.front(R) else {
                return;
            };
            let word = shelf.word(oldest);
            self.demoted += u64::from(word & DEMOTED == 0);
            shelf.place(SR, oldest, word | DEMOTED);
        }
    }

    /// Whether last use chooses. In hundredths, as the simulator draws: last use keeps a hundredth of the choices however often it erred.
    fn by_chance(&mut self) -> bool {
        f64::from(self.random.u32(..100)) / 100.0 < self.by_last_use
    }

    fn regret(&mut self, by_count: bool) {
        let factor = (-self.rate.value()).exp();
        let (mut last, mut count) = (self.by_last_use, 1.0 - self.by_last_use);
        match by_count {
            true => count *= factor,
            false => last *= factor,
        }
        self.by_last_use = last / (last + count);
    }
}

/// How far the border moves: by the ratio of the two numbers, at least 1.
fn step(other: u64, own: u64) -> f64 {
    (other as f64 / own.max(1) as f64).max(1.0)
}

impl Queues for Cacheus {
    const NAME: &'static str = "cacheus";
    const QUEUES: u32 = 2;
    const GHOSTS: u32 = 3;
    const SECOND: u32 = COUNTS;
    type Ghost = Left;

    fn enter(&mut self, shelf: &mut Shelf<'_, Left>, slot: u32, ghost: Option<(u32, Left)>) {
        match ghost {
            Some((HISTORY, left)) => {
                let word = { left.word };
                let count = ((word & COUNT) + 1).min(COUNT);
                self.put_in_r(shelf, slot, count);
                if word & NEW > 0 {
                    // SR was too small for a row that is used again.
                    self.resize(step(self.demoted, self.new), shelf.capacity);
                    self.new -= u64::from(self.config.both_ways).min(self.new);
                }
            }
            _ => shelf.place(SR, slot, 1 | NEW),
        }
        self.count(shelf, slot);
    }

    fn used(&mut self, shelf: &mut Shelf<'_, Left>, slot: u32) {
        let rows = shelf.capacity / u64::from(shelf.weight(slot));
        self.rate.used(true, rows, &mut self.random);
        let word = shelf.word(slot);
        let count = ((word & COUNT) + 1).min(COUNT);
        if shelf.queue_of(slot) == Some(SR) && word & DEMOTED > 0 {
            // R was too small for a row that is used once more.
            if self.config.both_ways {
                self.resize(-step(self.new, self.demoted), shelf.capacity);
                self.demoted = self.demoted.saturating_sub(1);
            }
        }
        self.put_in_r(shelf, slot, count);
        self.count(shelf, slot);
    }

    fn renewed(&mut self, shelf: &mut Shelf<'_, Left>, slot: u32, queue: u32) {
        let word = shelf.word(slot) & !(BY_LAST_USE | BY_COUNT);
        shelf.place(queue, slot, word);
        self.count(shelf, slot);
    }

    fn missed(&mut self, shelf: &mut Shelf<'_, Left>, item: &Item, ghost: Option<(u32, Left)>) {
        let rows = shelf.capacity / u64::from(item.bytes.max(1));
        self.rate.used(false, rows, &mut self.random);
        let Some((_, left)) = ghost else {
            return;
        };
        if let Some(expert) = self.chosen_by(left, rows) {
            self.regret(expert == 1);
        }
    }

    fn next(&mut self, shelf: &mut Shelf<'_, Left>) -> Option<u32> {
        self.sizes(shelf.capacity);
        let last = shelf.front(SR).or_else(|| shelf.front(R))?;
        let count = self.least_used(shelf).unwrap_or(last);
        if last == count {
            shelf.set_word(last, shelf.word(last) | BY_LAST_USE | BY_COUNT);
            return Some(last);
        }
        let (slot, mark) = match self.by_chance() {
            true => (last, BY_LAST_USE),
            false => (count, BY_COUNT),
        };
        shelf.set_word(slot, shelf.word(slot) | mark);
        Some(slot)
    }

    fn left(&mut self, shelf: &mut Shelf<'_, Left>, row: Row, bytes: u32, word: u16, _queue: u32) {
        let by = word & (BY_LAST_USE | BY_COUNT);
        let expert = usize::from(by & BY_COUNT > 0);
        // A row that both chose is no regret of either, and takes no place in their histories.
        let alone = u32::from(by == BY_LAST_USE || by == BY_COUNT);
        self.chosen[expert] = self.chosen[expert].wrapping_add(alone);
        self.demoted -= u64::from(word & DEMOTED > 0).min(self.demoted);
        self.new += u64::from(word & NEW > 0);
        let number = self.chosen[expert];
        let bytes = bytes.max(1);
        shelf.ghosts.put(HISTORY, row, bytes, Left { word, number });
        let rows = shelf.capacity / u64::from(bytes);
        while shelf.ghosts.load(HISTORY).bytes >= shelf.capacity {
            let Some((row, left)) = shelf.ghosts.first(HISTORY) else {
                break;
            };
            shelf.ghosts.pop(HISTORY);
            let new = self.config.both_ways && { left.word } & NEW > 0;
            self.new -= u64::from(new).min(self.new);
            if let Some(expert) = self.chosen_by(left, rows) {
                shelf.ghosts.put(BY_EXPERT + expert as u32, row, 1, left);
            }
        }
        for queue in [BY_EXPERT, BY_EXPERT + 1] {
            while let Some((_, left)) = shelf.ghosts.first(queue) {
                if self.chosen_by(left, rows).is_some() {
                    break;
                }
                shelf.ghosts.pop(queue);
            }
        }
    }

    fn door(&self, ghost: Option<(u32, Left)>) -> u32 {
        match ghost {
            Some((HISTORY, _)) => R,
            _ => SR,
        }
    }

    fn words(&self, queue: u32, word: u16) -> &'static str {
        match (queue, word & DEMOTED > 0) {
            (SR, false) => {
                "not used again since it came: among the first to leave by last use, and by count if it is low"
            }
            (SR, true) => "used again, but longest ago: among the first to leave by last use",
            _ => "used again of late: leaves only if its count is the lowest",
        }
    }

    fn save(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.random.get_seed().to_le_bytes());
        self.rate.save(out);
        for number in [self.by_last_use, self.sr_bytes] {
            out.extend_from_slice(&number.to_bits().to_le_bytes());
        }
        for number in [self.demoted, self.new] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        for number in [self.chosen[0], self.chosen[1], self.least] {
            out.extend_from_slice(&number.to_le_bytes());
        }
    }

    fn load(&mut self, input: &mut Input<'_>) -> Result<()> {
        self.random.seed(input.u64()?);
        self.rate.load(input)?;
        let (odds, sr_bytes) = (f64::from_bits(input.u64()?), f64::from_bits(input.u64()?));
        self.by_last_use = if odds > 0.0 && odds < 1.0 { odds } else { 0.5 };
        self.sr_bytes = if sr_bytes.is_finite() { sr_bytes } else { 0.0 };
        (self.demoted, self.new) = (input.u64()?, input.u64()?);
        self.chosen = [input.u32()?, input.u32()?];
        self.least = input.u32()?.min(COUNTS);
        Ok(())
    }

    fn clear(&mut self) {
        *self = Self::new(self.config, self.seed);
    }
}

#[cfg(test)]
mod tests;

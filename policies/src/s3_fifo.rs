//! S3-FIFO: a small queue for new rows, a main queue for those used again, and the names of those that left the small one.
//! O(1) an event, amortised.
//!
//! J. Yang, Y. Zhang, Z. Qiu, Y. Yue, K. V. Rashmi, "FIFO Queues are All You Need for Cache Eviction", SOSP 2023, algorithm 1. As in the
//! authors' later simulator, a row that enters while the tier still fills and the small queue is full goes to the main queue.
//! Sizes are in bytes. Ghosts are fingerprints (section 4.2): a row is one until so many bytes have left the small queue after it.
//! 29 bytes of record, links and list a row, 7.2 to 10.4 of hash table, and 10 to 20 for each of 0.9 ghosts.

use aether_core::config::RawConfig;
use aether_core::role::{EvictionPolicy, Item};
use aether_core::{BuildContext, Factory, OptionSpec, Plugin, Result, Row};
use serde::Deserialize;

use crate::books::{Input, Moment, Policy, Prints, Queued, Queues, Shelf, within};

/// Moves out new rows that are not used again soon.
pub static PLUGIN: Plugin = Plugin {
    name: "s3-fifo",
    crate_name: env!("CARGO_PKG_NAME"),
    summary: "Moves out new rows that are not used again while they pass a small queue; the others get a second chance each use.",
    options: &[
        OptionSpec {
            name: "small",
            default: "0.1",
            unit: "share of the hot tier",
            help: "Size of the queue that new rows enter.",
        },
        OptionSpec {
            name: "ghosts",
            default: "0.9",
            unit: "share of the hot tier",
            help: "Bytes of rows that left the small queue and are remembered.",
        },
        OptionSpec {
            name: "uses",
            default: "2",
            unit: "uses",
            help: "Uses in the small queue that let a row into the main one.",
        },
    ],
    persistent: false,
    factory: Factory::Policy(build),
};
aether_core::register!(PLUGIN);

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct S3FifoConfig {
    small: f64,
    ghosts: f64,
    uses: u16,
}

impl Default for S3FifoConfig {
    /// The paper's sizes (section 4.1), and the simulator's threshold.
    fn default() -> Self {
        Self {
            small: 0.1,
            ghosts: 0.9,
            uses: 2,
        }
    }
}

fn build(raw: &RawConfig, _context: &BuildContext) -> Result<Box<dyn EvictionPolicy>> {
    let config: S3FifoConfig = raw.parse()?;
    within(raw, "small", config.small, (0.001, 0.999))?;
    within(raw, "ghosts", config.ghosts, (0.0, 2.0))?;
    let uses = f64::from(config.uses);
    within(raw, "uses", uses, (1.0, f64::from(USES_MAX)))?;
    Ok(Box::new(Policy::new(
        Queued::new(S3Fifo::new(config), 0.0),
        0.0,
    )))
}

#[derive(Debug)]
struct S3Fifo {
    config: S3FifoConfig,
    sizes: Sizes,
    /// Whether a row was chosen to leave yet.
    evicted: bool,
    /// Rows that left the small queue.
    left: Prints,
    /// The row that was missed last and when it had left, if it is a ghost: held apart, so that room made for its return cannot push it out.
    missed: Option<(Row, Option<Moment>)>,
    /// The row of the small queue that was named to leave: it stays named, whatever the main queue has become by the way.
    named: Option<Row>,
}

/// Bytes of the tier and of its parts.
#[derive(Clone, Copy, Debug, Default)]
struct Sizes {
    capacity: u64,
    small: u64,
    ghosts: u64,
}

const SMALL: u32 = 0;
const MAIN: u32 = 1;
/// What the policy knows of a ghost: that it left the small queue.
const GHOST: (u32, ()) = (SMALL, ());
/// Uses are counted up to this: two bits.
const USES_MAX: u16 = 3;

impl S3Fifo {
    fn new(config: S3FifoConfig) -> Self {
        Self {
            config,
            sizes: Sizes::default(),
            evicted: false,
            left: Prints::new(config.ghosts),
            missed: None,
            named: None,
        }
    }

    /// The sizes of a tier that mostly is as large as before.
    fn sizes_of(&self, capacity: u64) -> Sizes {
        if self.sizes.capacity == capacity {
            return self.sizes;
        }
        let share = |share: f64| (capacity as f64 * share) as u64;
        Sizes {
            capacity,
            small: share(self.config.small),
            ghosts: share(self.config.ghosts),
        }
    }

    fn sizes(&mut self, capacity: u64) -> Sizes {
        self.sizes = self.sizes_of(capacity);
        self.left.set_span(self.sizes.ghosts);
        self.sizes
    }

    /// Forgets a ghost; answers when it left, if it was one.
    fn take(&mut self, row: Row) -> Option<Moment> {
        match self.missed {
            Some((missed, moment)) if missed == row => {
                self.missed = None;
                moment
            }
            _ => self.left.take(row),
        }
    }
}

impl Queues for S3Fifo {
    const NAME: &'static str = "s3-fifo";
    const QUEUES: u32 = 2;
    const GHOSTS: u32 = 0;
    const MOVES_ON_USE: bool = false;
    const NAMES_AGAIN: bool = true;
    type Ghost = ();

    fn enter(&mut self, shelf: &mut Shelf<'_, ()>, slot: u32, _ghost: Option<(u32, ())>) {
        let small = self.sizes(shelf.capacity).small;
        let ghost = self.take(shelf.row(slot)).is_some();
        let filling = !self.evicted && shelf.capacity > 0 && shelf.bytes(SMALL) >= small;
        let queue = match ghost || filling {
            true => MAIN,
            false => SMALL,
        };
        shelf.place(queue, slot, 0);
    }

    fn used(&mut self, shelf: &mut Shelf<'_, ()>, slot: u32) {
        let uses = shelf.word(slot);
        if uses < USES_MAX {
            shelf.set_word(slot, uses + 1);
        }
    }

    fn missed(&mut self, shelf: &mut Shelf<'_, ()>, item: &Item, _ghost: Option<(u32, ())>) {
        self.sizes(shelf.capacity);
        match self.missed {
            Some((row, _)) if row == item.row => return,
            // The one before did not come in.
            Some((row, Some(moment))) => self.left.put_back(row, moment),
            _ => {}
        }
        self.missed = Some((item.row, self.left.take(item.row)));
    }

    fn next(&mut self, shelf: &mut Shelf<'_, ()>) -> Option<u32> {
        self.evicted = true;
        let main = shelf.capacity - self.sizes(shelf.capacity).small;
        if let (Some(slot), Some(named)) = (shelf.front(SMALL), self.named)
            && shelf.row(slot) == named
            && shelf.word(slot) < self.config.uses
        {
            return Some(slot);
        }
        loop {
            let small = shelf.front(SMALL);
            let from_main = shelf.bytes(MAIN) > main || small.is_none();
            match small.filter(|_| !from_main) {
                // The small queue is gone through until a row leaves it for good, whatever the main one becomes meanwhile.
                Some(mut slot) => loop {
                    if shelf.word(slot) < self.config.uses {
                        self.named = Some(shelf.row(slot));
                        return Some(slot);
                    }
                    shelf.place(MAIN, slot, 0);
                    match shelf.front(SMALL) {
                        Some(next) => slot = next,
                        None => break,
                    }
                },
                None => loop {
                    let slot = shelf.front(MAIN)?;
                    match shelf.word(slot) {
                        0 => return Some(slot),
                        uses => shelf.place(MAIN, slot, uses - 1),
                    }
                },
            }
        }
    }

    fn left(&mut self, shelf: &mut Shelf<'_, ()>, row: Row, bytes: u32, _word: u16, queue: u32) {
        let most = self.sizes(shelf.capacity).ghosts;
        let bytes = bytes.max(1);
        if queue == SMALL && u64::from(bytes) <= most {
            self.left.put(row, bytes);
        }
    }

    /// A row that would fill the small queue would drive all others out of it.
    fn admits(&self, bytes: u32, capacity: u64) -> bool {
        capacity == 0 || u64::from(bytes) <= self.sizes_of(capacity).small.max(1)
    }

    fn door(&self, ghost: Option<(u32, ())>) -> u32 {
        if ghost.is_some() { MAIN } else { SMALL }
    }

    /// In the small queue unused or not; in the main queue by uses.
    fn class(&self, queue: u32, word: u16) -> u32 {
        match queue {
            SMALL => u32::from(word >= self.config.uses),
            _ => 1 + u32::from(word),
        }
    }

    fn words(&self, queue: u32, word: u16) -> &'static str {
        match (queue, word) {
            (SMALL, word) if word < self.config.uses => {
                "in the small queue, not used again often enough"
            }
            (SMALL, _) => "in the small queue, used again: moves on to the main queue",
            (_, 0) => "in the main queue, not used since it was put there",
            _ => "in the main queue, used: goes round once more for each use",
        }
    }

    fn save(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.evicted));
        self.left.save(out);
        let held = self.missed.and_then(|(row, moment)| Some((row, moment?)));
        out.push(u8::from(held.is_some()));
        if let Some((row, moment)) = held {
            out.extend_from_slice(&row.0.to_le_bytes());
            moment.put(out);
        }
        out.push(u8::from(self.named.is_some()));
        if let Some(row) = self.named {
            out.extend_from_slice(&row.0.to_le_bytes());
        }
    }

    fn load(&mut self, input: &mut Input<'_>) -> Result<()> {
        self.evicted = input.u8()? > 0;
        self.left.load(input)?;
        self.missed = match input.u8()? {
            0 => None,
            _ => Some((Row(input.u64()?), Some(Moment::take(input)?))),
        };
        self.named = match input.u8()? {
            0 => None,
            _ => Some(Row(input.u64()?)),
        };
        Ok(())
    }

    fn clear(&mut self) {
        *self = Self::new(self.config);
    }

    fn bytes(&self) -> u64 {
        self.left.bytes()
    }

    fn bytes_bound(&self, hot: u64) -> u64 {
        self.left.bytes_bound(hot)
    }

    fn fit(&mut self, hot: usize) {
        self.left.fit(hot);
    }

    fn recall(&self, row: Row) -> Option<(u32, ())> {
        let is_ghost = match self.missed {
            Some((missed, moment)) if missed == row => moment.is_some(),
            _ => self.left.contains(row),
        };
        is_ghost.then_some(GHOST)
    }

    fn forget(&mut self, row: Row) {
        self.take(row);
    }

    fn rename(&mut self, old: Row, new: Row) {
        if let Some(moment) = self.take(old) {
            self.left.put_back(new, moment);
        }
    }

    fn prefetch(&self, rows: &[Row]) {
        self.left.prefetch(rows);
    }
}

#[cfg(test)]
mod tests;

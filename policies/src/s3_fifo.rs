//! S3-FIFO: a small queue for new rows, a main queue for those used again, and the names of those that left the small one.
//! O(1) an event, amortised.
//!
//! J. Yang, Y. Zhang, Z. Qiu, Y. Yue, K. V. Rashmi, "FIFO Queues are All You Need for Cache Eviction", SOSP 2023, algorithm 1. As in the
//! authors' later simulator, a row that enters while the tier still fills and the small queue is full goes to the main queue.
//! Sizes are in bytes. 29 bytes of record, links and list a row, 7.2 to 10.4 of hash table, and
//! 23 to 34 for each of 0.9 ghosts.

use aether_core::config::RawConfig;
use aether_core::role::EvictionPolicy;
use aether_core::{BuildContext, Factory, OptionSpec, Plugin, Result, Row};
use serde::Deserialize;

use crate::books::{Input, Policy, Queued, Queues, Shelf, within};

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
    let s3 = S3Fifo {
        small: within(raw, "small", config.small, (0.001, 0.999))?,
        ghosts: within(raw, "ghosts", config.ghosts, (0.0, 2.0))?,
        uses: within(
            raw,
            "uses",
            f64::from(config.uses),
            (1.0, f64::from(USES_MAX)),
        )? as u16,
        evicted: false,
    };
    let share = s3.ghosts * 2.0;
    Ok(Box::new(Policy::new(Queued::new(s3, share), 0.0)))
}

#[derive(Debug)]
struct S3Fifo {
    small: f64,
    ghosts: f64,
    uses: u16,
    /// Whether a row was chosen to leave yet.
    evicted: bool,
}

const SMALL: u32 = 0;
const MAIN: u32 = 1;
/// The one queue of ghosts.
const LEFT_SMALL: u32 = 0;
/// Uses are counted up to this: two bits.
const USES_MAX: u16 = 3;

impl S3Fifo {
    fn small_bytes(&self, capacity: u64) -> u64 {
        (capacity as f64 * self.small) as u64
    }
}

impl Queues for S3Fifo {
    const NAME: &'static str = "s3-fifo";
    const QUEUES: u32 = 2;
    const GHOSTS: u32 = 1;
    const MOVES_ON_USE: bool = false;
    type Ghost = ();

    fn enter(&mut self, shelf: &mut Shelf<'_, ()>, slot: u32, ghost: Option<(u32, ())>) {
        let small = self.small_bytes(shelf.capacity);
        let filling = !self.evicted && shelf.capacity > 0 && shelf.bytes(SMALL) >= small;
        let queue = match ghost.is_some() || filling {
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

    fn next(&mut self, shelf: &mut Shelf<'_, ()>) -> Option<u32> {
        self.evicted = true;
        let main_bytes = shelf.capacity - self.small_bytes(shelf.capacity);
        loop {
            let small = shelf.front(SMALL);
            let from_main = shelf.bytes(MAIN) > main_bytes || small.is_none();
            match small.filter(|_| !from_main) {
                // The small queue is gone through until a row leaves it for good, whatever the main one becomes meanwhile.
                Some(mut slot) => loop {
                    if shelf.word(slot) < self.uses {
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
        let most = (shelf.capacity as f64 * self.ghosts) as u64;
        let bytes = bytes.max(1);
        if queue == SMALL && u64::from(bytes) <= most {
            shelf.ghosts.trim(LEFT_SMALL, most - u64::from(bytes));
            shelf.ghosts.put(LEFT_SMALL, row, bytes, ());
        }
    }

    /// A row that would fill the small queue would drive all others out of it.
    fn admits(&self, bytes: u32, capacity: u64) -> bool {
        capacity == 0 || u64::from(bytes) <= self.small_bytes(capacity).max(1)
    }

    fn door(&self, ghost: Option<(u32, ())>) -> u32 {
        if ghost.is_some() { MAIN } else { SMALL }
    }

    /// In the small queue unused or not; in the main queue by uses.
    fn class(&self, queue: u32, word: u16) -> u32 {
        match queue {
            SMALL => u32::from(word >= self.uses),
            _ => 1 + u32::from(word),
        }
    }

    fn words(&self, queue: u32, word: u16) -> &'static str {
        match (queue, word) {
            (SMALL, word) if word < self.uses => "in the small queue, not used again often enough",
            (SMALL, _) => "in the small queue, used again: moves on to the main queue",
            (_, 0) => "in the main queue, not used since it was put there",
            _ => "in the main queue, used: goes round once more for each use",
        }
    }

    fn save(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.evicted));
    }

    fn load(&mut self, input: &mut Input<'_>) -> Result<()> {
        self.evicted = input.u8()? > 0;
        Ok(())
    }

    fn clear(&mut self) {
        self.evicted = false;
    }
}

#[cfg(test)]
mod tests;

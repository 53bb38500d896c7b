//! 2Q: a first queue for new rows, the names of those that left it, and an LRU list for rows that came back. O(1) an event.
//!
//! T. Johnson, D. Shasha, "2Q: A Low Overhead High Performance Buffer Management Replacement Algorithm", VLDB 1994, the full version
//! (section 3.2). Sizes are in bytes instead of pages. 29 bytes of record, links and list a row, 7.2 to 10.4 of hash table, and
//! 23 to 34 for half a ghost.

use aether_core::config::RawConfig;
use aether_core::role::EvictionPolicy;
use aether_core::{BuildContext, Factory, OptionSpec, Plugin, Result, Row};
use serde::Deserialize;

use crate::books::{Policy, Queued, Queues, Shelf, within};

/// Moves out new rows first; what comes back is kept by last use.
pub static PLUGIN: Plugin = Plugin {
    name: "two-q",
    crate_name: env!("CARGO_PKG_NAME"),
    summary: "Moves out new rows first in first out; a row that comes back soon after is kept by its last use.",
    options: &[
        OptionSpec {
            name: "first",
            default: "0.25",
            unit: "share of the hot tier",
            help: "Size of the queue that new rows enter (Kin).",
        },
        OptionSpec {
            name: "ghosts",
            default: "0.5",
            unit: "share of the hot tier",
            help: "Bytes of rows that left that queue and are remembered (Kout).",
        },
    ],
    persistent: false,
    factory: Factory::Policy(build),
};
aether_core::register!(PLUGIN);

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct TwoQConfig {
    first: f64,
    ghosts: f64,
}

impl Default for TwoQConfig {
    /// The paper's sizes (section 3.3).
    fn default() -> Self {
        Self {
            first: 0.25,
            ghosts: 0.5,
        }
    }
}

fn build(raw: &RawConfig, _context: &BuildContext) -> Result<Box<dyn EvictionPolicy>> {
    let config: TwoQConfig = raw.parse()?;
    let two_q = TwoQ {
        first: within(raw, "first", config.first, (0.001, 0.999))?,
        ghosts: within(raw, "ghosts", config.ghosts, (0.0, 2.0))?,
    };
    let share = two_q.ghosts * 2.0;
    Ok(Box::new(Policy::new(Queued::new(two_q, share), 0.0)))
}

#[derive(Debug)]
struct TwoQ {
    first: f64,
    ghosts: f64,
}

/// A1in: new rows, first in first out.
const FIRST: u32 = 0;
/// Am: rows that came back, least recently used first.
const AGAIN: u32 = 1;
/// A1out: the one queue of ghosts.
const LEFT_FIRST: u32 = 0;

impl Queues for TwoQ {
    const NAME: &'static str = "two-q";
    const QUEUES: u32 = 2;
    const GHOSTS: u32 = 1;
    type Ghost = ();

    fn enter(&mut self, shelf: &mut Shelf<'_, ()>, slot: u32, ghost: Option<(u32, ())>) {
        shelf.place(self.door(ghost), slot, 0);
    }

    /// A use in the first queue says nothing: uses come in bursts.
    fn used(&mut self, shelf: &mut Shelf<'_, ()>, slot: u32) {
        if shelf.queue_of(slot) == Some(AGAIN) {
            shelf.place(AGAIN, slot, 0);
        }
    }

    fn next(&mut self, shelf: &mut Shelf<'_, ()>) -> Option<u32> {
        let most = (shelf.capacity as f64 * self.first) as u64;
        let (first, again) = (shelf.front(FIRST), shelf.front(AGAIN));
        match shelf.bytes(FIRST) > most {
            true => first.or(again),
            false => again.or(first),
        }
    }

    fn left(&mut self, shelf: &mut Shelf<'_, ()>, row: Row, bytes: u32, _word: u16, queue: u32) {
        let most = (shelf.capacity as f64 * self.ghosts) as u64;
        let bytes = bytes.max(1);
        if queue == FIRST && u64::from(bytes) <= most {
            shelf.ghosts.trim(LEFT_FIRST, most - u64::from(bytes));
            shelf.ghosts.put(LEFT_FIRST, row, bytes, ());
        }
    }

    fn door(&self, ghost: Option<(u32, ())>) -> u32 {
        if ghost.is_some() { AGAIN } else { FIRST }
    }

    fn words(&self, queue: u32, _word: u16) -> &'static str {
        match queue {
            FIRST => "in the queue of new rows, where uses do not count",
            _ => "came back soon after it had left: kept by its last use",
        }
    }
}

#[cfg(test)]
mod tests;

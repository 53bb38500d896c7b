//! MQ: LRU queues by the logarithm of the number of uses; rows that are not used sink from queue to queue. O(1) an event.
//!
//! Y. Zhou, J. F. Philbin, K. Li, "The Multi-Queue Replacement Algorithm for Second Level Buffer Caches", USENIX ATC 2001, figure 7.
//! Sizes are in bytes instead of blocks; counts stop at 4,095. 29 bytes of record, links and list a row, 7.2 to 10.4 of hash table,
//! and 25 to 37 for each of four ghosts: the paper's history is four times the tier.

use aether_core::config::RawConfig;
use aether_core::role::EvictionPolicy;
use aether_core::{BuildContext, Factory, OptionSpec, Plugin, Result, Row};
use serde::Deserialize;

use aether_core::Time;

use crate::books::{Input, Policy, Queued, Queues, Shelf, Stamp, WORD_MAX, within};

/// Moves out what was used least often, by powers of two, and of late.
pub static PLUGIN: Plugin = Plugin {
    name: "mq",
    crate_name: env!("CARGO_PKG_NAME"),
    summary: "Moves out what was used least often by powers of two; rows that are not used for a while count as used half as often.",
    options: &[
        OptionSpec {
            name: "lifetime",
            default: "10000",
            unit: "uses of any row",
            help: "Uses of other rows after which an unused row sinks by one queue.",
        },
        OptionSpec {
            name: "ghosts",
            default: "4.0",
            unit: "share of the hot tier",
            help: "Bytes of rows that left and whose counts are remembered (Qout).",
        },
    ],
    persistent: false,
    factory: Factory::Policy(build),
};
aether_core::register!(PLUGIN);

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct MqConfig {
    lifetime: u64,
    ghosts: f64,
}

impl Default for MqConfig {
    /// Eight queues and four times the tier are the paper's (section 5.2); the lifetime, which it sets by the peak of temporal
    /// distances, is a constant here as in public simulators.
    fn default() -> Self {
        Self {
            lifetime: 10_000,
            ghosts: 4.0,
        }
    }
}

fn build(raw: &RawConfig, _context: &BuildContext) -> Result<Box<dyn EvictionPolicy>> {
    let config: MqConfig = raw.parse()?;
    let mq = Mq {
        lifetime: within(raw, "lifetime", config.lifetime as f64, (1.0, 1e9))?,
        ghosts: within(raw, "ghosts", config.ghosts, (0.0, 8.0))?,
        uses: 0,
    };
    let share = mq.ghosts;
    Ok(Box::new(Policy::new(Queued::new(mq, share), 0.0)))
}

#[derive(Debug)]
struct Mq {
    lifetime: f64,
    ghosts: f64,
    /// Uses so far: the policy's clock.
    uses: u64,
}

const QUEUES: u32 = 8;
/// Qout: the one queue of ghosts, first in first out.
const LEFT: u32 = 0;

/// The queue of a row that was used so often.
fn queue_of(count: u16) -> u32 {
    count.max(1).ilog2().min(QUEUES - 1)
}

impl Mq {
    /// ADJUST of the paper: the least recently used row of each queue sinks when its time is up.
    fn adjust(&mut self, shelf: &mut Shelf<'_, u16>) {
        self.uses += 1;
        let now = self.tick(Time::default());
        shelf.set_now(now);
        for queue in 1..QUEUES {
            let Some(slot) = shelf.front(queue) else {
                continue;
            };
            if shelf.placed(slot).age_s(now.time()) > self.lifetime {
                shelf.place(queue - 1, slot, shelf.word(slot));
            }
        }
    }

    fn put(&mut self, shelf: &mut Shelf<'_, u16>, slot: u32, count: u16) {
        let count = count.min(WORD_MAX);
        shelf.place(queue_of(count), slot, count);
        self.adjust(shelf);
    }
}

impl Queues for Mq {
    const NAME: &'static str = "mq";
    const QUEUES: u32 = QUEUES;
    const GHOSTS: u32 = 1;
    type Ghost = u16;

    fn enter(&mut self, shelf: &mut Shelf<'_, u16>, slot: u32, ghost: Option<(u32, u16)>) {
        let count = ghost.map_or(0, |(_, count)| count);
        self.put(shelf, slot, count.saturating_add(1));
    }

    fn used(&mut self, shelf: &mut Shelf<'_, u16>, slot: u32) {
        let count = shelf.word(slot) + 1;
        self.put(shelf, slot, count);
    }

    fn next(&mut self, shelf: &mut Shelf<'_, u16>) -> Option<u32> {
        (0..QUEUES).find_map(|queue| shelf.front(queue))
    }

    fn left(&mut self, shelf: &mut Shelf<'_, u16>, row: Row, bytes: u32, word: u16, _queue: u32) {
        let most = (shelf.capacity as f64 * self.ghosts) as u64;
        let bytes = bytes.max(1);
        if u64::from(bytes) <= most {
            shelf.ghosts.trim(LEFT, most - u64::from(bytes));
            shelf.ghosts.put(LEFT, row, bytes, word);
        }
    }

    fn door(&self, ghost: Option<(u32, u16)>) -> u32 {
        queue_of(ghost.map_or(1, |(_, count)| count.saturating_add(1)))
    }

    fn words(&self, queue: u32, _word: u16) -> &'static str {
        match queue {
            0 => "in the queue of rows used once, or not used for long",
            1..4 => "in a middle queue: sinks when it is not used for a lifetime",
            _ => "in an upper queue, used often: sinks when it is not used for a lifetime",
        }
    }

    fn tick(&self, _now: Time) -> Stamp {
        Stamp::of(Time(self.uses.saturating_mul(1_000_000)))
    }

    fn unit(&self) -> &'static str {
        "uses"
    }

    fn save(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.uses.to_le_bytes());
    }

    fn load(&mut self, input: &mut Input<'_>) -> Result<()> {
        self.uses = input.u64()?;
        Ok(())
    }

    fn clear(&mut self) {
        self.uses = 0;
    }
}

#[cfg(test)]
mod tests;

//! LIRS: rows whose last two uses lie close together stay; all others pass through a small queue. O(1) an event, amortised.
//!
//! S. Jiang, X. Zhang, "LIRS: An Efficient Low Inter-reference Recency Set Replacement Policy to Improve Buffer Cache Performance",
//! SIGMETRICS 2002, section 3. The stack S is not kept as a list: each row carries the number of its last use, and a row is in the
//! stack when that is later than the last use of the oldest LIR row, which is what pruning amounts to. Rows that left are remembered
//! up to the bytes of the hot tier, which bounds the stack at about twice the tier. Sizes are in bytes. 29 bytes of record, links and
//! list a row, 7.2 to 10.4 of hash table, and 29 to 43 for each of up to as many ghosts as hot rows.

use aether_core::config::RawConfig;
use aether_core::role::EvictionPolicy;
use aether_core::{BuildContext, Factory, OptionSpec, Plugin, Result, Time};
use serde::Deserialize;

use crate::books::{Input, Policy, Queued, Queues, Shelf, Stamp, within};

/// Keeps what was used twice within a short distance.
pub static PLUGIN: Plugin = Plugin {
    name: "lirs",
    crate_name: env!("CARGO_PKG_NAME"),
    summary: "Keeps rows whose last two uses lay close together, and passes all others through a small queue.",
    options: &[OptionSpec {
        name: "queue",
        default: "0.01",
        unit: "share of the hot tier",
        help: "Size of the queue of rows that did not prove a short distance (HIR).",
    }],
    persistent: false,
    factory: Factory::Policy(build),
};
aether_core::register!(PLUGIN);

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct LirsConfig {
    queue: f64,
}

impl Default for LirsConfig {
    /// The paper's 1 % (section 4.1).
    fn default() -> Self {
        Self { queue: 0.01 }
    }
}

fn build(raw: &RawConfig, _context: &BuildContext) -> Result<Box<dyn EvictionPolicy>> {
    let config: LirsConfig = raw.parse()?;
    let queue = within(raw, "queue", config.queue, (0.001, 0.9))?;
    let lirs = Lirs { queue, uses: 0 };
    Ok(Box::new(Policy::new(Queued::new(lirs, GHOSTS_SHARE), 0.0)))
}

/// Ghosts for each hot row at most: one, and room for ghosts smaller than hot rows.
const GHOSTS_SHARE: f64 = 1.25;

#[derive(Debug)]
struct Lirs {
    queue: f64,
    /// Uses so far: the policy's clock.
    uses: u64,
}

/// Resident rows that did not prove a short distance, in the order of the queue Q.
const HIR: u32 = 0;
/// Rows that did, least recently used first.
const LIR: u32 = 1;
/// Rows that left while they were in the stack.
const LEFT: u32 = 0;
/// Marks a row that was chosen to leave.
const CHOSEN: u16 = 1;

impl Lirs {
    fn queue_bytes(&self, capacity: u64) -> u64 {
        ((capacity as f64 * self.queue) as u64).max(1)
    }

    fn lir_bytes(&self, capacity: u64) -> u64 {
        match capacity {
            0 => u64::MAX,
            _ => capacity.saturating_sub(self.queue_bytes(capacity)),
        }
    }

    /// Whether a last use is later than that of the oldest LIR row.
    fn in_stack(shelf: &Shelf<'_, Stamp>, last: Stamp) -> bool {
        let bottom = shelf.front(LIR).map(|slot| shelf.placed(slot));
        bottom.is_none_or(|bottom| last.time() > bottom.time())
    }

    /// LIR rows beyond their room go to the queue's end, oldest first, and are in the stack no more.
    fn demote(&self, shelf: &mut Shelf<'_, Stamp>, room: u64) {
        while shelf.bytes(LIR) > room {
            match shelf.front(LIR) {
                Some(slot) => shelf.shift(HIR, slot),
                None => return,
            }
        }
    }

    fn promote(&self, shelf: &mut Shelf<'_, Stamp>, slot: u32) {
        shelf.place(LIR, slot, 0);
        self.demote(shelf, self.lir_bytes(shelf.capacity));
    }
}

impl Queues for Lirs {
    const NAME: &'static str = "lirs";
    const QUEUES: u32 = 2;
    const GHOSTS: u32 = 1;
    /// The number of its last use.
    type Ghost = Stamp;

    fn enter(&mut self, shelf: &mut Shelf<'_, Stamp>, slot: u32, ghost: Option<(u32, Stamp)>) {
        self.uses += 1;
        let known = ghost.is_some_and(|(_, last)| Self::in_stack(shelf, last));
        let room = self.lir_bytes(shelf.capacity);
        let fits = shelf.bytes(LIR) + u64::from(shelf.weight(slot)) <= room;
        match known || fits {
            true => self.promote(shelf, slot),
            false => shelf.place(HIR, slot, 0),
        }
    }

    fn used(&mut self, shelf: &mut Shelf<'_, Stamp>, slot: u32) {
        self.uses += 1;
        if shelf.queue_of(slot) == Some(LIR) {
            return shelf.place(LIR, slot, 0);
        }
        let last = match shelf.word(slot) {
            CHOSEN => shelf.ghosts.remove(shelf.row(slot)).map(|(_, last)| last),
            _ => Some(shelf.placed(slot)),
        };
        match last.is_some_and(|last| Self::in_stack(shelf, last)) {
            true => self.promote(shelf, slot),
            false => shelf.place(HIR, slot, 0),
        }
    }

    fn next(&mut self, shelf: &mut Shelf<'_, Stamp>) -> Option<u32> {
        self.demote(shelf, self.lir_bytes(shelf.capacity));
        let Some(slot) = shelf.front(HIR) else {
            return shelf.front(LIR);
        };
        // What is remembered is its last use, and being chosen is none.
        let last = shelf.placed(slot);
        shelf.set_word(slot, CHOSEN);
        if Self::in_stack(shelf, last) {
            let (row, weight) = (shelf.row(slot), shelf.weight(slot));
            while let Some((_, first)) = shelf.ghosts.first(LEFT)
                && !Self::in_stack(shelf, first)
            {
                shelf.ghosts.pop(LEFT);
            }
            shelf.ghosts.put(LEFT, row, weight, last);
            shelf.ghosts.trim(LEFT, shelf.capacity);
        }
        Some(slot)
    }

    /// A row that would not fit the queue has no way in.
    fn admits(&self, bytes: u32, capacity: u64) -> bool {
        capacity == 0 || u64::from(bytes) <= self.queue_bytes(capacity)
    }

    fn door(&self, ghost: Option<(u32, Stamp)>) -> u32 {
        if ghost.is_some() { LIR } else { HIR }
    }

    fn words(&self, queue: u32, _word: u16) -> &'static str {
        match queue {
            HIR => "in the small queue: leaves in its order unless it is used again soon",
            _ => "its last two uses lay close together: stays until others' lie closer",
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

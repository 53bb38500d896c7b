//! ARC: two LRU lists, of rows used once and of rows used again, whose sizes follow the ghosts that are missed. O(1) an event.
//!
//! N. Megiddo, D. S. Modha, "ARC: A Self-Tuning, Low Overhead Replacement Cache", FAST 2003, figure 4. Sizes are in bytes instead of
//! pages, and the target size moves in fractions. 29 bytes of record, links and list a row, 7.2 to 10.4 of hash table, and 23 to 34
//! for each of up to as many ghosts as hot rows.

use aether_core::config::RawConfig;
use aether_core::role::{EvictionPolicy, Item};
use aether_core::{BuildContext, Factory, Plugin, Result, Row};
use serde::Deserialize;

use crate::books::{Input, Policy, Queued, Queues, Shelf};

/// Balances last use against repeated use.
pub static PLUGIN: Plugin = Plugin {
    name: "arc",
    crate_name: env!("CARGO_PKG_NAME"),
    summary: "Balances rows used once against rows used again, by which of those that left are missed more.",
    options: &[],
    persistent: false,
    factory: Factory::Policy(build),
};
aether_core::register!(PLUGIN);

/// The policy has no keys; the struct refuses all.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ArcConfig {}

fn build(raw: &RawConfig, _context: &BuildContext) -> Result<Box<dyn EvictionPolicy>> {
    let ArcConfig {} = raw.parse()?;
    let arc = Arc::default();
    Ok(Box::new(Policy::new(Queued::new(arc, GHOSTS_SHARE), 0.0)))
}

/// Ghosts for each hot row at most: one by the paper, and room for ghosts smaller than hot rows.
const GHOSTS_SHARE: f64 = 1.5;

#[derive(Debug, Default)]
struct Arc {
    /// Bytes that rows used once should have.
    target: f64,
    /// What the last missed row was: not known, used once, or used again.
    missed: Missed,
    /// Its bytes.
    incoming: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Missed {
    #[default]
    Unknown,
    Once,
    Again,
}

/// T1, and B1 among the ghosts.
const ONCE: u32 = 0;
/// T2, and B2 among the ghosts.
const AGAIN: u32 = 1;
/// Marks a doomed row of T1 that is not to be remembered.
const FORGOTTEN: u16 = 1;

impl Arc {
    /// REPLACE of the paper.
    fn replace(&self, shelf: &Shelf<'_, ()>) -> Option<u32> {
        let once = shelf.bytes(ONCE) as f64;
        let over = once > self.target || once == self.target && self.missed == Missed::Again;
        match over && shelf.rows(ONCE) > 0 || shelf.rows(AGAIN) == 0 {
            true => shelf.front(ONCE),
            false => shelf.front(AGAIN),
        }
    }
}

/// How far one miss moves the target: by the size of the other queue of ghosts in sizes of its own, at least 1.
fn step(other: u64, own: u64) -> f64 {
    (other as f64 / own.max(1) as f64).max(1.0)
}

impl Queues for Arc {
    const NAME: &'static str = "arc";
    const QUEUES: u32 = 2;
    const GHOSTS: u32 = 2;
    type Ghost = ();

    fn enter(&mut self, shelf: &mut Shelf<'_, ()>, slot: u32, ghost: Option<(u32, ())>) {
        shelf.place(self.door(ghost), slot, 0);
        (self.missed, self.incoming) = (Missed::Unknown, 0);
    }

    fn used(&mut self, shelf: &mut Shelf<'_, ()>, slot: u32) {
        shelf.place(AGAIN, slot, 0);
    }

    fn missed(&mut self, shelf: &mut Shelf<'_, ()>, item: &Item, ghost: Option<(u32, ())>) {
        self.incoming = u64::from(item.bytes.max(1));
        self.missed = match ghost {
            None => Missed::Unknown,
            Some((ONCE, ())) => Missed::Once,
            Some(_) => Missed::Again,
        };
        // The missed ghost is held apart, but counts.
        let mut ghosts = [ONCE, AGAIN].map(|queue| shelf.ghosts.load(queue).bytes);
        match self.missed {
            Missed::Unknown => {}
            Missed::Once => {
                ghosts[0] += self.incoming;
                let target = self.target + step(ghosts[1], ghosts[0]);
                self.target = target.min(shelf.capacity as f64);
            }
            Missed::Again => {
                ghosts[1] += self.incoming;
                let target = self.target - step(ghosts[0], ghosts[1]);
                self.target = target.max(0.0);
            }
        }
    }

    fn next(&mut self, shelf: &mut Shelf<'_, ()>) -> Option<u32> {
        if self.missed != Missed::Unknown {
            return self.replace(shelf);
        }
        // Case IV.
        let once = shelf.bytes(ONCE) + shelf.ghosts.load(ONCE).bytes;
        let again = shelf.bytes(AGAIN) + shelf.ghosts.load(AGAIN).bytes;
        if once + self.incoming > shelf.capacity {
            if shelf.ghosts.pop(ONCE) {
                return self.replace(shelf);
            }
            if let Some(slot) = shelf.front(ONCE) {
                shelf.set_word(slot, FORGOTTEN);
                return Some(slot);
            }
        } else if once + again >= shelf.capacity.saturating_mul(2) {
            shelf.ghosts.pop(AGAIN);
        }
        self.replace(shelf)
    }

    fn left(&mut self, shelf: &mut Shelf<'_, ()>, row: Row, bytes: u32, word: u16, queue: u32) {
        if word != FORGOTTEN {
            shelf.ghosts.put(queue, row, bytes.max(1), ());
        }
    }

    fn door(&self, ghost: Option<(u32, ())>) -> u32 {
        if ghost.is_some() { AGAIN } else { ONCE }
    }

    fn words(&self, queue: u32, _word: u16) -> &'static str {
        match queue {
            ONCE => "used once: leaves by last use while rows used once have more than their share",
            _ => "used again: leaves by last use while rows used once have less than their share",
        }
    }

    fn save(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.target.to_bits().to_le_bytes());
        out.push(self.missed as u8);
        out.extend_from_slice(&self.incoming.to_le_bytes());
    }

    fn load(&mut self, input: &mut Input<'_>) -> Result<()> {
        let target = f64::from_bits(input.u64()?);
        self.target = if target.is_finite() {
            target.max(0.0)
        } else {
            0.0
        };
        self.missed = match input.u8()? {
            1 => Missed::Once,
            2 => Missed::Again,
            _ => Missed::Unknown,
        };
        self.incoming = input.u64()?;
        Ok(())
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests;

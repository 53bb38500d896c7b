//! SIEVE: a queue in order of entry and a hand that clears marks without moving rows. O(1) an event, amortised.
//!
//! Y. Zhang, J. Yang, Y. Yue, Y. Vigfusson, K. V. Rashmi, "SIEVE is Simpler than LRU: an Efficient Turn-Key Eviction Algorithm for Web
//! Caches", NSDI 2024, algorithm 1. The queue is kept as two: the rows ahead of the hand and those it has passed, each in order of
//! entry; at the end they change their roles. 29 bytes of record, links and list a row, and 7.2 to 10.4 of hash table.

use aether_core::config::RawConfig;
use aether_core::role::EvictionPolicy;
use aether_core::{BuildContext, Factory, Plugin, Result};
use serde::Deserialize;

use crate::books::{Input, Policy, Queued, Queues, Shelf};

/// Moves out what the hand meets unused, new rows soonest.
pub static PLUGIN: Plugin = Plugin {
    name: "sieve",
    crate_name: env!("CARGO_PKG_NAME"),
    summary: "Moves out what a slow hand meets unused; used rows keep their place, so new unused ones leave soon.",
    options: &[],
    persistent: false,
    factory: Factory::Policy(build),
};
aether_core::register!(PLUGIN);

/// The policy has no keys; the struct refuses all.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct SieveConfig {}

fn build(raw: &RawConfig, _context: &BuildContext) -> Result<Box<dyn EvictionPolicy>> {
    let SieveConfig {} = raw.parse()?;
    let sieve = Sieve { ahead: 0 };
    Ok(Box::new(Policy::new(Queued::new(sieve, 0.0), 0.0)))
}

#[derive(Debug)]
struct Sieve {
    /// Which of the two queues is ahead of the hand.
    ahead: u32,
}

const USED: u16 = 1;

impl Sieve {
    /// When no row is ahead, the hand begins again at the oldest.
    fn wrap(&mut self, shelf: &Shelf<'_, ()>) {
        if shelf.rows(self.ahead) == 0 {
            self.ahead = 1 - self.ahead;
        }
    }
}

impl Queues for Sieve {
    const NAME: &'static str = "sieve";
    const QUEUES: u32 = 2;
    const GHOSTS: u32 = 0;
    const MOVES_ON_USE: bool = false;
    const NAMES_AGAIN: bool = true;
    type Ghost = ();

    fn enter(&mut self, shelf: &mut Shelf<'_, ()>, slot: u32, _ghost: Option<(u32, ())>) {
        self.wrap(shelf);
        shelf.place(self.ahead, slot, 0);
    }

    fn used(&mut self, shelf: &mut Shelf<'_, ()>, slot: u32) {
        shelf.set_word(slot, USED);
    }

    fn next(&mut self, shelf: &mut Shelf<'_, ()>) -> Option<u32> {
        loop {
            self.wrap(shelf);
            let slot = shelf.front(self.ahead)?;
            if shelf.word(slot) < USED {
                return Some(slot);
            }
            shelf.place(1 - self.ahead, slot, 0);
        }
    }

    /// Unused rows ahead, unused rows behind, used rows.
    fn class(&self, queue: u32, word: u16) -> u32 {
        match word {
            USED => 2,
            _ => u32::from(queue != self.ahead),
        }
    }

    fn words(&self, queue: u32, word: u16) -> &'static str {
        match word {
            USED => "used since the hand passed it: the hand will spare it once",
            _ if queue == self.ahead => "not used since the hand passed it, and ahead of the hand",
            _ => "spared by the hand in this round",
        }
    }

    fn save(&self, out: &mut Vec<u8>) {
        out.push(self.ahead as u8);
    }

    fn load(&mut self, input: &mut Input<'_>) -> Result<()> {
        self.ahead = u32::from(input.u8()? & 1);
        Ok(())
    }

    fn clear(&mut self) {
        self.ahead = 0;
    }
}

#[cfg(test)]
mod tests;

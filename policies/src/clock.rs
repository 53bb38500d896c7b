//! Clock, or second chance: a queue in order of entry in which a row that was used goes round once more. O(1) an event, amortised.
//!
//! F. J. Corbató, "A Paging Experiment with the Multics System", MIT Project MAC, 1968: one mark a row, set by a use, cleared by
//! the hand. The circle is kept as a queue: the hand is its front, and a row that the hand spares goes to its end. 29 bytes of
//! record, links and list a row, and 7.2 to 10.4 of hash table.

use aether_core::config::RawConfig;
use aether_core::role::EvictionPolicy;
use aether_core::{BuildContext, Factory, Plugin, Result};
use serde::Deserialize;

use crate::books::{Policy, Queued, Queues, Shelf};

/// Moves out what came first and was not used since the hand passed it.
pub static PLUGIN: Plugin = Plugin {
    name: "clock",
    crate_name: env!("CARGO_PKG_NAME"),
    summary: "Moves out what came first, but lets a row that was used go round once more.",
    options: &[],
    persistent: false,
    factory: Factory::Policy(build),
};
aether_core::register!(PLUGIN);

/// The policy has no keys; the struct refuses all.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ClockConfig {}

fn build(raw: &RawConfig, _context: &BuildContext) -> Result<Box<dyn EvictionPolicy>> {
    let ClockConfig {} = raw.parse()?;
    Ok(Box::new(Policy::new(Queued::new(Clock, 0.0), 0.0)))
}

#[derive(Debug)]
struct Clock;

/// The one queue, the hand at its front.
const CIRCLE: u32 = 0;
const USED: u16 = 1;

impl Queues for Clock {
    const NAME: &'static str = "clock";
    const QUEUES: u32 = 1;
    const GHOSTS: u32 = 0;
    const MOVES_ON_USE: bool = false;
    const NAMES_AGAIN: bool = true;
    type Ghost = ();

    fn enter(&mut self, shelf: &mut Shelf<'_, ()>, slot: u32, _ghost: Option<(u32, ())>) {
        shelf.place(CIRCLE, slot, 0);
    }

    fn used(&mut self, shelf: &mut Shelf<'_, ()>, slot: u32) {
        shelf.set_word(slot, USED);
    }

    fn next(&mut self, shelf: &mut Shelf<'_, ()>) -> Option<u32> {
        loop {
            let slot = shelf.front(CIRCLE)?;
            if shelf.word(slot) < USED {
                return Some(slot);
            }
            shelf.place(CIRCLE, slot, 0);
        }
    }

    fn class(&self, _queue: u32, word: u16) -> u32 {
        u32::from(word)
    }

    fn words(&self, _queue: u32, word: u16) -> &'static str {
        match word {
            USED => "used since the hand passed it: goes round once more",
            _ => "not used since the hand passed it",
        }
    }
}

#[cfg(test)]
mod tests;

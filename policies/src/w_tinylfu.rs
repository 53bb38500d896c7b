//! W-TinyLFU: a window for new rows, a segmented main space, and between them a contest by estimated frequency. O(1) an event,
//! amortised.
//!
//! G. Einziger, R. Friedman, B. Manes, "TinyLFU: A Highly Efficient Cache Admission Policy", ACM Transactions on Storage 13(4), 2017,
//! section 4 for window and main space, section 3 for the sketch. The window's share climbs the hill of the hit ratio: G. Einziger,
//! O. Eytan, R. Friedman, B. Manes, "Adaptive Software Cache Management", Middleware 2018, section 3.1, with the step, decay and restart
//! of its authors' Caffeine. When the window grows, rows do not move back into it; new ones fill it. Sizes are in bytes. 29 bytes
//! of record, links and list a row, 7.2 to 10.4 of hash table, and 4 to 8 of sketch.

use aether_core::config::RawConfig;
use aether_core::role::{EvictionPolicy, Item};
use aether_core::{BuildContext, Factory, OptionSpec, Plugin, Result, Row};
use serde::Deserialize;

use crate::books::{Input, Policy, Queued, Queues, Shelf, Sketch, within};

mod climb;

use climb::Climb;

/// Lets a new row in for good when it is used more often than the one it would replace.
pub static PLUGIN: Plugin = Plugin {
    name: "w-tinylfu",
    crate_name: env!("CARGO_PKG_NAME"),
    summary: "Keeps new rows in a window; one that leaves it stays only if it was used more often than the row it would replace.",
    options: &[
        OptionSpec {
            name: "window",
            default: "0.01",
            unit: "share of the hot tier",
            help: "Size of the window that new rows enter; the first one, if it adapts.",
        },
        OptionSpec {
            name: "adaptive",
            default: "true",
            unit: "",
            help: "Whether the window's size follows the hit ratio.",
        },
        OptionSpec {
            name: "protected",
            default: "0.8",
            unit: "share of the main space",
            help: "Size of the part for rows that were used again.",
        },
    ],
    persistent: false,
    factory: Factory::Policy(build),
};
aether_core::register!(PLUGIN);

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct TinyLfuConfig {
    window: f64,
    adaptive: bool,
    protected: f64,
}

impl Default for TinyLfuConfig {
    /// The paper's sizes (section 4).
    fn default() -> Self {
        Self {
            window: 0.01,
            adaptive: true,
            protected: 0.8,
        }
    }
}

fn build(raw: &RawConfig, _context: &BuildContext) -> Result<Box<dyn EvictionPolicy>> {
    let config: TinyLfuConfig = raw.parse()?;
    let window = within(raw, "window", config.window, (0.001, 0.99))?;
    let protected = within(raw, "protected", config.protected, (0.0, 1.0))?;
    let tiny = TinyLfu::new(window, config.adaptive, protected);
    Ok(Box::new(Policy::new(Queued::new(tiny, 0.0), 0.0)))
}

#[derive(Debug)]
struct TinyLfu {
    climb: Climb,
    protected: f64,
    sketch: Sketch,
}

const WINDOW: u32 = 0;
/// The main space: rows that were not used since they came there, and rows that were.
const PROBATION: u32 = 1;
const PROTECTED: u32 = 2;

impl TinyLfu {
    fn new(window: f64, adaptive: bool, protected: f64) -> Self {
        Self {
            climb: Climb::new(window, adaptive),
            protected,
            sketch: Sketch::new(),
        }
    }

    fn window_bytes(&self, capacity: u64) -> u64 {
        match capacity {
            0 => u64::MAX,
            _ => ((capacity as f64 * self.climb.window()) as u64).max(1),
        }
    }

    fn protected_bytes(&self, capacity: u64) -> u64 {
        let main = capacity.saturating_sub(self.window_bytes(capacity));
        (main as f64 * self.protected) as u64
    }

    fn estimate(&self, shelf: &Shelf<'_, ()>, slot: u32) -> u8 {
        self.sketch.estimate(shelf.row(slot))
    }
}

impl Queues for TinyLfu {
    const NAME: &'static str = "w-tinylfu";
    const QUEUES: u32 = 3;
    const GHOSTS: u32 = 0;
    type Ghost = ();

    fn enter(&mut self, shelf: &mut Shelf<'_, ()>, slot: u32, _ghost: Option<(u32, ())>) {
        shelf.place(WINDOW, slot, 0);
        // While there is room, what the window cannot hold goes on without a contest.
        let most = self.window_bytes(shelf.capacity);
        while shelf.bytes(WINDOW) > most && shelf.rows(WINDOW) > 1 {
            let Some(oldest) = shelf.front(WINDOW) else {
                return;
            };
            shelf.place(PROBATION, oldest, 0);
        }
    }

    fn used(&mut self, shelf: &mut Shelf<'_, ()>, slot: u32) {
        self.climb.hit();
        match shelf.queue_of(slot) {
            Some(WINDOW) => shelf.place(WINDOW, slot, 0),
            _ => shelf.place(PROTECTED, slot, 0),
        }
        let most = self.protected_bytes(shelf.capacity);
        while shelf.capacity > 0 && shelf.bytes(PROTECTED) > most {
            let Some(oldest) = shelf.front(PROTECTED) else {
                return;
            };
            shelf.place(PROBATION, oldest, 0);
        }
    }

    fn missed(&mut self, shelf: &mut Shelf<'_, ()>, item: &Item, _ghost: Option<(u32, ())>) {
        self.climb
            .miss(shelf.capacity / u64::from(item.bytes.max(1)));
    }

    /// Under pressure the window is one row short of its size: the new one has yet to come.
    fn next(&mut self, shelf: &mut Shelf<'_, ()>) -> Option<u32> {
        let most = self.window_bytes(shelf.capacity);
        loop {
            let victim = shelf.front(PROBATION).or_else(|| shelf.front(PROTECTED));
            let candidate = shelf.front(WINDOW);
            let (Some(victim), Some(candidate)) = (victim, candidate) else {
                return victim.or(candidate);
            };
            if shelf.bytes(WINDOW) < most {
                return Some(victim);
            }
            if self.estimate(shelf, candidate) <= self.estimate(shelf, victim) {
                return Some(candidate);
            }
            shelf.place(PROBATION, candidate, 0);
        }
    }

    fn words(&self, queue: u32, _word: u16) -> &'static str {
        match queue {
            WINDOW => {
                "in the window: goes on only if it is used more often than the row it would replace"
            }
            PROBATION => {
                "in the main space, not used since it came there: leaves before those that were"
            }
            _ => "in the main space, used since it came there",
        }
    }

    fn counted(&mut self, row: Row) {
        self.sketch.add(row);
    }

    fn fit(&mut self, hot: usize) {
        self.sketch.fit(hot as u64);
    }

    fn save(&self, out: &mut Vec<u8>) {
        self.climb.save(out);
        self.sketch.save(out);
    }

    fn load(&mut self, input: &mut Input<'_>) -> Result<()> {
        self.climb.load(input)?;
        self.sketch.load(input)
    }

    fn clear(&mut self) {
        self.climb.clear();
        self.sketch.clear();
    }

    fn bytes(&self) -> u64 {
        self.sketch.bytes()
    }

    fn bytes_bound(&self, hot: u64) -> u64 {
        self.sketch.bytes_bound(hot)
    }
}

#[cfg(test)]
mod tests;

//! Least frequently used: counts of uses, ties by last use; aged if asked for. O(1) an event.
//!
//! With its defaults it is the plain policy of the literature: a row's count begins at 1 when it becomes hot, is lost when it leaves, and
//! is never forgotten in between, so that what was popular once stays. `window` ages counts, `history` lets them outlive a stay in
//! the cold, and `admit` keeps out what is used less than any hot row.
//!
//! **Aging** is the reset of TinyLFU (Einziger, Friedman, Manes: "TinyLFU: A Highly Efficient Cache Admission Policy", ACM
//! Transactions on Storage 13(4), 2017, section 3.3): after a window of uses, all counts are divided by two. Two things
//! differ: counts are exact and kept for each row instead of in a sketch, and the window is counted in uses for each
//! hot row. Rows lie in one list for each count, so that a halving joins lists 2c and 2c+1 to list c without touching a
//! row; what a row's count has become follows from the number of halvings since it was written. Rows that a halving
//! made equal leave in the order of their former counts, then of last use.
//!
//! 24 bytes of record and links, 7.2 to 10.4 of hash table and up to 3 of history a row, and 3 KiB of lists.

use aether_core::config::RawConfig;
use aether_core::role::{Context, EvictionPolicy, Figure, Item, Verdict, Want};
use aether_core::{BuildContext, Factory, OptionSpec, Plugin, Result, Time};
use serde::Deserialize;

use crate::books::{Books, Input, Packed, Policy, Rules, Standing, part, within};

/// Moves out what is used least often.
pub static PLUGIN: Plugin = Plugin {
    name: "lfu",
    crate_name: env!("CARGO_PKG_NAME"),
    summary: "Moves out what is used least often; counts can be aged, and cold rows let in only when they are used more.",
    options: &[
        OptionSpec {
            name: "window",
            default: "0",
            unit: "uses for each hot row",
            help: "Uses after which all counts are halved, 0 for never: 10 forgets in good time, a small window quickly.",
        },
        OptionSpec {
            name: "history",
            default: "0.0",
            unit: "rows for each hot row",
            help: "Cold rows whose counts are remembered, at most; at least 64 rows, 0 for none.",
        },
        OptionSpec {
            name: "admit",
            default: "\"always\"",
            unit: "\"always\" or \"more-used\"",
            help: "Whether every cold row that is used comes in, or for certain only one used more often than the least used hot one.",
        },
    ],
    persistent: false,
    factory: Factory::Policy(build),
};
aether_core::register!(PLUGIN);

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct LfuConfig {
    window: f64,
    history: f64,
    admit: Admit,
}

/// Which cold rows come in when they are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Admit {
    #[default]
    Always,
    MoreUsed,
}

fn build(raw: &RawConfig, _context: &BuildContext) -> Result<Box<dyn EvictionPolicy>> {
    let config: LfuConfig = raw.parse()?;
    let window = within(raw, "window", config.window, (0.0, 1e6))?;
    if window > 0.0 && window < 1.0 {
        let message = format!("expected 0 for never, or 1 to 1000000, got {window}");
        return Err(raw.error("window", message));
    }
    let history = within(raw, "history", config.history, (0.0, 1.0))?;
    let lfu = Lfu::new(window, config.admit);
    Ok(Box::new(Policy::new(lfu, history)))
}

/// Counts stop here.
const COUNT_MAX: u32 = 255;
const HALVINGS_MASK: u32 = (1 << 24) - 1;
/// Uses before the first halving of a small tier.
const WINDOW_MIN: u64 = 256;

/// A row's count (8 bits) as it was after so many halvings (24 bits, wrapping: a row would have to go unused for
/// 16.7 million of them, at least 256 uses apart, to be taken for one that was counted just now).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count(u32);

impl Count {
    fn new(count: u32, halvings: u32) -> Self {
        Self(count.min(COUNT_MAX) | halvings << 8)
    }

    /// The count after that many halvings.
    fn at(self, halvings: u32) -> u32 {
        let passed = halvings.wrapping_sub(self.0 >> 8) & HALVINGS_MASK;
        (self.0 & COUNT_MAX).checked_shr(passed).unwrap_or(0)
    }
}

impl Packed for Count {
    const BYTES: usize = 4;

    fn put(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.to_le_bytes());
    }

    fn take(input: &mut Input<'_>) -> Result<Self> {
        input.u32().map(Self)
    }
}

#[derive(Debug)]
struct Lfu {
    /// Uses for each hot row to a halving; 0 for never.
    window: f64,
    admit: Admit,
    /// Uses since the last halving.
    uses: u64,
    halvings: u32,
}

impl Lfu {
    fn new(window: f64, admit: Admit) -> Self {
        Self {
            window,
            admit,
            uses: 0,
            halvings: 0,
        }
    }

    fn now(&self, count: Count) -> u32 {
        count.at(self.halvings)
    }

    fn counted(&self, count: u32) -> Count {
        Count::new(count, self.halvings)
    }

    /// Takes note of a use of any row, and halves all counts when the window is full.
    fn tick(&mut self, books: &mut Books<Count>) {
        if self.window <= 0.0 {
            return;
        }
        self.uses += 1;
        let window = (self.window * books.len() as f64) as u64;
        if self.uses < window.max(WINDOW_MIN) {
            return;
        }
        self.uses = 0;
        self.halvings = (self.halvings + 1) & HALVINGS_MASK;
        books.append(1, 0);
        for count in 1..=COUNT_MAX / 2 {
            books.append(2 * count, count);
            books.append(2 * count + 1, count);
        }
    }

    fn place(&self, books: &mut Books<Count>, slot: u32, count: u32) {
        books.set_figures(slot, self.counted(count));
        books.push_back(count.min(COUNT_MAX), slot);
    }

    fn verdict(&self, books: &Books<Count>, slot: u32) -> Verdict {
        Verdict {
            row: books.row(slot),
            keep: f64::from(self.now(books.figures(slot))),
            certain: false,
            reason: "least frequently used",
        }
    }

    /// Slots from the least used on.
    fn order(books: &Books<Count>) -> impl Iterator<Item = u32> {
        (0..=COUNT_MAX).flat_map(|count| books.list(count))
    }
}

impl Rules for Lfu {
    const NAME: &'static str = "lfu";
    const LISTS: u32 = COUNT_MAX + 1;
    type Hot = Count;
    type Past = Count;

    fn enter(&mut self, _restore_us: f32, past: Option<Count>, _now: Time) -> Count {
        self.counted(past.map_or(1, |past| self.now(past).max(1)))
    }

    fn touch(&mut self, books: &mut Books<Count>, slot: u32, _now: Time) {
        self.tick(books);
        let count = self.now(books.figures(slot)) + 1;
        self.place(books, slot, count);
    }

    fn renew(&mut self, books: &mut Books<Count>, slot: u32, _now: Time) {
        let count = self.now(books.figures(slot));
        self.place(books, slot, count);
    }

    /// An unpinned row joins the end of its count's list, as if it was used last.
    fn link(&mut self, books: &mut Books<Count>, slot: u32, now: Time) {
        self.renew(books, slot, now);
    }

    fn leave(&self, figures: Count) -> Count {
        figures
    }

    fn miss(&mut self, books: &mut Books<Count>, past: Option<Count>, _now: Time) -> Count {
        self.tick(books);
        self.counted(past.map_or(0, |past| self.now(past)) + 1)
    }

    fn victim(&mut self, books: &Books<Count>, _want: Want, _context: &Context) -> Option<Verdict> {
        let slot = Self::order(books).next()?;
        Some(self.verdict(books, slot))
    }

    fn victims(&mut self, books: &Books<Count>, want: Want, context: &Context) -> Vec<Verdict> {
        books.take_in_order(Self::order(books), want, context, |slot| {
            self.verdict(books, slot)
        })
    }

    fn admit(
        &mut self,
        books: &Books<Count>,
        item: &Item,
        past: Option<Count>,
        _context: &Context,
    ) -> Verdict {
        let count = past.map_or(1, |past| self.now(past).max(1));
        let least = Self::order(books).next();
        let above = least.is_some_and(|slot| count > self.now(books.figures(slot)));
        Verdict {
            row: item.row,
            keep: f64::from(count),
            certain: above || self.admit == Admit::Always,
            reason: match (above, self.admit) {
                (true, _) => "used more often than the least used hot row",
                (_, Admit::Always) => "just used",
                _ => "used no more often than the least used hot row",
            },
        }
    }

    fn explain(
        &self,
        _books: &Books<Count>,
        standing: Standing<Count, Count>,
        _context: &Context,
    ) -> (f64, Vec<Figure>, String) {
        let (count, then) = match standing {
            Standing::Hot { figures, pinned } if pinned => (figures, "pinned, so it stays"),
            Standing::Hot { figures, .. } => (
                figures,
                "leaves when the hot tier needs room and no row was used less often",
            ),
            Standing::Past(past) if self.admit == Admit::Always => {
                (past, "comes in when it is used again")
            }
            Standing::Past(past) => (
                past,
                "comes in when it is used again and then more often than the least used hot row",
            ),
        };
        let count = f64::from(self.now(count));
        let figure = |name, value, unit| Figure { name, value, unit };
        let window = figure(
            "uses_to_halving_per_row",
            self.window,
            "uses for each hot row, 0 for never",
        );
        (
            count,
            vec![
                figure("count", count, "uses"),
                window,
                part("frequency_part", count),
            ],
            format!("counts {count} uses; {then}"),
        )
    }

    fn save(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.uses.to_le_bytes());
        out.extend_from_slice(&self.halvings.to_le_bytes());
    }

    fn load(&mut self, input: &mut Input<'_>) -> Result<()> {
        self.uses = input.u64()?;
        self.halvings = input.u32()? & HALVINGS_MASK;
        Ok(())
    }

    fn clear(&mut self) {
        (self.uses, self.halvings) = (0, 0);
    }
}

#[cfg(test)]
mod tests;

//! Age: rows leave when they were not used for a set time, in batches, whether or not there is room.
//!
//! The rule of the working set, a row's window being its idle time (P. J. Denning, "The Working Set Model for Program Behavior",
//! Communications of the ACM 11(5), 1968), on the wall clock and in batches. Under pressure it falls back to the least recently used
//! row, overdue or not. O(1) an event; the same 26 bytes of record and links and 7.2 to 10.4 of hash table a row as `lru`.

use std::time::Duration;

use aether_core::config::{RawConfig, Span};
use aether_core::role::{Context, EvictionPolicy, Figure, Item, Verdict, Want};
use aether_core::{BuildContext, Factory, OptionSpec, Plugin, Result, Time};
use serde::Deserialize;

use crate::books::{Books, Policy, Rules, Stamp, Standing, part, words_of};

/// Moves out what was not used for a set time.
pub static PLUGIN: Plugin = Plugin {
    name: "age",
    crate_name: env!("CARGO_PKG_NAME"),
    summary: "Moves out, in batches, what was not used for a set time; under pressure what was unused for longest.",
    options: &[
        OptionSpec {
            name: "idle",
            default: "\"1h\"",
            unit: "duration",
            help: "Time without a use after which a row leaves the hot tier.",
        },
        OptionSpec {
            name: "batch",
            default: "64",
            unit: "rows",
            help: "Rows that must be overdue before any leaves, so that segments are not tiny.",
        },
        OptionSpec {
            name: "batch_wait",
            default: "\"10min\"",
            unit: "duration",
            help: "Longest time that an overdue row waits for its batch to fill.",
        },
    ],
    persistent: false,
    factory: Factory::Policy(build),
};
aether_core::register!(PLUGIN);

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct AgeConfig {
    idle: Span,
    batch: usize,
    batch_wait: Span,
}

impl Default for AgeConfig {
    fn default() -> Self {
        Self {
            idle: Span(Duration::from_secs(3_600)),
            batch: 64,
            batch_wait: Span(Duration::from_secs(600)),
        }
    }
}

impl AgeConfig {
    fn check(self, raw: &RawConfig) -> Result<Self> {
        if self.idle.0 < Duration::from_millis(1) {
            let message = format!("expected \"1ms\" or more, got \"{}\"", self.idle);
            return Err(raw.error("idle", message));
        }
        if !(1..=1_000_000).contains(&self.batch) {
            let message = format!("expected 1 to 1000000 rows, got {}", self.batch);
            return Err(raw.error("batch", message));
        }
        Ok(self)
    }
}

fn build(raw: &RawConfig, _context: &BuildContext) -> Result<Box<dyn EvictionPolicy>> {
    let config = raw.parse::<AgeConfig>()?.check(raw)?;
    let age = Age {
        idle_s: config.idle.0.as_secs_f64(),
        wait_s: config.batch_wait.0.as_secs_f64(),
        batch: config.batch,
    };
    Ok(Box::new(Policy::new(age, 0.0)))
}

#[derive(Debug)]
struct Age {
    idle_s: f64,
    wait_s: f64,
    batch: usize,
}

/// The one list, least recently used row first.
const RECENCY: u32 = 0;

impl Age {
    /// Seconds until the row is overdue; 0 or less when it is.
    fn left_s(&self, used: Stamp, now: Time) -> f64 {
        self.idle_s - used.age_s(now)
    }

    fn verdict(&self, books: &Books<Stamp>, slot: u32, now: Time) -> Verdict {
        let keep = self.left_s(books.figures(slot), now);
        Verdict {
            row: books.row(slot),
            keep,
            certain: keep <= 0.0,
            reason: if keep <= 0.0 {
                "not used for the set time"
            } else {
                "unused for longest, and room is needed"
            },
        }
    }

    /// Whether enough rows are overdue for a batch, or the oldest has waited long enough for one.
    fn batch_is_due(&self, books: &Books<Stamp>, rows: usize, now: Time) -> bool {
        let left = |slot: u32| self.left_s(books.figures(slot), now);
        let mut oldest = books.list(RECENCY);
        let batch = self.batch.min(rows);
        let Some(first) = oldest.next().map(left) else {
            return false;
        };
        if batch <= 1 || first <= -self.wait_s {
            return first <= 0.0;
        }
        oldest.nth(batch - 2).is_some_and(|slot| left(slot) <= 0.0)
    }
}

impl Rules for Age {
    const NAME: &'static str = "age";
    const LISTS: u32 = 1;
    type Hot = Stamp;
    type Past = ();

    fn enter(&mut self, _restore_us: f32, _past: Option<()>, now: Time) -> Stamp {
        Stamp::of(now)
    }

    fn touch(&mut self, books: &mut Books<Stamp>, slot: u32, now: Time) {
        books.set_figures(slot, Stamp::of(now));
        books.push_back(RECENCY, slot);
    }

    fn renew(&mut self, books: &mut Books<Stamp>, slot: u32, now: Time) {
        self.touch(books, slot, now);
    }

    /// Where an unpinned row would stand by its age is not known in O(1): unpinning counts as a use.
    fn link(&mut self, books: &mut Books<Stamp>, slot: u32, now: Time) {
        self.touch(books, slot, now);
    }

    fn leave(&self, _figures: Stamp) {}

    fn miss(&mut self, _books: &mut Books<Stamp>, _past: Option<()>, _now: Time) {}

    fn victims(&mut self, books: &Books<Stamp>, want: Want, context: &Context) -> Vec<Verdict> {
        let verdict = |slot| self.verdict(books, slot, context.now);
        if want.bytes > 0 {
            return books.take_in_order(books.list(RECENCY), want, context, verdict);
        }
        // A batch can be no larger than the tier: counting the free rows lets the last few go too.
        if !self.batch_is_due(books, want.rows, context.now) {
            return Vec::new();
        }
        let overdue = |slot: &u32| self.left_s(books.figures(*slot), context.now) <= 0.0;
        let order = books.list(RECENCY).take_while(overdue);
        books.take_in_order(order, want, context, verdict)
    }

    fn admit(
        &mut self,
        _books: &Books<Stamp>,
        item: &Item,
        _past: Option<()>,
        _context: &Context,
    ) -> Verdict {
        Verdict {
            row: item.row,
            keep: self.idle_s,
            certain: true,
            reason: "just used",
        }
    }

    fn explain(
        &self,
        _books: &Books<Stamp>,
        standing: Standing<Stamp, ()>,
        context: &Context,
    ) -> (f64, Vec<Figure>, String) {
        let Standing::Hot { figures, pinned } = standing else {
            return (0.0, Vec::new(), "left the hot tier".to_owned());
        };
        let (age, left) = (
            figures.age_s(context.now),
            self.left_s(figures, context.now),
        );
        let then = if pinned {
            "pinned, so it stays".to_owned()
        } else if left <= 0.0 {
            format!(
                "leaves with the next batch, being unused for more than {}",
                words_of(self.idle_s)
            )
        } else {
            format!(
                "leaves in {} if it is not used, earlier if the hot tier needs room",
                words_of(left)
            )
        };
        let figure = |name, value| Figure {
            name,
            value,
            unit: "s",
        };
        (
            left,
            vec![
                figure("age", age),
                figure("idle", self.idle_s),
                part("idle_part", self.idle_s),
                part("age_part", -age),
            ],
            format!("used {} ago; {then}", words_of(age)),
        )
    }
}

#[cfg(test)]
mod tests;

//! Time to live and time to idle: a row leaves when it was not used for a set time, or when it came a set time ago, whichever is
//! sooner, each on its own and whether or not there is room. O(1) an event.
//!
//! The timers that every request resets, and those that only a miss sets, of N. C. Fofack, P. Nain, G. Neglia, D. Towsley, "Analysis of
//! TTL-based Cache Networks", VALUETOOLS 2012; here they may be combined. Under pressure the row with the least time left leaves, in time
//! or not. Against `age`: no batches, and a limit to the time since a row came. 24 bytes of record, 16 of links and 8 to 12 of
//! hash table a row.

use std::time::Duration;

use aether_core::config::{RawConfig, Span};
use aether_core::role::{Context, EvictionPolicy, Figure, Item, Verdict, Want};
use aether_core::{BuildContext, Factory, OptionSpec, Plugin, Result, Time};
use serde::Deserialize;

use crate::books::{Books, Input, Packed, Policy, Rules, Shape, Stamp, Standing, part, words_of};

/// Moves out each row when its time is up.
pub static PLUGIN: Plugin = Plugin {
    name: "ttl-idle",
    crate_name: env!("CARGO_PKG_NAME"),
    summary: "Moves out each row when it was not used for a set time, or came a set time ago; under pressure the least time left.",
    options: &[
        OptionSpec {
            name: "idle",
            default: "\"1h\"",
            unit: "duration",
            help: "Time without a use after which a row leaves the hot tier.",
        },
        OptionSpec {
            name: "ttl",
            default: "\"1d\"",
            unit: "duration",
            help: "Time after which a row leaves the hot tier, used or not.",
        },
    ],
    persistent: false,
    factory: Factory::Policy(build),
};
aether_core::register!(PLUGIN);

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct TtlIdleConfig {
    idle: Span,
    ttl: Span,
}

impl Default for TtlIdleConfig {
    fn default() -> Self {
        Self {
            idle: Span(Duration::from_secs(3_600)),
            ttl: Span(Duration::from_secs(86_400)),
        }
    }
}

fn build(raw: &RawConfig, _context: &BuildContext) -> Result<Box<dyn EvictionPolicy>> {
    let config: TtlIdleConfig = raw.parse()?;
    for (key, span) in [("idle", config.idle), ("ttl", config.ttl)] {
        if span.0 < Duration::from_millis(1) {
            let message = format!("expected \"1ms\" or more, got \"{span}\"");
            return Err(raw.error(key, message));
        }
    }
    let rules = TtlIdle {
        idle_s: config.idle.0.as_secs_f64(),
        ttl_s: config.ttl.0.as_secs_f64(),
    };
    Ok(Box::new(Policy::new(rules, 0.0)))
}

/// When a row was used last, and when it came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Times {
    used: Stamp,
    came: Stamp,
}

impl Packed for Times {
    const BYTES: usize = 12;

    fn put(self, out: &mut Vec<u8>) {
        self.used.put(out);
        self.came.put(out);
    }

    fn take(input: &mut Input<'_>) -> Result<Self> {
        Ok(Self {
            used: Stamp::take(input)?,
            came: Stamp::take(input)?,
        })
    }
}

#[derive(Debug)]
struct TtlIdle {
    idle_s: f64,
    ttl_s: f64,
}

/// The list of the first order, least recently used first.
const BY_USE: u32 = 0;
/// The list of the second, longest in the hot tier first.
const BY_ENTRY: u32 = 0;

impl TtlIdle {
    /// Seconds until the row was unused, and until it was hot, for too long; 0 or less when it is.
    fn left_s(&self, times: Times, now: Time) -> (f64, f64) {
        (
            self.idle_s - times.used.age_s(now),
            self.ttl_s - times.came.age_s(now),
        )
    }

    fn keep(&self, times: Times, now: Time) -> f64 {
        let (idle, ttl) = self.left_s(times, now);
        idle.min(ttl)
    }

    fn verdict(&self, books: &Books<Times>, slot: u32, now: Time) -> Verdict {
        let (idle, ttl) = self.left_s(books.figures(slot), now);
        let keep = idle.min(ttl);
        Verdict {
            row: books.row(slot),
            keep,
            certain: keep <= 0.0,
            reason: match (keep <= 0.0, ttl < idle) {
                (true, true) => "came the set time ago",
                (true, false) => "not used for the set time",
                (false, _) => "has the least time left, and room is needed",
            },
        }
    }

    fn order<'a>(&'a self, books: &'a Books<Times>, now: Time) -> impl Iterator<Item = u32> + 'a {
        by_time_left(books, move |slot| self.left_s(books.figures(slot), now))
    }
}

/// Slots by the time that is left, least first: both orders merged. A row is met in both; it counts where its less time is, which is where it
/// is met first. Neither order is gone through farther than what the other holds for the same time: the first row costs O(1).
fn by_time_left<'a>(
    books: &'a Books<Times>,
    left: impl Fn(u32) -> (f64, f64) + 'a,
) -> impl Iterator<Item = u32> + 'a {
    let mut by_use = books.list(BY_USE).peekable();
    let mut by_entry = books.second(BY_ENTRY).peekable();
    std::iter::from_fn(move || {
        loop {
            let (a, b) = (by_use.peek().copied(), by_entry.peek().copied());
            let use_first = match (a, b) {
                (Some(a), Some(b)) => left(a).0 <= left(b).1,
                (a, _) => a.is_some(),
            };
            let slot = match use_first {
                true => by_use.next()?,
                false => by_entry.next()?,
            };
            let (idle, ttl) = left(slot);
            if (idle <= ttl) == use_first {
                return Some(slot);
            }
        }
    })
}

impl Rules for TtlIdle {
    const NAME: &'static str = "ttl-idle";
    const LISTS: u32 = 1;
    type Hot = Times;
    type Past = ();

    fn shape() -> Shape {
        Shape {
            lists: 1,
            second: 1,
            ..Shape::default()
        }
    }

    fn enter(&mut self, _restore_us: f32, _past: Option<()>, now: Time) -> Times {
        let now = Stamp::of(now);
        Times {
            used: now,
            came: now,
        }
    }

    fn touch(&mut self, books: &mut Books<Times>, slot: u32, now: Time) {
        let used = Stamp::of(now);
        let times = books.figures(slot);
        books.set_figures(slot, Times { used, ..times });
        books.push_back(BY_USE, slot);
    }

    /// A new version came now.
    fn renew(&mut self, books: &mut Books<Times>, slot: u32, now: Time) {
        self.link(books, slot, now);
    }

    /// Where an unpinned row would stand by its times is not known in O(1): it counts as one that came now.
    fn link(&mut self, books: &mut Books<Times>, slot: u32, now: Time) {
        let times = self.enter(0.0, None, now);
        books.set_figures(slot, times);
        books.push_back(BY_USE, slot);
        books.push_second(BY_ENTRY, slot);
    }

    fn leave(&self, _figures: Times) {}

    fn miss(&mut self, _books: &mut Books<Times>, _past: Option<()>, _now: Time) {}

    fn victims(&mut self, books: &Books<Times>, want: Want, context: &Context) -> Vec<Verdict> {
        let now = context.now;
        let verdict = |slot| self.verdict(books, slot, now);
        if want.bytes > 0 {
            return books.take_in_order(self.order(books, now), want, context, verdict);
        }
        let over = |slot: &u32| self.keep(books.figures(*slot), now) <= 0.0;
        let order = self.order(books, now).take_while(over);
        books.take_in_order(order, want, context, verdict)
    }

    fn admit(
        &mut self,
        _books: &Books<Times>,
        item: &Item,
        _past: Option<()>,
        _context: &Context,
    ) -> Verdict {
        Verdict {
            row: item.row,
            keep: self.idle_s.min(self.ttl_s),
            certain: true,
            reason: "just used",
        }
    }

    fn explain(
        &self,
        _books: &Books<Times>,
        standing: Standing<Times, ()>,
        context: &Context,
    ) -> (f64, Vec<Figure>, String) {
        let Standing::Hot { figures, pinned } = standing else {
            return (0.0, Vec::new(), "left the hot tier".to_owned());
        };
        let now = context.now;
        let keep = self.keep(figures, now);
        let then = match (pinned, keep <= 0.0) {
            (true, _) => "pinned, so it stays".to_owned(),
            (_, true) => "its time is up, so it leaves".to_owned(),
            _ => format!("leaves in {} at the latest", words_of(keep)),
        };
        let (idle, age) = (figures.used.age_s(now), figures.came.age_s(now));
        let figure = |name, value| Figure {
            name,
            value,
            unit: "s",
        };
        let told = vec![
            figure("idle", idle),
            figure("age", age),
            part("time_left_part", keep),
        ];
        let words = format!(
            "used {} ago, came {} ago; {then}",
            words_of(idle),
            words_of(age)
        );
        (keep, told, words)
    }
}

#[cfg(test)]
mod tests;

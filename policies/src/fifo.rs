//! First in, first out: rows leave in the order in which they came, used or not. O(1) an event, 26 bytes of record and links and
//! 7.2 to 10.4 of hash table a row.
//!
//! L. A. Belady, "A Study of Replacement Algorithms for a Virtual-Storage Computer", IBM Systems Journal 5(2), 1966. A new version of
//! a point counts as a new row; so does a row that was unpinned.

use aether_core::config::RawConfig;
use aether_core::role::{Context, EvictionPolicy, Figure, Item, Verdict, Want};
use aether_core::{BuildContext, Factory, Plugin, Result, Time};
use serde::Deserialize;

use crate::books::{Books, Policy, Rules, Stamp, Standing, part, words_of};

/// Moves out what came first.
pub static PLUGIN: Plugin = Plugin {
    name: "fifo",
    crate_name: env!("CARGO_PKG_NAME"),
    summary: "Moves out what came first, used or not: the yardstick that costs nothing on a use.",
    options: &[],
    persistent: false,
    factory: Factory::Policy(build),
};
aether_core::register!(PLUGIN);

/// The policy has no keys; the struct refuses all.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FifoConfig {}

fn build(raw: &RawConfig, _context: &BuildContext) -> Result<Box<dyn EvictionPolicy>> {
    let FifoConfig {} = raw.parse()?;
    Ok(Box::new(Policy::new(Fifo, 0.0)))
}

#[derive(Debug)]
struct Fifo;

/// The one list, oldest row first.
const QUEUE: u32 = 0;

/// 0 for a row that came now, falling with the logarithm of its age.
fn keep(came: Stamp, now: Time) -> f64 {
    -came.age_s(now).ln_1p()
}

fn verdict(books: &Books<Stamp>, slot: u32, now: Time) -> Verdict {
    Verdict {
        row: books.row(slot),
        keep: keep(books.figures(slot), now),
        certain: false,
        reason: "came first",
    }
}

impl Rules for Fifo {
    const NAME: &'static str = "fifo";
    const LISTS: u32 = 1;
    const MOVES_ON_USE: bool = false;
    type Hot = Stamp;
    type Past = ();

    fn enter(&mut self, _restore_us: f32, _past: Option<()>, now: Time) -> Stamp {
        Stamp::of(now)
    }

    fn touch(&mut self, _books: &mut Books<Stamp>, _slot: u32, _now: Time) {}

    fn renew(&mut self, books: &mut Books<Stamp>, slot: u32, now: Time) {
        self.link(books, slot, now);
    }

    fn link(&mut self, books: &mut Books<Stamp>, slot: u32, now: Time) {
        books.set_figures(slot, Stamp::of(now));
        books.push_back(QUEUE, slot);
    }

    fn leave(&self, _figures: Stamp) {}

    fn miss(&mut self, _books: &mut Books<Stamp>, _past: Option<()>, _now: Time) {}

    fn victims(&mut self, books: &Books<Stamp>, want: Want, context: &Context) -> Vec<Verdict> {
        books.take_in_order(books.list(QUEUE), want, context, |slot| {
            verdict(books, slot, context.now)
        })
    }

    fn victim(&mut self, books: &Books<Stamp>, _want: Want, context: &Context) -> Option<Verdict> {
        Some(verdict(books, books.front(QUEUE)?, context.now))
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
            keep: 0.0,
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
        let age = figures.age_s(context.now);
        let then = match pinned {
            true => "pinned, so it stays",
            false => "leaves when the hot tier needs room and no row has been in it for longer",
        };
        let keep = keep(figures, context.now);
        let age_figure = Figure {
            name: "age",
            value: age,
            unit: "s",
        };
        let words = format!("came {} ago; {then}", words_of(age));
        (keep, vec![age_figure, part("age_part", keep)], words)
    }
}

#[cfg(test)]
mod tests;

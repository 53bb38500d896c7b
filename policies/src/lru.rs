//! Least recently used: exact, O(1) an event, 26 bytes of record and links and 7.2 to 10.4 of hash table a row.
//!
//! R. L. Mattson, J. Gecsei, D. R. Slutz, I. L. Traiger, "Evaluation Techniques for Storage Hierarchies", IBM Systems Journal 9(2), 1970.

use aether_core::config::RawConfig;
use aether_core::role::{Context, EvictionPolicy, Figure, Item, Verdict, Want};
use aether_core::{BuildContext, Factory, Plugin, Result, Time};
use serde::Deserialize;

use crate::books::{Books, Policy, Rules, Stamp, Standing, part, words_of};

/// Moves out what was not used for longest.
pub static PLUGIN: Plugin = Plugin {
    name: "lru",
    crate_name: env!("CARGO_PKG_NAME"),
    summary: "Moves out what was not used for longest; every cold row that is used comes back.",
    options: &[],
    persistent: false,
    factory: Factory::Policy(build),
};
aether_core::register!(PLUGIN);

/// The policy has no keys; the struct refuses all.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct LruConfig {}

fn build(raw: &RawConfig, _context: &BuildContext) -> Result<Box<dyn EvictionPolicy>> {
    let LruConfig {} = raw.parse()?;
    Ok(Box::new(Policy::new(Lru, 0.0)))
}

#[derive(Debug)]
struct Lru;

/// The one list, least recently used row first.
const RECENCY: u32 = 0;

/// 0 for a row used now, falling with the logarithm of its age, so that a sample of rows is spread evenly whether it was
/// used over minutes or over months.
fn keep(used: Stamp, now: Time) -> f64 {
    -used.age_s(now).ln_1p()
}

fn verdict(books: &Books<Stamp>, slot: u32, now: Time) -> Verdict {
    Verdict {
        row: books.row(slot),
        keep: keep(books.figures(slot), now),
        certain: false,
        reason: "least recently used",
    }
}

impl Rules for Lru {
    const NAME: &'static str = "lru";
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
        books.take_in_order(books.list(RECENCY), want, context, |slot| {
            verdict(books, slot, context.now)
        })
    }

    fn victim(&mut self, books: &Books<Stamp>, _want: Want, context: &Context) -> Option<Verdict> {
        Some(verdict(books, books.front(RECENCY)?, context.now))
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
        let then = if pinned {
            "pinned, so it stays"
        } else {
            "leaves when the hot tier needs room and no row was unused for longer"
        };
        let keep = keep(figures, context.now);
        let age_figure = Figure {
            name: "age",
            value: age,
            unit: "s",
        };
        (
            keep,
            vec![age_figure, part("recency_part", keep)],
            format!("used {} ago; {then}", words_of(age)),
        )
    }
}

#[cfg(test)]
mod tests;

//! Random: any row may leave, with equal chance. O(1) an event; the same seed draws the same rows.
//!
//! The yardstick of L. A. Belady, "A Study of Replacement Algorithms for a Virtual-Storage Computer", IBM Systems Journal 5(2), 1966.
//! 18 bytes of record and 7.2 to 10.4 of hash table a row.

use aether_core::config::RawConfig;
use aether_core::role::{Context, EvictionPolicy, Figure, Item, Verdict, Want};
use aether_core::{BuildContext, Factory, Plugin, Result, Time};
use serde::Deserialize;

use crate::books::{Books, Input, Policy, Rules, Stamp, Standing, words_of, worst_of_sample};

/// Moves out any row.
pub static PLUGIN: Plugin = Plugin {
    name: "random",
    crate_name: env!("CARGO_PKG_NAME"),
    summary: "Moves out any row with equal chance: the yardstick below which a policy does harm.",
    options: &[],
    persistent: false,
    factory: Factory::Policy(build),
};
aether_core::register!(PLUGIN);

/// The policy has no keys; the struct refuses all.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RandomConfig {}

fn build(raw: &RawConfig, context: &BuildContext) -> Result<Box<dyn EvictionPolicy>> {
    let RandomConfig {} = raw.parse()?;
    Ok(Box::new(Policy::new(Random::new(context.seed), 0.0)))
}

#[derive(Debug)]
struct Random {
    seed: u64,
    random: fastrand::Rng,
}

impl Random {
    fn new(seed: u64) -> Self {
        let random = fastrand::Rng::with_seed(seed);
        Self { seed, random }
    }
}

/// All rows are worth the same.
const KEEP: f64 = 0.0;

fn verdict(books: &Books<Stamp>, slot: u32) -> Verdict {
    Verdict {
        row: books.row(slot),
        keep: KEEP,
        certain: false,
        reason: "drawn by chance",
    }
}

impl Rules for Random {
    const NAME: &'static str = "random";
    const LISTS: u32 = 0;
    /// When the row came, for people who ask.
    type Hot = Stamp;
    type Past = ();

    fn enter(&mut self, _restore_us: f32, _past: Option<()>, now: Time) -> Stamp {
        Stamp::of(now)
    }

    fn touch(&mut self, _books: &mut Books<Stamp>, _slot: u32, _now: Time) {}

    fn renew(&mut self, books: &mut Books<Stamp>, slot: u32, now: Time) {
        books.set_figures(slot, Stamp::of(now));
    }

    fn link(&mut self, _books: &mut Books<Stamp>, _slot: u32, _now: Time) {}

    fn leave(&self, _figures: Stamp) {}

    fn miss(&mut self, _books: &mut Books<Stamp>, _past: Option<()>, _now: Time) {}

    fn victims(&mut self, books: &Books<Stamp>, want: Want, context: &Context) -> Vec<Verdict> {
        let key = self.random.u64(..);
        let drawn = worst_of_sample(books, want, context, (1, 1), key, |_| KEEP);
        drawn.into_iter().map(|slot| verdict(books, slot)).collect()
    }

    fn victim(&mut self, books: &Books<Stamp>, _want: Want, _context: &Context) -> Option<Verdict> {
        (books.free() > 0).then(|| verdict(books, self.random.u32(..books.free())))
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
            keep: KEEP,
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
            return (KEEP, Vec::new(), "left the hot tier".to_owned());
        };
        let age = figures.age_s(context.now);
        let then = match pinned {
            true => "pinned, so it stays",
            false => "leaves when the hot tier needs room and chance draws it",
        };
        let figure = Figure {
            name: "age",
            value: age,
            unit: "s",
        };
        let words = format!("came {} ago; {then}", words_of(age));
        (KEEP, vec![figure], words)
    }

    fn save(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.random.get_seed().to_le_bytes());
    }

    fn load(&mut self, input: &mut Input<'_>) -> Result<()> {
        self.random.seed(input.u64()?);
        Ok(())
    }

    fn clear(&mut self) {
        self.random.seed(self.seed);
    }
}

#[cfg(test)]
mod tests;

//! Hyperbolic caching: a row is worth its uses for each of the uses of all rows since it came, and the worst of a sample leaves.
//! O(1) an event, O(sample) a victim.
//!
//! A. Blankstein, S. Sen, M. J. Freedman, "Hyperbolic Caching: Flexible Caching for Web Applications", USENIX ATC 2017, section 2. Without
//! its classes and costs; the sample is 64 rows as in the paper, and none is looked at twice in it. 22 bytes of record and 7.2 to
//! 10.4 of hash table a row.

use aether_core::config::RawConfig;
use aether_core::role::{Context, EvictionPolicy, Figure, Item, Verdict, Want};
use aether_core::{BuildContext, Factory, OptionSpec, Plugin, Result, Time};
use serde::Deserialize;

use crate::books::{Books, Input, Packed, Policy, Rules, Standing, part, within, worst_of_sample};

/// Moves out what is used least often since it came.
pub static PLUGIN: Plugin = Plugin {
    name: "hyperbolic",
    crate_name: env!("CARGO_PKG_NAME"),
    summary: "Moves out the row of a sample that was used least often for the time since it came.",
    options: &[OptionSpec {
        name: "sample",
        default: "64",
        unit: "rows",
        help: "Rows looked at for each that leaves.",
    }],
    persistent: false,
    factory: Factory::Policy(build),
};
aether_core::register!(PLUGIN);

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct HyperbolicConfig {
    sample: u32,
}

impl Default for HyperbolicConfig {
    fn default() -> Self {
        Self { sample: 64 }
    }
}

fn build(raw: &RawConfig, context: &BuildContext) -> Result<Box<dyn EvictionPolicy>> {
    let config: HyperbolicConfig = raw.parse()?;
    let sample = within(raw, "sample", f64::from(config.sample), (1.0, 4096.0))?;
    let hyperbolic = Hyperbolic::new(sample as usize, context.seed);
    Ok(Box::new(Policy::new(hyperbolic, 0.0)))
}

/// Uses of a row since it came, and when that was, counted in uses of all rows: 48 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, packed(2))]
struct Rate {
    uses: u32,
    came: [u16; 3],
}

impl Rate {
    fn new(clock: u64) -> Self {
        let came = [clock as u16, (clock >> 16) as u16, (clock >> 32) as u16];
        Self { uses: 1, came }
    }

    fn came(self) -> u64 {
        let [low, middle, high] = { self.came }.map(u64::from);
        low | middle << 16 | high << 32
    }
}

impl Packed for Rate {
    const BYTES: usize = 10;

    fn put(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&{ self.uses }.to_le_bytes());
        { self.came }.iter().for_each(|part| part.put(out));
    }

    fn take(input: &mut Input<'_>) -> Result<Self> {
        Ok(Self {
            uses: input.u32()?,
            came: [input.u16()?, input.u16()?, input.u16()?],
        })
    }
}

#[derive(Debug)]
struct Hyperbolic {
    sample: usize,
    /// Uses of all rows so far.
    clock: u64,
    seed: u64,
    random: fastrand::Rng,
}

impl Hyperbolic {
    fn new(sample: usize, seed: u64) -> Self {
        Self {
            sample,
            clock: 0,
            seed,
            random: fastrand::Rng::with_seed(seed),
        }
    }

    fn keep(&self, rate: Rate) -> f64 {
        let age = self.clock.saturating_sub(rate.came()).max(1);
        f64::from(rate.uses) / age as f64
    }

    fn verdict(&self, books: &Books<Rate>, slot: u32) -> Verdict {
        Verdict {
            row: books.row(slot),
            keep: self.keep(books.figures(slot)),
            certain: false,
            reason: "used least often for the time since it came",
        }
    }
}

impl Rules for Hyperbolic {
    const NAME: &'static str = "hyperbolic";
    const LISTS: u32 = 0;
    type Hot = Rate;
    type Past = ();

    fn enter(&mut self, _restore_us: f32, _past: Option<()>, _now: Time) -> Rate {
        Rate::new(self.clock)
    }

    fn touch(&mut self, books: &mut Books<Rate>, slot: u32, _now: Time) {
        self.clock += 1;
        let rate = books.figures(slot);
        let uses = { rate.uses }.saturating_add(1);
        books.set_figures(slot, Rate { uses, ..rate });
    }

    /// A new version keeps its former version's record: there is no recency to renew.
    fn renew(&mut self, _books: &mut Books<Rate>, _slot: u32, _now: Time) {}

    fn link(&mut self, _books: &mut Books<Rate>, _slot: u32, _now: Time) {}

    fn leave(&self, _figures: Rate) {}

    fn miss(&mut self, _books: &mut Books<Rate>, _past: Option<()>, _now: Time) {
        self.clock += 1;
    }

    fn victims(&mut self, books: &Books<Rate>, want: Want, context: &Context) -> Vec<Verdict> {
        let key = self.random.u64(..);
        let look = (self.sample, self.sample);
        let keep = |slot| self.keep(books.figures(slot));
        let worst = worst_of_sample(books, want, context, look, key, keep);
        let verdict = |slot| self.verdict(books, slot);
        worst.into_iter().map(verdict).collect()
    }

    fn victim(&mut self, books: &Books<Rate>, want: Want, context: &Context) -> Option<Verdict> {
        if want.bytes == 0 {
            return self.victims(books, want, context).into_iter().next();
        }
        let walk = crate::books::Shuffle::new(books.free(), self.random.u64(..));
        let scored = walk
            .take(self.sample)
            .map(|slot| (self.keep(books.figures(slot)), books.row(slot), slot));
        let worst = scored.min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        worst.map(|(.., slot)| self.verdict(books, slot))
    }

    /// Worth 1: one use in the shortest time there is.
    fn admit(
        &mut self,
        _books: &Books<Rate>,
        item: &Item,
        _past: Option<()>,
        _context: &Context,
    ) -> Verdict {
        Verdict {
            row: item.row,
            keep: 1.0,
            certain: true,
            reason: "just used",
        }
    }

    fn explain(
        &self,
        _books: &Books<Rate>,
        standing: Standing<Rate, ()>,
        _context: &Context,
    ) -> (f64, Vec<Figure>, String) {
        let Standing::Hot { figures, pinned } = standing else {
            return (0.0, Vec::new(), "left the hot tier".to_owned());
        };
        let age = self.clock.saturating_sub(figures.came());
        let uses = { figures.uses };
        let then = match pinned {
            true => "pinned, so it stays",
            false => "leaves when the hot tier needs room and it is the worst of a sample",
        };
        let figure = |name, value, unit| Figure { name, value, unit };
        let told = vec![
            figure("uses", f64::from(uses), "uses"),
            figure("age", age as f64, "uses of any row"),
            part("rate_part", self.keep(figures)),
        ];
        let words = format!("used {uses} times in {age} uses of any row; {then}");
        (self.keep(figures), told, words)
    }

    fn save(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.clock.to_le_bytes());
        out.extend_from_slice(&self.random.get_seed().to_le_bytes());
    }

    fn load(&mut self, input: &mut Input<'_>) -> Result<()> {
        self.clock = input.u64()?;
        self.random.seed(input.u64()?);
        Ok(())
    }

    fn clear(&mut self) {
        self.clock = 0;
        self.random.seed(self.seed);
    }
}

#[cfg(test)]
mod tests;

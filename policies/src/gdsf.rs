//! GDSF: small, often used rows stay; a clock that rises with every eviction ages the others. O(log n) an event.
//!
//! L. Cherkasova, "Improving WWW Proxies Performance with Greedy-Dual-Size-Frequency Caching Policy", HP Laboratories report HPL-98-69R1,
//! 1998: a row's priority is L + uses * cost / bytes, where L is the priority of the row that left last. The cost is 1 for every row,
//! or the time to restore it. Ties by use; a row counts its own bytes in the hot tier. 16 bytes of record, 20 of heap and 7.2 to
//! 10.4 of hash table a row.

use aether_core::config::RawConfig;
use aether_core::role::{Context, EvictionPolicy, Figure, Item, Verdict, Want};
use aether_core::{BuildContext, Factory, OptionSpec, Plugin, Result, Time};
use serde::Deserialize;

use crate::books::{Books, Input, Packed, Policy, Rules, Shape, Standing, Urgency, part};

/// Moves out what has the fewest uses for its bytes.
pub static PLUGIN: Plugin = Plugin {
    name: "gdsf",
    crate_name: env!("CARGO_PKG_NAME"),
    summary: "Moves out what has the fewest uses for its bytes, aged by a clock that rises with every eviction.",
    options: &[OptionSpec {
        name: "cost",
        default: "\"one\"",
        unit: "\"one\" or \"restore\"",
        help: "What a miss costs: the same for every row, or the time to restore it.",
    }],
    persistent: false,
    factory: Factory::Policy(build),
};
aether_core::register!(PLUGIN);

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct GdsfConfig {
    cost: Cost,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Cost {
    #[default]
    One,
    Restore,
}

fn build(raw: &RawConfig, _context: &BuildContext) -> Result<Box<dyn EvictionPolicy>> {
    let config: GdsfConfig = raw.parse()?;
    Ok(Box::new(Policy::new(Gdsf::new(config.cost), 0.0)))
}

/// Uses since the row came, and the cost of a miss as the upper half of an `f32`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, packed(2))]
struct Uses {
    uses: u32,
    cost: u16,
}

impl Packed for Uses {
    const BYTES: usize = 6;

    fn put(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&{ self.uses }.to_le_bytes());
        { self.cost }.put(out);
    }

    fn take(input: &mut Input<'_>) -> Result<Self> {
        Ok(Self {
            uses: input.u32()?,
            cost: input.u16()?,
        })
    }
}

#[derive(Debug)]
struct Gdsf {
    cost: Cost,
    /// L: the priority of the row that left last.
    clock: f64,
    /// Uses of all rows so far, wrapping: orders equals.
    uses: u32,
    /// The priority that the row which was missed last would have, and whether that was asked.
    candidate: Option<f64>,
}

/// So that a priority of bytes by the thousand is not lost beside the clock.
const SCALE: f64 = 1e6;

impl Gdsf {
    fn new(cost: Cost) -> Self {
        Self {
            cost,
            clock: 0.0,
            uses: 0,
            candidate: None,
        }
    }

    /// The cost of a miss, at least one microsecond; tamed when it is no number.
    fn cost_bits(&self, restore_us: f32) -> u16 {
        let cost = match self.cost {
            Cost::Restore if restore_us > 1.0 => restore_us.min(1e12),
            _ => 1.0,
        };
        (cost.to_bits() >> 16) as u16
    }

    fn gain(uses: Uses, bytes: u32) -> f64 {
        let cost = f32::from_bits(u32::from(uses.cost) << 16);
        f64::from(uses.uses) * f64::from(cost) * SCALE / f64::from(bytes.max(1))
    }

    fn place(&mut self, books: &mut Books<Uses>, slot: u32) {
        self.uses = self.uses.wrapping_add(1);
        let gain = Self::gain(books.figures(slot), books.weight(slot));
        books.rank(slot, Urgency::new(self.clock + gain, self.uses));
    }

    /// A pinned row is in no heap: what it would be worth if it were used now.
    fn priority(&self, books: &Books<Uses>, slot: u32) -> f64 {
        match books.urgency(slot) {
            Some(urgency) => urgency.value(),
            None => self.clock + Self::gain(books.figures(slot), books.weight(slot)),
        }
    }

    fn verdict(&self, books: &Books<Uses>, slot: u32) -> Verdict {
        Verdict {
            row: books.row(slot),
            keep: self.priority(books, slot),
            certain: false,
            reason: "fewest uses for its bytes, of late",
        }
    }
}

impl Rules for Gdsf {
    const NAME: &'static str = "gdsf";
    const LISTS: u32 = 0;
    type Hot = Uses;
    type Past = ();

    fn shape() -> Shape {
        Shape {
            heap: true,
            ..Shape::default()
        }
    }

    fn enter(&mut self, restore_us: f32, _past: Option<()>, _now: Time) -> Uses {
        self.candidate = None;
        Uses {
            uses: 1,
            cost: self.cost_bits(restore_us),
        }
    }

    fn update(&mut self, figures: Uses, restore_us: f32) -> Uses {
        let cost = self.cost_bits(restore_us);
        Uses { cost, ..figures }
    }

    fn touch(&mut self, books: &mut Books<Uses>, slot: u32, _now: Time) {
        let figures = books.figures(slot);
        let uses = { figures.uses }.saturating_add(1);
        books.set_figures(slot, Uses { uses, ..figures });
        self.place(books, slot);
    }

    fn renew(&mut self, books: &mut Books<Uses>, slot: u32, _now: Time) {
        self.place(books, slot);
    }

    fn link(&mut self, books: &mut Books<Uses>, slot: u32, _now: Time) {
        self.place(books, slot);
    }

    fn leave(&self, _figures: Uses) {}

    fn miss(&mut self, _books: &mut Books<Uses>, _past: Option<()>, _now: Time) {}

    /// The clock rises to the priority of the row that is to leave, or of the one that is not let in for it.
    fn prepare(&mut self, books: &mut Books<Uses>, want: Want, _context: &Context) {
        let Some(first) = books.ranked().next() else {
            return;
        };
        let least = self.priority(books, first);
        match self.candidate.filter(|candidate| *candidate < least) {
            Some(refused) if want.rows == 1 => self.clock = self.clock.max(refused),
            _ => self.clock = self.clock.max(least),
        }
    }

    fn victims(&mut self, books: &Books<Uses>, want: Want, context: &Context) -> Vec<Verdict> {
        books.take_in_order(books.ranked(), want, context, |slot| {
            self.verdict(books, slot)
        })
    }

    /// Among equals the row that was used first leaves, so a candidate is worth the least bit more than an equal resident.
    fn admit(
        &mut self,
        _books: &Books<Uses>,
        item: &Item,
        _past: Option<()>,
        _context: &Context,
    ) -> Verdict {
        let uses = Uses {
            uses: 1,
            cost: self.cost_bits(item.restore_us),
        };
        let priority = self.clock + Self::gain(uses, item.bytes);
        self.candidate = Some(priority);
        Verdict {
            row: item.row,
            keep: priority.next_up(),
            certain: false,
            reason: "its use for its bytes, from now on",
        }
    }

    fn explain(
        &self,
        _books: &Books<Uses>,
        _standing: Standing<Uses, ()>,
        _context: &Context,
    ) -> (f64, Vec<Figure>, String) {
        (0.0, Vec::new(), "left the hot tier".to_owned())
    }

    fn explain_hot(
        &self,
        books: &Books<Uses>,
        slot: u32,
        _context: &Context,
    ) -> (f64, Vec<Figure>, String) {
        let (uses, bytes) = ({ books.figures(slot).uses }, books.weight(slot));
        let priority = self.priority(books, slot);
        let gain = Self::gain(books.figures(slot), bytes);
        let then = match books.pinned(slot) {
            true => "pinned, so it stays",
            false => "leaves when the hot tier needs room and no row has a lower priority",
        };
        let figure = |name, value, unit| Figure { name, value, unit };
        let figures = vec![
            figure("uses", f64::from(uses), "uses"),
            figure("bytes", f64::from(bytes), "bytes"),
            figure("priority", priority, "millions of uses a byte, aged"),
            figure("clock", self.clock, "priority of the row that left last"),
            part("gain_part", gain),
            part("clock_part", priority - gain),
        ];
        let words = format!("used {uses} times for {bytes} bytes; {then}");
        (priority, figures, words)
    }

    fn save(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.clock.to_bits().to_le_bytes());
        out.extend_from_slice(&self.uses.to_le_bytes());
        let candidate = self.candidate.unwrap_or(-1.0);
        out.extend_from_slice(&candidate.to_bits().to_le_bytes());
    }

    fn load(&mut self, input: &mut Input<'_>) -> Result<()> {
        let number = |bits: u64| Some(f64::from_bits(bits)).filter(|n| n.is_finite() && *n >= 0.0);
        self.clock = number(input.u64()?).unwrap_or(0.0);
        self.uses = input.u32()?;
        self.candidate = number(input.u64()?);
        Ok(())
    }

    fn clear(&mut self) {
        *self = Self::new(self.cost);
    }
}

#[cfg(test)]
mod tests;

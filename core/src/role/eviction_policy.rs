//! Decides what leaves the hot tier and what may enter it.

use std::fmt;

use serde::Serialize;

use crate::clock::Time;
use crate::error::Result;
use crate::id::Row;

/// Where a row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tier {
    /// Resident in the hot index.
    Hot,
    /// Only in a segment.
    Cold,
}

/// What the engine knows of a row when it tells a policy about it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Item {
    /// The row.
    pub row: Row,
    /// RAM it takes (or would take) in the hot tier, in bytes.
    pub bytes: u32,
    /// Estimated time to read it back from the cold store, in microseconds.
    pub restore_us: f32,
}

/// Something that happened, in the order in which it happened.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// A new point's row entered the memory, hot or, when there was no room, cold.
    Inserted {
        /// The row.
        item: Item,
        /// Where it landed.
        tier: Tier,
    },
    /// A point got a new version: `old` is gone and `item` takes over its history.
    Replaced {
        /// The former row.
        old: Row,
        /// The new one.
        item: Item,
        /// Where the new one landed.
        tier: Tier,
    },
    /// A hot row answered a search or a get.
    Accessed {
        /// The row.
        row: Row,
    },
    /// A cold row answered a search or a get: a miss of the hot tier.
    Missed {
        /// The row.
        item: Item,
    },
    /// The user judged an answer.
    Feedback {
        /// The row judged, hot or cold.
        row: Row,
        /// 0 (useless) to 1 (just right).
        reward: f32,
    },
    /// The user pinned or unpinned a row. The engine never demotes a pinned row, whatever a policy says.
    Pinned {
        /// The row.
        row: Row,
        /// Whether it is pinned now.
        pinned: bool,
    },
    /// A row was deleted or expired.
    Removed {
        /// The row.
        row: Row,
    },
    /// A row changed its tier, by whomever's decision.
    Moved {
        /// The row.
        item: Item,
        /// Where it is now.
        to: Tier,
    },
}

/// How much should leave the hot tier.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Want {
    /// At most so many verdicts.
    pub rows: usize,
    /// Enough for so many bytes is enough. 0 while there is room: the flux then only asks which rows it might move, and the
    /// policy may look at a sample of its own choice of about `rows` rows.
    pub bytes: u64,
}

/// The state of the hot tier when a policy is asked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Context {
    /// Now, on the memory's time line.
    pub now: Time,
    /// The flux's temperature.
    pub temperature: f64,
    /// Bytes in the hot tier.
    pub hot_bytes: u64,
    /// Bytes allowed.
    pub budget_bytes: u64,
}

/// What a policy thinks of one row's place.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// The row.
    pub row: Row,
    /// The row's worth in the hot tier: **higher stays**. Finite; comparable with other values of the same policy at about
    /// the same time. The flux turns it into a probability by its place in the spread of a sample.
    pub keep: f64,
    /// No draw needed: as a victim, move it now; as a candidate, `true` with any `keep` promotes it now.
    pub certain: bool,
    /// Why, in a few words for people: "least recently used".
    pub reason: &'static str,
}

impl Verdict {
    /// Whether this victim makes room for a candidate: where neither is certain, only one that is worth less does.
    pub fn yields_to(&self, candidate: &Verdict) -> bool {
        self.certain || candidate.certain || self.keep < candidate.keep
    }
}

/// One figure behind a verdict.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// Its name, as `recency`.
    pub name: &'static str,
    /// Its value.
    pub value: f64,
    /// Its unit or weight in words, as `s`, `weight 0.4`; empty if it has none.
    pub unit: &'static str,
}

impl Figure {
    /// The unit of a figure that is a part of the row's worth.
    pub const PART: &'static str = "of the worth";
}

/// Why a row is where it is, in a policy's eyes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// The row.
    pub row: Row,
    /// Whether the policy has a record of it.
    pub known: bool,
    /// The row's worth, as in [`Verdict::keep`]; `None` if it is not known.
    pub keep: Option<f64>,
    /// The figures behind it. Those of the unit [`Figure::PART`] are what the worth is made of: where there are any, they add up to
    /// it.
    pub figures: Vec<Figure>,
    /// In one sentence: what counts for it now, and what would move it.
    pub words: String,
}

/// Rows that a policy is told to prefetch at a time, at most.
pub const PREFETCH_MAX: usize = 32;

/// Rows of one search that a policy hears of together, at most.
pub const TOGETHER_MAX: usize = 64;

/// Decides what leaves the hot tier and what may enter it.
///
/// **Order.** A cold row's use is `Missed`, then [`EvictionPolicy::admit`], then, if it enters and room is wanted,
/// [`EvictionPolicy::victims`] with a `Moved` to cold for each row that left, then its own `Moved` to hot. The engine does so for many
/// rows at a time, a replay for one: a policy may keep what it decided about the last missed row, and must not depend on it.
///
/// Owned by the flux and called from one thread at a time. Keeps its own books, touches nothing, blocks on nothing, and is
/// deterministic: the same seed, events and questions give the same answers. Accesses may be dropped under load;
/// every other event arrives, in order.
///
/// **Memory** is bounded: a constant number of bytes for each hot row, and a history of rows that left of bounded size.
/// **Complexity**: an event is O(1) or O(log n); `victims` must not look at every row.
/// **Repetition**: events about rows it does not know (a history that was cut, a restart) are no error; a row it hears
/// is hot for the first time by `Accessed` or `Moved` it takes up as new.
pub trait EvictionPolicy: fmt::Debug + Send + 'static {
    /// Takes note of what happened.
    fn on_event(&mut self, event: &Event, now: Time);

    /// Rows of which events come next, hot and cold, any of them more than once, [`PREFETCH_MAX`] at most. Changes nothing: a policy
    /// may touch what it keeps of them, all rows at a time, so that it does not wait for memory once for each. May be left out.
    fn prefetch(&self, _rows: &[Row]) {}

    /// Takes note that these rows, hot and cold, answered one search together, nearest first. Comes after the `Accessed` and
    /// `Missed` of each, never with fewer than two rows nor with more than [`TOGETHER_MAX`], and may be dropped under load as these.
    /// A policy that learns nothing from it ignores it.
    fn on_together(&mut self, _rows: &[Row], _now: Time) {}

    /// The hot rows to leave first, worst (lowest `keep`) first, each once, never a pinned or a cold one. A proposal:
    /// nothing has moved until `Moved` says so, and the same row may be proposed again.
    fn victims(&mut self, want: Want, context: &Context) -> Vec<Verdict>;

    /// The one hot row to leave first, for `bytes` bytes: the first of [`EvictionPolicy::victims`]. A replay asks for one row at a
    /// time and millions of times: a policy overrides this where it can answer without a list. The answer must be the same.
    fn victim(&mut self, bytes: u64, context: &Context) -> Option<Verdict> {
        self.victims(Want { rows: 1, bytes }, context)
            .into_iter()
            .next()
    }

    /// What a cold row that was just used would be worth in the hot tier.
    fn admit(&mut self, candidate: &Item, context: &Context) -> Verdict;

    /// Cold rows that nobody asked for just now and that it would like in the hot tier all the same, best first, at most `rows`: what
    /// it learned from rows that are used together. Asked after events were heard; each answer is a new wish, and a wish that is not
    /// granted is not repeated. `keep` weighs it against what would have to leave, as in [`EvictionPolicy::admit`].
    fn wishes(&mut self, _rows: usize, _context: &Context) -> Vec<Verdict> {
        Vec::new()
    }

    /// The figures behind a row's standing; changes nothing.
    fn explain(&self, row: Row, context: &Context) -> Explanation;

    /// Hot rows in its books.
    fn len(&self) -> usize;

    /// Whether its books hold no hot row.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of RAM that its books take. O(1).
    fn bytes(&self) -> u64;

    /// Upper bound of [`EvictionPolicy::bytes`] after `additional` more hot rows. O(1).
    fn bytes_after(&self, additional: usize) -> u64;

    /// Appends all it would need to go on after a restart. The engine keeps it, with a checksum.
    fn save(&self, out: &mut Vec<u8>);

    /// Takes up what `save` wrote, in place of all it knows. Rows that have left the hot tier since are announced
    /// afterwards as `Removed` or `Moved`.
    ///
    /// # Errors
    /// `Corrupt` for anything it did not write, or of another version; its books are then empty.
    fn load(&mut self, bytes: &[u8]) -> Result<()>;
}

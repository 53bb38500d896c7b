//! The answer to why a point is where it is.

use std::fmt;

use serde::Serialize;

use super::outlook::Outlook;
use crate::clock::Time;
use crate::flux::Sizing;
use crate::id::{PointId, Row};
use crate::role::{Explanation, HotChoice, Tier};

/// Who moved a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mover {
    /// The scheduler, on a policy's verdict.
    Flux,
    /// A call of `demote` or `promote`.
    Hand,
    /// An insert that found no room.
    NoRoom,
}

/// A move of a row.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Move {
    /// When, on the memory's time line.
    pub at: Time,
    /// Where to.
    pub to: Tier,
    /// Who.
    pub by: Mover,
    /// The policy asked.
    pub policy: String,
    /// Its reason.
    pub reason: String,
    /// The row's worth then.
    pub keep: Option<f64>,
    /// The worth at which a row had an even chance.
    pub midpoint: Option<f64>,
    /// The temperature then.
    pub temperature: f64,
}

/// Why a point is where it is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explained {
    /// The point.
    pub id: PointId,
    /// Its current version.
    pub row: Row,
    /// Now, on the memory's time line.
    pub at: Time,
    /// Where it is.
    pub tier: Tier,
    /// Where its bytes are durable: `metadata store`, or `segment 12, partition 3`.
    pub home: String,
    /// Whether it is pinned.
    pub pinned: bool,
    /// Its last moves, latest first: those that are remembered, which are the most recent of all rows up to a fixed number.
    pub moves: Vec<Move>,
    /// Name of the policy that speaks: the live one, or a shadow.
    pub policy: String,
    /// The policy's figures; those of the unit [`Figure::PART`](crate::role::Figure::PART) add up to the row's worth.
    pub standing: Explanation,
    /// The worth at which a row has an even chance to leave or to enter, from the last turn that looked.
    pub threshold: Option<f64>,
    /// The temperature now.
    pub temperature: f64,
    /// Hot bytes over the budget now.
    pub pressure: f64,
    /// Where a shadow would have it, if one speaks that looks at this row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shadow_tier: Option<Tier>,
    /// How the hot tier's size was derived, where `[flux] objective` states what is wanted of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub objective: Option<Sizing>,
    /// What the hot index chose by itself, and why; for a hot point only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<HotChoice>,
    /// What would move it next.
    pub next: Outlook,
}

impl fmt::Display for Move {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let to = match self.to {
            Tier::Hot => "into RAM",
            Tier::Cold => "to the cold store",
        };
        match self.by {
            Mover::Flux => write!(
                f,
                "the scheduler moved it {to} on the verdict of {}",
                self.policy
            )?,
            Mover::Hand => write!(f, "a call moved it {to}")?,
            Mover::NoRoom => write!(f, "it was written straight {to}")?,
        }
        write!(f, ": {}", self.reason)?;
        if let (Some(keep), Some(mid)) = (self.keep, self.midpoint) {
            write!(
                f,
                " (worth {keep:.3}, even chance at {mid:.3}, temperature {:.2})",
                self.temperature
            )?;
        }
        write!(f, ".")
    }
}

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tier = match self.tier {
            Tier::Hot => "hot: it is in the index in RAM",
            Tier::Cold => "cold: it is in the cold store only",
        };
        writeln!(
            f,
            "{} ({:?}) is {tier}; its home is the {}.",
            self.id, self.row, self.home
        )?;
        if let Some(index) = &self.index {
            writeln!(f, "The index is {index}.")?;
        }
        if self.pinned {
            writeln!(f, "It is pinned: it stays in RAM whatever the policy says.")?;
        }
        if self.moves.is_empty() {
            writeln!(f, "No move of it is remembered.")?;
        }
        for made in &self.moves {
            let ago = self.at.seconds_since(made.at);
            writeln!(f, "At {}, {ago:.1} s ago, {made}", made.at)?;
        }
        writeln!(f, "Policy {}: {}", self.policy, self.standing.words)?;
        for figure in &self.standing.figures {
            writeln!(
                f,
                "  {:<20} {:>12.4} {}",
                figure.name, figure.value, figure.unit
            )?;
        }
        match (self.standing.keep, self.threshold) {
            (Some(keep), Some(even)) => {
                writeln!(f, "Worth {keep:.4}, threshold {even:.4} (an even chance).")?;
            }
            (Some(keep), None) => writeln!(f, "Worth {keep:.4}; no threshold was needed yet.")?,
            (None, _) => {}
        }
        if let Some(derived) = &self.objective {
            writeln!(f, "The hot tier is sized for {}:", derived.wanted)?;
            derived
                .steps
                .iter()
                .try_for_each(|step| writeln!(f, "  {step}"))?;
        }
        write!(f, "Next: {}", self.next.words)
    }
}

//! A simulated driver of [`aether_core::migrate`]: a model world in which migrations and user operations are interleaved step by
//! step, in every order, with every outcome of every effect, and with power cuts at every effect, in recovery too.
//!
//! The machines and the recovery plan are the engine's own; stores, RAM and the doing of effects are modelled here, as
//! plain values that are cloned at every choice. After each step the world is checked:
//!
//! 1. Every point is seen by a search exactly once, as the version acknowledged last: no gap, no ghost. A search that began
//!    earlier sees the moment in which it began.
//! 2. Whatever a power cut now would leave names only blobs that are there, and every point has one row with one home.
//! 3. A blob is put only under a durable intent that names it; a started intent is never beside a manifest entry.
//! 4. When all is quiet the hot index holds the directory's rows and no others, what is noted as resident is resident, and no
//!    started intent is left.
//! 5. A search finds the blobs that it reads.
//! 6. After recovery, and after the grace for what was on its way: no orphan and no intent.
//!
//! [`explore`] answers how many states it saw, or the steps that lead to the first broken promise. A [`Bug`] planted into
//! the driver shows that each check can fail.

mod check;
mod steps;
mod world;

use std::collections::HashSet;
use std::fmt;

use aether_core::migrate::Machine;
use aether_core::{BlobKey, Row, SegmentId};

pub use world::{Scenario, Start};

use steps::State;

/// What goes on beside the other things.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Actor {
    /// Points that go into a new segment.
    Demote(Vec<u8>),
    /// Points that leave RAM since a segment holds them.
    Release(Vec<u8>),
    /// Points that come back into RAM.
    Promote(Vec<u8>),
    /// A new version of a point, or a new point, that is hot.
    Upsert(u8),
    /// The same, landing cold.
    Write(u8),
    /// The end of a point.
    Delete(u8),
    /// Every segment becomes one, without what is dead.
    Compact,
    /// Some points go into a segment of their own; what holds others stays.
    CompactSome(Vec<u8>),
    /// One blob that nothing needs goes.
    Sweep,
    /// A search that takes its time.
    Search,
}

/// A mistake planted into the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bug {
    /// None.
    None,
    /// Rows leave RAM when the blob is put, before the commit.
    DropsBeforeCommit,
    /// Rows leave RAM under searches that began before.
    DropsUnderReaders,
    /// Killed rows leave RAM and become dead under searches that began before.
    KillsUnderReaders,
    /// The segment is never shown to searches.
    ForgetsIndex,
    /// After a commit with an unknown outcome the blob is deleted.
    DeletesAfterUnknownCommit,
    /// A put with an unknown outcome is taken for done.
    TrustsUnknownPut,
    /// The blob is put without an intent.
    PutsWithoutIntent,
    /// Rows replaced or deleted during the put get the segment as home all the same.
    ForgetsToLookAgain,
    /// The commit leaves the intent.
    LeavesIntent,
    /// A failed promotion leaves its rows in the index.
    ForgetsUndo,
    /// Residency is shown but never committed.
    ForgetsResidency,
    /// Rows replaced or deleted during the put live on in the compacted segment.
    CompactsTheDead,
    /// A compaction leaves no note of its inputs' blobs.
    ForgetsNotes,
    /// Blobs of inputs go while searches that began before read them.
    SweepsUnderReaders,
    /// Rows that moved on are dead in their former segment for searches that began before, too.
    LessensUnderReaders,
    /// Recovery deletes intents and leaves their blobs.
    RecoversWithoutBlobs,
    /// Recovery leaves the intents.
    RecoversWithoutIntents,
}

impl Bug {
    /// Every mistake.
    pub const ALL: [Bug; 17] = [
        Bug::DropsBeforeCommit,
        Bug::DropsUnderReaders,
        Bug::KillsUnderReaders,
        Bug::ForgetsIndex,
        Bug::DeletesAfterUnknownCommit,
        Bug::TrustsUnknownPut,
        Bug::PutsWithoutIntent,
        Bug::ForgetsToLookAgain,
        Bug::LeavesIntent,
        Bug::ForgetsUndo,
        Bug::ForgetsResidency,
        Bug::CompactsTheDead,
        Bug::ForgetsNotes,
        Bug::SweepsUnderReaders,
        Bug::LessensUnderReaders,
        Bug::RecoversWithoutBlobs,
        Bug::RecoversWithoutIntents,
    ];
}

/// How much may go wrong on one path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Budget {
    /// Effects that fail.
    pub faults: u8,
    /// Power cuts.
    pub crashes: u8,
}

/// What an exploration saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Explored {
    /// Different states, each checked.
    pub states: usize,
    /// Steps taken between them.
    pub steps: usize,
    /// States in which nothing could happen any more.
    pub ends: usize,
}

/// A broken promise and how to get there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// What is wrong.
    pub what: String,
    /// The steps from the beginning.
    pub path: Vec<String>,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\nafter these steps:", self.what)?;
        for (i, step) in self.path.iter().enumerate() {
            writeln!(f, "{:3}. {step}", i + 1)?;
        }
        Ok(())
    }
}

/// Runs every interleaving of a scenario. States that were seen before are not gone into again, so the work is the number of
/// different states, not of paths.
///
/// # Errors
/// The first broken promise, with its steps.
pub fn explore(scenario: &Scenario, budget: Budget, bug: Bug) -> Result<Explored, Broken> {
    let first = State::new(scenario, budget, bug);
    let mut explored = Explored::default();
    let mut seen: HashSet<State> = HashSet::from([first.clone()]);
    // A tree of steps, so that a path is a walk to the root.
    let mut tree: Vec<(usize, String)> = vec![(0, String::new())];
    let path = |tree: &[(usize, String)], mut at: usize| {
        let mut steps = Vec::new();
        while at != 0 {
            steps.push(tree[at].1.clone());
            at = tree[at].0;
        }
        steps.reverse();
        steps
    };
    let mut open = vec![(first, 0)];
    while let Some((state, at)) = open.pop() {
        explored.states += 1;
        if let Err(what) = state.check() {
            let path = path(&tree, at);
            return Err(Broken { what, path });
        }
        let next = state.successors();
        if next.is_empty() {
            explored.ends += 1;
            if let Err(what) = state.check_end() {
                let path = path(&tree, at);
                return Err(Broken { what, path });
            }
        }
        for (label, result) in next {
            explored.steps += 1;
            tree.push((at, label));
            match result {
                Ok(next) => {
                    if seen.insert(next.clone()) {
                        open.push((next, tree.len() - 1));
                    } else {
                        tree.pop();
                    }
                }
                Err(what) => {
                    let path = path(&tree, tree.len() - 1);
                    return Err(Broken { what, path });
                }
            }
        }
    }
    Ok(explored)
}

/// A migration under way: the engine's machine, and what the driver holds beside it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Move {
    machine: Machine,
    effect: aether_core::migrate::Effect,
    /// What it was asked to move.
    rows: Vec<Row>,
    /// What it put into its segment.
    packed: Vec<Row>,
    /// What really moved.
    moved: Vec<Row>,
    target: Option<(SegmentId, BlobKey, u64)>,
    /// For a compaction: where each row was, and the segments that end.
    places: Vec<(Row, SegmentId)>,
    ending: Vec<SegmentId>,
    /// The point that a cold write is about, and what it replaced.
    point: Option<u8>,
    replaced: Option<Killed>,
}

/// A row that was ended, and the segment that was its home.
type Killed = (Row, Option<SegmentId>);

/// A user's write: first its commit, then its publication.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Write {
    point: u8,
    delete: bool,
    /// The new row and the old one, once committed.
    committed: Option<(Option<Row>, Option<Killed>)>,
}

/// What an actor is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Doing {
    /// Not begun.
    Waits(Actor),
    Moves(Move),
    Writes(Write),
    /// A sweep whose blob is gone; its note goes next.
    Sweeps(u64),
    /// A search with the ticket of its begin.
    Searches(world::Moment),
    Done,
}

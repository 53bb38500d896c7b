//! The machine of one migration.

use super::event::{Effect, Event, Failure, Kind, Outcome};
use crate::error::{Error, Result};
use crate::id::{BlobKey, SegmentId};

/// Which effect is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum State {
    Idle,
    Intent,
    Put,
    Look,
    Move,
    Index,
    Retire,
    Drop,
    Insert,
    Residency,
    Show,
    Undo,
    Garbage,
    Finished(Outcome),
}

/// One migration from begin to end. Plain data: cloning it clones the migration's whole state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Machine {
    kind: Kind,
    /// Segment and blob to be written, for the kinds that write one.
    target: Option<(SegmentId, BlobKey)>,
    state: State,
}

impl Machine {
    /// A demotion into a new segment.
    pub fn demote(segment: SegmentId, blob: BlobKey) -> Self {
        Self {
            kind: Kind::Demote,
            target: Some((segment, blob)),
            state: State::Idle,
        }
    }

    /// A write of new rows straight into a segment. `CommitMove` is the user's own batch.
    pub fn write(segment: SegmentId, blob: BlobKey) -> Self {
        Self {
            kind: Kind::Write,
            target: Some((segment, blob)),
            state: State::Idle,
        }
    }

    /// A compaction into a new segment, or into none where no row of its inputs lives.
    pub fn compact(target: Option<(SegmentId, BlobKey)>) -> Self {
        Self {
            kind: Kind::Compact,
            target,
            state: State::Idle,
        }
    }

    /// A demotion of rows whose segment already holds them.
    pub fn release() -> Self {
        Self {
            kind: Kind::Release,
            target: None,
            state: State::Idle,
        }
    }

    /// A promotion.
    pub fn promote() -> Self {
        Self {
            kind: Kind::Promote,
            target: None,
            state: State::Idle,
        }
    }

    /// What is migrated.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The segment that it writes, if it writes one.
    pub fn segment(&self) -> Option<SegmentId> {
        self.target.as_ref().map(|(segment, _)| *segment)
    }

    /// How it ended; `None` while it goes on.
    pub fn outcome(&self) -> Option<Outcome> {
        match self.state {
            State::Finished(outcome) => Some(outcome),
            _ => None,
        }
    }

    /// Takes what happened and answers with the next effect.
    ///
    /// # Errors
    /// `Internal` for an event that cannot happen in this state: the driver is wrong; the state stays.
    pub fn step(&mut self, event: Event) -> Result<Effect> {
        use Failure::{Final, Nothing, Unknown};
        let next = match (self.state, event) {
            (State::Idle, Event::Begin) => match self.kind {
                Kind::Demote | Kind::Write => State::Intent,
                Kind::Release => State::Residency,
                Kind::Promote => State::Insert,
                Kind::Compact if self.target.is_some() => State::Intent,
                Kind::Compact => State::Move,
            },

            (State::Intent, Event::Done) => State::Put,
            (State::Intent, Event::Failed(Nothing)) => State::Finished(Outcome::RolledBack),

            (State::Put, Event::Done) => State::Move,
            (State::Put, Event::Failed(Nothing)) => State::Garbage,
            // The put may have happened, or may still happen later: look, and if in doubt leave it to the sweep.
            (State::Put, Event::Failed(Unknown)) => State::Look,
            (State::Look, Event::Present) => State::Move,
            (State::Look, Event::Absent) => State::Garbage,

            (State::Move, Event::Done) => State::Index,
            (State::Move, Event::Failed(Nothing)) => match self.target {
                Some(_) => State::Garbage,
                None => State::Finished(Outcome::RolledBack),
            },
            (State::Index, Event::Done) => match self.kind {
                Kind::Demote => State::Drop,
                Kind::Compact => State::Retire,
                Kind::Write | Kind::Release | Kind::Promote => State::Finished(Outcome::Completed),
            },
            (State::Drop | State::Retire, Event::Done) => State::Finished(Outcome::Completed),

            (State::Insert, Event::Done) => State::Residency,
            // What was inserted before the failure must not stay.
            (State::Insert, Event::Failed(_)) => State::Undo,
            (State::Residency, Event::Done) => match self.kind {
                Kind::Promote => State::Show,
                Kind::Demote | Kind::Write | Kind::Release | Kind::Compact => State::Drop,
            },
            (State::Residency, Event::Failed(failure)) => match (self.kind, failure) {
                (Kind::Promote, _) => State::Undo,
                (_, Nothing) => State::Finished(Outcome::RolledBack),
                (_, Unknown | Final) => State::Finished(Outcome::Abandoned),
            },
            (State::Show, Event::Done) => State::Finished(Outcome::Completed),
            (State::Undo, Event::Done) => State::Finished(Outcome::RolledBack),

            (State::Garbage, Event::Done) => State::Finished(Outcome::RolledBack),
            // The intent stays, and the next open resolves it.
            (State::Garbage, Event::Failed(_)) => State::Finished(Outcome::Abandoned),

            (State::Intent | State::Move, Event::Failed(Unknown | Final))
            | (State::Put, Event::Failed(Final)) => State::Finished(Outcome::Abandoned),

            (state, event) => {
                return Err(Error::internal(format!(
                    "migration {:?} in state {state:?} cannot take {event:?}",
                    self.kind
                )));
            }
        };
        let effect = self.effect_of(next)?;
        self.state = next;
        Ok(effect)
    }

    fn effect_of(&self, state: State) -> Result<Effect> {
        let target = || {
            self.target.clone().ok_or_else(|| {
                Error::internal(format!("migration {:?} has no segment to write", self.kind))
            })
        };
        Ok(match state {
            State::Idle => {
                return Err(Error::internal(
                    "a migration never returns to its beginning",
                ));
            }
            State::Intent => target().map(|(s, b)| Effect::CommitIntent(s, b))?,
            State::Put => Effect::PutBlob(target()?.1),
            State::Look => Effect::LookBlob(target()?.1),
            State::Move => Effect::CommitMove,
            State::Index => Effect::IndexCold,
            State::Retire => Effect::RetireInputs,
            State::Drop => Effect::DropHot,
            State::Insert => Effect::InsertHot,
            State::Residency => Effect::CommitResidency,
            State::Show => Effect::ShowHot,
            State::Undo => Effect::UndoHot,
            State::Garbage => target().map(|(s, b)| Effect::CommitGarbage(s, b))?,
            State::Finished(outcome) => Effect::Finish(outcome),
        })
    }
}

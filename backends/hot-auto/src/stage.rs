//! Which of the two indexes rows are in, and who may put one into the scan.
//!
//! A search finds each row that was there when it began, since it looks at the stage before it asks the scan and again afterwards:
//!
//! - It sees [`Stage::Many`] at once: then it sees all moves too, for this stage begins after the last of them.
//! - The scan does not hold the row any more: then the row was taken out of it before, and written to the graph before that, and rows are
//!   taken out only after [`Stage::Few`] has ended. The scan has just seen the first of these, so the second look sees the last, and the
//!   graph is asked.
//! - The row was never in the scan: then [`Stage::Few`] had ended before the insertion was done, and the same holds.
//!
//! The scan is empty when it is passed over, and stays so: the stage changes under the door only, and every row that comes into the scan comes
//! through it. What orders all this is here and in `growth`, so that its interleavings can be explored, and what weak memory may show
//! (`tests/schedules`, whose model goes through copies of the steps of `hot_index`). Needed are release and acquire of [`Stage::Many`] alone; that
//! of the other stages could be relaxed, since whoever acts on them has taken a lock of the scan or takes the door.

use super::sync::{AtomicU8, Mutex, MutexGuard, Ordering};

/// Where rows are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// In the scan.
    Few = 0,
    /// In both, each in one; new ones go to the graph.
    Growing = 1,
    /// In the graph.
    Many = 2,
}

/// The stage of an index, and the door to its scan.
#[derive(Debug)]
pub(crate) struct Stages {
    now: AtomicU8,
    door: Mutex<()>,
}

/// Held by each insertion into the scan, so that it never holds more rows than planned, and that none comes in once it is being emptied; and by
/// whoever changes the stage.
#[derive(Debug)]
pub(crate) struct Door<'a> {
    stages: &'a Stages,
    _held: MutexGuard<'a, ()>,
}

impl Stages {
    pub(crate) fn new(stage: Stage) -> Self {
        Self {
            now: AtomicU8::new(stage as u8),
            door: Mutex::new(()),
        }
    }

    /// The stage as of about now. Whoever sees [`Stage::Many`] sees every row in the graph.
    pub(crate) fn now(&self) -> Stage {
        match self.now.load(Ordering::Acquire) {
            0 => Stage::Few,
            1 => Stage::Growing,
            _ => Stage::Many,
        }
    }

    /// Waits for the door.
    pub(crate) fn door(&self) -> Door<'_> {
        Door {
            stages: self,
            _held: self.door.lock(),
        }
    }

    /// Waits for the door while rows may come into the scan; `None` once they may not.
    pub(crate) fn enter(&self) -> Option<Door<'_>> {
        if self.now() != Stage::Few {
            return None;
        }
        let door = self.door();
        // Who held the door before may have ended the stage.
        (self.now() == Stage::Few).then_some(door)
    }

    /// Passes the scan over from now on, unless it holds rows; whether it does so.
    pub(crate) fn finish(&self, is_empty: impl FnOnce() -> bool) -> bool {
        let door = self.door();
        let empty = is_empty();
        if empty {
            door.set(Stage::Many);
        }
        empty
    }

    /// Asks the scan, then the graph, or one of them where that is enough: the first answer, and the graph's if it is the second.
    ///
    /// # Errors
    /// Those of the two.
    pub(crate) fn ask<T, E>(
        &self,
        few: impl FnOnce() -> Result<T, E>,
        many: impl FnOnce() -> Result<T, E>,
    ) -> Result<(T, Option<T>), E> {
        if self.now() == Stage::Many {
            return Ok((many()?, None));
        }
        let scanned = few()?;
        // Looked at after the scan: a row that left the scan before the scan met it is in the graph by now.
        if self.now() == Stage::Few {
            return Ok((scanned, None));
        }
        Ok((scanned, Some(many()?)))
    }
}

impl Door<'_> {
    /// Begins a stage. Before the first row leaves the scan that is [`Stage::Growing`]; [`Stage::Many`] comes after the last.
    pub(crate) fn set(&self, stage: Stage) {
        self.stages.now.store(stage as u8, Ordering::Release);
    }
}

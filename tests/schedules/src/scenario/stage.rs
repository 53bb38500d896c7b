//! The stage of `hot-auto` and the moves of its rows under loom. The two indexes are rows that are there or are not: whoever sees that one is, or that
//! it was taken out, sees what came before that, and nothing else is promised.

use std::io::{Read, Write};

use aether_core::role::{HotCapability, HotIndex, HotStats, Neighbor, SearchOptions};
use aether_core::{Error, Metric, Result, Row};
use loom::sync::Arc;
use loom::thread;

use super::Findings;
use crate::loomed::growth::Growth;
use crate::loomed::stage::{Stage, Stages};
use crate::loomed::sync::{AtomicU32, Ordering, weaken};

pub use crate::loomed::sync::Weakened;

/// The number of the stage in which the scan is passed over: all that is needed of its orderings is said of this one.
pub const MANY: u8 = Stage::Many as u8;

/// A mistake of the index that chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// None.
    Nothing,
    /// Orderings of the stage are relaxed.
    Weak(Weakened),
    /// A search looks at the stage before the scan only.
    LookedTooEarly,
    /// A search asks the graph before the scan.
    GraphFirst,
    /// A row is taken out of the scan before it is in the graph.
    OutBeforeIn,
    /// The scan is passed over before its last row has moved.
    EndedTooEarly,
    /// The scan is passed over without a look behind the door.
    EndedUnasked,
    /// An insertion that waited for the door does not look at the stage again.
    EnteredUnasked,
    /// A removal does not keep its row from moving.
    NotHeld,
}

const ROWS: usize = 3;

const NEVER: u32 = 0;
const THERE: u32 = 1;
const GONE: u32 = 2;

/// An index of rows by number.
#[derive(Debug)]
struct Shelf([AtomicU32; ROWS]);

impl Shelf {
    fn new() -> Self {
        Self(std::array::from_fn(|_| AtomicU32::new(NEVER)))
    }

    fn place(&self, row: Row) -> &AtomicU32 {
        &self.0[row.0 as usize]
    }
}

impl HotIndex for Shelf {
    fn capability(&self) -> HotCapability {
        HotCapability {
            approximate: false,
            exact_read: false,
            snapshot: false,
            dim_max: 1,
            metrics: &Metric::ALL,
        }
    }

    fn insert(&self, row: Row, _: &[f32]) -> Result<()> {
        self.place(row).store(THERE, Ordering::Release);
        Ok(())
    }

    fn remove(&self, row: Row) -> Result<bool> {
        let there = self.contains(row);
        if there {
            self.place(row).store(GONE, Ordering::Release);
        }
        Ok(there)
    }

    fn contains(&self, row: Row) -> bool {
        self.place(row).load(Ordering::Acquire) == THERE
    }

    fn read(&self, row: Row, _: &mut [f32]) -> Result<bool> {
        Ok(self.contains(row))
    }

    fn search(&self, _: &[f32], _: usize, _: &SearchOptions<'_>) -> Result<Vec<Neighbor>> {
        let found = self
            .rows()
            .into_iter()
            .map(|row| Neighbor { row, distance: 0.0 });
        Ok(found.collect())
    }

    fn len(&self) -> usize {
        self.rows().len()
    }

    fn rows(&self) -> Vec<Row> {
        let all = (0..ROWS as u64).map(Row);
        all.filter(|row| self.contains(*row)).collect()
    }

    fn bytes(&self) -> u64 {
        0
    }

    fn bytes_after(&self, _: usize) -> u64 {
        0
    }

    fn compact(&self) -> Result<()> {
        Ok(())
    }

    fn save(&self, _: &mut dyn Write) -> Result<()> {
        Err(Error::unsupported("save"))
    }

    fn load(&self, _: &mut dyn Read) -> Result<()> {
        Err(Error::unsupported("load"))
    }

    fn stats(&self) -> HotStats {
        HotStats::default()
    }
}

/// Both indexes and what is between them, as in `hot_index`. The scan has room for one row.
struct Both {
    few: Shelf,
    many: Shelf,
    stages: Stages,
    growth: Growth,
    planted: Planted,
}

impl Both {
    fn new(planted: Planted) -> Arc<Self> {
        weaken(match planted {
            Planted::Weak(what) => what,
            _ => Weakened::Nothing,
        });
        Arc::new(Self {
            few: Shelf::new(),
            many: Shelf::new(),
            stages: Stages::new(Stage::Few),
            growth: Growth::new(),
            planted,
        })
    }

    fn insert(&self, row: u64) {
        if !self.insert_few(Row(row)) {
            self.insert_many(Row(row));
        }
    }

    fn insert_few(&self, row: Row) -> bool {
        let door = match self.planted {
            Planted::EnteredUnasked => {
                (self.stages.now() == Stage::Few).then(|| self.stages.door())
            }
            _ => self.stages.enter(),
        };
        let Some(door) = door else {
            return false;
        };
        if self.few.len() > 0 {
            door.set(Stage::Growing);
            return false;
        }
        self.few.insert(row, &[0.0]).is_ok()
    }

    fn insert_many(&self, row: Row) {
        if !self.few.contains(row) {
            self.many.insert(row, &[0.0]).expect("there is room");
        }
        self.shift(2);
    }

    fn shift(&self, most: usize) {
        if self.stages.now() != Stage::Growing {
            return;
        }
        if self.planted == Planted::EndedTooEarly {
            self.stages.finish(|| true);
        }
        if self.planted == Planted::OutBeforeIn {
            let moved = self.few.rows();
            for row in &moved {
                self.few.remove(*row).expect("a removal");
            }
            for row in moved {
                self.many.insert(row, &[0.0]).expect("there is room");
            }
        }
        let moved = self.growth.shift(&self.few, &self.many, 1, most, false);
        if moved.expect("there is room") {
            let unasked = self.planted == Planted::EndedUnasked;
            self.stages.finish(|| unasked || self.few.is_empty());
        }
    }

    fn remove(&self, row: u64) {
        let row = Row(row);
        let held = match self.planted {
            Planted::NotHeld => None,
            _ if self.stages.now() == Stage::Many => None,
            _ => Some(self.growth.hold(row)),
        };
        self.few.remove(row).expect("a removal");
        self.many.remove(row).expect("a removal");
        drop(held);
    }

    fn search(&self) -> Vec<u64> {
        let look = |index: &Shelf| index.search(&[0.0], ROWS, &SearchOptions::default());
        let (few, many) = (|| look(&self.few), || look(&self.many));
        let answers = match self.planted {
            Planted::LookedTooEarly if self.stages.now() == Stage::Few => {
                few().map(|found| (found, None))
            }
            Planted::GraphFirst => many().and_then(|found| Ok((found, Some(few()?)))),
            _ => self.stages.ask(few, many),
        };
        let (mut found, more) = answers.expect("an answer");
        found.extend(more.into_iter().flatten());
        found.into_iter().map(|n| n.row.0).collect()
    }

    /// Searches for rows that have been there for long enough.
    fn must_find(&self, rows: &[u64], findings: &Findings) {
        let found = self.search();
        for row in rows {
            findings.note(found.contains(row), || format!("row {row} is not found"));
        }
    }
}

/// Runs one part beside another; what they find is said when both have ended.
fn beside(both: &Arc<Both>, other: fn(&Both, &Findings), own: fn(&Both, &Findings)) {
    let findings = std::sync::Arc::new(Findings::default());
    let thread = {
        let (both, findings) = (both.clone(), findings.clone());
        thread::spawn(move || other(&both, &findings))
    };
    own(both, &findings);
    thread.join().expect("the other part ended");
    findings.say();
}

/// A row moves, and the stage goes from the first to the last, while a search begins: the row is found in whichever index it is.
pub fn a_row_is_found_while_it_moves(planted: Planted) {
    let both = Both::new(planted);
    both.insert(0);
    let search = |both: &Both, findings: &Findings| both.must_find(&[0], findings);
    beside(&both, search, |both, findings| {
        both.insert(1);
        both.must_find(&[0, 1], findings);
    });
    assert_eq!(both.stages.now(), Stage::Many, "all has moved");
}

/// Two insertions come to the door; another finds it shut. Each row is found by who inserted it, and all are in the end, so none came into the scan when it was
/// being emptied.
pub fn no_row_comes_into_a_scan_that_is_being_emptied(planted: Planted) {
    let both = Both::new(planted);
    let insert = |both: &Both, findings: &Findings| {
        both.insert(2);
        both.must_find(&[2], findings);
    };
    beside(&both, insert, |both, findings| {
        both.insert(0);
        both.insert(1);
        both.must_find(&[0, 1], findings);
    });
    // Whatever was left to do when two moved at once.
    both.shift(ROWS);
    let findings = Findings::default();
    both.must_find(&[0, 1, 2], &findings);
    findings.say();
    let stage = both.stages.now();
    let scanned = both.few.len();
    assert!(
        stage != Stage::Many || scanned == 0,
        "passed over: {scanned}"
    );
}

/// A row is removed while it moves.
pub fn a_row_that_was_removed_does_not_come_back(planted: Planted) {
    let both = Both::new(planted);
    both.insert(0);
    let remove = |both: &Both, findings: &Findings| {
        both.remove(0);
        let found = both.search();
        findings.note(!found.contains(&0), || "removed, and found".to_owned());
    };
    beside(&both, remove, |both, findings| {
        both.insert(1);
        both.must_find(&[1], findings);
    });
    assert_eq!(both.search(), [1]);
}

/// Rows come back into the scan of an empty index while the end of a former move is being noted.
pub fn rows_that_are_loaded_are_not_passed_over(planted: Planted) {
    let both = Both::new(planted);
    both.stages.door().set(Stage::Growing);
    let shift = |both: &Both, _: &Findings| both.shift(1);
    beside(&both, shift, |both, findings| {
        let door = both.stages.door();
        door.set(Stage::Growing);
        both.few.insert(Row(0), &[0.0]).expect("there is room");
        drop(door);
        both.must_find(&[0], findings);
    });
    let findings = Findings::default();
    both.must_find(&[0], &findings);
    findings.say();
}

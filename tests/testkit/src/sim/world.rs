//! The model world as plain values: what is on disk, what is in RAM, what is true.

use std::collections::{BTreeMap, BTreeSet};

use aether_core::migrate::Intent;
use aether_core::{BlobKey, Row, SegmentId};

use super::Actor;

/// Where a point of a scenario is at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// In RAM, its home the metadata store.
    Fresh,
    /// In a segment only.
    Cold,
    /// In RAM, its home a segment.
    Resident,
}

/// Points with their places, and what goes on.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Where points 0, 1, ... are.
    pub points: Vec<Start>,
    /// What goes on at once. Each begins when it likes.
    pub actors: Vec<Actor>,
}

/// The home of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Home {
    Meta,
    Segment(SegmentId),
}

/// The metadata store at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Image {
    pub(super) points: BTreeMap<u8, Row>,
    pub(super) homes: BTreeMap<Row, (u8, Home)>,
    pub(super) resident: BTreeSet<Row>,
    pub(super) manifest: BTreeMap<SegmentId, BlobKey>,
    pub(super) dead: BTreeSet<(SegmentId, Row)>,
    pub(super) intents: BTreeMap<u64, Intent>,
}

/// An entry of the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Entry {
    pub(super) point: u8,
    pub(super) leaving: bool,
    pub(super) killed: bool,
}

impl Entry {
    pub(super) fn settled(self) -> bool {
        !self.leaving && !self.killed
    }
}

/// Work that waits for searches that began before.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Deferred {
    Demoted(Vec<Row>),
    Killed(Row, Option<SegmentId>),
    Retired(Vec<BlobKey>),
}

/// Segments that are searched, each with the rows in it that have moved on.
pub(super) type View = BTreeMap<SegmentId, BTreeSet<Row>>;

/// What a process holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Ram {
    pub(super) hot: BTreeSet<Row>,
    pub(super) directory: BTreeMap<Row, Entry>,
    /// Segments that searches see, each with the rows that have moved on to another.
    pub(super) view: View,
    pub(super) dead: BTreeSet<(SegmentId, Row)>,
    pub(super) kills: BTreeMap<Row, u64>,
    pub(super) visible: u64,
    pub(super) deferred: Vec<Deferred>,
    /// Blobs of compacted segments that a search may still read.
    pub(super) held: BTreeSet<BlobKey>,
    /// The actor that holds the writer's lock.
    pub(super) writer: Option<usize>,
    pub(super) poisoned: bool,
}

/// The moment that a search sees.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Moment {
    pub(super) high: u64,
    pub(super) view: View,
    pub(super) truth: BTreeMap<u8, Row>,
}

/// Stores, RAM, and what must be found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct World {
    /// What survives a power cut.
    pub(super) disk: Image,
    /// What it may turn out to be instead: a commit with an unknown outcome happened.
    pub(super) maybe: Option<Image>,
    pub(super) blobs: BTreeMap<BlobKey, BTreeSet<Row>>,
    /// Puts on their way, which may land at any time, or never.
    pub(super) flying: BTreeMap<BlobKey, BTreeSet<Row>>,
    pub(super) rows_of: BTreeMap<SegmentId, BTreeSet<Row>>,
    pub(super) ram: Ram,
    /// What was acknowledged.
    pub(super) truth: BTreeMap<u8, Row>,
    /// What may have happened to a point, and was not acknowledged yet.
    pub(super) doubt: BTreeMap<u8, Option<Row>>,
    /// Numbers handed out; none is used twice, whatever happens.
    pub(super) next: u64,
}

pub(super) fn blob(segment: SegmentId) -> BlobKey {
    match BlobKey::new(format!("segments/{}", segment.0)) {
        Ok(key) => key,
        Err(_) => unreachable!("a prefix and a number are a valid key"),
    }
}

impl World {
    pub(super) fn new(scenario: &Scenario) -> Self {
        let mut world = Self {
            next: 100,
            ..Self::default()
        };
        let segment = SegmentId(1);
        for (point, start) in (0u8..).zip(&scenario.points) {
            let row = Row(u64::from(point) + 1);
            let home = match start {
                Start::Fresh => Home::Meta,
                Start::Cold | Start::Resident => Home::Segment(segment),
            };
            world.disk.points.insert(point, row);
            world.disk.homes.insert(row, (point, home));
            if *start == Start::Resident {
                world.disk.resident.insert(row);
            }
            if home != Home::Meta {
                world.disk.manifest.insert(segment, blob(segment));
                world.blobs.entry(blob(segment)).or_default().insert(row);
                world.rows_of.entry(segment).or_default().insert(row);
            }
        }
        world.truth = world.disk.points.clone();
        world.load();
        world
    }

    pub(super) fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Builds RAM from what is on disk, as an open does after recovery.
    pub(super) fn load(&mut self) {
        let mut ram = Ram {
            visible: self.next,
            ..Ram::default()
        };
        for (row, (point, home)) in &self.disk.homes {
            if *home == Home::Meta || self.disk.resident.contains(row) {
                ram.hot.insert(*row);
                let (point, leaving, killed) = (*point, false, false);
                let entry = Entry {
                    point,
                    leaving,
                    killed,
                };
                ram.directory.insert(*row, entry);
            }
        }
        let none = |s: &SegmentId| (*s, BTreeSet::new());
        ram.view = self.disk.manifest.keys().map(none).collect();
        ram.dead = self.disk.dead.clone();
        self.ram = ram;
    }

    /// The power is gone: RAM with it. What was in doubt is what is on disk, `happened` or not.
    pub(super) fn crash(&mut self, happened: bool) {
        if let Some(image) = self.maybe.take()
            && happened
        {
            self.disk = image;
        }
        for (point, after) in std::mem::take(&mut self.doubt) {
            // All of an operation or nothing: the row on disk says which.
            if self.disk.points.get(&point).copied() == after {
                match after {
                    Some(row) => drop(self.truth.insert(point, row)),
                    None => drop(self.truth.remove(&point)),
                }
            }
        }
        self.ram = Ram::default();
    }

    /// Defers work until the searches of now are gone; does it at once where there are none.
    pub(super) fn defer(&mut self, work: Deferred, readers: bool) {
        if readers {
            self.ram.deferred.push(work);
        } else {
            self.reap(work);
        }
    }

    pub(super) fn reap(&mut self, work: Deferred) {
        match work {
            Deferred::Demoted(rows) => {
                for row in rows {
                    self.ram.hot.remove(&row);
                    self.ram.directory.remove(&row);
                }
            }
            Deferred::Retired(blobs) => {
                for blob in &blobs {
                    self.ram.held.remove(blob);
                }
            }
            Deferred::Killed(row, segment) => {
                self.ram.dead.extend(segment.map(|s| (s, row)));
                self.ram.hot.remove(&row);
                self.ram.directory.remove(&row);
                self.ram.kills.remove(&row);
            }
        }
    }

    /// What a search that sees a moment finds: each row once, with the point that it is a version of.
    pub(super) fn found(&self, high: u64, view: &View) -> BTreeSet<Row> {
        let ram = &self.ram;
        let dead = |row: Row| ram.kills.get(&row).is_some_and(|mark| *mark <= high);
        let sees = |row: &Row| row.0 <= high && !dead(*row);
        let hot = ram.hot.iter().filter(|r| ram.directory.contains_key(r));
        let mut found: BTreeSet<Row> = hot.copied().filter(sees).collect();
        for (segment, gone) in view {
            let rows = self.rows_of.get(segment).into_iter().flatten().copied();
            let here = |r: &Row| !gone.contains(r) && !ram.dead.contains(&(*segment, *r));
            found.extend(rows.filter(|r| sees(r) && here(r)));
        }
        found
    }
}

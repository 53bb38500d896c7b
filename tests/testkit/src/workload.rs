//! Seeded streams of operations on a memory, skewed as real use is: few points are used often, most seldom.

use std::ops::Range;
use std::time::Duration;

use aether_core::config::SearchMode;
use aether_core::{Point, PointId};
use fastrand::Rng;

use crate::strategy;

/// One thing that a user, a clock or a power cut does.
#[derive(Clone, Debug)]
pub enum Op {
    /// Write points; each id once.
    Upsert(Vec<Point>),
    /// Delete points, some of which may not exist.
    Delete(Vec<PointId>),
    /// Get one point.
    Get(PointId),
    /// Search.
    Search {
        /// The query.
        query: Vec<f32>,
        /// How many answers at most.
        k: usize,
        /// How far to go.
        mode: SearchMode,
        /// Only rows whose number leaves this remainder when divided by three.
        filter: Option<u64>,
        /// Whether to ask for vectors and payloads.
        parts: bool,
    },
    /// Judge an answer.
    Feedback(PointId, f32),
    /// Pin or unpin.
    Pin(Vec<PointId>, bool),
    /// Move to the cold store.
    Demote(Vec<PointId>),
    /// Move into RAM; an id may be named twice.
    Promote(Vec<PointId>),
    /// A turn of the scheduler.
    Tick,
    /// Set the temperature.
    Temperature(f64),
    /// Reclaim what removed rows left in the hot index.
    Compact,
    /// Copy the memory into a folder.
    Snapshot,
    /// Let time pass.
    Advance(Duration),
    /// Close and open again.
    Reopen,
    /// Pull the plug at a call of a store, so many from now.
    Crash {
        /// Calls from now, from 1.
        calls: u64,
        /// Whether that call still has its effect.
        after: bool,
        /// How many of the commits that are not durable survive, if there are so many.
        keep: usize,
        /// Pull it again so many calls into the reopening.
        again: Option<u64>,
    },
}

impl Op {
    /// Its name, in a word.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Upsert(_) => "upsert",
            Self::Delete(_) => "delete",
            Self::Get(_) => "get",
            Self::Search { .. } => "search",
            Self::Feedback(..) => "feedback",
            Self::Pin(..) => "pin",
            Self::Demote(_) => "demote",
            Self::Promote(_) => "promote",
            Self::Tick => "tick",
            Self::Temperature(_) => "temperature",
            Self::Compact => "compact",
            Self::Snapshot => "snapshot",
            Self::Advance(_) => "advance",
            Self::Reopen => "reopen",
            Self::Crash { .. } => "crash",
        }
    }
}

/// What a workload is made of.
#[derive(Clone, Copy, Debug)]
pub struct Profile {
    /// Dimension of vectors and queries.
    pub dim: usize,
    /// Ids in the pool.
    pub ids: u64,
    /// Largest batch.
    pub batch: usize,
    /// One in so many operations is a crash; 0 for none.
    pub crash_every: u32,
}

/// An endless stream of operations.
#[derive(Debug)]
pub struct Workload {
    rng: Rng,
    profile: Profile,
}

impl Workload {
    /// The stream of a seed.
    pub fn new(seed: u64, profile: Profile) -> Self {
        Self {
            rng: Rng::with_seed(seed),
            profile,
        }
    }

    /// An id of the pool: the cube of a uniform draw, so that a tenth of the ids gets nearly half of the use.
    pub fn id(&mut self) -> PointId {
        let x = self.rng.f64();
        strategy::id((x * x * x * self.profile.ids as f64) as u64)
    }

    /// Up to `most` ids, each once.
    fn ids(&mut self, most: usize) -> Vec<PointId> {
        let n = self.rng.usize(1..=most);
        let mut ids: Vec<PointId> = (0..n).map(|_| self.id()).collect();
        ids.sort();
        ids.dedup();
        ids
    }

    fn upsert(&mut self) -> Op {
        let most = if self.rng.u8(..4) == 0 {
            self.profile.batch
        } else {
            3
        };
        let (ids, dim) = (self.ids(most), self.profile.dim);
        let rng = &mut self.rng;
        let points = ids.into_iter().map(|id| {
            let mut point = strategy::point(rng, id, dim);
            if rng.u8(..8) == 0 {
                let lifetime = Duration::from_secs(rng.u64(1..300));
                point = point.with_ttl(lifetime, rng.bool());
            }
            point
        });
        Op::Upsert(points.collect())
    }

    fn search(&mut self) -> Op {
        let rng = &mut self.rng;
        Op::Search {
            query: strategy::vector(rng, self.profile.dim),
            k: [1, 3, 10, 40][rng.usize(..4)],
            mode: SearchMode::ALL[rng.choice([0, 1, 2, 2, 2]).unwrap_or(2)],
            filter: (rng.u8(..3) == 0).then(|| rng.u64(..3)),
            parts: rng.u8(..4) == 0,
        }
    }

    /// The next operation.
    pub fn next_op(&mut self) -> Op {
        let crash_every = self.profile.crash_every;
        if crash_every > 0 && self.rng.u32(..crash_every) == 0 {
            return Op::Crash {
                calls: self.rng.u64(1..60),
                after: self.rng.bool(),
                keep: self.rng.usize(..3),
                again: (self.rng.u8(..3) == 0).then(|| self.rng.u64(1..25)),
            };
        }
        let batch = self.profile.batch;
        match self.rng.u8(..100) {
            0..24 => self.upsert(),
            24..31 => Op::Delete(self.ids(4)),
            31..43 => Op::Get(self.id()),
            43..65 => self.search(),
            65..68 => Op::Feedback(self.id(), self.rng.f32()),
            68..70 => Op::Pin(self.ids(2), true),
            70..74 => Op::Pin(self.ids(4), false),
            74..82 => Op::Demote(self.ids(batch)),
            82..88 => {
                let mut ids = self.ids(batch);
                if self.rng.bool() {
                    ids.push(ids[0].clone());
                }
                Op::Promote(ids)
            }
            88..94 => Op::Tick,
            94 => Op::Temperature(self.rng.f64() * 4.0),
            95 => Op::Compact,
            96..98 => Op::Advance(Duration::from_millis(self.rng.u64(..20_000))),
            98 => Op::Snapshot,
            _ => Op::Reopen,
        }
    }
}

/// Dimension of the vectors of [`every_kind`].
pub const EVERY_DIM: usize = 8;

fn some(range: Range<u64>, seed: u64) -> Vec<Point> {
    let mut rng = Rng::with_seed(seed);
    let point = |i| {
        let point = strategy::point(&mut rng, strategy::id(i), EVERY_DIM);
        match i % 7 {
            3 => point.with_ttl(Duration::from_secs(40), false),
            5 => point.with_ttl(Duration::from_secs(40), true),
            _ => point,
        }
    };
    range.map(point).collect()
}

fn all(range: Range<u64>) -> Vec<PointId> {
    range.map(strategy::id).collect()
}

/// Points in one corner.
fn near(range: Range<u64>, seed: u64) -> Vec<Point> {
    let mut rng = Rng::with_seed(seed);
    let point = |i| {
        let vector: Vec<f32> = (0..EVERY_DIM).map(|_| 3.0 + rng.f32()).collect();
        Point::new(strategy::id(i), vector)
    };
    range.map(point).collect()
}

/// Every kind of write and of move, each at least once with something under it that changed: what tests cut or break at each of its
/// calls. Ids below 250, vectors of [`EVERY_DIM`]; a hot tier of about a hundred rows and segments of 4 KiB make it do all of that.
pub fn every_kind() -> Vec<Op> {
    let search = |seed| Op::Search {
        query: strategy::vector(&mut Rng::with_seed(seed), EVERY_DIM),
        k: 7,
        mode: SearchMode::Complete,
        filter: None,
        parts: true,
    };
    vec![
        Op::Upsert(some(0..20, 1)),
        Op::Demote(all(0..15)),
        Op::Upsert(some(10..30, 2)),
        Op::Delete(all(0..4)),
        Op::Promote(all(4..9)),
        search(3),
        Op::Demote(all(4..9)),
        Op::Pin(all(20..22), true),
        // More than the hot tier has room for: rows are made to leave.
        Op::Upsert(some(100..180, 4)),
        Op::Tick,
        search(5),
        Op::Advance(Duration::from_secs(6)),
        Op::Tick,
        Op::Compact,
        Op::Delete(all(100..110)),
        Op::Upsert(some(110..115, 6)),
        Op::Advance(Duration::from_secs(36)),
        Op::Tick,
        Op::Reopen,
        Op::Promote(all(120..124)),
        Op::Compact,
        Op::Advance(Duration::from_secs(5)),
        Op::Tick,
        Op::Pin(all(20..21), false),
        search(7),
        // The hot tier is full of what may not leave it: new rows land cold.
        Op::Promote(all(110..180)),
        Op::Pin(all(100..180), true),
        Op::Upsert(some(250..310, 10)),
        Op::Upsert(some(300..302, 11)),
        Op::Pin(all(100..180), false),
        // A cluster that grows beyond its partition, and shrinks again.
        Op::Upsert(near(200..250, 8)),
        Op::Demote(all(200..250)),
        Op::Compact,
        Op::Snapshot,
        search(9),
        Op::Delete(all(204..250)),
        Op::Compact,
        search(11),
    ]
}

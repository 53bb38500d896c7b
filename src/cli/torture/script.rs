//! What a child does, as a pure function of seed, worker and number: the parent knows every operation without being told.

use std::fmt;
use std::path::Path;

use aether::config::ByteSize;
use aether::{Config, Metric, Point, PointId, Result};
use serde_json::{Value, json};

const DIM: usize = 16;
/// Room for a part of the points only.
const HOT_BUDGET: ByteSize = ByteSize(192 << 10);
pub(super) const WORKERS: u64 = 3;
/// Points that one worker plays with. No two workers share one, so that the order of operations on a point is known.
pub(super) const PLACES: u64 = 250;

/// The number of a point; its id is [`id_of`].
pub(super) type Place = u64;
/// What a point holds, all of which follows from this number.
pub(super) type Version = u64;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Op {
    Upsert(Vec<(Place, Version)>),
    Delete(Vec<Place>),
    Demote(Vec<Place>),
    Promote(Vec<Place>),
    Pin(Vec<Place>),
    Unpin(Vec<Place>),
    Get(Vec<Place>),
    Search(Version),
    Tick,
    Compact,
}

impl Op {
    /// What the places it writes hold afterwards; empty for an operation that changes no point.
    pub(super) fn effect(&self) -> Vec<(Place, Option<Version>)> {
        match self {
            Self::Upsert(writes) => writes.iter().map(|(p, v)| (*p, Some(*v))).collect(),
            Self::Delete(places) => places.iter().map(|p| (*p, None)).collect(),
            _ => Vec::new(),
        }
    }
}

/// The operation with this number of a worker.
pub(super) fn operation(seed: u64, worker: u64, number: u64) -> Op {
    let mut rng = fastrand::Rng::with_seed(mix(&[seed, worker, number]));
    let mut places = |most: usize| {
        let mut places: Vec<Place> = (0..rng.usize(1..=most))
            .map(|_| worker * PLACES + rng.u64(0..PLACES))
            .collect();
        places.sort_unstable();
        places.dedup();
        places
    };
    let mut some = places(24);
    let version = |p: Place| mix(&[seed, worker, number, p]);
    match fastrand::Rng::with_seed(mix(&[number, worker, seed, 1])).u32(0..100) {
        0..30 => Op::Upsert(some.into_iter().map(|p| (p, version(p))).collect()),
        30..42 => Op::Delete(some),
        42..58 => Op::Demote(some),
        58..70 => Op::Promote(some),
        70..73 => {
            some.truncate(3);
            Op::Pin(some)
        }
        73..77 => {
            // All that this worker may have pinned.
            let all = worker * PLACES..(worker + 1) * PLACES;
            Op::Unpin(all.collect())
        }
        77..85 => Op::Get(some),
        85..92 => Op::Search(version(0)),
        92..98 => Op::Tick,
        _ => Op::Compact,
    }
}

/// Integers, texts and UUIDs in turn.
pub(super) fn id_of(place: Place) -> PointId {
    match place % 4 {
        0 => PointId::from(format!("a text of more than a few bytes, number {place}")),
        1 => PointId::from(uuid::Uuid::from_u128(u128::from(place) << 64 | 0xae)),
        _ => PointId::Int(place),
    }
}

pub(super) fn vector_of(version: Version) -> Vec<f32> {
    let mut rng = fastrand::Rng::with_seed(version);
    (0..DIM).map(|_| rng.f32() - 0.5).collect()
}

/// A quarter of all versions has none; the others differ in length.
pub(super) fn payload_of(version: Version) -> Option<Value> {
    let text = "all work and no play ".repeat((version % 7) as usize);
    (!version.is_multiple_of(4)).then(|| json!({ "version": version, "text": text }))
}

pub(super) fn point_of(place: Place, version: Version) -> Point {
    let mut point = Point::new(id_of(place), vector_of(version));
    point.payload = payload_of(version);
    point
}

/// The settings of a memory under torture: the budget holds a part of the points only, and the scheduler turns all the time.
pub(super) const SETTINGS: &str = r#"
[memory]
insert_wait = "20ms"
flush_every = "200ms"
[flux]
tick = "10ms"
batch_rows = 64
restore_backoff = "5ms"
[search]
partition_rows = 16
[hot]
backend = "flat"
[meta]
backend = "redb"
cache = "4MiB"
[cold]
backend = "file"
[codec]
backend = "zstd"
[policy]
backend = "flux"
"#;

/// Sets what the script depends on, whatever the settings come from.
pub(super) fn fit(config: &mut Config, folder: &Path) -> Result<()> {
    let memory = &mut config.memory;
    memory.path = folder.to_owned();
    memory.dim = DIM;
    memory.metric = Metric::L2;
    memory.hot_budget = HOT_BUDGET;
    config.validate()
}

/// One number of many, spread over all 64 bits (splitmix64).
pub(super) fn mix(numbers: &[u64]) -> u64 {
    numbers.iter().fold(0x9E37_79B9_7F4A_7C15, |sum, n| {
        let mut z = (sum ^ n).wrapping_add(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    })
}

/// What a child tells its parent, one line each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// The memory is open.
    Opened,
    /// The memory cannot be opened, for want of room or of a store.
    Refused,
    /// Worker, number: it was begun.
    Begun(u64, u64),
    /// Worker, number: it was acknowledged.
    Done(u64, u64),
    /// Worker, number: it failed, for want of room or of a store; nobody knows whether it happened.
    Failed(u64, u64),
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Opened => writeln!(f, "opened"),
            Self::Refused => writeln!(f, "refused"),
            Self::Begun(worker, number) => writeln!(f, "begun {worker} {number}"),
            Self::Done(worker, number) => writeln!(f, "done {worker} {number}"),
            Self::Failed(worker, number) => writeln!(f, "failed {worker} {number}"),
        }
    }
}

impl Line {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let verb = words.next()?;
        match verb {
            "opened" => return Some(Self::Opened),
            "refused" => return Some(Self::Refused),
            _ => {}
        }
        let (worker, number) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        match verb {
            "begun" => Some(Self::Begun(worker, number)),
            "done" => Some(Self::Done(worker, number)),
            "failed" => Some(Self::Failed(worker, number)),
            _ => None,
        }
    }
}

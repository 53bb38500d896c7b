//! Every bit of a sample of every kind of file that a memory writes, flipped in turn: opening, reading or `check` finds it, or all answers are
//! as before. Never a wrong answer, never a panic.
//!
//! A sample is 4 KiB, or the whole of a kind that is smaller; `AETHER_FLIPS_KIB=64` makes it larger, and the files with it. Each bit gets a memory
//! of its own, opened by the real stores on files in RAM; an even choice of bits is flipped in files of this machine too.
//! `AETHER_FLIPS=n` takes about `n` bits of each sample.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

#[path = "flips/ram.rs"]
mod ram;
#[path = "flips/sweep.rs"]
mod sweep;
#[path = "flips/world.rs"]
mod world;
mod written;

use std::path::Path;
use std::sync::Arc;

use aether::config::Slot;
use aether::vector::Shape;
use aether::{BlockingMemory, BuildContext, ManualClock, Metric, Recording, Role, Row};
use aether_testkit::env::every;
use sweep::{Found, Swept, sample_bytes, spread, sweep};
use world::{Place, Source, World};
use written::{DIM, vector_of};

/// Every bit.
const ALL: usize = usize::MAX;
/// Bits of a hot snapshot in an engine, or with `AETHER_EVERY=1` every one.
const IN_AN_ENGINE: usize = 3_000;
/// Bits of each file on this machine's file system.
const SOME: usize = 60;

/// Sweeps all files of a kind: the first whole, as far as the sample goes, and of the next what is left of it.
fn sweep_files(world: &World, end: &str, most: usize) -> Swept {
    let (mut swept, mut left) = (Swept::default(), sample_bytes());
    for (path, good) in world.files(end) {
        let places: Vec<usize> = (0..good.len()).collect();
        let sample = spread(&places, left);
        left -= sample.len();
        let begin = || {
            let twin = world.twin();
            let path = path.clone();
            move |bad: &[u8]| twin.probe(&path, bad)
        };
        swept.add(sweep(&good, &sample, most, begin));
    }
    assert!(swept.bytes > 0, "no file ends in {end}");
    swept
}

/// A memory whose metadata are in a store in RAM, for kinds that have nothing to do with them.
fn without_redb(source: Source, hot: &'static str, place: Place) -> World {
    World::of_memory(source, hot, place).with_meta_in_ram()
}

fn judge_segments(swept: &Swept, kind: &str) {
    swept.judge(kind);
    // One that cannot be opened is marked as lost, and refuses nothing.
    assert_eq!(swept.refused, 0);
    assert!(swept.marked > 0 && swept.by_check > 0);
    // What no reader looks at, `check` does: no bit of a segment is outside of its seals.
    assert_eq!(swept.harmless, 0);
}

#[test]
fn segments() {
    let world = without_redb(Source::current("memory"), "flat", Place::Ram);
    judge_segments(&sweep_files(&world, ".seg", ALL), "segments, version 2");
}

#[test]
fn segments_of_version_1() {
    let world = without_redb(Source::golden("memory-v1"), "flat", Place::Ram);
    judge_segments(&sweep_files(&world, ".seg", ALL), "segments, version 1");
}

#[test]
fn locks() {
    // They hold a process's number for people to read.
    for (kind, end) in [("memory's lock", "/LOCK"), ("store's lock", "/.lock")] {
        let world = without_redb(Source::golden("memory-v2"), "flat", Place::Machine);
        let swept = sweep_files(&world, end, ALL);
        swept.judge(kind);
        assert_eq!(swept.harmless, swept.flipped);
    }
}

#[test]
fn the_mark_of_a_store() {
    // Its name says whose the store is, and what it holds is for people to read.
    let world = without_redb(Source::current("memory"), "flat", Place::Ram);
    let (mut swept, mut marks) = (Swept::default(), 0);
    for (path, _) in world.files("") {
        let name = path.file_name().unwrap_or_default();
        if name.as_encoded_bytes().starts_with(b"owner") {
            marks += 1;
            swept.add(sweep_files(&world, &path.display().to_string(), ALL));
        }
    }
    assert_eq!(marks, 1);
    swept.judge("store's mark");
    assert_eq!(swept.harmless, swept.flipped);
}

#[test]
fn hot_snapshots_of_flat_as_the_engine_takes_them() {
    hot_snapshots_in_an_engine("flat");
}

#[test]
fn hot_snapshots_of_hnsw_as_the_engine_takes_them() {
    hot_snapshots_in_an_engine("hnsw");
}

fn hot_snapshots_in_an_engine(hot: &'static str) {
    let world = without_redb(Source::current("memory"), hot, Place::Ram);
    // What the index refuses costs a graph made anew; the index itself is given every bit, below.
    let most = if every() { ALL } else { IN_AN_ENGINE };
    let swept = sweep_files(&world, "/hot.snapshot", most);
    swept.judge(&format!("hot snapshot of {hot}, in an engine"));
    // A damaged one is not used: the index is built anew, and answers as before.
    assert_eq!(swept.harmless, swept.flipped);
}

/// The same through the files of this machine.
#[test]
fn files_of_this_machine() {
    for (source, hot, end) in [
        ("memory-v2", "flat", ".seg"),
        ("memory-v1", "flat", ".seg"),
        ("memory-v2", "flat", "/hot.snapshot"),
        ("memory-v2", "hnsw", "/hot.snapshot"),
    ] {
        let world = without_redb(Source::golden(source), hot, Place::Machine);
        let swept = sweep_files(&world, end, SOME);
        swept.judge(&format!("{source} with {hot}, {end} on this machine"));
        match end {
            ".seg" => assert_eq!(swept.harmless, 0),
            _ => assert_eq!(swept.harmless, swept.flipped),
        }
    }
    let world = World::of_memory(Source::golden("memory-v2"), "flat", Place::Machine);
    let swept = sweep_redb(&world, SOME);
    swept.judge("redb file on this machine");
    assert!(swept.refused > 0);
    for end in ["/meta.aether", ".seg"] {
        let world = World::of_snapshot(Source::golden("snapshot-v2"), Place::Machine);
        let swept = sweep_snapshot(&world, end, SOME);
        swept.judge(&format!("snapshot's {end} on this machine"));
        assert_eq!(swept.harmless, 0, "every byte is sealed");
    }
}

/// What no checksum finds, but the watermark: a file that is whole and older than the others. Were it not told from the right one where
/// there is no watermark, the sweep could not fail.
#[test]
fn a_planted_stale_file_is_a_wrong_answer() {
    for place in [Place::Machine, Place::Ram] {
        let world = World::of_memory(Source::golden("memory-v2"), "flat", place);
        let [(path, old)] = &world.files("/meta.redb")[..] else {
            panic!("expected one metadata file");
        };
        let newer = world.without(&written::id_of(80));
        assert_eq!(newer.probe(path, old), Ok(Found::Refused));
        let unmarked = newer.without_file("meta.redb.watermark");
        for world in [unmarked.twin(), unmarked] {
            let probed = world.probe(path, old);
            let wrong = probed.as_ref().is_err_and(|e| e.contains("expected ["));
            assert!(wrong, "{place:?}: {probed:?}");
        }
    }
    let begin = || {
        |bad: &[u8]| match bad {
            [0, 0] => Ok(Found::Harmless),
            [1, _] => panic!("planted too"),
            _ => Err("planted".to_owned()),
        }
    };
    let swept = sweep(&[0, 0], &[0, 1], ALL, begin);
    assert_eq!((swept.flipped, swept.harmless), (16, 0));
    let judged = std::panic::catch_unwind(|| swept.judge("planted"));
    let said = judged.expect_err("the sweep passes over wrong answers");
    let said = said.downcast_ref::<String>().unwrap();
    assert!(said.contains("16 wrong") && said.contains("a panic: planted too"));
}

fn context() -> BuildContext {
    BuildContext {
        dim: DIM,
        metric: Metric::L2,
        data_dir: None,
        clock: Arc::new(ManualClock::new()),
        seed: 1,
        read_only: false,
        hot_budget: None,
        registry: Arc::new(aether::registry().unwrap()),
    }
}

#[test]
fn hot_snapshots_as_the_index_takes_them() {
    // So many that either's snapshot fills a sample.
    let rows = 200 * (sample_bytes() as u64 / 4096).max(1);
    let vectors: Vec<f32> = (0..rows).flat_map(vector_of).collect();
    let shape = Shape {
        rows: rows as usize,
        dim: DIM,
    };
    let rows: Vec<Row> = (0..rows).map(Row).collect();
    for name in ["flat", "hnsw", "auto"] {
        let slot = Slot::named(Role::Hot, name);
        let full = context().registry.hot(&slot, &context()).unwrap();
        full.insert_batch(&rows, &vectors).unwrap();
        let mut good = Vec::new();
        full.save(&mut good).unwrap();
        let holds = |index: &dyn aether::role::HotIndex| {
            let mut out = vec![0.0; shape.len()];
            let read = out.chunks_mut(DIM).zip(&rows);
            let all = read.fold(true, |all, (out, row)| all & index.read(*row, out).unwrap());
            all && out == vectors
        };
        let load = |context: &BuildContext, bad: &[u8]| {
            let index = context.registry.hot(&slot, context).unwrap();
            match index.load(&mut &bad[..]) {
                Err(error) if error.is_corrupt() || error.is_unsupported() => match index.len() {
                    0 => Ok(Found::Refused),
                    n => Err(format!("refused, and {n} rows are there")),
                },
                Err(error) => Err(format!("an error of the wrong kind: {error}")),
                Ok(()) if holds(&*index) => Ok(Found::Harmless),
                Ok(()) => Err("other vectors than were saved".to_owned()),
            }
        };
        let places: Vec<usize> = (0..good.len()).collect();
        assert!(good.len() >= sample_bytes(), "{} bytes", good.len());
        let sample = spread(&places, sample_bytes());
        let swept = sweep(&good, &sample, ALL, || {
            let context = context();
            move |bad: &[u8]| load(&context, bad)
        });
        swept.judge(&format!("hot snapshot of {name}"));
        assert_eq!(swept.refused, swept.flipped, "every byte is sealed");
    }
}

/// Length of what redb's file begins with.
const HEADER: usize = 512;

/// The header, and a sample of all that is something, spread over the pages: of redb's smallest file, a megabyte, nearly all is zero and free.
fn sweep_redb(world: &World, most: usize) -> Swept {
    sweep_some_of_redb(world, sample_bytes(), most)
}

fn sweep_some_of_redb(world: &World, pages: usize, most: usize) -> Swept {
    let [(path, good)] = &world.files("/meta.redb")[..] else {
        panic!("expected one metadata file");
    };
    let something = (HEADER..good.len()).filter(|at| good[*at] != 0);
    let mut sample: Vec<usize> = (0..HEADER).collect();
    sample.extend(spread(&something.collect::<Vec<_>>(), pages));
    sweep(good, &sample, most, || {
        let (twin, path) = (world.twin(), path.clone());
        move |bad: &[u8]| twin.probe(&path, bad)
    })
}

#[test]
fn metadata_of_redb() {
    let world = World::of_memory(Source::current("memory"), "flat", Place::Ram);
    let swept = sweep_redb(&world, ALL);
    swept.judge("redb file");
    assert!(swept.refused > 0);
    watermark(&world);
}

/// Of a process that was killed, whose header says which of two roots is the newer.
#[test]
fn metadata_of_redb_of_a_killed_process() {
    let world = World::of_memory(Source::golden("memory-v2"), "flat", Place::Ram);
    let world = world.killed_after(&written::id_of(80));
    let swept = sweep_some_of_redb(&world, 512, ALL);
    swept.judge("redb file of a killed process");
    assert!(swept.refused > 0);
    watermark(&world);
    // Without the watermark the older root is a wrong answer that nothing tells of.
    let [(path, good)] = &world.files("/meta.redb")[..] else {
        panic!("expected one metadata file");
    };
    let mut older = good.clone();
    older[9] ^= 1;
    assert_eq!(world.probe(path, &older), Ok(Found::Refused));
    let unmarked = world.without_file("meta.redb.watermark");
    let probed = unmarked.probe(path, &older);
    assert!(
        probed.as_ref().is_err_and(|e| e.contains("expected")),
        "{probed:?}"
    );
}

/// A watermark that is damaged says nothing.
fn watermark(world: &World) {
    let swept = sweep_files(world, "/meta.redb.watermark", ALL);
    swept.judge("watermark of redb");
    assert_eq!(swept.harmless, swept.flipped);
}

/// Sweeps the files of a snapshot whose path ends so.
fn sweep_snapshot(world: &World, end: &str, most: usize) -> Swept {
    let (mut swept, mut left) = (Swept::default(), sample_bytes());
    for (path, good) in world.snapshot_files(end) {
        let places: Vec<usize> = (0..good.len()).collect();
        let sample = spread(&places, left);
        left -= sample.len();
        swept.add(sweep(&good, &sample, most, || {
            let (twin, path) = (world.twin(), path.clone());
            move |bad: &[u8]| twin.probe_restored(&path, bad)
        }));
    }
    assert!(swept.bytes > 0, "no file ends in {end}");
    swept
}

#[test]
fn tables_of_a_snapshot() {
    let world = World::of_snapshot(Source::current("snapshot"), Place::Ram);
    let swept = sweep_snapshot(&world, "/meta.aether", ALL);
    swept.judge("snapshot's tables");
    assert_eq!(swept.refused, swept.flipped, "every byte is sealed");
}

#[test]
fn segments_of_a_snapshot() {
    let world = World::of_snapshot(Source::current("snapshot"), Place::Ram);
    judge_segments(&sweep_snapshot(&world, ".seg", ALL), "snapshot's segments");
}

#[test]
fn the_mark_of_a_snapshot() {
    let world = World::of_snapshot(Source::golden("snapshot-v2"), Place::Machine);
    let swept = sweep_snapshot(&world, "/DONE", ALL);
    swept.judge("snapshot's mark");
    assert_eq!(swept.harmless, swept.flipped);
}

/// The recording of accesses, as many as fit and more, so that the ring has been around.
fn recording(path: &Path) {
    let toml = format!(
        "[memory]\ndim = {DIM}\nmetric = \"l2\"\n[flux]\ntick = \"0s\"\n[hot]\nbackend = \"flat\"\n[meta]\nbackend = \"memory\"\n\
         [cold]\nbackend = \"memory\"\n[record]\npath = {path:?}\nmax_bytes = {:?}\n",
        format!("{}KiB", sample_bytes() >> 10)
    );
    let config = aether::Config::from_toml(&toml).unwrap();
    let memory: BlockingMemory = aether::open_blocking(config).unwrap();
    for i in 0..sample_bytes() as u64 / 20 {
        let point = aether::Point::new(i, vector_of(i));
        memory.upsert(vec![point]).unwrap();
    }
    memory.close().unwrap();
}

#[test]
fn recordings() {
    let folder = world::folder();
    let path = folder.path().join("accesses");
    recording(&path);
    let good = std::fs::read(&path).unwrap();
    let read = |path: &Path| -> aether::Result<Vec<_>> {
        let mut recording = Recording::open(path)?;
        std::iter::from_fn(|| recording.read().transpose()).collect()
    };
    let truth = read(&path).unwrap();
    assert!(
        truth.len() * 44 > sample_bytes() && good.len() >= sample_bytes(),
        "{} records in {} bytes",
        truth.len(),
        good.len()
    );
    let probe = |path: &Path, bad: &[u8]| {
        std::fs::write(path, bad).unwrap();
        match read(path) {
            Err(error) if error.is_corrupt() => Ok(Found::Refused),
            Err(error) => Err(format!("an error of the wrong kind: {error}")),
            Ok(records) if records == truth => Ok(Found::Harmless),
            // A record whose checksum is wrong counts as cut by a crash: one less, and no other.
            Ok(records) => {
                let mut rest = truth.iter();
                let part = records.iter().all(|r| rest.any(|t| t == r));
                match part && records.len() + 1 == truth.len() {
                    true => Ok(Found::Marked),
                    false => Err("records that nobody wrote, or more than one lost".to_owned()),
                }
            }
        }
    };
    let places: Vec<usize> = (0..good.len()).collect();
    let swept = sweep(&good, &spread(&places, sample_bytes()), ALL, || {
        let folder = world::folder();
        move |bad: &[u8]| probe(&folder.path().join("accesses"), bad)
    });
    swept.judge("recording of accesses");
    assert!(swept.refused > 0 && swept.marked > 0);
}

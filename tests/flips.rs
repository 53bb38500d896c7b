//! Every bit of a sample of every kind of file that a memory writes, flipped in turn: opening, reading or `check` finds it, or all answers are
//! as before. Never a wrong answer, never a panic.
//!
//! A sample is some 4 KiB. Kinds whose every probe opens a memory take an even choice of bits here; `AETHER_FLIPS=all` takes every bit,
//! `AETHER_FLIPS=n` about `n` of each kind.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

#[path = "flips/sweep.rs"]
mod sweep;
#[path = "flips/world.rs"]
mod world;
mod written;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aether::config::Slot;
use aether::vector::Shape;
use aether::{BlockingMemory, BuildContext, ManualClock, Metric, Recording, Role, Row};
use sweep::{Found, sweep};
use world::World;
use written::{DIM, files, golden, vector_of};

/// Bits of a kind where each probe opens a memory on metadata in RAM, and where it opens one on files.
const ENGINE: usize = 300;
const FILES: usize = 100;

/// The file of a kind, by the end of its path.
fn named(folder: &Path, end: &str) -> PathBuf {
    let of_kind = |p: &PathBuf| p.to_string_lossy().ends_with(end);
    files(folder).into_iter().find(of_kind).unwrap()
}

/// Sweeps one file of a memory whose metadata are in RAM, so that a probe does not wait for redb.
fn sweep_file(kind: &str, source: &str, hot: &str, end: &str) -> sweep::Swept {
    let world = World::of_memory(&golden(source), hot).with_meta_in_ram();
    let good = std::fs::read(world.path(end)).unwrap();
    sweep(kind, ENGINE, &good, |_| true, |bad| world.probe(end, bad))
}

#[test]
fn segments() {
    let swept = sweep_file("segment, version 2", "memory-v2", "flat", ".seg");
    assert!(swept.refused > 0 && swept.marked > 0 && swept.by_check > 0);
    // What no reader looks at, `check` does: no bit of a segment is outside of its seals.
    assert_eq!(swept.harmless, 0);
}

#[test]
fn segments_of_version_1() {
    let swept = sweep_file("segment, version 1", "memory-v1", "flat", ".seg");
    assert!(swept.refused > 0 && swept.marked > 0 && swept.by_check > 0);
    assert_eq!(swept.harmless, 0);
}

#[test]
fn locks() {
    // They hold a process's number for people to read.
    for (kind, end) in [("memory's lock", "/LOCK"), ("store's lock", "/.lock")] {
        let swept = sweep_file(kind, "memory-v2", "flat", end);
        assert_eq!(swept.harmless, swept.flipped);
    }
}

#[test]
fn hot_snapshots_as_the_engine_takes_them() {
    for hot in ["flat", "hnsw"] {
        let kind = format!("hot snapshot of {hot}, in an engine");
        let swept = sweep_file(&kind, "memory-v2", hot, "/hot.snapshot");
        // A damaged one is not used: the index is built anew, and answers as before.
        assert_eq!(swept.harmless, swept.flipped);
    }
}

/// What no checksum finds: a file that is whole and older than the others. Were it not told from the right one, the sweep could not fail.
#[test]
fn a_planted_stale_file_is_a_wrong_answer() {
    let world = World::of_memory(&golden("memory-v2"), "flat");
    let old = std::fs::read(world.path("/meta.redb")).unwrap();
    let newer = world.without(&written::id_of(80));
    let probed = newer.probe("/meta.redb", &old);
    assert!(
        probed.as_ref().is_err_and(|e| e.contains("expected None")),
        "{probed:?}"
    );
    let swept = std::panic::catch_unwind(|| {
        let lies = |bad: &[u8]| match bad {
            [0, 0] => Ok(Found::Harmless),
            _ => Err("planted".to_owned()),
        };
        sweep("planted", usize::MAX, &[0, 0], |_| true, lies)
    });
    assert!(swept.is_err(), "the sweep passes over wrong answers");
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
    const ROWS: u64 = 100;
    let context = context();
    let vectors: Vec<f32> = (0..ROWS).flat_map(vector_of).collect();
    let rows: Vec<Row> = (0..ROWS).map(Row).collect();
    let shape = Shape {
        rows: ROWS as usize,
        dim: DIM,
    };
    for name in ["flat", "hnsw"] {
        let slot = Slot::named(Role::Hot, name);
        let make = || context.registry.hot(&slot, &context).unwrap();
        let full = make();
        full.insert_batch(&rows, &vectors).unwrap();
        let mut good = Vec::new();
        full.save(&mut good).unwrap();
        let holds = |index: &dyn aether::role::HotIndex| {
            let mut out = vec![0.0; shape.len()];
            let read = out.chunks_mut(DIM).zip(&rows);
            let all = read.fold(true, |all, (out, row)| all & index.read(*row, out).unwrap());
            all && out == vectors
        };
        let kind = format!("hot snapshot of {name}");
        let swept = sweep(
            &kind,
            usize::MAX,
            &good,
            |_| true,
            |bad| {
                let index = make();
                match index.load(&mut &bad[..]) {
                    Err(error) if error.is_corrupt() || error.is_unsupported() => {
                        match index.len() {
                            0 => Ok(Found::Refused),
                            n => Err(format!("refused, and {n} rows are there")),
                        }
                    }
                    Err(error) => Err(format!("an error of the wrong kind: {error}")),
                    Ok(()) if holds(&*index) => Ok(Found::Harmless),
                    Ok(()) => Err("other vectors than were saved".to_owned()),
                }
            },
        );
        assert_eq!(swept.refused, swept.flipped, "every byte is sealed");
    }
}

#[test]
fn metadata_of_redb() {
    // The panics that redb's readers answer damage with are caught, and their words would fill the screen.
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let of_store = |name: &str| name.starts_with("meta-redb") || name.starts_with("tokio");
        if !std::thread::current().name().is_some_and(of_store) {
            usual(info);
        }
    }));
    let world = World::of_memory(&golden("memory-v2"), "flat");
    let good = std::fs::read(world.path("/meta.redb")).unwrap();
    // The header, and 4 KiB of all that is something, spread over its pages: of its smallest file, a megabyte, nearly all is zero and free.
    let something: Vec<usize> = (512..good.len()).filter(|at| good[*at] != 0).collect();
    let apart = something.len().div_ceil(4096);
    let sample: BTreeSet<usize> = something.into_iter().step_by(apart).collect();
    let wanted = |at: usize| at < 512 || sample.contains(&at);
    let swept = sweep("redb file", FILES, &good, wanted, |bad| {
        world.probe("/meta.redb", bad)
    });
    assert!(swept.refused > 0);
}

#[test]
fn snapshot_folders() {
    for (kind, end) in [
        ("snapshot's tables", "/meta.aether"),
        ("snapshot's segment", ".seg"),
        ("snapshot's mark", "/DONE"),
    ] {
        let world = World::of_snapshot(&golden("snapshot-v2"));
        let good = std::fs::read(world.snapshot_path(end)).unwrap();
        let swept = sweep(
            kind,
            FILES,
            &good,
            |_| true,
            |bad| world.probe_restored(end, bad),
        );
        let found = swept.refused + swept.marked + swept.by_check;
        match end {
            "/DONE" => assert_eq!(swept.harmless, swept.flipped),
            _ => assert_eq!(found, swept.flipped, "every byte is sealed"),
        }
    }
}

#[test]
fn recordings() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("accesses");
    let toml = format!(
        "[memory]\ndim = {DIM}\nmetric = \"l2\"\n[flux]\ntick = \"0s\"\n[hot]\nbackend = \"flat\"\n[meta]\nbackend = \"memory\"\n\
         [cold]\nbackend = \"memory\"\n[record]\npath = {path:?}\nmax_bytes = \"4KiB\"\n"
    );
    let config = aether::Config::from_toml(&toml).unwrap();
    let memory: BlockingMemory = aether::open_blocking(config).unwrap();
    // More than fit, so that the ring has been around.
    for i in 0..200 {
        let point = aether::Point::new(i, vector_of(i));
        memory.upsert(vec![point]).unwrap();
    }
    memory.close().unwrap();
    let good = std::fs::read(&path).unwrap();
    let read = |path: &Path| -> aether::Result<Vec<_>> {
        let mut recording = Recording::open(path)?;
        std::iter::from_fn(|| recording.read().transpose()).collect()
    };
    let truth = read(&path).unwrap();
    assert!(truth.len() > 90, "{}", truth.len());
    let swept = sweep(
        "recording of accesses",
        usize::MAX,
        &good,
        |_| true,
        |bad| {
            std::fs::write(&path, bad).unwrap();
            match read(&path) {
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
        },
    );
    assert!(swept.refused > 0 && swept.marked > 0);
}

//! Each wait for a sync of the metadata is left out in turn, by what it is for: then some power cut must lose something. A wait that can be
//! left out without a loss stands here with the reason why it can.
//!
//! Syncs of files and folders below the stores are left out in turn by `tests/simulated/barriers.rs`. `AETHER_EVERY=1` tries each
//! cut for those that are said to be needless, where some are tried else.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use aether_testkit::env::every;
use aether_testkit::workload::{Op, every_kind};
use futures::FutureExt;

use common::script::settings;
use common::{Run, Settings, World};

const LISTED: &str =
    "a segment that nothing names is found by listing; its note is for stores whose lists are late";
const MOVED: &str =
    "where a row lies is lost with it, and its former home is there as long as it is not";
const CLEARED: &str = "before an input is deleted its marks of dead rows are, which is synced";
const BEFORE: &str = "clock and books may be as old as the flush before";
const NAMED: &str = "what names a partition is committed later, and lost with it";
const AGAIN: &str = "a recovery or a sweep can be done again";
const ENDED: &str = "what has ended has ended, whether it is removed or not";

/// A step, and why nothing is lost without its sync, if that is so.
const STEPS: &[(&str, Option<&str>)] = &[
    ("upsert: durable after write", None),
    ("upsert: durable after intent", Some(LISTED)),
    ("upsert: durable after cold write", None),
    ("upsert: durable after demotion", Some(MOVED)),
    ("upsert: durable after partitions", Some(NAMED)),
    ("upsert: durable after release", Some(MOVED)),
    ("delete: durable after write", None),
    ("delete: durable after flush", Some("no point was deleted")),
    ("pin: durable after flush", None),
    ("demote: durable after intent", Some(LISTED)),
    ("demote: durable after demotion", Some(MOVED)),
    ("demote: durable after partitions", Some(NAMED)),
    ("demote: durable after release", Some(MOVED)),
    ("promote: durable after promotion", Some(MOVED)),
    ("compact: durable after intent", Some(LISTED)),
    ("compact: durable after intent's end", Some(AGAIN)),
    ("compact: durable after partitions", Some(NAMED)),
    ("compact: durable after demotion", Some(MOVED)),
    ("compact: durable after compaction", Some(CLEARED)),
    ("compact: durable after split or merge", Some(CLEARED)),
    ("compact: durable after flush", Some(BEFORE)),
    ("compact: durable after write", Some(ENDED)),
    ("tick: durable after flush", Some(BEFORE)),
    ("tick: durable after write", Some(ENDED)),
    ("tick: durable after intent", Some(LISTED)),
    ("tick: durable after intent's end", Some(AGAIN)),
    ("tick: durable after demotion", Some(MOVED)),
    ("tick: durable after promotion", Some(MOVED)),
    ("tick: durable after release", Some(MOVED)),
    ("tick: durable after compaction", Some(CLEARED)),
    ("tick: durable after split or merge", Some(CLEARED)),
    ("snapshot: durable after flush", Some(BEFORE)),
    (
        "close: durable after flush",
        Some("the store syncs when it is closed"),
    ),
    ("open: durable after identity", None),
    ("open: durable after intent", Some(AGAIN)),
    ("open: durable after intent's end", Some(AGAIN)),
    ("open: durable after demotion", Some(MOVED)),
];

/// What is waited for, and cut.
fn workload() -> Vec<Op> {
    let mut ops = every_kind();
    // What the last compactions took the place of is deleted, with no write in between.
    ops.extend([Op::Advance(Duration::from_secs(5)), Op::Tick]);
    ops
}

/// The steps that wait for a sync, in the uncut workload and in recoveries from cuts at some of its calls.
async fn met() -> BTreeSet<String> {
    let ops = workload();
    let mut met = BTreeSet::new();
    for n in (1..).step_by(7) {
        let mut run = Run::new(World::with(settings())).await;
        run.world.power.die_at(n, false);
        run.work(&ops, "waits").await;
        met.append(&mut run.world.waits);
        met.append(&mut run.world.power.waits());
        // The uncut one is the last.
        if run.crashes == 0 {
            return met;
        }
    }
    unreachable!("a workload has an end")
}

/// Where a list of steps and the steps that were met part.
fn parted(listed: &[&str], met: &BTreeSet<String>) -> Vec<String> {
    let listed: BTreeSet<String> = listed.iter().map(|step| (*step).to_owned()).collect();
    let parted = listed.symmetric_difference(met).cloned();
    parted.collect()
}

#[test]
fn a_list_with_a_name_too_many_or_too_few_is_found_out() {
    let met = BTreeSet::from(["upsert: durable after write".to_owned()]);
    assert!(parted(&["upsert: durable after write"], &met).is_empty());
    let (listed, missed) = ("upsert: durable after wriet", "upsert: durable after write");
    assert_eq!(parted(&[listed], &met), [listed, missed]);
}

/// What a power cut at one of these calls loses without that sync: the first that was found.
async fn lost_without(step: &'static str, stride: usize) -> Option<String> {
    let ops = workload();
    for n in (1..).step_by(stride) {
        let without = Settings {
            unsynced: Some(step),
            ..settings()
        };
        let mut run = Run::new(World::with(without)).await;
        // Of what was not synced nothing survives.
        run.keep = 0;
        run.world.power.die_at(n, n % 2 == 0);
        let at = format!("cut at call {n}");
        let whole = async {
            run.work(&ops, &at).await;
            run.crashes
        };
        match AssertUnwindSafe(whole).catch_unwind().await {
            Ok(0) => return None,
            Ok(_) => {}
            Err(_) => return Some(at),
        }
    }
    unreachable!("a workload has an end")
}

#[tokio::test]
async fn a_sync_that_is_left_out_is_found_out() {
    aether_core::engine::compute_in_place(true);
    let listed: Vec<&str> = STEPS.iter().map(|(step, _)| *step).collect();
    let parted = parted(&listed, &met().await);
    assert!(
        parted.is_empty(),
        "listed and not met, or met and not listed: {parted:#?}"
    );
    // What is lost is told by a panic, and is what is looked for.
    std::panic::set_hook(Box::new(|_| ()));
    let mut wrong = Vec::new();
    for (step, needless) in STEPS {
        let stride = match needless {
            Some(_) if !every() => 7,
            _ => 1,
        };
        let lost = lost_without(step, stride).await;
        println!("{step}: {lost:?}, needless: {needless:?}");
        if lost.is_some() == needless.is_some() {
            wrong.push(*step);
        }
    }
    drop(std::panic::take_hook());
    assert!(wrong.is_empty(), "not as said: {wrong:?}");
}

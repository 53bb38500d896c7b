//! A restore from a snapshot is cut, or fails, at each of its changes of the file system. What is there afterwards is the whole memory, or none, or it says
//! that it is not whole and is opened by nobody; and a restore makes it whole, of whatever snapshot.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use aether_testkit::env::every;
use aether_testkit::run::{Run, World};
use aether_testkit::simfs::Verdict;
use aether_testkit::workload::every_kind;
use tempfile::TempDir;

use crate::barriers::caught;
use crate::ground::Ground;
use crate::planted::{Mistake, layer};
use crate::power::simulate;

/// A memory that was closed, and a snapshot of it.
struct Origin {
    run: Run<Ground>,
    snapshot: TempDir,
}

impl Origin {
    /// After so many operations of the workload.
    async fn after(ops: usize) -> Self {
        let mut run = Run::new(Ground::new(1)).await;
        run.work(&every_kind()[..ops], "before the snapshot").await;
        let snapshot = tempfile::tempdir().unwrap();
        let memory = run.memory.take().unwrap();
        memory.snapshot(snapshot.path()).await.unwrap();
        memory.close().await.unwrap();
        Self { run, snapshot }
    }

    /// An empty disk on which this may be restored, at the time of the snapshot.
    fn ground(&self, seed: u64) -> Ground {
        let mut ground = Ground::new(seed);
        ground.clock = self.run.world.clock.clone();
        ground
    }

    /// A memory that opens is this one, wholly.
    async fn is_whole(&self, ground: Ground, at: &str) {
        let mut run = self.run.on(ground);
        let opened = run.world.open().await;
        run.memory = Some(opened.unwrap_or_else(|e| panic!("{at}: {e}")));
        let looked = run.look().await;
        looked.unwrap_or_else(|what| panic!("{at}: half a memory opens: {what}"));
        run.end(at).await;
    }
}

/// What a cut restore left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    /// Nothing: a memory can begin there.
    Nothing,
    /// What says that it is not whole.
    Part,
    Whole,
}

/// What is there, by opening a copy of it.
async fn left(origin: &Origin, ground: &Ground, planted: Option<Mistake>, at: &str) -> Left {
    let mut copy = ground.fork(1);
    copy.layer = planted.map(layer);
    let opened = copy.open().await;
    match opened {
        Ok(memory) => {
            let stats = memory.stats();
            memory.close().await.unwrap();
            drop(memory);
            if stats.points == 0 && stats.segments == 0 {
                let report = copy.check().await.unwrap();
                let empty = report.is_clean() && report.points == 0;
                assert!(empty, "{at}: half a memory opens: {report:?}");
                return Left::Nothing;
            }
            copy.layer = None;
            origin.is_whole(copy, at).await;
            Left::Whole
        }
        Err(error) => {
            let says = error.is_config() && error.message().contains("Restore it again");
            assert!(says, "{at}: {error}");
            let checked = copy.check().await.unwrap_err();
            assert!(checked.message().contains("restore it again"), "{checked}");
            Left::Part
        }
    }
}

/// How a restore ends too early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The process ends before a change.
    Before,
    /// And after it.
    After,
    /// The change fails, and the process goes on: it closes the stores, which syncs what is there.
    Fails,
}

/// Ends a restore at a change, looks what is left, and restores again; `None` when it was over before.
async fn end_at(
    origin: &Origin,
    other: &Origin,
    n: u64,
    end: End,
    planted: Option<Mistake>,
) -> Option<Left> {
    let at = format!("a restore that ends at change {n}: {end:?}");
    let mut ground = origin.ground(n);
    let met = Arc::new(AtomicBool::new(false));
    match end {
        End::Before | End::After => ground.die_at(n, end == End::After),
        End::Fails => {
            let (first, met) = (ground.fs.changes() + n, met.clone());
            ground.fs.script(move |call, i| {
                if !call.changes() || i != first {
                    return Verdict::Pass;
                }
                met.store(true, SeqCst);
                Verdict::Fail(ErrorKind::Other)
            });
        }
    }
    let restored = ground.restore(origin.snapshot.path()).await;
    ground.unscript();
    if !ground.is_dead() && !met.load(SeqCst) {
        restored.unwrap_or_else(|e| panic!("{at}: {e}"));
        origin.is_whole(ground, &at).await;
        return None;
    }
    if let Err(error) = restored {
        let honest = error.is_unavailable() || error.is_poisoned();
        assert!(honest, "{at}: {error:?}");
    }
    if ground.is_dead() {
        ground.next_life(n.is_multiple_of(3));
    }
    let left = left(origin, &ground, planted, &at).await;
    // Of this snapshot, or of another one, and perhaps cut again.
    let next = [origin, other][(n / 2 % 2) as usize];
    if n.is_multiple_of(2) {
        ground.die_at(n / 2, end == End::Before);
        drop(ground.restore(next.snapshot.path()).await);
        ground.next_life(n.is_multiple_of(4));
    }
    let again = ground.restore(next.snapshot.path()).await;
    let whole = match again {
        Ok(_) => next,
        // It is there already: of the first try or of the second.
        Err(error) => {
            assert!(error.is_invalid_input(), "{at}: {error}");
            let of_first = left == Left::Whole;
            assert!(of_first || n.is_multiple_of(2), "{at}: {error}");
            if of_first { origin } else { next }
        }
    };
    ground.clock = whole.run.world.clock.clone();
    whole.is_whole(ground, &at).await;
    Some(left)
}

#[test]
fn a_restore_that_ends_at_any_change_leaves_no_half_a_memory() {
    simulate(async {
        let (origin, other) = (Origin::after(21).await, Origin::after(34).await);
        let mut met = [0; 3];
        // What fails leaves more than what is cut: it closes its stores.
        for (from, end, stride) in [(1, End::Before, 3), (2, End::After, 3), (1, End::Fails, 1)] {
            for n in (from..).step_by(if every() { 1 } else { stride }) {
                let Some(left) = end_at(&origin, &other, n, end, None).await else {
                    break;
                };
                met[left as usize] += 1;
            }
        }
        println!("{met:?} restores that ended too early left nothing, a part, the whole");
        assert!(met[0] > 3 && met[1] > 3, "{met:?}");
    });
}

#[test]
fn planted_an_opening_that_does_not_see_what_a_cut_restore_left_is_found() {
    let origins = simulate(async { (Origin::after(21).await, Origin::after(34).await) });
    let found = (1..200).find_map(|n| {
        let mistake = Some(Mistake::SeemsEmpty);
        let ended = end_at(&origins.0, &origins.1, n, End::Fails, mistake);
        let judge = || {
            simulate(ended);
        };
        Some((n, caught(judge).err()?))
    });
    let (n, what) = found.expect("it is found");
    // What was restored of the cold store bears a mark, so that a memory that seems to be new is refused another way.
    let said = ["half a memory opens", "of this memory alone"];
    assert!(said.iter().any(|said| what.contains(said)), "{what}");
    println!("found at change {n}: {what:.150}");
}

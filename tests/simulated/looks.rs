//! Calls that only look fail in turn: openings, reads, lists, what is there and how long it is; once, and from there on. So in work, in the
//! beginning of a memory and in a recovery. Whatever could not be looked at, nothing acknowledged is lost, and nothing is taken for absent.
//!
//! `AETHER_EVERY=1` takes each call in both ways; else some, each in one.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use aether_testkit::env::every;
use aether_testkit::run::{Run, World};
use aether_testkit::simfs::Verdict;
use aether_testkit::workload::{Op, every_kind};
use fastrand::Rng;

use crate::faults::{Failing, fail};
use crate::ground::Ground;
use crate::power::{Calls, simulate};

/// A disk of which one look in each life, or every one from it on, fails while it is sick.
struct Sick {
    sick: Arc<AtomicBool>,
    met: Arc<AtomicBool>,
}

impl Sick {
    /// Makes the looks of a disk fail from the `n`th of a life on, or that one alone.
    fn of(ground: &mut Ground, n: u64, lasting: bool) -> Self {
        let (sick, met) = (
            Arc::new(AtomicBool::new(true)),
            Arc::new(AtomicBool::new(false)),
        );
        let (is_sick, is_met) = (sick.clone(), met.clone());
        ground.script_for_ever(move |call, i| {
            let strikes = i == n || (lasting && i > n);
            if !is_sick.load(SeqCst) || !Calls::Looks.has(call) || !strikes {
                return Verdict::Pass;
            }
            is_met.store(true, SeqCst);
            Verdict::Fail(ErrorKind::Other)
        });
        Self { sick, met }
    }

    /// The disk is well again; whether a look failed.
    fn heal(&self) -> bool {
        self.sick.store(false, SeqCst);
        self.met.load(SeqCst)
    }
}

#[test]
fn looks_fail_from_the_first_to_the_last() {
    let ops = every_kind();
    let looks = simulate(Calls::Looks.of(&ops, "uncut"));
    let stride = if every() { 1 } else { looks / 60 };
    let (mut runs, mut told) = (0, [0; 2]);
    for (turn, n) in (1..=looks).step_by(stride as usize).enumerate() {
        for lasting in [false, true] {
            if !every() && lasting != (turn % 2 == 1) {
                continue;
            }
            let at = (Calls::Looks, n);
            let came = fail(Ground::new(1), &ops, at, lasting, ErrorKind::Other, 1);
            let came = simulate(came);
            assert_ne!(came, Failing::Nothing, "look {n} did not come");
            runs += 1;
            told[usize::from(lasting)] += usize::from(came == Failing::Told);
        }
    }
    println!(
        "{runs} runs with a look that failed, of {looks}: {told:?} with an operation, once and for good"
    );
    assert!(runs >= 60 && told.iter().all(|n| *n > 15), "{told:?}");
}

/// The first opening, with a look that fails: it is refused or rides it out, and a memory can begin on what is left.
async fn begin(n: u64, lasting: bool) -> bool {
    let at = format!("look {n} of the beginning, lasting: {lasting}");
    let mut ground = Ground::new(n);
    let sick = Sick::of(&mut ground, n, lasting);
    let opened = ground.open().await;
    let met = sick.heal();
    if let Err(error) = &opened {
        let honest = error.is_unavailable() || error.is_poisoned();
        assert!(met && honest, "{at}: {error:?}");
    }
    // A process that was refused may try again; one that was not has the memory until it ends.
    if opened.is_ok() || n.is_multiple_of(2) {
        drop(opened);
        ground.next_life(n.is_multiple_of(3));
    }
    let mut run = Run::new(ground).await;
    run.work(&every_kind()[..2], &at).await;
    run.rise().await.unwrap_or_else(|e| panic!("{at}: {e}"));
    run.end(&at).await;
    met
}

#[test]
fn looks_of_the_beginning_of_a_memory_fail_in_turn() {
    let mut looks = 0;
    for lasting in [false, true] {
        let n = (1..).take_while(|n| simulate(begin(*n, lasting))).count();
        looks += n;
    }
    println!("{looks} beginnings with a look that failed");
    assert!(looks > 20, "{looks}");
}

/// Works until a power cut at a change; `None` if the work was over before.
async fn cut_at(n: u64, ops: &[Op]) -> Option<Run<Ground>> {
    let mut run = Run::new(Ground::new(1)).await;
    run.world.die_at(n, n.is_multiple_of(2));
    for op in ops {
        let done = run.step_without_rising(op.clone()).await;
        done.unwrap_or_else(|what| panic!("cut at change {n}: {op:?}: {what}"));
        if run.world.is_dead() {
            return Some(run);
        }
    }
    None
}

/// After a power cut a look of the opening fails: that may be refused for it, and the next one finds everything.
async fn recover(cut: &Run<Ground>, n: u64, lasting: bool, at: &str) -> bool {
    let mut run = cut.on(cut.world.fork(n));
    let sick = Sick::of(&mut run.world, n, lasting);
    let risen = run.rise_among_faults().await;
    risen.unwrap_or_else(|what| panic!("{at}: {what}"));
    let met = sick.heal();
    let risen = run.rise().await;
    risen.unwrap_or_else(|what| panic!("{at}: {what}"));
    run.end(at).await;
    met
}

#[test]
fn looks_of_a_recovery_fail_in_turn() {
    let ops = every_kind();
    let changes = simulate(Calls::Changes.of(&ops, "uncut"));
    let (cuts, stride) = if every() { (60, 1) } else { (5, 7) };
    let mut runs = 0;
    for part in 0..cuts {
        let cut = Rng::with_seed(part).u64(part * changes / cuts..(part + 1) * changes / cuts);
        for lasting in [false, true] {
            for n in (1 + part % stride..).step_by(stride as usize) {
                let met = simulate(async {
                    let run = cut_at(cut.max(1), &ops).await.expect("a cut that comes");
                    let at = format!("cut at change {cut}, then look {n}, lasting: {lasting}");
                    recover(&run, n, lasting, &at).await
                });
                if !met {
                    break;
                }
                runs += 1;
            }
        }
    }
    println!("{runs} recoveries with a look that failed");
    assert!(runs > 60, "{runs}");
}

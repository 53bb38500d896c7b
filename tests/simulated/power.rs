//! Power cuts and kills at calls of the file system: before and after each kind of change, in work, in opening and in recovery.

use aether_testkit::env::seeds;
use aether_testkit::run::{Run, World};
use aether_testkit::simfs::{Call, SimFs};
use aether_testkit::workload::{EVERY_DIM, Op, Profile, Workload, every_kind};
use fastrand::Rng;

use crate::ground::Ground;

/// Runs one simulation: one thread, so that nothing happens at the same time, and time that passes only when all wait for it.
pub(crate) fn simulate<T>(work: impl Future<Output = T>) -> T {
    aether::compute_in_place(true);
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(work)
}

/// Calls of the file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Calls {
    /// Those that change something.
    Changes,
    /// Those that only look: openings, reads, lists, what is there and how long.
    Looks,
}

impl Calls {
    pub(crate) fn has(self, call: &Call) -> bool {
        call.changes() == (self == Self::Changes)
    }

    /// How many there were in this life.
    pub(crate) fn so_far(self, fs: &SimFs) -> u64 {
        match self {
            Self::Changes => fs.changes(),
            Self::Looks => fs.looks(),
        }
    }

    /// How many an operation sequence makes.
    pub(crate) async fn of(self, ops: &[Op], at: &str) -> u64 {
        let mut uncut = Run::new(Ground::new(0)).await;
        let before = self.so_far(&uncut.world.fs);
        uncut.work(ops, at).await;
        self.so_far(&uncut.world.fs) - before
    }
}

/// Runs operations on drawn disks, cut at a drawn change in each of equal parts.
async fn cut_in_parts(ops: &[Op], parts: u64, seed: u64) -> usize {
    let changes = Calls::Changes
        .of(ops, &format!("AETHER_SEED={seed}, uncut"))
        .await;
    let mut rng = Rng::with_seed(seed);
    let mut crashes = 0;
    for part in 0..parts {
        let (from, to) = (part * changes / parts, (part + 1) * changes / parts);
        let n = rng.u64(from..=to).max(1);
        let at = format!("AETHER_SEED={seed}, cut at change {n} of {changes}");
        let mut run = Run::new(Ground::new(rng.u64(..))).await;
        run.again = (rng.u8(0..3) == 0).then(|| rng.u64(1..60));
        run.world.die_at(n, rng.bool());
        run.work(ops, &at).await;
        run.end(&at).await;
        assert!(run.crashes > 0, "{at}: nothing was cut");
        crashes += run.crashes;
    }
    crashes
}

/// Operations of a seed.
pub(crate) fn drawn(seed: u64, n: usize) -> Vec<Op> {
    let profile = Profile {
        dim: EVERY_DIM,
        ids: 120,
        batch: 30,
        crash_every: 0,
    };
    let mut workload = Workload::new(seed, profile);
    let ops = std::iter::repeat_with(|| workload.next_op());
    ops.take(n).collect()
}

#[test]
fn the_workload_of_every_kind_is_cut_at_drawn_changes() {
    let ops = every_kind();
    let mut crashes = 0;
    for seed in seeds(1) {
        crashes += simulate(cut_in_parts(&ops, 24, seed));
    }
    println!("{crashes} cuts survived");
}

#[test]
fn drawn_workloads_are_cut_at_drawn_changes() {
    let mut crashes = 0;
    for seed in seeds(5) {
        crashes += simulate(cut_in_parts(&drawn(seed, 30), 8, seed));
    }
    println!("{crashes} cuts survived");
}

/// Cuts the first opening at a change, and looks whether a memory can begin on what is left; `false` when it was over before.
pub(crate) async fn begin_cut(mut ground: Ground, n: u64, after: bool, seed: u64) -> bool {
    let at = format!("the opening cut at change {n}, after: {after}, seed {seed}");
    ground.die_at(n, after);
    let opened = ground.open().await;
    if !ground.is_dead() {
        assert!(opened.is_ok(), "{at}: {opened:?}");
        return false;
    }
    drop(opened);
    // Three kinds: a cut, a kill, and a kill after which the power fails once something was acknowledged.
    ground.next_life(!seed.is_multiple_of(3));
    let mut run = Run::new(ground).await;
    run.work(&every_kind()[..2], &at).await;
    if seed % 3 == 2 {
        run.world.kills = false;
        run.rise().await.unwrap_or_else(|e| panic!("{at}: {e}"));
    }
    run.end(&at).await;
    true
}

/// The first opening is cut at each of its changes; whatever is left, the next opening makes a memory that keeps what it acknowledges.
#[test]
fn the_beginning_of_a_memory_is_cut_at_each_change() {
    simulate(async {
        let mut cuts = 0;
        for after in [false, true] {
            'changes: for n in 1.. {
                for seed in n * 3..n * 3 + 3 {
                    if !begin_cut(Ground::new(seed), n, after, seed).await {
                        break 'changes;
                    }
                    cuts += 1;
                }
            }
        }
        assert!(cuts > 100, "{cuts}");
        println!("{cuts} cut beginnings");
    });
}

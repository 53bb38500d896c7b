//! A disk that is full, breaks, gives less than was asked, or lies: an error or the right answer, and nothing acknowledged is lost.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use aether::config::SearchMode;
use aether::{Error, Memory, Parts, SearchRequest};
use aether_testkit::env::{every, seeds, variable};
use aether_testkit::run::{Run, World};
use aether_testkit::simfs::{Call, SECTOR, Verdict};
use aether_testkit::workload::{Op, every_kind};
use fastrand::Rng;

use crate::barriers::caught;
use crate::ground::{Ground, is_cold, meta_path};
use crate::planted::{self, Mistake};
use crate::power::{Calls, drawn, simulate};

/// What came of a call that was to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failing {
    /// No call failed: there was none, or a disk that is full let it be.
    Nothing,
    /// A call failed, and no operation.
    Ridden,
    /// An operation said that it failed.
    Told,
}

/// Fails the changes, or the looks, from the `n`th of this life on, or that one alone, until an operation has failed of it; then looks after a
/// reopening whether all is there, and goes on.
pub(crate) async fn fail(
    ground: Ground,
    ops: &[Op],
    (calls, n): (Calls, u64),
    lasting: bool,
    kind: ErrorKind,
    seed: u64,
) -> Failing {
    let at = format!("AETHER_SEED={seed}, {kind:?} at {n} of {calls:?}, lasting: {lasting}");
    let mut run = Run::new(ground).await;
    let first = calls.so_far(&run.world.fs) + n;
    run.faulty = true;
    run.also = may_say(kind);
    let [refused, spared] = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
    let met = (refused.clone(), spared.clone());
    run.world.fs.script(move |call, i| {
        if !calls.has(call) || i < first || (i > first && !lasting) {
            return Verdict::Pass;
        }
        // What is removed asks for no room, and a disk that is full lets itself be synced.
        if kind == ErrorKind::StorageFull
            && !matches!(call, Call::Write { .. } | Call::Resize { .. })
        {
            met.1.store(true, SeqCst);
            return Verdict::Pass;
        }
        met.0.store(true, SeqCst);
        Verdict::Fail(kind)
    });
    let mut rest = ops.iter();
    for op in rest.by_ref() {
        let done = run.step(op.clone()).await;
        done.unwrap_or_else(|what| panic!("{at}: {op:?}: {what}"));
        if spared.load(SeqCst) && !lasting {
            return Failing::Nothing;
        }
        if run.failed.get() {
            break;
        }
    }
    let failed = run.failed.replace(false);
    run.faulty = false;
    run.world.unscript();
    if failed {
        let risen = run.rise().await;
        risen.unwrap_or_else(|what| panic!("{at}: {what}"));
        run.work(&rest.cloned().collect::<Vec<_>>(), &at).await;
    }
    run.end(&at).await;
    match (refused.load(SeqCst), failed) {
        (true, true) => Failing::Told,
        (true, false) => Failing::Ridden,
        (false, told) => {
            assert!(!told, "{at}: an operation failed of nothing");
            Failing::Nothing
        }
    }
}

/// What an operation may say of a disk that fails so, but that it does not answer.
fn may_say(kind: ErrorKind) -> &'static [aether::ErrorKind] {
    match kind {
        ErrorKind::StorageFull => &[aether::ErrorKind::Capacity],
        _ => &[],
    }
}

/// A disk of a seed, with a mistake above it where one is planted.
fn ground(seed: u64, planted: Option<Mistake>) -> Ground {
    let mut ground = Ground::new(seed);
    ground.layer = planted.map(planted::layer);
    ground
}

/// A failing change as a seed draws it.
async fn fail_drawn(seed: u64, planted: Option<Mistake>) -> Failing {
    let mut rng = Rng::with_seed(seed);
    let ops = if seed.is_multiple_of(2) {
        every_kind()
    } else {
        drawn(seed, 30)
    };
    let kind = [ErrorKind::StorageFull, ErrorKind::Other][rng.usize(..2)];
    let (n, lasting) = (rng.u64(1..1_000), rng.bool());
    let at = (Calls::Changes, n);
    fail(ground(seed, planted), &ops, at, lasting, kind, seed).await
}

#[test]
fn changes_fail_once_and_for_good() {
    let (mut met, mut told) = (0, 0);
    for seed in seeds(50) {
        let came = simulate(fail_drawn(seed, None));
        met += usize::from(came != Failing::Nothing);
        told += usize::from(came == Failing::Told);
    }
    println!("{met} runs with a change that failed, {told} of them with an operation");
    assert!(told > 10 || variable("AETHER_SEED").is_some(), "{told}");
}

/// The ways in which a change fails: of a full disk and of a broken one, alone and with all that follow.
const WAYS: [(ErrorKind, bool); 4] = [
    (ErrorKind::StorageFull, false),
    (ErrorKind::Other, false),
    (ErrorKind::StorageFull, true),
    (ErrorKind::Other, true),
];

/// Changes over the whole of the workload of every kind: one in so many, each in another way, or with `AETHER_EVERY=1` each in every way.
/// A full disk that is to refuse a sync, a rename or a removal refuses nothing, and such a run is none: another way takes its place.
#[test]
fn changes_fail_from_the_first_to_the_last() {
    let ops = every_kind();
    let changes = simulate(Calls::Changes.of(&ops, "uncut"));
    let stride = if every() { 1 } else { changes / 60 };
    let (mut tried, mut runs, mut told) = (0, 0, [0; WAYS.len()]);
    let mut by_way = [0; WAYS.len()];
    for (turn, n) in (1..=changes).step_by(stride as usize).enumerate() {
        tried += 1;
        let mut failed = false;
        for way in (turn..turn + WAYS.len()).map(|way| way % WAYS.len()) {
            let (kind, lasting) = WAYS[way];
            let came = simulate(fail(
                Ground::new(1),
                &ops,
                (Calls::Changes, n),
                lasting,
                kind,
                1,
            ));
            if came == Failing::Nothing {
                continue;
            }
            failed = true;
            runs += 1;
            by_way[way] += 1;
            told[way] += usize::from(came == Failing::Told);
            if !every() {
                break;
            }
        }
        assert!(failed, "change {n} failed in no way");
    }
    println!(
        "{tried} of {changes} changes failed in {runs} runs: of {WAYS:?} {by_way:?}, {told:?} of them with an operation"
    );
    assert!(tried >= 60 && told.iter().sum::<usize>() > 30, "{told:?}");
    assert!(by_way.iter().all(|n| *n > 5), "{by_way:?}");
}

/// A disk with little room, on which the memory is opened again and again. Answers how many operations failed.
async fn fill_up(seed: u64, planted: Option<Mistake>) -> usize {
    let at = format!("AETHER_SEED={seed}, a disk that fills up");
    let mut rng = Rng::with_seed(seed);
    let mut run = Run::new(ground(seed, planted)).await;
    let mut failed = 0;
    run.faulty = true;
    run.also = may_say(ErrorKind::StorageFull);
    for op in drawn(seed, 80) {
        let room = run.world.fs.bytes() + rng.u64(0..300);
        run.world.fs.limit(rng.bool().then_some(room));
        let done = run.step(op.clone()).await;
        done.unwrap_or_else(|what| panic!("{at}: {op:?}: {what}"));
        // Somebody makes room.
        run.world.fs.limit(None);
        if run.failed.replace(false) {
            failed += 1;
            let risen = run.rise().await;
            risen.unwrap_or_else(|what| panic!("{at}: {what}"));
        }
    }
    run.world.fs.limit(None);
    run.rise()
        .await
        .unwrap_or_else(|what| panic!("{at}: {what}"));
    run.end(&at).await;
    failed
}

#[test]
fn a_disk_that_fills_up_loses_nothing() {
    let failed: usize = seeds(12).map(|seed| simulate(fill_up(seed, None))).sum();
    println!("{failed} operations failed for want of room");
    assert!(failed > 10 || variable("AETHER_SEED").is_some(), "{failed}");
}

async fn read_short(planted: Option<Mistake>) {
    let mut ground = ground(1, planted);
    ground.script_for_ever(|call, n| match call {
        Call::Read { len, .. } if *len > 1 => Verdict::Short(1 + n as usize % (len - 1)),
        _ => Verdict::Pass,
    });
    let mut run = Run::new(ground).await;
    run.work(&every_kind(), "short reads").await;
    run.end("short reads").await;
}

#[test]
fn reads_that_give_less_than_was_asked_are_gone_on_with() {
    simulate(read_short(None));
}

/// What each answer of a memory on a disk that lies is: right, or an error. Answers how many were errors.
async fn answers(run: &mut Run<Ground>, memory: &Memory, at: &str) -> usize {
    let (mut errors, now) = (0, run.world.now());
    for id in run.model.ids() {
        match memory.get(&id).await {
            Ok(record) => {
                let judged = run.model.check_get(&id, record.as_ref(), now);
                judged.unwrap_or_else(|what| panic!("{at}: {what}"));
            }
            Err(error) => {
                assert!(is_honest(&error), "{at}: get {id}: {error}");
                errors += 1;
            }
        }
    }
    let query = vec![0.5; run.world.dim()];
    let request = SearchRequest::new(query.clone(), 400).mode(SearchMode::Complete);
    match memory.search(request.parts(Parts::default())).await {
        Ok(answer) => {
            let judged = run.model.check_answer(&answer, &query, 400, None, now);
            judged.unwrap_or_else(|what| panic!("{at}: {what}"));
            errors += usize::from(!answer.coverage.is_whole());
        }
        Err(error) => {
            assert!(is_honest(&error), "{at}: search: {error}");
            errors += 1;
        }
    }
    errors
}

/// Whether an error says that something is wrong with what is stored, or that it cannot be had.
fn is_honest(error: &Error) -> bool {
    use aether::ErrorKind::{Corrupt, Poisoned, Unavailable, Unsupported};
    matches!(error.kind(), Corrupt | Unavailable | Unsupported | Poisoned)
}

/// A run that has rows in both tiers and is closed.
async fn closed(seed: u64) -> Run<Ground> {
    let mut run = Run::new(ground(seed, None)).await;
    run.work(&every_kind()[..21], "before").await;
    run.memory().close().await.unwrap();
    run.memory = None;
    run
}

/// Reads of segments that err, or come back with a bit turned over or from another place: once, or always. Answers how many answers were errors.
async fn lie(seed: u64, planted: Option<Mistake>) -> usize {
    let mut rng = Rng::with_seed(seed);
    let mut run = closed(seed).await;
    run.world.layer = planted.map(planted::layer);
    let memory = run.world.open().await.unwrap();
    let lie = match rng.u8(0..4) {
        0 => Verdict::Fail(ErrorKind::Other),
        1 => Verdict::Misdirect(rng.u64(1..8)),
        _ => Verdict::Flip(rng.u64(..)),
    };
    let every = rng.u64(1..6);
    run.world.fs.script(move |call, n| match call {
        Call::Read { path, .. } if is_cold(path) && n % every == 0 => lie,
        _ => Verdict::Pass,
    });
    let at = format!("AETHER_SEED={seed}, {lie:?} at each {every}th read");
    let errors = answers(&mut run, &memory, &at).await;
    run.world.unscript();
    // Nothing of it stays: the disk tells the truth again.
    let after = answers(&mut run, &memory, &at).await;
    assert_eq!(after, 0, "{at}: errors stay");
    errors
}

#[test]
fn reads_of_segments_that_lie_are_found_out() {
    let errors: usize = seeds(80).map(|seed| simulate(lie(seed, None))).sum();
    println!("{errors} answers were errors");
    assert!(errors > 50 || variable("AETHER_SEED").is_some(), "{errors}");
}

/// Damage at rest: where it strikes and what it does.
#[derive(Clone, Copy, Debug)]
enum Damage {
    /// A bit turned over.
    Flip,
    /// A part that holds what it held before: a write that never came.
    Stale,
    /// A part that holds what belongs elsewhere in the file.
    Misdirected,
    /// A part of zeros.
    Lost,
}

fn strike(run: &Run<Ground>, before: &Run<Ground>, path: &Path, damage: Damage, rng: &mut Rng) {
    let old = before.world.fs.contents(path).unwrap_or_default();
    run.world.fs.damage(path, |bytes| {
        // redb's pages are of 4 KiB; a sector is the least that a disk writes.
        let unit = [SECTOR, 4096][rng.usize(..2)].min(bytes.len());
        // Where something is; most of redb's file waits for use.
        let used: Vec<usize> = (0..bytes.len() / unit)
            .map(|part| part * unit)
            .filter(|place| bytes[*place..place + unit].iter().any(|b| *b != 0))
            .collect();
        let place = used[rng.usize(..used.len())];
        let other = used[rng.usize(..used.len())];
        match damage {
            Damage::Flip => bytes[place + rng.usize(..unit)] ^= 1 << rng.u8(..8),
            Damage::Misdirected => bytes.copy_within(other..other + unit, place),
            Damage::Lost => bytes[place..place + unit].fill(0),
            Damage::Stale => {
                let part = old.get(place..place + unit).unwrap_or_default();
                bytes[place..place + part.len()].copy_from_slice(part);
            }
        }
    });
}

/// Two moments of a memory that is closed at both.
async fn before_and_whole() -> (Run<Ground>, Run<Ground>) {
    let before = closed(1).await;
    let mut whole = before.on(before.world.fork(1));
    whole.memory = Some(whole.world.open().await.unwrap());
    whole.work(&every_kind()[21..], "between").await;
    whole.memory().close().await.unwrap();
    (before, whole)
}

/// What came of damage.
#[derive(Debug, Default)]
struct Harm {
    refused: usize,
    errors: usize,
    harmless: usize,
}

/// Damages a file while nobody has it open. Either opening refuses, or every answer is right or an error, and `check` tells of it; with `blind` it
/// looks elsewhere.
async fn damage(
    before: &Run<Ground>,
    whole: &Run<Ground>,
    seed: u64,
    blind: bool,
    planted: Option<Mistake>,
) -> Harm {
    let mut rng = Rng::with_seed(seed);
    let mut run = whole.on(whole.world.fork(seed));
    run.world.layer = planted.map(planted::layer);
    let damage = [
        Damage::Flip,
        Damage::Stale,
        Damage::Misdirected,
        Damage::Lost,
    ][rng.usize(..4)];
    let segments: Vec<PathBuf> = (run.world.fs.files().into_iter())
        .filter(|path| is_cold(path) && !path.ends_with("LOCK"))
        .collect();
    let path = match rng.choice(&segments) {
        Some(path) if rng.bool() => path.clone(),
        _ => meta_path(),
    };
    strike(&run, before, &path, damage, &mut rng);
    let at = format!("AETHER_SEED={seed}, {damage:?} in {}", path.display());
    let report = match blind {
        true => whole.world.check().await,
        false => run.world.check().await,
    };
    let mut harm = Harm::default();
    match run.world.open().await {
        Err(error) => {
            assert!(is_honest(&error), "{at}: open: {error}");
            harm.refused += 1;
        }
        Ok(memory) => {
            let n = answers(&mut run, &memory, &at).await;
            harm.errors += n;
            harm.harmless += usize::from(n == 0);
            let is_told = report.is_err() || report.is_ok_and(|r| !r.is_clean());
            assert!(n == 0 || is_told, "{at}: check found nothing");
        }
    }
    harm
}

#[test]
fn damage_at_rest_is_found_or_does_no_harm() {
    simulate(async {
        let mut all = Harm::default();
        let (before, whole) = before_and_whole().await;
        for seed in seeds(150) {
            let harm = damage(&before, &whole, seed, false, None).await;
            all.refused += harm.refused;
            all.errors += harm.errors;
            all.harmless += harm.harmless;
        }
        let Harm {
            refused,
            errors,
            harmless,
        } = all;
        println!(
            "{refused} openings refused, {errors} answers were errors, {harmless} times no harm"
        );
        let one = variable("AETHER_SEED").is_some();
        assert!(one || (refused > 5 && errors > 2 && harmless > 20));
    });
}

/// The first seed at which a judge of the above finds a mistake, of so many; `said` is in what it says.
fn finds<T>(mistake: impl std::fmt::Debug, seeds: u64, said: &str, judge: impl Fn(u64) -> T) {
    let red = (0..seeds).find_map(|seed| {
        let what = caught(|| drop(judge(seed))).err()?;
        Some((seed, what))
    });
    let (seed, what) = red.unwrap_or_else(|| panic!("{mistake:?} is not found"));
    println!("{mistake:?}: found with seed {seed}: {what:.150}");
    assert!(what.contains(said), "{mistake:?}: {what}");
}

#[test]
fn planted_stores_that_make_light_of_a_failing_disk_are_found() {
    // Changes of the workload, in turn: few belong to a put.
    let ops = every_kind();
    for mistake in [Mistake::CommitsInWords, Mistake::PutsInWords] {
        finds(mistake, 500, "of Changes", |n| {
            let disk = ground(1, Some(mistake));
            let at = (Calls::Changes, 1 + 2 * n);
            let failing = fail(disk, &ops, at, false, ErrorKind::Other, 1);
            simulate(failing)
        });
    }
    // A commit finds room in redb's file nearly always, a new segment finds none.
    finds(Mistake::PutsInWords, 12, "fills up", |seed| {
        simulate(fill_up(seed, Some(Mistake::PutsInWords)))
    });
    finds(Mistake::GivesHalf, 1, "short reads", |_| {
        simulate(read_short(Some(Mistake::GivesHalf)))
    });
}

#[test]
fn planted_mistakes_on_a_disk_that_lies_are_found() {
    finds(Mistake::Forgets, 3, "th read", |seed| {
        simulate(lie(seed, Some(Mistake::Forgets)))
    });
    finds(Mistake::HoldsAGrudge, 40, "errors stay", |seed| {
        simulate(lie(seed, Some(Mistake::HoldsAGrudge)))
    });
    let damaged = |seed, blind, planted| {
        simulate(async {
            let (before, whole) = before_and_whole().await;
            damage(&before, &whole, seed, blind, planted).await
        })
    };
    finds(Mistake::Forgets, 5, "AETHER_SEED", |seed| {
        damaged(seed, false, Some(Mistake::Forgets))
    });
    finds(
        "a check that is blind",
        100,
        "check found nothing",
        |seed| damaged(seed, true, None),
    );
}

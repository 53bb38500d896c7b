//! Every call of a store fails once, and from there on until the memory is opened again, in turn: without an effect, without a reply
//! before the effect, and without one after it. Whatever an operation says then, nothing acknowledged is lost, nothing comes back that was
//! deleted, and once the store answers again the work goes on. So it is with calls of the recovery from a power cut, that fail once or from there on.
//!
//! With `AETHER_EVERY=1` each call fails in each of the five ways, and a recovery from a cut at each; else every other way, and some.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use aether_core::config::SearchMode;
use aether_core::engine::Parts;
use aether_core::{Error, ErrorKind, SearchRequest};
use aether_testkit::env::every;
use aether_testkit::workload::every_kind;
use common::script::settings;
use common::{Call, Run, Verdict, World};

/// Fails the calls from the `n`th of this life on, or that one alone.
fn fail(run: &mut Run, n: u64, lasting: bool, verdict: Verdict) {
    let at = run.world.power.calls() + n;
    run.faulty = true;
    run.world.power.script(move |_: &Call, i| {
        if i == at || (lasting && i > at) {
            verdict
        } else {
            Verdict::Pass
        }
    });
}

/// The store answers again; what an operation that failed did is looked into after a reopening, as a user would.
async fn recover(run: &mut Run, at: &str) {
    run.faulty = false;
    run.failed.set(false);
    run.world.power.unscript();
    let risen = run.rise().await;
    risen.unwrap_or_else(|what| panic!("{at}: {what}"));
}

/// What reads say while nobody knows what became of the operation that failed: an answer, or that they cannot know; never that something
/// is wrong with what is stored.
async fn read(run: &Run, at: &str) {
    // It may have been the opening that failed.
    let Some(memory) = &run.memory else {
        return;
    };
    // Closed: what failed was the closing.
    let telling = |e: &Error| {
        matches!(
            e.kind(),
            ErrorKind::Poisoned | ErrorKind::Unavailable | ErrorKind::Closed
        )
    };
    for id in run.model.ids().into_iter().chain(run.model.doubted()) {
        if let Err(error) = memory.get(&id).await {
            assert!(telling(&error), "{at}: get {id}: {error}");
        }
    }
    let query = vec![0.5; run.world.settings.dim];
    let request = SearchRequest::new(query, 400).mode(SearchMode::Complete);
    match memory.search(request.parts(Parts::default())).await {
        Ok(answer) => {
            let unread = answer.hits.iter().any(|h| h.vector.is_none());
            assert!(!unread || !answer.coverage.is_whole(), "{at}: {answer:?}");
        }
        Err(error) => assert!(telling(&error), "{at}: search: {error}"),
    }
}

/// Fails calls from each on in turn; how many runs met their failure, and in how many of them an operation failed.
async fn each_call(lasting: bool, verdict: Verdict) -> (u64, u64) {
    let ops = every_kind();
    let mut failed = 0;
    // Every call, or every other one, so that each meets at least two of the five ways.
    let (from, stride) = match every() {
        true => (1, 1),
        false => (
            1 + u64::from(lasting) + u64::from(verdict == Verdict::LoseReply),
            2,
        ),
    };
    for n in (from..).step_by(stride) {
        let at = format!("{verdict:?} at call {n}, lasting: {lasting}");
        let mut run = Run::new(World::with(settings())).await;
        let first = run.world.power.calls();
        fail(&mut run, n, lasting, verdict);
        let mut rest = ops.iter();
        for op in rest.by_ref() {
            let done = run.step(op.clone()).await;
            done.unwrap_or_else(|what| panic!("{at}: {op:?}: {what}"));
            if run.failed.get() {
                break;
            }
        }
        let met = run.world.power.calls() >= first + n;
        if run.failed.get() {
            failed += 1;
            read(&run, &at).await;
            if lasting {
                // While the store is away, opening is refused, and does no harm.
                drop(run.memory.take());
                let opened = run.world.builder().open().await;
                match opened {
                    Ok(_) => panic!("{at}: opened without a store"),
                    Err(e) => assert!(run.is_honest(&e), "{at}: {e:?}"),
                }
            }
            recover(&mut run, &at).await;
            run.work(&rest.cloned().collect::<Vec<_>>(), &at).await;
        } else {
            run.faulty = false;
            run.world.power.unscript();
        }
        run.end(&at).await;
        if !met {
            return (n - 1, failed);
        }
    }
    unreachable!("a workload has an end")
}

/// Works until the plug is pulled at a call; `None` if the work was over before.
async fn cut_at(call: u64) -> Option<Run> {
    let mut run = Run::new(World::with(settings())).await;
    run.world.power.die_at(call, call.is_multiple_of(2));
    for op in every_kind() {
        let done = run.step_without_rising(op.clone()).await;
        done.unwrap_or_else(|what| panic!("cut at call {call}: {op:?}: {what}"));
        if run.world.power.is_dead() {
            return Some(run);
        }
    }
    None
}

/// After a power cut each call of the recovery fails in turn. The opening may be refused for that; the next one finds everything.
#[tokio::test]
async fn each_call_of_a_recovery_fails() {
    aether_core::engine::compute_in_place(true);
    let stride = if every() { 1 } else { 23 };
    let (mut runs, mut refused, mut refused_for_good) = (0, 0, 0);
    for n in (1..).step_by(stride) {
        let Some(run) = cut_at(n).await else { break };
        let pending = run.world.meta.pending();
        for m in 1.. {
            let ways = [
                (Verdict::Fail, false),
                (Verdict::Lost, false),
                (Verdict::LoseReply, false),
                (Verdict::Fail, true),
                (Verdict::LoseReply, true),
            ];
            let (verdict, lasting) = ways[(n + m) as usize % ways.len()];
            let at = format!(
                "cut at call {n}, then {verdict:?} at call {m} of the recovery, lasting: {lasting}"
            );
            let keep = pending * (m as usize / ways.len() % 2);
            let mut again = run.on(run.world.fork(keep));
            let first = again.world.power.calls();
            fail(&mut again, m, lasting, verdict);
            let opened = aether_testkit::run::World::open(&again.world).await;
            let met = again.world.power.calls() >= first + m;
            if let Err(e) = &opened {
                assert!(met && again.is_honest(e), "{at}: {e:?}");
            }
            refused += usize::from(opened.is_err());
            refused_for_good += usize::from(opened.is_err() && lasting);
            drop(opened);
            recover(&mut again, &at).await;
            if !met {
                break;
            }
            runs += 1;
        }
    }
    println!(
        "{runs} recoveries with a call that failed, {refused} of them refused, {refused_for_good} of these by calls that failed from there on"
    );
    assert!(runs > 200 && refused > 50, "{runs} {refused}");
    assert!(refused_for_good > 20, "{refused_for_good}");
}

#[tokio::test]
async fn once_without_effect() {
    let (calls, failed) = each_call(false, Verdict::Fail).await;
    assert!(calls > 100 && failed > 10, "{calls} calls, {failed} failed");
}

#[tokio::test]
async fn once_before_the_effect_without_a_reply() {
    let (calls, failed) = each_call(false, Verdict::Lost).await;
    assert!(calls > 100 && failed > 10, "{calls} calls, {failed} failed");
}

#[tokio::test]
async fn once_after_the_effect_without_a_reply() {
    let (calls, failed) = each_call(false, Verdict::LoseReply).await;
    assert!(calls > 100 && failed > 10, "{calls} calls, {failed} failed");
}

#[tokio::test]
async fn from_there_on_without_effect() {
    let (calls, failed) = each_call(true, Verdict::Fail).await;
    assert!(calls > 50 && failed > 50, "{calls} calls, {failed} failed");
}

#[tokio::test]
async fn from_there_on_after_the_effect_without_a_reply() {
    let (calls, failed) = each_call(true, Verdict::LoseReply).await;
    assert!(calls > 50 && failed > 50, "{calls} calls, {failed} failed");
}

//! Checks that a run can be replayed, saved and taken up again, and that damage is found.

use aether_core::Row;
use aether_core::role::{EvictionPolicy, Explanation};
use proptest::collection::vec;
use proptest::prelude::*;

use super::PolicyHarness;
use super::sim::{Seen, Sim, Step, over, steps};

/// Everything a policy can be asked, after each of some steps.
fn answers(sim: &mut Sim, steps: &[Step], explain: bool) -> Vec<(Option<Seen>, Vec<Explanation>)> {
    let mut all = Vec::new();
    for (i, step) in steps.iter().enumerate() {
        let seen = sim.step(step);
        let mut explained = Vec::new();
        if explain && i % 10 == 9 {
            let context = sim.context();
            explained.extend(
                sim.rows
                    .keys()
                    .map(|row| sim.policy.explain(*row, &context)),
            );
        }
        all.push((seen, explained));
    }
    all
}

fn saved(policy: &dyn EvictionPolicy) -> Vec<u8> {
    let mut bytes = Vec::new();
    policy.save(&mut bytes);
    bytes
}

/// The same seed, events and questions give the same answers, explanations and saved books.
pub fn same_seed_and_events_give_same_answers(harness: &PolicyHarness) {
    over(steps(), |steps| {
        let run = || {
            let mut sim = Sim::new(harness.build(99));
            let answers = answers(&mut sim, &steps, true);
            (answers, saved(&*sim.policy))
        };
        let (first, second) = (run(), run());
        match first == second {
            true => Ok(()),
            false => Err("two runs of the same seed and events differ".to_owned()),
        }
    });
}

/// `explain` changes nothing: answers are the same with and without it.
pub fn asking_for_an_explanation_changes_nothing(harness: &PolicyHarness) {
    over(steps(), |steps| {
        let run = |explain| {
            let mut sim = Sim::new(harness.build(99));
            let answers = answers(&mut sim, &steps, explain);
            answers
                .into_iter()
                .map(|(seen, _)| seen)
                .collect::<Vec<_>>()
        };
        match run(true) == run(false) {
            true => Ok(()),
            false => Err("answers differ when explanations are asked for in between".to_owned()),
        }
    });
}

/// Books taken up by another instance, of another seed, go on as the saved ones do, random draws included.
pub fn loading_gives_the_same_answers(harness: &PolicyHarness) {
    over((steps(), steps()), |(before, after)| {
        let mut sim = Sim::new(harness.build(3));
        before.iter().for_each(|step| {
            sim.step(step);
        });
        let mut other = sim.fork(harness.build(4));
        let loaded = other.policy.load(&saved(&*sim.policy));
        loaded.map_err(|e| format!("books that were just saved were refused: {e}"))?;
        let (expected, got) = (sim.policy.len(), other.policy.len());
        if expected != got {
            return Err(format!("{expected} hot rows were saved, {got} were loaded"));
        }
        let expected = answers(&mut sim, &after, true);
        let got = answers(&mut other, &after, true);
        match expected.iter().zip(&got).position(|(e, g)| e != g) {
            None => Ok(()),
            Some(at) => Err(format!(
                "{} steps after loading, expected {:?}, got {:?}",
                at + 1,
                expected[at],
                got[at]
            )),
        }
    });
}

/// `save` leaves alone what is in its buffer; `load` replaces all that was known.
pub fn saving_appends_and_loading_replaces(harness: &PolicyHarness) {
    let mut sim = Sim::new(harness.build(3));
    for _ in 0..20 {
        sim.insert(1_000, 100.0, true);
    }
    let mut bytes = b"kept".to_vec();
    sim.policy.save(&mut bytes);
    assert_eq!(&bytes[..4], b"kept", "save must append");
    assert_eq!(&bytes[4..], saved(&*sim.policy), "save must change nothing");

    let mut other = Sim::new(harness.build(3));
    other.now.0 += 10;
    for _ in 0..40 {
        other.insert(1_000, 100.0, true);
    }
    let loaded = other.policy.load(&bytes[4..]);
    assert!(loaded.is_ok(), "{loaded:?}");
    assert_eq!(other.policy.len(), 20);
    let explained = other.policy.explain(Row(40), &other.context());
    assert!(
        !explained.known,
        "row 40 was known before loading, not afterwards"
    );

    let empty = saved(&*harness.build(3));
    let loaded = other.policy.load(&empty);
    assert!(loaded.is_ok(), "empty books were refused: {loaded:?}");
    assert!(other.policy.is_empty());
}

/// Loads what was not written and looks whether the policy says so and begins anew.
fn refused(sim: &mut Sim, bytes: &[u8], what: &str) {
    match sim.policy.load(bytes) {
        Ok(()) => panic!("{what} was taken for books"),
        Err(e) => assert!(e.is_corrupt(), "{what}: expected Corrupt, got {e:?}"),
    }
    assert_eq!(sim.policy.len(), 0, "{what} left rows in the books");
}

fn of_rows(harness: &PolicyHarness) -> Sim {
    let mut sim = Sim::new(harness.build(3));
    for i in 0..12 {
        sim.now.0 += 1_000_000;
        sim.insert(1_000, 100.0, i % 3 > 0);
    }
    for at in 0..30 {
        sim.step(&Step::Use { at });
        sim.step(&Step::Judge { at, reward: 0.5 });
    }
    sim.step(&Step::Pin {
        at: 1,
        pinned: true,
    });
    sim
}

/// Any flipped bit, any cut, and anything appended is found; the books are empty then, and the policy goes on from there.
pub fn damaged_books_are_corrupt_and_leave_none(harness: &PolicyHarness) {
    let sim = of_rows(harness);
    let whole = saved(&*sim.policy);
    let fresh = harness.build(5).bytes();
    let mut other = Sim::new(harness.build(5));
    let row = other.insert(1_000, 100.0, true);

    // Every bit of the first and last bytes, where counts and sums stand, and every seventh in between.
    let (bits, edge) = (whole.len() * 8, 128 * 8);
    for bit in (0..bits).filter(|b| *b < edge || *b >= bits.saturating_sub(edge) || b % 7 == 0) {
        let mut bad = whole.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        refused(&mut other, &bad, "a flipped bit");
    }
    for cut in 0..whole.len() {
        refused(&mut other, &whole[..cut], "a cut");
    }
    let mut longer = whole.clone();
    longer.push(0);
    refused(&mut other, &longer, "a byte too many");
    for at in 0..whole.len().saturating_sub(8) {
        let mut bad = whole.clone();
        bad[at..at + 8].fill(0xff);
        if bad != whole {
            refused(&mut other, &bad, "a huge number");
        }
    }
    assert!(
        other.policy.bytes() <= fresh + 65_536,
        "books refused as damaged left {} bytes behind, fresh ones take {fresh}",
        other.policy.bytes()
    );
    let explained = other.policy.explain(row, &other.context());
    assert!(
        !explained.known,
        "what was known before a failed load must be gone"
    );

    other.insert(1_000, 100.0, true);
    assert_eq!((other.policy.len(), other.ask(9, u64::MAX).len()), (1, 1));
    let again = other.policy.load(&whole);
    assert!(again.is_ok(), "good books after bad ones: {again:?}");
    assert_eq!(other.policy.len(), sim.policy.len());
}

/// Random bytes are no books, with or without a true beginning.
pub fn random_bytes_are_corrupt(harness: &PolicyHarness) {
    let whole = saved(&*of_rows(harness).policy);
    over((vec(any::<u8>(), 0..600), 0_usize..64), |(noise, head)| {
        let mut other = Sim::new(harness.build(5));
        other.insert(1_000, 100.0, true);
        refused(&mut other, &noise, "noise");
        let head = &whole[..head.min(whole.len())];
        refused(
            &mut other,
            &[head, &noise].concat(),
            "noise after a true beginning",
        );
        Ok(())
    });
}

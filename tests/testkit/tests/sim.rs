//! Migrations and user operations in every order, with every outcome of every effect, and with power cuts at each.

use aether_testkit::sim::{Actor, Budget, Bug, Scenario, Start, explore};

use Actor::{Compact, CompactSome, Delete, Demote, Promote, Release, Search, Sweep, Upsert, Write};
use Start::{Cold, Fresh, Resident};

/// Two migrations, or one, beside what users do.
fn scenarios() -> Vec<(&'static str, Scenario)> {
    let scenario = |points: &[Start], actors: Vec<Actor>| Scenario {
        points: points.to_vec(),
        actors,
    };
    vec![
        (
            "a demotion, an update of one of its rows, a search",
            scenario(&[Fresh, Fresh], vec![Demote(vec![0, 1]), Upsert(0), Search]),
        ),
        (
            "a demotion, a delete of one of its rows, a search",
            scenario(&[Fresh, Fresh], vec![Demote(vec![0, 1]), Delete(0), Search]),
        ),
        (
            "two demotions of the same rows, an update",
            scenario(
                &[Fresh, Fresh],
                vec![Demote(vec![0, 1]), Demote(vec![1, 0]), Upsert(0)],
            ),
        ),
        (
            "a demotion and a promotion of the same row, a delete, a search",
            scenario(
                &[Fresh, Cold],
                vec![Demote(vec![0]), Promote(vec![0, 1]), Delete(1), Search],
            ),
        ),
        (
            "two promotions of the same rows, an update",
            scenario(
                &[Cold, Cold],
                vec![Promote(vec![0, 1]), Promote(vec![1]), Upsert(0)],
            ),
        ),
        (
            "a release and a promotion of the same row, an update, a search",
            scenario(
                &[Resident, Cold],
                vec![Release(vec![0]), Promote(vec![0, 1]), Upsert(0), Search],
            ),
        ),
        (
            "a release, a delete and an update of what it moves, a search",
            scenario(
                &[Resident, Resident],
                vec![Release(vec![0, 1]), Delete(0), Upsert(1), Search],
            ),
        ),
        (
            "a write that lands cold over a hot point, its demotion, a search",
            scenario(&[Fresh], vec![Write(0), Demote(vec![0]), Search]),
        ),
        (
            "a write that lands cold over a cold point, its promotion, a delete",
            scenario(&[Cold], vec![Write(0), Promote(vec![0]), Delete(0)]),
        ),
        (
            "a compaction, a delete and an update of its rows, a search",
            scenario(&[Cold, Cold], vec![Compact, Delete(0), Upsert(1), Search]),
        ),
        (
            "a compaction, a sweep, a promotion, a search",
            scenario(
                &[Cold, Resident],
                vec![Compact, Sweep, Promote(vec![0]), Search],
            ),
        ),
        (
            "a compaction, a sweep and a delete under a search",
            scenario(&[Cold, Cold], vec![Compact, Sweep, Delete(0), Search]),
        ),
        (
            "a compaction, a demotion, a release, an update",
            scenario(
                &[Fresh, Resident, Cold],
                vec![Compact, Demote(vec![0]), Release(vec![1]), Upsert(2)],
            ),
        ),
        (
            "a part of a segment is compacted, a delete of what stays, an update of what moves, a search",
            scenario(
                &[Cold, Cold],
                vec![CompactSome(vec![0]), Delete(1), Upsert(0), Search],
            ),
        ),
        (
            "a compaction of what is dead, its sweep, a write that lands cold",
            scenario(&[Cold], vec![Delete(0), Compact, Sweep, Write(1)]),
        ),
    ]
}

fn run(budget: Budget) {
    for (name, scenario) in scenarios() {
        match explore(&scenario, budget, Bug::None) {
            Ok(explored) => {
                println!("{name}: {explored:?}");
                assert!(explored.ends > 0 && explored.states > 50, "{name}");
            }
            Err(broken) => panic!("{name}: {broken}"),
        }
    }
}

#[test]
fn every_order_with_one_failure() {
    run(Budget {
        faults: 1,
        crashes: 0,
    });
}

#[test]
fn every_order_with_two_power_cuts() {
    run(Budget {
        faults: 0,
        crashes: 2,
    });
}

#[test]
fn every_order_with_a_failure_and_a_power_cut() {
    run(Budget {
        faults: 1,
        crashes: 1,
    });
}

/// A checker that cannot fail is worth nothing: each planted mistake must be caught, and by the check that is there for it.
#[test]
fn every_planted_mistake_is_caught() {
    let budget = Budget {
        faults: 1,
        crashes: 1,
    };
    for bug in Bug::ALL {
        let words = match bug {
            Bug::None => unreachable!("not among the mistakes"),
            Bug::DropsBeforeCommit | Bug::ForgetsIndex => "a search misses",
            Bug::DropsUnderReaders | Bug::KillsUnderReaders => "a search that began when",
            Bug::DeletesAfterUnknownCommit | Bug::TrustsUnknownPut => "the blob of segment",
            Bug::PutsWithoutIntent => "without a durable intent",
            Bug::ForgetsToLookAgain => "no point leads to it",
            Bug::LeavesIntent => "is committed and intended",
            Bug::ForgetsUndo => "the index holds",
            Bug::ForgetsResidency => "resident are",
            Bug::CompactsTheDead => "finds the ghosts",
            Bug::ForgetsNotes => "is an orphan",
            Bug::SweepsUnderReaders => "whose blob is gone",
            Bug::LessensUnderReaders => "a search that began when",
            Bug::RecoversWithoutBlobs => "is an orphan",
            Bug::RecoversWithoutIntents => "an intent was left",
        };
        let broken = scenarios()
            .into_iter()
            .find_map(|(_, scenario)| explore(&scenario, budget, bug).err());
        let broken = broken.unwrap_or_else(|| panic!("{bug:?} was not caught"));
        assert!(broken.what.contains(words), "{bug:?}: {broken}");
        assert!(!broken.path.is_empty(), "{bug:?}: {broken}");
    }
}

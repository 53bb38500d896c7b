use super::*;
use crate::id::{BlobKey, SegmentId};

fn blob() -> BlobKey {
    BlobKey::new("segments/1").unwrap()
}

fn drive(mut machine: Machine, events: &[Event]) -> Vec<Effect> {
    let mut effects = vec![machine.step(Event::Begin).unwrap()];
    effects.extend(events.iter().map(|e| machine.step(e.clone()).unwrap()));
    effects
}

#[test]
fn a_demotion_goes_through_its_steps_in_order() {
    let effects = drive(Machine::demote(SegmentId(1), blob()), &vec![Event::Done; 5]);
    assert_eq!(
        effects,
        [
            Effect::CommitIntent(SegmentId(1), blob()),
            Effect::PutBlob(blob()),
            Effect::CommitMove,
            Effect::IndexCold,
            Effect::DropHot,
            Effect::Finish(Outcome::Completed),
        ]
    );
}

#[test]
fn a_compaction_retires_its_inputs_after_its_commit_and_without_live_rows_writes_no_blob() {
    let effects = drive(
        Machine::compact(Some((SegmentId(1), blob()))),
        &vec![Event::Done; 5],
    );
    assert_eq!(
        effects,
        [
            Effect::CommitIntent(SegmentId(1), blob()),
            Effect::PutBlob(blob()),
            Effect::CommitMove,
            Effect::IndexCold,
            Effect::RetireInputs,
            Effect::Finish(Outcome::Completed),
        ]
    );
    let effects = drive(Machine::compact(None), &vec![Event::Done; 3]);
    assert_eq!(
        effects,
        [
            Effect::CommitMove,
            Effect::IndexCold,
            Effect::RetireInputs,
            Effect::Finish(Outcome::Completed),
        ]
    );
    let failed = drive(Machine::compact(None), &[Event::Failed(Failure::Nothing)]);
    assert_eq!(failed[1], Effect::Finish(Outcome::RolledBack));
}

#[test]
fn a_put_whose_reply_was_lost_is_looked_up_and_never_deleted_in_line() {
    let lost = Event::Failed(Failure::Unknown);
    let found = drive(
        Machine::demote(SegmentId(1), blob()),
        &[Event::Done, lost.clone(), Event::Present],
    );
    assert_eq!(found.last(), Some(&Effect::CommitMove));
    let gone = drive(
        Machine::demote(SegmentId(1), blob()),
        &[Event::Done, lost, Event::Absent, Event::Done],
    );
    assert_eq!(gone[3], Effect::CommitGarbage(SegmentId(1), blob()));
    assert_eq!(gone[4], Effect::Finish(Outcome::RolledBack));
}

#[test]
fn a_failed_promotion_leaves_nothing_behind() {
    for failed_at in 0..2 {
        let mut events = vec![Event::Done; failed_at];
        events.extend([Event::Failed(Failure::Nothing), Event::Done]);
        let effects = drive(Machine::promote(), &events);
        assert_eq!(effects[failed_at + 1], Effect::UndoHot);
        assert_eq!(effects.last(), Some(&Effect::Finish(Outcome::RolledBack)));
    }
}

#[test]
fn an_impossible_event_is_an_error_and_changes_nothing() {
    let mut machine = Machine::promote();
    let before = machine.clone();
    assert!(machine.step(Event::Present).is_err());
    assert_eq!(machine, before);
}

#[test]
fn every_walk_ends_and_never_drops_rows_before_the_commit_point() {
    let events = [
        Event::Done,
        Event::Failed(Failure::Nothing),
        Event::Failed(Failure::Unknown),
        Event::Failed(Failure::Final),
        Event::Present,
        Event::Absent,
    ];
    let starts = [
        Machine::demote(SegmentId(1), blob()),
        Machine::write(SegmentId(1), blob()),
        Machine::release(),
        Machine::promote(),
        Machine::compact(Some((SegmentId(1), blob()))),
        Machine::compact(None),
    ];
    for start in starts {
        let mut open = vec![(start.clone(), Event::Begin, Vec::new())];
        let mut ends = 0;
        while let Some((mut machine, event, mut done)) = open.pop() {
            assert!(done.len() < 12, "a walk without end: {done:?}");
            let Ok(effect) = machine.step(event) else {
                continue;
            };
            if effect == Effect::DropHot && start.kind() == Kind::Demote {
                assert!(done.contains(&Effect::CommitMove) && done.contains(&Effect::IndexCold));
            }
            if effect == Effect::RetireInputs {
                assert!(done.contains(&Effect::CommitMove) && done.contains(&Effect::IndexCold));
            }
            done.push(effect);
            if machine.outcome().is_some() {
                ends += 1;
                continue;
            }
            open.extend(
                events
                    .iter()
                    .map(|e| (machine.clone(), e.clone(), done.clone())),
            );
        }
        assert!(ends > 1);
    }
}

#[test]
fn recovery_rolls_back_what_was_started_and_sweeps_orphans() {
    let key = |s: &str| BlobKey::new(s).unwrap();
    let intent = |n, kind, b: &str| Intent {
        number: n,
        kind,
        segment: SegmentId(n),
        blob: key(b),
    };
    let repairs = plan_recovery(
        &[
            intent(1, IntentKind::Started, "s/1"),
            intent(2, IntentKind::Garbage, "s/2"),
        ],
        &[(SegmentId(3), key("s/3")), (SegmentId(4), key("s/4"))],
        &[key("s/1"), key("s/3"), key("s/9")],
    );
    assert_eq!(
        repairs,
        [
            Repair::DeleteBlob(key("s/1")),
            Repair::DeleteIntent(1),
            Repair::DeleteBlob(key("s/2")),
            Repair::DeleteIntent(2),
            Repair::DeleteBlob(key("s/9")),
            Repair::Missing(SegmentId(4), key("s/4")),
        ]
    );
}

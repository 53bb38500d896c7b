//! Checks of what a policy proposes and admits.

use std::collections::BTreeSet;

use aether_core::Row;
use aether_core::role::{Context, Event, Item, Tier, Verdict, Want};
use proptest::collection::vec;
use proptest::prelude::*;

use super::PolicyHarness;
use super::sim::{Seen, Sim, Step, step, watch, watch_steps};
use super::together::wished;

const TEN_YEARS_US: u64 = 10 * 365 * 86_400 * 1_000_000;

/// No proposal is cold, gone, pinned, or made twice in one answer.
pub fn victims_are_hot_unpinned_and_distinct(harness: &PolicyHarness) {
    watch(harness, |sim, seen| match seen {
        Seen::Victims(_, verdicts) => sound(sim, verdicts),
        _ => Ok(()),
    });
}

fn sound(sim: &Sim, verdicts: &[Verdict]) -> Result<(), String> {
    let mut met = BTreeSet::new();
    verdicts.iter().try_for_each(|verdict| {
        let row = verdict.row;
        match sim.rows.get(&row) {
            None => return Err(format!("row {row} was proposed, but it is gone")),
            Some(t) if !t.hot => return Err(format!("row {row} was proposed, but it is cold")),
            Some(t) if t.pinned => return Err(format!("row {row} was proposed, but it is pinned")),
            Some(_) => {}
        }
        if met.insert(row) {
            Ok(())
        } else {
            Err(format!("row {row} was proposed twice in one answer"))
        }
    })
}

/// Keep-values are finite and do not fall from one proposal to the next; each says why.
pub fn victims_come_worst_first(harness: &PolicyHarness) {
    watch(harness, |_, seen| match seen {
        Seen::Victims(_, verdicts) => ordered(verdicts),
        _ => Ok(()),
    });
    if !harness.minds_uses {
        return;
    }
    // The order must also be the right one in a plain case: what was used often and just now is not among the first to go.
    let mut sim = Sim::new(harness.build(7));
    let rows: Vec<Row> = (0..40).map(|_| sim.insert(1_000, 100.0, true)).collect();
    for _ in 0..20 {
        sim.now.0 += 60_000_000;
        for row in &rows[20..] {
            let event = Event::Accessed { row: *row };
            sim.policy.on_event(&event, sim.now);
        }
    }
    let verdicts = sim.ask(usize::MAX, 20_000);
    let worst: BTreeSet<Row> = verdicts.iter().take(20).map(|v| v.row).collect();
    let expected: BTreeSet<Row> = rows[..20].iter().copied().collect();
    assert_eq!(
        worst, expected,
        "the rows that were never used should be the first to leave"
    );
}

fn ordered(verdicts: &[Verdict]) -> Result<(), String> {
    if let Some(v) = verdicts.iter().find(|v| !v.keep.is_finite()) {
        return Err(format!("row {} has the keep-value {}", v.row, v.keep));
    }
    if let Some(v) = verdicts.iter().find(|v| v.reason.trim().is_empty()) {
        return Err(format!("row {} is proposed without a reason", v.row));
    }
    match verdicts.windows(2).find(|pair| pair[0].keep > pair[1].keep) {
        None => Ok(()),
        Some(pair) => Err(format!(
            "row {} with keep-value {} comes before row {} with {}: expected the worst first",
            pair[0].row, pair[0].keep, pair[1].row, pair[1].keep
        )),
    }
}

/// An answer never has more rows than asked for; 0 gives none.
pub fn victims_are_at_most_as_many_as_asked(harness: &PolicyHarness) {
    watch(harness, |_, seen| match seen {
        Seen::Victims(want, verdicts) if verdicts.len() > want.rows => Err(format!(
            "expected at most {} rows, got {}",
            want.rows,
            verdicts.len()
        )),
        _ => Ok(()),
    });
}

/// Asked for bytes, a policy proposes rows that free as many, unless its limit of rows is reached or nothing else may go.
pub fn victims_free_enough_bytes(harness: &PolicyHarness) {
    watch(harness, |sim, seen| match seen {
        Seen::Victims(want, verdicts) => enough(sim, *want, verdicts),
        _ => Ok(()),
    });
}

fn enough(sim: &Sim, want: Want, verdicts: &[Verdict]) -> Result<(), String> {
    let freed = verdicts.iter().filter_map(|v| sim.rows.get(&v.row));
    let freed: u64 = freed.map(|t| u64::from(t.item.bytes)).sum();
    let (movable, rows) = sim.movable();
    if want.bytes == 0 || freed >= want.bytes || verdicts.len() >= want.rows.min(rows) {
        return Ok(());
    }
    Err(format!(
        "expected victims of {} bytes in at most {} rows, got {freed} bytes in {} rows of {rows} that may go with {movable} bytes",
        want.bytes,
        want.rows,
        verdicts.len()
    ))
}

/// The same with more rows than any sample has, most of them pinned, and questions from one row to all.
pub fn victims_of_a_large_tier_free_enough_bytes(harness: &PolicyHarness) {
    for pin_every in [1, 2, 10] {
        let mut sim = Sim::new(harness.build(11));
        for i in 0..5_000_u32 {
            sim.now.0 += 1_000;
            let row = sim.insert(500 + i % 1_000, 100.0, true);
            if i % 10 >= pin_every {
                sim.rows.entry(row).and_modify(|t| t.pinned = true);
                let event = Event::Pinned { row, pinned: true };
                sim.policy.on_event(&event, sim.now);
            }
        }
        let (movable, rows) = sim.movable();
        for bytes in [
            1,
            10_000,
            movable / 2,
            movable - 1,
            movable,
            movable + 1,
            u64::MAX,
        ] {
            for limit in [1, 100, rows, usize::MAX] {
                let verdicts = sim.ask(limit, bytes);
                let want = Want { rows: limit, bytes };
                let fine = sound(&sim, &verdicts)
                    .and_then(|()| ordered(&verdicts))
                    .and_then(|()| enough(&sim, want, &verdicts));
                assert_eq!(fine, Ok(()), "asked for {want:?}");
                assert!(verdicts.len() <= limit, "asked for {want:?}");
            }
        }
    }
}

/// A tier that holds one row, or two, or 64, of sizes that differ: room is found for whatever must come in, so that the capacity is never
/// exceeded, and for whatever else the policy itself lets in.
pub fn a_full_tier_always_makes_room(harness: &PolicyHarness) {
    const LARGEST: u32 = 1_000;
    for rows in [1, 2, 64] {
        let capacity = rows * u64::from(LARGEST);
        let mut sim = Sim::new(harness.build(7));
        let mut rng = fastrand::Rng::with_seed(rows);
        let mut known: Vec<Row> = Vec::new();
        let mut hot_bytes = 0;
        for n in 0..3_000 {
            sim.now.0 += 1_000_000;
            let old = rng.f64().powi(2) * known.len() as f64;
            let row = match known.get(old as usize) {
                Some(row) if rng.u8(..4) > 0 => *row,
                _ => sim.insert(rng.u32(LARGEST / 2..=LARGEST), 100.0, false),
            };
            let truth = sim.rows[&row];
            sim.retrieve(&[row]);
            if known.last() < Some(&row) {
                known.push(row);
            }
            if truth.hot {
                continue;
            }
            let context = |hot_bytes, now| Context {
                now,
                temperature: 1.0,
                hot_bytes,
                budget_bytes: capacity,
            };
            let candidate = sim.policy.admit(&truth.item, &context(hot_bytes, sim.now));
            // Every fifth comes in whatever the policy says, as a written row does.
            let must = n % 5 == 0;
            let wanted = u64::from(truth.item.bytes);
            let lacking = |hot_bytes: u64| (hot_bytes + wanted).saturating_sub(capacity);
            let mut fits = true;
            while lacking(hot_bytes) > 0 {
                let lack = lacking(hot_bytes);
                let now = context(hot_bytes, sim.now);
                let (movable, of) = sim.movable();
                let Some(victim) = sim.policy.victim(lack, &now) else {
                    panic!(
                        "{lack} bytes are lacking of {capacity}, and none of {of} rows of {movable} bytes was proposed"
                    );
                };
                assert_eq!(sound(&sim, std::slice::from_ref(&victim)), Ok(()));
                if !(must || victim.yields_to(&candidate)) {
                    fits = false;
                    break;
                }
                hot_bytes -= u64::from(sim.rows[&victim.row].item.bytes);
                sim.shift(victim.row, false);
            }
            if fits {
                sim.shift(row, true);
                hot_bytes += wanted;
            }
            assert!(hot_bytes <= capacity, "{hot_bytes} bytes of {capacity}");
            let hot = sim.hot().count();
            assert_eq!(sim.policy.len(), hot, "rows in the books, and hot rows");
        }
    }
}

/// Nothing has moved until the engine says so: what was proposed may be proposed again.
pub fn victims_are_proposals_only(harness: &PolicyHarness) {
    let mut sim = Sim::new(harness.build(7));
    let rows: BTreeSet<Row> = (0..50).map(|_| sim.insert(1_000, 100.0, true)).collect();
    for _ in 0..3 {
        let verdicts = sim.ask(usize::MAX, u64::MAX);
        let proposed: BTreeSet<Row> = verdicts.iter().map(|v| v.row).collect();
        assert_eq!(
            proposed, rows,
            "all rows were asked for, and none has moved"
        );
        assert_eq!(sim.policy.len(), 50, "a proposal changed the books");
    }
}

/// A pinned row is not proposed under any pressure; unpinned, it is again.
pub fn pinned_rows_stay_until_unpinned(harness: &PolicyHarness) {
    let mut sim = Sim::new(harness.build(7));
    let rows: Vec<Row> = (0..30).map(|_| sim.insert(1_000, 100.0, true)).collect();
    let mut pin = |rows: &[Row], pinned: bool| {
        for row in rows {
            let event = Event::Pinned { row: *row, pinned };
            sim.policy.on_event(&event, sim.now);
            // A use of a pinned row must not bring it back into the running.
            sim.policy.on_event(&Event::Accessed { row: *row }, sim.now);
        }
        let verdicts = sim.ask(usize::MAX, u64::MAX);
        verdicts.iter().map(|v| v.row).collect::<BTreeSet<Row>>()
    };
    let of = |rows: &[Row]| rows.iter().copied().collect::<BTreeSet<Row>>();
    assert_eq!(
        pin(&rows[..10], true),
        of(&rows[10..]),
        "ten rows are pinned"
    );
    assert_eq!(pin(&rows, true), of(&[]), "all rows are pinned");
    assert_eq!(
        pin(&rows[5..], false),
        of(&rows[5..]),
        "five rows are pinned"
    );
    assert_eq!(pin(&rows, false), of(&rows), "no row is pinned any more");
}

/// A pin belongs to the point: it holds when its row was cold meanwhile, and for a new version.
pub fn pins_survive_a_stay_in_the_cold_and_a_new_version(harness: &PolicyHarness) {
    let mut sim = Sim::new(harness.build(7));
    let item = |row: u64| Item {
        row: Row(row),
        bytes: 1_000,
        restore_us: 100.0,
    };
    let now = sim.now;
    let (hot, cold) = (Tier::Hot, Tier::Cold);
    let pinned = true;
    let events = [
        // Pinned while cold, then promoted.
        Event::Inserted {
            item: item(1_001),
            tier: cold,
        },
        Event::Pinned {
            row: Row(1_001),
            pinned,
        },
        Event::Moved {
            item: item(1_001),
            to: hot,
        },
        // Pinned while hot, moved out by hand, back by hand.
        Event::Inserted {
            item: item(1_002),
            tier: hot,
        },
        Event::Pinned {
            row: Row(1_002),
            pinned,
        },
        Event::Moved {
            item: item(1_002),
            to: cold,
        },
        Event::Moved {
            item: item(1_002),
            to: hot,
        },
        // Pinned while hot, then a new version, hot.
        Event::Inserted {
            item: item(1_003),
            tier: hot,
        },
        Event::Pinned {
            row: Row(1_003),
            pinned,
        },
        Event::Replaced {
            old: Row(1_003),
            item: item(1_004),
            tier: hot,
        },
        // Pinned while hot, then a new version, cold, then promoted.
        Event::Inserted {
            item: item(1_005),
            tier: hot,
        },
        Event::Pinned {
            row: Row(1_005),
            pinned,
        },
        Event::Replaced {
            old: Row(1_005),
            item: item(1_006),
            tier: cold,
        },
        Event::Moved {
            item: item(1_006),
            to: hot,
        },
        // Pinned while cold, then a new version, hot.
        Event::Inserted {
            item: item(1_007),
            tier: cold,
        },
        Event::Pinned {
            row: Row(1_007),
            pinned,
        },
        Event::Replaced {
            old: Row(1_007),
            item: item(1_008),
            tier: hot,
        },
        // Pinned and unpinned while cold, then promoted.
        Event::Inserted {
            item: item(1_009),
            tier: cold,
        },
        Event::Pinned {
            row: Row(1_009),
            pinned,
        },
        Event::Pinned {
            row: Row(1_009),
            pinned: false,
        },
        Event::Moved {
            item: item(1_009),
            to: hot,
        },
    ];
    for event in &events {
        sim.policy.on_event(event, now);
    }
    assert_eq!(sim.policy.len(), 6);
    let verdicts = sim.ask(usize::MAX, u64::MAX);
    let proposed: Vec<Row> = verdicts.iter().map(|v| v.row).collect();
    assert_eq!(proposed, [Row(1_009)], "all other rows are pinned");
}

/// A verdict on a candidate is about that row, has a finite keep-value and a reason.
pub fn admission_answers_in_the_same_scale(harness: &PolicyHarness) {
    watch(harness, |_, seen| match seen {
        Seen::Admitted(item, verdict) => admitted(item, verdict),
        _ => Ok(()),
    });
    // A candidate used often and just now is worth no less than a hot row never used since it came.
    let mut sim = Sim::new(harness.build(7));
    let idle = sim.insert(1_000, 100.0, true);
    let wanted = sim.insert(1_000, 100.0, false);
    let item = sim.rows[&wanted].item;
    for _ in 0..20 {
        sim.now.0 += 60_000_000;
        sim.policy.on_event(&Event::Missed { item }, sim.now);
    }
    let context = sim.context();
    let candidate = sim.policy.admit(&item, &context).keep;
    let resident = sim.policy.explain(idle, &context).keep;
    assert!(
        resident.is_some_and(|resident| candidate >= resident),
        "a candidate used twenty times has {candidate}, a resident never used {resident:?}"
    );
}

fn admitted(item: &Item, verdict: &Verdict) -> Result<(), String> {
    if verdict.row != item.row || !verdict.keep.is_finite() || verdict.reason.trim().is_empty() {
        return Err(format!(
            "asked about row {}: expected its finite keep-value and a reason, got {verdict:?}",
            item.row
        ));
    }
    Ok(())
}

fn sane(sim: &Sim, seen: &Seen) -> Result<(), String> {
    match seen {
        Seen::Told => Ok(()),
        Seen::Victims(_, verdicts) => sound(sim, verdicts).and_then(|()| ordered(verdicts)),
        Seen::Admitted(item, verdict) => admitted(item, verdict),
        Seen::Wished(most, wishes) => wished(sim, *most, wishes),
    }
}

/// Rows of no or 4 GiB, restore times and rewards that are not numbers or out of range, are survived.
pub fn odd_figures_do_no_harm(harness: &PolicyHarness) {
    let odd = prop_oneof![
        Just(0.0_f32),
        Just(-1.0),
        Just(f32::NAN),
        Just(f32::INFINITY),
        Just(f32::NEG_INFINITY),
        Just(f32::MAX),
        Just(f32::MIN_POSITIVE),
    ];
    let bytes = prop_oneof![Just(0_u32), Just(1), Just(u32::MAX), Just(1 << 31)];
    let steps = prop_oneof![
        2 => (bytes, odd.clone(), any::<bool>())
            .prop_map(|(bytes, restore_us, hot)| Step::Insert { bytes, restore_us, hot }),
        2 => (any::<u16>(), odd).prop_map(|(at, reward)| Step::Judge { at, reward }),
        4 => step(),
    ];
    watch_steps(harness, vec(steps, 1..150), sane);
}

/// A clock that stands still, or leaps ten years at a time to the end of all time, is survived.
pub fn time_that_stands_still_or_jumps_does_no_harm(harness: &PolicyHarness) {
    let still = step().prop_map(|step| match step {
        Step::Wait { .. } => Step::Wait { us: 0 },
        step => step,
    });
    watch_steps(harness, vec(still, 1..150), sane);
    let leaping = step().prop_map(|step| match step {
        Step::Wait { us } if us % 8 == 0 => Step::Wait { us: u64::MAX / 3 },
        Step::Wait { .. } => Step::Wait { us: TEN_YEARS_US },
        step => step,
    });
    watch_steps(harness, vec(leaping, 1..150), |sim, seen| {
        sane(sim, seen)?;
        match sim.policy.len() == sim.hot().count() {
            true => Ok(()),
            false => Err("hot rows were lost in a leap of time".to_owned()),
        }
    });
}

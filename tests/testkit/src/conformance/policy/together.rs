//! Checks of what a policy makes of rows that are used together.

use std::collections::BTreeSet;

use aether_core::Row;
use aether_core::role::Verdict;

use super::PolicyHarness;
use super::sim::{Seen, Sim, over, step, watch};

/// Wishes beyond the rate: what may be saved up while nothing is asked.
const SAVED_UP: f64 = 16.0;
/// Groups of rows that are used together, rows of each, and how many of these go cold.
const GROUPS: u64 = 30;
const GROUP: u64 = 4;
const COLD: u64 = 2;

/// Wishes are at most as many as asked for, each for another row that there is and that is cold, with a finite value and a reason.
pub fn wishes_are_cold_known_and_distinct(harness: &PolicyHarness) {
    watch(harness, |sim, seen| match seen {
        Seen::Wished(most, wishes) => wished(sim, *most, wishes),
        _ => Ok(()),
    });
}

pub(super) fn wished(sim: &Sim, most: usize, wishes: &[Verdict]) -> Result<(), String> {
    if wishes.len() > most {
        return Err(format!(
            "expected at most {most} wishes, got {}",
            wishes.len()
        ));
    }
    let mut met = BTreeSet::new();
    wishes.iter().try_for_each(|wish| {
        let row = wish.row;
        match sim.rows.get(&row) {
            None => return Err(format!("row {row} is wished for, but it is gone")),
            Some(truth) if truth.hot => {
                return Err(format!("row {row} is wished for, but it is hot"));
            }
            Some(_) => {}
        }
        if !wish.keep.is_finite() || wish.reason.trim().is_empty() {
            return Err(format!(
                "the wish for row {row} has no finite value or no reason: {wish:?}"
            ));
        }
        match met.insert(row) {
            true => Ok(()),
            false => Err(format!("row {row} is wished for twice in one answer")),
        }
    })
}

/// A wish that is not granted is not made again while nothing happens.
pub fn wishes_are_made_once(harness: &PolicyHarness) {
    let steps = proptest::collection::vec(step(), 1..250);
    over((steps, 1_usize..40), |(steps, rows)| {
        let mut sim = Sim::new(harness.build(7));
        for step in &steps {
            sim.step(step);
            let first: BTreeSet<Row> = sim.wishes(rows).iter().map(|w| w.row).collect();
            let again = sim.wishes(rows);
            if let Some(wish) = again.iter().find(|w| first.contains(&w.row)) {
                return Err(format!(
                    "row {} is wished for twice although nothing happened",
                    wish.row
                ));
            }
        }
        Ok(())
    });
}

/// What was used together often is wished for when a part of it is used, and at no more than the rate.
/// A policy that does not say that it learns neighbours wishes for nothing.
pub fn wishes_are_for_neighbours_and_few(harness: &PolicyHarness) {
    let mut sim = Sim::new(harness.build(7));
    let rows: Vec<Row> = (0..GROUPS * GROUP)
        .map(|_| sim.insert(1_000, 100.0, true))
        .collect();
    let groups: Vec<&[Row]> = rows.chunks(GROUP as usize).collect();
    let mut uses = 0;
    let mut count = 0_u32;
    let mut came = BTreeSet::new();
    // Groups begin whole, and then their last rows are cold.
    for round in 0..60 {
        if round == 5 {
            for group in &groups {
                let cold = &group[(GROUP - COLD) as usize..];
                cold.iter().for_each(|row| sim.shift(*row, false));
            }
        }
        let used = if round < 5 { GROUP } else { GROUP - COLD } as usize;
        for group in &groups {
            sim.now.0 += 1_000_000;
            sim.retrieve(&group[..used]);
            uses += used;
            for wish in sim.wishes(8) {
                count += 1;
                came.insert(wish.row);
                sim.shift(wish.row, true);
            }
        }
    }
    let Some(rate) = harness.neighbours else {
        // Nor for the cold ones that answered themselves.
        for group in &groups {
            sim.retrieve(group);
            count += sim.wishes(8).len() as u32;
        }
        assert_eq!(
            count, 0,
            "it wishes, but its harness does not say that it learns neighbours"
        );
        return;
    };
    let most = rate * uses as f64 + SAVED_UP;
    assert!(
        f64::from(count) <= most,
        "{count} wishes after {uses} uses: expected {most:.0} at most"
    );
    let expected = (GROUPS * COLD) as f64 / 2.0;
    assert!(
        came.len() as f64 >= expected.min(rate * uses as f64 / 2.0),
        "of {} cold rows that belong to rows in use {} were wished for",
        GROUPS * COLD,
        came.len()
    );
}

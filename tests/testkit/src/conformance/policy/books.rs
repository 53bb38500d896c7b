//! Checks of what a policy remembers and of the memory it takes.

use aether_core::role::{Event, Item, Tier};
use aether_core::{Row, Time};

use super::sim::{Sim, over, steps, watch};
use super::{CONSTANT_BYTES_MAX, PolicyHarness, ROW_BYTES_MAX};

fn item(row: u64) -> Item {
    Item {
        row: Row(row),
        bytes: 1_600,
        restore_us: 200.0,
    }
}

/// `len` is the number of hot rows at every moment, and `is_empty` agrees.
pub fn len_is_the_number_of_hot_rows(harness: &PolicyHarness) {
    watch(harness, |sim, _| {
        let (expected, got) = (sim.hot().count(), sim.policy.len());
        if expected != got || sim.policy.is_empty() != (expected == 0) {
            return Err(format!("expected {expected} hot rows, got {got}"));
        }
        Ok(())
    });
}

/// A removed row is unknown afterwards, hot or cold, and is not proposed.
pub fn removed_rows_are_forgotten(harness: &PolicyHarness) {
    let mut sim = Sim::new(harness.build(7));
    let rows: Vec<Row> = (0..40)
        .map(|i| sim.insert(1_000, 100.0, i % 4 > 0))
        .collect();
    for row in &rows {
        let item = sim.rows[row].item;
        let (row, hot) = (item.row, sim.rows[row].hot);
        let used = if hot {
            Event::Accessed { row }
        } else {
            Event::Missed { item }
        };
        sim.policy.on_event(&used, sim.now);
        let judged = Event::Feedback { row, reward: 1.0 };
        sim.policy.on_event(&judged, sim.now);
    }
    for row in &rows[..20] {
        sim.policy.on_event(&Event::Removed { row: *row }, sim.now);
        let explained = sim.policy.explain(*row, &sim.context());
        assert!(
            !explained.known && explained.keep.is_none(),
            "removed row {row} is still known: {explained:?}"
        );
    }
    assert_eq!(sim.policy.len(), 15, "of 30 hot rows 15 were removed");
    let verdicts = sim.ask(usize::MAX, u64::MAX);
    assert!(verdicts.iter().all(|v| !rows[..20].contains(&v.row)));
    assert_eq!(verdicts.len(), 15);
}

/// Events about rows it never heard of are no error and make no row hot.
pub fn unknown_rows_are_no_error(harness: &PolicyHarness) {
    let mut sim = Sim::new(harness.build(7));
    let (now, row) = (sim.now, Row(77));
    let cold = Tier::Cold;
    let events = [
        Event::Missed { item: item(77) },
        Event::Feedback { row, reward: 0.5 },
        Event::Feedback {
            row: Row(78),
            reward: 0.5,
        },
        Event::Pinned { row, pinned: false },
        Event::Pinned {
            row: Row(79),
            pinned: true,
        },
        Event::Removed { row },
        Event::Removed { row: Row(u64::MAX) },
        Event::Moved {
            item: item(80),
            to: cold,
        },
        Event::Inserted {
            item: item(81),
            tier: cold,
        },
        Event::Replaced {
            old: Row(82),
            item: item(83),
            tier: cold,
        },
    ];
    for event in &events {
        sim.policy.on_event(event, now);
        assert_eq!(sim.policy.len(), 0, "{event:?} made a row hot");
    }
    assert!(
        sim.ask(usize::MAX, u64::MAX).is_empty(),
        "there is no hot row"
    );
}

/// A row that it hears is hot for the first time by an access, a move or a new version is in its books from then on, once.
pub fn unknown_rows_that_are_hot_are_taken_up(harness: &PolicyHarness) {
    let mut sim = Sim::new(harness.build(7));
    let now = sim.now;
    let events = [
        Event::Accessed { row: Row(501) },
        Event::Moved {
            item: item(502),
            to: Tier::Hot,
        },
        Event::Replaced {
            old: Row(499),
            item: item(503),
            tier: Tier::Hot,
        },
        Event::Inserted {
            item: item(504),
            tier: Tier::Hot,
        },
    ];
    for repeat in 0..2 {
        for (i, event) in events.iter().enumerate() {
            sim.policy.on_event(event, now);
            let expected = if repeat == 0 { i + 1 } else { 4 };
            assert_eq!(sim.policy.len(), expected, "after {event:?}");
        }
    }
    for row in 501..=504 {
        let explained = sim.policy.explain(Row(row), &sim.context());
        assert!(explained.known, "row {row} was not taken up");
    }
    let mut proposed: Vec<Row> = sim
        .ask(usize::MAX, u64::MAX)
        .iter()
        .map(|v| v.row)
        .collect();
    proposed.sort();
    assert_eq!(proposed, [Row(501), Row(502), Row(503), Row(504)]);
    // What came in by an access has no figures yet; the engine's next word on it must not make it a second row.
    sim.policy.on_event(
        &Event::Moved {
            item: item(501),
            to: Tier::Hot,
        },
        now,
    );
    sim.policy.on_event(&Event::Removed { row: Row(501) }, now);
    assert_eq!(sim.policy.len(), 3);
}

/// A new version is worth no less than a row of the same past that got none, and its former version is forgotten.
pub fn a_new_version_takes_over_the_history(harness: &PolicyHarness) {
    for stays_hot in [true, false] {
        let mut sim = Sim::new(harness.build(7));
        let (now, tier) = (sim.now, Tier::Hot);
        for row in [601, 602] {
            let item = item(row);
            sim.policy.on_event(&Event::Inserted { item, tier }, now);
        }
        let mut later = now;
        for _ in 0..12 {
            later = Time(later.0 + 1_000_000);
            for row in [Row(601), Row(602)] {
                sim.policy.on_event(&Event::Accessed { row }, later);
                let judged = Event::Feedback { row, reward: 0.9 };
                sim.policy.on_event(&judged, later);
            }
        }
        if !stays_hot {
            for row in [601, 602] {
                let (item, to) = (item(row), Tier::Cold);
                sim.policy.on_event(&Event::Moved { item, to }, later);
            }
        }
        let (old, new) = (Row(601), item(603));
        let replaced = Event::Replaced {
            old,
            item: new,
            tier,
        };
        sim.policy.on_event(&replaced, later);
        if !stays_hot {
            let (item, to) = (item(602), Tier::Hot);
            sim.policy.on_event(&Event::Moved { item, to }, later);
        }
        sim.now = later;
        let context = sim.context();
        let of = |row: u64| sim.policy.explain(Row(row), &context);
        assert!(
            !of(601).known,
            "the former version is still known: {:?}",
            of(601)
        );
        let (updated, twin) = (of(603).keep, of(602).keep);
        assert!(
            updated.is_some() && updated >= twin,
            "a new version (from hot: {stays_hot}) has {updated:?}, its twin without {twin:?}"
        );
        assert_eq!(sim.policy.len(), 2);
        let verdicts = sim.ask(usize::MAX, u64::MAX);
        assert!(verdicts.iter().all(|v| v.row != Row(601)));
    }
}

/// What `bytes_after` said is never exceeded while no more rows are hot than it was asked for, whatever happens meanwhile.
pub fn bytes_stay_below_their_forecast(harness: &PolicyHarness) {
    over((steps(), 0_usize..300), |(steps, more)| {
        let mut sim = Sim::new(harness.build(7));
        let mut forecasts: Vec<(usize, u64)> = Vec::new();
        for (i, step) in steps.iter().enumerate() {
            if i % 5 == 0 {
                for more in [0, 1, more] {
                    let bound = sim.policy.bytes_after(more);
                    forecasts.push((sim.policy.len() + more, bound));
                }
            }
            sim.step(step);
            let (len, bytes) = (sim.policy.len(), sim.policy.bytes());
            forecasts.retain(|(rows, _)| len <= *rows);
            if let Some((rows, bound)) = forecasts.iter().find(|(_, bound)| bytes > *bound) {
                return Err(format!(
                    "books of {len} rows take {bytes} bytes; for up to {rows} rows {bound} were forecast"
                ));
            }
        }
        Ok(())
    });
    let mut policy = harness.build(7);
    let forecasts: Vec<u64> = (0..=30_000).map(|rows| policy.bytes_after(rows)).collect();
    assert!(
        forecasts.is_sorted(),
        "more rows were forecast to take less"
    );
    for row in 1..=30_000_u64 {
        let (item, tier) = (item(row), Tier::Hot);
        policy.on_event(&Event::Inserted { item, tier }, Time(row));
        let (bytes, bound) = (policy.bytes(), forecasts[row as usize]);
        assert!(
            bytes <= bound,
            "books of {row} rows take {bytes} bytes; {bound} were forecast when they were empty"
        );
    }
    assert!(policy.bytes_after(usize::MAX) > policy.bytes_after(1 << 20));
}

/// Ten thousand rows and more take at most [`ROW_BYTES_MAX`] each beside a constant, also when rows come and go all the time; and the
/// figure is not too good to be true.
pub fn bytes_for_each_hot_row_are_bounded(harness: &PolicyHarness) {
    let mut policy = harness.build(7);
    let constant = policy.bytes();
    assert!(
        constant <= CONSTANT_BYTES_MAX,
        "empty books take {constant} bytes: expected at most {CONSTANT_BYTES_MAX}"
    );
    for row in 0..40_000_u64 {
        let (coming, tier) = (item(row), Tier::Hot);
        policy.on_event(&Event::Inserted { item: coming, tier }, Time(row));
        if row >= 10_000 && row % 3 > 0 {
            let (leaving, to) = (item(row - 10_000), Tier::Cold);
            policy.on_event(&Event::Moved { item: leaving, to }, Time(row));
        }
        let (rows, bytes) = (policy.len() as u64, policy.bytes());
        if rows >= 10_000 {
            assert!(
                bytes <= constant + ROW_BYTES_MAX * rows + 4_096,
                "{rows} hot rows take {bytes} bytes: expected at most {ROW_BYTES_MAX} each and {constant}"
            );
            assert!(
                bytes >= 8 * rows,
                "{rows} hot rows are said to take {bytes} bytes, less than their names"
            );
        }
    }
}

/// A million rows that pass through, hot for a moment or only missed and judged, leave nothing behind that grows.
pub fn history_is_bounded(harness: &PolicyHarness) {
    let mut policy = harness.build(7);
    let (hot, cold) = (Tier::Hot, Tier::Cold);
    for row in 0..64 {
        let item = item(row);
        policy.on_event(&Event::Inserted { item, tier: hot }, Time(row));
    }
    let mut halfway = 0;
    for n in 0..1_000_000_u64 {
        let (item, now) = (item(1_000 + n), Time(1_000 * n));
        let row = item.row;
        match n % 4 {
            0 => {
                policy.on_event(&Event::Inserted { item, tier: hot }, now);
                policy.on_event(&Event::Moved { item, to: cold }, now);
            }
            1 => policy.on_event(&Event::Missed { item }, now),
            2 => policy.on_event(&Event::Feedback { row, reward: 0.7 }, now),
            _ => {
                policy.on_event(&Event::Missed { item }, now);
                policy.on_event(&Event::Moved { item, to: hot }, now);
                policy.on_event(&Event::Moved { item, to: cold }, now);
            }
        }
        if n == 500_000 {
            halfway = policy.bytes();
        }
    }
    assert_eq!(
        policy.len(),
        64,
        "rows that passed through were counted as hot"
    );
    let bytes = policy.bytes();
    assert!(
        bytes <= halfway + 4_096 && bytes <= CONSTANT_BYTES_MAX,
        "64 hot rows take {bytes} bytes after a million rows passed, {halfway} after half of them: expected no growth and \
         at most {CONSTANT_BYTES_MAX}"
    );
    let mut saved = Vec::new();
    policy.save(&mut saved);
    assert!(
        saved.len() as u64 <= CONSTANT_BYTES_MAX,
        "64 hot rows were saved in {} bytes",
        saved.len()
    );
}

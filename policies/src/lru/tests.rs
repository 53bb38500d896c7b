use aether_core::Row;
use aether_core::role::{Event, Tier};

use super::*;

fn item(row: u64) -> Item {
    Item {
        row: Row(row),
        bytes: 100,
        restore_us: 1.0,
    }
}

fn context(now: Time) -> Context {
    Context {
        now,
        temperature: 1.0,
        hot_bytes: 0,
        budget_bytes: 0,
    }
}

/// The order is exact: over random uses it is that of a plain list moved by hand.
#[test]
fn the_order_is_that_of_last_use() {
    let mut random = fastrand::Rng::with_seed(3);
    let mut policy = Policy::new(Lru, 0.0);
    let mut model: Vec<Row> = Vec::new();
    for step in 0..5_000_u64 {
        // Time often stands still: order must not depend on it.
        let now = Time(step / 7 * 1_000);
        let row = Row(random.u64(..200));
        let known = model.iter().position(|r| *r == row);
        match (known, random.u8(..10)) {
            (Some(at), 0) => {
                model.remove(at);
                policy.on_event(&Event::Removed { row }, now);
            }
            (Some(at), 1) => {
                model.remove(at);
                let to = Tier::Cold;
                policy.on_event(
                    &Event::Moved {
                        item: item(row.0),
                        to,
                    },
                    now,
                );
            }
            (Some(at), 2) => {
                model.remove(at);
                model.push(Row(1_000 + step));
                let (old, item, tier) = (row, item(1_000 + step), Tier::Hot);
                policy.on_event(&Event::Replaced { old, item, tier }, now);
            }
            (Some(at), _) => {
                model.remove(at);
                model.push(row);
                policy.on_event(&Event::Accessed { row }, now);
            }
            (None, _) => {
                model.push(row);
                let tier = Tier::Hot;
                policy.on_event(
                    &Event::Inserted {
                        item: item(row.0),
                        tier,
                    },
                    now,
                );
            }
        }
        if step % 50 == 0 {
            for want in [
                Want { rows: 10, bytes: 0 },
                Want {
                    rows: usize::MAX,
                    bytes: u64::MAX,
                },
            ] {
                let verdicts = policy.victims(want, &context(now));
                let rows: Vec<Row> = verdicts.iter().map(|v| v.row).collect();
                assert_eq!(rows, model[..want.rows.min(model.len())]);
            }
        }
    }
}

#[test]
fn words_say_when_it_was_used_and_what_would_move_it() {
    let mut policy = Policy::new(Lru, 0.0);
    let tier = Tier::Hot;
    policy.on_event(
        &Event::Inserted {
            item: item(1),
            tier,
        },
        Time(0),
    );
    let explained = policy.explain(Row(1), &context(Time(180_000_000)));
    assert_eq!(
        explained.words,
        "used 3 minutes ago; leaves when the hot tier needs room and no row was unused for longer"
    );
    policy.on_event(
        &Event::Pinned {
            row: Row(1),
            pinned: true,
        },
        Time(0),
    );
    let explained = policy.explain(Row(1), &context(Time(180_000_000)));
    assert_eq!(explained.words, "used 3 minutes ago; pinned, so it stays");
}

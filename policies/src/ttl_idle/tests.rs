use super::*;
use aether_core::Row;
use aether_core::role::{Event, Tier};

fn rules(idle_s: f64, ttl_s: f64) -> Policy<TtlIdle> {
    Policy::new(TtlIdle { idle_s, ttl_s }, 0.0)
}

fn insert(policy: &mut Policy<TtlIdle>, row: u64, second: u64) {
    let item = Item {
        row: Row(row),
        bytes: 100,
        restore_us: 1.0,
    };
    let tier = Tier::Hot;
    policy.on_event(&Event::Inserted { item, tier }, at(second));
}

fn used(policy: &mut Policy<TtlIdle>, row: u64, second: u64) {
    policy.on_event(&Event::Accessed { row: Row(row) }, at(second));
}

fn at(second: u64) -> Time {
    Time(second * 1_000_000)
}

/// Rows that leave without pressure, and then all of them in order under pressure.
fn asked(policy: &mut Policy<TtlIdle>, second: u64) -> (Vec<u64>, Vec<u64>) {
    let context = Context {
        now: at(second),
        temperature: 1.0,
        hot_bytes: 0,
        budget_bytes: 0,
    };
    [0, u64::MAX]
        .map(|bytes| {
            let rows = usize::MAX;
            let verdicts = policy.victims(Want { rows, bytes }, &context);
            verdicts.iter().map(|v| v.row.0).collect()
        })
        .into()
}

#[test]
fn rows_leave_when_unused_for_long_enough() {
    let mut policy = rules(100.0, 1_000.0);
    (1..=3).for_each(|row| insert(&mut policy, row, row * 10));
    used(&mut policy, 1, 90);
    assert_eq!(asked(&mut policy, 119), (vec![], vec![2, 3, 1]));
    assert_eq!(asked(&mut policy, 125), (vec![2], vec![2, 3, 1]));
}

#[test]
fn rows_leave_a_set_time_after_they_came_however_often_they_are_used() {
    let mut policy = rules(100.0, 300.0);
    insert(&mut policy, 1, 0);
    insert(&mut policy, 2, 250);
    for second in 1..=30 {
        used(&mut policy, 1, second * 10);
    }
    // Row 1 has 100 seconds by use and none by age; row 2 has 50 by use and 250 by age.
    assert_eq!(asked(&mut policy, 300), (vec![1], vec![1, 2]));
}

/// Merging two orders gives what sorting by the time left gives.
#[test]
fn the_order_is_that_of_the_time_left() {
    let mut random = fastrand::Rng::with_seed(8);
    let mut policy = rules(50.0, 120.0);
    let mut model: Vec<Option<(u64, u64)>> = vec![None; 80];
    for second in 0..3_000_u64 {
        let row = random.usize(..80);
        match model[row] {
            Some((_, came)) if random.u8(..5) > 0 => {
                used(&mut policy, row as u64, second);
                model[row] = Some((second, came));
            }
            Some(_) => {
                let row_gone = Event::Removed {
                    row: Row(row as u64),
                };
                policy.on_event(&row_gone, at(second));
                model[row] = None;
            }
            None => {
                insert(&mut policy, row as u64, second);
                model[row] = Some((second, second));
            }
        }
        if second % 100 == 99 {
            let left = |row: u64| {
                let (used, came) = model[row as usize].unwrap();
                (50.0 - (second - used) as f64).min(120.0 - (second - came) as f64)
            };
            let (over, all) = asked(&mut policy, second);
            assert_eq!(all.len(), model.iter().flatten().count());
            assert!(all.is_sorted_by(|a, b| left(*a) <= left(*b)), "{second}");
            assert_eq!(over.len(), all.iter().filter(|r| left(**r) <= 0.0).count());
        }
    }
}

/// A victim costs a few looks, however many rows there are: one order was once gone through to its end for each.
#[test]
fn the_first_row_costs_a_few_looks() {
    let mut rules = TtlIdle {
        idle_s: 3_600.0,
        ttl_s: 86_400.0,
    };
    let mut books = Books::shaped(TtlIdle::shape());
    for row in 0..10_000 {
        let times = rules.enter(0.0, None, at(row));
        let slot = books.insert(Row(row), 100, times).unwrap();
        rules.link(&mut books, slot, at(row));
    }
    let looks = std::cell::Cell::new(0);
    let left = |slot| {
        looks.set(looks.get() + 1);
        rules.left_s(books.figures(slot), at(10_000))
    };
    let first = by_time_left(&books, left).next();
    assert_eq!(first.map(|slot| books.row(slot)), Some(Row(0)));
    assert!(looks.get() <= 4, "{} looks", looks.get());
}

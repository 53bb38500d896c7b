use std::collections::BTreeMap;

use aether_core::Row;
use aether_core::role::{Event, Tier};

use super::*;

const CONTEXT: Context = Context {
    now: Time(0),
    temperature: 1.0,
    hot_bytes: 0,
    budget_bytes: 0,
};

fn lfu(window: f64) -> Policy<Lfu> {
    let rules = Lfu::new(window, Admit::MoreUsed);
    Policy::new(rules, 0.25)
}

fn item(row: u64) -> Item {
    Item {
        row: Row(row),
        bytes: 100,
        restore_us: 1.0,
    }
}

fn insert(policy: &mut Policy<Lfu>, row: u64) {
    let (item, tier) = (item(row), Tier::Hot);
    policy.on_event(&Event::Inserted { item, tier }, Time(0));
}

fn used(policy: &mut Policy<Lfu>, row: u64, times: usize) {
    for _ in 0..times {
        policy.on_event(&Event::Accessed { row: Row(row) }, Time(0));
    }
}

fn order(policy: &mut Policy<Lfu>) -> Vec<(u64, f64)> {
    let want = Want {
        rows: usize::MAX,
        bytes: 0,
    };
    let verdicts = policy.victims(want, &CONTEXT);
    verdicts.iter().map(|v| (v.row.0, v.keep)).collect()
}

#[test]
fn the_least_used_leave_first_and_among_equals_the_least_recent() {
    let mut policy = lfu(10.0);
    (1..=4).for_each(|row| insert(&mut policy, row));
    used(&mut policy, 1, 3);
    used(&mut policy, 3, 1);
    used(&mut policy, 2, 1);
    assert_eq!(order(&mut policy), [(4, 1.0), (3, 2.0), (2, 2.0), (1, 4.0)]);
}

/// Lists that are joined must say the same as counts that are divided one by one.
#[test]
fn counts_agree_with_a_plain_model_over_many_halvings() {
    let mut random = fastrand::Rng::with_seed(11);
    let mut policy = lfu(2.0);
    let mut model: BTreeMap<u64, u32> = BTreeMap::new();
    let (mut uses, mut halvings) = (0, 0);
    for step in 0..60_000_u64 {
        let row = random
            .u64(..300)
            .min(random.u64(..300))
            .min(random.u64(..300));
        if model.contains_key(&row) && random.u32(..400) > 0 {
            uses += 1;
            if uses >= (2 * model.len()).max(256) {
                (uses, halvings) = (0, halvings + 1);
                model.values_mut().for_each(|count| *count /= 2);
            }
            model
                .entry(row)
                .and_modify(|count| *count = (*count + 1).min(255));
            used(&mut policy, row, 1);
        } else if model.remove(&row).is_some() {
            policy.on_event(&Event::Removed { row: Row(row) }, Time(step));
        } else {
            model.insert(row, 1);
            insert(&mut policy, row);
        }
        if step % 499 == 0 {
            let order = order(&mut policy);
            assert!(order.is_sorted_by(|a, b| a.1 <= b.1));
            let counts: BTreeMap<u64, u32> = order.iter().map(|(r, k)| (*r, *k as u32)).collect();
            assert_eq!(counts, model, "step {step}");
        }
    }
    assert!(halvings > 50, "{halvings} halvings");
    assert!(model.values().any(|count| *count > 10));
}

/// Without aging, rows popular long ago would never leave: the fault of plain LFU.
#[test]
fn what_was_popular_long_ago_leaves() {
    let mut policy = lfu(10.0);
    insert(&mut policy, 1);
    used(&mut policy, 1, 200);
    (2..=5).for_each(|row| insert(&mut policy, row));
    for _ in 0..600 {
        (2..=5).for_each(|row| used(&mut policy, row, 1));
    }
    assert_eq!(order(&mut policy)[0].0, 1);
}

#[test]
fn a_cold_row_comes_in_when_it_is_used_more_than_the_least_used_hot_one() {
    let mut policy = lfu(10.0);
    insert(&mut policy, 1);
    used(&mut policy, 1, 1);
    for (misses, certain) in [(1, false), (2, false), (3, true)] {
        policy.on_event(&Event::Missed { item: item(9) }, Time(0));
        let verdict = policy.admit(&item(9), &CONTEXT);
        assert_eq!(
            (verdict.keep, verdict.certain),
            (f64::from(misses), certain)
        );
    }
    let to = Tier::Hot;
    policy.on_event(&Event::Moved { item: item(9), to }, Time(0));
    assert_eq!(order(&mut policy), [(1, 2.0), (9, 3.0)]);
}

#[test]
fn a_count_is_halved_by_any_number_of_halvings() {
    let count = Count::new(200, HALVINGS_MASK);
    assert_eq!(count.at(HALVINGS_MASK), 200);
    assert_eq!([count.at(0), count.at(2), count.at(100)], [100, 25, 0]);
    assert_eq!(Count::new(9_999, 0).at(0), 255);
}

/// The plain policy: every row comes in with one use, and what was popular once stays whatever comes after.
#[test]
fn without_aging_counts_are_kept_while_hot_and_lost_after() {
    let plain = Policy::new(Lfu::new(0.0, Admit::Always), 0.0);
    let mut play = crate::books::play::Play::new(plain, 2);
    play.use_rows(&[1, 1, 1, 2, 2]);
    assert_eq!(play.use_rows(&[3, 4, 5, 2, 6]), [2, 3, 4, 5, 2]);
    (0..2_000).for_each(|n| {
        assert_eq!(
            play.use_row(100 + n).map(|left| left.contains(&1)),
            Some(false)
        )
    });
    assert_eq!(play.hot()[0], 1);
}

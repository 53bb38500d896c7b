use super::*;
use crate::books::play::Play;
use aether_core::Row;
use aether_core::role::{Event, Tier};

fn insert(policy: &mut Policy<Gdsf>, row: u64, bytes: u32, restore_us: f32) {
    let item = Item {
        row: Row(row),
        bytes,
        restore_us,
    };
    let tier = Tier::Hot;
    policy.on_event(&Event::Inserted { item, tier }, Time(0));
}

fn order(policy: &mut Policy<Gdsf>) -> Vec<u64> {
    let context = Context {
        now: Time(0),
        temperature: 1.0,
        hot_bytes: 0,
        budget_bytes: 0,
    };
    let want = Want {
        rows: usize::MAX,
        bytes: u64::MAX,
    };
    let verdicts = policy.victims(want, &context);
    verdicts.iter().map(|v| v.row.0).collect()
}

#[test]
fn large_rows_leave_before_small_ones_unless_they_are_used_more() {
    let mut policy = Policy::new(Gdsf::new(Cost::One), 0.0);
    insert(&mut policy, 1, 1_000, 1.0);
    insert(&mut policy, 2, 100, 1.0);
    insert(&mut policy, 3, 400, 1.0);
    assert_eq!(order(&mut policy), [1, 3, 2]);
    for _ in 0..3 {
        policy.on_event(&Event::Accessed { row: Row(1) }, Time(0));
    }
    // Four uses of 1,000 bytes against one of 400.
    assert_eq!(order(&mut policy), [3, 1, 2]);
}

#[test]
fn rows_dear_to_restore_stay_when_that_is_the_cost() {
    for (cost, expected) in [(Cost::One, [1, 2]), (Cost::Restore, [2, 1])] {
        let mut policy = Policy::new(Gdsf::new(cost), 0.0);
        insert(&mut policy, 1, 200, 1_000.0);
        insert(&mut policy, 2, 100, 10.0);
        assert_eq!(order(&mut policy), expected);
    }
}

/// The clock: rows that were used often before leave when enough evictions have passed, as new rows begin at its height.
#[test]
fn what_was_popular_long_ago_leaves() {
    let mut play = Play::new(Policy::new(Gdsf::new(Cost::One), 0.0), 2);
    play.use_rows(&[1, 1, 1, 1]);
    // Priorities: 4 for row 1; each new row is the clock plus 1, and pushes the one before it out: the clock rises by 1 each.
    assert_eq!(play.use_rows(&[2, 3, 4, 5]), [2, 3, 4]);
    // Row 5 has 4, as row 1 has, which was used before it.
    assert_eq!(play.use_row(6), Some(vec![1]));
}

/// A candidate below all residents is not let in, and the clock rises to it all the same: the next one has a better chance.
#[test]
fn a_candidate_below_all_residents_waits() {
    let mut play = Play::new(Policy::new(Gdsf::new(Cost::One), 0.0), 1);
    play.use_rows(&[1, 1, 1]);
    assert_eq!(play.use_rows(&[2, 3]), [] as [u64; 0]);
    assert_eq!(play.hot(), [1]);
    assert_eq!(play.use_row(4), Some(vec![1]));
}

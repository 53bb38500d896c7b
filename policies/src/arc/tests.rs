use super::*;
use crate::books::play::Play;

fn arc(capacity: u64) -> Play {
    Play::new(
        Policy::new(Queued::new(Arc::default(), GHOSTS_SHARE), 0.0),
        capacity,
    )
}

/// Figure 4 by hand: four rows, the target at 0.
#[test]
fn rows_used_again_outlive_a_scan() {
    let mut play = arc(4);
    play.use_rows(&[1, 2, 1, 2]);
    // T2 is 1, 2. A scan passes through T1.
    assert_eq!(play.use_rows(&[3, 4, 5, 6, 7]), [3, 4, 5]);
    assert_eq!(play.hot(), [1, 2, 6, 7]);
}

#[test]
fn a_missed_ghost_of_rows_used_once_gives_them_room() {
    let mut play = arc(4);
    play.use_rows(&[1, 2, 1, 2, 3, 4, 5]);
    // T1 is 4, 5; B1 is 3; T2 is 1, 2. The miss of 3 lifts the target to 1; T1 has two rows: 4 leaves, and 3 enters T2.
    assert_eq!(play.use_row(3), Some(vec![4]));
    // Now T1 is 5, B1 is 4. The miss of 4 lifts the target to 2; T1 has one row: 1, least recently used of T2, leaves.
    assert_eq!(play.use_row(4), Some(vec![1]));
    // The miss of 1, in B2, lowers the target to 1; T1 has one row, as many as it should, and the row is of B2: 5 leaves.
    assert_eq!(play.use_row(1), Some(vec![5]));
}

/// Case IV, first part: when all rows were used once only, those that leave are not remembered.
#[test]
fn a_tier_of_new_rows_alone_remembers_none() {
    let mut play = arc(3);
    assert_eq!(play.use_rows(&[1, 2, 3, 4]), [1]);
    let explained = play.policy.explain(Row(1), &play.context());
    assert!(!explained.known);
}

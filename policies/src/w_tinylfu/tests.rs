use super::*;
use crate::books::play::Play;

/// Ten rows: one in the window, nine in the main space, seven of them protected.
fn tiny() -> Play {
    let tiny = TinyLfu::new(0.1, false, 0.8);
    Play::new(Policy::new(Queued::new(tiny, 0.0), 0.0), 10)
}

#[test]
fn a_new_row_loses_against_one_that_was_used_as_often() {
    let mut play = tiny();
    play.use_rows(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    // Row 10 is in the window; every row was used once: the one from the window leaves.
    assert_eq!(play.use_rows(&[11, 12]), [10, 11]);
}

#[test]
fn a_new_row_that_was_used_more_often_takes_a_place() {
    let mut play = tiny();
    play.use_rows(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 10]);
    // Row 10 was used twice, row 1, the first of probation, once.
    assert_eq!(play.use_row(11), Some(vec![1]));
    // Rows that were used in the main space are protected: 2 does not stand in the contest any more, but 3 does.
    play.use_row(2);
    play.use_row(11);
    assert_eq!(play.use_row(12), Some(vec![3]));
}

#[test]
fn the_history_of_rows_outside_counts() {
    let mut play = tiny();
    play.use_rows(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    // Row 20 is thrown out again and again, but its uses are counted.
    let left = play.use_rows(&[20, 21, 20, 21, 20, 21]);
    assert!(left.contains(&1), "{left:?}");
}

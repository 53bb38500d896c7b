use super::*;
use crate::books::play::Play;

#[test]
fn a_used_row_goes_round_once_more_and_loses_its_mark() {
    let mut play = Play::new(Policy::new(Queued::new(Clock, 0.0), 0.0), 3);
    play.use_rows(&[1, 2, 3, 1]);
    // The hand spares 1 and meets 2 unused.
    assert_eq!(play.use_row(4), Some(vec![2]));
    // The circle from the hand on: 3, 1 without a mark, 4.
    assert_eq!(play.use_rows(&[5, 6, 7]), [3, 1, 4]);
}

#[test]
fn when_all_were_used_the_first_leaves() {
    let mut play = Play::new(Policy::new(Queued::new(Clock, 0.0), 0.0), 3);
    play.use_rows(&[1, 2, 3, 3, 2, 1]);
    assert_eq!(play.use_row(4), Some(vec![1]));
}

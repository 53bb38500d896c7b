use super::*;
use crate::books::play::Play;

#[test]
fn rows_are_worth_their_uses_for_the_time_since_they_came() {
    let mut play = Play::new(Policy::new(Hyperbolic::new(64, 1), 0.0), 3);
    // Row 1: two uses in 7, row 2: two in 4, row 3: one in 3.
    play.use_rows(&[1, 1, 9, 2, 2, 3]);
    let keep = |play: &Play, row: u64| {
        let explained = play.policy.explain(aether_core::Row(row), &play.context());
        explained.keep
    };
    assert_eq!(play.hot(), [1, 2, 3]);
    let worth = [1, 2, 3].map(|row| keep(&play, row));
    assert_eq!(worth, [Some(0.4), Some(1.0), Some(1.0)]);
    // At the next miss: 2/6, 2/3, 1/1.
    assert_eq!(play.use_row(4), Some(vec![1]));
    // 2/4 and 1/2 are equal, and row 4 has 1/1: ties by row.
    assert_eq!(play.use_row(5), Some(vec![2]));
}

/// LFU's fault, that rows popular once stay for ever, is mended by time alone.
#[test]
fn what_was_popular_long_ago_leaves() {
    let mut play = Play::new(Policy::new(Hyperbolic::new(64, 1), 0.0), 2);
    (0..100).for_each(|_| assert!(play.use_row(1).is_none_or(|left| left.is_empty())));
    play.use_row(2);
    (0..400).for_each(|_| assert!(play.use_row(2).is_none()));
    assert_eq!(play.use_row(3), Some(vec![1]));
}

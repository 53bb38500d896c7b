use super::*;
use crate::books::play::Play;

/// Over many draws every row leaves about equally often: used or not, early or late.
#[test]
fn every_row_is_as_likely_as_any_other() {
    let mut left = [0_u32; 10];
    for seed in 0..2_000 {
        let mut play = Play::new(Policy::new(Random::new(seed), 0.0), 10);
        play.use_rows(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 0, 9, 9]);
        for row in play.use_row(99).unwrap() {
            left[row as usize] += 1;
        }
    }
    // 200 of 2,000 expected; five standard deviations are 67.
    assert!(left.iter().all(|n| n.abs_diff(200) < 67), "{left:?}");
}

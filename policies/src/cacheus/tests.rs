use super::*;
use crate::books::play::Play;

fn cacheus(odds: f64, capacity: u64) -> Play {
    let mut cacheus = Cacheus::new(true, 1);
    cacheus.by_last_use = odds;
    Play::new(
        Policy::new(Queued::new(cacheus, GHOSTS_SHARE), 0.0),
        capacity,
    )
}

/// SR-LRU (section 4.2.1): a scan passes through SR and leaves the rows used again, which are in R, alone.
#[test]
fn a_scan_does_not_touch_rows_used_again() {
    let mut play = cacheus(1.0, 4);
    play.use_rows(&[1, 2, 1, 2]);
    assert_eq!(play.use_rows(&[3, 4, 5, 6, 7]), [3, 4, 5]);
    assert_eq!(play.hot(), [1, 2, 6, 7]);
}

/// CR-LFU (section 4.2.2): among rows of the lowest count the last one used leaves, so that a part of a loop stays and hits.
#[test]
fn churn_leaves_a_part_of_the_rows_in_place() {
    let mut play = cacheus(0.0, 4);
    assert_eq!(play.use_rows(&[1, 2, 3, 4, 5, 6]), [4, 5]);
    assert_eq!(play.hot(), [1, 2, 3, 6]);
}

#[test]
fn a_row_that_comes_back_brings_its_count() {
    let mut play = cacheus(0.0, 3);
    play.use_rows(&[1, 1, 2, 2, 3, 3]);
    // All have a count of two: 3, used last, leaves, and comes back with a count of three.
    assert_eq!(play.use_row(4), Some(vec![3]));
    assert_eq!(play.use_row(3), Some(vec![4]));
    assert_eq!(play.use_row(5), Some(vec![2]));
}

#[test]
fn a_regret_lowers_the_odds_of_the_expert_that_chose() {
    let mut cacheus = Cacheus::new(true, 1);
    let factor = (-cacheus.rate.value()).exp();
    cacheus.regret(false);
    assert!((cacheus.by_last_use - factor / (factor + 1.0)).abs() < 1e-12);
}

use super::*;
use crate::books::play::Play;

fn cacheus(odds: f64, capacity: u64) -> Play {
    let mut cacheus = Cacheus::new(CacheusConfig::default(), 1);
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
    let mut cacheus = Cacheus::new(CacheusConfig::default(), 1);
    let factor = (-cacheus.rate.value()).exp();
    cacheus.regret(false);
    assert!((cacheus.by_last_use - factor / (factor + 1.0)).abs() < 1e-12);
}

/// By hand: 0.5 falls by 0.5 * 0.5, then by 0.25 * 0.25, then by 0.1875 * 0.0625.
#[test]
fn the_rate_falls_from_where_it_begins_until_it_rests() {
    let mut random = fastrand::Rng::with_seed(1);
    let mut rate = Rate::falling(0.5);
    let mut window = |rate: &mut Rate| {
        (0..4).for_each(|use_| rate.used(use_ > 0, 4, &mut random));
        rate.value()
    };
    assert_eq!(window(&mut rate), 0.25);
    assert_eq!(window(&mut rate), 0.1875);
    assert_eq!(window(&mut rate), 0.1875 - 0.1875 * 0.0625);
    (0..100).for_each(|_| {
        window(&mut rate);
    });
    assert!(rate.value() > 0.17 && rate.value() < 0.176);
}

/// By hand: a rate of r that was 0 before has changed by r. Hits of 3/4 after none are a gain, so it grows by r * r; fewer hits
/// than before turn it round.
#[test]
fn the_rate_climbs_with_the_hit_ratio() {
    let mut random = fastrand::Rng::with_seed(1);
    let mut rate = Rate::climbing(&mut random);
    let first = rate.value();
    let mut window = |rate: &mut Rate, misses: u32| {
        (0..4).for_each(|use_| rate.used(use_ >= misses, 4, &mut random));
        rate.value()
    };
    let second = (first + first * first).min(1.0);
    assert_eq!(window(&mut rate, 1), second);
    let third = (second - second * (second - first)).clamp(rate::MIN, 1.0);
    assert_eq!(window(&mut rate, 3), third);
}

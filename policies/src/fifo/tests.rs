use super::*;
use crate::books::play::Play;

/// Belady's anomaly (IBM Systems Journal 1966; Comm. ACM 12(6), 1969): with this string, four rows miss more often than three.
#[test]
fn a_larger_tier_may_miss_more() {
    let string = [1, 2, 3, 4, 1, 2, 5, 1, 2, 3, 4, 5];
    for (capacity, misses) in [(3, 9), (4, 10)] {
        let mut play = Play::new(Policy::new(Fifo, 0.0), capacity);
        let missed = string.iter().filter(|row| play.use_row(**row).is_some());
        assert_eq!(missed.count(), misses, "{capacity} rows");
    }
}

#[test]
fn uses_change_nothing() {
    let mut play = Play::new(Policy::new(Fifo, 0.0), 3);
    assert_eq!(play.use_rows(&[1, 2, 3, 1, 1, 1, 4, 5]), [1, 2]);
}

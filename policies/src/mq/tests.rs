use super::*;
use crate::books::play::Play;

fn mq(capacity: u64, lifetime: f64) -> Play {
    let mq = Mq {
        lifetime,
        ghosts: 4.0,
        uses: 0,
    };
    Play::new(Policy::new(Queued::new(mq, 4.0), 0.0), capacity)
}

#[test]
fn queues_follow_the_logarithm_of_the_count() {
    let queues = [1, 2, 3, 4, 7, 8, 127, 128, 4_095].map(queue_of);
    assert_eq!(queues, [0, 1, 1, 2, 2, 3, 6, 7, 7]);
}

#[test]
fn rows_used_once_leave_first_and_counts_outlive_a_stay_in_the_cold() {
    let mut play = mq(3, 100.0);
    play.use_rows(&[1, 1, 2, 3]);
    assert_eq!(play.use_rows(&[4, 5]), [2, 3]);
    // 2 comes back with a count of two, into the queue of row 1: the rows used once leave before both.
    assert_eq!(play.use_rows(&[2, 6]), [4, 5]);
    assert_eq!(play.hot(), [1, 2, 6]);
}

#[test]
fn a_row_that_is_not_used_for_a_lifetime_sinks() {
    let mut play = mq(3, 4.0);
    play.use_rows(&[1, 1, 2, 3]);
    // Row 1, in the second queue since the second use, sinks below row 3, which is used all the time.
    play.use_rows(&[3, 3, 3, 3, 3]);
    // The lowest queue is 2, then 1.
    assert_eq!(play.use_rows(&[4, 5]), [2, 1]);
}

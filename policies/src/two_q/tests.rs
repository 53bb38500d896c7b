use super::*;
use crate::books::play::Play;

/// Eight rows: two for the first queue, four ghosts.
fn two_q() -> Play {
    let two_q = TwoQ {
        first: 0.25,
        ghosts: 0.5,
    };
    Play::new(Policy::new(Queued::new(two_q, 1.0), 0.0), 8)
}

#[test]
fn uses_in_the_first_queue_do_not_count() {
    let mut play = two_q();
    play.use_rows(&[1, 2, 3, 4, 5, 6, 7, 8, 1, 1, 1]);
    assert_eq!(play.use_rows(&[9, 10]), [1, 2]);
}

#[test]
fn a_row_that_comes_back_is_kept_by_its_last_use() {
    let mut play = two_q();
    play.use_rows(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    // 1 and 2 come back to the list of rows used again; a scan passes, and leaves them alone.
    assert_eq!(play.use_rows(&[1, 2]), [3, 4]);
    assert_eq!(
        play.use_rows(&[20, 21, 22, 23, 24, 25]),
        [5, 6, 7, 8, 9, 10]
    );
    assert_eq!(play.hot(), [1, 2, 20, 21, 22, 23, 24, 25]);
}

#[test]
fn a_ghost_is_forgotten_after_as_many_as_half_the_tier() {
    let mut play = two_q();
    play.use_rows(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]);
    // 1 to 5 left, and 1 was forgotten: it enters the first queue, from which all leave in order.
    assert_eq!(play.use_row(1), Some(vec![6]));
    assert_eq!(play.use_rows(&[30, 31, 32, 33, 34, 35, 36, 37])[7], 1);
}

use super::*;
use crate::books::play::Play;

/// A tier of ten rows: one in the small queue, nine ghosts, rows move on after one use.
fn s3_fifo() -> Play {
    let config = S3FifoConfig {
        uses: 1,
        ..S3FifoConfig::default()
    };
    Play::new(Policy::new(Queued::new(S3Fifo::new(config), 0.0), 0.0), 10)
}

#[test]
fn a_new_row_that_is_not_used_leaves_before_old_ones() {
    let mut play = s3_fifo();
    // Row 1 fills the small queue, 2 to 10 the main one.
    play.use_rows(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    assert_eq!(play.use_rows(&[11, 12, 13]), [1, 11, 12]);
}

#[test]
fn a_use_moves_a_row_on_and_a_ghost_enters_the_main_queue() {
    let mut play = s3_fifo();
    play.use_rows(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    // Row 1 was used: it moves on, the main queue is over its size then, and its oldest leaves.
    play.use_row(1);
    assert_eq!(play.use_row(11), Some(vec![2]));
    // The main queue has 3 to 10 and 1; 12 pushes 11 out of the small queue; 11 comes back, into the main queue.
    assert_eq!(play.use_rows(&[12, 11]), [11, 12]);
    // The main queue has ten rows of nine: its oldest leaves before any of the small queue, and 12 returns to it as well.
    assert_eq!(play.use_row(13), Some(vec![3]));
}

#[test]
fn a_row_as_large_as_the_small_queue_is_refused_under_pressure() {
    let s3 = S3Fifo::new(S3FifoConfig::default());
    assert!(s3.admits(100, 1_000) && !s3.admits(101, 1_000));
}

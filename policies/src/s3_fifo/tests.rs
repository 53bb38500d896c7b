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

/// Nine rows that left the small queue are remembered, the tenth before the last is not.
#[test]
fn a_ghost_lasts_until_as_many_bytes_have_left_after_it() {
    for (last, then) in [(19, 2), (20, 1)] {
        let mut play = s3_fifo();
        play.use_rows(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
        let new: Vec<u64> = (11..=last).collect();
        assert_eq!(play.use_rows(&new)[..2], [1, 11]);
        // Row 1 comes back, into the main queue while it is a ghost, which then is over its size.
        assert_eq!(play.use_row(1), Some(vec![last]));
        assert_eq!(play.use_row(50), Some(vec![then]), "{last}");
    }
}

/// A used row moved on by the way makes the main queue too large, and still the row named behind it leaves first.
#[test]
fn what_is_named_is_named_again() {
    let config = S3FifoConfig {
        small: 0.2,
        uses: 1,
        ..S3FifoConfig::default()
    };
    let mut policy = Policy::new(Queued::new(S3Fifo::new(config), 0.0), 0.0);
    let context = |used| aether_core::role::Context {
        now: aether_core::Time(0),
        temperature: 1.0,
        hot_bytes: used,
        budget_bytes: 10,
    };
    for row in 1..=10 {
        let item = Item {
            row: Row(row),
            bytes: 1,
            restore_us: 1.0,
        };
        policy.admit(&item, &context(row));
        let to = aether_core::role::Tier::Hot;
        let moved = aether_core::role::Event::Moved { item, to };
        policy.on_event(&moved, aether_core::Time(0));
    }
    // Rows 1 and 2 are in the small queue, and the main one is full.
    let used = aether_core::role::Event::Accessed { row: Row(1) };
    policy.on_event(&used, aether_core::Time(0));
    let mut named = || policy.victim(1, &context(10)).unwrap().row;
    assert_eq!([named(), named(), named()], [Row(2); 3]);
}

#[test]
fn a_row_as_large_as_the_small_queue_is_refused_under_pressure() {
    let s3 = S3Fifo::new(S3FifoConfig::default());
    assert!(s3.admits(100, 1_000) && !s3.admits(101, 1_000));
}

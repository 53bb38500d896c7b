use super::*;
use crate::books::play::Play;

/// The paper's example (section 3.3): three rows, one of them for the queue.
fn lirs() -> Play {
    let lirs = Lirs {
        queue: 0.34,
        uses: 0,
    };
    Play::new(Policy::new(Queued::new(lirs, GHOSTS_SHARE), 0.0), 3)
}

/// Rows A and B are LIR; others pass through the queue, and one that comes back while it is in the stack takes the place of the
/// LIR row that was used longest ago.
#[test]
fn a_row_that_comes_back_soon_takes_the_oldest_place() {
    let [a, b, c, d, e] = [1, 2, 3, 4, 5];
    let mut play = lirs();
    play.use_rows(&[a, b, a, b]);
    assert_eq!(play.use_rows(&[c, d, e]), [c, d]);
    assert_eq!(play.hot(), [a, b, e]);
    // D left in the stack: its distance is shorter than the last use of A is old. E leaves, D becomes LIR, A goes to the queue.
    assert_eq!(play.use_row(d), Some(vec![e]));
    assert_eq!(play.hot(), [a, b, d]);
    // A is in the queue, and the next to leave.
    assert_eq!(play.use_row(c), Some(vec![a]));
}

/// A loop one row longer than the tier: LRU never hits; LIRS keeps its LIR rows.
#[test]
fn a_loop_does_not_thrash() {
    let mut play = lirs();
    let misses = (0..40).filter(|n| play.use_row(n % 4).is_some()).count();
    // Two of four rows hit from the second round on.
    assert_eq!(misses, 4 + 36 / 2);
}

#[test]
fn a_use_in_the_queue_and_in_the_stack_makes_a_row_lir() {
    let [a, b, c] = [1, 2, 3];
    let mut play = lirs();
    play.use_rows(&[a, b, c]);
    // C is later in the stack than A, the oldest LIR row: C becomes LIR, A goes to the queue, and leaves next.
    assert_eq!(play.use_row(c), None);
    assert_eq!(play.use_row(4), Some(vec![a]));
}

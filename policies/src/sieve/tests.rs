use super::*;
use crate::books::play::Play;

fn sieve(capacity: u64) -> Play {
    let sieve = Sieve { ahead: 0 };
    Play::new(Policy::new(Queued::new(sieve, 0.0), 0.0), capacity)
}

/// Figure 1 of the paper: seven rows with A, B and G used, the hand at the oldest; G, F, E, D, C, B, A from newest to oldest.
#[test]
fn the_hand_spares_used_rows_in_their_place() {
    let [a, b, c, d, e, f, g] = [1, 2, 3, 4, 5, 6, 7];
    let mut play = sieve(7);
    play.use_rows(&[a, b, c, d, e, f, g, a, b, g]);
    // H: the hand clears A and B, and takes C.
    assert_eq!(play.use_row(8), Some(vec![c]));
    // A is used again; I takes D, where the hand stands; J takes E.
    play.use_row(a);
    assert_eq!(play.use_rows(&[9, 10]), [d, e]);
    // K takes F; L clears G and takes H; then I, J, K are ahead still.
    assert_eq!(play.use_rows(&[11, 12]), [f, 8]);
    assert_eq!(play.hot(), [a, b, g, 9, 10, 11, 12]);
}

/// After the newest row the hand begins again at the oldest, also when new rows have come since.
#[test]
fn the_hand_wraps_when_it_has_met_the_newest() {
    let mut play = sieve(3);
    play.use_rows(&[1, 2, 3, 1, 2]);
    // Clears 1 and 2, takes 3, the newest: the next round begins at 1, not at the new row 4.
    assert_eq!(play.use_rows(&[4, 5]), [3, 1]);
}

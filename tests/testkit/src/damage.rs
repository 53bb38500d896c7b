//! Inputs that grew wrong, for everything that decodes bytes from outside.
//!
//! `AETHER_INPUTS` sets how many each target gets, `AETHER_SEED` repeats a run.

use std::panic::{AssertUnwindSafe, catch_unwind};

use fastrand::Rng;

use crate::alloc::peak_of;
use crate::env::variable;

/// Inputs of a target unless `AETHER_INPUTS` says otherwise.
const INPUTS: u64 = 100_000;
/// Bytes that decide more often than others.
const TELLING: [u8; 9] = [0, 1, 0x7f, 0x80, 0xff, b'"', b'\n', b'-', b'9'];

/// A good input changed in one to four places: bits flipped, numbers made extreme, parts cut, doubled or replaced, bytes added.
pub fn changed(good: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mut bytes = good.to_vec();
    for _ in 0..rng.u32(1..=4) {
        let n = bytes.len();
        if n == 0 {
            bytes.push(rng.u8(..));
            continue;
        }
        let at = rng.usize(..n);
        let to = (at + rng.usize(1..=16)).min(n);
        match rng.u8(0..9) {
            0 | 1 => bytes[at] ^= 1 << rng.u8(0..8),
            2 => bytes[at] = TELLING[rng.usize(..TELLING.len())],
            3 => bytes[at..to].fill([0, 0xff][rng.usize(..2)]),
            4 => bytes[at..to].iter_mut().for_each(|b| *b = rng.u8(..)),
            5 => bytes.truncate(at),
            6 => drop(bytes.drain(at..to)),
            7 => {
                let part = bytes[at..to].to_vec();
                let place = rng.usize(..=n);
                bytes.splice(place..place, part);
            }
            _ => bytes.extend((0..rng.usize(1..32)).map(|_| rng.u8(..))),
        }
    }
    bytes
}

/// Feeds a target, which says whether it took an input for good, with good inputs and then with changed ones.
///
/// How many bytes it holds at once is known only in a program whose allocator is [`Counting`](crate::alloc::Counting).
///
/// # Panics
/// When a good input is refused, when no changed one is, when the target panics, or when it holds more than `most` bytes at once;
/// the message has the input.
pub fn feed(name: &str, most: i64, good: &[Vec<u8>], target: impl Fn(&[u8]) -> bool) {
    feed_part(name, most, good, 1, target);
}

/// As [`feed`], with one in so many inputs only, for a target that is slow.
///
/// # Panics
/// As [`feed`].
pub fn feed_part(
    name: &str,
    most: i64,
    good: &[Vec<u8>],
    one_in: u64,
    target: impl Fn(&[u8]) -> bool,
) {
    let inputs = variable("AETHER_INPUTS").unwrap_or(INPUTS) / one_in;
    let seed = variable("AETHER_SEED").unwrap_or_else(|| fastrand::u64(..));
    let mut rng = Rng::with_seed(seed);
    for sample in good {
        assert!(
            target(sample),
            "{name}: a good input is refused: {sample:?}"
        );
    }
    let mut taken = 0;
    for n in 0..inputs {
        let bytes = changed(&good[rng.usize(..good.len())], &mut rng);
        let (done, peak) = peak_of(|| catch_unwind(AssertUnwindSafe(|| target(&bytes))));
        let what = || format!("{name}, AETHER_SEED={seed}, input {n}: {bytes:?}");
        assert!(peak <= most, "{peak} bytes held at once, by {}", what());
        match done {
            Ok(fine) => taken += u64::from(fine),
            Err(_) => panic!("a panic, by {}", what()),
        }
    }
    println!("{name}: {inputs} inputs, {taken} taken for good, AETHER_SEED={seed}");
    assert!(taken < inputs, "{name}: nothing was refused");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_that_trusts_a_length_is_caught() {
        let good = vec![2, 0, 7, 8];
        let trusting = |bytes: &[u8]| bytes[2..][..usize::from(bytes[0])] == [7, 8];
        let caught = catch_unwind(AssertUnwindSafe(|| {
            feed("trusting", 1 << 20, std::slice::from_ref(&good), trusting)
        }));
        assert!(caught.is_err());
        feed("careful", 1 << 20, &[good], |bytes| {
            let part = bytes
                .get(2..)
                .and_then(|rest| rest.get(..usize::from(bytes[0])));
            part == Some(&[7, 8])
        });
    }
}

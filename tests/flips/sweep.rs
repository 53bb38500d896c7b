//! Flips the bits of one file, one after the other, and counts what became of them.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// How a flipped bit came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nothing was opened: an error said why.
    Refused,
    /// Opened, and an error or a mark on an answer said that something is missing.
    Marked,
    /// All answers are as before, and `check` says that something is wrong.
    ByCheck,
    /// All answers are as before.
    Harmless,
}

/// What became of the bits of one kind of file.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Swept {
    pub(crate) flipped: u64,
    pub(crate) refused: u64,
    pub(crate) marked: u64,
    pub(crate) by_check: u64,
    pub(crate) harmless: u64,
}

/// About how many bits of each kind, where that is asked for.
fn asked() -> Option<usize> {
    match std::env::var("AETHER_FLIPS").ok()?.as_str() {
        "all" => Some(usize::MAX),
        text => Some(
            text.parse()
                .unwrap_or_else(|e| panic!("AETHER_FLIPS={text}: {e}")),
        ),
    }
}

/// Flips about `most` bits of the bytes that are wanted, evenly spread over the file and over the places in a byte.
///
/// # Panics
/// When the unharmed bytes are not harmless, or any flip gave a wrong answer or a panic: the message has the first of them.
pub(crate) fn sweep(
    kind: &str,
    most: usize,
    good: &[u8],
    wanted: impl Fn(usize) -> bool,
    probe: impl Fn(&[u8]) -> Result<Found, String>,
) -> Swept {
    assert_eq!(probe(good), Ok(Found::Harmless), "{kind}: the good bytes");
    let bytes: Vec<usize> = (0..good.len()).filter(|at| wanted(*at)).collect();
    let bits = bytes.len() * 8;
    // An odd step meets every place in a byte.
    let step = bits.div_ceil(asked().unwrap_or(most)) | 1;
    let mut swept = Swept::default();
    let mut wrong: Vec<String> = Vec::new();
    let mut bad = good.to_vec();
    for bit in (0..bits).step_by(step) {
        let (at, mask) = (bytes[bit / 8], 1 << (bit % 8));
        bad[at] ^= mask;
        swept.flipped += 1;
        let probed = catch_unwind(AssertUnwindSafe(|| probe(&bad)));
        bad[at] ^= mask;
        match probed.unwrap_or_else(|_| Err("a panic".to_owned())) {
            Ok(Found::Refused) => swept.refused += 1,
            Ok(Found::Marked) => swept.marked += 1,
            Ok(Found::ByCheck) => swept.by_check += 1,
            Ok(Found::Harmless) => swept.harmless += 1,
            Err(what) => wrong.push(format!("bit {} of byte {at}: {what}", bit % 8)),
        }
    }
    println!(
        "{kind}: {} of {bits} bits in {} bytes flipped: {} refused, {} marked, {} found by check alone, {} harmless, {} wrong",
        swept.flipped,
        bytes.len(),
        swept.refused,
        swept.marked,
        swept.by_check,
        swept.harmless,
        wrong.len()
    );
    let first: Vec<_> = wrong.iter().take(10).collect();
    assert!(
        wrong.is_empty(),
        "{kind}: {} wrong: {first:#?}",
        wrong.len()
    );
    swept
}

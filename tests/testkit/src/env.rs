//! Settings of a test run that come from outside.

use std::ops::Range;

/// A number in an environment variable: `AETHER_SEED` repeats a run, `AETHER_SEEDS`, `AETHER_OPS` and `AETHER_INPUTS` say how many.
///
/// # Panics
/// When it is set and is no number.
pub fn variable(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(
        value
            .parse()
            .unwrap_or_else(|e| panic!("{name}={value}: expected a number: {e}")),
    )
}

/// Seeds to run: so many as `AETHER_SEEDS` says from `AETHER_SEED` on; that one alone, or from 1 on, where only one of them is set; else so many as usual.
pub fn seeds(usually: u64) -> Range<u64> {
    let first = variable("AETHER_SEED");
    let many = variable("AETHER_SEEDS").unwrap_or(if first.is_some() { 1 } else { usually });
    let first = first.unwrap_or(1);
    first..first + many
}

/// Whether a test that else takes some of all calls takes each: `AETHER_EVERY=1`.
pub fn every() -> bool {
    variable("AETHER_EVERY").is_some_and(|n| n > 0)
}

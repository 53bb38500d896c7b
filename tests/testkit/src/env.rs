//! Settings of a test run that come from outside.

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

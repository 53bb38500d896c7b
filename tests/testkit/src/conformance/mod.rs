//! One property-based suite for each contract, as plain functions over a factory and a macro that makes one named test of
//! each check.
//!
//! Every check panics with a sentence that says which promise was broken. Random inputs come from a fixed seed, so that a
//! failure is the same everywhere; `AETHER_TEST_SEED=7` tries another one, and each failure prints its seed.

pub mod codec;
pub mod cold;
pub mod hot;
pub mod meta;
mod options;
pub mod policy;

use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::Arc;

use aether_core::{BuildContext, ManualClock, Metric, Plugin, Registry, Result};
use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};

pub use options::{check_options, check_options_among, check_options_with};

/// The seed of this run: `AETHER_TEST_SEED`, or 42.
#[allow(clippy::disallowed_methods, reason = "a test's own switch")]
pub fn seed() -> u64 {
    std::env::var("AETHER_TEST_SEED")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(42)
}

/// A build context with a clock that stands still, for plug-ins under test.
pub fn context(dim: usize, metric: Metric, data_dir: Option<PathBuf>) -> BuildContext {
    BuildContext {
        dim,
        metric,
        data_dir,
        clock: Arc::new(ManualClock::new()),
        seed: seed(),
        read_only: false,
        hot_budget: None,
        registry: Arc::new(Registry::empty()),
    }
}

/// A registry of these plug-ins and no others.
///
/// # Errors
/// `Config` when two of them have one name.
pub fn registry_of(plugins: &[&'static Plugin]) -> Result<Registry> {
    let mut registry = Registry::empty();
    for plugin in plugins {
        registry.add(plugin)?;
    }
    Ok(registry)
}

/// Runs `test` on `cases` values of a strategy and shrinks what makes it panic.
///
/// # Panics
/// With the smallest failing value and the seed.
pub fn property<S>(cases: u32, strategy: S, test: impl Fn(S::Value))
where
    S: Strategy,
    S::Value: Debug,
{
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 2_000,
        ..Config::default()
    };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed().to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let outcome = TestRunner::new_with_rng(config, rng).run(&strategy, |value| {
        test(value);
        Ok(())
    });
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(reason, value)) => panic!(
            "{reason}\nsmallest failing input: {value:?}\nseed: AETHER_TEST_SEED={}",
            seed()
        ),
        Err(TestError::Abort(reason)) => panic!("gave up: {reason}"),
    }
}

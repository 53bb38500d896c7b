//! Conformance of the cold role: every sentence of [`ColdStore`]'s contract as a check.
//!
//! ```ignore
//! // tests/conformance.rs of a back end
//! use aether_testkit::conformance::cold::Harness;
//! aether_testkit::cold_conformance!(defaults, Harness::new(&my_crate::PLUGIN));
//! ```
//!
//! Each check opens the plug-in's store through its own factory in an empty temporary folder and has a tokio runtime of
//! its own. A check that does not apply (a reopening of a store that is not persistent) prints why it was skipped.

#![allow(
    clippy::single_range_in_vec_init,
    reason = "a list of one range is what is meant"
)]

use std::future::Future;

use aether_core::role::{BlobInfo, ColdStore};
use aether_core::{BlobKey, Result};
use bytes::Bytes;

mod basics;
mod concurrent;
mod harness;
mod model;
mod opening;
mod ranges;

pub use basics::*;
pub use concurrent::*;
pub use harness::{Harness, Place};
pub use model::*;
pub use opening::*;
pub use ranges::*;

/// One check of the suite; panics when the contract is broken.
pub type Check = fn(&Harness);

/// Hands the names of all checks to a macro: the one list from which [`CHECKS`] and the tests are made.
#[doc(hidden)]
#[macro_export]
macro_rules! __cold_checks {
    ([$($then:tt)+] $($arguments:tt)*) => {
        $($then)+! { [$($arguments)*]
            a_blob_reads_back_as_it_was_put
            an_absent_blob_is_none_everywhere
            the_same_bytes_again_are_ok
            other_bytes_conflict_and_the_old_stay
            delete_repeats_harmlessly
            a_deleted_key_is_free_again
            an_empty_blob_is_a_blob
            a_large_blob_comes_back_whole
            long_and_deep_keys_are_kept_apart
            a_listing_takes_any_text_as_prefix
            a_listing_of_many_blobs_is_complete_and_sorted
            a_full_store_says_so_and_keeps_nothing
            ranges_come_in_the_order_asked
            empty_ranges_give_empty_bytes
            bad_ranges_name_the_range_and_the_length
            of_two_puts_at_once_one_wins
            equal_puts_at_once_all_succeed
            readers_never_see_a_part
            readers_at_once_see_the_same
            a_dropped_put_leaves_all_or_nothing
            a_single_threaded_runtime_is_enough
            reopening_keeps_every_blob
            leftovers_of_cut_puts_are_never_listed
            reading_only_writes_nothing
            reading_only_creates_nothing
            the_options_are_those_that_are_read
            random_operations_agree_with_a_map
        }
    };
}

macro_rules! table {
    ([] $($check:ident)*) => {
        /// Every check by name.
        pub const CHECKS: &[(&str, Check)] = &[$((stringify!($check), $check)),*];
    };
}

__cold_checks!([table]);

/// Makes a module `$name` with one `#[test]` for each check of the cold suite; `$harness` is an expression that
/// makes a [`Harness`].
#[macro_export]
macro_rules! cold_conformance {
    ($name:ident, $harness:expr) => {
        mod $name {
            #[allow(unused_imports, reason = "the expression may use what its file imports")]
            use super::*;

            // A name that the expression will not mean: it sees this module before its own file.
            fn aether_testkit_harness() -> $crate::conformance::cold::Harness {
                $harness
            }

            $crate::__cold_checks!([$crate::__cold_tests] aether_testkit_harness);
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __cold_tests {
    ([$harness:ident] $($check:ident)*) => {$(
        #[test]
        fn $check() {
            $crate::conformance::cold::$check(&$harness());
        }
    )*};
}

/// Runs the whole suite and returns the names of the checks that failed. For tests of the suite itself.
pub fn failures(harness: impl Fn() -> Harness) -> Vec<&'static str> {
    let fails = |check: Check| {
        let run = std::panic::AssertUnwindSafe(|| check(&harness()));
        std::panic::catch_unwind(run).is_err()
    };
    let failing = CHECKS.iter().filter(|(_, check)| fails(*check));
    failing.map(|(name, _)| *name).collect()
}

/// Drives a future on a runtime of two workers.
fn wait<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    runtime.expect("a runtime for the check").block_on(future)
}

fn key(name: &str) -> BlobKey {
    BlobKey::new(name).expect("a valid blob key")
}

/// Bytes that differ from place to place and from seed to seed.
fn noise(seed: u64, len: usize) -> Bytes {
    let mut bytes = vec![0; len];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    bytes.into()
}

/// A blob's bytes by `size` and a read of the whole, which must agree.
async fn whole(store: &dyn ColdStore, key: &BlobKey) -> Result<Option<Bytes>> {
    let Some(len) = store.size(key).await? else {
        return Ok(None);
    };
    let whole = 0..len;
    let Some(mut answers) = store.read(key, std::slice::from_ref(&whole)).await? else {
        return Ok(None);
    };
    assert_eq!(answers.len(), 1, "{key}: one answer for one range");
    let bytes = answers.pop().unwrap_or_default();
    assert_eq!(bytes.len() as u64, len, "{key}: length of the whole");
    Ok(Some(bytes))
}

async fn listed(store: &dyn ColdStore, prefix: &str) -> Vec<(String, u64)> {
    let blobs = store.list(prefix).await;
    let pair = |blob: BlobInfo| (blob.key.to_string(), blob.bytes);
    let blobs = blobs.unwrap_or_else(|e| panic!("list {prefix:?}: {e}"));
    blobs.into_iter().map(pair).collect()
}

/// Says on the test's output why a check does not apply.
fn skip(check: &str, why: &str) {
    eprintln!("{check}: skipped, {why}");
}

#[cfg(test)]
mod tests;

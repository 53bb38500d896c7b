//! Conformance of the policy role.
//!
//! ```ignore
//! aether_testkit::policy_conformance!(lru, PolicyHarness::new(&my_crate::PLUGIN));
//! ```
//!
//! makes a module `lru` with one test for each check below. Most checks drive the policy through random sequences of events
//! beside a simulated hot tier ([`sim`]), which knows what is hot, pinned and gone; a failing sequence is shrunk and
//! printed. Sequences are the same in every run; the environment variable `AETHER_TESTKIT_SEED` (a number) picks others,
//! `PROPTEST_CASES` makes more or fewer.

use std::sync::Arc;

use aether_core::config::RawConfig;
use aether_core::role::EvictionPolicy;
use aether_core::{BuildContext, Factory, ManualClock, Metric, Plugin, Registry, Result};

mod books;
mod describe;
mod replay;
pub mod sim;
mod together;
mod victims;

pub use books::*;
pub use describe::*;
pub use replay::*;
pub use together::*;
pub use victims::*;

/// Most bytes of a policy's books for each hot row, at ten thousand rows and beyond, next to [`CONSTANT_BYTES_MAX`]. A policy that by
/// its definition remembers as many rows as are hot, or more, says so with [`PolicyHarness::row_bytes_max`].
pub const ROW_BYTES_MAX: u64 = 64;
/// Most bytes that a policy's books may take with a handful of hot rows, whatever passed through them.
pub const CONSTANT_BYTES_MAX: u64 = 1 << 20;

/// What the suite needs to make instances: the plug-in and the keys it is to be built with.
#[derive(Clone, Debug)]
pub struct PolicyHarness {
    plugin: &'static Plugin,
    keys: String,
    row_bytes_max: u64,
    minds_uses: bool,
    neighbours: Option<f64>,
}

impl PolicyHarness {
    /// A plug-in with its default settings.
    pub fn new(plugin: &'static Plugin) -> Self {
        Self::with_keys(plugin, "")
    }

    /// A plug-in with settings in TOML, as they would stand below `[policy]`.
    pub fn with_keys(plugin: &'static Plugin, keys: &str) -> Self {
        Self {
            plugin,
            keys: keys.to_owned(),
            row_bytes_max: ROW_BYTES_MAX,
            minds_uses: true,
            neighbours: None,
        }
    }

    /// Another bound of the books for each hot row than [`ROW_BYTES_MAX`].
    pub fn row_bytes_max(self, bytes: u64) -> Self {
        Self {
            row_bytes_max: bytes,
            ..self
        }
    }

    /// A policy to which uses mean nothing, such as one that draws by chance: rows that were used are not expected to stay.
    pub fn blind(self) -> Self {
        Self {
            minds_uses: false,
            ..self
        }
    }

    /// A policy that learns which rows are used together and wishes for cold ones, at most `rate` for each use.
    pub fn learns_neighbours(self, rate: f64) -> Self {
        Self {
            neighbours: Some(rate),
            ..self
        }
    }

    /// The plug-in.
    pub fn plugin(&self) -> &'static Plugin {
        self.plugin
    }

    /// An instance with empty books.
    ///
    /// # Panics
    /// When the plug-in is no policy or refuses the keys.
    pub fn build(&self, seed: u64) -> Box<dyn EvictionPolicy> {
        match self.try_build(seed, &self.keys) {
            Ok(policy) => policy,
            Err(e) => panic!("{} refused its keys: {e}", self.plugin.name),
        }
    }

    fn try_build(&self, seed: u64, keys: &str) -> Result<Box<dyn EvictionPolicy>> {
        let Factory::Policy(build) = self.plugin.factory else {
            panic!(
                "{}: expected a factory of a policy, got {:?}",
                self.plugin.name, self.plugin.factory
            );
        };
        let context = BuildContext {
            dim: 8,
            metric: Metric::Cosine,
            data_dir: None,
            clock: Arc::new(ManualClock::new()),
            seed,
            read_only: false,
            hot_budget: None,
            registry: Arc::new(Registry::empty()),
        };
        build(&RawConfig::from_toml("policy", keys)?, &context)
    }
}

/// Runs the whole suite of the policy role on a harness: a module of the given name with one test for each check.
#[macro_export]
macro_rules! policy_conformance {
    ($name:ident, $harness:expr) => {
        mod $name {
            #[allow(unused_imports, reason = "the harness may be named from the outer module")]
            use super::*;
            $crate::policy_conformance! { @checks @tests ($harness) }
        }
    };
    (@tests ($harness:expr) $($check:ident)*) => {
        $(#[test]
        fn $check() {
            $crate::conformance::policy::$check(&$harness);
        })*
    };
    (@table $($check:ident)*) => {
        /// Every check by name.
        pub const CHECKS: &[(&str, fn(&PolicyHarness))] = &[$((stringify!($check), $check),)*];
    };
    (@checks $($then:tt)*) => {
        $crate::policy_conformance! { $($then)*
            victims_are_hot_unpinned_and_distinct
            victims_come_worst_first
            victims_are_at_most_as_many_as_asked
            victims_free_enough_bytes
            victims_of_a_large_tier_free_enough_bytes
            a_full_tier_always_makes_room
            victims_are_proposals_only
            pinned_rows_stay_until_unpinned
            pins_survive_a_stay_in_the_cold_and_a_new_version
            admission_answers_in_the_same_scale
            wishes_are_cold_known_and_distinct
            wishes_are_made_once
            wishes_are_for_neighbours_and_few
            odd_figures_do_no_harm
            time_that_stands_still_or_jumps_does_no_harm
            len_is_the_number_of_hot_rows
            removed_rows_are_forgotten
            unknown_rows_are_no_error
            unknown_rows_that_are_hot_are_taken_up
            a_new_version_takes_over_the_history
            bytes_stay_below_their_forecast
            bytes_for_each_hot_row_are_bounded
            history_is_bounded
            same_seed_and_events_give_same_answers
            asking_for_an_explanation_changes_nothing
            loading_gives_the_same_answers
            saving_appends_and_loading_replaces
            damaged_books_are_corrupt_and_leave_none
            random_bytes_are_corrupt
            hot_rows_are_explained
            unknown_rows_are_explained_as_unknown
            options_match
            descriptor_is_complete
        }
    };
}

policy_conformance! { @checks @table }

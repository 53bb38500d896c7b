//! Conformance of the [`HotIndex`] role: every sentence of its contract, against a plain map and an exact scan.
//!
//! ```text
//! aether_testkit::hot_conformance!(flat, HotHarness::new(&aether_hot_flat::PLUGIN, ""));
//! ```

mod basic;
mod bytes;
mod model;
mod search;
mod snapshot;
mod threads;

use std::sync::Arc;

use aether_core::config::RawConfig;
use aether_core::plugin::{Factory, Plugin};
use aether_core::role::{HotIndex, Neighbor, SearchOptions};
use aether_core::{BuildContext, Metric, Result, Row};

use super::{check_options_among, context, registry_of};

pub use basic::*;
pub use bytes::*;
pub use model::{Model, random_operations_match_the_model};
pub use search::*;
pub use snapshot::*;
pub use threads::*;

/// The hot index under test: a plug-in and the settings to build it with.
#[derive(Clone, Copy, Debug)]
pub struct HotHarness {
    /// The plug-in.
    pub plugin: &'static Plugin,
    /// Its keys as TOML text; `""` for its defaults.
    pub keys: &'static str,
    /// The plug-ins that it wraps.
    pub plugins: &'static [&'static Plugin],
}

impl HotHarness {
    /// A plug-in with settings.
    pub const fn new(plugin: &'static Plugin, keys: &'static str) -> Self {
        Self {
            plugin,
            keys,
            plugins: &[],
        }
    }

    /// The same for a plug-in that wraps others.
    pub const fn with_plugins(mut self, plugins: &'static [&'static Plugin]) -> Self {
        self.plugins = plugins;
        self
    }

    /// Builds an empty index.
    ///
    /// # Errors
    /// Whatever the plug-in's factory says.
    pub fn try_fresh(&self, metric: Metric, dim: usize) -> Result<Arc<dyn HotIndex>> {
        let Factory::Hot(build) = self.plugin.factory else {
            panic!("plug-in {:?} is not a hot index", self.plugin.name);
        };
        let raw = RawConfig::from_toml("hot", self.keys)?;
        let context = BuildContext {
            registry: Arc::new(registry_of(self.plugins)?),
            ..context(dim, metric, None)
        };
        build(&raw, &context)
    }

    /// Builds an empty index.
    ///
    /// # Panics
    /// When the factory fails.
    pub fn fresh(&self, metric: Metric, dim: usize) -> Arc<dyn HotIndex> {
        self.try_fresh(metric, dim)
            .unwrap_or_else(|e| panic!("building {:?} for {metric}, {dim}: {e}", self.plugin.name))
    }

    /// The metrics that the plug-in accepts.
    ///
    /// # Panics
    /// When it builds none, or its capability and its factory disagree.
    pub fn metrics(&self) -> Vec<Metric> {
        let built: Vec<(Metric, Arc<dyn HotIndex>)> = Metric::ALL
            .into_iter()
            .filter_map(|m| Some((m, self.try_fresh(m, 4).ok()?)))
            .collect();
        assert!(!built.is_empty(), "the factory builds no metric at dim 4");
        let metrics: Vec<Metric> = built.iter().map(|(m, _)| *m).collect();
        for (_, index) in &built {
            let declared = index.capability().metrics;
            assert!(
                metrics.iter().all(|m| declared.contains(m)) && declared.len() == metrics.len(),
                "capability declares {declared:?}, but the factory builds {metrics:?}"
            );
        }
        metrics
    }

    /// A metric to test with where any will do.
    pub fn metric(&self) -> Metric {
        self.metrics()[0]
    }
}

/// Checks the listed options of the plug-in.
///
/// # Panics
/// As [`super::check_options_with`].
pub fn options_are_those_of_the_struct(h: &HotHarness) {
    check_options_among(h.plugin, h.keys, h.plugins);
}

/// A random vector that every metric accepts.
pub(crate) fn vector(rng: &mut fastrand::Rng, dim: usize) -> Vec<f32> {
    (0..dim)
        .map(|_| rng.f32() * 2.0 - 1.0 + f32::EPSILON)
        .collect()
}

/// `n` vectors in loose clusters, row-major, as embeddings are.
pub(crate) fn clustered(rng: &mut fastrand::Rng, n: usize, dim: usize) -> Vec<f32> {
    let centres: Vec<Vec<f32>> = (0..16).map(|_| vector(rng, dim)).collect();
    (0..n)
        .flat_map(|_| {
            let centre = &centres[rng.usize(..centres.len())];
            centre
                .iter()
                .map(|c| c + (rng.f32() - 0.5) * 0.8)
                .collect::<Vec<f32>>()
        })
        .collect()
}

/// Options for an exact answer.
pub(crate) fn exact() -> SearchOptions<'static> {
    SearchOptions {
        exact: true,
        ..SearchOptions::default()
    }
}

/// The exact `k` nearest rows.
pub(crate) fn nearest(index: &dyn HotIndex, query: &[f32], k: usize) -> Vec<Neighbor> {
    index
        .search(query, k, &exact())
        .expect("an exact search of a valid query")
}

/// Rows `0..n` with random vectors, inserted one by one.
pub(crate) fn fill(index: &dyn HotIndex, rng: &mut fastrand::Rng, n: u64, dim: usize) -> Model {
    let mut model = Model::default();
    for row in 0..n {
        let v = vector(rng, dim);
        index.insert(Row(row), &v).expect("an insert");
        model.insert(Row(row), &v);
    }
    model
}

/// Makes a module with one `#[test]` for each check of the [`HotIndex`](aether_core::role::HotIndex) contract.
///
/// `hot_conformance!(name, harness)`, where `harness` is an expression of type
/// [`HotHarness`](crate::conformance::hot::HotHarness).
#[macro_export]
macro_rules! hot_conformance {
    ($name:ident, $harness:expr $(,)?) => {
        $crate::hot_conformance!(@all tests $name, $harness);
    };
    (@all $kind:ident $($rest:tt)*) => {
        $crate::hot_conformance! { @$kind [
            options_are_those_of_the_struct,
            capability_is_kept,
            an_empty_index_answers,
            insert_is_idempotent,
            removed_rows_are_gone_and_may_return,
            vectors_come_back_as_they_went_in,
            wrong_lengths_change_nothing,
            batches_are_inserts_in_order,
            any_row_number_is_valid,
            queries_that_are_not_finite_are_refused,
            k_is_honoured,
            filters_are_honoured,
            batches_of_queries_are_answered_one_by_one,
            exact_search_equals_the_model,
            exact_search_at_every_dimension,
            approximate_search_recalls,
            answers_are_in_order_and_ties_by_row,
            cosine_keeps_lengths_and_ignores_them,
            extreme_values_are_ordered,
            bytes_stay_under_the_bound,
            parts_sum_to_bytes,
            compact_keeps_everything_and_reclaims,
            random_operations_match_the_model,
            snapshots_round_trip,
            damaged_snapshots_are_refused,
            snapshots_of_others_are_refused,
            snapshot_streams_may_fail,
            load_wants_an_empty_index,
            concurrent_callers_see_before_or_after,
            snapshots_beside_writers_are_whole,
        ] $($rest)* }
    };
    (@tests [$($check:ident,)*] $name:ident, $harness:expr) => {
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            $(
                #[test]
                fn $check() {
                    $crate::conformance::hot::$check(&$harness);
                }
            )*
        }
    };
    (@list [$($check:ident,)*]) => {
        &[$((stringify!($check), $crate::conformance::hot::$check as $crate::conformance::hot::HotCheck)),*]
    };
}

/// One check: panics when the promise is broken.
pub type HotCheck = fn(&HotHarness);

/// Every check by name.
pub const CHECKS: &[(&str, HotCheck)] = crate::hot_conformance!(@all list);

//! The suite of [`MetaStore`](aether_core::role::MetaStore): every sentence of its contract, against a plain map.
//!
//! ```ignore
//! use aether_testkit::conformance::meta::Harness;
//!
//! aether_testkit::meta_conformance!(mine, Harness::plugin(&my_crate::PLUGIN).with_config("cache = \"1MiB\""));
//! ```
//!
//! Each check makes its own temporary folder and its own runtime, and panics with what it expected and what it got. What
//! a store declares picks the checks: one that is not persistent is not reopened. A store that keeps its state outside
//! the folder it is given says so with [`Harness::elsewhere`].

mod basics;
mod crash;
mod damage;
mod harness;
mod model;
mod race;
mod writer;

pub use basics::{
    close_ends_every_call, empty_values_are_values, gets_keep_order_and_duplicates,
    limits_are_honest, limits_are_kept, options_are_as_declared, scans_keep_range_order_and_limit,
    tables_are_apart,
};
pub use crash::{
    a_kill_leaves_whole_batches, close_makes_everything_durable, durable_survives_a_kill,
    epochs_grow_across_reopening, one_process_at_a_time, reading_only_changes_nothing,
};
pub use damage::damage_is_found_or_harmless;
pub use harness::{Harness, Place};
pub use model::answers_like_a_map;
pub use race::{commits_queue, readers_see_whole_batches};
pub use writer::{
    a_failed_precondition_changes_nothing, commits_are_visible_and_numbered, epochs_grow_and_fence,
    later_operations_win, preconditions_look_at_the_state_before,
};

#[cfg(test)]
mod tests;

/// One check: panics with what it expected and what it got.
pub type Check = fn(&Harness);

/// Every check by name, for a runner of one's own.
pub const CHECKS: &[(&str, Check)] = &[
    ("limits_are_honest", limits_are_honest),
    ("limits_are_kept", limits_are_kept),
    ("options_are_as_declared", options_are_as_declared),
    ("empty_values_are_values", empty_values_are_values),
    (
        "gets_keep_order_and_duplicates",
        gets_keep_order_and_duplicates,
    ),
    (
        "scans_keep_range_order_and_limit",
        scans_keep_range_order_and_limit,
    ),
    ("tables_are_apart", tables_are_apart),
    ("close_ends_every_call", close_ends_every_call),
    (
        "commits_are_visible_and_numbered",
        commits_are_visible_and_numbered,
    ),
    ("later_operations_win", later_operations_win),
    (
        "a_failed_precondition_changes_nothing",
        a_failed_precondition_changes_nothing,
    ),
    (
        "preconditions_look_at_the_state_before",
        preconditions_look_at_the_state_before,
    ),
    ("epochs_grow_and_fence", epochs_grow_and_fence),
    ("epochs_grow_across_reopening", epochs_grow_across_reopening),
    ("answers_like_a_map", answers_like_a_map),
    ("commits_queue", commits_queue),
    ("readers_see_whole_batches", readers_see_whole_batches),
    ("durable_survives_a_kill", durable_survives_a_kill),
    ("a_kill_leaves_whole_batches", a_kill_leaves_whole_batches),
    (
        "close_makes_everything_durable",
        close_makes_everything_durable,
    ),
    ("one_process_at_a_time", one_process_at_a_time),
    ("reading_only_changes_nothing", reading_only_changes_nothing),
    ("damage_is_found_or_harmless", damage_is_found_or_harmless),
];

/// Makes one `#[test]` of each check of the suite, in a module `$name`; `$harness` is evaluated for each.
#[macro_export]
macro_rules! meta_conformance {
    ($name:ident, $harness:expr) => {
        $crate::meta_conformance!(@tests $name, $harness,
            limits_are_honest limits_are_kept options_are_as_declared empty_values_are_values
            gets_keep_order_and_duplicates scans_keep_range_order_and_limit tables_are_apart
            close_ends_every_call commits_are_visible_and_numbered later_operations_win
            a_failed_precondition_changes_nothing preconditions_look_at_the_state_before
            epochs_grow_and_fence epochs_grow_across_reopening answers_like_a_map commits_queue
            readers_see_whole_batches durable_survives_a_kill a_kill_leaves_whole_batches
            close_makes_everything_durable one_process_at_a_time reading_only_changes_nothing
            damage_is_found_or_harmless
        );
    };
    (@tests $name:ident, $harness:expr, $($check:ident)*) => {
        mod $name {
            #[allow(unused_imports, reason = "the harness may need none of them")]
            use super::*;
            $(
                #[test]
                fn $check() {
                    $crate::conformance::meta::$check(&$harness);
                }
            )*
        }
    };
}

//! The hot index broken on purpose, each fault with the check that must notice it.

use aether_core::plugin::{Factory, Plugin};

use super::{Fault, OPTIONS, build};

macro_rules! fakes {
    ($($(#[$doc:meta])* $static:ident $fault:ident $name:literal $options:expr, $check:ident;)*) => {
        $(
            $(#[$doc])*
            pub static $static: Plugin = Plugin {
                name: $name,
                crate_name: env!("CARGO_PKG_NAME"),
                summary: "A fake for the tests of the conformance suite.",
                options: $options,
                persistent: false,
                factory: Factory::Hot(|raw, context| build(raw, context, Fault::$fault)),
            };
        )*
        /// Each broken fake with a check that must fail on it.
        pub const BROKEN: &[(&Plugin, &str)] = &[$((&$static, stringify!($check))),*];
    };
}

fakes! {
    /// Says that it removed, and does not.
    FORGETS_REMOVES ForgetsRemoves "forgets-removes" OPTIONS, removed_rows_are_gone_and_may_return;
    /// Removed rows stay in search results.
    RETURNS_DEAD ReturnsDead "returns-dead" OPTIONS, removed_rows_are_gone_and_may_return;
    /// `remove` says `true` for absent rows.
    REMOVE_SAYS_TRUE RemoveSaysTrue "remove-says-true" OPTIONS, random_operations_match_the_model;
    /// A repeated insert replaces the vector.
    OVERWRITES Overwrites "overwrites" OPTIONS, insert_is_idempotent;
    /// Filters count for nothing.
    IGNORES_FILTER IgnoresFilter "ignores-filter" OPTIONS, filters_are_honoured;
    /// Takes the `k` nearest and filters afterwards.
    FILTERS_TOO_LATE FiltersTooLate "filters-too-late" OPTIONS, filters_are_honoured;
    /// `bytes_after` forgets the overhead.
    BOUND_TOO_LOW BoundTooLow "bound-too-low" OPTIONS, bytes_stay_under_the_bound;
    /// `bytes_after` wraps around.
    BOUND_OVERFLOWS BoundOverflows "bound-overflows" OPTIONS, bytes_stay_under_the_bound;
    /// A part is missing in `stats`.
    PARTS_MISSING PartsMissing "parts-missing" OPTIONS, parts_sum_to_bytes;
    /// `bytes` leaves the vectors out.
    BYTES_WITHOUT_VECTORS BytesWithoutVectors "bytes-without-vectors" OPTIONS, parts_sum_to_bytes;
    /// Answers come in any order.
    LOSES_ORDER LosesOrder "loses-order" OPTIONS, exact_search_equals_the_model;
    /// Of equal rows the largest comes first.
    TIES_REVERSED TiesReversed "ties-reversed" OPTIONS, answers_are_in_order_and_ties_by_row;
    /// Keeps unit vectors under cosine.
    NORMALISES Normalises "normalises" OPTIONS, cosine_keeps_lengths_and_ignores_them;
    /// Searches with NaN.
    TAKES_NAN TakesNan "takes-nan" OPTIONS, queries_that_are_not_finite_are_refused;
    /// Takes vectors of any length.
    TAKES_WRONG_LENGTH TakesWrongLength "takes-wrong-length" OPTIONS, wrong_lengths_change_nothing;
    /// Clears `out` before it knows whether the row is there.
    TOUCHES_OUT TouchesOut "touches-out" OPTIONS, vectors_come_back_as_they_went_in;
    /// Loses denormals and the sign of zero.
    FLUSHES_DENORMALS FlushesDenormals "flushes-denormals" OPTIONS, vectors_come_back_as_they_went_in;
    /// Uses the largest row number for itself.
    SENTINEL_ROW SentinelRow "sentinel-row" OPTIONS, any_row_number_is_valid;
    /// In a batch the last of equal rows stays.
    LAST_OF_BATCH_WINS LastOfBatchWins "last-of-batch-wins" OPTIONS, batches_are_inserts_in_order;
    /// Gives `k - 1` answers.
    ONE_TOO_FEW OneTooFew "one-too-few" OPTIONS, k_is_honoured;
    /// An approximate search looks at half of the rows.
    MISSES Misses "misses" OPTIONS, approximate_search_recalls;
    /// An exact search looks at nearly all rows.
    EXACT_MISSES ExactMisses "exact-misses" OPTIONS, exact_search_equals_the_model;
    /// Compaction loses a row.
    COMPACT_DROPS_ROWS CompactDropsRows "compact-drops-rows" OPTIONS, compact_keeps_everything_and_reclaims;
    /// During compaction half of the rows are away.
    COMPACT_IN_PIECES CompactInPieces "compact-in-pieces" OPTIONS, concurrent_callers_see_before_or_after;
    /// Never gives memory back.
    KEEPS_GARBAGE KeepsGarbage "keeps-garbage" OPTIONS, compact_keeps_everything_and_reclaims;
    /// Snapshots without a checksum.
    NO_CHECKSUM NoChecksum "no-checksum" OPTIONS, damaged_snapshots_are_refused;
    /// Rows read before the damage stay.
    LOADS_HALF LoadsHalf "loads-half" OPTIONS, damaged_snapshots_are_refused;
    /// A snapshot does not tell its metric.
    TAKES_OTHER_METRIC TakesOtherMetric "takes-other-metric" OPTIONS, snapshots_of_others_are_refused;
    /// Loads on top of what is there.
    LOADS_INTO_FULL LoadsIntoFull "loads-into-full" OPTIONS, load_wants_an_empty_index;
    /// A full disk is no error.
    SWALLOWS_WRITE_ERRORS SwallowsWriteErrors "swallows-write-errors" OPTIONS, snapshot_streams_may_fail;
    /// A snapshot of two moments.
    SAVES_IN_PIECES SavesInPieces "saves-in-pieces" OPTIONS, snapshots_beside_writers_are_whole;
    /// Reads a key that it does not list.
    HIDES_OPTION HidesOption "hides-option" &[], options_are_those_of_the_struct;
    /// Declares metrics that it does not build.
    WRONG_CAPABILITY WrongCapability "wrong-capability" OPTIONS, capability_is_kept;
    /// L2 with a square root.
    SQUARE_ROOT_OF_L2 SquareRootOfL2 "square-root-of-l2" OPTIONS, exact_search_at_every_dimension;
}

//! The codecs broken on purpose, each fault with the check that must notice it.

use aether_core::plugin::{Factory, Plugin};
use aether_core::role::CodecId;

use super::{Fault, ID, OPTIONS, build};

macro_rules! fakes {
    ($($(#[$doc:meta])* $static:ident $fault:ident $name:literal $lossy:literal $id:expr, $options:expr, $check:ident;)*) => {
        $(
            $(#[$doc])*
            pub static $static: Plugin = Plugin {
                name: $name,
                crate_name: env!("CARGO_PKG_NAME"),
                summary: "A fake for the tests of the conformance suite.",
                options: $options,
                persistent: false,
                factory: Factory::Codec($id, |raw, _| build(raw, $id, $lossy, Fault::$fault)),
            };
        )*
        /// Each broken fake with a check that must fail on it.
        pub const BROKEN: &[(&Plugin, &str)] = &[$((&$static, stringify!($check))),*];
    };
}

fakes! {
    /// Reads a key that it does not list.
    HIDES_OPTION HidesOption "hides-option" false ID, &[], options_are_those_of_the_struct;
    /// Has the number that stands for no codec.
    ZERO_NUMBER ZeroNumber "zero-number" false CodecId(0), OPTIONS, number_and_fidelity_are_stated;
    /// States a bound of one half.
    USELESS_BOUND UselessBound "useless-bound" true ID, OPTIONS, number_and_fidelity_are_stated;
    /// States a bound that it does not hold.
    BOUND_TOO_TIGHT BoundTooTight "bound-too-tight" true ID, OPTIONS, vectors_come_back_within_the_fidelity;
    /// Makes one NaN of all.
    FLUSHES_NAN FlushesNan "flushes-nan" false ID, OPTIONS, any_bits_come_back_from_an_exact_codec;
    /// Lossy, and takes infinity.
    CLAMPS Clamps "clamps" true ID, OPTIONS, values_out_of_range_are_refused_by_name;
    /// Forgets what is left after blocks of 32 rows.
    DROPS_REMAINDER DropsRemainder "drops-remainder" false ID, OPTIONS, blocks_of_every_shape_come_back;
    /// Clears the output first.
    CLEARS_OUT ClearsOut "clears-out" false ID, OPTIONS, output_is_appended;
    /// Writes other bytes each time.
    COUNTS Counts "counts" false ID, OPTIONS, encoding_is_deterministic;
    /// Reads only what its own settings wrote.
    SETTINGS_MATTER SettingsMatter "settings-matter" false ID, OPTIONS, settings_read_each_other;
    /// Callers share a buffer.
    SHARED_SCRATCH SharedScratch "shared-scratch" false ID, OPTIONS, callers_may_share_an_instance;
    /// Has no checksum.
    NO_CHECKSUM NoChecksum "no-checksum" false ID, OPTIONS, flipped_bits_are_found;
    /// Leaves a float behind when it fails.
    LEAVES_HALF LeavesHalf "leaves-half" false ID, OPTIONS, flipped_bits_are_found;
    /// Looks at no more bytes than it needs.
    IGNORES_TAIL IgnoresTail "ignores-tail" false ID, OPTIONS, cuts_and_additions_are_found;
    /// Reads a block under any shape of the same size.
    IGNORES_SHAPE IgnoresShape "ignores-shape" false ID, OPTIONS, other_shapes_are_refused;
    /// Panics on short input.
    PANICS_WHEN_SHORT PanicsWhenShort "panics-when-short" false ID, OPTIONS, garbage_is_refused;
    /// Reserves room by the length of the input.
    RESERVES_CLAIM ReservesClaim "reserves-claim" false ID, OPTIONS, nothing_is_allocated_beyond_the_shape;
    /// Reserves room for the shape before it has seen a good byte.
    RESERVES_SHAPE ReservesShape "reserves-shape" false ID, OPTIONS, nothing_is_allocated_beyond_the_shape;
    /// Loses zeros at the end of packed bytes.
    STRIPS_ZEROS StripsZeros "strips-zeros" false ID, OPTIONS, plain_bytes_come_back;
    /// Unpacks whatever length there is.
    IGNORES_LENGTH IgnoresLength "ignores-length" false ID, OPTIONS, damaged_bytes_are_refused;
}

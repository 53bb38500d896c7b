//! Hot indexes that reckon wrongly what they take.

use std::sync::Arc;

use aether_core::plugin::{Factory, Plugin};
use aether_core::role::HotIndex;
use aether_testkit::fake::hot::{Reckoned, STRICT};

/// Bytes that [`HIDES`] takes beside what it tells.
const HIDDEN: u64 = 8 << 10;

macro_rules! plugin {
    ($static:ident, $name:literal, $bytes:expr, $bytes_after:expr) => {
        pub static $static: Plugin = Plugin {
            name: $name,
            crate_name: "test",
            summary: "reckons wrongly",
            options: &[],
            persistent: false,
            factory: Factory::Hot(|raw, context| match STRICT.factory {
                Factory::Hot(build) => Ok(Arc::new(Reckoned {
                    inner: build(raw, context)?,
                    bytes: $bytes,
                    bytes_after: $bytes_after,
                })),
                _ => unreachable!("the fake is a hot index"),
            }),
        };
    };
}

// What it would take after more inserts is what it takes now.
plugin!(FORGETS, "forgets", HotIndex::bytes, |index, _| index
    .bytes());
// It takes so much more than it tells.
plugin!(
    HIDES,
    "hides",
    |index| index.bytes().saturating_sub(HIDDEN),
    |index, more| index.bytes_after(more).saturating_sub(HIDDEN)
);

//! The shared suite, and a block written by the first version.

use aether_testkit::conformance::codec::{CodecHarness, check_golden};

const HARNESS: CodecHarness = CodecHarness::new(&aether_codec_raw::PLUGIN, &["", "shuffle = true"]);

aether_testkit::codec_conformance!(raw, HARNESS);

/// `AETHER_BLESS=1` writes the file anew: only for a new version of the format, under a new name.
#[test]
fn bytes_of_version_1_are_still_written_and_read() {
    check_golden(
        &HARNESS,
        concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/block-v1.bin"),
        true,
    );
}

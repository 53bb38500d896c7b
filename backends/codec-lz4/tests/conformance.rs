//! The shared suite, and a block written by the first version.

use aether_testkit::conformance::codec::{CodecHarness, check_golden};

const HARNESS: CodecHarness =
    CodecHarness::new(&aether_codec_lz4::PLUGIN, &["", "shuffle = false"]);

aether_testkit::codec_conformance!(lz4, HARNESS);

/// `AETHER_BLESS=1` writes the file anew: only for a new version of the format, under a new name.
#[test]
fn bytes_of_version_1_are_still_read() {
    check_golden(
        &HARNESS,
        concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/block-v1.bin"),
        false,
    );
}

//! The shared suite: as a scan, as a graph from the first row on, and changing from one to the other on the way.

use aether_core::Plugin;
use aether_hot_auto::PLUGIN;
use aether_testkit::conformance::hot::HotHarness;

static WRAPPED: [&Plugin; 2] = [&aether_hot_flat::PLUGIN, &aether_hot_hnsw::PLUGIN];

fn auto(keys: &'static str) -> HotHarness {
    HotHarness::new(&PLUGIN, keys).with_plugins(&WRAPPED)
}

aether_testkit::hot_conformance!(few, auto(""));
aether_testkit::hot_conformance!(many, auto("rows = 100000000"));
// Some sixty rows of few dimensions, a dozen of several hundred: every check goes through the change.
aether_testkit::hot_conformance!(growing, auto("scan_max = \"1us\"\n[hnsw]\nthreads = 2\n"));
aether_testkit::hot_conformance!(
    coded,
    auto("scan_max = \"2us\"\n[flat]\nchunk = \"64KiB\"\n[hnsw]\ncode_bits = 4\n")
);

//! The shared suite, with default chunks and with the smallest.

use aether_testkit::conformance::hot::HotHarness;

aether_testkit::hot_conformance!(flat, HotHarness::new(&aether_hot_flat::PLUGIN, ""));
aether_testkit::hot_conformance!(
    small_chunks,
    HotHarness::new(&aether_hot_flat::PLUGIN, "chunk = \"64KiB\"")
);

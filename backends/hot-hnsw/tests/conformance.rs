//! The shared suite: with the defaults, with one thread and short lists, and with long ones.

use aether_hot_hnsw::PLUGIN;
use aether_testkit::conformance::hot::HotHarness;

aether_testkit::hot_conformance!(hnsw, HotHarness::new(&PLUGIN, ""));
aether_testkit::hot_conformance!(
    sparse,
    HotHarness::new(&PLUGIN, "m = 8\nef_construction = 40\nthreads = 1")
);
aether_testkit::hot_conformance!(
    dense,
    HotHarness::new(&PLUGIN, "m = 48\nef_search = 16\nthreads = 3")
);

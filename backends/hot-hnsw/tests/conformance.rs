//! The shared suite: with the defaults, with one thread and short lists, with long ones, with codes of both widths, and with its vectors in a file.

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
aether_testkit::hot_conformance!(
    codes_of_4_bits,
    HotHarness::new(&PLUGIN, "code_bits = 4\nthreads = 2")
);
aether_testkit::hot_conformance!(
    codes_of_8_bits,
    HotHarness::new(&PLUGIN, "code_bits = 8\nthreads = 1")
);
#[cfg(unix)]
aether_testkit::hot_conformance!(
    vectors_in_a_file,
    HotHarness::new(&PLUGIN, "code_bits = 4\nvectors = \"file\"\nthreads = 2")
);

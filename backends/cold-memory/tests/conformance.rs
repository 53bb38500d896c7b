//! The shared suite, without a limit and with one.

use aether_cold_memory::PLUGIN;
use aether_testkit::conformance::cold::Harness;

aether_testkit::cold_conformance!(defaults, Harness::new(&PLUGIN));

aether_testkit::cold_conformance!(
    limited,
    Harness::new(&PLUGIN)
        .keys(|_| "capacity = \"32MiB\"".to_owned())
        .capacity(32 << 20)
);

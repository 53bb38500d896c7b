//! The shared suite.

use aether_testkit::conformance::meta::Harness;

aether_testkit::meta_conformance!(
    sled,
    Harness::plugin(&aether_meta_sled::PLUGIN).with_cases(12)
);

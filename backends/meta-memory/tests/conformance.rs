//! The shared suite.

use aether_testkit::conformance::meta::Harness;

aether_testkit::meta_conformance!(memory, Harness::plugin(&aether_meta_memory::PLUGIN));

//! Every policy through the shared suite, with its defaults and with settings at the edge.

use aether_testkit::conformance::policy::PolicyHarness;
use aether_testkit::policy_conformance;

#[cfg(feature = "lru")]
policy_conformance!(lru, PolicyHarness::new(&aether_policies::lru::PLUGIN));

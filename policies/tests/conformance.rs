//! Every policy through the shared suite, with its defaults and with settings at the edge.

#![cfg(any(feature = "flux", feature = "lru", feature = "lfu", feature = "age"))]

use aether_testkit::conformance::policy::PolicyHarness;
use aether_testkit::policy_conformance;

#[cfg(feature = "flux")]
policy_conformance!(flux, PolicyHarness::new(&aether_policies::flux::PLUGIN));
#[cfg(feature = "flux")]
policy_conformance!(
    flux_without_probes_that_forgets_importance,
    PolicyHarness::with_keys(
        &aether_policies::flux::PLUGIN,
        "probe = 0.0\nmove_cost = 0.0\nimportance_half_life = \"1s\"\nhistory = 0.25\n"
    )
);
#[cfg(feature = "flux")]
policy_conformance!(
    flux_without_history,
    PolicyHarness::with_keys(
        &aether_policies::flux::PLUGIN,
        "probe = 1.0\nmiss_cost = \"1us\"\nimportance_weight = 100.0\nhistory = 0.0\n"
    )
);
#[cfg(feature = "lru")]
policy_conformance!(lru, PolicyHarness::new(&aether_policies::lru::PLUGIN));
#[cfg(feature = "lfu")]
policy_conformance!(lfu, PolicyHarness::new(&aether_policies::lfu::PLUGIN));
#[cfg(feature = "lfu")]
policy_conformance!(
    lfu_without_history,
    PolicyHarness::with_keys(
        &aether_policies::lfu::PLUGIN,
        "window = 1.0\nhistory = 0.0\n"
    )
);
#[cfg(feature = "age")]
policy_conformance!(age, PolicyHarness::new(&aether_policies::age::PLUGIN));
#[cfg(feature = "age")]
policy_conformance!(
    age_at_once,
    PolicyHarness::with_keys(
        &aether_policies::age::PLUGIN,
        "idle = \"1ms\"\nbatch = 1\nbatch_wait = \"0s\"\n"
    )
);

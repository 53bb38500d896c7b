//! The suite that every policy must pass, with the defaults and with settings at the edge.

use aether_testkit::conformance::policy::PolicyHarness;

aether_testkit::policy_conformance!(rhythm, PolicyHarness::new(&aether_example_policy::PLUGIN));
aether_testkit::policy_conformance!(
    rhythm_of_a_short_day,
    PolicyHarness::with_keys(
        &aether_example_policy::PLUGIN,
        "period = \"24ms\"\nhalf_life = \"1ms\"\nhabit = 1.0\n"
    )
);

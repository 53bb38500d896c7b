//! Every policy through the shared suite, with its defaults and with settings at the edge.

#![allow(
    unused_imports,
    reason = "with no policy switched on there is nothing to test"
)]

use aether_testkit::conformance::policy::PolicyHarness;
use aether_testkit::policy_conformance;

/// Bytes a hot row of policies that remember up to about as many rows as are hot, twice as many, and four times as many.
const GHOSTS_1: u64 = 112;
const GHOSTS_2: u64 = 160;
const GHOSTS_4: u64 = 224;

#[cfg(feature = "flux")]
policy_conformance!(
    flux,
    PolicyHarness::new(&aether_policies::flux::PLUGIN).row_bytes_max(GHOSTS_1)
);
#[cfg(feature = "flux")]
policy_conformance!(
    flux_without_probes_that_forgets_importance,
    PolicyHarness::with_keys(
        &aether_policies::flux::PLUGIN,
        "probe = 0.0\nmove_cost = 0.0\nimportance_half_life = \"1s\"\nhistory = 0.25\n"
    )
    .row_bytes_max(GHOSTS_1)
);
#[cfg(feature = "flux")]
policy_conformance!(
    flux_without_history,
    PolicyHarness::with_keys(
        &aether_policies::flux::PLUGIN,
        "probe = 1.0\nmiss_cost = \"1us\"\nimportance_weight = 100.0\nhistory = 0.0\n"
    )
    .row_bytes_max(GHOSTS_1)
);
// With neighbours up to 256 bytes of books more for each hot row.
#[cfg(feature = "flux")]
policy_conformance!(
    flux_with_neighbours,
    PolicyHarness::with_keys(&aether_policies::flux::PLUGIN, "neighbours = 0.1\n")
        .row_bytes_max(GHOSTS_1 + 256)
        .learns_neighbours(0.1)
);
#[cfg(feature = "lru")]
policy_conformance!(lru, PolicyHarness::new(&aether_policies::lru::PLUGIN));
#[cfg(feature = "lfu")]
policy_conformance!(lfu, PolicyHarness::new(&aether_policies::lfu::PLUGIN));
#[cfg(feature = "lfu")]
policy_conformance!(
    lfu_aged,
    PolicyHarness::with_keys(
        &aether_policies::lfu::PLUGIN,
        "window = 10\nhistory = 0.25\nadmit = \"more-used\"\n"
    )
);
#[cfg(feature = "lfu")]
policy_conformance!(
    lfu_that_forgets_quickly,
    PolicyHarness::with_keys(&aether_policies::lfu::PLUGIN, "window = 1.0\n")
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

#[cfg(feature = "classic-flux")]
policy_conformance!(
    classic_flux,
    PolicyHarness::new(&aether_policies::classic_flux::PLUGIN)
);
#[cfg(feature = "fifo")]
policy_conformance!(fifo, PolicyHarness::new(&aether_policies::fifo::PLUGIN));
#[cfg(feature = "random")]
policy_conformance!(
    random,
    PolicyHarness::new(&aether_policies::random::PLUGIN).blind()
);
#[cfg(feature = "clock")]
policy_conformance!(clock, PolicyHarness::new(&aether_policies::clock::PLUGIN));
#[cfg(feature = "sieve")]
policy_conformance!(sieve, PolicyHarness::new(&aether_policies::sieve::PLUGIN));
#[cfg(feature = "s3-fifo")]
policy_conformance!(
    s3_fifo,
    PolicyHarness::new(&aether_policies::s3_fifo::PLUGIN).row_bytes_max(GHOSTS_1)
);
#[cfg(feature = "s3-fifo")]
policy_conformance!(
    s3_fifo_without_ghosts,
    PolicyHarness::with_keys(
        &aether_policies::s3_fifo::PLUGIN,
        "small = 0.5\nghosts = 0.0\nuses = 1\n"
    )
);
#[cfg(feature = "two-q")]
policy_conformance!(
    two_q,
    PolicyHarness::new(&aether_policies::two_q::PLUGIN).row_bytes_max(GHOSTS_1)
);
#[cfg(feature = "arc")]
policy_conformance!(
    arc,
    PolicyHarness::new(&aether_policies::arc::PLUGIN).row_bytes_max(GHOSTS_1)
);
#[cfg(feature = "mq")]
policy_conformance!(
    mq,
    PolicyHarness::new(&aether_policies::mq::PLUGIN).row_bytes_max(GHOSTS_4)
);
#[cfg(feature = "mq")]
policy_conformance!(
    mq_without_ghosts,
    PolicyHarness::with_keys(
        &aether_policies::mq::PLUGIN,
        "lifetime = 50\nghosts = 0.0\n"
    )
);
#[cfg(feature = "lirs")]
policy_conformance!(
    lirs,
    PolicyHarness::new(&aether_policies::lirs::PLUGIN).row_bytes_max(GHOSTS_1)
);
#[cfg(feature = "lirs")]
policy_conformance!(
    lirs_with_a_large_queue,
    PolicyHarness::with_keys(&aether_policies::lirs::PLUGIN, "queue = 0.9\n")
        .row_bytes_max(GHOSTS_1)
);
#[cfg(feature = "gdsf")]
policy_conformance!(gdsf, PolicyHarness::new(&aether_policies::gdsf::PLUGIN));
#[cfg(feature = "gdsf")]
policy_conformance!(
    gdsf_by_restore_time,
    PolicyHarness::with_keys(&aether_policies::gdsf::PLUGIN, "cost = \"restore\"\n")
);
#[cfg(feature = "w-tinylfu")]
policy_conformance!(
    w_tinylfu,
    PolicyHarness::new(&aether_policies::w_tinylfu::PLUGIN)
);
#[cfg(feature = "w-tinylfu")]
policy_conformance!(
    w_tinylfu_with_a_fixed_window,
    PolicyHarness::with_keys(
        &aether_policies::w_tinylfu::PLUGIN,
        "window = 0.3\nadaptive = false\nprotected = 0.0\n"
    )
);
#[cfg(feature = "lecar")]
policy_conformance!(
    lecar,
    PolicyHarness::new(&aether_policies::lecar::PLUGIN).row_bytes_max(GHOSTS_1)
);
#[cfg(feature = "cacheus")]
policy_conformance!(
    cacheus,
    PolicyHarness::new(&aether_policies::cacheus::PLUGIN).row_bytes_max(GHOSTS_2)
);
#[cfg(feature = "cacheus")]
policy_conformance!(
    cacheus_of_the_paper,
    PolicyHarness::with_keys(
        &aether_policies::cacheus::PLUGIN,
        "both_ways = true\nclimb = true\n"
    )
    .row_bytes_max(GHOSTS_2)
);
#[cfg(feature = "hyperbolic")]
policy_conformance!(
    hyperbolic,
    PolicyHarness::new(&aether_policies::hyperbolic::PLUGIN)
);
#[cfg(feature = "ttl-idle")]
policy_conformance!(
    ttl_idle,
    PolicyHarness::new(&aether_policies::ttl_idle::PLUGIN)
);
#[cfg(feature = "ttl-idle")]
policy_conformance!(
    ttl_idle_at_once,
    PolicyHarness::with_keys(
        &aether_policies::ttl_idle::PLUGIN,
        "idle = \"10s\"\nttl = \"1ms\"\n"
    )
);

//! How the memory is set up that tests break at each call of [`aether_testkit::workload::every_kind`].

use aether_core::Metric;
use aether_testkit::run::FLUSH;
use aether_testkit::workload::EVERY_DIM;

use super::Settings;

pub fn settings() -> Settings {
    Settings {
        dim: EVERY_DIM,
        metric: Metric::L2,
        // The kit's exact index: the budget is a sharp edge.
        budget: "84KiB",
        hot: "fake",
        memory: FLUSH,
        flux: "batch_rows = 12\nsample = 16",
        search: "probe_min = 1",
        // Steps of 12 rows, so that compactions are cut between two of them.
        compaction: "ratio = 3\nsegment_bytes = \"4KiB\"\ngrace = \"4s\"\nenabled = true",
        // So long that the machine's speed decides nothing.
        insert_wait: "60s",
        ..Settings::default()
    }
}

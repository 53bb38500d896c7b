//! The shared suite without waiting, around a store in RAM and around files, and with short waits.

use aether_cold_simulated_s3::PLUGIN;
use aether_testkit::conformance::cold::Harness;

fn around(inner: &'static str, keys: &'static str) -> Harness {
    Harness::new(&PLUGIN)
        .with_plugin(&aether_cold_memory::PLUGIN)
        .with_plugin(&aether_cold_file::PLUGIN)
        .keys(move |_| format!("{keys}\n[inner]\nbackend = \"{inner}\"\n"))
}

aether_testkit::cold_conformance!(memory, around("memory", "scale = 0.0").volatile());

aether_testkit::cold_conformance!(file, around("file", "scale = 0.0"));

// Waits of about a tenth of a millisecond let calls overtake one another.
aether_testkit::cold_conformance!(
    overtaking,
    around(
        "memory",
        "scale = 0.002\nbandwidth = \"90GB\"\ngap = \"0B\""
    )
    .volatile()
);

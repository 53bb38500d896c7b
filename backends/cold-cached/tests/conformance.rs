//! The shared suite: the cache must not show.

use aether_cold_cached::PLUGIN;
use aether_testkit::conformance::cold::Harness;

fn around(inner: &'static str, keys: &'static str) -> Harness {
    Harness::new(&PLUGIN)
        .with_plugin(&aether_cold_memory::PLUGIN)
        .with_plugin(&aether_cold_file::PLUGIN)
        .keys(move |_| format!("ram = \"1MiB\"\n{keys}\n[inner]\nbackend = \"{inner}\"\n"))
}

aether_testkit::cold_conformance!(file, around("file", "disk = \"16MiB\""));

aether_testkit::cold_conformance!(ram_only, around("memory", "disk = \"0B\"").volatile());

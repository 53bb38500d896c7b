//! The shared suite, with the default settings and with others.

use aether_testkit::conformance::meta::Harness;

aether_testkit::meta_conformance!(redb, Harness::plugin(&aether_meta_redb::PLUGIN));
aether_testkit::meta_conformance!(
    redb_small,
    Harness::plugin(&aether_meta_redb::PLUGIN)
        .with_config("cache = \"1MiB\"\nreaders = 1\nverify = true\nfile = \"m\"")
        .with_cases(8)
);

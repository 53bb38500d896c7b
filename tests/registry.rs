//! What is found is what the features say, whether or not anything else names a plug-in.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use aether::Role;

/// Every plug-in of this repository, and whether its feature is on.
const FEATURES: &[(Role, &str, bool)] = &[
    (Role::Hot, "auto", cfg!(feature = "hot-auto")),
    (Role::Hot, "flat", cfg!(feature = "hot-flat")),
    (Role::Hot, "hnsw", cfg!(feature = "hot-hnsw")),
    (Role::Cold, "cached", cfg!(feature = "cold-cached")),
    (Role::Cold, "file", cfg!(feature = "cold-file")),
    (Role::Cold, "memory", cfg!(feature = "cold-memory")),
    (
        Role::Cold,
        "object-store",
        cfg!(feature = "cold-object-store"),
    ),
    (
        Role::Cold,
        "simulated-s3",
        cfg!(feature = "cold-simulated-s3"),
    ),
    (Role::Meta, "memory", cfg!(feature = "meta-memory")),
    (Role::Meta, "redb", cfg!(feature = "meta-redb")),
    (Role::Meta, "sled", cfg!(feature = "meta-sled")),
    (Role::Codec, "f16", cfg!(feature = "codec-f16")),
    (Role::Codec, "lz4", cfg!(feature = "codec-lz4")),
    (Role::Codec, "raw", cfg!(feature = "codec-raw")),
    (Role::Codec, "sq8", cfg!(feature = "codec-sq8")),
    (Role::Codec, "zstd", cfg!(feature = "codec-zstd")),
    (Role::Policy, "age", cfg!(feature = "policy-age")),
    (Role::Policy, "arc", cfg!(feature = "policy-arc")),
    (Role::Policy, "cacheus", cfg!(feature = "policy-cacheus")),
    (
        Role::Policy,
        "classic-flux",
        cfg!(feature = "policy-classic-flux"),
    ),
    (Role::Policy, "clock", cfg!(feature = "policy-clock")),
    (Role::Policy, "fifo", cfg!(feature = "policy-fifo")),
    (Role::Policy, "flux", cfg!(feature = "policy-flux")),
    (Role::Policy, "gdsf", cfg!(feature = "policy-gdsf")),
    (
        Role::Policy,
        "hyperbolic",
        cfg!(feature = "policy-hyperbolic"),
    ),
    (Role::Policy, "lecar", cfg!(feature = "policy-lecar")),
    (Role::Policy, "lfu", cfg!(feature = "policy-lfu")),
    (Role::Policy, "lirs", cfg!(feature = "policy-lirs")),
    (Role::Policy, "lru", cfg!(feature = "policy-lru")),
    (Role::Policy, "mq", cfg!(feature = "policy-mq")),
    (Role::Policy, "random", cfg!(feature = "policy-random")),
    (Role::Policy, "s3-fifo", cfg!(feature = "policy-s3-fifo")),
    (Role::Policy, "sieve", cfg!(feature = "policy-sieve")),
    (Role::Policy, "ttl-idle", cfg!(feature = "policy-ttl-idle")),
    (Role::Policy, "two-q", cfg!(feature = "policy-two-q")),
    (
        Role::Policy,
        "w-tinylfu",
        cfg!(feature = "policy-w-tinylfu"),
    ),
];

#[test]
fn the_names_found_are_those_of_the_features_compiled_in() {
    let registry = aether::registry().unwrap();
    let found: Vec<(Role, &str)> = registry.iter().map(|p| (p.role(), p.name)).collect();
    // One crate holds every policy, so cargo may have switched more of its features on than this package asked for.
    let asked = FEATURES.iter().filter(|(role, name, on)| {
        *on || (*role == Role::Policy && found.contains(&(*role, name)))
    });
    let expected: Vec<(Role, &str)> = asked.map(|(role, name, _)| (*role, *name)).collect();
    assert_eq!(found, expected);
}

#[test]
fn every_plugin_describes_itself_and_its_options() {
    let registry = aether::registry().unwrap();
    for plugin in registry.iter() {
        let name = format!("{} {}", plugin.role(), plugin.name);
        assert!(
            plugin.summary.len() > 10 && !plugin.summary.contains('\n'),
            "{name}: {:?}",
            plugin.summary
        );
        assert!(
            plugin.crate_name.starts_with("aether-"),
            "{name}: {}",
            plugin.crate_name
        );
        for option in plugin.options {
            assert!(
                !option.help.is_empty(),
                "{name}: {} is not explained",
                option.name
            );
            let twice = plugin
                .options
                .iter()
                .filter(|o| o.name == option.name)
                .count();
            assert_eq!(twice, 1, "{name}: {} is listed twice", option.name);
        }
    }
}

#[test]
fn an_unknown_name_lists_what_there_is_and_the_feature_to_build_with() {
    let registry = aether::registry().unwrap();
    let text = registry.get(Role::Hot, "hnws").unwrap_err().to_string();
    assert!(text.contains("unknown hot plug-in \"hnws\""), "{text}");
    if cfg!(feature = "hot-hnsw") {
        assert!(text.contains("did you mean \"hnsw\"?"), "{text}");
    } else {
        let text = registry.get(Role::Hot, "hnsw").unwrap_err().to_string();
        assert!(text.contains("build with feature \"hot-hnsw\""), "{text}");
    }
}

//! The example file names every key and works as it stands; each kind of mistake points at its line.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeSet;
use std::path::PathBuf;

use aether::config::engine_tables;
use aether::{Config, Plugin, Registry, Role, check_config};

fn example_path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("aether.toml.example")
}

/// The lines below `[table]`, up to the next table.
fn table_of(text: &str, table: &str) -> Vec<String> {
    let below = text
        .lines()
        .skip_while(|l| *l != format!("[{table}]"))
        .skip(1);
    below
        .take_while(|l| !l.starts_with('['))
        .map(str::to_owned)
        .collect()
}

/// A plug-in's keys as the example writes them, commented out or not, without the keys of the others.
fn keys_of<'a>(lines: &'a [String], plugin: &Plugin, chosen: &str) -> Vec<&'a str> {
    let title = |name: &str| format!("# Keys of backend = \"{name}\":");
    let all = lines.iter().map(String::as_str);
    if plugin.name == chosen {
        return all
            .take_while(|l| !l.starts_with("# Keys of backend"))
            .collect();
    }
    let below = all.skip_while(|l| *l != title(plugin.name)).skip(1);
    below
        .take_while(|l| !l.starts_with("# Keys of backend") && !l.is_empty())
        .collect()
}

#[test]
fn the_example_is_what_the_command_prints() {
    let text = std::fs::read_to_string(example_path()).unwrap();
    let made = aether::example_config(&aether::registry().unwrap());
    assert!(
        text == made,
        "run `cargo run -- config example > aether.toml.example` and look at the difference"
    );
}

#[test]
fn the_example_parses_checks_and_builds() {
    let registry = aether::registry().unwrap();
    let config = Config::load(example_path()).unwrap();
    check_config(&config, &registry).unwrap();
    let default = Config::default();
    assert_eq!(
        (&config.memory, &config.flux),
        (&default.memory, &default.flux)
    );
    assert_eq!(
        (&config.search, &config.codes, &config.limits),
        (&default.search, &default.codes, &default.limits)
    );
    for (read, default) in config.slots().zip(default.slots()) {
        assert_eq!(read.backend, default.backend);
    }
}

#[test]
fn the_example_names_every_key_of_the_engine_and_of_every_plugin() {
    let text = std::fs::read_to_string(example_path()).unwrap();
    for (table, options) in engine_tables() {
        let lines = table_of(&text, table);
        for o in options {
            let line = format!("{} = {}", o.name, o.default);
            assert!(lines.contains(&line), "[{table}] lacks {line}");
        }
    }
    let config = Config::default();
    for plugin in aether::registry().unwrap().iter() {
        let lines = table_of(&text, plugin.role().name());
        let chosen = config.slots().find(|s| s.role == plugin.role()).unwrap();
        let keys = keys_of(&lines, plugin, &chosen.backend);
        for o in plugin.options {
            let named = |l: &&str| {
                l.trim_start_matches("# ")
                    .starts_with(&format!("{} =", o.name))
            };
            assert!(
                keys.iter().any(named),
                "{} {} lacks {}: {keys:?}",
                plugin.role(),
                plugin.name,
                o.name
            );
        }
    }
}

/// What is commented out must also be right: every alternative is chosen with its keys as they are written.
#[test]
fn every_alternative_of_the_example_works_when_it_is_chosen() {
    let registry = aether::registry().unwrap();
    let text = std::fs::read_to_string(example_path()).unwrap();
    let default = Config::default();
    for plugin in registry.iter() {
        let role = plugin.role();
        let lines = table_of(&text, role.name());
        let chosen = default.slots().find(|s| s.role == role).unwrap();
        let keys: BTreeSet<&str> = plugin
            .options
            .iter()
            .filter(|o| !o.default.is_empty())
            .map(|o| o.name)
            .collect();
        let mut toml = format!("[{role}]\nbackend = \"{}\"\n", plugin.name);
        let mut written = 0;
        for line in keys_of(&lines, plugin, &chosen.backend) {
            let line = line.trim_start_matches("# ");
            if line
                .split_once(" = ")
                .is_some_and(|(key, _)| keys.contains(key))
            {
                toml.push_str(&format!("{line}\n"));
                written += 1;
            }
        }
        assert_eq!(written, keys.len(), "{toml}");
        // A volatile cold store wants a volatile metadata store.
        if (role, plugin.name) == (Role::Cold, "memory") {
            toml.push_str("[meta]\nbackend = \"memory\"\n");
        }
        let config = Config::from_toml(&toml).unwrap();
        check_config(&config, &registry).unwrap_or_else(|e| panic!("{toml}\n{e}"));
    }
}

#[test]
fn each_kind_of_mistake_points_at_its_line_and_says_how_to_mend_it() {
    let folder = tempfile::tempdir().unwrap();
    let registry = aether::registry().unwrap();
    for (text, place, words) in [
        (
            "[memory]\ndim = 3\nhot_budgt = \"1MiB\"\n",
            "3:1",
            "did you mean `hot_budget`?",
        ),
        (
            "[memory]\nhot_budget = \"12 XB\"\n",
            "2:14",
            "expected a size such as",
        ),
        ("[memory]\nhot_budget = 12\n", "2:14", "with a unit"),
        (
            "[memory]\nmetric = \"cosin\"\n",
            "2:10",
            "did you mean `cosine`?",
        ),
        (
            "[flux]\nlow_water = 0.99\n",
            "2:13",
            "expected 0.01 to high_water",
        ),
        (
            "[polcy]\nbackend = \"lru\"\n",
            "1:1",
            "did you mean [policy]?",
        ),
        (
            "[hot]\nbackend = \"hnws\"\n",
            "2:11",
            "did you mean \"hnsw\"?",
        ),
        (
            "[hot]\nbackend = \"hnsw\"\nno_such_key = 3\n",
            "3:1",
            "unknown field `no_such_key`",
        ),
        (
            "[codec]\nbackend = \"sq8\"\n[codec.then]\nbackend = \"gzip\"\n",
            "4:11",
            "unknown codec plug-in \"gzip\"",
        ),
        (
            "[cold]\nbackend = \"memory\"\n",
            "2:11",
            "forgets everything when the process ends",
        ),
        ("[memory\n", "1:8", ""),
    ] {
        let path = folder.path().join("aether.toml");
        std::fs::write(&path, text).unwrap();
        let error = Config::load(&path)
            .and_then(|c| check_config(&c, &registry))
            .unwrap_err();
        let message = error.to_string();
        let place = format!("aether.toml:{place}:");
        assert!(error.is_config(), "{error:?}");
        assert!(
            message.contains(&place) && message.contains(words) && message.contains('^'),
            "{text}\n{message}"
        );
    }
}

#[test]
fn a_registry_without_plugins_still_explains_itself() {
    let error = check_config(&Config::default(), &Registry::empty())
        .unwrap_err()
        .to_string();
    assert!(error.contains("build with feature"), "{error}");
}

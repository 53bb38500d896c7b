//! What comes in with dependencies is what `deny.toml` allows: licences, sources, and each crate in one version but those that it names.
//!
//! `cargo deny` looks further (advisories, texts of licences, and the licences of what only other platforms take), but has to be
//! installed first. This asks nothing but `Cargo.lock` and `cargo metadata`, and so runs wherever the other tests do.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::{BTreeMap, BTreeSet};
use std::iter::Peekable;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

fn table(file: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    toml_edit::de::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn texts<'a>(list: &'a Value, key: &str) -> Vec<&'a str> {
    let list = list.as_array().unwrap().iter();
    let text = |v: &'a Value| if key.is_empty() { v } else { &v[key] };
    list.map(|v| text(v).as_str().unwrap()).collect()
}

/// Packages that this platform needs with all features, as cargo knows them.
fn metadata() -> Value {
    let version = run("rustc", &["-vV"]);
    let host = version.lines().find_map(|l| l.strip_prefix("host: "));
    let wanted = "metadata --offline --locked --all-features --format-version 1 --filter-platform";
    let mut wanted: Vec<&str> = wanted.split(' ').collect();
    wanted.push(host.unwrap());
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    serde_json::from_str(&run(&cargo, &wanted)).unwrap()
}

fn run(program: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(program);
    let command = command
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    let done = command.output().unwrap();
    assert!(done.status.success(), "{command:?}: {done:?}");
    String::from_utf8(done.stdout).unwrap()
}

/// Whether an SPDX expression can be met with these licences; `/` is an older way to write `OR`.
fn met(expression: &str, allowed: &BTreeSet<&str>) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ");
    let spaced = spaced.replace('/', " OR ");
    let mut words = spaced.split_whitespace().peekable();
    let met = any(&mut words, allowed);
    met && words.next().is_none()
}

fn any<'a>(words: &mut Peekable<impl Iterator<Item = &'a str>>, allowed: &BTreeSet<&str>) -> bool {
    let mut met = all(words, allowed);
    while words.next_if_eq(&"OR").is_some() {
        met |= all(words, allowed);
    }
    met
}

fn all<'a>(words: &mut Peekable<impl Iterator<Item = &'a str>>, allowed: &BTreeSet<&str>) -> bool {
    let mut met = one(words, allowed);
    while words.next_if_eq(&"AND").is_some() {
        met &= one(words, allowed);
    }
    met
}

fn one<'a>(words: &mut Peekable<impl Iterator<Item = &'a str>>, allowed: &BTreeSet<&str>) -> bool {
    let Some(word) = words.next() else {
        return false;
    };
    if word == "(" {
        return met(&inside(words).join(" "), allowed);
    }
    match words.next_if_eq(&"WITH") {
        Some(_) => {
            let whole = format!("{word} WITH {}", words.next().unwrap_or_default());
            allowed.contains(whole.as_str())
        }
        None => allowed.contains(word),
    }
}

/// What stands before the bracket that closes.
fn inside<'a>(words: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut depth = 1;
    words
        .take_while(|word| {
            depth += i32::from(*word == "(") - i32::from(*word == ")");
            depth > 0
        })
        .collect()
}

/// Versions of each crate that is there in more than one, without those that `skip` names; and what it names in vain.
fn duplicates(locked: &[(&str, &str)], skip: &[&str]) -> Vec<String> {
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, version) in locked {
        versions.entry(name).or_default().push(version);
    }
    versions.retain(|_, versions| versions.len() > 1);
    let mut complaints = Vec::new();
    for spec in skip {
        let (name, wanted) = spec.split_once('@').unwrap();
        let named = |version: &str| {
            let rest = version.strip_prefix(wanted);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let all = versions.get(name);
        let place = all.and_then(|all| all.iter().position(|v| named(v)));
        match (versions.get_mut(name), place) {
            (Some(versions), Some(place)) => drop(versions.remove(place)),
            _ => complaints.push(format!("{spec} is no duplicate any more")),
        }
    }
    versions.retain(|_, versions| versions.len() > 1);
    complaints.extend(versions.iter().map(|(name, v)| format!("{name} {v:?}")));
    complaints
}

#[test]
fn every_licence_is_allowed() {
    let (rules, metadata) = (table("deny.toml"), metadata());
    let allowed = texts(&rules["licenses"]["allow"], "").into_iter().collect();
    let packages = metadata["packages"].as_array().unwrap();
    assert!(packages.len() > 100, "{}", packages.len());
    let refused = packages.iter().filter_map(|package| {
        let licence = package["license"].as_str().unwrap_or("none");
        (!met(licence, &allowed)).then(|| format!("{}: {licence}", package["name"]))
    });
    assert_eq!(refused.collect::<Vec<_>>(), [""; 0]);
}

#[test]
fn dependencies_come_from_one_registry() {
    let (rules, lock) = (table("deny.toml"), table("Cargo.lock"));
    let refused = &rules["sources"];
    let kinds = ["unknown-registry", "unknown-git"];
    assert!(
        kinds.iter().all(|kind| refused[kind] == "deny"),
        "{refused}"
    );
    let mut sources = BTreeSet::new();
    for package in lock["package"].as_array().unwrap() {
        match package["source"].as_str() {
            Some(source) => drop(sources.insert(source)),
            None => assert!(
                package["name"].as_str().unwrap().starts_with("aether"),
                "{package}"
            ),
        }
    }
    assert!(
        sources.len() == 1 && sources.first().unwrap().starts_with("registry+"),
        "{sources:?}"
    );
}

#[test]
fn no_dependency_is_without_a_version() {
    let metadata = metadata();
    let members = texts(&metadata["workspace_members"], "");
    let packages = metadata["packages"].as_array().unwrap().iter();
    let mine = packages.filter(|p| members.contains(&p["id"].as_str().unwrap()));
    for package in mine {
        for dependency in package["dependencies"].as_array().unwrap() {
            let fixed = dependency["req"] != "*" || dependency["path"].is_string();
            assert!(fixed, "{}: {dependency}", package["name"]);
        }
    }
}

#[test]
fn each_crate_comes_in_one_version_but_those_that_are_named() {
    let (rules, lock) = (table("deny.toml"), table("Cargo.lock"));
    let skip = texts(&rules["bans"]["skip"], "crate");
    let names = texts(&lock["package"], "name").into_iter();
    let locked: Vec<_> = names.zip(texts(&lock["package"], "version")).collect();
    assert_eq!(duplicates(&locked, &skip), [""; 0]);
}

#[test]
fn planted_licences_and_duplicates_are_noticed() {
    let allowed = BTreeSet::from(["MIT", "Apache-2.0", "X WITH Y", "ISC"]);
    let good = [
        "MIT",
        "GPL OR MIT",
        "GPL/MIT",
        "X WITH Y",
        "(GPL OR (MIT)) AND ISC",
    ];
    let bad = [
        "GPL",
        "MIT AND GPL",
        "X",
        "MIT WITH Y",
        "(GPL OR MIT) AND GPL",
        "",
        "MIT MIT",
    ];
    assert!(good.iter().all(|e| met(e, &allowed)));
    assert!(!bad.iter().any(|e| met(e, &allowed)));

    let locked = [
        ("a", "1.2.0"),
        ("a", "2.0.0"),
        ("b", "0.1.0"),
        ("b", "0.10.0"),
    ];
    assert_eq!(duplicates(&locked, &["a@1", "b@0.1"]), [""; 0]);
    let complaints = duplicates(&locked, &["a@1", "c@1"]);
    assert_eq!(complaints.len(), 2, "{complaints:?}");
}

use std::collections::BTreeSet;
use std::panic::catch_unwind;

use super::*;
use crate::conformance::policy::{CHECKS, PolicyHarness};

crate::policy_conformance!(reference, PolicyHarness::new(&REFERENCE));

/// The suite is worth nothing if a wrong policy passes it: each fault is caught by the check that is made for it.
#[test]
fn every_broken_fake_is_caught_by_its_check() {
    let mut missed = Vec::new();
    for broken in BROKEN {
        let (_, check) = CHECKS
            .iter()
            .find(|(name, _)| *name == broken.check)
            .unwrap_or_else(|| panic!("no check is named {}", broken.check));
        let harness = PolicyHarness::new(&broken.plugin);
        if catch_unwind(|| check(&harness)).is_ok() {
            missed.push((broken.fault, broken.check));
        }
    }
    assert!(missed.is_empty(), "not caught: {missed:?}");
}

#[test]
fn every_check_catches_some_fault() {
    let used: BTreeSet<&str> = BROKEN.iter().map(|b| b.check).collect();
    let idle: Vec<&str> = CHECKS
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| !used.contains(name))
        .collect();
    assert!(
        idle.is_empty(),
        "checks that no broken fake shows to work: {idle:?}"
    );
}

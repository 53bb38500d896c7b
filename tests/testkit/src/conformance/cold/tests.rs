//! The suite has to pass a sound store and to fail each broken one.

use super::*;
use crate::fake::cold::{BROKEN, PLAIN};

const CAPACITY_BYTES: u64 = 64 << 20;

/// Plants a file where the fake that lists leftovers looks.
fn harness(plugin: &'static aether_core::Plugin) -> Harness {
    Harness::new(plugin)
        .capacity(CAPACITY_BYTES)
        .leftovers(|folder| {
            std::fs::write(folder.join("data/cut-short"), b"half").expect("a file");
        })
}

crate::cold_conformance!(plain, harness(&PLAIN));

#[test]
fn broken_stores_fail_the_checks_meant_for_them_and_every_check_finds_one() {
    let mut found = std::collections::BTreeSet::new();
    for (flaw, plugin, expected) in BROKEN {
        let failed = failures(|| harness(plugin));
        for check in *expected {
            // Drawn operations may happen not to meet a flaw.
            let again = || (0..8).any(|_| failures(|| harness(plugin)).contains(check));
            let caught = failed.contains(check) || again();
            assert!(caught, "{flaw:?} passed {check}; it failed {failed:?}");
        }
        found.extend(failed);
    }
    let all: Vec<&str> = CHECKS.iter().map(|(name, _)| *name).collect();
    let idle: Vec<&&str> = all.iter().filter(|n| !found.contains(*n)).collect();
    assert!(idle.is_empty(), "fail no broken store: {idle:?}");
}

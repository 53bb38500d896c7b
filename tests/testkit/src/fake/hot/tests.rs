use std::panic::catch_unwind;

use super::{BROKEN, STRICT};
use crate::conformance::hot::{CHECKS, HotHarness};

crate::hot_conformance!(strict, HotHarness::new(&STRICT, ""));

#[test]
fn each_broken_fake_fails_the_check_that_is_for_it() {
    for (plugin, name) in BROKEN {
        let (_, check) = CHECKS
            .iter()
            .find(|(n, _)| n == name)
            .unwrap_or_else(|| panic!("no check named {name}"));
        let harness = HotHarness::new(plugin, "");
        assert!(
            catch_unwind(|| check(&harness)).is_err(),
            "fake {:?} passed {name}",
            plugin.name
        );
    }
}

#[test]
fn every_check_can_fail() {
    let unproven: Vec<&str> = CHECKS
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| !BROKEN.iter().any(|(_, n)| n == name))
        .collect();
    // What an empty index answers and a good round trip are broken by faults that other checks are named for.
    let harness = |name: &str| {
        let (_, check) = CHECKS.iter().find(|(n, _)| *n == name).expect("a check");
        BROKEN.iter().any(|(plugin, _)| {
            let harness = HotHarness::new(plugin, "");
            catch_unwind(|| check(&harness)).is_err()
        })
    };
    for name in unproven {
        assert!(harness(name), "no fake makes {name} fail");
    }
    assert_eq!(STRICT.name, "fake");
}

use std::panic::catch_unwind;

use super::{BROKEN, LOSSY, STRICT};
use crate::conformance::codec::{CHECKS, CodecHarness};

const SETTINGS: &[&str] = &["", "mask = 1", "mask = 0x5a"];

crate::codec_conformance!(strict, CodecHarness::new(&STRICT, SETTINGS));
crate::codec_conformance!(lossy, CodecHarness::new(&LOSSY, SETTINGS));

#[test]
fn each_broken_fake_fails_the_check_that_is_for_it() {
    for (plugin, name) in BROKEN {
        let (_, check) = CHECKS
            .iter()
            .find(|(n, _)| n == name)
            .unwrap_or_else(|| panic!("no check named {name}"));
        let harness = CodecHarness::new(plugin, SETTINGS);
        assert!(
            catch_unwind(|| check(&harness)).is_err(),
            "fake {:?} passed {name}",
            plugin.name
        );
    }
}

#[test]
fn every_check_can_fail() {
    for (name, _) in CHECKS {
        assert!(
            BROKEN.iter().any(|(_, n)| n == name),
            "no fake is broken for {name}"
        );
    }
}

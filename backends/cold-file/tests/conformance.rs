//! The shared suite, with the defaults and with the settings at their narrowest.

use std::fs;
use std::path::Path;

use aether_cold_file::PLUGIN;
use aether_testkit::conformance::cold::Harness;

/// What a crash in mid-put leaves: a file aside, cut anywhere.
fn leftovers(folder: &Path) {
    for (name, len) in [(".put-1-00000000", 0), (".put-4711-0000002a", 3000)] {
        fs::write(folder.join(name), vec![7; len]).expect("a file aside");
    }
}

aether_testkit::cold_conformance!(
    defaults,
    Harness::new(&PLUGIN).leftovers(|folder| leftovers(&folder.join("data/cold")))
);

aether_testkit::cold_conformance!(
    narrow,
    Harness::new(&PLUGIN)
        .keys(|folder| {
            let path = folder.join("elsewhere/blobs");
            format!("path = {path:?}\nthreads = 2\nopen_files = 0\ngap = \"0B\"")
        })
        .leftovers(|folder| leftovers(&folder.join("elsewhere/blobs")))
);

//! The shared suite on the two stores that need no service.

use std::fs;
use std::path::Path;

use aether_cold_object_store::PLUGIN;
use aether_testkit::conformance::cold::Harness;

fn local(folder: &Path) -> String {
    format!("url = \"file://{}\"", folder.join("some/blobs").display())
}

/// What the local store leaves when a put is cut short.
fn leftovers(folder: &Path) {
    for (name, len) in [("seg+1#1", 0), ("seg+3#1", 3000), ("seg+3#27", 1)] {
        fs::write(folder.join("some/blobs").join(name), vec![7; len]).expect("a staged file");
    }
}

aether_testkit::cold_conformance!(
    memory,
    Harness::new(&PLUGIN)
        .keys(|_| "url = \"memory:///some/prefix\"".to_owned())
        .volatile()
);

aether_testkit::cold_conformance!(file, Harness::new(&PLUGIN).keys(local).leftovers(leftovers));

aether_testkit::cold_conformance!(
    narrow,
    Harness::new(&PLUGIN)
        .keys(|folder| format!("{}\nrequests = 1\nprobe = false", local(folder)))
        .leftovers(leftovers)
);

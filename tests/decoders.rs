//! Every decoder that bytes from outside reach, on inputs that grew wrong: no panic, and no more RAM than what was declared.
//!
//! `AETHER_INPUTS` sets how many inputs a target gets (100,000), `AETHER_SEED` repeats a run; a failure prints the bytes. What a coverage-guided
//! fuzzer does with the same targets: `fuzz/`.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

#[allow(dead_code, reason = "of the writers of files, only one is needed")]
mod files;
mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind};

use aether_testkit::alloc::Counting;
use aether_testkit::damage::{feed, feed_part};
use targets::Target;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn feed_all(targets: Vec<Target>) {
    for target in targets {
        let Target {
            name,
            most,
            good,
            one_in,
            read,
        } = target;
        feed_part(name, most, &good, one_in, read);
    }
}

#[test]
fn codecs() {
    feed_all(targets::codecs());
}

#[test]
fn hot_snapshots() {
    feed_all(targets::hot_snapshots());
}

#[test]
fn configurations() {
    feed_all(targets::configurations());
}

#[test]
fn vector_files() {
    feed_all(targets::vector_files());
}

#[test]
fn traces() {
    feed_all(targets::traces());
}

#[test]
fn files_of_a_memory() {
    feed_all(targets::own_files());
}

#[test]
fn what_the_engine_stores() {
    feed_all(targets::stored());
}

/// A decoder that believes a length, and takes RAM for it before it looks whether so much is there: planted, and caught.
#[test]
fn a_planted_decoder_that_allocates_what_a_length_says_is_caught() {
    let good = vec![4, 0, 0, 0, 1, 2, 3, 4];
    let trusting = |bytes: &[u8]| {
        let (Some(length), Some(body)) = (bytes.first_chunk::<4>(), bytes.get(4..)) else {
            return false;
        };
        let length = u32::from_le_bytes(*length) as usize;
        let mut out: Vec<u8> = Vec::with_capacity(length);
        out.extend_from_slice(body);
        out.len() == length
    };
    let fed = || feed("trusting", 1 << 20, std::slice::from_ref(&good), trusting);
    let caught = catch_unwind(AssertUnwindSafe(fed)).unwrap_err();
    let said = caught.downcast_ref::<String>().unwrap();
    assert!(said.contains("bytes held at once"), "{said}");
}

/// The fuzzer's programs are listed by hand: `auto` was not among them for long.
#[test]
fn every_target_has_a_program_of_the_fuzzer() {
    let manifest = include_str!("../fuzz/Cargo.toml");
    let mut programs: Vec<String> = (manifest.split("[[bin]]").skip(1))
        .filter_map(|bin| bin.split('"').nth(1))
        .map(str::to_owned)
        .collect();
    let mut names: Vec<String> = (targets::all().into_iter())
        .map(|target| target.name.replace('.', "-"))
        .collect();
    programs.sort();
    names.sort();
    assert_eq!(programs, names);
}

/// Writes each target's good inputs where the fuzzer begins from: `fuzz/corpus`.
#[test]
#[ignore = "writes fuzz/corpus; see fuzz/README.md"]
fn seeds_for_the_fuzzer() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for target in targets::all() {
        let folder = root.join(target.name.replace('.', "-"));
        std::fs::create_dir_all(&folder).unwrap();
        for (n, bytes) in target.good.iter().enumerate() {
            std::fs::write(folder.join(format!("good-{n}")), bytes).unwrap();
        }
    }
}

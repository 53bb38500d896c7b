//! Random operations against a plain map.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::{Harness, Place, key, listed, noise, wait, whole};

/// Keys that are near one another, so that operations meet.
const KEYS: [&str; 7] = ["a", "a/b", "a/b.c", "ab", "b", "seg/0", "seg/00"];
const PREFIXES: [&str; 8] = ["", "a", "a/", "a/b", "b", "seg/0", "seg/00", "x"];
/// Lengths around the borders that implementations like: nothing, a page, an inline limit.
const LENGTHS: [usize; 6] = [0, 1, 4095, 4096, 4097, 70_000];

#[derive(Clone, Debug)]
enum Op {
    Put { key: usize, seed: u64, len: usize },
    Read { key: usize, ranges: Vec<(u32, u32)> },
    Whole { key: usize },
    Delete { key: usize },
    List { prefix: usize },
    Reopen,
}

fn operation() -> impl Strategy<Value = Op> {
    let key = 0..KEYS.len();
    let ranges = proptest::collection::vec((0..=80_000_u32, 0..=9_000_u32), 0..5);
    prop_oneof![
        6 => (key.clone(), 0..2_u64, 0..LENGTHS.len())
            .prop_map(|(key, seed, len)| Op::Put { key, seed, len: LENGTHS[len] }),
        4 => (key.clone(), ranges).prop_map(|(key, ranges)| Op::Read { key, ranges }),
        2 => key.clone().prop_map(|key| Op::Whole { key }),
        3 => key.prop_map(|key| Op::Delete { key }),
        2 => (0..PREFIXES.len()).prop_map(|prefix| Op::List { prefix }),
        1 => Just(Op::Reopen),
    ]
}

/// Runs random sequences on the store and on a map; each answer must be the map's. A failing sequence is shrunk and
/// printed; `PROPTEST_RNG_SEED` repeats a run.
pub fn random_operations_agree_with_a_map(harness: &Harness) {
    let config = Config {
        cases: 24,
        max_shrink_iters: 300,
        failure_persistence: None,
        ..Config::default()
    };
    let sequence = proptest::collection::vec(operation(), 1..40);
    let outcome = TestRunner::new(config).run(&sequence, |operations| {
        wait(agree(harness, &harness.fresh(), operations))
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

async fn agree(
    harness: &Harness,
    place: &Place<'_>,
    operations: Vec<Op>,
) -> Result<(), TestCaseError> {
    let bad = |e: aether_core::Error| TestCaseError::fail(format!("{e:?}"));
    let mut store = place.open();
    let mut model: BTreeMap<&str, Bytes> = BTreeMap::new();
    for operation in operations {
        match operation {
            Op::Put { key: k, seed, len } => {
                let (name, bytes) = (KEYS[k], noise(seed, len));
                let put = store.put(&key(name), bytes.clone()).await;
                let expect_ok = model.get(name).is_none_or(|old| *old == bytes);
                match put {
                    Ok(()) => prop_assert!(expect_ok, "put {name}: Ok over other bytes"),
                    Err(e) => prop_assert!(!expect_ok && e.is_conflict(), "put {name}: {e:?}"),
                }
                model.entry(name).or_insert(bytes);
            }
            Op::Read { key: k, ranges } => {
                let name = KEYS[k];
                let ranges: Vec<Range<u64>> = ranges
                    .into_iter()
                    .map(|(start, len)| u64::from(start)..u64::from(start) + u64::from(len))
                    .collect();
                let read = store.read(&key(name), &ranges).await;
                let Some(bytes) = model.get(name) else {
                    prop_assert_eq!(read.map_err(bad)?, None);
                    continue;
                };
                if ranges.iter().any(|r| r.end > bytes.len() as u64) {
                    let refused = read.is_err_and(|e| e.is_invalid_input());
                    prop_assert!(refused, "read {name} {ranges:?} beyond {}", bytes.len());
                    continue;
                }
                let part = |r: &Range<u64>| bytes.slice(r.start as usize..r.end as usize);
                let expected: Vec<Bytes> = ranges.iter().map(part).collect();
                let same = read.map_err(bad)? == Some(expected);
                prop_assert!(same, "read {name} {ranges:?}");
            }
            Op::Whole { key: k } => {
                let seen = whole(&*store, &key(KEYS[k])).await.map_err(bad)?;
                let same = seen.as_ref() == model.get(KEYS[k]);
                prop_assert!(same, "size or whole of {}", KEYS[k]);
            }
            Op::Delete { key: k } => {
                store.delete(&key(KEYS[k])).await.map_err(bad)?;
                model.remove(KEYS[k]);
            }
            Op::List { prefix } => {
                let prefix = PREFIXES[prefix];
                let with = model.iter().filter(|(name, _)| name.starts_with(prefix));
                let expected: Vec<(String, u64)> = with
                    .map(|(name, bytes)| ((*name).to_owned(), bytes.len() as u64))
                    .collect();
                prop_assert_eq!(listed(&*store, prefix).await, expected);
            }
            Op::Reopen => {
                if harness.persistent() {
                    drop(store);
                    store = place.open();
                }
            }
        }
    }
    Ok(())
}

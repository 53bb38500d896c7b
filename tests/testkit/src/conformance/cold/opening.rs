//! Opening: restarts, leftovers, reading only, configuration.

use std::collections::BTreeSet;

use aether_core::config::RawConfig;

use super::{Harness, key, listed, noise, skip, wait, whole};

/// A persistent store has after a restart what it had before, and goes on from there.
pub fn reopening_keeps_every_blob(harness: &Harness) {
    if !harness.persistent() {
        return skip("reopening", "the store keeps nothing");
    }
    let place = harness.fresh();
    for round in 0..4_u64 {
        let store = place.open();
        wait(async {
            for blob in 0..round {
                let back = whole(&*store, &key(&format!("seg/{blob}"))).await;
                let expected = noise(blob, 10_000 * blob as usize);
                assert!(back.expect("read") == Some(expected), "blob {blob}");
            }
            assert_eq!(listed(&*store, "").await.len() as u64, round);
            let new = key(&format!("seg/{round}"));
            let put = store.put(&new, noise(round, 10_000 * round as usize)).await;
            put.expect("put");
            let gone = key("gone");
            store.put(&gone, noise(9, 9)).await.expect("put");
            store.delete(&gone).await.expect("delete");
            let error = store.put(&key("seg/0"), noise(99, 99)).await;
            assert!(error.expect_err("other bytes").is_conflict());
        });
    }
}

/// What a put that was cut short left behind is not listed, not read, and does not hinder the put's repetition.
pub fn leftovers_of_cut_puts_are_never_listed(harness: &Harness) {
    let place = harness.fresh();
    wait(async { place.open().put(&key("seg/1"), noise(1, 100)).await }).expect("put");
    if !place.plant_leftovers() {
        return skip("leftovers", "the harness plants none");
    }
    for read_only in [true, false] {
        let store = if read_only {
            match place.open_read_only() {
                Ok(store) => store,
                Err(e) => {
                    assert!(e.is_unsupported(), "{e:?}");
                    continue;
                }
            }
        } else {
            place.open()
        };
        wait(async {
            let mut expected = vec![("seg/1".to_owned(), 100)];
            if !harness.persistent() {
                expected.clear();
            }
            assert_eq!(listed(&*store, "").await, expected);
            assert_eq!(listed(&*store, "seg").await, expected);
            if !read_only {
                store.put(&key("seg/2"), noise(2, 50)).await.expect("put");
                let back = whole(&*store, &key("seg/2")).await.expect("read");
                assert!(back == Some(noise(2, 50)));
            }
        });
    }
}

/// A store that is open for reading only reads and lists, refuses `put` and `delete` with `Unsupported`, and leaves
/// every file as it was.
pub fn reading_only_writes_nothing(harness: &Harness) {
    let place = harness.fresh();
    let store = place.open();
    wait(async { store.put(&key("seg/1"), noise(1, 5000)).await }).expect("put");
    drop(store);
    place.plant_leftovers();
    let before = place.contents();
    let store = match place.open_read_only() {
        Ok(store) => store,
        Err(e) => {
            assert!(e.is_unsupported(), "expected unsupported, got {e:?}");
            return skip("reading only", "the plug-in has no such way");
        }
    };
    wait(async {
        if harness.persistent() {
            let back = whole(&*store, &key("seg/1")).await.expect("read");
            assert!(back == Some(noise(1, 5000)));
            let expected = [("seg/1".to_owned(), 5000)];
            assert_eq!(listed(&*store, "").await, expected);
        }
        for (name, seed, len) in [("seg/1", 1, 5000), ("seg/1", 2, 10), ("new", 1, 1)] {
            let error = store.put(&key(name), noise(seed, len)).await;
            let error = error.expect_err("a put into a store open for reading only");
            assert!(error.is_unsupported(), "{name}: {error:?}");
        }
        for name in ["seg/1", "never"] {
            let error = store.delete(&key(name)).await;
            let error = error.expect_err("a delete in a store open for reading only");
            assert!(error.is_unsupported(), "{name}: {error:?}");
        }
    });
    drop(store);
    assert!(place.contents() == before, "files changed");
}

/// Opening for reading only where there is no store yet creates nothing: it is an empty store, or an error.
pub fn reading_only_creates_nothing(harness: &Harness) {
    let place = harness.fresh();
    let before = place.contents();
    if let Ok(store) = place.open_read_only() {
        wait(async {
            assert_eq!(listed(&*store, "").await, []);
            assert_eq!(store.size(&key("a")).await.expect("size"), None);
        });
    }
    assert!(place.contents() == before, "files were made");
}

/// The descriptor names exactly the keys that the factory reads, their defaults are accepted as written, and an
/// unknown key is refused.
pub fn the_options_are_those_that_are_read(harness: &Harness) {
    const UNKNOWN: &str = "no_such_key_at_all";
    let place = harness.fresh();
    let options = harness.plugin().options;
    let error = place.open_with(&format!("{UNKNOWN} = 1"));
    let error = error.expect_err("an unknown key");
    assert!(error.is_config(), "expected config, got {error:?}");
    let text = error.message();
    assert!(text.contains(UNKNOWN), "the message names the key: {text}");
    if let Some((_, expected)) = text.split_once("expected") {
        // Serde's own message quotes every field that it knows.
        let expected = expected.split("; did you mean").next().unwrap_or_default();
        let read: BTreeSet<&str> = expected.split('`').skip(1).step_by(2).collect();
        let declared: BTreeSet<&str> = options.iter().map(|o| o.name).collect();
        assert_eq!(declared, read, "options declared, and keys read");
    }
    let given = RawConfig::from_toml("cold", &place.given_keys()).expect("keys in TOML");
    let given: BTreeSet<&str> = given.keys().collect();
    let mut defaults = String::new();
    for option in options {
        assert!(!option.help.is_empty(), "{}: help", option.name);
        if !option.default.is_empty() && !given.contains(option.name) {
            defaults.push_str(&format!("{} = {}\n", option.name, option.default));
        }
    }
    let store = place.open_with(&defaults);
    store.expect("the declared defaults are valid");
}

//! One caller at a time: put, size, delete, list.

use bytes::Bytes;

use super::{Harness, key, listed, noise, skip, wait, whole};

/// A blob that was put has its size, its bytes and its place in the listing.
pub fn a_blob_reads_back_as_it_was_put(harness: &Harness) {
    let store = harness.fresh().open();
    wait(async {
        for (name, len) in [("a", 1), ("b/one.seg", 4096), ("c", 100_003)] {
            let bytes = noise(len as u64, len);
            store.put(&key(name), bytes.clone()).await.expect("put");
            assert_eq!(
                store.size(&key(name)).await.expect("size"),
                Some(len as u64)
            );
            let back = whole(&*store, &key(name)).await.expect("read");
            assert!(back == Some(bytes), "{name}: other bytes came back");
        }
    });
}

/// Absence is `None` for `size` and `read`, with any ranges, and is not listed.
pub fn an_absent_blob_is_none_everywhere(harness: &Harness) {
    let store = harness.fresh().open();
    wait(async {
        store.put(&key("present"), noise(1, 10)).await.expect("put");
        for name in ["absent", "presen", "present0", "present/x"] {
            let key = key(name);
            assert_eq!(store.size(&key).await.expect("size"), None, "{name}");
            for ranges in [&[][..], &[0..0], &[0..1, 5..9]] {
                let read = store
                    .read(&key, ranges)
                    .await
                    .expect("read of an absent blob");
                assert_eq!(read, None, "{name} {ranges:?}");
            }
        }
        assert_eq!(listed(&*store, "").await, [("present".to_owned(), 10)]);
    });
}

/// Recovery repeats puts: the same bytes under the same key are `Ok` each time.
pub fn the_same_bytes_again_are_ok(harness: &Harness) {
    let store = harness.fresh().open();
    wait(async {
        let bytes = noise(3, 70_000);
        for _ in 0..3 {
            let again = Bytes::copy_from_slice(&bytes);
            store.put(&key("x/1"), again).await.expect("the same bytes");
        }
        assert!(whole(&*store, &key("x/1")).await.expect("read") == Some(bytes));
        assert_eq!(listed(&*store, "").await, [("x/1".to_owned(), 70_000)]);
    });
}

/// A put never replaces: other bytes are a `Conflict`, whatever their length, and the first ones stay.
pub fn other_bytes_conflict_and_the_old_stay(harness: &Harness) {
    let store = harness.fresh().open();
    wait(async {
        let old = noise(1, 5000);
        let mut flipped = old.to_vec();
        flipped[4999] ^= 1;
        let longer = [&old[..], &[0]].concat();
        let others: [Bytes; 5] = [
            Bytes::from(flipped),
            longer.into(),
            old.slice(..4999),
            Bytes::new(),
            noise(2, 5000),
        ];
        store.put(&key("k"), old.clone()).await.expect("put");
        for (i, other) in others.into_iter().enumerate() {
            let error = store.put(&key("k"), other).await;
            let error = error.expect_err("other bytes under a key that is taken");
            assert!(
                error.is_conflict(),
                "case {i}: expected conflict, got {error:?}"
            );
            let stays = whole(&*store, &key("k")).await.expect("read");
            assert!(
                stays == Some(old.clone()),
                "case {i}: the old bytes are gone"
            );
        }
    });
}

/// Deleting what is there, what was deleted and what never was is `Ok`, and takes nothing else away.
pub fn delete_repeats_harmlessly(harness: &Harness) {
    let store = harness.fresh().open();
    wait(async {
        for name in ["a", "a/b", "ab"] {
            store.put(&key(name), noise(1, 9)).await.expect("put");
        }
        for _ in 0..3 {
            store.delete(&key("a")).await.expect("delete");
            assert_eq!(store.size(&key("a")).await.expect("size"), None);
            let read = store.read(&key("a"), &[0..0]).await;
            assert_eq!(read.expect("read"), None);
        }
        store.delete(&key("never")).await.expect("delete");
        let left = [("a/b".to_owned(), 9), ("ab".to_owned(), 9)];
        assert_eq!(listed(&*store, "").await, left);
    });
}

/// After a delete the key takes other bytes, and no reader gets the former ones.
pub fn a_deleted_key_is_free_again(harness: &Harness) {
    let store = harness.fresh().open();
    wait(async {
        let key = key("again");
        for round in 0..5 {
            let bytes = noise(round, 1000 + round as usize);
            store.put(&key, bytes.clone()).await.expect("put");
            let back = whole(&*store, &key).await.expect("read");
            assert!(back == Some(bytes), "round {round}: other bytes");
            store.delete(&key).await.expect("delete");
            assert_eq!(whole(&*store, &key).await.expect("read"), None);
        }
    });
}

/// A blob of no bytes is there, has size 0, is listed, and conflicts with one that has bytes.
pub fn an_empty_blob_is_a_blob(harness: &Harness) {
    let store = harness.fresh().open();
    wait(async {
        let key = key("empty");
        store.put(&key, Bytes::new()).await.expect("put");
        store.put(&key, Bytes::new()).await.expect("put again");
        assert_eq!(store.size(&key).await.expect("size"), Some(0));
        let read = store.read(&key, &[0..0]).await.expect("read");
        assert_eq!(read, Some(vec![Bytes::new()]));
        assert_eq!(listed(&*store, "").await, [("empty".to_owned(), 0)]);
        let error = store.put(&key, noise(1, 1)).await;
        assert!(error.expect_err("other bytes").is_conflict());
    });
}

/// 8 MiB go in and come back, whole and in a range that lies across any chunk border.
pub fn a_large_blob_comes_back_whole(harness: &Harness) {
    let store = harness.fresh().open();
    wait(async {
        let bytes = noise(8, 8 << 20);
        let key = key("segments/large.seg");
        store.put(&key, bytes.clone()).await.expect("put");
        assert!(whole(&*store, &key).await.expect("read") == Some(bytes.clone()));
        let middle = 1_000_001..7_000_003;
        let read = store.read(&key, std::slice::from_ref(&middle)).await;
        let read = read.expect("read").expect("present");
        assert!(read[0] == bytes[1_000_001..7_000_003], "the middle");
    });
}

/// Keys of 200 bytes, of a hundred parts, and keys that are the folder of others stay apart.
pub fn long_and_deep_keys_are_kept_apart(harness: &Harness) {
    let store = harness.fresh().open();
    wait(async {
        let deep = vec!["d"; 100].join("/");
        let names = [
            "x".repeat(200),
            format!("{}y", "x".repeat(199)),
            format!("{}/{}", "x".repeat(99), "x".repeat(100)),
            deep.clone(),
            format!("{deep}/"),
            deep[..deep.len() - 2].to_owned(),
            "d".to_owned(),
            "d.".to_owned(),
            "d-".to_owned(),
            "d_".to_owned(),
            "d/d.seg".to_owned(),
            "0".to_owned(),
        ];
        let names: Vec<&String> = names.iter().filter(|n| !n.ends_with('/')).collect();
        for (i, name) in names.iter().enumerate() {
            let put = store.put(&key(name), noise(i as u64, 50 + i)).await;
            put.unwrap_or_else(|e| panic!("{name}: {e}"));
        }
        for (i, name) in names.iter().enumerate() {
            let back = whole(&*store, &key(name)).await.expect("read");
            assert!(back == Some(noise(i as u64, 50 + i)), "{name}");
        }
        assert_eq!(listed(&*store, "").await.len(), names.len());
    });
}

/// A prefix is plain text, not a folder: it may end within a part, and one that no key can have lists nothing.
pub fn a_listing_takes_any_text_as_prefix(harness: &Harness) {
    let store = harness.fresh().open();
    wait(async {
        assert_eq!(listed(&*store, "").await, []);
        let names = [
            "a", "a-b", "a.b", "a/b", "a/b/c", "a/bc", "a/c", "ab", "ab/a", "b", "seg/01",
            "seg/02", "seg/1", "seg0", "z/z/z/z",
        ];
        for (i, name) in names.iter().enumerate().rev() {
            store.put(&key(name), noise(1, i)).await.expect("put");
        }
        for prefix in [
            "", "a", "a/", "a/b", "a/b/", "a-", "a.", "ab", "seg", "seg/", "seg/0", "seg/01", "s",
            "z/z/", "c", "a/b/c/", "A", "/", "a//", "..", "../", ".", "ü", "a b", "%", "a%2f",
        ] {
            let all = names.iter().enumerate();
            let with = all.filter(|(_, name)| name.starts_with(prefix));
            let mut expected: Vec<_> = with.map(|(i, n)| ((*n).to_owned(), i as u64)).collect();
            expected.sort();
            assert_eq!(listed(&*store, prefix).await, expected, "prefix {prefix:?}");
        }
    });
}

/// More blobs than a page of any service's listing: all are listed, in order, each once.
pub fn a_listing_of_many_blobs_is_complete_and_sorted(harness: &Harness) {
    const BLOBS: usize = 1100;
    let store = harness.fresh().open();
    wait(async {
        let mut puts = tokio::task::JoinSet::new();
        for i in 0..BLOBS {
            let store = store.clone();
            // An order of putting that is not the order of keys.
            let name = format!("many/{:04}", (i * 7) % BLOBS);
            puts.spawn(async move { store.put(&key(&name), noise(1, i % 5)).await });
            if puts.len() >= 32 {
                let put = puts.join_next().await.expect("a put under way");
                put.expect("no panic").expect("put");
            }
        }
        while let Some(put) = puts.join_next().await {
            put.expect("no panic").expect("put");
        }
        let names: Vec<_> = listed(&*store, "many/").await;
        let names: Vec<_> = names.into_iter().map(|(name, _)| name).collect();
        let expected: Vec<_> = (0..BLOBS).map(|i| format!("many/{i:04}")).collect();
        assert_eq!(names, expected);
        assert_eq!(listed(&*store, "many/10").await.len(), 100);
    });
}

/// A store with a limit answers `Capacity`, leaves nothing of the blob, and takes one that fits after a delete.
pub fn a_full_store_says_so_and_keeps_nothing(harness: &Harness) {
    let Some(capacity) = harness.capacity_bytes() else {
        return skip("full store", "the harness sets no limit");
    };
    let store = harness.fresh().open();
    wait(async {
        let half = usize::try_from(capacity / 2).expect("a small limit") + 1;
        store.put(&key("one"), noise(1, half)).await.expect("put");
        let error = store.put(&key("two"), noise(2, half)).await;
        let error = error.expect_err("more than the limit");
        assert!(error.is_capacity(), "expected capacity, got {error:?}");
        assert_eq!(store.size(&key("two")).await.expect("size"), None);
        assert_eq!(listed(&*store, "").await, [("one".to_owned(), half as u64)]);
        store.put(&key("one"), noise(1, half)).await.expect("again");
        store.delete(&key("one")).await.expect("delete");
        store.put(&key("two"), noise(2, half)).await.expect("room");
    });
}

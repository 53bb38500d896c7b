//! Limits, options, reads and close.

use std::ops::Bound;

use aether_core::Error;
use aether_core::role::{Batch, KeyRange, Seq, Table};
use bytes::Bytes;

use super::harness::{Harness, all, b, claim, everything, one, put, run};

/// The declared limits reach the contract's least, and agree with the descriptor.
pub fn limits_are_honest(harness: &Harness) {
    let place = harness.place();
    let limits = place.open().capability();
    for (name, got, least) in [
        ("key_bytes_max", limits.key_bytes_max, 1 << 10),
        ("value_bytes_max", limits.value_bytes_max, 1 << 20),
        ("batch_bytes_max", limits.batch_bytes_max, 8 << 20),
    ] {
        assert!(got >= least, "{name}: expected at least {least}, got {got}");
    }
    assert_eq!(
        limits.persistent,
        harness.persistent(),
        "capability and descriptor disagree on `persistent`"
    );
}

/// The largest key, value and batch are taken; one byte more is `Capacity`, an empty key is `InvalidInput`, and a refused
/// batch leaves nothing.
pub fn limits_are_kept(harness: &Harness) {
    run(async {
        let place = harness.place();
        let store = place.open();
        let limits = store.capability();
        // Beyond these the suite would measure the machine's memory, not the store.
        let value_max = limits.value_bytes_max.min(16 << 20);
        let epoch = claim(&*store).await;

        let long_key = Bytes::from(vec![0xff; limits.key_bytes_max]);
        let large = Bytes::from(noise(value_max));
        let mut batch = Batch::new(epoch);
        batch.put(Table::State, long_key.clone(), b("x"));
        batch.put(Table::State, b("large"), large.clone());
        store
            .commit(batch)
            .await
            .unwrap_or_else(|e| panic!("largest key and value: expected success, got {e:?}"));
        assert_eq!(one(&*store, Table::State, &long_key).await, Some(b("x")));
        assert!(
            one(&*store, Table::State, &b("large")).await == Some(large),
            "the largest value came back changed"
        );

        // A batch right at its limit, in values of 64 KiB.
        let mut batch = Batch::new(epoch);
        let batch_max = limits.batch_bytes_max.min(8 << 20);
        let piece = Bytes::from(noise(64 << 10));
        let mut n = 0u32;
        while batch.bytes() + piece.len() + 4 <= batch_max {
            batch.put(Table::Fresh, n.to_be_bytes().to_vec(), piece.clone());
            n += 1;
        }
        store.commit(batch).await.unwrap_or_else(|e| {
            panic!("a batch of {batch_max} bytes: expected success, got {e:?}")
        });
        assert_eq!(all(&*store, Table::Fresh).await.len(), n as usize);

        let before = everything(&*store).await;
        let too_long = Bytes::from(vec![1; limits.key_bytes_max + 1]);
        let too_large = Bytes::from(vec![1; limits.value_bytes_max + 1]);
        let capacity: fn(&Error) -> bool = Error::is_capacity;
        let refused = [
            ("a key too long", too_long.clone(), b("v"), capacity),
            ("a value too large", b("k"), too_large, capacity),
            (
                "an empty key",
                Bytes::new(),
                b("v"),
                Error::is_invalid_input,
            ),
        ];
        for (what, key, value, expected) in refused {
            for position in 0..2 {
                let mut batch = Batch::new(epoch);
                batch.put(Table::Points, b("innocent"), b("v"));
                let op = aether_core::role::Op::Put(Table::State, key.clone(), value.clone());
                batch.ops.insert(position, op);
                match store.commit(batch).await {
                    Err(e) if expected(&e) => {}
                    other => panic!("{what}: expected a refusal of its kind, got {other:?}"),
                }
            }
            if key.len() == 1 {
                continue;
            }
            let mut batch = Batch::new(epoch);
            batch.put(Table::Points, b("innocent"), b("v"));
            batch.delete(Table::State, key.clone());
            assert!(
                store.commit(batch).await.is_err_and(|e| expected(&e)),
                "{what} in a delete: expected a refusal of its kind"
            );
        }
        let whole = limits.batch_bytes_max / limits.value_bytes_max + 2;
        let value = Bytes::from(vec![2; limits.value_bytes_max]);
        let mut batch = Batch::new(epoch);
        for n in 0..whole {
            batch.put(Table::Points, n.to_be_bytes().to_vec(), value.clone());
        }
        let result = store.commit(batch).await;
        assert!(
            result.as_ref().is_err_and(Error::is_capacity),
            "a batch beyond its limit: expected Capacity, got {result:?}"
        );
        assert!(
            everything(&*store).await == before,
            "a refused batch changed the store"
        );
    });
}

/// Bytes that do not compress.
pub(super) fn noise(len: usize) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(11);
    let mut bytes = vec![0; len];
    rng.fill(&mut bytes);
    bytes
}

/// Every declared option is read with its declared default, and an unknown key is refused by name.
pub fn options_are_as_declared(harness: &Harness) {
    let Some(options) = harness.options() else {
        return; // a factory without a descriptor has no declared options
    };
    for option in options {
        if option.default.is_empty() {
            continue;
        }
        let place = harness.place();
        let toml = format!("{} = {}", option.name, option.default);
        if let Err(e) = place.try_open_with(&toml, false) {
            panic!("{toml:?}: expected the declared default to be taken, got {e:?}");
        }
    }
    match harness.place().try_open_with("no-such-key = 1", false) {
        Err(e) if e.is_config() && e.to_string().contains("no-such-key") => {}
        other => panic!("an unknown key: expected Config naming it, got {other:?}"),
    }
}

/// A value of no bytes is there; a deleted key is not.
pub fn empty_values_are_values(harness: &Harness) {
    run(async {
        let place = harness.place();
        let store = place.open();
        let epoch = claim(&*store).await;
        put(
            &*store,
            epoch,
            Table::State,
            &[("empty", ""), ("full", "v")],
        )
        .await;
        assert_eq!(
            one(&*store, Table::State, &b("empty")).await,
            Some(Bytes::new()),
            "an empty value is a value"
        );
        assert_eq!(
            all(&*store, Table::State).await,
            [(b("empty"), Bytes::new()), (b("full"), b("v"))]
        );
        let mut batch = Batch::new(epoch);
        batch.require(Table::State, b("empty"), Some(Bytes::new()));
        batch.delete(Table::State, b("empty"));
        batch.delete(Table::State, b("never there"));
        store
            .commit(batch)
            .await
            .unwrap_or_else(|e| panic!("deletes: expected success, got {e:?}"));
        assert_eq!(one(&*store, Table::State, &b("empty")).await, None);
    });
}

/// `get` answers in the order asked, once for each key asked, `None` for what is not there.
pub fn gets_keep_order_and_duplicates(harness: &Harness) {
    run(async {
        let place = harness.place();
        let store = place.open();
        let epoch = claim(&*store).await;
        put(
            &*store,
            epoch,
            Table::Cold,
            &[("a", "1"), ("b", "2"), ("c", "3")],
        )
        .await;
        let asked = ["c", "x", "a", "a", "b", "x", "c"].map(b);
        let found = store.get(Table::Cold, &asked).await;
        let expected = [
            Some("3"),
            None,
            Some("1"),
            Some("1"),
            Some("2"),
            None,
            Some("3"),
        ];
        assert_eq!(
            found.ok(),
            Some(expected.map(|v| v.map(b)).to_vec()),
            "get of {asked:?}"
        );
        let none = store.get(Table::Cold, &[]).await;
        assert_eq!(none.ok(), Some(Vec::new()), "get of no keys");
    });
}

/// `scan` gives the pairs of its range in key order, at most `limit`, for every kind of bound; an empty or reversed range
/// gives nothing; pages by [`KeyRange::after`] meet every key once.
pub fn scans_keep_range_order_and_limit(harness: &Harness) {
    run(async {
        let place = harness.place();
        let store = place.open();
        let epoch = claim(&*store).await;
        let keys: [&[u8]; 8] = [
            b"\0",
            b"\0\0",
            b"a",
            b"a\0",
            b"ab",
            b"b",
            b"\xff",
            b"\xff\xff",
        ];
        let mut batch = Batch::new(epoch);
        for (n, key) in keys.iter().enumerate().rev() {
            batch.put(Table::Dead, *key, vec![n as u8]);
        }
        // Neighbours in other tables must not be reached.
        for table in Table::ALL.into_iter().filter(|t| *t != Table::Dead) {
            batch.put(table, &b"a"[..], &b"other"[..]);
        }
        store
            .commit(batch)
            .await
            .unwrap_or_else(|e| panic!("commit: expected success, got {e:?}"));

        let mut edges: Vec<Bound<Bytes>> = vec![Bound::Unbounded];
        for key in [
            &b""[..],
            b"\0",
            b"a",
            b"aa",
            b"ab",
            b"c",
            b"\xff\xff",
            b"\xff\xff\xff",
        ] {
            edges.push(Bound::Included(Bytes::from_static(key)));
            edges.push(Bound::Excluded(Bytes::from_static(key)));
        }
        for start in &edges {
            for end in &edges {
                for limit in [0, 1, 3, usize::MAX] {
                    let range = KeyRange {
                        start: start.clone(),
                        end: end.clone(),
                    };
                    let after_start = |k: &[u8]| match start {
                        Bound::Unbounded => true,
                        Bound::Included(s) => k >= &s[..],
                        Bound::Excluded(s) => k > &s[..],
                    };
                    let before_end = |k: &[u8]| match end {
                        Bound::Unbounded => true,
                        Bound::Included(e) => k <= &e[..],
                        Bound::Excluded(e) => k < &e[..],
                    };
                    let expected: Vec<&[u8]> = keys
                        .into_iter()
                        .filter(|k| after_start(k) && before_end(k))
                        .take(limit)
                        .collect();
                    let found = store
                        .scan(Table::Dead, range.clone(), limit)
                        .await
                        .unwrap_or_else(|e| panic!("scan of {range:?}: got {e:?}"));
                    let found: Vec<&[u8]> = found.iter().map(|(k, _)| &k[..]).collect();
                    assert_eq!(found, expected, "scan of {range:?} with limit {limit}");
                }
            }
        }

        let (mut range, mut met) = (KeyRange::all(), Vec::new());
        loop {
            let page = store
                .scan(Table::Dead, range, 3)
                .await
                .unwrap_or_else(|e| panic!("a page: expected pairs, got {e:?}"));
            let Some((last, _)) = page.last() else { break };
            range = KeyRange::after(last.clone());
            met.extend(page.into_iter().map(|(k, _)| k));
            assert!(met.len() <= keys.len(), "pages repeat keys: {met:?}");
        }
        assert_eq!(met, keys.map(Bytes::from_static), "keys met by paging");
        let found = store.scan(Table::Dead, KeyRange::prefix(b"a"), 9).await;
        let found: Vec<Bytes> = found.into_iter().flatten().map(|(k, _)| k).collect();
        assert_eq!(found, [&b"a"[..], b"a\0", b"ab"], "scan of a prefix");
    });
}

/// The same key in each table is another key.
pub fn tables_are_apart(harness: &Harness) {
    run(async {
        let place = harness.place();
        let store = place.open();
        let epoch = claim(&*store).await;
        let mut batch = Batch::new(epoch);
        for table in Table::ALL {
            batch.put(table, b("key"), b(table.name()));
        }
        store
            .commit(batch)
            .await
            .unwrap_or_else(|e| panic!("commit: expected success, got {e:?}"));
        let mut batch = Batch::new(epoch);
        batch.delete(Table::Cold, b("key"));
        store
            .commit(batch)
            .await
            .unwrap_or_else(|e| panic!("delete: expected success, got {e:?}"));
        for table in Table::ALL {
            let expected = (table != Table::Cold).then(|| b(table.name()));
            assert_eq!(
                one(&*store, table, &b("key")).await,
                expected,
                "table {}",
                table.name()
            );
            assert_eq!(
                all(&*store, table).await.len(),
                usize::from(expected.is_some())
            );
        }
    });
}

/// After `close` every call answers `Closed`.
pub fn close_ends_every_call(harness: &Harness) {
    run(async {
        let place = harness.place();
        let store = place.open();
        let epoch = claim(&*store).await;
        put(&*store, epoch, Table::State, &[("k", "v")]).await;
        store
            .close()
            .await
            .unwrap_or_else(|e| panic!("close: expected success, got {e:?}"));
        let answers = [
            ("claim", store.claim().await.err()),
            ("get", store.get(Table::State, &[b("k")]).await.err()),
            (
                "scan",
                store.scan(Table::State, KeyRange::all(), 1).await.err(),
            ),
            ("commit", store.commit(Batch::new(epoch)).await.err()),
            ("durable", store.durable(Seq(1)).await.err()),
        ];
        for (call, error) in answers {
            assert!(
                error.as_ref().is_some_and(Error::is_closed),
                "{call} after close: expected Closed, got {error:?}"
            );
        }
        if let Err(e) = store.close().await {
            assert!(
                e.is_closed(),
                "a second close: expected success or Closed, got {e:?}"
            );
        }
    });
}

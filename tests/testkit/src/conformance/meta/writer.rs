//! Batches, preconditions and epochs.

use aether_core::role::{Batch, Epoch, Table};
use bytes::Bytes;

use super::harness::{Harness, all, b, claim, everything, one, put, run};

/// A commit is visible when it returns, also to a scan, and has a larger number than the one before.
pub fn commits_are_visible_and_numbered(harness: &Harness) {
    run(async {
        let place = harness.place();
        let store = place.open();
        let epoch = claim(&*store).await;
        let mut last = None;
        for n in 0..20u8 {
            let mut batch = Batch::new(epoch);
            batch.put(Table::Fresh, vec![n], vec![n; 3]);
            batch.put(Table::State, b("last"), vec![n]);
            let seq = store
                .commit(batch)
                .await
                .unwrap_or_else(|e| panic!("commit {n}: expected success, got {e:?}"));
            assert!(
                last < Some(seq),
                "expected a number above {last:?}, got {seq:?}"
            );
            last = Some(seq);
            assert_eq!(
                one(&*store, Table::State, &b("last")).await,
                Some(Bytes::from(vec![n])),
                "a commit is visible when it returns"
            );
            assert_eq!(all(&*store, Table::Fresh).await.len(), usize::from(n) + 1);
            if n % 8 == 7 {
                // A former number is covered as well, and asking twice is harmless.
                for _ in 0..2 {
                    store
                        .durable(seq)
                        .await
                        .unwrap_or_else(|e| panic!("durable: expected success, got {e:?}"));
                }
            }
        }
        let empty = store.commit(Batch::new(epoch)).await;
        assert!(
            empty.is_ok(),
            "an empty batch: expected success, got {empty:?}"
        );
    });
}

/// Within a batch the later operation on a key wins.
pub fn later_operations_win(harness: &Harness) {
    run(async {
        let place = harness.place();
        let store = place.open();
        let epoch = claim(&*store).await;
        put(&*store, epoch, Table::State, &[("c", "old"), ("d", "old")]).await;
        let mut batch = Batch::new(epoch);
        batch.put(Table::State, b("a"), b("1"));
        batch.put(Table::State, b("a"), b("2"));
        batch.put(Table::State, b("b"), b("1"));
        batch.delete(Table::State, b("b"));
        batch.delete(Table::State, b("c"));
        batch.put(Table::State, b("c"), b("new"));
        batch.delete(Table::State, b("d"));
        batch.put(Table::State, b("d"), b("new"));
        batch.delete(Table::State, b("d"));
        store
            .commit(batch)
            .await
            .unwrap_or_else(|e| panic!("commit: expected success, got {e:?}"));
        assert_eq!(
            all(&*store, Table::State).await,
            [(b("a"), b("2")), (b("c"), b("new"))]
        );
    });
}

/// A batch whose precondition does not hold answers `Conflict` naming the key of the first that failed, and nothing of it
/// happens, wherever its operations lie.
pub fn a_failed_precondition_changes_nothing(harness: &Harness) {
    run(async {
        let place = harness.place();
        let store = place.open();
        let epoch = claim(&*store).await;
        put(
            &*store,
            epoch,
            Table::Points,
            &[("there", "v"), ("gone", "x"), ("empty", "")],
        )
        .await;
        let mut batch = Batch::new(epoch);
        batch.delete(Table::Points, b("gone"));
        store
            .commit(batch)
            .await
            .unwrap_or_else(|e| panic!("delete: expected success, got {e:?}"));
        let before = everything(&*store).await;
        let wrong: [(&str, Option<&str>); 7] = [
            ("there", Some("w")),
            ("there", Some("v\0")),
            ("there", Some("")),
            ("there", None),
            ("gone", Some("x")),
            ("absent", Some("")),
            ("empty", None),
        ];
        for (key, value) in wrong {
            let mut batch = Batch::new(epoch);
            batch.put(Table::Points, b("there"), b("changed"));
            batch.put(Table::Fresh, b("new"), b("v"));
            batch.delete(Table::Points, b("empty"));
            batch.require(Table::Points, b("there"), Some(b("v")));
            batch.require(Table::Cold, b("there"), None);
            batch.require(Table::Points, b(key), value.map(b));
            batch.require(Table::State, b("second-failure"), Some(b("z")));
            match store.commit(batch).await {
                Err(e) if e.is_conflict() => {
                    let text = e.to_string();
                    assert!(
                        text.contains(key) && !text.contains("second-failure"),
                        "expected the key {key:?} of the first failure in {text:?}"
                    );
                }
                other => panic!("{key:?} required as {value:?}: expected Conflict, got {other:?}"),
            }
            assert_eq!(
                everything(&*store).await,
                before,
                "a failed batch left something"
            );
        }
        let mut batch = Batch::new(epoch);
        batch.require(Table::Points, b("there"), Some(b("v")));
        batch.require(Table::Points, b("empty"), Some(b("")));
        batch.require(Table::Points, b("gone"), None);
        batch.put(Table::Points, b("there"), b("changed"));
        store
            .commit(batch)
            .await
            .unwrap_or_else(|e| panic!("preconditions that hold: expected success, got {e:?}"));
        assert_eq!(
            one(&*store, Table::Points, &b("there")).await,
            Some(b("changed"))
        );
    });
}

/// Preconditions speak of the state before the batch, not of what its own operations do.
pub fn preconditions_look_at_the_state_before(harness: &Harness) {
    run(async {
        let place = harness.place();
        let store = place.open();
        let epoch = claim(&*store).await;
        let mut batch = Batch::new(epoch);
        batch.put(Table::State, b("k"), b("1"));
        batch.require(Table::State, b("k"), None);
        store
            .commit(batch)
            .await
            .unwrap_or_else(|e| panic!("absent before: expected success, got {e:?}"));
        let mut batch = Batch::new(epoch);
        batch.put(Table::State, b("k"), b("2"));
        batch.require(Table::State, b("k"), Some(b("2")));
        let result = store.commit(batch).await;
        assert!(
            result.as_ref().is_err_and(|e| e.is_conflict()),
            "required what the batch itself would write: expected Conflict, got {result:?}"
        );
        assert_eq!(one(&*store, Table::State, &b("k")).await, Some(b("1")));
    });
}

/// Each claim gives a larger epoch, and a commit of a former one answers `Fenced` and does nothing.
pub fn epochs_grow_and_fence(harness: &Harness) {
    run(async {
        let place = harness.place();
        let store = place.open();
        let mut former: Vec<Epoch> = Vec::new();
        for round in 0..4 {
            let epoch = claim(&*store).await;
            assert!(
                former.iter().all(|e| *e < epoch),
                "claim {round}: expected an epoch above {former:?}, got {epoch:?}"
            );
            put(
                &*store,
                epoch,
                Table::State,
                &[("owner", &round.to_string())],
            )
            .await;
            let before = everything(&*store).await;
            for old in &former {
                let mut batch = Batch::new(*old);
                batch.put(Table::State, b("owner"), b("thief"));
                let result = store.commit(batch).await;
                assert!(
                    result.as_ref().is_err_and(|e| e.is_fenced()),
                    "a commit of {old:?} after {epoch:?}: expected Fenced, got {result:?}"
                );
            }
            let mut batch = Batch::new(Epoch(epoch.0 + 1));
            batch.put(Table::State, b("owner"), b("prophet"));
            let result = store.commit(batch).await;
            assert!(
                result.is_err(),
                "a commit of an epoch nobody was given: expected an error, got {result:?}"
            );
            assert_eq!(
                everything(&*store).await,
                before,
                "a fenced batch left something"
            );
            former.push(epoch);
        }
    });
}

//! What survives closing and killing, and who may open.

use aether_core::role::{Batch, MetaStore, Table};
use bytes::Bytes;

use super::harness::{Harness, all, b, claim, everything, one, put, run};

async fn durable_batch(store: &dyn MetaStore, epoch: aether_core::role::Epoch, n: u8) {
    let seq = store
        .commit(pair(epoch, n))
        .await
        .unwrap_or_else(|e| panic!("commit {n}: expected success, got {e:?}"));
    store
        .durable(seq)
        .await
        .unwrap_or_else(|e| panic!("durable {n}: expected success, got {e:?}"));
}

/// A batch that sets the same number in two tables and adds a key in a third.
fn pair(epoch: aether_core::role::Epoch, n: u8) -> Batch {
    let mut batch = Batch::new(epoch);
    batch.put(Table::State, b("n"), vec![n]);
    batch.put(Table::Fresh, vec![n], Bytes::from(vec![n; 500]));
    batch.put(Table::Points, b("n"), vec![n]);
    batch
}

/// Checks that the store holds the batches 0 to some number wholly, and returns how many.
async fn whole_batches(store: &dyn MetaStore) -> usize {
    let fresh = all(store, Table::Fresh).await;
    for (n, (key, value)) in fresh.iter().enumerate() {
        let n = n as u8;
        assert_eq!(
            (&key[..], &value[..]),
            (&[n][..], &[n; 500][..]),
            "a gap in the batches"
        );
    }
    let last = fresh.last().map(|(key, _)| key.clone());
    for table in [Table::State, Table::Points] {
        assert_eq!(
            one(store, table, &b("n")).await,
            last,
            "a part of a batch in table {}",
            table.name()
        );
    }
    fresh.len()
}

/// Whatever `durable` covered is there after a kill.
pub fn durable_survives_a_kill(harness: &Harness) {
    if !harness.persistent() {
        return; // nothing is promised
    }
    run(async {
        let mut place = harness.place();
        for round in 0..4u8 {
            let store = place.open();
            let epoch = claim(&*store).await;
            assert_eq!(whole_batches(&*store).await, usize::from(round) * 4);
            for n in 0..4 {
                durable_batch(&*store, epoch, round * 4 + n).await;
            }
            place = place.kill(store);
        }
        let store = place.open();
        assert_eq!(
            whole_batches(&*store).await,
            16,
            "durable batches after four kills"
        );
    });
}

/// Commits that were not made durable may be lost in a kill, but only as whole batches and from the end.
pub fn a_kill_leaves_whole_batches(harness: &Harness) {
    if !harness.persistent() {
        return; // nothing is promised
    }
    run(async {
        let place = harness.place();
        let store = place.open();
        let epoch = claim(&*store).await;
        for n in 0..5 {
            durable_batch(&*store, epoch, n).await;
        }
        for n in 5..40 {
            store
                .commit(pair(epoch, n))
                .await
                .unwrap_or_else(|e| panic!("commit {n}: expected success, got {e:?}"));
        }
        let place = place.kill(store);
        let store = place.open();
        let n = whole_batches(&*store).await;
        assert!((5..=40).contains(&n), "expected 5 to 40 batches, got {n}");
        // And it goes on from there.
        let epoch = claim(&*store).await;
        durable_batch(&*store, epoch, n as u8).await;
        assert_eq!(whole_batches(&*store).await, n + 1);
    });
}

/// `close` makes durable what was not yet.
pub fn close_makes_everything_durable(harness: &Harness) {
    if !harness.persistent() {
        return; // nothing is promised
    }
    run(async {
        let place = harness.place();
        let store = place.open();
        let epoch = claim(&*store).await;
        for n in 0..10 {
            store
                .commit(pair(epoch, n))
                .await
                .unwrap_or_else(|e| panic!("commit {n}: expected success, got {e:?}"));
        }
        store
            .close()
            .await
            .unwrap_or_else(|e| panic!("close: expected success, got {e:?}"));
        // The closed handle still exists: close itself must have given up files and locks.
        let again = place.open();
        assert_eq!(whole_batches(&*again).await, 10, "batches after close");
        drop(store);
    });
}

/// Epochs go on growing across closing, dropping and killing, and a former process's epoch is fenced.
pub fn epochs_grow_across_reopening(harness: &Harness) {
    if !harness.persistent() {
        return; // a new store begins anew
    }
    run(async {
        let mut place = harness.place();
        let mut former = Vec::new();
        for round in 0..6 {
            let store = place.open();
            if let Some(last) = former.last() {
                // The last writer of the former process may go on until someone claims; whoever came before may not.
                let old: &[aether_core::role::Epoch] = &former[..former.len() - 1];
                for epoch in old {
                    let result = store.commit(Batch::new(*epoch)).await;
                    assert!(
                        result.as_ref().is_err_and(|e| e.is_fenced()),
                        "a commit of {epoch:?} after {last:?}: expected Fenced, got {result:?}"
                    );
                }
            }
            let epoch = claim(&*store).await;
            assert!(
                former.iter().all(|e| *e < epoch),
                "round {round}: expected an epoch above {former:?}, got {epoch:?}"
            );
            for old in &former {
                let result = store.commit(Batch::new(*old)).await;
                assert!(
                    result.as_ref().is_err_and(|e| e.is_fenced()),
                    "a commit of {old:?} after {epoch:?}: expected Fenced, got {result:?}"
                );
            }
            put(&*store, epoch, Table::State, &[("k", "v")]).await;
            former.push(epoch);
            match round % 3 {
                0 => store
                    .close()
                    .await
                    .unwrap_or_else(|e| panic!("close: expected success, got {e:?}")),
                1 => drop(store),
                _ => place = place.kill(store),
            }
        }
    });
}

/// A second opening is refused with `Locked`, or shares the store and fences the first by claiming.
pub fn one_process_at_a_time(harness: &Harness) {
    if !harness.persistent() {
        return; // two stores in RAM are two stores
    }
    run(async {
        let place = harness.place();
        let first = place.open();
        let old = claim(&*first).await;
        put(&*first, old, Table::State, &[("k", "first")]).await;
        match place.try_open(false) {
            Err(e) if e.is_locked() => {}
            Err(e) => panic!("a second opening: expected Locked or a store, got {e:?}"),
            Ok(second) => {
                let new = claim(&*second).await;
                assert!(new > old, "expected an epoch above {old:?}, got {new:?}");
                put(&*second, new, Table::State, &[("k", "second")]).await;
                let mut batch = Batch::new(old);
                batch.put(Table::State, b("k"), b("thief"));
                let result = first.commit(batch).await;
                assert!(
                    result.as_ref().is_err_and(|e| e.is_fenced()),
                    "the first handle after the second claimed: expected Fenced, got {result:?}"
                );
                assert_eq!(
                    one(&*second, Table::State, &b("k")).await,
                    Some(b("second"))
                );
            }
        }
        first
            .close()
            .await
            .unwrap_or_else(|e| panic!("close: expected success, got {e:?}"));
        let next = place.open();
        assert!(
            claim(&*next).await > old,
            "epochs grow under the next holder"
        );
    });
}

/// A store opened for reading only answers like the one that was killed, refuses to write, and leaves every byte of the
/// folder as it was; or it says `Unsupported`.
pub fn reading_only_changes_nothing(harness: &Harness) {
    if !harness.persistent() {
        return; // there is nothing to open
    }
    run(async {
        let place = harness.place();
        let store = place.open();
        let epoch = claim(&*store).await;
        for n in 0..20 {
            durable_batch(&*store, epoch, n).await;
        }
        let expected = everything(&*store).await;
        let killed = place.kill(store);
        let before = killed.files();
        let reader = match killed.try_open(true) {
            Ok(reader) => reader,
            Err(e) if e.is_unsupported() => {
                assert_eq!(
                    killed.files(),
                    before,
                    "a refused opening changed the folder"
                );
                return;
            }
            Err(e) => panic!("open for reading: expected a store or Unsupported, got {e:?}"),
        };
        assert_eq!(everything(&*reader).await, expected, "what a reader sees");
        let commit = reader.commit(Batch::new(epoch)).await;
        let claim = reader.claim().await;
        for (call, error) in [("commit", commit.err()), ("claim", claim.err())] {
            assert!(
                error.as_ref().is_some_and(|e| e.is_unsupported()),
                "{call} when reading only: expected Unsupported, got {error:?}"
            );
        }
        reader
            .close()
            .await
            .unwrap_or_else(|e| panic!("close: expected success, got {e:?}"));
        drop(reader);
        if harness.in_folder() {
            assert!(killed.files() == before, "reading changed the folder");
        }
        match harness.place().try_open(true) {
            Err(_) => {}
            Ok(_) => panic!("reading a folder without a store: expected an error"),
        }
    });
}

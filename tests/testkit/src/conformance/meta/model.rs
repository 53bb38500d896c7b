//! Random histories against a plain map.

use std::collections::BTreeMap;
use std::ops::Bound;

use aether_core::role::{Batch, KeyRange, Op, Precondition, Table};
use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestError, TestRunner};

use super::harness::{Harness, claim, everything, run};

type Model = BTreeMap<(Table, Bytes), Bytes>;

#[derive(Clone, Debug)]
enum Step {
    /// Operations; then keys required as they are, if the flag holds, or as the value says.
    Commit(Vec<Op>, Vec<(Table, Bytes, bool, Bytes)>, bool),
    Get(Table, Vec<Bytes>),
    Scan(Table, KeyRange, usize),
    Claim,
    CloseAndOpen,
    Kill,
}

fn table() -> impl Strategy<Value = Table> {
    prop::sample::select(&Table::ALL[..4])
}

/// Few keys, so that histories meet themselves; some share prefixes, one is long.
fn key() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        4 => prop::collection::vec(0u8..4, 1..4),
        1 => Just(vec![0xff; 600]),
        1 => prop::collection::vec(any::<u8>(), 1..24),
    ]
    .prop_map(Bytes::from)
}

fn value() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        1 => Just(Bytes::new()),
        4 => prop::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from),
        1 => (any::<u8>(), 4_000usize..70_000).prop_map(|(b, n)| Bytes::from(vec![b; n])),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (table(), key(), value()).prop_map(|(t, k, v)| Op::Put(t, k, v)),
        1 => (table(), key()).prop_map(|(t, k)| Op::Delete(t, k)),
    ]
}

fn bound() -> impl Strategy<Value = Bound<Bytes>> {
    prop_oneof![
        Just(Bound::Unbounded),
        key().prop_map(Bound::Included),
        key().prop_map(Bound::Excluded),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let required = (table(), key(), prop::bool::weighted(0.9), value());
    prop_oneof![
        8 => (prop::collection::vec(op(), 0..12), prop::collection::vec(required, 0..3), any::<bool>())
            .prop_map(|(ops, required, durable)| Step::Commit(ops, required, durable)),
        3 => (table(), prop::collection::vec(key(), 0..6)).prop_map(|(t, k)| Step::Get(t, k)),
        4 => (table(), bound(), bound(), 0usize..12).prop_map(|(t, start, end, limit)| {
            Step::Scan(t, KeyRange { start, end }, limit)
        }),
        1 => Just(Step::Claim),
        1 => Just(Step::CloseAndOpen),
        1 => Just(Step::Kill),
    ]
}

/// Any history of commits, reads, claims, closings and kills gives the answers that a plain map gives. Before a kill
/// everything is made durable; what a kill may lose is another check's affair.
pub fn answers_like_a_map(harness: &Harness) {
    let mut runner = TestRunner::new(Config {
        cases: harness.cases(),
        failure_persistence: None,
        max_shrink_iters: 200,
        ..Config::default()
    });
    let steps = prop::collection::vec(step(), 1..40);
    match runner.run(&steps, |steps| history(harness, &steps)) {
        Ok(()) => {}
        Err(TestError::Fail(reason, steps)) => panic!("{reason}\nshortest history: {steps:#?}"),
        Err(e) => panic!("{e}"),
    }
}

fn history(harness: &Harness, steps: &[Step]) -> Result<(), TestCaseError> {
    let fail = |what: &str, e: aether_core::Error| TestCaseError::fail(format!("{what}: {e:?}"));
    run(async {
        let mut model = Model::new();
        let mut place = harness.place();
        let mut store = place.open();
        let mut epoch = claim(&*store).await;
        for step in steps {
            match step {
                Step::Commit(ops, required, durable) => {
                    let mut batch = Batch::new(epoch);
                    batch.ops.clone_from(ops);
                    for (table, key, as_it_is, other) in required {
                        let now = model.get(&(*table, key.clone())).cloned();
                        batch.preconditions.push(Precondition {
                            table: *table,
                            key: key.clone(),
                            value: if *as_it_is { now } else { Some(other.clone()) },
                        });
                    }
                    let holds = batch
                        .preconditions
                        .iter()
                        .all(|p| model.get(&(p.table, p.key.clone())) == p.value.as_ref());
                    match store.commit(batch).await {
                        Ok(seq) => {
                            prop_assert!(holds, "expected Conflict, got {seq:?}");
                            if *durable {
                                store.durable(seq).await.map_err(|e| fail("durable", e))?;
                            }
                            for op in ops {
                                match op.clone() {
                                    Op::Put(t, k, v) => model.insert((t, k), v),
                                    Op::Delete(t, k) => model.remove(&(t, k)),
                                };
                            }
                        }
                        Err(e) if e.is_conflict() => {
                            prop_assert!(!holds, "expected success: {e:?}")
                        }
                        Err(e) => return Err(fail("commit", e)),
                    }
                }
                Step::Get(table, keys) => {
                    let found = store.get(*table, keys).await.map_err(|e| fail("get", e))?;
                    let expected: Vec<_> = keys
                        .iter()
                        .map(|k| model.get(&(*table, k.clone())).cloned())
                        .collect();
                    prop_assert_eq!(found, expected);
                }
                Step::Scan(table, range, limit) => {
                    let found = store
                        .scan(*table, range.clone(), *limit)
                        .await
                        .map_err(|e| fail("scan", e))?;
                    let inside = |key: &Bytes| {
                        let from = match &range.start {
                            Bound::Unbounded => true,
                            Bound::Included(s) => key >= s,
                            Bound::Excluded(s) => key > s,
                        };
                        from && match &range.end {
                            Bound::Unbounded => true,
                            Bound::Included(e) => key <= e,
                            Bound::Excluded(e) => key < e,
                        }
                    };
                    let expected: Vec<_> = model
                        .iter()
                        .filter(|((t, k), _)| t == table && inside(k))
                        .take(*limit)
                        .map(|((_, k), v)| (k.clone(), v.clone()))
                        .collect();
                    prop_assert_eq!(found, expected);
                }
                Step::Claim => {
                    let next = store.claim().await.map_err(|e| fail("claim", e))?;
                    prop_assert!(
                        next > epoch,
                        "expected an epoch above {epoch:?}, got {next:?}"
                    );
                    epoch = next;
                }
                Step::CloseAndOpen | Step::Kill if !harness.persistent() => {}
                Step::CloseAndOpen => {
                    store.close().await.map_err(|e| fail("close", e))?;
                    drop(store);
                    store = place.open();
                    epoch = claim(&*store).await;
                }
                Step::Kill => {
                    let seq = store
                        .commit(Batch::new(epoch))
                        .await
                        .map_err(|e| fail("commit", e))?;
                    store.durable(seq).await.map_err(|e| fail("durable", e))?;
                    place = place.kill(store);
                    store = place.open();
                    epoch = claim(&*store).await;
                }
            }
        }
        for ((table, key), value) in &model {
            let found = store.get(*table, std::slice::from_ref(key)).await;
            let found = found.map_err(|e| fail("get", e))?;
            prop_assert_eq!(found, [Some(value.clone())]);
        }
        let expected: Vec<_> = {
            let mut pairs: Vec<_> = model.into_iter().map(|((t, k), v)| (t, k, v)).collect();
            pairs.sort();
            pairs
                .into_iter()
                .map(|(t, k, v)| (t.name(), k, v))
                .collect()
        };
        prop_assert_eq!(everything(&*store).await, expected);
        Ok(())
    })
}

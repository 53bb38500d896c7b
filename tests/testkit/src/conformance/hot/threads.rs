//! Many callers at once.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use aether_core::Row;

use super::model::bits;
use super::snapshot::save;
use super::{HotHarness, Model, fill, nearest};

const DIM: usize = 12;
const BASE: u64 = 100;
const WRITERS: u64 = 2;
const ROWS: u64 = 400;

/// The vector that row `row` has in these tests.
fn vector_of(row: u64) -> Vec<f32> {
    super::vector(&mut fastrand::Rng::with_seed(row ^ 0xa5a5), DIM)
}

/// While threads insert, remove and compact, an exact search finds every row whose insert had returned and that stays, never one
/// whose removal had returned, each once; reads are never torn.
///
/// # Panics
/// When it is not so.
pub fn concurrent_callers_see_before_or_after(h: &HotHarness) {
    let metric = h.metric();
    let index = h.fresh(metric, DIM);
    let mut model = Model::default();
    for row in 0..BASE {
        index.insert(Row(row), &vector_of(row)).expect("an insert");
        model.insert(Row(row), &vector_of(row));
    }
    let (kept, gone) = (Mutex::new(HashSet::new()), Mutex::new(HashSet::new()));
    // The row that comes and goes: at most once in any answer.
    let flicker = BASE - 1;
    let (done, searches) = (AtomicU64::new(0), AtomicU64::new(0));
    let index = index.as_ref();
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (kept, gone, done) = (&kept, &gone, &done);
            scope.spawn(move || {
                let _on_exit = Count(done);
                for i in 0..ROWS {
                    let row = Row(1_000 * (writer + 1) + i);
                    index.insert(row, &vector_of(row.0)).expect("an insert");
                    if i % 3 == 0 {
                        assert!(index.remove(row).expect("a removal"), "{row} was resident");
                        gone.lock().expect("no panic").insert(row);
                    } else {
                        kept.lock().expect("no panic").insert(row);
                    }
                    if writer == 0 && i % 2 == 0 {
                        assert!(index.remove(Row(flicker)).expect("a removal"));
                        index
                            .insert(Row(flicker), &vector_of(flicker))
                            .expect("an insert");
                    }
                    if writer == 1 && i % 40 == 39 {
                        index.compact().expect("a compaction");
                    }
                }
            });
        }
        for reader in 0..2 {
            let (kept, gone, done, searches) = (&kept, &gone, &done, &searches);
            scope.spawn(move || {
                let mut rng = fastrand::Rng::with_seed(reader);
                let mut out = vec![0.0; DIM];
                loop {
                    let last = done.load(Ordering::SeqCst) == WRITERS;
                    let must: HashSet<Row> = kept.lock().expect("no panic").clone();
                    let never: HashSet<Row> = gone.lock().expect("no panic").clone();
                    let row = Row(rng.u64(0..flicker));
                    let got = nearest(index, &vector_of(row.0), usize::MAX);
                    let found: HashSet<Row> = got.iter().map(|n| n.row).collect();
                    assert_eq!(found.len(), got.len(), "a row came twice");
                    assert!(got.is_sorted(), "answers out of order");
                    assert!(found.is_disjoint(&never), "a removed row was returned");
                    assert!(found.is_superset(&must), "an inserted row was not found");
                    assert!(
                        (0..flicker).all(|r| found.contains(&Row(r))),
                        "an old row was not found"
                    );
                    let quick = index.search(&vector_of(row.0), 5, &Default::default());
                    let quick = quick.expect("a search");
                    assert!(quick.iter().all(|n| !never.contains(&n.row)));
                    if let Some(row) = must.iter().next() {
                        assert!(index.contains(*row));
                        assert!(index.read(*row, &mut out).expect("a read"));
                        if index.capability().exact_read {
                            assert_eq!(bits(&out), bits(&vector_of(row.0)), "a torn read");
                        }
                    }
                    assert!(index.rows().len() + 1 >= must.len() + BASE as usize - 1);
                    assert!(index.bytes_after(0) > 0 || index.is_empty());
                    searches.fetch_add(1, Ordering::Relaxed);
                    if last {
                        break;
                    }
                }
            });
        }
    });
    assert!(searches.load(Ordering::Relaxed) >= 2);
    for row in kept.into_inner().expect("no panic") {
        model.insert(row, &vector_of(row.0));
    }
    model.check_contents(index, DIM);
}

/// A snapshot taken while others write is that of one moment: every settled row is in it, no removed one, and of a
/// chain of rows just those that were there together.
///
/// # Panics
/// When it is not so.
pub fn snapshots_beside_writers_are_whole(h: &HotHarness) {
    let metric = h.metric();
    let index = h.fresh(metric, DIM);
    if !index.capability().snapshot {
        return;
    }
    let settled = fill(index.as_ref(), &mut fastrand::Rng::with_seed(1), 300, DIM);
    let stop = AtomicBool::new(false);
    let snapshots: Vec<Vec<u8>> = thread::scope(|scope| {
        let (index, stop) = (index.as_ref(), &stop);
        scope.spawn(move || {
            // A chain: row n is inserted before row n - 1 is removed, so at every moment one or two of the chain are there.
            let mut n = 10_000;
            index.insert(Row(n), &vector_of(n)).expect("an insert");
            while !stop.load(Ordering::SeqCst) {
                n += 1;
                index.insert(Row(n), &vector_of(n)).expect("an insert");
                assert!(index.remove(Row(n - 1)).expect("a removal"));
            }
        });
        while !index.contains(Row(10_000)) && index.len() < 301 {
            thread::yield_now();
        }
        let taken = (0..6).map(|_| save(index)).collect();
        stop.store(true, Ordering::SeqCst);
        taken
    });
    for bytes in snapshots {
        let loaded = h.fresh(metric, DIM);
        loaded
            .load(&mut bytes.as_slice())
            .expect("a load of what was saved");
        let mut chain: Vec<u64> = loaded.rows().iter().map(|r| r.0).collect();
        chain.retain(|r| *r >= 10_000);
        chain.sort_unstable();
        assert!(
            matches!(chain[..], [_]) || matches!(chain[..], [a, b] if a + 1 == b),
            "rows {chain:?} of the chain are in the snapshot: it is not of one moment"
        );
        for row in chain {
            loaded.remove(Row(row)).expect("a removal");
        }
        settled.check_contents(loaded.as_ref(), DIM);
    }
}

/// Counts a finished writer, also one that panicked, so that readers come to an end.
struct Count<'a>(&'a AtomicU64);

impl Drop for Count<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

//! Stored bytes that changed.

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};

use aether_core::Error;
use aether_core::role::{Batch, KeyRange, MetaStore, Table};
use bytes::Bytes;

use super::harness::{Harness, Place, claim, copy, run};

/// Damaged copies tried for each file.
const FLIPS: usize = 160;

/// A file with a flipped bit or a cut end gives `Corrupt`, or the right answers: never a value that was not written for
/// its key, and never a panic that reaches the caller.
pub fn damage_is_found_or_harmless(harness: &Harness) {
    if !harness.in_folder() {
        return; // there are no files to damage
    }
    let mut truth = BTreeMap::new();
    let place = harness.place();
    run(async {
        let store = place.open();
        let epoch = claim(&*store).await;
        for round in 0..3u8 {
            let mut batch = Batch::new(epoch);
            for n in 0..60u8 {
                let table = Table::ALL[usize::from(n) % 3];
                let key = Bytes::from(vec![b'k', n, n.wrapping_mul(31)]);
                let value = Bytes::from(super::basics::noise(usize::from(n) * 7 + 3));
                if round == n % 3 {
                    batch.put(table, key.clone(), value.clone());
                    truth.insert((table, key), value);
                }
            }
            let seq = match store.commit(batch).await {
                Ok(seq) => seq,
                Err(e) => panic!("commit: expected success, got {e:?}"),
            };
            if let Err(e) = store.durable(seq).await {
                panic!("durable: expected success, got {e:?}");
            }
        }
        if let Err(e) = store.close().await {
            panic!("close: expected success, got {e:?}");
        }
    });

    let mut rng = fastrand::Rng::with_seed(5);
    let (mut tried, mut found) = (0, 0);
    for (path, bytes) in place.files() {
        let used: Vec<usize> = (0..bytes.len()).filter(|i| bytes[*i] != 0).collect();
        for n in 0..FLIPS {
            if used.is_empty() {
                break;
            }
            let mut bad = bytes.clone();
            let what = if n % 16 == 15 {
                bad.truncate(rng.usize(..bytes.len()));
                format!("cut to {} bytes", bad.len())
            } else {
                // Half at bytes in use, a quarter near the start where headers are, a quarter anywhere.
                let at = match n % 4 {
                    0 | 1 => used[rng.usize(..used.len())],
                    2 => rng.usize(..bytes.len().min(512)),
                    _ => rng.usize(..bytes.len()),
                };
                let bit = rng.u8(..8);
                bad[at] ^= 1 << bit;
                format!("bit {bit} of byte {at} flipped")
            };
            let damaged = harness.place();
            copy(place.path(), damaged.path()).expect("a copy of the folder");
            let relative = path
                .strip_prefix(place.path())
                .expect("a file of the folder");
            fs::write(damaged.path().join(relative), &bad).expect("a damaged file");
            let what = format!("{}: {what}", relative.display());
            match catch_unwind(AssertUnwindSafe(|| examine(&damaged, &truth))) {
                Ok(outcome) => {
                    tried += 1;
                    found += usize::from(outcome.unwrap_or_else(|e| panic!("{what}: {e}")));
                }
                Err(panic) => {
                    let text = panic.downcast_ref::<String>().map(String::as_str);
                    panic!(
                        "{what}: expected Corrupt, got a panic: {}",
                        text.unwrap_or("?")
                    );
                }
            }
        }
    }
    assert!(
        tried == 0 || found > 0,
        "none of {tried} damages was noticed: are the files of this folder read at all?"
    );
}

/// Reads everything from a damaged place: whether damage was found, or what was wrong about the answers.
fn examine(place: &Place, truth: &BTreeMap<(Table, Bytes), Bytes>) -> Result<bool, String> {
    let noticed = |e: Error| {
        if e.is_corrupt() {
            Ok(true)
        } else {
            Err(format!("expected Corrupt or the right answers, got {e:?}"))
        }
    };
    run(async {
        let store = match place.try_open(false) {
            Ok(store) => store,
            Err(e) => return noticed(e),
        };
        let mut found = false;
        for ((table, key), value) in truth {
            match store.get(*table, std::slice::from_ref(key)).await {
                Ok(got) => check(*table, key, got.into_iter().next().flatten(), value)?,
                Err(e) => found |= noticed(e)?,
            }
        }
        for table in Table::ALL {
            match store.scan(table, KeyRange::all(), usize::MAX).await {
                Ok(pairs) => {
                    for (key, got) in pairs {
                        match truth.get(&(table, key.clone())) {
                            Some(value) => check(table, &key, Some(got), value)?,
                            None => return Err(format!("a key never written: {key:?}")),
                        }
                    }
                }
                Err(e) => found |= noticed(e)?,
            }
        }
        write_on(&*store).await?;
        Ok(found)
    })
}

/// A write into a damaged store may fail, but must not panic.
async fn write_on(store: &dyn MetaStore) -> Result<(), String> {
    let Ok(epoch) = store.claim().await else {
        return Ok(());
    };
    let mut batch = Batch::new(epoch);
    for table in Table::ALL {
        batch.put(table, &b"zz"[..], vec![7; 600]);
    }
    if let Ok(seq) = store.commit(batch).await
        && store.durable(seq).await.is_ok()
        && let Ok(found) = store.get(Table::State, &[Bytes::from_static(b"zz")]).await
        && found != [Some(Bytes::from(vec![7; 600]))]
    {
        return Err(format!(
            "a value written after the damage came back as {found:?}"
        ));
    }
    Ok(())
}

fn check(table: Table, key: &Bytes, got: Option<Bytes>, value: &Bytes) -> Result<(), String> {
    match got {
        // Damage to a key or to a page's directory can hide a pair; that it never shows another value is the promise.
        None => Ok(()),
        Some(got) if got == *value => Ok(()),
        Some(got) => Err(format!(
            "table {} key {key:?}: expected {} bytes as written, got {} others",
            table.name(),
            value.len(),
            got.len()
        )),
    }
}

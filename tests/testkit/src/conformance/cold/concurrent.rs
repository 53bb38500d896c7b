//! Many callers at once, and callers that walk away.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::Barrier;
use tokio::task::JoinSet;

use super::{Harness, key, listed, noise, wait, whole};

/// Puts of different bytes under one key at the same time: exactly one is `Ok`, the others are `Conflict`, and the
/// blob is the winner's, whole.
pub fn of_two_puts_at_once_one_wins(harness: &Harness) {
    const CALLERS: usize = 6;
    let store = harness.fresh().open();
    wait(async {
        for round in 0..12 {
            let key = key(&format!("race/{round}"));
            let start = Arc::new(Barrier::new(CALLERS));
            let mut puts = JoinSet::new();
            for caller in 0..CALLERS {
                let (store, start, key) = (store.clone(), start.clone(), key.clone());
                let bytes = noise(caller as u64, 40_000 + caller);
                puts.spawn(async move {
                    start.wait().await;
                    (caller, store.put(&key, bytes).await)
                });
            }
            let mut winners = Vec::new();
            while let Some(put) = puts.join_next().await {
                match put.expect("no panic") {
                    (caller, Ok(())) => winners.push(caller),
                    (_, Err(e)) => assert!(e.is_conflict(), "expected conflict, got {e:?}"),
                }
            }
            assert_eq!(winners.len(), 1, "winners of round {round}: {winners:?}");
            let bytes = noise(winners[0] as u64, 40_000 + winners[0]);
            let back = whole(&*store, &key).await.expect("read");
            assert!(back == Some(bytes), "round {round}: not the winner's bytes");
        }
        assert_eq!(listed(&*store, "").await.len(), 12);
    });
}

/// Puts of the same bytes under one key at the same time are all `Ok`.
pub fn equal_puts_at_once_all_succeed(harness: &Harness) {
    let store = harness.fresh().open();
    wait(async {
        for round in 0..8 {
            let key = key(&format!("equal/{round}"));
            let mut puts = JoinSet::new();
            for _ in 0..6 {
                let (store, key) = (store.clone(), key.clone());
                puts.spawn(async move { store.put(&key, noise(round, 30_000)).await });
            }
            while let Some(put) = puts.join_next().await {
                put.expect("no panic").expect("equal bytes");
            }
            let back = whole(&*store, &key).await.expect("read");
            assert!(back == Some(noise(round, 30_000)));
        }
    });
}

/// While blobs are put and deleted, readers see each whole or not at all, in `size`, `read` and `list`.
pub fn readers_never_see_a_part(harness: &Harness) {
    const LEN: usize = 700_000;
    let store = harness.fresh().open();
    wait(async {
        let done = Arc::new(AtomicBool::new(false));
        let passes = tokio::sync::watch::Sender::new(0_u64);
        let mut seen = passes.subscribe();
        let mut readers = JoinSet::new();
        for reader in 0..3 {
            let (store, done, passes) = (store.clone(), done.clone(), passes.clone());
            readers.spawn(async move {
                let bytes = noise(1, LEN);
                let key = key("slow/blob");
                while !done.load(Ordering::Acquire) {
                    if reader == 0 {
                        for (name, len) in listed(&*store, "slow/").await {
                            assert_eq!((name.as_str(), len), ("slow/blob", LEN as u64));
                        }
                    }
                    let size = store.size(&key).await.expect("size");
                    assert!(size.is_none_or(|n| n == LEN as u64), "size {size:?}");
                    let ranges = [0..1000, LEN as u64 - 1000..LEN as u64];
                    if let Some(read) = store.read(&key, &ranges).await.expect("read") {
                        assert!(read[0] == bytes[..1000] && read[1] == bytes[LEN - 1000..]);
                    }
                    passes.send_modify(|passes| *passes += 1);
                    tokio::task::yield_now().await;
                }
            });
        }
        drop(passes);
        for _ in 0..25 {
            // Only while somebody looks. When nobody does any more, a reader has failed and says so below.
            let before = *seen.borrow_and_update();
            if seen.wait_for(|passes| *passes > before).await.is_err() {
                break;
            }
            let key = key("slow/blob");
            store.put(&key, noise(1, LEN)).await.expect("put");
            // A put that returned is seen by whoever asks next.
            assert_eq!(store.size(&key).await.expect("size"), Some(LEN as u64));
            tokio::task::yield_now().await;
            store.delete(&key).await.expect("delete");
        }
        done.store(true, Ordering::Release);
        while let Some(reader) = readers.join_next().await {
            reader.expect("a reader saw a part");
        }
    });
}

/// Many readers of several blobs at once each get their own bytes.
pub fn readers_at_once_see_the_same(harness: &Harness) {
    const LEN: u64 = 50_000;
    let store = harness.fresh().open();
    wait(async {
        for blob in 0..20 {
            let key = key(&format!("shared/{blob}"));
            let put = store.put(&key, noise(blob, LEN as usize)).await;
            put.expect("put");
        }
        let mut readers = JoinSet::new();
        for reader in 0..16 {
            let store = store.clone();
            readers.spawn(async move {
                let mut random = fastrand::Rng::with_seed(reader);
                for _ in 0..40 {
                    let blob = random.u64(0..20);
                    let start = random.u64(0..LEN);
                    let range = start..random.u64(start..LEN);
                    let key = key(&format!("shared/{blob}"));
                    let read = store.read(&key, std::slice::from_ref(&range)).await;
                    let read = read.expect("read").expect("present");
                    let bytes = noise(blob, LEN as usize);
                    let expected = &bytes[range.start as usize..range.end as usize];
                    assert!(read[0] == expected, "blob {blob} {range:?}");
                }
            });
        }
        while let Some(reader) = readers.join_next().await {
            reader.expect("a reader failed");
        }
    });
}

/// A caller that drops its put leaves the blob absent or whole, and the same put again is `Ok`.
pub fn a_dropped_put_leaves_all_or_nothing(harness: &Harness) {
    const LEN: usize = 300_000;
    let store = harness.fresh().open();
    wait(async {
        for round in 0..30_u64 {
            let key = key(&format!("dropped/{round:02}"));
            let mut put = store.put(&key, noise(round, LEN));
            if round % 2 == 0 {
                // From never polled to as good as done.
                for _ in 0..round / 2 {
                    if let Poll::Ready(done) = futures::poll!(put.as_mut()) {
                        done.expect("put");
                        break;
                    }
                    tokio::task::yield_now().await;
                }
                drop(put);
            } else {
                // Up to a millisecond of work; which of them finish does not matter.
                let cut = Duration::from_micros(round * 33);
                if let Ok(done) = tokio::time::timeout(cut, put).await {
                    done.expect("put");
                }
            }
            let seen = whole(&*store, &key).await.expect("read");
            assert!(seen.is_none_or(|b| b == noise(round, LEN)), "round {round}");
            for (name, len) in listed(&*store, "").await {
                assert_eq!(len, LEN as u64, "{name} is listed with a part");
            }
            let again = store.put(&key, noise(round, LEN)).await;
            again.expect("the same put again");
            assert!(whole(&*store, &key).await.expect("read") == Some(noise(round, LEN)));
        }
    });
}

/// Every method works on a runtime with one thread, where a store that blocks its worker in place cannot.
pub fn a_single_threaded_runtime_is_enough(harness: &Harness) {
    let store = harness.fresh().open();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime for the check");
    runtime.block_on(async {
        let mut calls = JoinSet::new();
        for i in 0..8_u64 {
            let store = store.clone();
            calls.spawn(async move {
                let key = key(&format!("single/{i}"));
                store.put(&key, noise(i, 90_000)).await.expect("put");
                assert!(whole(&*store, &key).await.expect("read") == Some(noise(i, 90_000)));
                assert!(!listed(&*store, "single/").await.is_empty());
                store.delete(&key).await.expect("delete");
            });
        }
        while let Some(call) = calls.join_next().await {
            call.expect("no panic");
        }
        assert_eq!(listed(&*store, "").await, []);
    });
}

//! Searches that ask for a place (`core: engine/admission.rs`).

use std::sync::Arc;

use shuttle::future::{block_on, spawn, yield_now};

use crate::shuttled::admission::Admission;
use crate::shuttled::sync::{AtomicUsize, Instant, Ordering::SeqCst};

const PLACES: usize = 2;

/// However many come, no more than the places are taken, deadlines that pass give nothing away, and at the end all is as at the beginning.
pub fn places_are_never_exceeded_and_all_come_back() {
    let admission = Arc::new(Admission::new(PLACES, 2));
    let (inside, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    block_on(async {
        let mut tasks = Vec::new();
        for _ in 0..6 {
            let (admission, inside, ended) = (admission.clone(), inside.clone(), ended.clone());
            tasks.push(spawn(async move {
                match admission.enter(Instant::Drawn).await {
                    Ok(_place) => {
                        let before = inside.fetch_add(1, SeqCst);
                        assert!(before < PLACES, "{} at once", before + 1);
                        yield_now().await;
                        inside.fetch_sub(1, SeqCst);
                    }
                    Err(error) => {
                        assert!(error.is_overloaded() && error.retry_after().is_some());
                    }
                }
                ended.fetch_add(1, SeqCst);
            }));
        }
        for task in tasks {
            task.await.expect("a task ended");
        }
        assert_eq!(ended.load(SeqCst), 6);
        assert!(!admission.is_busy(), "a place did not come back");
        // The queue is empty again: as many as it takes may wait, and get their places.
        let held = [
            admission.enter(Instant::Never).await,
            admission.enter(Instant::Never).await,
        ];
        assert!(held.iter().all(Result::is_ok));
        let waiting = {
            let admission = admission.clone();
            spawn(async move { admission.enter(Instant::Never).await.is_ok() })
        };
        yield_now().await;
        drop(held);
        assert!(waiting.await.expect("a task ended"), "a waiter was refused");
    });
}

/// A closing wakes whoever waits, and nobody is let in afterwards.
pub fn closing_wakes_all_who_wait() {
    let admission = Arc::new(Admission::new(1, 10));
    block_on(async {
        let mut tasks = Vec::new();
        for _ in 0..4 {
            let admission = admission.clone();
            tasks.push(spawn(async move {
                match admission.enter(Instant::Never).await {
                    Ok(_place) => yield_now().await,
                    Err(error) => assert!(error.is_closed(), "{error}"),
                }
            }));
        }
        let closes = admission.clone();
        tasks.push(spawn(async move {
            yield_now().await;
            closes.close();
        }));
        for task in tasks {
            task.await.expect("a task ended");
        }
        assert!(admission.enter(Instant::Never).await.is_err());
    });
}

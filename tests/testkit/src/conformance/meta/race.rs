//! Callers at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aether_core::role::{Batch, KeyRange, Table};

use super::harness::{Harness, all, b, claim, run_two};

const KEYS: usize = 24;

/// Readers beside a writer see each batch wholly or not at all within one call, and never an older one than before.
pub fn readers_see_whole_batches(harness: &Harness) {
    run_two(async {
        let place = harness.place();
        let store = place.open();
        let epoch = claim(&*store).await;
        let batch_of = |round: u32| {
            let mut batch = Batch::new(epoch);
            for key in 0..KEYS {
                // Half of the keys come and go with the round's parity, so that a torn scan shows in its length too.
                if round % 2 == 1 && key % 2 == 1 {
                    batch.delete(Table::Resident, vec![key as u8]);
                } else {
                    batch.put(
                        Table::Resident,
                        vec![key as u8],
                        round.to_le_bytes().to_vec(),
                    );
                }
            }
            batch
        };
        if let Err(e) = store.commit(batch_of(0)).await {
            panic!("commit: expected success, got {e:?}");
        }
        let done = Arc::new(AtomicBool::new(false));
        let mut readers = Vec::new();
        for reader in 0..3 {
            let (store, done) = (store.clone(), done.clone());
            readers.push(tokio::spawn(async move {
                let keys: Vec<_> = (0..KEYS).map(|k| vec![k as u8].into()).collect();
                let (mut last, mut calls) = (0, 0u32);
                while !done.load(Ordering::SeqCst) || calls < 10 {
                    calls += 1;
                    let values: Vec<_> = if (calls + reader) % 2 == 0 {
                        match store.get(Table::Resident, &keys).await {
                            Ok(found) => found.into_iter().flatten().collect(),
                            Err(e) => panic!("get beside a commit: got {e:?}"),
                        }
                    } else {
                        match store.scan(Table::Resident, KeyRange::all(), KEYS).await {
                            Ok(found) => found.into_iter().map(|(_, v)| v).collect(),
                            Err(e) => panic!("scan beside a commit: got {e:?}"),
                        }
                    };
                    let rounds: Vec<u32> = values
                        .iter()
                        .map(|v| u32::from_le_bytes(v[..].try_into().expect("4 bytes")))
                        .collect();
                    let round = rounds[0];
                    assert!(
                        rounds.iter().all(|r| *r == round),
                        "one call saw parts of several batches: {rounds:?}"
                    );
                    let expected = if round % 2 == 1 { KEYS / 2 } else { KEYS };
                    assert_eq!(
                        rounds.len(),
                        expected,
                        "one call saw a part of batch {round}"
                    );
                    assert!(round >= last, "batch {last} was seen, then batch {round}");
                    last = round;
                    tokio::task::yield_now().await;
                }
            }));
        }
        for round in 1..300 {
            if let Err(e) = store.commit(batch_of(round)).await {
                panic!("commit {round}: expected success, got {e:?}");
            }
            tokio::task::yield_now().await;
        }
        done.store(true, Ordering::SeqCst);
        for reader in readers {
            if let Err(e) = reader.await {
                std::panic::resume_unwind(e.into_panic());
            }
        }
    });
}

/// Commits asked for at once all happen, with numbers of their own; a counter guarded by preconditions misses nothing.
pub fn commits_queue(harness: &Harness) {
    run_two(async {
        let place = harness.place();
        let store = place.open();
        let epoch = claim(&*store).await;
        let mut writers = Vec::new();
        let start = Arc::new(tokio::sync::Barrier::new(4));
        for writer in 0..4u8 {
            let (store, start) = (store.clone(), start.clone());
            writers.push(tokio::spawn(async move {
                start.wait().await;
                let mut seqs = Vec::new();
                for n in 0..25u8 {
                    loop {
                        let now = match store.get(Table::State, &[b("counter")]).await {
                            Ok(mut found) => found.remove(0),
                            Err(e) => panic!("get: expected an answer, got {e:?}"),
                        };
                        let next = now.as_ref().map_or(1, |v| v[0] + 1);
                        let mut batch = Batch::new(epoch);
                        batch.require(Table::State, b("counter"), now);
                        batch.put(Table::State, b("counter"), vec![next]);
                        batch.put(Table::Fresh, vec![writer, n], vec![next]);
                        match store.commit(batch).await {
                            Ok(seq) => break seqs.push(seq),
                            Err(e) if e.is_conflict() => tokio::task::yield_now().await,
                            Err(e) => panic!("commit: expected success or Conflict, got {e:?}"),
                        }
                    }
                }
                seqs
            }));
        }
        let mut seqs = Vec::new();
        for writer in writers {
            match writer.await {
                Ok(more) => seqs.extend(more),
                Err(e) => std::panic::resume_unwind(e.into_panic()),
            }
        }
        seqs.sort();
        seqs.dedup();
        assert_eq!(seqs.len(), 100, "numbers of 100 commits");
        let mut values: Vec<u8> = all(&*store, Table::Fresh)
            .await
            .iter()
            .map(|(_, v)| v[0])
            .collect();
        values.sort();
        assert_eq!(
            values,
            (1..=100).collect::<Vec<u8>>(),
            "counter values seen"
        );
    });
}

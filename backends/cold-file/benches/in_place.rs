//! What does a range read from the page cache cost, and on which thread should it be done?
//!
//! One blob of 8 MiB, just written, so all of it is in the page cache. 16 KiB at a random place each time, on a
//! runtime of two workers. The baseline is a bare positioned read on the calling thread.
//!
//! | row | what |
//! |---|---|
//! | `bare` | `read_exact_at` on the calling thread: blocks it for as long as the disk takes |
//! | `store` | the file store through its trait: in place with `RWF_NOWAIT`, else on a blocking thread |
//! | `store, 8 ranges` | 8 ranges of 16 KiB in one call, far apart |
//! | `hop` | the same bare read by `spawn_blocking` |
//! | `block_in_place` | the same by `block_in_place`, which works on a multi-threaded runtime only |
//!
//! Not asked: reads that miss the page cache, where the disk decides.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use aether_cold_file::{FileStore, FileStoreConfig};
use aether_core::BlobKey;
use aether_core::role::ColdStore;
use criterion::{Criterion, criterion_group, criterion_main};
use tokio::runtime::{Builder, Runtime};

const BLOB_BYTES: u64 = 8 << 20;
const RANGE_BYTES: u64 = 16 << 10;

fn read_at(file: &File, at: u64) -> Vec<u8> {
    let mut bytes = vec![0; RANGE_BYTES as usize];
    file.read_exact_at(&mut bytes, at)
        .expect("the range is there");
    bytes
}

/// Drives one read a turn from a task on a worker, as the engine's searches do, and gives the time of all turns.
fn on_a_worker<F>(
    runtime: &Runtime,
    turns: u64,
    read: impl Fn(u64) -> F + Send + 'static,
) -> std::time::Duration
where
    F: Future<Output = usize> + Send,
{
    let task = runtime.spawn(async move {
        let mut place = 1_u64;
        let start = std::time::Instant::now();
        for _ in 0..turns {
            // A step that visits all places.
            place = (place * 5 + 12_345) % (BLOB_BYTES - RANGE_BYTES);
            assert_eq!(std::hint::black_box(read(place).await) as u64, RANGE_BYTES);
        }
        start.elapsed()
    });
    runtime.block_on(task).expect("no read failed")
}

fn bench(c: &mut Criterion) {
    let temp = tempfile::tempdir().expect("a folder");
    let store = FileStore::open(temp.path(), &FileStoreConfig::default(), false);
    let store = Arc::new(store.expect("the store opens"));
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .expect("a runtime");
    let key = BlobKey::new("blob").expect("a key");
    let blob: Vec<u8> = (0..BLOB_BYTES).map(|i| (i % 251) as u8).collect();
    runtime.block_on(store.put(&key, blob.into())).expect("put");
    let file = Arc::new(File::open(temp.path().join("blob")).expect("the blob's file"));

    let mut group = c.benchmark_group("16 KiB from the page cache");
    group.bench_function("bare", |b| {
        b.iter_custom(|turns| {
            let file = file.clone();
            on_a_worker(&runtime, turns, move |at| {
                let len = read_at(&file, at).len();
                async move { len }
            })
        });
    });
    group.bench_function("store", |b| {
        b.iter_custom(|turns| {
            let (store, key) = (store.clone(), key.clone());
            on_a_worker(&runtime, turns, move |at| {
                let (store, key) = (store.clone(), key.clone());
                async move {
                    let range = at..at + RANGE_BYTES;
                    let read = store.read(&key, std::slice::from_ref(&range)).await;
                    read.expect("read").expect("present")[0].len()
                }
            })
        });
    });
    group.bench_function("store, 8 ranges", |b| {
        b.iter_custom(|turns| {
            let (store, key) = (store.clone(), key.clone());
            on_a_worker(&runtime, turns, move |at| {
                let (store, key) = (store.clone(), key.clone());
                async move {
                    let far = |i| (at + i * (BLOB_BYTES / 8)) % (BLOB_BYTES - RANGE_BYTES);
                    let ranges: Vec<_> = (0..8).map(|i| far(i)..far(i) + RANGE_BYTES).collect();
                    let read = store.read(&key, &ranges).await;
                    read.expect("read").expect("present")[7].len()
                }
            })
        });
    });
    group.bench_function("hop", |b| {
        b.iter_custom(|turns| {
            let file = file.clone();
            on_a_worker(&runtime, turns, move |at| {
                let file = file.clone();
                async move {
                    let read = tokio::task::spawn_blocking(move || read_at(&file, at));
                    read.await.expect("read").len()
                }
            })
        });
    });
    group.bench_function("block_in_place", |b| {
        b.iter_custom(|turns| {
            let file = file.clone();
            on_a_worker(&runtime, turns, move |at| {
                let file = file.clone();
                async move { tokio::task::block_in_place(|| read_at(&file, at)).len() }
            })
        });
    });
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);

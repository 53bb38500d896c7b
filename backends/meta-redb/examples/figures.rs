//! How fast are the operations that the engine waits for? Prints one line for each question.
//!
//! `cargo run --release -p aether-meta-redb --example figures [FOLDER]`: the folder says which disk; a temporary one by
//! default. Data: 24 batches of 4,096 values of 1.6 KB, each made durable; then single puts; then reads of 10 random keys.
//! Syncs differ much between disks and moments: compare figures of one run only.

use std::path::Path;
use std::time::Instant;

use aether_core::Result;
use aether_core::role::{Batch, Epoch, MetaStore, Table};
use aether_meta_redb::{RedbConfig, RedbMeta};
use bytes::Bytes;

const BATCHES: u64 = 24;
const ROWS: u64 = 4_096;
const LEN: usize = 1_600;

fn main() -> Result<()> {
    let temporary = tempfile::tempdir().map_err(|e| aether_core::Error::config(e.to_string()))?;
    let dir = std::env::args().nth(1);
    let dir = dir.as_deref().map_or(temporary.path(), Path::new);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .map_err(|e| aether_core::Error::internal(e.to_string()))?;
    runtime.block_on(async {
        let config = RedbConfig {
            file: "figures.redb".to_owned(),
            ..RedbConfig::default()
        };
        let store = RedbMeta::open(dir, &config, false)?;
        let epoch = store.claim().await?;

        let start = Instant::now();
        for n in 0..BATCHES {
            let batch = rows(epoch, n * ROWS..(n + 1) * ROWS);
            let seq = store.commit(batch).await?;
            store.durable(seq).await?;
        }
        let bytes = BATCHES * ROWS * (LEN as u64 + 8);
        let rate = bytes as f64 / 1e6 / start.elapsed().as_secs_f64();
        println!("durable batches of {ROWS} x {LEN} bytes: {rate:.0} MB/s");

        let (mut commits, mut syncs) = (Vec::new(), Vec::new());
        for n in 0..200 {
            let batch = rows(epoch, 1 << 40 | n..(1 << 40 | n) + 1);
            let start = Instant::now();
            let seq = store.commit(batch).await?;
            commits.push(start.elapsed().as_secs_f64());
            store.durable(seq).await?;
            syncs.push(start.elapsed().as_secs_f64());
        }
        print("commit of one put", commits);
        print("the same, durable", syncs);

        for (name, span) in [("in redb's cache", 1_000), ("anywhere", BATCHES * ROWS)] {
            let mut times = Vec::new();
            let mut at = 1u64;
            for _ in 0..5_000 {
                let keys: Vec<Bytes> = (0..10)
                    .map(|_| {
                        at = at.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        Bytes::copy_from_slice(&((at >> 33) % span).to_be_bytes())
                    })
                    .collect();
                let start = Instant::now();
                let found = store.get(Table::Fresh, &keys).await?;
                times.push(start.elapsed().as_secs_f64());
                assert!(found.iter().all(Option::is_some));
            }
            print(&format!("get of 10 keys {name}"), times);
        }

        let image = RedbConfig {
            file: "killed.redb".to_owned(),
            ..config.clone()
        };
        for verify in [true, false] {
            std::fs::copy(dir.join(&config.file), dir.join(&image.file))
                .map_err(|e| aether_core::Error::unavailable(e.to_string()))?;
            let start = Instant::now();
            let image = RedbConfig {
                verify,
                ..image.clone()
            };
            let killed = RedbMeta::open(dir, &image, false)?;
            let ms = start.elapsed().as_secs_f64() * 1e3;
            println!(
                "opening {} MB after a kill, verify {verify}: {ms:.0} ms",
                bytes / 1_000_000
            );
            killed.close().await?;
        }
        store.close().await
    })
}

fn rows(epoch: Epoch, keys: std::ops::Range<u64>) -> Batch {
    let value = Bytes::from((0..LEN).map(|i| (i * 7) as u8).collect::<Vec<_>>());
    let mut batch = Batch::new(epoch);
    for key in keys {
        batch.put(Table::Fresh, key.to_be_bytes().to_vec(), value.clone());
    }
    batch
}

fn print(what: &str, mut seconds: Vec<f64>) {
    seconds.sort_by(f64::total_cmp);
    let at = |share: f64| seconds[(seconds.len() as f64 * share) as usize] * 1e6;
    println!("{what}: p50 {:.0} us, p99 {:.0} us", at(0.5), at(0.99));
}

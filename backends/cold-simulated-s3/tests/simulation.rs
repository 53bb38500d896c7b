//! Latencies, requests, bytes and faults as a caller sees them, in virtual time.
#![allow(
    clippy::single_range_in_vec_init,
    reason = "a list of one range is what is meant"
)]

use std::sync::Arc;
use std::time::Duration;

use aether_cold_simulated_s3::PLUGIN;
use aether_core::clock::ManualClock;
use aether_core::config::{Config, Slot};
use aether_core::plugin::{BuildContext, Role};
use aether_core::role::ColdStore;
use aether_core::{BlobKey, Metric, Registry, Result, Retry};
use bytes::Bytes;
use tokio::time::Instant;

fn registry() -> Registry {
    let mut registry = Registry::empty();
    for plugin in [
        &PLUGIN,
        &aether_cold_memory::PLUGIN,
        &aether_cold_file::PLUGIN,
    ] {
        registry.add(plugin).expect("a plug-in");
    }
    registry
}

fn open(keys: &str) -> Result<Arc<dyn ColdStore>> {
    build(&Slot::with_keys(Role::Cold, "simulated-s3", keys)?)
}

fn build(slot: &Slot) -> Result<Arc<dyn ColdStore>> {
    let registry = registry();
    let context = BuildContext {
        dim: 8,
        metric: Metric::L2,
        data_dir: None,
        clock: Arc::new(ManualClock::new()),
        seed: 7,
        read_only: false,
        hot_budget: None,
        registry: Arc::new(registry.clone()),
    };
    registry.cold(slot, &context)
}

fn around_memory(keys: &str) -> Arc<dyn ColdStore> {
    open(&format!("{keys}\n[inner]\nbackend = \"memory\"\n")).expect("the store opens")
}

fn key(name: &str) -> BlobKey {
    BlobKey::new(name).expect("a valid key")
}

fn quantile(sorted: &[Duration], share: f64) -> Duration {
    sorted[(sorted.len() as f64 * share) as usize]
}

/// The figures by which object storage is described here are those that a caller measures: 63 and 78 ms for a read, 100 and 195 for a
/// put, within 3 %. Small blobs, so that the transfer does not count.
#[tokio::test(start_paused = true)]
async fn calls_take_as_long_as_the_quantiles_say() {
    let store = around_memory("");
    let (mut puts, mut reads) = (Vec::new(), Vec::new());
    for i in 0..8000 {
        let (key, begun) = (key(&format!("{i}")), Instant::now());
        store.put(&key, Bytes::from_static(b"few")).await.unwrap();
        puts.push(begun.elapsed());
        let begun = Instant::now();
        store.read(&key, &[0..3]).await.unwrap().unwrap();
        reads.push(begun.elapsed());
    }
    reads.sort();
    puts.sort();
    for (times, share, expected) in [
        (&reads, 0.5, 63.0),
        (&reads, 0.99, 78.0),
        (&puts, 0.5, 100.0),
        (&puts, 0.99, 195.0),
    ] {
        let got = quantile(times, share).as_secs_f64() * 1e3;
        // tokio's timer rounds up to whole milliseconds.
        assert!(
            (got - 0.5 - expected).abs() < 0.03 * expected,
            "{share}: expected {expected} ms, got {got}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn bytes_take_their_time_and_far_ranges_go_at_once() {
    let flat = "read_p99 = \"63ms\"\nput_p99 = \"100ms\"\nbandwidth = \"10MB\"\ngap = \"1kB\"";
    let store = around_memory(flat);
    let begun = Instant::now();
    store
        .put(&key("a"), Bytes::from(vec![7; 5_000_000]))
        .await
        .unwrap();
    assert_eq!(begun.elapsed().as_millis(), 600);
    // Two runs: 2 kB with a gap of 500 bytes, and a megabyte, which takes 100 ms.
    let begun = Instant::now();
    let ranges = [2_000_000..3_000_000, 0..1000, 1500..2000, 7..7];
    let parts = store.read(&key("a"), &ranges).await.unwrap().unwrap();
    assert_eq!(begun.elapsed().as_millis(), 163);
    assert_eq!(
        parts.iter().map(Bytes::len).collect::<Vec<_>>(),
        [1_000_000, 1000, 500, 0]
    );
    store.size(&key("a")).await.unwrap();
    store.list("").await.unwrap();
    store.delete(&key("a")).await.unwrap();
    let usage = store.usage().unwrap();
    let requests = (
        usage.gets,
        usage.heads,
        usage.puts,
        usage.lists,
        usage.deletes,
    );
    assert_eq!(requests, (2, 1, 1, 1, 1));
    assert_eq!(
        (usage.read_bytes, usage.written_bytes),
        (1_002_000, 5_000_000)
    );
}

/// Equal seeds give equal series, whatever share of them is made to fail.
#[tokio::test(start_paused = true)]
async fn a_seed_gives_one_series() {
    async fn series(keys: &str) -> Vec<(Duration, bool)> {
        let store = around_memory(keys);
        let mut series = Vec::new();
        for _ in 0..50 {
            let begun = Instant::now();
            let ok = store.size(&key("a")).await.is_ok();
            series.push((begun.elapsed(), ok));
        }
        series
    }
    let plain = series("seed = 1").await;
    assert_eq!(plain, series("seed = 1").await);
    assert_ne!(plain, series("seed = 2").await);
    let failing = series("seed = 1\nerrors = 0.3").await;
    let times = |s: &[(Duration, bool)]| s.iter().map(|(t, _)| *t).collect::<Vec<_>>();
    assert_eq!(times(&plain), times(&failing));
    let failed = failing.iter().filter(|(_, ok)| !ok).count();
    assert!(
        (5..=25).contains(&failed),
        "{failed} of 50 at a share of 0.3"
    );
}

#[tokio::test(start_paused = true)]
async fn a_failure_has_no_effect_and_a_lost_reply_has_its_effect() {
    let store = around_memory("errors = 1.0");
    let data = Bytes::from_static(b"bytes");
    let error = store.put(&key("a"), data.clone()).await.unwrap_err();
    assert!(
        error.is_unavailable() && error.retry() == Retry::Later,
        "{error}"
    );
    for error in [
        store.read(&key("a"), &[0..1]).await.unwrap_err(),
        store.size(&key("a")).await.unwrap_err(),
        store.list("").await.unwrap_err(),
        store.delete(&key("a")).await.unwrap_err(),
    ] {
        assert_eq!(error.retry(), Retry::Later, "{error}");
    }
    let store = around_memory("lost_replies = 1.0");
    let error = store.put(&key("a"), data).await.unwrap_err();
    assert!(
        error.is_unavailable() && error.retry() == Retry::Unknown,
        "{error}"
    );
    assert_eq!(store.size(&key("a")).await.unwrap(), Some(5));
    assert_eq!(
        store.delete(&key("a")).await.unwrap_err().retry(),
        Retry::Unknown
    );
    assert_eq!(store.size(&key("a")).await.unwrap(), None);
}

/// A wrapper is as lasting as what it wraps, and a mistake inside is shown at its line.
#[test]
fn the_store_inside_is_checked_like_any_other() {
    let registry = registry();
    let slot = |inner: &str| {
        let keys = format!("[inner]\nbackend = \"{inner}\"\n");
        Slot::with_keys(Role::Cold, "simulated-s3", &keys).unwrap()
    };
    assert!(registry.persistent(&slot("file")).unwrap());
    assert!(!registry.persistent(&slot("memory")).unwrap());
    let text = "[cold]\nbackend = \"simulated-s3\"\n[cold.inner]\nbackend = \"fiel\"\n";
    let config = Config::from_toml(text).unwrap();
    let error = build(&config.cold).unwrap_err().to_string();
    assert!(
        error.contains(":4:11") && error.contains("did you mean \"file\"?"),
        "{error}"
    );
    let error = open("[inner]\nbackend = \"memory\"\ncapacty = \"1MiB\"\n").unwrap_err();
    assert!(
        error.to_string().contains("[cold.inner] unknown field"),
        "{error}"
    );
}

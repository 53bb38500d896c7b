//! The store against an S3 server of other hands, with signatures checked, replies lost and errors injected.
#![cfg(feature = "s3")]
#![allow(
    clippy::single_range_in_vec_init,
    reason = "a list of one range is what is meant"
)]

mod protocol;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use aether_cold_object_store::PLUGIN;
use aether_core::clock::ManualClock;
use aether_core::config::Slot;
use aether_core::plugin::{BuildContext, Role};
use aether_core::role::ColdStore;
use aether_core::{BlobKey, Metric, Registry, Result, Retry};
use aether_testkit::conformance::cold::{Harness, failures};
use bytes::Bytes;
use protocol::{BUCKET, KEY_ID, SECRET, Server};

/// The server keeps objects as files: a name of 200 bytes is too long for its own files, and a name cannot be another one's folder. The
/// server in `server/` takes both.
const BEYOND_THE_SERVER: &[&str] = &[
    "delete_repeats_harmlessly",
    "long_and_deep_keys_are_kept_apart",
    "a_listing_takes_any_text_as_prefix",
    "random_operations_agree_with_a_map",
];

fn keys(server: &Server, prefix: &str, secret: &str, more: &str) -> String {
    format!(
        "url = \"s3://{BUCKET}/{prefix}\"\n{more}\n[options]\nendpoint = \"{}\"\nallow_http = true\nregion = \"us-east-1\"\n\
         access_key_id = \"{KEY_ID}\"\nsecret_access_key = \"{secret}\"\n",
        server.endpoint()
    )
}

fn open_as(server: &Server, secret: &str, more: &str) -> Result<Arc<dyn ColdStore>> {
    let mut registry = Registry::empty();
    registry.add(&PLUGIN)?;
    let slot = Slot::with_keys(Role::Cold, "object-store", &keys(server, "p", secret, more))?;
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
    registry.cold(&slot, &context)
}

fn open(server: &Server, more: &str) -> Result<Arc<dyn ColdStore>> {
    open_as(server, SECRET, more)
}

fn key(name: &str) -> BlobKey {
    BlobKey::new(name).expect("a valid key")
}

const BYTES: Bytes = Bytes::from_static(b"some bytes");

#[test]
fn the_store_keeps_its_contract_over_the_real_protocol() {
    let server = Arc::new(Server::start());
    let prefixes = AtomicUsize::new(0);
    let failed = failures(|| {
        let (serving, check) = (server.clone(), prefixes.fetch_add(1, SeqCst));
        Harness::new(&PLUGIN).keys(move |folder| {
            let place = folder.file_name().expect("a numbered folder");
            let prefix = format!("{check}/{}", place.to_string_lossy());
            // A request that the server cannot answer need not be repeated for long.
            keys(&serving, &prefix, SECRET, "retries = 2")
        })
    });
    assert_eq!(failed, BEYOND_THE_SERVER);
}

#[tokio::test]
async fn a_wrong_secret_is_refused_and_not_shown() {
    let server = Server::start();
    let error = open_as(&server, "wrong-secret", "retries = 0").unwrap_err();
    assert!(
        error.is_unavailable() && error.retry() == Retry::Never,
        "{error:?}"
    );
    assert!(!error.to_string().contains("wrong-secret"), "{error}");
}

/// Start-up refuses a bucket on which two create-only puts of one key both succeed, and leaves nothing in it.
#[tokio::test]
async fn a_bucket_that_creates_twice_is_refused() {
    let server = Server::start();
    server.faults.ignore_conditions.store(true, SeqCst);
    let error = open(&server, "").unwrap_err();
    assert!(error.is_unsupported(), "{error:?}");
    assert_eq!(server.objects(), [""; 0]);
    server.faults.ignore_conditions.store(false, SeqCst);
    open(&server, "").unwrap();
    assert_eq!(server.objects(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_conditional_puts_from_two_clients_one_wins() {
    let server = Server::start();
    let clients = [
        open(&server, "").unwrap(),
        open(&server, "probe = false").unwrap(),
    ];
    let mut puts = tokio::task::JoinSet::new();
    for i in 0..16u8 {
        let client = clients[usize::from(i) % 2].clone();
        puts.spawn(async move {
            let put = client
                .put(&key("contested"), Bytes::from(vec![i; 1000]))
                .await;
            (i, put)
        });
    }
    let mut winners = Vec::new();
    while let Some(put) = puts.join_next().await {
        match put.unwrap() {
            (i, Ok(())) => winners.push(i),
            (i, Err(error)) => assert!(error.is_conflict(), "{i}: {error}"),
        }
    }
    assert_eq!(winners.len(), 1, "{winners:?}");
    for client in &clients {
        let read = client.read(&key("contested"), &[0..1000]).await;
        assert_eq!(read.unwrap().unwrap()[0], vec![winners[0]; 1000]);
    }
}

/// The story: the object was created, the reply got lost, the client sent the put again and was told that there is one. It bears the mark of
/// the first attempt, so it is no defeat, and its megabytes need not be read back. Without the client's own retries the outcome is unknown,
/// and looked up it did happen.
#[tokio::test]
async fn a_put_whose_reply_was_lost_is_recognised() {
    let server = Server::start();
    let store = open(&server, "retries = 3").unwrap();
    let large = Bytes::from(vec![7; 4 << 20]);
    server.faults.lose_replies.store(1, SeqCst);
    store.put(&key("a"), large.clone()).await.unwrap();
    assert_eq!(server.faults.lose_replies.load(SeqCst), 0);
    let usage = store.usage().unwrap();
    assert_eq!((usage.gets, usage.read_bytes), (1, 0), "{usage:?}");
    // The same bytes of another put are compared.
    store.put(&key("a"), large.clone()).await.unwrap();
    assert_eq!(store.usage().unwrap().read_bytes, 4 << 20);
    let other = store.put(&key("a"), Bytes::from(vec![8; 4 << 20])).await;
    let error = other.unwrap_err();
    assert!(error.is_conflict(), "{error}");

    let store = open(&server, "retries = 0\nprobe = false").unwrap();
    server.faults.lose_replies.store(1, SeqCst);
    let error = store.put(&key("b"), BYTES).await.unwrap_err();
    assert!(
        error.is_unavailable() && error.retry() == Retry::Unknown,
        "{error:?}"
    );
    assert_eq!(store.size(&key("b")).await.unwrap(), Some(10));
    server.faults.lose_replies.store(1, SeqCst);
    let error = store.delete(&key("b")).await.unwrap_err();
    assert_eq!(error.retry(), Retry::Unknown, "{error:?}");
    assert_eq!(store.size(&key("b")).await.unwrap(), None);
    store.delete(&key("b")).await.unwrap();
}

/// A service that asks to slow down at every third request costs time and nothing else.
#[tokio::test]
async fn injected_errors_are_ridden_out() {
    let server = Server::start();
    let store = open(&server, "").unwrap();
    server.faults.fail_every.store(3, SeqCst);
    for i in 0..20u8 {
        let (key, data) = (key(&format!("seg/{i}")), Bytes::from(vec![i; 3000]));
        store.put(&key, data.clone()).await.unwrap();
        let read = store.read(&key, &[1000..3000]).await.unwrap().unwrap();
        assert_eq!(read[0], data[1000..]);
        store.put(&key, data).await.unwrap();
        assert_eq!(store.size(&key).await.unwrap(), Some(3000));
    }
    assert_eq!(store.list("seg/").await.unwrap().len(), 20);
    let store = open(&server, "retries = 0\nprobe = false").unwrap();
    server.faults.fail_every.store(1, SeqCst);
    let error = store.read(&key("seg/1"), &[0..1]).await.unwrap_err();
    assert_eq!(error.retry(), Retry::Later, "{error:?}");
    server.faults.fail_every.store(0, SeqCst);
    store.read(&key("seg/1"), &[0..1]).await.unwrap().unwrap();
}

//! The S3 client against a server in this process that speaks as much S3 as the store uses, and misbehaves on demand.
#![cfg(feature = "s3")]
#![allow(
    clippy::single_range_in_vec_init,
    reason = "a list of one range is what is meant"
)]

mod server;

use std::sync::Arc;

use aether_cold_object_store::PLUGIN;
use aether_core::clock::ManualClock;
use aether_core::config::Slot;
use aether_core::plugin::{BuildContext, Role};
use aether_core::role::ColdStore;
use aether_core::{BlobKey, Metric, Registry, Result, Retry};
use aether_testkit::conformance::cold::Harness;
use bytes::Bytes;
use server::{Behavior, Server};

fn keys(server: &Server, prefix: &str, more: &str) -> String {
    format!(
        "url = \"s3://bucket/{prefix}\"\n{more}\n[options]\nendpoint = \"http://127.0.0.1:{}\"\nallow_http = true\n\
         region = \"here\"\naccess_key_id = \"id\"\nsecret_access_key = \"hush\"\n",
        server.port()
    )
}

fn harness() -> Harness {
    let server = Server::start();
    Harness::new(&PLUGIN).keys(move |folder| {
        let place = folder.file_name().expect("a numbered folder");
        keys(&server, &format!("some/{}", place.to_string_lossy()), "")
    })
}

aether_testkit::cold_conformance!(suite, harness());

fn open(server: &Server, more: &str) -> Result<Arc<dyn ColdStore>> {
    let mut registry = Registry::empty();
    registry.add(&PLUGIN)?;
    let slot = Slot::with_keys(Role::Cold, "object-store", &keys(server, "p", more))?;
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
    // The probe has a thread of its own, so a runtime around it does not matter.
    registry.cold(&slot, &context)
}

fn key(name: &str) -> BlobKey {
    BlobKey::new(name).expect("a valid key")
}

const BYTES: Bytes = Bytes::from_static(b"some bytes");

#[tokio::test]
async fn the_probe_leaves_nothing_behind() {
    let server = Server::start();
    open(&server, "").unwrap();
    assert!(server.objects().is_empty());
    let requests = server.take_requests();
    assert!(
        requests.iter().filter(|r| r.starts_with("PUT")).count() == 2,
        "{requests:?}"
    );
    open(&server, "probe = false").unwrap();
    assert!(server.take_requests().is_empty());
}

#[tokio::test]
async fn a_store_that_ignores_conditions_is_not_opened() {
    let server = Server::start();
    server.behave(Behavior::IgnoresConditions);
    let error = open(&server, "").unwrap_err();
    assert!(error.is_unsupported(), "{error:?}");
    assert!(server.objects().is_empty());
    open(&server, "probe = false").unwrap();
}

#[tokio::test]
async fn a_store_that_does_not_answer_is_not_opened() {
    let server = Server::start();
    server.behave(Behavior::Unavailable);
    let error = open(&server, "retries = 0").unwrap_err();
    assert!(
        error.is_unavailable() && error.retry() == Retry::Later,
        "{error:?}"
    );
}

/// The story: the object was created, the answer got lost, the client repeated the request and was told that there is
/// one already. That is its own, so the put succeeded.
#[tokio::test]
async fn a_repeated_put_that_finds_its_own_work_is_ok() {
    let server = Server::start();
    let store = open(&server, "retries = 3").unwrap();
    server.behave(Behavior::LosesNextPutsReply);
    server.take_requests();
    store.put(&key("a"), BYTES).await.unwrap();
    let puts = server.take_requests();
    assert_eq!(
        puts,
        ["PUT /bucket/p/a", "PUT /bucket/p/a", "GET /bucket/p/a"]
    );
    let other = store
        .put(&key("a"), Bytes::from_static(b"other bits"))
        .await;
    assert!(other.unwrap_err().is_conflict());
}

#[tokio::test]
async fn a_put_whose_answer_is_lost_is_of_unknown_outcome() {
    let server = Server::start();
    let store = open(&server, "retries = 0").unwrap();
    server.behave(Behavior::LosesPutReplies);
    let error = store.put(&key("a"), BYTES).await.unwrap_err();
    assert!(
        error.is_unavailable() && error.retry() == Retry::Unknown,
        "{error:?}"
    );
    // Looked up, it did happen.
    assert_eq!(store.size(&key("a")).await.unwrap(), Some(10));
    server.behave(Behavior::Sound);
    store.put(&key("a"), BYTES).await.unwrap();
}

#[tokio::test]
async fn a_put_that_is_never_answered_ends_at_the_timeout_as_unknown() {
    let server = Server::start();
    let store = open(&server, "retries = 0\ntimeout = \"300ms\"").unwrap();
    server.behave(Behavior::NeverAnswersPuts);
    let error = store.put(&key("a"), BYTES).await.unwrap_err();
    assert!(
        error.is_unavailable() && error.retry() == Retry::Unknown,
        "{error:?}"
    );
    assert_eq!(store.size(&key("a")).await.unwrap(), None);
}

#[tokio::test]
async fn failures_are_told_by_what_to_do_next() {
    let server = Server::start();
    let store = open(&server, "retries = 0").unwrap();
    store.put(&key("a"), BYTES).await.unwrap();
    for (behavior, changing, reading) in [
        (Behavior::Unavailable, Retry::Unknown, Retry::Later),
        (Behavior::Forbidden, Retry::Never, Retry::Never),
    ] {
        server.behave(behavior);
        for error in [
            store.put(&key("b"), BYTES).await.unwrap_err(),
            store.delete(&key("b")).await.unwrap_err(),
        ] {
            assert!(
                error.is_unavailable() && error.retry() == changing,
                "{error:?}"
            );
            assert!(!error.to_string().contains("hush"), "{error}");
        }
        for error in [
            store.size(&key("a")).await.unwrap_err(),
            store.read(&key("a"), &[0..5]).await.unwrap_err(),
        ] {
            assert!(
                error.is_unavailable() && error.retry() == reading,
                "{error:?}"
            );
        }
        // The crate does not tell a listing that is refused from one that failed.
        let error = store.list("").await.unwrap_err();
        assert!(error.is_unavailable() && error.retry() == Retry::Later);
    }
}

/// A proxy that cuts an answer does not make a shorter blob.
#[tokio::test]
async fn a_range_that_comes_short_is_an_error() {
    let server = Server::start();
    let store = open(&server, "retries = 0").unwrap();
    store.put(&key("a"), BYTES).await.unwrap();
    server.behave(Behavior::CutsRanges);
    let error = store.read(&key("a"), &[2..7]).await.unwrap_err();
    assert!(error.is_corrupt() || error.is_unavailable(), "{error:?}");
    server.behave(Behavior::Sound);
    let read = store.read(&key("a"), &[2..7]).await.unwrap().unwrap();
    assert_eq!(read[0], BYTES[2..7]);
}

/// Each request costs money and milliseconds.
#[tokio::test]
async fn near_ranges_are_one_request_and_a_known_length_is_not_asked_for() {
    let server = Server::start();
    let store = open(&server, "").unwrap();
    let bytes = Bytes::from(vec![7; 5 << 20]);
    store.put(&key("a"), bytes).await.unwrap();
    server.take_requests();
    let near = [0..10, 1000..2000, 500_000..500_001];
    store.read(&key("a"), &near).await.unwrap().unwrap();
    assert_eq!(server.take_requests().len(), 1);
    store
        .read(&key("a"), &[0..10, 4 << 20..5 << 20])
        .await
        .unwrap()
        .unwrap();
    assert_eq!(server.take_requests().len(), 2);
    // A restart knows no lengths.
    let store = open(&server, "probe = false").unwrap();
    store.read(&key("a"), &near).await.unwrap().unwrap();
    assert_eq!(
        server.take_requests(),
        ["HEAD /bucket/p/a", "GET /bucket/p/a"]
    );
    assert_eq!(store.read(&key("b"), &near).await.unwrap(), None);
    assert_eq!(server.take_requests(), ["HEAD /bucket/p/b"]);
}

/// Somebody else deleted the object and put a longer one: what was remembered is not held against the caller.
#[tokio::test]
async fn a_remembered_length_that_is_wrong_is_asked_for_again() {
    let server = Server::start();
    let (one, other) = (open(&server, "").unwrap(), open(&server, "").unwrap());
    one.put(&key("a"), BYTES).await.unwrap();
    other.delete(&key("a")).await.unwrap();
    other
        .put(&key("a"), Bytes::from_static(b"a much longer text"))
        .await
        .unwrap();
    let read = one.read(&key("a"), &[7..13]).await.unwrap().unwrap();
    assert_eq!(read[0], b"longer"[..]);
    other.delete(&key("a")).await.unwrap();
    assert_eq!(one.read(&key("a"), &[7..13]).await.unwrap(), None);
}

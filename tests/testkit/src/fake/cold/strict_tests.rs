#![allow(
    clippy::single_range_in_vec_init,
    reason = "a list of one range is what is meant"
)]

use super::*;
use crate::conformance::cold::Harness;
use aether_core::config::RawConfig;
use aether_core::plugin::{BuildContext, Factory, Plugin};

fn key(name: &str) -> BlobKey {
    BlobKey::new(name).unwrap()
}

fn make(raw: &RawConfig, context: &BuildContext) -> Result<Arc<dyn ColdStore>> {
    if context.read_only {
        return Err(Error::unsupported("a fake has no way to be read only"));
    }
    match raw.keys().next() {
        Some(key) => Err(Error::config(format!("unknown field `{key}`"))),
        None => Ok(Arc::new(StrictCold::new().allow_reuse())),
    }
}

static PLUGIN: Plugin = Plugin {
    name: "strict",
    crate_name: env!("CARGO_PKG_NAME"),
    summary: "the strict fake",
    options: &[],
    persistent: false,
    factory: Factory::Cold(make),
};

// A fake that breaks the contract would prove nothing about what uses it.
crate::cold_conformance!(suite, Harness::new(&PLUGIN));

#[tokio::test]
async fn contents_and_counts_are_shared_by_clones() {
    let cold = StrictCold::new();
    let other = cold.clone();
    cold.put(&key("a"), Bytes::from_static(b"abc"))
        .await
        .unwrap();
    drop(cold);
    let read = other.read(&key("a"), &[0..1, 1..3]).await.unwrap().unwrap();
    assert_eq!(read, [&b"a"[..], b"bc"]);
    let counts = other.counts();
    assert_eq!((counts.calls(), counts.ranges), (2, 2));
    assert_eq!((counts.bytes_put, counts.bytes_read), (3, 3));
}

#[tokio::test]
async fn faults_strike_the_call_that_the_hook_names() {
    let cold = StrictCold::new().with_hook(|_, n| match n {
        0 => ColdFault::FailBefore,
        1 => ColdFault::LoseReply,
        3 => ColdFault::WrongBytes,
        4 => ColdFault::LoseReply,
        5 => ColdFault::StaleList,
        7 => ColdFault::Full,
        _ => ColdFault::None,
    });
    let bytes = Bytes::from_static(b"abc");
    let failed = cold.put(&key("a"), bytes.clone()).await.unwrap_err();
    assert_eq!(failed.retry(), Retry::Later);
    assert!(cold.blobs().is_empty());
    let lost = cold.put(&key("a"), bytes.clone()).await.unwrap_err();
    assert!(lost.is_unavailable() && lost.retry() == Retry::Unknown);
    assert_eq!(cold.blobs(), [(key("a"), bytes.clone())]);
    cold.put(&key("a"), bytes.clone()).await.unwrap();
    let wrong = cold.read(&key("a"), &[0..3]).await.unwrap().unwrap();
    assert_ne!(wrong[0], bytes);
    let lost = cold.size(&key("a")).await.unwrap_err();
    assert_eq!(lost.retry(), Retry::Later);
    assert_eq!(cold.list("").await.unwrap(), []);
    assert_eq!(cold.list("").await.unwrap().len(), 1);
    assert!(cold.put(&key("b"), bytes).await.unwrap_err().is_capacity());
    assert_eq!(cold.blobs().len(), 1);
}

#[tokio::test]
async fn a_hanging_call_goes_on_when_released_and_a_dropped_one_has_its_say() {
    let cold = StrictCold::new().with_hook(|op, _| match op {
        ColdOp::Put(key, _) if key.as_str() == "before" => ColdFault::Hang,
        ColdOp::Put(key, _) if key.as_str() == "after" => ColdFault::HangAfter,
        _ => ColdFault::None,
    });
    let put = |name: &'static str| {
        let cold = cold.clone();
        tokio::spawn(async move { cold.put(&key(name), Bytes::from_static(b"x")).await })
    };
    let (before, after) = (put("before"), put("after"));
    cold.wait_for_hanging(2).await;
    assert_eq!(cold.blobs().len(), 1);
    before.abort();
    assert!(before.await.unwrap_err().is_cancelled());
    cold.release();
    after.await.unwrap().unwrap();
    assert_eq!(cold.blobs()[0].0, key("after"));
    let before = put("before");
    cold.wait_for_hanging(1).await;
    cold.release();
    before.await.unwrap().unwrap();
    assert_eq!(cold.blobs().len(), 2);
}

#[tokio::test]
async fn a_blob_name_is_never_used_twice() {
    let cold = StrictCold::new();
    cold.put(&key("a"), Bytes::new()).await.unwrap();
    cold.delete(&key("a")).await.unwrap();
    let error = cold.put(&key("a"), Bytes::new()).await.unwrap_err();
    assert!(error.is_internal(), "{error:?}");
}

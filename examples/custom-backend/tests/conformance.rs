//! The suite that every cold store must pass, over two folders, and over three that another disk joined later.

use std::sync::Arc;

use aether_core::config::RawConfig;
use aether_core::{BlobKey, BuildContext, Factory, ManualClock, Metric, Registry};
use aether_example_backend::PLUGIN;
use aether_testkit::conformance::cold::Harness;

aether_testkit::cold_conformance!(
    two_folders,
    Harness::new(&PLUGIN).with_plugin(&aether_cold_file::PLUGIN)
);

aether_testkit::cold_conformance!(
    elsewhere,
    Harness::new(&PLUGIN)
        .with_plugin(&aether_cold_file::PLUGIN)
        .keys(|folder| format!(
            "folders = [{:?}, {:?}, {:?}]",
            folder.join("a"),
            folder.join("b"),
            folder.join("c")
        ))
);

/// What was put before a folder was added is still there, cannot be put differently, and goes when it is deleted.
#[test]
fn a_folder_may_be_added() {
    let folder = tempfile::tempdir().unwrap();
    let mut registry = Registry::empty();
    registry.add(&PLUGIN).unwrap();
    registry.add(&aether_cold_file::PLUGIN).unwrap();
    let context = BuildContext {
        dim: 8,
        metric: Metric::L2,
        data_dir: Some(folder.path().to_owned()),
        clock: Arc::new(ManualClock::new()),
        seed: 1,
        read_only: false,
        hot_budget: None,
        registry: Arc::new(registry),
    };
    let open = |folders: &str| {
        let Factory::Cold(open) = PLUGIN.factory else {
            panic!("not a cold store")
        };
        let raw = RawConfig::from_toml("cold", &format!("folders = {folders}")).unwrap();
        open(&raw, &context).unwrap()
    };
    let key = |i: u32| BlobKey::new(format!("segments/{i}.seg")).unwrap();
    let bytes = |i: u32| bytes::Bytes::from(i.to_le_bytes().repeat(10));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let before = open("[\"a\", \"b\"]");
    runtime.block_on(async {
        for i in 0..40 {
            before.put(&key(i), bytes(i)).await.unwrap();
        }
    });
    drop(before);
    let after = open("[\"a\", \"b\", \"c\"]");
    runtime.block_on(async {
        assert_eq!(after.list("").await.unwrap().len(), 40);
        for i in 0..40 {
            let read = after
                .read(&key(i), std::slice::from_ref(&(0..40)))
                .await
                .unwrap()
                .unwrap();
            assert_eq!(read, [bytes(i)]);
            after.put(&key(i), bytes(i)).await.unwrap();
            assert!(
                after
                    .put(&key(i), bytes(i + 1))
                    .await
                    .unwrap_err()
                    .is_conflict()
            );
            after.delete(&key(i)).await.unwrap();
            assert_eq!(after.size(&key(i)).await.unwrap(), None);
        }
        for i in 0..40 {
            after.put(&key(i), bytes(i)).await.unwrap();
        }
    });
    let new = std::fs::read_dir(folder.path().join("c/cold"))
        .unwrap()
        .count();
    assert!(new > 5, "the new folder took no share: {new}");
}

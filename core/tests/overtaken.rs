//! Reads that are overtaken by writes between two of their steps.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use aether_core::config::SearchMode;
use aether_core::engine::Parts;
use aether_core::{Config, Memory, Point, PointId, Registry, SearchRequest};

use common::{Call, Settings, Verdict, World, complete, exact, found, ids, points, vector};

/// The time to live of a cold row is read after the row itself. When it had gone with the row in between, the row seemed to live for
/// ever, and a get answered a point that had ended long ago. Found by `orders`, `pins_feedback_and_expiry`.
#[tokio::test]
async fn a_row_that_ends_while_its_time_to_live_is_read_is_not_answered() {
    for expire in [false, true] {
        let world = World::new("64MiB");
        let memory = world.open().await;
        let point = Point::new(1, vector(1)).with_ttl(Duration::from_secs(5), false);
        memory.upsert(vec![point]).await.unwrap();
        assert_eq!(memory.demote(&ids(1..2)).await.unwrap(), 1);
        world.clock.advance(Duration::from_secs(10));

        // A get asks for the point, its row and its time to live: it stops before the third.
        let third = world.power.calls() + 3;
        world.power.script(move |call, n| match call {
            Call::Meta("get") if n == third => Verdict::Hold,
            _ => Verdict::Pass,
        });
        let getting = tokio::spawn({
            let memory = memory.clone();
            async move { memory.get(&PointId::Int(1)).await }
        });
        world.power.wait_for_held(1).await;
        if expire {
            memory.tick().await.unwrap();
        } else {
            let point = Point::new(1, vector(2));
            memory.upsert(vec![point]).await.unwrap();
        }
        world.power.release();
        let record = getting.await.unwrap().unwrap();
        let got = record.and_then(|r| r.vector);
        assert_eq!(got, (!expire).then(|| vector(2)), "expired: {expire}");
        assert_eq!(
            complete(&memory, vector(1), 5).await.hits.len(),
            usize::from(!expire)
        );
        memory.close().await.unwrap();
        world.check_clean().await;
    }
}

/// A search that began between an opening and the first write after it took the mark of that write for its own moment. It had asked the
/// hot tier before a batch deleted two points, and looked at the cold rows after it: it answered the hot one of them and not the cold one.
/// Found by `orders`, schedule 128889 of `anything_drawn`.
#[tokio::test]
async fn a_search_sees_all_of_the_first_write_after_an_opening_or_nothing() {
    for mode in [SearchMode::Complete, SearchMode::Bounded] {
        // Vectors that are in a cache are not read, and nothing would be held.
        let world = World::with(Settings {
            search: "cache = \"1B\"",
            ..Settings::default()
        });
        let memory = world.open().await;
        memory.upsert(points(0..4)).await.unwrap();
        assert_eq!(memory.demote(&ids(0..2)).await.unwrap(), 2);
        memory.close().await.unwrap();

        let memory = world.open().await;
        assert_eq!((memory.stats().hot_rows, memory.stats().points), (2, 4));
        world.power.script(|call, _| match call {
            Call::Read(_) => Verdict::Hold,
            _ => Verdict::Pass,
        });
        let request = SearchRequest::new(vector(0), 4).mode(mode).probe(1.0);
        let searching = tokio::spawn({
            let memory = memory.clone();
            let request = request.deadline(Duration::from_secs(3_600));
            async move { memory.search(request).await }
        });
        world.power.wait_for_held(1).await;
        // A cold point and a hot one, at once.
        let pair = [PointId::Int(1), PointId::Int(2)];
        assert_eq!(memory.delete(&pair).await.unwrap(), 2);
        world.power.unscript();
        world.power.release();
        let answer = searching.await.unwrap().unwrap();
        assert!(answer.coverage.is_whole(), "{:?}", answer.coverage);
        let mut seen = found(&answer);
        seen.sort_unstable();
        assert!(
            seen == [0, 1, 2, 3] || seen == [0, 3],
            "{mode:?}: a part of the deletion was seen: {seen:?}"
        );
        let after = complete(&memory, vector(0), 4).await;
        assert_eq!(found(&after), exact([0, 3].into_iter(), &vector(0), 4));
        memory.close().await.unwrap();
        world.check_clean().await;
    }
}

/// A caller may do everything in a task of its own: each future can be sent to another thread. Those of opening and of snapshots could
/// not, for they lent pages to async closures.
#[tokio::test]
async fn all_that_a_memory_does_can_be_spawned() {
    fn sent<T: Send>(future: T) -> T {
        future
    }
    let world = World::new("64MiB");
    let memory = world.open().await;
    let folder = tempfile::tempdir().unwrap();
    sent(memory.upsert(vec![Point::new(1, vector(1))]))
        .await
        .unwrap();
    sent(memory.pin(&ids(1..2))).await.unwrap();
    sent(memory.compact()).await.unwrap();
    sent(memory.get_many(&ids(1..2), Parts::NONE))
        .await
        .unwrap();
    sent(memory.tick()).await.unwrap();
    sent(memory.snapshot(folder.path().join("s")))
        .await
        .unwrap();
    sent(memory.close()).await.unwrap();
    let builder = world.builder();
    let memory = sent(async move { builder.open().await }).await.unwrap();
    assert_eq!(found(&complete(&memory, vector(1), 1).await), [1]);
    sent(memory.close()).await.unwrap();
    let builder = world.builder();
    let report = sent(async move { builder.check().await }).await.unwrap();
    assert!(report.is_clean(), "{report:#?}");
    // No folder is there: only the type counts.
    let config = Config::from_toml("[memory]\ndim = 8\n").unwrap();
    let registry = std::sync::Arc::new(Registry::empty());
    let restoring = sent(Memory::restore("/nowhere", config, registry));
    restoring.await.unwrap_err();
}

//! Blobs that are gone or damaged when a memory opens, and cold stores that are not its own.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use aether_core::config::SearchMode;
use aether_core::engine::{Answer, Cut};
use aether_core::role::Table;
use aether_core::{BlobKey, Memory, PointId, SearchRequest};
use bytes::Bytes;
use common::{Call, Settings, Verdict, World, complete, exact, found, ids, points, vector};

const ALL: u64 = 60;

/// 0..20 and 20..40 in a segment each, 40..60 hot; closed.
async fn two_segments(settings: Settings) -> World {
    let world = World::with(settings);
    let memory = world.open().await;
    memory.upsert(points(0..ALL)).await.unwrap();
    memory.demote(&ids(0..20)).await.unwrap();
    memory.demote(&ids(20..40)).await.unwrap();
    memory.close().await.unwrap();
    assert_eq!(world.segments().len(), 2);
    world
}

async fn search(memory: &Memory, mode: SearchMode) -> Answer {
    let request = SearchRequest::new(vector(9_999), ALL as usize).mode(mode);
    memory.search(request.probe(1.0)).await.unwrap()
}

/// Searches find `live` and nothing else, and say that this blob is missing.
async fn marked(memory: &Memory, key: &BlobKey, live: impl Iterator<Item = u64>) {
    let wanted = exact(live, &vector(9_999), ALL as usize);
    for mode in [SearchMode::Complete, SearchMode::Bounded] {
        let answer = search(memory, mode).await;
        let [Cut::Unreachable { error, .. }] = &answer.coverage.cuts[..] else {
            panic!("{mode:?}: {:?}", answer.coverage);
        };
        assert!(error.contains(key.as_str()), "{error}");
        assert!(!answer.coverage.proven);
        assert_eq!(found(&answer), wanted, "{mode:?}");
    }
    assert!(
        search(memory, SearchMode::HotOnly)
            .await
            .coverage
            .is_whole()
    );
}

/// Searches find `live` and nothing else, and are whole.
async fn whole(memory: &Memory, live: impl Iterator<Item = u64>) {
    let answer = complete(memory, vector(9_999), ALL as usize).await;
    assert!(answer.coverage.is_whole(), "{:?}", answer.coverage);
    assert_eq!(found(&answer), exact(live, &vector(9_999), ALL as usize));
}

/// The name by which a store is known as a memory's own.
fn mark_of(world: &World) -> Option<BlobKey> {
    let mut keys = world.cold.blobs().into_iter().map(|(key, _)| key);
    keys.find(|key| key.as_str().starts_with("owner/"))
}

fn cut_off(bytes: &Bytes) -> Option<Bytes> {
    Some(bytes.slice(..bytes.len() / 2))
}

/// The last byte of the footer, before the tail, is another.
fn garbled(bytes: &Bytes) -> Option<Bytes> {
    let mut bad = bytes.to_vec();
    let at = bad.len() - 40;
    bad[at] ^= 1;
    Some(bad.into())
}

#[tokio::test]
async fn a_memory_opens_without_a_segment_and_has_it_back_when_the_blob_is() {
    let damages: [fn(&Bytes) -> Option<Bytes>; 3] = [|_| None, cut_off, garbled];
    for (number, damage) in damages.into_iter().enumerate() {
        let world = two_segments(Settings::default()).await;
        let (key, good) = world.segments().swap_remove(0);
        world.cold.tamper(&key, damage(&good));
        let report = world.check().await;
        let names = |p: &aether_core::engine::Problem| p.what.contains(key.as_str());
        assert!(report.problems.iter().any(names), "{number}: {report:#?}");

        let memory = world.open().await;
        marked(&memory, &key, 20..ALL).await;
        let stats = memory.stats();
        assert_eq!((stats.lost_segments, stats.lost_rows), (1, 20));
        assert_eq!((stats.points, stats.cold_rows), (ALL, 40));
        let error = memory.get(&PointId::Int(3)).await.unwrap_err();
        assert!(
            error.is_corrupt() && error.to_string().contains(key.as_str()),
            "{error}"
        );
        let explained = memory.explain(&PointId::Int(3)).await.unwrap().unwrap();
        assert!(explained.home.contains("lost"), "{}", explained.home);
        assert!(memory.promote(&ids(0..3)).await.unwrap_err().is_corrupt());
        assert!(memory.get(&PointId::Int(30)).await.unwrap().is_some());
        let folder = tempfile::tempdir().unwrap();
        let error = memory.snapshot(folder.path().join("s")).await;
        assert!(error.is_err(), "a copy with a hole is none");

        // Everything else goes on, with the rows that cannot be read too.
        memory.delete(&ids(0..5)).await.unwrap();
        memory.upsert(points(5..8)).await.unwrap();
        memory.upsert(points(ALL..ALL + 10)).await.unwrap();
        memory.demote(&ids(50..55)).await.unwrap();
        memory.compact().await.unwrap();
        assert_eq!(memory.stats().lost_rows, 12);
        memory.delete(&ids(ALL..ALL + 10)).await.unwrap();
        marked(&memory, &key, (5..8).chain(20..ALL)).await;
        memory.close().await.unwrap();
        let memory = world.open().await;
        assert_eq!(memory.stats().lost_rows, 12);
        marked(&memory, &key, (5..8).chain(20..ALL)).await;

        // Found by itself while the memory runs.
        world.cold.tamper(&key, Some(good));
        memory.delete(&ids(8..10)).await.unwrap();
        world.clock.advance(Duration::from_secs(60));
        memory.tick().await.unwrap();
        assert_eq!(memory.stats().lost_segments, 0);
        whole(&memory, (5..8).chain(10..ALL)).await;
        assert!(memory.get(&PointId::Int(9)).await.unwrap().is_none());
        let record = memory.get(&PointId::Int(12)).await.unwrap().unwrap();
        assert_eq!(record.vector, Some(vector(12)));
        memory.compact().await.unwrap();
        whole(&memory, (5..8).chain(10..ALL)).await;
        memory.close().await.unwrap();
        world.check_clean().await;
    }
}

/// What is garbled on its way is read again, and so often that only a store that always garbles it hides its rows, until they are looked for.
#[tokio::test]
async fn a_footer_is_read_more_than_once_before_its_blob_is_believed_to_be_damaged() {
    const READS: u64 = 4;
    for garbled in [0, 1, 2, 3, u64::MAX] {
        let world = two_segments(Settings::default()).await;
        let (key, _) = world.segments().swap_remove(0);
        let reads = Arc::new(AtomicU64::new(0));
        let (blob, seen) = (key.clone(), reads.clone());
        world.power.script(move |call, _| match call {
            Call::Read(read) if *read == blob && seen.fetch_add(1, SeqCst) < garbled => {
                Verdict::Garble
            }
            _ => Verdict::Pass,
        });
        let memory = world.open().await;
        world.power.unscript();
        let stats = memory.stats();
        let lost = (stats.lost_segments, stats.lost_rows);
        if garbled < READS {
            assert_eq!(lost, (0, 0), "{garbled} garbled reads");
        } else {
            assert_eq!(lost, (1, 20), "every read garbled");
            marked(&memory, &key, 20..ALL).await;
            world.clock.advance(Duration::from_secs(60));
            memory.tick().await.unwrap();
            assert_eq!(memory.stats().lost_segments, 0);
        }
        // Of the footer alone: nothing else of a blob is read at an opening.
        let expected = garbled.saturating_add(1).min(READS);
        assert_eq!(reads.load(SeqCst), expected, "{garbled} garbled reads");
        whole(&memory, 0..ALL).await;
        memory.close().await.unwrap();
        world.check_clean().await;
    }
}

#[tokio::test]
async fn a_segment_whose_every_point_was_deleted_is_given_up() {
    for reopened in [false, true] {
        let world = two_segments(Settings::default()).await;
        let (key, _) = world.segments().swap_remove(0);
        world.cold.tamper(&key, None);
        let mut memory = world.open().await;
        memory.delete(&ids(0..20)).await.unwrap();
        memory.tick().await.unwrap();
        whole(&memory, 20..ALL).await;
        assert!(
            search(&memory, SearchMode::Bounded)
                .await
                .coverage
                .is_whole()
        );
        if reopened {
            memory.close().await.unwrap();
            memory = world.open().await;
            whole(&memory, 20..ALL).await;
        }
        memory.compact().await.unwrap();
        assert_eq!(memory.stats().lost_segments, 0);
        world.clock.advance(Duration::from_secs(7200));
        memory.tick().await.unwrap();
        assert_eq!(memory.stats().garbage, 0);
        memory.close().await.unwrap();
        world.check_clean().await;
        let memory = world.open().await;
        whole(&memory, 20..ALL).await;
    }
}

/// A point in RAM whose segment is gone goes cold with it, and comes back with it.
#[tokio::test]
async fn a_resident_row_whose_home_is_lost_is_not_lost() {
    let world = two_segments(Settings::default()).await;
    let memory = world.open().await;
    memory.promote(&ids(0..30)).await.unwrap();
    memory.close().await.unwrap();
    let (key, good) = world.segments().swap_remove(0);
    for damaged in [false, true] {
        // Codes and vectors of half the file: some rows can still be read.
        let mut bad = good.to_vec();
        bad[60..good.len() / 2].iter_mut().for_each(|b| *b ^= 1);
        world.cold.tamper(&key, damaged.then(|| bad.into()));
        let memory = world.open().await;
        let stats = memory.stats();
        if damaged {
            assert_eq!(stats.lost_rows, 0);
            assert!((31..50).contains(&stats.hot_rows), "{}", stats.hot_rows);
            let answer = search(&memory, SearchMode::Complete).await;
            assert!(!answer.coverage.is_whole());
            let hits = found(&answer);
            assert!((20..ALL).all(|n| hits.contains(&n)), "{hits:?}");
        } else {
            assert_eq!(stats.hot_rows, 30, "20..30 and 40..60");
            assert_eq!(stats.lost_rows, 20);
            marked(&memory, &key, 20..ALL).await;
        }
        memory.close().await.unwrap();
        world.cold.tamper(&key, Some(good.clone()));
        let memory = world.open().await;
        whole(&memory, 0..ALL).await;
        memory.promote(&ids(0..20)).await.unwrap();
        assert_eq!(memory.stats().hot_rows, 50);
        memory.close().await.unwrap();
        world.check_clean().await;
    }
}

/// Pinned rows that are lost keep no healthy ones waiting, and come back as pinned rows do.
#[tokio::test]
async fn pinned_rows_of_a_lost_segment_keep_no_others_waiting() {
    let world = two_segments(Settings::default()).await;
    let memory = world.open().await;
    memory.pin(&ids(15..25)).await.unwrap();
    memory.close().await.unwrap();
    let (key, good) = world.segments().swap_remove(0);
    // Not resident at the next opening: all of them wait for promotion, those that are lost and the others.
    let resident = world.meta.dump();
    for (table, row, _) in resident.iter().filter(|(t, ..)| *t == Table::Resident) {
        world.meta.lose(*table, row);
    }
    world.cold.tamper(&key, None);
    let memory = world.open().await;
    assert_eq!(memory.stats().hot_rows, 20);
    for _ in 0..20 {
        world.clock.advance(Duration::from_secs(7));
        memory.tick().await.unwrap();
    }
    let stats = memory.stats();
    assert_eq!(stats.hot_rows, 25, "20..25 came");
    assert_eq!(stats.restore_failures.len(), 5, "{stats:?}");
    assert!(
        stats
            .restore_failures
            .iter()
            .all(|f| f.error.contains(key.as_str()))
    );
    world.cold.tamper(&key, Some(good));
    for _ in 0..6 {
        world.clock.advance(Duration::from_secs(7));
        memory.tick().await.unwrap();
    }
    assert_eq!(memory.stats().hot_rows, 30);
    whole(&memory, 0..ALL).await;
    memory.close().await.unwrap();
    world.check_clean().await;
}

/// Of many lost segments an answer names some; all that are back are found at one look, whatever the others are.
#[tokio::test]
async fn many_lost_segments_are_counted_and_come_back() {
    let world = World::with(Settings {
        compaction: "enabled = false",
        ..Settings::default()
    });
    let memory = world.open().await;
    memory.upsert(points(0..ALL)).await.unwrap();
    for n in 0..40 {
        memory.demote(&ids(n..n + 1)).await.unwrap();
    }
    memory.close().await.unwrap();
    let all = world.segments();
    assert_eq!(all.len(), 40);
    for (key, good) in &all {
        let damaged = key.as_str() < all[12].0.as_str();
        world
            .cold
            .tamper(key, damaged.then(|| good.slice(..good.len() / 2)));
    }
    let memory = world.open().await;
    let stats = memory.stats();
    assert_eq!((stats.lost_segments, stats.lost_rows), (40, 40));
    assert_eq!(stats.lost_blobs.len(), 16);
    let answer = search(&memory, SearchMode::Bounded).await;
    assert_eq!(answer.coverage.cuts.len(), 16);
    assert_eq!(answer.coverage.cold_rows, 40);
    // Twelve stay damaged, more than end a look; the others are back.
    for (key, good) in &all[12..] {
        world.cold.tamper(key, Some(good.clone()));
    }
    for _ in 0..3 {
        world.clock.advance(Duration::from_secs(31));
        memory.tick().await.unwrap();
    }
    assert_eq!(memory.stats().lost_segments, 12);
    for (key, good) in &all[..12] {
        world.cold.tamper(key, Some(good.clone()));
    }
    world.clock.advance(Duration::from_secs(31));
    memory.tick().await.unwrap();
    whole(&memory, 0..ALL).await;
    memory.close().await.unwrap();
    world.check_clean().await;
}

/// Partitions that only a lost segment may name stay, however often the others are split.
#[tokio::test]
async fn partitions_of_a_lost_segment_stay() {
    let world = two_segments(Settings::default()).await;
    let (key, good) = world.segments().swap_remove(1);
    world.cold.tamper(&key, None);
    let memory = world.open().await;
    memory.upsert(points(100..600)).await.unwrap();
    memory.demote(&ids(100..600)).await.unwrap();
    memory.compact().await.unwrap();
    assert!(memory.stats().counted.partitions_split > 0);
    memory.delete(&ids(100..600)).await.unwrap();
    memory.compact().await.unwrap();
    memory.close().await.unwrap();
    world.cold.tamper(&key, Some(good));
    let memory = world.open().await;
    whole(&memory, 0..ALL).await;
    memory.compact().await.unwrap();
    whole(&memory, 0..ALL).await;
    memory.close().await.unwrap();
    world.check_clean().await;
}

/// A store that is not mounted has neither segments nor the mark: nothing is opened, and nothing is written there.
#[tokio::test]
async fn an_empty_store_in_the_place_of_a_full_one_is_refused() {
    let world = two_segments(Settings::default()).await;
    let all = world.cold.blobs();
    all.iter().for_each(|(key, _)| world.cold.tamper(key, None));
    let error = world.builder().open().await.unwrap_err();
    let said = error.to_string();
    assert!(error.is_corrupt(), "{said}");
    assert!(
        said.contains("none of the 2 segments") && said.contains("mounted"),
        "{said}"
    );
    assert!(world.cold.blobs().is_empty());
    for (key, bytes) in all {
        world.cold.tamper(&key, Some(bytes));
    }
    let memory = world.open().await;
    whole(&memory, 0..ALL).await;
}

/// With the mark, it is sure that the store is the right one: what is missing is lost.
#[tokio::test]
async fn a_marked_store_without_any_segment_opens() {
    let world = two_segments(Settings::default()).await;
    let all = world.segments();
    all.iter().for_each(|(key, _)| world.cold.tamper(key, None));
    let memory = world.open().await;
    assert_eq!(memory.stats().lost_rows, 40);
    let answer = search(&memory, SearchMode::Bounded).await;
    assert_eq!(answer.coverage.cuts.len(), 2);
    assert_eq!(found(&answer), exact(40..ALL, &vector(9_999), 60));
}

/// Another memory on the same store, whether it has the mark or, as those of before, only the segments.
#[tokio::test]
async fn two_memories_cannot_share_a_store() {
    let world = two_segments(Settings::default()).await;
    let mark = mark_of(&world).unwrap();
    let other = |seed: &'static str| World {
        cold: world.cold.clone(),
        ..World::with(Settings {
            memory: seed,
            ..Settings::default()
        })
    };
    let before = world.segments();
    for marked in [true, false] {
        if !marked {
            world.cold.tamper(&mark, None);
        }
        let second = other("seed = 8");
        let error = second.builder().open().await.unwrap_err();
        let said = error.to_string();
        assert_eq!(
            error.kind(),
            aether_core::error::ErrorKind::Config,
            "{said}"
        );
        assert!(said.contains("of this memory alone"), "{said}");
        assert!(second.meta.dump().is_empty(), "a refused memory is none");
        assert_eq!(world.segments(), before, "nothing was deleted");
        // In its own store it is a memory as any other.
        let own = World {
            cold: World::with(Settings::default()).cold,
            ..second
        };
        own.open().await.close().await.unwrap();
        own.check_clean().await;
    }
    // Both marks, as after a race: neither opens.
    let both = BlobKey::new("owner/00000000000000000000000000000001").unwrap();
    world.cold.tamper(&mark, Some("".into()));
    world.cold.tamper(&both, Some("".into()));
    assert!(world.builder().open().await.is_err());
    assert!(!world.check().await.is_clean());
    assert_eq!(world.segments(), before, "nothing was deleted");
    world.cold.tamper(&both, None);
    world.cold.tamper(&mark, None);
    // The first one marks its store anew.
    let memory = world.open().await;
    whole(&memory, 0..ALL).await;
    memory.close().await.unwrap();
    assert_eq!(mark_of(&world), Some(mark));
    world.check_clean().await;
}

/// A memory of before there were marks gets one; a copy is a memory of its own.
#[tokio::test]
async fn memories_without_a_number_get_one_and_copies_their_own() {
    let world = two_segments(Settings::default()).await;
    aether_core::engine::compute_in_place(true);
    let number = |world: &World| {
        let stored = world.meta.dump().into_iter();
        let mut own = stored.filter(|(t, k, _)| *t == Table::State && k == "owner");
        own.next().map(|(.., value)| value)
    };
    let own = number(&world).unwrap();
    let memory = world.open().await;
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("copy");
    memory.snapshot(&folder).await.unwrap();
    memory.close().await.unwrap();
    // Not into its own store, nor another's.
    let same = World {
        cold: world.cold.clone(),
        ..World::with(Settings::default())
    };
    let error = same.builder().restore(&folder).await.unwrap_err();
    assert!(
        error.to_string().contains("of this memory alone"),
        "{error}"
    );
    world.clock.set_wall_us(77_000_000);
    let copy = world.restored(&folder).await.unwrap();
    assert!(number(&copy).is_some_and(|n| n != own));
    let memory = copy.open().await;
    whole(&memory, 0..ALL).await;
    memory.close().await.unwrap();
    copy.check_clean().await;
    assert_ne!(mark_of(&copy), mark_of(&world));
}

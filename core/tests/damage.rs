//! Every bit of a segment flipped, one after the other, and blobs that vanish under a memory that is open: never a wrong answer, never a
//! missing row without a word.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use aether_core::config::SearchMode;
use aether_core::engine::{Answer, Cut, Parts};
use aether_core::{Memory, Metric, PointId, SearchRequest};
use common::{Call, Settings, Verdict, World, complete, exact, found, ids, points, vector};

const NO_CACHE: &str = "cache = \"1B\"";
const COLD: u64 = 10;
const ALL: u64 = 14;

fn world() -> World {
    World::with(Settings {
        search: NO_CACHE,
        ..Settings::default()
    })
}

/// Vectors, payloads and distances are those that were put in.
fn check_hits(answer: &Answer, query: &[f32], what: &str) {
    for hit in &answer.hits {
        let PointId::Int(n) = hit.id else {
            panic!("{what}: {hit:?}")
        };
        let distance = Metric::L2.distance(query, &vector(n));
        assert!((hit.distance - distance).abs() < 1e-5, "{what}: {hit:?}");
        if let Some(v) = &hit.vector {
            assert_eq!(*v, vector(n), "{what}: point {n}");
        }
        if let Some(payload) = &hit.payload {
            assert_eq!(payload["n"], n, "{what}: point {n}");
        }
    }
}

/// Whether the damage was found; panics when anything wrong was said.
async fn found_out(memory: &Memory, what: &str) -> bool {
    let query = vector(4_000);
    let request = SearchRequest::new(query.clone(), ALL as usize).mode(SearchMode::Complete);
    let answer = memory
        .search(request.parts(Parts::default()))
        .await
        .unwrap();
    check_hits(&answer, &query, what);
    let mut damaged = !answer.coverage.is_whole();
    let whole_hits = answer
        .hits
        .iter()
        .filter(|h| h.vector.is_some() && h.payload.is_some())
        .count() as u64;
    assert!(damaged || whole_hits == ALL, "{what}: a part is missing");
    for n in 0..COLD {
        match memory.get(&PointId::Int(n)).await {
            Ok(Some(record)) => {
                assert_eq!(record.vector, Some(vector(n)), "{what}: point {n}");
                assert_eq!(record.payload.unwrap()["n"], n, "{what}: point {n}");
            }
            Ok(None) => panic!("{what}: point {n} vanished without an error"),
            Err(error) => {
                assert!(error.is_corrupt(), "{what}: {error}");
                damaged = true;
            }
        }
    }
    damaged
}

#[tokio::test]
async fn every_flipped_bit_of_a_segment_is_found_or_harmless() {
    let world = world();
    let memory = world.open().await;
    memory.upsert(points(0..ALL)).await.unwrap();
    memory.demote(&ids(0..COLD)).await.unwrap();
    memory.close().await.unwrap();
    let [(key, good)] = &world.segments()[..] else {
        panic!("one segment was to be written")
    };
    let (mut marked, mut harmless) = (0u32, 0u32);
    for bit in 0..good.len() * 8 {
        let what = format!("bit {} of byte {}", bit % 8, bit / 8);
        let mut bad = good.to_vec();
        bad[bit / 8] ^= 1 << (bit % 8);
        world.cold.tamper(key, Some(bad.into()));
        let memory = world.open().await;
        if found_out(&memory, &what).await {
            marked += 1;
        } else {
            harmless += 1;
        }
        memory.close().await.unwrap();
    }
    eprintln!("{marked} marked, {harmless} harmless");
    assert!(marked > 0);
    world.cold.tamper(key, Some(good.clone()));
    let memory = world.open().await;
    assert!(!found_out(&memory, "the good bytes").await);
    memory.close().await.unwrap();
    world.check_clean().await;
}

#[tokio::test]
async fn a_blob_that_vanishes_is_named_and_the_rest_arrives_marked() {
    let world = world();
    let memory = world.open().await;
    memory.upsert(points(0..60)).await.unwrap();
    memory.demote(&ids(0..20)).await.unwrap();
    memory.demote(&ids(20..40)).await.unwrap();
    let blobs = world.segments();
    assert_eq!(blobs.len(), 2);
    let (key, bytes) = &blobs[0];
    world.cold.tamper(key, None);

    let query = vector(9_999);
    for mode in [SearchMode::Complete, SearchMode::Bounded] {
        let request = SearchRequest::new(query.clone(), 60).mode(mode);
        let answer = memory.search(request).await.unwrap();
        check_hits(&answer, &query, mode.name());
        let [Cut::Unreachable { error, .. }] = &answer.coverage.cuts[..] else {
            panic!("{mode:?}: {:?}", answer.coverage);
        };
        assert!(
            error.contains(key.as_str()) && error.contains("missing"),
            "{error}"
        );
        assert!(found(&answer).iter().all(|n| *n >= 20));
    }
    let answer = complete(&memory, query.clone(), 60).await;
    assert_eq!(found(&answer), exact(20..60, &query, 60), "the rest");
    let error = memory.get(&PointId::Int(3)).await.unwrap_err();
    assert!(
        error.is_corrupt() && error.to_string().contains(key.as_str()),
        "{error}"
    );
    let error = memory.promote(&ids(0..3)).await.unwrap_err();
    assert!(error.is_corrupt(), "{error}");
    assert!(memory.get(&PointId::Int(30)).await.unwrap().is_some());
    // Nothing was thrown away: with the blob everything is back.
    world.cold.tamper(key, Some(bytes.clone()));
    let answer = complete(&memory, query.clone(), 60).await;
    assert!(answer.coverage.is_whole());
    assert_eq!(found(&answer), exact(0..60, &query, 60));
    memory.close().await.unwrap();
    world.check_clean().await;
}

/// A snapshot that says that it is whole holds no bytes that were garbled on their way, or damaged where they lie.
#[tokio::test]
async fn a_snapshot_of_damaged_bytes_is_none() {
    let world = world();
    let memory = world.open().await;
    memory.upsert(points(0..ALL)).await.unwrap();
    memory.demote(&ids(0..COLD)).await.unwrap();
    let [(key, good)] = &world.segments()[..] else {
        panic!("one segment was to be written")
    };
    let is_refused = async |what: &str| {
        let folder = tempfile::tempdir().unwrap();
        let error = memory.snapshot(folder.path()).await.expect_err(what);
        assert!(error.is_corrupt(), "{what}: {error}");
        assert!(error.to_string().contains(key.as_str()), "{what}: {error}");
        assert!(!folder.path().join("DONE").exists(), "{what}");
    };
    world.power.script(|call, _| match call {
        Call::Read(_) => Verdict::Garble,
        _ => Verdict::Pass,
    });
    is_refused("garbled on its way").await;
    world.power.unscript();
    // Some of every part, header and tail among them.
    for byte in (0..good.len()).step_by(5) {
        let mut bad = good.to_vec();
        bad[byte] ^= 1 << (byte % 8);
        world.cold.tamper(key, Some(bad.into()));
        is_refused(&format!("byte {byte}")).await;
    }
    for end in [0, 10, good.len() / 2, good.len() - 1] {
        world.cold.tamper(key, Some(good.slice(..end)));
        is_refused(&format!("cut at byte {end}")).await;
    }
    world.cold.tamper(key, Some(good.clone()));
    let folder = tempfile::tempdir().unwrap();
    memory.snapshot(folder.path()).await.unwrap();
    memory.close().await.unwrap();
    aether_core::engine::compute_in_place(true);
    let copy = world.restored(folder.path()).await.unwrap();
    copy.check_clean().await;
}

//! Bytes that a released version wrote still open. `tests/golden` holds a whole memory and a snapshot of each format version; the tests work
//! on copies. `AETHER_BLESS=1 cargo test --test format -- --ignored` writes them anew, which is right for a new format version only: its files
//! then go beside the old ones, which stay.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod written;

use std::path::PathBuf;
use std::sync::Arc;

use aether::config::SearchMode;
use aether::role::{Fidelity, Tier};
use aether::seal::checksum;
use aether::{BlockingMemory, Memory, Metric, Parts, SearchRequest};
use written::{
    DELETED, DIM, POINTS, check, config_of, copy, files, golden, id_of, live, payload_of, point_of,
    vector_of, version_of,
};

/// All that may lie in the folder.
const BYTES_MAX: u64 = 300 << 10;
/// What `bless` writes.
const VERSION: u32 = 2;

/// Everything that was written is there, answers and is where it was.
fn answers(memory: &BlockingMemory) {
    let stats = memory.stats();
    assert_eq!(stats.points, live().count() as u64);
    assert!(
        stats.segments >= 2 && stats.hot_rows > 0 && stats.cold_rows > 0,
        "{stats:?}"
    );
    for i in 0..POINTS {
        let record = memory.get(&id_of(i)).unwrap();
        if DELETED.contains(&i) {
            assert_eq!(record, None, "point {i} is back");
            continue;
        }
        let record = record.unwrap();
        assert_eq!(
            record.vector.unwrap(),
            vector_of(version_of(i)),
            "point {i}"
        );
        assert_eq!(record.payload, payload_of(i), "point {i}");
        assert_eq!(record.fidelity, Fidelity::Exact);
    }
    let query = vector_of(5000);
    let mut truth: Vec<f32> = live()
        .map(|i| Metric::L2.distance(&query, &vector_of(version_of(i))))
        .collect();
    truth.sort_by(f32::total_cmp);
    let request = SearchRequest::new(query, POINTS as usize).mode(SearchMode::Complete);
    let answer = memory.search(request).unwrap();
    assert!(answer.coverage.is_whole());
    let found: Vec<f32> = answer.hits.iter().map(|h| h.distance).collect();
    assert_eq!(found, truth);
    let pinned = memory.explain(&id_of(80)).unwrap().unwrap();
    assert!(pinned.pinned && pinned.tier == Tier::Hot, "{pinned}");
    let mortal = memory
        .get_many(&[id_of(81)], Parts::NONE)
        .unwrap()
        .remove(0)
        .unwrap();
    assert!(mortal.expires_in.is_some(), "the time to live is gone");
}

#[test]
fn a_memory_of_version_1_opens_answers_and_goes_on() {
    opens_answers_and_goes_on("memory-v1");
}

#[test]
fn a_memory_of_version_2_opens_answers_and_goes_on() {
    opens_answers_and_goes_on("memory-v2");
}

fn opens_answers_and_goes_on(name: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("memory");
    copy(&golden(name), &path);
    let config = config_of(&path);
    let report = check(&config);
    assert!(report.is_clean(), "{report:#?}");
    assert_eq!(report.points, live().count() as u64);
    assert!(
        report.segments >= 2 && report.dead_rows > 0 && report.fresh_rows > 0,
        "{report:?}"
    );
    let memory = aether::open_blocking(config.clone()).unwrap();
    answers(&memory);
    // A bounded search of every partition finds the same, by codes where there are any.
    let request = SearchRequest::new(vector_of(5000), 10)
        .mode(SearchMode::Bounded)
        .probe(1.0);
    let bounded = memory.search(request).unwrap();
    let request = SearchRequest::new(vector_of(5000), 10).mode(SearchMode::Complete);
    assert_eq!(bounded.hits, memory.search(request).unwrap().hits);
    assert_eq!(
        bounded.coverage.cold_rows_estimated > 0,
        name == "memory-v2"
    );
    // What is written now lives beside what was written then.
    memory.upsert((200..220).map(point_of).collect()).unwrap();
    memory
        .demote(&(205..220).map(id_of).collect::<Vec<_>>())
        .unwrap();
    assert_eq!(memory.promote(&[id_of(1), id_of(2)]).unwrap(), 2);
    // A copy checks every part of both layouts.
    let snapshot = folder.path().join("snapshot");
    assert!(memory.snapshot(&snapshot).unwrap().segments > report.segments);
    memory.close().unwrap();
    drop(memory);
    let report = check(&config);
    assert!(report.is_clean(), "{report:#?}");
    assert_eq!(report.points, live().count() as u64 + 20);
}

#[test]
fn a_snapshot_of_version_1_restores() {
    restores("snapshot-v1");
}

#[test]
fn a_snapshot_of_version_2_restores() {
    restores("snapshot-v2");
}

fn restores(name: &str) {
    let folder = tempfile::tempdir().unwrap();
    let config = config_of(&folder.path().join("memory"));
    let registry = Arc::new(aether::registry().unwrap());
    let report = BlockingMemory::restore(&golden(name), config.clone(), registry).unwrap();
    assert!(report.segments >= 2 && report.entries > 0, "{report:?}");
    let memory = aether::open_blocking(config.clone()).unwrap();
    answers(&memory);
    memory.close().unwrap();
    drop(memory);
    assert!(check(&config).is_clean());
}

/// The bytes of the segment as core/FORMAT.md draws them, one field after another.
#[test]
fn a_segment_of_version_1_is_what_the_format_page_says() {
    let named = |p: &PathBuf| p.extension().is_some_and(|e| e == "seg");
    let path = files(&golden("snapshot-v1"))
        .into_iter()
        .find(named)
        .unwrap();
    let file = std::fs::read(path).unwrap();
    let u32_at = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
    let u64_at = |at: usize| u64::from_le_bytes(file[at..at + 8].try_into().unwrap());
    assert_eq!(&file[..8], b"AETHSEG\x01");
    assert_eq!((u32_at(8), u32_at(12) as usize), (1, DIM));
    let segment = u64_at(16);
    let tail = file.len() - 40;
    let (footer, footer_bytes) = (u64_at(tail) as usize, u32_at(tail + 8) as usize);
    assert_eq!((u32_at(tail + 12), u64_at(tail + 16)), (1, segment));
    assert_eq!(&file[tail + 24..tail + 32], b"AETHSEG\x01");
    assert_eq!(u64_at(tail + 32), checksum(&file[tail..tail + 32], segment));
    assert_eq!(footer + footer_bytes, tail);
    assert_eq!(u64_at(tail - 8), checksum(&file[footer..tail - 8], segment));
    let (blocks, rows) = (u32_at(footer), u32_at(footer + 4));
    let (mut at, mut counted) = (24, 0);
    for block in 0..blocks as usize {
        let entry = footer + 20 + 32 * block;
        assert_eq!(
            u64_at(entry + 8) as usize,
            at,
            "block {block} begins where the one before ends"
        );
        counted += u32_at(entry + 4);
        for part in 0..4 {
            let length = u32_at(entry + 16 + 4 * part) as usize;
            let seed = segment.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ at as u64;
            let seal = u64_at(at + length - 8);
            assert_eq!(
                seal,
                checksum(&file[at..at + length - 8], seed),
                "block {block} part {part}"
            );
            at += length;
        }
    }
    assert_eq!((at, counted), (footer, rows));
}

/// The same of version 2.
#[test]
fn a_segment_of_version_2_is_what_the_format_page_says() {
    let named = |p: &PathBuf| p.extension().is_some_and(|e| e == "seg");
    let path = files(&golden("snapshot-v2"))
        .into_iter()
        .find(named)
        .unwrap();
    let file = std::fs::read(path).unwrap();
    let u32_at = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
    let u64_at = |at: usize| u64::from_le_bytes(file[at..at + 8].try_into().unwrap());
    assert_eq!(&file[..8], b"AETHSEG\x01");
    assert_eq!((u32_at(8), u32_at(12) as usize), (2, DIM));
    let segment = u64_at(16);
    let tail = file.len() - 40;
    let (footer, footer_bytes) = (u64_at(tail) as usize, u32_at(tail + 8) as usize);
    assert_eq!((u32_at(tail + 12), u64_at(tail + 16)), (2, segment));
    assert_eq!(u64_at(tail + 32), checksum(&file[tail..tail + 32], segment));
    assert_eq!(footer + footer_bytes, tail);
    assert_eq!(u64_at(tail - 8), checksum(&file[footer..tail - 8], segment));
    let (blocks, rows) = (u32_at(footer) as usize, u32_at(footer + 4));
    let (groups, group_rows, bits) = (
        u32_at(footer + 20),
        u32_at(footer + 24),
        u32_at(footer + 28),
    );
    assert_eq!(bits, 4);
    let entry = |block: usize, field: usize| u32_at(footer + 32 + 32 * block + 4 * field);
    let group = |g: u32| u32_at(footer + 32 + 32 * blocks + 4 * g as usize) as usize;
    assert_eq!((0..blocks).map(|b| entry(b, 1)).sum::<u32>(), rows);
    let mut at = 24;
    let mut sealed = |length: usize, what: &str| {
        let seed = segment.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ at as u64;
        assert_eq!(
            u64_at(at + length - 8),
            checksum(&file[at..at + length - 8], seed),
            "{what} at {at}"
        );
        at += length;
        at - length
    };
    for b in 0..blocks {
        let n = entry(b, 1) as usize;
        let rows_at = sealed(entry(b, 3) as usize, "rows");
        assert_eq!(
            (file[rows_at + 8], entry(b, 3) as usize),
            (4, 9 + 4 * n + 8)
        );
        // Four dimensions are padded to eight, of four bits each.
        assert_eq!(entry(b, 4) as usize, n * (12 + 4) + 8);
        sealed(entry(b, 4) as usize, "codes");
    }
    let mut g = 0;
    for b in 0..blocks {
        let of_block = g..g + entry(b, 1).div_ceil(group_rows);
        g = of_block.end;
        let lengths: usize = of_block
            .map(|g| {
                sealed(group(g), "group");
                group(g)
            })
            .sum();
        assert_eq!(lengths, entry(b, 5) as usize);
    }
    assert_eq!(g, groups);
    for b in 0..blocks {
        sealed(entry(b, 6) as usize, "keys");
        sealed(entry(b, 7) as usize, "payloads");
    }
    assert_eq!(at, footer);
}

#[test]
fn golden_files_stay_small() {
    let sizes = files(&golden(""))
        .into_iter()
        .map(|p| std::fs::metadata(p).unwrap().len());
    let bytes: u64 = sizes.sum();
    assert!(bytes <= BYTES_MAX, "{bytes} bytes");
}

/// Writes the golden files; a test only so that it needs no program of its own.
#[test]
#[ignore = "writes tests/golden; run with AETHER_BLESS=1 for a new format version"]
fn bless() {
    if std::env::var_os("AETHER_BLESS").is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("memory");
    let config = config_of(&path);
    let memory = aether::open_blocking(config).unwrap();
    written::write(&memory, vector_of);
    let (whole, snapshot) = (format!("memory-v{VERSION}"), format!("snapshot-v{VERSION}"));
    for name in [&whole, &snapshot] {
        let old = golden(name);
        if old.exists() {
            std::fs::remove_dir_all(&old).unwrap();
        }
    }
    memory.snapshot(&golden(&snapshot)).unwrap();
    answers(&memory);
    memory.close().unwrap();
    drop(memory);
    // The smallest metadata file: the snapshot restored, without what came and went before.
    let small = config_of(&folder.path().join("small"));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let registry = Arc::new(aether::registry().unwrap());
    runtime
        .block_on(Memory::restore(golden(&snapshot), small.clone(), registry))
        .unwrap();
    let memory = aether::open_blocking(small.clone()).unwrap();
    memory.close().unwrap();
    let (from, to) = (small.memory.path, golden(&whole));
    copy(&from, &to);
    let plain = std::fs::File::open(from.join("meta.redb")).unwrap();
    let packed = zstd::stream::encode_all(plain, 19).unwrap();
    std::fs::write(to.join("meta.redb.zst"), packed).unwrap();
    for needless in ["LOCK", "cold/.lock", "meta.redb", "meta.redb.watermark"] {
        std::fs::remove_file(to.join(needless)).unwrap();
    }
}

//! Snapshots: what was saved comes back with its graph; anything else is refused and leaves the index empty.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::io::{Error as IoError, Read, Write};

use aether_core::role::{HotIndex, SearchOptions};
use aether_core::{Metric, Row};
use aether_hot_hnsw::{HnswConfig, HnswIndex};
use common::{blobs, exact, index, one_thread, recall, rows};

fn save(index: &HnswIndex) -> Vec<u8> {
    let mut bytes = Vec::new();
    index.save(&mut bytes).unwrap();
    bytes
}

/// Rows and vectors of the golden file; small whole numbers, so that every machine makes the same.
fn golden_vector(row: u64) -> Vec<f32> {
    (0..5)
        .map(|i| ((row * 31 + i * 17) % 23) as f32 - 11.0)
        .collect()
}

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/v1.hnsw");

/// A snapshot written by version 1 still opens. `AETHER_WRITE_GOLDEN=1` writes it when the version is a new one.
#[test]
fn the_golden_file_of_version_1_still_opens() {
    let fresh = index(5, Metric::Cosine);
    if std::env::var_os("AETHER_WRITE_GOLDEN").is_some() {
        for row in 0..60 {
            fresh.insert(Row(row), &golden_vector(row)).unwrap();
        }
        for row in (0..60).step_by(7) {
            fresh.remove(Row(row)).unwrap();
        }
        std::fs::write(GOLDEN, save(&fresh)).unwrap();
        fresh.load(&mut [].as_slice()).unwrap_err();
    }
    let bytes = std::fs::read(GOLDEN).unwrap();
    let loaded = index(5, Metric::Cosine);
    loaded.load(&mut bytes.as_slice()).unwrap();
    let mut found = loaded.rows();
    found.sort_unstable();
    let expected: Vec<Row> = (0..60).filter(|r| r % 7 != 0).map(Row).collect();
    assert_eq!(found, expected);
    let mut out = [0.0; 5];
    for row in expected {
        assert!(loaded.read(row, &mut out).unwrap());
        assert_eq!(out.to_vec(), golden_vector(row.0));
    }
    assert_eq!(save(&loaded), bytes, "the same bytes are written again");
}

#[test]
fn a_loaded_index_answers_as_the_saved_one_and_goes_on_growing() {
    let (dim, n) = (40, 4_000usize);
    let mut rng = fastrand::Rng::with_seed(2);
    let all = blobs(&mut rng, n + 1_050, dim, 800);
    let (base, rest) = all.split_at(n * dim);
    let (more, queries) = rest.split_at(1_000 * dim);
    for metric in Metric::ALL {
        let saved = index(dim, metric);
        saved.insert_batch(&rows(0..n as u64), base).unwrap();
        for row in (0..n as u64).step_by(5) {
            saved.remove(Row(row)).unwrap();
        }
        let bytes = save(&saved);
        let loaded = index(dim, metric);
        loaded.load(&mut bytes.as_slice()).unwrap();
        assert_eq!(loaded.len(), saved.len());
        assert!(loaded.bytes() <= saved.bytes());
        assert_eq!(loaded.stats().removed, 0);
        let options = SearchOptions::default();
        for query in queries.chunks_exact(dim) {
            let answer = |i: &HnswIndex| i.search(query, 10, &exact()).unwrap();
            assert_eq!(answer(&loaded), answer(&saved));
        }
        let (a, b) = (
            recall(&saved, queries, dim, 10, &options),
            recall(&loaded, queries, dim, 10, &options),
        );
        println!("{metric}: saved {a:.4}, loaded {b:.4}");
        assert!((a - b).abs() < 0.01);
        loaded.insert_batch(&rows(10_000..11_000), more).unwrap();
        assert!(recall(&loaded, queries, dim, 10, &options) > b - 0.02);
        let error = loaded.load(&mut bytes.as_slice()).unwrap_err();
        assert!(error.is_invalid_input(), "{error}");
        // Emptied by hand, it takes a snapshot as if it were new.
        for row in loaded.rows() {
            loaded.remove(row).unwrap();
        }
        loaded.load(&mut bytes.as_slice()).unwrap();
        assert_eq!(save(&loaded), bytes);
    }
}

#[test]
fn an_empty_index_can_be_saved_and_loaded() {
    let bytes = save(&index(3, Metric::L2));
    let loaded = index(3, Metric::L2);
    loaded.load(&mut bytes.as_slice()).unwrap();
    assert!(loaded.is_empty());
    loaded.insert(Row(1), &[1.0; 3]).unwrap();
    assert_eq!(loaded.search(&[0.0; 3], 1, &exact()).unwrap().len(), 1);
}

/// A snapshot made with other lists gives its vectors, which are linked anew.
#[test]
fn a_snapshot_made_with_another_m_is_linked_anew() {
    let dim = 24;
    let mut rng = fastrand::Rng::with_seed(4);
    let all = blobs(&mut rng, 2_050, dim, 500);
    let (base, queries) = all.split_at(2_000 * dim);
    let with = |m| {
        let config = HnswConfig {
            m,
            ..HnswConfig::default()
        };
        one_thread(dim, Metric::L2, config)
    };
    let saved = with(8);
    saved.insert_batch(&rows(0..2_000), base).unwrap();
    for m in [4, 24] {
        let loaded = with(m);
        loaded.load(&mut save(&saved).as_slice()).unwrap();
        assert_eq!(loaded.len(), 2_000);
        let recall = recall(&loaded, queries, dim, 10, &SearchOptions::default());
        assert!(recall > 0.9, "m {m}: {recall}");
    }
}

/// Every byte of a small snapshot, flipped in every bit and at every cut, is an error, and the index is empty and usable.
#[test]
fn every_flipped_byte_and_every_cut_is_found() {
    let saved = index(3, Metric::Cosine);
    for row in 1..8u64 {
        saved.insert(Row(row), &[row as f32, 1.0, -2.0]).unwrap();
    }
    let bytes = save(&saved);
    let target = index(3, Metric::Cosine);
    let refused = |bad: &[u8], what: &str| {
        let error = target.load(&mut &*bad).unwrap_err();
        assert!(error.is_corrupt(), "{what}: {error}");
        assert!(target.is_empty() && target.rows().is_empty(), "{what}");
    };
    for i in 0..bytes.len() {
        for mask in [0x01, 0x80, 0xff] {
            let mut bad = bytes.clone();
            bad[i] ^= mask;
            refused(&bad, &format!("byte {i} ^ {mask:#x}"));
        }
        refused(&bytes[..i], &format!("cut at {i}"));
    }
    refused(&[&bytes[..], &[0]].concat(), "one byte more");
    let mut exchanged = bytes.clone();
    exchanged.extend_from_slice(&bytes);
    refused(&exchanged, "twice");
    assert!(target.bytes() < 20_000, "memory was given back");
    target.load(&mut bytes.as_slice()).unwrap();
    assert_eq!(target.len(), 7);
}

#[test]
fn another_dimension_or_metric_is_refused_with_both_named() {
    let saved = index(4, Metric::L2);
    saved.insert(Row(1), &[1.0; 4]).unwrap();
    let bytes = save(&saved);
    for (dim, metric, words) in [
        (5, Metric::L2, "dimension: expected 5, got 4"),
        (4, Metric::Cosine, "metric number: expected 2, got 0"),
    ] {
        let error = index(dim, metric).load(&mut bytes.as_slice()).unwrap_err();
        assert!(
            error.is_corrupt() && error.to_string().contains(words),
            "{error}"
        );
    }
}

/// One that a later version may write: refused, and the rows come from their homes.
#[test]
fn another_version_is_refused_with_both_named() {
    let saved = index(4, Metric::L2);
    saved.insert(Row(1), &[1.0; 4]).unwrap();
    let mut bytes = save(&saved);
    // Magic, version, dimension, metric, m, rows, nothing; then the seal.
    let mut header = bytes[..40].to_vec();
    header[8..12].copy_from_slice(&2u32.to_le_bytes());
    aether_core::seal::seal(&mut header, 0, 0);
    bytes[..header.len()].copy_from_slice(&header);
    let target = index(4, Metric::L2);
    let error = target.load(&mut bytes.as_slice()).unwrap_err();
    let words = "version: expected 1, got 2; rebuild the index";
    assert!(
        error.is_corrupt() && error.to_string().contains(words),
        "{error}"
    );
    assert!(target.is_empty());
}

/// Sealed blocks that nobody would write: forged counts, links and rows are refused by what they say.
#[test]
fn forged_snapshots_are_refused() {
    let header = |rows: u64| {
        let mut bytes = b"AETHHNSW".to_vec();
        for word in [1u32, 2, 0, 16] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        bytes.extend_from_slice(&rows.to_le_bytes());
        bytes.extend_from_slice(&[0; 8]);
        aether_core::seal::seal(&mut bytes, 0, 0);
        bytes
    };
    let row = |row: u64, level: u32, links: &[u32], vector: [f32; 2]| {
        let mut bytes = row.to_le_bytes().to_vec();
        bytes.extend_from_slice(&level.to_le_bytes());
        bytes.extend_from_slice(&(links.len() as u32).to_le_bytes());
        links
            .iter()
            .for_each(|l| bytes.extend_from_slice(&l.to_le_bytes()));
        vector
            .iter()
            .for_each(|x| bytes.extend_from_slice(&x.to_le_bytes()));
        bytes
    };
    let block = |number: u64, body: &[u8]| {
        let mut bytes = (body.len() as u32).to_le_bytes().to_vec();
        bytes.extend_from_slice(body);
        aether_core::seal::seal(&mut bytes, 0, number);
        bytes
    };
    let load = |parts: &[Vec<u8>]| {
        let index = index(2, Metric::L2);
        let result = index.load(&mut parts.concat().as_slice());
        assert!(result.is_ok() || (index.is_empty() && index.bytes() < 20_000));
        result
    };
    let good = row(7, 0, &[0], [1.0, 2.0]);
    load(&[header(1), block(1, &good)]).unwrap();
    for (what, parts, words) in [
        (
            "more rows than told",
            vec![header(1), block(1, &[good.clone(), good.clone()].concat())],
            "expected 1 rows",
        ),
        (
            "fewer rows than told",
            vec![header(9), block(1, &good)],
            "cut short",
        ),
        (
            "as many as can be",
            vec![header(1 << 28), block(1, &good)],
            "cut short",
        ),
        (
            "more than can be",
            vec![header(u64::MAX), block(1, &good)],
            "at most 268435456 rows",
        ),
        (
            "one row twice",
            vec![header(2), block(1, &[good.clone(), good.clone()].concat())],
            "row 7 twice",
        ),
        (
            "a link beyond",
            vec![header(1), block(1, &row(7, 0, &[1], [1.0, 2.0]))],
            "expected a link below 1, got 1",
        ),
        (
            "too many links",
            vec![header(1), block(1, &row(7, 0, &[0; 33], [1.0, 2.0]))],
            "at most 32 links",
        ),
        (
            "a high level",
            vec![header(1), block(1, &row(7, 64, &[], [1.0, 2.0]))],
            "level below 64",
        ),
        (
            "not a number",
            vec![header(1), block(1, &row(7, 0, &[], [1.0, f32::NAN]))],
            "finite",
        ),
        (
            "half a row",
            vec![header(1), block(1, &good[..good.len() - 1])],
            "more bytes of a row",
        ),
        (
            "another place",
            vec![header(1), block(2, &good)],
            "checksum",
        ),
        (
            "an empty block",
            vec![header(1), block(1, &[])],
            "body of 1 to",
        ),
    ] {
        let error = load(&parts).unwrap_err();
        assert!(
            error.is_corrupt() && error.to_string().contains(words),
            "{what}: {error}"
        );
    }
}

/// Streams that fail are unavailable, not corrupt.
#[test]
fn failing_streams_are_told_from_damage() {
    struct Failing(usize);
    impl Write for Failing {
        fn write(&mut self, bytes: &[u8]) -> Result<usize, IoError> {
            if self.0 < bytes.len() {
                return Err(IoError::other("disk gone"));
            }
            self.0 -= bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> Result<(), IoError> {
            Ok(())
        }
    }
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> Result<usize, IoError> {
            Err(IoError::other("disk gone"))
        }
    }
    let index = index(2, Metric::L2);
    index.insert(Row(1), &[1.0; 2]).unwrap();
    for room in [0, 48, 60] {
        let error = index.save(&mut Failing(room)).unwrap_err();
        assert_eq!(error.kind(), aether_core::ErrorKind::Unavailable);
        assert!(error.to_string().contains("disk gone"), "{error}");
    }
    let empty = common::index(2, Metric::L2);
    let error = empty.load(&mut Failing(0)).unwrap_err();
    assert_eq!(error.kind(), aether_core::ErrorKind::Unavailable);
    assert!(empty.is_empty());
}

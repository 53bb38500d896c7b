use super::*;
use aether_core::config::ByteSize;
use aether_core::role::RowFilter;
use aether_core::vector::Shape;

fn small(metric: Metric, dim: usize) -> Flat {
    let config = FlatConfig {
        chunk: ByteSize(1 << 16),
    };
    Flat::new(&config, metric, dim).unwrap()
}

fn sample(metric: Metric) -> Flat {
    let flat = small(metric, 3);
    for row in 0..7u64 {
        let x = row as f32;
        flat.insert(Row(row * row), &[x - 2.5, -x, 0.5 + x])
            .unwrap();
    }
    flat.remove(Row(16)).unwrap();
    flat
}

#[test]
fn the_snapshot_format_of_version_1_is_still_written_and_read() {
    let mut bytes = Vec::new();
    sample(Metric::Cosine).save(&mut bytes).unwrap();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/snapshot-v1.bin");
    if std::env::var_os("AETHER_BLESS").is_some() {
        std::fs::write(path, &bytes).unwrap();
    }
    let golden = std::fs::read(path).unwrap();
    assert_eq!(bytes, golden);
    let loaded = small(Metric::Cosine, 3);
    loaded.load(&mut golden.as_slice()).unwrap();
    let mut out = [0.0; 3];
    assert!(loaded.read(Row(25), &mut out).unwrap());
    assert_eq!(out, [2.5, -5.0, 5.5]);
    assert_eq!(loaded.len(), 6);
}

#[test]
fn a_header_that_lies_with_a_good_seal_allocates_nothing_and_is_refused() {
    let mut bytes = Vec::new();
    sample(Metric::L2).save(&mut bytes).unwrap();
    for rows in [5u64, 7, u64::MAX, 1 << 60] {
        let mut lying = bytes[..32].to_vec();
        lying[24..32].copy_from_slice(&rows.to_le_bytes());
        aether_core::seal::seal(&mut lying, 0, 0);
        lying.extend_from_slice(&bytes[40..]);
        let flat = small(Metric::L2, 3);
        let before = flat.bytes();
        let error = flat.load(&mut lying.as_slice()).unwrap_err();
        assert!(error.is_corrupt(), "{error}");
        assert_eq!((flat.len(), flat.bytes()), (0, before));
    }
}

#[test]
fn a_snapshot_that_holds_a_row_twice_is_refused() {
    let mut bytes = Vec::new();
    let mut writer = format::Writer::new(&mut bytes, Metric::L2, 1, 2).unwrap();
    writer.push(9, &[1.0]).unwrap();
    writer.push(9, &[2.0]).unwrap();
    writer.finish().unwrap();
    let flat = small(Metric::L2, 1);
    let error = flat.load(&mut bytes.as_slice()).unwrap_err();
    assert!(
        error.is_corrupt() && error.to_string().contains("each row once"),
        "{error}"
    );
    assert!(flat.is_empty());
}

#[test]
fn vectors_are_aligned_and_places_are_used_again() {
    let flat = small(Metric::L2, 16);
    for row in 0..5_000u64 {
        flat.insert(Row(row), &[row as f32; 16]).unwrap();
    }
    for chunk in flat.arena.read().snapshot() {
        assert_eq!(chunk.vector(0).as_ptr().align_offset(64), 0);
    }
    let full = flat.bytes();
    for round in 1..6 {
        for row in (0..5_000u64).filter(|r| r % 5 == round % 5) {
            assert!(flat.remove(Row(row)).unwrap());
        }
        assert_eq!(flat.stats().removed, 1_000);
        for row in (0..5_000u64).filter(|r| r % 5 == round % 5) {
            flat.insert(Row(row), &[row as f32; 16]).unwrap();
        }
        assert_eq!(flat.stats().removed, 0);
        assert!(
            flat.bytes() < full + 256,
            "only the list of open chunks may have grown"
        );
    }
}

#[test]
fn chunks_without_rows_are_given_back_at_once() {
    let flat = small(Metric::L2, 64);
    for row in 0..4_000u64 {
        flat.insert(Row(row), &[1.0; 64]).unwrap();
    }
    let full = flat.bytes();
    for row in 0..4_000u64 {
        flat.remove(Row(row)).unwrap();
    }
    assert!(
        flat.bytes() < full / 5,
        "{} of {full} bytes are left",
        flat.bytes()
    );
}

#[test]
fn a_writer_copies_what_a_snapshot_shares_and_the_bound_foresees_it() {
    let flat = small(Metric::L2, 64);
    for row in 0..1_000u64 {
        flat.insert(Row(row), &[1.0; 64]).unwrap();
    }
    let before = flat.bytes();
    let pins: Vec<Pin> = flat.arena.read().snapshot().into_iter().map(pin).collect();
    for row in 0..500u64 {
        flat.remove(Row(row * 2)).unwrap();
    }
    let bound = flat.bytes_after(600);
    for row in 2_000..2_600u64 {
        flat.insert(Row(row), &[2.0; 64]).unwrap();
    }
    assert!(flat.bytes() > before * 3 / 2 && flat.bytes() <= bound);
    let shared: usize = pins.iter().map(|p| p.count()).sum();
    assert_eq!(shared, 1_000, "the snapshot keeps the rows of its moment");
    drop(pins);
    assert!(flat.bytes() <= before + before / 2);
    assert_eq!(flat.held.bytes().pinned, 0);
}

#[test]
fn a_filter_may_look_into_the_index() {
    let flat = sample(Metric::L2);
    let filter = |row: Row| flat.contains(row) && row.0 > 3;
    let options = SearchOptions {
        filter: Some(&filter),
        ..Default::default()
    };
    let found = flat.search(&[0.0; 3], 2, &options).unwrap();
    assert_eq!(found[0].row, Row(4));
}

/// Vectors so long that a block has sixteen rows, and four queries.
#[test]
fn a_batch_in_blocks_finds_what_each_query_alone_does() {
    const LONG: usize = 2048;
    let mut rng = fastrand::Rng::with_seed(5);
    let mut some = |n: usize| -> Vec<f32> { (0..n * LONG).map(|_| rng.f32() - 0.5).collect() };
    let (base, queries) = (some(50), some(9));
    let odd = |row: Row| row.0 % 2 == 1;
    for metric in Metric::ALL {
        let flat = Flat::new(&FlatConfig::default(), metric, LONG).unwrap();
        let rows: Vec<Row> = (0..50).map(Row).collect();
        flat.insert_batch(&rows, &base).unwrap();
        for filter in [None, Some(&odd as &RowFilter<'_>)] {
            let options = SearchOptions {
                filter,
                ..Default::default()
            };
            let shape = Shape { rows: 9, dim: LONG };
            let block = VectorBlock::new(&queries, shape).unwrap();
            let found = flat.search_batch(block, 7, &options).unwrap();
            for (query, found) in queries.chunks_exact(LONG).zip(found) {
                let alone = flat.search(query, 7, &options).unwrap();
                let rows = |found: &[Neighbor]| found.iter().map(|n| n.row).collect::<Vec<_>>();
                assert_eq!(rows(&found), rows(&alone), "{metric}");
                for (a, b) in found.iter().zip(&alone) {
                    assert!(
                        (a.distance - b.distance).abs() < 1e-2,
                        "{metric}: {a:?} {b:?}"
                    );
                }
            }
        }
    }
}

//! Bytes: truthful, foreseen, reclaimed.

use aether_core::Row;
use aether_core::role::HotIndex;

use super::{HotHarness, Model, nearest, vector};

fn check_parts(index: &dyn HotIndex) {
    let stats = index.stats();
    assert_eq!(stats.bytes, index.bytes(), "stats().bytes must be bytes()");
    let sum: u64 = stats.parts.values().sum();
    assert_eq!(
        sum, stats.bytes,
        "parts must sum to bytes: {:?}",
        stats.parts
    );
}

/// `bytes` never exceeds what `bytes_after` said, whatever the size of the step; the bound grows with the step, is never below
/// `bytes`, and is not absurd.
///
/// # Panics
/// When it is not so.
pub fn bytes_stay_under_the_bound(h: &HotHarness) {
    let metric = h.metric();
    for dim in [1, 3, 64] {
        let mut rng = fastrand::Rng::with_seed(1);
        let index = h.fresh(metric, dim);
        let mut next = 0u64;
        for round in 0..3 {
            for step in [1usize, 1, 1, 2, 3, 5, 8, 100, 1, 900, 1, 1] {
                let now = index.bytes();
                assert!(
                    index.bytes_after(0) >= now,
                    "bytes_after(0) is below bytes()"
                );
                let bounds: Vec<u64> = [0, 1, 2, 10, 1_000, 1_000_000]
                    .map(|n| index.bytes_after(n))
                    .to_vec();
                assert!(
                    bounds.is_sorted(),
                    "bytes_after must grow with its argument: {bounds:?}"
                );
                let bound = index.bytes_after(step);
                let floor = 4 * (dim * (index.len() + step)) as u64;
                assert!(
                    bound >= floor || !index.capability().exact_read,
                    "bytes_after({step}) is {bound}, less than {floor} bytes of vectors"
                );
                let midway = (step > 1).then(|| index.bytes_after(step / 2));
                for i in 0..step {
                    index
                        .insert(Row(next), &vector(&mut rng, dim))
                        .expect("an insert");
                    next += 1;
                    let bytes = index.bytes();
                    assert!(
                        bytes <= bound,
                        "dim {dim}, round {round}: bytes_after({step}) said {bound}, after {} inserts it is {bytes}",
                        i + 1
                    );
                    if let Some(midway) = midway.filter(|_| i < step / 2) {
                        assert!(
                            bytes <= midway,
                            "bytes_after({}) said {midway}, got {bytes}",
                            step / 2
                        );
                    }
                }
                check_parts(index.as_ref());
            }
            let generous = 4 * index.bytes() + (16 << 20);
            assert!(
                index.bytes_after(1) <= generous,
                "bytes_after(1) is {} at {} bytes: the engine could never insert",
                index.bytes_after(1),
                index.bytes()
            );
            assert!(
                index.bytes_after(usize::MAX) >= index.bytes(),
                "an overflow"
            );
            for row in (0..next).filter(|r| r % 3 == round) {
                index.remove(Row(row)).expect("a removal");
            }
            if round == 1 {
                index.compact().expect("a compaction");
            }
        }
    }
}

/// The parts in `stats` sum to `bytes` at every moment of an index's life, and vectors weigh at least four bytes a float.
///
/// # Panics
/// When it is not so.
pub fn parts_sum_to_bytes(h: &HotHarness) {
    let (metric, dim) = (h.metric(), 32);
    let mut rng = fastrand::Rng::with_seed(2);
    let index = h.fresh(metric, dim);
    check_parts(index.as_ref());
    for row in 0..500 {
        index
            .insert(Row(row), &vector(&mut rng, dim))
            .expect("an insert");
        if row % 50 == 0 {
            check_parts(index.as_ref());
        }
    }
    if index.capability().exact_read {
        assert!(
            index.bytes() >= 500 * 32 * 4,
            "500 vectors of 128 bytes in {}",
            index.bytes()
        );
    }
    let rows = 100..400u64;
    for row in rows.clone() {
        index.remove(Row(row)).expect("a removal");
    }
    check_parts(index.as_ref());
    let stats = index.stats();
    assert_eq!(stats.rows, 200);
    index.compact().expect("a compaction");
    check_parts(index.as_ref());
}

/// Compaction keeps every row and its vector, leaves no place of a removed row, and gives memory back.
///
/// # Panics
/// When it does not.
pub fn compact_keeps_everything_and_reclaims(h: &HotHarness) {
    let (n, dim) = (2_000u64, 48);
    let metric = h.metric();
    let mut rng = fastrand::Rng::with_seed(3);
    let index = h.fresh(metric, dim);
    let mut model = Model::default();
    let rows: Vec<Row> = (0..n).map(Row).collect();
    let data = vector(&mut rng, dim * rows.len());
    index.insert_batch(&rows, &data).expect("a batch");
    for (row, v) in rows.iter().zip(data.chunks_exact(dim)) {
        model.insert(*row, v);
    }
    let full = index.bytes();
    for row in rows.iter().filter(|r| r.0 % 10 != 0) {
        index.remove(*row).expect("a removal");
        model.remove(*row);
    }
    index.compact().expect("a compaction");
    model.check_contents(index.as_ref(), dim);
    check_parts(index.as_ref());
    assert_eq!(
        index.stats().removed,
        0,
        "no place of a removed row is left"
    );
    assert!(
        index.bytes() < full / 2,
        "nine rows in ten are gone, but {} of {full} bytes are left",
        index.bytes()
    );
    for _ in 0..5 {
        let query = vector(&mut rng, dim);
        model.check_exact(
            metric,
            &query,
            20,
            &|_| true,
            &nearest(index.as_ref(), &query, 20),
        );
    }
    let again = index.bytes();
    index.compact().expect("a second compaction");
    assert!(
        index.bytes() <= again,
        "a second compaction must not grow the index"
    );
    let bound = index.bytes_after(1_800);
    for row in rows.iter().filter(|r| r.0 % 10 != 0) {
        let v = vector(&mut rng, dim);
        index.insert(*row, &v).expect("an insert after compaction");
        model.insert(*row, &v);
    }
    assert!(
        index.bytes() <= bound,
        "bytes_after said {bound}, got {}",
        index.bytes()
    );
    model.check_contents(index.as_ref(), dim);
}

//! Inserts, removals, reads and what is wrong with a call.

use aether_core::vector::DIM_MAX;
use aether_core::{Metric, Row};

use super::model::bits;
use super::{HotHarness, Model, fill, nearest, vector};

/// An index accepts the dimensions and metrics that it declares, and refuses others when it is built.
///
/// # Panics
/// When it does not.
pub fn capability_is_kept(h: &HotHarness) {
    let metrics = h.metrics();
    let dim_max = h.fresh(metrics[0], 1).capability().dim_max;
    assert!((1..=DIM_MAX).contains(&dim_max), "dim_max: {dim_max}");
    for metric in Metric::ALL.into_iter().filter(|m| !metrics.contains(m)) {
        let error = h.try_fresh(metric, 4).expect_err("an undeclared metric");
        assert!(error.is_config() || error.is_unsupported(), "{error:?}");
    }
    let index = h.fresh(metrics[0], dim_max);
    let v = vector(&mut fastrand::Rng::with_seed(1), dim_max);
    index.insert(Row(1), &v).expect("an insert at dim_max");
    assert_eq!(nearest(index.as_ref(), &v, 1)[0].row, Row(1));
    if dim_max < DIM_MAX {
        let error = h
            .try_fresh(metrics[0], dim_max + 1)
            .expect_err("a dimension beyond dim_max");
        assert!(error.is_config() || error.is_unsupported(), "{error:?}");
    }
}

/// A new index is empty, and everything may be asked of it.
///
/// # Panics
/// When it is not so.
pub fn an_empty_index_answers(h: &HotHarness) {
    for metric in h.metrics() {
        let index = h.fresh(metric, 3);
        Model::default().check_contents(index.as_ref(), 3);
        assert!(nearest(index.as_ref(), &[1.0, 2.0, 3.0], 5).is_empty());
        let found = index.search(&[1.0, 2.0, 3.0], 5, &Default::default());
        assert!(found.expect("a search").is_empty());
        assert!(!index.remove(Row(1)).expect("a removal"));
        assert!(!index.contains(Row(1)));
        index.compact().expect("a compaction of nothing");
        assert_eq!(index.stats().removed, 0);
    }
}

/// Inserting a resident row again is `Ok` and changes nothing, even with another vector.
///
/// # Panics
/// When it is not so.
pub fn insert_is_idempotent(h: &HotHarness) {
    let metric = h.metric();
    let mut rng = fastrand::Rng::with_seed(2);
    let index = h.fresh(metric, 5);
    let model = fill(index.as_ref(), &mut rng, 40, 5);
    let bytes = index.bytes();
    for row in 0..40 {
        index
            .insert(Row(row), &vector(&mut rng, 5))
            .expect("a repeated insert");
    }
    model.check_contents(index.as_ref(), 5);
    assert_eq!(
        index.bytes(),
        bytes,
        "a repeated insert must not grow the index"
    );
    let query = vector(&mut rng, 5);
    model.check_exact(
        metric,
        &query,
        100,
        &|_| true,
        &nearest(index.as_ref(), &query, 100),
    );
}

/// A removed row is gone at once from every answer, a second removal says `false`, and the row may come back with another vector.
///
/// # Panics
/// When it is not so.
pub fn removed_rows_are_gone_and_may_return(h: &HotHarness) {
    let dim = 6;
    for metric in h.metrics() {
        let mut rng = fastrand::Rng::with_seed(3);
        let index = h.fresh(metric, dim);
        let mut model = fill(index.as_ref(), &mut rng, 120, dim);
        for round in 0..3 {
            for row in (0..120).filter(|r| r % 3 != round) {
                assert!(
                    index.remove(Row(row)).expect("a removal"),
                    "row {row} was resident"
                );
                assert!(model.remove(Row(row)));
                assert!(
                    !index.remove(Row(row)).expect("a removal"),
                    "row {row} is gone"
                );
                assert!(!index.contains(Row(row)));
            }
            model.check_contents(index.as_ref(), dim);
            let query = vector(&mut rng, dim);
            model.check_exact(
                metric,
                &query,
                200,
                &|_| true,
                &nearest(index.as_ref(), &query, 200),
            );
            let found = index
                .search(&query, 200, &Default::default())
                .expect("a search");
            model.check_sound(metric, &query, 200, &|_| true, &found);
            for row in (0..120).filter(|r| r % 3 != round) {
                let v = vector(&mut rng, dim);
                index
                    .insert(Row(row), &v)
                    .expect("an insert after the removal");
                model.insert(Row(row), &v);
            }
            model.check_contents(index.as_ref(), dim);
        }
        for row in 0..120 {
            assert!(index.remove(Row(row)).expect("a removal"));
        }
        Model::default().check_contents(index.as_ref(), dim);
    }
}

/// `read` gives the bits that were put in (where the capability says so), also of odd numbers, and leaves `out` alone when the
/// row is absent.
///
/// # Panics
/// When it is not so.
pub fn vectors_come_back_as_they_went_in(h: &HotHarness) {
    let odd = [
        -0.0,
        0.0,
        f32::MIN_POSITIVE,
        f32::from_bits(1),
        -f32::from_bits(0x7f_ffff),
        1.0e18,
        -3.5,
        f32::EPSILON,
    ];
    for metric in h.metrics() {
        let index = h.fresh(metric, odd.len());
        index.insert(Row(9), &odd).expect("an insert");
        let mut out = [1.25; 8];
        assert!(!index.read(Row(8), &mut out).expect("a read"));
        assert_eq!(
            out, [1.25; 8],
            "`out` must stay untouched when the row is absent"
        );
        assert!(index.read(Row(9), &mut out).expect("a read"));
        if index.capability().exact_read {
            assert_eq!(bits(&out), bits(&odd), "{metric}: read must be bit-exact");
        }
        assert!(index.remove(Row(9)).expect("a removal"));
        let mut out = [1.25; 8];
        assert!(!index.read(Row(9), &mut out).expect("a read"));
        assert_eq!(out, [1.25; 8]);
    }
}

/// Vectors, queries and buffers of a wrong length are `InvalidInput` and change nothing.
///
/// # Panics
/// When it is not so.
pub fn wrong_lengths_change_nothing(h: &HotHarness) {
    let (metric, dim) = (h.metric(), 4);
    let mut rng = fastrand::Rng::with_seed(4);
    let index = h.fresh(metric, dim);
    let model = fill(index.as_ref(), &mut rng, 10, dim);
    let refused = |what: &str, result: aether_core::Result<()>| match result {
        Ok(()) => panic!("{what} was taken"),
        Err(e) => assert!(
            e.is_invalid_input(),
            "{what}: expected InvalidInput, got {e:?}"
        ),
    };
    for len in [0, 1, 3, 5, 8] {
        let v = vector(&mut rng, len);
        refused("insert of a wrong length", index.insert(Row(100), &v));
        refused(
            "search of a wrong length",
            index.search(&v, 3, &Default::default()).map(drop),
        );
        refused(
            "exact search of a wrong length",
            index.search(&v, 3, &super::exact()).map(drop),
        );
        let mut out = vec![2.5; len];
        refused(
            "read into a wrong length",
            index.read(Row(1), &mut out).map(drop),
        );
        assert_eq!(out, vec![2.5; len], "a refused read must leave `out` alone");
    }
    let two = [Row(200), Row(201)];
    for len in [0, 1, 7, 9, 4, 10, 12] {
        let v = vector(&mut rng, len);
        refused("batch of a wrong length", index.insert_batch(&two, &v));
    }
    refused("vectors without rows", index.insert_batch(&[], &[1.0; 4]));
    index.insert_batch(&[], &[]).expect("an empty batch");
    model.check_contents(index.as_ref(), dim);
}

/// `insert_batch` is the same as inserting in order: of a row that comes twice the first vector stays, resident rows stay.
///
/// # Panics
/// When it is not so.
pub fn batches_are_inserts_in_order(h: &HotHarness) {
    let (metric, dim) = (h.metric(), 7);
    let mut rng = fastrand::Rng::with_seed(5);
    let index = h.fresh(metric, dim);
    let mut model = fill(index.as_ref(), &mut rng, 30, dim);
    for size in [1usize, 2, 50, 700] {
        let rows: Vec<Row> = (0..size).map(|_| Row(rng.u64(0..600))).collect();
        let vectors = vector(&mut rng, dim * size);
        let bound = index.bytes_after(size);
        index.insert_batch(&rows, &vectors).expect("a batch");
        assert!(
            index.bytes() <= bound,
            "bytes_after({size}) was {bound}, now {}",
            index.bytes()
        );
        for (row, v) in rows.iter().zip(vectors.chunks_exact(dim)) {
            model.insert(*row, v);
        }
        model.check_contents(index.as_ref(), dim);
    }
    let query = vector(&mut rng, dim);
    model.check_exact(
        metric,
        &query,
        25,
        &|_| true,
        &nearest(index.as_ref(), &query, 25),
    );
}

/// No `u64` is special as a row.
///
/// # Panics
/// When one is.
pub fn any_row_number_is_valid(h: &HotHarness) {
    let (metric, dim) = (h.metric(), 2);
    let mut rng = fastrand::Rng::with_seed(6);
    let index = h.fresh(metric, dim);
    let mut model = Model::default();
    let high = u64::from(u32::MAX);
    for n in [
        0,
        1,
        high - 1,
        high,
        high + 1,
        1 << 63,
        u64::MAX - 1,
        u64::MAX,
    ] {
        let v = vector(&mut rng, dim);
        index.insert(Row(n), &v).expect("an insert");
        model.insert(Row(n), &v);
    }
    model.check_contents(index.as_ref(), dim);
    let query = vector(&mut rng, dim);
    model.check_exact(
        metric,
        &query,
        8,
        &|_| true,
        &nearest(index.as_ref(), &query, 8),
    );
    assert!(index.remove(Row(u64::MAX)).expect("a removal"));
    model.remove(Row(u64::MAX));
    model.check_contents(index.as_ref(), dim);
}

//! Answers: how many, which, in what order, how near.

use aether_core::role::{RowFilter, SearchOptions};
use aether_core::vector::{Shape, VectorBlock};
use aether_core::{Metric, Row};

use super::{HotHarness, Model, clustered, exact, fill, nearest, vector};

/// NaN and infinity in a query are `InvalidInput`.
///
/// # Panics
/// When they are not.
pub fn queries_that_are_not_finite_are_refused(h: &HotHarness) {
    let dim = 17;
    for metric in h.metrics() {
        let index = h.fresh(metric, dim);
        fill(index.as_ref(), &mut fastrand::Rng::with_seed(1), 20, dim);
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in [0, 8, dim - 1] {
                let mut query = vec![0.5; dim];
                query[at] = bad;
                for options in [exact(), SearchOptions::default()] {
                    match index.search(&query, 3, &options) {
                        Ok(found) => panic!("{bad} at {at} was taken: {found:?}"),
                        Err(e) => assert!(e.is_invalid_input(), "{bad} at {at}: {e:?}"),
                    }
                }
            }
        }
    }
}

/// `k` of 0 gives nothing, `k` beyond the rows gives all of them, `usize::MAX` is no trouble.
///
/// # Panics
/// When it is not so.
pub fn k_is_honoured(h: &HotHarness) {
    let (metric, dim) = (h.metric(), 5);
    let mut rng = fastrand::Rng::with_seed(2);
    let index = h.fresh(metric, dim);
    let model = fill(index.as_ref(), &mut rng, 60, dim);
    let query = vector(&mut rng, dim);
    for k in [0, 1, 2, 59, 60, 61, 1_000, usize::MAX] {
        let got = nearest(index.as_ref(), &query, k);
        model.check_exact(metric, &query, k, &|_| true, &got);
        for ef in [None, Some(0), Some(1), Some(64), Some(usize::MAX)] {
            let options = SearchOptions {
                ef,
                ..SearchOptions::default()
            };
            let got = index.search(&query, k, &options).expect("a search");
            model.check_sound(metric, &query, k, &|_| true, &got);
            assert!(
                k == 0 || !got.is_empty(),
                "ef {ef:?}, k {k}: nothing found among 60 rows"
            );
            if k <= 2 && ef == Some(64) {
                assert_eq!(got.len(), k, "k answers are wanted, ef is at least k");
            }
        }
    }
}

/// Only accepted rows are answers, and `k` counts accepted rows.
///
/// # Panics
/// When it is not so.
pub fn filters_are_honoured(h: &HotHarness) {
    let dim = 8;
    for metric in h.metrics() {
        let mut rng = fastrand::Rng::with_seed(3);
        let index = h.fresh(metric, dim);
        let model = fill(index.as_ref(), &mut rng, 300, dim);
        let filters: [(&str, &(dyn Fn(Row) -> bool + Sync)); 5] = [
            ("all", &|_| true),
            ("none", &|_| false),
            ("every third", &|r| r.0 % 3 == 0),
            ("one", &|r| r.0 == 177),
            ("absent rows", &|r| r.0 >= 300),
        ];
        for (name, filter) in filters {
            for k in [1, 10, 150, 400] {
                let query = vector(&mut rng, dim);
                let options = SearchOptions {
                    filter: Some(filter),
                    ..exact()
                };
                let got = index
                    .search(&query, k, &options)
                    .expect("a filtered search");
                model.check_exact(metric, &query, k, &filter, &got);
                let options = SearchOptions {
                    filter: Some(filter),
                    ef: Some(200),
                    ..SearchOptions::default()
                };
                let got = index
                    .search(&query, k, &options)
                    .expect("a filtered search");
                model.check_sound(metric, &query, k, &filter, &got);
                if name == "all" {
                    assert!(!got.is_empty(), "a filter that takes all rows hides them");
                }
            }
        }
    }
}

/// With `exact`, or from an exact index, the answer is the model's.
///
/// # Panics
/// When it is not.
pub fn exact_search_equals_the_model(h: &HotHarness) {
    let (n, dim) = (1_500, 24);
    for metric in h.metrics() {
        let mut rng = fastrand::Rng::with_seed(4);
        let index = h.fresh(metric, dim);
        let mut model = Model::default();
        let data = clustered(&mut rng, n, dim);
        let rows: Vec<Row> = (0..n as u64).map(|r| Row(r * 7)).collect();
        index.insert_batch(&rows, &data).expect("a batch");
        for (row, v) in rows.iter().zip(data.chunks_exact(dim)) {
            model.insert(*row, v);
        }
        for row in rows.iter().step_by(5) {
            index.remove(*row).expect("a removal");
            model.remove(*row);
        }
        for _ in 0..10 {
            let query = vector(&mut rng, dim);
            for k in [1, 10, 100] {
                model.check_exact(
                    metric,
                    &query,
                    k,
                    &|_| true,
                    &nearest(index.as_ref(), &query, k),
                );
                if !index.capability().approximate {
                    let got = index.search(&query, k, &SearchOptions::default());
                    model.check_exact(metric, &query, k, &|_| true, &got.expect("a search"));
                }
            }
        }
    }
}

/// Exact search is right at dimensions that fill no SIMD register, one, or many.
///
/// # Panics
/// When it is not.
pub fn exact_search_at_every_dimension(h: &HotHarness) {
    for metric in h.metrics() {
        for dim in [1, 2, 3, 17, 384] {
            let mut rng = fastrand::Rng::with_seed(dim as u64);
            let index = h.fresh(metric, dim);
            if dim > index.capability().dim_max {
                continue;
            }
            let model = fill(index.as_ref(), &mut rng, 100, dim);
            model.check_contents(index.as_ref(), dim);
            for _ in 0..5 {
                let query = vector(&mut rng, dim);
                model.check_exact(
                    metric,
                    &query,
                    10,
                    &|_| true,
                    &nearest(index.as_ref(), &query, 10),
                );
            }
        }
    }
}

/// Share of the model's `k` nearest that a search found, by distance, so that ties do not count against it.
fn recall(
    model: &Model,
    metric: Metric,
    query: &[f32],
    k: usize,
    accept: &dyn Fn(Row) -> bool,
    got: &[aether_core::role::Neighbor],
) -> f64 {
    let ranked = model.ranked(metric, query, accept);
    let wanted = k.min(ranked.len());
    let Some((_, limit, slack)) = ranked.get(wanted.wrapping_sub(1)) else {
        return 1.0;
    };
    let hits = got
        .iter()
        .filter(|n| f64::from(n.distance) <= limit + slack);
    hits.count() as f64 / wanted as f64
}

/// With ef 200 at least nine in ten of the ten nearest of 2,000 clustered rows (dim 32) are found: fresh, with a quarter of them
/// removed, with a filter, and after compaction.
///
/// # Panics
/// When fewer are found.
pub fn approximate_search_recalls(h: &HotHarness) {
    let (n, dim, k, queries) = (2_000, 32, 10, 40);
    for metric in h.metrics() {
        let mut rng = fastrand::Rng::with_seed(5);
        let index = h.fresh(metric, dim);
        let data = clustered(&mut rng, n + queries, dim);
        let (data, asked) = data.split_at(n * dim);
        let rows: Vec<Row> = (0..n as u64).map(Row).collect();
        index.insert_batch(&rows, data).expect("a batch");
        let mut model = Model::default();
        for (row, v) in rows.iter().zip(data.chunks_exact(dim)) {
            model.insert(*row, v);
        }
        let half = |row: Row| row.0 % 2 == 1;
        let measure = |model: &Model, filtered: bool| {
            let accept = |row: Row| !filtered || half(row);
            let options = SearchOptions {
                ef: Some(200),
                filter: filtered.then_some(&accept),
                ..SearchOptions::default()
            };
            let total: f64 = asked
                .chunks_exact(dim)
                .map(|query| {
                    let got = index.search(query, k, &options).expect("a search");
                    model.check_sound(metric, query, k, &accept, &got);
                    recall(model, metric, query, k, &accept, &got)
                })
                .sum();
            total / queries as f64
        };
        let check = |stage: &str, recall: f64| {
            assert!(
                recall >= 0.9,
                "{metric}, {stage}: recall@10 {recall:.3}, at least 0.9 is promised"
            );
        };
        check("fresh", measure(&model, false));
        check("half filtered away", measure(&model, true));
        for row in rows.iter().step_by(4) {
            index.remove(*row).expect("a removal");
            model.remove(*row);
        }
        check("a quarter removed", measure(&model, false));
        index.compact().expect("a compaction");
        check("compacted", measure(&model, false));
        for (row, v) in rows.iter().zip(data.chunks_exact(dim)).step_by(4) {
            index.insert(*row, v).expect("an insert");
            model.insert(*row, v);
        }
        check("put back", measure(&model, false));
    }
}

/// Nearest first; equal distances by row; of equal rows at the edge of `k` an exact search takes the smallest.
///
/// # Panics
/// When it is not so.
pub fn answers_are_in_order_and_ties_by_row(h: &HotHarness) {
    let dim = 4;
    for metric in h.metrics() {
        let mut rng = fastrand::Rng::with_seed(6);
        let index = h.fresh(metric, dim);
        let mut model = Model::default();
        let same = [0.25, -0.5, 1.0, 0.125];
        let mut rows: Vec<u64> = (0..90).collect();
        rng.shuffle(&mut rows);
        for row in rows {
            let v = if row % 2 == 0 {
                same.to_vec()
            } else {
                vector(&mut rng, dim)
            };
            index.insert(Row(row), &v).expect("an insert");
            model.insert(Row(row), &v);
        }
        for row in [4, 8, 60] {
            index.remove(Row(row)).expect("a removal");
            model.remove(Row(row));
        }
        for k in [1, 7, 42, 90] {
            let got = nearest(index.as_ref(), &same, k);
            model.check_exact(metric, &same, k, &|_| true, &got);
            let ties: Vec<Row> = got.iter().map(|n| n.row).filter(|r| r.0 % 2 == 0).collect();
            let expected: Vec<Row> = (0..90)
                .step_by(2)
                .map(Row)
                .filter(|r| model.get(*r).is_some())
                .take(ties.len())
                .collect();
            assert_eq!(
                ties, expected,
                "{metric}: equal rows must come by number, smallest first"
            );
            let got = index.search(&same, k, &SearchOptions::default());
            model.check_sound(metric, &same, k, &|_| true, &got.expect("a search"));
        }
    }
}

/// Under cosine a vector's length changes nothing about its distance, and `read` gives back the length that was put in.
///
/// # Panics
/// When it is not so.
pub fn cosine_keeps_lengths_and_ignores_them(h: &HotHarness) {
    if !h.metrics().contains(&Metric::Cosine) {
        return;
    }
    let dim = 9;
    let mut rng = fastrand::Rng::with_seed(7);
    let index = h.fresh(Metric::Cosine, dim);
    let mut model = Model::default();
    for row in 0..50u64 {
        let length = 10f32.powi(row as i32 % 13 - 6);
        let v: Vec<f32> = vector(&mut rng, dim).iter().map(|x| x * length).collect();
        index.insert(Row(row), &v).expect("an insert");
        model.insert(Row(row), &v);
    }
    model.check_contents(index.as_ref(), dim);
    for length in [1e-6, 1.0, 1e6] {
        let query: Vec<f32> = vector(&mut rng, dim).iter().map(|x| x * length).collect();
        let got = nearest(index.as_ref(), &query, 50);
        model.check_exact(Metric::Cosine, &query, 50, &|_| true, &got);
    }
}

/// The largest and smallest vectors that the engine lets in have finite distances in the right order; a zero vector is a vector.
///
/// # Panics
/// When it is not so.
pub fn extreme_values_are_ordered(h: &HotHarness) {
    let dim = 2;
    for metric in h.metrics() {
        let index = h.fresh(metric, dim);
        let mut model = Model::default();
        let mut vectors = vec![[4e18, 4e18], [-4e18, 4e18], [1e-18, 1e-18], [1.0, -1.0]];
        if metric != Metric::Cosine {
            vectors.push([0.0, 0.0]);
        }
        for (row, v) in vectors.iter().enumerate() {
            metric.check(v, dim).expect("the engine lets it in");
            index.insert(Row(row as u64), v).expect("an insert");
            model.insert(Row(row as u64), v);
        }
        for query in [[4e18, -4e18], [1e-18, 1e-18], [1.0, 2.0]] {
            let got = nearest(index.as_ref(), &query, 9);
            assert!(
                got.iter().all(|n| n.distance.is_finite()),
                "{metric}: {got:?}"
            );
            model.check_exact(metric, &query, 9, &|_| true, &got);
        }
    }
}

/// Several queries at once are answered as one by one: exactly where that is asked for, with filters, for any number of them.
///
/// # Panics
/// When they are not.
pub fn batches_of_queries_are_answered_one_by_one(h: &HotHarness) {
    let dim = 13;
    for metric in h.metrics() {
        let mut rng = fastrand::Rng::with_seed(12);
        let index = h.fresh(metric, dim);
        let mut model = fill(index.as_ref(), &mut rng, 203, dim);
        for row in (0..203).filter(|r| r % 5 == 2) {
            index.remove(Row(row)).expect("a removal");
            model.remove(Row(row));
        }
        let odd = |row: Row| row.0 % 2 == 1;
        let (all, odd): (&RowFilter<'_>, &RowFilter<'_>) = (&|_| true, &odd);
        for (queries, accept) in [(0, all), (1, all), (2, odd), (7, all), (64, odd)] {
            let data = vector(&mut rng, dim * queries);
            let shape = Shape { rows: queries, dim };
            let block = VectorBlock::new(&data, shape).expect("a block");
            let filtered = SearchOptions {
                filter: Some(accept),
                ..exact()
            };
            for options in [
                filtered,
                SearchOptions {
                    exact: false,
                    ..filtered
                },
            ] {
                let answers = index.search_batch(block, 9, &options).expect("a search");
                assert_eq!(answers.len(), queries, "one answer for each query");
                for (query, got) in block.iter().zip(&answers) {
                    if options.exact {
                        model.check_exact(metric, query, 9, accept, got);
                    } else {
                        model.check_sound(metric, query, 9, accept, got);
                    }
                }
            }
            let none = index.search_batch(block, 0, &exact()).expect("a search");
            assert_eq!(none, vec![Vec::new(); queries], "k of 0 gives nothing");
        }
        let mut data = vector(&mut rng, 3 * dim);
        let wide = Shape { rows: 3, dim };
        data[2 * dim] = f32::NAN;
        let block = VectorBlock::new(&data, wide).expect("a block");
        let error = index
            .search_batch(block, 3, &exact())
            .expect_err("not a number");
        assert!(error.is_invalid_input(), "{error:?}");
        let narrow = Shape {
            rows: 3,
            dim: dim - 1,
        };
        let block = VectorBlock::new(&data[..3 * (dim - 1)], narrow).expect("a block");
        let error = index
            .search_batch(block, 3, &exact())
            .expect_err("a wrong length");
        assert!(error.is_invalid_input(), "{error:?}");
    }
}

//! The reference: a plain map and an exact scan in f64.

use std::collections::BTreeMap;

use aether_core::role::{HotIndex, Neighbor, SearchOptions};
use aether_core::{Metric, Row};
use proptest::prelude::*;

use super::super::property;
use super::{HotHarness, vector};

/// Resident rows and their vectors.
#[derive(Clone, Debug, Default)]
pub struct Model {
    rows: BTreeMap<Row, Vec<f32>>,
}

/// Distance in f64 and the error that f32 sums may make.
fn distance(metric: Metric, a: &[f32], b: &[f32]) -> (f64, f64) {
    let sum = |f: &dyn Fn(f64, f64) -> f64| -> f64 {
        a.iter()
            .zip(b)
            .map(|(x, y)| f(f64::from(*x), f64::from(*y)))
            .sum()
    };
    let (aa, bb, ab) = (sum(&|x, _| x * x), sum(&|_, y| y * y), sum(&|x, y| x * y));
    // Rounding grows with the number of terms; SIMD lanes make it far smaller than this in practice.
    let slack = 1e-6 * (a.len() as f64).sqrt().max(8.0);
    match metric {
        Metric::L2 => (sum(&|x, y| (x - y) * (x - y)), slack * (aa + bb)),
        Metric::InnerProduct => (
            -ab,
            slack * (aa * bb).sqrt().max(f64::from(f32::MIN_POSITIVE)),
        ),
        Metric::Cosine if aa * bb > 0.0 => (1.0 - ab / (aa * bb).sqrt(), slack),
        Metric::Cosine => (1.0, slack),
    }
}

impl Model {
    /// Adds a row; one that is there stays as it is.
    pub fn insert(&mut self, row: Row, v: &[f32]) {
        self.rows.entry(row).or_insert_with(|| v.to_vec());
    }

    /// Removes a row; whether it was there.
    pub fn remove(&mut self, row: Row) -> bool {
        self.rows.remove(&row).is_some()
    }

    /// A row's vector.
    pub fn get(&self, row: Row) -> Option<&[f32]> {
        self.rows.get(&row).map(Vec::as_slice)
    }

    /// Rows and vectors in order.
    pub fn iter(&self) -> impl Iterator<Item = (Row, &[f32])> {
        self.rows.iter().map(|(row, v)| (*row, v.as_slice()))
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Rows accepted by a filter with distance and tolerance, nearest first.
    pub fn ranked(
        &self,
        metric: Metric,
        query: &[f32],
        accept: &dyn Fn(Row) -> bool,
    ) -> Vec<(Row, f64, f64)> {
        let mut all: Vec<(Row, f64, f64)> = self
            .iter()
            .filter(|(row, _)| accept(*row))
            .map(|(row, v)| {
                let (d, slack) = distance(metric, query, v);
                (row, d, slack)
            })
            .collect();
        all.sort_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
        all
    }

    /// Checks what every answer must be: rows that are there and accepted, each once, in order, with true distances.
    ///
    /// # Panics
    /// When it is not so.
    pub fn check_sound(
        &self,
        metric: Metric,
        query: &[f32],
        k: usize,
        accept: &dyn Fn(Row) -> bool,
        got: &[Neighbor],
    ) {
        assert!(got.len() <= k, "asked for {k} answers, got {}", got.len());
        for pair in got.windows(2) {
            assert!(
                pair[0] < pair[1],
                "answers must be ordered by distance, then by row: {pair:?}"
            );
        }
        let mut seen: Vec<Row> = got.iter().map(|n| n.row).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), got.len(), "a row was returned twice: {got:?}");
        for n in got {
            let Some(v) = self.get(n.row) else {
                panic!("{} was returned but is not resident", n.row);
            };
            assert!(accept(n.row), "{} was returned against the filter", n.row);
            let (d, slack) = distance(metric, query, v);
            assert!(
                (f64::from(n.distance) - d).abs() <= slack,
                "{metric} distance of {}: expected {d} within {slack}, got {}",
                n.row,
                n.distance
            );
        }
    }

    /// Checks an exact answer: sound, complete, and as near as can be.
    ///
    /// # Panics
    /// When it is not so.
    pub fn check_exact(
        &self,
        metric: Metric,
        query: &[f32],
        k: usize,
        accept: &dyn Fn(Row) -> bool,
        got: &[Neighbor],
    ) {
        self.check_sound(metric, query, k, accept, got);
        let ranked = self.ranked(metric, query, accept);
        assert_eq!(
            got.len(),
            k.min(ranked.len()),
            "an exact search must give min(k, accepted rows) answers"
        );
        for (i, (n, (_, d, slack))) in got.iter().zip(&ranked).enumerate() {
            assert!(
                (f64::from(n.distance) - d).abs() <= *slack,
                "answer {i} is {} at {}, but the model's is at {d}",
                n.row,
                n.distance
            );
        }
    }

    /// Checks everything but a search: rows, contains, reads, length.
    ///
    /// # Panics
    /// When index and model differ.
    pub fn check_contents(&self, index: &dyn HotIndex, dim: usize) {
        assert_eq!(index.len(), self.len(), "len()");
        assert_eq!(index.is_empty(), self.is_empty(), "is_empty()");
        assert_eq!(index.stats().rows, self.len() as u64, "stats().rows");
        let mut rows = index.rows();
        rows.sort_unstable();
        let expected: Vec<Row> = self.rows.keys().copied().collect();
        assert_eq!(rows, expected, "rows()");
        let exact = index.capability().exact_read;
        let mut out = vec![0.0; dim];
        for (row, v) in self.iter() {
            assert!(index.contains(row), "contains({row}) must be true");
            assert!(index.read(row, &mut out).expect("a read"), "read({row})");
            if exact {
                let (got, put) = (bits(&out), bits(v));
                assert_eq!(got, put, "read({row}) must give the bits that were put in");
            }
        }
    }
}

pub(super) fn bits(v: &[f32]) -> Vec<u32> {
    v.iter().map(|x| x.to_bits()).collect()
}

#[derive(Clone, Debug)]
enum Op {
    Insert(u8),
    Batch(Vec<u8>),
    Remove(u8),
    Read(u8),
    Search { k: u8, exact: bool, modulus: u8 },
    Compact,
    Reload,
}

fn op() -> impl Strategy<Value = Op> {
    let row = 0u8..40;
    prop_oneof![
        6 => row.clone().prop_map(Op::Insert),
        2 => prop::collection::vec(row.clone(), 0..12).prop_map(Op::Batch),
        4 => row.clone().prop_map(Op::Remove),
        2 => row.prop_map(Op::Read),
        4 => (0u8..50, any::<bool>(), 0u8..5).prop_map(|(k, exact, modulus)| Op::Search { k, exact, modulus }),
        1 => Just(Op::Compact),
        1 => Just(Op::Reload),
    ]
}

/// Row numbers far apart, with both ends of the range among them.
fn row_of(n: u8) -> Row {
    match n {
        0 => Row(0),
        1 => Row(u64::MAX),
        n => Row(u64::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
    }
}

/// Random operation sequences leave index and model equal at every step.
///
/// # Panics
/// With the smallest sequence for which it is not so.
pub fn random_operations_match_the_model(h: &HotHarness) {
    let metrics = h.metrics();
    let strategy = (
        prop::sample::select(metrics),
        prop::sample::select(vec![1usize, 2, 3, 17]),
        any::<u64>(),
        prop::collection::vec(op(), 1..80),
    );
    property(96, strategy, |(metric, dim, seed, ops)| {
        run(h, metric, dim, seed, &ops);
    });
}

fn run(h: &HotHarness, metric: Metric, dim: usize, seed: u64, ops: &[Op]) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut index = h.fresh(metric, dim);
    let capability = index.capability();
    let mut model = Model::default();
    for op in ops {
        let before = index.bytes();
        match op {
            Op::Insert(n) => {
                let bound = index.bytes_after(1);
                let v = vector(&mut rng, dim);
                index.insert(row_of(*n), &v).expect("an insert");
                model.insert(row_of(*n), &v);
                assert!(
                    index.bytes() <= bound,
                    "bytes_after(1) said {bound}, now {}",
                    index.bytes()
                );
            }
            Op::Batch(rows) => {
                let bound = index.bytes_after(rows.len());
                let rows: Vec<Row> = rows.iter().map(|n| row_of(*n)).collect();
                let vectors = vector(&mut rng, dim * rows.len());
                index.insert_batch(&rows, &vectors).expect("a batch");
                for (row, v) in rows.iter().zip(vectors.chunks_exact(dim)) {
                    model.insert(*row, v);
                }
                assert!(
                    index.bytes() <= bound,
                    "bytes_after({}) said {bound}, now {}",
                    rows.len(),
                    index.bytes()
                );
            }
            Op::Remove(n) => {
                let was = index.remove(row_of(*n)).expect("a removal");
                assert_eq!(was, model.remove(row_of(*n)), "remove({})", row_of(*n));
            }
            Op::Read(n) => {
                let mut out = vec![7.5; dim];
                let there = index.read(row_of(*n), &mut out).expect("a read");
                match model.get(row_of(*n)) {
                    None => assert!(!there && out == vec![7.5; dim], "read of an absent row"),
                    Some(v) => assert!(there && (!capability.exact_read || bits(&out) == bits(v))),
                }
            }
            Op::Search { k, exact, modulus } => {
                let query = vector(&mut rng, dim);
                let accept = |row: Row| *modulus == 0 || row.0.is_multiple_of(u64::from(*modulus));
                let options = SearchOptions {
                    ef: Some(64),
                    exact: *exact,
                    filter: (*modulus > 0).then_some(&accept),
                    ..SearchOptions::default()
                };
                let k = usize::from(*k);
                let got = index.search(&query, k, &options).expect("a search");
                if *exact || !capability.approximate {
                    model.check_exact(metric, &query, k, &accept, &got);
                } else {
                    model.check_sound(metric, &query, k, &accept, &got);
                }
            }
            Op::Compact => index.compact().expect("a compaction"),
            Op::Reload if capability.snapshot => {
                let mut bytes = Vec::new();
                index.save(&mut bytes).expect("a save");
                index = h.fresh(metric, dim);
                index
                    .load(&mut bytes.as_slice())
                    .expect("a load of what was saved");
            }
            Op::Reload => {}
        }
        if matches!(op, Op::Read(_) | Op::Search { .. }) {
            assert_eq!(index.bytes(), before, "reading must not change bytes()");
        }
        model.check_contents(index.as_ref(), dim);
    }
}

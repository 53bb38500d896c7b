//! The vectors that are searched among: read from a file, or made up row by row so that they take no RAM.

use std::borrow::Cow;
use std::str::FromStr;

use aether::Metric;
use aether::import::{Matrix, Truth};

/// Rows that are made up at a time: enough to be worth a pass over the queries, few enough for the cache.
const CHUNK: usize = 256;

/// Vectors by their number.
#[derive(Debug)]
pub(crate) enum Base {
    Read(Matrix),
    Clustered(Clustered),
}

impl Base {
    pub(crate) fn rows(&self) -> usize {
        match self {
            Self::Read(matrix) => matrix.rows(),
            Self::Clustered(made) => made.spec.rows,
        }
    }

    pub(crate) fn dim(&self) -> usize {
        match self {
            Self::Read(matrix) => matrix.dim(),
            Self::Clustered(made) => made.spec.dim,
        }
    }

    pub(crate) fn row(&self, row: usize) -> Cow<'_, [f32]> {
        match self {
            Self::Read(matrix) => Cow::Borrowed(matrix.row(row)),
            Self::Clustered(made) => Cow::Owned(made.row(row as u64)),
        }
    }

    /// The true neighbours of some queries, by comparing all with all.
    pub(crate) fn truth(&self, queries: &Matrix, metric: Metric, k: usize) -> Truth {
        match self {
            Self::Read(matrix) => Truth::compute(matrix, queries, metric, k),
            Self::Clustered(made) => made.truth(queries, metric, k),
        }
    }
}

/// What is to be made up: `clustered:ROWSxDIM`, and a seed if wanted, as `clustered:1000000x96:7`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spec {
    pub(crate) rows: usize,
    pub(crate) dim: usize,
    pub(crate) seed: u64,
}

impl FromStr for Spec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = || {
            let mut parts = text.strip_prefix("clustered:")?.split(':');
            let (rows, dim) = parts.next()?.split_once('x')?;
            let seed = parts.next().map_or(Some(1), |s| s.parse().ok())?;
            let spec = Self {
                rows: rows.parse().ok()?,
                dim: dim.parse().ok()?,
                seed,
            };
            let sane = (1..=1 << 31).contains(&spec.rows)
                && (1..=aether::vector::DIM_MAX).contains(&spec.dim);
            (sane && parts.next().is_none()).then_some(spec)
        };
        parsed().ok_or_else(|| {
            format!("expected clustered:ROWSxDIM or clustered:ROWSxDIM:SEED, such as clustered:1000000x96, got {text:?}")
        })
    }
}

/// Unit vectors around centres, as embeddings lie: a centre for every thousand rows or so, 64 at least; each component of a row is its
/// centre's plus half as much noise, then all is scaled to norm 1. Row n is the same however many rows there are.
#[derive(Debug)]
pub(crate) struct Clustered {
    spec: Spec,
    centres: Matrix,
}

/// Nearly normal with variance 1/3: four even numbers, less their mean.
fn noise(rng: &mut fastrand::Rng) -> f32 {
    (0..4).map(|_| rng.f32()).sum::<f32>() - 2.0
}

impl Clustered {
    /// # Errors
    /// None in practice: the specification was checked when it was read.
    pub(crate) fn new(spec: Spec) -> aether::Result<Self> {
        let mut rng = fastrand::Rng::with_seed(spec.seed);
        let count = (spec.rows / 1000).max(64);
        let data = (0..count * spec.dim).map(|_| noise(&mut rng)).collect();
        let centres = Matrix::new(spec.dim, data)?;
        Ok(Self { spec, centres })
    }

    fn row(&self, row: u64) -> Vec<f32> {
        let seed = self.spec.seed.rotate_left(32) ^ row.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut rng = fastrand::Rng::with_seed(seed);
        let centre = self.centres.row(rng.usize(..self.centres.rows()));
        let mut vector: Vec<f32> = centre.iter().map(|c| c + 0.5 * noise(&mut rng)).collect();
        let norm = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
        vector
            .iter_mut()
            .for_each(|x| *x /= norm.max(f32::MIN_POSITIVE));
        vector
    }

    /// Further rows of the same kind, to search for.
    ///
    /// # Errors
    /// As [`Clustered::new`].
    pub(crate) fn queries(&self, count: usize) -> aether::Result<Matrix> {
        let rows = (0..count as u64).map(|q| self.row(u64::MAX - q));
        Matrix::new(self.spec.dim, rows.flatten().collect())
    }

    /// All processors make up their share of the rows, chunk by chunk, and compare it with every query.
    fn truth(&self, queries: &Matrix, metric: Metric, k: usize) -> Truth {
        let k = k.min(self.spec.rows);
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let share = self.spec.rows.div_ceil(threads);
        let parts: Vec<Vec<Nearest>> = std::thread::scope(|scope| {
            let work = |part: usize| {
                let rows = part * share..((part + 1) * share).min(self.spec.rows);
                self.nearest_in(rows, queries, metric, k)
            };
            let running: Vec<_> = (0..threads)
                .map(|part| scope.spawn(move || work(part)))
                .collect();
            let joined = running.into_iter().map(|part| match part.join() {
                Ok(found) => found,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            joined.collect()
        });
        let mut rows = Vec::with_capacity(queries.rows() * k);
        for query in 0..queries.rows() {
            let mut all = Nearest::new(k);
            for (distance, row) in parts
                .iter()
                .filter_map(|p| p.get(query))
                .flat_map(|n| &n.found)
            {
                all.offer(*distance, *row);
            }
            rows.extend(all.found.iter().map(|(_, row)| *row));
        }
        Truth::new(k, rows)
    }

    fn nearest_in(
        &self,
        rows: std::ops::Range<usize>,
        queries: &Matrix,
        metric: Metric,
        k: usize,
    ) -> Vec<Nearest> {
        let scales: Vec<f32> = queries.iter().map(|q| metric.scale(q)).collect();
        let mut found: Vec<Nearest> = (0..queries.rows()).map(|_| Nearest::new(k)).collect();
        for first in rows.clone().step_by(CHUNK) {
            let chunk = first..(first + CHUNK).min(rows.end);
            let made: Vec<(u32, Vec<f32>)> =
                chunk.map(|r| (r as u32, self.row(r as u64))).collect();
            for ((query, scale), found) in queries.iter().zip(&scales).zip(&mut found) {
                for (row, vector) in &made {
                    let near = metric.distance_scaled(query, *scale, vector, metric.scale(vector));
                    found.offer(near, *row);
                }
            }
        }
        found
    }
}

/// The k nearest so far, nearest first, ties by row.
#[derive(Debug)]
struct Nearest {
    k: usize,
    found: Vec<(f32, u32)>,
}

impl Nearest {
    fn new(k: usize) -> Self {
        let found = Vec::with_capacity(k + 1);
        Self { k, found }
    }

    fn offer(&mut self, distance: f32, row: u32) {
        let before = |a: &(f32, u32)| a.0.total_cmp(&distance).then(a.1.cmp(&row)).is_lt();
        if self.found.len() == self.k && self.found.last().is_none_or(before) {
            return;
        }
        let place = self.found.partition_point(before);
        self.found.insert(place, (distance, row));
        self.found.truncate(self.k);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_specification_is_read_and_mistakes_are_refused() {
        let spec = Spec {
            rows: 1_000_000,
            dim: 96,
            seed: 1,
        };
        assert_eq!("clustered:1000000x96".parse(), Ok(spec));
        assert_eq!(
            "clustered:1000000x96:9".parse(),
            Ok(Spec { seed: 9, ..spec })
        );
        for bad in [
            "",
            "1000x96",
            "clustered:1000",
            "clustered:0x3",
            "clustered:5x0",
            "clustered:5x5:a",
            "clustered:5x5:1:2",
        ] {
            assert!(bad.parse::<Spec>().is_err(), "{bad:?}");
        }
    }

    /// The streaming comparison answers what the plain one does, and rows do not depend on how many there are.
    #[test]
    fn the_truth_of_made_up_rows_is_that_of_the_same_rows_in_ram() {
        let spec = Spec {
            rows: 3000,
            dim: 12,
            seed: 5,
        };
        let made = Clustered::new(spec).unwrap();
        let queries = made.queries(20).unwrap();
        let rows: Vec<f32> = (0..3000).flat_map(|r| made.row(r)).collect();
        let matrix = Matrix::new(12, rows).unwrap();
        for metric in Metric::ALL {
            let plain = Truth::compute(&matrix, &queries, metric, 10);
            assert_eq!(made.truth(&queries, metric, 10), plain, "{metric}");
        }
        let fewer = Clustered::new(Spec { rows: 10, ..spec }).unwrap();
        assert_eq!(fewer.row(7), made.row(7));
        let norm: f32 = made.row(7).iter().map(|x| x * x).sum();
        assert!((norm - 1.0).abs() < 1e-5);
    }
}

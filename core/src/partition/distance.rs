//! Nearest centroids of many rows at once.
//!
//! Rows and centroids are compared in tiles of a few of each. A pair's sum is made in the same order in a tile of any size, so results do not
//! depend on who stands beside whom.

use aether_codes::{TILE_OTHERS as CENTROIDS, TILE_ROWS as ROWS, Term, pair, tile};

use crate::vector::Metric;

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Measure {
    /// Squared Euclidean distance.
    Squared,
    /// 1 - cos, of unit vectors.
    Angle,
}

impl Measure {
    /// How rows are sorted into partitions under a metric. By the Euclidean distance under inner product too: a partition's codes and its
    /// radius are the better, the nearer its rows lie to the centroid, and a long centroid would draw everything to itself.
    pub(super) fn of(metric: Metric) -> Self {
        match metric {
            Metric::L2 | Metric::InnerProduct => Self::Squared,
            Metric::Cosine => Self::Angle,
        }
    }
}

/// Tells `visit` the distance of every row to every centroid, by their places.
pub(super) fn each(
    measure: Measure,
    rows: &[&[f32]],
    centroids: &[&[f32]],
    mut visit: impl FnMut(usize, usize, f32),
) {
    match measure {
        Measure::Squared => sums(Term::SquaredDifference, rows, centroids, visit),
        Measure::Angle => {
            sums(Term::Product, rows, centroids, |r, c, sum| {
                visit(r, c, 1.0 - sum);
            });
        }
    }
}

fn sums(
    term: Term,
    rows: &[&[f32]],
    centroids: &[&[f32]],
    mut visit: impl FnMut(usize, usize, f32),
) {
    let (bands, last) = rows.as_chunks::<ROWS>();
    for (band, rows) in bands.iter().enumerate() {
        for (t, some) in centroids.chunks(CENTROIDS).enumerate() {
            for (r, sums) in tile(term, rows, some).into_iter().enumerate() {
                for (c, sum) in sums.into_iter().take(some.len()).enumerate() {
                    visit(band * ROWS + r, t * CENTROIDS + c, sum);
                }
            }
        }
    }
    let whole = bands.len() * ROWS;
    for (r, row) in last.iter().enumerate() {
        for (c, centroid) in centroids.iter().enumerate() {
            visit(whole + r, c, pair(term, row, centroid));
        }
    }
}

/// The nearest centroid of each row, by its place, with its distance; the first of equals. `(0, inf)` when there is none.
pub(super) fn nearest(
    measure: Measure,
    rows: &[&[f32]],
    centroids: &[&[f32]],
) -> Vec<(usize, f32)> {
    let mut best = vec![(0, f32::INFINITY); rows.len()];
    each(measure, rows, centroids, |r, c, distance| {
        if distance < best[r].1 {
            best[r] = (c, distance);
        }
    });
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_of_every_size_agree_with_the_plain_distance() {
        let mut rng = fastrand::Rng::with_seed(1);
        for dim in [1, 3, 4, 7, 64, 129] {
            for (n, k) in [(1, 1), (4, 2), (9, 5), (3, 8)] {
                let mut some = |n: usize| -> Vec<Vec<f32>> {
                    (0..n)
                        .map(|_| (0..dim).map(|_| rng.f32() - 0.5).collect())
                        .collect()
                };
                let (rows, centroids) = (some(n), some(k));
                let rows: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
                let centroids: Vec<&[f32]> = centroids.iter().map(Vec::as_slice).collect();
                for measure in [Measure::Squared, Measure::Angle] {
                    let mut seen = 0;
                    each(measure, &rows, &centroids, |r, c, distance| {
                        seen += 1;
                        let pairs = rows[r].iter().zip(centroids[c]);
                        let plain: f64 = match measure {
                            Measure::Squared => pairs.map(|(x, c)| f64::from(x - c).powi(2)).sum(),
                            Measure::Angle => {
                                1.0 - pairs.map(|(x, c)| f64::from(x * c)).sum::<f64>()
                            }
                        };
                        assert!((f64::from(distance) - plain).abs() < 1e-4);
                        each(measure, &[rows[r]], &[centroids[c]], |_, _, alone| {
                            assert_eq!(alone.to_bits(), distance.to_bits(), "whoever is beside");
                        });
                    });
                    assert_eq!(seen, n * k);
                }
            }
        }
    }
}

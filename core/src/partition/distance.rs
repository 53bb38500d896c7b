//! Nearest centroids of many rows at once.
//!
//! Rows and centroids are compared in tiles of a few of each, so that every number that is loaded is used several times and the sums do not
//! wait for one another. A pair's sum is made in the same order in a tile of any size, so results do not depend on who stands beside whom.

use aether_codes::widest;

use crate::vector::Metric;

/// Sums beside one another: what AVX2 adds at once, and every processor in two goes.
const LANES: usize = 8;
/// Rows of a tile.
const ROWS: usize = 4;
/// Centroids of a tile.
const CENTROIDS: usize = 2;

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

type Lanes = [f32; LANES];

/// One pair's sum so far, and what is left of the vectors.
#[inline(always)]
fn finish(sum: Lanes, x: &[f32], c: &[f32], term: impl Fn(f32, f32) -> f32) -> f32 {
    let [a, b, d, e]: [f32; 4] = std::array::from_fn(|l| sum[l] + sum[l + LANES / 2]);
    let rest: f32 = x.iter().zip(c).map(|(x, c)| term(*x, *c)).sum();
    (a + b) + (d + e) + rest
}

#[inline(always)]
fn add(sum: &mut Lanes, x: &Lanes, c: &Lanes, term: impl Fn(f32, f32) -> f32) {
    for l in 0..LANES {
        sum[l] += term(x[l], c[l]);
    }
}

/// Sums over the pairs of four rows and two centroids.
#[inline(always)]
fn tile(
    rows: &[&[f32]; ROWS],
    centroids: &[&[f32]; CENTROIDS],
    term: impl Fn(f32, f32) -> f32 + Copy,
) -> [[f32; CENTROIDS]; ROWS] {
    let [(x0, r0), (x1, r1), (x2, r2), (x3, r3)] = rows.map(|v| v.as_chunks::<LANES>());
    let [(c0, s0), (c1, s1)] = centroids.map(|v| v.as_chunks::<LANES>());
    // One by one, so that all eight stay in registers.
    let [
        mut a0,
        mut a1,
        mut b0,
        mut b1,
        mut d0,
        mut d1,
        mut e0,
        mut e1,
    ] = [[0f32; LANES]; 8];
    let rows = x0.iter().zip(x1).zip(x2).zip(x3);
    for ((((x0, x1), x2), x3), (c0, c1)) in rows.zip(c0.iter().zip(c1)) {
        add(&mut a0, x0, c0, term);
        add(&mut a1, x0, c1, term);
        add(&mut b0, x1, c0, term);
        add(&mut b1, x1, c1, term);
        add(&mut d0, x2, c0, term);
        add(&mut d1, x2, c1, term);
        add(&mut e0, x3, c0, term);
        add(&mut e1, x3, c1, term);
    }
    let end = |sum, x, c| finish(sum, x, c, term);
    [
        [end(a0, r0, s0), end(a1, r0, s1)],
        [end(b0, r1, s0), end(b1, r1, s1)],
        [end(d0, r2, s0), end(d1, r2, s1)],
        [end(e0, r3, s0), end(e1, r3, s1)],
    ]
}

/// The same for one pair.
#[inline(always)]
fn pair(x: &[f32], c: &[f32], term: impl Fn(f32, f32) -> f32 + Copy) -> f32 {
    let ((x, x_rest), (c, c_rest)) = (x.as_chunks::<LANES>(), c.as_chunks::<LANES>());
    let mut sum = [0f32; LANES];
    x.iter().zip(c).for_each(|(x, c)| add(&mut sum, x, c, term));
    finish(sum, x_rest, c_rest, term)
}

/// Tells `visit` the distance of every row to every centroid, by their places.
pub(super) fn each(
    measure: Measure,
    rows: &[&[f32]],
    centroids: &[&[f32]],
    mut visit: impl FnMut(usize, usize, f32),
) {
    widest(|| match measure {
        Measure::Squared => sums(rows, centroids, |x, c| (x - c) * (x - c), visit),
        Measure::Angle => {
            let product = |x, c| x * c;
            sums(rows, centroids, product, |r, c, sum| visit(r, c, 1.0 - sum));
        }
    });
}

#[inline(always)]
fn sums(
    rows: &[&[f32]],
    centroids: &[&[f32]],
    term: impl Fn(f32, f32) -> f32 + Copy,
    mut visit: impl FnMut(usize, usize, f32),
) {
    let (bands, last) = rows.as_chunks::<ROWS>();
    let (pairs, odd) = centroids.as_chunks::<CENTROIDS>();
    for (band, rows) in bands.iter().enumerate() {
        for (p, pair) in pairs.iter().enumerate() {
            for (r, sums) in tile(rows, pair, term).into_iter().enumerate() {
                for (c, sum) in sums.into_iter().enumerate() {
                    visit(band * ROWS + r, p * CENTROIDS + c, sum);
                }
            }
        }
    }
    // What is left over on either side.
    let whole = bands.len() * ROWS;
    for (r, row) in rows[..whole].iter().enumerate() {
        for (c, centroid) in odd.iter().enumerate() {
            visit(r, pairs.len() * CENTROIDS + c, pair(row, centroid, term));
        }
    }
    for (r, row) in last.iter().enumerate() {
        for (c, centroid) in centroids.iter().enumerate() {
            visit(whole + r, c, pair(row, centroid, term));
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

//! K-means on a sample: k-means++ seeding (Arthur and Vassilvitskii, SODA 2007), mini-batches with a rate of learning for each centroid
//! (Sculley, WWW 2010, algorithm 1), and two of Lloyd's passes at the end. Many centroids are trained in two levels: a few coarse cells first,
//! then each cell by itself, in proportion to its rows; O(n sqrt(k)) instead of O(n k). Under cosine the centroids are kept at unit
//! length (Dhillon and Modha, Machine Learning 42, 2001).

use super::distance::{self, Measure};
use super::groups::Groups;
use crate::vector::dot;

/// Centroids that are trained in one level.
const DIRECT: usize = 64;
/// Rows for each centroid that seeding looks at.
const SEEDING: usize = 16;
/// Rows of a mini-batch.
const BATCH: usize = 512;
/// How often mini-batches go through all rows.
const EPOCHS: usize = 4;
/// Lloyd's passes at the end.
const PASSES: usize = 2;

/// Trains up to `k` centroids, `[k][dim]`, from rows of unit length under [`Measure::Angle`]; fewer when there are fewer rows.
pub(super) fn train(measure: Measure, rows: &[&[f32]], k: usize, seed: u64) -> Vec<Vec<f32>> {
    let mut rng = fastrand::Rng::with_seed(seed);
    if k <= DIRECT {
        return direct(measure, rows, k, &mut rng);
    }
    let coarse = direct(measure, rows, (k as f64).sqrt().ceil() as usize, &mut rng);
    let mut cells: Vec<Vec<&[f32]>> = vec![Vec::new(); coarse.len()];
    for (row, (cell, _)) in rows.iter().zip(assign(measure, rows, &coarse)) {
        cells[cell].push(row);
    }
    let mut centroids = Vec::with_capacity(k);
    let mut done = 0;
    for cell in &cells {
        // Shares that add up to `k`, whatever the rounding.
        let before = done * k / rows.len().max(1);
        done += cell.len();
        let share = done * k / rows.len().max(1) - before;
        centroids.extend(direct(measure, cell, share, &mut rng));
    }
    for _ in 0..PASSES {
        lloyd(measure, rows, &mut centroids, &mut rng);
    }
    centroids
}

/// All at once.
fn direct(measure: Measure, rows: &[&[f32]], k: usize, rng: &mut fastrand::Rng) -> Vec<Vec<f32>> {
    let k = k.min(rows.len());
    if k == 0 {
        return Vec::new();
    }
    let mut order: Vec<&[f32]> = rows.to_vec();
    rng.shuffle(&mut order);
    let mut centroids = seeds(measure, &order[..order.len().min(k * SEEDING)], k, rng);
    let mut counts = vec![0u32; k];
    if k > 1 && order.len() > k * SEEDING {
        for _ in 0..EPOCHS {
            for batch in order.chunks(BATCH) {
                for (row, (cell, _)) in batch.iter().zip(assign(measure, batch, &centroids)) {
                    counts[cell] += 1;
                    let rate = 1.0 / counts[cell] as f32;
                    let centroid = centroids[cell].iter_mut().zip(*row);
                    centroid.for_each(|(c, x)| *c += rate * (x - *c));
                }
                if measure == Measure::Angle {
                    centroids.iter_mut().for_each(|c| unit(c));
                }
            }
        }
    }
    for _ in 0..PASSES {
        lloyd(measure, rows, &mut centroids, rng);
    }
    centroids
}

/// The nearest of few centroids, or nearly the nearest of many.
fn assign(measure: Measure, rows: &[&[f32]], centroids: &[Vec<f32>]) -> Vec<(usize, f32)> {
    let centroids: Vec<&[f32]> = centroids.iter().map(Vec::as_slice).collect();
    match Groups::of(measure, &centroids) {
        Some(groups) => groups.nearest(measure, rows, &centroids),
        None => distance::nearest(measure, rows, &centroids),
    }
}

/// Moves each centroid to the mean of its rows. One without rows takes a random row, which splits some crowded cell.
fn lloyd(measure: Measure, rows: &[&[f32]], centroids: &mut [Vec<f32>], rng: &mut fastrand::Rng) {
    let cells = assign(measure, rows, centroids);
    let cells: Vec<usize> = cells.into_iter().map(|(cell, _)| cell).collect();
    let means = means(measure, rows, &cells, centroids.len());
    for (centroid, mean) in centroids.iter_mut().zip(means) {
        *centroid = mean.unwrap_or_else(|| rows[rng.usize(..rows.len())].to_vec());
    }
}

/// The mean of each cell, where it has rows.
pub(super) fn means(
    measure: Measure,
    rows: &[&[f32]],
    cells: &[usize],
    k: usize,
) -> Vec<Option<Vec<f32>>> {
    let dim = rows.first().map_or(0, |r| r.len());
    let mut sums = vec![(0u32, Vec::<f64>::new()); k];
    for (row, cell) in rows.iter().zip(cells) {
        let (count, sum) = &mut sums[*cell];
        *count += 1;
        sum.resize(dim, 0.0);
        sum.iter_mut()
            .zip(*row)
            .for_each(|(s, x)| *s += f64::from(*x));
    }
    let mean = |(count, sum): (u32, Vec<f64>)| {
        (count > 0).then(|| {
            let mean = sum.iter().map(|s| (s / f64::from(count)) as f32);
            let mut mean: Vec<f32> = mean.collect();
            if measure == Measure::Angle {
                unit(&mut mean);
            }
            mean
        })
    };
    sums.into_iter().map(mean).collect()
}

/// Makes a vector one of unit length; zero stays.
pub(super) fn unit(v: &mut [f32]) {
    let norm = dot(v, v).sqrt();
    if norm > 0.0 {
        v.iter_mut().for_each(|x| *x /= norm);
    }
}

/// k-means++: each next seed is drawn with a probability in proportion to its squared distance from those chosen.
fn seeds(measure: Measure, rows: &[&[f32]], k: usize, rng: &mut fastrand::Rng) -> Vec<Vec<f32>> {
    let mut centroids: Vec<Vec<f32>> = vec![rows[rng.usize(..rows.len())].to_vec()];
    let mut nearest = vec![f32::INFINITY; rows.len()];
    while centroids.len() < k {
        let last: &[f32] = &centroids[centroids.len() - 1];
        // Of unit vectors, 1 - cos is half the squared distance.
        distance::each(measure, rows, &[last], |r, _, d| {
            nearest[r] = nearest[r].min(d.max(0.0));
        });
        let total: f64 = nearest.iter().map(|d| f64::from(*d)).sum();
        let mut draw = rng.f64() * total;
        let chosen = nearest.iter().position(|d| {
            draw -= f64::from(*d);
            draw < 0.0
        });
        let chosen = chosen.unwrap_or_else(|| rng.usize(..rows.len()));
        centroids.push(rows[chosen].to_vec());
    }
    centroids
}

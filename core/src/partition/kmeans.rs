//! K-means: k-means++ seeding on a sample (Arthur and Vassilvitskii, SODA 2007) and Lloyd's iterations; with `spherical` the
//! centroids are kept at unit length (Dhillon and Modha, Machine Learning 42, 2001).

use crate::vector::{dot, squared_l2};

/// Lloyd iterations: cells of text embeddings change by less than 2 % of the rows after the sixth.
const ITERATIONS: usize = 8;

/// Trains up to `k` centroids, `[k, dim]`, from `[rows, dim]`; fewer when there are fewer rows.
pub(super) fn train(rows: &[f32], dim: usize, k: usize, spherical: bool, seed: u64) -> Vec<f32> {
    let n = rows.len() / dim;
    let k = k.min(n).max(1);
    let row = |i: usize| &rows[i * dim..(i + 1) * dim];
    if n == 0 {
        return vec![0.0; dim];
    }
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut centroids = seed_centroids(&mut rng, n, k, row);
    let mut cell = vec![0usize; n];
    for _ in 0..ITERATIONS {
        let mut moved = 0;
        for (i, cell) in cell.iter_mut().enumerate() {
            let nearest = (centroids.chunks_exact(dim).enumerate())
                .map(|(c, v)| (squared_l2(row(i), v), c))
                .min_by(|a, b| a.0.total_cmp(&b.0))
                .map_or(0, |(_, c)| c);
            moved += usize::from(nearest != *cell);
            *cell = nearest;
        }
        let mut counts = vec![0u32; k];
        let mut sums = vec![0f64; k * dim];
        for (i, c) in cell.iter().enumerate() {
            counts[*c] += 1;
            sums[c * dim..(c + 1) * dim]
                .iter_mut()
                .zip(row(i))
                .for_each(|(s, x)| *s += f64::from(*x));
        }
        for (c, count) in counts.iter().enumerate() {
            let centroid = &mut centroids[c * dim..(c + 1) * dim];
            if *count == 0 {
                // An empty cell takes a random row, which splits some crowded cell.
                centroid.copy_from_slice(row(rng.usize(..n)));
                moved += 1;
                continue;
            }
            let sum = &sums[c * dim..(c + 1) * dim];
            centroid
                .iter_mut()
                .zip(sum)
                .for_each(|(x, s)| *x = (s / f64::from(*count)) as f32);
            if spherical {
                let norm = dot(centroid, centroid).sqrt();
                if norm > 0.0 {
                    centroid.iter_mut().for_each(|x| *x /= norm);
                }
            }
        }
        if moved * 200 < n {
            break;
        }
    }
    centroids
}

/// k-means++: each next seed is drawn with a probability in proportion to its squared distance from those chosen.
fn seed_centroids<'a>(
    rng: &mut fastrand::Rng,
    n: usize,
    k: usize,
    row: impl Fn(usize) -> &'a [f32],
) -> Vec<f32> {
    let mut centroids = row(rng.usize(..n)).to_vec();
    let mut nearest = vec![f32::INFINITY; n];
    let mut last = centroids.clone();
    for _ in 1..k {
        let mut total = 0f64;
        for (i, d) in nearest.iter_mut().enumerate() {
            *d = d.min(squared_l2(row(i), &last)).max(0.0);
            total += f64::from(*d);
        }
        let mut draw = rng.f64() * total;
        let chosen = nearest
            .iter()
            .position(|d| {
                draw -= f64::from(*d);
                draw < 0.0
            })
            .unwrap_or_else(|| rng.usize(..n));
        last = row(chosen).to_vec();
        centroids.extend_from_slice(&last);
    }
    centroids
}

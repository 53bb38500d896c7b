//! Cuts the rows of one partition into several.

use super::distance::{self, Measure};
use super::kmeans::{means, train};

/// The centroids of up to `parts` parts of some rows, each the nearest one to at least `least` of them; none where the rows are
/// all alike. Rows are of unit length under [`Measure::Angle`].
///
/// K-means leaves lopsided parts where a few rows lie far from the others. Fewer parts are tried then, and at last two, cut so that the
/// smaller one has its share (balanced clustering, as SPFresh asks of a split).
pub(super) fn split(
    measure: Measure,
    rows: &[&[f32]],
    parts: usize,
    least: usize,
    seed: u64,
) -> Vec<Vec<f32>> {
    let mut parts = parts.max(2);
    let mut centroids;
    loop {
        centroids = train(measure, rows, parts, seed);
        let refs: Vec<&[f32]> = centroids.iter().map(Vec::as_slice).collect();
        let mut counts = vec![0usize; centroids.len()];
        for (cell, _) in distance::nearest(measure, rows, &refs) {
            counts[cell] += 1;
        }
        let good = counts.iter().filter(|n| **n >= least).count();
        if good == centroids.len() && good >= 2 {
            return centroids;
        }
        if parts == 2 {
            break;
        }
        parts = good.clamp(2, parts - 1);
    }
    if centroids.len() < 2 {
        return Vec::new();
    }
    halves(measure, rows, [&centroids[0], &centroids[1]], least)
}

/// Cuts by which of two centroids is nearer, moved so that each side has `least` rows.
fn halves(
    measure: Measure,
    rows: &[&[f32]],
    centroids: [&[f32]; 2],
    least: usize,
) -> Vec<Vec<f32>> {
    let mut lean = vec![0f32; rows.len()];
    distance::each(measure, rows, &centroids, |r, c, d| {
        lean[r] += if c == 0 { d } else { -d };
    });
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by(|a, b| lean[*a].total_cmp(&lean[*b]).then(a.cmp(b)));
    let natural = lean.iter().filter(|l| **l <= 0.0).count();
    let least = least.min(rows.len() / 2);
    let cut = natural.clamp(least, rows.len() - least);
    let mut cells = vec![1usize; rows.len()];
    order[..cut].iter().for_each(|r| cells[*r] = 0);
    let means = means(measure, rows, &cells, 2);
    let found: Vec<Vec<f32>> = means.into_iter().flatten().collect();
    match &found[..] {
        [a, b] if a != b => found,
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refs(rows: &[Vec<f32>]) -> Vec<&[f32]> {
        rows.iter().map(Vec::as_slice).collect()
    }

    #[test]
    fn parts_have_their_share_even_of_rows_with_stragglers() {
        let mut rng = fastrand::Rng::with_seed(3);
        let mut rows: Vec<Vec<f32>> = (0..200)
            .map(|_| (0..8).map(|_| rng.f32()).collect())
            .collect();
        rows[7] = vec![30.0; 8];
        rows[8] = vec![-30.0; 8];
        let rows = refs(&rows);
        for parts in [2, 3, 6] {
            let made = split(Measure::Squared, &rows, parts, 16, 1);
            assert!(made.len() >= 2, "{parts}");
            assert_eq!(made, split(Measure::Squared, &rows, parts, 16, 1));
        }
        let two = halves(Measure::Squared, &rows, [rows[7], rows[1]], 50);
        assert_eq!(two.len(), 2);
    }

    #[test]
    fn rows_that_are_all_alike_stay_together() {
        let rows = vec![vec![1.0, 2.0]; 100];
        assert!(split(Measure::Squared, &refs(&rows), 4, 10, 1).is_empty());
        let one = vec![vec![1.0, 2.0]];
        assert!(split(Measure::Squared, &refs(&one), 2, 1, 1).is_empty());
    }
}

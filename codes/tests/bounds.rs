//! The true distance lies inside the bound at the stated confidence: for every number of bits, every measure, odd dimensions, and data
//! that is kind (normal), clustered, sparse (where a code without a rotation fails) or far from the origin.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use aether_codes::{
    Block, Bounds, Coder, Kernel, KernelKind, Layers, Measure, Query, Spot, deviations, least,
};

const MEASURES: [Measure; 3] = [Measure::L2, Measure::InnerProduct, Measure::Cosine];

#[derive(Clone, Copy, Debug)]
enum Kind {
    Normal,
    Clustered,
    Sparse,
    Far,
}

const KINDS: [Kind; 4] = [Kind::Normal, Kind::Clustered, Kind::Sparse, Kind::Far];

fn normal(rng: &mut fastrand::Rng) -> f32 {
    (0..12).map(|_| rng.f32()).sum::<f32>() - 6.0
}

fn draw(rng: &mut fastrand::Rng, kind: Kind, dim: usize, centre: &[f32]) -> Vec<f32> {
    match kind {
        Kind::Normal => (0..dim).map(|_| normal(rng)).collect(),
        Kind::Clustered => centre.iter().map(|c| c + 0.3 * normal(rng)).collect(),
        Kind::Sparse => {
            let mut v = vec![0.0; dim];
            for _ in 0..3 {
                v[rng.usize(..dim)] = 1.0 + rng.f32();
            }
            v
        }
        Kind::Far => centre.iter().map(|c| 5.0 + c + normal(rng)).collect(),
    }
}

fn mean(rows: &[Vec<f32>], measure: Measure) -> Vec<f32> {
    let dim = rows[0].len();
    let mut c = vec![0f32; dim];
    for row in rows {
        let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
        let unit = if measure == Measure::Cosine {
            1.0 / norm
        } else {
            1.0
        };
        c.iter_mut().zip(row).for_each(|(c, x)| *c += x * unit);
    }
    let norm = c.iter().map(|x| x * x).sum::<f32>().sqrt();
    let by = if measure == Measure::Cosine {
        norm
    } else {
        rows.len() as f32
    };
    c.iter_mut().for_each(|x| *x /= by);
    c
}

/// The definition, in f64.
fn distance(measure: Measure, a: &[f32], b: &[f32]) -> f64 {
    let pairs = || a.iter().zip(b).map(|(x, y)| (f64::from(*x), f64::from(*y)));
    let product: f64 = pairs().map(|(x, y)| x * y).sum();
    let squares = |v: &[f32]| v.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
    match measure {
        Measure::L2 => pairs().map(|(x, y)| (x - y).powi(2)).sum(),
        Measure::InnerProduct => -product,
        Measure::Cosine => 1.0 - product / (squares(a) * squares(b)).sqrt(),
    }
}

struct Tested {
    /// True distance and bounds of each pair.
    pairs: Vec<(f64, Bounds)>,
    /// The same by signs alone; none for codes that are hardly more.
    by_signs: Vec<(f64, Bounds)>,
    /// The least distance that the radius allows, and the smallest there is, for each query.
    least: Vec<(f32, f64)>,
}

fn run(dim: usize, bits: u8, measure: Measure, kind: Kind, confidence: f64) -> Tested {
    let mut rng = fastrand::Rng::with_seed(dim as u64 * 31 + u64::from(bits));
    let around: Vec<f32> = (0..dim).map(|_| normal(&mut rng)).collect();
    let rows: Vec<Vec<f32>> = (0..60)
        .map(|_| draw(&mut rng, kind, dim, &around))
        .collect();
    let centroid = mean(&rows, measure);
    let coder = Coder::new(dim, bits, measure).unwrap();
    let (centre, mut block) = (coder.centre(&centroid), Block::default());
    rows.iter()
        .for_each(|v| coder.encode(&centre, v, &mut block));
    let mut bytes = Vec::new();
    block.write(&mut bytes);
    assert_eq!(bytes.len(), rows.len() * coder.row_bytes());
    let layers = Layers::of(&coder, &centre, &bytes, rows.len());
    assert_eq!(layers.is_some(), Layers::are_worth(bits));
    let mut tested = Tested {
        pairs: Vec::new(),
        by_signs: Vec::new(),
        least: Vec::new(),
    };
    for _ in 0..40 {
        let q = draw(&mut rng, kind, dim, &around);
        let mut query = Query::new(&coder, &q);
        let mut bounds = Vec::new();
        let z = deviations(confidence);
        let spot = query.spot(measure, &centroid);
        assert!(query.estimate(&coder, spot, &bytes, rows.len(), z, &mut bounds));
        let mut signs = Vec::new();
        if let Some(layers) = &layers {
            query.estimate_signs(&coder, spot, layers, z, &mut signs);
            assert_eq!(signs.len(), rows.len());
        }
        // Whoever asks for those below a bar gets the very same bounds of just these.
        let mut lowers: Vec<f32> = bounds.iter().map(Bounds::lower).collect();
        lowers.sort_unstable_by(f32::total_cmp);
        for bar in [
            f32::INFINITY,
            lowers[lowers.len() / 2],
            lowers[0],
            f32::NEG_INFINITY,
        ] {
            let mut below = Vec::new();
            let asked = (z, bar);
            assert!(query.estimate_below(&coder, spot, &bytes, rows.len(), asked, &mut below));
            let expected = (0u32..)
                .zip(bounds.iter().copied())
                .filter(|(_, b)| b.lower() <= bar);
            assert!(below.iter().copied().eq(expected.clone()), "{bar}");
            // By layers the same, but for those that their signs put above it.
            if let Some(layers) = &layers {
                let mut left = Vec::new();
                query.below(&coder, spot, layers, asked, &mut left);
                let possible = |(place, _): &(u32, Bounds)| {
                    let above = signs[*place as usize].lower() > bar;
                    !above
                };
                assert!(left.into_iter().eq(expected.filter(possible)), "{bar}");
            }
        }
        let truth: Vec<f64> = rows.iter().map(|v| distance(measure, &q, v)).collect();
        let nearest = truth.iter().copied().fold(f64::INFINITY, f64::min);
        let norm = q.iter().map(|x| x * x).sum::<f32>().sqrt();
        let rank = distance(measure, &q, &centroid) as f32;
        match Spot::at(measure, rank) {
            None => assert_eq!(measure, Measure::InnerProduct),
            Some(known) => {
                let mut again = Vec::new();
                assert!(query.estimate(&coder, known, &bytes, rows.len(), z, &mut again));
                for (a, b) in again.iter().zip(&bounds) {
                    let margin = 1e-5 * (1.0 + b.estimate.abs() + b.error);
                    assert!((a.estimate - b.estimate).abs() < margin, "{a:?}, {b:?}");
                    assert!((a.error - b.error).abs() < 10.0 * margin, "{a:?}, {b:?}");
                }
            }
        }
        let bound = least(measure, norm, rank, block.radius());
        tested.least.push((bound, nearest));
        (tested.by_signs).extend(truth.iter().copied().zip(signs));
        tested.pairs.extend(truth.into_iter().zip(bounds));
    }
    tested
}

/// Share of the pairs whose truth lies inside.
fn inside(pairs: &[(f64, Bounds)]) -> f64 {
    let within = |(t, b): &&(f64, Bounds)| f64::from(b.lower()) <= *t && *t <= f64::from(b.upper());
    pairs.iter().filter(within).count() as f64 / pairs.len() as f64
}

#[test]
fn the_truth_lies_inside_at_the_stated_confidence() {
    for dim in [24, 100, 128, 384, 769] {
        for bits in 1..=8 {
            for measure in MEASURES {
                for kind in KINDS {
                    for confidence in [0.9, 0.99] {
                        let tested = run(dim, bits, measure, kind, confidence);
                        // 2,400 pairs of 60 codes and 40 queries: three deviations of the share at that number, generously.
                        let margin = 3.0 * (confidence * (1.0 - confidence) / 400.0).sqrt();
                        let all = [&tested.pairs, &tested.by_signs];
                        for pairs in all.into_iter().filter(|p| !p.is_empty()) {
                            let share = inside(pairs);
                            assert!(
                                share >= confidence - margin,
                                "{dim} dimensions, {bits} bits, {measure:?}, {kind:?}: {share} inside at {confidence}"
                            );
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn estimates_lean_to_neither_side() {
    for bits in [1, 2, 4, 8] {
        for measure in MEASURES {
            let tested = run(384, bits, measure, Kind::Clustered, 0.95);
            let all = [&tested.pairs, &tested.by_signs];
            for pairs in all.into_iter().filter(|p| !p.is_empty()) {
                let n = pairs.len() as f64;
                let errors: Vec<f64> = (pairs.iter())
                    .map(|(t, b)| f64::from(b.estimate) - t)
                    .collect();
                let mean = errors.iter().sum::<f64>() / n;
                let spread = (errors.iter().map(|e| e * e).sum::<f64>() / n).sqrt();
                assert!(
                    mean.abs() < 0.25 * spread,
                    "{bits} bits, {measure:?}: mean error {mean}, spread {spread}"
                );
            }
        }
    }
}

#[test]
fn each_bit_makes_the_bound_tighter() {
    // Measured ratios lie between 1.6 and 2.1; at eight bits the query's own rounding to bytes begins to count.
    for measure in MEASURES {
        let width = |bits| {
            let tested = run(384, bits, measure, Kind::Normal, 0.95);
            tested.pairs.iter().map(|(_, b)| b.error).sum::<f32>()
        };
        let widths: Vec<f32> = (1..=8).map(width).collect();
        for pair in widths[..7].windows(2) {
            assert!(pair[1] < pair[0] / 1.3, "{measure:?}: {widths:?}");
        }
    }
}

#[test]
fn no_row_is_nearer_than_its_radius_allows() {
    for measure in MEASURES {
        for kind in KINDS {
            for (least, nearest) in run(96, 4, measure, kind, 0.9).least {
                assert!(
                    f64::from(least) <= nearest + 1e-6 * nearest.abs(),
                    "{measure:?}, {kind:?}: {least} above {nearest}"
                );
            }
        }
    }
}

#[test]
fn kernels_give_the_same_bounds() {
    let mut rng = fastrand::Rng::with_seed(5);
    for (dim, bits) in [(3, 1), (7, 8), (100, 3), (385, 5), (768, 4)] {
        let coder = Coder::new(dim, bits, Measure::L2).unwrap();
        let centroid: Vec<f32> = (0..dim).map(|_| normal(&mut rng)).collect();
        let (centre, mut block) = (coder.centre(&centroid), Block::default());
        for _ in 0..9 {
            let v: Vec<f32> = (0..dim).map(|_| normal(&mut rng)).collect();
            coder.encode(&centre, &v, &mut block);
        }
        let mut bytes = Vec::new();
        block.write(&mut bytes);
        let q: Vec<f32> = (0..dim).map(|_| normal(&mut rng)).collect();
        let of = |kind| {
            let mut bounds = Vec::new();
            let mut query = Query::with_kernel(&coder, &q, Kernel::of(kind)?);
            let spot = query.spot(Measure::L2, &centroid);
            assert!(query.estimate(&coder, spot, &bytes, 9, 2.0, &mut bounds));
            if let Some(layers) = Layers::of(&coder, &centre, &bytes, 9) {
                query.estimate_signs(&coder, spot, &layers, 2.0, &mut bounds);
            }
            Some(bounds)
        };
        let reference = of(KernelKind::Scalar).unwrap();
        for kind in [KernelKind::Avx2, KernelKind::Avx512] {
            if let Some(bounds) = of(kind) {
                assert_eq!(bounds, reference, "{kind:?}, {dim} dimensions, {bits} bits");
            }
        }
    }
}

#[test]
fn zeros_equal_rows_and_wrong_lengths_do_no_harm() {
    let coder = Coder::new(10, 4, Measure::L2).unwrap();
    let centroid = vec![1.0; 10];
    let (centre, mut block) = (coder.centre(&centroid), Block::default());
    coder.encode(&centre, &centroid, &mut block);
    coder.encode(&centre, &[0.0; 10], &mut block);
    let mut bytes = Vec::new();
    block.write(&mut bytes);
    let mut query = Query::new(&coder, &[0.0; 10]);
    let (spot, mut bounds) = (query.spot(Measure::L2, &centroid), Vec::new());
    assert!(query.estimate(&coder, spot, &bytes, 2, 3.0, &mut bounds));
    assert!(
        (bounds[0].estimate - 10.0).abs() < 1e-3,
        "a row at the centroid is known exactly: {bounds:?}"
    );
    assert!(bounds[0].error < 1e-2 && bounds[1].lower() <= 0.0 && bounds[1].upper() >= 0.0);
    for (cut, rows) in [(1, 2), (0, 1), (0, 3)] {
        let short = &bytes[..bytes.len() - cut];
        assert!(Layers::of(&coder, &centre, short, rows).is_none());
        assert!(!query.estimate(&coder, spot, short, rows, 3.0, &mut bounds));
    }
    assert!(Coder::new(10, 0, Measure::L2).is_none() && Coder::new(10, 9, Measure::L2).is_none());
    assert!(Coder::new(0, 4, Measure::L2).is_none());
}

//! A random rotation in O(d log d).
//!
//! Four rounds of random signs and a Hadamard transform. Where the dimension is no power of two, a round transforms the largest power
//! of two at one end, the next round at the other, and a Kac step (a quarter turn of each pair of the two halves) mixes between
//! them, as in the RaBitQ authors' library. Up to [`DENSE_MAX`] dimensions signs alone leave too few rotations to choose from: there
//! a dense orthogonal matrix is drawn instead.

use crate::dot;
use crate::kernel::{Work, wide};

/// Largest padded dimension that is rotated by a dense matrix.
const DENSE_MAX: usize = 64;
const ROUNDS: usize = 4;
/// Of the one rotation that format 2 of a segment knows. Another seed is another format.
const SEED: u64 = 0x5261_4269_7451_0001;

/// An orthogonal map of `padded` dimensions; the same on every machine.
#[derive(Clone, Debug)]
pub(crate) struct Rotation {
    padded: usize,
    form: Form,
}

#[derive(Clone, Debug)]
enum Form {
    /// `[padded, padded]`, rows orthonormal.
    Dense(Vec<f32>),
    /// +1 or -1, `[ROUNDS, padded]`.
    Hadamard(Vec<f32>),
}

impl Rotation {
    /// The rotation of vectors of `dim` floats.
    pub(crate) fn new(dim: usize) -> Self {
        let padded = dim.next_multiple_of(8);
        let mut rng = fastrand::Rng::with_seed(SEED ^ padded as u64);
        let form = if padded <= DENSE_MAX {
            Form::Dense(orthogonal(&mut rng, padded))
        } else {
            let sign = |_| if rng.bool() { 1.0 } else { -1.0 };
            Form::Hadamard((0..ROUNDS * padded).map(sign).collect())
        };
        Self { padded, form }
    }

    /// The length of what [`Rotation::apply`] gives: `dim` rounded up to eight.
    pub(crate) fn padded(&self) -> usize {
        self.padded
    }

    /// RAM.
    pub(crate) fn bytes(&self) -> usize {
        match &self.form {
            Form::Dense(m) | Form::Hadamard(m) => m.len() * 4,
        }
    }

    /// Rotates `vector`, zeros appended, into `out`: `[padded]`.
    pub(crate) fn apply(&self, vector: &[f32], out: &mut Vec<f32>) {
        wide(Turning {
            rotation: self,
            vector,
            out,
        });
    }

    /// The same, for a caller that is compiled for wide registers already.
    #[inline(always)]
    pub(crate) fn turn_into(&self, vector: &[f32], out: &mut Vec<f32>) {
        out.clear();
        match &self.form {
            Form::Dense(matrix) => {
                let row = |r: &[f32]| dot(&r[..vector.len()], vector);
                out.extend(matrix.chunks_exact(self.padded).map(row));
            }
            Form::Hadamard(signs) => {
                out.extend_from_slice(vector);
                out.resize(self.padded, 0.0);
                let power = 1 << self.padded.ilog2();
                let end = self.padded - power;
                for (round, signs) in signs.chunks_exact(self.padded).enumerate() {
                    out.iter_mut().zip(signs).for_each(|(x, s)| *x *= s);
                    if end == 0 {
                        hadamard(out);
                    } else if round % 2 == 0 {
                        hadamard(&mut out[..power]);
                        turn(out);
                    } else {
                        hadamard(&mut out[end..]);
                        turn(out);
                    }
                }
            }
        }
    }
}

/// A vector that is being turned.
struct Turning<'a> {
    rotation: &'a Rotation,
    vector: &'a [f32],
    out: &'a mut Vec<f32>,
}

impl Work for Turning<'_> {
    type Out = ();

    #[inline(always)]
    fn run(self) {
        self.rotation.turn_into(self.vector, self.out);
    }
}

/// Of eight numbers the upper of each pair, at a distance of 1, 2 and 4.
const NEGATIVE: [[f32; 8]; 3] = [
    [1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 1.0, -1.0],
    [1.0, 1.0, -1.0, -1.0, 1.0, 1.0, -1.0, -1.0],
    [1.0, 1.0, 1.0, 1.0, -1.0, -1.0, -1.0, -1.0],
];

/// Walsh-Hadamard transform, scaled to be orthogonal. The length is a power of two.
#[inline(always)]
fn hadamard(x: &mut [f32]) {
    let mut half = 1;
    if x.len() >= 8 {
        // The first three levels of eight numbers stay in a register: each number meets its partner, and one of the two is taken negative.
        for eight in x.as_chunks_mut::<8>().0 {
            let mut e = *eight;
            let partners = [e[1], e[0], e[3], e[2], e[5], e[4], e[7], e[6]];
            (0..8).for_each(|i| e[i] = partners[i] + e[i] * NEGATIVE[0][i]);
            let partners = [e[2], e[3], e[0], e[1], e[6], e[7], e[4], e[5]];
            (0..8).for_each(|i| e[i] = partners[i] + e[i] * NEGATIVE[1][i]);
            let partners = [e[4], e[5], e[6], e[7], e[0], e[1], e[2], e[3]];
            (0..8).for_each(|i| e[i] = partners[i] + e[i] * NEGATIVE[2][i]);
            *eight = e;
        }
        half = 8;
    }
    while half < x.len() {
        for pair in x.chunks_exact_mut(2 * half) {
            let (a, b) = pair.split_at_mut(half);
            for (a, b) in a.iter_mut().zip(b) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        half *= 2;
    }
    let scale = 1.0 / (x.len() as f32).sqrt();
    x.iter_mut().for_each(|x| *x *= scale);
}

/// Turns each pair of one half and the other by 45 degrees.
#[inline(always)]
fn turn(x: &mut [f32]) {
    let (a, b) = x.split_at_mut(x.len() / 2);
    for (a, b) in a.iter_mut().zip(b) {
        let (sum, difference) = (*a + *b, *a - *b);
        *a = sum * std::f32::consts::FRAC_1_SQRT_2;
        *b = difference * std::f32::consts::FRAC_1_SQRT_2;
    }
}

/// A random orthogonal matrix: Gaussian rows made orthonormal one after another (Gram-Schmidt, twice for accuracy).
fn orthogonal(rng: &mut fastrand::Rng, n: usize) -> Vec<f32> {
    let mut rows: Vec<Vec<f64>> = Vec::with_capacity(n);
    while rows.len() < n {
        let mut row: Vec<f64> = (0..n).map(|_| gaussian(rng)).collect();
        for _ in 0..2 {
            for earlier in &rows {
                let along: f64 = row.iter().zip(earlier).map(|(a, b)| a * b).sum();
                row.iter_mut()
                    .zip(earlier)
                    .for_each(|(a, b)| *a -= along * b);
            }
        }
        let norm = row.iter().map(|x| x * x).sum::<f64>().sqrt();
        if norm > 1e-6 {
            row.iter_mut().for_each(|x| *x /= norm);
            rows.push(row);
        }
    }
    rows.into_iter().flatten().map(|x| x as f32).collect()
}

/// A standard normal number (Box and Muller, 1958).
fn gaussian(rng: &mut fastrand::Rng) -> f64 {
    let radius = (-2.0 * (1.0 - rng.f64()).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.f64()).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_of_vectors_are_kept() {
        let mut rng = fastrand::Rng::with_seed(1);
        for dim in [1, 3, 8, 31, 64, 65, 96, 100, 128, 384, 768, 1000] {
            let rotation = Rotation::new(dim);
            let mut draw = || (0..dim).map(|_| rng.f32() - 0.3).collect::<Vec<f32>>();
            let (a, b) = (draw(), draw());
            let (mut ra, mut rb) = (Vec::new(), Vec::new());
            rotation.apply(&a, &mut ra);
            rotation.apply(&b, &mut rb);
            assert_eq!(ra.len(), rotation.padded());
            let (before, after) = (dot(&a, &b), dot(&ra, &rb));
            let scale = (dot(&a, &a) * dot(&b, &b)).sqrt();
            assert!((before - after).abs() < 2e-6 * scale.max(1e-3), "{dim}");
        }
    }

    #[test]
    fn one_axis_is_spread_over_all() {
        // A vector of a single one is the worst case: rotated, no coordinate may dominate.
        for dim in [65, 96, 128, 384, 768, 1000] {
            let rotation = Rotation::new(dim);
            for axis in [0, dim / 2, dim - 1] {
                let mut v = vec![0.0; dim];
                v[axis] = 1.0;
                let mut r = Vec::new();
                rotation.apply(&v, &mut r);
                let most = r.iter().fold(0f32, |m, x| m.max(x.abs()));
                let sigma = 1.0 / (rotation.padded() as f32).sqrt();
                assert!(most < 5.5 * sigma, "{dim}, axis {axis}: {most}");
            }
        }
    }
}

//! Vectors, their check on the way in, and the distances between them.

use std::fmt;

use serde::{Deserialize, Serialize};
use simsimd::SpatialSimilarity;

use crate::error::{Error, Result};

/// Largest dimension.
pub const DIM_MAX: usize = 65_536;

/// How near two vectors are. Every distance in Aether is an `f32` for which **smaller is nearer**.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    /// Squared Euclidean distance: sum of (a - b)^2; 0 is equal.
    L2,
    /// Negated inner product: -(a . b).
    InnerProduct,
    /// Cosine distance: 1 - (a . b) / (|a| |b|), from 0 (same direction) to 2. Zero vectors are refused.
    Cosine,
}

impl Metric {
    /// All metrics.
    pub const ALL: [Metric; 3] = [Metric::L2, Metric::InnerProduct, Metric::Cosine];

    /// The metric's name in a configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::L2 => "l2",
            Self::InnerProduct => "inner-product",
            Self::Cosine => "cosine",
        }
    }

    /// Distance of two vectors of one length. O(dim). SIMD chosen at run time; sums are in f32, so two
    /// machines may differ in the last digits.
    ///
    /// # Panics
    /// In debug builds when the lengths differ.
    pub fn distance(self, a: &[f32], b: &[f32]) -> f32 {
        match self {
            Self::L2 => squared_l2(a, b),
            Self::InnerProduct => -dot(a, b),
            Self::Cosine => {
                // Roots first: the product of two squared norms that each fit may not.
                let norms = dot(a, a).sqrt() * dot(b, b).sqrt();
                if norms > 0.0 {
                    1.0 - dot(a, b) / norms
                } else {
                    1.0
                }
            }
        }
    }

    /// The factor by which [`Metric::distance_scaled`] wants a vector's products multiplied: 1/|v| for cosine, else 1.
    pub fn scale(self, v: &[f32]) -> f32 {
        match self {
            Self::L2 | Self::InnerProduct => 1.0,
            Self::Cosine => {
                let norm = dot(v, v).sqrt();
                if norm > 0.0 { 1.0 / norm } else { 0.0 }
            }
        }
    }

    /// A query's length where the metric depends on it: under inner product; else 1.
    pub(crate) fn norm_of(self, v: &[f32]) -> f32 {
        match self {
            Self::L2 | Self::Cosine => 1.0,
            Self::InnerProduct => dot(v, v).sqrt(),
        }
    }

    /// The same distance with the factors computed once: `scale_a` and `scale_b` are [`Metric::scale`] of each.
    /// This lets an index keep vectors as they came, bit for bit, with one extra float a row.
    #[inline]
    pub fn distance_scaled(self, a: &[f32], scale_a: f32, b: &[f32], scale_b: f32) -> f32 {
        match self {
            Self::L2 => squared_l2(a, b),
            Self::InnerProduct => -dot(a, b),
            Self::Cosine => 1.0 - dot(a, b) * scale_a * scale_b,
        }
    }

    /// Checks one vector for this metric.
    ///
    /// # Errors
    /// `InvalidInput` for a wrong length, NaN or infinity, a squared norm beyond f32, or a zero vector under cosine.
    pub fn check(self, vector: &[f32], dim: usize) -> Result<()> {
        if vector.len() != dim {
            return Err(Error::invalid_input(format!(
                "vector: expected {dim} dimensions, got {}",
                vector.len()
            )));
        }
        if let Some(i) = vector.iter().position(|x| !x.is_finite()) {
            return Err(Error::invalid_input(format!(
                "vector[{i}]: expected a finite number, got {}",
                vector[i]
            )));
        }
        let norm = dot(vector, vector);
        if norm >= f32::MAX / 4.0 || !norm.is_finite() {
            return Err(Error::invalid_input(
                "vector: its squared norm does not fit in f32 (limit about 8.5e37); scale the vectors down",
            ));
        }
        if self == Self::Cosine && norm < f32::MIN_POSITIVE {
            return Err(Error::invalid_input(
                "vector: expected a non-zero vector, since cosine has no direction for zero (squared norm below 1.2e-38)",
            ));
        }
        Ok(())
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Inner product of two vectors of one length.
#[inline]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    debug_assert_eq!(a.len(), b.len());
    if cfg!(miri) {
        return sum(a, b, |a, b| a * b);
    }
    <f32 as SpatialSimilarity>::dot(a, b).map_or(f32::NAN, |d| d as f32)
}

/// Squared Euclidean distance of two vectors of one length.
#[inline]
pub fn squared_l2(a: &[f32], b: &[f32]) -> f32 {
    debug_assert_eq!(a.len(), b.len());
    if cfg!(miri) {
        return sum(a, b, |a, b| (a - b) * (a - b));
    }
    <f32 as SpatialSimilarity>::sqeuclidean(a, b).map_or(f32::NAN, |d| d as f32)
}

/// A sum by its definition: Miri, which looks for undefined behaviour, runs no foreign code.
fn sum(a: &[f32], b: &[f32], term: impl Fn(f64, f64) -> f64) -> f32 {
    let terms = a.iter().zip(b);
    terms
        .map(|(a, b)| term(f64::from(*a), f64::from(*b)))
        .sum::<f64>() as f32
}

/// How many vectors of which length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Number of vectors.
    pub rows: usize,
    /// Floats in each.
    pub dim: usize,
}

impl Shape {
    /// Number of floats.
    pub fn len(self) -> usize {
        self.rows * self.dim
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}

/// Borrowed vectors, row-major: `[rows, dim]`.
#[derive(Clone, Copy, Debug)]
pub struct VectorBlock<'a> {
    data: &'a [f32],
    shape: Shape,
}

impl<'a> VectorBlock<'a> {
    /// Wraps `rows x dim` floats.
    ///
    /// # Errors
    /// `InvalidInput` when `data` has another length, or `dim` is not 1 to [`DIM_MAX`].
    pub fn new(data: &'a [f32], shape: Shape) -> Result<Self> {
        if shape.dim == 0 || shape.dim > DIM_MAX {
            return Err(Error::invalid_input(format!(
                "dim: expected 1 to {DIM_MAX}, got {}",
                shape.dim
            )));
        }
        if shape.rows.checked_mul(shape.dim) != Some(data.len()) {
            return Err(Error::invalid_input(format!(
                "block: expected {} x {} floats, got {}",
                shape.rows,
                shape.dim,
                data.len()
            )));
        }
        Ok(Self { data, shape })
    }

    /// All floats, row-major.
    pub fn data(&self) -> &'a [f32] {
        self.data
    }

    /// Rows and dimension.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The vectors one by one.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &'a [f32]> {
        self.data.chunks_exact(self.shape.dim)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_match_their_definitions() {
        let (a, b) = ([1.0, 2.0, 3.0], [4.0, -5.0, 6.0]);
        assert!((Metric::L2.distance(&a, &b) - 67.0).abs() < 1e-4);
        assert!((Metric::InnerProduct.distance(&a, &b) + 12.0).abs() < 1e-4);
        let cosine = 1.0 - 12.0 / (14f32.sqrt() * 77f32.sqrt());
        assert!((Metric::Cosine.distance(&a, &b) - cosine).abs() < 1e-5);
        for m in Metric::ALL {
            let scaled = m.distance_scaled(&a, m.scale(&a), &b, m.scale(&b));
            assert!((scaled - m.distance(&a, &b)).abs() < 1e-4);
        }
    }

    #[test]
    fn cosine_holds_for_every_norm_that_is_let_in() {
        for size in [2e-19f32, 1.0, 4e18] {
            let (a, b) = ([size, 0.0], [-size, 0.0]);
            Metric::Cosine.check(&a, 2).unwrap();
            assert!(
                (Metric::Cosine.distance(&a, &b) - 2.0).abs() < 1e-5,
                "{size}"
            );
        }
    }

    #[test]
    fn bad_vectors_are_refused_with_the_field_named() {
        let m = Metric::Cosine;
        let message = |v: &[f32]| m.check(v, 2).unwrap_err().to_string();
        assert!(message(&[1.0]).contains("expected 2 dimensions, got 1"));
        assert!(message(&[1.0, f32::NAN]).contains("vector[1]"));
        assert!(message(&[f32::INFINITY, 0.0]).contains("vector[0]"));
        assert!(message(&[1e30, 1e30]).contains("squared norm"));
        assert!(message(&[0.0, 0.0]).contains("non-zero"));
        assert!(Metric::L2.check(&[0.0, 0.0], 2).is_ok());
    }
}

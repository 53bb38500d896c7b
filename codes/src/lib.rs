//! Compact codes of vectors that give a distance and a bound of its error without the vector.
//!
//! RaBitQ (Gao and Long, SIGMOD 2024) and its extension to several bits (Gao et al., SIGMOD 2025): the residual of a vector to the
//! centroid of its partition is turned by a random rotation and rounded to a grid of 1 to 8 bits a dimension. Three numbers beside
//! the code undo the shrinking that rounding causes, so that the estimate is unbiased, and say how far it may be off. The rotation
//! makes the error behave alike whatever the data: it is the coordinate of a random point of a sphere.
//!
//! | module | content |
//! |---|---|
//! | `rotation` | the rotation, by Hadamard transforms and random signs |
//! | `encode` | rounding to the grid, and what is stored |
//! | `estimate` | distance and bound of every row of a block |
//! | `layers` | codes with the signs of their grid values beside them |
//! | `signs` | bounds from signs alone, then from the codes of what these leave |
//! | `kernel` | integer products of codes or signs and queries, and sums over pairs of vectors: scalar reference, AVX2, AVX-512 |
//! | `normal` | how many standard deviations a confidence takes |
//!
//! This crate knows neither files nor partitions; `unsafe` is confined to `kernel`.

mod encode;
mod estimate;
mod kernel;
mod layers;
mod normal;
mod rotation;
mod signs;

pub use encode::{Block, Centre, Coder, FACTOR_BYTES, Factors, Workspace};
pub use estimate::{Bounds, Query, Spot, least};
pub use kernel::{Kernel, KernelKind, TILE_OTHERS, TILE_ROWS, Term, pair, tile};
pub use layers::Layers;
pub use normal::deviations;

/// Bits a dimension that a code may have.
pub const BITS: std::ops::RangeInclusive<u8> = 1..=8;

/// What is estimated. Smaller is nearer, as everywhere in Aether.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Squared Euclidean distance.
    L2,
    /// Negated inner product.
    InnerProduct,
    /// 1 - cos.
    Cosine,
}

/// Inner product in f32, in eight partial sums, so that it is vectorised and its rounding stays small.
#[inline(always)]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a8, a_rest) = a.as_chunks::<8>();
    let (b8, b_rest) = b.as_chunks::<8>();
    let mut sums = [0f32; 8];
    for (x, y) in a8.iter().zip(b8) {
        for i in 0..8 {
            sums[i] += x[i] * y[i];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(x, y)| x * y).sum();
    sums.iter().sum::<f32>() + rest
}

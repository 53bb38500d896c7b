//! From a vector to its code.
//!
//! With o the vector (of unit length under cosine), c its centroid and r = R(o - c) the rotated residual, each coordinate of r is
//! rounded to a grid of 2^B values, x = u - (2^B - 1) / 2. The step of the grid is the one among a few that leaves x most parallel to r.
//! Stored beside u, with f = |r|^2 / <x, r>:
//!
//! | number | L2 | inner product, cosine |
//! |---|---|---|
//! | `add` | `|r|^2 + 2 f <x, Rc>` | `-<o - c, c> + f <x, Rc>` |
//! | `scale` | `-2 f` | `-f` |
//! | `error` | `2 |r| sqrt((1 / cos^2 - 1) / (D - 1))` | half of it |
//!
//! where cos is that of the angle between x and r (equation 18 of the 2024 paper with the 2025 paper's grid).

use crate::kernel::{Plane, Work, code_bytes, pack, planes, wide};
use crate::rotation::Rotation;
use crate::{BITS, Measure, dot};

/// Bytes of the three numbers of a row.
pub const FACTOR_BYTES: usize = 12;

/// Steps of the best uniform grid of 2^B values for a normal distribution of variance one (Max, 1960).
const STEPS: [f32; 8] = [
    1.596, 0.9957, 0.5860, 0.3352, 0.1881, 0.1041, 0.0568, 0.0308,
];
/// Tried around that step: one row's coordinates are not quite normal.
const STRETCH: [f32; 6] = [0.75, 0.85, 0.95, 1.05, 1.15, 1.3];

/// Makes codes of one dimension, one number of bits and one measure.
#[derive(Clone, Debug)]
pub struct Coder {
    dim: usize,
    bits: u8,
    measure: Measure,
    pub(crate) planes: Vec<Plane>,
    pub(crate) rotation: Rotation,
}

/// A centroid, turned as the codes are.
#[derive(Clone, Debug)]
pub struct Centre {
    plain: Vec<f32>,
    pub(crate) rotated: Vec<f32>,
}

/// The codes of rows of one centroid, as they grow: three runs of numbers, `[rows]` each, and the codes, `[rows, code_bytes]`.
#[derive(Clone, Debug, Default)]
pub struct Block {
    add: Vec<f32>,
    scale: Vec<f32>,
    error: Vec<f32>,
    codes: Vec<u8>,
    /// Largest distance of a row to its centroid (of directions under cosine); every row lies within it.
    radius: f32,
    workspace: Workspace,
}

/// What coding a vector takes beside its result; kept between vectors.
#[derive(Clone, Debug, Default)]
pub struct Workspace {
    residual: Vec<f32>,
    rotated: Vec<f32>,
    numbers: Vec<u8>,
}

/// The numbers stored beside a code, see the head of `encode.rs`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Factors {
    /// What the row adds to every distance.
    pub add: f32,
    /// What the product of query and grid values is multiplied by.
    pub scale: f32,
    /// Standard deviation of the estimate for a query at distance 1 from the centroid.
    pub error: f32,
    /// Distance of the row to its centroid (of its direction under cosine).
    pub radius: f32,
}

impl Workspace {
    /// The code of the vector coded last: a number below 2^bits for each turned dimension, `[padded]`.
    pub fn numbers(&self) -> &[u8] {
        &self.numbers
    }
}

impl Block {
    /// Rows so far.
    pub fn rows(&self) -> usize {
        self.add.len()
    }

    /// Largest distance of a row to its centroid.
    pub fn radius(&self) -> f32 {
        self.radius
    }

    /// Appends the block's bytes: add, scale, error as little-endian floats, then the codes.
    pub fn write(&self, out: &mut Vec<u8>) {
        for run in [&self.add, &self.scale, &self.error] {
            run.iter()
                .for_each(|x| out.extend_from_slice(&x.to_le_bytes()));
        }
        out.extend_from_slice(&self.codes);
    }
}

impl Coder {
    /// A coder; `None` when `bits` are not 1 to 8 or `dim` is none or above 65,536.
    pub fn new(dim: usize, bits: u8, measure: Measure) -> Option<Self> {
        if !BITS.contains(&bits) || dim == 0 || dim > 65_536 {
            return None;
        }
        let rotation = Rotation::new(dim);
        Some(Self {
            dim,
            bits,
            measure,
            planes: planes(bits, rotation.padded()),
            rotation,
        })
    }

    /// Floats of a vector.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Bits a dimension.
    pub fn bits(&self) -> u8 {
        self.bits
    }

    /// What the codes estimate.
    pub fn measure(&self) -> Measure {
        self.measure
    }

    /// Bytes of a row: its numbers and its code.
    pub fn row_bytes(&self) -> usize {
        FACTOR_BYTES + code_bytes(&self.planes)
    }

    /// RAM of the coder.
    pub fn bytes(&self) -> usize {
        self.rotation.bytes()
    }

    /// Numbers of a code: `dim` rounded up to eight.
    pub fn padded(&self) -> usize {
        self.rotation.padded()
    }

    /// The highest bit of every dimension, which is the sign of the grid's value.
    pub(crate) fn highest(&self) -> Plane {
        Plane {
            width: 1,
            shift: self.bits - 1,
            bytes: self.padded() / 8,
        }
    }

    /// Half of the largest code: the grid's zero.
    pub(crate) fn middle(&self) -> f32 {
        (f32::from(1u16 << self.bits) - 1.0) / 2.0
    }

    /// Turns a centroid, `[dim]`, once for all rows of a block. Under cosine it should be of unit length.
    pub fn centre(&self, centroid: &[f32]) -> Centre {
        let mut rotated = Vec::new();
        self.rotation.apply(centroid, &mut rotated);
        Centre {
            plain: centroid.to_vec(),
            rotated,
        }
    }

    /// Appends the code of a vector, `[dim]`. O(dim log dim).
    ///
    /// # Panics
    /// When vector or centroid have another length.
    pub fn encode(&self, centre: &Centre, vector: &[f32], block: &mut Block) {
        let factors = self.code(centre, vector, &mut block.workspace);
        pack(&self.planes, block.workspace.numbers(), &mut block.codes);
        block.add.push(factors.add);
        block.scale.push(factors.scale);
        block.error.push(factors.error);
        block.radius = block.radius.max(factors.radius);
    }

    /// Codes one vector, `[dim]`, for a caller who packs the code in a way of its own: the numbers are left in `work`. O(dim log dim).
    ///
    /// # Panics
    /// When vector or centroid have another length.
    pub fn code(&self, centre: &Centre, vector: &[f32], work: &mut Workspace) -> Factors {
        assert!(
            vector.len() == self.dim && centre.plain.len() == self.dim,
            "vector and centroid: `dim` floats"
        );
        wide(Coding {
            coder: self,
            centre,
            vector,
            work,
        })
    }
}

/// A vector that is being coded.
struct Coding<'a> {
    coder: &'a Coder,
    centre: &'a Centre,
    vector: &'a [f32],
    work: &'a mut Workspace,
}

impl Work for Coding<'_> {
    type Out = Factors;

    #[inline(always)]
    fn run(self) -> Factors {
        let Self {
            coder,
            centre,
            vector,
            work,
        } = self;
        let unit = match coder.measure {
            Measure::L2 | Measure::InnerProduct => 1.0,
            Measure::Cosine => inverse_norm(vector),
        };
        work.residual.clear();
        let residual = vector.iter().zip(&centre.plain).map(|(x, c)| x * unit - c);
        work.residual.extend(residual);
        coder.rotation.turn_into(&work.residual, &mut work.rotated);
        let r = &work.rotated;
        let norm2 = squares(r);
        let norm = norm2.sqrt();
        work.numbers.clear();
        work.numbers.resize(r.len(), 0);
        let (f, spread) = if norm2 > 1e-60 {
            quantise(r, coder.bits, norm2, &mut work.numbers)
        } else {
            (0.0, 0.0)
        };
        let along = along(&work.numbers, coder.middle(), &centre.rotated);
        let error = (norm * (spread / (coder.padded() as f64 - 1.0)).sqrt()) as f32;
        // A little more than the rounding of the norm.
        let radius = (norm * 1.000_01) as f32;
        match coder.measure {
            Measure::L2 => Factors {
                add: (norm2 + 2.0 * f * f64::from(along)) as f32,
                scale: (-2.0 * f) as f32,
                error: 2.0 * error,
                radius,
            },
            Measure::InnerProduct | Measure::Cosine => {
                let outside = f64::from(dot(&work.residual, &centre.plain));
                Factors {
                    add: (f * f64::from(along) - outside) as f32,
                    scale: (-f) as f32,
                    error,
                    radius,
                }
            }
        }
    }
}

/// The sum of squares, in eight partial sums: one that waits for the other would take longer than all the rest of a code.
#[inline(always)]
fn squares(v: &[f32]) -> f64 {
    let (eights, rest) = v.as_chunks::<8>();
    let mut sums = [0f64; 8];
    for eight in eights {
        for i in 0..8 {
            let x = f64::from(eight[i]);
            sums[i] += x * x;
        }
    }
    let rest: f64 = rest.iter().map(|x| f64::from(*x).powi(2)).sum();
    sums.iter().sum::<f64>() + rest
}

/// The product of the grid's values and a turned centroid; both are a multiple of eight long.
#[inline(always)]
fn along(numbers: &[u8], middle: f32, rotated: &[f32]) -> f32 {
    let mut sums = [0f32; 8];
    for (u, c) in (numbers.as_chunks::<8>().0.iter()).zip(rotated.as_chunks::<8>().0) {
        for i in 0..8 {
            sums[i] += (f32::from(u[i]) - middle) * c[i];
        }
    }
    sums.iter().sum()
}

/// 1 / |v|, or 0 for zero.
#[inline(always)]
pub(crate) fn inverse_norm(v: &[f32]) -> f32 {
    let norm = squares(v).sqrt();
    if norm > 0.0 { (1.0 / norm) as f32 } else { 0.0 }
}

/// Rounds `r`, whose squares sum up to `norm2` > 0, to the grid; gives |r|^2 / <x, r> and 1 / cos^2 - 1.
#[inline(always)]
fn quantise(r: &[f32], bits: u8, norm2: f64, numbers: &mut [u8]) -> (f64, f64) {
    let middle = (f32::from(1u16 << bits) - 1.0) / 2.0;
    let sigma = norm2.sqrt() as f32 / (r.len() as f32).sqrt();
    let (eights, _) = r.as_chunks::<8>();
    let tries: &[f32] = if bits == 1 { &[1.0] } else { &STRETCH };
    let (mut best, mut cosine) = (1.0 / sigma, 0f32);
    for stretch in tries {
        let inverse = 1.0 / (STEPS[usize::from(bits - 1)] * stretch * sigma);
        let (mut along, mut squares) = ([0f32; 8], [0f32; 8]);
        for run in eights {
            for i in 0..8 {
                let x = grid(run[i] * inverse, middle) - middle;
                along[i] += x * run[i];
                squares[i] += x * x;
            }
        }
        let (along, squares) = (along.iter().sum::<f32>(), squares.iter().sum::<f32>());
        let c = along / squares.sqrt();
        if c > cosine {
            (best, cosine) = (inverse, c);
        }
    }
    let (mut along, mut squares) = ([0f64; 8], [0f64; 8]);
    for (run, numbers) in eights.iter().zip(numbers.as_chunks_mut::<8>().0) {
        let u: [f32; 8] = std::array::from_fn(|i| grid(run[i] * best, middle));
        for i in 0..8 {
            // Beside 2^23 the number is what the lowest bits say.
            numbers[i] = (u[i] + 8_388_608.0).to_bits() as u8;
        }
        for i in 0..8 {
            let (g, x) = (f64::from(u[i] - middle), f64::from(run[i]));
            along[i] += g * x;
            squares[i] += g * g;
        }
    }
    let (along, squares) = (along.iter().sum::<f64>(), squares.iter().sum::<f64>());
    let spread = (norm2 * squares / (along * along) - 1.0).max(0.0);
    (norm2 / along, spread)
}

/// The number, as a float, of the grid's value nearest to `x` in steps.
#[inline(always)]
fn grid(x: f32, middle: f32) -> f32 {
    (x + middle + 0.5).clamp(0.0, 2.0 * middle + 0.5).floor()
}

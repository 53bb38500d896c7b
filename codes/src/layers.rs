//! The codes of a block with their highest bits beside them, so that most rows are ruled out by an eighth of a byte a dimension.
//!
//! The highest bit of a turned dimension is the sign of its grid value. With x the grid values of a row and s their signs, `a s` with
//! a = |x|^2 / |x|_1 is x plus something at a right angle to it, of length |x| tan(x, s): the signs alone give an estimate that leans to
//! neither side, and how much wider its bound must be is known exactly. This is RaBitQ once more, with the code in the place of the vector.
//!
//! With the numbers `add`, `scale` and `error` of a row (see `encode.rs`) and Rc the turned centroid, those of its signs are
//!
//! | number | value | kept in |
//! |---|---|---|
//! | `add` | `add + scale (<x, Rc> - a <s, Rc>)` | 16 bits, between the smallest and the largest of the block |
//! | `scale` | `a scale` | 8 bits, the same |
//! | `error` | root of `error^2 + (scale \|x\| tan)^2 / (D - 1)` | 8 bits, rounded up |
//!
//! Rows lie in runs of sixteen, the last one filled up: of each 32 signs those of all rows side by side, then the numbers of all rows. The
//! block itself stays beside them as it is, for the rows that signs do not rule out: to take the signs out of the codes would save a
//! fifth of the RAM, and made each such row half as dear again.

use crate::encode::{Centre, Coder, FACTOR_BYTES};
use crate::kernel::{RUN, Work, pack, unpack, wide};

/// The codes of a block as [`Block::write`](crate::Block::write) gave them, and their signs.
#[derive(Clone, Debug)]
pub struct Layers {
    rows: usize,
    /// `[runs, words + 1, RUN]`: signs, then numbers.
    pub(crate) signs: Box<[[u32; RUN]]>,
    pub(crate) steps: Steps,
    pub(crate) block: Box<[u8]>,
}

/// What the packed numbers of a block's signs stand for: the value of 0, and that of one unit more.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Steps {
    pub(crate) add: (f32, f32),
    pub(crate) scale: (f32, f32),
    pub(crate) error: f32,
}

/// The numbers of a row's signs.
#[derive(Clone, Copy, Debug)]
struct Numbers {
    add: f32,
    scale: f32,
    error: f32,
}

const ADD_BITS: u32 = 16;
const SCALE_BITS: u32 = 8;
const ERROR_BITS: u32 = 8;

/// The largest number of so many bits.
const fn largest(bits: u32) -> f32 {
    ((1u32 << bits) - 1) as f32
}

impl Steps {
    fn of(numbers: &[Numbers]) -> Self {
        let spread = |of: fn(&Numbers) -> f32, bits: u32| {
            let values = || numbers.iter().map(of);
            let (least, most) = (
                values().fold(f32::INFINITY, f32::min),
                values().fold(f32::NEG_INFINITY, f32::max),
            );
            (least, (most - least) / largest(bits))
        };
        // A little more, so that the largest does not become one too large by rounding.
        let most = numbers.iter().map(|n| n.error).fold(0.0, f32::max) * 1.000_01;
        Self {
            add: spread(|n| n.add, ADD_BITS),
            scale: spread(|n| n.scale, SCALE_BITS),
            error: most / largest(ERROR_BITS),
        }
    }

    fn pack(&self, n: &Numbers) -> u32 {
        let units = |value: f32, step: f32| if step > 0.0 { value / step } else { 0.0 };
        let near = |value: f32, (least, step): (f32, f32), bits: u32| {
            units(value - least, step).round().min(largest(bits)) as u32
        };
        let error = units(n.error, self.error).ceil().min(largest(ERROR_BITS)) as u32;
        near(n.add, self.add, ADD_BITS)
            | near(n.scale, self.scale, SCALE_BITS) << ADD_BITS
            | error << (ADD_BITS + SCALE_BITS)
    }

    /// Add, scale and error of a packed number: the first two within half a step.
    #[inline(always)]
    pub(crate) fn unpack(&self, packed: u32) -> (f32, f32, f32) {
        let part = |from: u32, bits: u32| (packed >> from & ((1 << bits) - 1)) as i32 as f32;
        (
            self.add.0 + self.add.1 * part(0, ADD_BITS),
            self.scale.0 + self.scale.1 * part(ADD_BITS, SCALE_BITS),
            self.error * part(ADD_BITS + SCALE_BITS, ERROR_BITS),
        )
    }
}

impl Layers {
    /// Whether codes of so many bits a dimension are worth it: with fewer than three the signs are half of the code.
    pub fn are_worth(bits: u8) -> bool {
        bits >= 3
    }

    /// Takes the signs out of a block around `centre`; `None` when `block` has not the length of `rows` rows, or its codes are not worth
    /// it. O(rows x dim).
    ///
    /// # Panics
    /// When the centre is one of another dimension.
    pub fn of(coder: &Coder, centre: &Centre, block: &[u8], rows: usize) -> Option<Self> {
        if block.len() != rows * coder.row_bytes() || !Self::are_worth(coder.bits()) {
            return None;
        }
        assert!(
            centre.rotated.len() == coder.padded(),
            "centre: one of the coder"
        );
        Some(wide(Sorting {
            coder,
            centre,
            block,
            rows,
        }))
    }

    /// Rows of the block.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// RAM beside the value itself.
    pub fn bytes(&self) -> usize {
        self.signs.len() * size_of::<[u32; RUN]>() + self.block.len()
    }

    /// The code of a row and its three numbers.
    pub(crate) fn row(&self, row: usize) -> (&[u8], [[u8; 4]; 3]) {
        let (numbers, codes) = self.block.split_at(self.rows * FACTOR_BYTES);
        let each = codes.len() / self.rows;
        let numbers = numbers.as_chunks::<4>().0;
        let own = [0, 1, 2].map(|n| numbers[n * self.rows + row]);
        (&codes[row * each..][..each], own)
    }
}

/// Words that a row's signs take.
pub(crate) fn sign_words(coder: &Coder) -> usize {
    coder.padded().div_ceil(32)
}

/// Bytes as words, zeros appended.
pub(crate) fn words(bytes: &[u8]) -> impl Iterator<Item = u32> {
    let (whole, rest) = bytes.as_chunks::<4>();
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    let last = (!rest.is_empty()).then_some(last);
    (whole.iter().copied().chain(last)).map(u32::from_le_bytes)
}

/// A block that is being sorted.
struct Sorting<'a> {
    coder: &'a Coder,
    centre: &'a Centre,
    block: &'a [u8],
    rows: usize,
}

impl Work for Sorting<'_> {
    type Out = Layers;

    #[inline(always)]
    fn run(self) -> Layers {
        let Self {
            coder, block, rows, ..
        } = self;
        let (factors, codes) = block.split_at(rows * FACTOR_BYTES);
        let factors = factors.as_chunks::<4>().0;
        let each = coder.row_bytes() - FACTOR_BYTES;
        let words_each = sign_words(coder);
        let mut numbers = Vec::with_capacity(rows);
        let mut signs = vec![[0; RUN]; rows.div_ceil(RUN) * (words_each + 1)];
        let (mut grid, mut high) = (vec![0; coder.padded()], Vec::new());
        for (row, code) in codes.chunks_exact(each).enumerate() {
            unpack(&coder.planes, code, &mut grid);
            high.clear();
            pack(&[coder.highest()], &grid, &mut high);
            let run = &mut signs[row / RUN * (words_each + 1)..];
            for (line, bits) in run.iter_mut().zip(words(&high)) {
                line[row % RUN] = bits;
            }
            let own = [factors[row], factors[rows + row], factors[2 * rows + row]];
            numbers.push(self.numbers(&grid, own.map(f32::from_le_bytes)));
        }
        let steps = Steps::of(&numbers);
        let last_lines = signs.iter_mut().skip(words_each).step_by(words_each + 1);
        for (line, numbers) in last_lines.zip(numbers.chunks(RUN)) {
            (line.iter_mut().zip(numbers)).for_each(|(p, n)| *p = steps.pack(n));
        }
        Layers {
            rows,
            signs: signs.into(),
            steps,
            block: block.into(),
        }
    }
}

impl Sorting<'_> {
    /// What stands beside the signs of a row, from its grid values by number and what stands beside its code.
    #[inline(always)]
    fn numbers(&self, grid: &[u8], [add, scale, error]: [f32; 3]) -> Numbers {
        let middle = self.coder.middle();
        let mut sums = [[0f32; 8]; 4];
        let eights = grid.as_chunks::<8>().0.iter();
        for (u, c) in eights.zip(self.centre.rotated.as_chunks::<8>().0) {
            for i in 0..8 {
                let x = f32::from(u[i]) - middle;
                sums[0][i] += x.abs();
                sums[1][i] += x * x;
                sums[2][i] += x * c[i];
                sums[3][i] += c[i].copysign(x * c[i]);
            }
        }
        let [absolute, squares, along, signed] = sums.map(|s| s.iter().sum::<f32>());
        let a = squares / absolute;
        let d = grid.len() as f32;
        let beside = (a * a * d - squares).max(0.0);
        let width2 = scale * scale * beside / (d - 1.0);
        Numbers {
            add: add + scale * (along - a * signed),
            scale: a * scale,
            error: (error * error + width2).sqrt(),
        }
    }
}

//! Sums over the pairs of four vectors and four others: every number that is loaded is used several times, and no sum waits for another.
//!
//! A pair's sum is made in the same order on every processor and whoever stands beside it: eight partial sums, added crosswise, and then
//! what is left of the vectors.

/// Vectors on the one side of a tile.
pub const TILE_ROWS: usize = 4;
/// Vectors on the other side.
pub const TILE_OTHERS: usize = 4;
const LANES: usize = 8;

/// What is summed over the dimensions of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Term {
    /// x y: the inner product.
    Product,
    /// (x - y)^2: the squared Euclidean distance.
    SquaredDifference,
}

impl Term {
    #[inline(always)]
    fn of(self, x: f32, y: f32) -> f32 {
        match self {
            Self::Product => x * y,
            Self::SquaredDifference => (x - y) * (x - y),
        }
    }
}

/// The sums of all pairs, `[rows][others]`, of one to [`TILE_OTHERS`] others. What stands in the places of others that are not there means
/// nothing.
///
/// # Panics
/// When the vectors are not of one length, or there are none or too many others.
pub fn tile(
    term: Term,
    rows: &[&[f32]; TILE_ROWS],
    others: &[&[f32]],
) -> [[f32; TILE_OTHERS]; TILE_ROWS] {
    let dim = rows[0].len();
    let wanted = others.len();
    assert!(
        (1..=TILE_OTHERS).contains(&wanted),
        "others of a tile: expected 1 to {TILE_OTHERS}, got {wanted}"
    );
    let alike = |v: &&[f32]| v.len() == dim;
    assert!(
        rows.iter().all(alike) && others.iter().all(alike),
        "vectors of a tile: one length"
    );
    let mut sums = [[0.0; TILE_OTHERS]; TILE_ROWS];
    #[cfg(target_arch = "x86_64")]
    {
        // The last stands in the places of those that are not there.
        let filled = std::array::from_fn(|o| others[o.min(wanted - 1)]);
        let lanes = if is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor has AVX-512 F; the vectors are of one length.
            Some(unsafe { x86::lanes_avx512(term, rows, &filled, wanted) })
        } else if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has AVX2; the vectors are of one length.
            Some(unsafe { x86::lanes_avx2(term, rows, &filled, wanted) })
        } else {
            None
        };
        if let Some(lanes) = lanes {
            for r in 0..TILE_ROWS {
                for o in 0..wanted {
                    sums[r][o] = finish(term, &lanes[r][o], rows[r], others[o]);
                }
            }
            return sums;
        }
    }
    for (sums, row) in sums.iter_mut().zip(rows) {
        for (sum, other) in sums.iter_mut().zip(others) {
            *sum = pair(term, row, other);
        }
    }
    sums
}

/// The sum of one pair.
///
/// # Panics
/// When the vectors are not of one length.
pub fn pair(term: Term, row: &[f32], other: &[f32]) -> f32 {
    assert_eq!(row.len(), other.len(), "vectors of a pair: one length");
    let mut lanes = [0f32; LANES];
    let (x8, y8) = (row.as_chunks::<LANES>().0, other.as_chunks::<LANES>().0);
    for (x, y) in x8.iter().zip(y8) {
        for l in 0..LANES {
            lanes[l] += term.of(x[l], y[l]);
        }
    }
    finish(term, &lanes, row, other)
}

/// Adds up the partial sums and what is left of the vectors.
#[inline(always)]
fn finish(term: Term, lanes: &[f32; LANES], row: &[f32], other: &[f32]) -> f32 {
    let [a, b, c, d, e, f, g, h] = *lanes;
    let whole = ((a + e) + (b + f)) + ((c + g) + (d + h));
    let (x, y) = (row.as_chunks::<LANES>().1, other.as_chunks::<LANES>().1);
    if x.is_empty() {
        return whole;
    }
    let rest: f32 = x.iter().zip(y).map(|(x, y)| term.of(*x, *y)).sum();
    whole + rest
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{LANES, TILE_OTHERS, TILE_ROWS, Term};

    /// Others of which AVX2 has registers for the sums at once.
    const HALF: usize = TILE_OTHERS / 2;

    /// The partial sums over whole runs of eight of all pairs with the first `wanted` others.
    ///
    /// # Safety
    /// The processor has AVX2, and the vectors are of one length.
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn lanes_avx2(
        term: Term,
        rows: &[&[f32]; TILE_ROWS],
        others: &[&[f32]; TILE_OTHERS],
        wanted: usize,
    ) -> [[[f32; LANES]; TILE_OTHERS]; TILE_ROWS] {
        let mut out = [[[0f32; LANES]; TILE_OTHERS]; TILE_ROWS];
        let [a, b, c, d] = *others;
        let halves = [[a, b], [c, d]];
        for (half, others) in halves.iter().take(wanted.div_ceil(HALF)).enumerate() {
            // SAFETY: the caller's promise.
            let sums = unsafe { half_avx2(term, rows, others) };
            for (out, sums) in out.iter_mut().zip(sums) {
                out[half * HALF..][..HALF].copy_from_slice(&sums);
            }
        }
        out
    }

    /// The same for half of the others.
    ///
    /// # Safety
    /// As [`lanes_avx2`].
    #[target_feature(enable = "avx2")]
    unsafe fn half_avx2(
        term: Term,
        rows: &[&[f32]; TILE_ROWS],
        others: &[&[f32]; HALF],
    ) -> [[[f32; LANES]; HALF]; TILE_ROWS] {
        let mut sums = [[_mm256_setzero_ps(); HALF]; TILE_ROWS];
        let whole = rows[0].len() / LANES * LANES;
        for at in (0..whole).step_by(LANES) {
            // SAFETY: `at + LANES <= whole`, which no vector is shorter than.
            let load = |v: &[f32]| unsafe { _mm256_loadu_ps(v.as_ptr().add(at)) };
            let (y0, y1) = (load(others[0]), load(others[1]));
            for r in 0..TILE_ROWS {
                let x = load(rows[r]);
                let (t0, t1) = match term {
                    Term::Product => (_mm256_mul_ps(x, y0), _mm256_mul_ps(x, y1)),
                    Term::SquaredDifference => {
                        let (d0, d1) = (_mm256_sub_ps(x, y0), _mm256_sub_ps(x, y1));
                        (_mm256_mul_ps(d0, d0), _mm256_mul_ps(d1, d1))
                    }
                };
                sums[r][0] = _mm256_add_ps(sums[r][0], t0);
                sums[r][1] = _mm256_add_ps(sums[r][1], t1);
            }
        }
        let mut out = [[[0f32; LANES]; HALF]; TILE_ROWS];
        for (out, sums) in out.iter_mut().flatten().zip(sums.iter().flatten()) {
            // SAFETY: `out` is eight floats.
            unsafe { _mm256_storeu_ps(out.as_mut_ptr(), *sums) };
        }
        out
    }

    /// The same with two others side by side in one register: the sums are those of `lanes_avx2`.
    ///
    /// # Safety
    /// The processor has AVX-512 F, and the vectors are of one length.
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn lanes_avx512(
        term: Term,
        rows: &[&[f32]; TILE_ROWS],
        others: &[&[f32]; TILE_OTHERS],
        wanted: usize,
    ) -> [[[f32; LANES]; TILE_OTHERS]; TILE_ROWS] {
        let mut out = [[[0f32; LANES]; TILE_OTHERS]; TILE_ROWS];
        // SAFETY: the caller's promise.
        unsafe {
            if wanted > 2 {
                registers_avx512::<2>(term, rows, others, &mut out);
            } else {
                registers_avx512::<1>(term, rows, others, &mut out);
            }
        }
        out
    }

    /// The same for the others that so many registers hold.
    ///
    /// # Safety
    /// As [`lanes_avx512`].
    #[target_feature(enable = "avx512f")]
    unsafe fn registers_avx512<const N: usize>(
        term: Term,
        rows: &[&[f32]; TILE_ROWS],
        others: &[&[f32]; TILE_OTHERS],
        out: &mut [[[f32; LANES]; TILE_OTHERS]; TILE_ROWS],
    ) {
        let mut sums = [[_mm512_setzero_ps(); N]; TILE_ROWS];
        let whole = rows[0].len() / LANES * LANES;
        for at in (0..whole).step_by(LANES) {
            // SAFETY: `at + LANES <= whole`, which no vector is shorter than.
            let load = |v: &[f32]| unsafe { _mm256_castps_pd(_mm256_loadu_ps(v.as_ptr().add(at))) };
            let mut y = [_mm512_setzero_ps(); N];
            for o in 0..N {
                let first = _mm512_castpd256_pd512(load(others[2 * o]));
                y[o] = _mm512_castpd_ps(_mm512_insertf64x4(first, load(others[2 * o + 1]), 1));
            }
            for r in 0..TILE_ROWS {
                let x = _mm512_castpd_ps(_mm512_broadcast_f64x4(load(rows[r])));
                for o in 0..N {
                    let t = match term {
                        Term::Product => _mm512_mul_ps(x, y[o]),
                        Term::SquaredDifference => {
                            let d = _mm512_sub_ps(x, y[o]);
                            _mm512_mul_ps(d, d)
                        }
                    };
                    sums[r][o] = _mm512_add_ps(sums[r][o], t);
                }
            }
        }
        for (out, sums) in out.iter_mut().zip(sums) {
            for (out, sums) in out.as_chunks_mut::<2>().0.iter_mut().zip(sums) {
                // SAFETY: `out` is twice eight floats, one after another.
                unsafe { _mm512_storeu_ps(out.as_mut_ptr().cast(), sums) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Calls `check` with drawn vectors of many lengths, each term, and every number of others.
    fn drawn(check: impl Fn(Term, &[&[f32]; TILE_ROWS], &[&[f32]; TILE_OTHERS], usize)) {
        let mut rng = fastrand::Rng::with_seed(1);
        for dim in [0, 1, 7, 8, 9, 64, 131] {
            let some: Vec<Vec<f32>> = (0..TILE_ROWS + TILE_OTHERS)
                .map(|_| (0..dim).map(|_| rng.f32() - 0.5).collect())
                .collect();
            let rows = std::array::from_fn(|r| &some[r][..]);
            let others = std::array::from_fn(|o| &some[TILE_ROWS + o][..]);
            for term in [Term::Product, Term::SquaredDifference] {
                for wanted in 1..=TILE_OTHERS {
                    check(term, &rows, &others, wanted);
                }
            }
        }
    }

    #[test]
    fn a_tile_gives_the_very_sums_of_its_pairs_and_about_the_definition() {
        drawn(|term, rows, others, wanted| {
            let sums = tile(term, rows, &others[..wanted]);
            for (r, row) in rows.iter().enumerate() {
                for (o, other) in others[..wanted].iter().enumerate() {
                    assert_eq!(sums[r][o].to_bits(), pair(term, row, other).to_bits());
                    let terms = row.iter().zip(*other).map(|(x, y)| match term {
                        Term::Product => f64::from(*x) * f64::from(*y),
                        Term::SquaredDifference => (f64::from(*x) - f64::from(*y)).powi(2),
                    });
                    assert!((f64::from(sums[r][o]) - terms.sum::<f64>()).abs() < 1e-4);
                }
            }
        });
    }

    /// What a processor with AVX-512 never takes gives the same.
    #[test]
    #[cfg(target_arch = "x86_64")]
    fn the_sums_of_avx2_are_those_of_its_pairs_too() {
        if !is_x86_feature_detected!("avx2") {
            return;
        }
        drawn(|term, rows, others, wanted| {
            // SAFETY: the processor has AVX2; the vectors are of one length.
            let lanes = unsafe { x86::lanes_avx2(term, rows, others, wanted) };
            for (r, row) in rows.iter().enumerate() {
                for (o, other) in others[..wanted].iter().enumerate() {
                    let sum = finish(term, &lanes[r][o], row, other);
                    assert_eq!(sum.to_bits(), pair(term, row, other).to_bits());
                }
            }
        });
    }

    #[test]
    #[should_panic(expected = "one length")]
    fn vectors_of_two_lengths_are_refused() {
        let (long, short) = ([1.0; 16], [1.0; 8]);
        tile(
            Term::Product,
            &[&long, &long, &short, &long],
            &[&long, &long, &long, &long],
        );
    }
}

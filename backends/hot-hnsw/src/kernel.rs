//! Distance kernels over padded vectors: AVX-512, AVX2 with FMA, or portable, chosen at run time.
//!
//! Every vector here is padded with zeros to a multiple of [`LANES`] floats, so no kernel has a tail. The squared
//! distance takes a bound: once the partial sum, which only grows, is beyond it, the rest is not read. A result that is not
//! beyond the bound is complete, and the same whatever the bound was.

/// Floats that a padded vector's length is a multiple of.
pub(crate) const LANES: usize = 16;

/// Floats between two looks at the bound.
const BLOCK: usize = 128;

type Bounded = unsafe fn(*const f32, *const f32, usize, f32) -> f32;
type Plain = unsafe fn(*const f32, *const f32, usize) -> f32;

/// The kernels of this machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kernels {
    l2: Bounded,
    dot: Plain,
}

impl Kernels {
    /// The fastest kernels that this processor runs.
    pub(crate) fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if std::arch::is_x86_feature_detected!("avx512f") {
                return Self {
                    l2: x86::l2_avx512,
                    dot: x86::dot_avx512,
                };
            }
            if std::arch::is_x86_feature_detected!("avx2")
                && std::arch::is_x86_feature_detected!("fma")
            {
                return Self {
                    l2: x86::l2_avx2,
                    dot: x86::dot_avx2,
                };
            }
        }
        Self::portable()
    }

    pub(crate) fn portable() -> Self {
        Self {
            l2: l2_portable,
            dot: dot_portable,
        }
    }

    /// Squared distance, or something beyond `bound` if it is beyond `bound`.
    ///
    /// # Safety
    /// `a` and `b` point to `n` floats each; `n` is a multiple of [`LANES`].
    #[inline(always)]
    pub(crate) unsafe fn l2(&self, a: *const f32, b: *const f32, n: usize, bound: f32) -> f32 {
        // SAFETY: the caller's promise; the kernel was chosen by what the processor can do.
        unsafe { (self.l2)(a, b, n, bound) }
    }

    /// Inner product.
    ///
    /// # Safety
    /// As [`Kernels::l2`].
    #[inline(always)]
    pub(crate) unsafe fn dot(&self, a: *const f32, b: *const f32, n: usize) -> f32 {
        // SAFETY: the caller's promise; the kernel was chosen by what the processor can do.
        unsafe { (self.dot)(a, b, n) }
    }
}

/// # Safety
/// As [`Kernels::l2`].
unsafe fn l2_portable(a: *const f32, b: *const f32, n: usize, bound: f32) -> f32 {
    // SAFETY: the caller's promise.
    let (a, b) = unsafe {
        (
            std::slice::from_raw_parts(a, n),
            std::slice::from_raw_parts(b, n),
        )
    };
    let mut sums = [0f32; LANES];
    for (a, b) in a.chunks(BLOCK).zip(b.chunks(BLOCK)) {
        for (a, b) in a.chunks_exact(LANES).zip(b.chunks_exact(LANES)) {
            for lane in 0..LANES {
                let d = a[lane] - b[lane];
                sums[lane] += d * d;
            }
        }
        let sum: f32 = sums.iter().sum();
        if sum > bound {
            return sum;
        }
    }
    sums.iter().sum()
}

/// # Safety
/// As [`Kernels::l2`].
unsafe fn dot_portable(a: *const f32, b: *const f32, n: usize) -> f32 {
    // SAFETY: the caller's promise.
    let (a, b) = unsafe {
        (
            std::slice::from_raw_parts(a, n),
            std::slice::from_raw_parts(b, n),
        )
    };
    let mut sums = [0f32; LANES];
    for (a, b) in a.chunks_exact(LANES).zip(b.chunks_exact(LANES)) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    sums.iter().sum()
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::BLOCK;

    /// # Safety
    /// As [`super::Kernels::l2`], on a processor with AVX-512F.
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn l2_avx512(a: *const f32, b: *const f32, n: usize, bound: f32) -> f32 {
        let mut s = [_mm512_setzero_ps(); 4];
        let mut i = 0;
        while i + BLOCK <= n {
            for j in 0..BLOCK / 16 {
                // SAFETY: i + BLOCK <= n.
                let d = unsafe {
                    _mm512_sub_ps(
                        _mm512_loadu_ps(a.add(i + 16 * j)),
                        _mm512_loadu_ps(b.add(i + 16 * j)),
                    )
                };
                s[j % 4] = _mm512_fmadd_ps(d, d, s[j % 4]);
            }
            i += BLOCK;
            let sum = sum4(s);
            if sum > bound {
                return sum;
            }
        }
        while i < n {
            // SAFETY: i < n, and n is a multiple of 16.
            let d = unsafe { _mm512_sub_ps(_mm512_loadu_ps(a.add(i)), _mm512_loadu_ps(b.add(i))) };
            s[0] = _mm512_fmadd_ps(d, d, s[0]);
            i += 16;
        }
        sum4(s)
    }

    #[target_feature(enable = "avx512f")]
    fn sum4(s: [__m512; 4]) -> f32 {
        _mm512_reduce_add_ps(_mm512_add_ps(
            _mm512_add_ps(s[0], s[1]),
            _mm512_add_ps(s[2], s[3]),
        ))
    }

    /// # Safety
    /// As [`super::Kernels::dot`], on a processor with AVX-512F.
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn dot_avx512(a: *const f32, b: *const f32, n: usize) -> f32 {
        let mut s = [_mm512_setzero_ps(); 4];
        let mut i = 0;
        while i + 64 <= n {
            for (j, s) in s.iter_mut().enumerate() {
                // SAFETY: i + 64 <= n.
                *s = unsafe {
                    _mm512_fmadd_ps(
                        _mm512_loadu_ps(a.add(i + 16 * j)),
                        _mm512_loadu_ps(b.add(i + 16 * j)),
                        *s,
                    )
                };
            }
            i += 64;
        }
        while i < n {
            // SAFETY: i < n, and n is a multiple of 16.
            s[0] = unsafe {
                _mm512_fmadd_ps(_mm512_loadu_ps(a.add(i)), _mm512_loadu_ps(b.add(i)), s[0])
            };
            i += 16;
        }
        sum4(s)
    }

    /// # Safety
    /// As [`super::Kernels::l2`], on a processor with AVX2 and FMA.
    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn l2_avx2(a: *const f32, b: *const f32, n: usize, bound: f32) -> f32 {
        let mut s = [_mm256_setzero_ps(); 4];
        let mut i = 0;
        while i + BLOCK <= n {
            for j in 0..BLOCK / 8 {
                // SAFETY: i + BLOCK <= n.
                let d = unsafe {
                    _mm256_sub_ps(
                        _mm256_loadu_ps(a.add(i + 8 * j)),
                        _mm256_loadu_ps(b.add(i + 8 * j)),
                    )
                };
                s[j % 4] = _mm256_fmadd_ps(d, d, s[j % 4]);
            }
            i += BLOCK;
            let sum = sum4x8(s);
            if sum > bound {
                return sum;
            }
        }
        while i < n {
            // SAFETY: i < n, and n is a multiple of 16.
            let d = unsafe { _mm256_sub_ps(_mm256_loadu_ps(a.add(i)), _mm256_loadu_ps(b.add(i))) };
            s[0] = _mm256_fmadd_ps(d, d, s[0]);
            i += 8;
        }
        sum4x8(s)
    }

    #[target_feature(enable = "avx2,fma")]
    fn sum4x8(s: [__m256; 4]) -> f32 {
        let s = _mm256_add_ps(_mm256_add_ps(s[0], s[1]), _mm256_add_ps(s[2], s[3]));
        let s = _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
        let s = _mm_add_ps(s, _mm_movehl_ps(s, s));
        _mm_cvtss_f32(_mm_add_ss(s, _mm_shuffle_ps(s, s, 1)))
    }

    /// # Safety
    /// As [`super::Kernels::dot`], on a processor with AVX2 and FMA.
    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn dot_avx2(a: *const f32, b: *const f32, n: usize) -> f32 {
        let mut s = [_mm256_setzero_ps(); 4];
        let mut i = 0;
        while i + 32 <= n {
            for (j, s) in s.iter_mut().enumerate() {
                // SAFETY: i + 32 <= n.
                *s = unsafe {
                    _mm256_fmadd_ps(
                        _mm256_loadu_ps(a.add(i + 8 * j)),
                        _mm256_loadu_ps(b.add(i + 8 * j)),
                        *s,
                    )
                };
            }
            i += 32;
        }
        while i < n {
            // SAFETY: i < n, and n is a multiple of 16.
            s[0] = unsafe {
                _mm256_fmadd_ps(_mm256_loadu_ps(a.add(i)), _mm256_loadu_ps(b.add(i)), s[0])
            };
            i += 8;
        }
        sum4x8(s)
    }
}

/// Asks the processor to fetch the cache line at `p`. Any address is allowed.
#[inline(always)]
pub(crate) fn prefetch(p: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch has no effect that a program can see, whatever the address; SSE is part of x86-64.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(p.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    std::hint::black_box(p);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn every() -> Vec<(&'static str, Kernels)> {
        let mut all = vec![("portable", Kernels::portable())];
        #[cfg(target_arch = "x86_64")]
        {
            if std::arch::is_x86_feature_detected!("avx512f") {
                let (l2, dot): (Bounded, Plain) = (x86::l2_avx512, x86::dot_avx512);
                all.push(("avx512", Kernels { l2, dot }));
            }
            if std::arch::is_x86_feature_detected!("avx2")
                && std::arch::is_x86_feature_detected!("fma")
            {
                let (l2, dot): (Bounded, Plain) = (x86::l2_avx2, x86::dot_avx2);
                all.push(("avx2", Kernels { l2, dot }));
            }
        }
        all
    }

    proptest! {
        /// Every kernel agrees with a sum in f64, for every odd dimension and alignment; the bound never changes an answer
        /// that is within it.
        #[test]
        fn kernels_agree_with_a_plain_sum(
            dim in 1usize..1200,
            shift_a in 0usize..16,
            shift_b in 0usize..16,
            seed in any::<u64>(),
            share in 0.0f32..2.0,
        ) {
            let padded = dim.next_multiple_of(LANES);
            let mut rng = fastrand::Rng::with_seed(seed);
            let (mut a, mut b) = (vec![0f32; padded + 16], vec![0f32; padded + 16]);
            for i in 0..dim {
                a[shift_a + i] = rng.f32() * 2.0 - 1.0;
                b[shift_b + i] = rng.f32() * 2.0 - 1.0;
            }
            let (pa, pb) = (a[shift_a..].as_ptr(), b[shift_b..].as_ptr());
            let pairs = || a[shift_a..].iter().zip(&b[shift_b..]).take(dim);
            let wide = |x: f32| f64::from(x);
            let l2: f64 = pairs().map(|(x, y)| (wide(*x) - wide(*y)).powi(2)).sum();
            let dot: f64 = pairs().map(|(x, y)| wide(*x) * wide(*y)).sum();
            let slack = 1e-5 * dim as f64 + 1e-6;
            for (name, k) in every() {
                // SAFETY: both buffers hold `padded` floats from their shift on.
                let (full, product, bounded) = unsafe {
                    let full = k.l2(pa, pb, padded, f32::INFINITY);
                    (full, k.dot(pa, pb, padded), k.l2(pa, pb, padded, full * share))
                };
                prop_assert!((wide(full) - l2).abs() <= slack, "{name} l2 {full} {l2}");
                prop_assert!((wide(product) - dot).abs() <= slack, "{name} dot {product} {dot}");
                if full <= full * share {
                    prop_assert_eq!(bounded.to_bits(), full.to_bits());
                } else {
                    prop_assert!(bounded > full * share);
                }
            }
        }
    }
}

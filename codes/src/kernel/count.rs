//! Products of signs with a query of four bits: counts of the bits that are set in both.
//!
//! The query's numbers are in two's complement, cut into planes of one bit: with p_b the bits that a row's signs and plane b have in
//! common, the sum of the numbers where the signs are set is `p_0 + 2 p_1 + 4 p_2 - 8 p_3`. Every kernel gives the very same integers.

use super::{Kernel, KernelKind};

/// Rows that are counted side by side.
pub(crate) const RUN: usize = 16;
/// Planes of a query.
pub(crate) const PLANES: usize = 4;

impl Kernel {
    /// For each row of a run the sum of the query's numbers where the row's signs are set. `signs` has for each 32 dimensions the bits of
    /// all rows, `planes` those of the query.
    ///
    /// # Panics
    /// When they are not of one length.
    #[inline]
    pub(crate) fn counts(self, signs: &[[u32; RUN]], planes: &[[u32; PLANES]]) -> [i32; RUN] {
        assert_eq!(
            signs.len(),
            planes.len(),
            "signs and planes: of one dimension"
        );
        #[cfg(target_arch = "x86_64")]
        {
            if self.0 == KernelKind::Avx512 && is_x86_feature_detected!("avx512vpopcntdq") {
                // SAFETY: the kernel stands for AVX-512 F, and the processor has the counts too.
                return unsafe { x86::avx512(signs, planes) };
            }
            if self.0 != KernelKind::Scalar {
                // SAFETY: a processor with AVX-512 has AVX2.
                return unsafe { x86::avx2(signs, planes) };
            }
        }
        scalar(signs, planes)
    }
}

/// The reference.
fn scalar(signs: &[[u32; RUN]], planes: &[[u32; PLANES]]) -> [i32; RUN] {
    let mut sums = [0; RUN];
    for (signs, planes) in signs.iter().zip(planes) {
        for (sum, signs) in sums.iter_mut().zip(signs) {
            let [a, b, c, d] = planes.map(|plane| (signs & plane).count_ones() as i32);
            *sum += a + 2 * b + 4 * c - 8 * d;
        }
    }
    sums
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{PLANES, RUN};

    /// # Safety
    /// The processor has AVX-512 F and VPOPCNTDQ.
    #[target_feature(enable = "avx512f,avx512vpopcntdq")]
    pub(super) unsafe fn avx512(signs: &[[u32; RUN]], planes: &[[u32; PLANES]]) -> [i32; RUN] {
        let mut counts = [_mm512_setzero_si512(); PLANES];
        for (signs, planes) in signs.iter().zip(planes) {
            // SAFETY: sixteen numbers.
            let signs = unsafe { _mm512_loadu_si512(signs.as_ptr().cast()) };
            for (count, plane) in counts.iter_mut().zip(planes) {
                let both = _mm512_and_si512(signs, _mm512_set1_epi32(*plane as i32));
                *count = _mm512_add_epi32(*count, _mm512_popcnt_epi32(both));
            }
        }
        let [a, b, c, d] = counts;
        let low = _mm512_add_epi32(a, _mm512_slli_epi32::<1>(b));
        let high = _mm512_sub_epi32(_mm512_slli_epi32::<2>(c), _mm512_slli_epi32::<3>(d));
        let mut sums = [0; RUN];
        // SAFETY: sixteen numbers.
        unsafe { _mm512_storeu_si512(sums.as_mut_ptr().cast(), _mm512_add_epi32(low, high)) };
        sums
    }

    /// Bits are counted by halves of bytes, which a table of sixteen answers; a byte's weighted sum lies between -64 and 56.
    ///
    /// # Safety
    /// The processor has AVX2.
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn avx2(signs: &[[u32; RUN]], planes: &[[u32; PLANES]]) -> [i32; RUN] {
        let table = _mm256_broadcastsi128_si256(_mm_setr_epi8(
            0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,
        ));
        let half = _mm256_set1_epi8(15);
        let (bytes, pairs) = (_mm256_set1_epi8(1), _mm256_set1_epi16(1));
        let count = |v: __m256i| {
            let low = _mm256_shuffle_epi8(table, _mm256_and_si256(v, half));
            let high = _mm256_and_si256(_mm256_srli_epi16::<4>(v), half);
            _mm256_add_epi8(low, _mm256_shuffle_epi8(table, high))
        };
        let twice = |v: __m256i| _mm256_add_epi8(v, v);
        let mut sums = [_mm256_setzero_si256(); 2];
        for (signs, planes) in signs.iter().zip(planes) {
            for (sum, signs) in sums.iter_mut().zip(signs.as_chunks::<8>().0) {
                // SAFETY: eight numbers.
                let signs = unsafe { _mm256_loadu_si256(signs.as_ptr().cast()) };
                let [a, b, c, d] = planes
                    .map(|plane| count(_mm256_and_si256(signs, _mm256_set1_epi32(plane as i32))));
                // ((c - 2 d) * 2 + b) * 2 + a
                let upper = _mm256_add_epi8(twice(_mm256_sub_epi8(c, twice(d))), b);
                let weighted = _mm256_add_epi8(twice(upper), a);
                let words = _mm256_madd_epi16(_mm256_maddubs_epi16(bytes, weighted), pairs);
                *sum = _mm256_add_epi32(*sum, words);
            }
        }
        let mut out = [0; RUN];
        for (out, sum) in out.as_chunks_mut::<8>().0.iter_mut().zip(sums) {
            // SAFETY: eight numbers.
            unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), sum) };
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_count_as_the_definition_says() {
        let mut rng = fastrand::Rng::with_seed(7);
        for words in [0, 1, 2, 3, 12, 24, 33, 70] {
            for full in [false, true] {
                let mut word = || if full { u32::MAX } else { rng.u32(..) };
                let signs: Vec<[u32; RUN]> = (0..words)
                    .map(|_| std::array::from_fn(|_| word()))
                    .collect();
                let planes: Vec<[u32; PLANES]> = (0..words)
                    .map(|_| std::array::from_fn(|_| word()))
                    .collect();
                let mut expected = [0; RUN];
                for (row, expected) in expected.iter_mut().enumerate() {
                    for (signs, planes) in signs.iter().zip(&planes) {
                        for bit in (0..32).filter(|bit| signs[row] >> bit & 1 == 1) {
                            let [a, b, c, d] = planes.map(|p| (p >> bit & 1) as i32);
                            *expected += a + 2 * b + 4 * c - 8 * d;
                        }
                    }
                }
                for kind in [KernelKind::Scalar, KernelKind::Avx2, KernelKind::Avx512] {
                    if let Some(kernel) = Kernel::of(kind) {
                        assert_eq!(
                            kernel.counts(&signs, &planes),
                            expected,
                            "{kind:?}, {words}"
                        );
                    }
                }
            }
        }
    }
}

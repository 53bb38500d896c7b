//! Integer products of codes and queries: AVX-512 with VNNI, AVX2, or portable, chosen at run time.
//!
//! A code lies in chunks of 64 bytes. With 8 bits a number, a byte is a number. With 4 bits, the low halves of a chunk's bytes are its
//! first numbers and the high halves the rest; so what comes out of a mask and a shift stands beside a run of the query. The last chunk
//! may be shorter, its bytes then hold as many numbers from each half. A query is laid out for that ([`Layout::spread`]): whole
//! chunks, zeros where the code has nothing. Every kernel gives the very same integers.

/// Bytes of a chunk: a cache line, and the widest register.
const CHUNK: usize = 64;

/// How the numbers of a code lie in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// 4 or 8.
    bits: u8,
    /// Numbers of a code, a multiple of eight.
    numbers: usize,
}

impl Layout {
    pub(crate) fn new(bits: u8, numbers: usize) -> Self {
        debug_assert!((bits == 4 || bits == 8) && numbers.is_multiple_of(8));
        Self { bits, numbers }
    }

    /// Numbers in a whole chunk.
    fn chunk(self) -> usize {
        CHUNK * 8 / usize::from(self.bits)
    }

    /// Bytes of a code.
    pub(crate) fn bytes(self) -> usize {
        self.numbers * usize::from(self.bits) / 8
    }

    /// Bytes of a query.
    pub(crate) fn query_bytes(self) -> usize {
        self.numbers.next_multiple_of(self.chunk())
    }

    /// Packs `numbers` into `out`, `[bytes]`.
    pub(crate) fn pack(self, numbers: &[u8], out: &mut [u8]) {
        debug_assert!(numbers.len() == self.numbers && out.len() == self.bytes());
        if self.bits == 8 {
            out.copy_from_slice(numbers);
            return;
        }
        for (numbers, out) in numbers.chunks(self.chunk()).zip(out.chunks_mut(CHUNK)) {
            let (low, high) = numbers.split_at(out.len());
            for ((out, low), high) in out.iter_mut().zip(low).zip(high) {
                *out = low | high << 4;
            }
        }
    }

    /// Lays the query's numbers out for the kernels, in `out`, `[query_bytes]`.
    pub(crate) fn spread(self, query: &[i8], out: &mut [i8]) {
        debug_assert!(query.len() == self.numbers && out.len() == self.query_bytes());
        for (query, out) in query.chunks(self.chunk()).zip(out.chunks_mut(self.chunk())) {
            if self.bits == 8 || query.len() == out.len() {
                out[..query.len()].copy_from_slice(query);
                out[query.len()..].fill(0);
                continue;
            }
            let (low, high) = query.split_at(query.len() / 2);
            out.fill(0);
            out[..low.len()].copy_from_slice(low);
            out[CHUNK..CHUNK + high.len()].copy_from_slice(high);
        }
    }
}

type Kernel = unsafe fn(&[*const u8], usize, *const i8, &mut [i32]);

/// The kernel of this machine for one layout.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Products {
    layout: Layout,
    kernel: Kernel,
}

impl Products {
    /// The fastest that this processor runs.
    pub(crate) fn detect(layout: Layout) -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if std::arch::is_x86_feature_detected!("avx512bw")
                && std::arch::is_x86_feature_detected!("avx512vnni")
            {
                return Self::avx512(layout);
            }
            if std::arch::is_x86_feature_detected!("avx2") {
                return Self::avx2(layout);
            }
        }
        Self::portable(layout)
    }

    pub(crate) fn portable(layout: Layout) -> Self {
        let kernel: Kernel = if layout.bits == 4 {
            portable::<4>
        } else {
            portable::<8>
        };
        Self { layout, kernel }
    }

    #[cfg(target_arch = "x86_64")]
    fn avx2(layout: Layout) -> Self {
        let kernel: Kernel = if layout.bits == 4 {
            x86::avx2::<4>
        } else {
            x86::avx2::<8>
        };
        Self { layout, kernel }
    }

    #[cfg(target_arch = "x86_64")]
    fn avx512(layout: Layout) -> Self {
        let kernel: Kernel = if layout.bits == 4 {
            x86::avx512::<4>
        } else {
            x86::avx512::<8>
        };
        Self { layout, kernel }
    }

    /// Writes the product of the query with each code to `out`, which is as long as `codes`.
    ///
    /// # Safety
    /// Each of `codes` points to [`Layout::bytes`] bytes that nobody writes; `query` to [`Layout::query_bytes`] made by
    /// [`Layout::spread`].
    #[inline(always)]
    pub(crate) unsafe fn of(&self, codes: &[*const u8], query: *const i8, out: &mut [i32]) {
        debug_assert_eq!(codes.len(), out.len());
        // SAFETY: the caller's promise; the kernel was chosen by what the processor can do.
        unsafe { (self.kernel)(codes, self.layout.bytes(), query, out) }
    }
}

/// # Safety
/// As [`Products::of`], with `bytes` those of the layout.
unsafe fn portable<const BITS: u8>(
    codes: &[*const u8],
    bytes: usize,
    query: *const i8,
    out: &mut [i32],
) {
    let numbers = bytes.div_ceil(CHUNK) * CHUNK * 8 / usize::from(BITS);
    // SAFETY: the caller's promise.
    let query = unsafe { std::slice::from_raw_parts(query, numbers) };
    for (code, out) in codes.iter().zip(out) {
        // SAFETY: the caller's promise.
        let code = unsafe { std::slice::from_raw_parts(*code, bytes) };
        *out = portable_chunks::<BITS>(code, query);
    }
}

/// The product of whole and shorter chunks with their part of the query.
fn portable_chunks<const BITS: u8>(code: &[u8], query: &[i8]) -> i32 {
    let mut sum = 0;
    for (code, query) in code
        .chunks(CHUNK)
        .zip(query.chunks(CHUNK * 8 / usize::from(BITS)))
    {
        let (low, high) = query.split_at(CHUNK);
        for (i, byte) in code.iter().enumerate() {
            sum += if BITS == 8 {
                i32::from(*byte) * i32::from(low[i])
            } else {
                i32::from(byte & 15) * i32::from(low[i]) + i32::from(byte >> 4) * i32::from(high[i])
            };
        }
    }
    sum
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::CHUNK;

    /// Codes whose products are made side by side, so that one waits less for itself.
    const ABREAST: usize = 4;

    /// # Safety
    /// As [`super::Products::of`], on a processor with AVX-512 F, BW and VNNI.
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    pub(super) unsafe fn avx512<const BITS: u8>(
        codes: &[*const u8],
        bytes: usize,
        query: *const i8,
        out: &mut [i32],
    ) {
        let (fours, rest) = codes.as_chunks::<ABREAST>();
        let (fours_out, rest_out) = out.as_chunks_mut::<ABREAST>();
        for (codes, out) in fours.iter().zip(fours_out) {
            // SAFETY: as this function's own.
            *out = unsafe { avx512_some::<BITS, ABREAST>(codes, bytes, query) };
        }
        for (code, out) in rest.iter().zip(rest_out) {
            // SAFETY: as this function's own.
            [*out] = unsafe { avx512_some::<BITS, 1>(&[*code], bytes, query) };
        }
    }

    /// # Safety
    /// As [`avx512`].
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    #[inline]
    unsafe fn avx512_some<const BITS: u8, const R: usize>(
        codes: &[*const u8; R],
        bytes: usize,
        query: *const i8,
    ) -> [i32; R] {
        let mut sums = [_mm512_setzero_si512(); R];
        let whole = bytes / CHUNK * CHUNK;
        for at in (0..whole).step_by(CHUNK) {
            for r in 0..R {
                // SAFETY: `at + CHUNK <= bytes`; the query has as many whole chunks.
                sums[r] = unsafe {
                    let code = _mm512_loadu_si512(codes[r].add(at).cast());
                    add::<BITS>(sums[r], code, query.add(at * 8 / usize::from(BITS)))
                };
            }
        }
        if whole < bytes {
            let live: __mmask64 = u64::MAX >> (CHUNK - (bytes - whole));
            for r in 0..R {
                // SAFETY: what lies beyond `bytes` is masked out and not touched; the query has this chunk whole.
                sums[r] = unsafe {
                    let code = _mm512_maskz_loadu_epi8(live, codes[r].add(whole).cast());
                    add::<BITS>(sums[r], code, query.add(whole * 8 / usize::from(BITS)))
                };
            }
        }
        sums.map(|sum| _mm512_reduce_add_epi32(sum))
    }

    /// Adds the product of a chunk.
    ///
    /// # Safety
    /// AVX-512 F, BW, VNNI; a chunk of the query is readable at `query`.
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    #[inline]
    unsafe fn add<const BITS: u8>(sum: __m512i, code: __m512i, query: *const i8) -> __m512i {
        // SAFETY: this function's own.
        let first = unsafe { _mm512_loadu_si512(query.cast()) };
        if BITS == 8 {
            return _mm512_dpbusd_epi32(sum, code, first);
        }
        // SAFETY: a chunk of 4 bits has twice as many numbers as bytes.
        let second = unsafe { _mm512_loadu_si512(query.add(CHUNK).cast()) };
        let mask = _mm512_set1_epi8(15);
        let (low, high) = (
            _mm512_and_si512(code, mask),
            _mm512_and_si512(_mm512_srli_epi16::<4>(code), mask),
        );
        _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(sum, low, first), high, second)
    }

    /// # Safety
    /// As [`super::Products::of`], on a processor with AVX2.
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn avx2<const BITS: u8>(
        codes: &[*const u8],
        bytes: usize,
        query: *const i8,
        out: &mut [i32],
    ) {
        let whole = bytes / CHUNK * CHUNK;
        for (code, out) in codes.iter().zip(out) {
            let mut sum = _mm256_setzero_si256();
            for at in (0..whole).step_by(CHUNK) {
                // SAFETY: `at + CHUNK <= bytes`; the query has as many whole chunks.
                sum = unsafe {
                    add_avx2::<BITS>(sum, code.add(at), query.add(at * 8 / usize::from(BITS)))
                };
            }
            if whole < bytes {
                let mut last = [0u8; CHUNK];
                // SAFETY: `bytes - whole` bytes are left of the code; the query has this chunk whole.
                sum = unsafe {
                    std::ptr::copy_nonoverlapping(
                        code.add(whole),
                        last.as_mut_ptr(),
                        bytes - whole,
                    );
                    add_avx2::<BITS>(sum, last.as_ptr(), query.add(whole * 8 / usize::from(BITS)))
                };
            }
            let four = _mm_add_epi32(
                _mm256_castsi256_si128(sum),
                _mm256_extracti128_si256::<1>(sum),
            );
            let two = _mm_add_epi32(four, _mm_shuffle_epi32::<0b01_00_11_10>(four));
            let one = _mm_add_epi32(two, _mm_shuffle_epi32::<0b10_11_00_01>(two));
            *out = _mm_cvtsi128_si32(one);
        }
    }

    /// Adds the product of a chunk. A number of 8 bits is taken as two of 4: two products of a byte do not fit in 16 bits.
    ///
    /// # Safety
    /// AVX2; a chunk is readable at `code`, and one of the query at `query`.
    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn add_avx2<const BITS: u8>(
        mut sum: __m256i,
        code: *const u8,
        query: *const i8,
    ) -> __m256i {
        let (mask, ones) = (_mm256_set1_epi8(15), _mm256_set1_epi16(1));
        for half in [0, CHUNK / 2] {
            // SAFETY: `half + 32 <= CHUNK`, and a chunk of 4 bits has twice as many numbers as bytes.
            let (code, first, second) = unsafe {
                let first = _mm256_loadu_si256(query.add(half).cast());
                let second = if BITS == 8 {
                    first
                } else {
                    _mm256_loadu_si256(query.add(CHUNK + half).cast())
                };
                (_mm256_loadu_si256(code.add(half).cast()), first, second)
            };
            let low = _mm256_and_si256(code, mask);
            let high = _mm256_and_si256(_mm256_srli_epi16::<4>(code), mask);
            let low = _mm256_madd_epi16(_mm256_maddubs_epi16(low, first), ones);
            let high = _mm256_madd_epi16(_mm256_maddubs_epi16(high, second), ones);
            let high = if BITS == 8 {
                _mm256_slli_epi32::<4>(high)
            } else {
                high
            };
            sum = _mm256_add_epi32(sum, _mm256_add_epi32(low, high));
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn every(layout: Layout) -> Vec<(&'static str, Products)> {
        let mut all = vec![("portable", Products::portable(layout))];
        #[cfg(target_arch = "x86_64")]
        {
            if std::arch::is_x86_feature_detected!("avx512bw")
                && std::arch::is_x86_feature_detected!("avx512vnni")
            {
                all.push(("avx512", Products::avx512(layout)));
            }
            if std::arch::is_x86_feature_detected!("avx2") {
                all.push(("avx2", Products::avx2(layout)));
            }
        }
        all
    }

    /// The products of some codes by every kernel, beside the definition.
    fn compare(layout: Layout, codes: &[Vec<u8>], query: &[i8]) {
        let mut spread = vec![0i8; layout.query_bytes()];
        layout.spread(query, &mut spread);
        let packed: Vec<Vec<u8>> = (codes.iter())
            .map(|numbers| {
                let mut bytes = vec![0; layout.bytes()];
                layout.pack(numbers, &mut bytes);
                bytes
            })
            .collect();
        let pointers: Vec<*const u8> = packed.iter().map(Vec::as_ptr).collect();
        let product = |code: &Vec<u8>| {
            let pairs = code.iter().zip(query);
            pairs
                .map(|(c, q)| i32::from(*c) * i32::from(*q))
                .sum::<i32>()
        };
        let expected: Vec<i32> = codes.iter().map(product).collect();
        for (name, products) in every(layout) {
            let mut got = vec![0; codes.len()];
            // SAFETY: codes and query are those of the layout.
            unsafe { products.of(&pointers, spread.as_ptr(), &mut got) };
            assert_eq!(got, expected, "{name} {layout:?}");
        }
    }

    proptest! {
        /// Every kernel gives what the definition gives, for both widths and odd sizes.
        #[test]
        fn kernels_equal_the_definition(wide: bool, eighths in 1usize..80, rows in 0usize..10, seed: u64) {
            let bits = if wide { 8 } else { 4 };
            let layout = Layout::new(bits, eighths * 8);
            let mut rng = fastrand::Rng::with_seed(seed);
            let query: Vec<i8> = (0..eighths * 8).map(|_| rng.i8(-127..=127)).collect();
            let code = |_| (0..eighths * 8).map(|_| rng.u16(..1 << bits) as u8).collect();
            let codes: Vec<Vec<u8>> = (0..rows).map(code).collect();
            compare(layout, &codes, &query);
        }
    }

    #[test]
    fn the_largest_sums_fit() {
        for (bits, most) in [(4, 15), (8, 255)] {
            let layout = Layout::new(bits, 65_536);
            compare(layout, &[vec![most; 65_536]], &vec![-127; 65_536]);
        }
    }
}

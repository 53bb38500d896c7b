//! AVX2 and AVX-512: unpack 32 or 64 fields, multiply them with as many bytes of the query, add up in 32 bits.

use std::arch::x86_64::*;

use super::{Plane, Work, scalar};

const LINE_BYTES: usize = 64;
/// How far ahead codes are asked for: what lies beyond a page's end the processor does not fetch by itself.
const AHEAD_BYTES: usize = 3072;

/// # Safety
/// The processor has AVX-512 F and BW.
#[target_feature(enable = "avx512f,avx512bw,avx2")]
pub(super) unsafe fn with_avx512<W: Work>(work: W) -> W::Out {
    work.run()
}

/// # Safety
/// The processor has AVX2.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn with_avx2<W: Work>(work: W) -> W::Out {
    work.run()
}

/// # Safety
/// The processor has AVX2. `codes` is whole rows of `stride` bytes, `stride` the sum of the planes' bytes, and
/// `query.len() * width == plane.bytes * 8` for each plane.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn products_avx2(
    planes: &[Plane],
    stride: usize,
    codes: &[u8],
    query: &[i8],
    out: &mut Vec<i32>,
) {
    for code in codes.chunks_exact(stride) {
        let (mut sum, mut rest) = (0, code);
        for plane in planes {
            let (bytes, later) = rest.split_at(plane.bytes);
            rest = later;
            let whole = plane.bytes / 32 * 32;
            // SAFETY: as this function's own; `whole` is a multiple of 32 within the plane.
            let first = unsafe { plane_avx2(plane, bytes, query, whole) };
            let last = scalar::fields(plane, bytes, query, whole..plane.bytes);
            sum += (first + last) << plane.shift;
        }
        out.push(sum);
    }
}

/// The product of a plane's first `whole` bytes.
///
/// # Safety
/// AVX2; `whole` is a multiple of 32 and at most `bytes.len()`, which is `plane.bytes`.
#[target_feature(enable = "avx2")]
unsafe fn plane_avx2(plane: &Plane, bytes: &[u8], query: &[i8], whole: usize) -> i32 {
    let fields = 8 / usize::from(plane.width);
    let mask = _mm256_set1_epi8((1i8 << plane.width) - 1);
    let ones = _mm256_set1_epi16(1);
    let width = _mm_cvtsi32_si128(i32::from(plane.width));
    let mut sums = _mm256_setzero_si256();
    for at in (0..whole).step_by(32) {
        // SAFETY: `at + 32 <= whole <= bytes.len()`.
        let mut packed = unsafe { _mm256_loadu_si256(bytes.as_ptr().add(at).cast()) };
        for field in 0..fields {
            // SAFETY: `field * plane.bytes + at + 32 <= fields * plane.bytes == query.len()`.
            let q =
                unsafe { _mm256_loadu_si256(query.as_ptr().add(field * plane.bytes + at).cast()) };
            // A product is at most 15 * 127, so the sum of two fits in 16 bits.
            let pairs = _mm256_maddubs_epi16(_mm256_and_si256(packed, mask), q);
            sums = _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, ones));
            packed = _mm256_srl_epi16(packed, width);
        }
    }
    let four = _mm_add_epi32(
        _mm256_castsi256_si128(sums),
        _mm256_extracti128_si256(sums, 1),
    );
    let two = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0b01_00_11_10));
    let one = _mm_add_epi32(two, _mm_shuffle_epi32(two, 0b10_11_00_01));
    _mm_cvtsi128_si32(one)
}

/// Rows that are multiplied side by side: a run of the query is loaded once for all of them.
const ABREAST: usize = 4;

/// # Safety
/// The processor has AVX-512 F, BW and VNNI; the shapes are those of [`products_avx2`].
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) unsafe fn products_avx512(
    planes: &[Plane],
    stride: usize,
    codes: &[u8],
    query: &[i8],
    out: &mut Vec<i32>,
) {
    let mut abreast = codes.chunks_exact(stride * ABREAST);
    for some in &mut abreast {
        for line in (0..some.len()).step_by(LINE_BYTES) {
            // What lies there, or whether anything does, is all the same to a hint.
            _mm_prefetch::<_MM_HINT_T0>(some.as_ptr().wrapping_add(AHEAD_BYTES + line).cast());
        }
        // SAFETY: `ABREAST` whole rows; the rest as this function's own.
        out.extend(unsafe { rows_avx512::<ABREAST>(planes, stride, some, query) });
    }
    for one in abreast.remainder().chunks_exact(stride) {
        // SAFETY: one whole row; the rest as this function's own.
        out.extend(unsafe { rows_avx512::<1>(planes, stride, one, query) });
    }
}

/// The products of `R` rows.
///
/// # Safety
/// As [`products_avx512`], and `codes.len() == R * stride`.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn rows_avx512<const R: usize>(
    planes: &[Plane],
    stride: usize,
    codes: &[u8],
    query: &[i8],
) -> [i32; R] {
    let mut sums = [0; R];
    let mut offset = 0;
    for plane in planes {
        // SAFETY: plane by plane, `offset + plane.bytes <= stride`, so that every row's bytes lie within `codes`; the query's length
        // fits by the contract of `products_avx2`. The width is one of the three.
        let plane_sums = unsafe {
            let first = codes.as_ptr().add(offset);
            match plane.width {
                4 => plane_avx512::<4, R>(plane.bytes, first, stride, query.as_ptr()),
                2 => plane_avx512::<2, R>(plane.bytes, first, stride, query.as_ptr()),
                _ => plane_avx512::<1, R>(plane.bytes, first, stride, query.as_ptr()),
            }
        };
        for (sum, of_plane) in sums.iter_mut().zip(plane_sums) {
            *sum += of_plane << plane.shift;
        }
        offset += plane.bytes;
    }
    sums
}

/// The products of one plane, `WIDTH` bits a field, of `R` rows; the last, shorter run is loaded under a mask.
///
/// # Safety
/// AVX-512 F, BW, VNNI; `bytes` bytes are readable at `first + r * stride` for each row, and `8 / WIDTH * bytes` at `query`.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn plane_avx512<const WIDTH: u32, const R: usize>(
    bytes: usize,
    first: *const u8,
    stride: usize,
    query: *const i8,
) -> [i32; R] {
    let mask = _mm512_set1_epi8((1i8 << WIDTH) - 1);
    let mut sums = [_mm512_setzero_si512(); R];
    for at in (0..bytes).step_by(64) {
        let live: __mmask64 = u64::MAX >> (64 - (bytes - at).min(64));
        let mut packed = [_mm512_setzero_si512(); R];
        for (row, packed) in packed.iter_mut().enumerate() {
            // SAFETY: what lies beyond `bytes` is masked out and not touched.
            *packed = unsafe { _mm512_maskz_loadu_epi8(live, first.add(row * stride + at).cast()) };
        }
        for field in 0..(8 / WIDTH) as usize {
            // SAFETY: masked to the run of this field, which ends at `(field + 1) * bytes`.
            let q = unsafe { _mm512_maskz_loadu_epi8(live, query.add(field * bytes + at)) };
            for (sum, packed) in sums.iter_mut().zip(&mut packed) {
                *sum = _mm512_dpbusd_epi32(*sum, _mm512_and_si512(*packed, mask), q);
                *packed = _mm512_srli_epi16::<WIDTH>(*packed);
            }
        }
    }
    sums.map(|sum| _mm512_reduce_add_epi32(sum))
}

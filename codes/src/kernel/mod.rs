//! Integer products of packed codes with a query of bytes.
//!
//! A code is one to three *planes* of 4, 2 or 1 bits a dimension, the highest bits first. In a plane of width w over D dimensions
//! byte j of n = D w / 8 holds, from its low bits up, the fields of dimensions j, n + j, 2n + j, ...: unpacking a run of bytes is a
//! shift and a mask, and what comes out stands beside a run of the query. Every kernel gives the very same integers.

mod count;
mod scalar;
mod tile;
#[cfg(target_arch = "x86_64")]
mod x86;

pub(crate) use count::{PLANES, RUN};
pub use tile::{TILE_OTHERS, TILE_ROWS, Term, pair, tile};

/// Work for [`wide`]. `run` is `#[inline(always)]`, and so is what it calls: a function that stands for itself, and that of a closure does,
/// is compiled for the narrowest processor.
pub(crate) trait Work {
    /// What comes of it.
    type Out;

    /// Does it.
    fn run(self) -> Self::Out;
}

/// Runs `work`, compiled for the widest registers that this processor has. The sums in it come out the same on every processor: nothing
/// is reordered, only done side by side.
#[inline(always)]
pub(crate) fn wide<W: Work>(work: W) -> W::Out {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw") {
            // SAFETY: the processor has both.
            return unsafe { x86::with_avx512(work) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has it.
            return unsafe { x86::with_avx2(work) };
        }
    }
    work.run()
}

/// One plane of a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plane {
    /// 4, 2 or 1.
    pub(crate) width: u8,
    /// Bits of the code below this plane.
    pub(crate) shift: u8,
    /// Bytes of the plane.
    pub(crate) bytes: usize,
}

/// The planes of a code of so many bits over `padded` dimensions (a multiple of eight).
pub(crate) fn planes(bits: u8, padded: usize) -> Vec<Plane> {
    let mut left = bits;
    let mut planes = Vec::new();
    while left > 0 {
        let width = match left {
            4.. => 4,
            2..=3 => 2,
            _ => 1,
        };
        left -= width;
        planes.push(Plane {
            width,
            shift: left,
            bytes: padded * usize::from(width) / 8,
        });
    }
    planes
}

/// Bytes after which a code of the planes ends.
pub(crate) fn code_bytes(planes: &[Plane]) -> usize {
    planes.iter().map(|p| p.bytes).sum()
}

/// Packs numbers of `planes` bits, `[padded]`, as one code.
#[inline(always)]
pub(crate) fn pack(planes: &[Plane], numbers: &[u8], out: &mut Vec<u8>) {
    for plane in planes {
        let mask = (1u8 << plane.width) - 1;
        let from = out.len();
        out.resize(from + plane.bytes, 0);
        for (field, run) in numbers.chunks_exact(plane.bytes).enumerate() {
            let up = field as u8 * plane.width;
            for (byte, number) in out[from..].iter_mut().zip(run) {
                *byte |= ((number >> plane.shift) & mask) << up;
            }
        }
    }
}

/// Unpacks what [`pack`] packed into `numbers`, `[padded]`.
#[inline(always)]
pub(crate) fn unpack(planes: &[Plane], code: &[u8], numbers: &mut [u8]) {
    numbers.fill(0);
    let mut rest = code;
    for plane in planes {
        let (bytes, later) = rest.split_at(plane.bytes);
        rest = later;
        let mask = (1u8 << plane.width) - 1;
        for (field, run) in numbers.chunks_exact_mut(plane.bytes).enumerate() {
            let down = field as u8 * plane.width;
            for (number, byte) in run.iter_mut().zip(bytes) {
                *number |= ((byte >> down) & mask) << plane.shift;
            }
        }
    }
}

/// Which instructions a kernel uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelKind {
    /// Plain Rust: the reference.
    Scalar,
    /// AVX2.
    Avx2,
    /// AVX-512 with VNNI.
    Avx512,
}

/// Multiplies codes with a query. Chosen once at run time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel(KernelKind);

impl Kernel {
    /// The quickest that this processor has.
    pub fn best() -> Self {
        let all = [KernelKind::Avx512, KernelKind::Avx2];
        all.into_iter()
            .find_map(Self::of)
            .unwrap_or(Self(KernelKind::Scalar))
    }

    /// A kernel of this kind; `None` when this processor cannot run it.
    pub fn of(kind: KernelKind) -> Option<Self> {
        let runs = match kind {
            KernelKind::Scalar => true,
            #[cfg(target_arch = "x86_64")]
            KernelKind::Avx2 => is_x86_feature_detected!("avx2"),
            #[cfg(target_arch = "x86_64")]
            KernelKind::Avx512 => {
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vnni")
            }
            #[cfg(not(target_arch = "x86_64"))]
            KernelKind::Avx2 | KernelKind::Avx512 => false,
        };
        runs.then_some(Self(kind))
    }

    /// What it uses.
    pub fn kind(self) -> KernelKind {
        self.0
    }

    /// Appends to `out`, for each code of `codes`, the sum over all dimensions of code times query.
    ///
    /// **Shapes.** `codes: [rows, code_bytes]`, `query: [padded]`. Sums stay below 2^31 for up to 66,000 dimensions, since a code is
    /// at most 255 and a byte of the query at most 127 in size.
    ///
    /// # Panics
    /// When a shape does not fit.
    pub(crate) fn products(self, planes: &[Plane], codes: &[u8], query: &[i8], out: &mut Vec<i32>) {
        let stride = code_bytes(planes);
        assert!(
            stride > 0 && codes.len().is_multiple_of(stride),
            "codes: whole rows"
        );
        for plane in planes {
            let width = usize::from(plane.width);
            assert!(
                plane.bytes * 8 == query.len() * width,
                "query: one byte a dimension"
            );
        }
        match self.0 {
            KernelKind::Scalar => scalar::products(planes, stride, codes, query, out),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `of` made sure that the processor has AVX2; the shapes were checked above.
            KernelKind::Avx2 => unsafe { x86::products_avx2(planes, stride, codes, query, out) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `of` made sure that the processor has AVX-512 F, BW and VNNI; the shapes were checked above.
            KernelKind::Avx512 => unsafe {
                x86::products_avx512(planes, stride, codes, query, out);
            },
            #[cfg(not(target_arch = "x86_64"))]
            KernelKind::Avx2 | KernelKind::Avx512 => {
                scalar::products(planes, stride, codes, query, out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Packing loses nothing, and every kernel gives what the definition gives, for every number of bits and odd sizes.
        #[test]
        fn kernels_equal_the_definition(bits in 1u8..=8, eighths in 1usize..70, rows in 0usize..5, seed: u64) {
            let padded = eighths * 8;
            let mut rng = fastrand::Rng::with_seed(seed);
            let planes = planes(bits, padded);
            let query: Vec<i8> = (0..padded).map(|_| rng.i8(-127..=127)).collect();
            let (mut codes, mut expected) = (Vec::new(), Vec::new());
            for _ in 0..rows {
                let numbers: Vec<u8> = (0..padded).map(|_| (rng.u16(..1 << bits)) as u8).collect();
                pack(&planes, &numbers, &mut codes);
                let mut again = vec![1; padded];
                unpack(&planes, &codes[codes.len() - code_bytes(&planes)..], &mut again);
                prop_assert_eq!(&again, &numbers);
                expected.push(numbers.iter().zip(&query).map(|(a, b)| i32::from(*a) * i32::from(*b)).sum::<i32>());
            }
            prop_assert_eq!(codes.len(), rows * padded * usize::from(bits) / 8);
            for kind in [KernelKind::Scalar, KernelKind::Avx2, KernelKind::Avx512] {
                let Some(kernel) = Kernel::of(kind) else { continue };
                let mut got = Vec::new();
                kernel.products(&planes, &codes, &query, &mut got);
                prop_assert_eq!(&got, &expected, "{:?}", kind);
            }
        }
    }

    #[test]
    fn the_largest_sum_fits() {
        let padded = 65_536;
        let planes = planes(8, padded);
        let (query, mut codes) = (vec![-127i8; padded], Vec::new());
        pack(&planes, &vec![255; padded], &mut codes);
        for kind in [KernelKind::Scalar, KernelKind::Avx2, KernelKind::Avx512] {
            let Some(kernel) = Kernel::of(kind) else {
                continue;
            };
            let mut got = Vec::new();
            kernel.products(&planes, &codes, &query, &mut got);
            assert_eq!(got, [-255 * 127 * 65_536], "{kind:?}");
        }
    }
}

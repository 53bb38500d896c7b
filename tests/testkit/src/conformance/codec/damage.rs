//! Damage is found, never decoded.

use aether_core::role::Codec;
use aether_core::vector::{DIM_MAX, Shape};
use proptest::prelude::*;

use super::super::property;
use super::{CodecHarness, encode, sample};

/// Decoding must be `Corrupt` and leave `out` as it was.
fn refused(codec: &dyn Codec, bytes: &[u8], rows: usize, dim: usize, what: &str) {
    let mut out = vec![1.5, 2.5];
    match codec.decode(bytes, Shape { rows, dim }, &mut out) {
        Ok(()) => panic!("{what}: it was decoded"),
        Err(e) => assert!(e.is_corrupt(), "{what}: expected Corrupt, got {e:?}"),
    }
    assert_eq!(out, [1.5, 2.5], "{what}: `out` must be as before");
}

fn samples() -> Vec<(Vec<f32>, usize)> {
    vec![
        (Vec::new(), 4),
        (sample(1, 1, 1), 1),
        (sample(2, 3, 5), 5),
        (vec![0.25; 120], 12),
    ]
}

/// Every single flipped bit of small encodings is found.
///
/// # Panics
/// When one is not.
pub fn flipped_bits_are_found(h: &CodecHarness) {
    for codec in h.all() {
        for (data, dim) in samples() {
            let good = encode(codec.as_ref(), &data, dim);
            for bit in 0..good.len() * 8 {
                let mut bad = good.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                refused(
                    codec.as_ref(),
                    &bad,
                    data.len() / dim,
                    dim,
                    &format!("bit {bit} flipped"),
                );
            }
        }
    }
}

/// Every cut, and every addition before or behind, is found.
///
/// # Panics
/// When one is not.
pub fn cuts_and_additions_are_found(h: &CodecHarness) {
    for codec in h.all() {
        for (data, dim) in samples() {
            let (rows, good) = (data.len() / dim, encode(codec.as_ref(), &data, dim));
            for cut in 0..good.len() {
                refused(
                    codec.as_ref(),
                    &good[..cut],
                    rows,
                    dim,
                    &format!("cut at {cut}"),
                );
                refused(
                    codec.as_ref(),
                    &good[good.len() - cut..],
                    rows,
                    dim,
                    "the head is missing",
                );
            }
            for more in [&[0u8][..], &[0xff], &[0; 9], &good] {
                refused(
                    codec.as_ref(),
                    &[&good, more].concat(),
                    rows,
                    dim,
                    "trailing bytes",
                );
                if more != good.as_slice() {
                    refused(
                        codec.as_ref(),
                        &[more, &good].concat(),
                        rows,
                        dim,
                        "leading bytes",
                    );
                }
            }
        }
    }
}

/// A block is refused under any other shape, also one with as many floats.
///
/// # Panics
/// When it is taken.
pub fn other_shapes_are_refused(h: &CodecHarness) {
    for codec in h.all() {
        for data in [sample(3, 6, 4), vec![0.0; 24]] {
            let good = encode(codec.as_ref(), &data, 4);
            for (rows, dim) in [
                (5, 4),
                (7, 4),
                (6, 3),
                (6, 5),
                (0, 4),
                (3, 8),
                (4, 6),
                (24, 1),
                (1, 24),
                (12, 4),
            ] {
                refused(
                    codec.as_ref(),
                    &good,
                    rows,
                    dim,
                    &format!("read as {rows} x {dim}"),
                );
            }
        }
    }
}

/// Random bytes are refused.
///
/// # Panics
/// When they are decoded, or make the codec panic.
pub fn garbage_is_refused(h: &CodecHarness) {
    for codec in h.all() {
        let noise = prop::collection::vec(any::<u8>(), 0..200);
        property(500, (noise, 0usize..6, 1usize..6), |(bytes, rows, dim)| {
            refused(codec.as_ref(), &bytes, rows, dim, "random bytes");
        });
        for byte in [0x00, 0x01, 0xff] {
            for len in 0..40 {
                refused(codec.as_ref(), &vec![byte; len], 2, 3, "equal bytes");
            }
        }
    }
}

/// Neither a bomb (much from few bytes) nor a shape beyond all memory makes a codec allocate: a bomb is refused with little
/// capacity taken, a huge shape is refused for the few bytes that come with it.
///
/// # Panics
/// When it is not so.
pub fn nothing_is_allocated_beyond_the_shape(h: &CodecHarness) {
    for codec in h.all() {
        let bomb = encode(codec.as_ref(), &vec![0.0; 1 << 20], 1 << 10);
        for (rows, dim) in [(1, 1 << 10), (2, 8), (0, 1)] {
            let mut out = Vec::new();
            let error = codec
                .decode(&bomb, Shape { rows, dim }, &mut out)
                .expect_err("a bomb was decoded");
            assert!(error.is_corrupt(), "{error:?}");
            assert!(
                out.capacity() <= 2 * rows * dim + 64,
                "{} floats were reserved for {rows} x {dim}",
                out.capacity()
            );
        }
        let small = encode(codec.as_ref(), &sample(4, 2, 3), 3);
        for rows in [1 << 40, usize::MAX / 4, usize::MAX / 2, usize::MAX] {
            for dim in [1, 3, 4, DIM_MAX] {
                refused(
                    codec.as_ref(),
                    &small,
                    rows,
                    dim,
                    "a shape beyond all memory",
                );
                refused(
                    codec.as_ref(),
                    &[],
                    rows,
                    dim,
                    "nothing, and a shape beyond all memory",
                );
            }
        }
    }
}

//! Byte shuffling: the first bytes of all items, then their second bytes, and so on, so that a packer meets like bytes side by side.
//!
//! Signs and exponents of an embedding's floats are alike and pack well; their low mantissa bytes are noise. The method is that of
//! Blosc and HDF5 ("shuffle filter").

/// Items that are transposed at a time: they stay in the first-level cache while each of their planes is written.
const TILE: usize = 1024;

/// Appends the four byte planes of `floats` to `out`: `4 * floats.len()` bytes, lowest byte (of the little-endian form) first.
pub fn shuffle_f32(floats: &[f32], out: &mut Vec<u8>) {
    let (from, n) = (out.len(), floats.len());
    out.resize(from + 4 * n, 0);
    let planes = &mut out[from..];
    let (low, high) = planes.split_at_mut(2 * n);
    let ((p0, p1), (p2, p3)) = (low.split_at_mut(n), high.split_at_mut(n));
    let tiles = floats
        .chunks(TILE)
        .zip(p0.chunks_mut(TILE).zip(p1.chunks_mut(TILE)))
        .zip(p2.chunks_mut(TILE).zip(p3.chunks_mut(TILE)));
    for ((floats, (p0, p1)), (p2, p3)) in tiles {
        for (plane, shift) in [(p0, 0), (p1, 8), (p2, 16), (p3, 24)] {
            for (byte, x) in plane.iter_mut().zip(floats) {
                *byte = (x.to_bits() >> shift) as u8;
            }
        }
    }
}

/// Appends the floats whose planes [`shuffle_f32`] wrote: `planes.len() / 4` of them. Up to three bytes more than whole floats are
/// left out.
pub fn unshuffle_f32(planes: &[u8], out: &mut Vec<f32>) {
    let n = planes.len() / 4;
    let (low, high) = planes.split_at(2 * n);
    let ((p0, p1), (p2, p3)) = (low.split_at(n), high.split_at(n));
    let from = out.len();
    out.resize(from + n, 0.0);
    let bytes = p0.iter().zip(p1).zip(p2).zip(p3);
    for (x, (((b0, b1), b2), b3)) in out[from..].iter_mut().zip(bytes) {
        *x = f32::from_le_bytes([*b0, *b1, *b2, *b3]);
    }
}

/// Appends floats as they are, little-endian: `4 * floats.len()` bytes.
pub fn floats_to_bytes(floats: &[f32], out: &mut Vec<u8>) {
    let from = out.len();
    out.resize(from + 4 * floats.len(), 0);
    let (words, _) = out[from..].as_chunks_mut::<4>();
    for (word, x) in words.iter_mut().zip(floats) {
        *word = x.to_le_bytes();
    }
}

/// Appends the floats that [`floats_to_bytes`] wrote. Up to three bytes more than whole floats are left out.
pub fn bytes_to_floats(bytes: &[u8], out: &mut Vec<f32>) {
    let (words, _) = bytes.as_chunks::<4>();
    out.extend(words.iter().map(|word| f32::from_le_bytes(*word)));
}

/// Appends the byte planes of items of `stride` bytes; bytes after the last whole item follow as they are. A stride of 0 or 1 copies.
pub fn shuffle(items: &[u8], stride: usize, out: &mut Vec<u8>) {
    let from = out.len();
    if stride < 2 {
        out.extend_from_slice(items);
        return;
    }
    let n = items.len() / stride;
    out.resize(from + n * stride, 0);
    for (k, plane) in out[from..].chunks_exact_mut(n.max(1)).enumerate() {
        for (byte, item) in plane.iter_mut().zip(items.chunks_exact(stride)) {
            *byte = item[k];
        }
    }
    out.extend_from_slice(&items[n * stride..]);
}

/// Appends the bytes that [`shuffle`] with the same `stride` was given.
pub fn unshuffle(planes: &[u8], stride: usize, out: &mut Vec<u8>) {
    let from = out.len();
    if stride < 2 {
        out.extend_from_slice(planes);
        return;
    }
    let n = planes.len() / stride;
    out.resize(from + n * stride, 0);
    for (k, plane) in planes[..n * stride].chunks_exact(n.max(1)).enumerate() {
        for (byte, item) in plane.iter().zip(out[from..].chunks_exact_mut(stride)) {
            item[k] = *byte;
        }
    }
    out.extend_from_slice(&planes[n * stride..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn planes_are_in_little_endian_order() {
        let floats = [f32::from_bits(0x0403_0201), f32::from_bits(0x1413_1211)];
        let mut out = vec![9];
        shuffle_f32(&floats, &mut out);
        assert_eq!(out, [9, 1, 0x11, 2, 0x12, 3, 0x13, 4, 0x14]);
        let mut plain = Vec::new();
        shuffle(&[1, 2, 3, 0x11, 0x12, 0x13, 7], 3, &mut plain);
        assert_eq!(plain, [1, 0x11, 2, 0x12, 3, 0x13, 7]);
    }

    proptest! {
        #[test]
        fn floats_come_back_bit_for_bit(bits in prop::collection::vec(any::<u32>(), 0..3000)) {
            let floats: Vec<f32> = bits.iter().map(|b| f32::from_bits(*b)).collect();
            let mut planes = Vec::new();
            shuffle_f32(&floats, &mut planes);
            let mut back = vec![1.5];
            unshuffle_f32(&planes, &mut back);
            let got: Vec<u32> = back[1..].iter().map(|x| x.to_bits()).collect();
            prop_assert_eq!(got, bits);
            // Both ways write the same planes.
            let mut bytes = Vec::new();
            floats_to_bytes(&floats, &mut bytes);
            let mut plain = Vec::new();
            bytes_to_floats(&bytes, &mut plain);
            prop_assert!(plain.iter().zip(&floats).all(|(a, b)| a.to_bits() == b.to_bits()));
            let mut general = Vec::new();
            shuffle(&bytes, 4, &mut general);
            prop_assert_eq!(general, planes);
        }

        #[test]
        fn bytes_of_any_stride_and_length_come_back(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            stride in 0usize..12,
        ) {
            let mut planes = vec![1, 2];
            shuffle(&bytes, stride, &mut planes);
            prop_assert_eq!(planes.len(), bytes.len() + 2);
            let mut back = vec![3];
            unshuffle(&planes[2..], stride, &mut back);
            prop_assert_eq!(&back[1..], &bytes[..]);
        }
    }
}

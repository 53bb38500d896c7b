//! The reference: plain Rust, any processor.

use super::Plane;

pub(super) fn products(
    planes: &[Plane],
    stride: usize,
    codes: &[u8],
    query: &[i8],
    out: &mut Vec<i32>,
) {
    out.extend(codes.chunks_exact(stride).map(|code| {
        let (mut sum, mut rest) = (0, code);
        for plane in planes {
            let (bytes, later) = rest.split_at(plane.bytes);
            rest = later;
            sum += fields(plane, bytes, query, 0..plane.bytes) << plane.shift;
        }
        sum
    }));
}

/// The product of some bytes of a plane with the query.
pub(super) fn fields(
    plane: &Plane,
    bytes: &[u8],
    query: &[i8],
    range: std::ops::Range<usize>,
) -> i32 {
    let mask = (1u8 << plane.width) - 1;
    let mut sum = 0;
    for (field, run) in query.chunks_exact(plane.bytes).enumerate() {
        let down = field as u8 * plane.width;
        let pairs = bytes[range.clone()].iter().zip(&run[range.clone()]);
        sum += pairs
            .map(|(byte, q)| i32::from((byte >> down) & mask) * i32::from(*q))
            .sum::<i32>();
    }
    sum
}

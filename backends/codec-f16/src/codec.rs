//! [`Codec`] of half-precision floats.
//!
//! Body, form 0: the low bytes of all components, then their high bytes (IEEE 754 binary16, row-major). In planes, a byte codec behind
//! packs them better. Rounding is to nearest, ties to even, so an error is at most half of the last place: 2^-11 of the
//! component, or 2^-25 for components below 2^-14, which f16 holds as denormals.

use aether_core::codec::{Content, open_frame, unknown_form, write_frame};
use aether_core::role::{ByteCodec, Codec, CodecId, Fidelity};
use aether_core::vector::{Shape, VectorBlock};
use aether_core::{Error, Result};
use half::f16;
use half::slice::HalfFloatSliceExt;

use crate::ID;

/// Components converted at a time.
const TILE: usize = 512;

/// The half-precision codec.
#[derive(Debug)]
pub struct F16;

/// Largest number of f16.
const MAX: f32 = 65_504.0;

impl Codec for F16 {
    fn id(&self) -> CodecId {
        ID
    }

    fn fidelity(&self) -> Fidelity {
        Fidelity::Lossy {
            relative: 1.0 / 2048.0,
            range: 0.0,
            absolute: 1.0 / (1u32 << 25) as f32,
        }
    }

    fn encode(&self, block: VectorBlock<'_>, out: &mut Vec<u8>) -> Result<()> {
        let (data, shape) = (block.data(), block.shape());
        if let Some(i) = data.iter().position(|x| x.is_nan() || x.abs() > MAX) {
            return Err(Error::invalid_input(format!(
                "row {}, component {}: expected -65504 to 65504 for codec f16, got {}; scale the vectors down or choose \
                 another codec",
                i / shape.dim,
                i % shape.dim,
                data[i]
            )));
        }
        write_frame(ID, Content::Vectors(shape), out, |out| {
            let from = out.len();
            out.resize(from + 2 * data.len(), 0);
            let (low, high) = out[from..].split_at_mut(data.len());
            let mut tile = [f16::ZERO; TILE];
            let planes = low.chunks_mut(TILE).zip(high.chunks_mut(TILE));
            for (floats, (low, high)) in data.chunks(TILE).zip(planes) {
                let tile = &mut tile[..floats.len()];
                tile.convert_from_f32_slice(floats);
                for (h, (low, high)) in tile.iter().zip(low.iter_mut().zip(high)) {
                    [*low, *high] = h.to_le_bytes();
                }
            }
            Ok(0)
        })
    }

    fn decode(&self, bytes: &[u8], shape: Shape, out: &mut Vec<f32>) -> Result<()> {
        let (form, body) = open_frame(ID, Content::Vectors(shape), bytes)?;
        if form != 0 {
            return Err(unknown_form(ID, form));
        }
        let n = shape
            .rows
            .checked_mul(shape.dim)
            .filter(|n| n.checked_mul(2) == Some(body.len()));
        let n = n.ok_or_else(|| {
            Error::corrupt(format!(
                "f16 frame: expected 2 bytes for each of {} x {} components, got {} in all",
                shape.rows,
                shape.dim,
                body.len()
            ))
        })?;
        let (low, high) = body.split_at(n);
        let from = out.len();
        out.resize(from + n, 0.0);
        let mut tile = [f16::ZERO; TILE];
        let planes = low.chunks(TILE).zip(high.chunks(TILE));
        for (floats, (low, high)) in out[from..].chunks_mut(TILE).zip(planes) {
            let tile = &mut tile[..floats.len()];
            for (h, (low, high)) in tile.iter_mut().zip(low.iter().zip(high)) {
                *h = f16::from_le_bytes([*low, *high]);
            }
            tile.convert_to_f32_slice(floats);
        }
        Ok(())
    }

    fn as_byte_codec(&self) -> Option<&dyn ByteCodec> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(data: &[f32]) -> Vec<f32> {
        let shape = Shape {
            rows: 1,
            dim: data.len(),
        };
        let (mut bytes, mut out) = (Vec::new(), Vec::new());
        F16.encode(VectorBlock::new(data, shape).unwrap(), &mut bytes)
            .unwrap();
        F16.decode(&bytes, shape, &mut out).unwrap();
        out
    }

    #[test]
    fn ties_go_to_the_even_neighbour_and_denormals_are_kept() {
        let step = 1.0 / 1024.0;
        let got = round_trip(&[
            1.0 + step / 2.0,
            1.0 + step * 1.5,
            65_504.0,
            -65_504.0,
            2f32.powi(-24),
            2f32.powi(-25),
        ]);
        assert_eq!(
            got,
            [
                1.0,
                1.0 + step * 2.0,
                65_504.0,
                -65_504.0,
                2f32.powi(-24),
                0.0
            ]
        );
    }

    #[test]
    fn every_number_of_f16_comes_back() {
        let all: Vec<f32> = (0..=u16::MAX)
            .map(|b| f16::from_bits(b).to_f32())
            .filter(|x| x.is_finite())
            .collect();
        let got = round_trip(&all[..60_000]);
        assert!(
            got.iter()
                .zip(&all)
                .all(|(a, b)| a.to_bits() == b.to_bits())
        );
    }
}

//! [`Codec`] of eight bits a component.
//!
//! Body, form 0, for n rows of dimension d: n smallest components (f32), n largest (f32), then n x d codes. A code c stands for
//! smallest + (largest - smallest) * c / 255, so an error is at most half a step, 1/510 of the vector's spread, and what rounding to f32
//! adds. Both ends come back exactly. Computed in f64, where the spread of any two f32 fits.
//!
//! The scheme is the uniform scalar quantiser that Faiss calls `QT_8bit`, with one range for each vector instead of one for each
//! dimension: it needs no training and depends on nothing outside the vector.

use aether_core::codec::{Content, open_frame, unknown_form, write_frame};
use aether_core::role::{ByteCodec, Codec, CodecId, Fidelity};
use aether_core::vector::{Shape, VectorBlock};
use aether_core::{Error, Result};

use crate::ID;

/// The scalar 8-bit codec.
#[derive(Debug)]
pub struct Sq8;

impl Codec for Sq8 {
    fn id(&self) -> CodecId {
        ID
    }

    /// 1/510 of the spread; the rest is rounding: once to f32 (2^-24 of the number), and that of the bound itself.
    fn fidelity(&self) -> Fidelity {
        Fidelity::Lossy {
            relative: 1.0 / (1u32 << 22) as f32,
            range: (1.0 / 510.0) * (1.0 + 1.0 / (1u32 << 20) as f32),
            absolute: f32::MIN_POSITIVE / (1u32 << 22) as f32,
        }
    }

    fn encode(&self, block: VectorBlock<'_>, out: &mut Vec<u8>) -> Result<()> {
        let (data, shape) = (block.data(), block.shape());
        if let Some(i) = data.iter().position(|x| !x.is_finite()) {
            return Err(Error::invalid_input(format!(
                "row {}, component {}: expected a finite number for codec sq8, got {}",
                i / shape.dim,
                i % shape.dim,
                data[i]
            )));
        }
        write_frame(ID, Content::Vectors(shape), out, |out| {
            let from = out.len();
            out.resize(from + shape.rows * (8 + shape.dim), 0);
            let (ends, codes) = out[from..].split_at_mut(8 * shape.rows);
            let (mins, maxs) = ends.split_at_mut(4 * shape.rows);
            let ends = mins
                .as_chunks_mut::<4>()
                .0
                .iter_mut()
                .zip(maxs.as_chunks_mut::<4>().0);
            for ((v, codes), (min_out, max_out)) in block
                .iter()
                .zip(codes.chunks_exact_mut(shape.dim))
                .zip(ends)
            {
                let min = v.iter().copied().fold(f32::INFINITY, f32::min);
                let max = v.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                *min_out = min.to_le_bytes();
                *max_out = max.to_le_bytes();
                let (low, spread) = (f64::from(min), f64::from(max) - f64::from(min));
                let scale = if spread > 0.0 { 255.0 / spread } else { 0.0 };
                for (code, x) in codes.iter_mut().zip(v) {
                    *code = ((f64::from(*x) - low) * scale + 0.5) as u8;
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
        let expected = shape
            .dim
            .checked_add(8)
            .and_then(|n| n.checked_mul(shape.rows));
        if expected != Some(body.len()) || shape.dim == 0 {
            return Err(Error::corrupt(format!(
                "sq8 frame: expected 8 bytes a row and one a component for {} x {}, got {} in all",
                shape.rows,
                shape.dim,
                body.len()
            )));
        }
        let (ends, codes) = body.split_at(8 * shape.rows);
        let (mins, maxs) = ends.split_at(4 * shape.rows);
        let ends = mins.as_chunks::<4>().0.iter().zip(maxs.as_chunks::<4>().0);
        let from = out.len();
        out.resize(from + shape.rows * shape.dim, 0.0);
        let vectors = out[from..].chunks_exact_mut(shape.dim);
        for ((v, codes), (min, max)) in vectors.zip(codes.chunks_exact(shape.dim)).zip(ends) {
            let low = f64::from(f32::from_le_bytes(*min));
            let step = (f64::from(f32::from_le_bytes(*max)) - low) / 255.0;
            for (x, code) in v.iter_mut().zip(codes) {
                *x = (low + step * f64::from(*code)) as f32;
            }
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

    #[test]
    fn both_ends_and_constant_vectors_come_back_exactly() {
        let data = [
            -1.0,
            0.25,
            3.0, //
            f32::MIN,
            0.0,
            f32::MAX, //
            0.1,
            0.1,
            0.1, //
            f32::from_bits(1),
            -f32::from_bits(1),
            0.0,
        ];
        let shape = Shape { rows: 4, dim: 3 };
        let (mut bytes, mut out) = (Vec::new(), Vec::new());
        Sq8.encode(VectorBlock::new(&data, shape).unwrap(), &mut bytes)
            .unwrap();
        Sq8.decode(&bytes, shape, &mut out).unwrap();
        assert_eq!((out[0], out[2]), (-1.0, 3.0));
        assert_eq!((out[3], out[5]), (f32::MIN, f32::MAX));
        assert_eq!(out[6..9], [0.1; 3]);
        assert_eq!((out[9], out[10]), (f32::from_bits(1), -f32::from_bits(1)));
    }
}

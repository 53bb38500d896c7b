//! An exact codec made of a packer of bytes: shuffle, pack, store as it is when packing does not pay.
//!
//! The low planes of an embedding's floats are noise: a packer spends most of its time to find that out. Where a count of a plane's bytes
//! tells it, the plane stays as it is and only those above it are packed, by themselves, which packs them better as well.

use std::fmt;

use super::{Content, open_frame, unknown_form, write_frame};
use crate::error::{Error, Result};
use crate::role::{ByteCodec, Codec, CodecId, Fidelity};
use crate::shuffle::{bytes_to_floats, floats_to_bytes, shuffle_f32, unshuffle_f32};
use crate::vector::{Shape, VectorBlock};

/// Form bit: the body went through the packer.
const PACKED: u8 = 1;
/// Form bit: the body holds byte planes of floats.
const SHUFFLED: u8 = 2;
/// Form bits: how many planes, from the lowest, stand plain before the packed ones; only where both other bits are set.
const PLAIN: u8 = 4 | 8;
/// Bytes of a plane that are looked at, in so many windows.
const LOOKED_AT: usize = 1024;
const WINDOWS: usize = 4;

/// What a compression library has to do to become a [`Codec`] by way of [`Packed`].
pub trait Packer: fmt::Debug + Send + Sync + 'static {
    /// The codec's number.
    const ID: CodecId;

    /// Appends a packed form of `bytes` to `out`; `false`, and `out` of no interest, if this packer does not care to.
    ///
    /// # Errors
    /// `Internal` when the library fails.
    fn compress(&self, bytes: &[u8], out: &mut Vec<u8>) -> Result<bool>;

    /// Unpacks exactly `out.len()` bytes, allocating nothing that depends on `packed`.
    ///
    /// # Errors
    /// `Corrupt` for anything that does not unpack to just so many bytes.
    fn decompress(&self, packed: &[u8], out: &mut [u8]) -> Result<()>;
}

/// An exact codec. A frame's form says whether its body is packed (1) and shuffled (2), and how many planes are plain all the same (4 and
/// 8, a number of two bits); settings only matter to the writer.
#[derive(Debug)]
pub struct Packed<P> {
    packer: P,
    shuffle: bool,
}

impl<P: Packer> Packed<P> {
    /// A codec that shuffles the bytes of floats before it packs them, or does not.
    pub fn new(packer: P, shuffle: bool) -> Self {
        Self { packer, shuffle }
    }

    /// Packs what stands in `out` from `from` on, where that makes it smaller; the form bit for it.
    fn pack_in_place(&self, out: &mut Vec<u8>, from: usize) -> Result<u8> {
        let mut packed = Vec::new();
        if self.packer.compress(&out[from..], &mut packed)? && packed.len() < out.len() - from {
            out.truncate(from);
            out.extend_from_slice(&packed);
            return Ok(PACKED);
        }
        Ok(0)
    }

    /// Hands the `len` plain bytes of a frame's body to `take`.
    fn plain<T>(
        &self,
        form: u8,
        body: &[u8],
        len: usize,
        take: impl FnOnce(&[u8]) -> T,
    ) -> Result<T> {
        if form & PACKED > 0 {
            let as_it_is = len / 4 * usize::from((form & PLAIN) / 4);
            let (low, packed) = body.split_at_checked(as_it_is).ok_or_else(|| {
                Error::corrupt(format!(
                    "frame: expected {as_it_is} plain bytes and more, got {}",
                    body.len()
                ))
            })?;
            let mut plain = Vec::with_capacity(len);
            plain.extend_from_slice(low);
            plain.resize(len, 0);
            self.packer.decompress(packed, &mut plain[as_it_is..])?;
            return Ok(take(&plain));
        }
        if body.len() != len {
            return Err(Error::corrupt(format!(
                "frame: expected {len} bytes, got {}",
                body.len()
            )));
        }
        Ok(take(body))
    }
}

/// Whether a plane's bytes are about equally frequent: the chance that two of them are alike is within a fifth of 1/256, so that coding
/// them one by one would save 3 % at most.
fn is_noise(plane: &[u8]) -> bool {
    if plane.len() < LOOKED_AT / WINDOWS {
        return false;
    }
    let mut counts = [0u32; 256];
    let mut count = |bytes: &[u8]| bytes.iter().for_each(|b| counts[usize::from(*b)] += 1);
    if plane.len() <= LOOKED_AT {
        count(plane);
    } else {
        // Windows, since single bytes at equal distances may be those of one dimension.
        let apart = plane.len() / WINDOWS;
        let windows = plane.chunks(apart).take(WINDOWS);
        windows.for_each(|w| count(&w[..LOOKED_AT / WINDOWS]));
    }
    let looked_at = u64::from(counts.iter().sum::<u32>());
    let alike: u64 = counts.iter().map(|c| u64::from(*c)).map(|c| c * c).sum();
    let (alike, pairs) = (alike - looked_at, looked_at * (looked_at - 1));
    alike * 256 * 5 < pairs * 6
}

impl<P: Packer> Codec for Packed<P> {
    fn id(&self) -> CodecId {
        P::ID
    }

    fn fidelity(&self) -> Fidelity {
        Fidelity::Exact
    }

    fn encode(&self, block: VectorBlock<'_>, out: &mut Vec<u8>) -> Result<()> {
        write_frame(P::ID, Content::Vectors(block.shape()), out, |out| {
            let from = out.len();
            if !self.shuffle {
                floats_to_bytes(block.data(), out);
                return self.pack_in_place(out, from);
            }
            shuffle_f32(block.data(), out);
            let plane = block.data().len();
            let low = (0..3).take_while(|p| is_noise(&out[from + p * plane..][..plane]));
            let low = low.count();
            let packed = self.pack_in_place(out, from + low * plane)?;
            Ok(SHUFFLED | packed | if packed > 0 { low as u8 * 4 } else { 0 })
        })
    }

    fn decode(&self, bytes: &[u8], shape: Shape, out: &mut Vec<f32>) -> Result<()> {
        let (form, body) = open_frame(P::ID, Content::Vectors(shape), bytes)?;
        let both = form & (PACKED | SHUFFLED) == PACKED | SHUFFLED;
        if form & !(PACKED | SHUFFLED | PLAIN) > 0 || (form & PLAIN > 0 && !both) {
            return Err(unknown_form(P::ID, form));
        }
        let len = shape
            .rows
            .checked_mul(shape.dim)
            .and_then(|n| n.checked_mul(4));
        let len = len.ok_or_else(|| Error::corrupt("frame: a shape beyond all memory"))?;
        self.plain(form, body, len, |plain| {
            if form & SHUFFLED > 0 {
                unshuffle_f32(plain, out);
            } else {
                bytes_to_floats(plain, out);
            }
        })
    }

    fn as_byte_codec(&self) -> Option<&dyn ByteCodec> {
        Some(self)
    }
}

impl<P: Packer> ByteCodec for Packed<P> {
    fn pack(&self, bytes: &[u8], out: &mut Vec<u8>) -> Result<()> {
        write_frame(P::ID, Content::Bytes(bytes.len()), out, |out| {
            let from = out.len();
            out.extend_from_slice(bytes);
            self.pack_in_place(out, from)
        })
    }

    fn unpack(&self, packed: &[u8], len: usize, out: &mut Vec<u8>) -> Result<()> {
        let (form, body) = open_frame(P::ID, Content::Bytes(len), packed)?;
        if form & !PACKED > 0 {
            return Err(unknown_form(P::ID, form));
        }
        self.plain(form, body, len, |plain| out.extend_from_slice(plain))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_told_from_what_can_be_packed() {
        let mut rng = fastrand::Rng::with_seed(1);
        for len in [256, 300, 1024, 1920, 5000, 98_304] {
            let noise: Vec<u8> = (0..len).map(|_| rng.u8(..)).collect();
            assert!(is_noise(&noise), "{len}");
            let half: Vec<u8> = noise.iter().map(|b| b & 0x7f).collect();
            assert!(!is_noise(&half), "{len}: seven bits of eight");
            let mut gaps = noise.clone();
            gaps.iter_mut().step_by(3).for_each(|b| *b = 0);
            assert!(!is_noise(&gaps), "{len}: every third is zero");
        }
        assert!(!is_noise(&[1; 255]) && !is_noise(&[]));
    }
}

//! An exact codec made of a packer of bytes: shuffle, pack, store as it is when packing does not pay.

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

/// An exact codec. A frame's form says whether its body is packed (1) and shuffled (2); settings only matter to the writer.
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
            let mut plain = vec![0; len];
            self.packer.decompress(body, &mut plain)?;
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
            let shuffled = if self.shuffle {
                shuffle_f32(block.data(), out);
                SHUFFLED
            } else {
                floats_to_bytes(block.data(), out);
                0
            };
            Ok(shuffled | self.pack_in_place(out, from)?)
        })
    }

    fn decode(&self, bytes: &[u8], shape: Shape, out: &mut Vec<f32>) -> Result<()> {
        let (form, body) = open_frame(P::ID, Content::Vectors(shape), bytes)?;
        if form & !(PACKED | SHUFFLED) > 0 {
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

//! Turns a block of vectors into bytes and back.

use std::fmt;

use serde::Serialize;

use crate::error::Result;
use crate::vector::{Shape, VectorBlock};

/// A codec's stable number on disk: 1 to 65,535, never given to another codec. Numbers below 1,024 belong to this
/// repository; an outside author picks a larger one at random.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct CodecId(pub u16);

/// How a decoded vector relates to the one encoded.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fidelity {
    /// Bit for bit the same, also for NaN payloads and negative zero.
    Exact,
    /// Each component x comes back within `relative * |x| + range * (max - min) + absolute`, where max and min are taken over
    /// its own vector.
    Lossy {
        /// Share of the component's own size.
        relative: f32,
        /// Share of the vector's spread.
        range: f32,
        /// Constant part, for denormals and rounding.
        absolute: f32,
    },
}

impl Fidelity {
    /// Whether nothing is lost.
    pub fn is_exact(self) -> bool {
        matches!(self, Self::Exact)
    }

    /// Largest error allowed for component `x` of a vector whose components span `spread = max - min`.
    pub fn bound(self, x: f32, spread: f32) -> f32 {
        match self {
            Self::Exact => 0.0,
            Self::Lossy {
                relative,
                range,
                absolute,
            } => relative * x.abs() + range * spread + absolute,
        }
    }
}

/// Turns a block of finite vectors into bytes and back. Stateless and deterministic: the same block gives the same bytes.
///
/// Every encoding carries a checksum of its own; damage is always detected, never decoded into other numbers.
pub trait Codec: fmt::Debug + Send + Sync + 'static {
    /// Written into each block, so that old data stays readable after a change of configuration. Any instance of a codec
    /// reads what any other instance of it wrote, whatever their settings.
    fn id(&self) -> CodecId;

    /// What decoding gives back.
    fn fidelity(&self) -> Fidelity;

    /// Appends the encoding of a block to `out`, whose present content stays. A block of no rows is allowed.
    ///
    /// # Errors
    /// `InvalidInput` for numbers that the codec cannot hold within its bound (such as 1e6 in f16); the message says which.
    fn encode(&self, block: VectorBlock<'_>, out: &mut Vec<u8>) -> Result<()>;

    /// Appends exactly `shape.len()` floats to `out`, whose present content stays.
    ///
    /// # Errors
    /// `Corrupt` for any damage, another shape, or trailing bytes; `out` is then as before. Never allocates beyond `shape`
    /// (a few constant buffers aside), whatever the bytes claim.
    fn decode(&self, bytes: &[u8], shape: Shape, out: &mut Vec<f32>) -> Result<()>;

    /// This codec as a packer of plain bytes, where it is one (`raw`, `lz4`, `zstd`): it can then be put behind a
    /// lossy codec.
    fn as_byte_codec(&self) -> Option<&dyn ByteCodec>;
}

/// Packs bytes and unpacks them: the second half of a composed codec such as `sq8` then `zstd`.
pub trait ByteCodec: fmt::Debug + Send + Sync {
    /// Appends the packed form, with a checksum of its own, to `out`.
    fn pack(&self, bytes: &[u8], out: &mut Vec<u8>) -> Result<()>;

    /// Appends exactly `len` bytes to `out`.
    ///
    /// # Errors
    /// `Corrupt` for damage or any other length; `out` is then as before. Never allocates beyond `len`.
    fn unpack(&self, packed: &[u8], len: usize, out: &mut Vec<u8>) -> Result<()>;
}

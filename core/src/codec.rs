//! What stands around a codec: the sealed frame that codecs share, a lossy codec with a byte codec behind it, and blocks that
//! name their codecs, so that they stay readable after a change of configuration.
//!
//! ```text
//! block      = first u16 | then u16 (0: none) | check u32 | payload of `first`, or composed payload
//! composed   = length u32 of what `first` made | that, packed by `then`
//! frame      = form u8 | body | seal u64
//! ```
//!
//! Little-endian. `check` is the lower half of XXH3-64 of the four bytes before it. A frame's seal is XXH3-64 of form and
//! body with a seed made of the codec's number and of what the frame holds (rows and dimension, or a number of bytes): the frame
//! of another codec or shape is found as surely as a damaged one, before anything is allocated.

mod packed;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::RwLock;

pub use packed::{Packed, Packer};

use crate::error::{Error, Result};
use crate::plugin::BuildContext;
use crate::registry::Registry;
use crate::role::{ByteCodec, Codec, CodecId, Fidelity};
use crate::seal::{SEAL_BYTES, checksum, seal, unseal};
use crate::vector::{Shape, VectorBlock};

/// Bytes of a block's header.
pub const BLOCK_HEADER_BYTES: usize = 8;

/// Bytes that a frame adds to its body.
pub const FRAME_BYTES: usize = 1 + SEAL_BYTES;

const CHECK_SEED: u64 = 0x6165_7468_6572_0001;

/// What a frame holds; part of its seal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// A block of vectors.
    Vectors(Shape),
    /// So many plain bytes.
    Bytes(usize),
}

impl Content {
    fn seed(self, id: CodecId) -> u64 {
        let (kind, a, b) = match self {
            Self::Vectors(shape) => (1u64, shape.rows as u64, shape.dim as u64),
            Self::Bytes(len) => (2, len as u64, 0),
        };
        let words = [u64::from(id.0), kind, a, b].map(u64::to_le_bytes);
        checksum(words.as_flattened(), CHECK_SEED)
    }
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vectors(shape) => write!(f, "{} x {} floats", shape.rows, shape.dim),
            Self::Bytes(len) => write!(f, "{len} bytes"),
        }
    }
}

/// Appends a frame whose body `write` appends to the buffer; `write` gives the form, a byte of the codec's own meaning. On an error
/// `out` is as before.
///
/// # Errors
/// What `write` says.
pub fn write_frame(
    id: CodecId,
    content: Content,
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<u8>,
) -> Result<()> {
    let from = out.len();
    out.push(0);
    match write(out) {
        Ok(form) => {
            out[from] = form;
            seal(out, from, content.seed(id));
            Ok(())
        }
        Err(e) => {
            out.truncate(from);
            Err(e)
        }
    }
}

/// Checks a frame and gives its form and body.
///
/// # Errors
/// `Corrupt` for damage, another codec, or another content.
pub fn open_frame(id: CodecId, content: Content, frame: &[u8]) -> Result<(u8, &[u8])> {
    let bytes = unseal(frame, content.seed(id), "frame")
        .map_err(|e| e.with("expected", format!("codec {} holding {content}", id.0)))?;
    match bytes.split_first() {
        Some((form, body)) => Ok((*form, body)),
        None => Err(Error::corrupt("frame: expected a form byte, got none")),
    }
}

/// An error about a frame whose seal is good, but which this version does not understand.
pub fn unknown_form(id: CodecId, form: u8) -> Error {
    Error::corrupt(format!(
        "frame of codec {}: unknown form {form}; it was written by a newer version",
        id.0
    ))
}

/// A codec and a byte codec behind it, such as `sq8` then `zstd`. Loses what the first loses.
#[derive(Debug)]
pub struct Composed {
    first: Arc<dyn Codec>,
    then: Arc<dyn Codec>,
}

/// Largest output of a first codec that is believed: all that is known of it is the shape.
fn intermediate_max(shape: Shape) -> Option<usize> {
    shape
        .rows
        .checked_mul(shape.dim)?
        .checked_mul(8)?
        .checked_add(16usize.checked_mul(shape.rows)?)?
        .checked_add(1024)
}

impl Composed {
    /// Puts `then` behind `first`.
    ///
    /// # Errors
    /// `Config` when `then` packs no plain bytes.
    pub fn new(first: Arc<dyn Codec>, then: Arc<dyn Codec>) -> Result<Self> {
        if then.as_byte_codec().is_none() {
            return Err(Error::config(format!(
                "codec number {} cannot stand behind another: expected one that packs plain bytes (raw, lz4 or zstd); \
                 choose one of those for [codec.then], or leave that table out",
                then.id().0
            )));
        }
        Ok(Self { first, then })
    }

    fn packer(&self) -> Result<&dyn ByteCodec> {
        self.then
            .as_byte_codec()
            .ok_or_else(|| Error::internal("a codec ceased to be a byte codec"))
    }

    /// The number of the codec behind.
    pub fn then_id(&self) -> CodecId {
        self.then.id()
    }
}

impl Codec for Composed {
    /// The first codec's number; a block names both.
    fn id(&self) -> CodecId {
        self.first.id()
    }

    fn fidelity(&self) -> Fidelity {
        self.first.fidelity()
    }

    fn encode(&self, block: VectorBlock<'_>, out: &mut Vec<u8>) -> Result<()> {
        let mut made = Vec::new();
        self.first.encode(block, &mut made)?;
        let max = intermediate_max(block.shape()).unwrap_or(usize::MAX);
        let len = u32::try_from(made.len())
            .ok()
            .filter(|_| made.len() <= max)
            .ok_or_else(|| {
                Error::invalid_input(format!(
                    "block: codec {} made {} bytes of it, at most {} can be composed; use smaller blocks",
                    self.id().0,
                    made.len(),
                    max.min(u32::MAX as usize)
                ))
            })?;
        let from = out.len();
        out.extend_from_slice(&len.to_le_bytes());
        self.packer()?
            .pack(&made, out)
            .inspect_err(|_| out.truncate(from))
    }

    fn decode(&self, bytes: &[u8], shape: Shape, out: &mut Vec<f32>) -> Result<()> {
        let (len, packed) = bytes.split_first_chunk().ok_or_else(|| {
            Error::corrupt(format!(
                "composed block: expected at least 4 bytes, got {}",
                bytes.len()
            ))
        })?;
        let len = u32::from_le_bytes(*len) as usize;
        match intermediate_max(shape) {
            Some(max) if len <= max => {}
            _ => {
                return Err(Error::corrupt(format!(
                    "composed block: {len} bytes are too many for {} x {} floats",
                    shape.rows, shape.dim
                )));
            }
        }
        let mut made = Vec::new();
        self.packer()?.unpack(packed, len, &mut made)?;
        self.first.decode(&made, shape, out)
    }

    fn as_byte_codec(&self) -> Option<&dyn ByteCodec> {
        None
    }
}

/// Writes blocks that name their codecs. Made once from the configuration; [`Decoders`] reads what it writes.
#[derive(Clone, Debug)]
pub struct BlockCodec {
    codec: Arc<dyn Codec>,
    header: [u8; BLOCK_HEADER_BYTES],
}

impl BlockCodec {
    /// A codec, or one with a byte codec behind it.
    ///
    /// # Errors
    /// As [`Composed::new`].
    pub fn new(first: Arc<dyn Codec>, then: Option<Arc<dyn Codec>>) -> Result<Self> {
        let first_id = first.id();
        let then_id = then.as_ref().map_or(CodecId(0), |then| then.id());
        let codec: Arc<dyn Codec> = match then {
            None => first,
            Some(then) => Arc::new(Composed::new(first, then)?),
        };
        Ok(Self {
            codec,
            header: block_header(first_id, then_id),
        })
    }

    /// What reading a block gives back.
    pub fn fidelity(&self) -> Fidelity {
        self.codec.fidelity()
    }

    /// What every block begins with: its codecs' names.
    pub fn header(&self) -> [u8; BLOCK_HEADER_BYTES] {
        self.header
    }

    /// Appends a block to `out`, whose present content stays, also on an error.
    ///
    /// # Errors
    /// As [`Codec::encode`].
    pub fn encode_block(&self, block: VectorBlock<'_>, out: &mut Vec<u8>) -> Result<()> {
        let from = out.len();
        out.extend_from_slice(&self.header);
        self.codec
            .encode(block, out)
            .inspect_err(|_| out.truncate(from))
    }
}

fn block_header(first: CodecId, then: CodecId) -> [u8; BLOCK_HEADER_BYTES] {
    let [a, b] = first.0.to_le_bytes();
    let [c, d] = then.0.to_le_bytes();
    let ids = [a, b, c, d];
    let [e, f, g, h, ..] = checksum(&ids, CHECK_SEED).to_le_bytes();
    [a, b, c, d, e, f, g, h]
}

/// The numbers of a block's codecs (the second is 0 when there is one codec only), and its payload.
///
/// # Errors
/// `Corrupt` for a header that is cut or damaged.
pub fn split_block(bytes: &[u8]) -> Result<(CodecId, CodecId, &[u8])> {
    let Some((header, payload)) = bytes.split_first_chunk::<BLOCK_HEADER_BYTES>() else {
        return Err(Error::corrupt(format!(
            "block: expected at least {BLOCK_HEADER_BYTES} bytes, got {}",
            bytes.len()
        )));
    };
    let [a, b, c, d, ..] = *header;
    let (first, then) = (
        CodecId(u16::from_le_bytes([a, b])),
        CodecId(u16::from_le_bytes([c, d])),
    );
    if *header != block_header(first, then) {
        return Err(Error::corrupt(format!(
            "block header: {header:02x?} has a wrong checksum"
        )));
    }
    Ok((first, then, payload))
}

/// Reads blocks of any codec that is compiled in, with whatever settings they were written. Instances are made once and kept.
#[derive(Debug)]
pub struct Decoders {
    registry: Arc<Registry>,
    context: BuildContext,
    made: RwLock<HashMap<(CodecId, CodecId), Arc<dyn Codec>>>,
}

impl Decoders {
    /// Decoders for the codecs of a registry.
    pub fn new(registry: Arc<Registry>, context: BuildContext) -> Self {
        Self {
            registry,
            context,
            made: RwLock::default(),
        }
    }

    /// Floats of a vector.
    pub fn dim(&self) -> usize {
        self.context.dim
    }

    fn plain(&self, id: CodecId) -> Result<Arc<dyn Codec>> {
        self.registry
            .codec_by_id(id, &self.context)?
            .ok_or_else(|| {
                Error::unsupported(format!(
                    "block: it was written by codec number {}, which is not compiled in; \
                 build with the feature of that codec, or link the crate it comes from",
                    id.0
                ))
            })
    }

    fn codec(&self, first: CodecId, then: CodecId) -> Result<Arc<dyn Codec>> {
        if let Some(codec) = self.made.read().get(&(first, then)) {
            return Ok(Arc::clone(codec));
        }
        let mut codec = self.plain(first)?;
        if then != CodecId(0) {
            codec = Arc::new(Composed::new(codec, self.plain(then)?)?);
        }
        self.made.write().insert((first, then), Arc::clone(&codec));
        Ok(codec)
    }

    /// What decoding this block gives back.
    ///
    /// # Errors
    /// `Corrupt` for a damaged header, `Unsupported` for a codec that is not compiled in.
    pub fn fidelity(&self, bytes: &[u8]) -> Result<Fidelity> {
        let (first, then, _) = split_block(bytes)?;
        Ok(self.codec(first, then)?.fidelity())
    }

    /// Appends exactly `shape.len()` floats to `out`, whose present content stays, also on an error.
    ///
    /// # Errors
    /// `Corrupt` for any damage or another shape; `Unsupported` for a codec that is not compiled in.
    pub fn decode_block(&self, bytes: &[u8], shape: Shape, out: &mut Vec<f32>) -> Result<Fidelity> {
        let (first, then, payload) = split_block(bytes)?;
        let codec = self.codec(first, then)?;
        codec.decode(payload, shape, out)?;
        Ok(codec.fidelity())
    }
}

#[cfg(test)]
mod tests;

//! [`aether_core::role::Codec`] by Zstandard. The frame is that of [`Packed`]; its body is one Zstandard frame with content size and
//! checksum, or plain bytes where packing would not make it smaller.

use std::fmt;

use aether_core::codec::{Packed, Packer};
use aether_core::role::CodecId;
use aether_core::{Error, Result};
use parking_lot::Mutex;
use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::{CParameter, get_frame_content_size};

use crate::{ID, ZstdConfig};

/// Contexts kept for the next call, by direction: one holds up to about a megabyte, so not more than a busy machine's threads.
const KEPT: usize = 16;

/// Packs by Zstandard.
pub struct ZstdPacker {
    level: i32,
    compressors: Mutex<Vec<Compressor<'static>>>,
    decompressors: Mutex<Vec<Decompressor<'static>>>,
}

/// The Zstandard codec.
pub type Zstd = Packed<ZstdPacker>;

/// Makes the codec.
pub(crate) fn new(config: &ZstdConfig) -> Zstd {
    let packer = ZstdPacker {
        level: config.level,
        compressors: Mutex::default(),
        decompressors: Mutex::default(),
    };
    Packed::new(packer, config.shuffle)
}

impl fmt::Debug for ZstdPacker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ZstdPacker")
            .field("level", &self.level)
            .finish_non_exhaustive()
    }
}

fn failed(what: &str) -> impl FnOnce(std::io::Error) -> Error {
    let message = format!("zstd: cannot {what}");
    move |e| Error::internal(message).with_source(e)
}

fn keep<T>(pool: &Mutex<Vec<T>>, context: T) {
    let mut pool = pool.lock();
    if pool.len() < KEPT {
        pool.push(context);
    }
}

impl ZstdPacker {
    fn compressor(&self) -> Result<Compressor<'static>> {
        if let Some(context) = self.compressors.lock().pop() {
            return Ok(context);
        }
        let mut context = Compressor::new(self.level).map_err(failed("make a packer"))?;
        for parameter in [
            CParameter::ChecksumFlag(true),
            CParameter::ContentSizeFlag(true),
        ] {
            context
                .set_parameter(parameter)
                .map_err(failed("set a parameter"))?;
        }
        Ok(context)
    }

    fn decompressor(&self) -> Result<Decompressor<'static>> {
        if let Some(context) = self.decompressors.lock().pop() {
            return Ok(context);
        }
        Decompressor::new().map_err(failed("make an unpacker"))
    }
}

impl Packer for ZstdPacker {
    const ID: CodecId = ID;

    fn compress(&self, bytes: &[u8], out: &mut Vec<u8>) -> Result<bool> {
        let mut context = self.compressor()?;
        let from = out.len();
        out.resize(from + zstd::zstd_safe::compress_bound(bytes.len()), 0);
        let len = context
            .compress_to_buffer(bytes, &mut out[from..])
            .map_err(failed("pack"))?;
        out.truncate(from + len);
        keep(&self.compressors, context);
        Ok(true)
    }

    fn decompress(&self, packed: &[u8], out: &mut [u8]) -> Result<()> {
        let expected = out.len() as u64;
        match get_frame_content_size(packed) {
            Ok(Some(size)) if size == expected => {}
            Ok(Some(size)) => {
                return Err(Error::corrupt(format!(
                    "zstd: expected {expected} bytes, the frame announces {size}"
                )));
            }
            Ok(None) | Err(_) => {
                return Err(Error::corrupt(
                    "zstd: expected a frame that tells its size, got other bytes",
                ));
            }
        }
        let mut context = self.decompressor()?;
        match context.decompress_to_buffer(packed, out) {
            Ok(len) if len as u64 == expected => {
                keep(&self.decompressors, context);
                Ok(())
            }
            Ok(len) => Err(Error::corrupt(format!(
                "zstd: expected {expected} bytes, got {len}"
            ))),
            Err(e) => Err(
                Error::corrupt(format!("zstd: expected a frame of {expected} bytes"))
                    .with_source(e),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aether_core::codec::{Content, write_frame};
    use aether_core::role::Codec;
    use aether_core::vector::{Shape, VectorBlock};

    fn packed(bytes: &[u8], with_size: bool) -> Vec<u8> {
        let mut context = Compressor::new(3).unwrap();
        context
            .set_parameter(CParameter::ContentSizeFlag(with_size))
            .unwrap();
        context.compress(bytes).unwrap()
    }

    /// Bombs and forgeries under a good seal, which no damage would make, are refused too.
    #[test]
    fn a_well_sealed_frame_of_another_length_is_refused() {
        let codec = new(&ZstdConfig::default());
        let shape = Shape { rows: 2, dim: 4 };
        let refuse = |body: &[u8]| {
            let mut frame = Vec::new();
            write_frame(ID, Content::Vectors(shape), &mut frame, |out| {
                out.extend_from_slice(body);
                Ok(3)
            })
            .unwrap();
            let mut out = Vec::new();
            let error = codec.decode(&frame, shape, &mut out).unwrap_err();
            assert!(error.is_corrupt(), "{error}");
            assert_eq!(out.capacity(), 0);
        };
        for len in [0, 1, 31, 33, 1 << 24] {
            refuse(&packed(&vec![0; len], true));
            refuse(&packed(&vec![0; len], false));
        }
        // Two frames, the first of the right length: a decoder that appends would overrun.
        let two = [packed(&[0; 32], true), packed(&[0; 1 << 20], true)].concat();
        refuse(&two);
        refuse(b"not zstd at all");
    }

    #[test]
    fn a_failure_leaves_the_codec_of_use() {
        let codec = new(&ZstdConfig {
            level: 19,
            shuffle: false,
        });
        let data = [0.5; 64];
        let shape = Shape { rows: 4, dim: 16 };
        let mut good = Vec::new();
        codec
            .encode(VectorBlock::new(&data, shape).unwrap(), &mut good)
            .unwrap();
        for _ in 0..40 {
            assert!(codec.decode(&good[1..], shape, &mut Vec::new()).is_err());
            let mut out = Vec::new();
            codec.decode(&good, shape, &mut out).unwrap();
            assert_eq!(out, data);
        }
    }
}

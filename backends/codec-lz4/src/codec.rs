//! [`aether_core::role::Codec`] by LZ4 blocks. The frame is that of [`Packed`]; its body is one LZ4 block without a length of its own,
//! or plain bytes where packing would not make it smaller, as is common with embeddings.

use aether_core::codec::{Packed, Packer};
use aether_core::role::CodecId;
use aether_core::{Error, Result};
use lz4_flex::block::{compress_into, decompress_into, get_maximum_output_size};

use crate::{ID, Lz4Config};

/// Packs by LZ4.
#[derive(Debug)]
pub struct Lz4Packer(());

/// The LZ4 codec.
pub type Lz4 = Packed<Lz4Packer>;

/// Makes the codec.
pub(crate) fn new(config: &Lz4Config) -> Lz4 {
    Packed::new(Lz4Packer(()), config.shuffle)
}

impl Packer for Lz4Packer {
    const ID: CodecId = ID;

    fn compress(&self, bytes: &[u8], out: &mut Vec<u8>) -> Result<bool> {
        let from = out.len();
        out.resize(from + get_maximum_output_size(bytes.len()), 0);
        let len = compress_into(bytes, &mut out[from..])
            .map_err(|e| Error::internal("lz4: cannot pack").with_source(e))?;
        out.truncate(from + len);
        Ok(true)
    }

    fn decompress(&self, packed: &[u8], out: &mut [u8]) -> Result<()> {
        let expected = out.len();
        match decompress_into(packed, out) {
            Ok(len) if len == expected => Ok(()),
            Ok(len) => Err(Error::corrupt(format!(
                "lz4: expected {expected} bytes, got {len}"
            ))),
            Err(e) => Err(
                Error::corrupt(format!("lz4: expected a block of {expected} bytes")).with_source(e),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aether_core::codec::{Content, write_frame};
    use aether_core::role::Codec;
    use aether_core::vector::Shape;

    /// Bombs and forgeries under a good seal, which no damage would make, are refused too.
    #[test]
    fn a_well_sealed_block_of_another_length_is_refused() {
        let codec = new(&Lz4Config::default());
        let shape = Shape { rows: 2, dim: 4 };
        for len in [0, 1, 31, 33, 1 << 20] {
            let mut frame = Vec::new();
            write_frame(ID, Content::Vectors(shape), &mut frame, |out| {
                codec_packer().compress(&vec![0; len], out)?;
                Ok(3)
            })
            .unwrap();
            let mut out = Vec::new();
            let error = codec.decode(&frame, shape, &mut out).unwrap_err();
            assert!(error.is_corrupt(), "{error}");
            assert_eq!(out.capacity(), 0);
        }
    }

    #[test]
    fn what_does_not_pack_is_stored() {
        let codec = new(&Lz4Config::default());
        let mut noise = 1u32;
        let bytes: Vec<u8> = std::iter::repeat_with(|| {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (noise >> 24) as u8
        })
        .take(1000)
        .collect();
        let mut out = Vec::new();
        codec
            .as_byte_codec()
            .unwrap()
            .pack(&bytes, &mut out)
            .unwrap();
        assert_eq!(out.len(), 1000 + aether_core::codec::FRAME_BYTES);
    }

    fn codec_packer() -> Lz4Packer {
        Lz4Packer(())
    }
}

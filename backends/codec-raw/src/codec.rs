//! [`aether_core::role::Codec`] that packs nothing. The frame is that of [`Packed`]: form 0 is floats as they are, form 2 byte planes.

use aether_core::codec::{Packed, Packer};
use aether_core::role::CodecId;
use aether_core::{Error, Result};

use crate::{ID, RawCodecConfig};

/// Leaves bytes as they are.
#[derive(Debug)]
pub struct Nothing(());

/// The raw codec.
pub type Raw = Packed<Nothing>;

/// Makes the codec.
pub(crate) fn new(config: &RawCodecConfig) -> Raw {
    Packed::new(Nothing(()), config.shuffle)
}

impl Packer for Nothing {
    const ID: CodecId = ID;

    fn compress(&self, _: &[u8], _: &mut Vec<u8>) -> Result<bool> {
        Ok(false)
    }

    fn decompress(&self, packed: &[u8], _: &mut [u8]) -> Result<()> {
        Err(Error::corrupt(format!(
            "raw frame: expected plain bytes, got {} packed ones",
            packed.len()
        )))
    }
}

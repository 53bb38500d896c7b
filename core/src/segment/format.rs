//! Constants and the directory of a segment.

use std::ops::Range;

use crate::codec::BLOCK_HEADER_BYTES;
use crate::error::Result;
use crate::id::{BlobKey, SegmentId};
use crate::role::Epoch;

pub(super) const MAGIC: [u8; 8] = *b"AETHSEG\x01";
pub(super) const VERSION: u32 = 1;
pub(super) const HEADER_BYTES: usize = 24;
pub(super) const TAIL_BYTES: usize = 40;
pub(super) const BLOCK_ENTRY_BYTES: usize = 32;
/// Rows that one segment may hold: the directory of hot points keeps an ordinal in 22 bits.
pub(crate) const SEGMENT_ROWS_MAX: usize = 1 << 22;
/// Marks a row without payload in the table of payload lengths.
pub(super) const NO_PAYLOAD: u32 = u32::MAX;

/// Seed of the checksum of a sub-block that begins at `offset`.
pub(super) fn place_seed(segment: SegmentId, offset: u64) -> u64 {
    segment.0.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ offset
}

/// The rows of one partition inside one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) partition: u32,
    pub(crate) rows: u32,
    pub(crate) first_ordinal: u32,
    pub(crate) offset: u64,
    /// Lengths of the sub-blocks rows, vectors, keys, payloads, seals included.
    pub(crate) lengths: [u32; 4],
}

impl Block {
    fn part(&self, index: usize) -> Range<u64> {
        let before: u64 = self.lengths.iter().take(index).map(|l| u64::from(*l)).sum();
        let start = self.offset + before;
        start..start + self.lengths.get(index).map_or(0, |l| u64::from(*l))
    }

    pub(crate) fn rows_range(&self) -> Range<u64> {
        self.part(0)
    }

    pub(crate) fn vectors_range(&self) -> Range<u64> {
        self.part(1)
    }

    pub(crate) fn keys_range(&self) -> Range<u64> {
        self.part(2)
    }

    pub(crate) fn payloads_range(&self) -> Range<u64> {
        self.part(3)
    }

    /// Rows and vectors together: what a search reads.
    pub(crate) fn scan_range(&self) -> Range<u64> {
        self.rows_range().start..self.vectors_range().end
    }

    /// The whole block.
    pub(crate) fn range(&self) -> Range<u64> {
        self.offset..self.payloads_range().end
    }
}

/// What a footer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Directory {
    pub(crate) rows: u32,
    pub(crate) generation: u32,
    /// The codecs of its vectors, as each block names them.
    pub(crate) codec: [u8; BLOCK_HEADER_BYTES],
    /// In order of ordinals.
    pub(crate) blocks: Vec<Block>,
}

impl Directory {
    /// The block of an ordinal and the row's place in it.
    pub(crate) fn locate(&self, ordinal: u32) -> Option<(usize, usize)> {
        let after = self.blocks.partition_point(|b| b.first_ordinal <= ordinal);
        let index = after.checked_sub(1)?;
        let place = ordinal - self.blocks.get(index)?.first_ordinal;
        (place < self.blocks.get(index)?.rows).then_some((index, place as usize))
    }
}

/// Name of a segment's blob. Epoch and a unique part keep two writers from ever meeting on one name.
pub(crate) fn blob_key(segment: SegmentId, epoch: Epoch, unique: u64) -> Result<BlobKey> {
    BlobKey::new(format!(
        "segments/{:012}-{:06}-{unique:016x}.seg",
        segment.0, epoch.0
    ))
}

//! Constants and the directory of a segment.

use std::ops::Range;

use crate::codec::BLOCK_HEADER_BYTES;
use crate::error::Result;
use crate::id::{BlobKey, SegmentId};
use crate::role::Epoch;

pub(super) const MAGIC: [u8; 8] = *b"AETHSEG\x01";
/// What is written.
pub(super) const VERSION: u32 = 2;
/// The first format: one block after another, no codes. It is still read.
pub(super) const VERSION_1: u32 = 1;
pub(super) const HEADER_BYTES: usize = 24;
pub(super) const BLOCK_ENTRY_BYTES: usize = 32;
/// Blocks whose rows and codes are read and kept together: about this many bytes of them.
const PAGE_BYTES: u64 = 64 << 10;
/// Rows that one segment may hold: the directory of hot points keeps an ordinal in 22 bits.
pub(crate) const SEGMENT_ROWS_MAX: usize = 1 << 22;
/// Marks a row without payload in the table of payload lengths.
pub(super) const NO_PAYLOAD: u32 = u32::MAX;

/// Seed of the checksum of a sub-block that begins at `offset`.
pub(crate) fn place_seed(segment: SegmentId, offset: u64) -> u64 {
    segment.0.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ offset
}

/// The rows of one partition inside one segment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Block {
    pub(crate) partition: u32,
    pub(crate) rows: u32,
    pub(crate) first_ordinal: u32,
    /// No row is further from the partition's centroid. Infinite where that is not known.
    pub(crate) radius: f32,
    /// Number of its first group of vectors in the segment.
    pub(crate) first_group: u32,
    /// Lengths of the sub-blocks, seals included; the codes follow the rows, the payloads the keys.
    pub(crate) rows_bytes: u32,
    pub(crate) codes_bytes: u32,
    pub(crate) vectors_bytes: u32,
    pub(crate) keys_bytes: u32,
    pub(crate) payloads_bytes: u32,
    pub(crate) rows_offset: u64,
    pub(crate) vectors_offset: u64,
    pub(crate) keys_offset: u64,
}

fn part(start: u64, bytes: u32) -> Range<u64> {
    start..start + u64::from(bytes)
}

impl Block {
    pub(crate) fn rows_range(&self) -> Range<u64> {
        part(self.rows_offset, self.rows_bytes)
    }

    /// Empty in a segment without codes.
    pub(crate) fn codes_range(&self) -> Range<u64> {
        part(self.rows_range().end, self.codes_bytes)
    }

    pub(crate) fn vectors_range(&self) -> Range<u64> {
        part(self.vectors_offset, self.vectors_bytes)
    }

    pub(crate) fn keys_range(&self) -> Range<u64> {
        part(self.keys_offset, self.keys_bytes)
    }

    pub(crate) fn payloads_range(&self) -> Range<u64> {
        part(self.keys_range().end, self.payloads_bytes)
    }
}

/// Some vectors of a block, packed and sealed together with the numbers of their rows: the least that is read of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    /// Its number in the segment.
    pub(crate) number: u32,
    /// Place in the block of its first row.
    pub(crate) first_place: u32,
    pub(crate) rows: u32,
    pub(crate) range: Range<u64>,
}

/// What a footer says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Directory {
    pub(crate) rows: u32,
    /// Of the first versions, which trained centroids all at once; 0 since, and without meaning.
    pub(crate) generation: u32,
    /// The codecs of its vectors, as each block names them.
    pub(crate) codec: [u8; BLOCK_HEADER_BYTES],
    /// In order of ordinals.
    pub(crate) blocks: Vec<Block>,
    /// Bits a dimension of the codes; 0 where there are none.
    pub(crate) code_bits: u8,
    /// Rows of a group, the last one of a block aside; 0 where each block is one group (version 1).
    pub(crate) group_rows: u32,
    /// Bytes of each group, in order.
    pub(crate) group_bytes: Vec<u32>,
    /// First block of each page of rows and codes.
    pub(crate) pages: Vec<u32>,
}

/// Cuts the blocks into pages.
pub(super) fn pages(blocks: &[Block]) -> Vec<u32> {
    let mut pages = Vec::new();
    let mut start = None;
    for (i, block) in (0u32..).zip(blocks) {
        if start.is_none_or(|s| block.codes_range().end - s > PAGE_BYTES) {
            pages.push(i);
            start = Some(block.rows_offset);
        }
    }
    pages
}

impl Directory {
    /// Groups of a block.
    pub(crate) fn group_count(&self, block: &Block) -> u32 {
        match self.group_rows {
            0 => 1,
            n => block.rows.div_ceil(n),
        }
    }

    /// A group of a block by its place there; `None` beyond the last.
    pub(crate) fn group(&self, block: &Block, index: u32) -> Option<Group> {
        if index >= self.group_count(block) {
            return None;
        }
        if self.group_rows == 0 {
            return Some(Group {
                number: block.first_group,
                first_place: 0,
                rows: block.rows,
                range: block.rows_offset..block.vectors_range().end,
            });
        }
        let first = block.first_group as usize;
        let number = first + index as usize;
        let before: u64 = self
            .group_bytes
            .get(first..number)?
            .iter()
            .map(|b| u64::from(*b))
            .sum();
        let first_place = index * self.group_rows;
        Some(Group {
            number: number as u32,
            first_place,
            rows: self.group_rows.min(block.rows - first_place),
            range: part(
                block.vectors_offset + before,
                *self.group_bytes.get(number)?,
            ),
        })
    }

    /// Where everything lies that has a seal of its own, in order; nothing lies between, nor before or behind but header, footer and tail.
    pub(crate) fn sealed(&self) -> Vec<Range<u64>> {
        let of = |b: &Block| {
            let groups = match self.group_rows {
                0 => vec![b.vectors_range()],
                _ => (0..self.group_count(b))
                    .filter_map(|index| Some(self.group(b, index)?.range))
                    .collect(),
            };
            let others = [
                b.rows_range(),
                b.codes_range(),
                b.keys_range(),
                b.payloads_range(),
            ];
            groups.into_iter().chain(others)
        };
        let mut all: Vec<_> = self.blocks.iter().flat_map(of).collect();
        all.retain(|range| !range.is_empty());
        all.sort_unstable_by_key(|range| range.start);
        all
    }

    /// The group that holds the row at a place of a block.
    pub(crate) fn group_of(&self, block: &Block, place: usize) -> Option<Group> {
        let index = (place as u32).checked_div(self.group_rows).unwrap_or(0);
        self.group(block, index)
            .filter(|g| place < (g.first_place + g.rows) as usize)
    }

    /// The page that holds a block's rows and codes.
    pub(crate) fn page_of(&self, block: usize) -> u32 {
        let after = self.pages.partition_point(|first| *first as usize <= block);
        after.saturating_sub(1) as u32
    }

    /// The blocks of a page.
    pub(crate) fn page_blocks(&self, page: u32) -> Range<usize> {
        let of = |p: usize| self.pages.get(p).map_or(self.blocks.len(), |b| *b as usize);
        of(page as usize)..of(page as usize + 1)
    }

    /// Where a page lies in the blob.
    pub(crate) fn page_range(&self, page: u32) -> Option<Range<u64>> {
        let blocks = self.blocks.get(self.page_blocks(page))?;
        Some(blocks.first()?.rows_offset..blocks.last()?.codes_range().end)
    }

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

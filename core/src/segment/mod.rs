//! Immutable cold blobs: many rows in one object, grouped by partition, every part checksummed. Bytes: `core/FORMAT.md`.

mod code_page;
mod codes;
pub(crate) mod compaction;
mod format;
mod reader;
mod writer;

pub(crate) use code_page::{BlockCodes, CodePage};
pub(crate) use codes::{Centroids, Codes, coder, measure};
pub(crate) use format::{Block, Directory, Group, SEGMENT_ROWS_MAX, blob_key, place_seed};
pub(crate) use reader::{
    Payloads, check_frame, check_part, parse_end, parse_group, parse_keys, parse_payloads,
    parse_rows, parts,
};
pub(crate) use writer::{
    BlockPlan, PackedBlock, Packing, SegmentRow, SegmentWriter, WrittenSegment, block_ranges,
    pack_block, write_segment,
};
#[cfg(test)]
mod tests;

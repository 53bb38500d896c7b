//! Immutable cold blobs: many rows in one object, grouped by partition, every part checksummed. Bytes: `core/FORMAT.md`.

pub(crate) mod compaction;
mod format;
mod reader;
mod writer;

pub(crate) use format::{Block, Directory, SEGMENT_ROWS_MAX, blob_key};
pub(crate) use reader::{
    Payloads, check_frame, parse_footer, parse_keys, parse_payloads, parse_rows, parse_vectors,
};
pub(crate) use writer::{SegmentRow, WrittenSegment, write_segment};
#[cfg(test)]
mod tests;

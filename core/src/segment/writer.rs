//! Builds a segment in memory.

use bytes::Bytes;

use super::format::{
    Block, Directory, HEADER_BYTES, MAGIC, NO_PAYLOAD, SEGMENT_ROWS_MAX, VERSION, place_seed,
};
use crate::codec::{BLOCK_HEADER_BYTES, BlockCodec};
use crate::error::{Error, Result};
use crate::id::{PointId, Row, SegmentId};
use crate::seal::seal;
use crate::vector::{Shape, VectorBlock};

/// One row on its way into a segment.
#[derive(Clone, Debug)]
pub(crate) struct SegmentRow {
    pub(crate) row: Row,
    pub(crate) id: PointId,
    pub(crate) vector: Vec<f32>,
    pub(crate) payload: Option<Bytes>,
    pub(crate) partition: u32,
}

impl SegmentRow {
    /// Bytes of id, vector and payload.
    pub(crate) fn bytes(&self) -> u64 {
        let payload = self.payload.as_ref().map_or(0, Bytes::len);
        (self.id.key_len() + self.vector.len() * 4 + payload) as u64
    }
}

/// A finished blob, and what the manifest needs to know of it.
#[derive(Debug)]
pub(crate) struct WrittenSegment {
    pub(crate) data: Bytes,
    pub(crate) directory: Directory,
    pub(crate) footer_offset: u64,
    pub(crate) footer_bytes: u32,
}

/// Writes rows, which must be sorted by partition, as one segment; a row's ordinal is its place in `rows`. No block
/// holds more than `block_rows`.
pub(crate) fn write_segment(
    segment: SegmentId,
    generation: u32,
    dim: usize,
    rows: &[SegmentRow],
    block_rows: usize,
    codec: &BlockCodec,
) -> Result<WrittenSegment> {
    debug_assert!(rows.is_sorted_by_key(|r| r.partition));
    if rows.len() > SEGMENT_ROWS_MAX {
        return Err(Error::capacity(format!(
            "segment: expected at most {SEGMENT_ROWS_MAX} rows, got {}; lower limits.batch_rows",
            rows.len()
        )));
    }
    let mut out = Vec::with_capacity(HEADER_BYTES + rows.len() * (dim * 4 + 64));
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&narrow(dim, "dimension")?.to_le_bytes());
    out.extend_from_slice(&segment.0.to_le_bytes());

    let mut blocks = Vec::new();
    let mut first_ordinal = 0u32;
    for same in rows.chunk_by(|a, b| a.partition == b.partition) {
        for chunk in same.chunks(block_rows.max(1)) {
            let block = write_block(segment, dim, chunk, first_ordinal, codec, &mut out)?;
            first_ordinal += block.rows;
            blocks.push(block);
        }
    }

    let footer_offset = out.len() as u64;
    let start = out.len();
    out.extend_from_slice(&narrow(blocks.len(), "blocks")?.to_le_bytes());
    out.extend_from_slice(&first_ordinal.to_le_bytes());
    out.extend_from_slice(&generation.to_le_bytes());
    // The codecs' names, as every block of vectors begins with them.
    let mut codec = [0; BLOCK_HEADER_BYTES];
    if let Some(block) = blocks.first() {
        let at = block.vectors_range().start as usize;
        codec.copy_from_slice(&out[at..at + BLOCK_HEADER_BYTES]);
    }
    out.extend_from_slice(&codec);
    for b in &blocks {
        out.extend_from_slice(&b.partition.to_le_bytes());
        out.extend_from_slice(&b.rows.to_le_bytes());
        out.extend_from_slice(&b.offset.to_le_bytes());
        for length in b.lengths {
            out.extend_from_slice(&length.to_le_bytes());
        }
    }
    seal(&mut out, start, segment.0);
    let footer_bytes = narrow(out.len() - start, "footer")?;

    let tail = out.len();
    out.extend_from_slice(&footer_offset.to_le_bytes());
    out.extend_from_slice(&footer_bytes.to_le_bytes());
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&segment.0.to_le_bytes());
    out.extend_from_slice(&MAGIC);
    seal(&mut out, tail, segment.0);

    Ok(WrittenSegment {
        data: Bytes::from(out),
        directory: Directory {
            rows: first_ordinal,
            generation,
            codec,
            blocks,
        },
        footer_offset,
        footer_bytes,
    })
}

fn write_block(
    segment: SegmentId,
    dim: usize,
    rows: &[SegmentRow],
    first_ordinal: u32,
    codec: &BlockCodec,
    out: &mut Vec<u8>,
) -> Result<Block> {
    let offset = out.len() as u64;
    let mut lengths = [0u32; 4];
    let mut part =
        |out: &mut Vec<u8>, index: usize, fill: &mut dyn FnMut(&mut Vec<u8>) -> Result<()>| {
            let start = out.len();
            fill(out)?;
            seal(out, start, place_seed(segment, start as u64));
            lengths[index] = narrow(out.len() - start, "sub-block")?;
            Ok::<(), Error>(())
        };

    part(out, 0, &mut |out| {
        rows.iter()
            .for_each(|r| out.extend_from_slice(&r.row.0.to_le_bytes()));
        Ok(())
    })?;
    let mut vectors = Vec::with_capacity(rows.len() * dim);
    rows.iter()
        .for_each(|r| vectors.extend_from_slice(&r.vector));
    let block = VectorBlock::new(
        &vectors,
        Shape {
            rows: rows.len(),
            dim,
        },
    )?;
    part(out, 1, &mut |out| codec.encode_block(block, out))?;
    part(out, 2, &mut |out| {
        for r in rows {
            let length = u16::try_from(r.id.key_len())
                .map_err(|_| Error::internal("an id longer than its limit reached a segment"))?;
            out.extend_from_slice(&length.to_le_bytes());
            r.id.encode(out);
        }
        Ok(())
    })?;
    part(out, 3, &mut |out| {
        let mut plain = Vec::new();
        for r in rows {
            let length = match &r.payload {
                None => NO_PAYLOAD,
                Some(p) => narrow(p.len(), "payload")?,
            };
            plain.extend_from_slice(&length.to_le_bytes());
        }
        rows.iter()
            .flat_map(|r| &r.payload)
            .for_each(|p| plain.extend_from_slice(p));
        out.extend_from_slice(&narrow(plain.len(), "payloads")?.to_le_bytes());
        out.extend_from_slice(&lz4_flex::block::compress(&plain));
        Ok(())
    })?;
    Ok(Block {
        partition: rows.first().map_or(0, |r| r.partition),
        rows: narrow(rows.len(), "rows")?,
        first_ordinal,
        offset,
        lengths,
    })
}

fn narrow(n: usize, what: &str) -> Result<u32> {
    u32::try_from(n)
        .ok()
        .filter(|n| *n < NO_PAYLOAD)
        .ok_or_else(|| {
            Error::capacity(format!(
                "segment {what}: expected less than 4 GiB or 2^32, got {n}; lower flux.batch_bytes"
            ))
        })
}

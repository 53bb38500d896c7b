//! Builds a segment in memory.

use bytes::Bytes;

use super::codes::Codes;
use super::format::{
    Block, Directory, HEADER_BYTES, MAGIC, NO_PAYLOAD, SEGMENT_ROWS_MAX, VERSION, pages, place_seed,
};
use crate::codec::BlockCodec;
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

/// How rows are packed.
#[derive(Debug)]
pub(crate) struct Packing<'a> {
    pub(crate) dim: usize,
    /// Most rows of a block.
    pub(crate) block_rows: usize,
    /// Most rows of a group of vectors.
    pub(crate) group_rows: usize,
    pub(crate) codec: &'a BlockCodec,
    pub(crate) codes: Codes<'a>,
}

/// Writes rows, which must be sorted by partition, as one segment; a row's ordinal is its place in `rows`.
///
/// # Errors
/// `Capacity` for too much of anything, `Internal` for a partition without centroid, and what the codec says.
pub(crate) fn write_segment(
    segment: SegmentId,
    generation: u32,
    rows: &[SegmentRow],
    packing: &Packing<'_>,
) -> Result<WrittenSegment> {
    debug_assert!(rows.is_sorted_by_key(|r| r.partition));
    if rows.len() > SEGMENT_ROWS_MAX {
        return Err(Error::capacity(format!(
            "segment: expected at most {SEGMENT_ROWS_MAX} rows, got {}; lower limits.batch_rows",
            rows.len()
        )));
    }
    let dim = packing.dim;
    let mut out = Vec::with_capacity(HEADER_BYTES + rows.len() * (dim * 5 + 80));
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&narrow(dim, "dimension")?.to_le_bytes());
    out.extend_from_slice(&segment.0.to_le_bytes());

    let chunks: Vec<&[SegmentRow]> = rows
        .chunk_by(|a, b| a.partition == b.partition)
        .flat_map(|same| same.chunks(packing.block_rows.max(1)))
        .collect();
    let mut w = Writer {
        segment,
        packing,
        out,
    };
    // What a search looks at lies together, and so does what it reads of a few rows, and what it seldom wants.
    let mut blocks = Vec::with_capacity(chunks.len());
    let mut first_ordinal = 0;
    for rows in &chunks {
        let block = w.rows_and_codes(rows, first_ordinal)?;
        first_ordinal += block.rows;
        blocks.push(block);
    }
    let mut group_bytes = Vec::new();
    for (rows, block) in chunks.iter().zip(&mut blocks) {
        w.vectors(rows, block, &mut group_bytes)?;
    }
    for (rows, block) in chunks.iter().zip(&mut blocks) {
        w.keys_and_payloads(rows, block)?;
    }
    let directory = Directory {
        rows: first_ordinal,
        generation,
        codec: packing.codec.header(),
        pages: pages(&blocks),
        blocks,
        code_bits: packing.codes.bits(),
        group_rows: narrow(packing.group_rows.max(1), "rows of a group")?,
        group_bytes,
    };
    let (footer_offset, footer_bytes) = w.end(&directory)?;
    Ok(WrittenSegment {
        data: Bytes::from(w.out),
        directory,
        footer_offset,
        footer_bytes,
    })
}

struct Writer<'a> {
    segment: SegmentId,
    packing: &'a Packing<'a>,
    out: Vec<u8>,
}

impl Writer<'_> {
    /// Seals what was written since `start`; gives its length.
    fn seal(&mut self, start: usize) -> Result<u32> {
        seal(&mut self.out, start, place_seed(self.segment, start as u64));
        narrow(self.out.len() - start, "sub-block")
    }

    fn rows_and_codes(&mut self, rows: &[SegmentRow], first_ordinal: u32) -> Result<Block> {
        let start = self.out.len();
        let first = rows.iter().map(|r| r.row.0).min().unwrap_or(0);
        let far = rows.iter().any(|r| r.row.0 - first > u64::from(u32::MAX));
        let width = if far { 8u8 } else { 4 };
        self.out.extend_from_slice(&first.to_le_bytes());
        self.out.push(width);
        for r in rows {
            let bytes = (r.row.0 - first).to_le_bytes();
            self.out.extend_from_slice(&bytes[..usize::from(width)]);
        }
        let rows_bytes = self.seal(start)?;
        let partition = rows.first().map_or(0, |r| r.partition);
        let codes = self.out.len();
        let vectors = rows.iter().map(|r| &r.vector[..]);
        let radius = (self.packing.codes).write(partition, vectors, &mut self.out)?;
        Ok(Block {
            partition,
            rows: narrow(rows.len(), "rows")?,
            first_ordinal,
            radius,
            first_group: 0,
            rows_bytes,
            codes_bytes: self.seal(codes)?,
            vectors_bytes: 0,
            keys_bytes: 0,
            payloads_bytes: 0,
            rows_offset: start as u64,
            vectors_offset: 0,
            keys_offset: 0,
        })
    }

    fn vectors(
        &mut self,
        rows: &[SegmentRow],
        block: &mut Block,
        group_bytes: &mut Vec<u32>,
    ) -> Result<()> {
        let begin = self.out.len();
        block.vectors_offset = begin as u64;
        block.first_group = narrow(group_bytes.len(), "groups")?;
        let mut floats = Vec::new();
        for group in rows.chunks(self.packing.group_rows.max(1)) {
            let start = self.out.len();
            floats.clear();
            for r in group {
                self.out.extend_from_slice(&r.row.0.to_le_bytes());
                floats.extend_from_slice(&r.vector);
            }
            let shape = Shape {
                rows: group.len(),
                dim: self.packing.dim,
            };
            let vectors = VectorBlock::new(&floats, shape)?;
            self.packing.codec.encode_block(vectors, &mut self.out)?;
            group_bytes.push(self.seal(start)?);
        }
        block.vectors_bytes = narrow(self.out.len() - begin, "sub-block")?;
        Ok(())
    }

    fn keys_and_payloads(&mut self, rows: &[SegmentRow], block: &mut Block) -> Result<()> {
        let start = self.out.len();
        block.keys_offset = start as u64;
        for r in rows {
            let length = u16::try_from(r.id.key_len())
                .map_err(|_| Error::internal("an id longer than its limit reached a segment"))?;
            self.out.extend_from_slice(&length.to_le_bytes());
            r.id.encode(&mut self.out);
        }
        block.keys_bytes = self.seal(start)?;
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
        let start = self.out.len();
        self.out
            .extend_from_slice(&narrow(plain.len(), "payloads")?.to_le_bytes());
        self.out
            .extend_from_slice(&lz4_flex::block::compress(&plain));
        block.payloads_bytes = self.seal(start)?;
        Ok(())
    }

    /// Footer and tail; gives where the footer is and how long.
    fn end(&mut self, d: &Directory) -> Result<(u64, u32)> {
        let (segment, start) = (self.segment, self.out.len());
        let out = &mut self.out;
        out.extend_from_slice(&narrow(d.blocks.len(), "blocks")?.to_le_bytes());
        out.extend_from_slice(&d.rows.to_le_bytes());
        out.extend_from_slice(&d.generation.to_le_bytes());
        out.extend_from_slice(&d.codec);
        out.extend_from_slice(&narrow(d.group_bytes.len(), "groups")?.to_le_bytes());
        out.extend_from_slice(&d.group_rows.to_le_bytes());
        out.extend_from_slice(&u32::from(d.code_bits).to_le_bytes());
        for b in &d.blocks {
            out.extend_from_slice(&b.partition.to_le_bytes());
            out.extend_from_slice(&b.rows.to_le_bytes());
            out.extend_from_slice(&b.radius.to_le_bytes());
            let lengths = [
                b.rows_bytes,
                b.codes_bytes,
                b.vectors_bytes,
                b.keys_bytes,
                b.payloads_bytes,
            ];
            for length in lengths {
                out.extend_from_slice(&length.to_le_bytes());
            }
        }
        for length in &d.group_bytes {
            out.extend_from_slice(&length.to_le_bytes());
        }
        seal(out, start, segment.0);
        let (footer_offset, footer_bytes) = (start as u64, narrow(out.len() - start, "footer")?);

        let tail = out.len();
        out.extend_from_slice(&footer_offset.to_le_bytes());
        out.extend_from_slice(&footer_bytes.to_le_bytes());
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&segment.0.to_le_bytes());
        out.extend_from_slice(&MAGIC);
        seal(out, tail, segment.0);
        Ok((footer_offset, footer_bytes))
    }
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

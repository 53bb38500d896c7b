//! Builds a segment in memory.

use std::ops::Range;

use bytes::Bytes;

use super::codes::Codes;
use super::format::{
    Block, Directory, HEADER_BYTES, MAGIC, NO_PAYLOAD, SEGMENT_ROWS_MAX, VERSION, pages, place_seed,
};
use crate::codec::BlockCodec;
use crate::error::{Error, Result};
use crate::id::{PointId, Row, SegmentId};
use crate::seal::{SEAL_BYTES, seal};
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
    /// Most rows of a group of vectors.
    pub(crate) group_rows: usize,
    pub(crate) codec: &'a BlockCodec,
    pub(crate) codes: Codes<'a>,
}

/// One block, packed, its parts not sealed yet: seals depend on where the block will lie.
#[derive(Debug)]
pub(crate) struct PackedBlock {
    partition: u32,
    count: u32,
    radius: f32,
    rows: Vec<u8>,
    codes: Vec<u8>,
    /// All groups of vectors, one after another, and where each ends.
    groups: Vec<u8>,
    group_ends: Vec<usize>,
    keys: Vec<u8>,
    payloads: Vec<u8>,
}

/// Writes rows, which must be sorted by partition, as one segment; a row's ordinal is its place in `rows`.
///
/// # Errors
/// As [`pack_block`] and [`assemble`].
#[cfg(test)]
pub(crate) fn write_segment(
    segment: SegmentId,
    rows: &[SegmentRow],
    block_rows: usize,
    packing: &Packing<'_>,
) -> Result<WrittenSegment> {
    let blocks = block_ranges(rows, block_rows).into_iter();
    let blocks: Result<Vec<PackedBlock>> = blocks
        .map(|range| pack_block(&rows[range], packing))
        .collect();
    assemble(segment, blocks?, packing)
}

/// Where the blocks of rows sorted by partition begin and end: one partition each, and at most `block_rows` rows.
pub(crate) fn block_ranges(rows: &[SegmentRow], block_rows: usize) -> Vec<Range<usize>> {
    debug_assert!(rows.is_sorted_by_key(|r| r.partition));
    let mut from = 0;
    let same = rows.chunk_by(|a, b| a.partition == b.partition);
    same.flat_map(|same| same.chunks(block_rows.max(1)))
        .map(|block| {
            let range = from..from + block.len();
            from = range.end;
            range
        })
        .collect()
}

/// Codes and packs the rows of one block. What is dear about writing a segment, and no block needs another one.
///
/// # Errors
/// `Capacity` for too much of anything, `Internal` for a partition without centroid, and what the codec says.
pub(crate) fn pack_block(rows: &[SegmentRow], packing: &Packing<'_>) -> Result<PackedBlock> {
    let partition = rows.first().map_or(0, |r| r.partition);
    let mut codes = Vec::new();
    let vectors = rows.iter().map(|r| &r.vector[..]);
    let radius = packing.codes.write(partition, vectors, &mut codes)?;
    let (groups, group_ends) = pack_vectors(rows, packing)?;
    Ok(PackedBlock {
        partition,
        count: narrow(rows.len(), "rows")?,
        radius,
        rows: pack_rows(rows),
        codes,
        groups,
        group_ends,
        keys: pack_keys(rows)?,
        payloads: pack_payloads(rows)?,
    })
}

fn pack_rows(rows: &[SegmentRow]) -> Vec<u8> {
    let first = rows.iter().map(|r| r.row.0).min().unwrap_or(0);
    let last = rows.iter().map(|r| r.row.0).max().unwrap_or(0);
    let width = if u32::try_from(last - first).is_ok() {
        4u8
    } else {
        8
    };
    let mut out = Vec::with_capacity(9 + rows.len() * usize::from(width));
    out.extend_from_slice(&first.to_le_bytes());
    out.push(width);
    for r in rows {
        let bytes = (r.row.0 - first).to_le_bytes();
        out.extend_from_slice(&bytes[..usize::from(width)]);
    }
    out
}

/// Groups of row numbers and packed vectors, and where each ends.
fn pack_vectors(rows: &[SegmentRow], packing: &Packing<'_>) -> Result<(Vec<u8>, Vec<usize>)> {
    let mut out = Vec::with_capacity(rows.len() * packing.dim * 4);
    let (mut ends, mut floats) = (Vec::new(), Vec::new());
    for group in rows.chunks(packing.group_rows.max(1)) {
        floats.clear();
        for r in group {
            out.extend_from_slice(&r.row.0.to_le_bytes());
            floats.extend_from_slice(&r.vector);
        }
        let shape = Shape {
            rows: group.len(),
            dim: packing.dim,
        };
        let vectors = VectorBlock::new(&floats, shape)?;
        packing.codec.encode_block(vectors, &mut out)?;
        ends.push(out.len());
    }
    Ok((out, ends))
}

fn pack_keys(rows: &[SegmentRow]) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    for r in rows {
        let length = u16::try_from(r.id.key_len())
            .map_err(|_| Error::internal("an id longer than its limit reached a segment"))?;
        out.extend_from_slice(&length.to_le_bytes());
        r.id.encode(&mut out);
    }
    Ok(out)
}

fn pack_payloads(rows: &[SegmentRow]) -> Result<Vec<u8>> {
    let mut plain = Vec::new();
    for r in rows {
        let length = match &r.payload {
            None => NO_PAYLOAD,
            Some(p) => narrow(p.len(), "payload")?,
        };
        plain.extend_from_slice(&length.to_le_bytes());
    }
    let payloads = rows.iter().flat_map(|r| &r.payload);
    payloads.for_each(|p| plain.extend_from_slice(p));
    let mut out = narrow(plain.len(), "payloads")?.to_le_bytes().to_vec();
    out.extend_from_slice(&lz4_flex::block::compress(&plain));
    Ok(out)
}

/// Puts packed blocks, which must come in order of their partitions, together to a segment.
///
/// # Errors
/// `Capacity` for too much of anything.
pub(crate) fn assemble(
    segment: SegmentId,
    packed: Vec<PackedBlock>,
    packing: &Packing<'_>,
) -> Result<WrittenSegment> {
    let rows: usize = packed.iter().map(|b| b.count as usize).sum();
    if rows > SEGMENT_ROWS_MAX {
        return Err(Error::capacity(format!(
            "segment: expected at most {SEGMENT_ROWS_MAX} rows, got {rows}; lower limits.batch_rows"
        )));
    }
    let size = |b: &PackedBlock| {
        let parts = [&b.rows, &b.codes, &b.groups, &b.keys, &b.payloads];
        parts.iter().map(|p| p.len()).sum::<usize>() + (b.group_ends.len() + 4) * SEAL_BYTES + 64
    };
    let bytes: usize = packed.iter().map(size).sum();
    let mut out = Vec::with_capacity(HEADER_BYTES + bytes + 256);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&narrow(packing.dim, "dimension")?.to_le_bytes());
    out.extend_from_slice(&segment.0.to_le_bytes());
    let mut w = Writer { segment, out };

    // What a search looks at lies together, and so does what it reads of a few rows, and what it seldom wants.
    let mut blocks = Vec::with_capacity(packed.len());
    let mut first_ordinal = 0;
    for p in &packed {
        let rows_offset = w.out.len() as u64;
        blocks.push(Block {
            partition: p.partition,
            rows: p.count,
            first_ordinal,
            radius: p.radius,
            first_group: 0,
            rows_bytes: w.part(&p.rows)?,
            codes_bytes: w.part(&p.codes)?,
            vectors_bytes: 0,
            keys_bytes: 0,
            payloads_bytes: 0,
            rows_offset,
            vectors_offset: 0,
            keys_offset: 0,
        });
        first_ordinal += p.count;
    }
    let mut group_bytes = Vec::new();
    for (p, block) in packed.iter().zip(&mut blocks) {
        block.vectors_offset = w.out.len() as u64;
        block.first_group = narrow(group_bytes.len(), "groups")?;
        let mut from = 0;
        for end in &p.group_ends {
            group_bytes.push(w.part(&p.groups[from..*end])?);
            from = *end;
        }
        let bytes = w.out.len() as u64 - block.vectors_offset;
        block.vectors_bytes = narrow(bytes as usize, "sub-block")?;
    }
    for (p, block) in packed.iter().zip(&mut blocks) {
        block.keys_offset = w.out.len() as u64;
        block.keys_bytes = w.part(&p.keys)?;
        block.payloads_bytes = w.part(&p.payloads)?;
    }
    let directory = Directory {
        rows: first_ordinal,
        generation: 0,
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

struct Writer {
    segment: SegmentId,
    out: Vec<u8>,
}

impl Writer {
    /// Appends a part and its seal, bound to where it lies; gives the length of both.
    fn part(&mut self, bytes: &[u8]) -> Result<u32> {
        let start = self.out.len();
        self.out.extend_from_slice(bytes);
        seal(&mut self.out, start, place_seed(self.segment, start as u64));
        narrow(self.out.len() - start, "sub-block")
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

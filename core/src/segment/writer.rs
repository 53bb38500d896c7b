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

/// Bytes that a group takes at most beyond its vectors and the numbers of their rows: seal, and what a codec adds to what it cannot pack.
const GROUP_BYTES: usize = 64;

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
/// As [`pack_block`] and [`SegmentWriter`].
pub(crate) fn write_segment(
    segment: SegmentId,
    rows: &[SegmentRow],
    block_rows: usize,
    packing: &Packing<'_>,
) -> Result<WrittenSegment> {
    let ranges = block_ranges(rows, block_rows);
    let plan: Vec<BlockPlan> = ranges
        .iter()
        .map(|r| BlockPlan::of(&rows[r.clone()]))
        .collect();
    let mut writer = SegmentWriter::new(segment, &plan, packing)?;
    for range in ranges {
        writer.append(pack_block(&rows[range], packing)?)?;
    }
    writer.finish(packing)
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

/// What a segment's layout needs to know of a block before it is packed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlockPlan {
    rows: usize,
    first: u64,
    last: u64,
}

impl BlockPlan {
    pub(crate) fn of(rows: &[SegmentRow]) -> Self {
        let numbers = || rows.iter().map(|r| r.row.0);
        Self {
            rows: rows.len(),
            first: numbers().min().unwrap_or(0),
            last: numbers().max().unwrap_or(0),
        }
    }

    /// Bytes of a row's number, which is counted from the first.
    fn width(&self) -> usize {
        if u32::try_from(self.last - self.first).is_ok() {
            4
        } else {
            8
        }
    }

    fn rows_bytes(&self) -> usize {
        9 + self.rows * self.width()
    }
}

fn pack_rows(rows: &[SegmentRow]) -> Vec<u8> {
    let plan = BlockPlan::of(rows);
    let width = plan.width();
    let mut out = Vec::with_capacity(plan.rows_bytes() + SEAL_BYTES);
    out.extend_from_slice(&plan.first.to_le_bytes());
    out.push(width as u8);
    for r in rows {
        let bytes = (r.row.0 - plan.first).to_le_bytes();
        out.extend_from_slice(&bytes[..width]);
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

/// Puts packed blocks together to a segment, each as it comes, so that none has to wait in RAM for the others.
///
/// What a search looks at lies together, and so does what it reads of a few rows, and what it seldom wants. How long the first of these
/// regions is follows from the plan alone; the second grows behind it; keys and payloads wait to be the third.
#[derive(Debug)]
pub(crate) struct SegmentWriter {
    segment: SegmentId,
    out: Vec<u8>,
    /// Where the next block's rows and codes go, and where their region ends.
    codes_at: usize,
    codes_end: usize,
    blocks: Vec<Block>,
    group_bytes: Vec<u32>,
    first_ordinal: u32,
    /// Keys and payloads of each block.
    rest: Vec<(Vec<u8>, Vec<u8>)>,
}

impl SegmentWriter {
    /// Begins a segment of these blocks, which must come in this order.
    ///
    /// # Errors
    /// `Capacity` for too many rows.
    pub(crate) fn new(
        segment: SegmentId,
        plan: &[BlockPlan],
        packing: &Packing<'_>,
    ) -> Result<Self> {
        let rows: usize = plan.iter().map(|b| b.rows).sum();
        if rows > SEGMENT_ROWS_MAX {
            return Err(Error::capacity(format!(
                "segment: expected at most {SEGMENT_ROWS_MAX} rows, got {rows}; lower limits.batch_rows"
            )));
        }
        let codes =
            |b: &BlockPlan| b.rows_bytes() + b.rows * packing.codes.row_bytes() + 2 * SEAL_BYTES;
        let codes_end = HEADER_BYTES + plan.iter().map(codes).sum::<usize>();
        let groups = rows / packing.group_rows.max(1) + plan.len();
        let vectors = rows * (packing.dim * 4 + 8) + groups * GROUP_BYTES;
        // Room for all of it at once: a vector of bytes that grows is copied, and held twice meanwhile.
        let mut out = Vec::with_capacity(codes_end + vectors + rows * 16 + plan.len() * 64);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&narrow(packing.dim, "dimension")?.to_le_bytes());
        out.extend_from_slice(&segment.0.to_le_bytes());
        out.resize(codes_end, 0);
        Ok(Self {
            segment,
            out,
            codes_at: HEADER_BYTES,
            codes_end,
            blocks: Vec::with_capacity(plan.len()),
            group_bytes: Vec::with_capacity(groups),
            first_ordinal: 0,
            rest: Vec::with_capacity(plan.len()),
        })
    }

    /// Takes the next block.
    ///
    /// # Errors
    /// `Capacity` for too much of anything, `Internal` for a block that was not planned.
    pub(crate) fn append(&mut self, p: PackedBlock) -> Result<()> {
        let rows_offset = self.codes_at as u64;
        let rows_bytes = self.place(p.rows)?;
        let codes_bytes = self.place(p.codes)?;
        let vectors_offset = self.out.len() as u64;
        let first_group = narrow(self.group_bytes.len(), "groups")?;
        let mut from = 0;
        for end in &p.group_ends {
            let bytes = self.part(&p.groups[from..*end])?;
            self.group_bytes.push(bytes);
            from = *end;
        }
        let vectors_bytes = self.out.len() as u64 - vectors_offset;
        self.blocks.push(Block {
            partition: p.partition,
            rows: p.count,
            first_ordinal: self.first_ordinal,
            radius: p.radius,
            first_group,
            rows_bytes,
            codes_bytes,
            vectors_bytes: narrow(vectors_bytes as usize, "sub-block")?,
            keys_bytes: 0,
            payloads_bytes: 0,
            rows_offset,
            vectors_offset,
            keys_offset: 0,
        });
        self.first_ordinal += p.count;
        self.rest.push((p.keys, p.payloads));
        Ok(())
    }

    /// Ends the segment.
    ///
    /// # Errors
    /// `Capacity` for too much of anything, `Internal` when a planned block did not come.
    pub(crate) fn finish(mut self, packing: &Packing<'_>) -> Result<WrittenSegment> {
        if self.codes_at != self.codes_end {
            return Err(Error::internal("a segment ended before its last block"));
        }
        for (i, (keys, payloads)) in std::mem::take(&mut self.rest).into_iter().enumerate() {
            let keys_offset = self.out.len() as u64;
            let (keys_bytes, payloads_bytes) = (self.part(&keys)?, self.part(&payloads)?);
            let block = &mut self.blocks[i];
            block.keys_offset = keys_offset;
            (block.keys_bytes, block.payloads_bytes) = (keys_bytes, payloads_bytes);
        }
        let directory = Directory {
            rows: self.first_ordinal,
            generation: 0,
            codec: packing.codec.header(),
            pages: pages(&self.blocks),
            blocks: std::mem::take(&mut self.blocks),
            code_bits: packing.codes.bits(),
            group_rows: narrow(packing.group_rows.max(1), "rows of a group")?,
            group_bytes: std::mem::take(&mut self.group_bytes),
        };
        let (footer_offset, footer_bytes) = self.end(&directory)?;
        Ok(WrittenSegment {
            data: Bytes::from(self.out),
            directory,
            footer_offset,
            footer_bytes,
        })
    }

    /// Puts a part and its seal where the layout has them; gives the length of both.
    fn place(&mut self, mut bytes: Vec<u8>) -> Result<u32> {
        seal(
            &mut bytes,
            0,
            place_seed(self.segment, self.codes_at as u64),
        );
        let unplanned = || Error::internal("a block is not what its segment was laid out for");
        let end = self.codes_at + bytes.len();
        let room = self.out.get_mut(self.codes_at..end.min(self.codes_end));
        let room = room.filter(|room| room.len() == bytes.len());
        room.ok_or_else(unplanned)?.copy_from_slice(&bytes);
        self.codes_at = end;
        narrow(bytes.len(), "sub-block")
    }

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

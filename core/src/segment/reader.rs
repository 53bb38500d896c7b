//! Reads the parts of a segment, trusting nothing.
#![deny(clippy::indexing_slicing)]

use std::ops::Range;

use bytes::Bytes;

use super::format::{
    BLOCK_ENTRY_BYTES, Block, Directory, Group, HEADER_BYTES, MAGIC, NO_PAYLOAD, VERSION,
    VERSION_1, pages, place_seed,
};
use crate::codec::Decoders;
use crate::error::{Error, Result};
use crate::id::{PointId, Row, SegmentId};
use crate::seal::unseal;
use crate::vector::Shape;
use crate::wire::Reader;

/// Reads the end of a blob, from its footer on, as one read fetched it.
pub(crate) fn parse_end(
    segment: SegmentId,
    end: &[u8],
    footer_offset: u64,
    footer_bytes: u32,
) -> Result<Directory> {
    let bad = |what: &str| Error::corrupt(format!("segment {what}")).with("segment", segment);
    let (footer, tail) = end
        .split_at_checked(footer_bytes as usize)
        .ok_or_else(|| bad("footer: longer than what is left of the blob"))?;
    let tail = unseal(tail, segment.0, "segment tail").map_err(|e| e.with("segment", segment))?;
    let mut r = Reader::new(tail, "segment tail");
    let (offset, bytes, version) = (r.u64()?, r.u32()?, r.u32()?);
    let (number, magic) = (r.u64()?, r.take(8)?);
    r.end()?;
    if offset != footer_offset || bytes != footer_bytes || number != segment.0 || magic != MAGIC {
        return Err(bad(
            "tail: does not point at the footer that the manifest names",
        ));
    }
    match version {
        VERSION_1 => parse_footer_1(segment, footer, footer_offset),
        VERSION => parse_footer(segment, footer, footer_offset),
        other => Err(Error::unsupported(format!(
            "segment {segment}: its format is {other}, known are 1 and 2; it was written by a newer version"
        ))),
    }
}

/// Reads a footer and checks that its sub-blocks lie one after another and fill the blob.
fn parse_footer(segment: SegmentId, sealed: &[u8], footer_offset: u64) -> Result<Directory> {
    let bytes =
        unseal(sealed, segment.0, "segment footer").map_err(|e| e.with("segment", segment))?;
    let mut r = Reader::new(bytes, "segment footer");
    let (count, rows, generation) = (r.u32()?, r.u32()?, r.u32()?);
    let codec = r.u64()?.to_le_bytes();
    let (groups, group_rows, code_bits) = (r.u32()?, r.u32()?, r.u32()?);
    let bad =
        |what: &str| Error::corrupt(format!("segment footer: {what}")).with("segment", segment);
    if bytes.len() != 32 + count as usize * BLOCK_ENTRY_BYTES + groups as usize * 4 {
        return Err(bad(
            "its length does not fit its numbers of blocks and groups",
        ));
    }
    let code_bits = u8::try_from(code_bits)
        .ok()
        .filter(|bits| aether_codes::BITS.contains(bits) && group_rows > 0)
        .ok_or_else(|| bad("expected codes of 1 to 8 bits and groups of at least one row"))?;
    let mut blocks = Vec::with_capacity(count as usize);
    let mut first_ordinal = 0u32;
    for _ in 0..count {
        let (partition, rows) = (r.u32()?, r.u32()?);
        let block = Block {
            partition,
            rows,
            first_ordinal,
            radius: f32::from_bits(r.u32()?),
            first_group: 0,
            rows_bytes: r.u32()?,
            codes_bytes: r.u32()?,
            vectors_bytes: r.u32()?,
            keys_bytes: r.u32()?,
            payloads_bytes: r.u32()?,
            rows_offset: 0,
            vectors_offset: 0,
            keys_offset: 0,
        };
        first_ordinal = first_ordinal
            .checked_add(rows)
            .filter(|_| rows > 0 && block.radius >= 0.0)
            .ok_or_else(|| bad("a block without rows or radius"))?;
        blocks.push(block);
    }
    let mut group_bytes = Vec::with_capacity(groups as usize);
    for _ in 0..groups {
        group_bytes.push(r.u32()?);
    }
    r.end()?;
    let mut at = HEADER_BYTES as u64;
    for block in &mut blocks {
        block.rows_offset = at;
        at = block.codes_range().end;
    }
    let mut first = 0usize;
    for block in &mut blocks {
        block.first_group = first as u32;
        block.vectors_offset = at;
        let own = block.rows.div_ceil(group_rows) as usize;
        let lengths = group_bytes.get(first..first + own).unwrap_or_default();
        if lengths.len() != own
            || lengths.iter().map(|b| u64::from(*b)).sum::<u64>() != u64::from(block.vectors_bytes)
        {
            return Err(bad("its groups do not fill their blocks"));
        }
        first += own;
        at = block.vectors_range().end;
    }
    for block in &mut blocks {
        block.keys_offset = at;
        at = block.payloads_range().end;
    }
    if first_ordinal != rows || at != footer_offset || first != group_bytes.len() {
        return Err(bad("its totals do not match its blocks"));
    }
    Ok(Directory {
        rows,
        generation,
        codec,
        pages: pages(&blocks),
        blocks,
        code_bits,
        group_rows,
        group_bytes,
    })
}

/// The same of version 1.
fn parse_footer_1(segment: SegmentId, sealed: &[u8], footer_offset: u64) -> Result<Directory> {
    let bytes =
        unseal(sealed, segment.0, "segment footer").map_err(|e| e.with("segment", segment))?;
    let mut r = Reader::new(bytes, "segment footer");
    let (count, rows, generation) = (r.u32()?, r.u32()?, r.u32()?);
    let codec = r.u64()?.to_le_bytes();
    if bytes.len() != 20 + count as usize * BLOCK_ENTRY_BYTES {
        return Err(r
            .bad("its length does not fit its number of blocks")
            .with("segment", segment));
    }
    let mut blocks = Vec::with_capacity(count as usize);
    let (mut first_ordinal, mut end) = (0u32, HEADER_BYTES as u64);
    for number in 0..count {
        let (partition, block_rows, offset) = (r.u32()?, r.u32()?, r.u64()?);
        let (rows_bytes, vectors_bytes) = (r.u32()?, r.u32()?);
        let (keys_bytes, payloads_bytes) = (r.u32()?, r.u32()?);
        let (rows_end, before_keys) = (u64::from(rows_bytes), u64::from(vectors_bytes));
        let fits = offset == end && rows_bytes as usize == block_rows as usize * 8 + 8;
        let block = Block {
            partition,
            rows: block_rows,
            first_ordinal,
            radius: f32::INFINITY,
            first_group: number,
            rows_bytes,
            codes_bytes: 0,
            vectors_bytes,
            keys_bytes,
            payloads_bytes,
            rows_offset: end,
            vectors_offset: end + rows_end,
            keys_offset: end + rows_end + before_keys,
        };
        end = block.payloads_range().end;
        first_ordinal = first_ordinal
            .checked_add(block_rows)
            .filter(|_| fits && block_rows > 0 && end <= footer_offset)
            .ok_or_else(|| {
                r.bad("its blocks do not lie one after another")
                    .with("segment", segment)
            })?;
        blocks.push(block);
    }
    r.end()?;
    if first_ordinal != rows || end != footer_offset {
        return Err(r
            .bad("its totals do not match its blocks")
            .with("segment", segment));
    }
    Ok(Directory {
        rows,
        generation,
        codec,
        blocks,
        code_bits: 0,
        group_rows: 0,
        group_bytes: Vec::new(),
        pages: Vec::new(),
    })
}

/// Checks the header of a whole blob, then reads its end.
pub(crate) fn check_frame(
    segment: SegmentId,
    dim: usize,
    data: &[u8],
    footer_offset: u64,
    footer_bytes: u32,
) -> Result<Directory> {
    let bad = |what: &str| Error::corrupt(format!("segment {what}")).with("segment", segment);
    let directory = usize::try_from(footer_offset)
        .ok()
        .and_then(|start| data.get(start..))
        .ok_or_else(|| bad("footer: lies outside the blob"))
        .and_then(|end| parse_end(segment, end, footer_offset, footer_bytes))?;
    check_header(segment, dim, &directory, data)?;
    Ok(directory)
}

/// Checks the header with which a blob begins.
fn check_header(segment: SegmentId, dim: usize, directory: &Directory, data: &[u8]) -> Result<()> {
    let mut header = Reader::new(data, "segment header");
    let magic = header.take(8)?;
    let (version, stored_dim, number) = (header.u32()?, header.u32()?, header.u64()?);
    let expected = match directory.group_rows {
        0 => VERSION_1,
        _ => VERSION,
    };
    if magic != MAGIC || version != expected || stored_dim as usize != dim || number != segment.0 {
        return Err(Error::corrupt(
            "segment header: expected this segment's magic, version, dimension and number",
        )
        .with("segment", segment));
    }
    Ok(())
}

/// Where the parts of a blob lie that can be checked each by itself: header, all that is sealed, and from the footer on.
pub(crate) fn parts(directory: &Directory, footer_offset: u64, bytes: u64) -> Vec<Range<u64>> {
    let sealed = directory.sealed();
    let begins = sealed.first().map_or(footer_offset, |first| first.start);
    let (header, end) = (0..begins, footer_offset..bytes);
    std::iter::once(header)
        .chain(sealed)
        .chain(std::iter::once(end))
        .collect()
}

/// Checks one of [`parts`], without a look at what it means.
pub(crate) fn check_part(
    segment: SegmentId,
    dim: usize,
    directory: &Directory,
    (footer_offset, footer_bytes): (u64, u32),
    start: u64,
    bytes: &[u8],
) -> Result<()> {
    if start == 0 {
        return check_header(segment, dim, directory, bytes);
    }
    if start < footer_offset {
        let checked = unseal(bytes, place_seed(segment, start), "segment part");
        return checked.map(drop).map_err(|e| e.with("segment", segment));
    }
    if parse_end(segment, bytes, footer_offset, footer_bytes)? != *directory {
        return Err(Error::corrupt("segment footer: another than before").with("segment", segment));
    }
    Ok(())
}

/// The row numbers of a block, as they lie in the blob.
#[derive(Clone, Copy, Debug)]
pub(crate) enum RowNumbers<'a> {
    /// Added to a first one.
    Near(u64, &'a [[u8; 4]]),
    Far(u64, &'a [[u8; 8]]),
}

impl RowNumbers<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Near(_, n) => n.len(),
            Self::Far(_, n) => n.len(),
        }
    }

    /// The row at a place; `None` beyond the last.
    pub(crate) fn get(&self, place: usize) -> Option<Row> {
        Some(Row(match self {
            Self::Near(first, n) => first + u64::from(u32::from_le_bytes(*n.get(place)?)),
            Self::Far(first, n) => first.checked_add(u64::from_le_bytes(*n.get(place)?))?,
        }))
    }
}

/// Reads row numbers whose seal was checked.
pub(super) fn row_numbers<'a>(
    directory: &Directory,
    block: &Block,
    bytes: &'a [u8],
) -> Result<RowNumbers<'a>> {
    let mut r = Reader::new(bytes, "segment rows");
    let numbers = if directory.group_rows == 0 {
        RowNumbers::Far(0, r.remaining().as_chunks().0)
    } else {
        let (first, width) = (r.u64()?, r.u8()?);
        let rest = r.remaining();
        match width {
            4 if first <= u64::MAX - u64::from(u32::MAX) => {
                RowNumbers::Near(first, rest.as_chunks().0)
            }
            8 => RowNumbers::Far(first, rest.as_chunks().0),
            _ => return Err(r.bad("an unknown width of row numbers")),
        }
    };
    let each = match numbers {
        RowNumbers::Near(..) => 4,
        RowNumbers::Far(..) => 8,
    };
    let head = if directory.group_rows == 0 { 0 } else { 9 };
    if numbers.len() != block.rows as usize || bytes.len() != head + numbers.len() * each {
        return Err(r.bad("wrong length"));
    }
    Ok(numbers)
}

/// The row numbers of a block.
pub(crate) fn parse_rows(
    segment: SegmentId,
    directory: &Directory,
    block: &Block,
    sealed: &[u8],
) -> Result<Vec<Row>> {
    let seed = place_seed(segment, block.rows_range().start);
    let at = |e: Error| e.with("segment", segment);
    let bytes = unseal(sealed, seed, "segment rows").map_err(at)?;
    let numbers = row_numbers(directory, block, bytes).map_err(at)?;
    Ok((0..numbers.len()).filter_map(|i| numbers.get(i)).collect())
}

/// Rows and vectors of a group: the numbers, and `[rows, dim]` appended to `out`.
pub(crate) fn parse_group(
    segment: SegmentId,
    directory: &Directory,
    block: &Block,
    group: &Group,
    sealed: &[u8],
    decoders: &Decoders,
    out: &mut Vec<f32>,
) -> Result<Vec<Row>> {
    let at = |e: Error| e.with("segment", segment);
    let (rows, vectors, seed) = if directory.group_rows == 0 {
        let (rows, vectors) = sealed
            .split_at_checked(block.rows_bytes as usize)
            .ok_or_else(|| at(Error::corrupt("segment block: too short")))?;
        let rows = parse_rows(segment, directory, block, rows)?;
        (rows, vectors, place_seed(segment, block.vectors_offset))
    } else {
        (Vec::new(), sealed, place_seed(segment, group.range.start))
    };
    let mut bytes = unseal(vectors, seed, "segment vectors").map_err(at)?;
    let rows = if directory.group_rows == 0 {
        rows
    } else {
        let (numbers, rest) = bytes
            .split_at_checked(group.rows as usize * 8)
            .ok_or_else(|| at(Error::corrupt("segment vectors: too short")))?;
        bytes = rest;
        let numbers = numbers.as_chunks::<8>().0.iter();
        numbers.map(|b| Row(u64::from_le_bytes(*b))).collect()
    };
    let shape = Shape {
        rows: group.rows as usize,
        dim: decoders.dim(),
    };
    decoders.decode_block(bytes, shape, out).map_err(at)?;
    Ok(rows)
}

/// The ids of a block.
pub(crate) fn parse_keys(segment: SegmentId, block: &Block, sealed: &[u8]) -> Result<Vec<PointId>> {
    let seed = place_seed(segment, block.keys_range().start);
    let bytes = unseal(sealed, seed, "segment keys").map_err(|e| e.with("segment", segment))?;
    let mut r = Reader::new(bytes, "segment keys");
    let mut ids = Vec::new();
    for _ in 0..block.rows {
        let length = r.u16()?;
        ids.push(PointId::decode(r.take(length as usize)?)?);
    }
    r.end()?;
    Ok(ids)
}

/// The payloads of a block, unpacked.
#[derive(Debug)]
pub(crate) struct Payloads(Vec<Option<Bytes>>);

impl Payloads {
    /// The payload of the row at a place of the block.
    pub(crate) fn get(&self, place: usize) -> Option<Bytes> {
        self.0.get(place).cloned().flatten()
    }
}

/// Unpacks the payloads of a block. Payloads are at most `payload_max` each, so a larger claim is refused before anything
/// is allocated.
pub(crate) fn parse_payloads(
    segment: SegmentId,
    block: &Block,
    sealed: &[u8],
    payload_max: u64,
) -> Result<Payloads> {
    let seed = place_seed(segment, block.payloads_range().start);
    let bytes = unseal(sealed, seed, "segment payloads").map_err(|e| e.with("segment", segment))?;
    let mut r = Reader::new(bytes, "segment payloads");
    let length = r.u32()? as usize;
    let packed = r.remaining();
    // LZ4 expands at most 255 times.
    let ceiling = (u64::from(block.rows) * (payload_max.saturating_add(4)))
        .min(packed.len() as u64 * 255 + 64);
    if length as u64 > ceiling {
        return Err(r
            .bad("claims more than it can hold")
            .with("segment", segment));
    }
    let plain = lz4_flex::block::decompress(packed, length).map_err(|e| {
        r.bad("does not unpack")
            .with("segment", segment)
            .with_source(e)
    })?;
    if plain.len() != length {
        return Err(r.bad("unpacks to another length").with("segment", segment));
    }
    let plain = Bytes::from(plain);
    let mut r = Reader::new(&plain, "segment payloads");
    let mut lengths = Vec::new();
    for _ in 0..block.rows {
        lengths.push(r.u32()?);
    }
    let mut at = lengths.len() * 4;
    let mut payloads = Vec::with_capacity(lengths.len());
    for length in lengths {
        if length == NO_PAYLOAD {
            payloads.push(None);
            continue;
        }
        r.take(length as usize)?;
        payloads.push(Some(plain.slice(at..at + length as usize)));
        at += length as usize;
    }
    r.end()?;
    Ok(Payloads(payloads))
}

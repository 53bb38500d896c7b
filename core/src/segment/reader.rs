//! Reads the parts of a segment, trusting nothing.
#![deny(clippy::indexing_slicing)]

use bytes::Bytes;

use super::format::{BLOCK_ENTRY_BYTES, Block, Directory, HEADER_BYTES, NO_PAYLOAD, place_seed};
use crate::codec::Decoders;
use crate::error::{Error, Result};
use crate::id::{PointId, Row, SegmentId};
use crate::seal::unseal;
use crate::vector::Shape;
use crate::wire::Reader;

/// Reads a footer and checks that its blocks lie inside the blob, one after another.
pub(crate) fn parse_footer(
    segment: SegmentId,
    sealed: &[u8],
    footer_offset: u64,
) -> Result<Directory> {
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
    for _ in 0..count {
        let partition = r.u32()?;
        let block_rows = r.u32()?;
        let offset = r.u64()?;
        let lengths = [r.u32()?, r.u32()?, r.u32()?, r.u32()?];
        let block = Block {
            partition,
            rows: block_rows,
            first_ordinal,
            offset,
            lengths,
        };
        let fits = offset == end && block.lengths[0] as usize == block_rows as usize * 8 + 8;
        end = block.range().end;
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
    })
}

/// Checks header and tail of a whole blob.
pub(crate) fn check_frame(
    segment: SegmentId,
    dim: usize,
    data: &[u8],
    footer_offset: u64,
    footer_bytes: u32,
) -> Result<()> {
    use super::format::{MAGIC, TAIL_BYTES, VERSION};
    let bad = |what: &str| Error::corrupt(format!("segment {what}")).with("segment", segment);
    let mut header = Reader::new(data, "segment header");
    let magic = header.take(8)?;
    let (version, stored_dim, number) = (header.u32()?, header.u32()?, header.u64()?);
    if magic != MAGIC || version != VERSION || stored_dim as usize != dim || number != segment.0 {
        return Err(bad(
            "header: expected this segment's magic, version, dimension and number",
        ));
    }
    let tail = data
        .last_chunk::<TAIL_BYTES>()
        .ok_or_else(|| bad("tail: missing"))?;
    let mut tail = Reader::new(unseal(tail, segment.0, "segment tail")?, "segment tail");
    let (offset, bytes) = (tail.u64()?, tail.u32()?);
    let ends = offset + u64::from(bytes) + TAIL_BYTES as u64 == data.len() as u64;
    if offset != footer_offset || bytes != footer_bytes || !ends {
        return Err(bad(
            "tail: does not point at the footer that the manifest names",
        ));
    }
    Ok(())
}

/// The row numbers of a block.
pub(crate) fn parse_rows(segment: SegmentId, block: &Block, sealed: &[u8]) -> Result<Vec<Row>> {
    let seed = place_seed(segment, block.rows_range().start);
    let bytes = unseal(sealed, seed, "segment rows").map_err(|e| e.with("segment", segment))?;
    let (rows, rest) = bytes.as_chunks::<8>();
    if rows.len() != block.rows as usize || !rest.is_empty() {
        return Err(Error::corrupt("segment rows: wrong length").with("segment", segment));
    }
    Ok(rows.iter().map(|b| Row(u64::from_le_bytes(*b))).collect())
}

/// The vectors of a block, appended to `out`: `[rows, dim]`.
pub(crate) fn parse_vectors(
    segment: SegmentId,
    block: &Block,
    sealed: &[u8],
    dim: usize,
    decoders: &Decoders,
    out: &mut Vec<f32>,
) -> Result<()> {
    let seed = place_seed(segment, block.vectors_range().start);
    let at = |e: Error| e.with("segment", segment);
    let bytes = unseal(sealed, seed, "segment vectors").map_err(at)?;
    let shape = Shape {
        rows: block.rows as usize,
        dim,
    };
    decoders
        .decode_block(bytes, shape, out)
        .map(drop)
        .map_err(at)
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

//! Bytes of a snapshot, version 1. All numbers little-endian.
//!
//! ```text
//!          0       1       2       3       4       5       6       7
//!      +-------+-------+-------+-------+-------+-------+-------+-------+
//!    0 | magic "AETHFLAT"                                              |
//!    8 | version u32 = 1               | metric| 0     | 0     | 0     |
//!   16 | dim u32                       | 0                             |
//!   24 | rows u64                                                      |
//!   32 | seal of bytes 0..32, seed 0                                   |
//!   40 | blocks ...                                                    |
//!      +---------------------------------------------------------------+
//! ```
//!
//! | block part | type | meaning |
//! |---|---|---|
//! | count | u32 | rows of this block: as many as fit 64 KiB (at least one), in the last block the rest |
//! | zero | u32 | 0 |
//! | rows | count x u64 | row numbers |
//! | vectors | count x dim x f32 | row-major |
//! | seal | u64 | XXH3-64 of all above in this block, its number (from 1) as seed |
//!
//! metric: 1 L2, 2 inner product, 3 cosine. An index without rows has no block. Reading fails on the first seal that does not fit; what
//! follows the last block is not looked at, so a snapshot may be part of a longer stream.

use std::io::{ErrorKind, Read, Write};

use aether_core::seal::{SEAL_BYTES, seal, unseal};
use aether_core::{Error, Metric, Result, Row};

const MAGIC: &[u8; 8] = b"AETHFLAT";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 32;
const BLOCK_HEAD_BYTES: usize = 8;
const BLOCK_BYTES: usize = 1 << 16;

fn metric_number(metric: Metric) -> u8 {
    match metric {
        Metric::L2 => 1,
        Metric::InnerProduct => 2,
        Metric::Cosine => 3,
    }
}

fn row_bytes(dim: usize) -> usize {
    8 + 4 * dim
}

/// Rows of a full block.
fn block_rows(dim: usize) -> usize {
    (BLOCK_BYTES / row_bytes(dim)).max(1)
}

fn header(metric: Metric, dim: usize, rows: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + SEAL_BYTES);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&[metric_number(metric), 0, 0, 0]);
    bytes.extend_from_slice(&(dim as u32).to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&rows.to_le_bytes());
    seal(&mut bytes, 0, 0);
    bytes
}

/// Writes a snapshot row by row.
pub(crate) struct Writer<'a> {
    out: &'a mut dyn Write,
    dim: usize,
    block: u64,
    left: usize,
    rows: Vec<u64>,
    vectors: Vec<u8>,
    buffer: Vec<u8>,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(
        out: &'a mut dyn Write,
        metric: Metric,
        dim: usize,
        rows: usize,
    ) -> Result<Self> {
        put(out, &header(metric, dim, rows as u64))?;
        Ok(Self {
            out,
            dim,
            block: 0,
            left: rows,
            rows: Vec::new(),
            vectors: Vec::new(),
            buffer: Vec::new(),
        })
    }

    pub(crate) fn push(&mut self, row: u64, vector: &[f32]) -> Result<()> {
        self.rows.push(row);
        for x in vector {
            self.vectors.extend_from_slice(&x.to_le_bytes());
        }
        self.left = self
            .left
            .checked_sub(1)
            .ok_or_else(|| Error::internal("snapshot: more rows than counted"))?;
        if self.rows.len() == block_rows(self.dim) {
            self.flush_block()?;
        }
        Ok(())
    }

    fn flush_block(&mut self) -> Result<()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        self.block += 1;
        self.buffer.clear();
        self.buffer
            .extend_from_slice(&(self.rows.len() as u32).to_le_bytes());
        self.buffer.extend_from_slice(&[0; 4]);
        for row in self.rows.drain(..) {
            self.buffer.extend_from_slice(&row.to_le_bytes());
        }
        self.buffer.append(&mut self.vectors);
        seal(&mut self.buffer, 0, self.block);
        put(self.out, &self.buffer)
    }

    pub(crate) fn finish(mut self) -> Result<()> {
        self.flush_block()?;
        if self.left > 0 {
            return Err(Error::internal("snapshot: fewer rows than counted"));
        }
        self.out.flush().map_err(write_error)
    }
}

fn put(out: &mut dyn Write, bytes: &[u8]) -> Result<()> {
    out.write_all(bytes).map_err(write_error)
}

fn write_error(e: std::io::Error) -> Error {
    Error::unavailable("snapshot: cannot write; make room or choose another folder").with_source(e)
}

fn get(input: &mut dyn Read, bytes: &mut [u8]) -> Result<()> {
    input.read_exact(bytes).map_err(|e| match e.kind() {
        ErrorKind::UnexpectedEof => Error::corrupt("snapshot: it ends too early"),
        _ => Error::unavailable("snapshot: cannot read").with_source(e),
    })
}

/// Reads a snapshot, handing out each block of rows. Holds one block at a time, whatever the bytes claim.
pub(crate) fn read(
    input: &mut dyn Read,
    metric: Metric,
    dim: usize,
    mut take: impl FnMut(&[Row], &[f32]) -> Result<()>,
) -> Result<()> {
    let mut head = [0; HEADER_BYTES + SEAL_BYTES];
    get(input, &mut head)?;
    let mut left = check_header(&head, metric, dim)?;
    let (mut bytes, mut rows, mut vectors) = (Vec::new(), Vec::new(), Vec::new());
    let mut number = 0u64;
    while left > 0 {
        number += 1;
        let expected = left.min(block_rows(dim) as u64) as usize;
        bytes.resize(BLOCK_HEAD_BYTES + expected * row_bytes(dim) + SEAL_BYTES, 0);
        get(input, &mut bytes)?;
        let body = unseal(&bytes, number, "snapshot block").map_err(|e| e.with("block", number))?;
        let head = [(expected as u32).to_le_bytes(), [0; 4]].concat();
        let body = body.strip_prefix(head.as_slice()).ok_or_else(|| {
            Error::corrupt(format!("snapshot block: expected {expected} rows"))
                .with("block", number)
        })?;
        let (row_part, vector_part) = body.split_at(expected * 8);
        rows.clear();
        rows.extend(
            row_part
                .as_chunks()
                .0
                .iter()
                .map(|b| Row(u64::from_le_bytes(*b))),
        );
        vectors.clear();
        vectors.extend(
            vector_part
                .as_chunks()
                .0
                .iter()
                .map(|b| f32::from_le_bytes(*b)),
        );
        take(&rows, &vectors)?;
        left -= expected as u64;
    }
    Ok(())
}

/// The number of rows that a sound header of the right metric and dimension announces.
fn check_header(sealed: &[u8], metric: Metric, dim: usize) -> Result<u64> {
    let bytes = unseal(sealed, 0, "snapshot header")?;
    let rows = bytes.last_chunk().map_or(0, |b| u64::from_le_bytes(*b));
    let expected = header(metric, dim, rows);
    if bytes == &expected[..HEADER_BYTES] {
        return Ok(rows);
    }
    let (magic, rest) = bytes.split_at(8);
    if magic != MAGIC {
        return Err(Error::corrupt(
            "snapshot: expected one of the flat index, got other bytes",
        ));
    }
    let number = |at: usize| {
        rest.get(at..at + 4)
            .and_then(|b| b.first_chunk())
            .map_or(0, |b| u32::from_le_bytes(*b))
    };
    Err(Error::corrupt(format!(
        "snapshot: expected version {VERSION}, metric number {}, dimension {dim}; got version {}, metric number {}, dimension {}",
        metric_number(metric),
        number(0),
        number(4),
        number(8),
    )))
}

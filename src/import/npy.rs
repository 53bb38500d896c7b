//! numpy's `.npy`: magic, version, a Python dictionary as text, then the numbers.
//!
//! The layout is numpy's own: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>. Versions 1.0, 2.0 and
//! 3.0 differ only in the width of the header's length and in its text encoding.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use aether_core::Result;
use flate2::read::MultiGzDecoder;

use super::{Entry, Rows, check_dim, check_finite, damaged, io_error, refused};

/// Longest header that is read. numpy itself refuses headers above 10,000 bytes by default.
const HEADER_BYTES_MAX: u64 = 64 << 10;

/// What the numbers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dtype {
    F16,
    F32,
    U8,
    I32,
    I64,
    U32,
    U64,
}

impl Dtype {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "<f2" => Self::F16,
            "<f4" => Self::F32,
            "|u1" | "<u1" => Self::U8,
            "<i4" => Self::I32,
            "<i8" => Self::I64,
            "<u4" => Self::U32,
            "<u8" => Self::U64,
            _ => return None,
        })
    }

    pub(super) fn bytes(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::F16 => 2,
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::I64 | Self::U64 => 8,
        }
    }
}

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) dtype: Dtype,
    pub(super) rows: u64,
    pub(super) columns: u64,
}

/// An open `.npy` file behind its header.
pub(super) struct Npy {
    pub(super) path: PathBuf,
    pub(super) header: Header,
    input: Box<dyn Read + Send>,
}

impl Npy {
    pub(super) fn open(path: &Path, gzip: bool) -> Result<Self> {
        let file = File::open(path).map_err(|e| io_error(path, "open the file", e))?;
        let length = file
            .metadata()
            .map_err(|e| io_error(path, "read the file's size", e))?
            .len();
        let plain = BufReader::with_capacity(1 << 16, file);
        let mut input: Box<dyn Read + Send> = if gzip {
            Box::new(BufReader::with_capacity(
                1 << 16,
                MultiGzDecoder::new(plain),
            ))
        } else {
            Box::new(plain)
        };
        let (header, header_bytes) = read_header(path, &mut input)?;
        let row_bytes = header.columns.checked_mul(header.dtype.bytes() as u64);
        let data_bytes = row_bytes.and_then(|b| b.checked_mul(header.rows));
        let expected = data_bytes.and_then(|b| b.checked_add(header_bytes));
        if !gzip && expected != Some(length) {
            let expected = expected.map_or_else(
                || "more bytes than a file can have".to_owned(),
                |b| format!("{b} bytes"),
            );
            return Err(damaged(
                path,
                format!(
                    "its header says {} x {} numbers, that is {expected}, but the file has {length}: it was cut short or written \
                     over; write it again",
                    header.rows, header.columns
                ),
            ));
        }
        Ok(Self {
            path: path.to_owned(),
            header,
            input,
        })
    }

    /// Fills `out` with the bytes of row `row`.
    pub(super) fn read_row(&mut self, row: u64, out: &mut [u8]) -> Result<()> {
        self.input.read_exact(out).map_err(|e| {
            if e.kind() == std::io::ErrorKind::UnexpectedEof {
                damaged(
                    &self.path,
                    format!(
                        "it ends in row {row} of {}: it was cut short",
                        self.header.rows
                    ),
                )
            } else {
                io_error(&self.path, "read the file", e)
            }
        })
    }

    /// Makes sure that nothing follows the last row; for gzip this also checks the checksum.
    pub(super) fn read_end(&mut self) -> Result<()> {
        match self.input.read(&mut [0; 1]) {
            Ok(0) => Ok(()),
            Ok(_) => Err(damaged(
                &self.path,
                format!(
                    "bytes follow the {} rows that its header says",
                    self.header.rows
                ),
            )),
            Err(e) => Err(io_error(&self.path, "read the file's end", e)),
        }
    }
}

/// Reads the header; also says how many bytes it took.
fn read_header(path: &Path, input: &mut impl Read) -> Result<(Header, u64)> {
    let short = |e: std::io::Error| {
        if e.kind() == std::io::ErrorKind::UnexpectedEof {
            damaged(
                path,
                "it ends inside the .npy header: the file is empty or was cut short",
            )
        } else {
            io_error(path, "read the .npy header", e)
        }
    };
    let mut start = [0; 8];
    input.read_exact(&mut start).map_err(short)?;
    if start[..6] != *b"\x93NUMPY" {
        return Err(damaged(
            path,
            format!(
                "expected a .npy file beginning with \\x93NUMPY, got bytes {:02x?}",
                &start[..6]
            ),
        ));
    }
    let (length, before) = match start[6] {
        1 => {
            let mut bytes = [0; 2];
            input.read_exact(&mut bytes).map_err(short)?;
            (u64::from(u16::from_le_bytes(bytes)), 10)
        }
        2 | 3 => {
            let mut bytes = [0; 4];
            input.read_exact(&mut bytes).map_err(short)?;
            (u64::from(u32::from_le_bytes(bytes)), 12)
        }
        other => {
            return Err(refused(
                path,
                format!("expected .npy version 1, 2 or 3, got {other}.{}", start[7]),
            ));
        }
    };
    if length > HEADER_BYTES_MAX {
        return Err(damaged(
            path,
            format!("its header claims {length} bytes; at most {HEADER_BYTES_MAX} are read"),
        ));
    }
    let mut text = Vec::new();
    input.take(length).read_to_end(&mut text).map_err(short)?;
    if text.len() as u64 != length {
        return Err(damaged(
            path,
            "it ends inside the .npy header: the file was cut short",
        ));
    }
    let text = String::from_utf8(text).map_err(|_| damaged(path, "its header is not text"))?;
    let header = parse_header(&text).map_err(|message| refused(path, message))?;
    Ok((header, before + length))
}

/// The value behind a key of the header's dictionary, up to the rest of the text.
fn value_of<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let at = ['\'', '"']
        .iter()
        .find_map(|q| text.find(&format!("{q}{key}{q}")))?;
    text[at + key.len() + 2..]
        .trim_start()
        .strip_prefix(':')
        .map(str::trim_start)
}

/// Understands `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }`.
fn parse_header(text: &str) -> Result<Header, String> {
    let descr = value_of(text, "descr").ok_or("its header has no 'descr'")?;
    let quote = descr.chars().next().filter(|c| matches!(c, '\'' | '"'));
    let name = quote
        .and_then(|q| descr[1..].split_once(q))
        .map(|(name, _)| name);
    let name = name
        .ok_or("expected an array of plain numbers, got a structured type; save one field of it")?;
    let dtype = Dtype::of(name).ok_or_else(|| {
        format!(
            "expected little-endian f32 ('<f4'), f16 ('<f2') or u8 ('|u1') numbers, got {name:?}; convert with \
             numpy.save(path, array.astype('<f4'))"
        )
    })?;
    let order = value_of(text, "fortran_order").ok_or("its header has no 'fortran_order'")?;
    if !order.starts_with("False") {
        return Err(
            "expected rows one after another (C order), got columns (Fortran order); convert with \
             numpy.save(path, numpy.ascontiguousarray(array))"
                .to_owned(),
        );
    }
    let shape = value_of(text, "shape").and_then(|s| s.strip_prefix('('));
    let (shape, _) = shape
        .and_then(|s| s.split_once(')'))
        .ok_or("its header has no 'shape'")?;
    let sizes: Option<Vec<u64>> = shape
        .split(',')
        .map(str::trim)
        .filter(|s| !s.is_empty())
        .map(|s| s.parse().ok())
        .collect();
    match sizes.as_deref() {
        Some(&[rows, columns]) => Ok(Header {
            dtype,
            rows,
            columns,
        }),
        _ => Err(format!("expected shape (rows, dimensions), got ({shape})")),
    }
}

/// Vectors of a `.npy` file.
pub(super) struct NpyRows {
    npy: Npy,
    dim: usize,
    row: u64,
    buffer: Vec<u8>,
}

impl NpyRows {
    pub(super) fn open(path: &Path, gzip: bool) -> Result<Self> {
        let npy = Npy::open(path, gzip)?;
        let Header {
            dtype,
            rows,
            columns,
        } = npy.header;
        if rows == 0 {
            return Err(refused(path, "expected at least one row, got none"));
        }
        if !matches!(dtype, Dtype::F16 | Dtype::F32 | Dtype::U8) {
            return Err(refused(
                path,
                format!(
                    "expected vectors of f32, f16 or u8, got {dtype:?}; convert with numpy.save(path, array.astype('<f4'))"
                ),
            ));
        }
        let dim = check_dim(path, columns)?;
        Ok(Self {
            buffer: vec![0; dim * dtype.bytes()],
            npy,
            dim,
            row: 0,
        })
    }
}

impl Rows for NpyRows {
    fn dim(&self) -> usize {
        self.dim
    }

    fn count(&self) -> Option<u64> {
        Some(self.npy.header.rows)
    }

    fn next_row(&mut self) -> Result<Option<Entry>> {
        if self.row == self.npy.header.rows {
            self.npy.read_end()?;
            return Ok(None);
        }
        self.npy.read_row(self.row, &mut self.buffer)?;
        let vector: Vec<f32> = match self.npy.header.dtype {
            Dtype::U8 => self.buffer.iter().map(|b| f32::from(*b)).collect(),
            Dtype::F16 => {
                let pairs = self.buffer.as_chunks::<2>().0.iter();
                pairs
                    .map(|b| half::f16::from_le_bytes(*b).to_f32())
                    .collect()
            }
            _ => self
                .buffer
                .as_chunks::<4>()
                .0
                .iter()
                .map(|b| f32::from_le_bytes(*b))
                .collect(),
        };
        check_finite(&self.npy.path, format_args!("row {}", self.row), &vector)?;
        self.row += 1;
        Ok(Some(Entry::of(vector)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_as_numpy_writes_them() {
        for text in [
            "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }   \n",
            "{\"shape\": (3,4), \"fortran_order\": False, \"descr\": \"<f4\"}",
        ] {
            let header = Header {
                dtype: Dtype::F32,
                rows: 3,
                columns: 4,
            };
            assert_eq!(parse_header(text), Ok(header));
        }
    }

    #[test]
    fn headers_that_cannot_be_used_say_how_to_convert() {
        for (text, words) in [
            (
                "{'descr': '>f4', 'fortran_order': False, 'shape': (3, 4), }",
                "astype('<f4')",
            ),
            (
                "{'descr': '<f8', 'fortran_order': False, 'shape': (3, 4), }",
                "got \"<f8\"",
            ),
            (
                "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (3,), }",
                "structured",
            ),
            (
                "{'descr': '<f4', 'fortran_order': True, 'shape': (3, 4), }",
                "ascontiguousarray",
            ),
            (
                "{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }",
                "got (3,)",
            ),
            (
                "{'descr': '<f4', 'fortran_order': False, 'shape': (-3, 4), }",
                "got (-3, 4)",
            ),
            ("{'descr': '<f4', 'fortran_order': False, }", "no 'shape'"),
            ("", "no 'descr'"),
        ] {
            let message = parse_header(text).unwrap_err();
            assert!(message.contains(words), "{text}: {message}");
        }
    }
}

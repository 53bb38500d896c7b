//! `.fvecs`, `.bvecs` and `.ivecs`: every row is its length as a little-endian i32, then so many numbers.
//!
//! The format of the TEXMEX sets: <http://corpus-texmex.irisa.fr/>.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use aether_core::Result;

use super::{Entry, Rows, check_dim, check_finite, damaged, io_error, refused};

/// What the numbers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Element {
    F32,
    U8,
    I32,
}

impl Element {
    fn bytes(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::F32 | Self::I32 => 4,
        }
    }
}

/// An open file of rows of one length.
pub(super) struct Vecs {
    pub(super) path: PathBuf,
    pub(super) rows: u64,
    pub(super) dim: usize,
    row: u64,
    input: BufReader<File>,
    first: Option<[u8; 4]>,
}

impl Vecs {
    pub(super) fn open(path: &Path, element: Element) -> Result<Self> {
        let file = File::open(path).map_err(|e| io_error(path, "open the file", e))?;
        let length = file
            .metadata()
            .map_err(|e| io_error(path, "read the file's size", e))?
            .len();
        let mut input = BufReader::with_capacity(1 << 16, file);
        if length == 0 {
            return Err(refused(
                path,
                "expected at least one row, got an empty file",
            ));
        }
        let mut first = [0; 4];
        input
            .read_exact(&mut first)
            .map_err(|e| io_error(path, "read the first row's length", e))?;
        let claimed = i32::from_le_bytes(first);
        let claimed = u64::try_from(claimed).map_err(|_| {
            damaged(
                path,
                format!("row 0: expected a positive length, got {claimed}"),
            )
        })?;
        let dim = check_dim(path, claimed)?;
        let row_bytes = 4 + (dim * element.bytes()) as u64;
        if !length.is_multiple_of(row_bytes) {
            return Err(damaged(
                path,
                format!(
                    "expected a whole number of rows of {row_bytes} bytes ({dim} numbers each, as the first says), got {length} \
                     bytes: it was cut short, or is another kind of file"
                ),
            ));
        }
        Ok(Self {
            path: path.to_owned(),
            rows: length / row_bytes,
            dim,
            row: 0,
            input,
            first: Some(first),
        })
    }

    /// Fills `out`, which has the row's size; `false` at the end.
    pub(super) fn next_row(&mut self, out: &mut [u8]) -> Result<bool> {
        if self.row == self.rows {
            return Ok(false);
        }
        let read = |e| io_error(&self.path, "read the file", e);
        let mut length = [0; 4];
        match self.first.take() {
            Some(first) => length = first,
            None => self.input.read_exact(&mut length).map_err(read)?,
        }
        let claimed = i32::from_le_bytes(length);
        if usize::try_from(claimed).ok() != Some(self.dim) {
            return Err(damaged(
                &self.path,
                format!(
                    "row {}: expected length {} as in row 0, got {claimed}",
                    self.row, self.dim
                ),
            ));
        }
        self.input.read_exact(out).map_err(read)?;
        self.row += 1;
        Ok(true)
    }
}

/// Vectors of an `.fvecs` or `.bvecs` file.
pub(super) struct VecsRows {
    vecs: Vecs,
    element: Element,
    buffer: Vec<u8>,
}

impl VecsRows {
    pub(super) fn open(path: &Path, element: Element) -> Result<Self> {
        let vecs = Vecs::open(path, element)?;
        Ok(Self {
            buffer: vec![0; vecs.dim * element.bytes()],
            vecs,
            element,
        })
    }
}

impl Rows for VecsRows {
    fn dim(&self) -> usize {
        self.vecs.dim
    }

    fn count(&self) -> Option<u64> {
        Some(self.vecs.rows)
    }

    fn next_row(&mut self) -> Result<Option<Entry>> {
        let row = self.vecs.row;
        if !self.vecs.next_row(&mut self.buffer)? {
            return Ok(None);
        }
        let vector: Vec<f32> = match self.element {
            Element::U8 => self.buffer.iter().map(|b| f32::from(*b)).collect(),
            Element::F32 | Element::I32 => self
                .buffer
                .as_chunks::<4>()
                .0
                .iter()
                .map(|b| f32::from_le_bytes(*b))
                .collect(),
        };
        check_finite(&self.vecs.path, format_args!("row {row}"), &vector)?;
        Ok(Some(Entry::of(vector)))
    }
}

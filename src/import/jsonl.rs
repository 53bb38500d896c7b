//! JSON lines: one object a line.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use aether_core::Result;
use serde::Deserialize;
use serde_json::Value;

use super::{
    Entry, LINE_BYTES_MAX, Rows, check_dim, check_finite, damaged, id_from_json, io_error, refused,
};

/// The lines of a file, counted, and never longer than [`LINE_BYTES_MAX`].
pub(super) struct Lines {
    pub(super) path: PathBuf,
    /// One-based number of the line read last.
    pub(super) number: u64,
    input: BufReader<File>,
    buffer: Vec<u8>,
}

impl Lines {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|e| io_error(path, "open the file", e))?;
        Ok(Self {
            path: path.to_owned(),
            number: 0,
            input: BufReader::with_capacity(1 << 16, file),
            buffer: Vec::new(),
        })
    }

    /// The next line that is not blank, without its end; `None` at the end of the file.
    pub(super) fn next_line(&mut self) -> Result<Option<&str>> {
        loop {
            self.buffer.clear();
            let mut limited = Read::take(&mut self.input, LINE_BYTES_MAX + 1);
            let read = limited.read_until(b'\n', &mut self.buffer);
            let read = read.map_err(|e| io_error(&self.path, "read the file", e))?;
            if read == 0 {
                return Ok(None);
            }
            self.number += 1;
            if read as u64 > LINE_BYTES_MAX {
                let message = format!("line {}: longer than {LINE_BYTES_MAX} bytes", self.number);
                return Err(refused(&self.path, message));
            }
            if !self.buffer.trim_ascii().is_empty() {
                break;
            }
        }
        match std::str::from_utf8(self.buffer.trim_ascii()) {
            Ok(text) => Ok(Some(text)),
            Err(e) => {
                Err(damaged(&self.path, format!("line {}: not UTF-8", self.number)).with_source(e))
            }
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    id: Option<Value>,
    vector: Vec<f32>,
    payload: Option<Value>,
}

/// Points of a `.jsonl` file.
pub(super) struct JsonlRows {
    lines: Lines,
    dim: usize,
    /// The first row, read to learn the dimension.
    first: Option<Entry>,
}

impl JsonlRows {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let mut rows = Self {
            lines: Lines::open(path)?,
            dim: 0,
            first: None,
        };
        let first = rows.read()?;
        let first =
            first.ok_or_else(|| refused(path, "expected at least one line, got an empty file"))?;
        rows.dim = check_dim(path, first.vector.len() as u64)?;
        rows.first = Some(first);
        Ok(rows)
    }

    fn read(&mut self) -> Result<Option<Entry>> {
        let parsed = match self.lines.next_line()? {
            None => return Ok(None),
            Some(text) => serde_json::from_str::<Line>(text),
        };
        let (path, number) = (&self.lines.path, self.lines.number);
        let line = parsed.map_err(|e| {
            refused(path, format!("line {number}: expected {{\"id\": …, \"vector\": [numbers], \"payload\": …}}: {e}"))
        })?;
        let id = line.id.as_ref().map(id_from_json).transpose();
        let id = id.map_err(|e| e.prefixed(format_args!("{}: line {number}", path.display())))?;
        if self.dim != 0 && line.vector.len() != self.dim {
            return Err(refused(
                path,
                format!(
                    "line {number}: expected {} dimensions as in the first line, got {}",
                    self.dim,
                    line.vector.len()
                ),
            ));
        }
        check_finite(path, format_args!("line {number}"), &line.vector)?;
        Ok(Some(Entry {
            id,
            vector: line.vector,
            payload: line.payload,
        }))
    }
}

impl Rows for JsonlRows {
    fn dim(&self) -> usize {
        self.dim
    }

    fn count(&self) -> Option<u64> {
        None
    }

    fn next_row(&mut self) -> Result<Option<Entry>> {
        match self.first.take() {
            Some(first) => Ok(Some(first)),
            None => self.read(),
        }
    }
}

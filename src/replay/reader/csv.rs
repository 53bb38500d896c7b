//! Comma-separated requests.

use std::fmt;
use std::io::{BufRead, Read};
use std::path::Path;

use aether_core::Result;

use super::{IMPORTANCE_MAX, Request, Source, refused, unreadable};

/// Longest line: five numbers of twenty digits are a hundred bytes.
const LINE_MAX: u64 = 4096;

const COLUMNS: [&str; 5] = ["time", "key", "size", "op", "importance"];
const TIME: usize = 0;
const KEY: usize = 1;
const SIZE: usize = 2;
const OP: usize = 3;
const IMPORTANCE: usize = 4;

pub(super) struct Csv {
    source: Source,
    /// Which of [`COLUMNS`] each field of a line is.
    fields: Vec<usize>,
    line: Vec<u8>,
    number: u64,
}

impl fmt::Debug for Csv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Csv")
            .field("fields", &self.fields)
            .field("line", &self.number)
            .finish_non_exhaustive()
    }
}

impl Csv {
    pub(super) fn new(path: &Path, source: Source) -> Result<Self> {
        let mut csv = Self {
            source,
            fields: Vec::new(),
            line: Vec::new(),
            number: 0,
        };
        let expected = "expected a header such as `time,key,size,op`";
        if !csv.read_line(path)? {
            return Err(refused(
                path,
                ":1".to_owned(),
                format_args!("{expected}, got an empty file"),
            ));
        }
        let header = String::from_utf8_lossy(&csv.line).into_owned();
        for name in header.split(',').map(str::trim) {
            let known = COLUMNS.iter().position(|c| *c == name);
            match known {
                Some(c) if !csv.fields.contains(&c) => csv.fields.push(c),
                _ => {
                    let what = if known.is_some() { "twice" } else { "unknown" };
                    return Err(refused(
                        path,
                        csv.place(),
                        format_args!(
                            "column {name:?} is {what}: {expected}, of the columns {}",
                            COLUMNS.join(", ")
                        ),
                    ));
                }
            }
        }
        for needed in [TIME, KEY] {
            if !csv.fields.contains(&needed) {
                return Err(refused(
                    path,
                    csv.place(),
                    format_args!("{expected}, got no column {:?}", COLUMNS[needed]),
                ));
            }
        }
        Ok(csv)
    }

    pub(super) fn place(&self) -> String {
        format!(":{}", self.number)
    }

    /// Reads a line without its end; `false` at the end of the file.
    fn read_line(&mut self, path: &Path) -> Result<bool> {
        self.line.clear();
        self.number += 1;
        let read = Read::by_ref(&mut self.source)
            .take(LINE_MAX)
            .read_until(b'\n', &mut self.line)
            .map_err(|e| unreadable(path, e))?;
        if self.line.last() == Some(&b'\n') {
            self.line.pop();
        } else if read as u64 == LINE_MAX {
            return Err(refused(
                path,
                self.place(),
                format_args!("expected a line of at most {LINE_MAX} bytes"),
            ));
        }
        if self.line.last() == Some(&b'\r') {
            self.line.pop();
        }
        Ok(read > 0)
    }

    pub(super) fn next(&mut self, path: &Path) -> Result<Option<Request>> {
        // Blank lines carry nothing; one often ends a file.
        loop {
            if !self.read_line(path)? {
                return Ok(None);
            }
            if !self.line.is_empty() {
                break;
            }
        }
        let mut values = [0, 0, 1, 0, 0_u64];
        let mut count = 0;
        for text in self.line.split(|b| *b == b',') {
            let Some(column) = self.fields.get(count) else {
                count += 1;
                continue;
            };
            count += 1;
            values[*column] = number(text).ok_or_else(|| {
                refused(
                    path,
                    self.place(),
                    format_args!(
                        "column {:?}: expected an unsigned integer below 2^64, got {:?}",
                        COLUMNS[*column],
                        String::from_utf8_lossy(text)
                    ),
                )
            })?;
        }
        let wrong = |what: String| refused(path, self.place(), what);
        if count != self.fields.len() {
            let expected = self.fields.len();
            return Err(wrong(format!("expected {expected} fields, got {count}")));
        }
        let size = u32::try_from(values[SIZE]).unwrap_or(0);
        if size == 0 {
            return Err(wrong(format!(
                "column \"size\": expected 1 to {} bytes, got {}",
                u32::MAX,
                values[SIZE]
            )));
        }
        if values[OP] > 1 {
            return Err(wrong(format!(
                "column \"op\": expected 0 (read) or 1 (write), got {}",
                values[OP]
            )));
        }
        if values[IMPORTANCE] > u64::from(IMPORTANCE_MAX) {
            return Err(wrong(format!(
                "column \"importance\": expected 0 to {IMPORTANCE_MAX}, got {}",
                values[IMPORTANCE]
            )));
        }
        let judged = self.fields.contains(&IMPORTANCE);
        Ok(Some(Request {
            time: values[TIME],
            key: values[KEY],
            size,
            write: values[OP] == 1,
            importance: judged.then_some(values[IMPORTANCE] as u8),
        }))
    }
}

/// An unsigned integer in decimal digits.
fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |n, byte| {
        let digit = byte.wrapping_sub(b'0');
        (digit < 10)
            .then(|| n.checked_mul(10)?.checked_add(u64::from(digit)))
            .flatten()
    })
}

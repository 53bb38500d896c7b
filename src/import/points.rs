//! Rows become points: ids and payloads from wherever they are kept.

use std::path::{Path, PathBuf};

use aether_core::{PointId, Result};
use serde_json::Value;

use super::jsonl::Lines;
use super::{Entry, Options, Rows, id_from_json, open_rows, parse_id, refused};
use crate::Point;

/// The points of a file, one after another. An iterator; after an error it ends.
///
/// A point's id is, in this order: the file's own, the field `id` of its payload in [`Options::payloads`], its line of
/// [`Options::ids`], or its row number from 0.
pub struct Import {
    path: PathBuf,
    rows: Box<dyn Rows>,
    ids: Option<Lines>,
    payloads: Option<Lines>,
    prefix: Option<String>,
    limit: u64,
    row: u64,
    failed: bool,
}

impl std::fmt::Debug for Import {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Import")
            .field("path", &self.path)
            .field("row", &self.row)
            .finish_non_exhaustive()
    }
}

impl Import {
    /// Opens a file, and its side files, and reads as much as tells its dimension.
    ///
    /// # Errors
    /// `InvalidInput` for a file that is missing, empty or of another kind; `Corrupt` for one whose bytes contradict themselves.
    pub fn open(path: impl AsRef<Path>, options: &Options) -> Result<Self> {
        let path = path.as_ref();
        Ok(Self {
            path: path.to_owned(),
            rows: open_rows(path, options)?,
            ids: options.ids.as_deref().map(Lines::open).transpose()?,
            payloads: options.payloads.as_deref().map(Lines::open).transpose()?,
            prefix: options.id_prefix.clone(),
            limit: options.limit.unwrap_or(u64::MAX),
            row: 0,
            failed: false,
        })
    }

    /// Dimension of every vector.
    pub fn dim(&self) -> usize {
        self.rows.dim()
    }

    /// How many points there will be, where the file tells it beforehand.
    pub fn rows(&self) -> Option<u64> {
        self.rows.count().map(|n| n.min(self.limit))
    }

    /// Up to `rows` further points, fewer only at the end; empty at the end.
    ///
    /// # Errors
    /// As [`Import::open`], naming the row or line.
    pub fn batch(&mut self, rows: usize) -> Result<Vec<Point>> {
        self.by_ref().take(rows).collect()
    }

    fn next_point(&mut self) -> Result<Option<Point>> {
        if self.row == self.limit {
            return Ok(None);
        }
        let Some(Entry {
            mut id,
            vector,
            mut payload,
        }) = self.rows.next_row()?
        else {
            for (lines, what) in [(&mut self.ids, "ids"), (&mut self.payloads, "payloads")] {
                if let Some(lines) = lines
                    && lines.next_line()?.is_some()
                {
                    let message = format!(
                        "more {what} than the {} rows of {}",
                        self.row,
                        self.path.display()
                    );
                    return Err(refused(&lines.path, message));
                }
            }
            return Ok(None);
        };
        if let Some(lines) = &mut self.payloads {
            let (own, value) = next_payload(lines, self.row)?;
            id = id.or(own);
            payload = payload.or(value);
        }
        if let Some(lines) = &mut self.ids {
            let parsed = match lines.next_line()? {
                Some(text) => parse_id(text),
                None => {
                    return Err(refused(
                        &lines.path,
                        format!("expected an id for row {}, got the file's end", self.row),
                    ));
                }
            };
            let line = parsed.map_err(|e| {
                e.prefixed(format_args!(
                    "{}: line {}",
                    lines.path.display(),
                    lines.number
                ))
            })?;
            id = id.or(Some(line));
        }
        let mut id = id.unwrap_or(PointId::Int(self.row));
        if let Some(prefix) = &self.prefix {
            id = PointId::from(format!("{prefix}{id}"));
            id.validate().map_err(|e| {
                e.prefixed(format_args!("{}: row {}", self.path.display(), self.row))
            })?;
        }
        self.row += 1;
        Ok(Some(Point {
            payload,
            ..Point::new(id, vector)
        }))
    }
}

/// One line of a payload file: its `id`, and the rest.
fn next_payload(lines: &mut Lines, row: u64) -> Result<(Option<PointId>, Option<Value>)> {
    let parsed = match lines.next_line()? {
        Some(text) => serde_json::from_str::<Value>(text),
        None => {
            return Err(refused(
                &lines.path,
                format!("expected a payload for row {row}, got the file's end"),
            ));
        }
    };
    let number = lines.number;
    let mut value =
        parsed.map_err(|e| refused(&lines.path, format!("line {number}: expected JSON: {e}")))?;
    let id = value.as_object_mut().and_then(|o| o.remove("id"));
    let id = id.map(|v| id_from_json(&v)).transpose();
    let id = id.map_err(|e| e.prefixed(format_args!("{}: line {number}", lines.path.display())))?;
    Ok((id, Some(value)))
}

impl Iterator for Import {
    type Item = Result<Point>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.next_point().transpose();
        self.failed = !matches!(next, Some(Ok(_)));
        next
    }
}

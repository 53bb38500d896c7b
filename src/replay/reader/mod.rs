//! Readers of access traces, one request at a time: a file of any length is read in a few buffers.
//!
//! | format | name | a request |
//! |---|---|---|
//! | CSV | `NAME.csv` | a line; the header names the columns `time`, `key` and, if there are, `size`, `op`, `importance` |
//! | oracleGeneral | `NAME.oracleGeneral`, `NAME.bin` | 24 bytes, little-endian: `u32` time, `u64` key, `u32` size, `i64` next use |
//! | recording | any: its first bytes tell | what a memory with `[record] path` wrote; its time is in microseconds |
//!
//! The first two may be compressed by zstd, with a window of up to 128 MiB; its first bytes tell. A file is never believed: errors name the
//! file and the line or record.
//!
//! **Rules.** Time never runs backwards; equal times are a burst. In CSV a size of 0 is an error; in oracleGeneral a request of size 0
//! is left out, as libCacheSim does, and counted. The next use that oracleGeneral stores is not read: it belongs to the whole file, and
//! the laboratory finds it anew for the part that is replayed.

mod csv;
mod oracle;

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use aether_core::engine::Recording;
use aether_core::{Error, Result};

use csv::Csv;
use oracle::Oracle;

/// First bytes of a zstd frame.
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Largest window of a frame, as a power of two: what `zstd -d` itself allows.
const WINDOW_LOG_MAX: u32 = 27;
/// Bytes read at once.
const BUFFER: usize = 1 << 18;
/// Highest `importance`: the best feedback.
pub const IMPORTANCE_MAX: u8 = 10;

/// How a trace is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TraceFormat {
    /// Comma-separated, with a header.
    Csv,
    /// Binary records of libCacheSim.
    OracleGeneral,
    /// What a memory recorded.
    Recording,
}

impl FromStr for TraceFormat {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "csv" => Ok(Self::Csv),
            "oracle-general" => Ok(Self::OracleGeneral),
            "recording" => Ok(Self::Recording),
            _ => Err("expected csv, oracle-general or recording".to_owned()),
        }
    }
}

impl TraceFormat {
    /// The format that a file's name tells.
    ///
    /// # Errors
    /// `InvalidInput` for a name that tells none.
    pub fn of(path: &Path) -> Result<Self> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name = name.to_lowercase();
        let plain = name.strip_suffix(".zst").unwrap_or(&name);
        if plain.ends_with(".csv") {
            Ok(Self::Csv)
        } else if plain.contains(".oraclegeneral") || plain.ends_with(".bin") {
            Ok(Self::OracleGeneral)
        } else {
            Err(Error::invalid_input(format!(
                "{}: expected a name like NAME.csv, NAME.csv.zst, NAME.oracleGeneral or NAME.oracleGeneral.zst; or say which it \
                 is with --format",
                path.display()
            )))
        }
    }
}

/// One request of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// The trace's own clock, in its own unit.
    pub time: u64,
    /// The object.
    pub key: u64,
    /// Its size in bytes, at least 1.
    pub size: u32,
    /// Whether it is written.
    pub write: bool,
    /// Feedback given with the access, 0 to [`IMPORTANCE_MAX`].
    pub importance: Option<u8>,
}

type Source = Box<dyn BufRead + Send>;

#[derive(Debug)]
enum Kind {
    Csv(Csv),
    Oracle(Oracle),
    Recording { recording: Recording, number: u64 },
}

/// Reads the requests of a trace in order.
#[derive(Debug)]
pub struct TraceReader {
    kind: Kind,
    path: PathBuf,
    time: u64,
    /// Requests of size 0 that were left out.
    skipped: u64,
}

impl TraceReader {
    /// Opens a trace; the name tells the format if none is given.
    ///
    /// # Errors
    /// `InvalidInput` for a file that is none of the formats; `Unavailable` when it cannot be read.
    pub fn open(path: &Path, format: Option<TraceFormat>) -> Result<Self> {
        let format = match format {
            Some(format) => format,
            None if begins(path)?.is_some_and(|b| Recording::is_one(&b)) => TraceFormat::Recording,
            None => TraceFormat::of(path)?,
        };
        let kind = match format {
            TraceFormat::Csv => Kind::Csv(Csv::new(path, source(path)?)?),
            TraceFormat::OracleGeneral => Kind::Oracle(Oracle::new(source(path)?)),
            TraceFormat::Recording => Kind::Recording {
                recording: Recording::open(path)?,
                number: 0,
            },
        };
        Ok(Self {
            kind,
            path: path.to_owned(),
            time: 0,
            skipped: 0,
        })
    }

    /// The next request; `None` at the end.
    ///
    /// # Errors
    /// `InvalidInput` for a malformed request or one before its predecessor in time; `Unavailable` when reading fails.
    pub fn read(&mut self) -> Result<Option<Request>> {
        loop {
            let request = match &mut self.kind {
                Kind::Csv(csv) => csv.next(&self.path)?,
                Kind::Oracle(oracle) => oracle.next(&self.path)?,
                Kind::Recording { recording, number } => {
                    *number += 1;
                    recording.read()?.map(|r| Request {
                        time: r.time,
                        key: r.key,
                        size: r.size,
                        write: r.write,
                        importance: r.importance.map(|i| i.min(IMPORTANCE_MAX)),
                    })
                }
            };
            let Some(request) = request else {
                return Ok(None);
            };
            if request.time < self.time {
                return Err(self.refused(format_args!(
                    "time runs backwards, {} after {}: sort the requests by time",
                    request.time, self.time
                )));
            }
            self.time = request.time;
            if request.size > 0 {
                return Ok(Some(request));
            }
            self.skipped += 1;
        }
    }

    /// Microseconds of one unit of its clock, where the format says so.
    pub fn unit_us(&self) -> Option<u64> {
        matches!(self.kind, Kind::Recording { .. }).then_some(1)
    }

    /// Requests of size 0 that were left out so far.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    fn refused(&self, what: impl std::fmt::Display) -> Error {
        let place = match &self.kind {
            Kind::Csv(csv) => csv.place(),
            Kind::Oracle(oracle) => oracle.place(),
            Kind::Recording { number, .. } => format!(", record {number}"),
        };
        refused(&self.path, place, what)
    }
}

impl Iterator for TraceReader {
    type Item = Result<Request>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

/// A file's first bytes; `None` if there are fewer.
fn begins(path: &Path) -> Result<Option<[u8; 8]>> {
    let mut first = [0; 8];
    let mut file = File::open(path).map_err(|e| unreadable(path, e))?;
    match file.read_exact(&mut first) {
        Ok(()) => Ok(Some(first)),
        Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => Ok(None),
        Err(e) => Err(unreadable(path, e)),
    }
}

/// The file's bytes, decompressed if they are compressed.
fn source(path: &Path) -> Result<Source> {
    let unreadable = |e| unreadable(path, e);
    let mut file = File::open(path).map_err(unreadable)?;
    let mut magic = Vec::new();
    Read::by_ref(&mut file)
        .take(4)
        .read_to_end(&mut magic)
        .map_err(unreadable)?;
    file.rewind().map_err(unreadable)?;
    if magic != ZSTD_MAGIC {
        return Ok(Box::new(BufReader::with_capacity(BUFFER, file)));
    }
    let mut decoder = zstd::stream::read::Decoder::new(file).map_err(unreadable)?;
    decoder.window_log_max(WINDOW_LOG_MAX).map_err(unreadable)?;
    Ok(Box::new(BufReader::with_capacity(BUFFER, decoder)))
}

fn unreadable(path: &Path, error: std::io::Error) -> Error {
    Error::unavailable(format!("cannot read trace {}", path.display())).with_source(error)
}

/// `place` is a line (CSV) or a record (binary), as `:17` or `, record 17`.
fn refused(path: &Path, place: String, what: impl std::fmt::Display) -> Error {
    Error::invalid_input(format!("{}{place}: {what}", path.display()))
}

#[cfg(test)]
mod tests;

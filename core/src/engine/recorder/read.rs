//! Reads a recording from its oldest access to its newest.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::format::{HEADER, Header, Layout, RECORD, Recorded};
use crate::error::{Error, Result};

/// Reads the accesses of a recording in order, a buffer at a time.
#[derive(Debug)]
pub struct Recording {
    file: BufReader<File>,
    path: PathBuf,
    header: Header,
    /// Number of the last record; 0 without any.
    pub(super) last: u64,
    /// Places that are still to be read.
    left: u64,
    place: u64,
    number: u64,
}

impl Recording {
    /// Whether a file begins as a recording does.
    pub fn is_one(first_bytes: &[u8]) -> bool {
        Layout::of(first_bytes).is_some()
    }

    /// Opens a recording and finds where its ring begins, which reads it once.
    ///
    /// # Errors
    /// `Unavailable` when it cannot be read, `Corrupt` when its header is none.
    pub fn open(path: &Path) -> Result<Self> {
        let failed = |e| failed(path, e);
        let mut file = BufReader::with_capacity(1 << 18, File::open(path).map_err(failed)?);
        let mut header = Vec::new();
        Read::by_ref(&mut file)
            .take(HEADER as u64)
            .read_to_end(&mut header)
            .map_err(failed)?;
        let header = Header::decode(&header).map_err(|e| {
            Error::corrupt(format!("{}: {}", path.display(), e.message())).with_source(e)
        })?;
        let mut recording = Self {
            file,
            path: path.to_owned(),
            header,
            last: 0,
            left: 0,
            place: 0,
            number: 0,
        };
        let mut places = 0;
        while let Some(bytes) = recording.take()? {
            places += 1;
            if let Some((number, _)) = header.layout.decode(&bytes) {
                recording.last = recording.last.max(number);
            }
        }
        recording.left = places.min(header.places);
        // Behind the newest comes the oldest, once the ring is full.
        recording.place = match recording.last < header.places {
            true => 0,
            false => recording.last % header.places,
        };
        recording.seek()?;
        Ok(recording)
    }

    /// What it was recorded with.
    pub(super) fn header(&self) -> Header {
        self.header
    }

    /// Share of the ids that were recorded.
    pub fn sample(&self) -> f64 {
        self.header.sample
    }

    fn seek(&mut self) -> Result<()> {
        let offset = HEADER as u64 + self.place * RECORD as u64;
        let sought = self.file.seek(SeekFrom::Start(offset));
        sought.map(|_| ()).map_err(|e| failed(&self.path, e))
    }

    /// The next place's bytes; `None` at the end of the file, where a cut record counts as none.
    fn take(&mut self) -> Result<Option<[u8; RECORD]>> {
        let mut bytes = [0; RECORD];
        match self.file.read_exact(&mut bytes) {
            Ok(()) => Ok(Some(bytes)),
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => Ok(None),
            Err(e) => Err(failed(&self.path, e)),
        }
    }

    /// The next access; `None` at the end.
    ///
    /// # Errors
    /// `Unavailable` when the file cannot be read.
    pub fn read(&mut self) -> Result<Option<Recorded>> {
        while self.left > 0 {
            self.left -= 1;
            let bytes = self.take()?;
            self.place += 1;
            if bytes.is_none() || self.place == self.header.places {
                self.place = 0;
                self.seek()?;
            }
            // A place that an older round left, or that a crash cut, has no part in the order.
            if let Some((number, recorded)) = bytes.and_then(|b| self.header.layout.decode(&b))
                && number > self.number
            {
                self.number = number;
                return Ok(Some(recorded));
            }
        }
        Ok(None)
    }
}

pub(super) fn failed(path: &Path, error: std::io::Error) -> Error {
    Error::unavailable(format!("recording {}", path.display())).with_source(error)
}

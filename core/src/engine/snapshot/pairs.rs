//! The tables of a snapshot as one stream of pairs in sealed frames: `meta.aether`, whose bytes the parent's head describes.

use std::io::{ErrorKind, Read, Write};

use bytes::Bytes;

use crate::error::{Error, Result};
use crate::role::Table;
use crate::seal::checksum;
use crate::wire::Reader;

const MAGIC: &[u8; 8] = b"AETHSNP\x01";
const FRAME_BYTES: usize = 1 << 20;
const END: u8 = 0xff;

/// Writes pairs.
pub(super) struct PairWriter<W: Write> {
    frames: FrameWriter<W>,
    pairs: u64,
}

impl<W: Write> PairWriter<W> {
    pub(super) fn begin(mut out: W) -> std::io::Result<Self> {
        out.write_all(MAGIC)?;
        let frames = FrameWriter {
            out,
            frame: Vec::new(),
            number: 0,
        };
        Ok(Self { frames, pairs: 0 })
    }

    pub(super) fn push(&mut self, table: Table, key: &[u8], value: &[u8]) -> std::io::Result<()> {
        let number = Table::ALL.iter().position(|t| *t == table);
        let mut pair = vec![number.unwrap_or_default() as u8];
        pair.extend_from_slice(&(key.len() as u16).to_le_bytes());
        pair.extend_from_slice(&(value.len() as u32).to_le_bytes());
        pair.extend_from_slice(key);
        pair.extend_from_slice(value);
        self.pairs += 1;
        self.frames.push(&pair)
    }

    /// Ends the stream; what it was written to, and how many pairs.
    pub(super) fn end(mut self) -> std::io::Result<(W, u64)> {
        self.frames.push(&[END])?;
        self.frames.push(&self.pairs.to_le_bytes())?;
        self.frames.flush()?;
        Ok((self.frames.out, self.pairs))
    }
}

/// Reads pairs, one frame in memory at a time.
pub(super) struct PairReader<R: Read> {
    frames: FrameReader<R>,
    head: Vec<u8>,
    buffer: Vec<u8>,
    pairs: u64,
}

impl<R: Read> PairReader<R> {
    /// # Errors
    /// `Corrupt` for another file.
    pub(super) fn begin(mut input: R) -> Result<Self> {
        let mut magic = [0; 8];
        input.read_exact(&mut magic).map_err(failed)?;
        if &magic != MAGIC {
            return Err(Error::corrupt(
                "snapshot: expected the tables of a snapshot of this version, got another file",
            ));
        }
        let frames = FrameReader {
            input,
            frame: Vec::new(),
            at: 0,
            number: 0,
        };
        Ok(Self {
            frames,
            head: Vec::new(),
            buffer: Vec::new(),
            pairs: 0,
        })
    }

    /// The next pair; `None` at the end, where all are there.
    ///
    /// # Errors
    /// `Corrupt` for damage, `Unavailable` when the file cannot be read.
    pub(super) fn read(&mut self) -> Result<Option<(Table, Bytes, Bytes)>> {
        let Self {
            frames,
            head,
            buffer,
            pairs,
        } = self;
        frames.take(1, head)?;
        let number = head.first().copied().unwrap_or(END);
        if number == END {
            frames.take(8, head)?;
            let expected = Reader::new(head, "snapshot").u64()?;
            if expected != *pairs {
                return Err(Error::corrupt(format!(
                    "snapshot: expected {expected} entries, got {pairs}"
                )));
            }
            return Ok(None);
        }
        let table = *Table::ALL
            .get(number as usize)
            .ok_or_else(|| Error::corrupt(format!("snapshot: unknown table {number}")))?;
        frames.take(6, head)?;
        let mut r = Reader::new(head, "snapshot");
        let (key_bytes, value_bytes) = (r.u16()? as usize, r.u32()? as usize);
        frames.take(key_bytes, buffer)?;
        let key = Bytes::copy_from_slice(buffer);
        frames.take(value_bytes, buffer)?;
        *pairs += 1;
        Ok(Some((table, key, Bytes::copy_from_slice(buffer))))
    }
}

fn failed(e: std::io::Error) -> Error {
    match e.kind() {
        ErrorKind::UnexpectedEof => {
            Error::corrupt("snapshot: the file ends too early").with_source(e)
        }
        _ => Error::unavailable("snapshot: the file cannot be read").with_source(e),
    }
}

/// Writes bytes in sealed frames.
struct FrameWriter<W: Write> {
    out: W,
    frame: Vec<u8>,
    number: u64,
}

impl<W: Write> FrameWriter<W> {
    fn push(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.frame.extend_from_slice(bytes);
        if self.frame.len() >= FRAME_BYTES {
            self.flush()
        } else {
            Ok(())
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        for frame in self.frame.chunks(FRAME_BYTES) {
            self.out.write_all(&(frame.len() as u32).to_le_bytes())?;
            self.out.write_all(frame)?;
            self.out
                .write_all(&checksum(frame, self.number).to_le_bytes())?;
            self.number += 1;
        }
        self.frame.clear();
        Ok(())
    }
}

/// Reads the bytes of sealed frames, one frame in memory at a time.
struct FrameReader<R: Read> {
    input: R,
    frame: Vec<u8>,
    at: usize,
    number: u64,
}

impl<R: Read> FrameReader<R> {
    fn take(&mut self, mut n: usize, out: &mut Vec<u8>) -> Result<()> {
        out.clear();
        while n > 0 {
            if self.at == self.frame.len() {
                self.next_frame()?;
            }
            let rest = self.frame.get(self.at..).unwrap_or_default();
            let part = rest.get(..n.min(rest.len())).unwrap_or_default();
            out.extend_from_slice(part);
            self.at += part.len();
            n -= part.len();
        }
        Ok(())
    }

    fn next_frame(&mut self) -> Result<()> {
        let mut head = [0; 4];
        self.input.read_exact(&mut head).map_err(failed)?;
        let length = u32::from_le_bytes(head) as usize;
        if length == 0 || length > FRAME_BYTES {
            return Err(Error::corrupt(format!(
                "snapshot: a frame of {length} bytes"
            )));
        }
        self.frame.resize(length, 0);
        self.input.read_exact(&mut self.frame).map_err(failed)?;
        let mut sum = [0; 8];
        self.input.read_exact(&mut sum).map_err(failed)?;
        if u64::from_le_bytes(sum) != checksum(&self.frame, self.number) {
            return Err(Error::corrupt(format!(
                "snapshot: frame {} is damaged",
                self.number
            )));
        }
        self.number += 1;
        self.at = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<usize> {
        let mut pairs = PairReader::begin(bytes)?;
        let mut n = 0;
        while pairs.read()?.is_some() {
            n += 1;
        }
        Ok(n)
    }

    /// Some pairs in one frame of one length and seal.
    fn good() -> Vec<u8> {
        let mut out = PairWriter::begin(Vec::new()).unwrap();
        for n in 0..20u8 {
            let table = Table::ALL[n as usize % Table::ALL.len()];
            out.push(table, &[n; 9], &vec![n; n as usize * 5]).unwrap();
        }
        out.end().unwrap().0
    }

    #[test]
    fn pairs_come_back_and_a_stream_that_grew_wrong_is_refused() {
        assert_eq!(read(&good()).unwrap(), 20);
        aether_testkit::damage::feed("snapshot's tables", 3 << 20, &[good()], |bytes| {
            read(bytes).is_ok()
        });
    }

    /// Whoever wrote it knew how to seal it.
    #[test]
    fn wrong_pairs_under_right_seals_are_refused_or_harmless() {
        let good = good();
        let content = good[12..good.len() - 8].to_vec();
        aether_testkit::damage::feed("pairs in a frame", 3 << 20, &[content], |content| {
            let mut bytes = MAGIC.to_vec();
            let mut frames = FrameWriter {
                out: &mut bytes,
                frame: content.to_vec(),
                number: 0,
            };
            frames.flush().unwrap();
            read(&bytes).is_ok()
        });
    }
}

//! Bytes of a recording: a header, then a ring of records of fixed size, little-endian.
//!
//! ```text
//! header  offset  0  magic "AETHREC1"
//!                 8  records that fit, u64
//!                16  sample, share of the ids, f64
//!                24  1 if ids are hashed with a key, u32
//!                28  low 32 bits of XXH3-64 of bytes 0 to 27, u32
//! record  offset  0  number, from 1, u64; 0 is an empty place
//!                 8  time in microseconds, u64; equal times are one retrieval
//!                16  key, u64
//!                24  size in bytes, u32
//!                28  0 read, 1 write, u8
//!                29  importance 0 to 10, 255 without, u8
//!                30  low 16 bits of XXH3-64 of bytes 0 to 29, u16
//! ```
//!
//! Record `n` stands in place `(n - 1) % records`. A record whose checksum is wrong was being written in a crash: it is skipped.

use crate::error::{Error, Result};
use crate::seal::checksum;
use crate::wire::Reader;

pub(super) const MAGIC: [u8; 8] = *b"AETHREC1";
pub(super) const HEADER: usize = 32;
pub(super) const RECORD: usize = 32;
const SEED: u64 = 0x7265_636f_7264;
/// There is no importance.
const UNJUDGED: u8 = u8::MAX;

/// One access of a memory, as its recording has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Microseconds on the memory's time line; accesses of one search or call share it.
    pub time: u64,
    /// The id: an integer as it is, another by its hash; all by a keyed hash if so configured.
    pub key: u64,
    /// RAM of the row, in bytes.
    pub size: u32,
    /// Whether it was written.
    pub write: bool,
    /// Feedback given soon after, 0 to 10.
    pub importance: Option<u8>,
}

/// What a recording is of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Header {
    pub(super) places: u64,
    pub(super) sample: f64,
    pub(super) hashed: bool,
}

impl Header {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&self.places.to_le_bytes());
        out.extend_from_slice(&self.sample.to_le_bytes());
        out.extend_from_slice(&u32::from(self.hashed).to_le_bytes());
        let sum = checksum(&out, SEED) as u32;
        out.extend_from_slice(&sum.to_le_bytes());
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self> {
        let what = "header of a recording";
        let mut r = Reader::new(bytes, what);
        if r.take(MAGIC.len())? != MAGIC {
            return Err(r.bad("expected a recording of this version, got other bytes"));
        }
        let header = Self {
            places: r.u64()?,
            sample: f64::from_bits(r.u64()?),
            hashed: r.u32()? > 0,
        };
        let sum = r.u32()?;
        if header.places == 0
            || sum != checksum(bytes.get(..HEADER - 4).unwrap_or_default(), SEED) as u32
        {
            return Err(Error::corrupt(format!("{what}: it is damaged")));
        }
        Ok(header)
    }
}

pub(super) fn encode(number: u64, recorded: &Recorded, out: &mut Vec<u8>) {
    let from = out.len();
    out.extend_from_slice(&number.to_le_bytes());
    out.extend_from_slice(&recorded.time.to_le_bytes());
    out.extend_from_slice(&recorded.key.to_le_bytes());
    out.extend_from_slice(&recorded.size.to_le_bytes());
    out.push(u8::from(recorded.write));
    out.push(recorded.importance.unwrap_or(UNJUDGED));
    let sum = checksum(&out[from..], SEED) as u16;
    out.extend_from_slice(&sum.to_le_bytes());
}

/// Number and content of a place; `None` if it is empty or was cut by a crash.
pub(super) fn decode(bytes: &[u8; RECORD]) -> Option<(u64, Recorded)> {
    let (body, sum) = bytes.split_last_chunk::<2>()?;
    let mut r = Reader::new(body, "record");
    let number = r.u64().ok()?;
    let recorded = Recorded {
        time: r.u64().ok()?,
        key: r.u64().ok()?,
        size: r.u32().ok()?,
        write: r.u8().ok()? == 1,
        importance: r.u8().ok().filter(|i| *i != UNJUDGED),
    };
    let whole = checksum(body, SEED) as u16 == u16::from_le_bytes(*sum);
    (whole && number > 0).then_some((number, recorded))
}

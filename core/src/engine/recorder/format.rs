//! Bytes of a recording: a header, then a ring of records of fixed size, little-endian.
//!
//! ```text
//! header  offset  0  magic "AETHREC2"
//!                 8  records that fit, u64
//!                16  sample, share of the ids, f64
//!                24  1 if ids are hashed with a key, u32
//!                28  low 32 bits of XXH3-64 of bytes 0 to 27, u32
//! record  offset  0  number, from 1, 48 bits; 0 is an empty place
//!                 6  time in microseconds, u64; equal times are one retrieval
//!                14  key, u64
//!                22  size in bytes, u32
//!                26  0 read, 1 write, u8
//!                27  importance 0 to 10, 255 without, u8
//!                28  low 32 bits of XXH3-64 of bytes 0 to 27, u32
//! ```
//!
//! "AETHREC1" had a number of 64 bits and a checksum of 16, which lets one damaged record in 65,536 pass. Such rings are read, and go on as
//! they are.
//!
//! Record `n` stands in place `(n - 1) % records`. A record whose checksum is wrong was being written in a crash: it is skipped.

use crate::error::{Error, Result};
use crate::seal::checksum;
use crate::wire::Reader;

const MAGIC_BYTES: usize = 8;
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

/// How records are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// A number of 8 bytes and a checksum of 2.
    First,
    /// A number of 6 bytes and a checksum of 4.
    Second,
}

impl Layout {
    const ALL: [Self; 2] = [Self::First, Self::Second];

    fn magic(self) -> [u8; MAGIC_BYTES] {
        match self {
            Self::First => *b"AETHREC1",
            Self::Second => *b"AETHREC2",
        }
    }

    /// The layout of a file that begins so, if it is a recording.
    pub(super) fn of(first_bytes: &[u8]) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|layout| first_bytes.starts_with(&layout.magic()))
    }

    /// Bytes of a record's checksum.
    fn sum_bytes(self) -> usize {
        match self {
            Self::First => 2,
            Self::Second => 4,
        }
    }

    /// Bytes of a record's number: those that checksum and the rest leave.
    fn number_bytes(self) -> usize {
        10 - self.sum_bytes()
    }

    pub(super) fn encode(self, number: u64, recorded: &Recorded, out: &mut Vec<u8>) {
        let from = out.len();
        out.extend(number.to_le_bytes().into_iter().take(self.number_bytes()));
        out.extend_from_slice(&recorded.time.to_le_bytes());
        out.extend_from_slice(&recorded.key.to_le_bytes());
        out.extend_from_slice(&recorded.size.to_le_bytes());
        out.push(u8::from(recorded.write));
        out.push(recorded.importance.unwrap_or(UNJUDGED));
        let sum = checksum(&out[from..], SEED).to_le_bytes();
        out.extend(sum.into_iter().take(self.sum_bytes()));
    }

    /// Number and content of a place; `None` if it is empty or was cut by a crash.
    pub(super) fn decode(self, bytes: &[u8; RECORD]) -> Option<(u64, Recorded)> {
        let (body, sum) = bytes.split_at_checked(RECORD - self.sum_bytes())?;
        if !checksum(body, SEED).to_le_bytes().starts_with(sum) {
            return None;
        }
        let mut r = Reader::new(body, "record");
        let mut number = [0; 8];
        let low = r.take(self.number_bytes()).ok()?;
        number.get_mut(..low.len())?.copy_from_slice(low);
        let number = u64::from_le_bytes(number);
        let recorded = Recorded {
            time: r.u64().ok()?,
            key: r.u64().ok()?,
            size: r.u32().ok()?,
            write: r.u8().ok()? == 1,
            importance: r.u8().ok().filter(|i| *i != UNJUDGED),
        };
        (number > 0).then_some((number, recorded))
    }
}

/// What a recording is of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Header {
    pub(super) layout: Layout,
    pub(super) places: u64,
    pub(super) sample: f64,
    pub(super) hashed: bool,
}

impl Header {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = self.layout.magic().to_vec();
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
        let Some(layout) = Layout::of(r.take(MAGIC_BYTES)?) else {
            return Err(r.bad("expected a recording of this version, got other bytes"));
        };
        let header = Self {
            layout,
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

//! Two strict codecs, an exact and a lossy one, and the same codecs broken on purpose in every way that the suite must notice.

mod broken;

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use aether_core::config::RawConfig;
use aether_core::plugin::{Factory, OptionSpec, Plugin};
use aether_core::role::{ByteCodec, Codec, CodecId, Fidelity};
use aether_core::seal::{checksum, seal, unseal};
use aether_core::vector::{Shape, VectorBlock};
use aether_core::{Error, Result};
use parking_lot::Mutex;

pub use broken::*;

/// What a fake does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    HidesOption,
    ZeroNumber,
    UselessBound,
    BoundTooTight,
    FlushesNan,
    Clamps,
    DropsRemainder,
    ClearsOut,
    Counts,
    SettingsMatter,
    SharedScratch,
    NoChecksum,
    LeavesHalf,
    IgnoresTail,
    IgnoresShape,
    PanicsWhenShort,
    ReservesClaim,
    ReservesShape,
    StripsZeros,
    IgnoresLength,
}

const OPTIONS: &[OptionSpec] = &[OptionSpec {
    name: "mask",
    default: "0",
    unit: "",
    help: "Changes the bytes written; the mask is written along.",
}];

#[derive(serde::Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Keys {
    mask: u8,
}

/// Number of the exact fake, and of all broken ones.
const ID: CodecId = CodecId(65_000);

/// An exact codec that is also a byte codec, for tests.
pub static STRICT: Plugin = Plugin {
    name: "fake",
    crate_name: env!("CARGO_PKG_NAME"),
    summary: "Plain floats under a checksum, for tests.",
    options: OPTIONS,
    persistent: false,
    factory: Factory::Codec(ID, |raw, _| build(raw, ID, false, Fault::None)),
};

/// A lossy codec, for tests: the upper 16 bits of each float, so numbers of any size.
pub static LOSSY: Plugin = Plugin {
    name: "fake-lossy",
    crate_name: env!("CARGO_PKG_NAME"),
    summary: "The upper half of each float under a checksum, for tests.",
    options: OPTIONS,
    persistent: false,
    factory: Factory::Codec(CodecId(65_001), |raw, _| {
        build(raw, CodecId(65_001), true, Fault::None)
    }),
};

fn build(raw: &RawConfig, id: CodecId, lossy: bool, fault: Fault) -> Result<Arc<dyn Codec>> {
    let Keys { mask } = raw.parse()?;
    Ok(Arc::new(FakeCodec {
        id,
        lossy,
        fault,
        mask,
        calls: AtomicU8::new(0),
        scratch: Mutex::default(),
    }))
}

/// Frame: mask u8, data XOR mask, seal over both with the content's numbers as seed.
#[derive(Debug)]
struct FakeCodec {
    id: CodecId,
    lossy: bool,
    fault: Fault,
    mask: u8,
    calls: AtomicU8,
    scratch: Mutex<Vec<f32>>,
}

impl FakeCodec {
    fn is(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    fn seed(&self, shape: Shape) -> u64 {
        if self.is(Fault::IgnoresShape) {
            return 0;
        }
        let words = [shape.rows as u64, shape.dim as u64].map(u64::to_le_bytes);
        checksum(words.as_flattened(), u64::from(self.id.0))
    }

    fn write(&self, data: &[u8], seed: u64, out: &mut Vec<u8>) {
        let from = out.len();
        let told = match self.fault {
            Fault::SettingsMatter => 0,
            Fault::Counts => self.calls.fetch_add(1, Ordering::SeqCst),
            _ => self.mask,
        };
        let mask = if self.is(Fault::SettingsMatter) {
            self.mask
        } else {
            told
        };
        if self.is(Fault::IgnoresTail) {
            out.extend_from_slice(&(data.len() as u64).to_le_bytes());
        }
        let start = out.len();
        out.push(told);
        out.extend(data.iter().map(|b| b ^ mask));
        if !self.is(Fault::NoChecksum) {
            let start = if self.is(Fault::IgnoresTail) {
                start
            } else {
                from
            };
            seal(out, start, seed);
        }
    }

    fn open(&self, mut frame: &[u8], seed: u64) -> Result<Vec<u8>> {
        if self.is(Fault::IgnoresTail) {
            let (len, rest) = frame.split_first_chunk::<8>().ok_or_else(corrupt)?;
            let len = usize::try_from(u64::from_le_bytes(*len)).map_err(|_| corrupt())?;
            let end = len.checked_add(9).ok_or_else(corrupt)?;
            frame = rest.get(..end).ok_or_else(corrupt)?;
        }
        let body = if self.is(Fault::NoChecksum) {
            frame
        } else {
            unseal(frame, seed, "fake frame")?
        };
        let (mask, data) = body.split_first().ok_or_else(corrupt)?;
        let mask = if self.is(Fault::SettingsMatter) {
            self.mask
        } else {
            *mask
        };
        Ok(data.iter().map(|b| b ^ mask).collect())
    }

    fn width(&self) -> usize {
        if self.lossy { 2 } else { 4 }
    }
}

fn corrupt() -> Error {
    Error::corrupt("fake frame: not what was written")
}

impl Codec for FakeCodec {
    fn id(&self) -> CodecId {
        self.id
    }

    fn fidelity(&self) -> Fidelity {
        if !self.lossy {
            return Fidelity::Exact;
        }
        let relative = match self.fault {
            Fault::UselessBound => 0.5,
            Fault::BoundTooTight => 1.0 / 4096.0,
            _ => 1.0 / 128.0,
        };
        Fidelity::Lossy {
            relative,
            range: 0.0,
            absolute: f32::MIN_POSITIVE,
        }
    }

    fn encode(&self, block: VectorBlock<'_>, out: &mut Vec<u8>) -> Result<()> {
        let shape = block.shape();
        if self.is(Fault::ClearsOut) {
            out.clear();
        }
        let bad = block.data().iter().position(|x| !x.is_finite());
        if let Some(i) = bad.filter(|_| self.lossy && !self.is(Fault::Clamps)) {
            return Err(Error::invalid_input(format!(
                "row {}, component {}: expected a finite number",
                i / shape.dim,
                i % shape.dim
            )));
        }
        let mut data = block.data().to_vec();
        match self.fault {
            Fault::FlushesNan => data
                .iter_mut()
                .filter(|x| x.is_nan())
                .for_each(|x| *x = f32::NAN),
            Fault::DropsRemainder => {
                let rows = shape.rows / 32 * 32;
                let keep = if rows > 0 {
                    rows * shape.dim
                } else {
                    data.len()
                };
                data[keep..].fill(0.0);
            }
            Fault::SharedScratch => {
                *self.scratch.lock() = data;
                std::thread::yield_now();
                data = self.scratch.lock().clone();
            }
            _ => {}
        }
        let skip = 4 - self.width();
        let bytes: Vec<u8> = data
            .iter()
            .flat_map(|x| x.to_le_bytes().into_iter().skip(skip))
            .collect();
        self.write(&bytes, self.seed(shape), out);
        Ok(())
    }

    fn decode(&self, bytes: &[u8], shape: Shape, out: &mut Vec<f32>) -> Result<()> {
        match self.fault {
            Fault::PanicsWhenShort => assert!(bytes.len() >= 9, "a short frame"),
            Fault::ReservesClaim => out.reserve(bytes.len() / 4),
            // Only what cannot be reserved at all and panics; somewhat less would end the whole process.
            Fault::ReservesShape if shape.rows > usize::MAX / 8 => out.reserve(shape.rows),
            Fault::LeavesHalf => out.push(0.0),
            _ => {}
        }
        let data = self.open(bytes, self.seed(shape))?;
        let expected = shape
            .rows
            .checked_mul(shape.dim)
            .and_then(|n| n.checked_mul(self.width()));
        if Some(data.len()) != expected {
            return Err(corrupt());
        }
        if self.is(Fault::LeavesHalf) {
            out.pop();
        }
        for item in data.chunks_exact(self.width()) {
            let mut word = [0; 4];
            word[4 - item.len()..].copy_from_slice(item);
            out.push(f32::from_le_bytes(word));
        }
        Ok(())
    }

    fn as_byte_codec(&self) -> Option<&dyn ByteCodec> {
        (!self.lossy).then_some(self)
    }
}

impl ByteCodec for FakeCodec {
    fn pack(&self, bytes: &[u8], out: &mut Vec<u8>) -> Result<()> {
        let end = match self.fault {
            Fault::StripsZeros => bytes.iter().rposition(|b| *b != 0).map_or(0, |i| i + 1),
            _ => bytes.len(),
        };
        let seed = if self.is(Fault::IgnoresLength) {
            0
        } else {
            bytes.len() as u64
        };
        self.write(&bytes[..end], seed, out);
        Ok(())
    }

    fn unpack(&self, packed: &[u8], len: usize, out: &mut Vec<u8>) -> Result<()> {
        let seed = if self.is(Fault::IgnoresLength) {
            0
        } else {
            len as u64
        };
        let data = self.open(packed, seed)?;
        if data.len() != len && !matches!(self.fault, Fault::IgnoresLength | Fault::StripsZeros) {
            return Err(corrupt());
        }
        out.extend_from_slice(&data);
        Ok(())
    }
}

#[cfg(test)]
mod tests;

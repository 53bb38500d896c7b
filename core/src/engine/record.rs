//! The values that the engine keeps in the metadata store. Bytes: `core/FORMAT.md`.

use bytes::Bytes;

use crate::error::{Error, Result};
use crate::id::{BlobKey, PointId, Row, SegmentId};
use crate::migrate::{Intent, IntentKind};
use crate::vector::Metric;
use crate::wire::{Reader, put_floats};

const VERSION: u8 = 1;
const HAS_PAYLOAD: u8 = 1;
const HAS_TTL: u8 = 2;

fn version(r: &mut Reader<'_>) -> Result<()> {
    match r.u8()? {
        VERSION => Ok(()),
        other => Err(r.bad(&format!("version {other} is not known to this build"))),
    }
}

fn put_id(id: &PointId, out: &mut Vec<u8>) {
    // Ids are checked on the way in: at most 513 bytes.
    out.extend_from_slice(&(id.key_len() as u16).to_le_bytes());
    id.encode(out);
}

fn read_id(r: &mut Reader<'_>) -> Result<PointId> {
    let length = r.u16()? as usize;
    PointId::decode(r.take(length)?)
}

/// Where a row's bytes are durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Home {
    /// The metadata store.
    Fresh,
    /// A place in a segment.
    Segment(SegmentId, u32),
}

/// A whole row whose home is the metadata store.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fresh {
    pub(crate) id: PointId,
    pub(crate) ttl: bool,
    pub(crate) vector: Vec<f32>,
    pub(crate) payload: Option<Bytes>,
}

impl Fresh {
    pub(crate) fn encode(id: &PointId, ttl: bool, vector: &[f32], payload: Option<&[u8]>) -> Bytes {
        let mut out = Vec::with_capacity(
            4 + id.key_len() + vector.len() * 4 + payload.map_or(0, <[u8]>::len),
        );
        let flags = if payload.is_some() { HAS_PAYLOAD } else { 0 } | if ttl { HAS_TTL } else { 0 };
        out.extend_from_slice(&[VERSION, flags]);
        put_id(id, &mut out);
        put_floats(&mut out, vector);
        out.extend_from_slice(payload.unwrap_or_default());
        Bytes::from(out)
    }

    pub(crate) fn decode(value: &Bytes, dim: usize) -> Result<Self> {
        let mut r = Reader::new(value, "fresh row");
        version(&mut r)?;
        let flags = r.u8()?;
        let id = read_id(&mut r)?;
        let mut vector = Vec::with_capacity(dim.min(value.len() / 4));
        r.floats(dim, &mut vector)?;
        let rest = r.remaining();
        let payload = (flags & HAS_PAYLOAD != 0).then(|| value.slice_ref(rest));
        if payload.is_none() && !rest.is_empty() {
            return Err(r.bad("bytes after its vector though it has no payload"));
        }
        Ok(Self {
            id,
            ttl: flags & HAS_TTL != 0,
            vector,
            payload,
        })
    }
}

/// What is kept of a row whose home is a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stub {
    pub(crate) id: PointId,
    pub(crate) segment: SegmentId,
    pub(crate) ordinal: u32,
    pub(crate) ttl: bool,
    pub(crate) payload: bool,
}

impl Stub {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(16 + self.id.key_len());
        let flags = if self.payload { HAS_PAYLOAD } else { 0 } | if self.ttl { HAS_TTL } else { 0 };
        out.extend_from_slice(&[VERSION, flags]);
        out.extend_from_slice(&self.segment.0.to_le_bytes());
        out.extend_from_slice(&self.ordinal.to_le_bytes());
        put_id(&self.id, &mut out);
        Bytes::from(out)
    }

    pub(crate) fn decode(value: &[u8]) -> Result<Self> {
        let mut r = Reader::new(value, "cold row");
        version(&mut r)?;
        let flags = r.u8()?;
        let (segment, ordinal) = (SegmentId(r.u64()?), r.u32()?);
        let id = read_id(&mut r)?;
        r.end()?;
        let (ttl, payload) = (flags & HAS_TTL != 0, flags & HAS_PAYLOAD != 0);
        Ok(Self {
            id,
            segment,
            ordinal,
            ttl,
            payload,
        })
    }
}

/// The manifest's entry of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) blob: BlobKey,
    pub(crate) bytes: u64,
    pub(crate) footer_offset: u64,
    pub(crate) footer_bytes: u32,
    pub(crate) rows: u32,
    pub(crate) generation: u32,
}

impl Manifest {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = vec![VERSION];
        out.extend_from_slice(&self.bytes.to_le_bytes());
        out.extend_from_slice(&self.footer_offset.to_le_bytes());
        out.extend_from_slice(&self.footer_bytes.to_le_bytes());
        out.extend_from_slice(&self.rows.to_le_bytes());
        out.extend_from_slice(&self.generation.to_le_bytes());
        out.extend_from_slice(self.blob.as_str().as_bytes());
        Bytes::from(out)
    }

    pub(crate) fn decode(value: &[u8]) -> Result<Self> {
        let mut r = Reader::new(value, "manifest entry");
        version(&mut r)?;
        let (bytes, footer_offset, footer_bytes) = (r.u64()?, r.u64()?, r.u32()?);
        let (rows, generation) = (r.u32()?, r.u32()?);
        let blob = read_blob(&mut r)?;
        Ok(Self {
            blob,
            bytes,
            footer_offset,
            footer_bytes,
            rows,
            generation,
        })
    }
}

fn read_blob(r: &mut Reader<'_>) -> Result<BlobKey> {
    let name = std::str::from_utf8(r.remaining()).map_err(|_| r.bad("blob name is not UTF-8"))?;
    BlobKey::new(name).map_err(|e| r.bad(e.message()))
}

/// An intent, and when it was written.
pub(crate) fn encode_intent(
    kind: IntentKind,
    segment: SegmentId,
    since: u64,
    blob: &BlobKey,
) -> Bytes {
    let kind = match kind {
        IntentKind::Started => 1,
        IntentKind::Garbage => 2,
    };
    let mut out = vec![VERSION, kind];
    out.extend_from_slice(&segment.0.to_le_bytes());
    out.extend_from_slice(&since.to_le_bytes());
    out.extend_from_slice(blob.as_str().as_bytes());
    Bytes::from(out)
}

pub(crate) fn decode_intent(key: &[u8], value: &[u8]) -> Result<(Intent, u64)> {
    let number = Row::decode(key)?.0;
    let mut r = Reader::new(value, "intent");
    version(&mut r)?;
    let kind = match r.u8()? {
        1 => IntentKind::Started,
        2 => IntentKind::Garbage,
        other => return Err(r.bad(&format!("unknown kind {other}"))),
    };
    let (segment, since) = (SegmentId(r.u64()?), r.u64()?);
    let blob = read_blob(&mut r)?;
    Ok((
        Intent {
            number,
            kind,
            segment,
            blob,
        },
        since,
    ))
}

/// Key of a dead row in a segment.
pub(crate) fn dead_key(segment: SegmentId, ordinal: u32) -> Bytes {
    let mut key = segment.key().to_vec();
    key.extend_from_slice(&ordinal.to_be_bytes());
    Bytes::from(key)
}

pub(crate) fn decode_dead_key(key: &[u8]) -> Result<(SegmentId, u32)> {
    match key.split_at_checked(8) {
        Some((segment, ordinal)) if ordinal.len() == 4 => {
            let ordinal = ordinal.iter().fold(0, |n, b| n << 8 | u32::from(*b));
            Ok((SegmentId(Row::decode(segment)?.0), ordinal))
        }
        _ => Err(Error::corrupt(format!(
            "dead row key: expected 12 bytes, got {}",
            key.len()
        ))),
    }
}

/// A row's time to live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Expiry {
    /// Moment on the memory's time line, in microseconds.
    pub(crate) at: u64,
    /// Lifetime in microseconds.
    pub(crate) lifetime: u64,
    /// Whether reads renew it.
    pub(crate) renew: bool,
}

impl Expiry {
    pub(crate) fn encode(self) -> Bytes {
        let mut out = self.at.to_le_bytes().to_vec();
        out.extend_from_slice(&self.lifetime.to_le_bytes());
        out.push(u8::from(self.renew));
        Bytes::from(out)
    }

    pub(crate) fn decode(value: &[u8]) -> Result<Self> {
        let mut r = Reader::new(value, "time to live");
        let expiry = Self {
            at: r.u64()?,
            lifetime: r.u64()?,
            renew: r.u8()? != 0,
        };
        r.end()?;
        Ok(expiry)
    }
}

/// Keys of the `State` table.
pub(crate) mod key {
    use super::{Bytes, PointId, Row};

    pub(crate) const FORMAT: &[u8] = b"format";
    pub(crate) const COUNTERS: &[u8] = b"counters";
    pub(crate) const CLOCK: &[u8] = b"clock";
    /// Whose cold store it is.
    pub(crate) const OWNER: &[u8] = b"owner";
    pub(crate) const LEDGER: &[u8] = b"ledger";
    pub(crate) const AIM: &[u8] = b"aim";
    pub(crate) const PROBING: &[u8] = b"probing";
    /// The newest moves, which may be missing.
    pub(crate) const MOVES: &[u8] = b"moves";
    pub(crate) const PARTITION: &[u8] = b"partition/";
    /// Centroids as the first versions kept them.
    pub(crate) const GENERATION: &[u8] = b"generation/";
    pub(crate) const POLICY: &[u8] = b"policy/";
    pub(crate) const SHADOW: &[u8] = b"shadow/";
    pub(crate) const PIN: &[u8] = b"pin/";
    pub(crate) const EXPIRY: &[u8] = b"expiry/";
    pub(crate) const DUE: &[u8] = b"due/";

    fn join(prefix: &[u8], rest: &[u8]) -> Bytes {
        Bytes::from([prefix, rest].concat())
    }

    pub(crate) fn pin(id: &PointId) -> Bytes {
        join(PIN, &id.key())
    }

    /// A row's time to live.
    pub(crate) fn expiry(row: Row) -> Bytes {
        join(EXPIRY, &row.key())
    }

    /// Rows in the order in which they may end.
    pub(crate) fn due(at: u64, row: Row) -> Bytes {
        join(DUE, &[at.to_be_bytes(), row.key()].concat())
    }

    pub(crate) fn partition(number: u32) -> Bytes {
        join(PARTITION, &number.to_be_bytes())
    }

    /// A part of a shadow's books. No name of a plug-in has a slash.
    pub(crate) fn shadow(name: &str, part: usize) -> Bytes {
        join(SHADOW, format!("{name}/{part:05}").as_bytes())
    }

    pub(crate) fn policy(part: usize) -> Bytes {
        join(POLICY, format!("{part:05}").as_bytes())
    }
}

/// What a memory is, fixed at its creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) dim: usize,
    pub(crate) metric: Metric,
    pub(crate) created: u64,
}

const FORMAT_VERSION: u32 = 1;

impl Identity {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = FORMAT_VERSION.to_le_bytes().to_vec();
        out.extend_from_slice(&(self.dim as u32).to_le_bytes());
        out.push(match self.metric {
            Metric::L2 => 1,
            Metric::InnerProduct => 2,
            Metric::Cosine => 3,
        });
        out.extend_from_slice(&self.created.to_le_bytes());
        Bytes::from(out)
    }

    pub(crate) fn decode(value: &[u8]) -> Result<Self> {
        let mut r = Reader::new(value, "format entry");
        let found = r.u32()?;
        if found != FORMAT_VERSION {
            return Err(Error::unsupported(format!(
                "data format: expected version {FORMAT_VERSION}, got {found}; use a build that knows it"
            )));
        }
        let dim = r.u32()? as usize;
        let metric = match r.u8()? {
            1 => Metric::L2,
            2 => Metric::InnerProduct,
            3 => Metric::Cosine,
            other => return Err(r.bad(&format!("unknown metric {other}"))),
        };
        let created = r.u64()?;
        r.end()?;
        Ok(Self {
            dim,
            metric,
            created,
        })
    }
}

/// The numbers that are handed out next, and how many points there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) next_row: u64,
    pub(crate) next_segment: u64,
    pub(crate) next_intent: u64,
    pub(crate) points: u64,
}

impl Counters {
    /// The same with another number of points.
    pub(crate) fn counting(self, points: u64) -> Self {
        Self { points, ..self }
    }

    pub(crate) fn encode(&self) -> Bytes {
        let all = [
            self.next_row,
            self.next_segment,
            self.next_intent,
            self.points,
        ];
        Bytes::from(all.map(u64::to_le_bytes).concat())
    }

    pub(crate) fn decode(value: &[u8]) -> Result<Self> {
        let mut r = Reader::new(value, "counters");
        let (next_row, next_segment, next_intent) = (r.u64()?, r.u64()?, r.u64()?);
        let points = r.u64()?;
        r.end()?;
        Ok(Self {
            next_row,
            next_segment,
            next_intent,
            points,
        })
    }
}

/// The memory's time and the wall's, as of the last flush.
pub(crate) fn encode_clock(time: u64, wall: u64) -> Bytes {
    Bytes::from([time, wall].map(u64::to_le_bytes).concat())
}

pub(crate) fn decode_clock(value: &[u8]) -> Result<(u64, u64)> {
    let mut r = Reader::new(value, "clock");
    let both = (r.u64()?, r.u64()?);
    r.end()?;
    Ok(both)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a metadata store may hand back after all: any bytes.
    #[test]
    fn values_that_grew_wrong_are_refused_or_harmless() {
        for value in super::super::decoders::values().unwrap() {
            aether_testkit::damage::feed(value.name, 1 << 20, &[value.good], value.read);
        }
    }

    #[test]
    fn values_survive_and_cuts_are_found() {
        let id = PointId::from("a point");
        let fresh = Fresh::encode(&id, true, &[1.0, -2.5], Some(b"{}"));
        let back = Fresh::decode(&fresh, 2).unwrap();
        assert_eq!(
            (back.id.clone(), back.ttl, back.vector),
            (id.clone(), true, vec![1.0, -2.5])
        );
        assert_eq!(back.payload.unwrap(), &b"{}"[..]);
        let stub = Stub {
            id,
            segment: SegmentId(7),
            ordinal: 9,
            ttl: false,
            payload: true,
        };
        let bytes = stub.encode();
        assert_eq!(Stub::decode(&bytes).unwrap(), stub);
        for cut in 0..bytes.len() - 1 {
            assert!(Stub::decode(&bytes[..cut]).is_err() || cut >= 16, "{cut}");
        }
        assert!(
            Fresh::decode(&fresh.slice(..10), 2)
                .unwrap_err()
                .is_corrupt()
        );
        assert_eq!(
            decode_dead_key(&dead_key(SegmentId(3), 258)).unwrap(),
            (SegmentId(3), 258)
        );
        let blob = BlobKey::new("segments/x").unwrap();
        let value = encode_intent(IntentKind::Garbage, SegmentId(4), 5, &blob);
        let (intent, since) = decode_intent(&9u64.to_be_bytes(), &value).unwrap();
        assert_eq!(
            (intent.number, intent.segment, intent.blob, since),
            (9, SegmentId(4), blob, 5)
        );
    }
}

//! What decodes the bytes that the engine itself stores, as functions of bytes: for tests outside of this crate and for the fuzzer, which feed them
//! with bytes that grew wrong. It is no interface, and changes as the bytes do.
//!
//! A part of a segment is given without its seal, and sealed before it is read: what is wrong under a right checksum is what a decoder has to
//! stand, for all else is refused before.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use aether_codes::{Coder, Query};
use bytes::Bytes;

use super::record::{
    Counters, Expiry, Fresh, Identity, Manifest, Stub, dead_key, decode_clock, decode_dead_key,
    decode_intent, encode_clock, encode_intent,
};
use crate::codec::{BlockCodec, Decoders};
use crate::error::{Error, Result};
use crate::id::{BlobKey, PointId, Row, SegmentId};
use crate::migrate::IntentKind;
use crate::partition::Partition;
use crate::plugin::BuildContext;
use crate::role::Codec;
use crate::seal::{seal, unseal};
use crate::segment::{
    Block, BlockCodes, Centroids, CodePage, Codes, Packing, SegmentRow, WrittenSegment,
    check_frame, coder, parse_end, parse_group, parse_keys, parse_payloads, parse_rows, place_seed,
    write_segment,
};
use crate::vector::Metric;

/// Whether bytes were taken for good.
pub type Decode = Box<dyn Fn(&[u8]) -> bool>;

/// Something that decodes.
pub struct Decoder {
    /// What it decodes.
    pub name: &'static str,
    /// Bytes that it takes.
    pub good: Vec<u8>,
    /// What decodes it.
    pub read: Decode,
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Decoder").field(&self.name).finish()
    }
}

impl Decoder {
    fn new(
        name: &'static str,
        good: impl Into<Vec<u8>>,
        read: impl Fn(&[u8]) -> bool + 'static,
    ) -> Self {
        Self {
            name,
            good: good.into(),
            read: Box::new(read),
        }
    }
}

/// Values and keys of the metadata store, which may hand back any bytes.
///
/// # Errors
/// None but for a mistake.
pub fn values() -> Result<Vec<Decoder>> {
    let id = PointId::from("a point");
    let blob = BlobKey::new("segments/x")?;
    let fresh = Fresh::encode(&id, true, &[1.0, -2.5, 3.0], Some(b"{}"));
    let stub = Stub {
        id,
        segment: SegmentId(7),
        ordinal: 9,
        ttl: false,
        payload: true,
    };
    let manifest = Manifest {
        blob: blob.clone(),
        bytes: 1_000,
        footer_offset: 900,
        footer_bytes: 60,
        rows: 20,
        generation: 0,
    };
    let intent = encode_intent(IntentKind::Garbage, SegmentId(4), 5, &blob);
    let identity = Identity {
        dim: 3,
        metric: Metric::L2,
        created: 5,
    };
    let expiry = Expiry {
        at: 5,
        lifetime: 6,
        renew: true,
    };
    let partition = Partition {
        number: 7,
        retired: true,
        centroid: vec![1.0, -2.0, 3.5],
    };
    Ok(vec![
        Decoder::new("fresh row", fresh, |v| {
            Fresh::decode(&Bytes::copy_from_slice(v), 3).is_ok()
        }),
        Decoder::new("cold row", stub.encode(), |v| Stub::decode(v).is_ok()),
        Decoder::new("manifest entry", manifest.encode(), |v| {
            Manifest::decode(v).is_ok()
        }),
        Decoder::new("intent", intent, |v| {
            decode_intent(&9u64.to_be_bytes(), v).is_ok()
        }),
        Decoder::new("identity", identity.encode(), |v| {
            Identity::decode(v).is_ok()
        }),
        Decoder::new("expiry", expiry.encode(), |v| Expiry::decode(v).is_ok()),
        Decoder::new("counters", Counters::default().encode(), |v| {
            Counters::decode(v).is_ok()
        }),
        Decoder::new("clock", encode_clock(5, 6), |v| decode_clock(v).is_ok()),
        Decoder::new("mark of a dead row", dead_key(SegmentId(7), 9), |k| {
            decode_dead_key(k).is_ok()
        }),
        Decoder::new("partition", partition.encode(), |v| {
            Partition::decode(7, 3, v).is_ok()
        }),
    ])
}

/// A segment as a file, and each kind of its parts: vectors of the context's dimension behind a codec of its registry.
///
/// # Errors
/// What the codec says.
pub fn segment(context: &BuildContext, codec: Arc<dyn Codec>) -> Result<Vec<Decoder>> {
    let sample = Arc::new(Sample::write(context, codec)?);
    let data = &sample.written.data;
    let offset = sample.written.footer_offset;
    let footer = offset..offset + u64::from(sample.written.footer_bytes);
    let block = sample.block()?;
    let group = sample.written.directory.group(block, 0);
    let group = group.ok_or_else(|| Error::internal("a block without a group"))?;
    let file = sample.clone();
    let mut all = vec![Decoder::new("segment", data.to_vec(), move |bytes| {
        file.whole(bytes).is_ok()
    })];
    let parts: [(_, Range<u64>, _, Read); 6] = [
        ("footer", footer, SEGMENT.0, Sample::footer),
        ("rows", block.rows_range(), 0, Sample::rows),
        ("group", group.range, 0, Sample::group),
        ("keys", block.keys_range(), 0, Sample::keys),
        ("payloads", block.payloads_range(), 0, Sample::payloads),
        ("codes", block.codes_range(), 0, Sample::codes),
    ];
    for (name, range, seed, read) in parts {
        let seed = match seed {
            0 => place_seed(SEGMENT, range.start),
            seed => seed,
        };
        let good = unseal(sample.part(&range), seed, name)?.to_vec();
        let sample = sample.clone();
        all.push(Decoder::new(name, good, move |content| {
            let mut sealed = content.to_vec();
            seal(&mut sealed, 0, seed);
            read(&sample, &sealed).unwrap_or(false)
        }));
    }
    Ok(all)
}

const SEGMENT: SegmentId = SegmentId(77);

type Read = fn(&Sample, &[u8]) -> Result<bool>;

/// Partition p lies around (4 p, 4 p, ...).
#[derive(Debug)]
struct Around(Vec<Vec<f32>>);

impl Centroids for Around {
    fn centroid(&self, partition: u32) -> Option<&[f32]> {
        self.0.get(partition as usize).map(|c| &c[..])
    }
}

/// A small segment of three partitions, with all that reads it.
struct Sample {
    written: WrittenSegment,
    coder: Coder,
    centroids: Around,
    decoders: Decoders,
    dim: usize,
}

impl Sample {
    fn write(context: &BuildContext, codec: Arc<dyn Codec>) -> Result<Self> {
        let dim = context.dim;
        let coder = coder(dim, 4, context.metric)?;
        let centroids = Around((0..3u8).map(|p| vec![4.0 * f32::from(p); dim]).collect());
        let row = |i: u8| SegmentRow {
            row: Row(100 + u64::from(i)),
            id: match i % 2 {
                0 => PointId::Int(u64::from(i)),
                _ => PointId::from(format!("p{i}")),
            },
            vector: (0..dim).map(|d| f32::from(i) + d as f32 * 0.1).collect(),
            payload: i
                .is_multiple_of(3)
                .then(|| Bytes::from(format!("{{\"n\":{i}}}"))),
            partition: u32::from(i / 4),
        };
        let rows: Vec<SegmentRow> = (0..10).map(row).collect();
        let codec = BlockCodec::new(codec, None)?;
        let packing = Packing {
            dim,
            group_rows: 2,
            codec: &codec,
            codes: Codes::new(&coder, &centroids),
        };
        let written = write_segment(SEGMENT, &rows, 3, &packing)?;
        Ok(Self {
            written,
            coder,
            centroids,
            decoders: Decoders::new(context.registry.clone(), context.clone()),
            dim,
        })
    }

    /// The second block, which has the first one before it.
    fn block(&self) -> Result<&Block> {
        let block = self.written.directory.blocks.get(1);
        block.ok_or_else(|| Error::internal("a segment without a second block"))
    }

    fn part(&self, range: &Range<u64>) -> &[u8] {
        &self.written.data[range.start as usize..range.end as usize]
    }

    /// All of a file, as a reader goes through it.
    fn whole(&self, data: &[u8]) -> Result<()> {
        let (offset, bytes) = (self.written.footer_offset, self.written.footer_bytes);
        let d = check_frame(SEGMENT, self.dim, data, offset, bytes)?;
        let part = |r: Range<u64>| {
            let part = data.get(r.start as usize..r.end as usize);
            part.ok_or_else(|| Error::corrupt("a part beyond the end of its segment"))
        };
        for page in 0..d.pages.len() as u32 {
            let range = d.page_range(page).unwrap_or_default();
            CodePage::check(SEGMENT, &d, page, Bytes::copy_from_slice(part(range)?))?;
        }
        for block in &d.blocks {
            parse_rows(SEGMENT, &d, block, part(block.rows_range())?)?;
            for index in 0..d.group_count(block) {
                let Some(group) = d.group(block, index) else {
                    continue;
                };
                let (sealed, mut out) = (part(group.range.clone())?, Vec::new());
                parse_group(SEGMENT, &d, block, &group, sealed, &self.decoders, &mut out)?;
            }
            parse_keys(SEGMENT, block, part(block.keys_range())?)?;
            parse_payloads(SEGMENT, block, part(block.payloads_range())?, 1 << 20)?;
        }
        Ok(())
    }

    /// With a tail that says what the footer's length is, as the manifest does.
    fn footer(&self, sealed: &[u8]) -> Result<bool> {
        let offset = self.written.footer_offset;
        let end = offset as usize + self.written.footer_bytes as usize;
        let bytes = sealed.len() as u32;
        let mut tail = unseal(&self.written.data[end..], SEGMENT.0, "tail")?.to_vec();
        tail[8..12].copy_from_slice(&bytes.to_le_bytes());
        seal(&mut tail, 0, SEGMENT.0);
        let end = [sealed, &tail].concat();
        parse_end(SEGMENT, &end, offset, bytes).map(|_| true)
    }

    fn rows(&self, sealed: &[u8]) -> Result<bool> {
        let directory = &self.written.directory;
        parse_rows(SEGMENT, directory, self.block()?, sealed).map(|_| true)
    }

    fn group(&self, sealed: &[u8]) -> Result<bool> {
        let (d, block, mut out) = (&self.written.directory, self.block()?, Vec::new());
        let Some(group) = d.group(block, 0) else {
            return Ok(false);
        };
        parse_group(SEGMENT, d, block, &group, sealed, &self.decoders, &mut out).map(|_| true)
    }

    fn keys(&self, sealed: &[u8]) -> Result<bool> {
        parse_keys(SEGMENT, self.block()?, sealed).map(|_| true)
    }

    fn payloads(&self, sealed: &[u8]) -> Result<bool> {
        parse_payloads(SEGMENT, self.block()?, sealed, 1 << 16).map(|_| true)
    }

    /// Codes are estimated from as they are: any bounds will do, but a length that is wrong is refused.
    fn codes(&self, sealed: &[u8]) -> Result<bool> {
        let (d, block) = (&self.written.directory, self.block()?);
        let (page, codes) = (d.page_of(1), block.codes_range());
        let range = d.page_range(page).unwrap_or_default();
        let place = (codes.start - range.start) as usize..(codes.end - range.start) as usize;
        let fits = sealed.len() == place.len();
        let mut bytes = self.part(&range).to_vec();
        bytes.splice(place, sealed.iter().copied());
        let page_of = CodePage::check(SEGMENT, d, page, bytes.into())?;
        page_of.layered(d, page, &self.coder, &self.centroids)?;
        let BlockCodes::Plain(codes) = page_of.codes(block)? else {
            return Ok(false);
        };
        let mut query = Query::new(&self.coder, &vec![0.5; self.dim]);
        let centroid = self.centroids.centroid(block.partition);
        let spot = query.spot(self.coder.measure(), centroid.unwrap_or_default());
        let rows = page_of.rows(d, block)?.get(0).is_some();
        let (n, mut bounds) = (block.rows as usize, Vec::new());
        Ok(fits && rows && query.estimate(&self.coder, spot, codes, n, 5.0, &mut bounds))
    }
}

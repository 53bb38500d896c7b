use std::sync::Arc;

use super::*;
use crate::codec::{BlockCodec, Decoders};
use crate::id::{PointId, Row, SegmentId};
use crate::plugin::{BuildContext, Factory, Plugin};
use crate::registry::Registry;
use crate::role::{ByteCodec, Codec, CodecId, Fidelity};
use crate::vector::{Metric, Shape, VectorBlock};
use crate::{Error, ManualClock, Result};

/// Floats as they are, in a frame.
#[derive(Debug)]
struct Plain;

impl Codec for Plain {
    fn id(&self) -> CodecId {
        CodecId(60_000)
    }

    fn fidelity(&self) -> Fidelity {
        Fidelity::Exact
    }

    fn encode(&self, block: VectorBlock<'_>, out: &mut Vec<u8>) -> Result<()> {
        crate::wire::put_floats(out, block.data());
        Ok(())
    }

    fn decode(&self, bytes: &[u8], shape: Shape, out: &mut Vec<f32>) -> Result<()> {
        let mut r = crate::wire::Reader::new(bytes, "plain");
        if bytes.len() != shape.len() * 4 {
            return Err(Error::corrupt("plain: wrong length"));
        }
        r.floats(shape.len(), out)
    }

    fn as_byte_codec(&self) -> Option<&dyn ByteCodec> {
        None
    }
}

static PLAIN: Plugin = Plugin {
    name: "plain",
    crate_name: "test",
    summary: "",
    options: &[],
    persistent: false,
    factory: Factory::Codec(CodecId(60_000), |_, _| Ok(Arc::new(Plain))),
};

const DIM: usize = 3;
const SEGMENT: SegmentId = SegmentId(77);

fn rows() -> Vec<SegmentRow> {
    (0..10u64)
        .map(|i| SegmentRow {
            row: Row(100 + i),
            id: if i % 2 == 0 {
                PointId::Int(i)
            } else {
                PointId::from(format!("p{i}"))
            },
            vector: vec![i as f32, 0.5, -(i as f32)],
            payload: (i % 3 == 0).then(|| bytes::Bytes::from(format!("{{\"n\":{i}}}"))),
            partition: (i / 4) as u32,
        })
        .collect()
}

fn decoders() -> Decoders {
    let mut registry = Registry::empty();
    registry.add(&PLAIN).unwrap();
    let registry = Arc::new(registry);
    let context = BuildContext {
        dim: DIM,
        metric: Metric::L2,
        data_dir: None,
        clock: Arc::new(ManualClock::new()),
        seed: 0,
        read_only: false,
        registry: registry.clone(),
    };
    Decoders::new(registry, context)
}

fn written() -> WrittenSegment {
    let codec = BlockCodec::new(Arc::new(Plain), None).unwrap();
    write_segment(SEGMENT, 0, DIM, &rows(), 3, &codec).unwrap()
}

/// A row's content: number, id, vector, payload.
type Content = (Row, PointId, Vec<f32>, Option<bytes::Bytes>);

/// Reads everything back; what a reader would take for the segment's content.
fn read_all(data: &[u8], footer: std::ops::Range<usize>) -> Result<Vec<Content>> {
    let footer_bytes = (footer.end - footer.start) as u32;
    check_frame(SEGMENT, DIM, data, footer.start as u64, footer_bytes)?;
    let directory = parse_footer(SEGMENT, &data[footer.clone()], footer.start as u64)?;
    let part = |r: std::ops::Range<u64>| &data[r.start as usize..r.end as usize];
    let mut all = Vec::new();
    for b in &directory.blocks {
        let rows = parse_rows(SEGMENT, b, part(b.rows_range()))?;
        let mut vectors = Vec::new();
        parse_vectors(
            SEGMENT,
            b,
            part(b.vectors_range()),
            DIM,
            &decoders(),
            &mut vectors,
        )?;
        let ids = parse_keys(SEGMENT, b, part(b.keys_range()))?;
        let payloads = parse_payloads(SEGMENT, b, part(b.payloads_range()), 1 << 20)?;
        for (i, ((row, id), v)) in rows
            .into_iter()
            .zip(ids)
            .zip(vectors.chunks(DIM))
            .enumerate()
        {
            all.push((row, id, v.to_vec(), payloads.get(i)));
        }
    }
    Ok(all)
}

#[test]
fn what_was_written_is_read_and_every_flipped_bit_is_found() {
    let w = written();
    let footer = w.footer_offset as usize..w.footer_offset as usize + w.footer_bytes as usize;
    let expected: Vec<_> = rows()
        .into_iter()
        .map(|r| (r.row, r.id, r.vector, r.payload))
        .collect();
    assert_eq!(read_all(&w.data, footer.clone()).unwrap(), expected);
    assert_eq!(
        w.directory.blocks.len(),
        5,
        "partitions of 4, 4 and 2 rows in blocks of at most 3"
    );
    for bit in 0..w.data.len() * 8 {
        let mut bad = w.data.to_vec();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(
            read_all(&bad, footer.clone()).is_err(),
            "bit {bit} of byte {}",
            bit / 8
        );
    }
}

#[test]
fn a_block_of_another_place_or_segment_is_found() {
    let w = written();
    let (a, b) = (&w.directory.blocks[0], &w.directory.blocks[2]);
    let range = |r: std::ops::Range<u64>| r.start as usize..r.end as usize;
    assert!(parse_rows(SEGMENT, a, &w.data[range(a.rows_range())]).is_ok());
    assert!(parse_rows(SegmentId(78), a, &w.data[range(a.rows_range())]).is_err());
    assert_eq!(a.rows, b.rows);
    assert!(parse_rows(SEGMENT, a, &w.data[range(b.rows_range())]).is_err());
}

#[test]
fn places_lead_to_their_blocks() {
    let directory = written().directory;
    let mut at = 0;
    for (i, b) in directory.blocks.iter().enumerate() {
        for place in 0..b.rows as usize {
            assert_eq!(directory.locate(at), Some((i, place)));
            at += 1;
        }
    }
    assert_eq!(directory.locate(at), None);
}

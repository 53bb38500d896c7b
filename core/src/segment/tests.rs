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

fn context() -> BuildContext {
    let mut registry = Registry::empty();
    registry.add(&PLAIN).unwrap();
    BuildContext {
        dim: DIM,
        metric: Metric::L2,
        data_dir: None,
        clock: Arc::new(ManualClock::new()),
        seed: 0,
        read_only: false,
        hot_budget: None,
        registry: Arc::new(registry),
    }
}

fn decoders() -> Decoders {
    let context = context();
    Decoders::new(context.registry.clone(), context)
}

/// Partition p lies around (4 p, 0.5, -4 p).
#[derive(Debug)]
struct Fixed(Vec<[f32; DIM]>);

impl Centroids for Fixed {
    fn centroid(&self, partition: u32) -> Option<&[f32]> {
        self.0.get(partition as usize).map(|c| &c[..])
    }
}

fn fixed() -> Fixed {
    let centre = |p: u8| [4.0 * f32::from(p), 0.5, -4.0 * f32::from(p)];
    Fixed((0..3).map(centre).collect())
}

fn written() -> WrittenSegment {
    let codec = BlockCodec::new(Arc::new(Plain), None).unwrap();
    let (coder, centroids) = (coder(DIM, 4, Metric::L2).unwrap(), fixed());
    let packing = Packing {
        dim: DIM,
        group_rows: 2,
        codec: &codec,
        codes: Codes::new(&coder, &centroids),
    };
    write_segment(SEGMENT, &rows(), 3, &packing).unwrap()
}

/// A row's content: number, id, vector, payload.
type Content = (Row, PointId, Vec<f32>, Option<bytes::Bytes>);

/// Reads everything back; what a reader would take for the segment's content.
fn read_all(data: &[u8], footer: std::ops::Range<usize>) -> Result<Vec<Content>> {
    let footer_bytes = (footer.end - footer.start) as u32;
    let d = check_frame(SEGMENT, DIM, data, footer.start as u64, footer_bytes)?;
    let part = |r: std::ops::Range<u64>| &data[r.start as usize..r.end as usize];
    let mut all = Vec::new();
    for page in 0..d.pages.len() as u32 {
        let bytes = bytes::Bytes::copy_from_slice(part(d.page_range(page).unwrap()));
        CodePage::check(SEGMENT, &d, page, bytes)?;
    }
    for b in &d.blocks {
        let rows = parse_rows(SEGMENT, &d, b, part(b.rows_range()))?;
        let (mut vectors, mut beside) = (Vec::new(), Vec::new());
        for index in 0..d.group_count(b) {
            let group = d.group(b, index).unwrap();
            let sealed = part(group.range.clone());
            beside.extend(parse_group(
                SEGMENT,
                &d,
                b,
                &group,
                sealed,
                &decoders(),
                &mut vectors,
            )?);
        }
        assert_eq!(rows, beside);
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
    let d = &w.directory;
    let (a, b) = (&d.blocks[0], &d.blocks[2]);
    let bytes = |r: std::ops::Range<u64>| &w.data[r.start as usize..r.end as usize];
    assert!(parse_rows(SEGMENT, d, a, bytes(a.rows_range())).is_ok());
    assert!(parse_rows(SegmentId(78), d, a, bytes(a.rows_range())).is_err());
    assert_eq!(a.rows, b.rows);
    assert!(parse_rows(SEGMENT, d, a, bytes(b.rows_range())).is_err());
    let (ga, gb) = (d.group(a, 0).unwrap(), d.group(b, 0).unwrap());
    let group = |segment, sealed: &[u8]| {
        parse_group(segment, d, a, &ga, sealed, &decoders(), &mut Vec::new())
    };
    assert!(group(SEGMENT, bytes(ga.range.clone())).is_ok());
    assert!(group(SegmentId(78), bytes(ga.range.clone())).is_err());
    assert_eq!(ga.rows, gb.rows);
    assert!(group(SEGMENT, bytes(gb.range.clone())).is_err());
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

#[test]
fn codes_bound_the_distances_of_their_rows() {
    let w = written();
    let d = &w.directory;
    let (coder, centroids) = (coder(DIM, 4, Metric::L2).unwrap(), fixed());
    let query = [3.0, 1.0, -2.0];
    let mut prepared = aether_codes::Query::new(&coder, &query);
    let truth: Vec<f32> = rows()
        .iter()
        .map(|r| Metric::L2.distance(&query, &r.vector))
        .collect();
    for (index, block) in d.blocks.iter().enumerate() {
        let range = d.page_range(d.page_of(index)).unwrap();
        let bytes = w.data.slice(range.start as usize..range.end as usize);
        let page = CodePage::check(SEGMENT, d, d.page_of(index), bytes).unwrap();
        let (numbers, codes) = (page.rows(d, block).unwrap(), page.codes(block).unwrap());
        let centroid = centroids.centroid(block.partition).unwrap();
        let spot = prepared.spot(coder.measure(), centroid);
        let (n, mut bounds) = (block.rows as usize, Vec::new());
        let BlockCodes::Plain(codes) = codes else {
            panic!("sorted before anybody asked for it");
        };
        assert!(prepared.estimate(&coder, spot, codes, n, 5.0, &mut bounds));
        for (place, bound) in bounds.iter().enumerate() {
            let row = numbers.get(place).unwrap();
            let distance = truth[(row.0 - 100) as usize];
            assert!(
                bound.lower() <= distance && distance <= bound.upper(),
                "{row:?}: {bound:?}"
            );
        }
    }
}

/// What a mistake in a writer would leave; and codes are estimated from as they are.
#[test]
fn contents_that_are_wrong_under_a_right_checksum_are_refused_or_harmless() {
    let all = crate::engine::decoders::segment(&context(), Arc::new(Plain)).unwrap();
    let names: Vec<&str> = all.iter().map(|d| d.name).collect();
    assert_eq!(names.len(), 7, "{names:?}");
    for decoder in all {
        aether_testkit::damage::feed(decoder.name, 1 << 20, &[decoder.good], decoder.read);
    }
}

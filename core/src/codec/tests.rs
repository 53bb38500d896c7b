use super::*;
use crate::clock::ManualClock;
use crate::plugin::{Factory, Plugin};
use crate::shuffle::{shuffle_f32, unshuffle_f32};
use crate::vector::Metric;

/// Plain planes in a frame; packs bytes by leaving them as they are.
#[derive(Debug)]
struct Plain;

impl Codec for Plain {
    fn id(&self) -> CodecId {
        CodecId(60_001)
    }

    fn fidelity(&self) -> Fidelity {
        Fidelity::Exact
    }

    fn encode(&self, block: VectorBlock<'_>, out: &mut Vec<u8>) -> Result<()> {
        write_frame(self.id(), Content::Vectors(block.shape()), out, |out| {
            shuffle_f32(block.data(), out);
            Ok(0)
        })
    }

    fn decode(&self, bytes: &[u8], shape: Shape, out: &mut Vec<f32>) -> Result<()> {
        let (form, body) = open_frame(self.id(), Content::Vectors(shape), bytes)?;
        if form != 0 {
            return Err(unknown_form(self.id(), form));
        }
        unshuffle_f32(body, out);
        Ok(())
    }

    fn as_byte_codec(&self) -> Option<&dyn ByteCodec> {
        Some(self)
    }
}

impl ByteCodec for Plain {
    fn pack(&self, bytes: &[u8], out: &mut Vec<u8>) -> Result<()> {
        write_frame(self.id(), Content::Bytes(bytes.len()), out, |out| {
            out.extend_from_slice(bytes);
            Ok(0)
        })
    }

    fn unpack(&self, packed: &[u8], len: usize, out: &mut Vec<u8>) -> Result<()> {
        let (_, body) = open_frame(self.id(), Content::Bytes(len), packed)?;
        out.extend_from_slice(body);
        Ok(())
    }
}

/// Rounds to whole numbers below 100.
#[derive(Debug)]
struct Whole;

impl Codec for Whole {
    fn id(&self) -> CodecId {
        CodecId(60_002)
    }

    fn fidelity(&self) -> Fidelity {
        Fidelity::Lossy {
            relative: 0.0,
            range: 0.0,
            absolute: 0.5,
        }
    }

    fn encode(&self, block: VectorBlock<'_>, out: &mut Vec<u8>) -> Result<()> {
        write_frame(self.id(), Content::Vectors(block.shape()), out, |out| {
            for x in block.data() {
                if x.abs() > 100.0 {
                    return Err(Error::invalid_input(format!("{x} is too large")));
                }
                out.push(x.round() as i8 as u8);
            }
            Ok(0)
        })
    }

    fn decode(&self, bytes: &[u8], shape: Shape, out: &mut Vec<f32>) -> Result<()> {
        let (_, body) = open_frame(self.id(), Content::Vectors(shape), bytes)?;
        out.extend(body.iter().map(|b| f32::from(*b as i8)));
        Ok(())
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
    factory: Factory::Codec(CodecId(60_001), |_, _| Ok(Arc::new(Plain))),
};
static WHOLE: Plugin = Plugin {
    name: "whole",
    crate_name: "test",
    summary: "",
    options: &[],
    persistent: false,
    factory: Factory::Codec(CodecId(60_002), |_, _| Ok(Arc::new(Whole))),
};

fn decoders(plugins: &[&'static Plugin]) -> Decoders {
    let mut registry = Registry::empty();
    for plugin in plugins {
        registry.add(plugin).unwrap();
    }
    let registry = Arc::new(registry);
    let context = BuildContext {
        dim: 3,
        metric: Metric::L2,
        data_dir: None,
        clock: Arc::new(ManualClock::new()),
        seed: 1,
        read_only: true,
        hot_budget: None,
        registry: Arc::clone(&registry),
    };
    Decoders::new(registry, context)
}

const SHAPE: Shape = Shape { rows: 2, dim: 3 };
const DATA: [f32; 6] = [1.25, -2.75, 3.0, 0.0, 99.0, -0.25];

fn block(codec: &BlockCodec) -> Vec<u8> {
    let mut out = vec![0xaa];
    codec
        .encode_block(VectorBlock::new(&DATA, SHAPE).unwrap(), &mut out)
        .unwrap();
    assert_eq!(out.remove(0), 0xaa);
    out
}

fn plain() -> BlockCodec {
    BlockCodec::new(Arc::new(Plain), None).unwrap()
}

fn composed() -> BlockCodec {
    BlockCodec::new(Arc::new(Whole), Some(Arc::new(Plain))).unwrap()
}

#[test]
fn blocks_are_read_by_the_codecs_they_name() {
    let decoders = decoders(&[&PLAIN, &WHOLE]);
    let mut out = vec![7.0];
    let fidelity = decoders
        .decode_block(&block(&plain()), SHAPE, &mut out)
        .unwrap();
    assert!(fidelity.is_exact());
    assert_eq!(out[1..], DATA);
    let bytes = block(&composed());
    assert_eq!(decoders.fidelity(&bytes).unwrap(), Whole.fidelity());
    for _ in 0..2 {
        let mut out = vec![7.0];
        let fidelity = decoders.decode_block(&bytes, SHAPE, &mut out).unwrap();
        assert_eq!(fidelity, composed().fidelity());
        assert_eq!(out, [7.0, 1.0, -3.0, 3.0, 0.0, 99.0, -0.0]);
    }
}

#[test]
fn every_flipped_bit_every_cut_and_other_shapes_are_corrupt() {
    let decoders = decoders(&[&PLAIN, &WHOLE]);
    for good in [block(&plain()), block(&composed())] {
        let refuse = |bytes: &[u8], shape: Shape| {
            let mut out = vec![7.0];
            let error = decoders.decode_block(bytes, shape, &mut out).unwrap_err();
            assert!(error.is_corrupt(), "{error:?}");
            assert_eq!(out, [7.0]);
        };
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            refuse(&bad, SHAPE);
        }
        for cut in 0..good.len() {
            refuse(&good[..cut], SHAPE);
        }
        refuse(&[&good[..], &[0]].concat(), SHAPE);
        for (rows, dim) in [
            (3, 2),
            (6, 1),
            (0, 3),
            (1, 3),
            (usize::MAX, 3),
            (usize::MAX, usize::MAX),
        ] {
            refuse(&good, Shape { rows, dim });
        }
    }
}

#[test]
fn an_intermediate_length_beyond_the_shape_is_refused_before_it_is_allocated() {
    let codec = Composed::new(Arc::new(Whole), Arc::new(Plain)).unwrap();
    let mut bytes = Vec::new();
    codec
        .encode(VectorBlock::new(&DATA, SHAPE).unwrap(), &mut bytes)
        .unwrap();
    bytes[..4].copy_from_slice(&u32::MAX.to_le_bytes());
    let error = codec.decode(&bytes, SHAPE, &mut Vec::new()).unwrap_err();
    assert!(
        error.is_corrupt() && error.to_string().contains("too many"),
        "{error}"
    );
}

#[test]
fn a_codec_that_is_not_compiled_in_is_named_by_its_number() {
    let text = |plugins: &[&'static Plugin], bytes: &[u8]| {
        let error = decoders(plugins)
            .decode_block(bytes, SHAPE, &mut Vec::new())
            .unwrap_err();
        assert!(error.is_unsupported(), "{error:?}");
        error.to_string()
    };
    assert!(text(&[&WHOLE], &block(&plain())).contains("codec number 60001"));
    assert!(text(&[&WHOLE], &block(&composed())).contains("codec number 60001"));
    assert!(text(&[&PLAIN], &block(&composed())).contains("codec number 60002"));
}

#[test]
fn only_a_byte_codec_stands_behind_another() {
    let error = BlockCodec::new(Arc::new(Plain), Some(Arc::new(Whole))).unwrap_err();
    assert!(
        error.is_config() && error.to_string().contains("[codec.then]"),
        "{error}"
    );
}

#[test]
fn a_refused_block_leaves_the_output_as_it_was() {
    let data = [1.0, 500.0, 2.0];
    let shape = Shape { rows: 1, dim: 3 };
    let whole = BlockCodec::new(Arc::new(Whole), None).unwrap();
    for codec in [whole, composed()] {
        let mut out = vec![1, 2];
        let error = codec
            .encode_block(VectorBlock::new(&data, shape).unwrap(), &mut out)
            .unwrap_err();
        assert!(error.is_invalid_input());
        assert_eq!(out, [1, 2]);
    }
}

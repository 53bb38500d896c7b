//! Lossy codecs with real byte codecs behind them, written as blocks and read by number.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;

use aether_core::codec::{BlockCodec, Decoders};
use aether_core::config::Slot;
use aether_core::plugin::Role;
use aether_core::vector::{Shape, VectorBlock};
use aether_core::{BuildContext, Metric, Registry};

const SHAPE: Shape = Shape { rows: 64, dim: 96 };

fn setting() -> (Arc<Registry>, BuildContext) {
    let mut registry = Registry::empty();
    for plugin in [
        &aether_codec_raw::PLUGIN,
        &aether_codec_lz4::PLUGIN,
        &aether_codec_zstd::PLUGIN,
        &aether_codec_f16::PLUGIN,
        &aether_codec_sq8::PLUGIN,
    ] {
        registry.add(plugin).unwrap();
    }
    let mut context = aether_testkit::conformance::context(SHAPE.dim, Metric::L2, None);
    context.registry = Arc::new(registry.clone());
    (Arc::new(registry), context)
}

/// Vectors with few large components.
fn data() -> Vec<f32> {
    let mut rng = fastrand::Rng::with_seed(11);
    let mut component = || (rng.f32() * 2.0 - 1.0).powi(3);
    (0..SHAPE.len()).map(|_| component()).collect()
}

fn encode(codec: &BlockCodec, data: &[f32]) -> Vec<u8> {
    let mut out = Vec::new();
    codec
        .encode_block(VectorBlock::new(data, SHAPE).unwrap(), &mut out)
        .unwrap();
    out
}

#[test]
fn every_composition_of_this_repository_keeps_the_first_codecs_promise() {
    let (registry, context) = setting();
    let decoders = Decoders::new(Arc::clone(&registry), context.clone());
    let data = data();
    let build = |name: &str| {
        registry
            .codec(&Slot::named(Role::Codec, name), &context)
            .unwrap()
    };
    for first in ["f16", "sq8", "zstd"] {
        let alone = encode(&BlockCodec::new(build(first), None).unwrap(), &data);
        let (mut expected, mut got) = (Vec::new(), Vec::new());
        decoders.decode_block(&alone, SHAPE, &mut expected).unwrap();
        for then in ["raw", "lz4", "zstd"] {
            let codec = BlockCodec::new(build(first), Some(build(then))).unwrap();
            let bytes = encode(&codec, &data);
            got.clear();
            let fidelity = decoders.decode_block(&bytes, SHAPE, &mut got).unwrap();
            assert_eq!(fidelity, build(first).fidelity());
            assert_eq!(
                got, expected,
                "{first} then {then}: the byte codec must change nothing"
            );
            let overhead = bytes.len() as i64 - alone.len() as i64;
            assert!(overhead <= 13, "{first} then {then} adds {overhead} bytes");
        }
    }
}

#[test]
fn zstd_behind_a_lossy_codec_makes_it_smaller() {
    let (registry, context) = setting();
    let build = |name: &str| {
        registry
            .codec(&Slot::named(Role::Codec, name), &context)
            .unwrap()
    };
    for first in ["f16", "sq8"] {
        let alone = encode(&BlockCodec::new(build(first), None).unwrap(), &data());
        let packed = BlockCodec::new(build(first), Some(build("zstd"))).unwrap();
        let packed = encode(&packed, &data());
        assert!(
            packed.len() < alone.len(),
            "{first}: {} of {} bytes",
            packed.len(),
            alone.len()
        );
    }
}

#[test]
fn damage_anywhere_in_a_composed_block_is_found() {
    let (registry, context) = setting();
    let decoders = Decoders::new(Arc::clone(&registry), context.clone());
    let build = |name: &str| {
        registry
            .codec(&Slot::named(Role::Codec, name), &context)
            .unwrap()
    };
    let codec = BlockCodec::new(build("sq8"), Some(build("zstd"))).unwrap();
    let shape = Shape { rows: 3, dim: 5 };
    let mut good = Vec::new();
    let data = &data()[..15];
    codec
        .encode_block(VectorBlock::new(data, shape).unwrap(), &mut good)
        .unwrap();
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        let mut out = vec![0.5];
        let error = decoders.decode_block(&bad, shape, &mut out).unwrap_err();
        assert!(error.is_corrupt(), "bit {bit}: {error:?}");
        assert_eq!(out, [0.5]);
    }
}

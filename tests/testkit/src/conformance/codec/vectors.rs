//! Vectors in, vectors out.

use std::thread;

use aether_core::Registry;
use aether_core::role::{CodecId, Fidelity};
use aether_core::vector::{DIM_MAX, Shape};
use proptest::prelude::*;

use super::super::property;
use super::{CodecHarness, bits, block, check_fidelity, decode, encode, sample};

/// The number is not 0, the same for all settings; a bound is finite, not negative, and of use: below 5 % for a component of 1 in a
/// vector that spans 1.
///
/// # Panics
/// When it is not so.
pub fn number_and_fidelity_are_stated(h: &CodecHarness) {
    Registry::empty()
        .add(h.plugin)
        .expect("a plug-in that can be registered");
    for codec in h.all() {
        assert_ne!(codec.id(), CodecId(0), "0 stands for no codec");
        assert_eq!(codec.fidelity(), codec.fidelity());
        if let Fidelity::Lossy {
            relative,
            range,
            absolute,
        } = codec.fidelity()
        {
            for part in [relative, range, absolute] {
                assert!(part.is_finite() && part >= 0.0, "{:?}", codec.fidelity());
            }
            let bound = codec.fidelity().bound(1.0, 1.0);
            assert!(bound > 0.0 && bound < 0.05, "bound {bound} is of no use");
        }
    }
}

/// Finite vectors come back bit for bit, or within the bound that a lossy codec states.
///
/// # Panics
/// With the smallest block that does not.
pub fn vectors_come_back_within_the_fidelity(h: &CodecHarness) {
    // Components of all sizes that f16 can hold, with zeros, denormals and equal numbers among them.
    let component = prop_oneof![
        4 => -1.0f32..1.0,
        2 => -60_000.0f32..60_000.0,
        1 => -1e-6f32..1e-6,
        1 => prop::sample::select(vec![0.0, -0.0, 1.0, f32::MIN_POSITIVE, -f32::from_bits(3), 0.1]),
    ];
    for codec in h.all() {
        let rows = (1usize..20, prop::collection::vec(component.clone(), 0..400));
        property(200, rows, |(dim, mut data)| {
            data.truncate(data.len() / dim * dim);
            let bytes = encode(codec.as_ref(), &data, dim);
            let got = decode(codec.as_ref(), &bytes, data.len() / dim, dim);
            check_fidelity(codec.as_ref(), &data, &got.expect("a decoding"), dim);
        });
    }
}

/// An exact codec gives back any 32 bits: NaN with its payload, infinities, negative zero, denormals.
///
/// # Panics
/// With the smallest block for which it does not.
pub fn any_bits_come_back_from_an_exact_codec(h: &CodecHarness) {
    for codec in h.all().filter(|c| c.fidelity().is_exact()) {
        let special = [
            0x7fc0_0000,
            0x7f80_0001,
            0xffff_ffff,
            0x7f80_0000,
            0xff80_0000,
            0x8000_0000,
            0,
            1,
            0x807f_ffff,
        ];
        let data: Vec<f32> = special.map(f32::from_bits).to_vec();
        let bytes = encode(codec.as_ref(), &data, 3);
        let got = decode(codec.as_ref(), &bytes, 3, 3).expect("a decoding");
        assert_eq!(bits(&got), special, "special numbers");
        property(100, prop::collection::vec(any::<u32>(), 0..300), |words| {
            let data: Vec<f32> = words.iter().map(|w| f32::from_bits(*w)).collect();
            let bytes = encode(codec.as_ref(), &data, 1);
            let got = decode(codec.as_ref(), &bytes, data.len(), 1).expect("a decoding");
            assert_eq!(bits(&got), words);
        });
    }
}

/// A number that a codec cannot hold within its bound is `InvalidInput` with the number in the message, or comes back within the
/// bound; `out` is as before an error. Numbers that are not finite give no panic.
///
/// # Panics
/// When it is not so.
pub fn values_out_of_range_are_refused_by_name(h: &CodecHarness) {
    for codec in h.all() {
        for big in [
            65_504.0f32,
            65_505.0,
            65_520.0,
            70_000.0,
            1e10,
            -1e30,
            f32::MAX,
            f32::MIN,
            f32::NAN,
            f32::INFINITY,
        ] {
            for at in [0, 7, 11] {
                let mut data = sample(1, 4, 3);
                data[at] = big;
                let mut out = vec![1, 2, 3];
                match codec.encode(block(&data, 3), &mut out) {
                    Ok(()) if big.is_finite() => {
                        let got = decode(codec.as_ref(), &out[3..], 4, 3).expect("a decoding");
                        check_fidelity(codec.as_ref(), &data, &got, 3);
                    }
                    Ok(()) => assert!(
                        codec.fidelity().is_exact(),
                        "a lossy codec has no bound for {big}, so it must refuse it"
                    ),
                    Err(e) => {
                        assert!(e.is_invalid_input(), "{big}: {e:?}");
                        assert_eq!(out, [1, 2, 3], "`out` must be as before an error");
                        let (row, column) = (at / 3, at % 3);
                        let text = e.to_string();
                        assert!(
                            text.contains(&row.to_string()) && text.contains(&column.to_string()),
                            "the message must say which number: row {row}, component {column}; got {text}"
                        );
                    }
                }
            }
        }
    }
}

/// Blocks of no rows, of one, of many; of the smallest and the largest dimension.
///
/// # Panics
/// When one does not come back.
pub fn blocks_of_every_shape_come_back(h: &CodecHarness) {
    for codec in h.all() {
        for dim in [1, 2, 3, 17, 384, DIM_MAX] {
            for rows in [0, 1, 2, 33] {
                if rows * dim > 2 * DIM_MAX {
                    continue;
                }
                let data = sample(rows as u64, rows, dim);
                let bytes = encode(codec.as_ref(), &data, dim);
                let got = decode(codec.as_ref(), &bytes, rows, dim).expect("a decoding");
                check_fidelity(codec.as_ref(), &data, &got, dim);
            }
        }
        for constant in [0.0, -2.5] {
            let data = vec![constant; 3_000];
            let bytes = encode(codec.as_ref(), &data, 30);
            let got = decode(codec.as_ref(), &bytes, 100, 30).expect("a decoding");
            check_fidelity(codec.as_ref(), &data, &got, 30);
        }
        // Alike rows, as duplicates make them: what a packer finds must be found again.
        let data = sample(9, 1, 64).repeat(200);
        let bytes = encode(codec.as_ref(), &data, 64);
        let got = decode(codec.as_ref(), &bytes, 200, 64).expect("a decoding");
        check_fidelity(codec.as_ref(), &data, &got, 64);
    }
}

/// Encoding and decoding append: what `out` held stays, and what follows does not depend on it.
///
/// # Panics
/// When it is not so.
pub fn output_is_appended(h: &CodecHarness) {
    for codec in h.all() {
        let data = sample(2, 5, 7);
        let alone = encode(codec.as_ref(), &data, 7);
        let mut out = vec![0xee; 13];
        codec
            .encode(block(&data, 7), &mut out)
            .expect("an encoding");
        assert_eq!(out[..13], [0xee; 13]);
        assert_eq!(out[13..], alone);
        let mut floats = vec![4.5; 3];
        let shape = Shape { rows: 5, dim: 7 };
        codec
            .decode(&alone, shape, &mut floats)
            .expect("a decoding");
        assert_eq!(floats[..3], [4.5; 3]);
        check_fidelity(codec.as_ref(), &data, &floats[3..], 7);
        codec
            .decode(&alone, shape, &mut floats)
            .expect("a second decoding");
        assert_eq!(bits(&floats[3..38]), bits(&floats[38..]));
    }
}

/// The same block gives the same bytes: again, after other blocks, and from another instance.
///
/// # Panics
/// When it is not so.
pub fn encoding_is_deterministic(h: &CodecHarness) {
    for keys in h.settings {
        let (one, two) = (h.build(keys), h.build(keys));
        let data = sample(3, 50, 32);
        let first = encode(one.as_ref(), &data, 32);
        encode(one.as_ref(), &sample(4, 80, 5), 5);
        assert_eq!(
            encode(one.as_ref(), &data, 32),
            first,
            "after another block"
        );
        assert_eq!(
            encode(two.as_ref(), &data, 32),
            first,
            "from another instance"
        );
    }
}

/// Each set of settings reads what any other wrote.
///
/// # Panics
/// When one does not.
pub fn settings_read_each_other(h: &CodecHarness) {
    let codecs: Vec<_> = h.all().collect();
    let data = sample(5, 40, 24);
    for writer in &codecs {
        let bytes = encode(writer.as_ref(), &data, 24);
        for reader in &codecs {
            assert_eq!(reader.id(), writer.id());
            let got = decode(reader.as_ref(), &bytes, 40, 24);
            let got = got.expect("a decoding of what other settings wrote");
            check_fidelity(writer.as_ref(), &data, &got, 24);
        }
    }
}

/// Many threads share an instance.
///
/// # Panics
/// When they get in each other's way.
pub fn callers_may_share_an_instance(h: &CodecHarness) {
    for codec in h.all() {
        let codec = codec.as_ref();
        thread::scope(|scope| {
            for t in 0..4 {
                scope.spawn(move || {
                    for i in 0..50 {
                        let (rows, dim) = (1 + (t + i) % 7, 16 + t);
                        let data = sample((t * 100 + i) as u64, rows, dim);
                        let bytes = encode(codec, &data, dim);
                        let got = decode(codec, &bytes, rows, dim).expect("a decoding");
                        check_fidelity(codec, &data, &got, dim);
                    }
                });
            }
        });
    }
}

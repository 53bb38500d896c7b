//! A codec as a packer of plain bytes, where it is one.

use aether_core::role::ByteCodec;
use proptest::prelude::*;

use super::super::property;
use super::CodecHarness;

fn pack(codec: &dyn ByteCodec, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![7, 7];
    codec.pack(bytes, &mut out).expect("packing");
    assert_eq!(out[..2], [7, 7], "packing must append");
    out.split_off(2)
}

fn refused(codec: &dyn ByteCodec, packed: &[u8], len: usize, what: &str) {
    let mut out = vec![5, 6];
    match codec.unpack(packed, len, &mut out) {
        Ok(()) => panic!("{what}: it was unpacked"),
        Err(e) => assert!(e.is_corrupt(), "{what}: expected Corrupt, got {e:?}"),
    }
    assert_eq!(out, [5, 6], "{what}: `out` must be as before");
}

/// Bytes of any content and length come back, appended, the same each time.
///
/// # Panics
/// With the smallest input that does not.
pub fn plain_bytes_come_back(h: &CodecHarness) {
    for codec in h.all() {
        let Some(codec) = codec.as_byte_codec() else {
            continue;
        };
        let check = |bytes: &[u8]| {
            let packed = pack(codec, bytes);
            assert_eq!(pack(codec, bytes), packed, "packing must be deterministic");
            let mut out = vec![9];
            codec
                .unpack(&packed, bytes.len(), &mut out)
                .expect("unpacking");
            assert_eq!(out[0], 9, "unpacking must append");
            assert!(
                out[1..] == *bytes,
                "{} bytes came back changed",
                bytes.len()
            );
        };
        for len in [0, 1, 2, 3, 4, 5, 100, 65_536, 1_000_003] {
            check(&vec![0; len]);
            check(&(0..len).map(|i| (i % 251) as u8).collect::<Vec<u8>>());
        }
        let text = prop::collection::vec(0u8..4, 0..600);
        let noise = prop::collection::vec(any::<u8>(), 0..600);
        property(100, prop_oneof![text, noise], |bytes| check(&bytes));
    }
}

/// Damage, cuts, additions, other lengths and garbage are `Corrupt`; lengths beyond all memory allocate nothing.
///
/// # Panics
/// When it is not so.
pub fn damaged_bytes_are_refused(h: &CodecHarness) {
    for codec in h.all() {
        let Some(codec) = codec.as_byte_codec() else {
            continue;
        };
        for bytes in [
            &b""[..],
            b"x",
            b"some plain bytes, some plain bytes",
            &[0; 300],
        ] {
            let good = pack(codec, bytes);
            for bit in 0..good.len() * 8 {
                let mut bad = good.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                refused(codec, &bad, bytes.len(), &format!("bit {bit} flipped"));
            }
            for cut in 0..good.len() {
                refused(codec, &good[..cut], bytes.len(), &format!("cut at {cut}"));
            }
            refused(
                codec,
                &[&good[..], &[0]].concat(),
                bytes.len(),
                "trailing bytes",
            );
            for len in [0, 1, 35, 299, 301, 1 << 40, usize::MAX] {
                if len != bytes.len() {
                    refused(
                        codec,
                        &good,
                        len,
                        &format!("{} bytes read as {len}", bytes.len()),
                    );
                }
            }
        }
        let bomb = pack(codec, &vec![0; 1 << 22]);
        let mut out = Vec::new();
        assert!(
            codec.unpack(&bomb, 100, &mut out).is_err(),
            "a bomb was unpacked"
        );
        assert!(
            out.capacity() <= 1_000,
            "{} bytes were reserved for 100",
            out.capacity()
        );
        let noise = prop::collection::vec(any::<u8>(), 0..100);
        property(300, (noise, 0usize..100), |(noise, len)| {
            refused(codec, &noise, len, "random bytes");
        });
    }
}

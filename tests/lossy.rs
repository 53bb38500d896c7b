//! Losing precision is a choice that is spelt out, and a vector that lost some says so; every dimension from 1 to 65,536 is taken.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use aether::role::{Fidelity, Tier};
use aether::{BlockingMemory, Config, Point, PointId};

fn open(dim: usize, codec: &str) -> BlockingMemory {
    let text = format!(
        "[memory]\ndim = {dim}\nmetric = \"l2\"\nhot_budget = \"64MiB\"\n[flux]\ntick = \"0s\"\n[hot]\nbackend = \"flat\"\n\
         [meta]\nbackend = \"memory\"\n[cold]\nbackend = \"memory\"\n{codec}"
    );
    aether::open_blocking(Config::from_toml(&text).unwrap()).unwrap()
}

fn vector(dim: usize) -> Vec<f32> {
    (0..dim)
        .map(|i| ((i * 7919) % 1000) as f32 / 500.0 - 1.0)
        .collect()
}

/// Exact until it first goes cold; from then on within the codec's bound and marked so, also when it is hot again.
#[test]
fn a_vector_that_came_back_through_a_lossy_codec_says_so() {
    let memory = open(
        100,
        "[codec]\nbackend = \"sq8\"\n[codec.then]\nbackend = \"zstd\"\n",
    );
    let (id, sent) = (PointId::Int(1), vector(100));
    memory.upsert(vec![Point::new(1, sent.clone())]).unwrap();
    let fresh = memory.get(&id).unwrap().unwrap();
    assert_eq!(
        (fresh.fidelity, fresh.vector.as_deref()),
        (Fidelity::Exact, Some(&sent[..]))
    );
    assert_eq!(memory.demote(std::slice::from_ref(&id)).unwrap(), 1);
    for tier in [Tier::Cold, Tier::Hot] {
        if tier == Tier::Hot {
            assert_eq!(memory.promote(std::slice::from_ref(&id)).unwrap(), 1);
        }
        let back = memory.get(&id).unwrap().unwrap();
        assert_eq!(back.tier, tier);
        assert!(
            matches!(back.fidelity, Fidelity::Lossy { .. }),
            "{:?}",
            back.fidelity
        );
        for (a, b) in sent.iter().zip(back.vector.unwrap()) {
            assert!(
                (a - b).abs() <= back.fidelity.bound(*a, 2.0),
                "{a} came back as {b}"
            );
        }
    }
    memory.close().unwrap();
}

/// The default codec gives back the bits, at the smallest and the largest dimension.
#[test]
fn every_dimension_goes_cold_and_comes_back_bit_for_bit() {
    for dim in [1, 2, 4_097, 65_536] {
        let memory = open(dim, "");
        let (id, sent) = (PointId::Int(1), vector(dim));
        memory.upsert(vec![Point::new(1, sent.clone())]).unwrap();
        assert_eq!(memory.demote(std::slice::from_ref(&id)).unwrap(), 1);
        let back = memory.get(&id).unwrap().unwrap();
        assert_eq!((back.tier, back.fidelity), (Tier::Cold, Fidelity::Exact));
        assert_eq!(back.vector.unwrap(), sent, "{dim} dimensions");
        memory.close().unwrap();
    }
    let text = "[memory]\ndim = 65537\n";
    let refused = Config::from_toml(text).unwrap_err().to_string();
    assert!(
        refused.contains("0 to 65536") && refused.contains("65537"),
        "{refused}"
    );
}

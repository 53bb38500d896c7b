//! Seeded generators of what users store and ask: ids of all kinds, vectors with and without structure, payloads.

use aether_core::{Point, PointId};
use fastrand::Rng;
use serde_json::{Value, json};

/// The `n`th id of a pool that mixes integers, texts and UUIDs. Equal numbers give equal ids.
pub fn id(n: u64) -> PointId {
    match n % 4 {
        0 | 1 => PointId::Int(n),
        2 => PointId::from(format!("point {n} of the pool").as_str()),
        _ => {
            let mut rng = Rng::with_seed(n);
            PointId::Uuid(uuid_of(rng.u128(..)))
        }
    }
}

fn uuid_of(bits: u128) -> uuid::Uuid {
    uuid::Uuid::from_u128(bits)
}

/// A vector of `dim` floats from -1 to 1, near one of eight centres four times out of five, so that partitions differ in size.
/// Never zero.
pub fn vector(rng: &mut Rng, dim: usize) -> Vec<f32> {
    let free = |rng: &mut Rng| -> Vec<f32> { (0..dim).map(|_| rng.f32() * 2.0 - 1.0).collect() };
    let mut v = if rng.u8(..5) == 0 {
        free(rng)
    } else {
        let centre = free(&mut Rng::with_seed(rng.u64(..8)));
        let noise = free(rng);
        centre.iter().zip(noise).map(|(c, n)| c + 0.1 * n).collect()
    };
    if v.iter().all(|x| x.abs() < 1e-3) {
        v.iter_mut().for_each(|x| *x = 1.0);
    }
    v
}

/// No payload, a small one, or a long one.
pub fn payload(rng: &mut Rng) -> Option<Value> {
    match rng.u8(..4) {
        0 => None,
        1 => Some(json!("x".repeat(rng.usize(..2000)))),
        _ => Some(json!({ "n": rng.u32(..), "words": ["cold", "hot"] })),
    }
}

/// A point for an id.
pub fn point(rng: &mut Rng, id: PointId, dim: usize) -> Point {
    let mut point = Point::new(id, vector(rng, dim));
    point.payload = payload(rng);
    point
}

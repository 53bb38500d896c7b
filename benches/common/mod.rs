//! Seeded data, and memories in temporary folders with the real plug-ins.

#![allow(dead_code, reason = "each bench uses a part")]
#![allow(clippy::unwrap_used, reason = "a bench stops at the first surprise")]

use std::path::Path;
use std::sync::Arc;

use aether::{Config, Memory, MemoryBuilder, Point, PointId, Registry};
use tokio::runtime::Runtime;

/// Dimension of all synthetic data: that of small sentence embeddings.
pub(crate) const DIM: usize = 384;

/// Vectors that lie in clusters, as embeddings do: 64 centres, noise of half their spread, norm 1. `[rows, DIM]`.
pub(crate) fn clustered(rows: usize, seed: u64) -> Vec<Vec<f32>> {
    let mut centres = fastrand::Rng::with_seed(1);
    let normal = |rng: &mut fastrand::Rng| (0..4).map(|_| rng.f32()).sum::<f32>() - 2.0;
    let centres: Vec<Vec<f32>> = (0..64)
        .map(|_| (0..DIM).map(|_| normal(&mut centres)).collect())
        .collect();
    let mut rng = fastrand::Rng::with_seed(seed);
    let vector = |_| {
        let centre = &centres[rng.usize(..centres.len())];
        let v: Vec<f32> = centre.iter().map(|c| c + 0.5 * normal(&mut rng)).collect();
        let norm = v.iter().map(|x| x * x).sum::<f32>().sqrt();
        v.into_iter().map(|x| x / norm).collect()
    };
    (0..rows).map(vector).collect()
}

/// The speeches of Shakespeare, as the repository has them; `None` where the folder is missing.
pub(crate) fn shakespeare() -> Option<Vec<Vec<f32>>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data/shakespeare");
    let file = std::fs::read_dir(folder)
        .ok()?
        .flatten()
        .map(|e| e.path())
        .find(|p| {
            let name = p.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            name.ends_with(".npy") && !name.contains("quer") && !name.contains("truth")
        })?;
    let bytes = std::fs::read(file).ok()?;
    // A version 1 header: magic, version, its length in two bytes, then text that ends at the data.
    let start = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = std::str::from_utf8(&bytes[10..start]).ok()?;
    let shape = header.split("'shape': (").nth(1)?.split(')').next()?;
    let dim: usize = shape.split(',').nth(1)?.trim().parse().ok()?;
    let data = &bytes[start..];
    let floats: Vec<f32> = if header.contains("<f2") {
        let half = |b: &[u8]| half::f16::from_le_bytes([b[0], b[1]]).to_f32();
        data.chunks_exact(2).map(half).collect()
    } else {
        data.chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect()
    };
    Some(floats.chunks_exact(dim).map(<[f32]>::to_vec).collect())
}

pub(crate) fn registry() -> Arc<Registry> {
    Arc::new(aether::registry().unwrap())
}

pub(crate) fn config(folder: &Path, more: &str) -> Config {
    let text = format!(
        "[memory]\npath = {:?}\ndim = {DIM}\nmetric = \"cosine\"\nhot_budget = \"2GiB\"\n[flux]\ntick = \"0s\"\n{more}",
        folder.join("memory")
    );
    Config::from_toml(&text).unwrap()
}

pub(crate) fn open(runtime: &Runtime, config: Config) -> Memory {
    runtime
        .block_on(MemoryBuilder::new(config, registry()).open())
        .unwrap()
}

pub(crate) fn runtime() -> Runtime {
    Runtime::new().unwrap()
}

pub(crate) fn points(vectors: &[Vec<f32>], first: u64) -> Vec<Point> {
    (first..)
        .zip(vectors)
        .map(|(i, v)| Point::new(i, v.clone()))
        .collect()
}

/// Writes all, a thousand at a time.
pub(crate) fn fill(runtime: &Runtime, memory: &Memory, vectors: &[Vec<f32>]) {
    for (i, part) in (0..).zip(vectors.chunks(1000)) {
        runtime
            .block_on(memory.upsert(points(part, i * 1000)))
            .unwrap();
    }
}

pub(crate) fn ids(range: std::ops::Range<u64>) -> Vec<PointId> {
    range.map(PointId::Int).collect()
}

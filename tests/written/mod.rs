//! What the golden memories and snapshots in `tests/golden` hold, and how to lay one out.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test takes its own part, and stops at the first surprise"
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aether::{BlockingMemory, CheckReport, Config, Point, PointId};
use serde_json::{Value, json};

pub(crate) const DIM: usize = 4;
pub(crate) const POINTS: u64 = 90;
/// Of the points that were written, these are deleted and those that follow were replaced.
pub(crate) const DELETED: std::ops::Range<u64> = 10..15;
pub(crate) const REPLACED: std::ops::Range<u64> = 15..20;
pub(crate) fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
}

pub(crate) fn config_of(path: &Path) -> Config {
    let text = format!(
        "[memory]\npath = {path:?}\ndim = {DIM}\nmetric = \"l2\"\nhot_budget = \"8MiB\"\n[flux]\ntick = \"0s\"\n\
         [search]\npartition_rows = 16\n"
    );
    Config::from_toml(&text).unwrap()
}

/// Floats that every machine makes alike.
pub(crate) fn vector_of(i: u64) -> Vec<f32> {
    (0..DIM as u64)
        .map(|d| ((i * 37 + d * 11 + i * d * 5) % 101) as f32 / 8.0 - 6.0)
        .collect()
}

pub(crate) fn version_of(i: u64) -> u64 {
    if REPLACED.contains(&i) { i + 1000 } else { i }
}

pub(crate) fn id_of(i: u64) -> PointId {
    match i % 3 {
        0 => PointId::Int(i),
        1 => PointId::from(format!("point-{i}")),
        _ => PointId::from(uuid::Uuid::from_u128(u128::from(i) << 100 | 0xfeed)),
    }
}

pub(crate) fn payload_of(i: u64) -> Option<Value> {
    (!i.is_multiple_of(4)).then(|| json!({ "n": i, "words": ["größer", "als", i] }))
}

pub(crate) fn point_of(i: u64) -> Point {
    let mut point = Point::new(id_of(i), vector_of(version_of(i)));
    point.payload = payload_of(i);
    point
}

/// Writes all that the golden memories hold, with the vectors of an id's version.
pub(crate) fn write(memory: &BlockingMemory, vector: impl Fn(u64) -> Vec<f32>) {
    let point_of = |i: u64, version: u64| {
        let mut point = Point::new(id_of(i), vector(version));
        point.payload = payload_of(i);
        if i == 81 {
            point = point.with_ttl(std::time::Duration::from_secs(3_000_000_000), true);
        }
        point
    };
    memory
        .upsert((0..POINTS).map(|i| point_of(i, i)).collect())
        .unwrap();
    for cold in [0..30, 30..60] {
        memory.demote(&cold.map(id_of).collect::<Vec<_>>()).unwrap();
    }
    let replaced = REPLACED.map(|i| point_of(i, version_of(i)));
    memory.upsert(replaced.collect()).unwrap();
    memory
        .delete(&DELETED.map(id_of).collect::<Vec<_>>())
        .unwrap();
    memory
        .promote(&(40..50).map(id_of).collect::<Vec<_>>())
        .unwrap();
    memory.pin(&[id_of(80)]).unwrap();
}

pub(crate) fn live() -> impl Iterator<Item = u64> {
    (0..POINTS).filter(|i| !DELETED.contains(i))
}

pub(crate) fn check(config: &Config) -> CheckReport {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime
        .block_on(aether::check(config, Arc::new(aether::registry().unwrap())))
        .unwrap()
}

/// Copies a folder; what ends in `.zst` is unpacked (redb's smallest file is a megabyte, nearly all of it zeros).
pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else if path.extension().is_some_and(|e| e == "zst") {
            let plain = zstd::stream::decode_all(std::fs::File::open(&path).unwrap()).unwrap();
            std::fs::write(target.with_extension(""), plain).unwrap();
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}

pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

//! Every decoder that bytes from outside reach, on inputs that grew wrong: no panic, and no more RAM than what was declared.
//!
//! `AETHER_INPUTS` sets how many inputs a target gets (100,000), `AETHER_SEED` repeats a run; a failure prints the bytes.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::path::Path;
use std::sync::Arc;

use aether::config::Slot;
use aether::import::{Import, Matrix, Options, Truth};
use aether::replay::TraceReader;
use aether::vector::{Shape, VectorBlock};
use aether::{BuildContext, Config, ManualClock, Metric, Role, Row};
use aether_testkit::alloc::Counting;
use aether_testkit::damage::feed;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn context() -> BuildContext {
    BuildContext {
        dim: 12,
        metric: Metric::L2,
        data_dir: None,
        clock: Arc::new(ManualClock::new()),
        seed: 1,
        read_only: false,
        registry: Arc::new(aether::registry().unwrap()),
    }
}

fn vectors(rows: usize) -> Vec<f32> {
    let mut rng = fastrand::Rng::with_seed(7);
    (0..rows * 12).map(|_| rng.f32() - 0.5).collect()
}

#[test]
fn codecs() {
    let context = context();
    let data = vectors(9);
    let shape = Shape { rows: 9, dim: 12 };
    for name in ["raw", "lz4", "zstd", "f16", "sq8"] {
        let slot = Slot::named(Role::Codec, name);
        let codec = context.registry.codec(&slot, &context).unwrap();
        let mut good = Vec::new();
        let block = VectorBlock::new(&data, shape).unwrap();
        codec.encode(block, &mut good).unwrap();
        feed(name, 1 << 20, &[good], |bytes| {
            let mut out = vec![1.5];
            let decoded = codec.decode(bytes, shape, &mut out).is_ok();
            assert_eq!(out.len(), if decoded { 1 + shape.len() } else { 1 });
            decoded
        });
    }
}

#[test]
fn hot_snapshots() {
    let context = context();
    let data = vectors(40);
    let rows: Vec<Row> = (0..40).map(Row).collect();
    for name in ["flat", "hnsw"] {
        let slot = Slot::named(Role::Hot, name);
        let make = || context.registry.hot(&slot, &context).unwrap();
        let full = make();
        full.insert_batch(&rows, &data).unwrap();
        let mut good = Vec::new();
        full.save(&mut good).unwrap();
        // An index has pages of its own, of a megabyte or so.
        feed(name, 32 << 20, &[good], |bytes| {
            let index = make();
            let loaded = index.load(&mut &bytes[..]).is_ok();
            assert_eq!(index.len(), if loaded { 40 } else { 0 });
            loaded
        });
    }
}

#[test]
fn configurations() {
    let example = include_str!("../aether.toml.example");
    let short = "[memory]\ndim = 384\nhot_budget = \"1GiB\"\n[flux]\ntick = \"100ms\"\n[codec]\nbackend = \"sq8\"\n\
                 [codec.then]\nbackend = \"zstd\"\nlevel = 3\n";
    let good = [example.as_bytes().to_vec(), short.as_bytes().to_vec()];
    feed("toml", 16 << 20, &good, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        Config::from_toml(&text).is_ok()
    });
}

/// Feeds a target that reads a file of some name.
fn feed_file(name: &str, most: i64, good: &[Vec<u8>], read: impl Fn(&Path) -> bool) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    feed(name, most, good, |bytes| {
        std::fs::write(&path, bytes).unwrap();
        let taken = read(&path);
        // A file that is written over instead waits for the disk on some file systems.
        std::fs::remove_file(&path).unwrap();
        taken
    });
}

fn import(path: &Path) -> bool {
    let read = || -> aether::Result<()> {
        let mut import = Import::open(path, &Options::default())?;
        while !import.batch(100)?.is_empty() {}
        Ok(())
    };
    read().is_ok()
}

/// A `.npy` file of little-endian floats.
fn npy(data: &[f32], dim: usize) -> Vec<u8> {
    let mut header = format!(
        "{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, {dim}), }}",
        data.len() / dim
    );
    while (10 + header.len() + 1) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    data.iter().for_each(|x| bytes.extend(x.to_le_bytes()));
    bytes
}

#[test]
fn vector_files() {
    let data = vectors(6);
    feed_file("base.npy", 16 << 20, &[npy(&data, 12)], import);
    let mut fvecs = Vec::new();
    let mut ivecs = Vec::new();
    for row in data.chunks(12) {
        fvecs.extend(12u32.to_le_bytes());
        row.iter().for_each(|x| fvecs.extend(x.to_le_bytes()));
        ivecs.extend(3u32.to_le_bytes());
        (0..3u32).for_each(|n| ivecs.extend(n.to_le_bytes()));
    }
    feed_file("base.fvecs", 16 << 20, std::slice::from_ref(&fvecs), import);
    feed_file("matrix.fvecs", 16 << 20, &[fvecs], |path| {
        Matrix::read(path, &Options::default()).is_ok()
    });
    feed_file("truth.ivecs", 16 << 20, &[ivecs], |path| {
        Truth::read(path).is_ok()
    });
    let jsonl = "{\"id\": 7, \"vector\": [1, 2.5, -3e2], \"payload\": {\"a\": [null, \"\\u00e9\"]}}\n\
                 {\"id\": \"text\", \"vector\": [0, 0.25, 1]}\n";
    feed_file("base.jsonl", 16 << 20, &[jsonl.as_bytes().to_vec()], import);
}

#[test]
fn traces() {
    let read = |path: &Path| {
        let read = || -> aether::Result<()> {
            let mut reader = TraceReader::open(path, None)?;
            while reader.read()?.is_some() {}
            Ok(())
        };
        read().is_ok()
    };
    let csv = "time,key,size\n1,10,100\n2,11,200\n3,10,100\n";
    feed_file("trace.csv", 16 << 20, &[csv.as_bytes().to_vec()], read);
    let packed = zstd::encode_all(csv.as_bytes(), 3).unwrap();
    feed_file("trace.csv.zst", 16 << 20, &[packed], read);
    let mut oracle = Vec::new();
    for n in 0..8u32 {
        oracle.extend(n.to_le_bytes());
        oracle.extend(u64::from(n % 3).to_le_bytes());
        oracle.extend(100u32.to_le_bytes());
        oracle.extend((-1i64).to_le_bytes());
    }
    feed_file("trace.oracleGeneral.bin", 16 << 20, &[oracle], read);
}

//! Every decoder that bytes from outside reach, on inputs that grew wrong: no panic, and no more RAM than what was declared.
//!
//! Each input is a good one that was changed in a few places: bits flipped, numbers made extreme, parts cut, doubled, swapped or
//! replaced. `AETHER_INPUTS` sets how many a target gets, `AETHER_SEED` repeats a run; a failure prints the bytes.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use aether::config::Slot;
use aether::import::{Import, Matrix, Options, Truth};
use aether::replay::TraceReader;
use aether::vector::{Shape, VectorBlock};
use aether::{BuildContext, Config, ManualClock, Metric, Role, Row};
use aether_testkit::alloc::{Counting, peak_of};

/// Inputs of a target that works in RAM, and of one that reads a file.
const INPUTS: (u64, u64) = (100_000, 20_000);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn variable(name: &str) -> Option<u64> {
    Some(std::env::var(name).ok()?.parse().unwrap())
}

/// A good input made wrong.
fn changed(good: &[u8], rng: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = good.to_vec();
    for _ in 0..rng.u32(1..=4) {
        let n = bytes.len();
        if n == 0 {
            bytes.push(rng.u8(..));
            continue;
        }
        let at = rng.usize(..n);
        let to = (at + rng.usize(1..=16)).min(n);
        match rng.u8(0..9) {
            0 | 1 => bytes[at] ^= 1 << rng.u8(0..8),
            2 => {
                bytes[at] = *rng
                    .choice(&[0, 1, 0x7f, 0x80, 0xff, b'"', b'\n', b'-', b'9'])
                    .unwrap()
            }
            3 => bytes[at..to].fill(*rng.choice(&[0, 0xff]).unwrap()),
            4 => bytes[at..to].iter_mut().for_each(|b| *b = rng.u8(..)),
            5 => bytes.truncate(at),
            6 => {
                bytes.drain(at..to);
            }
            7 => {
                let part = bytes[at..to].to_vec();
                let place = rng.usize(..=n);
                bytes.splice(place..place, part);
            }
            _ => bytes.extend((0..rng.usize(1..32)).map(|_| rng.u8(..))),
        }
    }
    bytes
}

/// Feeds a target with changed inputs; how many of them it took for good.
fn feed(name: &str, inputs: u64, most: i64, good: &[Vec<u8>], target: impl Fn(&[u8]) -> bool) {
    let inputs = variable("AETHER_INPUTS").unwrap_or(inputs);
    let seed = variable("AETHER_SEED").unwrap_or_else(|| fastrand::u64(..));
    let mut rng = fastrand::Rng::with_seed(seed);
    for sample in good {
        assert!(target(sample), "{name}: a good input is refused");
    }
    let mut taken = 0;
    for n in 0..inputs {
        let bytes = changed(rng.choice(good).unwrap(), &mut rng);
        let (done, peak) = peak_of(|| catch_unwind(AssertUnwindSafe(|| target(&bytes))));
        let what = || format!("{name}, AETHER_SEED={seed}, input {n}: {bytes:?}");
        assert!(peak <= most, "{peak} bytes held at once, by {}", what());
        match done {
            Ok(fine) => taken += u64::from(fine),
            Err(_) => panic!("a panic, by {}", what()),
        }
    }
    println!("{name}: {inputs} inputs, {taken} taken for good, AETHER_SEED={seed}");
    assert!(taken < inputs, "{name}: nothing was refused");
}

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
        feed(name, INPUTS.0, 1 << 20, &[good], |bytes| {
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
        feed(name, INPUTS.1, 32 << 20, &[good], |bytes| {
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
    feed("toml", INPUTS.1, 16 << 20, &good, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        Config::from_toml(&text).is_ok()
    });
}

/// Feeds a target that reads a file of some name.
fn feed_file(name: &str, most: i64, good: &[Vec<u8>], read: impl Fn(&Path) -> bool) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    feed(name, INPUTS.1, most, good, |bytes| {
        std::fs::write(&path, bytes).unwrap();
        read(&path)
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

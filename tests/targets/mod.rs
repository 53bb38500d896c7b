//! Everything that decodes bytes from outside, as functions of bytes: for changed inputs (`tests/decoders.rs`) and for the fuzzer (`fuzz/`).

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each user takes its own part, and stops at the first surprise"
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aether::config::Slot;
use aether::decoders::{self, Decoder};
use aether::import::{Import, Matrix, Options, Truth};
use aether::replay::TraceReader;
use aether::vector::{Shape, VectorBlock};
use aether::{BuildContext, Config, ManualClock, Memory, Metric, Recording, Role, Row};

/// Whether an input was taken for good.
type Decode = Box<dyn Fn(&[u8]) -> bool>;

/// Something that decodes.
pub(crate) struct Target {
    pub(crate) name: &'static str,
    /// Bytes that it may hold at once.
    pub(crate) most: i64,
    /// Inputs that it takes.
    pub(crate) good: Vec<Vec<u8>>,
    /// Of so many inputs it gets one: what opens files and stores is slow.
    pub(crate) one_in: u64,
    pub(crate) read: Decode,
}

const MIB: i64 = 1 << 20;

impl Target {
    fn new(
        name: &'static str,
        most: i64,
        good: Vec<Vec<u8>>,
        read: impl Fn(&[u8]) -> bool + 'static,
    ) -> Self {
        Self {
            name,
            most,
            good,
            one_in: 1,
            read: Box::new(read),
        }
    }

    fn one_in(mut self, inputs: u64) -> Self {
        self.one_in = inputs;
        self
    }

    /// A target that reads a file of its name.
    fn file(
        name: &'static str,
        good: Vec<Vec<u8>>,
        read: impl Fn(&Path) -> bool + 'static,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        Self::new(name, 16 * MIB, good, move |bytes| {
            // The folder lives as long as the target.
            let _kept = &folder;
            std::fs::write(&path, bytes).unwrap();
            let taken = read(&path);
            // A file that is written over instead waits for the disk on some file systems.
            std::fs::remove_file(&path).unwrap();
            taken
        })
    }
}

/// All of them.
pub(crate) fn all() -> Vec<Target> {
    let groups = [
        codecs(),
        hot_snapshots(),
        configurations(),
        vector_files(),
        traces(),
        own_files(),
        stored(),
    ];
    groups.into_iter().flatten().collect()
}

fn context() -> BuildContext {
    BuildContext {
        dim: 12,
        metric: Metric::L2,
        data_dir: None,
        clock: Arc::new(ManualClock::new()),
        seed: 1,
        read_only: false,
        hot_budget: None,
        registry: Arc::new(aether::registry().unwrap()),
    }
}

fn vectors(rows: usize) -> Vec<f32> {
    let mut rng = fastrand::Rng::with_seed(7);
    (0..rows * 12).map(|_| rng.f32() - 0.5).collect()
}

pub(crate) fn codecs() -> Vec<Target> {
    let shape = Shape { rows: 9, dim: 12 };
    let target = |name| {
        let context = context();
        let codec = context
            .registry
            .codec(&Slot::named(Role::Codec, name), &context)
            .unwrap();
        let (data, mut good) = (vectors(9), Vec::new());
        let block = VectorBlock::new(&data, shape).unwrap();
        codec.encode(block, &mut good).unwrap();
        Target::new(name, MIB, vec![good], move |bytes| {
            let mut out = vec![1.5];
            let decoded = codec.decode(bytes, shape, &mut out).is_ok();
            assert_eq!(out.len(), if decoded { 1 + shape.len() } else { 1 });
            decoded
        })
    };
    ["raw", "lz4", "zstd", "f16", "sq8"].map(target).into()
}

pub(crate) fn hot_snapshots() -> Vec<Target> {
    let target = |name| {
        let context = context();
        let slot = Slot::named(Role::Hot, name);
        let make = move || context.registry.hot(&slot, &context).unwrap();
        let rows: Vec<Row> = (0..40).map(Row).collect();
        let full = make();
        full.insert_batch(&rows, &vectors(40)).unwrap();
        let mut good = Vec::new();
        full.save(&mut good).unwrap();
        // An index has pages of its own, of a megabyte or so.
        Target::new(name, 32 * MIB, vec![good], move |bytes| {
            let index = make();
            let loaded = index.load(&mut &bytes[..]).is_ok();
            assert_eq!(index.len(), if loaded { 40 } else { 0 });
            loaded
        })
    };
    ["flat", "hnsw", "auto"].map(target).into()
}

pub(crate) fn configurations() -> Vec<Target> {
    let example = include_str!("../../aether.toml.example");
    let short = "[memory]\ndim = 384\nhot_budget = \"1GiB\"\n[flux]\ntick = \"100ms\"\n[codec]\nbackend = \"sq8\"\n\
                 [codec.then]\nbackend = \"zstd\"\nlevel = 3\n";
    let good = vec![example.as_bytes().to_vec(), short.as_bytes().to_vec()];
    let read = |bytes: &[u8]| Config::from_toml(&String::from_utf8_lossy(bytes)).is_ok();
    vec![Target::new("toml", 16 * MIB, good, read)]
}

fn import(path: &Path) -> bool {
    let read = || -> aether::Result<()> {
        let mut import = Import::open(path, &Options::default())?;
        while !import.batch(100)?.is_empty() {}
        Ok(())
    };
    read().is_ok()
}

/// A `.npy` file of numbers of a type, given as their bytes.
fn npy(dtype: &str, rows: usize, columns: usize, data: &[u8]) -> Vec<u8> {
    let mut header =
        format!("{{'descr': '{dtype}', 'fortran_order': False, 'shape': ({rows}, {columns}), }}");
    while (10 + header.len() + 1) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

/// A Parquet file of some rows.
fn parquet(compressed: bool) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("base.parquet");
    let table = crate::files::Table::sample(12);
    table.write(&path, ["id", "vector", "payload"], compressed);
    std::fs::read(path).unwrap()
}

pub(crate) fn vector_files() -> Vec<Target> {
    let data = vectors(6);
    let mut fvecs = Vec::new();
    let mut bvecs = Vec::new();
    let mut ivecs = Vec::new();
    for row in data.chunks(12) {
        fvecs.extend(12u32.to_le_bytes());
        row.iter().for_each(|x| fvecs.extend(x.to_le_bytes()));
        bvecs.extend(12u32.to_le_bytes());
        bvecs.extend(row.iter().map(|x| (x * 100.0) as i8 as u8));
        ivecs.extend(3u32.to_le_bytes());
        (0..3u32).for_each(|n| ivecs.extend(n.to_le_bytes()));
    }
    let jsonl = "{\"id\": 7, \"vector\": [1, 2.5, -3e2], \"payload\": {\"a\": [null, \"\\u00e9\"]}}\n\
                 {\"id\": \"text\", \"vector\": [0, 0.25, 1]}\n";
    let floats: Vec<u8> = data.iter().flat_map(|x| x.to_le_bytes()).collect();
    let floats = npy("<f4", 6, 12, &floats);
    let wide: Vec<u8> = (0..6i64).flat_map(i64::to_le_bytes).collect();
    let narrow: Vec<u8> = (0..6u32).flat_map(u32::to_le_bytes).collect();
    let rows = [npy("<i8", 2, 3, &wide), npy("<u4", 2, 3, &narrow)];
    let matrix = |path: &Path| Matrix::read(path, &Options::default()).is_ok();
    let truth = |path: &Path| Truth::read(path).is_ok();
    vec![
        Target::file("base.npy", vec![floats.clone()], import),
        Target::file("base.npy.gz", vec![crate::files::gzip(&floats)], import),
        Target::file("base.fvecs", vec![fvecs.clone()], import),
        Target::file("base.bvecs", vec![bvecs], import),
        Target::file("matrix.fvecs", vec![fvecs], matrix),
        Target::file("matrix.npy", vec![floats], matrix),
        Target::file("truth.ivecs", vec![ivecs], truth),
        Target::file("truth.npy", rows.into(), truth),
        Target::file("base.jsonl", vec![jsonl.as_bytes().to_vec()], import),
        parquet_files(),
    ]
}

/// The library behind it makes room for a page as large as the page's header says, 2 GiB at most, before it looks at its bytes. Its panics, which
/// become errors, are slow.
fn parquet_files() -> Target {
    let good = vec![parquet(false), parquet(true)];
    let mut target = Target::file("base.parquet", good, import).one_in(20);
    target.most += i64::from(i32::MAX);
    target
}

fn trace(path: &Path) -> bool {
    let read = || -> aether::Result<()> {
        let mut reader = TraceReader::open(path, None)?;
        while reader.read()?.is_some() {}
        Ok(())
    };
    read().is_ok()
}

pub(crate) fn traces() -> Vec<Target> {
    let csv = "time,key,size\n1,10,100\n2,11,200\n3,10,100\n";
    let packed = zstd::encode_all(csv.as_bytes(), 3).unwrap();
    let mut oracle = Vec::new();
    for n in 0..8u32 {
        oracle.extend(n.to_le_bytes());
        oracle.extend(u64::from(n % 3).to_le_bytes());
        oracle.extend(100u32.to_le_bytes());
        oracle.extend((-1i64).to_le_bytes());
    }
    vec![
        Target::file("trace.csv", vec![csv.as_bytes().to_vec()], trace),
        Target::file("trace.csv.zst", vec![packed], trace),
        Target::file("trace.oracleGeneral.bin", vec![oracle], trace),
    ]
}

/// The recording of some accesses, of a ring that has been around.
fn recording() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("accesses");
    let toml = format!(
        "[memory]\ndim = 2\nmetric = \"l2\"\n[flux]\ntick = \"0s\"\n[hot]\nbackend = \"flat\"\n[meta]\nbackend = \"memory\"\n\
         [cold]\nbackend = \"memory\"\n[record]\npath = {path:?}\nmax_bytes = \"4KiB\"\n"
    );
    let memory = aether::open_blocking(Config::from_toml(&toml).unwrap()).unwrap();
    for i in 0..200 {
        let point = aether::Point::new(i, vec![i as f32, 1.0]);
        memory.upsert(vec![point]).unwrap();
    }
    memory.close().unwrap();
    std::fs::read(path).unwrap()
}

fn golden_snapshot() -> PathBuf {
    // From the package's own folder, or from that of the fuzzer beside it.
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = if root.ends_with("fuzz") {
        root.join("..")
    } else {
        root.to_owned()
    };
    root.join("tests/golden/snapshot-v2")
}

/// Files that a memory writes for itself or for another.
pub(crate) fn own_files() -> Vec<Target> {
    let recording = Target::file("recording", vec![recording()], |path| {
        let read = || -> aether::Result<()> {
            let mut recording = Recording::open(path)?;
            while recording.read()?.is_some() {}
            Ok(())
        };
        read().is_ok()
    });
    let segment = "segments/000000000000-000001-7870dddbc399fca3.seg";
    vec![
        recording.one_in(4),
        snapshot_folder("snapshot", "meta.aether").one_in(100),
        snapshot_folder("snapshot.segment", segment).one_in(100),
    ]
}

/// Segments, their footers and codes, and the values of the metadata store, under checksums that are right.
pub(crate) fn stored() -> Vec<Target> {
    let context = context();
    let slot = Slot::named(Role::Codec, "raw");
    let codec = context.registry.codec(&slot, &context).unwrap();
    let (alone, parts): (Vec<Decoder>, _) = decoders::segment(&context, codec)
        .unwrap()
        .into_iter()
        .partition(|decoder| ["footer", "codes"].contains(&decoder.name));
    let mut targets = vec![
        any_of("segment", parts),
        any_of("values", decoders::values().unwrap()),
    ];
    targets.extend(
        alone
            .into_iter()
            .map(|decoder| Target::new(decoder.name, MIB, vec![decoder.good], decoder.read)),
    );
    targets
}

/// Several decoders, of which the first byte picks one.
fn any_of(name: &'static str, decoders: Vec<Decoder>) -> Target {
    let numbered = (0..).zip(&decoders);
    let good = numbered.map(|(n, decoder)| [&[n], &decoder.good[..]].concat());
    Target::new(name, MIB, good.collect(), move |bytes| {
        let Some((first, rest)) = bytes.split_first() else {
            return false;
        };
        (decoders[usize::from(*first) % decoders.len()].read)(rest)
    })
}

/// The tables of a snapshot or one of its segments, restored with all the rest. Its mark has no decoder: that it is there is all it says.
fn snapshot_folder(name: &'static str, file: &str) -> Target {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("snapshot"), folder.path().join("memory"));
    copy(&golden_snapshot(), &from);
    let changed = from.join(file);
    let good = std::fs::read(&changed).unwrap();
    let toml = format!(
        "[memory]\npath = {to:?}\ndim = 4\nmetric = \"l2\"\n[flux]\ntick = \"0s\"\n[meta]\nbackend = \"memory\"\n[cold]\nbackend = \"file\"\n"
    );
    let (config, registry) = (Config::from_toml(&toml).unwrap(), context().registry);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    Target::new(name, 16 * MIB, vec![good], move |bytes| {
        let _kept = &folder;
        std::fs::remove_file(&changed).unwrap();
        std::fs::write(&changed, bytes).unwrap();
        let restored = Memory::restore(&from, config.clone(), registry.clone());
        let restored = runtime.block_on(restored).is_ok();
        std::fs::remove_dir_all(&to).unwrap();
        restored
    })
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy(&path, &target),
            false => drop(std::fs::copy(&path, &target).unwrap()),
        }
    }
}

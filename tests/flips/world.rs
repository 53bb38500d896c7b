//! A memory whose files are laid out anew for each flip, and its answers when nothing is flipped.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use aether::config::{SearchMode, Slot};
use aether::role::{Batch, ColdStore, KeyRange, MetaStore, Table};
use aether::{
    BuildContext, Config, Error, Hit, ManualClock, Memory, MemoryBuilder, Parts, PointId, Record,
    Registry, Result, Role, SearchRequest,
};
use aether_testkit::boxed;
use aether_testkit::fake::meta::StrictMeta;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::ram::{self, Ram};
use super::sweep::{Found, Probed, sample_bytes};
use super::written::{self, POINTS, copy, files, golden, id_of};

type Answer<T> = std::result::Result<T, String>;

/// What the memory says of every point.
#[derive(Clone, Debug, PartialEq)]
struct Truth {
    records: Vec<Option<Record>>,
    /// A complete search for all points, with vectors and payloads.
    hits: Vec<Hit>,
    pinned: bool,
}

/// Where the files of metadata and segments are while a memory is probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In a folder of this machine.
    Machine,
    /// In RAM, under the same stores; nothing waits for a thread.
    Ram,
}

/// A memory or snapshot that was written before, and its vectors.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    folder: PathBuf,
    vector: fn(u64) -> Vec<f32>,
}

impl Source {
    pub(crate) fn golden(name: &str) -> Self {
        Self {
            folder: golden(name),
            vector: written::vector_of,
        }
    }

    /// `memory` or `snapshot` of the version that is written now: the golden ones, or where the samples are to be larger, some whose files are so.
    pub(crate) fn current(name: &str) -> Self {
        static LARGE: OnceLock<TempDir> = OnceLock::new();
        if sample_bytes() <= 4096 {
            return Self::golden(&format!("{name}-v2"));
        }
        let large = LARGE.get_or_init(|| {
            let folder = folder();
            let memory = folder.path().join("memory");
            let config = config_of(&memory, large_vector(0).len(), "flat", Place::Machine);
            let memory = aether::open_blocking(config).unwrap();
            written::write(&memory, large_vector);
            memory.snapshot(&folder.path().join("snapshot")).unwrap();
            memory.close().unwrap();
            folder
        });
        Self {
            folder: large.path().join(name),
            vector: large_vector,
        }
    }
}

/// Vectors so long that thirty of them fill a sample.
fn large_vector(i: u64) -> Vec<f32> {
    let mut rng = fastrand::Rng::with_seed(i);
    let dim = sample_bytes() / size_of::<f32>() / 30;
    (0..dim).map(|_| rng.f32() - 0.5).collect()
}

pub(crate) struct World {
    folder: TempDir,
    source: Source,
    hot: &'static str,
    place: Place,
    config: Config,
    /// The memory's files, by their path in the folder.
    good: Vec<(PathBuf, Vec<u8>)>,
    /// Those of its stores, where they are in RAM.
    stored: Ram,
    meta: Option<StrictMeta>,
    registry: Arc<Registry>,
    runtime: Runtime,
    truth: Truth,
    /// Whether the pinned point is still there.
    pin: bool,
}

fn ids() -> Vec<PointId> {
    (0..POINTS).map(id_of).collect()
}

/// A folder in RAM where there is one: a probe syncs several files, and the disk is not what is tested.
pub(crate) fn folder() -> TempDir {
    let ram = Path::new("/dev/shm");
    match ram.is_dir() {
        true => tempfile::tempdir_in(ram).unwrap(),
        false => tempfile::tempdir().unwrap(),
    }
}

fn config_of(path: &Path, dim: usize, hot: &str, place: Place) -> Config {
    let (meta, cold) = match place {
        Place::Machine => ("redb", "file"),
        Place::Ram => (ram::META.name, ram::COLD.name),
    };
    let cache = match place {
        Place::Machine => "cache = \"1MiB\"",
        Place::Ram => "",
    };
    let toml = format!(
        "[memory]\npath = {path:?}\ndim = {dim}\nmetric = \"l2\"\nhot_budget = \"8MiB\"\n[flux]\ntick = \"0s\"\n\
         [search]\npartition_rows = 16\ncache = \"1B\"\n[hot]\nbackend = {hot:?}\n[meta]\nbackend = {meta:?}\n{cache}\n\
         [cold]\nbackend = {cold:?}\n[limits]\nbatch_bytes = \"4MiB\"\n"
    );
    Config::from_toml(&toml).unwrap()
}

/// Whether a path is that of the metadata file or of its watermark.
fn is_redb(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default();
    name.as_encoded_bytes().starts_with(b"meta.redb")
}

fn all_files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let read = |path: PathBuf| {
        let bytes = std::fs::read(&path).unwrap();
        (path.strip_prefix(folder).unwrap().to_owned(), bytes)
    };
    files(folder).into_iter().map(read).collect()
}

impl World {
    fn empty(source: Source, hot: &'static str, place: Place) -> Self {
        let folder = folder();
        let path = folder.path().join("memory");
        let runtime = tokio::runtime::Builder::new_current_thread();
        Self {
            config: config_of(&path, (source.vector)(0).len(), hot, place),
            folder,
            source,
            hot,
            place,
            good: Vec::new(),
            stored: Ram::default(),
            meta: None,
            registry: Arc::new(ram::registry()),
            runtime: { runtime }.enable_time().build().unwrap(),
            truth: Truth {
                records: Vec::new(),
                hits: Vec::new(),
                pinned: false,
            },
            pin: true,
        }
    }

    /// A copy of a whole memory, opened and closed once so that all its files are there.
    pub(crate) fn of_memory(source: Source, hot: &'static str, place: Place) -> Self {
        let mut world = Self::empty(source, hot, place);
        copy(&world.source.folder, &world.memory_path());
        world.good = all_files(&world.memory_path());
        world.settle();
        world
    }

    /// A copy of a snapshot beside the place of the memory that it becomes.
    pub(crate) fn of_snapshot(source: Source, place: Place) -> Self {
        let mut world = Self::empty(source, "flat", place);
        if place == Place::Ram {
            world.config.meta = Slot::named(Role::Meta, ram::STRICT.name);
        }
        copy(&world.source.folder, &world.snapshot_folder());
        world.restore().unwrap();
        world.good = world.all_files();
        world.settle();
        world
    }

    /// Another that lacks a file.
    pub(crate) fn without_file(&self, name: &str) -> Self {
        let mut twin = self.twin();
        let here = twin.memory_path();
        for (path, _) in (twin.good).extract_if(.., |(path, _)| path.ends_with(name)) {
            drop(std::fs::remove_file(here.join(path)));
        }
        twin.place_good();
        twin.lay(None);
        twin
    }

    /// Another world that is the same, for another thread.
    pub(crate) fn twin(&self) -> Self {
        let mut twin = Self::empty(self.source.clone(), self.hot, self.place);
        twin.good.clone_from(&self.good);
        twin.meta.clone_from(&self.meta);
        twin.config.meta = self.config.meta.clone();
        twin.truth = self.truth.clone();
        twin.pin = self.pin;
        if self.snapshot_folder().exists() {
            copy(&self.snapshot_folder(), &twin.snapshot_folder());
        }
        twin.place_good();
        twin.lay(None);
        twin
    }

    /// The same memory after one more deletion.
    pub(crate) fn without(mut self, id: &PointId) -> Self {
        self.runtime.block_on(async {
            let memory = self.open().await.unwrap();
            let deleted = memory.delete(std::slice::from_ref(id)).await.unwrap();
            assert_eq!(deleted, 1);
            memory.close().await.unwrap();
        });
        self.pin = false;
        self.good = self.all_files();
        self.settle();
        self
    }

    /// The same as a process leaves it that is killed after one more deletion.
    pub(crate) fn killed_after(mut self, id: &PointId) -> Self {
        self.good = self.runtime.block_on(async {
            let memory = self.open().await.unwrap();
            let deleted = memory.delete(std::slice::from_ref(id)).await.unwrap();
            assert_eq!(deleted, 1);
            let left = self.all_files();
            memory.close().await.unwrap();
            left
        });
        self.pin = false;
        self.learn();
        self
    }

    /// Opens and closes once, so that all files are there; those are the good ones, and what is read from them is the truth.
    fn settle(&mut self) {
        self.place_good();
        self.lay(None);
        self.runtime.block_on(async {
            let memory = self.open().await.unwrap();
            memory.close().await.unwrap();
        });
        self.good = self.all_files();
        self.learn();
    }

    /// Takes what the good files say for the truth.
    fn learn(&mut self) {
        self.place_good();
        self.lay(None);
        self.truth = self.runtime.block_on(async {
            let memory = self.open().await.unwrap();
            let truth = Truth {
                records: memory.get_many(&ids(), Parts::default()).await.unwrap(),
                hits: self.search(&memory, SearchMode::Complete).await.unwrap().0,
                pinned: self.pinned(&memory).await.unwrap(),
            };
            memory.close().await.unwrap();
            truth
        });
        assert!(self.truth.hits.len() > 80 && self.truth.pinned == self.pin);
        self.lay(None);
    }

    /// Whether a file is where the stores are.
    fn is_stored(&self, path: &Path) -> bool {
        self.place == Place::Ram && (path.starts_with("cold") || is_redb(path))
    }

    /// The memory's files as they are now.
    fn all_files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let here = self.memory_path();
        let stored = ram::mounted().files();
        let stored = (stored.into_iter())
            .filter_map(|(path, bytes)| Some((path.strip_prefix(&here).ok()?.to_owned(), bytes)));
        let mut all = all_files(&here);
        all.extend(stored);
        all
    }

    /// Keeps the good files of the stores where each probe gets a copy of them.
    fn place_good(&mut self) {
        let here = self.memory_path();
        std::fs::create_dir_all(&here).unwrap();
        self.stored = Ram::with_folder(&here);
        for (path, bytes) in &self.good {
            let full = here.join(path);
            if self.is_stored(path) {
                self.stored.put(&full, bytes);
                drop(std::fs::remove_file(full));
            } else if let Some(above) = full.parent() {
                std::fs::create_dir_all(above).unwrap();
            }
        }
    }

    /// Lays the good files out, but for one with other bytes.
    fn lay(&self, other: Option<(&Path, &[u8])>) {
        let stored = self.stored.fork();
        let here = self.memory_path();
        for (path, good) in &self.good {
            let changed = other.filter(|(p, _)| p == path).map(|(_, bytes)| bytes);
            if !self.is_stored(path) {
                std::fs::write(here.join(path), changed.unwrap_or(good)).unwrap();
            } else if let Some(bytes) = changed {
                stored.put(&here.join(path), bytes);
            }
        }
        self.mount(&stored);
    }

    /// What is opened from now on on this thread stands on these files, if they are in RAM, and works on this thread alone.
    fn mount(&self, stored: &Ram) {
        ram::mount(stored);
        aether::compute_in_place(self.place == Place::Ram);
    }

    /// The same with its metadata in a store in RAM, of which each probe gets a copy.
    pub(crate) fn with_meta_in_ram(mut self) -> Self {
        let taken = self.runtime.block_on(async {
            let context = self.context(false);
            let meta = self.registry.meta(&self.config.meta, &context).unwrap();
            let taken = StrictMeta::new();
            let mut batch = Batch::new(taken.claim().await.unwrap());
            for table in Table::ALL {
                let all = meta.scan(table, KeyRange::all(), 100_000).await.unwrap();
                all.into_iter().for_each(|(k, v)| batch.put(table, k, v));
            }
            let seq = taken.commit(batch).await.unwrap();
            taken.durable(seq).await.unwrap();
            meta.close().await.unwrap();
            taken
        });
        self.meta = Some(taken);
        // A store that is given to the builder beside one that is not is opened for nothing.
        self.config.meta = Slot::named(Role::Meta, "memory");
        for (path, _) in self.good.extract_if(.., |(path, _)| is_redb(path)) {
            drop(std::fs::remove_file(
                self.folder.path().join("memory").join(path),
            ));
        }
        self.place_good();
        self.lay(None);
        self
    }

    fn memory_path(&self) -> PathBuf {
        self.folder.path().join("memory")
    }

    fn snapshot_folder(&self) -> PathBuf {
        self.folder.path().join("snapshot")
    }

    /// The memory's files whose path ends so, with what is in them.
    pub(crate) fn files(&self, end: &str) -> Vec<(PathBuf, Vec<u8>)> {
        let named = |(path, _): &&(PathBuf, Vec<u8>)| format!("/{}", path.display()).ends_with(end);
        self.good.iter().filter(named).cloned().collect()
    }

    /// The same of the snapshot beside it.
    pub(crate) fn snapshot_files(&self, end: &str) -> Vec<(PathBuf, Vec<u8>)> {
        let mut all = all_files(&self.snapshot_folder());
        all.retain(|(path, _)| format!("/{}", path.display()).ends_with(end));
        all
    }

    fn context(&self, read_only: bool) -> BuildContext {
        BuildContext {
            dim: (self.source.vector)(0).len(),
            metric: aether::Metric::L2,
            data_dir: Some(self.memory_path()),
            clock: Arc::new(ManualClock::new()),
            seed: 1,
            read_only,
            hot_budget: None,
            registry: self.registry.clone(),
        }
    }

    fn builder(&self) -> MemoryBuilder {
        let builder = MemoryBuilder::new(self.config.clone(), self.registry.clone());
        let builder = builder.clock(Arc::new(ManualClock::new()));
        match &self.meta {
            Some(meta) => builder.meta_store(Arc::new(meta.crash())),
            None => builder,
        }
    }

    async fn open(&self) -> Result<Memory> {
        boxed::open(self.builder()).await
    }

    async fn is_clean(&self) -> Result<bool> {
        let builder = match &self.meta {
            Some(_) => {
                let (slot, context) = (&self.config.cold, self.context(true));
                let cold: Arc<dyn ColdStore> = self.registry.cold(slot, &context)?;
                self.builder().cold_store(cold)
            }
            None => self.builder(),
        };
        match boxed::check(builder).await {
            Ok(report) => Ok(report.is_clean()),
            Err(error) if error.is_corrupt() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Hits, and whether the answer says that it is whole.
    async fn search(&self, memory: &Memory, mode: SearchMode) -> Result<(Vec<Hit>, bool)> {
        let request = SearchRequest::new((self.source.vector)(5000), POINTS as usize).mode(mode);
        let request = request.probe(1.0).parts(Parts::default());
        let answer = boxed::search(memory, request).await?;
        let whole = answer.coverage.is_whole();
        Ok((answer.hits, whole))
    }

    async fn pinned(&self, memory: &Memory) -> Result<bool> {
        let explained = boxed::explain(memory, &id_of(80)).await?;
        Ok(explained.is_some_and(|e| e.pinned))
    }

    /// Lays the files out with one of them replaced, opens, asks everything, and checks.
    pub(crate) fn probe(&self, path: &Path, bytes: &[u8]) -> Probed {
        self.lay(Some((path, bytes)));
        self.runtime.block_on(self.look())
    }

    /// Restores from the snapshot with one of its files replaced, then as [`World::probe`].
    pub(crate) fn probe_restored(&self, path: &Path, bytes: &[u8]) -> Probed {
        let path = self.snapshot_folder().join(path);
        let good = std::fs::read(&path).unwrap();
        std::fs::write(&path, bytes).unwrap();
        let restored = match self.place {
            Place::Ram => self.restore(),
            Place::Machine => {
                // A refusal is the same whatever store it would have gone to, and this one is quick.
                let mut quick = self.config.clone();
                quick.meta = Slot::named(Role::Meta, "memory");
                self.restore_into(quick).and_then(|()| self.restore())
            }
        };
        std::fs::write(&path, good).unwrap();
        match restored {
            Err(error) => refused(&error),
            Ok(()) => self.runtime.block_on(self.look()),
        }
    }

    fn restore(&self) -> Result<()> {
        self.restore_into(self.config.clone())
    }

    fn restore_into(&self, config: Config) -> Result<()> {
        let target = self.memory_path();
        if target.exists() {
            std::fs::remove_dir_all(&target).unwrap();
        }
        self.mount(&Ram::with_folder(&target));
        ram::forget();
        let (folder, registry) = (self.snapshot_folder(), self.registry.clone());
        let restored = boxed::restore(&folder, config, registry);
        self.runtime.block_on(restored).map(drop)
    }

    async fn look(&self) -> Probed {
        let memory = match self.open().await {
            Err(error) => return refused(&error),
            Ok(memory) => memory,
        };
        let asked = self.ask(&memory).await;
        let closed = boxed::close(&memory).await;
        drop(memory);
        if asked? {
            return Ok(Found::Marked);
        }
        closed.map_err(|e| format!("close: {e}"))?;
        match self.is_clean().await {
            Ok(true) => Ok(Found::Harmless),
            Ok(false) => Ok(Found::ByCheck),
            Err(error) => Err(format!("check: {error}")),
        }
    }

    /// Reads every point; those that fail together are read in halves, down to each alone. Whether any was said to be damaged.
    async fn ask_for_records(&self, memory: &Memory) -> Answer<bool> {
        let (ids, mut damaged) = (ids(), false);
        let mut parts = vec![0..ids.len()];
        while let Some(part) = parts.pop() {
            let records = match &ids[part.clone()] {
                [id] => boxed::get(memory, id).await.map(|record| vec![record]),
                some => boxed::get_many(memory, some).await,
            };
            let truth = &self.truth.records[part.clone()];
            match records {
                Ok(records) if records == truth => {}
                Ok(records) => return Err(format!("expected {truth:?}, got {records:?}")),
                Err(error) if !error.is_corrupt() => {
                    return Err(format!("get {:?}: {error}", &ids[part]));
                }
                Err(_) if part.len() == 1 => damaged = true,
                Err(_) => {
                    let middle = part.start + part.len() / 2;
                    parts.extend([part.start..middle, middle..part.end]);
                }
            }
        }
        Ok(damaged)
    }

    /// Whether anything was said to be missing.
    async fn ask(&self, memory: &Memory) -> Answer<bool> {
        let mut damaged = self.ask_for_records(memory).await?;
        for mode in [SearchMode::Complete, SearchMode::Bounded] {
            let (hits, whole) = match self.search(memory, mode).await {
                Ok(answer) => answer,
                Err(error) if error.is_corrupt() => {
                    damaged = true;
                    continue;
                }
                Err(error) => return Err(format!("search: {error}")),
            };
            damaged |= !whole;
            if whole && hits != self.truth.hits {
                return Err(format!("{mode:?}: a whole answer differs: {hits:?}"));
            }
            if let Some(wrong) = hits.iter().find(|hit| !self.is_part_of_truth(hit)) {
                return Err(format!("{mode:?}: a wrong hit: {wrong:?}"));
            }
        }
        match self.pinned(memory).await {
            Ok(pinned) if pinned == self.truth.pinned => Ok(damaged),
            Ok(_) => Err("a pin is lost, or too many".to_owned()),
            Err(error) if error.is_corrupt() => Ok(true),
            Err(error) => Err(format!("explain: {error}")),
        }
    }

    /// A marked answer may lack rows, vectors and payloads; what it has must be right.
    fn is_part_of_truth(&self, hit: &Hit) -> bool {
        let same = |t: &&Hit| t.id == hit.id;
        self.truth.hits.iter().find(same).is_some_and(|truth| {
            (hit.row, hit.distance) == (truth.row, truth.distance)
                && (hit.vector.is_none() || hit.vector == truth.vector)
                && (hit.payload.is_none() || hit.payload == truth.payload)
        })
    }
}

fn refused(error: &Error) -> Probed {
    match error.is_corrupt() || error.is_unsupported() {
        true => Ok(Found::Refused),
        false => Err(format!("an error of the wrong kind: {error}")),
    }
}

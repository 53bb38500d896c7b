//! A memory whose files are laid out anew for each flip, and its answers when nothing is flipped.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aether::config::{SearchMode, Slot};
use aether::role::{Batch, ColdStore, KeyRange, MetaStore, Table};
use aether::{
    BuildContext, Config, Error, Hit, ManualClock, Memory, MemoryBuilder, Parts, PointId, Record,
    Registry, Result, Role, SearchRequest,
};
use aether_testkit::fake::meta::StrictMeta;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::sweep::Found;
use super::written::{DIM, POINTS, copy, files, id_of, vector_of};

type Answer<T> = std::result::Result<T, String>;

/// What the memory says of every point.
#[derive(Debug, PartialEq)]
struct Truth {
    records: Vec<Option<Record>>,
    /// A complete search for all points, with vectors and payloads.
    hits: Vec<Hit>,
    pinned: bool,
}

pub(crate) struct World {
    folder: TempDir,
    config: Config,
    /// The memory's files, by their path in the folder.
    good: Vec<(PathBuf, Vec<u8>)>,
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
fn folder() -> TempDir {
    let ram = Path::new("/dev/shm");
    match ram.is_dir() {
        true => tempfile::tempdir_in(ram).unwrap(),
        false => tempfile::tempdir().unwrap(),
    }
}

fn all_files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let read = |path: PathBuf| {
        let bytes = std::fs::read(&path).unwrap();
        (path.strip_prefix(folder).unwrap().to_owned(), bytes)
    };
    files(folder).into_iter().map(read).collect()
}

impl World {
    fn empty(hot: &str) -> Self {
        let folder = folder();
        let path = folder.path().join("memory");
        let toml = format!(
            "[memory]\npath = {path:?}\ndim = {DIM}\nmetric = \"l2\"\nhot_budget = \"8MiB\"\n[flux]\ntick = \"0s\"\n\
             [search]\npartition_rows = 16\ncache = \"1B\"\n[hot]\nbackend = {hot:?}\n[meta]\ncache = \"1MiB\"\n\
             [limits]\nbatch_bytes = \"4MiB\"\n"
        );
        let runtime = tokio::runtime::Builder::new_current_thread();
        Self {
            config: Config::from_toml(&toml).unwrap(),
            folder,
            good: Vec::new(),
            meta: None,
            registry: Arc::new(aether::registry().unwrap()),
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
    pub(crate) fn of_memory(source: &Path, hot: &str) -> Self {
        let mut world = Self::empty(hot);
        copy(source, &world.memory_path());
        world.settle();
        world
    }

    /// A copy of a snapshot beside the place of the memory that it becomes.
    pub(crate) fn of_snapshot(source: &Path) -> Self {
        let mut world = Self::empty("flat");
        copy(source, &world.snapshot_folder());
        world.restore().unwrap();
        world.settle();
        world
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
        self.settle();
        self
    }

    /// Opens and closes once, so that all files are there; those are the good ones, and what is read from them is the truth.
    fn settle(&mut self) {
        self.runtime.block_on(async {
            let memory = self.open().await.unwrap();
            memory.close().await.unwrap();
        });
        self.good = all_files(&self.memory_path());
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

    /// Lays the good files out, but for one with other bytes.
    fn lay(&self, other: Option<(&str, &[u8])>) {
        for (path, good) in &self.good {
            let name = format!("/{}", path.display());
            let content = match other {
                Some((end, bytes)) if name.ends_with(end) && self.is_first(path, end) => bytes,
                _ => good,
            };
            std::fs::write(self.memory_path().join(path), content).unwrap();
        }
    }

    /// Whether this is the first of the files whose path ends so.
    fn is_first(&self, path: &Path, end: &str) -> bool {
        let named = |(p, _): &&(PathBuf, Vec<u8>)| format!("/{}", p.display()).ends_with(end);
        self.good.iter().find(named).is_some_and(|(p, _)| p == path)
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
        self.good.retain(|(path, _)| !path.ends_with("meta.redb"));
        std::fs::remove_file(self.memory_path().join("meta.redb")).unwrap();
        self
    }

    fn memory_path(&self) -> PathBuf {
        self.folder.path().join("memory")
    }

    fn snapshot_folder(&self) -> PathBuf {
        self.folder.path().join("snapshot")
    }

    /// The first of the memory's files whose path ends so.
    pub(crate) fn path(&self, end: &str) -> PathBuf {
        super::named(&self.memory_path(), end)
    }

    pub(crate) fn snapshot_path(&self, end: &str) -> PathBuf {
        super::named(&self.snapshot_folder(), end)
    }

    fn context(&self, read_only: bool) -> BuildContext {
        BuildContext {
            dim: DIM,
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
        self.builder().open().await
    }

    async fn is_clean(&self) -> Result<bool> {
        let builder = match &self.meta {
            Some(_) => {
                let slot = Slot::named(Role::Cold, "file");
                let cold: Arc<dyn ColdStore> = self.registry.cold(&slot, &self.context(true))?;
                self.builder().cold_store(cold)
            }
            None => self.builder(),
        };
        match builder.check().await {
            Ok(report) => Ok(report.is_clean()),
            Err(error) if error.is_corrupt() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Hits, and whether the answer says that it is whole.
    async fn search(&self, memory: &Memory, mode: SearchMode) -> Result<(Vec<Hit>, bool)> {
        let request = SearchRequest::new(vector_of(5000), POINTS as usize).mode(mode);
        let request = request.probe(1.0).parts(Parts::default());
        let answer = memory.search(request).await?;
        let whole = answer.coverage.is_whole();
        Ok((answer.hits, whole))
    }

    async fn pinned(&self, memory: &Memory) -> Result<bool> {
        let explained = memory.explain(&id_of(80)).await?;
        Ok(explained.is_some_and(|e| e.pinned))
    }

    /// Lays the files out with one of them replaced, opens, asks everything, and checks.
    pub(crate) fn probe(&self, end: &str, bytes: &[u8]) -> Answer<Found> {
        self.lay(Some((end, bytes)));
        self.runtime.block_on(self.look())
    }

    /// Restores from the snapshot with one of its files replaced, then as [`World::probe`].
    pub(crate) fn probe_restored(&self, end: &str, bytes: &[u8]) -> Answer<Found> {
        let path = self.snapshot_path(end);
        let good = std::fs::read(&path).unwrap();
        std::fs::write(&path, bytes).unwrap();
        // A refusal is the same whatever store it would have gone to, and this one is quick.
        let mut quick = self.config.clone();
        quick.meta = Slot::named(Role::Meta, "memory");
        let restored = self.restore_into(quick).and_then(|()| self.restore());
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
        let registry = self.registry.clone();
        let restored = Memory::restore(self.snapshot_folder(), config, registry);
        self.runtime.block_on(restored).map(drop)
    }

    async fn look(&self) -> Answer<Found> {
        let memory = match self.open().await {
            Err(error) => return refused(&error),
            Ok(memory) => memory,
        };
        let asked = self.ask(&memory).await;
        let closed = memory.close().await;
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

    /// Whether anything was said to be missing.
    async fn ask(&self, memory: &Memory) -> Answer<bool> {
        let mut damaged = false;
        for (id, truth) in ids().iter().zip(&self.truth.records) {
            match memory.get(id).await {
                Ok(record) if record == *truth => {}
                Ok(record) => return Err(format!("expected {truth:?}, got {record:?}")),
                Err(error) if error.is_corrupt() => damaged = true,
                Err(error) => return Err(format!("get {id}: {error}")),
            }
        }
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

fn refused(error: &Error) -> Answer<Found> {
    match error.is_corrupt() || error.is_unsupported() {
        true => Ok(Found::Refused),
        false => Err(format!("an error of the wrong kind: {error}")),
    }
}

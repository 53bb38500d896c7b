//! The real `redb` and `file` stores on the kit's simulated file system, and a memory on them.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aether::config::ByteSize;
use aether::role::{ColdStore, MetaStore};
use aether::{
    CheckReport, Clock, Config, Error, ManualClock, Memory, MemoryBuilder, Metric, Registry,
    Result, SnapshotReport,
};
use aether_cold_file::files::{Files as ColdFiles, Handle, Kind};
use aether_cold_file::{FileStore, FileStoreConfig};
use aether_meta_redb::files::Files as MetaFiles;
use aether_meta_redb::{RedbConfig, RedbMeta};
use aether_testkit::run::{FLUSH, World};
use aether_testkit::simfs::{self, SimFile, SimFs};
use aether_testkit::workload::EVERY_DIM;
use fastrand::Rng;
use redb::StorageBackend;

/// The memory's folder.
const FOLDER: &str = "/m";

/// The name of the metadata file.
pub(crate) fn meta_path() -> PathBuf {
    Path::new(FOLDER).join(RedbConfig::default().file)
}

/// Whether a path is the folder of segments, or in it.
pub(crate) fn is_cold(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == "cold")
}

/// The simulated file system, as the two stores want one.
#[derive(Clone, Debug)]
pub(crate) struct Disk(pub(crate) SimFs);

#[derive(Debug)]
struct OpenFile(SimFile);

#[derive(Debug)]
struct OpenFolder(SimFs, PathBuf);

fn kind(kind: simfs::Kind) -> Kind {
    match kind {
        simfs::Kind::File(len) => Kind::File(len),
        simfs::Kind::Folder => Kind::Folder,
    }
}

impl Handle for OpenFile {
    fn kind(&self) -> io::Result<Kind> {
        self.0.len().map(Kind::File)
    }

    fn read_at(&self, out: &mut [u8], at: u64) -> io::Result<usize> {
        self.0.read_at(out, at)
    }

    fn read_at_once(&self, _out: &mut [u8], _at: u64) -> Option<usize> {
        None
    }

    fn append(&self, data: &[u8]) -> io::Result<()> {
        self.0.append(data)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }
}

impl Handle for OpenFolder {
    fn kind(&self) -> io::Result<Kind> {
        self.0.kind(&self.1).map(kind)
    }

    fn read_at(&self, _out: &mut [u8], _at: u64) -> io::Result<usize> {
        Err(io::ErrorKind::IsADirectory.into())
    }

    fn read_at_once(&self, _out: &mut [u8], _at: u64) -> Option<usize> {
        None
    }

    fn append(&self, _data: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::IsADirectory.into())
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_folder(&self.1)
    }
}

impl ColdFiles for Disk {
    fn kind(&self, path: &Path, _follow: bool) -> io::Result<Kind> {
        self.0.kind(path).map(kind)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn Handle>> {
        Ok(Box::new(OpenFile(self.0.open(path)?)))
    }

    fn open_folder(&self, path: &Path) -> io::Result<Box<dyn Handle>> {
        self.0.kind(path)?;
        Ok(Box::new(OpenFolder(self.0.clone(), path.to_owned())))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn Handle>> {
        Ok(Box::new(OpenFile(self.0.create(path)?)))
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.link(from, to)
    }

    fn rename_new(&self, _from: &Path, _to: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.remove(path)
    }

    fn names(&self, path: &Path) -> io::Result<Vec<String>> {
        self.0.names(path)
    }

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        self.0.make_folder(path)
    }

    fn lock(&self, folder: &Path, lock: &Path) -> Result<Box<dyn fmt::Debug + Send + Sync>> {
        match self.0.lock(lock) {
            Some(held) => Ok(Box::new(held)),
            None => Err(Error::locked(format!("{} is held", folder.display()))),
        }
    }

    fn never_waits(&self) -> bool {
        true
    }
}

impl MetaFiles for Disk {
    fn exists(&self, path: &Path) -> io::Result<bool> {
        match self.0.kind(path) {
            Ok(_) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }

    fn open(&self, path: &Path, read_only: bool) -> Result<Arc<dyn StorageBackend>> {
        let opened = match self.0.open(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound && !read_only => self.0.create(path),
            opened => opened,
        };
        let file = opened.map_err(|e| Error::unavailable("simulated").with_source(e))?;
        Ok(Arc::new(OpenFile(file)))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.remove(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.0.sync_folder(folder)
    }

    fn never_waits(&self) -> bool {
        true
    }
}

impl StorageBackend for OpenFile {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, mut offset: u64, mut out: &mut [u8]) -> io::Result<()> {
        while !out.is_empty() {
            let read = self.0.read_at(out, offset)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            offset += read as u64;
            out = &mut out[read..];
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_at(data, offset)
    }
}

/// Lines of a configuration beyond those that every memory here has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) dim: usize,
    pub(crate) flux: &'static str,
    pub(crate) search: &'static str,
    pub(crate) compaction: &'static str,
    pub(crate) rest: &'static str,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            dim: EVERY_DIM,
            flux: "tick = \"0s\"\nbatch_rows = 12\nsample = 16",
            search: "",
            compaction: "ratio = 3\nsegment_bytes = \"4KiB\"\ngrace = \"4s\"\nenabled = true",
            rest: "",
        }
    }
}

/// A layer around both stores, made anew in every life, whose number it is given.
pub(crate) type Layer = Arc<dyn Fn(&SimFs, Arc<dyn MetaStore>, Arc<dyn ColdStore>, u64) -> Stores>;
/// Both stores of a life.
pub(crate) type Stores = (Arc<dyn MetaStore>, Arc<dyn ColdStore>);

/// A simulated disk, the life that goes on on it, and what its power cuts are drawn from.
pub(crate) struct Ground {
    pub(crate) fs: SimFs,
    /// The folder of segments: in the memory's folder, or elsewhere.
    cold: PathBuf,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) settings: Settings,
    /// Whether a life may also end by a kill, which leaves the cache of the operating system as it was.
    pub(crate) kills: bool,
    pub(crate) rng: Rng,
    pub(crate) lives: u64,
    pub(crate) layer: Option<Layer>,
    script: Option<simfs::Script>,
}

impl fmt::Debug for Ground {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ground").field("fs", &self.fs).finish()
    }
}

impl Ground {
    pub(crate) fn new(seed: u64) -> Self {
        let fs = SimFs::new();
        let elsewhere = Path::new("/elsewhere");
        fs.make_folder(Path::new(FOLDER)).unwrap();
        fs.make_folder(elsewhere).unwrap();
        fs.sync_folder(Path::new("/")).unwrap();
        let above = [Path::new(FOLDER), elsewhere][(seed % 2) as usize];
        Self::on(fs, above.join("cold"), seed)
    }

    fn on(fs: SimFs, cold: PathBuf, seed: u64) -> Self {
        Self {
            fs,
            cold,
            clock: Arc::new(ManualClock::new()),
            settings: Settings::default(),
            kills: true,
            rng: Rng::with_seed(seed),
            lives: 0,
            layer: None,
            script: None,
        }
    }

    /// Asks a script in this life and in all that follow.
    pub(crate) fn script_for_ever(
        &mut self,
        script: impl Fn(&simfs::Call, u64) -> simfs::Verdict + Send + Sync + 'static,
    ) {
        let script: simfs::Script = Arc::new(script);
        self.script = Some(script.clone());
        self.fs.script(move |call, n| script(call, n));
    }

    /// Ends this life at the `n`th change from now, and asks the script about all others.
    pub(crate) fn cut_at(&self, n: u64, after: bool) {
        let Some(script) = self.script.clone() else {
            return self.fs.die_at(n, after);
        };
        let at = self.fs.changes() + n;
        self.fs
            .script(move |call, i| match (call.changes() && i == at, after) {
                (false, _) => script(call, i),
                (true, false) => simfs::Verdict::Die,
                (true, true) => simfs::Verdict::DieAfter,
            });
    }

    fn config(&self) -> Config {
        let Settings {
            dim,
            flux,
            search,
            compaction,
            rest,
        } = self.settings;
        let text = format!(
            "[memory]\ndim = {dim}\nmetric = \"l2\"\nhot_budget = \"84KiB\"\ninsert_wait = \"60s\"\n{FLUSH}\n\
             [flux]\n{flux}\n[search]\npartition_rows = 16\nprobe_min = 1\n{search}\n\
             [compaction]\n{compaction}\n[limits]\nbatch_bytes = \"4MiB\"\n\
             [hot]\nbackend = \"fake\"\n[meta]\nbackend = \"redb\"\n[cold]\nbackend = \"file\"\n\
             [codec]\nbackend = \"raw\"\n[policy]\nbackend = \"lru\"\n{rest}\n"
        );
        Config::from_toml(&text).unwrap()
    }

    fn registry() -> Arc<Registry> {
        let mut registry = Registry::empty();
        for plugin in [
            &aether_testkit::fake::hot::STRICT,
            &aether_codec_raw::PLUGIN,
            &aether_policies::lru::PLUGIN,
            &aether_meta_redb::PLUGIN,
            &aether_cold_file::PLUGIN,
        ] {
            registry.add(plugin).unwrap();
        }
        Arc::new(registry)
    }

    /// Opens the metadata store of a disk.
    fn meta(fs: &SimFs, read_only: bool) -> Result<RedbMeta> {
        let config = RedbConfig {
            cache: ByteSize(1 << 20),
            ..RedbConfig::default()
        };
        RedbMeta::open_on(&Disk(fs.clone()), Path::new(FOLDER), &config, read_only)
    }

    /// Opens the cold store of a disk.
    pub(crate) fn cold(&self, fs: &SimFs, read_only: bool) -> Result<FileStore> {
        let files = Arc::new(Disk(fs.clone()));
        FileStore::open_on(files, &self.cold, &FileStoreConfig::default(), read_only)
    }

    fn builder(&self, fs: &SimFs, read_only: bool) -> Result<MemoryBuilder> {
        let mut stores: Stores = (
            Arc::new(Self::meta(fs, read_only)?),
            Arc::new(self.cold(fs, read_only)?),
        );
        if let (Some(layer), false) = (&self.layer, read_only) {
            stores = layer(fs, stores.0, stores.1, self.lives);
        }
        Ok(MemoryBuilder::new(self.config(), Self::registry())
            .clock(self.clock.clone())
            .meta_store(stores.0)
            .cold_store(stores.1))
    }

    /// Restores a snapshot, which lies on the machine's own disk.
    pub(crate) async fn restore(&self, snapshot: &Path) -> Result<SnapshotReport> {
        self.builder(&self.fs, false)?.restore(snapshot).await
    }

    /// Another world with a copy of the disk and the same clock.
    pub(crate) fn fork(&self, seed: u64) -> Self {
        Self {
            clock: self.clock.clone(),
            ..Self::on(self.fs.fork(), self.cold.clone(), seed)
        }
    }

    /// Ends this life and begins the next.
    pub(crate) fn next_life(&mut self, kill: bool) {
        self.fs = if kill {
            self.fs.kill()
        } else {
            self.fs.crash(&mut self.rng)
        };
        self.lives += 1;
        if let Some(script) = self.script.clone() {
            self.fs.script(move |call, n| script(call, n));
        }
    }
}

impl World for Ground {
    fn dim(&self) -> usize {
        self.settings.dim
    }

    fn metric(&self) -> Metric {
        Metric::L2
    }

    fn now(&self) -> u64 {
        self.clock.monotonic_us()
    }

    fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    async fn open(&self) -> Result<Memory> {
        self.builder(&self.fs, false)?.open().await
    }

    /// On a copy, as another process would see it.
    async fn check(&self) -> Result<CheckReport> {
        let fs = self.fs.fork();
        if fs.kind(&meta_path()).is_err() {
            return Ok(CheckReport::default());
        }
        self.builder(&fs, true)?.check().await
    }

    /// On a disk of its own, without faults.
    async fn check_copy(&self, snapshot: &Path) -> Result<Option<CheckReport>> {
        let copy = Self {
            clock: self.clock.clone(),
            settings: self.settings,
            ..Self::new(0)
        };
        copy.restore(snapshot).await?;
        copy.check().await.map(Some)
    }

    fn is_dead(&self) -> bool {
        self.fs.is_dead()
    }

    fn die_at(&self, call: u64, after: bool) {
        self.cut_at(call, after);
    }

    fn unscript(&self) {
        self.fs.unscript();
        if let Some(script) = self.script.clone() {
            self.fs.script(move |call, n| script(call, n));
        }
    }

    fn crash(&mut self, _keep: usize) {
        let kill = self.kills && self.rng.u8(0..4) == 0;
        self.next_life(kill);
    }
}

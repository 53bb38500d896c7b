//! The contract over `core` and `lanes`.

use std::path::Path;
use std::sync::Arc;

use aether_core::config::RawConfig;
use aether_core::role::{Batch, Epoch, KeyRange, MetaCapability, MetaStore, Seq, Table};
use aether_core::{BuildContext, Error, Result};
use async_trait::async_trait;
use bytes::Bytes;
use redb::StorageBackend;

use crate::config::RedbConfig;
use crate::core::{Core, Mode};
use crate::error;
use crate::files::{Files, Machine};
use crate::lanes::{Lane, Lanes, contain};
use crate::mark::Mark;

const CAPABILITY: MetaCapability = MetaCapability {
    key_bytes_max: 1 << 10,
    value_bytes_max: 16 << 20,
    batch_bytes_max: 64 << 20,
    persistent: true,
};

/// Keys of a get that its caller may do itself.
const SOME_KEYS: usize = 64;

/// A [`MetaStore`] in one redb file.
///
/// **Durability**: `durable` and `close` return after two syncs of the file; `commit` alone promises nothing beyond the
/// process. **Threads**: one that writes, some that read, and callers for quick gets; see the README. **Complexity**: O(log n) pages for each key.
/// **Drop** without `close` waits for what was begun and gives up the file.
#[derive(Debug)]
pub struct RedbMeta {
    core: Arc<Core>,
    lanes: Lanes,
}

/// The plug-in's factory.
pub(crate) fn build(raw: &RawConfig, context: &BuildContext) -> Result<Arc<dyn MetaStore>> {
    let config = RedbConfig::from_raw(raw)?;
    let dir = context.data_dir.as_deref().ok_or_else(|| {
        raw.error(
            "file",
            "this store keeps a file, but the memory has no folder: set `[memory] dir` or use `backend = \"memory\"`",
        )
    })?;
    RedbMeta::open(dir, &config, context.read_only).map(|store| Arc::new(store) as _)
}

impl RedbMeta {
    /// Opens the file of `config` in the folder `dir`, or begins it. With `read_only` the file must be there and is not
    /// written: what recovery after a crash would change is kept in RAM, and every page's checksum is verified.
    ///
    /// # Errors
    /// `Locked` when another handle has the file open, `Corrupt` for a file that is damaged or not ours, `Config` for one
    /// that cannot be opened, `Unsupported` for a later format.
    pub fn open(dir: &Path, config: &RedbConfig, read_only: bool) -> Result<Self> {
        Self::open_on(&Machine, dir, config, read_only)
    }

    /// Opens a file of another file system than the machine's; for tests.
    #[doc(hidden)]
    pub fn open_on(
        files: &dyn Files,
        dir: &Path,
        config: &RedbConfig,
        read_only: bool,
    ) -> Result<Self> {
        let open = || {
            let path = dir.join(&config.file);
            let mode = Mode {
                cache_bytes: usize::try_from(config.cache.0).unwrap_or(usize::MAX),
                read_only,
                verify: config.verify,
            };
            let unseen = |e: std::io::Error| {
                error::io(&e, "the file cannot be looked at").with("file", path.display())
            };
            if !files.exists(&path).map_err(unseen)? {
                // A file that is there and cannot be seen, or that was there, must not get a new one in its place.
                Mark::check_gone(files, &path)?;
                if !read_only {
                    begin(files, dir, &path, mode)?;
                }
            }
            let mark = Mark::open(files, &path, read_only);
            if !read_only {
                // Also where it was there: whoever began it may have been killed before the sync.
                let synced = files.sync_folder(dir);
                synced.map_err(|e| in_place(&e, &path))?;
            }
            let file = files.open(&path, read_only)?;
            let readers = if files.never_waits() {
                0
            } else {
                config.readers
            };
            Self::on(file, Some(mark), mode, readers).map_err(|e| e.with("file", path.display()))
        };
        open().map_err(|e| error::at(e, "open"))
    }

    /// Opens a store on any of redb's storage back ends. Without readers the callers do all the work themselves.
    pub(crate) fn on(
        file: Arc<dyn StorageBackend>,
        mark: Option<Mark>,
        mode: Mode,
        readers: usize,
    ) -> Result<Self> {
        let core = Arc::new(contain(|| Core::open(file, mark, mode))?);
        let lanes = Lanes::start(&core, readers)?;
        Ok(Self { core, lanes })
    }
}

/// Begins a file under another name, and gives it its own when it is whole: a process that ends meanwhile, or a full disk, leaves
/// nothing that a later opening would take for a damaged store.
fn begin(files: &dyn Files, dir: &Path, path: &Path, mode: Mode) -> Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let fresh = Path::new(&name);
    match files.remove(fresh) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(in_place(&e, path)),
        _ => {}
    }
    let file = files.open(fresh, false)?;
    let begun = contain(|| Core::open(file, None, mode)).map(drop);
    begun.map_err(|e| e.with("file", path.display()))?;
    // A watermark that somebody removed must not come back beside the new file.
    files.sync_folder(dir).map_err(|e| in_place(&e, path))?;
    files.rename(fresh, path).map_err(|e| in_place(&e, path))
}

fn in_place(e: &std::io::Error, path: &Path) -> Error {
    error::io(e, "a new file cannot be put in its place").with("file", path.display())
}

#[async_trait]
impl MetaStore for RedbMeta {
    async fn claim(&self) -> Result<Epoch> {
        self.lanes.run(Lane::Write, "claim", Core::claim).await
    }

    async fn get(&self, table: Table, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>> {
        let lane = if keys.len() <= SOME_KEYS {
            Lane::Get
        } else {
            Lane::Read
        };
        let keys = keys.to_vec();
        let work = move |core: &Core| core.get(table, &keys);
        self.lanes.run(lane, "get", work).await
    }

    async fn scan(
        &self,
        table: Table,
        range: KeyRange,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>> {
        let work = move |core: &Core| core.scan(table, &range, limit);
        self.lanes.run(Lane::Read, "scan", work).await
    }

    async fn commit(&self, batch: Batch) -> Result<Seq> {
        CAPABILITY
            .check(&batch)
            .map_err(|e| error::at(e, "commit"))?;
        let work = move |core: &Core| core.commit(&batch);
        self.lanes.run(Lane::Write, "commit", work).await
    }

    async fn durable(&self, seq: Seq) -> Result<()> {
        if self.core.is_settled(seq) {
            return Ok(()); // a later sync covered it: no hop to the writer
        }
        let work = move |core: &Core| core.durable(seq);
        self.lanes.run(Lane::Write, "durable", work).await
    }

    fn capability(&self) -> MetaCapability {
        CAPABILITY
    }

    async fn close(&self) -> Result<()> {
        self.lanes.run(Lane::Write, "close", Core::close).await
    }
}

//! How the suite makes the store under test, and small helpers of the checks.

use std::fmt;
use std::fs;
use std::future::Future;
use std::io;
use std::path::Path;
use std::sync::Arc;

use aether_core::config::RawConfig;
use aether_core::role::{Batch, Epoch, KeyRange, MetaStore, Table};
use aether_core::{
    BuildContext, Factory, Metric, OptionSpec, Plugin, Registry, Result, SystemClock,
};
use bytes::Bytes;
use tempfile::TempDir;

type Open = Arc<dyn Fn(&RawConfig, &BuildContext) -> Result<Arc<dyn MetaStore>> + Send + Sync>;

/// Makes instances of the store under test.
#[derive(Clone)]
pub struct Harness {
    open: Open,
    config: String,
    options: Option<&'static [OptionSpec]>,
    persistent: bool,
    in_folder: bool,
    cases: u32,
}

impl fmt::Debug for Harness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Harness")
            .field("config", &self.config)
            .field("persistent", &self.persistent)
            .field("in_folder", &self.in_folder)
            .finish_non_exhaustive()
    }
}

impl Harness {
    /// A harness of a plug-in with its default settings.
    ///
    /// # Panics
    /// When the plug-in is of another role.
    pub fn plugin(plugin: &'static Plugin) -> Self {
        let Factory::Meta(build) = plugin.factory else {
            panic!(
                "plug-in {:?}: expected role meta, got {}",
                plugin.name,
                plugin.role()
            );
        };
        let mut harness = Self::factory(plugin.persistent, build);
        harness.options = Some(plugin.options);
        harness
    }

    /// A harness of a function that opens the store of `BuildContext::data_dir`.
    pub fn factory(
        persistent: bool,
        open: impl Fn(&RawConfig, &BuildContext) -> Result<Arc<dyn MetaStore>> + Send + Sync + 'static,
    ) -> Self {
        Self {
            open: Arc::new(open),
            config: String::new(),
            options: None,
            persistent,
            in_folder: persistent,
            cases: 24,
        }
    }

    /// The keys of `[meta]` as TOML, without `backend`.
    #[must_use]
    pub fn with_config(mut self, toml: &str) -> Self {
        toml.clone_into(&mut self.config);
        self
    }

    /// Says that the store keeps its state outside the data folder: a kill is then played by dropping the handle instead
    /// of copying the folder under it, and stored bytes cannot be damaged.
    #[must_use]
    pub fn elsewhere(mut self) -> Self {
        self.in_folder = false;
        self
    }

    /// Number of random histories of [`answers_like_a_map`](super::answers_like_a_map); 24 by default.
    #[must_use]
    pub fn with_cases(mut self, cases: u32) -> Self {
        self.cases = cases;
        self
    }

    pub(super) fn cases(&self) -> u32 {
        self.cases
    }

    pub(super) fn persistent(&self) -> bool {
        self.persistent
    }

    pub(super) fn in_folder(&self) -> bool {
        self.in_folder
    }

    pub(super) fn options(&self) -> Option<&'static [OptionSpec]> {
        self.options
    }

    /// A place of its own, empty.
    pub fn place(&self) -> Place {
        Place {
            harness: self.clone(),
            dir: tempfile::tempdir().expect("a temporary folder"),
        }
    }
}

/// A folder in which the store is opened, closed and killed; removed on drop.
#[derive(Debug)]
pub struct Place {
    harness: Harness,
    dir: TempDir,
}

impl Place {
    /// The folder.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Opens the store with the harness's settings.
    ///
    /// # Errors
    /// Whatever the factory says.
    pub fn try_open(&self, read_only: bool) -> Result<Arc<dyn MetaStore>> {
        self.try_open_with(&self.harness.config, read_only)
    }

    /// Opens the store with other settings.
    ///
    /// # Errors
    /// Whatever the factory says; `Config` when `toml` is not TOML.
    pub fn try_open_with(&self, toml: &str, read_only: bool) -> Result<Arc<dyn MetaStore>> {
        let raw = RawConfig::from_toml("meta", toml)?;
        let context = BuildContext {
            dim: 8,
            metric: Metric::L2,
            data_dir: Some(self.path().to_owned()),
            clock: Arc::new(SystemClock::new()),
            seed: 7,
            read_only,
            hot_budget: None,
            registry: Arc::new(Registry::empty()),
        };
        (self.harness.open)(&raw, &context)
    }

    /// Opens the store.
    pub fn open(&self) -> Arc<dyn MetaStore> {
        self.try_open(false)
            .unwrap_or_else(|e| panic!("open: expected a store, got {e:?}"))
    }

    /// What a `kill -9` right now leaves: a copy of the folder taken while the handle is open, or, for a store that lives
    /// elsewhere, the same place after the handle was dropped without `close`.
    pub fn kill(self, store: Arc<dyn MetaStore>) -> Place {
        if !self.harness.in_folder {
            drop(store);
            return self;
        }
        let after = self.harness.place();
        copy(self.path(), after.path()).expect("a copy of the folder");
        drop(store);
        after
    }

    /// Every file below the folder with its bytes, sorted by path.
    pub fn files(&self) -> Vec<(std::path::PathBuf, Vec<u8>)> {
        let mut found = Vec::new();
        walk(self.path(), &mut |path| {
            found.push((path.to_owned(), fs::read(path)?));
            Ok(())
        })
        .expect("the folder's files");
        found.sort();
        found
    }
}

fn walk(dir: &Path, f: &mut dyn FnMut(&Path) -> io::Result<()>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            walk(&path, f)?;
        } else {
            f(&path)?;
        }
    }
    Ok(())
}

pub(super) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// Runs a check on a runtime of one thread, where a store that blocks the worker would block the check.
pub(super) fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(future)
}

/// Runs a check on a runtime of two workers.
pub(super) fn run_two<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(future)
}

pub(super) fn b(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub(super) async fn claim(store: &dyn MetaStore) -> Epoch {
    store
        .claim()
        .await
        .unwrap_or_else(|e| panic!("claim: expected an epoch, got {e:?}"))
}

/// Commits puts of texts into one table.
pub(super) async fn put(store: &dyn MetaStore, epoch: Epoch, table: Table, pairs: &[(&str, &str)]) {
    let mut batch = Batch::new(epoch);
    for (key, value) in pairs {
        batch.put(table, b(key), b(value));
    }
    store
        .commit(batch)
        .await
        .unwrap_or_else(|e| panic!("commit of {pairs:?}: expected success, got {e:?}"));
}

/// The value of one key.
pub(super) async fn one(store: &dyn MetaStore, table: Table, key: &Bytes) -> Option<Bytes> {
    let mut found = store
        .get(table, std::slice::from_ref(key))
        .await
        .unwrap_or_else(|e| panic!("get: expected an answer, got {e:?}"));
    assert_eq!(found.len(), 1, "get: expected one answer for one key");
    found.remove(0)
}

/// All pairs of a table.
pub(super) async fn all(store: &dyn MetaStore, table: Table) -> Vec<(Bytes, Bytes)> {
    store
        .scan(table, KeyRange::all(), usize::MAX)
        .await
        .unwrap_or_else(|e| panic!("scan: expected an answer, got {e:?}"))
}

/// All pairs of all tables, by table name.
pub(super) async fn everything(store: &dyn MetaStore) -> Vec<(&'static str, Bytes, Bytes)> {
    let mut out = Vec::new();
    for table in Table::ALL {
        out.extend(
            all(store, table)
                .await
                .into_iter()
                .map(|(k, v)| (table.name(), k, v)),
        );
    }
    out
}

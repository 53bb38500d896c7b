//! How the suite gets at a store.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aether_core::clock::ManualClock;
use aether_core::config::Slot;
use aether_core::plugin::{BuildContext, Plugin, Role};
use aether_core::role::ColdStore;
use aether_core::{Metric, Registry, Result};
use tempfile::TempDir;

type Keys = Box<dyn Fn(&Path) -> String + Send + Sync>;
type Plant = Box<dyn Fn(&Path) + Send + Sync>;

/// A plug-in, the keys it is opened with, and a temporary folder that goes when the harness is dropped.
pub struct Harness {
    plugin: &'static Plugin,
    registry: Registry,
    keys: Keys,
    leftovers: Option<Plant>,
    capacity: Option<u64>,
    volatile: bool,
    root: TempDir,
    places: AtomicUsize,
}

impl fmt::Debug for Harness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Harness")
            .field("plugin", &self.plugin.name)
            .field("root", &self.root.path())
            .finish_non_exhaustive()
    }
}

impl Harness {
    /// A plug-in with its default settings.
    ///
    /// # Panics
    /// When the plug-in is not of the cold role, its name is not valid, or no temporary folder can be made.
    pub fn new(plugin: &'static Plugin) -> Self {
        assert_eq!(plugin.role(), Role::Cold, "{}: role", plugin.name);
        let harness = Self {
            plugin,
            registry: Registry::empty(),
            keys: Box::new(|_| String::new()),
            leftovers: None,
            capacity: None,
            volatile: false,
            root: TempDir::new().expect("a temporary folder"),
            places: AtomicUsize::new(0),
        };
        harness.with_plugin(plugin)
    }

    /// The plug-in's keys as TOML text, made for the folder of one store.
    #[must_use]
    pub fn keys(mut self, keys: impl Fn(&Path) -> String + Send + Sync + 'static) -> Self {
        self.keys = Box::new(keys);
        self
    }

    /// Adds another plug-in to the registry, for one that wraps another.
    ///
    /// # Panics
    /// When the registry refuses it.
    #[must_use]
    pub fn with_plugin(mut self, plugin: &'static Plugin) -> Self {
        self.registry
            .add(plugin)
            .expect("a plug-in that can be registered");
        self
    }

    /// Plants into the folder of a closed store what a put that was cut short by a crash leaves behind.
    #[must_use]
    pub fn leftovers(mut self, plant: impl Fn(&Path) + Send + Sync + 'static) -> Self {
        self.leftovers = Some(Box::new(plant));
        self
    }

    /// Says that the keys limit the store to `bytes` of blobs, so that the suite can fill it.
    #[must_use]
    pub fn capacity(mut self, bytes: u64) -> Self {
        self.capacity = Some(bytes);
        self
    }

    /// Says that with these keys a persistent plug-in keeps nothing.
    #[must_use]
    pub fn volatile(mut self) -> Self {
        self.volatile = true;
        self
    }

    /// Whether blobs survive a reopening.
    pub(super) fn persistent(&self) -> bool {
        self.plugin.persistent && !self.volatile
    }

    /// The plug-in under test.
    pub fn plugin(&self) -> &'static Plugin {
        self.plugin
    }

    pub(super) fn capacity_bytes(&self) -> Option<u64> {
        self.capacity
    }

    /// The folder of a store that does not exist yet.
    ///
    /// # Panics
    /// When the folder cannot be made.
    pub fn fresh(&self) -> Place<'_> {
        let number = self.places.fetch_add(1, Ordering::Relaxed);
        let folder = self.root.path().join(number.to_string());
        std::fs::create_dir_all(folder.join("data")).expect("a folder for a store");
        Place {
            harness: self,
            folder,
        }
    }
}

/// One store's folder. Opening it again is a restart of the process that held it.
#[derive(Debug)]
pub struct Place<'a> {
    harness: &'a Harness,
    folder: PathBuf,
}

impl Place<'_> {
    /// The folder; the memory's data directory is `data` in it.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Opens the store.
    ///
    /// # Panics
    /// When the factory fails.
    pub fn open(&self) -> Arc<dyn ColdStore> {
        self.build("", false).expect("the store opens")
    }

    /// Opens the store for reading only.
    ///
    /// # Errors
    /// What the factory says.
    pub fn open_read_only(&self) -> Result<Arc<dyn ColdStore>> {
        self.build("", true)
    }

    /// Opens the store with more keys.
    ///
    /// # Errors
    /// What the factory says.
    pub fn open_with(&self, more_keys: &str) -> Result<Arc<dyn ColdStore>> {
        self.build(more_keys, false)
    }

    /// Calls the factory on a plain thread: it may block, and must not count on an async runtime around it.
    fn build(&self, more_keys: &str, read_only: bool) -> Result<Arc<dyn ColdStore>> {
        let harness = self.harness;
        // In front, for what is given may end with a table.
        let keys = format!("{more_keys}\n{}\n", self.given_keys());
        let slot = Slot::with_keys(Role::Cold, harness.plugin.name, &keys)?;
        let context = BuildContext {
            dim: 8,
            metric: Metric::L2,
            data_dir: Some(self.folder.join("data")),
            clock: Arc::new(ManualClock::new()),
            seed: 7,
            read_only,
            hot_budget: None,
            registry: Arc::new(harness.registry.clone()),
        };
        std::thread::scope(|scope| {
            let built = scope.spawn(|| harness.registry.cold(&slot, &context));
            built.join().expect("the factory does not panic")
        })
    }

    /// The keys that the harness gives, as TOML text.
    pub(super) fn given_keys(&self) -> String {
        (self.harness.keys)(&self.folder)
    }

    /// Plants leftovers; `false` if the harness has none.
    pub(super) fn plant_leftovers(&self) -> bool {
        match &self.harness.leftovers {
            Some(plant) => {
                plant(&self.folder);
                true
            }
            None => false,
        }
    }

    /// Every file and folder below, with its length and content, sorted.
    pub(super) fn contents(&self) -> Vec<(PathBuf, Option<Vec<u8>>)> {
        let mut found = Vec::new();
        let mut folders = vec![self.folder.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).expect("a readable folder") {
                let path = entry.expect("a readable folder").path();
                if path.is_dir() {
                    found.push((path.clone(), None));
                    folders.push(path);
                } else {
                    let bytes = std::fs::read(&path).expect("a readable file");
                    found.push((path, Some(bytes)));
                }
            }
        }
        found.sort();
        found
    }
}

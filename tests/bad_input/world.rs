//! A small memory in a folder of its own, half of it cold, with the plug-ins of the default configuration.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use aether::{BlockingMemory, CheckReport, Config, Parts, Point, PointId, Result};
use serde_json::json;
use tempfile::TempDir;

pub(crate) const DIM: usize = 8;
/// Points 0 to 149 are cold, 150 to 199 hot.
pub(crate) const POINTS: u64 = 200;
const COLD: u64 = 150;

#[derive(Debug)]
pub(crate) struct World {
    memory: Option<BlockingMemory>,
    pub(crate) toml: String,
    /// What [`World::fingerprint`] was when all was well.
    pub(crate) before: String,
    pub(crate) folder: TempDir,
}

pub(crate) fn vector(i: u64) -> Vec<f32> {
    let mut rng = fastrand::Rng::with_seed(i);
    (0..DIM).map(|_| rng.f32() + 0.01).collect()
}

pub(crate) fn points(range: Range<u64>) -> Vec<Point> {
    let point = |i| Point::new(i, vector(i)).with_payload(json!({ "n": i }));
    range.map(point).collect()
}

pub(crate) fn ids(range: Range<u64>) -> Vec<PointId> {
    range.map(PointId::Int).collect()
}

impl World {
    pub(crate) fn new(metric: &str, more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("memory");
        let search = if more.contains("[search]") {
            ""
        } else {
            "[search]\npartition_rows = 32\n"
        };
        let toml = format!(
            "[memory]\npath = {path:?}\ndim = {DIM}\nmetric = \"{metric}\"\nhot_budget = \"8MiB\"\n[flux]\ntick = \"0s\"\n\
             {search}{more}"
        );
        let mut world = Self {
            memory: None,
            toml,
            before: String::new(),
            folder,
        };
        world.open();
        for from in (0..POINTS).step_by(50) {
            world.memory().upsert(points(from..from + 50)).unwrap();
        }
        for from in (0..COLD).step_by(75) {
            assert_eq!(world.memory().demote(&ids(from..from + 75)).unwrap(), 75);
        }
        world.before = world.fingerprint();
        world
    }

    pub(crate) fn config(&self) -> Config {
        Config::from_toml(&self.toml).unwrap()
    }

    pub(crate) fn open(&mut self) {
        self.memory = Some(self.try_open().unwrap());
    }

    pub(crate) fn try_open(&self) -> Result<BlockingMemory> {
        aether::open_blocking(self.config())
    }

    pub(crate) fn close(&mut self) {
        self.memory.take().unwrap().close().unwrap();
    }

    pub(crate) fn memory(&self) -> &BlockingMemory {
        self.memory.as_ref().unwrap()
    }

    /// Everything that a refused call might have changed: each point with its version, vector, payload and tier, and the counts.
    pub(crate) fn fingerprint(&self) -> String {
        let memory = self.memory();
        let records = memory.get_many(&ids(0..1000), Parts::default()).unwrap();
        let stats = memory.stats();
        let figures = (
            stats.points,
            stats.hot_rows,
            stats.cold_rows,
            stats.segments,
            stats.pinned,
        );
        format!("{figures:?} {records:?}")
    }

    pub(crate) fn check(&self) -> CheckReport {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let registry = Arc::new(aether::registry().unwrap());
        runtime
            .block_on(aether::check(&self.config(), registry))
            .unwrap()
    }

    /// The files of the cold store's segments, by name.
    pub(crate) fn segments(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.folder.path().join("memory").join("cold")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|e| e == "seg") {
                    found.push(path);
                }
            }
        }
        found.sort();
        found
    }
}

//! The same memory for callers that are not async.

use std::path::Path;
use std::sync::Arc;

use tokio::runtime::Runtime;

use super::builder::MemoryBuilder;
use super::explained::Explained;
use super::memory::Memory;
use super::snapshot::SnapshotReport;
use super::stats::Stats;
use super::types::{
    Answer, Changed, Changes, Compacted, Parts, Point, Record, SearchRequest, TickReport, Written,
};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::id::PointId;
use crate::registry::Registry;

/// A [`Memory`] with a runtime of its own; every method blocks until it is done. Must not be used on an async worker.
#[derive(Clone, Debug)]
pub struct BlockingMemory {
    // Dropped before the runtime that its tasks run on.
    memory: Memory,
    runtime: Arc<Runtime>,
}

macro_rules! blocking {
    ($($(#[doc = $doc:literal])+ $name:ident($($arg:ident: $type:ty),*) -> $out:ty;)*) => {$(
        $(#[doc = $doc])+
        ///
        /// # Errors
        #[doc = concat!("As [`Memory::", stringify!($name), "`].")]
        pub fn $name(&self, $($arg: $type),*) -> Result<$out> {
            self.runtime.block_on(self.memory.$name($($arg),*))
        }
    )*};
}

impl BlockingMemory {
    /// Opens the memory that a configuration describes, with every plug-in linked into this program.
    ///
    /// # Errors
    /// As [`Memory::open`]; `Internal` when no runtime can be started.
    pub fn open(config: Config) -> Result<Self> {
        Self::start(MemoryBuilder::new(config, Arc::new(Registry::discover()?)))
    }

    pub(super) fn start(builder: MemoryBuilder) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .thread_name("aether")
            .enable_time()
            .build()
            .map_err(|e| Error::internal("no runtime could be started").with_source(e))?;
        let memory = runtime.block_on(builder.open())?;
        Ok(Self {
            memory,
            runtime: Arc::new(runtime),
        })
    }

    blocking! {
        /// Writes points.
        upsert(points: Vec<Point>) -> Written;
        /// Makes staged changes.
        apply(changes: Changes) -> Changed;
        /// A point with its vector and payload.
        get(id: &PointId) -> Option<Record>;
        /// Many points.
        get_many(ids: &[PointId], parts: Parts) -> Vec<Option<Record>>;
        /// The nearest points.
        search(request: SearchRequest) -> Answer;
        /// Deletes points.
        delete(ids: &[PointId]) -> usize;
        /// Tells the policy how useful an answer was.
        feedback(id: &PointId, reward: f32) -> bool;
        /// Keeps points in RAM.
        pin(ids: &[PointId]) -> usize;
        /// Leaves points to the policy again.
        unpin(ids: &[PointId]) -> usize;
        /// Moves points to the cold store now.
        demote(ids: &[PointId]) -> usize;
        /// Brings points into RAM now.
        promote(ids: &[PointId]) -> usize;
        /// Why a point is where it is.
        explain(id: &PointId) -> Option<Explained>;
        /// The same in the eyes of a shadow.
        explain_by(id: &PointId, policy: &str) -> Option<Explained>;
        /// One turn of the scheduler.
        tick() -> TickReport;
        /// Reclaims what removed rows left, in RAM and in the cold store.
        compact() -> Compacted;
        /// Copies the whole memory into a new folder.
        snapshot(folder: &Path) -> SnapshotReport;
        /// Says farewell.
        close() -> ();
    }

    /// Copies a snapshot into empty stores.
    ///
    /// # Errors
    /// As [`Memory::restore`].
    pub fn restore(
        folder: &Path,
        config: Config,
        registry: Arc<Registry>,
    ) -> Result<SnapshotReport> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(|e| Error::internal("no runtime could be started").with_source(e))?;
        runtime.block_on(Memory::restore(folder, config, registry))
    }

    /// The memory's figures now.
    pub fn stats(&self) -> Stats {
        self.memory.stats()
    }

    /// Sets the flux's temperature.
    ///
    /// # Errors
    /// As [`Memory::set_temperature`].
    pub fn set_temperature(&self, temperature: f64) -> Result<()> {
        self.memory.set_temperature(temperature)
    }

    /// The async handle; its futures may be awaited on any runtime.
    pub fn handle(&self) -> &Memory {
        &self.memory
    }
}

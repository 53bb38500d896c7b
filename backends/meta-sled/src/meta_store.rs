//! The contract over `core`, on tokio's blocking threads.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use aether_core::config::RawConfig;
use aether_core::role::{Batch, Epoch, KeyRange, MetaCapability, MetaStore, Seq, Table};
use aether_core::{BuildContext, Error, Result};
use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Semaphore;

use crate::config::SledConfig;
use crate::core::Core;
use crate::error;

const CAPABILITY: MetaCapability = MetaCapability {
    key_bytes_max: 1 << 10,
    // sled rewrites a page of several values as one, in RAM: keep them moderate.
    value_bytes_max: 4 << 20,
    batch_bytes_max: 32 << 20,
    persistent: true,
};

/// Calls that may be on a blocking thread at once; each of the others waits without one.
const CALLS_AT_ONCE: usize = 8;

/// A [`MetaStore`] in a folder of sled's. Needs a tokio runtime around its calls.
///
/// **Durability**: `durable` and `close` return after sled's flush and a sync of every file that it wrote; `commit` alone
/// promises nothing. **Threads**: calls run on tokio's blocking threads, eight at once; commits take turns, reads wait for
/// a commit, nobody waits for a sync. **Complexity**: O(log n) pages for each key.
#[derive(Debug)]
pub struct SledMeta {
    core: Arc<Core>,
    calls: Arc<Semaphore>,
}

/// The plug-in's factory.
pub(crate) fn build(raw: &RawConfig, context: &BuildContext) -> Result<Arc<dyn MetaStore>> {
    let config = SledConfig::from_raw(raw)?;
    let dir = context.data_dir.as_deref().ok_or_else(|| {
        raw.error(
            "folder",
            "this store keeps files, but the memory has no folder: set `[memory] dir` or use `backend = \"memory\"`",
        )
    })?;
    if context.read_only {
        return Err(error::at(
            Error::unsupported(
                "sled writes to its files on opening, so it cannot open them for reading only; use redb for that",
            ),
            "open",
        ));
    }
    SledMeta::open(dir, &config).map(|store| Arc::new(store) as _)
}

impl SledMeta {
    /// Opens the folder of `config` in the folder `dir`, or begins it.
    ///
    /// # Errors
    /// `Locked` when another handle has it open, `Corrupt` for one that is damaged or not ours.
    pub fn open(dir: &Path, config: &SledConfig) -> Result<Self> {
        let path = dir.join(&config.folder);
        // sled answers some kinds of damage with a panic.
        let core = catch_unwind(AssertUnwindSafe(|| Core::open(&path, config)))
            .unwrap_or_else(|_| {
                Err(Error::corrupt(
                    "the store is damaged so that sled gives up; restore from a snapshot",
                ))
            })
            .map_err(|e| error::at(e.with("folder", path.display()), "open"))?;
        Ok(Self {
            core: Arc::new(core),
            calls: Arc::new(Semaphore::new(CALLS_AT_ONCE)),
        })
    }

    /// Runs `work` on a blocking thread. A caller that goes away does not stop what was begun.
    async fn run<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&Core) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let turn = self.calls.clone().acquire_owned().await;
        let core = self.core.clone();
        let done = tokio::task::spawn_blocking(move || {
            let result = work(&core);
            drop(core);
            drop(turn);
            result
        });
        done.await
            .unwrap_or_else(|e| Err(error::unfinished(e)))
            .map_err(|e| error::at(e, operation))
    }
}

#[async_trait]
impl MetaStore for SledMeta {
    async fn claim(&self) -> Result<Epoch> {
        self.run("claim", Core::claim).await
    }

    async fn get(&self, table: Table, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>> {
        let keys = keys.to_vec();
        self.run("get", move |core| core.get(table, &keys)).await
    }

    async fn scan(
        &self,
        table: Table,
        range: KeyRange,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>> {
        self.run("scan", move |core| core.scan(table, &range, limit))
            .await
    }

    async fn commit(&self, batch: Batch) -> Result<Seq> {
        CAPABILITY
            .check(&batch)
            .map_err(|e| error::at(e, "commit"))?;
        self.run("commit", move |core| core.commit(&batch)).await
    }

    async fn durable(&self, seq: Seq) -> Result<()> {
        self.run("durable", move |core| core.durable(seq)).await
    }

    fn capability(&self) -> MetaCapability {
        CAPABILITY
    }

    async fn close(&self) -> Result<()> {
        self.run("close", Core::close).await
    }
}

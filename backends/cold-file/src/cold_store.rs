//! The store: which work is done in place, and which on a thread that may wait.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use aether_core::plugin::Role;
use aether_core::role::{BlobInfo, ColdStore};
use aether_core::{BlobKey, Error, Result, Retry};
use async_trait::async_trait;
use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::NAME;
use crate::config::FileStoreConfig;
use crate::files::{Files, Machine};
use crate::folder::{Folder, FolderLock};
use crate::open_files::{OpenBlob, OpenFiles};
use crate::read::{IN_PLACE_BYTES_MAX, Plan};

/// One file for each blob, in one folder.
///
/// **Durability.** A `put` returns after the blob's bytes and its name are synced; so does a `delete`.
/// **Threads.** Work that waits for the disk runs on the runtime's blocking threads, at most `threads` calls at once, so
/// that a search is not held up by a heap of puts. A read of up to 256 KiB from an open blob is first tried in
/// place with `RWF_NOWAIT`, which copies what the page cache has and never waits.
/// **Complexity.** `put` three syncs at most, whatever the size of the folder; `list` O(files).
#[derive(Debug)]
pub struct FileStore {
    files: Arc<dyn Files>,
    folder: Arc<Folder>,
    open_files: Arc<OpenFiles>,
    readers: Arc<Semaphore>,
    writers: Arc<Semaphore>,
    gap_bytes: u64,
    /// `None` when open for reading only.
    _lock: Option<FolderLock>,
    read_only: bool,
}

impl FileStore {
    /// Opens a folder, which is made if it is not there. Waits for the disk.
    ///
    /// # Errors
    /// `Locked` when another store holds the folder, `Config` when it is no folder, `Unavailable` when it cannot be made.
    pub fn open(folder: &Path, config: &FileStoreConfig, read_only: bool) -> Result<Self> {
        Self::open_on(Arc::new(Machine), folder, config, read_only)
    }

    /// Opens a folder of another file system than the machine's; for tests.
    #[doc(hidden)]
    pub fn open_on(
        files: Arc<dyn Files>,
        folder: &Path,
        config: &FileStoreConfig,
        read_only: bool,
    ) -> Result<Self> {
        let at = |e: Error| e.at(Role::Cold, NAME, "open");
        let (folder, lock) = if read_only {
            let folder = Folder::open_read_only(files.clone(), folder);
            (folder.map_err(at)?, None)
        } else {
            let (folder, lock) = Folder::open(files.clone(), folder).map_err(at)?;
            (folder, Some(lock))
        };
        let writers = (config.threads / 2).max(1);
        let readers = config.threads.saturating_sub(writers).max(1);
        Ok(Self {
            files,
            folder: Arc::new(folder),
            open_files: Arc::new(OpenFiles::new(config.open_files)),
            readers: Arc::new(Semaphore::new(readers)),
            writers: Arc::new(Semaphore::new(writers)),
            gap_bytes: config.gap.0,
            _lock: lock,
            read_only,
        })
    }

    /// Runs `work` on a thread that may wait. The permit goes with it, for it goes on when the caller is gone.
    async fn waiting<T: Send + 'static>(
        &self,
        permits: &Arc<Semaphore>,
        work: impl FnOnce(&Folder) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        if self.files.never_waits() {
            return work(&self.folder);
        }
        let runtime = Handle::try_current().map_err(|e| {
            Error::internal("the file store was called outside of a tokio runtime").with_source(e)
        })?;
        let permit = permits.clone().acquire_owned().await;
        let permit = permit.map_err(|_| Error::closed("the store is closed"))?;
        let folder = self.folder.clone();
        let work = runtime.spawn_blocking(move || {
            let done = work(&folder);
            drop(permit);
            done
        });
        match work.await {
            Ok(done) => done,
            Err(e) if e.is_cancelled() => {
                let error = Error::unavailable("the runtime ended before the disk answered");
                Err(error.with_retry(Retry::Unknown).with_source(e))
            }
            Err(e) => Err(Error::internal("work on the disk panicked").with_source(e)),
        }
    }

    fn writable(&self) -> Result<()> {
        if self.read_only {
            return Err(Error::unsupported(
                "the store is open for reading only: open it for writing to put or delete",
            ));
        }
        Ok(())
    }

    /// The open file of a blob; `None` if there is no such blob.
    async fn blob(&self, key: &BlobKey) -> Result<Option<Arc<OpenBlob>>> {
        if let Some(blob) = self.open_files.get(key) {
            return Ok(Some(blob));
        }
        let (name, open_files) = (key.clone(), self.open_files.clone());
        let open = move |folder: &Folder| open_and_keep(folder, &open_files, &name);
        self.waiting(&self.readers, open).await
    }

    async fn read_blob(&self, blob: Arc<OpenBlob>, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let mut plan = Plan::new(ranges, blob.len, self.gap_bytes)?;
        if plan.bytes() <= IN_PLACE_BYTES_MAX && plan.read_in_place(&blob) {
            return Ok(plan.finish());
        }
        let read = move |_: &Folder| {
            plan.read_waiting(&blob)?;
            Ok(plan.finish())
        };
        self.waiting(&self.readers, read).await
    }
}

fn open_and_keep(
    folder: &Folder,
    open_files: &OpenFiles,
    key: &BlobKey,
) -> Result<Option<Arc<OpenBlob>>> {
    let generation = open_files.generation();
    let Some(blob) = folder.open_blob(key)?.map(Arc::new) else {
        return Ok(None);
    };
    open_files.insert(key, &blob, generation);
    Ok(Some(blob))
}

#[async_trait]
impl ColdStore for FileStore {
    async fn put(&self, key: &BlobKey, data: Bytes) -> Result<()> {
        let at = |e: Error| e.at(Role::Cold, NAME, "put").with("blob", key);
        self.writable().map_err(at)?;
        let name = key.clone();
        let put = move |folder: &Folder| folder.put(&name, &data);
        self.waiting(&self.writers, put).await.map_err(at)
    }

    async fn read(&self, key: &BlobKey, ranges: &[Range<u64>]) -> Result<Option<Vec<Bytes>>> {
        let at = |e: Error| e.at(Role::Cold, NAME, "read").with("blob", key);
        let Some(blob) = self.blob(key).await.map_err(at)? else {
            return Ok(None);
        };
        let read = self.read_blob(blob, ranges).await;
        read.map(Some).map_err(at)
    }

    async fn size(&self, key: &BlobKey) -> Result<Option<u64>> {
        let at = |e: Error| e.at(Role::Cold, NAME, "size").with("blob", key);
        let blob = self.blob(key).await.map_err(at)?;
        Ok(blob.map(|b| b.len))
    }

    async fn delete(&self, key: &BlobKey) -> Result<()> {
        let at = |e: Error| e.at(Role::Cold, NAME, "delete").with("blob", key);
        self.writable().map_err(at)?;
        let (name, open_files) = (key.clone(), self.open_files.clone());
        let delete = move |folder: &Folder| {
            let deleted = folder.delete(&name);
            // Also when the sync failed: the file is gone.
            open_files.deleted(&name);
            deleted
        };
        self.waiting(&self.writers, delete).await.map_err(at)
    }

    async fn list(&self, prefix: &str) -> Result<Vec<BlobInfo>> {
        let at = |e: Error| e.at(Role::Cold, NAME, "list").with("prefix", prefix);
        let prefix = prefix.to_owned();
        let list = move |folder: &Folder| folder.list(&prefix);
        self.waiting(&self.readers, list).await.map_err(at)
    }
}

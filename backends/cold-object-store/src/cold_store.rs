//! The store.

use std::ops::Range;
use std::sync::atomic::Ordering::Relaxed;

use aether_core::plugin::{BuildContext, Role};
use aether_core::role::{BlobInfo, ColdStore, Usage, UsageCounter, runs};
use aether_core::{BlobKey, Error, Result, Retry};
use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{Error as StoreError, OBJECT_STORE_COALESCE_DEFAULT, ObjectStoreExt};
use quick_cache::sync::Cache;

use crate::NAME;
use crate::config::ObjectStoreConfig;
use crate::error::{Effect, map};
use crate::probe::creates_only;
use crate::tag::Tags;
use crate::target::{Target, connect, sync_folder};

/// Blobs whose length is remembered, so that a read need not ask for it; about 100 bytes each.
const LENGTHS_MAX: usize = 16_384;
/// Objects of one page of a listing, as the services give them.
const PAGE: u64 = 1000;

/// Blobs as objects, one for each.
///
/// **Durability.** As the service promises it for an acknowledged object; in a local folder bytes and names are synced.
/// **Requests.** `put` one, and two more when the key is taken; `read` one for each run of near ranges (up to 1 MiB apart), and one
/// more if the blob's length is not known yet; `size` and `delete` one; `list` one for each thousand objects.
/// **Threads.** Nothing blocks; at most `requests` calls are under way.
#[derive(Debug)]
pub struct ObjectColdStore {
    target: Target,
    lengths: Cache<BlobKey, u64>,
    read_only: bool,
    tags: Tags,
    usage: UsageCounter,
}

impl ObjectColdStore {
    /// Connects to the store that the settings name, and tries it (`probe`). Blocks.
    ///
    /// # Errors
    /// `Config` for settings that do not make a store, `Unsupported` for one that does not create only, `Unavailable` for one
    /// that does not answer.
    pub fn open(config: &ObjectStoreConfig, context: &BuildContext) -> Result<Self> {
        let target = connect(config, context.read_only)?;
        if config.probe && !context.read_only {
            // Connections belong to the runtime that made them, and the probe's ends with it.
            let probed = if target.remote {
                connect(config, false)?
            } else {
                target.clone()
            };
            on_a_runtime_of_its_own(creates_only(&probed, context))?;
        }
        Ok(Self {
            tags: Tags::new(target.remote, context),
            target,
            lengths: Cache::new(LENGTHS_MAX),
            read_only: context.read_only,
            usage: UsageCounter::default(),
        })
    }

    fn writable(&self) -> Result<()> {
        if self.read_only {
            return Err(Error::unsupported(
                "the store is open for reading only: open it for writing to put or delete",
            ));
        }
        Ok(())
    }

    async fn create(&self, key: &BlobKey, data: Bytes) -> Result<()> {
        self.writable()?;
        let path = self.target.names.path(key);
        let tag = self.tags.next(&data);
        let options = Tags::options(tag.as_deref());
        let put = self
            .target
            .store
            .put_opts(&path, data.clone().into(), options);
        self.usage.put(data.len() as u64);
        match put.await {
            Ok(_) => {}
            Err(StoreError::AlreadyExists { .. }) => {
                if !self.holds(&path, &data, tag.as_deref()).await? {
                    return Err(Error::conflict(format!(
                        "the key holds other bytes than the {} put: a blob is never replaced",
                        data.len()
                    )));
                }
                self.sync_names().await?;
            }
            Err(e) => return Err(map(e, Effect::Perhaps)),
        }
        self.lengths.insert(key.clone(), data.len() as u64);
        Ok(())
    }

    /// Whether an object that is there holds exactly `data`. One with this put's own tag does: a repeated request found its own work.
    async fn holds(&self, path: &Path, data: &Bytes, tag: Option<&str>) -> Result<bool> {
        let gone = || {
            Error::unavailable(
                "the key was taken and became free again while the blob was put: put it again",
            )
        };
        let found = match self.target.store.get(path).await {
            Ok(found) => found,
            Err(StoreError::NotFound { .. }) => return Err(gone()),
            Err(e) => return Err(map(e, Effect::Perhaps)),
        };
        let own = tag.is_some() && Tags::of(&found.attributes) == tag;
        if found.meta.size != data.len() as u64 {
            return Ok(false);
        }
        // The transfer ends where the answer is dropped.
        self.usage.get(if own { 0 } else { found.meta.size });
        if own {
            return Ok(true);
        }
        let mut held = found.into_stream();
        let mut rest = &data[..];
        while let Some(piece) = held.try_next().await.map_err(|e| map(e, Effect::Perhaps))? {
            match rest.split_at_checked(piece.len()) {
                Some((expected, after)) if *expected == piece[..] => rest = after,
                _ => return Ok(false),
            }
        }
        Ok(rest.is_empty())
    }

    /// In a local folder, makes names survive a power cut; a service has done so.
    async fn sync_names(&self) -> Result<()> {
        let Some(folder) = self.target.folder.clone() else {
            return Ok(());
        };
        let failed = |e: Box<dyn std::error::Error + Send + Sync>| {
            let error = Error::unavailable("the folder could not be synced");
            error.with_retry(Retry::Unknown).with_source(e)
        };
        match tokio::task::spawn_blocking(move || sync_folder(&folder)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(e)) => Err(failed(e.into())),
            Err(e) => Err(failed(e.into())),
        }
    }

    async fn remove(&self, key: &BlobKey) -> Result<()> {
        self.writable()?;
        let path = self.target.names.path(key);
        self.usage.deletes.fetch_add(1, Relaxed);
        let deleted = self.target.store.delete(&path).await;
        self.lengths.remove(key);
        match deleted {
            Ok(()) => self.sync_names().await,
            Err(StoreError::NotFound { .. }) => Ok(()),
            Err(e) => Err(map(e, Effect::Perhaps)),
        }
    }

    /// The length as the store has it now.
    async fn ask_length(&self, key: &BlobKey) -> Result<Option<u64>> {
        self.usage.heads.fetch_add(1, Relaxed);
        match self.target.store.head(&self.target.names.path(key)).await {
            Ok(found) => {
                self.lengths.insert(key.clone(), found.size);
                Ok(Some(found.size))
            }
            Err(StoreError::NotFound { .. }) => {
                self.lengths.remove(key);
                Ok(None)
            }
            Err(e) => Err(map(e, Effect::None)),
        }
    }

    async fn ranges(&self, key: &BlobKey, ranges: &[Range<u64>]) -> Result<Option<Vec<Bytes>>> {
        let mut remembered = self.lengths.get(key);
        loop {
            let asked = remembered.is_none();
            let length = match remembered.take() {
                Some(length) => Some(length),
                None => self.ask_length(key).await?,
            };
            let Some(length) = length else {
                return Ok(None);
            };
            match self.ranges_within(key, ranges, length).await {
                // What is remembered may be wrong when somebody else deleted and put; ask once, then believe.
                Err(e) if !asked && (e.is_invalid_input() || e.is_corrupt()) => {}
                answer => return answer,
            }
        }
    }

    async fn ranges_within(
        &self,
        key: &BlobKey,
        ranges: &[Range<u64>],
        length: u64,
    ) -> Result<Option<Vec<Bytes>>> {
        for range in ranges {
            if range.start > range.end || range.end > length {
                return Err(Error::invalid_input(format!(
                    "range {}..{}: expected a range within the blob's {length} bytes",
                    range.start, range.end
                )));
            }
        }
        // Services refuse empty ranges.
        let wanted = ranges.iter().filter(|r| !r.is_empty()).cloned();
        let wanted: Vec<Range<u64>> = wanted.collect();
        let path = self.target.names.path(key);
        let read = if wanted.is_empty() {
            Vec::new()
        } else {
            for run in runs(&wanted, OBJECT_STORE_COALESCE_DEFAULT) {
                self.usage.get(run.end - run.start);
            }
            match self.target.store.get_ranges(&path, &wanted).await {
                Ok(read) => read,
                Err(StoreError::NotFound { .. }) => {
                    self.lengths.remove(key);
                    return Ok(None);
                }
                Err(e) => return Err(map(e, Effect::None)),
            }
        };
        let mut read = read.into_iter();
        let mut answers = Vec::with_capacity(ranges.len());
        for range in ranges {
            let expected = range.end - range.start;
            let bytes = match expected {
                0 => Bytes::new(),
                _ => read.next().unwrap_or_default(),
            };
            if bytes.len() as u64 != expected {
                return Err(Error::corrupt(format!(
                    "range {}..{}: expected {expected} bytes, got {}",
                    range.start,
                    range.end,
                    bytes.len()
                )));
            }
            answers.push(bytes);
        }
        Ok(Some(answers))
    }

    async fn find(&self, prefix: &str) -> Result<Vec<BlobInfo>> {
        let Some(folder) = self.target.names.folder(prefix) else {
            return Ok(Vec::new());
        };
        let mut objects = self.target.store.list(folder.as_ref());
        let (mut found, mut seen) = (Vec::new(), 0);
        self.usage.lists.fetch_add(1, Relaxed);
        loop {
            let object = match objects.try_next().await {
                Ok(Some(object)) => object,
                Ok(None) => break,
                // A folder that went away while it was listed.
                Err(StoreError::NotFound { .. }) => break,
                Err(e) => return Err(map(e, Effect::None)),
            };
            seen += 1;
            if seen % PAGE == 0 {
                self.usage.lists.fetch_add(1, Relaxed);
            }
            if let Some(key) = self.target.names.key(&object.location)
                && key.as_str().starts_with(prefix)
            {
                let bytes = object.size;
                found.push(BlobInfo { key, bytes });
            }
        }
        found.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        Ok(found)
    }
}

/// Drives a future on a thread and a runtime of its own, for the caller may or may not be on one.
fn on_a_runtime_of_its_own(future: impl Future<Output = Result<()>> + Send) -> Result<()> {
    std::thread::scope(|scope| {
        let driver = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            let runtime = runtime.map_err(|e| {
                Error::unavailable("no runtime for the probe could be made").with_source(e)
            })?;
            runtime.block_on(future)
        });
        let panicked = |_| Error::internal("the probe panicked");
        driver.join().map_err(panicked)?
    })
}

#[async_trait]
impl ColdStore for ObjectColdStore {
    async fn put(&self, key: &BlobKey, data: Bytes) -> Result<()> {
        let at = |e: Error| e.at(Role::Cold, NAME, "put").with("blob", key);
        self.create(key, data).await.map_err(at)
    }

    async fn read(&self, key: &BlobKey, ranges: &[Range<u64>]) -> Result<Option<Vec<Bytes>>> {
        let at = |e: Error| e.at(Role::Cold, NAME, "read").with("blob", key);
        self.ranges(key, ranges).await.map_err(at)
    }

    async fn size(&self, key: &BlobKey) -> Result<Option<u64>> {
        let at = |e: Error| e.at(Role::Cold, NAME, "size").with("blob", key);
        self.ask_length(key).await.map_err(at)
    }

    async fn delete(&self, key: &BlobKey) -> Result<()> {
        let at = |e: Error| e.at(Role::Cold, NAME, "delete").with("blob", key);
        self.remove(key).await.map_err(at)
    }

    async fn list(&self, prefix: &str) -> Result<Vec<BlobInfo>> {
        let at = |e: Error| e.at(Role::Cold, NAME, "list").with("prefix", prefix);
        self.find(prefix).await.map_err(at)
    }

    /// Requests as this store makes them; those that the client repeats by itself are not seen.
    fn usage(&self) -> Option<Usage> {
        Some(self.usage.read())
    }
}

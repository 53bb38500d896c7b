//! The store.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use aether_core::role::{BlobInfo, ColdStore, Usage};
use aether_core::{BlobKey, Result};
use async_trait::async_trait;
use bytes::Bytes;
use futures::future::join_all;
use parking_lot::RwLock;

use crate::blocks::{BlockCache, CacheCounts};

/// Another store, whose verified blocks are kept near.
///
/// **Requests.** `read` asks the store inside for the ranges that are not kept, in one call; when all are, it is not asked at all. Everything
/// else is the store inside.
/// **Threads.** Nothing blocks; files are read by threads of the cache.
#[derive(Debug)]
pub struct CachedStore {
    inner: Arc<dyn ColdStore>,
    blocks: BlockCache,
    /// Names that were deleted in this process: nothing is kept of them any more, whoever should use them again.
    deleted: RwLock<HashSet<BlobKey>>,
}

impl CachedStore {
    /// Wraps a store.
    pub fn new(inner: Arc<dyn ColdStore>, blocks: BlockCache) -> Self {
        Self {
            inner,
            blocks,
            deleted: RwLock::default(),
        }
    }

    /// What the cache did so far.
    pub fn counts(&self) -> &CacheCounts {
        self.blocks.counts()
    }

    fn is_kept(&self, key: &BlobKey) -> bool {
        !self.deleted.read().contains(key)
    }
}

#[async_trait]
impl ColdStore for CachedStore {
    async fn put(&self, key: &BlobKey, data: Bytes) -> Result<()> {
        self.inner.put(key, data).await
    }

    async fn read(&self, key: &BlobKey, ranges: &[Range<u64>]) -> Result<Option<Vec<Bytes>>> {
        if !self.is_kept(key) {
            return self.inner.read(key, ranges).await;
        }
        let look = |range: &Range<u64>| {
            let range = range.clone();
            async move {
                if range.start >= range.end {
                    return None;
                }
                self.blocks.get(key.as_str(), &range).await
            }
        };
        let mut answers = join_all(ranges.iter().map(look)).await;
        let missing: Vec<usize> = (0..ranges.len())
            .filter(|i| answers[*i].is_none())
            .collect();
        if missing.is_empty() && !ranges.is_empty() {
            return Ok(Some(answers.into_iter().flatten().collect()));
        }
        let wanted: Vec<Range<u64>> = missing.iter().map(|i| ranges[*i].clone()).collect();
        let Some(read) = self.inner.read(key, &wanted).await? else {
            return Ok(None);
        };
        for (place, bytes) in missing.into_iter().zip(read) {
            answers[place] = Some(bytes);
        }
        Ok(Some(answers.into_iter().flatten().collect()))
    }

    async fn size(&self, key: &BlobKey) -> Result<Option<u64>> {
        self.inner.size(key).await
    }

    async fn delete(&self, key: &BlobKey) -> Result<()> {
        self.deleted.write().insert(key.clone());
        self.inner.delete(key).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<BlobInfo>> {
        self.inner.list(prefix).await
    }

    fn usage(&self) -> Option<Usage> {
        self.inner.usage()
    }

    fn verified(&self, key: &BlobKey, range: Range<u64>, bytes: &Bytes) {
        if self.is_kept(key) {
            self.blocks.put(key.as_str(), &range, bytes);
        }
        self.inner.verified(key, range, bytes);
    }
}

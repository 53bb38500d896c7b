//! The five methods. Which folder is a blob's own follows from its name alone; nothing else is remembered.

use std::ops::Range;
use std::sync::Arc;

use aether_core::role::{BlobInfo, ColdStore};
use aether_core::seal::checksum;
use aether_core::{BlobKey, Result};
use async_trait::async_trait;
use bytes::Bytes;
use futures::future::try_join_all;

/// Blobs spread over several stores.
///
/// **Durability and atomicity.** Those of the wrapped stores: a put is one put of one of them.
/// **Complexity.** One request of one store where the blob lies in its own folder; up to one for each folder where it does not.
#[derive(Debug)]
pub struct Spread {
    stores: Vec<Arc<dyn ColdStore>>,
}

impl Spread {
    /// Spreads over at least one store.
    pub fn new(stores: Vec<Arc<dyn ColdStore>>) -> Self {
        Self { stores }
    }

    /// All stores, the blob's own first, the others in the order in which a smaller number of folders would have chosen them. Rendezvous
    /// hashing: each folder draws a number for the name, the highest wins; so a new folder takes over its share of new blobs, and all
    /// other blobs stay where they are looked for first.
    fn in_order(&self, key: &BlobKey) -> Vec<&Arc<dyn ColdStore>> {
        let mut drawn: Vec<(u64, &Arc<dyn ColdStore>)> = (0u64..)
            .zip(&self.stores)
            .map(|(i, s)| (checksum(key.as_str().as_bytes(), i), s))
            .collect();
        drawn.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
        drawn.into_iter().map(|(_, store)| store).collect()
    }
}

#[async_trait]
impl ColdStore for Spread {
    async fn put(&self, key: &BlobKey, data: Bytes) -> Result<()> {
        let stores = self.in_order(key);
        // A blob from the time before a folder was added counts: the same bytes again are fine, other bytes are a conflict, and the
        // store that has it knows which.
        for store in stores.iter().skip(1) {
            if store.size(key).await?.is_some() {
                return store.put(key, data).await;
            }
        }
        match stores.first() {
            Some(own) => own.put(key, data).await,
            None => Err(aether_core::Error::internal(
                "spread was built over no store",
            )),
        }
    }

    async fn read(&self, key: &BlobKey, ranges: &[Range<u64>]) -> Result<Option<Vec<Bytes>>> {
        for store in self.in_order(key) {
            if let Some(parts) = store.read(key, ranges).await? {
                return Ok(Some(parts));
            }
        }
        Ok(None)
    }

    async fn size(&self, key: &BlobKey) -> Result<Option<u64>> {
        for store in self.in_order(key) {
            if let Some(bytes) = store.size(key).await? {
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }

    async fn delete(&self, key: &BlobKey) -> Result<()> {
        // Everywhere: a delete must leave nothing that a later read could find.
        try_join_all(self.stores.iter().map(|s| s.delete(key)))
            .await
            .map(drop)
    }

    async fn list(&self, prefix: &str) -> Result<Vec<BlobInfo>> {
        let lists = try_join_all(self.stores.iter().map(|s| s.list(prefix))).await?;
        let mut all: Vec<BlobInfo> = lists.into_iter().flatten().collect();
        all.sort_by(|a, b| a.key.cmp(&b.key));
        all.dedup_by(|a, b| a.key == b.key);
        Ok(all)
    }
}

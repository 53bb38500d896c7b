//! The store.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::{Bound, Range};

use aether_core::plugin::Role;
use aether_core::role::{BlobInfo, ColdStore};
use aether_core::{BlobKey, Error, Result};
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::RwLock;

use crate::NAME;
use crate::config::MemoryStoreConfig;

/// Blobs in a sorted map behind a lock.
///
/// **Complexity.** O(log n) for each call, and O(answers) for a listing; answers share the blob's memory, nothing is copied.
/// **Durability.** None: `put` promises only what the process's memory does.
/// **Threads.** The lock is held for map operations only, never for a copy of a blob; the comparison of a repeated put
/// with what is there happens outside it.
#[derive(Debug)]
pub struct MemoryStore {
    blobs: RwLock<Blobs>,
    capacity_bytes: Option<u64>,
    read_only: bool,
}

#[derive(Debug, Default)]
struct Blobs {
    by_key: BTreeMap<BlobKey, Bytes>,
    bytes: u64,
}

impl MemoryStore {
    /// An empty store. One that is `read_only` stays empty.
    pub fn new(config: &MemoryStoreConfig, read_only: bool) -> Self {
        Self {
            blobs: RwLock::default(),
            capacity_bytes: config.capacity.map(|c| c.0),
            read_only,
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

    /// Puts the blob if the key is free and there is room; the bytes that hold the key otherwise.
    fn insert(&self, key: &BlobKey, data: &Bytes) -> Result<Option<Bytes>> {
        let mut blobs = self.blobs.write();
        let len = data.len() as u64;
        let total = blobs.bytes.saturating_add(len);
        match blobs.by_key.entry(key.clone()) {
            Entry::Occupied(old) => return Ok(Some(old.get().clone())),
            Entry::Vacant(free) => {
                if let Some(capacity) = self.capacity_bytes
                    && total > capacity
                {
                    return Err(Error::capacity(format!(
                        "expected a blob that fits {capacity} bytes (key `capacity`) beside {} bytes of others, \
                         got {len} bytes: delete blobs or raise the capacity",
                        total - len
                    )));
                }
                free.insert(data.clone());
            }
        }
        blobs.bytes = total;
        Ok(None)
    }
}

#[async_trait]
impl ColdStore for MemoryStore {
    async fn put(&self, key: &BlobKey, data: Bytes) -> Result<()> {
        let at = |e: Error| e.at(Role::Cold, NAME, "put").with("blob", key);
        self.writable().map_err(at)?;
        match self.insert(key, &data).map_err(at)? {
            Some(old) if old != data => Err(at(Error::conflict(format!(
                "the key holds {} other bytes, put {} bytes: a blob is never replaced",
                old.len(),
                data.len()
            )))),
            _ => Ok(()),
        }
    }

    async fn read(&self, key: &BlobKey, ranges: &[Range<u64>]) -> Result<Option<Vec<Bytes>>> {
        let Some(blob) = self.blobs.read().by_key.get(key).cloned() else {
            return Ok(None);
        };
        let len = blob.len() as u64;
        let cut = |range: &Range<u64>| {
            if range.start > range.end || range.end > len {
                let message = format!(
                    "range {}..{}: expected a range within the blob's {len} bytes",
                    range.start, range.end
                );
                let error = Error::invalid_input(message).at(Role::Cold, NAME, "read");
                return Err(error.with("blob", key));
            }
            // Both are at most the length of a buffer in memory.
            Ok(blob.slice(range.start as usize..range.end as usize))
        };
        ranges.iter().map(cut).collect::<Result<_>>().map(Some)
    }

    async fn size(&self, key: &BlobKey) -> Result<Option<u64>> {
        let blobs = self.blobs.read();
        Ok(blobs.by_key.get(key).map(|b| b.len() as u64))
    }

    async fn delete(&self, key: &BlobKey) -> Result<()> {
        let at = |e: Error| e.at(Role::Cold, NAME, "delete").with("blob", key);
        self.writable().map_err(at)?;
        let mut blobs = self.blobs.write();
        if let Some(old) = blobs.by_key.remove(key) {
            blobs.bytes -= old.len() as u64;
        }
        Ok(())
    }

    async fn list(&self, prefix: &str) -> Result<Vec<BlobInfo>> {
        let blobs = self.blobs.read();
        // A prefix need not be a key, so the map is sought by its text, as keys sort.
        let from = BlobKey::new(prefix).map_or(Bound::Unbounded, Bound::Included);
        let found = blobs.by_key.range((from, Bound::Unbounded));
        let found = found.skip_while(|(key, _)| !key.as_str().starts_with(prefix));
        let found = found.take_while(|(key, _)| key.as_str().starts_with(prefix));
        let info = |(key, bytes): (&BlobKey, &Bytes)| BlobInfo {
            key: key.clone(),
            bytes: bytes.len() as u64,
        };
        Ok(found.map(info).collect())
    }
}

//! Blocks in RAM and on disk, by the crate foyer.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use aether_core::seal::checksum;
use aether_core::{Error, Result};
use bytes::Bytes;
use foyer::{
    BlockEngineConfig, DeviceBuilder, FsDeviceBuilder, HybridCache, HybridCacheBuilder,
    RecoverMode, Source, Spawner,
};

/// Threads that write and read the cache's files.
const THREADS: usize = 2;
/// Bytes of a seal.
const SEAL_BYTES: usize = 8;
/// What an entry takes in RAM besides its bytes: key, links, table.
const ENTRY_BYTES: usize = 160;

/// What the cache did since it was opened.
#[derive(Debug, Default)]
pub struct CacheCounts {
    /// Blocks found in RAM.
    pub hits_ram: AtomicU64,
    /// Blocks found on disk.
    pub hits_disk: AtomicU64,
    /// Blocks that were not there, or not what was put in.
    pub misses: AtomicU64,
}

impl CacheCounts {
    /// Share of blocks that were there; `None` before the first was asked for.
    pub fn hit_rate(&self) -> Option<f64> {
        let hits = self.hits_ram.load(Relaxed) + self.hits_disk.load(Relaxed);
        let all = hits + self.misses.load(Relaxed);
        (all > 0).then(|| hits as f64 / all as f64)
    }
}

/// Ranges of blobs and their bytes. What leaves RAM goes to disk, what leaves the disk is gone.
pub struct BlockCache {
    cache: HybridCache<String, Bytes>,
    counts: CacheCounts,
}

impl fmt::Debug for BlockCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockCache")
            .field("counts", &self.counts)
            .finish_non_exhaustive()
    }
}

/// A range's name: no blob key contains a ':'.
fn name(blob: &str, range: &Range<u64>) -> String {
    format!("{blob}:{}-{}", range.start, range.end)
}

fn seal_of(name: &str, bytes: &[u8]) -> [u8; SEAL_BYTES] {
    checksum(bytes, checksum(name.as_bytes(), 0)).to_le_bytes()
}

impl BlockCache {
    /// An empty cache with so much RAM, and a folder with so many bytes of disk, whose former content is forgotten. Blocks.
    ///
    /// # Errors
    /// `Unavailable` when threads or files cannot be made.
    pub fn open(ram: u64, disk: Option<(PathBuf, u64)>) -> Result<Self> {
        let failed = |what: &str, e: foyer::Error| {
            Error::unavailable(format!("the block cache cannot {what}")).with_source(e.to_string())
        };
        let ram = usize::try_from(ram).unwrap_or(usize::MAX);
        // Its own runtime: the cache outlives the one that a caller happens to be on.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("aether-block-cache")
            .enable_all()
            .build();
        let runtime = runtime.map_err(|e| {
            Error::unavailable("the block cache cannot start its threads").with_source(e)
        })?;
        let handle = runtime.handle().clone();
        let builder = HybridCacheBuilder::new()
            .with_name("aether")
            .with_flush_on_close(false)
            .memory(ram)
            .with_weighter(|name: &String, bytes: &Bytes| name.len() + bytes.len() + ENTRY_BYTES)
            .storage()
            .with_spawner(Spawner::from(runtime))
            .with_recover_mode(RecoverMode::None);
        let builder = match disk {
            None => builder,
            Some((folder, bytes)) => {
                std::fs::create_dir_all(&folder).map_err(|e| {
                    Error::unavailable(format!(
                        "the block cache cannot make its folder {}",
                        folder.display()
                    ))
                    .with_source(e)
                })?;
                let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
                let device = FsDeviceBuilder::new(&folder).with_capacity(bytes).build();
                let device = device.map_err(|e| failed("use its folder", e))?;
                // At least 16 of them, so that little is lost when one is emptied for the next.
                let block = (bytes / 16).clamp(1 << 20, 16 << 20);
                builder.with_engine_config(BlockEngineConfig::new(device).with_block_size(block))
            }
        };
        let cache = wait(&handle, builder.build())?.map_err(|e| failed("be opened", e))?;
        Ok(Self {
            cache,
            counts: CacheCounts::default(),
        })
    }

    /// What the cache did so far.
    pub fn counts(&self) -> &CacheCounts {
        &self.counts
    }

    /// The bytes of a range, if they are there and are what was put in.
    pub async fn get(&self, blob: &str, range: &Range<u64>) -> Option<Bytes> {
        let name = name(blob, range);
        let found = self.cache.get(&name).await.unwrap_or_else(|error| {
            tracing::debug!(%error, "a block could not be read from the cache");
            None
        });
        let entry = found.and_then(|entry| {
            let sealed = entry.value();
            let end = sealed.len().checked_sub(SEAL_BYTES)?;
            let bytes = sealed.slice(..end);
            let good = sealed[end..] == seal_of(&name, &bytes)
                && bytes.len() as u64 == range.end - range.start;
            good.then(|| (bytes, entry.source()))
        });
        let (count, tier) = match &entry {
            Some((_, Source::Disk)) => (&self.counts.hits_disk, "disk"),
            Some(_) => (&self.counts.hits_ram, "ram"),
            None => {
                self.counts.misses.fetch_add(1, Relaxed);
                metrics::counter!("aether_block_cache_misses_total").increment(1);
                return None;
            }
        };
        count.fetch_add(1, Relaxed);
        metrics::counter!("aether_block_cache_hits_total", "tier" => tier).increment(1);
        entry.map(|(bytes, _)| bytes)
    }

    /// Keeps the bytes of a range, which somebody has verified, for as long as there is room.
    pub fn put(&self, blob: &str, range: &Range<u64>, bytes: &Bytes) {
        let name = name(blob, range);
        if self.cache.memory().contains(&name) {
            return;
        }
        let mut sealed = Vec::with_capacity(bytes.len() + SEAL_BYTES);
        sealed.extend_from_slice(bytes);
        sealed.extend_from_slice(&seal_of(&name, bytes));
        self.cache.insert(name, Bytes::from(sealed));
    }
}

/// Drives a future to its end on another runtime, from wherever the caller is.
fn wait<T: Send>(
    handle: &tokio::runtime::Handle,
    future: impl Future<Output = T> + Send,
) -> Result<T> {
    std::thread::scope(|scope| {
        let driver = scope.spawn(|| handle.block_on(future));
        let panicked = |_| Error::internal("opening the block cache panicked");
        driver.join().map_err(panicked)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// foyer checks its files itself, so that no flipped bit gets as far as the seal: what it gives back wrongly does.
    #[tokio::test]
    async fn what_comes_back_under_another_name_or_changed_is_a_miss() {
        let blocks = BlockCache::open(1 << 20, None).unwrap();
        let bytes = Bytes::from_static(b"some bytes that were verified");
        let range = 5..5 + bytes.len() as u64;
        blocks.put("a", &range, &bytes);
        assert_eq!(blocks.get("a", &range).await, Some(bytes.clone()));
        let sealed = |name: &str| {
            let seal = seal_of(name, &bytes);
            Bytes::from([&bytes[..], &seal[..]].concat())
        };
        let right = sealed(&name("b", &range));
        let mut changed = right.to_vec();
        changed[3] ^= 1;
        let short = name("b", &(5..9));
        for (place, value) in [
            (name("b", &range), sealed(&name("a", &range))),
            (name("b", &range), changed.into()),
            (name("b", &range), right.slice(..SEAL_BYTES - 1)),
            (short.clone(), sealed(&short)),
        ] {
            blocks.cache.insert(place.clone(), value);
            let asked = if place == short { 5..9 } else { range.clone() };
            let before = blocks.counts.misses.load(Relaxed);
            assert_eq!(blocks.get("b", &asked).await, None, "{place}");
            assert_eq!(blocks.counts.misses.load(Relaxed), before + 1);
        }
        blocks.cache.insert(name("b", &range), right);
        assert_eq!(blocks.get("b", &range).await, Some(bytes));
    }
}

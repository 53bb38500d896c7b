//! Stores broken on purpose, each in one way: the suite must fail every one of them.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aether_core::config::RawConfig;
use aether_core::plugin::{BuildContext, Factory, Plugin};
use aether_core::role::{BlobInfo, ColdStore};
use aether_core::{BlobKey, Error, Result};
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::task::yield_now;

use super::strict::cut;

/// The way in which a store is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(
    missing_docs,
    reason = "the names say it, and BROKEN says which check finds it"
)]
pub enum Broken {
    Nothing,
    OverwritesSilently,
    OverwritesAndSaysConflict,
    RefusesTheSameBytes,
    ComparesLengthsOnly,
    LosesRaces,
    ShowsParts,
    AnswersRangesSorted,
    DropsEmptyRanges,
    ClampsRanges,
    ForgetsTheLengthInMessages,
    AbsentIsAnError,
    DeleteOfNothingFails,
    DeleteTakesPrefix,
    ListsByPathPart,
    ListsUnsorted,
    ListsOnePage,
    ListsNoSizes,
    ListsLeftovers,
    CutsKeys,
    TreatsEmptyAsAbsent,
    CachesDeleted,
    ForgetsOnReopen,
    WritesWhenReadOnly,
    TakesUnknownKeys,
    BlocksInPlace,
    CutsLargeBlobs,
    SharesOneBufferAmongReaders,
    CreatesWhenReadOnly,
    FlipsABit,
    TakesMoreThanItsCapacity,
}

macro_rules! broken {
    ($($flaw:ident $persistent:literal $($check:ident)*;)*) => {
        /// Every broken store with the checks that must find it; others may find it too.
        pub static BROKEN: &[(Broken, &Plugin, &[&str])] = &[$((
            Broken::$flaw,
            {
                fn make(raw: &RawConfig, context: &BuildContext) -> Result<Arc<dyn ColdStore>> {
                    build(Broken::$flaw, raw, context)
                }
                static PLUGIN: Plugin = plugin($persistent, Factory::Cold(make));
                &PLUGIN
            },
            &[$(stringify!($check)),*],
        )),*];
    };
}

broken! {
    OverwritesSilently false other_bytes_conflict_and_the_old_stay random_operations_agree_with_a_map;
    OverwritesAndSaysConflict false other_bytes_conflict_and_the_old_stay random_operations_agree_with_a_map;
    RefusesTheSameBytes false the_same_bytes_again_are_ok equal_puts_at_once_all_succeed;
    ComparesLengthsOnly false other_bytes_conflict_and_the_old_stay random_operations_agree_with_a_map;
    LosesRaces false of_two_puts_at_once_one_wins;
    ShowsParts false readers_never_see_a_part a_dropped_put_leaves_all_or_nothing;
    AnswersRangesSorted false ranges_come_in_the_order_asked;
    DropsEmptyRanges false empty_ranges_give_empty_bytes;
    ClampsRanges false bad_ranges_name_the_range_and_the_length;
    ForgetsTheLengthInMessages false bad_ranges_name_the_range_and_the_length;
    AbsentIsAnError false an_absent_blob_is_none_everywhere;
    DeleteOfNothingFails false delete_repeats_harmlessly;
    DeleteTakesPrefix false delete_repeats_harmlessly random_operations_agree_with_a_map;
    ListsByPathPart false a_listing_takes_any_text_as_prefix;
    ListsUnsorted false a_listing_takes_any_text_as_prefix a_listing_of_many_blobs_is_complete_and_sorted;
    ListsOnePage false a_listing_of_many_blobs_is_complete_and_sorted;
    ListsNoSizes false a_listing_takes_any_text_as_prefix an_absent_blob_is_none_everywhere;
    ListsLeftovers false leftovers_of_cut_puts_are_never_listed;
    CutsKeys false long_and_deep_keys_are_kept_apart;
    TreatsEmptyAsAbsent false an_empty_blob_is_a_blob;
    CachesDeleted false a_deleted_key_is_free_again;
    ForgetsOnReopen true reopening_keeps_every_blob;
    WritesWhenReadOnly false reading_only_writes_nothing;
    TakesUnknownKeys false the_options_are_those_that_are_read;
    BlocksInPlace false a_single_threaded_runtime_is_enough;
    CutsLargeBlobs false a_large_blob_comes_back_whole;
    SharesOneBufferAmongReaders false readers_at_once_see_the_same;
    CreatesWhenReadOnly false reading_only_creates_nothing reading_only_writes_nothing;
    FlipsABit false a_blob_reads_back_as_it_was_put;
    TakesMoreThanItsCapacity false a_full_store_says_so_and_keeps_nothing;
}

/// The same store without a flaw: the suite must pass it.
pub static PLAIN: Plugin = plugin(false, Factory::Cold(plain));

fn plain(raw: &RawConfig, context: &BuildContext) -> Result<Arc<dyn ColdStore>> {
    build(Broken::Nothing, raw, context)
}

const fn plugin(persistent: bool, factory: Factory) -> Plugin {
    Plugin {
        name: "broken",
        crate_name: env!("CARGO_PKG_NAME"),
        summary: "a store for tests of the conformance suite",
        options: &[],
        persistent,
        factory,
    }
}

/// The limit that `Harness::capacity` of a test of the suite gives.
pub(crate) const CAPACITY_BYTES: u64 = 64 << 20;

fn build(flaw: Broken, raw: &RawConfig, context: &BuildContext) -> Result<Arc<dyn ColdStore>> {
    if let Some(key) = raw.keys().next()
        && flaw != Broken::TakesUnknownKeys
    {
        let message = format!("unknown field `{key}`, there are no fields");
        return Err(Error::config(message));
    }
    if let (true, Broken::CreatesWhenReadOnly, Some(folder)) =
        (context.read_only, flaw, &context.data_dir)
    {
        std::fs::write(folder.join("made"), b"").map_err(|e| Error::internal(e.to_string()))?;
    }
    Ok(Arc::new(BrokenCold {
        buffer: Mutex::default(),
        flaw,
        read_only: context.read_only,
        blobs: Mutex::default(),
        order: AtomicUsize::new(0),
        folder: context.data_dir.clone(),
    }))
}

/// A blob, when it was put, and whether it was deleted.
#[derive(Clone, Debug)]
struct Kept {
    bytes: Bytes,
    order: usize,
    deleted: bool,
}

#[derive(Debug)]
struct BrokenCold {
    flaw: Broken,
    read_only: bool,
    blobs: Mutex<BTreeMap<BlobKey, Kept>>,
    order: AtomicUsize,
    buffer: Mutex<Bytes>,
    folder: Option<PathBuf>,
}

impl BrokenCold {
    fn is(&self, flaw: Broken) -> bool {
        self.flaw == flaw
    }

    fn key(&self, key: &BlobKey) -> Result<BlobKey> {
        let text = key.as_str();
        if self.is(Broken::CutsKeys) && text.len() > 128 {
            return BlobKey::new(&text[..128]);
        }
        Ok(key.clone())
    }

    fn blob(&self, key: &BlobKey) -> Result<Option<Bytes>> {
        let blobs = self.blobs.lock();
        let kept = blobs.get(&self.key(key)?);
        let kept = kept.filter(|k| !k.deleted || self.is(Broken::CachesDeleted));
        let kept = kept.filter(|k| !(k.bytes.is_empty() && self.is(Broken::TreatsEmptyAsAbsent)));
        Ok(kept.map(|k| k.bytes.clone()))
    }

    fn insert(&self, key: BlobKey, bytes: Bytes) {
        let order = self.order.fetch_add(1, Ordering::Relaxed);
        let deleted = false;
        let kept = Kept {
            bytes,
            order,
            deleted,
        };
        self.blobs.lock().insert(key, kept);
    }

    /// Ok to go on, or the answer of a put that finds the key taken.
    fn compare(&self, old: &Bytes, new: &Bytes) -> Result<()> {
        let same = match self.flaw {
            Broken::RefusesTheSameBytes => false,
            Broken::ComparesLengthsOnly => old.len() == new.len(),
            _ => old == new,
        };
        if same || self.is(Broken::OverwritesSilently) {
            return Ok(());
        }
        Err(Error::conflict("the key holds other bytes"))
    }

    fn writable(&self) -> Result<()> {
        if self.read_only && !self.is(Broken::WritesWhenReadOnly) {
            return Err(Error::unsupported("open for reading only"));
        }
        Ok(())
    }
}

#[async_trait]
impl ColdStore for BrokenCold {
    async fn put(&self, key: &BlobKey, data: Bytes) -> Result<()> {
        self.writable()?;
        if self.is(Broken::BlocksInPlace) {
            tokio::task::block_in_place(|| ());
        }
        let key = self.key(key)?;
        if self.is(Broken::LosesRaces) {
            let old = self.blob(&key)?;
            yield_now().await;
            if let Some(old) = old {
                return self.compare(&old, &data);
            }
            self.insert(key, data);
            return Ok(());
        }
        let data = match self.flaw {
            Broken::CutsLargeBlobs => data.slice(..data.len().min(5 << 20)),
            Broken::FlipsABit if data.len() > 4000 => {
                let mut flipped = data.to_vec();
                flipped[4000] ^= 1;
                flipped.into()
            }
            _ => data,
        };
        if self.is(Broken::ShowsParts) && self.blob(&key)?.is_none() {
            for tenth in 1..10 {
                self.insert(key.clone(), data.slice(..data.len() * tenth / 10));
                tokio::time::sleep(Duration::from_micros(100)).await;
            }
            self.blobs.lock().remove(&key);
        }
        let total: usize = self.blobs.lock().values().map(|k| k.bytes.len()).sum();
        let mut blobs = self.blobs.lock();
        let old = blobs.get(&key).filter(|k| !k.deleted);
        if let Some(old) = old.map(|k| k.bytes.clone()) {
            let compared = self.compare(&old, &data);
            let replaces = [
                Broken::OverwritesSilently,
                Broken::OverwritesAndSaysConflict,
            ];
            if replaces.contains(&self.flaw) {
                drop(blobs);
                self.insert(key, data);
            }
            return compared;
        }
        let limited = !self.is(Broken::TakesMoreThanItsCapacity);
        if limited && (total + data.len()) as u64 > CAPACITY_BYTES {
            return Err(Error::capacity("the store is full"));
        }
        blobs.remove(&key);
        drop(blobs);
        self.insert(key, data);
        Ok(())
    }

    async fn read(&self, key: &BlobKey, ranges: &[Range<u64>]) -> Result<Option<Vec<Bytes>>> {
        let Some(bytes) = self.blob(key)? else {
            if self.is(Broken::AbsentIsAnError) {
                return Err(Error::unavailable("no such blob"));
            }
            return Ok(None);
        };
        let mut bytes = bytes;
        if self.is(Broken::SharesOneBufferAmongReaders) {
            *self.buffer.lock() = bytes;
            yield_now().await;
            bytes = self.buffer.lock().clone();
        }
        let mut ranges = ranges.to_vec();
        match self.flaw {
            Broken::AnswersRangesSorted => ranges.sort_by_key(|r| r.start),
            Broken::DropsEmptyRanges => ranges.retain(|r| !r.is_empty()),
            Broken::ClampsRanges => {
                for range in &mut ranges {
                    range.end = range.end.min(bytes.len() as u64);
                    range.start = range.start.min(range.end);
                }
            }
            Broken::ForgetsTheLengthInMessages => {
                let bad = |r: &&Range<u64>| r.start > r.end || r.end > bytes.len() as u64;
                if let Some(bad) = ranges.iter().find(bad) {
                    return Err(Error::invalid_input(format!("range {bad:?}")));
                }
            }
            _ => {}
        }
        cut(key, &bytes, &ranges).map(Some)
    }

    async fn size(&self, key: &BlobKey) -> Result<Option<u64>> {
        Ok(self.blob(key)?.map(|b| b.len() as u64))
    }

    async fn delete(&self, key: &BlobKey) -> Result<()> {
        self.writable()?;
        let key = self.key(key)?;
        let mut blobs = self.blobs.lock();
        match self.flaw {
            Broken::DeleteOfNothingFails if !blobs.contains_key(&key) => {
                return Err(Error::unavailable("no such blob"));
            }
            Broken::DeleteTakesPrefix => {
                blobs.retain(|k, _| !k.as_str().starts_with(key.as_str()));
            }
            Broken::CachesDeleted => {
                if let Some(kept) = blobs.get_mut(&key) {
                    kept.deleted = true;
                }
            }
            _ => {
                blobs.remove(&key);
            }
        }
        Ok(())
    }

    async fn list(&self, prefix: &str) -> Result<Vec<BlobInfo>> {
        let by_part = |key: &str| {
            let folder = prefix.strip_suffix('/').unwrap_or(prefix);
            let rest = key.strip_prefix(folder);
            folder.is_empty() || rest.is_some_and(|r| r.is_empty() || r.starts_with('/'))
        };
        let mut found: Vec<(usize, BlobInfo)> = Vec::new();
        for (key, kept) in self.blobs.lock().iter() {
            let matches = match self.flaw {
                Broken::ListsByPathPart => by_part(key.as_str()),
                _ => key.as_str().starts_with(prefix),
            };
            let sized = !self.is(Broken::ListsNoSizes);
            let bytes = if sized { kept.bytes.len() as u64 } else { 0 };
            if matches && !kept.deleted {
                let key = key.clone();
                found.push((kept.order, BlobInfo { key, bytes }));
            }
        }
        if self.is(Broken::ListsUnsorted) {
            found.sort_by_key(|(order, _)| *order);
        }
        if self.is(Broken::ListsOnePage) {
            found.truncate(1000);
        }
        let mut found: Vec<BlobInfo> = found.into_iter().map(|(_, info)| info).collect();
        if let (Broken::ListsLeftovers, Some(folder)) = (self.flaw, &self.folder) {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                let key = BlobKey::new(name)?;
                found.push(BlobInfo { key, bytes: 0 });
            }
        }
        Ok(found)
    }
}

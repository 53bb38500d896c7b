//! What is kept, for how long, and what happens when it is damaged or gone.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::{BTreeMap, HashMap};
use std::io::{Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use aether_cold_cached::{BlockCache, CachedStore};
use aether_core::BlobKey;
use aether_core::role::ColdStore;
use aether_testkit::env;
use aether_testkit::fake::cold::StrictCold;
use bytes::Bytes;
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use parking_lot::Mutex;

const BLOCK: usize = 64 << 10;
const BLOBS: usize = 64;

fn key(n: usize) -> BlobKey {
    BlobKey::new(format!("segments/{n}")).expect("a valid key")
}

fn noise(seed: u64, len: usize) -> Bytes {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as u8
    };
    std::iter::repeat_with(next)
        .take(len)
        .collect::<Vec<_>>()
        .into()
}

struct World {
    inner: StrictCold,
    store: CachedStore,
}

fn world(folder: Option<&Path>) -> World {
    around(StrictCold::new(), folder)
}

fn around(inner: StrictCold, folder: Option<&Path>) -> World {
    with_sizes(inner, folder, 1 << 20, 64 << 20)
}

fn with_sizes(inner: StrictCold, folder: Option<&Path>, ram: u64, disk: u64) -> World {
    let disk = folder.map(|f| (f.join("cache"), disk));
    let blocks = BlockCache::open(ram, disk).expect("the cache opens");
    let store = CachedStore::new(Arc::new(inner.clone()), blocks);
    World { inner, store }
}

impl World {
    async fn read(&self, n: usize, ranges: &[Range<u64>]) -> Vec<Bytes> {
        let read = self.store.read(&key(n), ranges).await;
        read.expect("read").expect("present")
    }

    /// Reads as the engine does: what is right is said to be.
    async fn read_verified(&self, n: usize, range: Range<u64>) -> Bytes {
        let bytes = self.read(n, std::slice::from_ref(&range)).await.remove(0);
        self.store.verified(&key(n), range, &bytes);
        bytes
    }

    /// Four times what RAM holds: the rest goes to disk where there is one.
    async fn fill(&self) {
        for n in 0..BLOBS {
            let put = self.store.put(&key(n), noise(n as u64, BLOCK)).await;
            put.expect("a put");
            self.read_verified(n, 0..BLOCK as u64).await;
        }
    }

    fn reads(&self) -> u64 {
        self.inner.counts().reads
    }
}

#[tokio::test]
async fn only_what_was_verified_is_kept_and_only_what_is_missing_is_asked_for() {
    let w = world(None);
    let data = noise(1, 3 * BLOCK);
    w.store.put(&key(1), data.clone()).await.unwrap();
    for _ in 0..3 {
        w.read(1, &[0..100]).await;
    }
    assert_eq!(w.reads(), 3, "nobody said that it was right");
    w.read_verified(1, 0..100).await;
    assert_eq!(w.read(1, &[0..100]).await[0], data[..100]);
    assert_eq!(w.reads(), 4);
    // Another range of the same bytes is another block.
    w.read(1, &[0..99]).await;
    assert_eq!(w.reads(), 5);
    let mixed = w.read(1, &[200..300, 0..100, 7..7]).await;
    assert_eq!(w.reads(), 6);
    assert_eq!(
        (&mixed[0][..], &mixed[1][..], mixed[2].len()),
        (&data[200..300], &data[..100], 0)
    );
    let counts = w.store.counts();
    assert_eq!(counts.hits_ram.load(Relaxed), 2);
    assert!(counts.hit_rate().unwrap() < 0.5);
}

/// A cache of a megabyte that was shown four gets three quarters of them back from disk at most, and never wrong bytes.
#[tokio::test]
async fn what_leaves_ram_is_found_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let w = world(Some(folder.path()));
    w.fill().await;
    // Writing to disk goes on behind; every round finds more of it.
    let mut found = 0;
    for _ in 0..100 {
        for n in 0..BLOBS {
            assert_eq!(
                w.read(n, &[0..BLOCK as u64]).await[0],
                noise(n as u64, BLOCK)
            );
        }
        found = w.store.counts().hits_disk.load(Relaxed);
        if found > 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(found > 0, "nothing came from disk: {:?}", w.store.counts());
}

/// The cache's files are overwritten under it: what comes back is right or comes from the store.
#[tokio::test]
async fn damage_on_disk_is_a_miss() {
    let folder = tempfile::tempdir().unwrap();
    let w = world(Some(folder.path()));
    w.fill().await;
    for round in 0..20 {
        for entry in std::fs::read_dir(folder.path().join("cache")).unwrap() {
            let path = entry.unwrap().path();
            let mut bytes = std::fs::read(&path).unwrap();
            // One byte of each kilobyte, so that every block on disk is hit.
            bytes.iter_mut().step_by(1024).for_each(|b| *b ^= 0x55);
            std::fs::write(&path, bytes).unwrap();
        }
        for n in 0..BLOBS {
            let read = w.read(n, &[0..BLOCK as u64]).await;
            assert_eq!(read[0], noise(n as u64, BLOCK), "round {round}, blob {n}");
        }
    }
}

/// What a small block is on disk, an entry at the beginning of a page: foyer's header, the length of what follows, the bytes, our seal, the length of
/// the name, the name.
const ENTRY: usize = HEAD + SMALL + 8 + 8 + NAME;
/// What stands before its bytes.
const HEAD: usize = 36 + 8;
/// Bytes of such a block.
const SMALL: usize = 42;
/// Bytes of its name, the same for all: `segments/100:100000-100042`.
const NAME: usize = 26;
/// Begins each page that holds the beginning of an entry.
const PAGE: usize = 4096;
/// What foyer's header says of where an entry belongs, and no read looks at: the hash of the name and a number in sequence.
const UNREAD: Range<usize> = 8..24;
/// Blocks of a round, and blocks that come after them, for nothing but that those leave RAM.
const TOGETHER: usize = 2048;
const PUSHERS: usize = 128;
/// Blocks that are read in one call.
const AT_ONCE: usize = 64;

/// Where an entry lies, and its bytes.
struct Lying {
    file: PathBuf,
    at: u64,
    bytes: [u8; ENTRY],
}

impl Lying {
    fn turn(&self, bit: usize) {
        let options = std::fs::File::options().write(true).open(&self.file);
        let mut file = options.unwrap();
        let place = self.at + bit as u64 / 8;
        file.seek(SeekFrom::Start(place)).unwrap();
        let byte = self.bytes[bit / 8] ^ (1 << (bit % 8));
        file.write_all(&[byte]).unwrap();
    }
}

/// The small blocks that lie in the cache's files, by name and bytes: a name alone may be that of another block with a bit turned over.
fn lying(cache: &Path) -> HashMap<(String, Bytes), Lying> {
    let mut all = HashMap::new();
    for file in std::fs::read_dir(cache).unwrap() {
        let file = file.unwrap().path();
        let bytes = std::fs::read(&file).unwrap();
        for (page, bytes) in bytes.chunks_exact(PAGE).enumerate() {
            let bytes: [u8; ENTRY] = bytes[..ENTRY].try_into().unwrap();
            let Ok(name) = std::str::from_utf8(&bytes[ENTRY - NAME..]) else {
                continue;
            };
            if name.starts_with("segments/") {
                let block = Bytes::copy_from_slice(&bytes[HEAD..HEAD + SMALL]);
                let (file, at) = (file.clone(), (page * PAGE) as u64);
                all.insert((name.to_owned(), block), Lying { file, at, bytes });
            }
        }
    }
    all
}

/// A blob of small blocks.
struct Blob {
    number: usize,
    bytes: Bytes,
}

impl Blob {
    fn range(block: usize) -> Range<u64> {
        let from = (100_000 + block * SMALL) as u64;
        from..from + SMALL as u64
    }

    fn known(&self, block: usize) -> (String, Bytes) {
        let Range { start, end } = Self::range(block);
        let name = format!("{}:{start}-{end}", key(self.number));
        assert_eq!(name.len(), NAME, "{name}");
        (name, self.block(block))
    }

    fn block(&self, block: usize) -> Bytes {
        let Range { start, end } = Self::range(block);
        self.bytes.slice(start as usize..end as usize)
    }

    fn keep(&self, w: &World, blocks: Range<usize>) {
        for block in blocks {
            let bytes = self.block(block);
            w.store
                .verified(&key(self.number), Self::range(block), &bytes);
        }
    }

    /// Waits until one of some blocks lies in the cache's files; these and those before them that lie there then.
    async fn written(&self, cache: &Path, blocks: Range<usize>) -> HashMap<usize, Lying> {
        let begun = Instant::now();
        loop {
            let mut all = lying(cache);
            let found = (0..blocks.end).filter_map(|n| Some((n, all.remove(&self.known(n))?)));
            let found: HashMap<_, _> = found.collect();
            if blocks.clone().any(|n| found.contains_key(&n)) {
                return found;
            }
            let waited = begun.elapsed();
            assert!(waited < Duration::from_secs(60), "nothing is written");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

/// Every bit of blocks as they lie in the cache's files is turned over in turn, each under an open store, in a block that is read for the first time
/// since it was written: what comes back is right. `AETHER_FLIPS_KIB` says how many KiB of blocks, instead of 4.
#[tokio::test]
async fn a_bit_turned_over_on_disk_is_a_miss_or_does_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    // RAM for a few blocks: all others are on disk alone.
    let w = with_sizes(StrictCold::new(), Some(folder.path()), 4096, 32 << 20);
    let bits = env::variable("AETHER_FLIPS_KIB").unwrap_or(4) as usize * 1024 * 8;
    let mut left: Vec<usize> = (0..bits).map(|bit| bit * 487 % (8 * ENTRY)).collect();
    let (mut misses, mut harmless, mut rounds) = (0, 0, 0);
    for round in 0.. {
        if left.is_empty() {
            break;
        }
        assert!(round < 100 + bits / TOGETHER, "{} are left", left.len());
        let now = left.split_off(left.len().saturating_sub(TOGETHER));
        let blob = Blob {
            number: 100 + round,
            bytes: noise(
                round as u64,
                Blob::range(now.len() + 2 * PUSHERS).start as usize,
            ),
        };
        let put = w.store.put(&key(blob.number), blob.bytes.clone()).await;
        put.expect("a put");
        let pushers = now.len()..now.len() + PUSHERS;
        blob.keep(&w, 0..pushers.end);
        let written = blob.written(&cache, pushers.clone()).await;
        // What is written after that, in another write, says that the cache has done with the one before: reads come to the files now.
        let others = pushers.end..pushers.end + PUSHERS;
        blob.keep(&w, others.clone());
        blob.written(&cache, others).await;
        let mut flipped = Vec::new();
        for (block, bit) in now.into_iter().enumerate() {
            match written.get(&block) {
                Some(found) => {
                    found.turn(bit);
                    flipped.push((block, bit));
                }
                // In RAM as yet.
                None => left.push(bit),
            }
        }
        let counts = w.store.counts();
        let of = |count: &AtomicU64| count.load(Relaxed);
        // One that is whole, for comparison.
        let whole = pushers.clone().find(|n| written.contains_key(n));
        let whole = whole.expect("one that is written");
        w.read(blob.number, &[Blob::range(whole)]).await;
        rounds += 1;
        assert_eq!(of(&counts.hits_disk), harmless + rounds, "it is on disk");
        for some in flipped.chunks(AT_ONCE) {
            let before = (of(&counts.misses), of(&counts.hits_disk));
            let ranges: Vec<_> = some.iter().map(|(n, _)| Blob::range(*n)).collect();
            let read = w.read(blob.number, &ranges).await;
            for ((block, bit), read) in some.iter().zip(read) {
                assert_eq!(read, blob.block(*block), "round {round}, bit {bit}");
            }
            let after = (of(&counts.misses), of(&counts.hits_disk));
            let unread = some.iter().filter(|(_, bit)| UNREAD.contains(&(bit / 8)));
            let unread = unread.count() as u64;
            // Were there a bit of the others that is not a miss, the file would not have been looked at.
            let expected = (some.len() as u64 - unread, unread);
            assert_eq!((after.0 - before.0, after.1 - before.1), expected);
            misses += expected.0;
            harmless += expected.1;
        }
    }
    println!(
        "disk cache: {bits} of {bits} bits in {} bytes flipped: {misses} misses, {harmless} harmless, 0 wrong",
        bits / 8
    );
    assert_eq!(misses + harmless, bits as u64);
    assert_eq!(harmless + rounds, w.store.counts().hits_disk.load(Relaxed));
    assert!(misses > 0 && harmless > 0);
}

/// The cache's files are cut to nothing under it: what was in them comes from the store. Nor does it mind that their names go.
#[tokio::test]
async fn what_vanishes_from_disk_is_a_miss() {
    let folder = tempfile::tempdir().unwrap();
    let w = world(Some(folder.path()));
    w.fill().await;
    let all_are_right = async |when: &str| {
        for n in 0..BLOBS {
            let read = w.read_verified(n, 0..BLOCK as u64).await;
            assert_eq!(read, noise(n as u64, BLOCK), "{when}, blob {n}");
        }
    };
    for _ in 0..100 {
        all_are_right("before").await;
        if w.store.counts().hits_disk.load(Relaxed) > 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(w.store.counts().hits_disk.load(Relaxed) > 0);
    let cache = folder.path().join("cache");
    let files = || {
        std::fs::read_dir(&cache)
            .unwrap()
            .map(|e| e.unwrap().path())
    };
    for path in files() {
        let file = std::fs::File::options().write(true).open(path).unwrap();
        file.set_len(0).unwrap();
    }
    let before = w.reads();
    all_are_right("cut to nothing").await;
    assert!(w.reads() > before, "nothing had to come from the store");
    std::fs::remove_dir_all(&cache).unwrap();
    all_are_right("taken away").await;
}

/// Counters by name and labels.
#[derive(Debug, Default)]
struct Counters(Mutex<BTreeMap<String, Arc<AtomicU64>>>);

impl Counters {
    fn of(&self, name: &str) -> u64 {
        self.0.lock().get(name).map_or(0, |n| n.load(Relaxed))
    }
}

impl Recorder for Counters {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let mut name = key.name().to_owned();
        for label in key.labels() {
            name.extend([" ", label.key(), "=", label.value()]);
        }
        Counter::from_arc(self.0.lock().entry(name).or_default().clone())
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[tokio::test]
async fn hits_and_misses_are_metrics() {
    let counters = Counters::default();
    let _recording = metrics::set_default_local_recorder(&counters);
    let w = world(None);
    w.store.put(&key(1), noise(1, 1000)).await.unwrap();
    w.read_verified(1, 0..100).await;
    for _ in 0..3 {
        w.read(1, &[0..100]).await;
    }
    w.read(1, &[100..200]).await;
    let hits = counters.of("aether_block_cache_hits_total tier=ram");
    let misses = counters.of("aether_block_cache_misses_total");
    assert_eq!((hits, misses), (3, 2));
    assert_eq!(w.store.counts().hit_rate(), Some(0.6));
}

#[tokio::test]
async fn nothing_is_kept_of_a_blob_that_was_deleted() {
    let w = around(StrictCold::new().allow_reuse(), None);
    w.store.put(&key(1), noise(1, 100)).await.unwrap();
    let old = w.read_verified(1, 0..100).await;
    w.store.delete(&key(1)).await.unwrap();
    assert_eq!(w.store.read(&key(1), &[0..100]).await.unwrap(), None);
    w.store.put(&key(1), noise(2, 100)).await.unwrap();
    // A late word about the old bytes does not count either.
    w.store.verified(&key(1), 0..100, &old);
    assert_eq!(w.read(1, &[0..100]).await[0], noise(2, 100));
}

/// Reopening forgets: a memory that was made anew in the same folder must not see blocks of the one before.
#[tokio::test]
async fn an_opening_begins_empty() {
    let folder = tempfile::tempdir().unwrap();
    for seed in [1, 2] {
        let w = world(Some(folder.path()));
        for n in 0..40 {
            w.store
                .put(&key(n), noise(seed + n as u64, BLOCK))
                .await
                .unwrap();
            let read = w.read_verified(n, 0..BLOCK as u64).await;
            assert_eq!(
                read,
                noise(seed + n as u64, BLOCK),
                "opening {seed}, blob {n}"
            );
        }
    }
}

//! What the shared suite cannot see: failing disks, torn writes, foreign files, the golden file.

mod disk;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use aether_core::role::{Batch, Epoch, KeyRange, MetaStore, Seq, Table};
use aether_core::{Error, Result};
use bytes::Bytes;

use crate::config::RedbConfig;
use crate::core::Mode;
use crate::mark::{self, Mark};
use crate::meta_store::RedbMeta;
use disk::{Disk, Fault, MarkFile};

const MODE: Mode = Mode {
    cache_bytes: 1 << 20,
    read_only: false,
    verify: false,
};

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}

fn on(disk: &Disk) -> Result<RedbMeta> {
    RedbMeta::on(Arc::new(disk.clone()), None, MODE, 1)
}

/// The watermark on a disk of its own.
fn mark_on(disk: &Disk) -> Mark {
    let file = Arc::new(disk.clone());
    Mark::new(
        "a disk's watermark".into(),
        mark::read(&*file).unwrap(),
        Some(file),
    )
}

/// Sets a counter in two tables and adds a key in a third.
fn step(epoch: Epoch, n: u32, len: usize) -> Batch {
    let mut batch = Batch::new(epoch);
    batch.put(Table::State, &b"n"[..], n.to_be_bytes().to_vec());
    batch.put(Table::Points, &b"n"[..], n.to_be_bytes().to_vec());
    batch.put(Table::Fresh, n.to_be_bytes().to_vec(), vec![n as u8; len]);
    batch
}

/// Checks that the steps 0 to some number are there wholly, and returns how many.
async fn steps(store: &RedbMeta, len: usize) -> u32 {
    let fresh = store
        .scan(Table::Fresh, KeyRange::all(), usize::MAX)
        .await
        .unwrap();
    for (n, (key, value)) in fresh.iter().enumerate() {
        assert_eq!(key[..], (n as u32).to_be_bytes());
        assert!(*value == vec![n as u8; len]);
    }
    let last = fresh.last().map(|(key, _)| key.clone());
    for table in [Table::State, Table::Points] {
        let found = store.get(table, &[Bytes::from_static(b"n")]).await.unwrap();
        assert_eq!(found[0], last, "{}", table.name());
    }
    fresh.len() as u32
}

/// A process that ended while it began a file, or a disk that was full, leaves a file of another name, whatever is in it.
#[test]
fn a_file_whose_beginning_was_cut_short_is_begun_anew() {
    let folder = tempfile::tempdir().unwrap();
    let config = RedbConfig::default();
    let open = |read_only| RedbMeta::open(folder.path(), &config, read_only);
    drop(open(false).unwrap());
    let path = folder.path().join(&config.file);
    let whole = std::fs::read(&path).unwrap();
    let mut name = path.clone().into_os_string();
    name.push(".new");
    for length in [0, 1, 4096, whole.len() - 1, whole.len()] {
        std::fs::remove_file(&path).unwrap();
        std::fs::remove_file(Mark::path(&path)).unwrap();
        std::fs::write(&name, &whole[..length]).unwrap();
        assert!(open(true).is_err(), "there is no store yet");
        let store = open(false).unwrap();
        assert!(path.is_file() && !Path::new(&name).exists());
        run(async {
            let epoch = store.claim().await.unwrap();
            let seq = store.commit(step(epoch, 0, 10)).await.unwrap();
            store.durable(seq).await.unwrap();
        });
        drop(store);
        run(async { assert_eq!(steps(&open(false).unwrap(), 10).await, 1) });
    }
}

/// A failed sync or write poisons the writer, leaves the file alone from then on, lets reads go on, and takes nothing that
/// was acknowledged: neither from the bytes as the process saw them nor from those that were synced.
#[test]
fn a_failing_disk_poisons_the_writer_and_loses_nothing() {
    run(async {
        let mut met = [0; 2];
        for fault in (1..28).flat_map(|n| [Fault::Sync(n), Fault::Write(n * 3)]) {
            let disk = Disk::default();
            disk.fail(fault);
            let len = 3_000;
            let Ok(store) = on(&disk) else {
                continue; // it failed while the file was begun: nothing was promised yet
            };
            let Ok(epoch) = store.claim().await else {
                continue;
            };
            let (mut acknowledged, mut visible, mut error) = (0, 0, None);
            for n in 0..12 {
                match store.commit(step(epoch, n, len)).await {
                    Ok(seq) => {
                        visible = n + 1;
                        match store.durable(seq).await {
                            Ok(()) => acknowledged = n + 1,
                            Err(e) => error = Some(e),
                        }
                    }
                    Err(e) => error = Some(e),
                }
                if error.is_some() {
                    break;
                }
            }
            let Some(error) = error else {
                continue; // the fault lies beyond this history
            };
            met[usize::from(matches!(fault, Fault::Write(_)))] += 1;
            assert!(error.is_poisoned(), "{fault:?}: {error:?}");
            let frozen = disk.live();
            for error in [
                store.commit(step(epoch, 99, len)).await.err(),
                store.durable(Seq(u64::MAX)).await.err(),
                store.claim().await.err(),
            ] {
                assert!(error.as_ref().is_some_and(Error::is_poisoned), "{error:?}");
            }
            assert_eq!(steps(&store, len).await, visible, "{fault:?}: reads go on");
            assert!(store.close().await.unwrap_err().is_poisoned());
            assert!(
                disk.live() == frozen,
                "{fault:?}: written after the failure"
            );
            drop(store);
            for image in [disk.live(), disk.synced()] {
                let again = on(&Disk::of(image)).unwrap();
                let found = steps(&again, len).await;
                assert!(
                    (acknowledged..=visible).contains(&found),
                    "{fault:?}: {acknowledged} acknowledged, {found} found"
                );
                assert!(again.claim().await.unwrap() > epoch);
            }
        }
        assert!(met[0] >= 8 && met[1] >= 8, "faults met: {met:?}");
    });
}

/// A disk that fills up in the middle of a batch larger than the cache: the batch is refused with `Capacity` and nothing
/// of it is seen.
#[test]
fn a_full_disk_refuses_the_batch() {
    run(async {
        let disk = Disk::default();
        let store = on(&disk).unwrap();
        let epoch = store.claim().await.unwrap();
        let seq = store.commit(step(epoch, 0, 100)).await.unwrap();
        store.durable(seq).await.unwrap();
        disk.fail(Fault::Write(disk.writes() + 1));
        let mut large = step(epoch, 1, 100);
        for n in 0..800u32 {
            large.put(Table::Cold, n.to_be_bytes().to_vec(), vec![7; 10_000]);
        }
        let error = store.commit(large).await.unwrap_err();
        assert!(error.is_capacity(), "{error:?}");
        assert_eq!(steps(&store, 100).await, 1);
        let cold = store.scan(Table::Cold, KeyRange::all(), 9).await.unwrap();
        assert!(cold.is_empty(), "{} pairs of a refused batch", cold.len());
        let error = store.commit(step(epoch, 1, 100)).await.unwrap_err();
        assert!(error.is_poisoned(), "{error:?}");
    });
}

/// A power cut at any write, with any part of the unsynced writes lost or torn, takes nothing that was acknowledged and
/// leaves whole batches.
#[test]
fn a_power_cut_at_any_write_loses_nothing_acknowledged() {
    run(async {
        let disk = Disk::default();
        let mark = Mark::new("".into(), None, Some(Arc::new(MarkFile(disk.clone()))));
        let store = RedbMeta::on(Arc::new(disk.clone()), Some(mark), MODE, 1).unwrap();
        let epoch = store.claim().await.unwrap();
        let len = 700;
        disk.acknowledge(0);
        for n in 0..14u32 {
            let seq = store.commit(step(epoch, n, len)).await.unwrap();
            if n % 3 == 1 {
                store.durable(seq).await.unwrap();
                disk.acknowledge(n + 1);
            }
        }
        store.close().await.unwrap();
        disk.acknowledge(14);
        let mut rng = disk::Rng(0x9e37_79b9_7f4a_7c15);
        let mut cuts = 0;
        let mut marks = BTreeSet::new();
        for (acknowledged, image, mark) in disk.power_cuts(&mut rng) {
            cuts += 1;
            let mark = mark_on(&Disk::of(mark));
            marks.insert(mark.said());
            let mode = Mode {
                verify: true,
                ..MODE
            };
            let again = RedbMeta::on(Arc::new(Disk::of(image)), Some(mark), mode, 1)
                .unwrap_or_else(|e| panic!("cut {cuts}: {e:?}"));
            let found = steps(&again, len).await;
            assert!(
                (acknowledged..=14).contains(&found),
                "cut {cuts}: {acknowledged} acknowledged, {found} found"
            );
            let next = again.claim().await.unwrap();
            assert!(next > epoch);
            let seq = again.commit(step(next, found, len)).await.unwrap();
            again.durable(seq).await.unwrap();
        }
        assert!(cuts > 60, "{cuts} cuts");
        assert!(marks.len() > 5 && !marks.contains(&None), "{marks:?}");
    });
}

/// The file and the watermark of a process that was killed after thirty durable batches.
async fn small(dir: &Path) -> (Vec<u8>, Vec<u8>) {
    let store = RedbMeta::open(dir, &RedbConfig::default(), false).unwrap();
    let epoch = store.claim().await.unwrap();
    for n in 0..30 {
        let seq = store.commit(step(epoch, n, 40)).await.unwrap();
        store.durable(seq).await.unwrap();
    }
    let path = dir.join("meta.redb");
    let image = std::fs::read(&path).unwrap();
    let mark = std::fs::read(Mark::path(&path)).unwrap();
    store.close().await.unwrap();
    (image, mark)
}

/// Every byte of the head flipped, and bytes of pages at random, in the file of a killed process: an error on opening or
/// every pair, and never a panic, though redb panics on some of them. Without the watermark one flip takes the last durable batch
/// back: that of the bit which says which of two commits is the newer.
#[test]
fn flips_in_a_killed_file_are_found_or_harmless() {
    let dir = tempfile::tempdir().unwrap();
    run(async {
        let (image, mark) = small(dir.path()).await;
        let mode = Mode {
            verify: true,
            ..MODE
        };
        let open = |image: Vec<u8>, mark: Option<&[u8]>| {
            let mark = mark.map(|mark| mark_on(&Disk::of(mark.to_vec())));
            RedbMeta::on(Arc::new(Disk::of(image)), mark, mode, 1)
        };
        let used: Vec<usize> = (0..image.len()).filter(|i| image[*i] != 0).collect();
        let mut rng = disk::Rng(7);
        let (mut found, mut harmless) = (0, 0);
        for n in 0..900 {
            let at = if n < 320 {
                n
            } else {
                used[rng.below(used.len())]
            };
            let mut bad = image.clone();
            bad[at] ^= 1 << rng.below(8);
            match open(bad, Some(&mark)) {
                Ok(store) => {
                    let pairs = store.scan(Table::Fresh, KeyRange::all(), 99).await;
                    let n = pairs.unwrap_or_else(|e| panic!("byte {at}: {e:?}")).len();
                    assert_eq!(n, 30, "byte {at}");
                    harmless += 1;
                }
                Err(e) => {
                    assert!(e.is_corrupt(), "byte {at}: {e:?}");
                    found += 1;
                }
            }
        }
        assert!(found > 150, "{found} found");
        assert!(harmless > 100, "{harmless} harmless");
        // The newer root is bit 0 of the byte after redb's magic.
        let mut older = image.clone();
        older[9] ^= 1;
        let store = open(older.clone(), None).unwrap();
        assert_eq!(steps(&store, 40).await, 29, "no checksum finds it");
        let error = open(older, Some(&mark)).unwrap_err();
        assert!(
            error.is_corrupt() && error.to_string().contains("watermark"),
            "{error:?}"
        );
        for bit in 0..8 * mark.len() {
            let mut bad = mark.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(
                steps(&open(image.clone(), Some(&bad)).unwrap(), 40).await,
                30
            );
        }
    });
}

/// A store that is put back to an older state of itself is refused, for writing and for reading, and left as it was found; so is a
/// watermark without its file.
#[test]
fn an_older_file_is_not_taken_for_the_newest() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("meta.redb");
    let mark = Mark::path(&path);
    let open_as = |read_only, verify| {
        let config = RedbConfig {
            verify,
            ..RedbConfig::default()
        };
        RedbMeta::open(dir.path(), &config, read_only)
    };
    let open = |read_only| open_as(read_only, true);
    let refused = |expected: &str| {
        for (read_only, verify) in [(true, true), (true, false), (false, true), (false, false)] {
            let error = open_as(read_only, verify).unwrap_err();
            let text = error.to_string();
            assert!(error.is_corrupt() && text.contains(expected), "{text}");
            assert!(
                text.contains("remove ") && text.contains("meta.redb.watermark"),
                "{text}"
            );
        }
    };
    run(async {
        let write = async |n| {
            let store = open(false).unwrap();
            let epoch = store.claim().await.unwrap();
            store.commit(step(epoch, n, 40)).await.unwrap();
            store.close().await.unwrap();
        };
        write(0).await;
        let older = std::fs::read(&path).unwrap();
        write(1).await;
        let newer = std::fs::read(&path).unwrap();
        std::fs::write(&path, &older).unwrap();
        refused("older than it was");
        let left = std::fs::read(&path).unwrap();
        assert!(left == older, "a refused file stays as it was found");
        std::fs::remove_file(&path).unwrap();
        refused("got none");
        assert!(!path.exists(), "nothing is begun in its place");
        // What was not written whole says nothing, and a watermark from before says less.
        let before = aether_core::watermark::encode(1);
        for bytes in [&b""[..], &[0; 16], &[7; 15], &[7; 40], &before] {
            std::fs::write(&path, &newer).unwrap();
            std::fs::write(&mark, bytes).unwrap();
            for read_only in [true, false] {
                assert_eq!(steps(&open(read_only).unwrap(), 40).await, 2);
            }
        }
        // Who removes it accepts the older state; the next durable commit writes it anew.
        std::fs::write(&path, &older).unwrap();
        std::fs::remove_file(&mark).unwrap();
        assert_eq!(steps(&open(true).unwrap(), 40).await, 1);
        write(1).await;
        std::fs::write(&path, &older).unwrap();
        refused("older than it was");
    });
}

/// A watermark that can be neither read nor written keeps no store from opening.
#[test]
fn a_watermark_that_cannot_be_opened_does_no_harm() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("meta.redb");
    let open = |read_only| RedbMeta::open(dir.path(), &RedbConfig::default(), read_only);
    run(async {
        let store = open(false).unwrap();
        let epoch = store.claim().await.unwrap();
        store.commit(step(epoch, 0, 40)).await.unwrap();
        store.close().await.unwrap();
        let mark = Mark::path(&path);
        std::fs::remove_file(&mark).unwrap();
        std::fs::create_dir(&mark).unwrap();
        assert_eq!(steps(&open(true).unwrap(), 40).await, 1);
        let store = open(false).unwrap();
        let epoch = store.claim().await.unwrap();
        let seq = store.commit(step(epoch, 1, 40)).await.unwrap();
        store.durable(seq).await.unwrap();
        assert_eq!(steps(&store, 40).await, 2);
        store.close().await.unwrap();
    });
}

/// A watermark that cannot be written stays behind, and nothing else comes of it.
#[test]
fn a_watermark_that_cannot_be_written_does_no_harm() {
    run(async {
        let (disk, mark) = (Disk::default(), Disk::default());
        let open = || RedbMeta::on(Arc::new(disk.clone()), Some(mark_on(&mark)), MODE, 1);
        let store = open().unwrap();
        let epoch = store.claim().await.unwrap();
        assert_eq!(mark_on(&mark).said(), Some(1));
        mark.fail(Fault::Write(mark.writes() + 1));
        for n in 0..3 {
            let seq = store.commit(step(epoch, n, 40)).await.unwrap();
            store.durable(seq).await.unwrap();
        }
        store.close().await.unwrap();
        drop(store);
        assert_eq!(mark_on(&mark).said(), Some(1));
        assert_eq!(steps(&open().unwrap(), 40).await, 3);
    });
}

#[test]
fn a_foreign_or_missing_file_is_an_error_with_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("meta.redb");
    let open = |read_only| RedbMeta::open(dir.path(), &RedbConfig::default(), read_only);

    let error = open(true).unwrap_err();
    assert!(
        error.is_config() && error.to_string().contains("meta.redb"),
        "{error:?}"
    );
    std::fs::write(&path, b"").unwrap();
    assert!(open(true).unwrap_err().is_corrupt(), "an empty file");
    assert_eq!(std::fs::read(&path).unwrap(), b"");
    std::fs::write(&path, b"not a database, but some text").unwrap();
    assert!(open(false).unwrap_err().is_corrupt(), "a text");
    std::fs::remove_file(&path).unwrap();
    drop(redb::Database::create(&path).unwrap());
    let error = open(false).unwrap_err();
    assert!(
        error.is_corrupt() && error.to_string().contains("meta.redb"),
        "{error:?}"
    );
    let gone = dir.path().join("gone");
    let error = RedbMeta::open(&gone, &RedbConfig::default(), false).unwrap_err();
    assert!(error.is_config(), "{error:?}");
}

#[test]
fn a_reader_neither_meets_nor_makes_a_lock() {
    let dir = tempfile::tempdir().unwrap();
    let open = |read_only| RedbMeta::open(dir.path(), &RedbConfig::default(), read_only);
    let writer = open(false).unwrap();
    assert!(open(true).unwrap_err().is_locked(), "beside a writer");
    drop(writer);
    let reader = open(true).unwrap();
    let second = open(true).unwrap();
    let writer = open(false).unwrap();
    drop((reader, second, writer));
}

/// A value written under one key and found under another is damage, even with an intact checksum of its own.
#[test]
fn a_misplaced_value_is_found() {
    let mut sealed = vec![0; crate::format::sealed_len(3)];
    crate::format::write_sealed(&mut sealed, "cold", b"k", b"abc");
    let open = |table, key: &[u8]| crate::format::copy_sealed(&sealed, table, key);
    assert_eq!(open("cold", b"k").unwrap(), b"abc"[..]);
    for (table, key) in [("cold", &b"l"[..]), ("fresh", b"k"), ("cold", b"")] {
        assert!(open(table, key).unwrap_err().is_corrupt());
    }
}

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/v1.redb.lz4");

fn golden_batch(epoch: Epoch) -> Batch {
    let mut batch = Batch::new(epoch);
    for (n, table) in Table::ALL.into_iter().enumerate() {
        batch.put(table, table.name(), vec![n as u8; n * 40]);
    }
    batch
}

/// A file written by format 1 still opens, to the same pairs and epoch.
#[test]
fn the_golden_file_opens() {
    let dir = tempfile::tempdir().unwrap();
    let packed = std::fs::read(GOLDEN).unwrap();
    let bytes = lz4_flex::block::decompress_size_prepended(&packed).unwrap();
    std::fs::write(dir.path().join("meta.redb"), bytes).unwrap();
    run(async {
        for read_only in [true, false] {
            let store = RedbMeta::open(dir.path(), &RedbConfig::default(), read_only).unwrap();
            for (n, table) in Table::ALL.into_iter().enumerate() {
                let pairs = store.scan(table, KeyRange::all(), 9).await.unwrap();
                let expected = (
                    Bytes::from(table.name()),
                    Bytes::from(vec![n as u8; n * 40]),
                );
                assert_eq!(pairs, [expected]);
            }
            if !read_only {
                assert_eq!(store.claim().await.unwrap(), Epoch(3));
            }
        }
    });
}

#[test]
#[ignore = "writes the golden file; for a new format only"]
fn write_the_golden_file() {
    let dir = tempfile::tempdir().unwrap();
    run(async {
        let store = RedbMeta::open(dir.path(), &RedbConfig::default(), false).unwrap();
        store.claim().await.unwrap();
        let epoch = store.claim().await.unwrap();
        store.commit(golden_batch(epoch)).await.unwrap();
        store.close().await.unwrap();
    });
    let bytes = std::fs::read(dir.path().join("meta.redb")).unwrap();
    std::fs::write(GOLDEN, lz4_flex::block::compress_prepend_size(&bytes)).unwrap();
}

/// Deletes of numbers that lie close together are made in one walk: it takes the keys that are named, none beside or between them, and
/// of several operations on one key the last counts, as ever.
#[test]
fn a_run_of_deletes_takes_the_keys_it_names_and_no_others() {
    run(async {
        for seed in 0..80 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let store = on(&Disk::default()).unwrap();
            let epoch = store.claim().await.unwrap();
            let tables = [Table::Fresh, Table::Cold];
            let mut model: BTreeMap<(Table, Vec<u8>), Vec<u8>> = BTreeMap::new();
            for _ in 0..4 {
                let mut batch = Batch::new(epoch);
                for table in tables {
                    for n in 0..rng.u64(0..300) {
                        // Some keys are shorter than a number and lie between two.
                        let key = (n * rng.u64(1..3)).to_be_bytes();
                        let key = &key[..rng.usize(7..9).max(rng.usize(1..9))];
                        let value = vec![n as u8; rng.usize(..900)];
                        batch.put(table, key.to_vec(), value.clone());
                        model.insert((table, key.to_vec()), value);
                    }
                }
                store.commit(batch).await.unwrap();
                let mut batch = Batch::new(epoch);
                for table in tables {
                    let (from, share) = (rng.u64(..200), rng.u64(1..5));
                    for n in from..from + rng.u64(..200) {
                        let key = n.to_be_bytes().to_vec();
                        match rng.u64(..60) {
                            0 => {
                                batch.delete(table, key.clone());
                                batch.put(table, key.clone(), vec![1]);
                                model.insert((table, key), vec![1]);
                            }
                            1 => {
                                batch.put(table, key.clone(), vec![1]);
                                batch.delete(table, key.clone());
                                batch.delete(table, key.clone());
                                model.remove(&(table, key));
                            }
                            _ if rng.u64(..5) >= share => {}
                            _ => {
                                batch.delete(table, key.clone());
                                model.remove(&(table, key));
                            }
                        }
                    }
                }
                store.commit(batch).await.unwrap();
            }
            for table in tables {
                let found = store
                    .scan(table, KeyRange::all(), usize::MAX)
                    .await
                    .unwrap();
                let found = found.iter().map(|(k, v)| (&k[..], &v[..]));
                let expected = model.iter().filter(|((t, _), _)| *t == table);
                assert!(
                    found.eq(expected.map(|((_, k), v)| (&k[..], &v[..]))),
                    "{seed}"
                );
            }
        }
    });
}

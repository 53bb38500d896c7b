//! Snapshots: whole, checked, refused when damaged.

use std::io::{self, Read, Write};

use aether_core::role::HotIndex;
use aether_core::{Metric, Row};

use super::{HotHarness, Model, fill, nearest, vector};

pub(super) fn save(index: &dyn HotIndex) -> Vec<u8> {
    let mut bytes = Vec::new();
    index.save(&mut bytes).expect("a save into memory");
    bytes
}

/// Whether the plug-in keeps snapshots; one that does not must say so.
fn supported(h: &HotHarness) -> bool {
    let index = h.fresh(h.metric(), 3);
    if index.capability().snapshot {
        return true;
    }
    let error = index
        .save(&mut Vec::new())
        .expect_err("no snapshot by capability");
    assert!(error.is_unsupported(), "{error:?}");
    let error = index
        .load(&mut io::empty())
        .expect_err("no snapshot by capability");
    assert!(error.is_unsupported(), "{error:?}");
    false
}

/// What is saved comes back: rows, bits, answers; the loaded index lives on like the first.
///
/// # Panics
/// When it does not.
pub fn snapshots_round_trip(h: &HotHarness) {
    if !supported(h) {
        return;
    }
    for metric in h.metrics() {
        for (n, dim) in [(0, 3), (1, 1), (700, 20), (40, 384)] {
            let mut rng = fastrand::Rng::with_seed(n);
            let index = h.fresh(metric, dim);
            let mut model = fill(index.as_ref(), &mut rng, n, dim);
            for row in (0..n).filter(|r| r % 7 == 3) {
                index.remove(Row(row)).expect("a removal");
                model.remove(Row(row));
            }
            let bytes = save(index.as_ref());
            model.check_contents(index.as_ref(), dim);
            let loaded = h.fresh(metric, dim);
            let mut rest = bytes.as_slice();
            loaded.load(&mut rest).expect("a load of what was saved");
            model.check_contents(loaded.as_ref(), dim);
            // One byte at a time, as a slow socket delivers.
            let slow = h.fresh(metric, dim);
            let mut drip = Drip {
                rest: &bytes,
                calls: 0,
            };
            slow.load(&mut drip).expect("a load in small pieces");
            model.check_contents(slow.as_ref(), dim);
            for row in n..n + 30 {
                let v = vector(&mut rng, dim);
                let bound = loaded.bytes_after(1);
                loaded
                    .insert(Row(row), &v)
                    .expect("an insert after loading");
                assert!(loaded.bytes() <= bound, "bytes_after after a load");
                model.insert(Row(row), &v);
            }
            for row in 0..n / 2 {
                let was = loaded.remove(Row(row)).expect("a removal");
                assert_eq!(was, model.remove(Row(row)));
            }
            model.check_contents(loaded.as_ref(), dim);
            let query = vector(&mut rng, dim);
            let got = nearest(loaded.as_ref(), &query, 10);
            model.check_exact(metric, &query, 10, &|_| true, &got);
            let found = loaded
                .search(&query, 10, &Default::default())
                .expect("a search");
            model.check_sound(metric, &query, 10, &|_| true, &found);
        }
    }
}

fn refused(h: &HotHarness, metric: Metric, dim: usize, bytes: &[u8], what: &str) {
    let index = h.fresh(metric, dim);
    match index.load(&mut &bytes[..]) {
        Ok(()) => panic!("{what}: the damage was not noticed"),
        Err(e) => assert!(e.is_corrupt(), "{what}: expected Corrupt, got {e:?}"),
    }
    Model::default().check_contents(index.as_ref(), dim);
}

/// Every flipped bit and every cut of a snapshot is `Corrupt`, and the index is still empty and of use.
///
/// # Panics
/// When it is not so.
pub fn damaged_snapshots_are_refused(h: &HotHarness) {
    if !supported(h) {
        return;
    }
    let (metric, dim) = (h.metric(), 3);
    let mut rng = fastrand::Rng::with_seed(1);
    let index = h.fresh(metric, dim);
    let model = fill(index.as_ref(), &mut rng, 9, dim);
    let good = save(index.as_ref());
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        refused(h, metric, dim, &bad, &format!("bit {bit} flipped"));
    }
    for cut in 0..good.len() {
        refused(
            h,
            metric,
            dim,
            &good[..cut],
            &format!("cut at {cut} of {}", good.len()),
        );
    }
    for len in [0, 1, 8, 16, 64, 1_000] {
        let noise: Vec<u8> = (0..len).map(|_| rng.u8(..)).collect();
        refused(h, metric, dim, &noise, "random bytes");
        refused(h, metric, dim, &vec![0xff; len], "0xff bytes");
    }
    let index = h.fresh(metric, dim);
    assert!(index.load(&mut &good[..good.len() - 1]).is_err());
    index
        .load(&mut good.as_slice())
        .expect("a good load after a bad one");
    model.check_contents(index.as_ref(), dim);
}

/// A snapshot of another dimension or metric is `Corrupt`.
///
/// # Panics
/// When it is taken.
pub fn snapshots_of_others_are_refused(h: &HotHarness) {
    if !supported(h) {
        return;
    }
    let metrics = h.metrics();
    let mut rng = fastrand::Rng::with_seed(2);
    for n in [0, 12] {
        let index = h.fresh(metrics[0], 4);
        fill(index.as_ref(), &mut rng, n, 4);
        let bytes = save(index.as_ref());
        for dim in [1, 2, 3, 5, 8] {
            refused(h, metrics[0], dim, &bytes, "another dimension");
        }
        for &metric in &metrics[1..] {
            refused(h, metric, 4, &bytes, "another metric");
        }
    }
}

/// A writer that fails makes `save` answer `Unavailable`; a reader that fails makes `load` fail and leaves the index empty.
///
/// # Panics
/// When it is not so.
pub fn snapshot_streams_may_fail(h: &HotHarness) {
    if !supported(h) {
        return;
    }
    let (metric, dim) = (h.metric(), 3);
    let index = h.fresh(metric, dim);
    let model = fill(index.as_ref(), &mut fastrand::Rng::with_seed(3), 20, dim);
    let good = save(index.as_ref());
    for room in [0, 1, 20, good.len() / 2, good.len() - 1] {
        let error = index
            .save(&mut Full { room })
            .expect_err("the writer failed, so must the save");
        assert_eq!(
            error.kind(),
            aether_core::ErrorKind::Unavailable,
            "{error:?}"
        );
        let loading = h.fresh(metric, dim);
        let mut broken = good[..room].chain(Broken);
        assert!(
            loading.load(&mut broken).is_err(),
            "the reader failed at {room}"
        );
        Model::default().check_contents(loading.as_ref(), dim);
    }
    model.check_contents(index.as_ref(), dim);
}

/// Loading into an index with rows is `InvalidInput` and changes nothing.
///
/// # Panics
/// When it is not so.
pub fn load_wants_an_empty_index(h: &HotHarness) {
    if !supported(h) {
        return;
    }
    let (metric, dim) = (h.metric(), 3);
    let mut rng = fastrand::Rng::with_seed(4);
    let index = h.fresh(metric, dim);
    fill(index.as_ref(), &mut rng, 20, dim);
    let bytes = save(index.as_ref());
    let other = h.fresh(metric, dim);
    let model = fill(other.as_ref(), &mut rng, 2, dim);
    let error = other
        .load(&mut bytes.as_slice())
        .expect_err("an index with rows takes no snapshot");
    assert!(error.is_invalid_input(), "{error:?}");
    model.check_contents(other.as_ref(), dim);
    for (row, _) in model.iter() {
        other.remove(row).expect("a removal");
    }
    other
        .load(&mut bytes.as_slice())
        .expect("an index that was emptied takes a snapshot");
    assert_eq!(other.len(), 20);
}

/// Delivers one byte a call, and now and then an interruption first.
struct Drip<'a> {
    rest: &'a [u8],
    calls: u32,
}

impl Read for Drip<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.calls += 1;
        if self.calls.is_multiple_of(97) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let n = out.len().min(1);
        self.rest.read(&mut out[..n])
    }
}

struct Broken;

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::other("the disk is gone"))
    }
}

/// A writer with little room.
struct Full {
    room: usize,
}

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.room == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let n = bytes.len().min(self.room);
        self.room -= n;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

//! A test that cannot fail is worth nothing: stores with a mistake planted in them, and the checkers that must catch each.
//!
//! The mistakes are wrappers of the two contracts, so the engine is the very one that is tested elsewhere. Those for the conformance suites and
//! the simulation of moves stand in the testkit, that of the decoders' allocator in `tests/decoders.rs`, those of schedules in
//! `tests/schedules`, those of `aether torture`'s oracle beside it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use aether_core::role::{
    Batch, BlobInfo, ColdStore, Epoch, KeyRange, MetaCapability, MetaStore, Op, Seq, Table,
};
use aether_core::{BlobKey, Error, PointId, Result, Retry};
use aether_testkit::workload::{Op as Work, Profile, Workload, every_kind};
use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;

use common::script::settings;
use common::{Call, Run, Settings, Verdict, World, Wrap, ids, points};

/// What a metadata store does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    /// One batch in five lacks its last put of a point.
    LosesAPut,
    /// Says that it has synced, and has not, from the sixth time on.
    AcknowledgesBeforeItSyncs,
    /// A batch whose outcome it does not know it says it has surely not done.
    SaysItDidNot,
    /// Says of a call without a reply that there is a mistake in the program.
    CallsItABug,
    /// One batch in five is done but for its last operation.
    CommitsAPart,
    /// Deletions of points are forgotten.
    ForgetsDeletions,
}

#[derive(Debug)]
struct FlawedMeta {
    inner: Arc<dyn MetaStore>,
    flaw: Flaw,
    commits: AtomicU64,
}

impl FlawedMeta {
    /// Whether it is the flaw's turn.
    fn turn(&self) -> bool {
        self.commits.fetch_add(1, SeqCst) % 5 == 4
    }
}

#[async_trait]
impl MetaStore for FlawedMeta {
    async fn claim(&self) -> Result<Epoch> {
        self.inner.claim().await
    }

    async fn get(&self, table: Table, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>> {
        self.inner.get(table, keys).await
    }

    async fn scan(
        &self,
        table: Table,
        range: KeyRange,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>> {
        self.inner.scan(table, range, limit).await
    }

    async fn commit(&self, mut batch: Batch) -> Result<Seq> {
        let of_point = |op: &Op| matches!(op, Op::Put(Table::Points, ..));
        match self.flaw {
            Flaw::LosesAPut if self.turn() => {
                if let Some(at) = batch.ops.iter().rposition(of_point) {
                    batch.ops.remove(at);
                }
            }
            Flaw::CommitsAPart if self.turn() => {
                batch.ops.pop();
                batch.ops.truncate(batch.ops.len() / 2);
            }
            Flaw::ForgetsDeletions => {
                let gone = |op: &Op| matches!(op, Op::Delete(Table::Points, _));
                batch.ops.retain(|op| !gone(op));
            }
            _ => {}
        }
        let done = self.inner.commit(batch).await;
        match self.flaw {
            Flaw::SaysItDidNot => done.map_err(|e| e.with_retry(Retry::Later)),
            Flaw::CallsItABug => done.map_err(|e| Error::internal("planted").with_retry(e.retry())),
            _ => done,
        }
    }

    async fn durable(&self, seq: Seq) -> Result<()> {
        match self.flaw {
            Flaw::AcknowledgesBeforeItSyncs if self.commits.fetch_add(1, SeqCst) >= 5 => Ok(()),
            _ => self.inner.durable(seq).await,
        }
    }

    fn capability(&self) -> MetaCapability {
        self.inner.capability()
    }

    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}

/// What a cold store does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ColdFlaw {
    /// Says that it has kept a blob, and has not.
    LosesAPut,
    /// Keeps the first half.
    KeepsHalf,
    /// Answers with the bytes of another place of the blob.
    AnswersFromElsewhere,
    /// Forgets to delete.
    KeepsTheDeleted,
}

#[derive(Debug)]
struct FlawedCold {
    inner: Arc<dyn ColdStore>,
    flaw: ColdFlaw,
}

#[async_trait]
impl ColdStore for FlawedCold {
    async fn put(&self, key: &BlobKey, data: Bytes) -> Result<()> {
        match self.flaw {
            ColdFlaw::LosesAPut => Ok(()),
            ColdFlaw::KeepsHalf => self.inner.put(key, data.slice(..data.len() / 2)).await,
            _ => self.inner.put(key, data).await,
        }
    }

    async fn read(&self, key: &BlobKey, ranges: &[Range<u64>]) -> Result<Option<Vec<Bytes>>> {
        let moved: Vec<Range<u64>> = match self.flaw {
            ColdFlaw::AnswersFromElsewhere => {
                let back = |r: &Range<u64>| r.start.min(16);
                let from = |r: &Range<u64>| r.start - back(r)..r.end - back(r);
                ranges.iter().map(from).collect()
            }
            _ => ranges.to_vec(),
        };
        self.inner.read(key, &moved).await
    }

    async fn size(&self, key: &BlobKey) -> Result<Option<u64>> {
        self.inner.size(key).await
    }

    async fn delete(&self, key: &BlobKey) -> Result<()> {
        match self.flaw {
            ColdFlaw::KeepsTheDeleted => Ok(()),
            _ => self.inner.delete(key).await,
        }
    }

    async fn list(&self, prefix: &str) -> Result<Vec<BlobInfo>> {
        self.inner.list(prefix).await
    }
}

macro_rules! meta {
    ($flaw:ident) => {
        |inner, cold| {
            let flaw = Flaw::$flaw;
            let commits = AtomicU64::new(0);
            let meta = FlawedMeta {
                inner,
                flaw,
                commits,
            };
            (Arc::new(meta), cold)
        }
    };
}

macro_rules! cold {
    ($flaw:ident) => {
        |meta, inner| {
            let flaw = ColdFlaw::$flaw;
            (meta, Arc::new(FlawedCold { inner, flaw }))
        }
    };
}

const META: [(Flaw, Wrap); 6] = [
    (Flaw::LosesAPut, meta!(LosesAPut)),
    (
        Flaw::AcknowledgesBeforeItSyncs,
        meta!(AcknowledgesBeforeItSyncs),
    ),
    (Flaw::SaysItDidNot, meta!(SaysItDidNot)),
    (Flaw::CallsItABug, meta!(CallsItABug)),
    (Flaw::CommitsAPart, meta!(CommitsAPart)),
    (Flaw::ForgetsDeletions, meta!(ForgetsDeletions)),
];

const COLD: [(ColdFlaw, Wrap); 4] = [
    (ColdFlaw::LosesAPut, cold!(LosesAPut)),
    (ColdFlaw::KeepsHalf, cold!(KeepsHalf)),
    (ColdFlaw::AnswersFromElsewhere, cold!(AnswersFromElsewhere)),
    (ColdFlaw::KeepsTheDeleted, cold!(KeepsTheDeleted)),
];

fn wrapped(wrap: Wrap) -> Settings {
    Settings {
        wrap: Some(wrap),
        ..settings()
    }
}

/// The model test: drawn operations, with power cuts one in so many.
async fn model(wrap: Wrap, crash_every: u32) -> Result<(), String> {
    for seed in 1..=4 {
        let mut run = Run::new(World::with(wrapped(wrap))).await;
        let profile = Profile {
            dim: settings().dim,
            ids: 150,
            batch: 20,
            crash_every,
        };
        let mut workload = Workload::new(seed, profile);
        for _ in 0..400 {
            run.step(workload.next_op()).await?;
        }
        run.world.power.unscript();
        run.check_everything().await?;
        run.memory().close().await.map_err(|e| e.to_string())?;
        run.check_stored().await?;
    }
    Ok(())
}

/// The crash test: one workload, cut at each of its calls.
async fn crash(wrap: Wrap) -> Result<(), String> {
    for after in [false, true] {
        for n in 1.. {
            let mut run = Run::new(World::with(wrapped(wrap))).await;
            run.world.power.die_at(n, after);
            for op in every_kind() {
                run.step(op).await?;
            }
            // What comes after the workload is not cut.
            run.world.power.unscript();
            run.check_everything().await?;
            if run.crashes == 0 {
                break;
            }
        }
    }
    Ok(())
}

/// The test of failing calls, as `nth.rs` makes it: once, with the effect and without a reply.
async fn nth(wrap: Wrap) -> Result<(), String> {
    for n in 1.. {
        let mut run = Run::new(World::with(wrapped(wrap))).await;
        let at = run.world.power.calls() + n;
        run.faulty = true;
        run.world.power.script(move |_: &Call, i| match i == at {
            true => Verdict::LoseReply,
            false => Verdict::Pass,
        });
        for op in every_kind() {
            run.step(op).await?;
            if run.failed.replace(false) {
                run.faulty = false;
                run.world.power.unscript();
                run.rise().await?;
            }
        }
        run.check_everything().await?;
        run.memory().close().await.map_err(|e| e.to_string())?;
        run.check_stored().await?;
        if run.world.power.calls() < at {
            return Ok(());
        }
    }
    Ok(())
}

/// What a checker says of a store: what it found, be it by a panic.
async fn caught(checker: impl Future<Output = Result<(), String>>) -> Option<String> {
    match AssertUnwindSafe(checker).catch_unwind().await {
        Ok(done) => done.err(),
        Err(_) => Some("a panic".to_owned()),
    }
}

#[tokio::test]
async fn sound_stores_pass_every_checker() {
    let sound: Wrap = |meta, cold| (meta, cold);
    for found in [
        caught(model(sound, 0)).await,
        caught(model(sound, 30)).await,
        caught(crash(sound)).await,
        caught(nth(sound)).await,
    ] {
        assert_eq!(found, None);
    }
}

#[tokio::test]
async fn the_model_catches_the_planted_mistakes() {
    for (flaw, wrap) in META {
        // Without a power cut there is nothing to be seen of these.
        let crash_every = match flaw {
            Flaw::AcknowledgesBeforeItSyncs => 30,
            Flaw::SaysItDidNot | Flaw::CallsItABug => continue,
            _ => 0,
        };
        let found = caught(model(wrap, crash_every)).await;
        println!("model: {flaw:?}: {found:?}");
        assert!(found.is_some(), "the model did not catch {flaw:?}");
    }
    for (flaw, wrap) in COLD {
        // What is kept too long is found after a reopening, by whoever looks at what is stored.
        let found = caught(model(wrap, 30)).await;
        println!("model: {flaw:?}: {found:?}");
        assert!(found.is_some(), "the model did not catch {flaw:?}");
    }
}

#[tokio::test]
async fn the_crash_test_catches_the_planted_mistakes() {
    for (flaw, wrap) in META {
        // It cuts, and has no failing calls.
        if flaw == Flaw::SaysItDidNot {
            continue;
        }
        let found = caught(crash(wrap)).await;
        println!("crash: {flaw:?}: {found:?}");
        assert!(found.is_some(), "the crash test did not catch {flaw:?}");
    }
}

#[tokio::test]
async fn the_test_of_failing_calls_catches_the_planted_mistakes() {
    for (flaw, wrap) in META {
        let said = match flaw {
            Flaw::SaysItDidNot => "",
            Flaw::CallsItABug => "[internal]",
            _ => continue,
        };
        let found = caught(nth(wrap)).await;
        println!("nth: {flaw:?}: {found:?}");
        assert!(found.is_some_and(|what| what.contains(said)), "{flaw:?}");
    }
}

/// `check` finds what is missing, too much, or wrong in what is stored, whatever made it so.
#[tokio::test]
async fn check_catches_the_planted_damage() {
    type Damage = fn(&World);
    let first = |world: &World, table: Table| {
        let all = world.meta.dump();
        all.into_iter().find(|(t, ..)| *t == table).unwrap()
    };
    let damages: [(&str, Damage); 6] = [
        ("a blob is gone", |world| {
            let (key, _) = world.segments().remove(0);
            world.cold.tamper(&key, None);
        }),
        ("a blob is cut", |world| {
            let (key, bytes) = world.segments().remove(0);
            world
                .cold
                .tamper(&key, Some(bytes.slice(..bytes.len() - 1)));
        }),
        ("a blob is another's", |world| {
            let blobs = world.segments();
            world.cold.tamper(&blobs[0].0, Some(blobs[1].1.clone()));
        }),
        ("a bit of a vector", |world| {
            let (key, bytes) = world.segments().remove(0);
            let mut bytes = bytes.to_vec();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 4;
            world.cold.tamper(&key, Some(bytes.into()));
        }),
        ("a point leads to no row", |world| {
            let points = world.meta.dump();
            let (table, key, _) = points.iter().find(|(t, ..)| *t == Table::Points).unwrap();
            world
                .meta
                .tamper(*table, key, 999_999u64.to_be_bytes().to_vec());
        }),
        ("two points lead to one row", |world| {
            let mut points = world.meta.dump();
            points.retain(|(t, ..)| *t == Table::Points);
            let (table, key, _) = &points[0];
            world.meta.tamper(*table, key, points[1].2.clone());
        }),
    ];
    for (what, damage) in damages {
        let world = World::with(Settings::default());
        let memory = world.open().await;
        memory.upsert(points(0..60)).await.unwrap();
        memory.demote(&ids(0..20)).await.unwrap();
        memory.demote(&ids(20..40)).await.unwrap();
        memory.close().await.unwrap();
        world.check_clean().await;
        assert!(first(&world, Table::Cold).2.len() > 8);
        damage(&world);
        let report = world.check().await;
        println!("check: {what}: {:?}", report.problems);
        assert!(!report.is_clean(), "check did not catch: {what}");
    }
}

/// The comparison of what a memory says with what it should: a point that is there and wrong, gone, or too many.
#[tokio::test]
async fn the_model_catches_answers_that_are_wrong() {
    for (what, op) in [
        (
            "a write that the model knows nothing of",
            Work::Upsert(points(3..4)),
        ),
        (
            "a deletion that the model knows nothing of",
            Work::Delete(vec![PointId::Int(1)]),
        ),
    ] {
        let mut run = Run::new(World::with(Settings::default())).await;
        run.step(Work::Upsert(points(0..3))).await.unwrap();
        assert_eq!(run.check_everything().await, Ok(()));
        match op {
            Work::Upsert(points) => drop(run.memory().upsert(points).await.unwrap()),
            Work::Delete(ids) => drop(run.memory().delete(&ids).await.unwrap()),
            other => unreachable!("{other:?}"),
        }
        let said = run.check_everything().await;
        println!("{what}: {said:?}");
        assert!(said.is_err(), "{what}");
    }
}

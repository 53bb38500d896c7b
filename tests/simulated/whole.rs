//! The whole engine in one simulation: one seed for the disk, a remote store in front of it, the order in which things happen, and the
//! operations. First a time of faults and power cuts in which nothing may be lost, then a time without in which everything settles. The
//! same seed makes the same calls with the same outcomes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use aether::role::{
    Batch, BlobInfo, ColdStore, Epoch, KeyRange, MetaCapability, MetaStore, Seq, Table,
};
use aether::{BlobKey, Error, ErrorKind, Result, Retry};
use aether_cold_simulated_s3::{SimulatedS3, SimulatedS3Config};
use aether_testkit::env::seeds;
use aether_testkit::run::{Run, World};
use aether_testkit::simfs::{SimFs, Verdict};
use aether_testkit::workload::{EVERY_DIM, Op, Profile, Workload};
use async_trait::async_trait;
use bytes::Bytes;
use fastrand::Rng;
use parking_lot::Mutex;
use tokio::time::sleep;

use crate::ground::{Ground, Settings};
use crate::power::simulate;

/// A store whose calls take their time, fail and lose their replies as a seed says, and whose calls are in the trace.
#[derive(Debug)]
struct Drawn<S> {
    inner: S,
    fs: SimFs,
    faults: Arc<AtomicBool>,
    rng: Mutex<Rng>,
}

impl<S> Drawn<S> {
    fn new(inner: S, fs: &SimFs, faults: &Arc<AtomicBool>, seed: u64) -> Self {
        Self {
            inner,
            fs: fs.clone(),
            faults: faults.clone(),
            rng: Mutex::new(Rng::with_seed(seed)),
        }
    }

    /// One call. A reply is lost only where the caller then looks what became of it.
    async fn run<T>(
        &self,
        name: &str,
        changes: bool,
        effect: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        // Always as many draws, so that a fault does not shift the series.
        let (before, after, fails, loses) = {
            let mut rng = self.rng.lock();
            let mut micros = || Duration::from_micros(rng.u64(0..3_000));
            let (before, after) = (micros(), micros());
            (before, after, rng.f64() < 0.02, rng.f64() < 0.01)
        };
        self.fs.note((name, before));
        sleep(before).await;
        if fails && self.faults.load(SeqCst) {
            self.fs.note("failed");
            return Err(Error::unavailable(format!("injected: {name} fails")));
        }
        let result = effect.await;
        sleep(after).await;
        let said = result
            .as_ref()
            .map(drop)
            .map_err(|e| format!("{:?}", e.kind()));
        self.fs.note((name, said));
        if loses && changes && result.is_ok() && self.faults.load(SeqCst) {
            self.fs.note("lost");
            let error = Error::unavailable(format!("injected: the reply of {name} is lost"));
            return Err(error.with_retry(Retry::Unknown));
        }
        result
    }
}

/// Blobs put and deleted within the last moments, of which a listing may not know yet.
#[derive(Clone, Debug, Default)]
struct Recent(Arc<Mutex<VecDeque<(BlobInfo, bool)>>>);

impl Recent {
    fn note(&self, key: &BlobKey, bytes: u64, put: bool) {
        let mut recent = self.0.lock();
        let key = key.clone();
        recent.push_back((BlobInfo { key, bytes }, put));
        if recent.len() > 8 {
            recent.pop_front();
        }
    }

    /// What a listing says that is a little behind, as the contract allows.
    fn behind(&self, listed: Vec<BlobInfo>, prefix: &str, rng: &mut Rng) -> Vec<BlobInfo> {
        let mut all: BTreeMap<BlobKey, BlobInfo> =
            listed.into_iter().map(|b| (b.key.clone(), b)).collect();
        for (blob, put) in self.0.lock().iter().rev() {
            match (rng.bool(), put) {
                (true, true) => drop(all.remove(&blob.key)),
                (true, false) if blob.key.as_str().starts_with(prefix) => {
                    all.insert(blob.key.clone(), blob.clone());
                }
                _ => {}
            }
        }
        all.into_values().collect()
    }
}

/// The remote store: simulated object storage before the simulated disk, whose listings are late.
#[derive(Debug)]
struct Late {
    store: SimulatedS3,
    recent: Recent,
}

#[async_trait]
impl MetaStore for Drawn<Arc<dyn MetaStore>> {
    async fn claim(&self) -> Result<Epoch> {
        self.run("claim", true, self.inner.claim()).await
    }

    async fn get(&self, table: Table, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>> {
        self.run("get", false, self.inner.get(table, keys)).await
    }

    async fn scan(
        &self,
        table: Table,
        range: KeyRange,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>> {
        let scan = self.inner.scan(table, range, limit);
        self.run("scan", false, scan).await
    }

    async fn commit(&self, batch: Batch) -> Result<Seq> {
        self.run("commit", true, self.inner.commit(batch)).await
    }

    async fn durable(&self, seq: Seq) -> Result<()> {
        self.run("durable", true, self.inner.durable(seq)).await
    }

    fn capability(&self) -> MetaCapability {
        self.inner.capability()
    }

    async fn close(&self) -> Result<()> {
        self.run("close", true, self.inner.close()).await
    }
}

#[async_trait]
impl ColdStore for Drawn<Late> {
    async fn put(&self, key: &BlobKey, data: Bytes) -> Result<()> {
        let Late { store, recent } = &self.inner;
        let bytes = data.len() as u64;
        let put = async {
            store.put(key, data).await?;
            recent.note(key, bytes, true);
            Ok(())
        };
        self.run("put", true, put).await
    }

    async fn read(&self, key: &BlobKey, ranges: &[Range<u64>]) -> Result<Option<Vec<Bytes>>> {
        let read = self.inner.store.read(key, ranges);
        self.run("read", false, read).await
    }

    async fn size(&self, key: &BlobKey) -> Result<Option<u64>> {
        self.run("size", false, self.inner.store.size(key)).await
    }

    async fn delete(&self, key: &BlobKey) -> Result<()> {
        let Late { store, recent } = &self.inner;
        let delete = async {
            let size = store.size(key).await?;
            store.delete(key).await?;
            if let Some(bytes) = size {
                recent.note(key, bytes, false);
            }
            Ok(())
        };
        self.run("delete", true, delete).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<BlobInfo>> {
        let Late { store, recent } = &self.inner;
        let listed = self.run("list", false, store.list(prefix)).await?;
        if !self.faults.load(SeqCst) {
            return Ok(listed);
        }
        Ok(recent.behind(listed, prefix, &mut self.rng.lock()))
    }
}

/// A memory whose own tasks run too, on stores with faults that can be switched.
fn ground(seed: u64, faults: &Arc<AtomicBool>) -> Ground {
    let mut ground = Ground::new(seed);
    ground.settings = Settings {
        flux: "tick = \"250ms\"\nbatch_rows = 12\nsample = 16",
        ..Settings::default()
    };
    let (switch, recent) = (faults.clone(), Recent::default());
    ground.layer = Some(Arc::new(move |fs, meta, cold, life| {
        let mut config = SimulatedS3Config::default();
        // Milliseconds in place of hundreds, so that many fit into a search's deadline.
        config.scale = 0.02;
        let seed = seed ^ (life << 32);
        let cold = Late {
            store: SimulatedS3::new(cold, &config, seed ^ 1),
            recent: recent.clone(),
        };
        (
            Arc::new(Drawn::new(meta, fs, &switch, seed ^ 2)),
            Arc::new(Drawn::new(cold, fs, &switch, seed ^ 3)),
        )
    }));
    let (switch, rng) = (faults.clone(), Mutex::new(Rng::with_seed(seed ^ 4)));
    ground.script_for_ever(move |call, _| {
        let (kind, x) = {
            let mut rng = rng.lock();
            (rng.usize(..2), rng.f64())
        };
        let share = if call.changes() { 0.0005 } else { 0.001 };
        if x < share && switch.load(SeqCst) {
            use std::io::ErrorKind::{Other, StorageFull};
            Verdict::Fail([Other, StorageFull][kind])
        } else {
            Verdict::Pass
        }
    });
    ground
}

/// What a simulation did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Figures {
    trace: u64,
    operations: usize,
    failed: usize,
    crashes: usize,
    moved: u64,
    cold_hits: usize,
    compacted: u64,
}

/// The line that repeats a simulation.
fn line(seed: u64) -> String {
    format!("AETHER_SEED={seed} cargo test --test simulated whole")
}

async fn run(seed: u64, words: bool) -> (Figures, Vec<String>) {
    let at = line(seed);
    let faults = Arc::new(AtomicBool::new(false));
    let mut figures = Figures::default();
    let ground = ground(seed, &faults);
    if words {
        ground.fs.keep_words();
    }
    let mut run = Run::new(ground).await;
    run.also = &[ErrorKind::Capacity];
    let profile = Profile {
        dim: EVERY_DIM,
        ids: 120,
        batch: 30,
        crash_every: 12,
    };
    let mut workload = Workload::new(seed, profile);
    let mut rng = Rng::with_seed(seed);
    for n in 0..120 {
        // Its own tasks get their turns in between, and meet the same faults.
        run.faulty = true;
        faults.store(true, SeqCst);
        sleep(Duration::from_millis(rng.u64(0..600))).await;
        let op = workload.next_op();
        let mut text = format!("{op:?}");
        text.truncate(text.floor_char_boundary(200));
        let done = run.step_without_rising(op).await;
        faults.store(false, SeqCst);
        run.faulty = false;
        done.unwrap_or_else(|what| panic!("{at}: operation {n} ({text}): {what}"));
        figures.operations += 1;
        let failed = run.failed.replace(false);
        figures.failed += usize::from(failed);
        if run.memory.is_none() || failed || run.world.is_dead() {
            // The first try to recover meets them as well.
            if rng.bool() {
                faults.store(true, SeqCst);
                let risen = run.rise_among_faults().await;
                faults.store(false, SeqCst);
                risen.unwrap_or_else(|what| panic!("{at}: after operation {n} ({text}): {what}"));
            }
            let risen = run.rise().await;
            risen.unwrap_or_else(|what| panic!("{at}: after operation {n} ({text}): {what}"));
        }
    }
    settle(&mut run, &at).await;
    for op in std::iter::repeat_with(|| workload.next_op()).take(20) {
        if !matches!(op, Op::Crash { .. }) {
            run.work(&[op], &at).await;
        }
    }
    settle(&mut run, &at).await;
    run.end(&at).await;
    figures.trace = run.world.fs.trace();
    figures.crashes = run.crashes;
    figures.moved = run.moved;
    figures.cold_hits = run.cold_hits;
    figures.compacted = run.compacted;
    (figures, run.world.fs.words())
}

/// Where two runs of one seed part: the last calls before, and the first that differ.
fn parting(seed: u64) -> String {
    let one = simulate(run(seed, true)).1;
    // What differs from run to run differs seldom.
    let others = std::iter::repeat_with(|| simulate(run(seed, true)).1).take(20);
    let Some(other) = others.into_iter().find(|other| *other != one) else {
        return "seldom: twenty more runs were the same".to_owned();
    };
    let at = one.iter().zip(&other).take_while(|(a, b)| a == b).count();
    let words = |words: &[String]| {
        let some = &words[at.saturating_sub(6)..(at + 3).min(words.len())];
        let cut = |word: &String| word.chars().take(200).collect::<String>();
        some.iter().map(cut).collect::<Vec<_>>().join("\n")
    };
    // Long ones are bytes: from where they differ.
    let differ = one.iter().zip(&other).filter(|(a, b)| a != b).take(4);
    let rest = |(a, b): (&String, &String)| {
        let same = a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
        let some = |word: &String| -> String {
            let from = word.chars().skip(same.saturating_sub(200));
            from.take(400).collect()
        };
        format!("at {same}: {}\nand {}", some(a), some(b))
    };
    let rest: Vec<String> = differ.map(rest).collect();
    let (one, other) = (words(&one), words(&other));
    format!(
        "after {at} calls:\n{one}\n\nand\n\n{other}\n\n{}",
        rest.join("\n")
    )
}

/// Without faults everything comes to rest by itself: no row waits, no move is open, nothing is left to be swept, and what is stored is
/// whole.
async fn settle(run: &mut Run<Ground>, at: &str) {
    // Opened again first: a write of unknown outcome has ended writing until then, and a listing that was behind has hidden an orphan.
    // And no cut is still to come.
    run.world.unscript();
    run.work(&[Op::Reopen], at).await;
    let mut last = String::new();
    for _ in 0..100 {
        // What a lost put may still bring is waited for ten minutes.
        run.world.advance(Duration::from_secs(10));
        sleep(Duration::from_secs(2)).await;
        let (stats, report) = (run.memory().stats(), run.world.check().await.unwrap());
        assert!(report.is_clean(), "{at}: {report:#?}");
        let open = (
            stats.restore_queue,
            stats.garbage,
            report.intents,
            report.orphans,
        );
        if open == (0, 0, 0, 0) {
            let checked = run.check_everything().await;
            return checked.unwrap_or_else(|what| panic!("{at}: {what}"));
        }
        last = format!(
            "{open:?} of restore queue, garbage, intents and orphans; poisoned: {:?}",
            stats.poisoned
        );
    }
    panic!("{at}: it does not settle: {last}");
}

#[test]
fn whole_simulations_lose_nothing_and_settle_and_repeat() {
    let mut all = Figures::default();
    let mut traces = BTreeSet::new();
    let range = seeds(12);
    for seed in range.clone() {
        let first = simulate(run(seed, false)).0;
        let again = simulate(run(seed, false)).0;
        if first != again {
            let parting = parting(seed);
            panic!(
                "{}: {first:?}, and again {again:?}; they part {parting}",
                line(seed)
            );
        }
        traces.insert(first.trace);
        all.operations += first.operations;
        all.failed += first.failed;
        all.crashes += first.crashes;
        all.moved += first.moved;
        all.cold_hits += first.cold_hits;
        all.compacted += first.compacted;
    }
    println!("{all:?}");
    assert_eq!(traces.len() as u64, range.end - range.start, "seeds differ");
    if traces.len() >= 10 {
        assert!(
            all.failed > 10 && all.crashes > 10 && all.moved > 50,
            "{all:?}"
        );
        assert!(all.cold_hits > 50 && all.moved > 100, "{all:?}");
    }
}

//! Mixed work of many tasks on twice as many points as fit the hot tier, and more callers than are admitted: the budget and the declared RAM hold,
//! what is refused is refused at once and told when to come back, what is admitted ends within its deadline, a closing in the midst of it
//! loses nothing, and nothing is left behind: no task, no thread, no file handle, no lock.
//!
//! RAM is judged three times: what the allocator was asked for and `Stats` does not count, all that it was asked for, and the pages that are
//! resident since before anything was opened, those of files aside.
//!
//! `AETHER_SOAK_MINUTES` sets how long (0.2), `AETHER_SEED` the choices.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

#[allow(
    unsafe_code,
    reason = "an allocator that counts is an unsafe trait's implementation"
)]
mod counting;

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use aether::config::SearchMode;
use aether::{
    Config, Error, Factory, Memory, MemoryBuilder, Metric, Parts, Plugin, Point, PointId,
    SearchRequest, Stats,
};
use aether_hot_flat::{Flat, FlatConfig};
use aether_testkit::fake::hot::Reckoned;
use aether_testkit::model::Model;
use counting::{Counting, HELD, PEAK};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

const DIM: usize = 64;
const WRITERS: u64 = 8;
const SEARCHERS: u64 = 12;
/// Points of a writer's largest batch.
const BATCH: u64 = 256;
const DEADLINE: Duration = Duration::from_millis(500);
const MIB: u64 = 1 << 20;
/// What the configuration below declares and `Stats` counts: hot tier, block cache, codes.
const COUNTED: u64 = (8 + 4 + 4) * MIB;
/// What it declares and nobody counts: rows on their way, the metadata store's cache.
const ON_TRUST: u64 = (8 + 4) * MIB;
/// What is asked of the allocator beside that: buffers of requests under way, queues, the runtime, this test's books.
const BESIDE: u64 = 6 * MIB;
/// What is resident and not asked for: blocks that the C library keeps of what was freed, stacks of threads.
const KEPT: u64 = 24 * MIB;
/// The C library keeps little, as the command `aether` tells it: two heaps, and no freed block of a megabyte.
const KEEPS_LITTLE: [(&str, &str); 3] = [
    ("MALLOC_ARENA_MAX", "2"),
    ("MALLOC_MMAP_THRESHOLD_", "1048576"),
    ("MALLOC_TRIM_THRESHOLD_", "1048576"),
];

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn config(folder: &Path, hot: &str) -> Config {
    let text = format!(
        "[memory]\npath = {folder:?}\ndim = {DIM}\nmetric = \"l2\"\nhot_budget = \"8MiB\"\nworking_space = \"8MiB\"\n\
         insert_wait = \"50ms\"\nflush_every = \"1s\"\n[flux]\ntick = \"50ms\"\n\
         [search]\nconcurrent = 2\nqueue = 3\ndeadline = \"{}ms\"\ncache = \"4MiB\"\n[codes]\nram = \"4MiB\"\n\
         [compaction]\nsegment_bytes = \"2MiB\"\ngrace = \"1s\"\n[limits]\nwrite_queue = 2\nwrite_wait = \"1ms\"\n\
         [meta]\ncache = \"4MiB\"\n[hot]\nbackend = {hot:?}\n",
        DEADLINE.as_millis()
    );
    Config::from_toml(&text).unwrap()
}

fn vector(id: u64, version: u64) -> Vec<f32> {
    let mut centre = fastrand::Rng::with_seed(id % 40);
    let mut own = fastrand::Rng::with_seed(id << 32 | version);
    (0..DIM)
        .map(|_| centre.f32() - 0.5 + 0.3 * own.f32())
        .collect()
}

fn point(id: u64, version: u64) -> Point {
    Point::new(id, vector(id, version)).with_payload(serde_json::json!({ "v": version }))
}

/// A write of these ids: their version, or none for a deletion.
type Write = (Range<u64>, Option<u64>);

/// The ids of one writer, and what it wrote, in order; what it holds then is the model's to say.
#[derive(Clone, Debug, Default)]
struct Book {
    own: Range<u64>,
    acknowledged: Vec<Write>,
    /// It may have been on its way when the memory was closed.
    doubtful: Option<Write>,
}

impl Book {
    fn model(&self) -> Model {
        let mut model = Model::new(Metric::L2, 0);
        let points = |ids: &Range<u64>, version: u64| -> Vec<Point> {
            ids.clone().map(|id| point(id, version)).collect()
        };
        for (ids, version) in &self.acknowledged {
            match version {
                // Their rows are learnt when they are read.
                Some(version) => model.upserted(&points(ids, *version), &[], 0),
                None => model.deleted(&names(ids)),
            }
        }
        match &self.doubtful {
            None => {}
            Some((ids, Some(version))) => model.maybe_upserted(&points(ids, *version), 0),
            Some((ids, None)) => model.maybe_deleted(&names(ids)),
        }
        model
    }
}

fn names(ids: &Range<u64>) -> Vec<PointId> {
    ids.clone().map(PointId::Int).collect()
}

/// Parts of each power of two that times are told apart by.
const FINE: u64 = 32;

/// Times of one kind of call in microseconds, counted in classes of 3 %, so that they take no more RAM in an hour than in a minute.
#[derive(Default)]
struct Times(Vec<u64>);

impl Times {
    fn add(&mut self, since: Instant) {
        self.count(since.elapsed().as_micros() as u64, 1);
    }

    fn count(&mut self, time: u64, times: u64) {
        let power = u64::from((time / FINE).max(1).ilog2());
        let class = (power * FINE + (time >> power)) as usize;
        self.0.resize(self.0.len().max(class + 1), 0);
        self.0[class] += times;
    }

    fn join(&mut self, other: &Self) {
        self.0.resize(self.0.len().max(other.0.len()), 0);
        self.0.iter_mut().zip(&other.0).for_each(|(n, m)| *n += m);
    }

    fn len(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The share's quantile, in milliseconds, rounded up to the end of its class.
    fn at(&self, share: f64) -> f64 {
        let (place, mut passed) = ((self.len() as f64 * share) as u64, 0);
        let most = |class: u64| {
            let power = (class / FINE).saturating_sub(1);
            ((class - power * FINE + 1) << power) - 1
        };
        let class = self.0.iter().position(|n| {
            passed += n;
            passed > place.min(self.len() - 1)
        });
        class.map_or(0.0, |class| most(class as u64) as f64 / 1e3)
    }
}

#[derive(Default)]
struct Report {
    book: Option<Book>,
    done: u64,
    admitted: Times,
    refused: Times,
    partial: u64,
}

fn is_over(error: &Error) -> bool {
    error.is_closed()
}

/// Notes a refusal; how long to wait then.
fn refused(report: &mut Report, error: &Error, since: Instant) -> Duration {
    assert!(error.is_overloaded(), "{error}");
    report.refused.add(since);
    let hint = error.retry_after();
    assert!(hint.is_some(), "no hint when to come back: {error}");
    // Sooner than it says, so that the pressure stays.
    hint.unwrap_or_default() / 8
}

/// Writes, deletes and judges its own ids until the memory is closed.
async fn write(memory: Memory, own: Range<u64>, seed: u64) -> Report {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut report = Report::default();
    let mut book = Book {
        own: own.clone(),
        ..Book::default()
    };
    if own.start == 0 {
        // The point that was there before.
        book.acknowledged.push((0..1, Some(0)));
    }
    for version in 1.. {
        let first = rng.u64(own.clone());
        let ids = first..own.end.min(first + rng.u64(1..=BATCH));
        let lives = rng.u8(..8) > 0;
        let begun = Instant::now();
        let done = if lives {
            let points = ids.clone().map(|id| point(id, version));
            memory.upsert(points.collect()).await.map(drop)
        } else {
            memory.delete(&names(&ids)).await.map(drop)
        };
        let now = lives.then_some(version);
        match done {
            Ok(()) => {
                report.admitted.add(begun);
                report.done += 1;
                book.acknowledged.push((ids, now));
            }
            Err(error) if is_over(&error) => {
                book.doubtful = Some((ids, now));
                break;
            }
            Err(error) => {
                let wait = refused(&mut report, &error, begun);
                tokio::time::sleep(wait).await;
            }
        }
        if rng.u8(..4) == 0 {
            let judged = memory.feedback(&PointId::Int(first), rng.f32()).await;
            assert!(judged.as_ref().err().is_none_or(is_over), "{judged:?}");
        }
    }
    report.book = Some(book);
    report
}

/// Searches until the memory is closed.
async fn search(memory: Memory, ids: u64, seed: u64) -> Report {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut report = Report::default();
    loop {
        let query = vector(rng.u64(..ids), rng.u64(..50));
        let mode = match rng.u8(..8) {
            0 => SearchMode::HotOnly,
            1 => SearchMode::Complete,
            _ => SearchMode::Bounded,
        };
        let parts = if rng.bool() {
            Parts::default()
        } else {
            Parts::NONE
        };
        let begun = Instant::now();
        match memory
            .search(SearchRequest::new(query, 10).mode(mode).parts(parts))
            .await
        {
            Ok(answer) => {
                report.admitted.add(begun);
                report.done += 1;
                report.partial += u64::from(!answer.coverage.is_whole());
                let mut seen: Vec<_> = answer.hits.iter().map(|h| &h.id).collect();
                seen.sort();
                seen.dedup();
                assert_eq!(seen.len(), answer.hits.len(), "a point was found twice");
            }
            Err(error) if is_over(&error) => return report,
            Err(error) => {
                let wait = refused(&mut report, &error, begun);
                tokio::time::sleep(wait).await;
            }
        }
    }
}

/// Moves points by hand until the memory is closed.
async fn shuffle(memory: Memory, ids: u64, seed: u64) -> u64 {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut moved = 0;
    loop {
        let some: Vec<_> = (0..rng.u64(1..200))
            .map(|_| PointId::Int(rng.u64(..ids)))
            .collect();
        let done = match rng.bool() {
            true => memory.demote(&some).await,
            false => memory.promote(&some).await,
        };
        match done {
            Ok(n) => moved += n as u64,
            Err(error) if is_over(&error) => return moved,
            Err(error) => panic!("a move failed: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Open file handles of this process.
fn handles() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

/// What this process has in RAM, and what a memory in it says of that. Unit: bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Ram {
    /// Asked of the allocator and not given back.
    held: u64,
    /// Resident pages of its own: heap, stacks.
    own: u64,
    /// Resident pages of files: the program.
    file: u64,
    hot: u64,
    /// What of that the index holds: `hnsw` maps it past the allocator.
    index: u64,
    cache: u64,
    codes: u64,
    cold_index: u64,
}

impl Ram {
    fn now() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let number = line.unwrap().trim().trim_end_matches(" kB");
            number.parse::<u64>().unwrap() << 10
        };
        Self {
            held: HELD.load(Relaxed) as u64,
            own: line("RssAnon:"),
            file: line("RssFile:"),
            ..Self::default()
        }
    }

    fn with(self, stats: &Stats) -> Self {
        let parts = stats.hot_parts.iter();
        let parts = parts.filter(|(name, _)| name.starts_with("index."));
        Self {
            hot: stats.hot_bytes,
            index: parts.map(|(_, bytes)| bytes).sum(),
            cache: stats.cache_bytes,
            codes: stats.codes_bytes,
            cold_index: stats.cold_index_bytes,
            ..self
        }
    }

    fn since(self, before: &Self) -> Self {
        Self {
            held: self.held.saturating_sub(before.held),
            own: self.own.saturating_sub(before.own),
            file: self.file.saturating_sub(before.file),
            ..self
        }
    }

    /// Asked of the allocator, and told by nobody.
    fn uncounted(&self) -> u64 {
        let told = self.hot - self.index + self.cache + self.codes + self.cold_index;
        self.held.saturating_sub(told)
    }
}

/// The most of each since something was opened, not all at one moment.
#[derive(Debug, Default)]
struct Most {
    hot: u64,
    /// Asked of the allocator, and what the index told at most.
    held: u64,
    index: u64,
    uncounted: u64,
    cold_index: u64,
    own: u64,
    /// All of it at the moment with the most pages.
    then: Ram,
}

impl Most {
    fn look(&mut self, ram: Ram) {
        if ram.own > self.own {
            self.then = ram;
        }
        self.hot = self.hot.max(ram.hot);
        self.index = self.index.max(ram.index);
        self.own = self.own.max(ram.own);
        self.uncounted = self.uncounted.max(ram.uncounted());
        self.cold_index = self.cold_index.max(ram.cold_index);
    }

    fn tell(&self) {
        let mib = |bytes: u64| format!("{:.1}", bytes as f64 / MIB as f64);
        let then = self.then;
        println!(
            "MiB at most: hot {}, asked for {} of {}, of that not counted {} of {}, pages of its own {} of {}",
            mib(self.hot),
            mib(self.held),
            mib(self.declared()),
            mib(self.uncounted),
            mib(ON_TRUST + BESIDE),
            mib(self.own),
            mib(self.declared() + KEPT),
        );
        println!(
            "MiB when there were most pages: hot {}, block cache {}, codes {}, cold index {}, not counted {}, not asked for {}; of files {}",
            mib(then.hot),
            mib(then.cache),
            mib(then.codes),
            mib(then.cold_index),
            mib(then.uncounted()),
            mib(then.own.saturating_sub(then.held + then.index)),
            mib(then.file),
        );
    }

    /// What may be asked of the allocator: what is configured and what `Stats` tells of segments and partitions, which grow with them.
    fn declared(&self) -> u64 {
        COUNTED + self.cold_index + ON_TRUST + BESIDE
    }

    fn judge(&self) {
        let declared = self.declared();
        assert!(
            self.uncounted <= ON_TRUST + BESIDE,
            "RAM that nobody counts"
        );
        assert!(self.held <= declared, "RAM beyond what is declared");
        assert!(self.own <= declared + KEPT, "pages beyond what is declared");
    }
}

/// Looks at budget and RAM until told to stop.
async fn watch(memory: Memory, stop: Arc<AtomicBool>, before: Ram) -> Most {
    let mut most = Most::default();
    while !stop.load(Relaxed) {
        let stats = memory.stats();
        assert!(stats.hot_bytes <= stats.budget_bytes, "{stats:#?}");
        most.look(Ram::now().with(&stats).since(&before));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    most.held = most.index + (PEAK.load(Relaxed) as u64).saturating_sub(before.held);
    most
}

/// A hot index that tells nothing of what it holds.
static TELLS_NOTHING: Plugin = Plugin {
    name: "tells-nothing",
    crate_name: env!("CARGO_PKG_NAME"),
    summary: "A planted mistake.",
    options: &[],
    persistent: false,
    factory: Factory::Hot(|_, context| {
        let flat = Flat::new(&FlatConfig::default(), context.metric, context.dim)?;
        Ok(Arc::new(Reckoned {
            inner: Arc::new(flat),
            bytes: |_| 0,
            bytes_after: |_, _| 0,
        }))
    }),
};

async fn open(config: Config) -> Memory {
    let mut registry = aether::registry().unwrap();
    registry.add(&TELLS_NOTHING).unwrap();
    let builder = MemoryBuilder::new(config, Arc::new(registry));
    builder.open().await.unwrap()
}

/// How long what other threads do in their own time may take.
const SOON: Duration = Duration::from_secs(5);

/// What a runtime and a process have of what must not be left behind.
#[derive(Debug)]
struct Left {
    tasks: usize,
    files: usize,
    threads: usize,
}

impl Left {
    fn of(runtime: &Runtime) -> Self {
        Self {
            tasks: runtime.metrics().num_alive_tasks(),
            files: handles(),
            threads: threads(),
        }
    }

    /// Waits until there is no more of it than there was.
    ///
    /// # Panics
    /// When something stays.
    fn and_no_more(&self, runtime: Option<&Runtime>, soon: Duration) {
        let until = Instant::now() + soon;
        let wait = |what: &str, reached: &dyn Fn() -> bool| {
            while !reached() {
                assert!(Instant::now() < until, "{what} is left behind");
                std::thread::sleep(Duration::from_millis(10));
            }
        };
        match runtime {
            Some(runtime) => {
                wait("a task", &|| {
                    runtime.metrics().num_alive_tasks() == self.tasks
                });
                wait("a file handle", &|| handles() == self.files);
            }
            // Its own threads went with the runtime.
            None => wait("a thread", &|| threads() <= self.threads),
        }
    }
}

/// A task, a handle and a thread that are left behind, each for a moment.
fn planted_leaks_are_found() {
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async { tokio::task::yield_now().await });
    let moment = Duration::from_millis(50);
    let found = |left: &Left, runtime: Option<&Runtime>, what: &str| {
        let looked = catch_unwind(AssertUnwindSafe(|| left.and_no_more(runtime, moment)));
        let panic = looked.expect_err("a planted leak is not found");
        assert_eq!(
            panic.downcast_ref::<String>().unwrap(),
            &format!("{what} is left behind")
        );
    };
    let left = Left::of(&runtime);
    left.and_no_more(Some(&runtime), moment);
    let task = runtime.spawn(std::future::pending::<()>());
    found(&left, Some(&runtime), "a task");
    task.abort();
    left.and_no_more(Some(&runtime), SOON);

    let file = std::fs::File::open("/proc/self/statm").unwrap();
    found(&left, Some(&runtime), "a file handle");
    drop(file);
    left.and_no_more(Some(&runtime), SOON);

    let (end, ended) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || ended.recv());
    found(&left, None, "a thread");
    drop(end);
    drop(thread.join());
    left.and_no_more(None, SOON);
}

/// Compares all ids of the writers, written or not, and the nearest points to one, with the model.
async fn compare(memory: &Memory, books: &[Book]) {
    let mut all = Model::new(Metric::L2, 0);
    for book in books {
        let mut model = book.model();
        let doubted = model.doubted();
        let found = memory.get_many(&doubted, Parts::default()).await.unwrap();
        model.resolve(&found, 0).unwrap();
        let ids = names(&book.own);
        for some in ids.chunks(2_000) {
            let records = memory.get_many(some, Parts::default()).await.unwrap();
            for (id, record) in some.iter().zip(&records) {
                model.check_get(id, record.as_ref(), 0).unwrap();
            }
        }
        all.join(model);
    }
    let live = memory.stats().points as usize;
    assert_eq!((live, live), all.count(0));
    let (query, k) = (vector(1, 1), 10_000);
    let request = SearchRequest::new(query.clone(), k).mode(SearchMode::Complete);
    let answer = memory
        .search(request.deadline(Duration::from_secs(60)))
        .await
        .unwrap();
    assert!(answer.coverage.is_whole());
    all.check_answer(&answer, &query, k, None, 0).unwrap();
}

/// What a run is about.
#[derive(Clone, Copy, Debug)]
struct Plan {
    minutes: f64,
    seed: u64,
    /// A short run is too short to be judged by its times.
    judged: bool,
    hot: &'static str,
    /// Whether the hot tier is full before the work begins.
    full: bool,
    /// What this process had before.
    before: Ram,
    /// Takes RAM beside the memory that is not declared.
    beside: fn() -> Vec<Box<[u8]>>,
}

/// Opens, works, closes in the midst of it; what the memory must hold then.
async fn work(folder: &Path, plan: Plan) -> Vec<Book> {
    let Plan { seed, before, .. } = plan;
    let beside = (plan.beside)();
    PEAK.store(HELD.load(Relaxed), Relaxed);
    let memory = open(config(folder, plan.hot)).await;
    memory.upsert(vec![point(0, 0)]).await.unwrap();
    if plan.full {
        for first in (0..memory.stats().hot_capacity_rows).step_by(BATCH as usize) {
            let points = (first..first + BATCH).map(|id| point(id, 0));
            memory.upsert(points.collect()).await.unwrap();
        }
    }
    let ids = memory.stats().hot_capacity_rows * 2;
    let each = ids / WRITERS;
    let stop = Arc::new(AtomicBool::new(false));
    let watching = tokio::spawn(watch(memory.clone(), stop.clone(), before));
    let writers: Vec<JoinHandle<Report>> = (0..WRITERS)
        .map(|w| tokio::spawn(write(memory.clone(), w * each..(w + 1) * each, seed ^ w)))
        .collect();
    let searchers: Vec<JoinHandle<Report>> = (0..SEARCHERS)
        .map(|s| tokio::spawn(search(memory.clone(), ids, seed ^ (100 + s))))
        .collect();
    let mover = tokio::spawn(shuffle(memory.clone(), ids, seed ^ 200));
    tokio::time::sleep(Duration::from_secs_f64(plan.minutes * 60.0)).await;

    let stats = memory.stats();
    memory.close().await.unwrap();
    stop.store(true, Relaxed);
    let mut books = Vec::new();
    let (mut writes, mut searches) = (Report::default(), Report::default());
    for (all, tasks) in [(&mut writes, writers), (&mut searches, searchers)] {
        for task in tasks {
            let one = task.await.unwrap();
            books.extend(one.book);
            all.done += one.done;
            all.partial += one.partial;
            all.admitted.join(&one.admitted);
            all.refused.join(&one.refused);
        }
    }
    let moved = mover.await.unwrap();
    let most = watching.await.unwrap();
    drop(std::hint::black_box(beside));
    println!(
        "{ids} ids, {} points: {} writes and {} searches done ({} cut short), {} and {} refused, {moved} rows moved by hand, \
         {} demoted, {} promoted, {} rewritten",
        stats.points,
        writes.done,
        searches.done,
        searches.partial,
        writes.refused.len(),
        searches.refused.len(),
        stats.counted.demoted,
        stats.counted.promoted,
        stats.counted.compactions,
    );
    for (name, report) in [("writes", &writes), ("searches", &searches)] {
        println!(
            "{name}: p50 {:.2} ms, p99 {:.2} ms; refused after p50 {:.3} ms, p99 {:.2} ms",
            report.admitted.at(0.5),
            report.admitted.at(0.99),
            report.refused.at(0.5),
            report.refused.at(0.99),
        );
    }
    most.tell();
    assert!(
        most.hot <= stats.budget_bytes,
        "hot bytes beyond the budget"
    );
    most.judge();
    if !plan.judged {
        return books;
    }
    // The run must have been about something.
    assert!(writes.done > 50 && searches.done > 50 && moved > 0);
    assert!(writes.refused.len() > 0 && searches.refused.len() > 0);
    assert!(stats.counted.demoted > 0 && stats.cold_rows > 0);
    judge_times(&writes, &searches);
    books
}

fn judge_times(writes: &Report, searches: &Report) {
    let deadline = DEADLINE.as_secs_f64() * 1e3;
    assert!(searches.admitted.at(0.99) <= deadline, "searches are late");
    assert!(
        searches.refused.at(0.5) < 5.0 && searches.refused.at(0.99) <= deadline,
        "searches are not refused at once"
    );
    assert!(
        writes.refused.at(0.5) < 20.0 && writes.refused.at(0.99) <= deadline,
        "writes are not refused in time"
    );
}

/// Two late calls of a hundred, or refusals that take their time.
fn planted_delays_are_found() {
    let times = |counts: &[(u64, u64)]| {
        let mut times = Times::default();
        counts.iter().for_each(|(time, n)| times.count(*time, *n));
        times
    };
    let late = || times(&[(10, 98), (700_000, 2)]);
    let slow = || times(&[(30_000, 100)]);
    let with = |times: Times, admitted: bool| match admitted {
        true => Report {
            admitted: times,
            ..Report::default()
        },
        false => Report {
            refused: times,
            ..Report::default()
        },
    };
    judge_times(&Report::default(), &Report::default());
    let none = Report::default;
    for (writes, searches) in [
        (none(), with(late(), true)),
        (none(), with(late(), false)),
        (none(), with(slow(), false)),
        (with(late(), false), none()),
        (with(slow(), false), none()),
    ] {
        let judged = catch_unwind(AssertUnwindSafe(|| judge_times(&writes, &searches)));
        assert!(judged.is_err(), "a planted delay is not found");
    }
}

/// The same test again, in a process whose C library was told so.
fn in_a_process_that_keeps_little() {
    let asked = std::env::args().skip(1).filter(|arg| arg != "--nocapture");
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.args(asked).arg("--nocapture");
    again.env(AGAIN, "").envs(KEEPS_LITTLE);
    let done = again.output().unwrap();
    println!("{}", String::from_utf8_lossy(&done.stdout));
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
}

const AGAIN: &str = "AETHER_SOAK_AGAIN";

/// Works in a folder of this name, and leaves nothing behind.
fn run(path: &Path, plan: Plan) -> Vec<Book> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()
        .unwrap();
    // What a runtime opens for itself, and threads that libraries keep, are there now.
    let left = Left::of(&runtime);
    let books = runtime.block_on(work(path, plan));
    left.and_no_more(Some(&runtime), SOON);
    books
}

/// RAM that nobody declared, and pages that are resident for nothing, in a process that did nothing before.
fn planted_ram_is_found(folder: &Path, short: Plan) {
    let planted = |name: &str, plan: Plan, found: &str| {
        let before = Ram::now();
        let work = AssertUnwindSafe(|| run(&folder.join(name), Plan { before, ..plan }));
        let panic = catch_unwind(work).map(drop);
        let panic = panic.expect_err("a planted mistake is not found");
        assert_eq!(panic.downcast_ref::<&str>(), Some(&found), "{name}");
    };
    let beside = fragments;
    planted(
        "fragments",
        Plan { beside, ..short },
        "pages beyond what is declared",
    );
    let beside = hog;
    planted("hog", Plan { beside, ..short }, "RAM that nobody counts");
    let hot = "tells-nothing";
    planted("nothing", Plan { hot, ..short }, "RAM that nobody counts");
}

#[test]
fn twice_the_capacity_and_too_many_callers() {
    let number = |name: &str| std::env::var(name).ok().map(|v| v.parse::<f64>().unwrap());
    let minutes = number("AETHER_SOAK_MINUTES").unwrap_or(0.2);
    let seed = number("AETHER_SEED").map_or_else(|| fastrand::u64(..1 << 32), |s| s as u64);
    println!("AETHER_SEED={seed}");
    let folder = tempfile::tempdir().unwrap();
    let short = Plan {
        minutes: 0.02,
        seed,
        judged: false,
        hot: "hnsw",
        full: true,
        before: Ram::now(),
        beside: Vec::new,
    };
    let soak = Plan {
        minutes,
        judged: true,
        full: false,
        ..short
    };
    if std::env::var_os(AGAIN).is_none() {
        planted_ram_is_found(folder.path(), short);
        return in_a_process_that_keeps_little();
    }
    // What the process opens once and for all; and what the planted mistakes do, without them.
    run(&folder.path().join("first"), short);
    let (before, path) = (threads(), folder.path().join("memory"));
    let books = run(&path, soak);
    Left {
        tasks: 0,
        files: 0,
        threads: before,
    }
    .and_no_more(None, SOON);
    planted_leaks_are_found();
    planted_delays_are_found();

    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        let memory = open(config(&path, "hnsw")).await;
        compare(&memory, &books).await;
        // A comparison that cannot fail is worth nothing: one acknowledged write that is not there.
        let (memory_again, mut planted) = (memory.clone(), books.clone());
        let doubt = planted[0].doubtful.clone().unwrap_or_default().0;
        let settled = (1..).find(|id| !doubt.contains(id)).unwrap();
        let lost = (settled..settled + 1, Some(u64::MAX));
        planted[0].acknowledged.push(lost);
        let found = tokio::spawn(async move { compare(&memory_again, &planted).await });
        assert!(found.await.is_err(), "a lost write is not seen");
        memory.close().await.unwrap();
        drop(memory);
        let registry = Arc::new(aether::registry().unwrap());
        let report = aether::check(&config(&path, "hnsw"), registry)
            .await
            .unwrap();
        assert!(report.is_clean(), "{report:#?}");
        assert_eq!((report.orphans, report.intents), (0, 0), "{report:#?}");
    });
}

/// A megabyte more than may be there beside what is counted.
fn hog() -> Vec<Box<[u8]>> {
    vec![vec![1; (ON_TRUST + BESIDE + MIB) as usize].into()]
}

/// Small blocks that keep many more pages resident than they are worth.
fn fragments() -> Vec<Box<[u8]>> {
    const SMALL: usize = 64;
    let pages = COUNTED + ON_TRUST + BESIDE + KEPT;
    let many = pages / SMALL as u64;
    let all: Vec<Box<[u8]>> = (0..many).map(|_| vec![1; SMALL].into()).collect();
    all.into_iter().step_by(4096 / SMALL).collect()
}

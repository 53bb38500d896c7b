//! Mixed work of many tasks on twice as many points as fit the hot tier, and more callers than are admitted: the budget and the declared RAM hold,
//! what is refused is refused at once and told when to come back, what is admitted ends within its deadline, a closing in the midst of it
//! loses nothing, and nothing is left behind: no task, no thread, no file handle, no lock.
//!
//! `AETHER_SOAK_MINUTES` sets how long (0.2), `AETHER_SEED` the choices.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use aether::config::SearchMode;
use aether::{Config, Error, Memory, Metric, Parts, Point, PointId, SearchRequest};
use aether_testkit::model::Model;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

const DIM: usize = 64;
const WRITERS: u64 = 8;
const SEARCHERS: u64 = 12;
/// Points of a writer's largest batch.
const BATCH: u64 = 256;
const DEADLINE: Duration = Duration::from_millis(500);
const MIB: u64 = 1 << 20;
/// What the configuration below declares: hot tier, rows on their way, both caches, codes.
const DECLARED: u64 = (8 + 16 + 4 + 4 + 8) * MIB;
/// Beside that: stacks, buffers of requests under way, the event queue, this test's books, and what the C library keeps of freed blocks.
const BESIDE: u64 = 72 * MIB;

fn config(folder: &Path) -> Config {
    let text = format!(
        "[memory]\npath = {folder:?}\ndim = {DIM}\nmetric = \"l2\"\nhot_budget = \"8MiB\"\nworking_space = \"16MiB\"\n\
         insert_wait = \"50ms\"\nflush_every = \"1s\"\n[flux]\ntick = \"50ms\"\n\
         [search]\nconcurrent = 2\nqueue = 3\ndeadline = \"{}ms\"\ncache = \"4MiB\"\n[codes]\nram = \"4MiB\"\n\
         [compaction]\nsegment_bytes = \"2MiB\"\ngrace = \"1s\"\n[limits]\nwrite_queue = 2\nwrite_wait = \"1ms\"\n\
         [meta]\ncache = \"8MiB\"\n",
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

/// Times of one kind of call, in microseconds.
#[derive(Default)]
struct Times(Vec<u64>);

impl Times {
    fn add(&mut self, since: Instant) {
        self.0.push(since.elapsed().as_micros() as u64);
    }

    /// The share's quantile, in milliseconds.
    fn at(&mut self, share: f64) -> f64 {
        self.0.sort_unstable();
        let place = (self.0.len() as f64 * share) as usize;
        self.0
            .get(place.min(self.0.len().saturating_sub(1)))
            .copied()
            .unwrap_or(0) as f64
            / 1e3
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

/// Bytes of this process that are in RAM.
fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = pages.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// Looks at budget and RAM until told to stop; the most of both.
async fn watch(memory: Memory, stop: Arc<AtomicBool>, peak: Arc<AtomicU64>) -> u64 {
    let mut most = 0;
    while !stop.load(Relaxed) {
        let stats = memory.stats();
        assert!(stats.hot_bytes <= stats.budget_bytes, "{stats:#?}");
        most = most.max(stats.hot_bytes);
        peak.fetch_max(resident(), Relaxed);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    most
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

/// Opens, works, closes in the midst of it; what the memory must hold then. A short run is too short to be judged by its times. `hog` bytes are
/// taken beside it, and not declared.
async fn work(folder: &Path, minutes: f64, seed: u64, judged: bool, hog: u64) -> Vec<Book> {
    let before = resident();
    let hog = vec![1_u8; hog as usize];
    let memory = aether::open(config(folder)).await.unwrap();
    memory.upsert(vec![point(0, 0)]).await.unwrap();
    let ids = memory.stats().hot_capacity_rows * 2;
    let each = ids / WRITERS;
    let (stop, peak) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let watching = tokio::spawn(watch(memory.clone(), stop.clone(), peak.clone()));
    let writers: Vec<JoinHandle<Report>> = (0..WRITERS)
        .map(|w| tokio::spawn(write(memory.clone(), w * each..(w + 1) * each, seed ^ w)))
        .collect();
    let searchers: Vec<JoinHandle<Report>> = (0..SEARCHERS)
        .map(|s| tokio::spawn(search(memory.clone(), ids, seed ^ (100 + s))))
        .collect();
    let mover = tokio::spawn(shuffle(memory.clone(), ids, seed ^ 200));
    tokio::time::sleep(Duration::from_secs_f64(minutes * 60.0)).await;

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
            all.admitted.0.extend(one.admitted.0);
            all.refused.0.extend(one.refused.0);
        }
    }
    let moved = mover.await.unwrap();
    let hot = watching.await.unwrap();
    drop(std::hint::black_box(hog));
    let grown = peak.load(Relaxed).saturating_sub(before);
    println!(
        "{ids} ids, {} points: {} writes and {} searches done ({} cut short), {} and {} refused, {moved} rows moved by hand, \
         {} demoted, {} promoted, {} rewritten",
        stats.points,
        writes.done,
        searches.done,
        searches.partial,
        writes.refused.0.len(),
        searches.refused.0.len(),
        stats.counted.demoted,
        stats.counted.promoted,
        stats.counted.compactions,
    );
    for (name, report) in [("writes", &mut writes), ("searches", &mut searches)] {
        println!(
            "{name}: p50 {:.2} ms, p99 {:.2} ms; refused after p50 {:.3} ms, p99 {:.2} ms",
            report.admitted.at(0.5),
            report.admitted.at(0.99),
            report.refused.at(0.5),
            report.refused.at(0.99),
        );
    }
    println!(
        "hot bytes {hot} of {}, RAM grew by {:.1} MiB of {}",
        stats.budget_bytes,
        grown as f64 / MIB as f64,
        (DECLARED + BESIDE) / MIB
    );
    assert!(hot <= stats.budget_bytes, "hot bytes beyond the budget");
    assert!(grown <= DECLARED + BESIDE, "RAM beyond what is declared");
    if !judged {
        return books;
    }
    // The run must have been about something.
    assert!(writes.done > 50 && searches.done > 50 && moved > 0);
    assert!(!writes.refused.0.is_empty() && !searches.refused.0.is_empty());
    assert!(stats.counted.demoted > 0 && stats.cold_rows > 0);
    judge_times(&mut writes, &mut searches);
    books
}

fn judge_times(writes: &mut Report, searches: &mut Report) {
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
    let late = || {
        Times(
            (0..100)
                .map(|i| if i < 98 { 10 } else { 700_000 })
                .collect(),
        )
    };
    let slow = || Times(vec![30_000; 100]);
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
    judge_times(&mut Report::default(), &mut Report::default());
    let none = Report::default;
    for (mut writes, mut searches) in [
        (none(), with(late(), true)),
        (none(), with(late(), false)),
        (none(), with(slow(), false)),
        (with(late(), false), none()),
        (with(slow(), false), none()),
    ] {
        let judged = catch_unwind(AssertUnwindSafe(|| judge_times(&mut writes, &mut searches)));
        assert!(judged.is_err(), "a planted delay is not found");
    }
}

#[test]
fn twice_the_capacity_and_too_many_callers() {
    let number = |name: &str| std::env::var(name).ok().map(|v| v.parse::<f64>().unwrap());
    let minutes = number("AETHER_SOAK_MINUTES").unwrap_or(0.2);
    let seed = number("AETHER_SEED").map_or_else(|| fastrand::u64(..1 << 32), |s| s as u64);
    println!("AETHER_SEED={seed}");
    let folder = tempfile::tempdir().unwrap();
    let run = |minutes: f64, name: &str, judged: bool, hog: u64| {
        let path = folder.path().join(name);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(4)
            .enable_all()
            .build()
            .unwrap();
        // What a runtime opens for itself, and threads that libraries keep, are there now.
        let left = Left::of(&runtime);
        let books = runtime.block_on(work(&path, minutes, seed, judged, hog));
        left.and_no_more(Some(&runtime), SOON);
        drop(runtime);
        (path, books)
    };
    // What the process opens once and for all.
    run(0.02, "first", false, 0);
    let before = threads();
    let (path, books) = run(minutes, "memory", true, 0);
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
        let memory = aether::open(config(&path)).await.unwrap();
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
        let report = aether::check(&config(&path), registry).await.unwrap();
        assert!(report.is_clean(), "{report:#?}");
        assert_eq!((report.orphans, report.intents), (0, 0), "{report:#?}");
    });
    let hog = AssertUnwindSafe(|| run(0.02, "hog", false, DECLARED + BESIDE + 16 * MIB));
    let panic = catch_unwind(hog).expect_err("RAM that nobody declared is not found");
    assert_eq!(
        panic.downcast_ref::<&str>(),
        Some(&"RAM beyond what is declared")
    );
}

//! `aether bench mixed`: the hot index under searches, insertions and removals at once, for as long as one likes.
//!
//! Half of the base is put in. Then each thread does one thing after another: of four operations two are searches, one puts in a vector that
//! is not there, and one takes out a row drawn at random, so the number of rows stays as it is. Before that, and for comparison, the same threads
//! do nothing but search. After each interval all threads stand still for a moment while the queries are compared with an exact
//! search of the rows that are there.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use aether::Row;
use aether::role::{HotIndex, SearchOptions};
use serde::Serialize;

use super::measure::{Latencies, Recall};
use super::resident::Resident;
use super::search::Printer;
use super::{Data, Loaded};
use crate::cli::{Done, Failure, Outcome, output};

/// Rows put in at a time before anything is measured.
const FILL: usize = 1_000;
/// Queries whose answers are compared with an exact search.
const RECALL_QUERIES: usize = 200;

/// Options of `aether bench mixed`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    data: Data,
    /// Minutes of mixed operations
    #[arg(long, default_value_t = 1.0)]
    minutes: f64,
    /// Seconds between two lines
    #[arg(long, default_value_t = 10.0)]
    interval: f64,
    /// Breadth of the searches [default: the index's own]
    #[arg(long)]
    ef: Option<usize>,
}

/// One interval.
#[derive(Serialize)]
struct Line<'a> {
    bench: &'static str,
    index: &'a str,
    phase: Phase,
    /// Since the first operation of the phase.
    elapsed_s: f64,
    threads: usize,
    k: usize,
    rows: usize,
    recall: f64,
    qps: f64,
    p50_us: f64,
    p99_us: f64,
    writes_per_s: f64,
    insert_p99_us: f64,
    remove_p99_us: f64,
    ram_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    resident_bytes: Option<u64>,
}

/// How long operations took, by kind.
#[derive(Debug, Default)]
struct Took {
    searches: Latencies,
    inserts: Latencies,
    removals: Latencies,
}

impl Took {
    fn append(&mut self, other: Self) {
        self.searches.append(other.searches);
        self.inserts.append(other.inserts);
        self.removals.append(other.removals);
    }
}

/// What the threads share.
struct Bench<'a> {
    args: &'a Args,
    loaded: &'a Loaded,
    index: &'a dyn HotIndex,
    options: SearchOptions<'a>,
    next_row: AtomicU64,
    stop: AtomicBool,
    /// Held for each operation; all of it while recall is taken.
    pause: RwLock<()>,
    /// For each thread what it did since the last line.
    took: Vec<Mutex<Took>>,
}

/// The vectors that belong to one thread: every n-th of the base.
struct Share {
    rng: fastrand::Rng,
    /// Rows that are in the index, with their vectors' places in the base.
    live: Vec<(Row, usize)>,
    /// Places of vectors that are not.
    away: Vec<usize>,
}

/// What is kept of a line for the last one.
struct Seen {
    p99_us: f64,
    recall: f64,
    ram_bytes: u64,
}

pub(crate) async fn run(args: Args, json: bool) -> Done {
    let sane = 0.0..=24.0 * 60.0;
    if !sane.contains(&args.minutes) || !(0.1..=3_600.0).contains(&args.interval) {
        return Err(Failure::usage(
            "expected --minutes of 0 to 1440 and --interval of 0.1 to 3600 seconds",
        ));
    }
    let loaded = args.data.load()?;
    let least = 4 * args.data.threads.max(1);
    if loaded.base.rows() < least {
        let text = format!("--base: expected at least {least} rows, four for each thread");
        return Err(Failure::usage(text));
    }
    tokio::task::block_in_place(|| measure(&args, &loaded, json))
}

fn measure(args: &Args, loaded: &Loaded, json: bool) -> Done {
    let context = loaded.bare_context();
    let index = loaded.registry.hot(&loaded.config.hot, &context)?;
    let threads = args.data.threads.max(1);
    let bench = Bench {
        args,
        loaded,
        index: &*index,
        options: SearchOptions {
            ef: args.ef,
            ..SearchOptions::default()
        },
        next_row: AtomicU64::new(0),
        stop: AtomicBool::new(false),
        pause: RwLock::new(()),
        took: (0..threads).map(|_| Mutex::default()).collect(),
    };
    let mut shares = bench.fill(context.seed)?;
    let mut printer = Printer::new(json);
    let idle_s = args.interval.max(args.data.seconds);
    let idle = bench.phase(Phase::Idle, idle_s, &mut shares, &mut printer)?;
    let mixed = bench.phase(Phase::Mixed, args.minutes * 60.0, &mut shares, &mut printer)?;
    if !json {
        conclude(&idle, &mixed)?;
    }
    Ok(Outcome::Fine)
}

fn conclude(idle: &[Seen], mixed: &[Seen]) -> Done<()> {
    let (Some(idle), Some(first), Some(last)) = (idle.last(), mixed.first(), mixed.last()) else {
        return Ok(());
    };
    let worst = mixed.iter().map(|seen| seen.p99_us).fold(0.0, f64::max);
    let least = mixed.iter().map(|seen| seen.recall).fold(1.0, f64::min);
    output::line(format_args!(
        "\np99 of searches: {:.2} times idle in the worst interval; recall {:.4} idle, {least:.4} at the least; RAM {:.3} times that of the first interval",
        worst / idle.p99_us,
        idle.recall,
        last.ram_bytes as f64 / first.ram_bytes as f64
    ))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Phase {
    /// Searches only.
    Idle,
    /// Searches, insertions and removals.
    Mixed,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Bench<'_> {
    /// Puts half of each thread's vectors in.
    fn fill(&self, seed: u64) -> aether::Result<Vec<Share>> {
        let (threads, base) = (self.took.len(), &self.loaded.base);
        let mut shares: Vec<Share> = (0..threads)
            .map(|thread| Share {
                rng: fastrand::Rng::with_seed(seed ^ thread as u64),
                live: Vec::new(),
                away: (thread..base.rows()).step_by(threads).collect(),
            })
            .collect();
        for share in &mut shares {
            share.rng.shuffle(&mut share.away);
            let stay = share.away.split_off(share.away.len() / 2);
            for places in std::mem::replace(&mut share.away, stay).chunks(FILL) {
                let first = self
                    .next_row
                    .fetch_add(places.len() as u64, Ordering::Relaxed);
                let rows: Vec<Row> = (first..).take(places.len()).map(Row).collect();
                let vectors: Vec<f32> = places
                    .iter()
                    .flat_map(|at| base.row(*at).into_owned())
                    .collect();
                self.index.insert_batch(&rows, &vectors)?;
                share
                    .live
                    .extend(rows.into_iter().zip(places.iter().copied()));
            }
        }
        Ok(shares)
    }

    /// Lets every thread work for so long, and prints a line for each interval.
    fn phase(
        &self,
        phase: Phase,
        seconds: f64,
        shares: &mut [Share],
        printer: &mut Printer,
    ) -> Done<Vec<Seen>> {
        self.stop.store(false, Ordering::Release);
        std::thread::scope(|scope| {
            let shares = shares.iter_mut().zip(&self.took);
            let threads: Vec<_> = shares
                .map(|(share, took)| scope.spawn(move || self.work(phase, share, took)))
                .collect();
            let seen = self.watch(phase, Duration::from_secs_f64(seconds), printer);
            self.stop.store(true, Ordering::Release);
            for thread in threads {
                match thread.join() {
                    Ok(done) => done?,
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            seen
        })
    }

    fn watch(&self, phase: Phase, length: Duration, printer: &mut Printer) -> Done<Vec<Seen>> {
        let interval = Duration::from_secs_f64(self.args.interval);
        let (begun, mut last, mut seen) = (Instant::now(), Instant::now(), Vec::new());
        // A thread that fails stops the others.
        while begun.elapsed() < length && !self.stop.load(Ordering::Acquire) {
            std::thread::sleep(interval.min(length.saturating_sub(begun.elapsed())));
            let _pause = self.pause.write().unwrap_or_else(PoisonError::into_inner);
            let line = self.line(phase, begun, last)?;
            printer.print(&line)?;
            seen.push(Seen {
                p99_us: line.p99_us,
                recall: line.recall,
                ram_bytes: line.ram_bytes,
            });
            last = Instant::now();
        }
        Ok(seen)
    }

    /// Sums up what was done since `last`. Nothing runs beside.
    fn line(&self, phase: Phase, begun: Instant, last: Instant) -> Done<Line<'_>> {
        let seconds = last.elapsed().as_secs_f64();
        let mut took = Took::default();
        for thread in &self.took {
            took.append(std::mem::take(&mut *locked(thread)));
        }
        let writes = took.inserts.len() + took.removals.len();
        Ok(Line {
            bench: "mixed",
            index: &self.loaded.config.hot.backend,
            phase,
            elapsed_s: begun.elapsed().as_secs_f64(),
            threads: self.took.len(),
            k: self.args.data.k,
            rows: self.index.len(),
            recall: self.recall()?,
            qps: took.searches.len() as f64 / seconds,
            p50_us: took.searches.percentile_us(0.50),
            p99_us: took.searches.percentile_us(0.99),
            writes_per_s: writes as f64 / seconds,
            insert_p99_us: took.inserts.percentile_us(0.99),
            remove_p99_us: took.removals.percentile_us(0.99),
            ram_bytes: self.index.bytes(),
            resident_bytes: Resident::read().map(|resident| resident.now_bytes),
        })
    }

    /// Share of the exact answers that searches find among the rows that are there now.
    fn recall(&self) -> aether::Result<f64> {
        let exact = SearchOptions {
            exact: true,
            ..self.options
        };
        let (mut recall, k) = (Recall::default(), self.args.data.k);
        for query in self.loaded.queries.iter().take(RECALL_QUERIES) {
            let truth = self.index.search(query, k, &exact)?;
            recall.count(&truth, &self.index.search(query, k, &self.options)?);
        }
        Ok(recall.share())
    }

    fn work(&self, phase: Phase, share: &mut Share, took: &Mutex<Took>) -> aether::Result<()> {
        let mut turn = 0usize;
        while !self.stop.load(Ordering::Acquire) {
            let _going = self.pause.read().unwrap_or_else(PoisonError::into_inner);
            let writes = phase == Phase::Mixed;
            let done = match turn % 4 {
                1 if writes => self.insert(share, took),
                3 if writes => self.remove(share, took),
                _ => self.search(share, took),
            };
            done.inspect_err(|_| self.stop.store(true, Ordering::Release))?;
            turn += 1;
        }
        Ok(())
    }

    fn search(&self, share: &mut Share, took: &Mutex<Took>) -> aether::Result<()> {
        let queries = &self.loaded.queries;
        let query = queries.row(share.rng.usize(..queries.rows()));
        let begun = Instant::now();
        self.index.search(query, self.args.data.k, &self.options)?;
        locked(took).searches.push(begun.elapsed());
        Ok(())
    }

    fn insert(&self, share: &mut Share, took: &Mutex<Took>) -> aether::Result<()> {
        let at = share.away.swap_remove(share.rng.usize(..share.away.len()));
        let row = Row(self.next_row.fetch_add(1, Ordering::Relaxed));
        let vector = self.loaded.base.row(at);
        let begun = Instant::now();
        self.index.insert(row, &vector)?;
        locked(took).inserts.push(begun.elapsed());
        share.live.push((row, at));
        Ok(())
    }

    fn remove(&self, share: &mut Share, took: &Mutex<Took>) -> aether::Result<()> {
        let (row, at) = share.live.swap_remove(share.rng.usize(..share.live.len()));
        let begun = Instant::now();
        self.index.remove(row)?;
        locked(took).removals.push(begun.elapsed());
        share.away.push(at);
        Ok(())
    }
}

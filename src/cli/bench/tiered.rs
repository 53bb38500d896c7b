//! `aether bench tiered`: a share in RAM, the rest in the cold store.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Instant;

use aether::config::{ByteSize, SearchMode, Span};
use aether::layer::{Dollars, Ledger};
use aether::{Config, Memory, Point, PointId, SearchRequest};
use serde::Serialize;

use super::measure::Query;
use super::page_cache::PageCache;
use super::resident::Resident;
use super::search::{Printer, ample, id_number, measure};
use super::sweep::{Setting, combinations};
use super::{Data, Loaded, Summary, in_ram};
use crate::cli::{Done, Failure, Outcome, output};

/// Options of `aether bench tiered`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    data: Data,
    /// RAM of the hot tier: a share of what all rows would take, as 10%, or a size, as 64MiB
    #[arg(long, default_value = "10%")]
    hot: Hot,
    /// How far to go: hot-only, bounded or complete; repeated, or all of them [default: all]
    #[arg(long, value_parser = crate::cli::search::mode)]
    mode: Vec<SearchMode>,
    /// Measure with the segments as they were written, instead of merging them first as the background does in time
    #[arg(long)]
    unmerged: bool,
    /// Longest time a write waits for room in RAM before it lands cold, as for `aether import`
    #[arg(long, value_name = "DURATION", default_value = "0s")]
    wait: Span,
    /// Close the memory before the measurement and open it again, and tell how long that takes to the first answer
    #[arg(long)]
    reopen: bool,
    /// Replace every row so often before the measurement, with the scheduler at work beside, and wait until it has nothing left to do
    #[arg(long, value_name = "TIMES", default_value_t = 0)]
    turnovers: u32,
    /// Measure the memory that is in --dir, which holds the rows of these data, and write nothing. Other settings may lead to the same
    /// store, as cold.backend="simulated-s3" around the "file" that it was written to
    #[arg(long, requires = "dir", conflicts_with_all = ["turnovers", "reopen"])]
    existing: bool,
    /// Measure without a pass before that warms caches
    #[arg(long)]
    no_warm_up: bool,
    /// Before each query let the kernel forget what it holds of the memory's files, so that reads come from the disk; queries a second then
    /// count that time too, p50_us and p99_us do not. What the memory itself keeps stays: search.cache="1B" keeps no blocks. Linux only
    #[arg(long)]
    drop_cache: bool,
}

/// Turns in a row without anything to do after which the scheduler is at rest.
const QUIET_TURNS: u32 = 20;

/// How much may be in RAM.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Hot {
    Share(f64),
    Bytes(ByteSize),
}

impl std::str::FromStr for Hot {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let share = text
            .trim()
            .strip_suffix('%')
            .map(|n| n.trim().parse::<f64>());
        match share {
            Some(Ok(percent)) if percent > 0.0 && percent <= 100.0 => {
                Ok(Self::Share(percent / 100.0))
            }
            Some(_) => Err(format!(
                "expected a share above 0% and up to 100%, got {text:?}"
            )),
            None => text.parse().map(Self::Bytes),
        }
    }
}

/// One measured setting.
#[derive(Serialize)]
struct Line<'a> {
    bench: &'static str,
    index: &'a str,
    mode: SearchMode,
    #[serde(flatten)]
    setting: Setting,
    k: usize,
    threads: usize,
    rows: usize,
    dim: usize,
    metric: aether::Metric,
    #[serde(flatten)]
    summary: Summary,
    build_s: f64,
    /// Time of merging the segments after that; 0 where they were left as they were.
    compact_s: f64,
    turnovers: u32,
    /// Time from opening what was written to its first answer, with `--reopen` and `--existing`.
    #[serde(skip_serializing_if = "Option::is_none")]
    reopen_s: Option<f64>,
    budget_bytes: u64,
    hot_rows: u64,
    cold_rows: u64,
    ram_bytes: u64,
    ram_parts: BTreeMap<String, u64>,
    cold_bytes: u64,
    /// Requests to the cold store during the measurement.
    cold_requests: u64,
    cold_read_bytes: u64,
    /// Requests of a query, and rounds of them that depend on one another, as the answers tell them.
    requests_p50: u64,
    requests_max: u64,
    rounds_max: u32,
    cache_hits: u64,
    cache_misses: u64,
    partitions: u64,
    segments: u64,
    /// Bytes put into the cold store over bytes that went cold.
    write_amplification: Option<f64>,
    /// Requests as the store counts them, and their price for a thousand queries by `[remote]`.
    store_requests: u64,
    dollars_per_thousand: f64,
    /// Cold rows estimated by their codes, and compared exactly, in the measurement; mean of a query.
    rows_estimated: f64,
    rows_compared: f64,
    /// Bounded searches' recall as the memory itself measures it.
    recall_measured: Option<f64>,
    #[serde(flatten)]
    ram: Ram,
}

/// RAM as the kernel counts it, beside what the settings allow.
#[derive(Clone, Copy, Serialize)]
struct Ram {
    /// Hot budget, block cache, working space, and what the cold tier's index and codes take now. The metadata store's cache is its own.
    allowed_bytes: u64,
    /// Of it, the space for rows on their way.
    working_bytes: u64,
    /// Most that was resident since the memory was opened, the data set of the measurement included (`VmHWM`).
    peak_resident_bytes: Option<u64>,
    /// The same while rows were written, while segments were merged, and since.
    peak_build_bytes: Option<u64>,
    peak_compact_bytes: Option<u64>,
    peak_search_bytes: Option<u64>,
    /// What was resident before it was opened: the data set, its truth and the program.
    resident_before_bytes: Option<u64>,
    /// Plain bytes of all vectors.
    raw_bytes: u64,
}

pub(crate) async fn run(args: Args, json: bool) -> Done {
    let data = &args.data;
    let loaded = data.load()?;
    let mut config = loaded.config.clone();
    let temporary =
        tempfile::tempdir().map_err(|e| crate::cli::io_failure("make a temporary folder", e))?;
    if data.settings.dir.is_none() {
        config.memory.path = temporary.path().join("memory");
    }
    config.search.concurrent = config.search.concurrent.max(data.threads);
    config.memory.hot_budget = match args.hot {
        Hot::Bytes(bytes) => bytes,
        Hot::Share(share) => {
            let rows = ((loaded.base.rows() as f64 * share) as usize).max(1);
            let base = loaded.base.clone();
            let points = (0..rows)
                .map(move |r| Ok(Point::new(PointId::Int(r as u64), base.row(r).into_owned())));
            let budget = budget_for(&loaded, points).await?;
            output::note(format_args!(
                "{rows} rows took {} in RAM when they were tried out: that is the budget",
                output::bytes(budget)
            ));
            ByteSize(budget)
        }
    };
    config.validate()?;
    config.memory.insert_wait = args.wait;
    let before = Resident::read().filter(|_| Resident::reset_peak());
    let (mut build_s, mut compact_s, mut reopen_s) = (0.0, 0.0, None);
    let (mut peak_build, mut peak_compact, mut amplification) = (None, None, None);
    if args.turnovers > 0 {
        (build_s, amplification) = turn_over(&config, &loaded, args.turnovers).await?;
        peak_build = Resident::take_peak();
    }
    let opened = Instant::now();
    let mut memory = super::open(config.clone(), &loaded.registry).await?;
    if args.existing {
        first_answer(&memory, &loaded, data.k).await?;
        reopen_s = Some(opened.elapsed().as_secs_f64());
        expect_rows(&memory, loaded.base.rows())?;
    } else {
        if args.turnovers == 0 {
            build_s = loaded.fill(&memory).await?;
            calm(&memory).await?;
            peak_build = Resident::take_peak();
        }
        let started = Instant::now();
        if !args.unmerged {
            memory.compact().await?;
        }
        compact_s = started.elapsed().as_secs_f64();
        peak_compact = Resident::take_peak();
    }
    if args.reopen {
        memory.close().await?;
        drop(memory);
        let started = Instant::now();
        memory = super::open(config, &loaded.registry).await?;
        first_answer(&memory, &loaded, data.k).await?;
        reopen_s = Some(started.elapsed().as_secs_f64());
    }
    let modes = if args.mode.is_empty() {
        SearchMode::ALL.to_vec()
    } else {
        args.mode.clone()
    };
    let dropped = (args.drop_cache)
        .then(|| PageCache::of(&memory.config().memory.path))
        .transpose()?;
    let handle = tokio::runtime::Handle::current();
    let mut printer = Printer::new(json);
    for mode in modes {
        for setting in combinations(&data.sweep) {
            // What does not matter to a mode is measured once.
            if mode != SearchMode::Bounded && setting.probe != combinations(&data.sweep)[0].probe {
                continue;
            }
            let asked = Mutex::new(Vec::new());
            let query = |q: usize| {
                let mut request = SearchRequest::new(loaded.queries.row(q).to_vec(), data.k)
                    .mode(mode)
                    .untouched();
                request.ef = setting.ef;
                request.probe = setting.probe.filter(|_| mode == SearchMode::Bounded);
                let answer = handle.block_on(memory.search(request))?;
                if !answer.coverage.is_whole() {
                    let cuts = format!("{:?}", answer.coverage.cuts);
                    return Err(aether::Error::unavailable(format!(
                        "query {q}: an answer was cut short: {cuts}"
                    )));
                }
                let coverage = &answer.coverage;
                let mut asked = asked
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner);
                asked.push((coverage.requests, coverage.rounds));
                Ok(answer.hits.iter().map(|h| id_number(&h.id)).collect())
            };
            let query = Asked {
                query,
                before: dropped.as_ref(),
            };
            let start = memory.stats();
            let warm_up = !args.no_warm_up;
            let summary = tokio::task::block_in_place(|| {
                measure(data, &loaded, setting.threads, warm_up, &query)
            })?;
            let asked = asked
                .into_inner()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            let mut requests: Vec<u64> = asked.iter().map(|(requests, _)| *requests).collect();
            requests.sort_unstable();
            let after = memory.stats();
            let peak_search = Resident::read().map(|r| r.peak_bytes);
            let (then, now) = (&start.counted, &after.counted);
            let used = after.remote.ledger.usage - start.remote.ledger.usage;
            let searches = now.searches - then.searches;
            let ledger = Ledger {
                usage: used,
                searches,
                ..Ledger::default()
            };
            let priced = Dollars::of(&memory.config().remote, &ledger, 0, 0);
            let per_search = |n: u64| n as f64 / searches.max(1) as f64;
            printer.print(&Line {
                bench: "tiered",
                index: &memory.config().hot.backend,
                mode,
                setting: Setting {
                    probe: setting.probe.filter(|_| mode == SearchMode::Bounded),
                    ..setting
                },
                k: data.k,
                threads: data.threads,
                rows: loaded.base.rows(),
                dim: loaded.base.dim(),
                metric: memory.metric(),
                summary,
                build_s,
                compact_s,
                turnovers: args.turnovers,
                reopen_s,
                budget_bytes: after.budget_bytes,
                hot_rows: after.hot_rows,
                cold_rows: after.points.saturating_sub(after.hot_rows),
                ram_bytes: after.hot_bytes
                    + after.cold_index_bytes
                    + after.codes_bytes
                    + after.cache_bytes,
                ram_parts: parts(&after),
                cold_bytes: after.cold_bytes,
                cold_requests: now.cold_requests - then.cold_requests,
                cold_read_bytes: now.cold_read_bytes - then.cold_read_bytes,
                requests_p50: requests.get(requests.len() / 2).copied().unwrap_or(0),
                requests_max: requests.last().copied().unwrap_or(0),
                rounds_max: asked.iter().map(|(_, rounds)| *rounds).max().unwrap_or(0),
                cache_hits: now.cache_hits - then.cache_hits,
                cache_misses: now.cache_misses - then.cache_misses,
                partitions: after.partitions,
                segments: after.segments,
                write_amplification: amplification.or(after.write_amplification()),
                store_requests: used.gets + used.heads,
                dollars_per_thousand: priced.per_thousand_queries.unwrap_or_default(),
                ram: Ram {
                    allowed_bytes: after.budget_bytes
                        + memory.config().search.cache.0
                        + memory.config().memory.working_space.0
                        + after.cold_index_bytes
                        + after.codes_bytes,
                    working_bytes: memory.config().memory.working_space.0,
                    peak_resident_bytes: peak_search.max(peak_build).max(peak_compact),
                    peak_build_bytes: peak_build,
                    peak_compact_bytes: peak_compact,
                    peak_search_bytes: peak_search,
                    resident_before_bytes: before.map(|r| r.now_bytes),
                    raw_bytes: (loaded.base.rows() * loaded.base.dim() * 4) as u64,
                },
                rows_estimated: per_search(now.rows_estimated - then.rows_estimated),
                rows_compared: per_search(now.rows_compared - then.rows_compared),
                recall_measured: after.recall,
            })?;
        }
    }
    memory.close().await?;
    Ok(Outcome::Fine)
}

/// A query with what comes before it.
struct Asked<'a, F> {
    query: F,
    before: Option<&'a PageCache>,
}

impl<F: Fn(usize) -> aether::Result<Vec<u64>> + Sync> Query for Asked<'_, F> {
    fn prepare(&self) -> aether::Result<()> {
        self.before.map_or(Ok(()), PageCache::forget)
    }

    fn run(&self, query: usize) -> aether::Result<Vec<u64>> {
        (self.query)(query)
    }
}

async fn first_answer(memory: &Memory, loaded: &Loaded, k: usize) -> Done<()> {
    let request = SearchRequest::new(loaded.queries.row(0).to_vec(), k);
    memory.search(request.untouched()).await?;
    Ok(())
}

fn expect_rows(memory: &Memory, rows: usize) -> Done<()> {
    let points = memory.stats().points;
    if points == rows as u64 {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "--existing: expected a memory of the {rows} rows of these data, as `aether bench tiered --dir DIR` leaves it, got one of {points} points"
    )))
}

/// Writes all rows and then replaces all of them, so many times, while the scheduler moves and merges at its own pace; comes back when it
/// is at rest. Answers the seconds, and the write amplification.
async fn turn_over(config: &Config, loaded: &Loaded, times: u32) -> Done<(f64, Option<f64>)> {
    let mut config = config.clone();
    config.flux.tick = Config::default().flux.tick;
    let started = Instant::now();
    let memory = super::open(config, &loaded.registry).await?;
    for _ in 0..=times {
        loaded.fill(&memory).await?;
    }
    let mut quiet = 0;
    while quiet < QUIET_TURNS {
        let turn = memory.tick().await?;
        let rests = turn.demoted + turn.promoted + turn.compacted == 0;
        quiet = if rests { quiet + 1 } else { 0 };
        if rests {
            tokio::time::sleep(memory.config().flux.tick.0).await;
        }
    }
    let amplification = memory.stats().write_amplification();
    memory.close().await?;
    Ok((started.elapsed().as_secs_f64(), amplification))
}

/// RAM by part, the cold tier's share included.
fn parts(stats: &aether::Stats) -> BTreeMap<String, u64> {
    let mut parts = stats.hot_parts.clone();
    parts.insert("cold index".to_owned(), stats.cold_index_bytes);
    parts.insert("codes".to_owned(), stats.codes_bytes);
    parts.insert("cache".to_owned(), stats.cache_bytes);
    parts
}

async fn budget_for<S>(loaded: &Loaded, points: S) -> Done<u64>
where
    S: Iterator<Item = aether::Result<Point>> + Send + 'static,
{
    let mut config = in_ram(&loaded.config);
    config.memory.hot_budget = ample(&loaded.base);
    measured_budget(config, &loaded.registry, points).await
}

/// Bytes that points take in the hot tier, found by putting them into one: the answer for any index, since the index is asked.
pub(crate) async fn measured_budget<S>(
    config: Config,
    registry: &std::sync::Arc<aether::Registry>,
    points: S,
) -> Done<u64>
where
    S: Iterator<Item = aether::Result<Point>> + Send + 'static,
{
    let probe = super::open(config, registry).await?;
    crate::cli::import::feed(&probe, points, 1000, |_, _| ()).await?;
    let stats = probe.stats();
    probe.close().await?;
    if stats.hot_rows < stats.points {
        return Err(Failure::Failed(aether::Error::internal(
            "a memory with ample room sent rows away",
        )));
    }
    Ok(stats.hot_bytes.max(1 << 16))
}

/// Turns of the scheduler by hand until nothing moves any more.
pub(crate) async fn calm(memory: &Memory) -> Done<()> {
    for _ in 0..1000 {
        let turn = memory.tick().await?;
        if turn.demoted == 0 && turn.promoted == 0 {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ram_is_a_share_or_a_size() {
        assert_eq!("10%".parse(), Ok(Hot::Share(0.1)));
        assert_eq!("64MiB".parse(), Ok(Hot::Bytes(ByteSize(64 << 20))));
        for bad in ["0%", "101%", "x%", "12", ""] {
            assert!(bad.parse::<Hot>().is_err(), "{bad}");
        }
    }
}

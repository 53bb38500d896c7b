//! `aether bench search`: everything in RAM.

use std::collections::BTreeMap;
use std::time::Instant;

use aether::config::{ByteSize, SearchMode};
use aether::role::{HotChoice, HotIndex, SearchOptions, SearchTally, SearchWork, WORK_LEVELS};
use aether::{Error, PointId, Row, SearchRequest};
use serde::Serialize;

use super::base::Base;
use super::measure::Query;
use super::sweep::{Setting, combinations};
use super::{Data, Loaded, Summary, run_queries, run_queries_unwarmed};
use crate::cli::{Done, Outcome, output};

/// Options of `aether bench search`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    data: Data,
    /// Measure the hot index alone, without a memory around it
    #[arg(long)]
    bare: bool,
}

/// One measured setting.
#[derive(Serialize)]
struct Line<'a> {
    bench: &'static str,
    index: &'a str,
    /// What the index chose by itself.
    choice: Option<HotChoice>,
    bare: bool,
    #[serde(flatten)]
    setting: Setting,
    k: usize,
    threads: usize,
    rows: usize,
    dim: usize,
    metric: aether::Metric,
    #[serde(flatten)]
    summary: Summary,
    #[serde(flatten)]
    work: PerSearch,
    build_s: f64,
    ram_bytes: u64,
    ram_parts: BTreeMap<String, u64>,
    cold_bytes: u64,
    cold_requests: u64,
}

/// What a search did in the hot index, mean over queries.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct PerSearch {
    /// Rows whose links were followed, by level.
    hops_by_level: [f64; WORK_LEVELS],
    /// The same on all levels.
    hops: f64,
    /// Distances estimated from codes.
    estimated: f64,
    /// Distances computed from vectors, in scans too.
    compared: f64,
    /// Bytes of links, codes and vectors looked at.
    touched_bytes: f64,
}

impl PerSearch {
    fn new(work: &SearchWork, searches: usize) -> Self {
        let mean = |n: u64| n as f64 / searches.max(1) as f64;
        let hops_by_level = work.hops.map(mean);
        Self {
            hops_by_level,
            hops: hops_by_level.iter().sum(),
            estimated: mean(work.estimated),
            compared: mean(work.compared + work.scanned),
            touched_bytes: mean(work.bytes()),
        }
    }
}

pub(crate) async fn run(args: Args, json: bool) -> Done {
    let loaded = args.data.load()?;
    if args.bare {
        bare(&args.data, &loaded, json).await
    } else {
        whole(&args.data, loaded, json).await
    }
}

/// Room for everything, whatever the index adds: a budget is a limit, not a reservation.
pub(super) fn ample(base: &Base) -> ByteSize {
    ByteSize((base.rows() * base.dim()) as u64 * 16 + (1 << 30))
}

async fn whole(data: &Data, loaded: Loaded, json: bool) -> Done {
    let mut config = if data.settings.file().is_some() || !data.settings.set.is_empty() {
        loaded.config.clone()
    } else {
        loaded.in_ram()
    };
    // Measurements leave no memory behind unless they are given a folder.
    let temporary =
        tempfile::tempdir().map_err(|e| crate::cli::io_failure("make a temporary folder", e))?;
    if data.settings.dir.is_none() {
        config.memory.path = temporary.path().join("memory");
    }
    config.memory.hot_budget = ample(&loaded.base);
    let swept = combinations(&data.sweep)
        .into_iter()
        .filter_map(|s| s.threads)
        .max();
    let most = swept.unwrap_or(data.threads);
    config.search.concurrent = config.search.concurrent.max(most);
    let memory = super::open(config, &loaded.registry).await?;
    let build_s = loaded.fill(&memory).await?;
    let stats = memory.stats();
    if stats.cold_rows > 0 || stats.hot_rows != loaded.base.rows() as u64 {
        let (hot, cold, rows) = (stats.hot_rows, stats.cold_rows, loaded.base.rows());
        return Err(Error::internal(format!(
            "expected all {rows} rows in RAM, got {hot} hot and {cold} cold"
        ))
        .into());
    }
    let handle = tokio::runtime::Handle::current();
    let mut printer = Printer::new(json);
    for setting in combinations(&data.sweep) {
        let query = |q: usize| {
            let mut request = SearchRequest::new(loaded.queries.row(q).to_vec(), data.k)
                .mode(SearchMode::HotOnly)
                .untouched();
            request.ef = setting.ef;
            let answer = handle.block_on(memory.search(request))?;
            Ok(answer.hits.iter().map(|h| id_number(&h.id)).collect())
        };
        let before = memory.stats();
        let summary =
            tokio::task::block_in_place(|| measure(data, &loaded, setting.threads, true, &query))?;
        let after = memory.stats();
        printer.print(&Line {
            bench: "search",
            index: &memory.config().hot.backend,
            choice: after.hot_choice.clone(),
            bare: false,
            setting,
            k: data.k,
            threads: setting.threads.unwrap_or(data.threads),
            rows: loaded.base.rows(),
            dim: loaded.base.dim(),
            metric: memory.metric(),
            // A first pass warms caches; its searches are the same.
            work: PerSearch::new(
                &after.hot_work.since(&before.hot_work),
                (after.counted.searches - before.counted.searches) as usize,
            ),
            summary,
            build_s,
            ram_bytes: after.hot_bytes,
            ram_parts: after.hot_parts.clone(),
            cold_bytes: after.cold_bytes,
            cold_requests: after.counted.cold_requests - before.counted.cold_requests,
        })?;
    }
    memory.close().await?;
    Ok(Outcome::Fine)
}

/// The number that an imported row has as its id.
pub(super) fn id_number(id: &PointId) -> u64 {
    match id {
        PointId::Int(n) => *n,
        PointId::Uuid(_) | PointId::Text(_) => u64::MAX,
    }
}

pub(super) fn measure(
    data: &Data,
    loaded: &Loaded,
    threads: Option<usize>,
    warm_up: bool,
    query: &impl Query,
) -> Done<Summary> {
    let recall = |q: usize, found: &[u64]| loaded.truth.recall(q, data.k, found);
    let (queries, seconds) = (loaded.queries.rows(), data.seconds);
    let threads = threads.unwrap_or(data.threads);
    match warm_up {
        true => run_queries(queries, threads, seconds, query, recall),
        false => run_queries_unwarmed(queries, threads, seconds, query, recall),
    }
}

async fn bare(data: &Data, loaded: &Loaded, json: bool) -> Done {
    let context = loaded.bare_context();
    let index = loaded.registry.hot(&loaded.config.hot, &context)?;
    let started = Instant::now();
    tokio::task::block_in_place(|| insert(&*index, &loaded.base))?;
    let build_s = started.elapsed().as_secs_f64();
    let mut printer = Printer::new(json);
    for setting in combinations(&data.sweep) {
        let options = SearchOptions {
            ef: setting.ef,
            ..SearchOptions::default()
        };
        let query = |q: usize| {
            let found = index.search(loaded.queries.row(q), data.k, &options)?;
            Ok(found.iter().map(|n| n.row.0).collect())
        };
        let summary =
            tokio::task::block_in_place(|| measure(data, loaded, setting.threads, true, &query))?;
        printer.print(&Line {
            bench: "search",
            index: &loaded.config.hot.backend,
            choice: index.stats().choice,
            bare: true,
            setting,
            k: data.k,
            threads: setting.threads.unwrap_or(data.threads),
            rows: loaded.base.rows(),
            dim: loaded.base.dim(),
            metric: context.metric,
            work: count(&*index, loaded, data.k, &options)?,
            summary,
            build_s,
            ram_bytes: index.bytes(),
            ram_parts: index
                .stats()
                .parts
                .iter()
                .map(|(name, n)| ((*name).to_owned(), *n))
                .collect(),
            cold_bytes: 0,
            cold_requests: 0,
        })?;
    }
    Ok(Outcome::Fine)
}

/// Searches for each query once more, to count what is done for it.
fn count(
    index: &dyn HotIndex,
    loaded: &Loaded,
    k: usize,
    options: &SearchOptions<'_>,
) -> aether::Result<PerSearch> {
    let tally = SearchTally::default();
    let options = SearchOptions {
        tally: Some(&tally),
        ..*options
    };
    for query in loaded.queries.iter() {
        index.search(query, k, &options)?;
    }
    Ok(PerSearch::new(&tally.read(), loaded.queries.rows()))
}

/// Puts every row of the base into an index.
pub(crate) fn insert(index: &dyn HotIndex, base: &Base) -> aether::Result<()> {
    let rows: Vec<Row> = (0..base.rows() as u64).map(Row).collect();
    for (some, first) in rows.chunks(1000).zip((0..).step_by(1000)) {
        let vectors: Vec<f32> = (first..first + some.len())
            .flat_map(|r| base.row(r).into_owned())
            .collect();
        index.insert_batch(some, &vectors)?;
    }
    Ok(())
}

/// One JSON object a line, or the rows of a table.
pub(super) struct Printer {
    json: bool,
    head: bool,
}

/// Columns that people look at, in this order; what a line lacks is left out.
const COLUMNS: [&str; 31] = [
    "phase",
    "elapsed_s",
    "share",
    "accepted",
    "ef",
    "probe",
    "mode",
    "threads",
    "recall",
    "fresh_recall",
    "qps",
    "fresh_qps",
    "p50_us",
    "p99_us",
    "writes_per_s",
    "insert_p99_us",
    "remove_p99_us",
    "hops",
    "estimated",
    "compared",
    "touched_bytes",
    "fresh_touched_bytes",
    "build_s",
    "ram_bytes",
    "fresh_ram_bytes",
    "resident_bytes",
    "allowed_bytes",
    "peak_resident_bytes",
    "cold_bytes",
    "cold_requests",
    "searches",
];

impl Printer {
    pub(super) fn new(json: bool) -> Self {
        Self { json, head: false }
    }

    pub(super) fn print(&mut self, line: &impl Serialize) -> Done<()> {
        if self.json {
            return output::json(line);
        }
        let value = serde_json::to_value(line)
            .map_err(|e| Error::internal("a result without a JSON form").with_source(e))?;
        let width = |column: &str| column.len().max(12) + 1;
        let present: Vec<&&str> = COLUMNS
            .iter()
            .filter(|c| value.get(**c).is_some())
            .collect();
        if !std::mem::replace(&mut self.head, true) {
            output::line(
                present
                    .iter()
                    .map(|c| format!("{:>1$}", c, width(c)))
                    .collect::<String>(),
            )?;
        }
        let cell = |c: &&&str| match &value[**c] {
            serde_json::Value::Number(n) if n.is_f64() => {
                format!("{:>1$.4}", n.as_f64().unwrap_or_default(), width(c))
            }
            serde_json::Value::String(s) => format!("{:>1$}", s, width(c)),
            other => format!("{:>1$}", other.to_string(), width(c)),
        };
        output::line(present.iter().map(cell).collect::<String>())
    }
}

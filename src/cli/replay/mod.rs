//! `aether replay`: policies judged on recorded accesses, through the trait that a memory uses.

mod report;
mod semantic;

use std::io::IsTerminal;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use aether::config::Span;
use aether::replay::{CacheSize, Cell, Choice, Plan, Trace, TraceFormat, TraceOptions};
use indicatif::{ProgressBar, ProgressStyle};

use super::{Done, Failure, Outcome, output};

/// Options of `aether replay`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A trace: .csv or .oracleGeneral, plain or .zst, or a memory's recording; may be given several times
    #[arg(
        long = "trace",
        value_name = "FILE",
        required_unless_present = "semantic"
    )]
    traces: Vec<PathBuf>,
    /// Policies, as lru,flux:history=2,belady; the limits are belady and belady-size
    #[arg(long, value_name = "LIST", default_value = "flux,lru,belady")]
    policy: String,
    /// Cache sizes: shares such as 0.1% of the keys, or numbers of rows
    #[arg(long, value_name = "LIST", default_value = "0.1%,1%,10%")]
    cache: String,
    /// Cache sizes are shares of the working set in bytes, or sizes such as 64MiB, and a row weighs its bytes
    #[arg(long)]
    bytes: bool,
    /// Write a page with miss-ratio curves and a table
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// What the traces are, whatever their names: csv, oracle-general or recording
    #[arg(long)]
    format: Option<TraceFormat>,
    /// At most so many requests of each trace
    #[arg(long, value_name = "N", default_value_t = u64::MAX, hide_default_value = true)]
    limit: u64,
    /// What one step of the traces' clocks lasts, where they do not say; policies that decay see it
    #[arg(long, value_name = "DURATION", default_value = "1s")]
    time_unit: Span,
    /// Requests of equal time are one retrieval: show each policy with and without that signal
    #[arg(long)]
    retrievals: bool,
    /// Seed of the policies' random draws
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Replays at a time; all cores by default. More than one slow each other down: take 1 to compare times
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    #[command(flatten)]
    semantic: semantic::Workload,
}

pub(crate) fn run(args: &Args, json: bool) -> Done {
    let registry = Arc::new(aether::registry()?);
    let unit_us = u64::try_from(args.time_unit.0.as_micros()).unwrap_or(u64::MAX);
    if unit_us == 0 {
        return Err(Failure::usage("--time-unit: expected at least 1us"));
    }
    let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let plan = Plan {
        policies: Choice::list(&args.policy)?,
        sizes: sizes(&args.cache)?,
        by_bytes: args.bytes,
        unit_us,
        retrievals: args.retrievals,
        seed: args.seed,
        threads: args.threads.unwrap_or(cores),
    };
    plan.check(&registry)?;
    if let Some(path) = &args.report {
        report::check(path)?;
    }
    let options = TraceOptions {
        format: args.format,
        limit: args.limit,
        ..TraceOptions::default()
    };
    let mut cells: Vec<Cell> = Vec::new();
    let mut replay = |plan: &Plan, trace: &Trace| -> Done<()> {
        let bar = Bar::new(&format!("replaying {}", trace.name()), plan.work(trace));
        let found = plan.run(&registry, trace, &|n| bar.add(n));
        bar.finish();
        let found = found?;
        if json {
            found.iter().try_for_each(output::json)?;
        }
        cells.extend(found);
        Ok(())
    };
    for path in &args.traces {
        let mut reading = output::Progress::new(format!("reading {}", path.display()), None);
        let trace = Trace::read(path, &options, &mut |n| reading.add(n))?;
        reading.finish();
        tell(&trace);
        replay(&plan, &trace)?;
    }
    for path in args.semantic.files() {
        let trace = args.semantic.workload(path, args.seed)?;
        tell(&trace);
        let told = Plan {
            retrievals: true,
            ..plan.clone()
        };
        replay(&told, &trace)?;
    }
    if !json {
        print(&cells)?;
    }
    if let Some(path) = &args.report {
        report::write(path, &cells, args.bytes)?;
        output::note(format_args!("report: {}", path.display()));
    }
    Ok(Outcome::Fine)
}

fn sizes(list: &str) -> Done<Vec<CacheSize>> {
    list.split(',')
        .map(|text| text.trim().parse().map_err(Failure::Usage))
        .collect()
}

fn tell(trace: &Trace) {
    output::note(format_args!(
        "{}: {} requests of {} keys, {} in all",
        trace.name(),
        trace.requests(),
        trace.keys(),
        output::bytes(trace.bytes())
    ));
    if trace.skipped() > 0 {
        output::note(format_args!(
            "{}: {} requests of size 0 left out",
            trace.name(),
            trace.skipped()
        ));
    }
}

/// The table for people: a row for each policy, trace and size.
fn print(cells: &[Cell]) -> Done<()> {
    let head = [
        "trace",
        "cache",
        "rows/bytes",
        "policy",
        "miss",
        "byte miss",
        "moves",
        "meta B",
        "ns",
        "gap",
    ];
    // Shown only where requests are judged or rows are wished for.
    let judged = cells.iter().any(|c| c.importance_miss_ratio.is_some());
    let wishing = cells.iter().any(|c| c.wishes_per_access.is_some());
    let optional = |column: Option<f64>| column.map_or_else(String::new, |v| format!("{v:.4}"));
    let mut head = head.map(str::to_owned).to_vec();
    head.extend(judged.then(|| "importance miss".to_owned()));
    head.extend(wishing.then(|| "wishes".to_owned()));
    let mut rows = vec![head];
    rows.extend(cells.iter().map(|c| {
        let mut row = vec![
            c.trace.clone(),
            format!("{:.4}%", c.cache_fraction * 100.0),
            c.cache_size.to_string(),
            named(c),
            format!("{:.6}", c.object_miss_ratio),
            format!("{:.6}", c.byte_miss_ratio),
            format!("{:.4}", c.moves_per_access),
            format!("{:.1}", c.metadata_bytes_per_item),
            format!("{:.0}", c.ns_per_access),
            c.gap_closed.map_or_else(String::new, |g| format!("{g:.3}")),
        ];
        row.extend(judged.then(|| optional(c.importance_miss_ratio)));
        row.extend(wishing.then(|| optional(c.wishes_per_access)));
        row
    }));
    output::table(&rows)?;
    let means = means(cells);
    if !means.is_empty() {
        output::line("")?;
        let mut rows = vec![
            ["policy", "mean gap closed", "worst", "cells"]
                .map(str::to_owned)
                .to_vec(),
        ];
        rows.extend(means.iter().map(|m| {
            vec![
                m.policy.clone(),
                format!("{:.3}", m.mean),
                format!("{:.3}", m.worst),
                m.cells.to_string(),
            ]
        }));
        output::table(&rows)?;
    }
    Ok(())
}

/// The policy, and the signal where there is another than its keys.
fn named(cell: &Cell) -> String {
    match cell.signal {
        "keys" => cell.policy.clone(),
        signal => format!("{} + {signal}", cell.policy),
    }
}

/// A policy over all cells with room.
#[derive(Debug, PartialEq)]
struct Mean {
    policy: String,
    mean: f64,
    worst: f64,
    cells: usize,
}

/// `lru` minus `belady` from which a cell counts.
const ROOM: f64 = 0.01;

/// Mean and worst share of the gap, over the cells with at least one point of room; best policy first.
fn means(cells: &[Cell]) -> Vec<Mean> {
    let mut found: Vec<Mean> = Vec::new();
    for cell in cells {
        let room = cell.gap_room.is_some_and(|r| r >= ROOM);
        let Some(gap) = cell.gap_closed.filter(|_| room) else {
            continue;
        };
        let policy = named(cell);
        match found.iter_mut().find(|m| m.policy == policy) {
            Some(m) => {
                m.mean += gap;
                m.worst = m.worst.min(gap);
                m.cells += 1;
            }
            None => found.push(Mean {
                policy,
                mean: gap,
                worst: gap,
                cells: 1,
            }),
        }
    }
    found.iter_mut().for_each(|m| m.mean /= m.cells as f64);
    found.sort_by(|a, b| b.mean.total_cmp(&a.mean));
    found
}

/// Progress that several threads add to.
struct Bar {
    bar: ProgressBar,
    done: AtomicU64,
    what: String,
    began: Instant,
}

impl Bar {
    fn new(what: &str, total: u64) -> Self {
        let bar = if std::io::stderr().is_terminal() {
            ProgressBar::new(total)
        } else {
            ProgressBar::hidden()
        };
        if let Ok(style) =
            ProgressStyle::with_template("{msg} [{bar:32}] {human_pos}/{human_len} {per_sec} {eta}")
        {
            bar.set_style(style);
        }
        bar.set_message(what.to_owned());
        Self {
            bar,
            done: AtomicU64::new(0),
            what: what.to_owned(),
            began: Instant::now(),
        }
    }

    fn add(&self, n: u64) {
        self.done.fetch_add(n, Ordering::Relaxed);
        self.bar.inc(n);
    }

    fn finish(&self) {
        self.bar.finish_and_clear();
        output::note(format_args!(
            "{}: {} accesses in {:.1} s",
            self.what,
            self.done.load(Ordering::Relaxed),
            self.began.elapsed().as_secs_f64()
        ));
    }
}

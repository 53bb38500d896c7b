//! `aether demo`: a tiered memory at work on real text, from an empty folder to a verdict.

mod crash;
mod data;
mod live;
mod measure;
mod replay;
mod report;
mod tell;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use aether::config::{ByteSize, Span};
use aether::{CheckReport, Config, Memory, Point, PointId};
use serde::Serialize;

pub(crate) use crash::{ChildArgs, child};

use self::data::Speeches;
use self::measure::{Examples, Recalls};
use self::replay::Replay;
use super::bench::{in_ram, measured_budget};
use super::output::{self, Progress};
use super::settings::Settings;
use super::{Done, Failure, Outcome, import, memory};

/// Answers of every search of the demo.
const K: usize = 10;
/// Share of the rows that the hot tier is given room for.
const HOT_SHARE: f64 = 0.2;
/// Time between two turns of the scheduler, so that there is something to see in a few seconds.
const TICK_MS: u64 = 100;

/// Options of `aether demo`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder to work in, empty or new; it is kept [default: a temporary one, removed at the end]
    #[arg(long, short, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Folder of the data set [default: examples/data/shakespeare of the repository]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Where to write the report, a page with charts [default: aether-demo.html]
    #[arg(long, value_name = "FILE", default_value = "aether-demo.html")]
    report: PathBuf,
    /// Seed of every random choice
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// How long the stream of queries is replayed
    #[arg(long, default_value_t = 12.0, value_parser = seconds)]
    seconds: f64,
    /// Queries asked in a second
    #[arg(long, default_value_t = 250.0, value_parser = seconds)]
    rate: f64,
    /// Configuration file to begin with [default: built-in defaults]
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Override one key, as policy.backend=lru; may be repeated
    #[arg(long = "set", value_name = "TABLE.KEY=VALUE")]
    set: Vec<String>,
}

fn seconds(text: &str) -> Result<f64, String> {
    let fits = |x: &f64| (0.1..=3600.0).contains(x);
    text.parse()
        .ok()
        .filter(fits)
        .ok_or_else(|| "expected a number from 0.1 to 3600".to_owned())
}

/// Everything that the demo found out.
#[derive(Serialize)]
struct Found {
    verdict: String,
    ok: bool,
    seconds: f64,
    points: u64,
    dim: usize,
    seed: u64,
    policy: String,
    budget_bytes: u64,
    budget_rows: usize,
    hot_bytes_max: u64,
    import_s: f64,
    /// Mean share of the ten true answers found, each query counted once.
    recall: Recalls<f64>,
    /// The same with each query counted as often as the stream asks for it.
    recall_in_stream: Recalls<f64>,
    p50_us: Recalls<f64>,
    p99_us: Recalls<f64>,
    stream: replay::Figures,
    /// Share of the stream's answers that came from RAM.
    hot_hit_rate: f64,
    hot_rows: u64,
    cold_rows: u64,
    hot_bytes: u64,
    cold_bytes: u64,
    raw_bytes: u64,
    moves: Moves,
    examples: Examples,
    explain_hot: Option<aether::Explained>,
    explain_cold: Option<aether::Explained>,
    crash: crash::Crashed,
    check: CheckReport,
    report: PathBuf,
    stats: aether::Stats,
}

#[derive(Serialize)]
struct Moves {
    demoted: u64,
    promoted: u64,
    failed: u64,
}

pub(crate) async fn run(args: Args, json: bool) -> Done {
    let started = Instant::now();
    let say = tell::Teller::new(json);
    let speeches = Arc::new(Speeches::load(args.data.as_deref())?);
    let temporary =
        tempfile::tempdir().map_err(|e| super::io_failure("make a temporary folder", e))?;
    let folder = args
        .dir
        .clone()
        .unwrap_or_else(|| temporary.path().to_owned());
    must_be_empty(&folder)?;

    let settings = Settings {
        config: args.config.clone(),
        dir: Some(folder.join("memory")),
        set: args.set.clone(),
    };
    let mut config = match &settings.config {
        Some(file) => Config::load(file)?,
        None => Config::default(),
    };
    config.flux.tick = Span(std::time::Duration::from_millis(TICK_MS));
    config.memory.dim = speeches.vectors.dim();
    config.memory.metric = aether::Metric::Cosine;
    config.memory.seed = args.seed;
    let mut config = settings.apply(config)?;
    let registry = Arc::new(aether::registry()?);
    config.check_plugins(&registry)?;

    let rows = speeches.vectors.rows();
    let budget_rows = (rows as f64 * HOT_SHARE) as usize;
    config.memory.hot_budget = ByteSize(budget(&config, &registry, &speeches, budget_rows).await?);
    let budget_bytes = config.memory.hot_budget.0;
    say.heading("A tiered memory")?;
    say.line(format_args!(
        "{rows} speeches of Shakespeare as vectors of {} numbers; {} in, {} with, {} by, {} decides.",
        config.memory.dim, config.meta.backend, config.cold.backend, config.codec.backend, config.policy.backend
    ))?;
    say.line(format_args!(
        "RAM for {budget_rows} of them (a fifth took {} in a {} index when tried out): that is the budget.",
        output::bytes(budget_bytes),
        config.hot.backend
    ))?;

    let memory = memory::open(config.clone(), registry.clone()).await?;
    let import_s = fill(&memory, &speeches).await?;
    let after = memory.stats();
    say.line(format_args!(
        "Imported in {import_s:.1} s, every write durable: {} rows in RAM, {} only in the cold store.",
        after.hot_rows,
        after.points.saturating_sub(after.hot_rows)
    ))?;

    say.heading("A day of questions")?;
    let replayed = Replay {
        speeches: &speeches,
        seed: args.seed,
        seconds: args.seconds,
        rate: args.rate,
    };
    let replayed = replayed.run(&memory, live::Live::new(json)).await?;
    let hot_hit_rate = replayed.figures.hit_rate;
    say.line(format_args!(
        "{} questions in {:.1} s, p50 {:.1} ms, p99 {:.1} ms; {:.1} % of the answers came from RAM ({:.1} % in the first second, \
         {:.1} % in the last of the first half).",
        replayed.figures.searches,
        args.seconds,
        replayed.figures.p50_us / 1e3,
        replayed.figures.p99_us / 1e3,
        hot_hit_rate * 100.0,
        replayed.figures.hit_rate_first * 100.0,
        replayed.figures.hit_rate_settled * 100.0,
    ))?;

    say.heading("How good the answers are")?;
    let measured = measure::recalls(&memory, &speeches, &replayed.popularity).await?;
    say.recalls(&measured)?;
    let stats = memory.stats();
    let raw_bytes = (rows * speeches.vectors.dim() * 4) as u64;
    let cold_only = stats.points.saturating_sub(stats.hot_rows);
    say.line(format_args!(
        "In RAM: {} rows, {} of {} allowed (never above {}). Only in the cold store: {cold_only} rows. Its {} segments take {} for {} \
         rows, since what came back to RAM keeps its place there; as plain floats all vectors are {}.",
        stats.hot_rows,
        output::bytes(stats.hot_bytes),
        output::bytes(stats.budget_bytes),
        output::bytes(replayed.hot_bytes_max.max(after.hot_bytes)),
        stats.segments,
        output::bytes(stats.cold_bytes),
        stats.cold_rows,
        output::bytes(raw_bytes),
    ))?;

    say.heading("Three questions, and what it found")?;
    let examples = measure::examples(&memory, &speeches, &replayed.popularity).await?;
    say.examples(&examples)?;

    say.heading("Why is it there?")?;
    let (hot, cold) = measure::one_of_each(&memory, &speeches, &replayed.popularity).await?;
    let explain_hot = explain(&memory, hot).await?;
    let explain_cold = explain(&memory, cold).await?;
    say.explained(&speeches, explain_hot.as_ref())?;
    say.explained(&speeches, explain_cold.as_ref())?;
    memory.close().await?;
    let check = aether::check(&config, registry.clone()).await?;

    say.heading("Pulling the plug")?;
    let crash = crash::run(&args, &speeches, &folder.join("crash"), registry).await?;
    say.crash(&crash)?;
    say.check(&check)?;

    let hot_bytes_max = replayed
        .hot_bytes_max
        .max(after.hot_bytes)
        .max(stats.hot_bytes);
    let (ok, verdict) = judge(
        &measured.recall,
        hot_bytes_max,
        budget_bytes,
        &crash,
        &check,
    );
    let found = Found {
        verdict,
        ok,
        seconds: started.elapsed().as_secs_f64(),
        points: stats.points,
        dim: speeches.vectors.dim(),
        seed: args.seed,
        policy: stats.policy.clone(),
        budget_bytes,
        budget_rows,
        hot_bytes_max,
        import_s,
        recall: measured.recall,
        recall_in_stream: measured.recall_in_stream,
        p50_us: measured.p50_us,
        p99_us: measured.p99_us,
        stream: replayed.figures,
        hot_hit_rate,
        hot_rows: stats.hot_rows,
        cold_rows: cold_only,
        hot_bytes: stats.hot_bytes,
        cold_bytes: stats.cold_bytes,
        raw_bytes,
        moves: Moves {
            demoted: stats.counted.demoted,
            promoted: stats.counted.promoted,
            failed: stats.counted.migrations_failed,
        },
        examples,
        explain_hot,
        explain_cold,
        crash,
        check,
        report: args.report.clone(),
        stats,
    };
    report::write(&args.report, &found, &replayed.samples)?;
    if json {
        output::json(&found)?;
    } else {
        say.line(format_args!(
            "\nCharts of it all are in {}.",
            args.report.display()
        ))?;
        say.line(&found.verdict)?;
    }
    Ok(if ok { Outcome::Fine } else { Outcome::Wrong })
}

/// The folder must be new, so that nothing of the user's is touched.
fn must_be_empty(folder: &std::path::Path) -> Done<()> {
    let mut entries = match std::fs::read_dir(folder) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => {
            return Err(super::io_failure(
                format_args!("look into {}", folder.display()),
                e,
            ));
        }
        Ok(entries) => entries,
    };
    if entries.next().is_none() {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "--dir {}: expected a new or empty folder, got one with files in it",
        folder.display()
    )))
}

/// Bytes for so many rows, found by trying.
async fn budget(
    config: &Config,
    registry: &Arc<aether::Registry>,
    speeches: &Arc<Speeches>,
    rows: usize,
) -> Done<u64> {
    let mut probe = in_ram(config);
    probe.memory.hot_budget = ByteSize(1 << 32);
    probe.flux.tick = Span::default();
    measured_budget(probe, registry, speeches.points(rows)).await
}

async fn fill(memory: &Memory, speeches: &Arc<Speeches>) -> Done<f64> {
    let rows = speeches.vectors.rows();
    let mut progress = Progress::new("import", Some(rows as u64));
    import::feed(memory, speeches.points(rows), 256, |n, _| progress.add(n)).await?;
    Ok(progress.finish().as_secs_f64())
}

async fn explain(memory: &Memory, row: Option<u64>) -> Done<Option<aether::Explained>> {
    match row {
        None => Ok(None),
        Some(row) => Ok(memory.explain(&PointId::Int(row)).await?),
    }
}

/// Whether everything that was promised was seen.
fn judge(
    recall: &Recalls<f64>,
    hot_bytes_max: u64,
    budget_bytes: u64,
    crash: &crash::Crashed,
    check: &CheckReport,
) -> (bool, String) {
    let mut wrong = Vec::new();
    if recall.complete < 0.9999 {
        wrong.push(format!(
            "a complete search missed answers (recall {:.4})",
            recall.complete
        ));
    }
    if recall.bounded < recall.hot_only {
        wrong.push("looking into the cold store made answers worse".to_owned());
    }
    if hot_bytes_max > budget_bytes {
        wrong.push(format!(
            "the hot tier took {hot_bytes_max} bytes of {budget_bytes} allowed"
        ));
    }
    if !check.is_clean() {
        wrong.push(format!("the check found {} problems", check.problem_count));
    }
    wrong.extend(crash.wrong());
    if wrong.is_empty() {
        let text = format!(
            "VERDICT: it works. recall@{K} {:.3} hot-only, {:.3} bounded, {:.3} complete; the budget held; {} kills, nothing lost; \
             check clean.",
            recall.hot_only, recall.bounded, recall.complete, crash.kills
        );
        (true, text)
    } else {
        (false, format!("VERDICT: it FAILED: {}.", wrong.join("; ")))
    }
}

impl Speeches {
    /// The first `rows` speeches as points.
    fn points(
        self: &Arc<Self>,
        rows: usize,
    ) -> impl Iterator<Item = aether::Result<Point>> + Send + use<> {
        let speeches = self.clone();
        (0..rows).map(move |row| Ok(speeches.point(row)))
    }
}

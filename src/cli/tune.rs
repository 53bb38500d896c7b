//! `aether tune`: which hot index and which settings of it answer soonest at the recall asked for, on data of one's own.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use aether::config::Slot;
use aether::import::{Format, Matrix, Truth};
use aether::role::{HotIndex, SearchOptions};
use aether::{BuildContext, Metric, Registry, Result, Role, SystemClock};
use serde::Serialize;

use super::bench::{Base, Summary, insert, run_queries};
use super::output::Progress;
use super::sample::{self, Sample};
use super::{Done, Failure, Outcome, output};

/// Options of `aether tune`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// .npy, .npy.gz, .fvecs, .bvecs, .jsonl or .parquet
    file: PathBuf,
    /// What the file is [default: by its ending]
    #[arg(long)]
    format: Option<Format>,
    /// Look at the first so many rows only
    #[arg(long, value_name = "ROWS")]
    limit: Option<u64>,
    /// Share of the true neighbours that answers must have
    #[arg(long, default_value_t = 0.95)]
    recall: f64,
    /// Number of answers that recall counts
    #[arg(short, default_value_t = 10)]
    k: usize,
    /// How near vectors are: l2, inner-product or cosine
    #[arg(long, default_value = "cosine")]
    metric: String,
    /// Rows drawn from the file
    #[arg(long, default_value_t = 20_000, value_name = "ROWS")]
    sample: usize,
    /// Rows of the sample that are kept out of the index and searched for
    #[arg(long, default_value_t = 500, value_name = "ROWS")]
    queries: usize,
    /// Measure each setting for at least so many seconds
    #[arg(long, default_value_t = 0.3)]
    seconds: f64,
    /// Seed of the drawing and of the indexes
    #[arg(long, default_value_t = 42)]
    seed: u64,
}

/// Keys of one index to try, beside its breadth.
struct Candidate {
    backend: &'static str,
    keys: Vec<(&'static str, String)>,
    /// Breadths to try, from narrow to broad; none for an index that has none.
    breadths: &'static [usize],
}

const BREADTHS: [usize; 14] = [
    10, 12, 16, 20, 28, 40, 56, 80, 112, 160, 224, 320, 640, 1_280,
];

/// An index with the narrowest breadth that reaches the recall asked for, or the broadest tried.
#[derive(Clone, Debug, Serialize)]
struct Line {
    backend: &'static str,
    #[serde(skip)]
    keys: Vec<(&'static str, String)>,
    /// The table of the configuration.
    toml: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    ef: Option<usize>,
    recall: f64,
    qps: f64,
    p99_us: f64,
    build_s: f64,
    bytes_a_row: f64,
    /// Whether the recall asked for was reached.
    reached: bool,
}

#[derive(Serialize)]
struct Report<'a> {
    file: &'a PathBuf,
    rows: u64,
    sample: usize,
    dim: usize,
    metric: Metric,
    k: usize,
    queries: usize,
    recall: f64,
    tried: &'a [Line],
    recommended: Option<&'a str>,
}

/// Indexes of this build worth trying: exact, and graphs of several widths with and without codes.
fn candidates(registry: &Registry, dim: usize) -> Vec<Candidate> {
    let has = |name: &str| registry.get(Role::Hot, name).is_ok();
    let mut all = Vec::new();
    if has("flat") {
        all.push(Candidate {
            backend: "flat",
            keys: Vec::new(),
            breadths: &[],
        });
    }
    if has("hnsw") {
        // Codes of few dimensions are as long as the vectors.
        let bits: &[u8] = if dim < 16 { &[0] } else { &[0, 4, 8] };
        for m in [12, 16, 24, 32] {
            all.extend(bits.iter().map(|bits| Candidate {
                backend: "hnsw",
                keys: vec![("m", m.to_string()), ("code_bits", bits.to_string())],
                breadths: &BREADTHS,
            }));
        }
    }
    all
}

fn check(args: &Args) -> Done<()> {
    let problem = if args.sample < 100 {
        "--sample: expected at least 100 rows"
    } else if args.queries == 0 || args.queries > args.sample / 2 {
        "--queries: expected 1 to half of --sample"
    } else if args.k == 0 {
        "-k: expected at least 1"
    } else if !(0.0..=1.0).contains(&args.recall) {
        "--recall: expected 0.0 to 1.0"
    } else if !(0.0..=600.0).contains(&args.seconds) {
        "--seconds: expected 0 to 600"
    } else {
        return Ok(());
    };
    Err(Failure::usage(problem))
}

/// What everything is measured on.
struct Trial {
    base: Base,
    queries: Matrix,
    truth: Truth,
    k: usize,
    recall: f64,
    seconds: f64,
    context: BuildContext,
}

impl Trial {
    /// Splits the sample: every n-th row is searched for among the others.
    fn new(args: &Args, sample: &Matrix, metric: Metric, registry: Arc<Registry>) -> Result<Self> {
        let (dim, rows) = (sample.dim(), sample.rows());
        let step = rows.div_ceil(args.queries.min(rows / 2).max(1)).max(2);
        let part = |kept_out: bool| {
            let rows = (0..rows).filter(|r| r.is_multiple_of(step) == kept_out);
            let vectors = rows.flat_map(|r| sample.row(r).iter().copied()).collect();
            Matrix::new(dim, vectors)
        };
        let (base, queries) = (Base::Read(part(false)?), part(true)?);
        let k = args.k.min(base.rows());
        let truth = base.truth(&queries, metric, k);
        Ok(Self {
            base,
            queries,
            truth,
            k,
            recall: args.recall,
            seconds: args.seconds,
            context: BuildContext {
                dim,
                metric,
                data_dir: None,
                clock: Arc::new(SystemClock::new()),
                seed: args.seed,
                read_only: false,
                hot_budget: None,
                registry,
            },
        })
    }

    fn measure(&self, candidate: &Candidate) -> Done<Line> {
        let mut slot = Slot::named(Role::Hot, candidate.backend);
        for (key, value) in &candidate.keys {
            slot.raw.set(key, value)?;
        }
        let index = self.context.registry.hot(&slot, &self.context)?;
        let started = Instant::now();
        insert(&*index, &self.base)?;
        let build_s = started.elapsed().as_secs_f64();
        let mut breadths = candidate.breadths.iter();
        loop {
            let ef = breadths.next().copied();
            let summary = self.search(&*index, ef)?;
            let reached = summary.recall >= self.recall;
            if !reached && breadths.len() > 0 {
                continue;
            }
            return Ok(Line {
                backend: candidate.backend,
                keys: candidate.keys.clone(),
                toml: table(candidate, ef),
                ef,
                recall: summary.recall,
                qps: summary.qps,
                p99_us: summary.p99_us,
                build_s,
                bytes_a_row: index.bytes() as f64 / self.base.rows() as f64,
                reached,
            });
        }
    }

    fn search(&self, index: &dyn HotIndex, ef: Option<usize>) -> Done<Summary> {
        let options = SearchOptions {
            ef,
            ..SearchOptions::default()
        };
        let query = |q: usize| {
            let found = index.search(self.queries.row(q), self.k, &options)?;
            Ok(found.iter().map(|n| n.row.0).collect())
        };
        let recall = |q: usize, found: &[u64]| self.truth.recall(q, self.k, found);
        run_queries(self.queries.rows(), 1, self.seconds, &query, recall)
    }
}

/// The table of a configuration file that chooses an index.
fn table(candidate: &Candidate, ef: Option<usize>) -> String {
    let mut text = format!("[hot]\nbackend = \"{}\"\n", candidate.backend);
    let ef = ef.map(|ef| ("ef_search", ef.to_string()));
    for (key, value) in candidate.keys.iter().chain(&ef) {
        text.push_str(&format!("{key} = {value}\n"));
    }
    text
}

pub(crate) fn run(args: &Args, json: bool) -> Done {
    check(args)?;
    let metric = sample::metric(&args.metric)?;
    let sample = Sample::draw(&args.file, args.format, args.limit, args.sample, args.seed)?;
    let registry = Arc::new(aether::registry()?);
    let trial = Trial::new(args, &sample.vectors, metric, registry.clone())?;
    let candidates = candidates(&registry, sample.vectors.dim());
    let mut progress = Progress::new("tune", Some(candidates.len() as u64));
    let mut tried = Vec::new();
    for candidate in &candidates {
        tried.push(trial.measure(candidate)?);
        progress.add(1);
    }
    progress.finish();
    let fit = tried.iter().filter(|l| l.reached);
    let best = fit.max_by(|a, b| a.qps.total_cmp(&b.qps));
    if json {
        output::json(&Report {
            file: &args.file,
            rows: sample.rows,
            sample: trial.base.rows(),
            dim: sample.vectors.dim(),
            metric,
            k: trial.k,
            queries: trial.queries.rows(),
            recall: args.recall,
            tried: &tried,
            recommended: best.map(|l| l.toml.as_str()),
        })?;
    } else {
        print(args, &sample, &trial, &tried)?;
        recommend(args, &sample, best)?;
    }
    Ok(if best.is_some() {
        Outcome::Fine
    } else {
        Outcome::Wrong
    })
}

fn print(args: &Args, sample: &Sample, trial: &Trial, tried: &[Line]) -> Done<()> {
    output::line(format_args!(
        "{} rows of {} dimensions, drawn from {} of {}; {} others searched for; recall@{} by {}\n",
        trial.base.rows(),
        sample.vectors.dim(),
        sample.rows,
        args.file.display(),
        trial.queries.rows(),
        trial.k,
        trial.context.metric
    ))?;
    let head = [
        "index",
        "ef",
        "recall",
        "qps",
        "p99 us",
        "build s",
        "bytes/row",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for line in tried {
        let keys = line
            .keys
            .iter()
            .map(|(key, value)| format!(" {key}={value}"));
        rows.push(vec![
            format!("{}{}", line.backend, keys.collect::<String>()),
            line.ef.map_or_else(|| "-".to_owned(), |ef| ef.to_string()),
            format!("{:.4}", line.recall),
            format!("{:.0}", line.qps),
            format!("{:.0}", line.p99_us),
            format!("{:.1}", line.build_s),
            format!("{:.0}", line.bytes_a_row),
        ]);
    }
    output::table(&rows)
}

fn recommend(args: &Args, sample: &Sample, best: Option<&Line>) -> Done<()> {
    let Some(best) = best else {
        return output::line(format_args!(
            "\nNone reached a recall of {}: ask for less, or take backend = \"flat\", which is exact.",
            args.recall
        ));
    };
    output::line(format_args!(
        "\nSoonest at a recall of {} or more:\n\n{}",
        args.recall, best.toml
    ))?;
    if sample.rows > sample.vectors.rows() as u64 {
        output::line(format_args!(
            "This was measured on a part of the rows; among more rows the same breadth finds a little less: compare with --sample {}.",
            sample.rows.min(4 * args.sample as u64)
        ))?;
    }
    Ok(())
}

//! `aether bench`: recall, speed, memory and requests on data of one's own.

mod base;
mod churn;
mod filters;
mod measure;
mod mixed;
mod page_cache;
mod resident;
mod search;
mod sweep;
mod tiered;
mod worker;

use std::path::PathBuf;
use std::sync::Arc;

use aether::import::{Format, Matrix, Options, Truth};
use aether::{
    BuildContext, Config, Error, Memory, Metric, Point, PointId, Registry, Role, SystemClock,
};

pub(crate) use measure::{Latencies, Summary, run_queries, run_queries_unwarmed};
pub(crate) use tiered::measured_budget;

pub(crate) use base::Base;
pub(crate) use search::insert;

use base::{Clustered, Spec};

use super::output::Progress;
use super::settings::Settings;
use super::{Done, Outcome, import, memory};

/// Subcommands of `aether bench`.
#[derive(Clone, Debug, clap::Subcommand)]
pub(crate) enum Args {
    /// Everything in RAM: the hot index's recall and speed
    Search(search::Args),
    /// The hot index alone after every row was replaced twice, beside one built anew
    Churn(churn::Args),
    /// The hot index alone where only a share of the rows is accepted
    Filters(filters::Args),
    /// The hot index alone under searches, insertions and removals at once: latency, recall and memory over time
    Mixed(mixed::Args),
    /// A share in RAM, the rest in the cold store: recall and speed across the tiers
    Tiered(tiered::Args),
    /// The hot index behind JSON lines on standard input and output, to be measured by another program beside other libraries
    Worker(worker::Args),
}

/// Queries that are made up when nothing else is said.
const GENERATED_QUERIES: u64 = 1000;

/// What is measured on.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Data {
    /// Vectors to search among: .npy, .npy.gz, .fvecs, .bvecs, .jsonl or .parquet
    #[arg(long, value_name = "FILE", required_unless_present = "generate")]
    base: Option<PathBuf>,
    /// Vectors to search for
    #[arg(long, value_name = "FILE", required_unless_present = "generate")]
    queries: Option<PathBuf>,
    /// Make vectors up instead of reading any, row by row, so that they take no RAM: clustered:ROWSxDIM or clustered:ROWSxDIM:SEED
    #[arg(long, value_name = "WHAT", conflicts_with_all = ["base", "queries", "truth", "limit"])]
    generate: Option<Spec>,
    /// Row numbers of the true neighbours: .npy of integers, or .ivecs [default: computed by comparing all with all]
    #[arg(long, value_name = "FILE")]
    truth: Option<PathBuf>,
    /// What the files are [default: by their endings]
    #[arg(long)]
    format: Option<Format>,
    /// Use at most so many base rows; the truth is then computed
    #[arg(long, value_name = "ROWS")]
    limit: Option<u64>,
    /// Use at most so many queries
    #[arg(long, value_name = "ROWS")]
    limit_queries: Option<u64>,
    /// How near vectors are: l2, inner-product or cosine [default: memory.metric]
    #[arg(long)]
    metric: Option<String>,
    /// Number of answers
    #[arg(short, default_value_t = 10)]
    k: usize,
    /// Threads that search
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Measure each setting for at least so many seconds, and every query at least once
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Settings to try, as ef=16,32,64 or probe=0.05,0.1; repeated ones are combined
    #[arg(long, value_name = "KEY=VALUES")]
    sweep: Vec<sweep::Sweep>,
    #[command(flatten)]
    settings: Settings,
}

/// What is measured on, in RAM.
pub(crate) struct Loaded {
    base: Arc<Base>,
    queries: Arc<Matrix>,
    truth: Truth,
    config: Config,
    registry: Arc<Registry>,
}

impl Data {
    /// Reads everything and fits the configuration to it: stores in RAM unless a configuration names others.
    fn load(&self) -> Done<Loaded> {
        let options = |limit| Options {
            format: self.format,
            limit,
            ..Options::default()
        };
        let (base, queries) = match (&self.generate, &self.base, &self.queries) {
            (Some(spec), _, _) => {
                let made = Clustered::new(*spec)?;
                let count = self.limit_queries.unwrap_or(GENERATED_QUERIES);
                let queries = made.queries(usize::try_from(count).unwrap_or(usize::MAX))?;
                (Base::Clustered(made), queries)
            }
            (None, Some(base), Some(queries)) => (
                Base::Read(Matrix::read(base, &options(self.limit))?),
                Matrix::read(queries, &options(self.limit_queries))?,
            ),
            _ => {
                return Err(super::Failure::usage(
                    "expected --base and --queries, or --generate",
                ));
            }
        };
        if base.dim() != queries.dim() {
            return Err(Error::invalid_input(format!(
                "--queries: expected {} dimensions as in --base, got {}",
                base.dim(),
                queries.dim()
            ))
            .into());
        }
        let mut config = self.settings.load()?;
        config.memory.dim = base.dim();
        if let Some(name) = &self.metric {
            config.memory.metric = Metric::ALL
                .into_iter()
                .find(|m| m.name() == name)
                .ok_or_else(|| {
                    super::Failure::usage(format!(
                        "--metric: expected l2, inner-product or cosine, got {name:?}"
                    ))
                })?;
        }
        let truth = match &self.truth {
            Some(file) if self.limit.is_none() => {
                let truth = Truth::read(file)?;
                check_truth(&truth, &base, &queries, self.k)?;
                truth
            }
            _ => {
                super::output::note(format_args!(
                    "comparing {} queries with {} vectors",
                    queries.rows(),
                    base.rows()
                ));
                base.truth(&queries, config.memory.metric, self.k)
            }
        };
        // Turns come by hand, so that nothing moves while it is measured.
        config.flux.tick = aether::config::Span::default();
        Ok(Loaded {
            base: Arc::new(base),
            queries: Arc::new(queries),
            truth,
            config,
            registry: Arc::new(aether::registry()?),
        })
    }
}

fn check_truth(truth: &Truth, base: &Base, queries: &Matrix, k: usize) -> aether::Result<()> {
    if truth.len() < queries.rows() || truth.k() < k.min(base.rows()) {
        return Err(Error::invalid_input(format!(
            "--truth: expected at least {} queries x {k} neighbours, got {} x {}",
            queries.rows(),
            truth.len(),
            truth.k()
        )));
    }
    match truth.row_max() {
        Some(row) if row as usize >= base.rows() => Err(Error::invalid_input(format!(
            "--truth: expected rows of --base, 0 to {}, got {row}: it belongs to another file",
            base.rows() - 1
        ))),
        _ => Ok(()),
    }
}

impl Loaded {
    /// What the hot index alone is made with: no folder, no budget.
    fn bare_context(&self) -> BuildContext {
        BuildContext {
            dim: self.base.dim(),
            metric: self.config.memory.metric,
            data_dir: None,
            clock: Arc::new(SystemClock::new()),
            seed: self.config.memory.seed,
            read_only: false,
            hot_budget: None,
            registry: self.registry.clone(),
        }
    }

    /// Puts the base into a memory, row numbers as ids; answers the seconds it took.
    async fn fill(&self, memory: &Memory) -> Done<f64> {
        let (base, rows) = (self.base.clone(), self.base.rows());
        let points = (0..rows).map(move |row| {
            Ok(Point::new(
                PointId::Int(row as u64),
                base.row(row).into_owned(),
            ))
        });
        let mut progress = Progress::new("build", Some(rows as u64));
        let batch = (memory.config().limits.batch_bytes.0 as usize / (self.base.dim() * 4 + 256))
            .clamp(1, import::BATCH);
        import::feed(
            memory,
            points,
            batch.min(memory.config().limits.batch_rows),
            |n, _| progress.add(n),
        )
        .await?;
        Ok(progress.finish().as_secs_f64())
    }

    /// A memory in RAM with these settings, for a first look at sizes.
    fn in_ram(&self) -> Config {
        in_ram(&self.config)
    }
}

/// The same settings with stores in RAM.
pub(crate) fn in_ram(config: &Config) -> Config {
    let mut config = config.clone();
    config.meta = aether::config::Slot::named(Role::Meta, "memory");
    config.cold = aether::config::Slot::named(Role::Cold, "memory");
    config
}

/// Opens a memory for a measurement.
pub(crate) async fn open(config: Config, registry: &Arc<Registry>) -> Done<Memory> {
    memory::open(config, registry.clone()).await
}

pub(crate) async fn run(args: Args, json: bool) -> Done<Outcome> {
    match args {
        Args::Search(args) => search::run(args, json).await,
        Args::Churn(args) => churn::run(args, json).await,
        Args::Filters(args) => filters::run(args, json).await,
        Args::Mixed(args) => mixed::run(args, json).await,
        Args::Tiered(args) => tiered::run(args, json).await,
        Args::Worker(args) => worker::run(args).await,
    }
}

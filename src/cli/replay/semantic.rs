//! Options of the semantic workload.

use std::path::{Path, PathBuf};

use aether::Metric;
use aether::import::{Matrix, Options};
use aether::replay::{Topics, Trace};

use crate::cli::Done;
use crate::cli::output;

const DEFAULT: Topics = Topics::DEFAULT;

/// Questions about vectors, in place of a recorded trace.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Semantic workload")]
pub(crate) struct Workload {
    /// Vectors (.npy, .fvecs, .jsonl, .parquet) to ask about; each question touches its true nearest, told as one retrieval
    #[arg(long, value_name = "FILE")]
    semantic: Vec<PathBuf>,
    /// Distance: cosine, l2 or inner-product
    #[arg(long, default_value = "cosine", value_parser = metric)]
    metric: Metric,
    /// Topics that are asked about
    #[arg(long, default_value_t = DEFAULT.topics)]
    topics: usize,
    /// Different questions about each topic
    #[arg(long, default_value_t = DEFAULT.phrasings)]
    phrasings: usize,
    /// Rows that each question touches
    #[arg(long, default_value_t = DEFAULT.k)]
    k: usize,
    /// Questions asked
    #[arg(long, default_value_t = DEFAULT.queries)]
    queries: u64,
    /// Exponent of Zipf's law of the topics' popularity
    #[arg(long, default_value_t = DEFAULT.skew)]
    skew: f64,
    /// Questions between two changes of popularity
    #[arg(long, default_value_t = DEFAULT.drift)]
    drift: u64,
    /// Sessions that go on at the same time
    #[arg(long, default_value_t = DEFAULT.sessions)]
    sessions: usize,
    /// Questions in a session, on average
    #[arg(long, default_value_t = DEFAULT.session_queries)]
    session_queries: f64,
}

fn metric(name: &str) -> Result<Metric, String> {
    let found = Metric::ALL.into_iter().find(|m| m.name() == name);
    found.ok_or_else(|| "expected cosine, l2 or inner-product".to_owned())
}

impl Workload {
    pub(super) fn files(&self) -> &[PathBuf] {
        &self.semantic
    }

    /// Makes the workload over the vectors of one file.
    pub(super) fn workload(&self, path: &Path, seed: u64) -> Done<Trace> {
        let topics = Topics {
            topics: self.topics,
            phrasings: self.phrasings,
            k: self.k,
            queries: self.queries,
            skew: self.skew,
            drift: self.drift,
            sessions: self.sessions,
            session_queries: self.session_queries,
            seed,
        };
        let base = Matrix::read(path, &Options::default())?;
        output::note(format_args!(
            "{}: {} vectors of {} dimensions; finding the answers to {} questions",
            path.display(),
            base.rows(),
            base.dim(),
            self.topics * self.phrasings
        ));
        let folder = path.parent().and_then(Path::file_name).unwrap_or_default();
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        let stem = file.split('.').next().unwrap_or_default();
        let name = format!("{}/{stem}", folder.to_string_lossy());
        Ok(topics.workload(name.trim_start_matches('/'), &base, self.metric)?)
    }
}

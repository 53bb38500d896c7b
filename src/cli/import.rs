//! `aether import`: vectors from a file into a memory.

use std::path::PathBuf;
use std::sync::Arc;

use aether::config::Span;
use aether::import::{Columns, Format, Import, Options};
use aether::{Error, Point};
use serde::Serialize;

use super::output::{self, Progress};
use super::settings::{self, Settings};
use super::{Done, Outcome, memory};

/// How an input file is to be read.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Input {
    /// What the file is: npy, npy.gz, fvecs, bvecs, jsonl or parquet [default: by its ending]
    #[arg(long)]
    format: Option<Format>,
    /// Read at most so many rows
    #[arg(long, value_name = "ROWS")]
    limit: Option<u64>,
    /// A file with one id a line, row by row
    #[arg(long, value_name = "FILE")]
    ids: Option<PathBuf>,
    /// Put before every id, which becomes a text
    #[arg(long, value_name = "TEXT")]
    id_prefix: Option<String>,
    /// A JSON lines file with one payload a line, row by row; its field `id` names the point
    #[arg(long, value_name = "FILE")]
    payloads: Option<PathBuf>,
    /// Parquet: column of the ids
    #[arg(long, value_name = "NAME", default_value = "id")]
    id_column: String,
    /// Parquet: column of the vectors, a list of floats
    #[arg(long, value_name = "NAME", default_value = "vector")]
    vector_column: String,
    /// Parquet: column of the payloads, JSON texts
    #[arg(long, value_name = "NAME", default_value = "payload")]
    payload_column: String,
}

impl Input {
    fn options(&self) -> Options {
        Options {
            format: self.format,
            limit: self.limit,
            ids: self.ids.clone(),
            id_prefix: self.id_prefix.clone(),
            payloads: self.payloads.clone(),
            columns: Columns {
                id: self.id_column.clone(),
                vector: self.vector_column.clone(),
                payload: self.payload_column.clone(),
            },
        }
    }
}

/// Options of `aether import`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// .npy, .npy.gz, .fvecs, .bvecs, .jsonl or .parquet
    file: PathBuf,
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    input: Input,
    /// Points of one write
    #[arg(long, default_value_t = BATCH, value_name = "POINTS")]
    batch: usize,
    /// Longest time a write waits for room in RAM before it lands cold, as memory.insert_wait [default: 0s, since making room sends older
    /// rows away, each of which is written twice then]
    #[arg(long, value_name = "DURATION", default_value = "0s")]
    wait: Span,
}

/// Points of one write: what the committer takes at once.
pub(crate) const BATCH: usize = 4096;

#[derive(Serialize)]
struct Imported {
    file: PathBuf,
    folder: PathBuf,
    points: u64,
    landed_cold: u64,
    dim: usize,
    seconds: f64,
    points_per_s: f64,
    stats: aether::Stats,
}

pub(crate) async fn run(args: Args, json: bool) -> Done {
    let import = Import::open(&args.file, &args.input.options())?;
    let registry = Arc::new(aether::registry()?);
    let mut config = args.settings.load()?;
    if config.memory.dim == 0 {
        config.memory.dim = import.dim();
    } else if config.memory.dim != import.dim() {
        return Err(Error::invalid_input(format!(
            "{}: expected vectors of {} dimensions, as memory.dim says, got {}",
            args.file.display(),
            config.memory.dim,
            import.dim()
        ))
        .into());
    }
    let (dim, folder, count) = (import.dim(), config.memory.path.clone(), import.rows());
    let per_point = dim as u64 * 4 + 256;
    let fits = usize::try_from(config.limits.batch_bytes.0 / per_point).unwrap_or(usize::MAX);
    let batch = args.batch.min(config.limits.batch_rows).min(fits).max(1);
    let usual = std::mem::replace(&mut config.memory.insert_wait, args.wait);
    let memory = memory::open(config, registry.clone()).await?;
    let mut progress = Progress::new(format!("import {}", args.file.display()), count);
    let (mut points, mut landed_cold) = (0u64, 0u64);
    let written = feed(&memory, import, batch, |rows, cold| {
        points += rows;
        landed_cold += cold;
        progress.add(rows);
    });
    let written = written.await;
    let took = progress.finish();
    let (stats, mut config) = (memory.stats(), memory.config().clone());
    config.memory.insert_wait = usual;
    memory.close().await?;
    if let Err(e) = written {
        return Err(e
            .prefixed(format_args!("after {points} points, which are kept"))
            .into());
    }
    if folder.is_dir() {
        settings::keep(&config, &registry, &folder)?;
    }
    let seconds = took.as_secs_f64();
    let imported = Imported {
        file: args.file,
        folder,
        points,
        landed_cold,
        dim,
        seconds,
        points_per_s: points as f64 / seconds,
        stats,
    };
    if json {
        output::json(&imported)?;
    } else {
        let s = &imported.stats;
        output::line(format_args!(
            "{points} points of {dim} dimensions are in {}: {} rows in RAM ({}), {} rows cold ({})",
            imported.folder.display(),
            s.hot_rows,
            output::bytes(s.hot_bytes),
            s.cold_rows,
            output::bytes(s.cold_bytes),
        ))?;
    }
    Ok(Outcome::Fine)
}

/// Writes every point of a source, reading the next batch while one is written; tells after each batch how many there were and
/// how many of them landed cold.
pub(crate) async fn feed<S>(
    memory: &aether::Memory,
    source: S,
    batch: usize,
    mut tell: impl FnMut(u64, u64),
) -> aether::Result<()>
where
    S: Iterator<Item = aether::Result<Point>> + Send + 'static,
{
    let read = |mut source: S| {
        tokio::task::spawn_blocking(move || {
            let points: aether::Result<Vec<Point>> = source.by_ref().take(batch).collect();
            (source, points)
        })
    };
    let lost = |e: tokio::task::JoinError| Error::internal("the reader ended early").with_source(e);
    let (mut source, mut points) = read(source).await.map_err(lost)?;
    loop {
        let ready = points?;
        if ready.is_empty() {
            return Ok(());
        }
        let rows = ready.len() as u64;
        let (next, written) = tokio::join!(read(source), memory.upsert(ready));
        tell(rows, written?.cold as u64);
        (source, points) = next.map_err(lost)?;
    }
}

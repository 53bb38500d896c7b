//! `aether bench worker`: the hot index behind JSON lines, so that another program measures it in turns with other libraries.
//!
//! ```text
//! > {"op":"build","dir":"data/fmnist-784","metric":"l2","threads":1}
//! < {"wall":12.3,"cpu":12.2,"rss":260000000,"bytes":250000000,"params":[16,32,64],"nq":1000}
//! > {"op":"run","param":32,"k":10,"nq":1000,"out":"ids.i32","mode":"batch"}
//! < {"wall":0.021,"cpu":0.021}
//! > {"op":"quit"}
//! ```
//!
//! `build` reads `base.fvecs` and `query.fvecs` of the folder. `run` searches with the breadth `param` for the first `nq` queries, one
//! after another on one thread, and writes row numbers to `out`: `[nq, k]` little-endian int32, -1 where there is no answer. Times are
//! seconds: of `wall` clock, and of the whole process's `cpu`. A request that cannot be carried out is answered by
//! `{"error":"..."}`, and the next is read.

use std::io::BufRead;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aether::import::{Matrix, Options};
use aether::role::{HotIndex, SearchOptions};
use aether::{BuildContext, Config, Error, Metric, Registry, Result, Role, SystemClock};
use serde::{Deserialize, Serialize};

use super::base::Base;
use super::resident::Resident;
use super::search;
use crate::cli::settings::Settings;
use crate::cli::{Done, Outcome, output};

/// Options of `aether bench worker`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Breadths that the other program is told to try
    #[arg(
        long,
        value_name = "EF,...",
        value_delimiter = ',',
        default_values_t = [10, 14, 20, 28, 40, 56, 80, 160, 320, 640]
    )]
    params: Vec<usize>,
    #[command(flatten)]
    settings: Settings,
}

/// How near vectors are, as the protocol spells it.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Near {
    L2,
    Cosine,
    Ip,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
enum Request {
    Build {
        dir: PathBuf,
        metric: Near,
        #[serde(default = "one")]
        threads: usize,
    },
    Run {
        param: usize,
        #[serde(default = "ten")]
        k: usize,
        nq: Option<usize>,
        out: Option<PathBuf>,
    },
    Quit,
}

fn one() -> usize {
    1
}

fn ten() -> usize {
    10
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Answer<'a> {
    Built {
        wall: f64,
        cpu: f64,
        rss: u64,
        bytes: u64,
        params: &'a [usize],
        nq: usize,
    },
    Ran {
        wall: f64,
        cpu: f64,
    },
    Failed {
        error: String,
    },
}

struct Built {
    index: Arc<dyn HotIndex>,
    queries: Matrix,
}

struct Worker {
    args: Args,
    config: Config,
    registry: Arc<Registry>,
    built: Option<Built>,
}

pub(super) async fn run(args: Args) -> Done {
    let config = args.settings.load()?;
    let mut worker = Worker {
        args,
        config,
        registry: Arc::new(aether::registry()?),
        built: None,
    };
    tokio::task::block_in_place(|| worker.serve())
}

impl Worker {
    fn serve(&mut self) -> Done {
        for line in std::io::stdin().lock().lines() {
            let line = line.map_err(|e| crate::cli::io_failure("read a request", e))?;
            let request = serde_json::from_str(&line).map_err(|e| {
                Error::invalid_input(format!("expected a request of op build, run or quit: {e}"))
            });
            let answer = match request {
                Ok(Request::Quit) => break,
                Ok(request) => self.answer(request),
                Err(error) => Err(error),
            };
            output::json(&answer.unwrap_or_else(|error| Answer::Failed {
                error: error.to_string(),
            }))?;
        }
        Ok(Outcome::Fine)
    }

    fn answer(&mut self, request: Request) -> Result<Answer<'_>> {
        match request {
            Request::Build {
                dir,
                metric,
                threads,
            } => {
                let metric = match metric {
                    Near::L2 => Metric::L2,
                    Near::Cosine => Metric::Cosine,
                    Near::Ip => Metric::InnerProduct,
                };
                self.build(&dir, metric, threads)
            }
            Request::Run { param, k, nq, out } => self.search(param, k, nq, out),
            Request::Quit => Err(Error::internal("a quit with an answer")),
        }
    }

    fn build(
        &mut self,
        dir: &std::path::Path,
        metric: Metric,
        threads: usize,
    ) -> Result<Answer<'_>> {
        self.built = None;
        let read = |file: &str| Matrix::read(dir.join(file), &Options::default());
        let (base, queries) = (Base::Read(read("base.fvecs")?), read("query.fvecs")?);
        let mut slot = self.config.hot.clone();
        let plugin = self.registry.get(Role::Hot, &slot.backend)?;
        if plugin.options.iter().any(|o| o.name == "threads") {
            slot.raw.set("threads", &threads.to_string())?;
        }
        let context = BuildContext {
            dim: base.dim(),
            metric,
            data_dir: None,
            clock: Arc::new(SystemClock::new()),
            seed: self.config.memory.seed,
            read_only: false,
            hot_budget: None,
            registry: self.registry.clone(),
        };
        let index = self.registry.hot(&slot, &context)?;
        let resident = || Resident::read().map_or(0, |r| r.now_bytes);
        let (before, clock) = (resident(), Stopwatch::start());
        search::insert(&*index, &base)?;
        let (wall, cpu) = clock.stop();
        let rss = resident().saturating_sub(before);
        let (bytes, nq) = (index.bytes(), queries.rows());
        self.built = Some(Built { index, queries });
        Ok(Answer::Built {
            wall,
            cpu,
            rss,
            bytes,
            params: &self.args.params,
            nq,
        })
    }

    fn search(
        &self,
        ef: usize,
        k: usize,
        nq: Option<usize>,
        out: Option<PathBuf>,
    ) -> Result<Answer<'_>> {
        let Some(Built { index, queries }) = &self.built else {
            return Err(Error::invalid_input("run: expected a build before it"));
        };
        let options = SearchOptions {
            ef: Some(ef),
            ..SearchOptions::default()
        };
        let nq = nq.unwrap_or(usize::MAX).min(queries.rows());
        let mut answers = Vec::with_capacity(nq);
        let clock = Stopwatch::start();
        for query in queries.iter().take(nq) {
            answers.push(index.search(query, k, &options)?);
        }
        let (wall, cpu) = clock.stop();
        if let Some(out) = out {
            let row = |n: &aether::role::Neighbor| i32::try_from(n.row.0).unwrap_or(-1);
            let ids = answers.iter().flat_map(|answer| {
                let found = answer.iter().map(row);
                found.chain(std::iter::repeat(-1)).take(k)
            });
            let bytes: Vec<u8> = ids.flat_map(i32::to_le_bytes).collect();
            std::fs::write(&out, bytes).map_err(|e| {
                Error::unavailable(format!("cannot write {}", out.display())).with_source(e)
            })?;
        }
        Ok(Answer::Ran { wall, cpu })
    }
}

/// Wall clock, and CPU time of all threads of this process.
struct Stopwatch {
    wall: Instant,
    cpu: Duration,
}

impl Stopwatch {
    fn start() -> Self {
        Self {
            wall: Instant::now(),
            cpu: cpu_time(),
        }
    }

    /// Seconds of both.
    fn stop(self) -> (f64, f64) {
        let cpu = cpu_time().saturating_sub(self.cpu);
        (self.wall.elapsed().as_secs_f64(), cpu.as_secs_f64())
    }
}

#[cfg(unix)]
fn cpu_time() -> Duration {
    use rustix::time::{ClockId, clock_gettime};
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let whole = Duration::from_secs(u64::try_from(time.tv_sec).unwrap_or(0));
    whole + Duration::from_nanos(u64::try_from(time.tv_nsec).unwrap_or(0))
}

/// Elsewhere the time since the first call stands for it.
#[cfg(not(unix))]
fn cpu_time() -> Duration {
    static FIRST: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    FIRST.get_or_init(Instant::now).elapsed()
}

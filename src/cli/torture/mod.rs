//! `aether torture`: kills a working memory again and again, and looks after each kill whether every promise was kept.
//!
//! A child process opens the memory by its configuration file and works on it from several tasks at once. It says through a pipe what it
//! begins and what was acknowledged; what it does follows from a seed, so this process, which holds the oracle, knows every operation.
//! The child is killed at random moments, in a third of the rounds also while it recovers from the kill before. Then the memory is
//! opened here and compared with what the child was promised: point by point, by a complete search, and by `check`.

#[cfg(test)]
mod agreement;
mod child;
mod disk;
mod life;
mod oracle;
mod script;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aether::{Config, Error, Registry};
use fastrand::Rng;
use serde::Serialize;

pub(crate) use child::{ChildArgs, child};

use self::disk::Filler;
use self::life::{Life, Lives};
use self::oracle::{Found, Oracle};
use super::output::{self, Progress};
use super::settings::{FILE, keep};
use super::{Done, Failure, Outcome, io_failure};

/// Options of `aether torture`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// How long to go on
    #[arg(long, default_value_t = 1.0, value_parser = minutes)]
    minutes: f64,
    /// End after so many kills, whatever the time [default: no limit]
    #[arg(long, value_name = "N")]
    kills: Option<u64>,
    /// Folder to work in, empty or new; it is kept [default: a temporary one, kept only if something is wrong]
    #[arg(long, short, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Configuration file with the plug-ins to torture; folder, dimension, metric and budget are set here [default: redb, file, zstd
    /// and flux, with flat and hnsw in turn]
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Fill the disk of DIR before each child begins, all but some 100 KiB, and empty it before the comparison: DIR must be on a disk
    /// of its own with at most 256 MiB free, such as a tmpfs
    #[arg(long, requires = "dir")]
    fill: bool,
    /// Seed of what is done; the moments of the kills are the machine's [default: drawn]
    #[arg(long)]
    seed: Option<u64>,
}

fn minutes(text: &str) -> Result<f64, String> {
    let fits = |x: &f64| (0.01..=100_000.0).contains(x);
    text.parse()
        .ok()
        .filter(fits)
        .ok_or_else(|| "expected a number from 0.01 to 100000".to_owned())
}

/// What the kills showed.
#[derive(Debug, Default, Serialize)]
struct Summary {
    kills: u64,
    /// Kills before the memory was open.
    in_recovery: u64,
    /// Times that all of the memory was compared.
    verified: u64,
    acknowledged: u64,
    /// Operations that said they failed, for want of room.
    failed: u64,
    /// Writes that a kill cut short: found done, and not done.
    completed: u64,
    undone: u64,
    /// Rounds that ended with rows in both tiers.
    in_both_tiers: u64,
    lost: u64,
    phantom: u64,
    /// `clean`, or everything that was wrong.
    check: String,
    problems: Vec<String>,
    seed: u64,
    seconds: f64,
}

impl Summary {
    /// The same with what was found.
    fn with(self, found: &Found) -> Self {
        Self {
            acknowledged: found.acknowledged,
            failed: found.failed,
            completed: found.completed,
            undone: found.undone,
            lost: found.lost,
            phantom: found.phantom,
            check: match found.problems().len() {
                0 => "clean".to_owned(),
                n => format!("{n} problems"),
            },
            problems: found.problems(),
            ..self
        }
    }

    /// What the command ends with.
    fn outcome(&self) -> Outcome {
        match self.problems.is_empty() {
            true => Outcome::Fine,
            false => Outcome::Wrong,
        }
    }
}

pub(crate) async fn run(args: Args, json: bool) -> Done {
    let registry = Arc::new(aether::registry()?);
    let temporary = match &args.dir {
        None => Some(tempfile::tempdir().map_err(|e| io_failure("make a temporary folder", e))?),
        Some(_) => None,
    };
    let folder = match (&args.dir, &temporary) {
        (Some(dir), _) => dir.clone(),
        (None, Some(temporary)) => temporary.path().to_owned(),
        (None, None) => return Err(Error::internal("no folder to work in").into()),
    };
    let config = prepare(&args, &folder, &registry)?;
    let summary = torture(&args, &folder, &config, &registry).await?;
    let outcome = summary.outcome();
    if let Some(temporary) = temporary.filter(|_| outcome != Outcome::Fine) {
        output::note(format_args!("kept: {}", temporary.keep().display()));
    }
    if json {
        output::json(&summary)?;
    } else {
        output::figures(&summary)?;
        for problem in &summary.problems {
            output::complain(problem);
        }
    }
    Ok(outcome)
}

/// Writes the configuration file that the children read, and reads it as they do.
fn prepare(args: &Args, folder: &Path, registry: &Registry) -> Done<Config> {
    std::fs::create_dir_all(folder)
        .map_err(|e| io_failure(format_args!("make {}", folder.display()), e))?;
    let mut files = std::fs::read_dir(folder)
        .map_err(|e| io_failure(format_args!("read {}", folder.display()), e))?;
    if files.next().is_some() {
        return Err(Failure::usage(format!(
            "--dir {}: expected an empty or new folder",
            folder.display()
        )));
    }
    let mut config = match &args.config {
        Some(file) => Config::load(file)?,
        None => Config::from_toml(script::SETTINGS)?,
    };
    script::fit(&mut config, folder)?;
    keep(&config, registry, folder)?;
    let mut config = Config::load(folder.join(FILE))?;
    folder.clone_into(&mut config.memory.path);
    Ok(config)
}

async fn torture(
    args: &Args,
    folder: &Path,
    config: &Config,
    registry: &Arc<Registry>,
) -> Done<Summary> {
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..));
    let mut rng = Rng::with_seed(seed);
    let filler = args.fill.then(|| Filler::beside(folder));
    let begun = Instant::now();
    let end = begun + Duration::from_secs_f64(args.minutes * 60.0);
    let most = args.kills.unwrap_or(u64::MAX);
    let mut oracle = Oracle::default();
    let mut lives = Lives::new(folder);
    let mut summary = Summary {
        seed,
        ..Summary::default()
    };
    let mut progress = Progress::new("kills", args.kills);
    while summary.kills < most && Instant::now() < end && oracle.found.is_clean() {
        // Sometimes several in a row, so that a recovery is cut short and recovered from.
        let chain = match rng.u32(0..3) {
            0 => rng.u64(2..=3).min(most - summary.kills),
            _ => 1,
        };
        for link in 0..chain {
            let set = hot(args, &mut rng);
            if let Some(filler) = &filler {
                filler.fill(rng.u64(16 << 10..192 << 10))?;
            }
            let life = if link == 0 {
                lives.work_and_die(set.as_deref(), &mut rng, &mut oracle)?
            } else {
                lives.die_early(set.as_deref(), &mut rng, &mut oracle)?
            };
            if let Some(filler) = &filler {
                filler.empty()?;
            }
            summary.in_recovery += u64::from(life == Life::Unopened);
            summary.kills += 1;
            progress.add(1);
        }
        let mut config = config.clone();
        if let Some((_, backend)) = hot(args, &mut rng)
            .as_deref()
            .and_then(|s| s.split_once('='))
        {
            backend.clone_into(&mut config.hot.backend);
        }
        match oracle.verify(&config, registry).await {
            Ok(stats) => {
                summary.in_both_tiers += u64::from(stats.hot_rows > 0 && stats.cold_rows > 0);
            }
            Err(failure) => oracle.found.problem(format!("after a kill: {failure}")),
        }
        summary.verified += 1;
    }
    progress.finish();
    summary.seconds = begun.elapsed().as_secs_f64();
    Ok(summary.with(&oracle.found))
}

/// The hot index of the next life, unless a configuration file says: the one may read what the other left.
fn hot(args: &Args, rng: &mut Rng) -> Option<String> {
    let backend = if rng.bool() { "flat" } else { "hnsw" };
    args.config
        .is_none()
        .then(|| format!("hot.backend={backend}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the last line says of what the oracle found, each thing by itself.
    #[test]
    fn planted_findings_are_told_in_the_last_line_and_in_the_exit_code() {
        let told = |found: &Found| {
            let summary = Summary::default().with(found);
            let line = serde_json::to_value(&summary).unwrap();
            let figures = ["lost", "phantom"].map(|name| line[name].as_u64().unwrap());
            let check = line["check"].as_str().unwrap().to_owned();
            (figures, check, summary.outcome() == Outcome::Fine)
        };
        let clean = Found::default();
        assert_eq!(told(&clean), ([0, 0], "clean".to_owned(), true));
        let mut found = clean.clone();
        found.lost = 1;
        found.problem("a point is lost".to_owned());
        assert_eq!(told(&found), ([1, 0], "1 problems".to_owned(), false));
        let mut found = clean.clone();
        found.phantom = 2;
        found.problem("a point that nobody wrote".to_owned());
        found.problem("another".to_owned());
        assert_eq!(told(&found), ([0, 2], "2 problems".to_owned(), false));
        let mut found = clean;
        found.problem("check: a segment is damaged".to_owned());
        assert_eq!(told(&found), ([0, 0], "1 problems".to_owned(), false));
    }
}

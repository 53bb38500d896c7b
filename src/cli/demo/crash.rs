//! A child process works and is killed in the midst of it; what it had been promised must still be true.
//!
//! The child says on stdout what it begins and what was acknowledged, one line each, written at once:
//!
//! | line | meaning |
//! |---|---|
//! | `try A B` / `ack A B` | points A to B-1 are being written / are acknowledged |
//! | `drop A B` / `gone A B` | points A to B-1 are being deleted / their deletion is acknowledged |
//! | `move N` / `moved N` | migration N begins / is done |

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use aether::config::Span;
use aether::{CheckReport, Config, Error, Memory, Parts, PointId, Registry};
use fastrand::Rng;
use serde::Serialize;

use super::data::Speeches;
use crate::cli::settings::Settings;
use crate::cli::{Done, Failure, memory};

/// Points of one write of the child; a migration moves four times as many.
const BATCH: u64 = 256;
/// Kills in any case.
const KILLS: usize = 3;
/// Kills until at least one has left a migration half done.
const KILLS_MAX: usize = 12;
/// A child that says nothing for so long is not working.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// Options of the child.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ChildArgs {
    #[arg(long)]
    dir: PathBuf,
    #[arg(long)]
    data: Option<PathBuf>,
    /// First id to write.
    #[arg(long)]
    first: u64,
    #[arg(long)]
    config: Option<PathBuf>,
    #[arg(long = "set")]
    set: Vec<String>,
}

/// What the kills showed.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Crashed {
    pub(super) kills: usize,
    /// Kills while a migration that had begun was not reported as done.
    pub(super) in_migration: usize,
    /// Of these, kills that left the migration's intent in the metadata store, found before reopening.
    pub(super) intents_found: usize,
    /// Blobs that had been written and were not named by any manifest yet, found before reopening.
    pub(super) orphans_found: u64,
    pub(super) acknowledged: usize,
    pub(super) deleted: usize,
    pub(super) lost: usize,
    pub(super) changed: usize,
    pub(super) revived: usize,
    pub(super) problems: Vec<String>,
}

impl Crashed {
    /// What must not be, in words.
    pub(super) fn wrong(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for (n, what) in [
            (self.lost, "lost"),
            (self.changed, "changed"),
            (self.revived, "came back after their deletion"),
        ] {
            if n > 0 {
                wrong.push(format!("{n} acknowledged points {what} after a kill"));
            }
        }
        if self.in_migration == 0 {
            wrong.push(format!("none of {} kills met a migration", self.kills));
        }
        if !self.problems.is_empty() {
            wrong.push(format!(
                "the check after a kill found {}",
                self.problems.join(", ")
            ));
        }
        wrong
    }
}

/// The child and its parent work with the same settings: the demo's, without turns, so that every migration is one it tells of.
fn settings(
    dir: &Path,
    dim: usize,
    config: Option<PathBuf>,
    set: Vec<String>,
) -> aether::Result<Config> {
    let mut start = match &config {
        Some(file) => Config::load(file)?,
        None => Config::default(),
    };
    start.flux.tick = Span::default();
    start.memory.dim = dim;
    start.memory.metric = aether::Metric::Cosine;
    Settings {
        config,
        dir: Some(dir.to_owned()),
        set,
    }
    .apply(start)
}

fn tell(text: std::fmt::Arguments<'_>) -> Done<()> {
    let mut out = std::io::stdout().lock();
    let written = writeln!(out, "{text}").and_then(|()| out.flush());
    written.map_err(|e| crate::cli::io_failure("tell the parent", e))
}

/// The child: writes, deletes and moves until it is killed.
pub(crate) async fn child(args: ChildArgs) -> Done {
    let speeches = Speeches::vectors_only(args.data.as_deref())?;
    let config = settings(&args.dir, speeches.vectors.dim(), args.config, args.set)?;
    let memory = memory::open(config, Arc::new(aether::registry()?)).await?;
    let (mut next, mut moves) = (args.first, 0u64);
    loop {
        let mut written: Vec<PointId> = Vec::new();
        for round in 0..4 {
            let (from, to) = (next, next + BATCH);
            let points = (from..to).map(|id| speeches.point_named(id)).collect();
            tell(format_args!("try {from} {to}"))?;
            memory.upsert(points).await?;
            tell(format_args!("ack {from} {to}"))?;
            written.extend((from..to).map(PointId::Int));
            next = to;
            if round == 2 {
                let doomed: Vec<PointId> = (from..from + 8).map(PointId::Int).collect();
                tell(format_args!("drop {from} {}", from + 8))?;
                memory.delete(&doomed).await?;
                tell(format_args!("gone {from} {}", from + 8))?;
            }
        }
        tell(format_args!("move {moves}"))?;
        // Writes go on while the migration runs, as they would in a busy memory.
        let (from, to) = (next, next + BATCH);
        let points = (from..to).map(|id| speeches.point_named(id)).collect();
        tell(format_args!("try {from} {to}"))?;
        let moving = async {
            memory.demote(&written).await?;
            tell(format_args!("moved {moves}"))
        };
        let writing = async {
            memory.upsert(points).await?;
            tell(format_args!("ack {from} {to}"))
        };
        let (moved, acknowledged): (Done<()>, Done<()>) = tokio::join!(moving, writing);
        moved?;
        acknowledged?;
        (next, moves) = (to, moves + 1);
    }
}

/// What the child has said so far, over all its lives.
#[derive(Default)]
struct Promises {
    alive: BTreeSet<u64>,
    gone: BTreeSet<u64>,
    /// Begun and not acknowledged: either outcome is right.
    open: BTreeSet<u64>,
    next: u64,
    moving: bool,
}

impl Promises {
    fn hear(&mut self, line: &str) {
        let mut words = line.split(' ');
        let verb = words.next().unwrap_or_default();
        let numbers: Vec<u64> = words.filter_map(|w| w.parse().ok()).collect();
        match (verb, numbers.as_slice()) {
            ("try", &[from, to]) => {
                self.open.extend(from..to);
                self.next = self.next.max(to);
            }
            ("ack", &[from, to]) => (from..to).for_each(|id| {
                self.open.remove(&id);
                self.alive.insert(id);
            }),
            ("drop", &[from, to]) => (from..to).for_each(|id| {
                self.alive.remove(&id);
                self.open.insert(id);
            }),
            ("gone", &[from, to]) => (from..to).for_each(|id| {
                self.open.remove(&id);
                self.gone.insert(id);
            }),
            ("move", _) => self.moving = true,
            ("moved", _) => self.moving = false,
            // The last line may have been cut by the kill.
            _ => {}
        }
    }
}

/// Kills a child several times in one folder and looks after each time whether every promise holds.
pub(super) async fn run(
    args: &super::Args,
    speeches: &Arc<Speeches>,
    folder: &Path,
    registry: Arc<Registry>,
) -> Done<Crashed> {
    let config = settings(
        folder,
        speeches.vectors.dim(),
        args.config.clone(),
        args.set.clone(),
    )?;
    let mut rng = Rng::with_seed(args.seed);
    let mut crashed = Crashed::default();
    let mut promises = Promises::default();
    while crashed.kills < KILLS || (crashed.intents_found == 0 && crashed.kills < KILLS_MAX) {
        promises.moving = false;
        promises = life(args, folder, promises, &mut rng)?;
        crashed.kills += 1;
        let before = aether::check(&config, registry.clone()).await?;
        note_problems(&mut crashed, "before reopening", &before);
        if promises.moving {
            crashed.in_migration += 1;
            crashed.intents_found += usize::from(before.intents > 0);
            crashed.orphans_found += before.orphans;
        }
        let memory = memory::open(config.clone(), registry.clone()).await?;
        verify(&memory, speeches, &mut promises, &mut crashed).await?;
        memory.close().await?;
        let after = aether::check(&config, registry.clone()).await?;
        note_problems(&mut crashed, "after reopening", &after);
        if after.intents + after.orphans > 0 {
            let what = format!(
                "{} intents and {} orphans after reopening",
                after.intents, after.orphans
            );
            crashed.problems.push(what);
        }
    }
    Ok(crashed)
}

fn note_problems(crashed: &mut Crashed, when: &str, report: &CheckReport) {
    let problems = report
        .problems
        .iter()
        .map(|p| format!("{when}: {}: {}", p.what, p.detail));
    crashed.problems.extend(problems);
}

/// Lines of the child as they come; the channel ends when the child's stdout does.
fn listen(stdout: ChildStdout) -> Receiver<String> {
    let (send, receive) = channel();
    std::thread::spawn(move || {
        let lines = BufReader::new(stdout).lines().map_while(Result::ok);
        // Sending fails only when nobody listens any more.
        lines
            .take_while(|line| send.send(line.clone()).is_ok())
            .for_each(drop);
    });
    receive
}

/// Starts a child, lets it work, kills it in the middle of a migration, and hears what it had said.
fn life(
    args: &super::Args,
    folder: &Path,
    mut promises: Promises,
    rng: &mut Rng,
) -> Done<Promises> {
    let program =
        std::env::current_exe().map_err(|e| crate::cli::io_failure("find this program", e))?;
    let mut command = Command::new(program);
    command
        .arg("demo-child")
        .arg("--dir")
        .arg(folder)
        .arg("--first")
        .arg(promises.next.to_string());
    for (flag, path) in [("--data", &args.data), ("--config", &args.config)] {
        if let Some(path) = path {
            command.arg(flag).arg(path);
        }
    }
    args.set.iter().for_each(|set| {
        command.arg("--set").arg(set);
    });
    let started = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let mut child = started.map_err(|e| crate::cli::io_failure("start a child process", e))?;
    let heard = work_and_kill(folder, &mut child, &mut promises, rng);
    if heard.is_err() {
        let ended = child.kill().and_then(|()| child.wait());
        ended.map_err(|e| crate::cli::io_failure("end the child", e))?;
    }
    heard.map(|()| promises)
}

/// Every file below a folder; what vanishes meanwhile is not counted.
fn files(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let count = |e: std::fs::DirEntry| match e.file_type() {
        Ok(kind) if kind.is_dir() => files(&e.path()),
        Ok(_) => 1,
        Err(_) => 0,
    };
    entries.map(count).sum()
}

/// Waits until a file appears: a segment that is being written, whose move is not committed yet. Stores that keep no files
/// show none, and the wait ends by itself.
fn await_new_file(folder: &Path, longest: Duration) {
    let (before, begun) = (files(folder), Instant::now());
    while files(folder) <= before && begun.elapsed() < longest {
        std::thread::sleep(Duration::from_micros(50));
    }
}

fn work_and_kill(
    folder: &Path,
    child: &mut Child,
    promises: &mut Promises,
    rng: &mut Rng,
) -> Done<()> {
    let stdout = child
        .stdout
        .take()
        .ok_or_else(|| Error::internal("the child has no stdout"))?;
    let lines = listen(stdout);
    let silent = |_| {
        Failure::Failed(Error::unavailable(
            "the child process ended or fell silent before it was killed",
        ))
    };
    // The first migrations show that it works and how long it takes; the last one is cut anywhere in it, or at the moment when
    // its segment appears.
    let mut left = rng.usize(2..4);
    let (mut begun, mut took) = (Instant::now(), Duration::from_millis(5));
    while left > 0 {
        let line = lines.recv_timeout(SILENCE_MAX).map_err(silent)?;
        if line.starts_with("move ") {
            left -= 1;
            begun = Instant::now();
        } else if line.starts_with("moved ") {
            took = begun.elapsed();
        }
        promises.hear(&line);
    }
    if rng.bool() {
        std::thread::sleep(took.mul_f64(rng.f64()));
    } else {
        await_new_file(folder, took * 2);
    }
    child
        .kill()
        .map_err(|e| crate::cli::io_failure("kill the child", e))?;
    child
        .wait()
        .map_err(|e| crate::cli::io_failure("wait for the child", e))?;
    lines.iter().for_each(|line| promises.hear(&line));
    Ok(())
}

/// Looks every promised point up, bit for bit.
async fn verify(
    memory: &Memory,
    speeches: &Speeches,
    promises: &mut Promises,
    crashed: &mut Crashed,
) -> Done<()> {
    let get = async |ids: &BTreeSet<u64>| -> Done<Vec<(u64, Option<Vec<f32>>)>> {
        let ids: Vec<u64> = ids.iter().copied().collect();
        let mut found = Vec::new();
        for some in ids.chunks(1000) {
            let names: Vec<PointId> = some.iter().copied().map(PointId::Int).collect();
            let records = memory
                .get_many(
                    &names,
                    Parts {
                        vector: true,
                        payload: false,
                    },
                )
                .await?;
            found.extend(
                some.iter()
                    .copied()
                    .zip(records.into_iter().map(|r| r.and_then(|r| r.vector))),
            );
        }
        Ok(found)
    };
    // What had been begun is settled now, either way, and must stay so.
    for (id, vector) in get(&promises.open).await? {
        if vector.is_some() {
            promises.alive.insert(id)
        } else {
            promises.gone.insert(id)
        };
    }
    promises.open.clear();
    let exact = memory.config().codec.backend != "f16" && memory.config().codec.backend != "sq8";
    for (id, vector) in get(&promises.alive).await? {
        match vector {
            None => crashed.lost += 1,
            Some(v) if exact && v != speeches.vector_named(id) => crashed.changed += 1,
            Some(_) => {}
        }
    }
    crashed.revived += get(&promises.gone)
        .await?
        .iter()
        .filter(|(_, v)| v.is_some())
        .count();
    crashed.acknowledged = promises.alive.len();
    crashed.deleted = promises.gone.len();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promise_holds_from_its_acknowledgement_on() {
        let mut p = Promises::default();
        for line in [
            "try 0 4", "ack 0 4", "drop 1 2", "try 4 8", "move 0", "gone 1 2", "ac",
        ] {
            p.hear(line);
        }
        assert_eq!(p.alive, BTreeSet::from([0, 2, 3]));
        assert_eq!(
            (p.gone.len(), p.open.len(), p.next, p.moving),
            (1, 4, 8, true)
        );
    }
}

//! `kill -9` loses nothing that was acknowledged. A child works on a memory (writes, moves, ticks, from several tasks at once) and tells
//! through a pipe what was acknowledged; the parent kills it at random moments, also while it recovers from the kill before, opens the memory
//! and compares all of it with what it was told.
//!
//! `AETHER_KILLS` sets the number of kills (50), `AETHER_SEED` repeats a run's choices; the moments themselves are the machine's.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

#[path = "kill/child.rs"]
mod child;
#[path = "kill/oracle.rs"]
mod oracle;
mod process;
#[path = "kill/script.rs"]
mod script;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use oracle::Oracle;
use script::Line;

const NAME: &str = "killed_children_lose_nothing";
const SEED: &str = "AETHER_TEST_SEED";
const HOT: &str = "AETHER_TEST_HOT";
/// A child that says nothing for so long hangs.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() {
    if let Some((role, folder)) = process::role() {
        let variable = |name| std::env::var(name).unwrap();
        let seed = variable(SEED).parse().unwrap();
        child::run(&folder, seed, &variable(HOT), role == "worker");
    }
    if !process::wanted(NAME) {
        return;
    }
    let number = |name: &str| std::env::var(name).ok().map(|v| v.parse::<u64>().unwrap());
    let kills = number("AETHER_KILLS").unwrap_or(50);
    let seed = number("AETHER_SEED").unwrap_or_else(|| fastrand::u64(..));
    println!("{NAME}: {kills} kills, AETHER_SEED={seed}");
    let summary = run(kills, seed);
    println!("{NAME}: ok, {summary}");
}

/// What became of one child.
struct Life {
    /// Whether it had opened the memory when it was killed.
    opened: bool,
    /// Time from its start to the open memory.
    opening: Option<Duration>,
}

fn run(kills: u64, seed: u64) -> String {
    let mut rng = fastrand::Rng::with_seed(seed);
    let folder = tempfile::tempdir().unwrap();
    let mut oracle = Oracle::default();
    let (mut in_recovery, mut moved, mut rounds) = (0, 0, 0);
    let mut opening = Duration::from_millis(100);
    let begun = Instant::now();
    let mut killed = 0;
    while killed < kills {
        // Sometimes several in a row, so that a recovery is cut short and recovered from.
        let chain = if rng.u32(0..3) == 0 {
            rng.u64(2..=3)
        } else {
            1
        };
        for link in 0..chain {
            let hot = *rng.choice(&["flat", "hnsw"]).unwrap();
            let life = if link == 0 {
                let acknowledgements = rng.u32(1..=250);
                let more = Duration::from_micros(rng.u64(0..5_000));
                work_and_die(
                    folder.path(),
                    rng.u64(..),
                    hot,
                    acknowledgements,
                    more,
                    &mut oracle,
                )
            } else {
                let after = opening.mul_f64(rng.f64() * 1.1);
                die_early(folder.path(), hot, after, &mut oracle)
            };
            opening = life.opening.unwrap_or(opening);
            in_recovery += u32::from(!life.opened);
            killed += 1;
        }
        let hot = *rng.choice(&["flat", "hnsw"]).unwrap();
        let stats = oracle.verify(folder.path(), hot);
        moved += u32::from(stats.hot_rows > 0 && stats.cold_rows > 0);
        rounds += 1;
    }
    // The test would prove nothing if nothing moved or no kill met unfinished work.
    assert!(
        moved > 0,
        "no round had rows in both tiers: the budget is off"
    );
    assert!(
        oracle.acknowledged > 10 * killed,
        "the children hardly worked"
    );
    if kills >= 50 {
        assert!(in_recovery > 0, "no child was killed during recovery");
        let unfinished = oracle.completed + oracle.undone;
        assert!(unfinished > 0, "no kill cut an operation short");
    }
    format!(
        "{killed} kills in {:.1?} ({in_recovery} of them before the memory was open), {rounds} times verified, {} operations \
         acknowledged, cut short: {} done, {} undone; {moved} times rows in both tiers",
        begun.elapsed(),
        oracle.acknowledged,
        oracle.completed,
        oracle.undone
    )
}

/// A child that is killed `more` after a number of acknowledgements.
fn work_and_die(
    folder: &Path,
    seed: u64,
    hot: &str,
    acknowledgements: u32,
    more: Duration,
    oracle: &mut Oracle,
) -> Life {
    let start = Instant::now();
    let variables = [(SEED, seed.to_string()), (HOT, hot.to_owned())];
    let mut child = process::spawn("worker", folder, &variables);
    let lines = listen(&mut child);
    let (mut heard, mut opening) = (0, None);
    while heard < acknowledgements {
        let line = match lines.recv_timeout(PATIENCE) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => {
                panic!("the child hangs; AETHER_SEED tells its script")
            }
            Err(RecvTimeoutError::Disconnected) => {
                panic!("the child ended by itself: {:?}", child.wait())
            }
        };
        match line {
            Line::Opened => opening = Some(start.elapsed()),
            Line::Begun(..) => {}
            Line::Done(..) => heard += 1,
        }
        oracle.hear(seed, line);
    }
    std::thread::sleep(more);
    child.kill().unwrap();
    child.wait().unwrap();
    // The pipe still holds what the child said before it died.
    lines.iter().for_each(|line| oracle.hear(seed, line));
    Life {
        opened: true,
        opening,
    }
}

/// A child that opens the memory, if it lives long enough, and does nothing else.
fn die_early(folder: &Path, hot: &str, after: Duration, oracle: &mut Oracle) -> Life {
    let variables = [(SEED, "0".to_owned()), (HOT, hot.to_owned())];
    let mut child = process::spawn("idler", folder, &variables);
    let lines = listen(&mut child);
    std::thread::sleep(after);
    child.kill().unwrap();
    child.wait().unwrap();
    let said: Vec<Line> = lines.iter().collect();
    said.iter().for_each(|line| oracle.hear(0, *line));
    Life {
        opened: said.contains(&Line::Opened),
        opening: None,
    }
}

fn listen(child: &mut std::process::Child) -> Receiver<Line> {
    let pipe = BufReader::new(child.stdout.take().unwrap());
    let (send, receive) = channel();
    std::thread::spawn(move || {
        for text in pipe.lines().map_while(Result::ok) {
            // A line that the kill cut in half says nothing.
            if let Some(line) = Line::parse(&text)
                && send.send(line).is_err()
            {
                return;
            }
        }
    });
    receive
}

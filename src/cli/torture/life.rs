//! One child from its start to its kill.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use aether::Error;
use fastrand::Rng;

use super::oracle::Oracle;
use super::script::Line;
use crate::cli::{Done, io_failure};

/// A child that says nothing through so many waits hangs. That is a minute; on a machine where this process and its child wait for a
/// processor most of the time it is longer, and a child that is only slow is not called a hanging one.
const WAITS: u32 = 6_000;
const WAIT: Duration = Duration::from_millis(10);
/// Things a child says after its memory is open, before it is killed.
const SAID: std::ops::RangeInclusive<u32> = 1..=250;
/// And time after that, in microseconds.
const MORE_US: std::ops::Range<u64> = 0..5_000;

/// How far a child came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// It had opened the memory when it was killed.
    Opened,
    /// It had not.
    Unopened,
}

/// What a child says next, waited for with patience.
fn next(lines: &Receiver<Line>) -> Result<Line, RecvTimeoutError> {
    let silence = Err(RecvTimeoutError::Timeout);
    let mut waits = (0..WAITS).map(|_| lines.recv_timeout(WAIT));
    waits.find(|heard| *heard != silence).unwrap_or(silence)
}

/// Children of one folder, one after another.
#[derive(Debug)]
pub(super) struct Lives {
    folder: PathBuf,
    /// Time that the last child took to open the memory.
    opening: Duration,
}

impl Lives {
    pub(super) fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            opening: Duration::from_millis(100),
        }
    }

    /// A child that works and is killed at some moment after it has said a number of things.
    pub(super) fn work_and_die(
        &mut self,
        set: Option<&str>,
        rng: &mut Rng,
        oracle: &mut Oracle,
    ) -> Done<Life> {
        let (seed, mut left) = (rng.u64(..), rng.u32(SAID));
        let more = Duration::from_micros(rng.u64(MORE_US));
        let start = Instant::now();
        let mut child = self.start(set, seed, false)?;
        let lines = listen(&mut child)?;
        let mut life = Life::Unopened;
        let mut ended = false;
        while left > 0 && !ended {
            match next(&lines) {
                Ok(line) => {
                    match line {
                        Line::Opened => {
                            life = Life::Opened;
                            self.opening = start.elapsed();
                        }
                        Line::Refused => ended = true,
                        Line::Begun(..) => {}
                        Line::Done(..) | Line::Failed(..) => left -= 1,
                    }
                    oracle.hear(seed, line);
                }
                Err(RecvTimeoutError::Timeout) => {
                    let text = format!("a child hangs: nothing said in {WAITS} times {WAIT:?}");
                    oracle.found.problem(text);
                    ended = true;
                }
                Err(RecvTimeoutError::Disconnected) => ended = true,
            }
        }
        std::thread::sleep(more);
        let status = kill(&mut child)?;
        // The pipe still holds what the child said before it died.
        lines.iter().for_each(|line| oracle.hear(seed, line));
        if let Some(code) = status.code() {
            let text = format!("a child ended by itself with code {code}: its words are above");
            oracle.found.problem(text);
        }
        Ok(life)
    }

    /// A child that is killed about when it has opened the memory, and does nothing else.
    pub(super) fn die_early(
        &mut self,
        set: Option<&str>,
        rng: &mut Rng,
        oracle: &mut Oracle,
    ) -> Done<Life> {
        let mut child = self.start(set, 0, true)?;
        let lines = listen(&mut child)?;
        std::thread::sleep(self.opening.mul_f64(rng.f64() * 1.1));
        let status = kill(&mut child)?;
        if let Some(code) = status.code() {
            let text =
                format!("a child could not open the memory, code {code}: its words are above");
            oracle.found.problem(text);
        }
        let opened = lines.iter().any(|line| line == Line::Opened);
        Ok(if opened { Life::Opened } else { Life::Unopened })
    }

    fn start(&self, set: Option<&str>, seed: u64, idle: bool) -> Done<Child> {
        let program = std::env::current_exe().map_err(|e| io_failure("find this program", e))?;
        let mut command = Command::new(program);
        command.arg("torture-child").arg("--dir").arg(&self.folder);
        command.arg("--seed").arg(seed.to_string());
        if let Some(set) = set {
            command.arg("--set").arg(set);
        }
        if idle {
            command.arg("--idle");
        }
        let started = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        started.map_err(|e| io_failure("start a child process", e))
    }
}

fn kill(child: &mut Child) -> Done<std::process::ExitStatus> {
    child.kill().map_err(|e| io_failure("kill a child", e))?;
    child.wait().map_err(|e| io_failure("wait for a child", e))
}

/// Lines of the child as they come; the channel ends when the child's stdout does.
fn listen(child: &mut Child) -> Done<Receiver<Line>> {
    let pipe = (child.stdout.take()).ok_or_else(|| Error::internal("the child has no stdout"))?;
    let (send, receive) = channel();
    std::thread::spawn(move || {
        let lines = BufReader::new(pipe).lines().map_while(Result::ok);
        // A line that the kill cut in half says nothing. Sending fails only when nobody listens any more.
        lines
            .filter_map(|text| Line::parse(&text))
            .take_while(|line| send.send(*line).is_ok())
            .for_each(drop);
    });
    Ok(receive)
}

//! The threads that touch the file: one that writes, some that read. Async callers wait for an answer, as a rule not for a disk.
//!
//! A hop to such a thread and back costs about 10 µs on the machine this was built on, a get from redb's cache about 1 µs
//! and one from the operating system's about 5 µs; the same get from a disk takes 100 µs and more, which would stop every
//! task of an async worker. Threads of our own cost what tokio's blocking pool costs (17 and 18 µs for 8 µs of work) and
//! do not tie the store to one runtime. On a virtual machine, where waking another processor is dear, the hop was found to take two fifths of
//! a search. So a get of some keys is done by the caller itself for as long as gets are quick, which they are from a cache. One caller does so at
//! a time, and a get that was not quick sends the next ones to the threads: so a disk that is slow, or hangs, holds up one caller's thread for one get.
//!
//! Each job runs under `catch_unwind`: redb answers some kinds of damage with a panic, which becomes `Corrupt` here.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use aether_core::{Error, Result};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use crate::core::Core;
use crate::error;

type Job = Box<dyn FnOnce(&Core) + Send>;

/// Jobs that may wait before callers wait; each holds at most one batch.
const QUEUE: usize = 64;

/// Gets that take no longer than this are quick.
const QUICK_NS: u64 = 100_000;
/// What gets are taken to need before the first, and after one that was not quick: the threads find out.
const SLOW_NS: u64 = 1_000_000;

/// Which threads run a job.
#[derive(Clone, Copy)]
pub(crate) enum Lane {
    /// A get of some keys: the caller's own thread while such are quick, else as `Read`.
    Get,
    Read,
    Write,
}

/// How long gets take: a moving average over the last eight or so, in nanoseconds; and whether a caller is at one.
#[derive(Debug)]
struct Pace {
    average: AtomicU64,
    taken: AtomicBool,
}

impl Pace {
    fn unknown() -> Self {
        Self {
            average: AtomicU64::new(SLOW_NS),
            taken: AtomicBool::new(false),
        }
    }

    /// Leave for one caller to do a get itself, while gets are quick and no other does.
    fn leave(&self) -> Option<Leave<'_>> {
        let free = || self.taken.compare_exchange(false, true, Acquire, Relaxed);
        (self.average.load(Relaxed) <= QUICK_NS && free().is_ok()).then(|| Leave(&self.taken))
    }

    fn note(&self, took: Duration) {
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let next = |before: u64| match took > QUICK_NS {
            true => before.max(SLOW_NS),
            false => before - before / 8 + took / 8,
        };
        let update = |before| Some(next(before));
        // It cannot fail: every value has a next one.
        let _ = self.average.fetch_update(Relaxed, Relaxed, update);
    }
}

/// Given back when dropped.
struct Leave<'a>(&'a AtomicBool);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.0.store(false, Release);
    }
}

/// The threads. Dropping it waits for jobs that were begun, so that file and lock are free afterwards.
#[derive(Debug)]
pub(crate) struct Lanes {
    core: Arc<Core>,
    pace: Arc<Pace>,
    /// Without threads callers do everything themselves.
    direct: bool,
    read: Option<mpsc::Sender<Job>>,
    write: Option<mpsc::Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

impl Lanes {
    /// Starts one writer and `readers` readers; with no reader no thread at all, for a file that never makes one wait.
    pub(crate) fn start(core: &Arc<Core>, readers: usize) -> Result<Self> {
        let pace = Arc::new(Pace::unknown());
        if readers == 0 {
            return Ok(Self {
                core: core.clone(),
                pace,
                direct: true,
                read: None,
                write: None,
                threads: Vec::new(),
            });
        }
        let (read, read_jobs) = mpsc::channel(QUEUE);
        let (write, write_jobs) = mpsc::channel(QUEUE);
        let mut lanes = Self {
            core: core.clone(),
            pace,
            direct: false,
            read: Some(read),
            write: Some(write),
            threads: Vec::with_capacity(readers + 1),
        };
        let read_jobs = Arc::new(Mutex::new(read_jobs));
        lanes.spawn("meta-redb-write", core, Arc::new(Mutex::new(write_jobs)))?;
        for _ in 0..readers {
            lanes.spawn("meta-redb-read", core, read_jobs.clone())?;
        }
        Ok(lanes)
    }

    fn spawn(
        &mut self,
        name: &str,
        core: &Arc<Core>,
        jobs: Arc<Mutex<mpsc::Receiver<Job>>>,
    ) -> Result<()> {
        let core = core.clone();
        let run = move || {
            loop {
                // One thread waits for the next job, the others for their turn to wait.
                let job = jobs.lock().blocking_recv();
                match job {
                    Some(job) => job(&core),
                    None => break,
                }
            }
        };
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(run)
            .map_err(|e| Error::unavailable("no thread for the store").with_source(e))?;
        self.threads.push(thread);
        Ok(())
    }

    /// Runs `work` on a thread of a lane, or here. A caller that goes away does not stop what was begun.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        lane: Lane,
        operation: &'static str,
        work: impl FnOnce(&Core) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        if self.direct {
            return contain(|| work(&self.core)).map_err(|e| error::at(e, operation));
        }
        let timed = matches!(lane, Lane::Get).then(|| self.pace.clone());
        let work = move |core: &Core| {
            let began = timed.is_some().then(Instant::now);
            let result = contain(|| work(core)).map_err(|e| error::at(e, operation));
            if let (Some(pace), Some(began)) = (timed, began) {
                pace.note(began.elapsed());
            }
            result
        };
        if matches!(lane, Lane::Get)
            && !self.core.is_closing()
            && let Some(_leave) = self.pace.leave()
        {
            return work(&self.core);
        }
        let (answer, reply) = oneshot::channel();
        let job: Job = Box::new(move |core| {
            let result = work(core);
            // Nobody waits any more when this fails: the caller has gone away.
            drop(answer.send(result));
        });
        let sender = match lane {
            Lane::Get | Lane::Read => &self.read,
            Lane::Write => &self.write,
        };
        let gone = || error::at(Error::internal("the store's thread has ended"), operation);
        let sender = sender.as_ref().ok_or_else(gone)?;
        sender.send(job).await.map_err(|_| gone())?;
        reply.await.map_err(|_| gone())?
    }
}

/// Runs `work`; a panic becomes `Corrupt`.
pub(crate) fn contain<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|p| Err(error::panicked(&*p)))
}

impl Drop for Lanes {
    fn drop(&mut self) {
        self.read = None;
        self.write = None;
        for thread in self.threads.drain(..) {
            // A job cannot panic past `contain`.
            drop(thread.join());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_slow_get_sends_the_next_to_the_threads_and_quick_ones_bring_them_back() {
        let pace = Pace::unknown();
        assert!(pace.leave().is_none(), "nothing is known yet");
        let quick = |gets: usize| (0..gets).for_each(|_| pace.note(Duration::from_micros(10)));
        quick(30);
        assert!(pace.leave().is_some());
        pace.note(Duration::from_micros(200));
        assert!(pace.leave().is_none());
        quick(8);
        assert!(pace.leave().is_none(), "a disk is seldom slow once");
        quick(22);
        let leave = pace.leave();
        assert!(leave.is_some());
        assert!(pace.leave().is_none(), "another caller is at it");
        drop(leave);
        assert!(pace.leave().is_some());
    }
}

//! The threads that touch the file: one that writes, some that read. Async callers wait for an answer, as a rule not for a disk.
//!
//! A hop to such a thread and back costs about 10 µs on the machine this was built on, a get from redb's cache about 1 µs
//! and one from the operating system's about 5 µs; the same get from a disk takes 100 µs and more, which would stop every
//! task of an async worker. Threads of our own cost what tokio's blocking pool costs (17 and 18 µs for 8 µs of work) and
//! do not tie the store to one runtime. On a virtual machine, where waking another processor is dear, the hop was found to take half of a
//! search. So a get of some keys is done by the caller itself for as long as gets are quick, which they are from either cache; one that had
//! to wait for the disk sends the next ones to the threads again.
//!
//! Each job runs under `catch_unwind`: redb answers some kinds of damage with a panic, which becomes `Corrupt` here.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
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

/// Gets that take no longer than this on average are done by their callers.
const QUICK_NS: u64 = 100_000;
/// What a get is taken to need before the first: the threads find out.
const UNKNOWN_NS: u64 = 1_000_000;

/// Which threads run a job.
#[derive(Clone, Copy)]
pub(crate) enum Lane {
    /// A get of some keys: the caller's own thread while such are quick, else as `Read`.
    Get,
    Read,
    Write,
}

/// How long gets take: a moving average over the last eight or so. Unit: nanoseconds.
#[derive(Debug)]
struct Pace(AtomicU64);

impl Pace {
    fn is_quick(&self) -> bool {
        self.0.load(Relaxed) <= QUICK_NS
    }

    fn note(&self, took: Duration) {
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let before = self.0.load(Relaxed);
        self.0.store(before - before / 8 + took / 8, Relaxed);
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
        let pace = Arc::new(Pace(AtomicU64::new(UNKNOWN_NS)));
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
        let timed = matches!(lane, Lane::Get).then(|| self.pace.clone());
        let work = move |core: &Core| {
            let began = Instant::now();
            let result = contain(|| work(core)).map_err(|e| error::at(e, operation));
            if let Some(pace) = timed {
                pace.note(began.elapsed());
            }
            result
        };
        if self.direct || (matches!(lane, Lane::Get) && self.pace.is_quick()) {
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
        let pace = Pace(AtomicU64::new(UNKNOWN_NS));
        assert!(!pace.is_quick(), "nothing is known yet");
        let quick = |gets: usize| (0..gets).for_each(|_| pace.note(Duration::from_micros(10)));
        quick(30);
        assert!(pace.is_quick());
        pace.note(Duration::from_millis(5));
        assert!(!pace.is_quick());
        quick(8);
        assert!(!pace.is_quick(), "a disk is seldom slow once");
        quick(22);
        assert!(pace.is_quick());
    }
}

//! The threads that touch the file: one that writes, some that read. Async callers wait for an answer, never for a disk.
//!
//! A hop to such a thread and back costs about 10 µs on the machine this was built on, a get from redb's cache about 1 µs
//! and one from the operating system's about 5 µs; the same get from a disk takes 100 µs and more, which would stop every
//! task of an async worker. Threads of our own cost what tokio's blocking pool costs (17 and 18 µs for 8 µs of work) and
//! do not tie the store to one runtime.
//!
//! Each job runs under `catch_unwind`: redb answers some kinds of damage with a panic, which becomes `Corrupt` here.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use aether_core::{Error, Result};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use crate::core::Core;
use crate::error;

type Job = Box<dyn FnOnce(&Core) + Send>;

/// Jobs that may wait before callers wait; each holds at most one batch.
const QUEUE: usize = 64;

/// Which threads run a job.
#[derive(Clone, Copy)]
pub(crate) enum Lane {
    Read,
    Write,
}

/// The threads. Dropping it waits for jobs that were begun, so that file and lock are free afterwards.
#[derive(Debug)]
pub(crate) struct Lanes {
    /// Where there are no threads: callers work on it themselves.
    direct: Option<Arc<Core>>,
    read: Option<mpsc::Sender<Job>>,
    write: Option<mpsc::Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

impl Lanes {
    /// Starts one writer and `readers` readers; with no reader no thread at all, for a file that never makes one wait.
    pub(crate) fn start(core: &Arc<Core>, readers: usize) -> Result<Self> {
        if readers == 0 {
            return Ok(Self {
                direct: Some(core.clone()),
                read: None,
                write: None,
                threads: Vec::new(),
            });
        }
        let (read, read_jobs) = mpsc::channel(QUEUE);
        let (write, write_jobs) = mpsc::channel(QUEUE);
        let mut lanes = Self {
            direct: None,
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

    /// Runs `work` on a thread of a lane. A caller that goes away does not stop what was begun.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        lane: Lane,
        operation: &'static str,
        work: impl FnOnce(&Core) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        if let Some(core) = &self.direct {
            return contain(|| work(core)).map_err(|e| error::at(e, operation));
        }
        let (answer, reply) = oneshot::channel();
        let job: Job = Box::new(move |core| {
            let result = contain(|| work(core)).map_err(|e| error::at(e, operation));
            // Nobody waits any more when this fails: the caller has gone away.
            drop(answer.send(result));
        });
        let sender = match lane {
            Lane::Read => &self.read,
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

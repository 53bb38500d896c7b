//! What runs at once, and what must hold whatever the schedule. Each function is one execution; `tests/` runs them many times.

pub mod admission;
pub mod epoch;
pub mod open_files;
pub mod readers;
pub mod timeline;
pub mod weak;

use shuttle::thread;

/// Runs parts as threads and waits for all.
fn together(parts: Vec<Box<dyn FnOnce() + Send>>) {
    let threads: Vec<_> = parts.into_iter().map(thread::spawn).collect();
    for thread in threads {
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    }
}

/// A part of [`together`].
fn part(work: impl FnOnce() + Send + 'static) -> Box<dyn FnOnce() + Send> {
    Box::new(work)
}

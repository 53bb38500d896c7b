//! What runs at once, and what must hold whatever the schedule. Each function is one execution; `tests/` runs them many times.

pub mod admission;
pub mod epoch;
pub mod held;
pub mod open_files;
pub mod readers;
pub mod stage;
pub mod timeline;
pub mod weak;

use shuttle::thread;

/// What a part found wrong while it held what takes a lock when it is let go. It is said when all parts have ended: unwinding through such a
/// thing would take shuttle's locks in a schedule that is over, which aborts the process.
#[derive(Debug, Default)]
struct Findings(std::sync::Mutex<Vec<String>>);

impl Findings {
    fn note(&self, right: bool, what: impl FnOnce() -> String) {
        if !right && let Ok(mut all) = self.0.lock() {
            all.push(what());
        }
    }

    /// # Panics
    /// When something was found.
    fn say(&self) {
        let all = self.0.lock().map(|all| all.clone()).unwrap_or_default();
        assert!(all.is_empty(), "{}", all.join("; "));
    }
}

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

//! Readers of the graph and a writer that writes over places that were given up (`hot-hnsw: epoch.rs`).

use std::sync::Arc;

use super::{Findings, part, together};
use crate::shuttled::epoch::Pins;
use crate::shuttled::sync::{AtomicU64, Ordering::SeqCst, yield_now};

/// Two places, of which one can be reached.
struct Graph {
    pins: Pins,
    entry: AtomicU64,
    places: [AtomicU64; 2],
    /// A planted mistake: the writer does not ask who still looks.
    planted: bool,
    findings: Findings,
}

impl Graph {
    fn new() -> Arc<Self> {
        Self::with(false)
    }

    fn with(planted: bool) -> Arc<Self> {
        Arc::new(Self {
            planted,
            findings: Findings::default(),
            pins: Pins::new(),
            entry: AtomicU64::new(0),
            places: [AtomicU64::new(100), AtomicU64::new(0)],
        })
    }

    fn place(&self, n: u64) -> &AtomicU64 {
        &self.places[n as usize]
    }

    /// A search: what it found must stay as it is until it has ended.
    fn read(&self) {
        let pin = self.pins.pin();
        let at = self.entry.load(SeqCst);
        let found = self.place(at).load(SeqCst);
        let findings = &self.findings;
        findings.note(found >= 100, || {
            "a place that nobody wrote can be reached".to_owned()
        });
        yield_now();
        let again = self.place(at).load(SeqCst);
        findings.note(found == again, || {
            "a place was written over under a reader".to_owned()
        });
        drop(pin);
    }

    /// Whether nobody can still look at what was retired then.
    fn is_past(&self, epoch: u64) -> bool {
        self.planted || epoch < self.pins.oldest()
    }

    /// Replaces the row again and again, each time in the other place once nobody can still look at it.
    fn replace(&self, versions: u64) {
        let mut retired: Option<u64> = None;
        let mut version = 101;
        for _ in 0..4 * versions {
            if version > 100 + versions {
                return;
            }
            let (now, next) = match self.entry.load(SeqCst) {
                0 => (0, 1),
                _ => (1, 0),
            };
            if retired.is_some_and(|epoch| !self.is_past(epoch)) {
                yield_now();
                continue;
            }
            self.place(next).store(version, SeqCst);
            self.entry.store(next, SeqCst);
            retired = Some(self.pins.retire());
            version += 1;
            // What was given up is spoilt as soon as it may be.
            if retired.is_some_and(|epoch| self.is_past(epoch)) {
                self.place(now).store(0, SeqCst);
            }
        }
    }
}

fn readers_and_a_writer(readers: usize, planted: bool) {
    let graph = Graph::with(planted);
    let mut parts = Vec::new();
    for _ in 0..readers {
        let graph = graph.clone();
        parts.push(part(move || (0..2).for_each(|_| graph.read())));
    }
    let writes = graph.clone();
    parts.push(part(move || writes.replace(3)));
    together(parts);
    graph.findings.say();
    assert_eq!(graph.pins.oldest(), u64::MAX, "a reader is still announced");
}

/// Each reader has a cell of its own.
pub fn a_place_is_not_written_over_under_a_reader() {
    readers_and_a_writer(2, false);
}

/// More readers than cells.
pub fn nor_under_readers_without_a_cell() {
    readers_and_a_writer(5, false);
}

/// A compaction waits for whoever still reads, and spoils everything then.
pub fn waiting_ends_when_all_readers_of_before_have() {
    let graph = Graph::new();
    let mut parts = Vec::new();
    for _ in 0..2 {
        let graph = graph.clone();
        parts.push(part(move || graph.read()));
    }
    let writes = graph.clone();
    parts.push(part(move || {
        writes.place(1).store(101, SeqCst);
        writes.entry.store(1, SeqCst);
        writes.pins.wait();
        writes.place(0).store(0, SeqCst);
    }));
    together(parts);
    graph.findings.say();
}

/// A writer that does not wait.
pub fn planted_a_place_is_written_over_under_a_reader() {
    readers_and_a_writer(2, true);
}

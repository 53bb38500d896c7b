//! Cold rows that are to come back: bounded, no duplicates, worthiest first, with backoff, a limit of tries, and a place where
//! what failed for good is shown.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::stats::RestoreFailure;
use crate::clock::Time;
use crate::id::Row;
use crate::role::Verdict;

const FAILURES_SHOWN: usize = 64;

/// A row that waits for promotion.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Waiting {
    pub(crate) row: Row,
    /// Its worth in the hot tier; infinite for a call by hand or a pin.
    pub(crate) keep: f64,
    /// The policy is certain of it: it enters over any victim.
    pub(crate) certain: bool,
    pub(crate) reason: &'static str,
    pub(crate) tries: u32,
    not_before: Time,
}

/// The queue.
#[derive(Debug)]
pub(crate) struct RestoreQueue {
    waiting: BTreeMap<Row, Waiting>,
    failures: VecDeque<RestoreFailure>,
    limit: usize,
    tries: u32,
    backoff: Duration,
}

impl RestoreQueue {
    pub(crate) fn new(limit: usize, tries: u32, backoff: Duration) -> Self {
        Self {
            waiting: BTreeMap::new(),
            failures: VecDeque::new(),
            limit,
            tries,
            backoff,
        }
    }

    /// Adds a row that a call asked for; as [`RestoreQueue::admit`].
    pub(crate) fn push(&mut self, row: Row, keep: f64, reason: &'static str) -> bool {
        self.admit(&Verdict {
            row,
            keep,
            certain: false,
            reason,
        })
    }

    /// Adds a row that the policy admits; `false` when the queue is full. A row that waits already keeps its place.
    pub(crate) fn admit(&mut self, verdict: &Verdict) -> bool {
        let Verdict {
            row,
            keep,
            certain,
            reason,
        } = *verdict;
        if let Some(present) = self.waiting.get_mut(&row) {
            present.keep = present.keep.max(keep);
            present.certain |= certain;
            return true;
        }
        if self.waiting.len() >= self.limit {
            return false;
        }
        let waiting = Waiting {
            row,
            keep,
            certain,
            reason,
            tries: 0,
            not_before: Time(0),
        };
        self.waiting.insert(row, waiting);
        true
    }

    /// Takes the worthiest rows whose time has come.
    pub(crate) fn take(&mut self, most: usize, now: Time) -> Vec<Waiting> {
        let mut ready: Vec<Waiting> = self
            .waiting
            .values()
            .filter(|w| w.not_before <= now)
            .cloned()
            .collect();
        ready.sort_by(|a, b| b.keep.total_cmp(&a.keep).then(a.row.cmp(&b.row)));
        ready.truncate(most);
        for taken in &ready {
            self.waiting.remove(&taken.row);
        }
        ready
    }

    /// Puts a row back untouched, since there was no room for it.
    pub(crate) fn put_back(&mut self, waiting: Waiting) {
        self.waiting.insert(waiting.row, waiting);
    }

    /// Puts a row back after a failure, to be tried again later: the wait doubles with each try, and `jitter` (0 to 1) spreads
    /// rows that failed together. After the last try the row is given up and shown.
    pub(crate) fn failed(&mut self, mut waiting: Waiting, now: Time, jitter: f64, error: &str) {
        waiting.tries += 1;
        if waiting.tries >= self.tries {
            if self.failures.len() == FAILURES_SHOWN {
                self.failures.pop_front();
            }
            let (row, tries) = (waiting.row.0, waiting.tries);
            self.failures.push_back(RestoreFailure {
                row,
                tries,
                error: error.to_owned(),
            });
            return;
        }
        let doubled = self
            .backoff
            .saturating_mul(1 << (waiting.tries - 1).min(16));
        waiting.not_before = now.after(doubled.mul_f64(0.5 + jitter.clamp(0.0, 1.0)));
        self.waiting.insert(waiting.row, waiting);
    }

    /// Forgets a row that was deleted or replaced.
    pub(crate) fn forget(&mut self, row: Row) {
        self.waiting.remove(&row);
    }

    /// Tries made with a row that waits; `None` for one that does not.
    pub(crate) fn tries(&self, row: Row) -> Option<u32> {
        self.waiting.get(&row).map(|w| w.tries)
    }

    /// Rows that wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// The rows given up last.
    pub(crate) fn failures(&self) -> Vec<RestoreFailure> {
        self.failures.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worthiest_come_first_and_failures_wait_longer_each_time_then_end() {
        let mut q = RestoreQueue::new(2, 3, Duration::from_millis(100));
        assert!(q.push(Row(1), 1.0, "used"));
        assert!(q.push(Row(2), 2.0, "used"));
        assert!(!q.push(Row(3), 9.0, "used"), "full");
        assert!(q.push(Row(1), 5.0, "used again"), "no duplicate");
        let taken = q.take(1, Time(0));
        assert_eq!(taken[0].row, Row(1));
        q.failed(taken[0].clone(), Time(0), 0.5, "store is down");
        assert_eq!(q.take(9, Time(99_000)).len(), 1, "only row 2 is ready");
        let again = q.take(9, Time(100_000)).remove(0);
        q.failed(again, Time(100_000), 0.5, "store is down");
        assert!(q.take(9, Time(299_000)).is_empty());
        let last = q.take(9, Time(300_000)).remove(0);
        q.failed(last, Time(300_000), 0.5, "store is down");
        assert_eq!(q.len(), 0);
        assert_eq!(q.failures()[0].tries, 3);
        assert!(
            q.push(Row(1), 1.0, "used"),
            "a row given up may be asked for again"
        );
    }
}

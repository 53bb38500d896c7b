//! Runs queries and sums up what they cost.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use aether::Row;
use aether::role::Neighbor;
use serde::Serialize;

use super::super::{Done, Failure};

/// How long single calls took.
#[derive(Clone, Debug, Default)]
pub(crate) struct Latencies(Vec<u64>);

impl Latencies {
    /// Notes one call.
    pub(crate) fn push(&mut self, took: Duration) {
        self.0
            .push(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Takes over another thread's.
    pub(crate) fn append(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }

    /// Number of calls.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The time below which this share of the calls stayed (nearest rank), in microseconds; 0 without calls.
    pub(crate) fn percentile_us(&mut self, share: f64) -> f64 {
        self.0.sort_unstable();
        let rank = (share * self.0.len() as f64).ceil() as usize;
        self.0
            .get(rank.saturating_sub(1))
            .map_or(0.0, |ns| *ns as f64 / 1e3)
    }
}

/// Answers compared with the exact ones.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Recall {
    found: usize,
    wanted: usize,
}

impl Recall {
    /// Counts which rows of `truth` an answer has.
    pub(crate) fn count(&mut self, truth: &[Neighbor], answer: &[Neighbor]) {
        let has = |row: Row| answer.iter().any(|n| n.row == row);
        self.wanted += truth.len();
        self.found += truth.iter().filter(|n| has(n.row)).count();
    }

    /// Share of the true answers that were found; 1 when there were none to find.
    pub(crate) fn share(self) -> f64 {
        if self.wanted == 0 {
            return 1.0;
        }
        self.found as f64 / self.wanted as f64
    }
}

/// Answers one query by its number: rows found, nearest first.
pub(crate) trait Query: Sync {
    /// What comes before each query and is not timed.
    fn prepare(&self) -> aether::Result<()> {
        Ok(())
    }

    /// Runs the query.
    fn run(&self, query: usize) -> aether::Result<Vec<u64>>;
}

impl<F: Fn(usize) -> aether::Result<Vec<u64>> + Sync> Query for F {
    fn run(&self, query: usize) -> aether::Result<Vec<u64>> {
        self(query)
    }
}

/// What a number of queries gave.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Summary {
    /// Share of the true neighbours found, mean over queries.
    pub(crate) recall: f64,
    /// Queries answered in a second, by all threads together.
    pub(crate) qps: f64,
    /// Median time of a query.
    pub(crate) p50_us: f64,
    /// Time that 99 of 100 queries stay below.
    pub(crate) p99_us: f64,
    /// Queries answered.
    pub(crate) searches: usize,
}

/// Runs all `queries` on `threads` threads, again and again for at least `seconds`; `recall` scores the first answer of each.
/// A pass over some of them comes before, to warm caches.
pub(crate) fn run_queries(
    queries: usize,
    threads: usize,
    seconds: f64,
    query: &impl Query,
    recall: impl Fn(usize, &[u64]) -> f64 + Sync,
) -> Done<Summary> {
    for q in 0..queries.min(100) {
        query.run(q)?;
    }
    run_queries_unwarmed(queries, threads, seconds, query, recall)
}

/// The same without the pass before.
pub(crate) fn run_queries_unwarmed(
    queries: usize,
    threads: usize,
    seconds: f64,
    query: &impl Query,
    recall: impl Fn(usize, &[u64]) -> f64 + Sync,
) -> Done<Summary> {
    let next = AtomicUsize::new(0);
    let shared = Mutex::new((0.0, Latencies::default()));
    let least = Duration::from_secs_f64(seconds.clamp(0.0, 3600.0));
    let started = Instant::now();
    let work = || -> aether::Result<()> {
        let (mut found, mut took) = (Vec::new(), Latencies::default());
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            if i >= queries && started.elapsed() >= least {
                break;
            }
            query.prepare()?;
            let begin = Instant::now();
            let rows = query.run(i % queries)?;
            took.push(begin.elapsed());
            if i < queries {
                found.push((i, rows));
            }
        }
        let sum: f64 = found.iter().map(|(q, rows)| recall(*q, rows)).sum();
        if let Ok(mut all) = shared.lock() {
            all.0 += sum;
            all.1.append(took);
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(work)).collect();
        handles.into_iter().try_for_each(|h| match h.join() {
            Ok(done) => done.map_err(Failure::from),
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })?;
    let elapsed = started.elapsed().as_secs_f64();
    let (sum, mut took) = shared
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    Ok(Summary {
        recall: sum / queries.max(1) as f64,
        qps: took.len() as f64 / elapsed,
        p50_us: took.percentile_us(0.50),
        p99_us: took.percentile_us(0.99),
        searches: took.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let mut l = Latencies((1..=100).map(|n| n * 1000).collect());
        assert_eq!(
            (
                l.percentile_us(0.5),
                l.percentile_us(0.99),
                l.percentile_us(1.0)
            ),
            (50.0, 99.0, 100.0)
        );
        assert_eq!(Latencies::default().percentile_us(0.5), 0.0);
    }

    #[test]
    fn recall_is_the_share_of_the_true_rows() {
        let rows = |rows: &[u64]| -> Vec<Neighbor> {
            let distance = 0.0;
            rows.iter()
                .map(|row| Neighbor {
                    row: Row(*row),
                    distance,
                })
                .collect()
        };
        let mut recall = Recall::default();
        assert_eq!(recall.share(), 1.0);
        recall.count(&rows(&[1, 2, 3]), &rows(&[3, 9, 1]));
        recall.count(&rows(&[4]), &rows(&[]));
        assert_eq!(recall.share(), 0.5);
    }

    #[test]
    fn every_query_is_scored_once_whatever_the_threads() {
        for threads in [1, 3] {
            let query = |q: usize| Ok(vec![q as u64]);
            let recall = |q: usize, rows: &[u64]| {
                if rows == [q as u64] && q < 5 {
                    1.0
                } else {
                    0.0
                }
            };
            let s = run_queries(10, threads, 0.01, &query, recall).unwrap();
            assert_eq!(s.recall, 0.5);
            assert!(s.searches >= 10 && s.p50_us <= s.p99_us);
        }
    }

    #[test]
    fn a_failing_query_ends_the_measurement() {
        let query = |q: usize| {
            if q == 7 {
                Err(aether::Error::closed("gone"))
            } else {
                Ok(vec![])
            }
        };
        assert!(run_queries(10, 2, 0.0, &query, |_, _| 0.0).is_err());
    }
}

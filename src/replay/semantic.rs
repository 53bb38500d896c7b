//! A workload of questions: each access of the memory is a retrieval that touches the true nearest neighbours of a query.
//!
//! **Topics.** Each has a base vector as its centre and a few phrasings; a phrasing is the mean of the centre and one of the centre's
//! neighbours, and its answer is the exact `k` nearest base vectors. Topics differ in popularity by Zipf's law, and popularity drifts:
//! every `drift` queries a tenth of the topics change places with others.
//!
//! **Sessions.** A few go on at a time; each draws a topic by popularity, asks its phrasings in random order with repeats, and ends
//! after a geometrically distributed number of questions.
//!
//! **Importance.** Every base vector has a hidden worth, the cube of a uniform number, which is the feedback given with each access.
//!
//! What comes out is a [`Trace`] whose time is the number of the query: rows of equal time are one retrieval, nearest first. So the same
//! trace can be replayed with that signal and without it.

use aether_core::{Error, Metric, Result};
use fastrand::Rng;

use super::reader::{IMPORTANCE_MAX, Request};
use super::trace::Trace;
use crate::import::{Matrix, Truth};

/// Neighbours of a topic's centre from which its phrasings are made.
const AROUND: usize = 30;
/// Share of the topics whose popularity changes at a time.
const DRIFTING: usize = 10;

/// How a workload is made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Topics {
    /// Topics.
    pub topics: usize,
    /// Different questions about each.
    pub phrasings: usize,
    /// Rows that a question touches.
    pub k: usize,
    /// Questions asked in all.
    pub queries: u64,
    /// Exponent of Zipf's law of the topics' popularity; 0 makes all equal.
    pub skew: f64,
    /// Questions between two changes of popularity.
    pub drift: u64,
    /// Sessions that go on at the same time.
    pub sessions: usize,
    /// Questions in a session, on average.
    pub session_queries: f64,
    /// Seed of all draws.
    pub seed: u64,
}

impl Topics {
    /// The workload that the documentation's figures are of.
    pub const DEFAULT: Self = Self {
        topics: 400,
        phrasings: 12,
        k: 10,
        queries: 20_000,
        skew: 0.9,
        drift: 500,
        sessions: 4,
        session_queries: 8.0,
        seed: 1,
    };
}

impl Default for Topics {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl Topics {
    fn check(&self, base: &Matrix) -> Result<()> {
        let refuse = |what: String| Err(Error::invalid_input(format!("semantic workload: {what}")));
        if self.topics == 0 || self.topics > base.rows() {
            return refuse(format!(
                "expected 1 to {} topics, as many as there are vectors, got {}",
                base.rows(),
                self.topics
            ));
        }
        if self.k == 0 || self.k > base.rows() {
            return refuse(format!(
                "expected k of 1 to {}, got {}",
                base.rows(),
                self.k
            ));
        }
        let counts = [
            self.phrasings as u64,
            self.queries,
            self.drift,
            self.sessions as u64,
        ];
        if counts.contains(&0) {
            return refuse(
                "expected at least one phrasing, query, session, and query between drifts"
                    .to_owned(),
            );
        }
        if !(self.skew >= 0.0 && self.skew.is_finite() && self.session_queries >= 1.0) {
            return refuse(format!(
                "expected a skew of at least 0 and sessions of at least 1 query, got {} and {}",
                self.skew, self.session_queries
            ));
        }
        Ok(())
    }

    /// Makes the workload over `base`. Finds the answers exactly: topics times phrasings scans of all vectors, on all processors.
    ///
    /// # Errors
    /// `InvalidInput` for settings that make no sense, as more topics than vectors.
    pub fn workload(
        &self,
        name: impl Into<String>,
        base: &Matrix,
        metric: Metric,
    ) -> Result<Trace> {
        self.check(base)?;
        let mut rng = Rng::with_seed(self.seed);
        let answers = self.answers(base, metric, &mut rng)?;
        let worth: Vec<u8> = (0..base.rows())
            .map(|_| (rng.f64().powi(3) * f64::from(IMPORTANCE_MAX)).round() as u8)
            .collect();
        let asked = self.ask(&mut rng);
        let requests = asked.iter().zip(0..).flat_map(|(question, time)| {
            let rows = answers.of(*question, self.k);
            rows.iter().map(move |row| (time, *row))
        });
        Trace::from_requests(
            name,
            requests.map(|(time, row)| Request {
                time,
                key: u64::from(row),
                size: 1,
                write: false,
                importance: Some(worth[row as usize]),
            }),
        )
    }

    /// The nearest rows of every phrasing; those of topic `t` begin at `t * phrasings`.
    fn answers(&self, base: &Matrix, metric: Metric, rng: &mut Rng) -> Result<Truth> {
        let dim = base.dim();
        let mut rows: Vec<usize> = (0..base.rows()).collect();
        rng.shuffle(&mut rows);
        rows.truncate(self.topics);
        let gathered = rows.iter().flat_map(|row| base.row(*row)).copied();
        let centres = Matrix::new(dim, gathered.collect())?;
        let around = Truth::compute(base, &centres, metric, AROUND);
        let mut questions = Vec::with_capacity(self.topics * self.phrasings * dim);
        for (topic, centre) in centres.iter().enumerate() {
            let near = around.of(topic, AROUND.min(base.rows()));
            for _ in 0..self.phrasings {
                let other = base.row(near[rng.usize(..near.len())] as usize);
                questions.extend(centre.iter().zip(other).map(|(a, b)| (a + b) / 2.0));
            }
        }
        let questions = Matrix::new(dim, questions)?;
        Ok(Truth::compute(base, &questions, metric, self.k))
    }

    /// Which question is asked when.
    fn ask(&self, rng: &mut Rng) -> Vec<usize> {
        let weights = (1..=self.topics).map(|n| (n as f64).powf(-self.skew));
        let total: f64 = weights.clone().sum();
        let cumulative: Vec<f64> = weights
            .scan(0.0, |sum, w| {
                *sum += w / total;
                Some(*sum)
            })
            .collect();
        let mut order: Vec<usize> = (0..self.topics).collect();
        rng.shuffle(&mut order);
        let mut sessions: Vec<Option<usize>> = vec![None; self.sessions];
        let mut asked = Vec::new();
        for query in 0..self.queries {
            if query > 0 && query.is_multiple_of(self.drift) {
                for _ in 0..self.topics.div_ceil(DRIFTING) {
                    order.swap(rng.usize(..self.topics), rng.usize(..self.topics));
                }
            }
            let session = &mut sessions[rng.usize(..self.sessions)];
            let topic = *session.get_or_insert_with(|| {
                let share = rng.f64();
                let place = cumulative.partition_point(|c| *c < share);
                order[place.min(self.topics - 1)]
            });
            asked.push(topic * self.phrasings + rng.usize(..self.phrasings));
            if rng.f64() * self.session_queries < 1.0 {
                *session = None;
            }
        }
        asked
    }
}

#[cfg(test)]
mod tests {
    use super::super::trace::Step;
    use super::*;

    fn base() -> Matrix {
        let mut rng = Rng::with_seed(2);
        Matrix::new(8, (0..500 * 8).map(|_| rng.f32() - 0.5).collect()).unwrap()
    }

    fn small() -> Topics {
        Topics {
            topics: 20,
            phrasings: 5,
            k: 7,
            queries: 3_000,
            drift: 1_000,
            ..Topics::default()
        }
    }

    fn steps(trace: &Trace) -> Vec<Step> {
        let mut all = Vec::new();
        let see = &mut |steps: &[Step], _: &[u64]| {
            all.extend_from_slice(steps);
            Ok(())
        };
        trace.each_block(false, see).unwrap();
        all
    }

    #[test]
    fn each_query_touches_its_k_neighbours_and_one_seed_makes_one_workload() {
        let base = base();
        let trace = small().workload("w", &base, Metric::L2).unwrap();
        assert_eq!(trace.requests(), 3_000 * 7);
        let all = steps(&trace);
        assert!(all.chunks(7).all(|q| q.iter().all(|s| s.time == q[0].time)));
        assert!(
            all.chunks(7)
                .all(|q| (0..7).all(|i| q[i + 1..].iter().all(|s| s.id != q[i].id)))
        );
        let again = small().workload("w", &base, Metric::L2).unwrap();
        assert_eq!(all, steps(&again));
        let other = Topics { seed: 9, ..small() };
        assert_ne!(all, steps(&other.workload("w", &base, Metric::L2).unwrap()));
    }

    #[test]
    fn few_topics_are_asked_for_most_and_not_always_the_same() {
        let topics = small();
        let asked = topics.ask(&mut Rng::with_seed(3));
        let count = |part: &[usize]| {
            let mut counts = vec![0; topics.topics];
            part.iter().for_each(|q| counts[q / topics.phrasings] += 1);
            counts
        };
        let mut all = count(&asked);
        all.sort_unstable();
        let most: usize = all.iter().rev().take(5).sum();
        assert!(
            most * 5 > asked.len() * 2,
            "the five most popular have {most}"
        );
        let (first, last) = (count(&asked[..1000]), count(&asked[2000..]));
        assert_ne!(first, last);
        // Sessions: the next question of a session is often about the same topic.
        let repeats = asked.windows(2).filter(|w| w[0] / 5 == w[1] / 5).count();
        assert!(repeats > asked.len() / 5, "{repeats}");
    }

    #[test]
    fn settings_that_make_no_sense_are_refused() {
        let base = base();
        for wrong in [
            Topics {
                topics: 501,
                ..small()
            },
            Topics {
                topics: 0,
                ..small()
            },
            Topics { k: 0, ..small() },
            Topics {
                queries: 0,
                ..small()
            },
            Topics {
                sessions: 0,
                ..small()
            },
            Topics {
                skew: f64::NAN,
                ..small()
            },
            Topics {
                session_queries: 0.5,
                ..small()
            },
        ] {
            let error = wrong.workload("w", &base, Metric::L2).unwrap_err();
            assert!(error.to_string().contains("semantic workload"), "{error}");
        }
    }
}

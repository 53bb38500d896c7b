//! A skewed stream of real questions, with feedback, and what the memory looked like meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use aether::config::SearchMode;
use aether::{Memory, SearchRequest, Stats};
use fastrand::Rng;
use serde::Serialize;
use tokio::sync::Mutex;

use super::K;
use super::data::Speeches;
use super::live::Live;
use crate::cli::Done;
use crate::cli::bench::Latencies;

/// Exponent of Zipf's law: the n-th most popular question is asked 1/n^s times as often as the first. Query logs of search
/// engines are usually fitted with 0.8 to 1.2.
const ZIPF: f64 = 1.1;
/// Time between two looks at the memory.
const SAMPLE_EVERY: Duration = Duration::from_millis(100);
/// Tasks that ask.
const ASKERS: usize = 2;

/// What is to be replayed.
pub(super) struct Replay<'a> {
    pub(super) speeches: &'a Arc<Speeches>,
    pub(super) seed: u64,
    pub(super) seconds: f64,
    pub(super) rate: f64,
}

/// The memory at one moment of the replay.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Sample {
    pub(super) at_s: f64,
    pub(super) hot_bytes: u64,
    pub(super) budget_bytes: u64,
    pub(super) temperature: f64,
    pub(super) demoted: u64,
    pub(super) promoted: u64,
    /// Answers since the sample before, and how many of them came from RAM.
    pub(super) answers: u64,
    pub(super) answers_hot: u64,
    pub(super) searches: u64,
}

/// The stream in figures.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Figures {
    pub(super) searches: usize,
    pub(super) feedbacks: u64,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
    pub(super) hit_rate: f64,
    /// In the first second.
    pub(super) hit_rate_first: f64,
    /// In the last second before the interest changes.
    pub(super) hit_rate_settled: f64,
}

/// What came of it.
pub(super) struct Replayed {
    pub(super) samples: Vec<Sample>,
    pub(super) figures: Figures,
    pub(super) hot_bytes_max: u64,
    /// Questions from the most to the least asked, at the end.
    pub(super) popularity: Popularity,
}

/// Who asks how often what.
#[derive(Clone, Debug)]
pub(super) struct Popularity {
    /// Questions, most popular first.
    pub(super) order: Vec<usize>,
    /// Share of the stream up to and including each place.
    cumulative: Vec<f64>,
}

impl Popularity {
    /// A random order of so many questions.
    pub(super) fn new(questions: usize, rng: &mut Rng) -> Self {
        let mut order: Vec<usize> = (0..questions).collect();
        rng.shuffle(&mut order);
        let weights = (1..=questions).map(|n| (n as f64).powf(-ZIPF));
        let total: f64 = weights.clone().sum();
        let cumulative = weights.scan(0.0, |sum, w| {
            *sum += w / total;
            Some(*sum)
        });
        Self {
            cumulative: cumulative.collect(),
            order,
        }
    }

    /// A question as people ask them.
    pub(super) fn draw(&self, rng: &mut Rng) -> usize {
        let share = rng.f64();
        let at = self.cumulative.partition_point(|c| *c < share);
        self.order[at.min(self.order.len() - 1)]
    }

    /// Share of the stream that asks the question in this place.
    pub(super) fn weight(&self, place: usize) -> f64 {
        self.cumulative[place]
            - if place == 0 {
                0.0
            } else {
                self.cumulative[place - 1]
            }
    }
}

/// What all askers share.
struct Shared {
    memory: Memory,
    speeches: Arc<Speeches>,
    /// The first half of the time people want one thing, the second half another.
    phases: [Popularity; 2],
    late: AtomicBool,
    stop: AtomicBool,
    feedbacks: AtomicU64,
    took: Mutex<Latencies>,
}

impl Replay<'_> {
    /// Asks, and watches.
    pub(super) async fn run(self, memory: &Memory, mut live: Live) -> Done<Replayed> {
        let mut rng = Rng::with_seed(self.seed);
        let questions = self.speeches.questions.len();
        let phases = [
            Popularity::new(questions, &mut rng),
            Popularity::new(questions, &mut rng),
        ];
        let shared = Arc::new(Shared {
            memory: memory.clone(),
            speeches: self.speeches.clone(),
            phases,
            late: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            feedbacks: AtomicU64::new(0),
            took: Mutex::new(Latencies::default()),
        });
        let pause = Duration::from_secs_f64(ASKERS as f64 / self.rate);
        let askers: Vec<_> = (0..ASKERS)
            .map(|_| tokio::spawn(ask(shared.clone(), Rng::with_seed(rng.u64(..)), pause)))
            .collect();
        let started = Instant::now();
        let mut samples = Vec::new();
        let mut before = memory.stats();
        let mut interval = tokio::time::interval(SAMPLE_EVERY);
        while started.elapsed().as_secs_f64() < self.seconds
            && !askers.iter().any(|a| a.is_finished())
        {
            interval.tick().await;
            let at_s = started.elapsed().as_secs_f64();
            shared.late.store(at_s > self.seconds / 2.0, Relaxed);
            let now = memory.stats();
            let sample = sample(at_s, &before, &now);
            live.show(&sample, &now)?;
            samples.push(sample);
            before = now;
        }
        shared.stop.store(true, Relaxed);
        for asker in askers {
            asker
                .await
                .map_err(|e| aether::Error::internal("an asker ended early").with_source(e))??;
        }
        live.finish();
        let mut took = shared.took.lock().await;
        let half = self.seconds / 2.0;
        let figures = Figures {
            searches: took.len(),
            feedbacks: shared.feedbacks.load(Relaxed),
            p50_us: took.percentile_us(0.50),
            p99_us: took.percentile_us(0.99),
            hit_rate: hit_rate(&samples, 0.0, f64::INFINITY),
            hit_rate_first: hit_rate(&samples, 0.0, 1.0),
            hit_rate_settled: hit_rate(&samples, half - 1.0, half),
        };
        let hot_bytes_max = samples.iter().map(|s| s.hot_bytes).max().unwrap_or(0);
        let popularity = shared.phases[1].clone();
        Ok(Replayed {
            samples,
            figures,
            hot_bytes_max,
            popularity,
        })
    }
}

fn sample(at_s: f64, before: &Stats, now: &Stats) -> Sample {
    let (then, c) = (&before.counted, &now.counted);
    let hot = c.hits_hot - then.hits_hot;
    Sample {
        at_s,
        hot_bytes: now.hot_bytes,
        budget_bytes: now.budget_bytes,
        temperature: now.temperature,
        demoted: c.demoted,
        promoted: c.promoted,
        answers: hot + c.hits_cold - then.hits_cold,
        answers_hot: hot,
        searches: c.searches,
    }
}

/// Share of the answers between two moments that came from RAM; 0 without answers.
pub(super) fn hit_rate(samples: &[Sample], from_s: f64, to_s: f64) -> f64 {
    let within = samples.iter().filter(|s| (from_s..=to_s).contains(&s.at_s));
    let (hot, all) = within.fold((0, 0), |(hot, all), s| {
        (hot + s.answers_hot, all + s.answers)
    });
    if all == 0 {
        0.0
    } else {
        hot as f64 / all as f64
    }
}

/// One who asks in a steady rhythm, and says of each best answer that it was useful.
async fn ask(shared: Arc<Shared>, mut rng: Rng, pause: Duration) -> aether::Result<()> {
    let mut took = Latencies::default();
    let mut rhythm = tokio::time::interval(pause);
    rhythm.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while !shared.stop.load(Relaxed) {
        rhythm.tick().await;
        let phase = &shared.phases[usize::from(shared.late.load(Relaxed))];
        let question = phase.draw(&mut rng);
        let vector = shared.speeches.queries.row(question).to_vec();
        let begin = Instant::now();
        let answer = shared
            .memory
            .search(SearchRequest::new(vector, K).mode(SearchMode::Bounded))
            .await?;
        took.push(begin.elapsed());
        if let Some(best) = answer.hits.first() {
            shared.memory.feedback(&best.id, 1.0).await?;
            shared.feedbacks.fetch_add(1, Relaxed);
        }
    }
    shared.took.lock().await.append(took);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn popular_questions_are_asked_by_zipfs_law() {
        let mut rng = Rng::with_seed(7);
        let p = Popularity::new(50, &mut rng);
        let mut asked = [0u32; 50];
        (0..100_000).for_each(|_| asked[p.draw(&mut rng)] += 1);
        for place in [0, 1, 9] {
            let share = f64::from(asked[p.order[place]]) / 1e5;
            assert!(
                (share / p.weight(place) - 1.0).abs() < 0.1,
                "place {place}: {share} against {}",
                p.weight(place)
            );
        }
        let total: f64 = (0..50).map(|i| p.weight(i)).sum();
        assert!((total - 1.0).abs() < 1e-9);
    }
}

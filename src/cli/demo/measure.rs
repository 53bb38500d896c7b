//! How good the answers are, mode by mode, and a few of them in words.

use std::time::Instant;

use aether::config::SearchMode;
use aether::role::Tier;
use aether::{Answer, Memory, Parts, PointId, SearchRequest};
use serde::Serialize;

use super::K;
use super::data::Speeches;
use super::replay::Popularity;
use crate::cli::Done;
use crate::cli::bench::Latencies;

/// One figure for each mode.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Recalls<T> {
    pub(super) hot_only: T,
    pub(super) bounded: T,
    pub(super) complete: T,
}

impl<T> Recalls<T> {
    fn of(&mut self, mode: SearchMode) -> &mut T {
        match mode {
            SearchMode::HotOnly => &mut self.hot_only,
            SearchMode::Bounded => &mut self.bounded,
            SearchMode::Complete => &mut self.complete,
        }
    }
}

/// What was measured.
pub(super) struct Measured {
    pub(super) recall: Recalls<f64>,
    pub(super) recall_in_stream: Recalls<f64>,
    pub(super) p50_us: Recalls<f64>,
    pub(super) p99_us: Recalls<f64>,
    /// Mean share of the cold rows that were compared.
    pub(super) cold_share: Recalls<f64>,
}

/// Times that every question is asked in each mode, so that the 99th percentile means something.
const ROUNDS: usize = 4;

/// Asks every question in every mode, leaving no trace with the policy.
pub(super) async fn recalls(
    memory: &Memory,
    speeches: &Speeches,
    popularity: &Popularity,
) -> Done<Measured> {
    let mut m = Measured {
        recall: Recalls::default(),
        recall_in_stream: Recalls::default(),
        p50_us: Recalls::default(),
        p99_us: Recalls::default(),
        cold_share: Recalls::default(),
    };
    let questions = popularity.order.len();
    for mode in SearchMode::ALL {
        let mut took = Latencies::default();
        for round in 0..ROUNDS {
            for (place, question) in popularity.order.iter().enumerate() {
                let vector = speeches.queries.row(*question).to_vec();
                let begin = Instant::now();
                let answer = memory
                    .search(SearchRequest::new(vector, K).mode(mode).untouched())
                    .await?;
                took.push(begin.elapsed());
                if round > 0 {
                    continue;
                }
                let recall = speeches.recall(*question, &rows(&answer));
                *m.recall.of(mode) += recall / questions as f64;
                *m.recall_in_stream.of(mode) += recall * popularity.weight(place);
                let c = &answer.coverage;
                *m.cold_share.of(mode) +=
                    c.cold_rows_scored as f64 / c.cold_rows.max(1) as f64 / questions as f64;
            }
        }
        *m.p50_us.of(mode) = took.percentile_us(0.50);
        *m.p99_us.of(mode) = took.percentile_us(0.99);
    }
    Ok(m)
}

fn rows(answer: &Answer) -> Vec<u64> {
    answer
        .hits
        .iter()
        .filter_map(|h| {
            if let PointId::Int(n) = h.id {
                Some(n)
            } else {
                None
            }
        })
        .collect()
}

/// A question, and its best answers.
#[derive(Debug, Serialize)]
pub(super) struct Example {
    pub(super) question: String,
    pub(super) answers: Vec<Quotation>,
}

/// One answer in words.
#[derive(Debug, Serialize)]
pub(super) struct Quotation {
    pub(super) row: u64,
    pub(super) speaker: String,
    pub(super) text: String,
    pub(super) distance: f32,
    pub(super) tier: Tier,
}

/// Questions with their answers.
pub(super) type Examples = Vec<Example>;

/// Answers shown of each example.
const SHOWN: usize = 3;

/// A popular question, one in the middle, and one that nobody asks.
pub(super) async fn examples(
    memory: &Memory,
    speeches: &Speeches,
    popularity: &Popularity,
) -> Done<Examples> {
    let last = popularity.order.len() - 1;
    let mut examples = Vec::new();
    for place in [0, last / 2, last] {
        let question = popularity.order[place];
        let request = SearchRequest::new(speeches.queries.row(question).to_vec(), SHOWN)
            .parts(Parts {
                vector: false,
                payload: true,
            })
            .untouched();
        let answer = memory.search(request).await?;
        let word = |payload: &serde_json::Value, key: &str| {
            payload[key].as_str().unwrap_or_default().to_owned()
        };
        let quotations = answer.hits.into_iter().zip(1u64..).map(|(hit, n)| {
            let payload = hit.payload.unwrap_or_default();
            Quotation {
                row: if let PointId::Int(row) = hit.id {
                    row
                } else {
                    n
                },
                speaker: word(&payload, "speaker"),
                text: word(&payload, "text"),
                distance: hit.distance,
                tier: hit.tier,
            }
        });
        examples.push(Example {
            question: speeches.questions[question].clone(),
            answers: quotations.collect(),
        });
    }
    Ok(examples)
}

/// A row that is hot and one that is cold, each the best such answer to a question: hot to a popular one, cold to a rare one.
pub(super) async fn one_of_each(
    memory: &Memory,
    speeches: &Speeches,
    popularity: &Popularity,
) -> Done<(Option<u64>, Option<u64>)> {
    let mut found = [None, None];
    for (slot, tier) in [Tier::Hot, Tier::Cold].into_iter().enumerate() {
        for place in 0..popularity.order.len() {
            let place = if tier == Tier::Hot {
                place
            } else {
                popularity.order.len() - 1 - place
            };
            let vector = speeches.queries.row(popularity.order[place]).to_vec();
            let answer = memory
                .search(
                    SearchRequest::new(vector, K)
                        .mode(SearchMode::Complete)
                        .untouched(),
                )
                .await?;
            let hit = answer.hits.iter().find(|h| h.tier == tier);
            if let Some(PointId::Int(row)) = hit.map(|h| &h.id) {
                found[slot] = Some(*row);
                break;
            }
        }
    }
    Ok((found[0], found[1]))
}

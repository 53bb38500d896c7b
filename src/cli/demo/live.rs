//! The memory while it works: bars on a terminal, else a plain line each second.

use std::io::{self, IsTerminal};

use aether::Stats;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::replay::{Sample, hit_rate};
use crate::cli::{Done, output};

/// Seconds between two plain lines.
const PLAIN_EVERY_S: f64 = 1.0;
/// Samples that the shown hit rate looks back over.
const WINDOW: usize = 10;

/// Shows samples as they come.
pub(super) struct Live {
    bars: Option<Bars>,
    json: bool,
    spoken_s: f64,
    recent: Vec<Sample>,
}

struct Bars {
    all: MultiProgress,
    hot: ProgressBar,
    temperature: ProgressBar,
    hits: ProgressBar,
    moves: ProgressBar,
}

/// Bars count in whole steps.
const STEPS: f64 = 1000.0;

impl Bars {
    fn new() -> Self {
        let all = MultiProgress::new();
        let bar = |name: &'static str, colour: &str| {
            let bar = all.add(ProgressBar::new(STEPS as u64));
            let template = format!("{{prefix:12}} [{{bar:40.{colour}}}] {{msg}}");
            if let Ok(style) = ProgressStyle::with_template(&template) {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.set_prefix(name);
            bar
        };
        let (hot, temperature, hits) = (
            bar("hot bytes", "green"),
            bar("temperature", "red"),
            bar("hit rate", "cyan"),
        );
        let moves = all.add(ProgressBar::new_spinner());
        if let Ok(style) = ProgressStyle::with_template("{prefix:12} {msg}") {
            moves.set_style(style);
        }
        moves.set_prefix("moves");
        Self {
            hot,
            temperature,
            hits,
            moves,
            all,
        }
    }
}

impl Live {
    pub(super) fn new(json: bool) -> Self {
        let bars = io::stderr().is_terminal().then(Bars::new);
        Self {
            bars,
            json,
            spoken_s: -PLAIN_EVERY_S,
            recent: Vec::new(),
        }
    }

    pub(super) fn show(&mut self, sample: &Sample, stats: &Stats) -> Done<()> {
        self.recent.push(sample.clone());
        let from = self.recent.len().saturating_sub(WINDOW);
        self.recent.drain(..from);
        let hits = hit_rate(&self.recent, 0.0, f64::INFINITY);
        let share = sample.hot_bytes as f64 / sample.budget_bytes.max(1) as f64;
        let hot = format!(
            "{} of {}",
            output::bytes(sample.hot_bytes),
            output::bytes(sample.budget_bytes)
        );
        let moves = format!(
            "{} demoted, {} promoted, {} waiting; {} searches",
            sample.demoted, sample.promoted, stats.restore_queue, sample.searches
        );
        if let Some(bars) = &self.bars {
            bars.hot.set_position((share * STEPS) as u64);
            bars.hot.set_message(hot);
            // The scale of a logarithm: temperatures run from far below one to a few.
            bars.temperature
                .set_position(((sample.temperature.max(0.01).log10() + 2.0) / 3.0 * STEPS) as u64);
            bars.temperature
                .set_message(format!("{:.2}", sample.temperature));
            bars.hits.set_position((hits * STEPS) as u64);
            bars.hits
                .set_message(format!("{:.1} % from RAM", hits * 100.0));
            bars.moves.set_message(moves);
        } else if sample.at_s - self.spoken_s >= PLAIN_EVERY_S {
            self.spoken_s = sample.at_s;
            let text = format!(
                "{:5.1} s  hot {hot}  temperature {:.2}  hit rate {:5.1} %  {moves}",
                sample.at_s,
                sample.temperature,
                hits * 100.0
            );
            if self.json {
                output::note(text)
            } else {
                output::line(text)?
            }
        }
        Ok(())
    }

    pub(super) fn finish(self) {
        if let Some(bars) = self.bars {
            for bar in [&bars.hot, &bars.temperature, &bars.hits, &bars.moves] {
                bar.finish();
            }
            drop(bars.all);
        }
    }
}

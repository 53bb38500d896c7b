//! The demo in words. With `--json` it keeps silent on stdout and the words go to stderr.

use std::fmt::Display;

use aether::role::Tier;
use aether::{CheckReport, Explained, PointId};

use super::crash::Crashed;
use super::data::Speeches;
use super::measure::{Example, Measured};
use crate::cli::{Done, output};

pub(super) struct Teller {
    json: bool,
}

impl Teller {
    pub(super) fn new(json: bool) -> Self {
        Self { json }
    }

    pub(super) fn line(&self, text: impl Display) -> Done<()> {
        if self.json {
            output::note(text);
            return Ok(());
        }
        output::line(text)
    }

    pub(super) fn heading(&self, text: &str) -> Done<()> {
        self.line(format_args!("\n== {text} =="))
    }

    pub(super) fn recalls(&self, m: &Measured) -> Done<()> {
        self.line("                recall@10  as asked in the stream       p50       p99  cold rows compared")?;
        let (r, s, p50, p99, c) = (
            &m.recall,
            &m.recall_in_stream,
            &m.p50_us,
            &m.p99_us,
            &m.cold_share,
        );
        for (name, r, s, p50, p99, c) in [
            (
                "hot only",
                r.hot_only,
                s.hot_only,
                p50.hot_only,
                p99.hot_only,
                c.hot_only,
            ),
            (
                "bounded",
                r.bounded,
                s.bounded,
                p50.bounded,
                p99.bounded,
                c.bounded,
            ),
            (
                "complete",
                r.complete,
                s.complete,
                p50.complete,
                p99.complete,
                c.complete,
            ),
        ] {
            let (p50, p99) = (p50 / 1e3, p99 / 1e3);
            self.line(format_args!(
                "  {name:<12} {r:>10.3} {s:>23.3} {p50:>7.2} ms {p99:>6.2} ms {:>18.1} %",
                c * 100.0
            ))?;
        }
        Ok(())
    }

    pub(super) fn examples(&self, examples: &[Example]) -> Done<()> {
        for example in examples {
            self.line(format_args!("\"{}\"", example.question))?;
            for q in &example.answers {
                let tier = if q.tier == Tier::Hot {
                    "from RAM"
                } else {
                    "from the cold store"
                };
                let text = output::shortened(&q.text, 110);
                self.line(format_args!(
                    "    {}: {text}  [{tier}, distance {:.3}]",
                    q.speaker, q.distance
                ))?;
            }
        }
        Ok(())
    }

    pub(super) fn explained(&self, speeches: &Speeches, explained: Option<&Explained>) -> Done<()> {
        let Some(explained) = explained else {
            return Ok(());
        };
        if let PointId::Int(row) = explained.id {
            let payload = speeches
                .payloads
                .get(row as usize)
                .cloned()
                .unwrap_or_default();
            let text = output::shortened(payload["text"].as_str().unwrap_or_default(), 70);
            self.line(format_args!(
                "{}: \"{text}\"",
                payload["speaker"].as_str().unwrap_or_default()
            ))?;
        }
        for line in explained.to_string().lines() {
            self.line(format_args!("    {line}"))?;
        }
        Ok(())
    }

    pub(super) fn crash(&self, c: &Crashed) -> Done<()> {
        self.line(format_args!(
            "A child process wrote, deleted and moved points, and was killed (-9) {} times, {} of them with a migration under way. {} \
             of these left it half done, its note still in the books: reopening rolled it back.",
            c.kills, c.in_migration, c.intents_found
        ))?;
        self.line(format_args!(
            "After each reopening all {} acknowledged points were looked up: {} lost, {} changed; {} deleted ones: {} came back. \
             Check: {}.",
            c.acknowledged,
            c.lost,
            c.changed,
            c.deleted,
            c.revived,
            if c.problems.is_empty() { "clean" } else { "NOT clean" }
        ))
    }

    pub(super) fn check(&self, report: &CheckReport) -> Done<()> {
        self.line(format_args!(
            "Check of the whole memory: {} points, {} segments, {} blocks, {} verified: {}.",
            report.points,
            report.segments,
            report.blocks,
            output::bytes(report.bytes),
            if report.is_clean() {
                "clean".to_owned()
            } else {
                format!("{} problems", report.problem_count)
            }
        ))
    }
}

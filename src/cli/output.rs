//! What people and programs see: results on stdout, progress and complaints on stderr.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use aether::role::{Fidelity, Tier};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::{Done, io_failure};

/// Prints an error on stderr, in words.
pub(crate) fn complain(message: &impl Display) {
    let text = format!("error: {message}\n");
    // Nobody is left to tell when stderr is gone.
    io::stderr().write_all(text.as_bytes()).unwrap_or_default();
}

/// Prints one line on stdout.
pub(crate) fn line(text: impl Display) -> Done<()> {
    match writeln!(io::stdout(), "{text}") {
        Ok(()) => Ok(()),
        // A reader such as `head` has had enough: that is its right.
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(e) => Err(io_failure("write to stdout", e)),
    }
}

/// Prints one value as one line of JSON.
pub(crate) fn json(value: &impl Serialize) -> Done<()> {
    let text = serde_json::to_string(value)
        .map_err(|e| aether::Error::internal("this result has no JSON form").with_source(e))?;
    line(text)
}

/// A table: the first row is its head; every column as wide as its widest cell.
pub(crate) fn table(rows: &[Vec<String>]) -> Done<()> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| {
        rows.iter()
            .filter_map(|r| r.get(c))
            .map(|s| s.chars().count())
            .max()
    };
    let widths: Vec<usize> = (0..columns).map(|c| width(c).unwrap_or(0)).collect();
    for (i, row) in rows.iter().enumerate() {
        let cells = row
            .iter()
            .zip(&widths)
            .map(|(cell, w)| format!("{cell:<w$}"));
        line(cells.collect::<Vec<_>>().join("  ").trim_end())?;
        if i == 0 {
            line(
                widths
                    .iter()
                    .map(|w| "-".repeat(*w))
                    .collect::<Vec<_>>()
                    .join("  "),
            )?;
        }
    }
    Ok(())
}

/// Bytes for people: `12.3 MiB`.
pub(crate) fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = n as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{n} B")
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

/// Progress of long work on stderr: a bar on a terminal, else a plain line each few seconds.
pub(crate) struct Progress {
    bar: ProgressBar,
    what: String,
    total: Option<u64>,
    done: u64,
    started: Instant,
    spoken: Instant,
    plain: bool,
}

/// Time between two plain lines.
const PLAIN_EVERY: Duration = Duration::from_secs(2);

impl Progress {
    /// Begins; `total` is a number of rows if it is known.
    pub(crate) fn new(what: impl Into<String>, total: Option<u64>) -> Self {
        let what = what.into();
        let plain = !io::stderr().is_terminal();
        let bar = match (plain, total) {
            (true, _) => ProgressBar::hidden(),
            (false, Some(n)) => ProgressBar::new(n),
            (false, None) => ProgressBar::new_spinner(),
        };
        let template = if total.is_some() {
            "{msg} [{bar:32}] {human_pos}/{human_len} {per_sec} {eta}"
        } else {
            "{msg} {spinner} {human_pos} {per_sec}"
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(what.clone());
        let now = Instant::now();
        Self {
            bar,
            what,
            total,
            done: 0,
            started: now,
            spoken: now,
            plain,
        }
    }

    /// So many more are done.
    pub(crate) fn add(&mut self, rows: u64) {
        self.done += rows;
        self.bar.inc(rows);
        if self.plain && self.spoken.elapsed() >= PLAIN_EVERY {
            self.spoken = Instant::now();
            let of = self.total.map(|t| format!(" of {t}")).unwrap_or_default();
            note(format_args!("{}: {}{of}", self.what, self.done));
        }
    }

    /// Ends; says how long it took.
    pub(crate) fn finish(self) -> Duration {
        self.bar.finish_and_clear();
        let took = self.started.elapsed();
        note(format_args!(
            "{}: {} in {:.1} s",
            self.what,
            self.done,
            took.as_secs_f64()
        ));
        took
    }
}

/// A remark on stderr.
pub(crate) fn note(text: impl Display) {
    let text = format!("{text}\n");
    // A remark that nobody can read is no failure of the work.
    io::stderr().write_all(text.as_bytes()).unwrap_or_default();
}

/// Every plain figure of a value, one a line.
pub(crate) fn figures(value: &impl Serialize) -> Done<()> {
    let json = serde_json::to_value(value)
        .map_err(|e| aether::Error::internal("this result has no JSON form").with_source(e))?;
    for (name, value) in json.as_object().into_iter().flatten() {
        if value.is_number() || value.is_boolean() || value.is_string() {
            let text = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            line(format_args!("{:<24} {text}", name.replace('_', " ")))?;
        }
    }
    Ok(())
}

/// Where a row was found, in a word.
pub(crate) fn tier(tier: Tier) -> &'static str {
    match tier {
        Tier::Hot => "hot",
        Tier::Cold => "cold",
    }
}

/// Whether a vector is what was written, in words.
pub(crate) fn fidelity(fidelity: Fidelity) -> &'static str {
    match fidelity {
        Fidelity::Exact => "exact",
        _ => "through a lossy codec",
    }
}

/// A text cut to so many characters.
pub(crate) fn shortened(text: &str, chars: usize) -> String {
    let text = text.replace('\n', " ");
    match text.char_indices().nth(chars) {
        None => text,
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

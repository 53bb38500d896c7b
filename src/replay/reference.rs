//! Miss ratios that other simulators measured, to compare ours with.

use std::path::Path;

use aether_core::{Error, Result};

use super::plan::Cell;

/// Our policies and limits, and the names under which the reference knows the same algorithm.
const NAMES: [(&str, &str); 19] = [
    ("lru", "LRU"),
    ("fifo", "FIFO"),
    ("clock", "Clock"),
    ("lfu", "LFU"),
    ("arc", "ARC"),
    ("lirs", "LIRS"),
    ("two-q", "2Q"),
    ("mq", "MQ"),
    ("s3-fifo", "S3-FIFO"),
    ("sieve", "SIEVE"),
    ("w-tinylfu", "W-TinyLFU"),
    ("gdsf", "GDSF"),
    ("lecar", "LeCaR"),
    ("cacheus", "Cacheus"),
    ("hyperbolic", "Hyperbolic"),
    ("lhd", "LHD"),
    ("random", "Random"),
    ("belady", "Belady"),
    ("belady-size", "BeladySize"),
];

/// The file's header.
const HEADER: &str = "trace,policy,cache_fraction,cache_size,object_miss_ratio,byte_miss_ratio";

/// One line of the reference.
#[derive(Clone, Debug, PartialEq)]
pub struct Published {
    /// The trace's name.
    pub trace: String,
    /// The policy, as the reference calls it.
    pub policy: String,
    /// Cache size as a share of the keys, or of the working set's bytes.
    pub cache_fraction: f64,
    /// Cache size in rows, or bytes.
    pub cache_size: u64,
    /// Share of the requests that missed.
    pub object_miss_ratio: f64,
    /// Share of the requested bytes that missed.
    pub byte_miss_ratio: f64,
}

/// A table of published miss ratios.
#[derive(Clone, Debug, Default)]
pub struct Reference {
    lines: Vec<Published>,
}

impl Reference {
    /// Reads a CSV file with the columns of [`Published`] in their order.
    ///
    /// # Errors
    /// `Unavailable` when it cannot be read, `InvalidInput` naming the line that is malformed.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| {
            Error::unavailable(format!("cannot read {}", path.display())).with_source(e)
        })?;
        let refused = |line: usize, what: String| {
            Error::invalid_input(format!("{}:{line}: {what}", path.display()))
        };
        let mut lines = text.lines();
        let header = lines.next().unwrap_or_default();
        if header != HEADER {
            return Err(refused(1, format!("expected {HEADER}, got {header:?}")));
        }
        let mut found = Vec::new();
        for (number, line) in (2..).zip(lines).filter(|(_, line)| !line.is_empty()) {
            let wrong = || refused(number, format!("expected values of {HEADER}, got {line:?}"));
            let fields: Vec<&str> = line.split(',').collect();
            let [trace, policy, share, size, objects, bytes] = fields[..] else {
                return Err(wrong());
            };
            let ratio = |text: &str| text.parse::<f64>().map_err(|_| wrong());
            found.push(Published {
                trace: trace.to_owned(),
                policy: policy.to_owned(),
                cache_fraction: ratio(share)?,
                cache_size: size.parse().map_err(|_| wrong())?,
                object_miss_ratio: ratio(objects)?,
                byte_miss_ratio: ratio(bytes)?,
            });
        }
        Ok(Self { lines: found })
    }

    /// Every line.
    pub fn lines(&self) -> &[Published] {
        &self.lines
    }

    /// Names of the traces, in order.
    pub fn traces(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for line in &self.lines {
            if !names.contains(&line.trace.as_str()) {
                names.push(&line.trace);
            }
        }
        names
    }

    /// Cache sizes of one trace as shares, in ascending order.
    pub fn fractions(&self, trace: &str) -> Vec<f64> {
        let of = self.lines.iter().filter(|l| l.trace == trace);
        let mut fractions: Vec<f64> = of.map(|l| l.cache_fraction).collect();
        fractions.sort_by(f64::total_cmp);
        fractions.dedup();
        fractions
    }

    /// What was published for the algorithm, trace and size of a cell of ours.
    pub fn of(&self, cell: &Cell) -> Option<&Published> {
        let name = cell.policy.split(':').next()?;
        let (_, published) = NAMES.iter().find(|(ours, _)| *ours == name)?;
        self.lines.iter().find(|l| {
            l.trace == cell.trace
                && l.policy == *published
                && (l.cache_fraction - cell.cache_fraction).abs() < 1e-9
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_malformed_table_names_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("reference.csv");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Reference::read(&path)
        };
        let good = read(&format!(
            "{HEADER}\nt,LRU,0.1,5,0.5,0.25\nt,ARC,0.01,1,1,1\n"
        ))
        .unwrap();
        assert_eq!(good.traces(), ["t"]);
        assert_eq!(good.fractions("t"), [0.01, 0.1]);
        assert_eq!(good.lines()[0].cache_size, 5);
        for (text, place) in [
            ("trace\n".to_owned(), ":1:"),
            (format!("{HEADER}\nt,LRU,0.1,5,0.5\n"), ":2:"),
            (format!("{HEADER}\n\nt,LRU,x,5,0.5,1\n"), ":3:"),
        ] {
            let error = read(&text).unwrap_err();
            assert!(error.to_string().contains(place), "{error}");
        }
    }
}

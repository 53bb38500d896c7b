//! Settings to be tried one after another.

use std::str::FromStr;

/// One key and the values to try.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sweep {
    key: Key,
    values: Vec<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    Ef,
    Probe,
    Threads,
}

/// One setting.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub(crate) struct Setting {
    /// Breadth of the hot index's search.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ef: Option<usize>,
    /// Share of the cold rows that a bounded search looks at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) probe: Option<f64>,
    /// Threads that search, where the command does not say how many.
    #[serde(skip)]
    pub(crate) threads: Option<usize>,
}

impl FromStr for Sweep {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || {
            format!(
                "expected ef=16,32,64 (whole numbers from 1), probe=0.05,0.1 (0 to 1) or threads=1,2 (1 to 1024), got {text:?}"
            )
        };
        let (key, list) = text.split_once('=').ok_or_else(expected)?;
        let key = match key.trim() {
            "ef" => Key::Ef,
            "probe" => Key::Probe,
            "threads" => Key::Threads,
            _ => return Err(expected()),
        };
        let fits = |x: &f64| match key {
            Key::Ef => x.fract() == 0.0 && (1.0..=1e6).contains(x),
            Key::Probe => (0.0..=1.0).contains(x),
            Key::Threads => x.fract() == 0.0 && (1.0..=1024.0).contains(x),
        };
        let values: Option<Vec<f64>> = list
            .split(',')
            .map(|v| v.trim().parse().ok().filter(fits))
            .collect();
        values
            .filter(|v| !v.is_empty())
            .map(|values| Self { key, values })
            .ok_or_else(expected)
    }
}

/// Every combination; one setting of defaults when nothing is to be swept.
pub(crate) fn combinations(sweeps: &[Sweep]) -> Vec<Setting> {
    let mut all = vec![Setting::default()];
    for sweep in sweeps {
        let with = |s: &Setting, v: f64| match sweep.key {
            Key::Ef => Setting {
                ef: Some(v as usize),
                ..*s
            },
            Key::Probe => Setting {
                probe: Some(v),
                ..*s
            },
            Key::Threads => Setting {
                threads: Some(v as usize),
                ..*s
            },
        };
        all = all
            .iter()
            .flat_map(|s| sweep.values.iter().map(move |v| with(s, *v)))
            .collect();
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sweeps_are_combined() {
        let sweeps: Vec<Sweep> = ["ef=16,32", "probe=0.1,0.5"]
            .iter()
            .map(|s| s.parse().unwrap())
            .collect();
        let all = combinations(&sweeps);
        assert_eq!(all.len(), 4);
        assert_eq!(
            all[1],
            Setting {
                ef: Some(16),
                probe: Some(0.5),
                threads: None
            }
        );
        assert_eq!(combinations(&[]), [Setting::default()]);
    }

    #[test]
    fn wrong_sweeps_say_what_was_expected() {
        for bad in [
            "ef",
            "ef=",
            "ef=1.5",
            "ef=0",
            "probe=2",
            "threads=0",
            "m=3",
            "probe=NaN",
            "ef=16,,32",
        ] {
            assert!(
                bad.parse::<Sweep>().unwrap_err().contains("expected ef=16"),
                "{bad}"
            );
        }
    }
}

//! The keys of `[hot]` that belong to this index.

use aether_core::Result;
use aether_core::config::RawConfig;
use aether_core::plugin::OptionSpec;
use aether_core::role::HotChoice;
use serde::Deserialize;

/// Where something lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// In RAM.
    #[default]
    Ram,
    /// In a memory-mapped file.
    File,
}

/// What a user can set. Unknown keys are refused.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HnswConfig {
    /// Links that a new row gets on each level; up to twice as many at level 0. 4 to 96.
    pub m: usize,
    /// Candidates kept while the neighbours of a new row are looked for. `m` to 10,000.
    pub ef_construction: usize,
    /// Candidates kept by a search that does not say how many. 1 to 10,000.
    pub ef_search: usize,
    /// Bits a dimension of the codes by which searches find their way: 4 or 8; 0 for none, then they go by the vectors. Not given, it is
    /// 4 from [`CODED_FROM`] dimensions on and 0 below.
    pub code_bits: Option<u8>,
    /// Where vectors lie. In a file they take no RAM but what the system lends them: searches go by codes, and read the vectors of those rows
    /// that may be answers.
    pub vectors: Place,
    /// Threads for inserting a batch; 0 stands for one on each processor.
    pub threads: usize,
}

impl Default for HnswConfig {
    /// `m` and `ef_construction` are what the paper's authors recommend and what hnswlib is mostly run with.
    fn default() -> Self {
        Self {
            m: 16,
            ef_construction: 200,
            ef_search: 64,
            code_bits: None,
            vectors: Place::Ram,
            threads: 0,
        }
    }
}

/// Every key, as `aether plugins` shows it.
pub(crate) const OPTIONS: &[OptionSpec] = &[
    OptionSpec {
        name: "m",
        default: "16",
        unit: "links",
        help: "Links that a new row gets on each level (twice as many fit at level 0); more is slower, larger and finds more.",
    },
    OptionSpec {
        name: "ef_construction",
        default: "200",
        unit: "rows",
        help: "Candidates kept while a new row's neighbours are looked for; more is a slower build and a better graph.",
    },
    OptionSpec {
        name: "ef_search",
        default: "64",
        unit: "rows",
        help: "Candidates kept by a search that does not say how many; more is slower and finds more.",
    },
    OptionSpec {
        name: "code_bits",
        default: "",
        unit: "bits",
        help: "Bits a dimension of compact codes by which searches find their way: 4, 8 or 0 for none. By default 4 from 64 dimensions on: about twice as many searches for an eighth more RAM.",
    },
    OptionSpec {
        name: "vectors",
        default: "\"ram\"",
        unit: "",
        help: "Where vectors lie: \"ram\" or \"file\", a memory-mapped file without a name, outside the hot budget; searches go by codes then.",
    },
    OptionSpec {
        name: "threads",
        default: "0",
        unit: "threads",
        help: "Threads for inserting a batch; 0 is one on each processor, 1 gives the same graph every time.",
    },
];

/// Dimension from which rows have codes unless told otherwise: below, a vector is hardly longer than a code with what belongs to it.
pub const CODED_FROM: usize = 64;

impl HnswConfig {
    /// Bits a dimension of the codes of vectors of `dim`; 0 for none.
    pub(crate) fn code_bits_for(&self, dim: usize) -> u8 {
        let usual = if dim >= CODED_FROM { 4 } else { 0 };
        self.code_bits.unwrap_or(usual)
    }

    /// What an index of vectors of `dim` goes by, and why.
    pub(crate) fn choice(&self, dim: usize) -> HotChoice {
        let codes = match self.code_bits_for(dim) {
            0 => "no codes".to_owned(),
            bits => format!("codes of {bits} bits"),
        };
        let vectors = match self.vectors {
            Place::Ram => "in RAM",
            Place::File => "in a mapped file",
        };
        let reason = match self.code_bits {
            Some(_) => "code_bits is set".to_owned(),
            None => format!(
                "codes of 4 bits from {CODED_FROM} dimensions on, none below, and there are {dim}"
            ),
        };
        HotChoice {
            index: format!("hnsw with {codes}, vectors {vectors}"),
            reason,
        }
    }

    /// Reads and checks the keys.
    ///
    /// # Errors
    /// `Config`, pointing at the key, for an unknown key, a wrong type or a value out of range.
    pub fn from_raw(raw: &RawConfig) -> Result<Self> {
        let config: Self = raw.parse()?;
        let check = |key: &str, value: usize, low: usize, high: usize, why: &str| {
            if (low..=high).contains(&value) {
                Ok(())
            } else {
                Err(raw.error(key, format!("expected {low} to {high}{why}, got {value}")))
            }
        };
        check("m", config.m, 4, 96, "")?;
        check(
            "ef_construction",
            config.ef_construction,
            config.m,
            10_000,
            " (m or more)",
        )?;
        check("ef_search", config.ef_search, 1, 10_000, "")?;
        if let Some(bits) = config.code_bits.filter(|bits| ![0, 4, 8].contains(bits)) {
            return Err(raw.error("code_bits", format!("expected 0, 4 or 8, got {bits}")));
        }
        check("threads", config.threads, 0, 1_024, "")?;
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<HnswConfig> {
        HnswConfig::from_raw(&RawConfig::from_toml("hot", text)?)
    }

    #[test]
    fn the_options_listed_are_the_defaults() {
        let listed: String = OPTIONS
            .iter()
            .filter(|o| !o.default.is_empty())
            .map(|o| format!("{} = {}\n", o.name, o.default))
            .collect();
        assert_eq!(read(&listed).unwrap(), HnswConfig::default());
        assert_eq!(read("").unwrap(), HnswConfig::default());
    }

    #[test]
    fn wrong_keys_and_values_are_shown_where_they_stand() {
        for (text, words) in [
            ("m = 3", "expected 4 to 96, got 3"),
            ("m = 97", "expected 4 to 96, got 97"),
            ("m = 32\nef_construction = 31", "expected 32 to 10000"),
            ("ef_search = 0", "expected 1 to 10000, got 0"),
            ("threads = 5000", "expected 0 to 1024"),
            ("ef_serch = 9", "did you mean `ef_search`?"),
            ("m = -1", "invalid value"),
            ("code_bits = 5", "expected 0, 4 or 8, got 5"),
        ] {
            let error = read(text).unwrap_err();
            assert!(
                error.is_config() && error.to_string().contains(words),
                "{error}"
            );
            assert!(error.to_string().contains("configuration:"), "{error}");
        }
    }
}

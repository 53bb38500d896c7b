//! `[hot]` of backend `auto`.

use std::time::Duration;

use aether_core::Result;
use aether_core::config::{RawConfig, Slot, Span};
use aether_core::plugin::{OptionSpec, Role};
use serde::Deserialize;
use serde::de::IgnoredAny;

/// The index of few rows.
pub(crate) const FEW: &str = "flat";
/// The index of many rows.
pub(crate) const MANY: &str = "hnsw";

/// Settings of the index that chooses.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AutoConfig {
    /// Longest time that a search may take to compare the query with every row: 1 us to 10 s.
    pub scan_max: Span,
    /// Rows expected in RAM; 0 when nobody knows.
    pub rows: usize,
    /// Whether vectors may lie in a mapped file where the budget does not hold those of all expected rows.
    pub spill: bool,
    /// Keys of `flat`, which its own plug-in reads.
    pub(crate) flat: IgnoredAny,
    /// Keys of `hnsw`, which its own plug-in reads.
    pub(crate) hnsw: IgnoredAny,
}

impl Default for AutoConfig {
    fn default() -> Self {
        Self {
            scan_max: Span(Duration::from_millis(1)),
            rows: 0,
            spill: false,
            flat: IgnoredAny,
            hnsw: IgnoredAny,
        }
    }
}

impl AutoConfig {
    /// The keys with their defaults.
    pub const OPTIONS: &'static [OptionSpec] = &[
        OptionSpec {
            name: "scan_max",
            default: "\"1ms\"",
            unit: "duration",
            help: "Longest time that a search may take to compare the query with every row; a graph takes over when it would take longer.",
        },
        OptionSpec {
            name: "rows",
            default: "0",
            unit: "rows",
            help: "Rows expected in RAM, so that a graph that will be needed is there from the first row on; 0 when nobody knows.",
        },
        OptionSpec {
            name: "spill",
            default: "false",
            unit: "",
            help: "Whether the graph's vectors may lie in a memory-mapped file when the budget does not hold those of the rows expected.",
        },
        OptionSpec {
            name: "flat",
            default: "",
            unit: "",
            help: "Settings of the exact scan, a table [hot.flat] with the keys of backend flat.",
        },
        OptionSpec {
            name: "hnsw",
            default: "",
            unit: "",
            help: "Settings of the graph, a table [hot.hnsw] with the keys of backend hnsw.",
        },
    ];

    /// Reads and checks a table.
    ///
    /// # Errors
    /// `Config`, pointing at the key.
    pub fn read(raw: &RawConfig) -> Result<Self> {
        let config: Self = raw.parse()?;
        let sane = Duration::from_micros(1)..=Duration::from_secs(10);
        if !sane.contains(&config.scan_max.0) {
            return Err(raw.error(
                "scan_max",
                format!("expected \"1us\" to \"10s\", got \"{}\"", config.scan_max),
            ));
        }
        Ok(config)
    }
}

/// The slot of one of the two indexes: its plug-in, and the keys that stand in its table.
pub(crate) fn slot(raw: &RawConfig, name: &'static str) -> Result<Slot> {
    let mut slot = Slot::named(Role::Hot, name);
    if let Some(table) = raw.clone().take_table(name)? {
        slot.raw = table;
    }
    Ok(slot)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> RawConfig {
        RawConfig::from_toml("hot", text).unwrap()
    }

    #[test]
    fn a_time_out_of_range_is_shown_with_its_place() {
        assert_eq!(AutoConfig::read(&raw("")).unwrap(), AutoConfig::default());
        for bad in ["scan_max = \"0s\"", "scan_max = \"11s\""] {
            let text = AutoConfig::read(&raw(bad)).unwrap_err().to_string();
            assert!(
                text.contains("1:12") && text.contains("\"1us\" to \"10s\"") && text.contains('^'),
                "{text}"
            );
        }
    }

    #[test]
    fn each_index_has_the_keys_of_its_own_table() {
        let raw = raw("rows = 5\n[hnsw]\nm = 24\n");
        assert_eq!(slot(&raw, MANY).unwrap().raw.text("m").unwrap(), "24");
        assert_eq!(slot(&raw, FEW).unwrap().raw.keys().count(), 0);
        let wrong = RawConfig::from_toml("hot", "flat = 3").unwrap();
        assert!(slot(&wrong, FEW).unwrap_err().is_config());
    }
}

//! `[codec]` of backend `zstd`.

use aether_core::Result;
use aether_core::config::RawConfig;
use aether_core::plugin::OptionSpec;
use serde::Deserialize;

/// Settings of the Zstandard codec.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ZstdConfig {
    /// Effort, 1 to 22. Embeddings hardly get smaller beyond 3.
    pub level: i32,
    /// Whether the bytes of floats are shuffled first.
    pub shuffle: bool,
}

impl Default for ZstdConfig {
    fn default() -> Self {
        Self {
            level: 3,
            shuffle: true,
        }
    }
}

impl ZstdConfig {
    /// The keys with their defaults.
    pub const OPTIONS: &'static [OptionSpec] = &[
        OptionSpec {
            name: "level",
            default: "3",
            unit: "",
            help: "Effort of packing, 1 (quick) to 22 (slow); reading is as quick for all.",
        },
        OptionSpec {
            name: "shuffle",
            default: "true",
            unit: "",
            help: "Sorts the bytes of floats into planes before packing, which packs them better and quicker.",
        },
    ];

    /// Reads and checks a table.
    ///
    /// # Errors
    /// `Config`, pointing at the key.
    pub fn read(raw: &RawConfig) -> Result<Self> {
        let config: Self = raw.parse()?;
        if !(1..=22).contains(&config.level) {
            return Err(raw.error("level", format!("expected 1 to 22, got {}", config.level)));
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_out_of_range_is_shown_with_its_place() {
        let read = |text: &str| ZstdConfig::read(&RawConfig::from_toml("codec", text).unwrap());
        assert_eq!(read("").unwrap(), ZstdConfig::default());
        for bad in ["level = 0", "level = 23", "level = -5"] {
            let text = read(bad).unwrap_err().to_string();
            assert!(
                text.contains("1:9: [codec] level: expected 1 to 22") && text.contains('^'),
                "{text}"
            );
        }
    }
}

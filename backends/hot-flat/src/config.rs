//! `[hot]` of backend `flat`.

use aether_core::Result;
use aether_core::config::{ByteSize, RawConfig};
use aether_core::plugin::OptionSpec;
use serde::Deserialize;

/// Settings of the flat index.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FlatConfig {
    /// Size up to which chunks grow: 64 KiB to 1 GiB. A row longer than that has a chunk of its own.
    pub chunk: ByteSize,
}

impl Default for FlatConfig {
    fn default() -> Self {
        Self {
            chunk: ByteSize(1 << 20),
        }
    }
}

impl FlatConfig {
    /// The keys with their defaults.
    pub const OPTIONS: &'static [OptionSpec] = &[OptionSpec {
        name: "chunk",
        default: "\"1MiB\"",
        unit: "bytes",
        help: "Size up to which chunks of vectors grow: a writer waits for the scan of one chunk at most.",
    }];

    /// Reads and checks a table.
    ///
    /// # Errors
    /// `Config`, pointing at the key.
    pub fn read(raw: &RawConfig) -> Result<Self> {
        let config: Self = raw.parse()?;
        if !(1 << 16..=1 << 30).contains(&config.chunk.0) {
            return Err(raw.error(
                "chunk",
                format!("expected \"64KiB\" to \"1GiB\", got \"{}\"", config.chunk),
            ));
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_size_out_of_range_is_shown_with_its_place() {
        let read = |text: &str| FlatConfig::read(&RawConfig::from_toml("hot", text).unwrap());
        assert_eq!(read("").unwrap(), FlatConfig::default());
        assert_eq!(read("chunk = \"4MiB\"").unwrap().chunk, ByteSize(4 << 20));
        for bad in ["chunk = \"1KiB\"", "chunk = \"2GiB\""] {
            let text = read(bad).unwrap_err().to_string();
            assert!(
                text.contains("1:9") && text.contains("64KiB") && text.contains('^'),
                "{text}"
            );
        }
    }
}

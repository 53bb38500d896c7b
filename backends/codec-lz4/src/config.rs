//! `[codec]` of backend `lz4`.

use aether_core::Result;
use aether_core::config::RawConfig;
use aether_core::plugin::OptionSpec;
use serde::Deserialize;

/// Settings of the LZ4 codec.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Lz4Config {
    /// Whether the bytes of floats are shuffled first. LZ4 packs floats hardly at all without.
    pub shuffle: bool,
}

impl Default for Lz4Config {
    fn default() -> Self {
        Self { shuffle: true }
    }
}

impl Lz4Config {
    /// The keys with their defaults.
    pub const OPTIONS: &'static [OptionSpec] = &[OptionSpec {
        name: "shuffle",
        default: "true",
        unit: "",
        help: "Sorts the bytes of floats into planes before packing; floats pack hardly at all without.",
    }];

    /// Reads and checks a table.
    ///
    /// # Errors
    /// `Config`, pointing at the key.
    pub fn read(raw: &RawConfig) -> Result<Self> {
        raw.parse()
    }
}

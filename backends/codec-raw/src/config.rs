//! `[codec]` of backend `raw`.

use aether_core::Result;
use aether_core::config::RawConfig;
use aether_core::plugin::OptionSpec;
use serde::Deserialize;

/// Settings of the raw codec.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawCodecConfig {
    /// Whether the bytes of floats are shuffled. Nothing is packed here, so this pays only where something below packs (a
    /// compressing file system).
    pub shuffle: bool,
}

impl RawCodecConfig {
    /// The keys with their defaults.
    pub const OPTIONS: &'static [OptionSpec] = &[OptionSpec {
        name: "shuffle",
        default: "false",
        unit: "",
        help: "Stores byte planes instead of floats; pays only on a file system that compresses.",
    }];

    /// Reads and checks a table.
    ///
    /// # Errors
    /// `Config`, pointing at the key.
    pub fn read(raw: &RawConfig) -> Result<Self> {
        raw.parse()
    }
}

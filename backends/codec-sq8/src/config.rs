//! `[codec]` of backend `sq8`.

use aether_core::Result;
use aether_core::config::RawConfig;
use aether_core::plugin::OptionSpec;
use serde::Deserialize;

/// Settings of the scalar 8-bit codec: there are none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sq8Config {}

impl Sq8Config {
    /// The keys with their defaults.
    pub const OPTIONS: &'static [OptionSpec] = &[];

    /// Reads and checks a table.
    ///
    /// # Errors
    /// `Config`, pointing at the key.
    pub fn read(raw: &RawConfig) -> Result<Self> {
        raw.parse()
    }
}

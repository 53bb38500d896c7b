//! The keys of `[meta]` with `backend = "sled"`.

use aether_core::Result;
use aether_core::config::{ByteSize, RawConfig};
use serde::Deserialize;

/// Settings of the store.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SledConfig {
    /// Name of the folder inside the memory's folder.
    pub folder: String,
    /// RAM for cached pages.
    pub cache: ByteSize,
}

impl Default for SledConfig {
    fn default() -> Self {
        Self {
            folder: "meta.sled".to_owned(),
            cache: ByteSize(64 << 20),
        }
    }
}

/// sled refuses less than 256 bytes and thrashes far above that.
const CACHE_BYTES_MIN: u64 = 1 << 20;

impl SledConfig {
    /// Reads and checks the keys.
    ///
    /// # Errors
    /// `Config`, pointing at the key.
    pub fn from_raw(raw: &RawConfig) -> Result<Self> {
        let config: Self = raw.parse()?;
        let name = &config.folder;
        if name.is_empty() || name.starts_with('.') || name.contains(['/', '\\', '\0']) {
            return Err(raw.error(
                "folder",
                format!("expected a plain folder name such as \"meta.sled\", got {name:?}"),
            ));
        }
        if config.cache.0 < CACHE_BYTES_MIN {
            return Err(raw.error(
                "cache",
                format!("expected at least 1MiB, got {}", config.cache),
            ));
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_values_point_at_their_key() {
        for (toml, caret) in [
            ("folder = \"a/b\"", "^^^^^"),
            ("folder = \"..\"", "^^^^"),
            ("cache = \"1KiB\"", "^^^^^^"),
        ] {
            let raw = RawConfig::from_toml("meta", toml).unwrap();
            let error = SledConfig::from_raw(&raw).unwrap_err();
            assert!(error.is_config());
            let text = error.to_string();
            assert!(text.ends_with(&format!(" {caret}")), "{text}");
        }
    }
}

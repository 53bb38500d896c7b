//! The keys of `[meta]` with `backend = "redb"`.

use aether_core::Result;
use aether_core::config::{ByteSize, RawConfig};
use serde::Deserialize;

/// Settings of the store.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RedbConfig {
    /// Name of the file inside the memory's folder.
    pub file: String,
    /// RAM for cached pages.
    pub cache: ByteSize,
    /// Threads that read.
    pub readers: usize,
    /// Check every page's checksum on opening.
    pub verify: bool,
}

impl Default for RedbConfig {
    fn default() -> Self {
        Self {
            file: "meta.redb".to_owned(),
            cache: ByteSize(64 << 20),
            readers: 2,
            verify: true,
        }
    }
}

/// Most reader threads; more would only queue behind the disk.
const READERS_MAX: usize = 64;

/// Below this, redb would read each page of a large batch several times.
const CACHE_BYTES_MIN: u64 = 1 << 20;

impl RedbConfig {
    /// Reads and checks the keys.
    ///
    /// # Errors
    /// `Config`, pointing at the key.
    pub fn from_raw(raw: &RawConfig) -> Result<Self> {
        let config: Self = raw.parse()?;
        if config.file.is_empty()
            || config.file.starts_with('.')
            || config.file.contains(['/', '\\', '\0'])
        {
            return Err(raw.error(
                "file",
                format!(
                    "expected a plain file name such as \"meta.redb\", got {:?}",
                    config.file
                ),
            ));
        }
        if config.cache.0 < CACHE_BYTES_MIN || usize::try_from(config.cache.0).is_err() {
            return Err(raw.error(
                "cache",
                format!(
                    "expected at least 1MiB and what the machine can address, got {}",
                    config.cache
                ),
            ));
        }
        if !(1..=READERS_MAX).contains(&config.readers) {
            return Err(raw.error(
                "readers",
                format!(
                    "expected 1 to {READERS_MAX} threads, got {}",
                    config.readers
                ),
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
            ("file = \"a/b\"", "^^^^^"),
            ("file = \"\"", "^^"),
            ("file = \"..\"", "^^^^"),
            ("cache = \"1KiB\"", "^^^^^^"),
            ("readers = 0", "^"),
            ("readers = 65", "^^"),
        ] {
            let raw = RawConfig::from_toml("meta", toml).unwrap();
            let error = RedbConfig::from_raw(&raw).unwrap_err();
            assert!(error.is_config());
            let text = error.to_string();
            assert!(text.ends_with(&format!(" {caret}")), "{text}");
        }
    }
}

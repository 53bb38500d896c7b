//! The keys of `[cold]` with `backend = "cached"`.

use std::path::{Path, PathBuf};

use aether_core::Result;
use aether_core::config::{ByteSize, RawConfig};
use aether_core::plugin::OptionSpec;
use serde::Deserialize;
use serde::de::IgnoredAny;

/// Least bytes on disk: fewer do not make the few blocks that the cache writes in turn.
pub(crate) const DISK_MIN: u64 = 16 << 20;

/// Settings of the cache.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CachedConfig {
    /// RAM for blocks.
    pub ram: ByteSize,
    /// Local disk for blocks that left RAM; none for 0.
    pub disk: ByteSize,
    /// Folder of the cache; `block-cache` in the memory's folder if left out.
    pub path: Option<PathBuf>,
    /// The store inside, which its own plug-in reads.
    inner: IgnoredAny,
}

impl Default for CachedConfig {
    fn default() -> Self {
        Self {
            ram: ByteSize(64 << 20),
            disk: ByteSize(1 << 30),
            path: None,
            inner: IgnoredAny,
        }
    }
}

impl CachedConfig {
    pub(crate) const OPTIONS: &[OptionSpec] = &[
        OptionSpec {
            name: "ram",
            default: "\"64MiB\"",
            unit: "bytes",
            help: "RAM for blocks, on top of [search] cache.",
        },
        OptionSpec {
            name: "disk",
            default: "\"1GiB\"",
            unit: "bytes",
            help: "Local disk for blocks that left RAM, at least \"16MiB\"; \"0B\" for none.",
        },
        OptionSpec {
            name: "path",
            default: "",
            unit: "",
            help: "Folder of the cache, emptied at each opening. Left out: \"block-cache\" inside the memory's folder.",
        },
        OptionSpec {
            name: "inner",
            default: "",
            unit: "",
            help: "The store that is cached, a table [cold.inner] with backend and keys as [cold] has them. Left out: \"file\".",
        },
    ];

    /// Reads and checks the keys.
    ///
    /// # Errors
    /// `Config`, pointing at the key.
    pub fn read(raw: &RawConfig) -> Result<Self> {
        let config: Self = raw.parse()?;
        if config.ram.0 < 1 << 20 {
            let message = format!("expected at least \"1MiB\", got {}", config.ram);
            return Err(raw.error("ram", message));
        }
        if config.disk.0 > 0 && config.disk.0 < DISK_MIN {
            let message = format!("expected \"0B\" or at least \"16MiB\", got {}", config.disk);
            return Err(raw.error("disk", message));
        }
        if config.path.as_deref() == Some(Path::new("")) {
            return Err(raw.error("path", "expected a folder, got an empty text"));
        }
        Ok(config)
    }

    /// Where blocks go on disk; `None` when they go nowhere.
    pub(crate) fn folder(&self, data_dir: Option<&Path>) -> Option<PathBuf> {
        if self.disk.0 == 0 {
            return None;
        }
        let own = || data_dir.map(|d| d.join("block-cache"));
        self.path.clone().or_else(own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_out_of_range_are_refused_at_their_key() {
        for (key, text) in [
            ("ram", "ram = \"1kB\""),
            ("disk", "disk = \"1MiB\""),
            ("path", "path = \"\""),
        ] {
            let raw = RawConfig::from_toml("cold", text).unwrap();
            let error = CachedConfig::read(&raw).unwrap_err();
            assert!(error.is_config(), "{text}");
            let text = error.to_string();
            assert!(text.contains(&format!("[cold] {key}")), "{text}");
        }
    }

    #[test]
    fn without_a_folder_or_a_size_nothing_goes_to_disk() {
        let read = |text| CachedConfig::read(&RawConfig::from_toml("cold", text).unwrap()).unwrap();
        let data = Path::new("/data");
        assert_eq!(read("").folder(None), None);
        assert_eq!(read("").folder(Some(data)), Some(data.join("block-cache")));
        assert_eq!(read("disk = \"0B\"").folder(Some(data)), None);
        assert_eq!(read("path = \"/x\"").folder(None), Some("/x".into()));
    }
}

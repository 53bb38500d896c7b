//! The keys of `[cold]` with `backend = "file"`.

use std::path::{Path, PathBuf};

use aether_core::Result;
use aether_core::config::{ByteSize, RawConfig};
use aether_core::plugin::OptionSpec;
use serde::Deserialize;

/// Settings of the file store.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FileStoreConfig {
    /// The folder; none is `cold` in the memory's folder.
    pub path: Option<PathBuf>,
    /// Most calls that wait for the disk at once.
    pub threads: usize,
    /// Most blobs kept open between reads.
    pub open_files: usize,
    /// Ranges nearer to each other than this are read as one.
    pub gap: ByteSize,
}

impl Default for FileStoreConfig {
    fn default() -> Self {
        Self {
            path: None,
            threads: 16,
            open_files: 256,
            gap: ByteSize(8 << 10),
        }
    }
}

impl FileStoreConfig {
    pub(crate) const OPTIONS: &[OptionSpec] = &[
        OptionSpec {
            name: "path",
            default: "",
            unit: "",
            help: "The folder of the blobs, for this store alone. Left out: `cold` in the memory's folder.",
        },
        OptionSpec {
            name: "threads",
            default: "16",
            unit: "threads",
            help: "Most calls that wait for the disk at once: half of them puts and deletes, half reads and listings.",
        },
        OptionSpec {
            name: "open_files",
            default: "256",
            unit: "files",
            help: "Most blobs kept open between reads; 0 opens the file for each read.",
        },
        OptionSpec {
            name: "gap",
            default: "\"8KiB\"",
            unit: "bytes",
            help: "Ranges of one call with fewer bytes between them are read as one.",
        },
    ];

    /// Reads and checks the keys.
    ///
    /// # Errors
    /// `Config`, pointing at the key.
    pub fn read(raw: &RawConfig) -> Result<Self> {
        let config: Self = raw.parse()?;
        let check = |key: &str, ok: bool, expected: &str, got: &dyn std::fmt::Display| {
            if ok {
                return Ok(());
            }
            Err(raw.error(key, format!("expected {expected}, got {got}")))
        };
        check(
            "threads",
            (2..=512).contains(&config.threads),
            "2 to 512",
            &config.threads,
        )?;
        check(
            "open_files",
            config.open_files <= 65_536,
            "0 to 65536",
            &config.open_files,
        )?;
        check(
            "gap",
            config.gap.0 <= 1 << 20,
            "at most \"1MiB\"",
            &config.gap,
        )?;
        let given = config.path.as_deref();
        let named = given.is_none_or(|p| !p.as_os_str().is_empty());
        check("path", named, "a folder", &"an empty text")?;
        Ok(config)
    }

    /// The folder: `path`, or `cold` in the memory's folder.
    ///
    /// # Errors
    /// `Config` when there is neither.
    pub fn folder(&self, raw: &RawConfig, data_dir: Option<&Path>) -> Result<PathBuf> {
        match (&self.path, data_dir) {
            (Some(path), _) => Ok(path.clone()),
            (None, Some(data_dir)) => Ok(data_dir.join("cold")),
            (None, None) => Err(raw.error(
                "path",
                "expected a folder, got none: this memory has no folder of its own; set the key, or choose cold store \
                 \"memory\"",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_out_of_range_are_refused_at_their_key() {
        for (key, text) in [
            ("threads", "threads = 1"),
            ("threads", "threads = 513"),
            ("open_files", "open_files = 70000"),
            ("gap", "gap = \"2MiB\""),
            ("path", "path = \"\""),
        ] {
            let raw = RawConfig::from_toml("cold", text).unwrap();
            let error = FileStoreConfig::read(&raw).unwrap_err();
            assert!(error.is_config());
            let message = error.to_string();
            assert!(
                message.contains(&format!("[cold] {key}: expected")),
                "{message}"
            );
            assert!(message.contains('^'), "{message}");
        }
    }

    #[test]
    fn the_folder_is_the_path_or_cold_below_the_memory() {
        let raw = RawConfig::empty("cold");
        let mut config = FileStoreConfig::read(&raw).unwrap();
        assert_eq!(config, FileStoreConfig::default());
        let data = Some(Path::new("/data"));
        assert_eq!(config.folder(&raw, data).unwrap(), Path::new("/data/cold"));
        assert!(config.folder(&raw, None).unwrap_err().is_config());
        config.path = Some("/other".into());
        assert_eq!(config.folder(&raw, data).unwrap(), Path::new("/other"));
    }
}

//! The keys of `[cold]` with `backend = "spread"`.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use aether_core::config::RawConfig;
use aether_core::{OptionSpec, Result};
use serde::Deserialize;

const FOLDERS_MAX: usize = 64;

/// Settings of the store.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
// A misspelt key is an error that shows its line, never a setting that silently does nothing.
#[serde(deny_unknown_fields, default)]
pub struct SpreadConfig {
    /// Where blobs may lie.
    pub folders: Vec<PathBuf>,
    /// The cold store of each folder.
    pub over: String,
}

impl Default for SpreadConfig {
    fn default() -> Self {
        Self {
            folders: vec!["spread-a".into(), "spread-b".into()],
            over: "file".to_owned(),
        }
    }
}

impl SpreadConfig {
    /// What `aether plugins` prints. The suite compares it with the struct.
    pub const OPTIONS: &[OptionSpec] = &[
        OptionSpec {
            name: "folders",
            default: "[\"spread-a\", \"spread-b\"]",
            unit: "",
            help: "1 to 64 folders; relative ones lie in the memory's folder. Add new ones at the end.",
        },
        OptionSpec {
            name: "over",
            default: "\"file\"",
            unit: "",
            help: "The cold store that keeps the blobs in each folder.",
        },
    ];

    /// Reads and checks the keys.
    ///
    /// # Errors
    /// `Config`, pointing at the key.
    pub fn read(raw: &RawConfig) -> Result<Self> {
        let config: Self = raw.parse()?;
        let (n, different) = (
            config.folders.len(),
            config.folders.iter().collect::<HashSet<_>>().len(),
        );
        if n == 0 || n > FOLDERS_MAX {
            return Err(raw.error(
                "folders",
                format!("expected 1 to {FOLDERS_MAX} folders, got {n}"),
            ));
        }
        if different < n {
            return Err(raw.error("folders", "expected different folders, got one twice"));
        }
        if config.over == crate::PLUGIN.name {
            return Err(raw.error(
                "over",
                "expected another cold store, got this one, which would wrap itself for ever",
            ));
        }
        Ok(config)
    }

    /// The folders, relative ones below the memory's.
    ///
    /// # Errors
    /// `Config` for relative folders of a memory that has none.
    pub(crate) fn folders(&self, raw: &RawConfig, data_dir: Option<&Path>) -> Result<Vec<PathBuf>> {
        let whole = |folder: &PathBuf| match data_dir {
            Some(base) => Ok(base.join(folder)),
            None if folder.is_absolute() => Ok(folder.clone()),
            None => Err(raw.error(
                "folders",
                "expected absolute folders, since this memory has no folder of its own",
            )),
        };
        self.folders.iter().map(whole).collect()
    }
}

//! Which configuration a command works with.

use std::path::{Path, PathBuf};

use aether::config::Slot;
use aether::{Config, Error, Result, Role};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Name of a configuration file in a memory's folder or the working directory.
pub(crate) const FILE: &str = "aether.toml";

/// Options of every command that needs a memory.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Settings {
    /// Configuration file [default: aether.toml in DIR, else in the working directory, else built-in defaults]
    #[arg(long, short, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Folder of the memory [default: memory.path of the configuration]
    #[arg(long, short, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Override one key, as hot.m=32; may be repeated
    #[arg(long = "set", value_name = "TABLE.KEY=VALUE")]
    pub(crate) set: Vec<String>,
}

impl Settings {
    /// The file that will be read, if any.
    pub(crate) fn file(&self) -> Option<PathBuf> {
        let present = |path: PathBuf| path.is_file().then_some(path);
        let in_dir = || self.dir.as_ref().and_then(|d| present(d.join(FILE)));
        self.config
            .clone()
            .or_else(in_dir)
            .or_else(|| present(PathBuf::from(FILE)))
    }

    /// Reads the configuration and applies the overrides.
    pub(crate) fn load(&self) -> Result<Config> {
        let config = match self.file() {
            Some(file) => Config::load(file)?,
            None => Config::from_env()?,
        };
        self.apply(config)
    }

    /// Applies the overrides to a configuration.
    pub(crate) fn apply(&self, mut config: Config) -> Result<Config> {
        if let Some(dir) = &self.dir {
            config.memory.path.clone_from(dir);
        }
        for assignment in &self.set {
            assign(&mut config, assignment)
                .map_err(|e| e.prefixed(format_args!("--set {assignment}")))?;
        }
        config.validate()?;
        Ok(config)
    }
}

fn assign(config: &mut Config, assignment: &str) -> Result<()> {
    let parts = assignment
        .split_once('=')
        .and_then(|(path, value)| Some((path.trim().rsplit_once('.')?, value.trim())));
    let Some(((table, key), value)) = parts else {
        return Err(Error::config("expected TABLE.KEY=VALUE"));
    };
    match table {
        "memory" => set_field(&mut config.memory, key, value),
        "flux" => set_field(&mut config.flux, key, value),
        "search" => set_field(&mut config.search, key, value),
        "codes" => set_field(&mut config.codes, key, value),
        "limits" => set_field(&mut config.limits, key, value),
        "hot" => set_slot(&mut config.hot, key, value),
        "cold" => set_slot(&mut config.cold, key, value),
        "meta" => set_slot(&mut config.meta, key, value),
        "codec" => set_slot(&mut config.codec, key, value),
        "codec.then" => {
            let named = || Slot::named(Role::Codec, "zstd");
            set_slot(config.codec_then.get_or_insert_with(named), key, value)
        }
        "policy" => set_slot(&mut config.policy, key, value),
        other => Err(Error::config(format!(
            "unknown table {other:?}: expected memory, flux, search, codes, limits, hot, cold, meta, codec, codec.then or policy"
        ))),
    }
}

/// Sets a field of an engine table through its serialised form, so that its own checks apply.
fn set_field<T: Serialize + DeserializeOwned>(table: &mut T, key: &str, value: &str) -> Result<()> {
    let wrong = |e: serde_json::Error| Error::config(e.to_string());
    let mut json = serde_json::to_value(&*table).map_err(wrong)?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| value.trim_matches('"').into());
    if let Some(object) = json.as_object_mut() {
        object.insert(key.to_owned(), value);
    }
    *table = serde_json::from_value(json).map_err(wrong)?;
    Ok(())
}

fn set_slot(slot: &mut Slot, key: &str, value: &str) -> Result<()> {
    if key == "backend" {
        value.trim_matches('"').clone_into(&mut slot.backend);
        return Ok(());
    }
    // What is not TOML is meant as text, as in environment variables.
    let quoted = || serde_json::Value::from(value).to_string();
    slot.raw
        .set(key, value)
        .or_else(|_| slot.raw.set(key, &quoted()))
}

/// The settings that differ from their defaults, as a file to be kept beside the data. The folder itself is left out, so that
/// it can be moved.
pub(crate) fn as_file(config: &Config, registry: &aether::Registry) -> String {
    let mut text = String::from(
        "# Written by `aether import` when this memory was made. `aether config show` explains every key.\n",
    );
    let mut table = String::new();
    for setting in config.settings(registry) {
        let is_path = setting.table == "memory" && setting.key == "path";
        let chosen =
            setting.key == "backend" || setting.origin != "default" || setting.table == "memory";
        if is_path || !chosen || setting.value.is_empty() {
            continue;
        }
        if setting.table != table {
            text.push_str(&format!("\n[{}]\n", setting.table));
            table.clone_from(&setting.table);
        }
        text.push_str(&format!("{} = {}\n", setting.key, setting.value));
    }
    text
}

/// Keeps the settings in the memory's folder unless there is a file already; `true` if it was written.
pub(crate) fn keep(config: &Config, registry: &aether::Registry, folder: &Path) -> Result<bool> {
    let path = folder.join(FILE);
    let there = path.try_exists();
    if there.map_err(|e| {
        Error::unavailable(format!("cannot look at {}", path.display())).with_source(e)
    })? {
        return Ok(false);
    }
    std::fs::write(&path, as_file(config, registry)).map_err(|e| {
        Error::unavailable(format!("cannot write {}", path.display())).with_source(e)
    })?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(assignments: &[&str]) -> Result<Config> {
        let set = assignments.iter().map(ToString::to_string).collect();
        Settings {
            set,
            ..Settings::default()
        }
        .apply(Config::default())
    }

    #[test]
    fn overrides_reach_every_kind_of_table() {
        let config = set(&[
            "memory.hot_budget=64MiB",
            "search.probe=0.5",
            "hot.backend=flat",
            "hot.m=32",
            "codec.then.level=3",
        ])
        .unwrap();
        assert_eq!(config.memory.hot_budget.0, 64 << 20);
        assert_eq!(config.search.probe, 0.5);
        assert_eq!(
            (config.hot.backend.as_str(), config.hot.raw.text("m")),
            ("flat", Some("32".to_owned()))
        );
        assert_eq!(
            config.codec_then.unwrap().raw.text("level"),
            Some("3".to_owned())
        );
    }

    #[test]
    fn a_wrong_override_says_what_was_expected() {
        for (assignment, words) in [
            ("probe=1", "expected TABLE.KEY=VALUE"),
            ("search.probe", "expected TABLE.KEY=VALUE"),
            ("serch.probe=1", "unknown table"),
            ("search.prob=1", "unknown field `prob`"),
            ("search.probe=2", "expected 0.0 to 1.0"),
            ("memory.hot_budget=12", "with a unit"),
        ] {
            let text = set(&[assignment]).unwrap_err().to_string();
            assert!(text.contains(words), "{assignment}: {text}");
        }
    }

    #[test]
    fn kept_settings_read_back_as_the_same() {
        let config = set(&[
            "memory.dim=12",
            "memory.metric=l2",
            "memory.hot_budget=1MiB",
        ])
        .unwrap();
        let text = as_file(&config, &aether::registry().unwrap());
        let read = Config::from_toml(&text).unwrap();
        let path = config.memory.path.clone();
        assert_eq!(
            aether::config::MemoryConfig {
                path,
                ..read.memory
            },
            config.memory
        );
    }
}

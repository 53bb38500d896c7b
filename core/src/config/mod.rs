//! A TOML file becomes a checked [`Config`].
//!
//! `[memory]`, `[flux]`, `[compaction]`, `[search]`, `[codes]`, `[remote]`, `[limits]`, `[shadow]` and `[record]` belong to the engine.
//! `[hot]`, `[cold]`, `[meta]`, `[codec]` and `[policy]` pick a plug-in with `backend = "…"`; their other keys belong to the plug-in.
//! Environment variables such as `AETHER__HOT__BACKEND=flat` override single keys.

mod env;
mod nested;
mod objective;
mod raw;
mod rules;
mod tables;
mod units;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use env::{env_variables, override_key};
pub use objective::{Objective, ObjectiveConfig, Prices};
pub use raw::{RawConfig, nearest};
use raw::{Source, parse_document, read_source};
pub use tables::{
    CodesConfig, CompactionConfig, Durability, FluxConfig, LimitsConfig, MemoryConfig,
    RecordConfig, RemoteConfig, SearchConfig, SearchMode, ShadowConfig,
};
pub use units::{ByteSize, Span};

use crate::error::{Error, Result};
use crate::plugin::{OptionSpec, Role};
use crate::registry::Registry;

/// Prefix of the environment variables that override keys.
pub const ENV_PREFIX: &str = "AETHER__";

/// A role's choice: the plug-in's name and the keys that belong to it.
#[derive(Clone, Debug)]
pub struct Slot {
    /// The role.
    pub role: Role,
    /// The plug-in's name.
    pub backend: String,
    /// Its keys.
    pub raw: RawConfig,
    /// Where `backend` was written, as a message's beginning and as an origin.
    place: Option<RawConfig>,
}

impl Slot {
    /// A plug-in with its default settings.
    pub fn named(role: Role, backend: impl Into<String>) -> Self {
        Self {
            role,
            backend: backend.into(),
            raw: RawConfig::empty(role.name()),
            place: None,
        }
    }

    /// A plug-in with settings in TOML text, for tests and for building by hand.
    ///
    /// # Errors
    /// `Config` when `keys` is not TOML.
    pub fn with_keys(role: Role, backend: impl Into<String>, keys: &str) -> Result<Self> {
        let raw = RawConfig::from_toml(role.name(), keys)?;
        Ok(Self {
            role,
            backend: backend.into(),
            raw,
            place: None,
        })
    }

    /// Reads `backend` and the other keys of a table, with a default for a missing `backend`.
    ///
    /// # Errors
    /// `Config` when `backend` is not a text.
    pub fn from_table(role: Role, mut raw: RawConfig, default: &str) -> Result<Self> {
        let place = raw.clone();
        let backend = raw
            .take_text("backend")?
            .unwrap_or_else(|| default.to_owned());
        Ok(Self {
            role,
            backend,
            raw,
            place: Some(place),
        })
    }

    /// Points an error at the `backend` key.
    pub(crate) fn at_backend(&self, error: Error) -> Error {
        match &self.place {
            Some(place) => place.error("backend", error.message()),
            None => error,
        }
    }

    fn backend_origin(&self) -> String {
        self.place
            .as_ref()
            .map_or_else(|| "default".to_owned(), |p| p.origin("backend"))
    }
}

/// Everything a memory is assembled from. Settings only; clock and registry come in through the builder.
#[derive(Clone, Debug)]
pub struct Config {
    /// `[memory]`.
    pub memory: MemoryConfig,
    /// `[flux]`.
    pub flux: FluxConfig,
    /// `[compaction]`.
    pub compaction: CompactionConfig,
    /// `[search]`.
    pub search: SearchConfig,
    /// `[remote]`.
    pub remote: RemoteConfig,
    /// `[codes]`.
    pub codes: CodesConfig,
    /// `[limits]`.
    pub limits: LimitsConfig,
    /// `[shadow]`.
    pub shadow: ShadowConfig,
    /// `[record]`.
    pub record: RecordConfig,
    /// `[hot]`.
    pub hot: Slot,
    /// `[cold]`.
    pub cold: Slot,
    /// `[meta]`.
    pub meta: Slot,
    /// `[codec]`.
    pub codec: Slot,
    /// `[codec.then]`: a byte codec behind a lossy one.
    pub codec_then: Option<Slot>,
    /// `[policy]`.
    pub policy: Slot,
    origins: BTreeMap<&'static str, RawConfig>,
}

/// One effective setting, for `aether config show`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// Its table, as `hot`.
    pub table: String,
    /// Its key.
    pub key: String,
    /// Its value as TOML.
    pub value: String,
    /// Where the value came from.
    pub origin: String,
}

const DEFAULTS: [(Role, &str); 5] = [
    (Role::Hot, "hnsw"),
    (Role::Cold, "file"),
    (Role::Meta, "redb"),
    (Role::Codec, "zstd"),
    (Role::Policy, "flux"),
];

const TABLES: [&str; 14] = [
    "memory",
    "flux",
    "compaction",
    "search",
    "codes",
    "remote",
    "limits",
    "shadow",
    "record",
    "hot",
    "cold",
    "meta",
    "codec",
    "policy",
];

impl Default for Config {
    fn default() -> Self {
        let slot = |i: usize| Slot::named(DEFAULTS[i].0, DEFAULTS[i].1);
        Self {
            memory: MemoryConfig::default(),
            flux: FluxConfig::default(),
            compaction: CompactionConfig::default(),
            search: SearchConfig::default(),
            remote: RemoteConfig::default(),
            codes: CodesConfig::default(),
            limits: LimitsConfig::default(),
            shadow: ShadowConfig::default(),
            record: RecordConfig::default(),
            hot: slot(0),
            cold: slot(1),
            meta: slot(2),
            codec: slot(3),
            codec_then: None,
            policy: slot(4),
            origins: BTreeMap::new(),
        }
    }
}

impl Config {
    /// Reads a file, then the overriding environment variables of this process.
    ///
    /// # Errors
    /// `Config`, with file, line, key, what was expected, and how to mend it.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        Self::read(read_source(path.as_ref())?, env_variables())
    }

    /// Reads TOML text; looks at no environment.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn from_toml(text: &str) -> Result<Self> {
        Self::read(
            Source {
                file: None,
                text: text.to_owned(),
            },
            Vec::new(),
        )
    }

    /// Reads TOML text and the given `(name, value)` pairs as environment variables.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn from_toml_and_env(
        text: &str,
        env: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self> {
        Self::read(
            Source {
                file: None,
                text: text.to_owned(),
            },
            env.into_iter().collect(),
        )
    }

    /// The defaults, overridden by this process's environment variables.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn from_env() -> Result<Self> {
        Self::read(Source::default(), env_variables())
    }

    fn read(source: Source, env: Vec<(String, String)>) -> Result<Self> {
        let source = Arc::new(source);
        let mut root = parse_document(&source)?;
        let mut overridden: BTreeMap<String, String> = BTreeMap::new();
        for (name, value) in env {
            let Some(path) = name.strip_prefix(ENV_PREFIX) else {
                continue;
            };
            let path: Vec<String> = path.split("__").map(str::to_lowercase).collect();
            override_key(&mut root, &path, &value)
                .map_err(|e| Error::config(format!("environment variable {name}: {e}")))?;
            overridden.insert(path.join("."), name);
        }
        let whole = RawConfig::new("", source.clone(), root, overridden);
        Self::from_root(whole)
    }

    fn from_root(mut root: RawConfig) -> Result<Self> {
        if let Some(key) = root.keys().find(|k| !TABLES.contains(k)) {
            let hint = nearest(key, TABLES)
                .map(|near| format!("; did you mean [{near}]?"))
                .unwrap_or_default();
            let message = format!("unknown table: expected one of {}{hint}", TABLES.join(", "));
            return Err(root.error(key, message));
        }
        let mut origins = BTreeMap::new();
        let mut take = |name: &'static str| -> Result<RawConfig> {
            let table = root.take_table(name)?.map(|t| t.renamed(name));
            let table = table.unwrap_or_else(|| RawConfig::empty(name));
            origins.insert(name, table.clone());
            Ok(table)
        };
        let memory: MemoryConfig = take("memory")?.parse()?;
        let flux: FluxConfig = take("flux")?.parse()?;
        let compaction: CompactionConfig = take("compaction")?.parse()?;
        let search: SearchConfig = take("search")?.parse()?;
        let remote: RemoteConfig = take("remote")?.parse()?;
        let codes: CodesConfig = take("codes")?.parse()?;
        let limits: LimitsConfig = take("limits")?.parse()?;
        let shadow: ShadowConfig = take("shadow")?.parse()?;
        let record: RecordConfig = take("record")?.parse()?;
        let mut slot = |i: usize| {
            let (role, default) = DEFAULTS[i];
            Slot::from_table(role, take(role.name())?, default)
        };
        let (hot, cold, meta, mut codec, policy) =
            (slot(0)?, slot(1)?, slot(2)?, slot(3)?, slot(4)?);
        let codec_then = match codec.raw.take_table("then")? {
            None => None,
            Some(table) => Some(Slot::from_table(Role::Codec, table, "zstd")?),
        };
        let config = Self {
            memory,
            flux,
            compaction,
            search,
            remote,
            codes,
            limits,
            shadow,
            record,
            hot,
            cold,
            meta,
            codec,
            codec_then,
            policy,
            origins,
        };
        config.validate()?;
        Ok(config)
    }

    /// What the hot tier is to achieve, if `[flux] objective` says so.
    ///
    /// # Errors
    /// `Config` for keys that cannot be meant, and where the same is also set by hand: the tier's size beside `within`, or a policy's
    /// weights.
    pub fn objective(&self) -> Result<Option<Objective>> {
        let wrong = |message: String| match self.origins.get("flux") {
            Some(raw) => raw.error("objective", message),
            None => Error::config(format!("[flux] objective: {message}")),
        };
        let objective = &self.flux.objective;
        let found = objective.objective(&self.remote).map_err(wrong)?;
        if found.is_none() {
            return Ok(None);
        }
        let sized = self
            .origins
            .get("memory")
            .is_some_and(|raw| raw.keys().any(|k| k == "hot_budget"));
        if sized && objective.within.is_some() {
            return Err(wrong(
                "expected one bound of the hot tier, got within and memory.hot_budget: take one of them out".to_owned(),
            ));
        }
        if let Some(weight) = self.policy.raw.keys().find(|key| key.ends_with("_weight")) {
            return Err(wrong(format!(
                "expected an objective or weights, got an objective and policy.{weight}: take one of them out"
            )));
        }
        Ok(found)
    }

    /// RAM that the hot tier never exceeds, in bytes: `within` of an objective, or `memory.hot_budget`.
    pub fn hot_bound(&self) -> u64 {
        self.flux
            .objective
            .within
            .unwrap_or(self.memory.hot_budget)
            .0
    }

    /// Looks every chosen plug-in up, without building any.
    ///
    /// # Errors
    /// `Config` for an unknown one, or for a volatile cold store under a persistent metadata store.
    pub fn check_plugins(&self, registry: &Registry) -> Result<()> {
        for slot in self.slots() {
            slot.check_names(registry)?;
        }
        for name in &self.shadow.policies {
            registry.get(Role::Policy, name).map_err(|e| {
                let message = e.message().to_owned();
                match self.origins.get("shadow") {
                    Some(raw) => raw.error("policies", message),
                    None => Error::config(format!("[shadow] policies: {message}")),
                }
            })?;
        }
        let cold = registry.get(Role::Cold, &self.cold.backend)?;
        let meta = registry.get(Role::Meta, &self.meta.backend)?;
        if meta.persistent && !registry.persistent(&self.cold)? {
            return Err(self.cold.at_backend(Error::config(format!(
                "cold store {:?} forgets everything when the process ends, but metadata store {:?} does not: \
                 after a restart its rows would be missing; choose a persistent cold store, or meta \"memory\"",
                cold.name, meta.name
            ))));
        }
        Ok(())
    }

    /// All slots in use.
    pub fn slots(&self) -> impl Iterator<Item = &Slot> {
        [&self.hot, &self.cold, &self.meta, &self.codec, &self.policy]
            .into_iter()
            .chain(self.codec_then.as_ref())
    }

    /// Every effective setting and where it came from.
    pub fn settings(&self, registry: &Registry) -> Vec<Setting> {
        let mut settings = Vec::new();
        let empty = RawConfig::empty("");
        for (table, options) in engine_tables() {
            let raw = self.origins.get(table).unwrap_or(&empty);
            settings.extend(options.iter().map(|o| Setting {
                table: table.to_owned(),
                key: o.name.to_owned(),
                value: self.engine_value(table, o.name),
                origin: raw.origin(o.name),
            }));
        }
        for slot in self.slots() {
            slot.settings(registry, &mut settings);
        }
        settings
    }

    fn engine_value(&self, table: &str, key: &str) -> String {
        fn value<T: Serialize>(table: &T, key: &str) -> Option<String> {
            let json = serde_json::to_value(table).ok()?;
            json.get(key).map(toml_of)
        }
        let found = match table {
            "memory" => value(&self.memory, key),
            "flux" => value(&self.flux, key),
            "compaction" => value(&self.compaction, key),
            "search" => value(&self.search, key),
            "remote" => value(&self.remote, key),
            "codes" => value(&self.codes, key),
            "shadow" => value(&self.shadow, key),
            "record" => value(&self.record, key),
            _ => value(&self.limits, key),
        };
        found.unwrap_or_default()
    }
}

/// The engine's own tables and their keys.
pub fn engine_tables() -> [(&'static str, &'static [OptionSpec]); 9] {
    [
        ("memory", MemoryConfig::OPTIONS),
        ("flux", FluxConfig::OPTIONS),
        ("compaction", CompactionConfig::OPTIONS),
        ("search", SearchConfig::OPTIONS),
        ("remote", RemoteConfig::OPTIONS),
        ("codes", CodesConfig::OPTIONS),
        ("limits", LimitsConfig::OPTIONS),
        ("shadow", ShadowConfig::OPTIONS),
        ("record", RecordConfig::OPTIONS),
    ]
}

/// A value as TOML: what differs from JSON is a table.
fn toml_of(value: &serde_json::Value) -> String {
    let serde_json::Value::Object(keys) = value else {
        return value.to_string();
    };
    let keys: Vec<String> = keys
        .iter()
        .map(|(key, value)| format!("{key} = {}", toml_of(value)))
        .collect();
    match keys.is_empty() {
        true => "{}".to_owned(),
        false => format!("{{ {} }}", keys.join(", ")),
    }
}

#[cfg(test)]
mod tests;

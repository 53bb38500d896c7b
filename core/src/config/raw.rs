//! A table of the configuration whose keys still know where they were written.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::de::{DeserializeOwned, IntoDeserializer};
use toml_edit::{Item, Table, Value};

use crate::error::{Error, Result};

/// The text that a configuration was read from.
#[derive(Debug, Default)]
pub(super) struct Source {
    pub(super) file: Option<PathBuf>,
    pub(super) text: String,
}

impl Source {
    pub(super) fn name(&self) -> String {
        self.file
            .as_deref()
            .map_or_else(|| "configuration".to_owned(), |f| f.display().to_string())
    }

    /// One-based line and column of a byte offset.
    pub(super) fn position(&self, offset: usize) -> (usize, usize) {
        let before = &self.text[..self.text.floor_char_boundary(offset)];
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        (line, column)
    }

    /// `file:line:column: message`, the line itself, and a caret under the span.
    pub(super) fn error(&self, span: Option<Range<usize>>, message: &str) -> Error {
        let Some(span) = span else {
            return Error::config(format!("{}: {message}", self.name()));
        };
        let (line, column) = self.position(span.start);
        let text = self.text.lines().nth(line - 1).unwrap_or_default();
        let start = self.text.floor_char_boundary(span.start);
        let end = self.text.floor_char_boundary(span.end.max(start));
        let width = self.text[start..end]
            .lines()
            .next()
            .map_or(1, |s| s.chars().count().max(1));
        let (gutter, pad) = (" ".repeat(line.to_string().len()), " ".repeat(column - 1));
        Error::config(format!(
            "{}:{line}:{column}: {message}\n{gutter} |\n{line} | {text}\n{gutter} | {pad}{}",
            self.name(),
            "^".repeat(width)
        ))
    }
}

/// The keys of one table as they were written, with positions for messages. A plug-in turns it into its own struct with
/// [`RawConfig::parse`].
#[derive(Clone, Debug)]
pub struct RawConfig {
    path: String,
    source: Arc<Source>,
    table: Table,
    /// Key (dotted below this table) to the environment variable that set it.
    env: BTreeMap<String, String>,
}

impl RawConfig {
    pub(super) fn new(
        path: impl Into<String>,
        source: Arc<Source>,
        table: Table,
        env: BTreeMap<String, String>,
    ) -> Self {
        Self {
            path: path.into(),
            source,
            table,
            env,
        }
    }

    /// A table without keys, named for messages.
    pub fn empty(path: impl Into<String>) -> Self {
        Self::new(path, Arc::default(), Table::new(), BTreeMap::new())
    }

    /// A table of the keys in `text`, named for messages; for tests and for building by hand.
    ///
    /// # Errors
    /// `Config` when `text` is not TOML.
    pub fn from_toml(path: impl Into<String>, text: &str) -> Result<Self> {
        let source = Arc::new(Source {
            file: None,
            text: text.to_owned(),
        });
        let table = parse_document(&source)?;
        Ok(Self::new(path, source, table, BTreeMap::new()))
    }

    pub(super) fn renamed(mut self, path: &str) -> Self {
        path.clone_into(&mut self.path);
        self
    }

    /// The table's name, such as `hot`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The keys as the caller's struct, which should refuse unknown fields (`#[serde(deny_unknown_fields, default)]`).
    ///
    /// # Errors
    /// `Config`, with file, line, caret, what was expected, and the nearest valid key.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T> {
        let deserializer = Value::InlineTable(self.table.clone().into_inline_table());
        T::deserialize(deserializer.into_deserializer()).map_err(|e: toml_edit::de::Error| {
            let message = improve(e.message());
            // A key that an environment variable set has no place in the file.
            let key = self
                .env
                .keys()
                .find(|k| message.contains(&format!("`{k}`")));
            match (e.span(), key.and_then(|k| self.env.get(k))) {
                (_, Some(variable)) => {
                    Error::config(format!("environment variable {variable}: {message}"))
                }
                (None, None) if !self.env.is_empty() => {
                    let variables: Vec<_> = self.env.values().map(String::as_str).collect();
                    Error::config(format!(
                        "environment variable {}: [{}]: {message}",
                        variables.join(" or "),
                        self.path
                    ))
                }
                (span, None) => self
                    .source
                    .error(span, &format!("[{}] {message}", self.path)),
            }
        })
    }

    /// The keys present, in the order written.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.table.iter().map(|(key, _)| key)
    }

    /// A key's value as TOML text.
    pub fn text(&self, key: &str) -> Option<String> {
        let mut value = self.table.get(key)?.as_value()?.clone();
        value.decor_mut().clear();
        Some(value.to_string())
    }

    /// Where a key's value came from: `aether.toml:12`, an environment variable, or `default`.
    pub fn origin(&self, key: &str) -> String {
        if let Some(variable) = self.env.get(key) {
            return format!("environment variable {variable}");
        }
        match self.table.get(key) {
            None => "default".to_owned(),
            Some(item) => match item.span() {
                Some(span) => format!(
                    "{}:{}",
                    self.source.name(),
                    self.source.position(span.start).0
                ),
                None => "set by the program".to_owned(),
            },
        }
    }

    /// An error about one key's value, pointing at it.
    pub fn error(&self, key: &str, message: impl AsRef<str>) -> Error {
        let place = if self.path.is_empty() {
            String::new()
        } else {
            format!("[{}] ", self.path)
        };
        let message = format!("{place}{key}: {}", message.as_ref());
        if let Some(variable) = self.env.get(key) {
            return Error::config(format!("environment variable {variable}: {message}"));
        }
        self.source
            .error(self.table.get(key).and_then(Item::span), &message)
    }

    /// Removes a key and returns its text; `None` if it is absent.
    ///
    /// # Errors
    /// `Config` when it is not a text.
    pub fn take_text(&mut self, key: &str) -> Result<Option<String>> {
        match self.table.get(key).map(Item::as_str) {
            None => Ok(None),
            Some(None) => Err(self.error(key, "expected a quoted name")),
            Some(Some(text)) => {
                let text = text.to_owned();
                self.table.remove(key);
                Ok(Some(text))
            }
        }
    }

    /// Removes a sub-table and returns it, named `path.key`; `None` if it is absent.
    ///
    /// # Errors
    /// `Config` when it is not a table.
    pub fn take_table(&mut self, key: &str) -> Result<Option<RawConfig>> {
        let Some(item) = self.table.get(key) else {
            return Ok(None);
        };
        let table = match item {
            Item::Table(t) => t.clone(),
            Item::Value(Value::InlineTable(t)) => t.clone().into_table(),
            _ => return Err(self.error(key, "expected a table")),
        };
        let prefix = format!("{key}.");
        let below = |(k, v): (&String, &String)| {
            k.strip_prefix(&prefix)
                .map(|rest| (rest.to_owned(), v.clone()))
        };
        let env = self.env.iter().filter_map(below).collect();
        self.env.retain(|k, _| !k.starts_with(&prefix));
        self.table.remove(key);
        Ok(Some(Self::new(
            format!("{}.{key}", self.path),
            self.source.clone(),
            table,
            env,
        )))
    }

    /// Sets a key from the program; the value is TOML text.
    ///
    /// # Errors
    /// `Config` when `value` is not a TOML value.
    pub fn set(&mut self, key: &str, value: &str) -> Result<()> {
        let value: Value = value.parse().map_err(|e| {
            Error::config(format!("[{}] {key}: {value:?} is not TOML: {e}", self.path))
        })?;
        self.table.insert(key, Item::Value(value));
        self.env.remove(key);
        Ok(())
    }
}

pub(super) fn parse_document(source: &Source) -> Result<Table> {
    toml_edit::Document::parse(source.text.as_str())
        .map(|document| document.as_table().clone())
        .map_err(|e| source.error(e.span(), e.message()))
}

pub(super) fn read_source(path: &Path) -> Result<Source> {
    let text = std::fs::read_to_string(path).map_err(|e| {
        Error::config(format!(
            "{}: cannot read the configuration file",
            path.display()
        ))
        .with_source(e)
    })?;
    Ok(Source {
        file: Some(path.to_owned()),
        text,
    })
}

/// The candidate nearest to a mistyped name, if one is near enough to be meant.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = name.chars().count() / 3 + 1;
    candidates
        .into_iter()
        .map(|c| (strsim::damerau_levenshtein(name, c), c))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, c)| c)
}

/// Adds the nearest valid name to serde's "unknown field" and "unknown variant" messages.
pub(super) fn improve(message: &str) -> String {
    let message = message.trim();
    let mut quoted = message.split('`').skip(1).step_by(2);
    if !(message.starts_with("unknown field") || message.starts_with("unknown variant")) {
        return message.to_owned();
    }
    let Some(given) = quoted.next() else {
        return message.to_owned();
    };
    match nearest(given, quoted) {
        Some(near) => format!("{message}; did you mean `{near}`?"),
        None => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Sample {
        ef_search: u32,
        level: u32,
    }

    impl Default for Sample {
        fn default() -> Self {
            Self {
                ef_search: 64,
                level: 3,
            }
        }
    }

    #[test]
    fn a_typo_is_shown_with_line_caret_and_the_nearest_key() {
        let raw = RawConfig::from_toml("hot", "level = 1\nef_serch = 10\n").unwrap();
        let text = raw.parse::<Sample>().unwrap_err().to_string();
        assert!(text.contains("configuration:2:1"), "{text}");
        assert!(text.contains("did you mean `ef_search`?"), "{text}");
        assert!(text.ends_with("2 | ef_serch = 10\n  | ^^^^^^^^"), "{text}");
    }

    #[test]
    fn a_wrong_type_is_shown_at_its_value() {
        let raw = RawConfig::from_toml("hot", "level = \"three\"\n").unwrap();
        let text = raw.parse::<Sample>().unwrap_err().to_string();
        assert!(
            text.contains("configuration:1:9") && text.contains("invalid type"),
            "{text}"
        );
    }

    #[test]
    fn a_key_set_by_the_program_is_read() {
        let mut raw = RawConfig::empty("hot");
        raw.set("level", "9").unwrap();
        let sample: Sample = raw.parse().unwrap();
        assert_eq!((sample.level, sample.ef_search), (9, 64));
    }
}

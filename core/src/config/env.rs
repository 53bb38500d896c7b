//! Environment variables that override single keys.

use toml_edit::{Item, Table, Value};

use super::ENV_PREFIX;

/// The variables that begin with [`ENV_PREFIX`], in no order.
#[allow(
    clippy::disallowed_methods,
    reason = "the one place where the environment is read"
)]
pub(super) fn env_variables() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| name.starts_with(ENV_PREFIX))
        .collect()
}

/// Sets a dotted key; a value that is not TOML is taken as text, so that `AETHER__HOT__BACKEND=flat` needs no quotes.
pub(super) fn override_key(root: &mut Table, path: &[String], value: &str) -> Result<(), String> {
    let Some((key, tables)) = path.split_last() else {
        return Err("names no key".to_owned());
    };
    if tables.is_empty() || path.iter().any(String::is_empty) {
        return Err("expected AETHER__TABLE__KEY".to_owned());
    }
    let mut table = root as &mut dyn toml_edit::TableLike;
    for name in tables {
        let item = table
            .entry(name)
            .or_insert_with(|| Item::Table(Table::new()));
        table = item
            .as_table_like_mut()
            .ok_or_else(|| format!("{name} is not a table"))?;
    }
    let value = value
        .parse::<Value>()
        .unwrap_or_else(|_| Value::from(value));
    table.insert(key, Item::Value(value));
    Ok(())
}

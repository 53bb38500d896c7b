//! A plug-in's list of options against the keys that it really reads.

use std::collections::BTreeSet;
use std::sync::Arc;

use aether_core::config::RawConfig;
use aether_core::plugin::{Factory, Plugin};
use aether_core::{BuildContext, Metric, Result};

use super::{context, registry_of};

/// A key that no plug-in has.
const BOGUS: &str = "zz_no_such_key_zz";

/// [`check_options_with`] for a plug-in that needs no key to be built.
///
/// # Panics
/// As [`check_options_with`].
pub fn check_options(plugin: &'static Plugin) {
    check_options_with(plugin, "");
}

/// Checks that a plug-in's [`options`](Plugin::options) are just the fields of its configuration struct, that every listed default
/// is taken, alone and all together, and that unknown keys and values of a wrong type are refused with the key named.
/// `keys` is TOML that the plug-in cannot be built without.
///
/// # Panics
/// When one of these does not hold.
pub fn check_options_with(plugin: &'static Plugin, keys: &str) {
    check_options_among(plugin, keys, &[]);
}

/// [`check_options_with`] for a plug-in that wraps others.
///
/// # Panics
/// As [`check_options_with`].
pub fn check_options_among(plugin: &'static Plugin, keys: &str, others: &[&'static Plugin]) {
    let build = |plugin, keys: &(String, Vec<(String, String)>)| build(plugin, keys, others);
    let listed: BTreeSet<&str> = plugin.options.iter().map(|o| o.name).collect();
    assert_eq!(
        listed.len(),
        plugin.options.len(),
        "{}: an option is listed twice",
        plugin.name
    );
    for option in plugin.options {
        assert!(
            option.help.trim().ends_with('.') && option.help.len() >= 10,
            "{}: option {} needs one full sentence of help, got {:?}",
            plugin.name,
            option.name,
            option.help
        );
    }

    let error = build(plugin, &with(keys, &[(BOGUS, "1")]))
        .expect_err("an unknown key must be refused, but it was taken");
    assert!(
        error.is_config() && error.message().contains(BOGUS),
        "an unknown key must give a `Config` error that names it, got {error:?}"
    );
    let fields = fields_of(error.message());
    let read: BTreeSet<&str> = fields.iter().map(String::as_str).collect();
    assert_eq!(
        listed, read,
        "{}: the options listed (left) must be the fields of the configuration struct (right)",
        plugin.name
    );

    let defaults: Vec<(&str, &str)> = plugin
        .options
        .iter()
        .filter(|o| !o.default.is_empty())
        .map(|o| (o.name, o.default))
        .collect();
    for &(name, value) in &defaults {
        build(plugin, &with(keys, &[(name, value)]))
            .unwrap_or_else(|e| panic!("{}: listed default {name} = {value}: {e}", plugin.name));
    }
    build(plugin, &with(keys, &defaults))
        .unwrap_or_else(|e| panic!("{}: all listed defaults together: {e}", plugin.name));

    for option in plugin.options {
        let error = build(plugin, &with(keys, &[(option.name, "[[]]")]))
            .expect_err("a value of a wrong type must be refused, but it was taken");
        assert!(
            error.is_config(),
            "{}: {} = [[]] must give a `Config` error, got {error:?}",
            plugin.name,
            option.name
        );
    }
}

/// `keys` and then `more`, which win.
fn with(keys: &str, more: &[(&str, &str)]) -> (String, Vec<(String, String)>) {
    let more = more
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
    (keys.to_owned(), more)
}

/// Builds the plug-in in a fresh folder and drops it.
fn build(
    plugin: &Plugin,
    (keys, more): &(String, Vec<(String, String)>),
    others: &[&'static Plugin],
) -> Result<()> {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut raw = RawConfig::from_toml(plugin.role().name(), keys)?;
    for (key, value) in more {
        raw.set(key, value)?;
    }
    let context = BuildContext {
        registry: Arc::new(registry_of(others)?),
        ..context(8, Metric::L2, Some(dir.path().to_owned()))
    };
    make(plugin, &raw, &context)
}

fn make(plugin: &Plugin, raw: &RawConfig, context: &BuildContext) -> Result<()> {
    match plugin.factory {
        Factory::Hot(f) => f(raw, context).map(drop),
        Factory::Cold(f) => f(raw, context).map(drop),
        Factory::Meta(f) => f(raw, context).map(drop),
        Factory::Codec(id, f) => f(raw, context).map(|codec| {
            assert_eq!(
                codec.id(),
                id,
                "an instance must answer the plug-in's number"
            );
        }),
        Factory::Policy(f) => f(raw, context).map(drop),
    }
}

/// The names in serde's "unknown field `x`, expected one of `a`, `b`", "expected `a` or `b`", or "there are no fields".
fn fields_of(message: &str) -> Vec<String> {
    let line = message.lines().next().unwrap_or_default();
    let line = line.split("; did you mean").next().unwrap_or_default();
    let Some((_, names)) = line.split_once("expected") else {
        assert!(
            line.contains("there are no fields"),
            "an unknown key must be refused by serde's `deny_unknown_fields`, got {message:?}"
        );
        return Vec::new();
    };
    names
        .split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn field_names_are_read_from_each_form_of_the_message() {
        let read = |m: &str| fields_of(m).join(",");
        assert_eq!(
            read(
                "c:1:1: [hot] unknown field `z`, expected one of `a`, `b`; did you mean `a`?\n | `q`"
            ),
            "a,b"
        );
        assert_eq!(read("unknown field `z`, expected `a` or `b`"), "a,b");
        assert_eq!(read("unknown field `z`, expected `a`"), "a");
        assert_eq!(read("unknown field `z`, there are no fields"), "");
    }
}

//! The example file, and the check of a configuration without starting.

use std::fmt::Write;
use std::sync::Arc;

use aether_core::config::{Slot, engine_tables};
use aether_core::{
    BuildContext, Config, Error, OptionSpec, Plugin, Registry, Result, Role, SystemClock,
};

/// Dimension that plug-ins are built with when a file leaves it to the data.
const DIM_GUESS: usize = 384;

const HEAD: &str = "\
# Aether's settings: every key, its default, its unit, and what it does.
#
# This file works as it stands, and a file with none of it means the same: a key that is left out has its default. Keys of
# plug-ins that are not chosen stand commented out below the chosen one's. Sizes are written \"512MiB\", durations \"250ms\".
# Environment variables override single keys: AETHER__HOT__BACKEND=flat, AETHER__MEMORY__HOT_BUDGET=2GiB.
#
# Made by `aether config example`; `aether config check FILE` checks one, `aether config show FILE` tells what is in force.
";

/// A configuration file with every key of the engine and of every plug-in in `registry`, explained.
pub fn example_config(registry: &Registry) -> String {
    let mut text = HEAD.to_owned();
    for (table, options) in engine_tables() {
        // Writing to a String cannot fail.
        write!(text, "\n[{table}]\n").unwrap_or_default();
        options.iter().for_each(|o| option(&mut text, o, ""));
    }
    let config = Config::default();
    for slot in [
        &config.hot,
        &config.cold,
        &config.meta,
        &config.codec,
        &config.policy,
    ] {
        let plugins: Vec<&Plugin> = registry.iter().filter(|p| p.role() == slot.role).collect();
        write!(text, "\n[{}]\n# {}. One of:\n", slot.role, what(slot.role)).unwrap_or_default();
        for p in &plugins {
            writeln!(text, "#   {:<13} {}", p.name, p.summary).unwrap_or_default();
        }
        writeln!(text, "backend = \"{}\"", slot.backend).unwrap_or_default();
        let (chosen, others): (Vec<&Plugin>, Vec<&Plugin>) =
            plugins.iter().partition(|p| p.name == slot.backend);
        chosen
            .iter()
            .flat_map(|p| p.options)
            .for_each(|o| option(&mut text, o, ""));
        for p in others.iter().filter(|p| !p.options.is_empty()) {
            write!(text, "\n# Keys of backend = \"{}\":\n", p.name).unwrap_or_default();
            p.options.iter().for_each(|o| option(&mut text, o, "# "));
        }
        if slot.role == Role::Codec {
            text.push_str(
                "\n# Behind a lossy codec (f16, sq8), a byte codec may compress further:\n# [codec.then]\n# backend = \"zstd\"\n",
            );
        }
    }
    text
}

fn what(role: Role) -> &'static str {
    match role {
        Role::Hot => "The index of what is in RAM",
        Role::Cold => "Where what is not in RAM is kept",
        Role::Meta => "Where the memory keeps its books, and new points until they move",
        Role::Codec => "How vectors are written to the cold store; the default is exact",
        Role::Policy => "What decides who leaves RAM and who may come back",
    }
}

/// One key; it is commented out when it has no default, or when `before` says so.
fn option(text: &mut String, o: &OptionSpec, before: &str) {
    let unit = if o.unit.is_empty() {
        String::new()
    } else {
        format!(" Unit: {}.", o.unit)
    };
    writeln!(text, "# {}{unit}", o.help.trim()).unwrap_or_default();
    match o.default {
        "" => writeln!(text, "# {} =", o.name),
        default => writeln!(text, "{before}{} = {default}", o.name),
    }
    .unwrap_or_default();
}

/// Checks a configuration as starting would, but opens nothing: every table, every plug-in's name, and every plug-in's own
/// keys, by letting its factory read them.
///
/// # Errors
/// `Config`, with file, line, key, what was expected, and how to mend it.
pub fn check_config(config: &Config, registry: &Registry) -> Result<()> {
    config.validate()?;
    config.check_plugins(registry)?;
    let dim = if config.memory.dim == 0 {
        DIM_GUESS
    } else {
        config.memory.dim
    };
    let context = BuildContext {
        dim,
        metric: config.memory.metric,
        // Read-only in a folder that is not there: a store can read its keys, but neither create nor lock anything.
        data_dir: Some(std::env::temp_dir().join("aether-config-check-of-no-folder")),
        clock: Arc::new(SystemClock::new()),
        seed: config.memory.seed,
        read_only: true,
        hot_budget: Some(config.hot_bound()),
        registry: Arc::new(registry.clone()),
    };
    config.slots().try_for_each(|slot| {
        let Err(error) = build(slot, registry, &context) else {
            return Ok(());
        };
        // What a store says with its defaults as well is about the folder that is not there, not about these keys.
        let plain = build(
            &Slot::named(slot.role, slot.backend.as_str()),
            registry,
            &context,
        );
        let same = plain.is_err_and(|e| e.message() == error.message());
        if error.is_config() && !same {
            Err(error)
        } else {
            Ok(())
        }
    })
}

fn build(slot: &Slot, registry: &Registry, context: &BuildContext) -> Result<(), Error> {
    match slot.role {
        Role::Hot => registry.hot(slot, context).map(drop),
        Role::Cold => registry.cold(slot, context).map(drop),
        Role::Meta => registry.meta(slot, context).map(drop),
        Role::Codec => registry.codec(slot, context).map(drop),
        Role::Policy => registry.policy(slot, context).map(drop),
    }
}

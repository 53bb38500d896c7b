//! `aether plugins`: what this build can be assembled from.

use aether::{OptionSpec, Plugin, Role};
use serde::Serialize;

use super::{Done, Outcome, output};

/// Options of `aether plugins`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only the plug-ins of one role: hot, cold, meta, codec or policy
    #[arg(long)]
    role: Option<String>,
}

#[derive(Serialize)]
struct Listed {
    role: Role,
    name: &'static str,
    summary: &'static str,
    #[serde(rename = "crate")]
    crate_name: &'static str,
    persistent: bool,
    options: &'static [OptionSpec],
}

impl From<&'static Plugin> for Listed {
    fn from(p: &'static Plugin) -> Self {
        Self {
            role: p.role(),
            name: p.name,
            summary: p.summary,
            crate_name: p.crate_name,
            persistent: p.persistent,
            options: p.options,
        }
    }
}

pub(crate) fn run(args: &Args, json: bool) -> Done {
    let wanted = match &args.role {
        None => None,
        Some(name) => match Role::ALL.iter().find(|r| r.name() == name) {
            Some(role) => Some(*role),
            None => {
                return Err(super::Failure::usage(format!(
                    "--role: expected hot, cold, meta, codec or policy, got {name:?}"
                )));
            }
        },
    };
    let registry = aether::registry()?;
    let listed = registry
        .iter()
        .filter(|p| wanted.is_none_or(|role| p.role() == role));
    if json {
        output::json(&listed.map(Listed::from).collect::<Vec<_>>())?;
        return Ok(Outcome::Fine);
    }
    for plugin in listed {
        output::line(format_args!(
            "{} {}  ({})",
            plugin.role(),
            plugin.name,
            plugin.crate_name
        ))?;
        output::line(format_args!("    {}", plugin.summary))?;
        for o in plugin.options {
            let default = if o.default.is_empty() {
                "(none)"
            } else {
                o.default
            };
            let unit = if o.unit.is_empty() {
                String::new()
            } else {
                format!(" {}", o.unit)
            };
            output::line(format_args!("    {:<18} {default}{unit}", o.name))?;
            output::line(format_args!("    {:<18} {}", "", o.help))?;
        }
        output::line("")?;
    }
    Ok(Outcome::Fine)
}

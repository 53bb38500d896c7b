//! `aether check`: verifies a memory without writing anything.

use std::path::PathBuf;
use std::sync::Arc;

use super::settings::Settings;
use super::{Done, Outcome, memory, output};

/// Options of `aether check`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// The memory's folder [default: memory.path of the configuration]
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Configuration file [default: aether.toml in DIR, else in the working directory, else built-in defaults]
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Override one key, as meta.backend=sled; may be repeated
    #[arg(long = "set", value_name = "TABLE.KEY=VALUE")]
    set: Vec<String>,
}

pub(crate) async fn run(args: Args, json: bool) -> Done {
    let settings = Settings {
        config: args.config,
        dir: args.folder,
        set: args.set,
    };
    let config = settings.load()?;
    memory::must_exist(&config)?;
    let report = aether::check(&config, Arc::new(aether::registry()?)).await?;
    if json {
        output::json(&report)?;
    } else {
        output::figures(&report)?;
        for problem in &report.problems {
            output::complain(&format_args!("{}: {}", problem.what, problem.detail));
        }
        let verdict = if report.is_clean() {
            "clean".to_owned()
        } else {
            format!("{} problems", report.problems.len())
        };
        output::line(format_args!("{}: {verdict}", config.memory.path.display()))?;
    }
    Ok(if report.is_clean() {
        Outcome::Fine
    } else {
        Outcome::Wrong
    })
}

//! `aether config`: check a file, show what is in force and where it comes from, print an example.

use std::path::PathBuf;

use aether::Config;
use serde::Serialize;

use super::settings::Settings;
use super::{Done, Outcome, output};

/// Subcommands of `aether config`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Args {
    /// Check a file without starting anything
    Check {
        /// The file
        file: PathBuf,
    },
    /// Show every setting in force, and where it comes from
    Show {
        /// The file [default: aether.toml in the working directory, else built-in defaults]
        file: Option<PathBuf>,
    },
    /// Print a file with every key of this build, explained
    Example,
}

#[derive(Serialize)]
struct Checked {
    file: PathBuf,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

pub(crate) fn run(args: Args, json: bool) -> Done {
    let registry = aether::registry()?;
    match args {
        Args::Check { file } => {
            let checked =
                Config::load(&file).and_then(|config| aether::check_config(&config, &registry));
            let error = checked.err().map(|e| e.to_string());
            let wrong = error.is_some();
            if json {
                output::json(&Checked {
                    file,
                    ok: !wrong,
                    error,
                })?;
            } else if let Some(error) = error {
                output::complain(&error);
            } else {
                output::line(format_args!(
                    "{}: every key is known and every value fits",
                    file.display()
                ))?;
            }
            Ok(if wrong { Outcome::Wrong } else { Outcome::Fine })
        }
        Args::Show { file } => {
            let config = Settings {
                config: file,
                ..Settings::default()
            }
            .load()?;
            let settings = config.settings(&registry);
            if json {
                output::json(&settings)?;
                return Ok(Outcome::Fine);
            }
            let mut rows = vec![vec![
                "setting".to_owned(),
                "value".to_owned(),
                "from".to_owned(),
            ]];
            rows.extend(
                settings
                    .into_iter()
                    .map(|s| vec![format!("{}.{}", s.table, s.key), s.value, s.origin]),
            );
            output::table(&rows)?;
            Ok(Outcome::Fine)
        }
        Args::Example => {
            let text = aether::example_config(&registry);
            if json {
                output::json(&text)?;
            } else {
                output::line(text.trim_end())?;
            }
            Ok(Outcome::Fine)
        }
    }
}

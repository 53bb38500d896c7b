//! The command `aether`: argument parsing only; the work is in `cli`.

mod cli;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A tiered vector memory: what matters in RAM, the rest compressed, everything searchable.
#[derive(Debug, Parser)]
#[command(name = "aether", version, about, arg_required_else_help = true)]
struct Command {
    /// Print JSON instead of words
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List the plug-ins of this build and their options
    Plugins(cli::plugins::Args),
    /// Check, show or explain settings
    #[command(subcommand)]
    Config(cli::config::Args),
}

fn main() -> ExitCode {
    let Command { json, what } = Command::parse();
    cli::exit(match what {
        What::Plugins(args) => cli::plugins::run(&args, json),
        What::Config(args) => cli::config::run(args, json),
    })
}

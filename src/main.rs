//! The command `aether`: argument parsing only; the work is in `cli`.

mod cli;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

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
    /// See a tiered memory at work on 7,083 speeches of Shakespeare, in under a minute
    Demo(cli::demo::Args),
    /// Put vectors from a file into a memory
    Import(cli::import::Args),
    /// Find the nearest points of a vector
    Search(cli::search::Args),
    /// Show points by their ids
    Get(cli::get::Args),
    /// Tell why a point is where it is, and what would move it
    Explain(cli::explain::Args),
    /// Show the figures of a memory
    Stats(cli::stats::Args),
    /// List the plug-ins of this build and their options
    Plugins(cli::plugins::Args),
    /// Check, show or explain settings
    #[command(subcommand)]
    Config(cli::config::Args),
    /// Verify everything in a memory's folder; writes nothing
    Check(cli::check::Args),
    /// Try every codec on a file of vectors and recommend one
    Codecs(cli::codecs::Args),
    /// Try hot indexes and settings on a file of vectors and recommend one for a recall
    Tune(cli::tune::Args),
    /// Measure recall, speed and memory
    #[command(subcommand)]
    Bench(cli::bench::Args),
    /// Judge policies on recorded accesses
    Replay(cli::replay::Args),
    /// Kill a working memory again and again, and look whether anything was lost
    Torture(cli::torture::Args),
    /// The process that `torture` kills
    #[command(hide = true)]
    TortureChild(cli::torture::ChildArgs),
    /// The process that `demo` kills
    #[command(hide = true)]
    DemoChild(cli::demo::ChildArgs),
}

fn main() -> ExitCode {
    let Command { json, what } = Command::parse();
    cli::allocator::keep_little();
    let filter = EnvFilter::try_from_env("AETHER_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    cli::exit(cli::block_on(async move {
        match what {
            What::Demo(args) => cli::demo::run(args, json).await,
            What::Import(args) => cli::import::run(args, json).await,
            What::Search(args) => cli::search::run(args, json).await,
            What::Get(args) => cli::get::run(args, json).await,
            What::Explain(args) => cli::explain::run(args, json).await,
            What::Stats(args) => cli::stats::run(args, json).await,
            What::Plugins(args) => cli::plugins::run(&args, json),
            What::Config(args) => cli::config::run(args, json),
            What::Check(args) => cli::check::run(args, json).await,
            What::Codecs(args) => cli::codecs::run(&args, json),
            What::Tune(args) => cli::tune::run(&args, json),
            What::Bench(args) => cli::bench::run(args, json).await,
            What::Replay(args) => cli::replay::run(&args, json),
            What::Torture(args) => cli::torture::run(args, json).await,
            What::TortureChild(args) => cli::torture::child(args).await,
            What::DemoChild(args) => cli::demo::child(args).await,
        }
    }))
}

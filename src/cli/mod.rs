//! The command `aether`: one file a subcommand.

pub(crate) mod allocator;
pub(crate) mod bench;
pub(crate) mod check;
pub(crate) mod codecs;
pub(crate) mod config;
pub(crate) mod demo;
pub(crate) mod explain;
pub(crate) mod get;
pub(crate) mod import;
pub(crate) mod memory;
pub(crate) mod output;
pub(crate) mod plugins;
pub(crate) mod replay;
pub(crate) mod sample;
pub(crate) mod search;
pub(crate) mod settings;
pub(crate) mod stats;
pub(crate) mod torture;
pub(crate) mod tune;

use std::fmt;
use std::process::ExitCode;

/// How a command that ran to its end found things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// As they should be.
    Fine,
    /// Something is wrong, and was printed.
    Wrong,
}

/// Why a command did not run to its end.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command line asks for what makes no sense.
    Usage(String),
    /// Something failed.
    Failed(aether::Error),
}

/// What every command answers.
pub(crate) type Done<T = Outcome> = Result<T, Failure>;

impl Failure {
    /// A wrong command line.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::Usage(message.into())
    }
}

impl From<aether::Error> for Failure {
    fn from(error: aether::Error) -> Self {
        Self::Failed(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(message) => f.write_str(message),
            Self::Failed(error) => write!(f, "{error}"),
        }
    }
}

/// The process's exit code: 0 fine, 1 wrong or failed, 2 usage.
pub(crate) fn exit(done: Done) -> ExitCode {
    match done {
        Ok(Outcome::Fine) => ExitCode::SUCCESS,
        Ok(Outcome::Wrong) => ExitCode::from(1),
        Err(failure) => {
            output::complain(&failure);
            ExitCode::from(if matches!(failure, Failure::Usage(_)) {
                2
            } else {
                1
            })
        }
    }
}

/// An error of the operating system outside any memory.
pub(crate) fn io_failure(what: impl fmt::Display, error: std::io::Error) -> Failure {
    Failure::Failed(aether::Error::unavailable(format!("cannot {what}")).with_source(error))
}

/// Runs a command to its end on a runtime of its own.
pub(crate) fn block_on(command: impl Future<Output = Done>) -> Done {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    runtime
        .map_err(|e| io_failure("start the runtime", e))?
        .block_on(command)
}

//! sled's errors in our words, by what the caller does next.

use std::io::ErrorKind as Io;

use aether_core::{Error, Retry, Role};

/// Names the plug-in and the operation.
pub(crate) fn at(error: Error, operation: &'static str) -> Error {
    error.at(Role::Meta, "sled", operation)
}

/// Maps any of sled's errors.
pub(crate) fn map(error: sled::Error) -> Error {
    use sled::Error as S;
    let ours = match &error {
        S::Io(e) => return io(e, "the folder cannot be read or written"),
        S::Corruption { .. } => damaged(),
        // Its own checks of what it reads, and a configuration file it does not understand, arrive as these.
        S::ReportableBug(_) | S::Unsupported(_) => damaged(),
        S::CollectionNotFound(_) => Error::internal("unexpected answer of sled"),
    };
    ours.with_source(error)
}

/// An I/O error.
pub(crate) fn io(error: &std::io::Error, what: &str) -> Error {
    let ours = match error.kind() {
        Io::StorageFull | Io::QuotaExceeded | Io::FileTooLarge => {
            Error::capacity(format!("{what}: the disk is full; make room and reopen"))
        }
        Io::UnexpectedEof | Io::InvalidData | Io::InvalidInput => damaged(),
        Io::NotFound => Error::corrupt(format!("{what}: a file of the store is gone")),
        _ => Error::unavailable(what).with_retry(Retry::Never),
    };
    ours.with_source(error.to_string())
}

fn damaged() -> Error {
    Error::corrupt("the store is damaged; run `aether check` and restore from a snapshot")
}

pub(crate) fn closed() -> Error {
    Error::closed("the store was closed; open it again")
}

pub(crate) fn poisoned() -> Error {
    Error::poisoned(
        "an earlier write or sync failed, so it is unknown what is durable; reads go on, reopen to write",
    )
}

pub(crate) fn torn() -> Error {
    Error::poisoned("a batch failed half-way, so reads could see a part of it; reopen the store")
}

pub(crate) fn locked() -> Error {
    Error::locked(
        "another process, or another handle of this one, has the folder open; stop it or use another folder",
    )
}

/// A job that did not end: sled panicked, or the runtime was shut down.
pub(crate) fn unfinished(error: tokio::task::JoinError) -> Error {
    if error.is_panic() {
        // sled answers some kinds of damage with a panic.
        damaged().with_source(error)
    } else {
        Error::unavailable("the runtime was shut down meanwhile")
            .with_retry(Retry::Unknown)
            .with_source(error)
    }
}

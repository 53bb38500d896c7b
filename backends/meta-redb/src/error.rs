//! redb's errors in our words, by what the caller does next.

use std::any::Any;
use std::io::ErrorKind as Io;

use aether_core::{Error, Retry, Role};

/// Names the plug-in and the operation.
pub(crate) fn at(error: Error, operation: &'static str) -> Error {
    error.at(Role::Meta, "redb", operation)
}

/// Maps any of redb's errors.
pub(crate) fn map(error: impl Into<redb::Error>) -> Error {
    use redb::Error as R;
    let error = error.into();
    let ours = match &error {
        R::DatabaseAlreadyOpen => Error::locked(
            "another process, or another handle of this one, has the file open; stop it or use another folder",
        ),
        R::Io(e) => return io(e, "the file cannot be read or written"),
        R::PreviousIo => poisoned(),
        R::DatabaseClosed => closed(),
        R::ValueTooLarge(len) => Error::capacity(format!("a value of {len} bytes does not fit")),
        R::UpgradeRequired(version) => Error::corrupt(format!(
            "expected redb file format 3, got {version}: the file is of another version of redb, or damaged"
        )),
        // A lock is poisoned by a panic that was contained before; that came from damage, see `lanes`.
        R::Corrupted(_) | R::LockPoisoned(_) => damaged(),
        R::TableTypeMismatch { .. }
        | R::TableIsMultimap(_)
        | R::TableIsNotMultimap(_)
        | R::TypeDefinitionChanged { .. }
        | R::TableDoesNotExist(_)
        | R::TableExists(_) => Error::corrupt(
            "the file's tables are not those of a metadata store: it is another program's, or damaged",
        ),
        R::TransactionPoisoned => Error::corrupt("a write met damage and was rolled back"),
        _ => Error::internal("unexpected answer of redb"),
    };
    ours.with_source(error)
}

/// An I/O error of the file.
pub(crate) fn io(error: &std::io::Error, what: &str) -> Error {
    let ours = match error.kind() {
        Io::StorageFull | Io::QuotaExceeded | Io::FileTooLarge => {
            Error::capacity(format!("{what}: the disk is full; make room and reopen"))
        }
        // A short file and a wrong magic number arrive as these two.
        Io::UnexpectedEof | Io::InvalidData | Io::InvalidInput => damaged(),
        Io::WouldBlock => Error::locked(what),
        _ => Error::unavailable(what).with_retry(Retry::Never),
    };
    ours.with_source(error.to_string())
}

fn damaged() -> Error {
    Error::corrupt("the file is damaged; run `aether check` and restore from a snapshot")
}

pub(crate) fn closed() -> Error {
    Error::closed("the store was closed; open it again")
}

pub(crate) fn poisoned() -> Error {
    Error::poisoned(
        "an earlier write or sync of the file failed, so it is unknown what is durable; reads go on, reopen to write",
    )
}

pub(crate) fn read_only() -> Error {
    Error::unsupported("the store was opened for reading only; open it for writing")
}

/// A panic inside redb, which is how it answers some kinds of damage.
pub(crate) fn panicked(payload: &(dyn Any + Send)) -> Error {
    let text = payload
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| payload.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    damaged().with_source(text.to_owned())
}

//! From `std::io::Error` to the engine's errors.

use std::io::{self, ErrorKind};

use aether_core::{Error, Retry};

/// The error of a file operation that surely left nothing behind; `what` says what was being done.
pub(crate) fn map(error: io::Error, what: &str) -> Error {
    let mapped = match error.kind() {
        // A quota and the largest file that the process may write are limits as the disk's end is.
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            Error::capacity(format!("{what}: the disk or a quota is full; make room"))
        }
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Error::unavailable(format!(
            "{what}: not allowed; let this user read and write the folder"
        ))
        .with_retry(Retry::Never),
        _ => Error::unavailable(format!("{what}: the file system refused")),
    };
    mapped.with_source(error)
}

/// The error of a sync that failed: what was changed may or may not survive a power cut.
pub(crate) fn sync_failed(error: io::Error) -> Error {
    Error::poisoned(
        "the folder could not be synced, so nothing written here counts as durable any more: reads go on; mend the \
         disk and open the memory again to write",
    )
    .with_retry(Retry::Unknown)
    .with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_a_matter_of_capacity() {
        for kind in [
            ErrorKind::StorageFull,
            ErrorKind::QuotaExceeded,
            ErrorKind::FileTooLarge,
        ] {
            let error = map(io::Error::from(kind), "write");
            assert!(error.is_capacity() && error.retry() == Retry::Later);
        }
        let error = map(io::Error::from(ErrorKind::PermissionDenied), "open");
        assert!(error.is_unavailable() && error.retry() == Retry::Never);
        let error = map(io::Error::from(ErrorKind::TimedOut), "open");
        assert!(error.is_unavailable() && error.retry() == Retry::Later);
    }
}

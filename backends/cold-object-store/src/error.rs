//! From the object_store crate's errors to the engine's.

use std::error::Error as StdError;
use std::io;

use aether_core::{Error, Retry};
use object_store::Error as StoreError;

/// Whether a call may have had its effect when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// It changes nothing, or surely did nothing.
    None,
    /// The request went out; the crate itself repeats requests, so that even a refused connection may have followed
    /// an attempt that was carried out.
    Perhaps,
}

impl Effect {
    fn retry(self) -> Retry {
        match self {
            Self::None => Retry::Later,
            Self::Perhaps => Retry::Unknown,
        }
    }
}

/// Absence and "exists already" are answers and are handled before; here they are errors of the place itself.
pub(crate) fn map(error: StoreError, effect: Effect) -> Error {
    let mapped = match &error {
        StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. } => {
            Error::unavailable(
                "the service refused the credentials: let them read, write, delete and list under the prefix",
            )
            .with_retry(Retry::Never)
        }
        StoreError::NotFound { .. } => {
            Error::unavailable("the bucket, container or folder is not there: make it, or mend `url`")
                .with_retry(Retry::Never)
        }
        StoreError::NotImplemented { .. } | StoreError::NotSupported { .. } => Error::unsupported(
            "the store lacks an operation that is needed (create only, ranges, listing): check `options`",
        ),
        StoreError::InvalidPath { .. } => Error::internal("a name that the store does not take"),
        StoreError::UnknownConfigurationKey { .. } => Error::config("a setting that the store does not know"),
        _ if disk_is_full(&error) => Error::capacity("the disk or a quota is full; make room"),
        _ => Error::unavailable("the store did not answer as it should").with_retry(effect.retry()),
    };
    mapped.with_source(error)
}

fn disk_is_full(error: &StoreError) -> bool {
    let full = |e: &io::Error| {
        matches!(
            e.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
        )
    };
    let mut next: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = next {
        if error.downcast_ref::<io::Error>().is_some_and(full) {
            return true;
        }
        next = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(source: impl Into<Box<dyn StdError + Send + Sync>>) -> StoreError {
        StoreError::Generic {
            store: "test",
            source: source.into(),
        }
    }

    #[test]
    fn a_lost_answer_is_unknown_only_where_something_may_have_happened() {
        let error = map(generic("timeout"), Effect::Perhaps);
        assert!(error.is_unavailable() && error.retry() == Retry::Unknown);
        let error = map(generic("timeout"), Effect::None);
        assert!(error.is_unavailable() && error.retry() == Retry::Later);
    }

    #[test]
    fn refused_credentials_are_not_tried_again() {
        let error = StoreError::PermissionDenied {
            path: "x".to_owned(),
            source: "403".into(),
        };
        let error = map(error, Effect::Perhaps);
        assert!(error.is_unavailable() && error.retry() == Retry::Never);
    }

    #[test]
    fn a_full_disk_is_found_however_deep_it_is_wrapped() {
        let full = io::Error::from(io::ErrorKind::StorageFull);
        let error = map(generic(generic(full)), Effect::Perhaps);
        assert!(error.is_capacity(), "{error:?}");
    }
}

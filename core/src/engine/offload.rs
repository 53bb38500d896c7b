//! Work that takes processors for a while, on a thread that may be taken.

use std::cell::Cell;

use crate::error::{Error, Result};

thread_local! {
    static IN_PLACE: Cell<bool> = const { Cell::new(false) };
}

/// From now on memories that run on this thread compute on it, in the order in which they come to it, instead of on the runtime's
/// blocking threads. For simulations: on a runtime of one thread nothing happens at the same time any more, so that a seed decides all.
#[doc(hidden)]
pub fn compute_in_place(yes: bool) {
    IN_PLACE.set(yes);
}

/// Runs `work` on one of the runtime's blocking threads. Begins when first polled; goes on when the caller is gone.
///
/// # Errors
/// `Internal` when it panics, or the runtime ends before it begins.
pub(super) async fn offload<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    if IN_PLACE.get() {
        return Ok(work());
    }
    tokio::task::spawn_blocking(work).await.map_err(Error::task)
}

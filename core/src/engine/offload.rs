//! Work that takes processors for a while, on a thread that may be taken.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::sync::Arc;

use crate::error::{Error, Result};

/// What work waits for before it begins, and again before it is known to have ended.
type Turn = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

thread_local! {
    static IN_PLACE: Cell<bool> = const { Cell::new(false) };
    static IN_TURN: RefCell<Option<Turn>> = const { RefCell::new(None) };
}

/// From now on memories that run on this thread compute on it, in the order in which they come to it, instead of on the runtime's
/// blocking threads. For simulations: on a runtime of one thread nothing happens at the same time any more, so that a seed decides all.
#[doc(hidden)]
pub fn compute_in_place(yes: bool) {
    IN_PLACE.set(yes);
    IN_TURN.set(None);
}

/// The same, but each piece of work is a task of its own, as it would be a thread, and waits for its turn. For tests of schedules.
#[doc(hidden)]
pub fn compute_in_turn(
    turn: impl Fn() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync + 'static,
) {
    IN_PLACE.set(true);
    IN_TURN.set(Some(Arc::new(turn)));
}

/// Runs `work` on one of the runtime's blocking threads. Begins when first polled; goes on when the caller is gone.
///
/// # Errors
/// `Internal` when it panics, or the runtime ends before it begins.
pub(super) async fn offload<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    if !IN_PLACE.get() {
        return tokio::task::spawn_blocking(work).await.map_err(Error::task);
    }
    let Some(turn) = IN_TURN.with_borrow(Clone::clone) else {
        return Ok(work());
    };
    let waits = async move {
        turn().await;
        let done = work();
        turn().await;
        done
    };
    tokio::spawn(waits).await.map_err(Error::task)
}

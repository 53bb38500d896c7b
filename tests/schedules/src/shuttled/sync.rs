//! Shuttle's primitives under the names, and with the manners, of those that the sources ask for.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use shuttle::rand::Rng;
use shuttle::sync::MutexGuard;

pub(crate) use shuttle::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};
pub(crate) use shuttle::thread::yield_now;
// These two decide nothing by a lock of their own between their calls, so each call is one step.
pub(crate) use tokio::sync::{Semaphore, SemaphorePermit};

/// Few, so that readers without a cell are met.
pub(crate) const CELLS: usize = 3;

/// Drawn, as threads come from anywhere.
pub(crate) fn thread_number() -> usize {
    shuttle::rand::thread_rng().gen_range(0..CELLS)
}

/// A mutex that is never poisoned, as `parking_lot`'s.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(shuttle::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        match self.0.lock() {
            Ok(guard) => guard,
            Err(_) => panic!("a thread panicked while it held a lock"),
        }
    }
}

/// A moment that comes whenever the scheduler likes, or never.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Instant {
    Drawn,
    Never,
}

/// Time is up.
#[derive(Debug)]
pub(crate) struct Elapsed;

/// Waits for an outcome until a moment.
pub(crate) async fn timeout_at<F: Future>(at: Instant, work: F) -> Result<F::Output, Elapsed> {
    Timeout {
        at,
        work: Box::pin(work),
    }
    .await
}

struct Timeout<F> {
    at: Instant,
    work: Pin<Box<F>>,
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Poll::Ready(done) = self.work.as_mut().poll(context) {
            return Poll::Ready(Ok(done));
        }
        match self.at {
            Instant::Never => Poll::Pending,
            Instant::Drawn if shuttle::rand::thread_rng().gen_range(0..4) == 0 => {
                Poll::Ready(Err(Elapsed))
            }
            Instant::Drawn => {
                // A timer that may fire at any step.
                context.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }
}

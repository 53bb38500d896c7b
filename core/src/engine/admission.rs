//! How many searches run at once, and how many may wait.

use std::time::Duration;

use super::sync::{AtomicUsize, Instant, Ordering::AcqRel, Semaphore, SemaphorePermit, timeout_at};
use crate::error::{Error, Result};

/// A bounded number of places and a bounded queue before them.
#[derive(Debug)]
pub(crate) struct Admission {
    places: Semaphore,
    all: usize,
    waiting: AtomicUsize,
    queue: usize,
}

struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, AcqRel);
    }
}

impl Admission {
    pub(crate) fn new(places: usize, queue: usize) -> Self {
        Self {
            places: Semaphore::new(places),
            all: places,
            waiting: AtomicUsize::new(0),
            queue,
        }
    }

    /// Takes a place, waiting for one until the deadline.
    ///
    /// # Errors
    /// `Overloaded`, at once when the queue is full, or at the deadline.
    pub(crate) async fn enter(&self, deadline: Instant) -> Result<SemaphorePermit<'_>> {
        if let Ok(place) = self.places.try_acquire() {
            return Ok(place);
        }
        let before = self.waiting.fetch_add(1, AcqRel);
        let _waiting = Waiting(&self.waiting);
        let hint = Duration::from_millis(50);
        if before >= self.queue {
            return Err(Error::overloaded(format!(
                "searches: {} are waiting already (search.queue); try again later",
                self.queue
            ))
            .with_retry_after(hint));
        }
        match timeout_at(deadline, self.places.acquire()).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_)) => Err(Error::closed("the memory was closed")),
            Err(_) => Err(
                Error::overloaded("searches: no turn came before the deadline")
                    .with_retry_after(hint),
            ),
        }
    }

    /// Whether a search is under way.
    pub(crate) fn is_busy(&self) -> bool {
        self.places.available_permits() < self.all
    }

    /// Searches that wait.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(super::sync::Ordering::Acquire)
    }

    /// Refuses everyone from now on.
    pub(crate) fn close(&self) {
        self.places.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_full_queue_refuses_at_once_and_a_deadline_ends_the_wait() {
        let admission = Admission::new(1, 1);
        let soon = Instant::now() + Duration::from_secs(1);
        let place = admission.enter(soon).await.unwrap();
        let waits = admission.enter(soon);
        tokio::pin!(waits);
        assert!(futures::poll!(&mut waits).is_pending());
        assert_eq!(admission.waiting(), 1);
        let refused = admission.enter(soon).await.unwrap_err();
        assert!(refused.is_overloaded() && refused.retry_after().is_some());
        assert!(waits.await.unwrap_err().is_overloaded());
        drop(place);
        assert!(admission.enter(soon).await.is_ok());
        assert_eq!(admission.waiting(), 0);
    }
}

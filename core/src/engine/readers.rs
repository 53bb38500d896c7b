//! Who is reading, so that nothing is taken away from under a search.
//!
//! A reader takes a ticket, then looks at the published state. A writer publishes new state, then defers the removal of
//! what the old state needed to the moment when every ticket given before has come back. So a search sees one moment of
//! the memory, from its begin to its end, without a lock held.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::cold::Segment;
use super::sync::Mutex;
use crate::id::{Row, SegmentId};

/// Work that waits for readers.
#[derive(Debug)]
pub(crate) enum Deferred {
    /// Take killed rows out of RAM, or mark them in their segment.
    Killed(Vec<(Row, Option<(SegmentId, u32)>)>),
    /// Take demoted rows out of RAM.
    Demoted(Vec<Row>),
    /// Let go of segments that were compacted, and let the blobs that these notes name be swept.
    Retired {
        segments: Vec<Arc<Segment>>,
        notes: Vec<u64>,
    },
}

#[derive(Default)]
struct State {
    next: u64,
    active: BTreeSet<u64>,
    waiting: VecDeque<(u64, Deferred)>,
    /// Every deferral before this ticket has been done.
    done: u64,
}

/// The readers of a memory and what waits for them.
#[derive(Default)]
pub(crate) struct Readers {
    state: Mutex<State>,
    left: Notify,
}

impl fmt::Debug for Readers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock();
        f.debug_struct("Readers")
            .field("active", &state.active.len())
            .field("waiting", &state.waiting.len())
            .finish()
    }
}

/// A reader's ticket; gives it back when dropped.
#[derive(Debug)]
pub(crate) struct Ticket<'a> {
    readers: &'a Readers,
    number: u64,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut state = self.readers.state.lock();
        state.active.remove(&self.number);
        let work = !state.waiting.is_empty();
        drop(state);
        if work {
            self.readers.left.notify_waiters();
            self.readers.left.notify_one();
        }
    }
}

impl Readers {
    /// Takes a ticket. Look at the published state only afterwards.
    pub(crate) fn enter(&self) -> Ticket<'_> {
        let mut state = self.state.lock();
        let number = state.next;
        state.next += 1;
        state.active.insert(number);
        Ticket {
            readers: self,
            number,
        }
    }

    /// Defers work until every reader of now is gone; call after publishing the new state. The answer is for [`Readers::is_done`].
    pub(crate) fn defer(&self, work: Deferred) -> u64 {
        let mut state = self.state.lock();
        // Deferrals of one moment get tickets of their own, so that `done` tells them apart.
        let ticket = state.next;
        state.next += 1;
        state.waiting.push_back((ticket, work));
        ticket
    }

    /// The next work whose readers are gone; call [`Readers::finished`] with the ticket when it is done.
    pub(crate) fn next(&self) -> Option<(u64, Deferred)> {
        let mut state = self.state.lock();
        let oldest = state.active.first().copied().unwrap_or(u64::MAX);
        match state.waiting.front() {
            Some((ticket, _)) if *ticket <= oldest => state.waiting.pop_front(),
            _ => None,
        }
    }

    /// Notes that the work of a ticket, and of all before it, is done.
    pub(crate) fn finished(&self, ticket: u64) {
        let mut state = self.state.lock();
        state.done = state.done.max(ticket + 1);
        drop(state);
        self.left.notify_waiters();
    }

    /// Whether the work of a ticket is done.
    pub(crate) fn is_done(&self, ticket: u64) -> bool {
        self.state.lock().done > ticket
    }

    /// Whether anything waits.
    pub(crate) fn has_work(&self) -> bool {
        !self.state.lock().waiting.is_empty()
    }

    /// Waits until the work of a ticket is done, doing what can be done where nobody else does: that is `reap`.
    pub(crate) async fn until_done<F>(&self, ticket: u64, reap: impl Fn() -> F)
    where
        F: Future<Output = ()>,
    {
        loop {
            let changed = self.changed();
            tokio::pin!(changed);
            // From here on no change is missed.
            changed.as_mut().enable();
            reap().await;
            if self.is_done(ticket) {
                return;
            }
            changed.await;
        }
    }

    /// Completes when a reader leaves while work is waiting, or work is done.
    pub(crate) fn changed(&self) -> Notified<'_> {
        self.left.notified()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_waits_for_the_readers_before_it_and_no_others() {
        let readers = Readers::default();
        let first = readers.enter();
        let ticket = readers.defer(Deferred::Demoted(vec![Row(1)]));
        let second = readers.enter();
        assert!(readers.next().is_none());
        drop(first);
        let (got, _) = readers.next().unwrap();
        assert_eq!(got, ticket);
        assert!(!readers.is_done(ticket));
        readers.finished(got);
        assert!(readers.is_done(ticket));
        drop(second);
        assert!(readers.next().is_none());
    }
}

//! The bytes of all chunks that are alive, wherever their last owner is: the index, a search that began before a chunk left it, a snapshot.
//!
//! - What is counted is never less than what is held, but for a chunk's own header, which goes last: bytes are added before their memory is asked
//!   for, and subtracted after it was given back, and who sees that they were subtracted sees the memory given back (release and acquire). That they
//!   were added needs no order of its own: who knows of a chunk has it by the lock that published it, and that orders the two.
//! - The same of a snapshot's share in a chunk: who sees that it no longer counts sees that it is gone, so a writer who was told that no
//!   chunk is shared copies none.
//! - Everything is subtracted once, by the drop of what was counted. At rest the sums are exact.
//!
//! What orders these is here and nowhere else, so that its interleavings can be explored, and what weak memory may show (`tests/schedules`).

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use super::sync::{Counter, Ordering};

/// Bytes by part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bytes {
    pub(crate) vectors: u64,
    pub(crate) rows: u64,
    pub(crate) chunks: u64,
    /// Of chunks that a running snapshot shares: each may have to be copied before it is written to.
    pub(crate) pinned: u64,
}

impl Bytes {
    /// All that is held; what is pinned is among it.
    pub(crate) fn total(self) -> u64 {
        self.vectors
            .saturating_add(self.rows)
            .saturating_add(self.chunks)
    }
}

/// The sums of an index.
#[derive(Debug, Default)]
pub(crate) struct Held {
    vectors: Counter,
    rows: Counter,
    chunks: Counter,
    pinned: Counter,
}

impl Held {
    /// The sums as of about now.
    pub(crate) fn bytes(&self) -> Bytes {
        let [vectors, rows, chunks, pinned] =
            [&self.vectors, &self.rows, &self.chunks, &self.pinned]
                .map(|n| n.load(Ordering::Acquire));
        Bytes {
            vectors,
            rows,
            chunks,
            pinned,
        }
    }

    fn each(&self, bytes: Bytes) -> impl Iterator<Item = (&Counter, u64)> {
        let each = [
            (&self.vectors, bytes.vectors),
            (&self.rows, bytes.rows),
            (&self.chunks, bytes.chunks),
            (&self.pinned, bytes.pinned),
        ];
        each.into_iter().filter(|(_, n)| *n > 0)
    }
}

/// Bytes that count as long as this is there.
#[derive(Debug)]
pub(crate) struct Share {
    held: Arc<Held>,
    bytes: Bytes,
}

impl Share {
    pub(crate) fn new(held: &Arc<Held>, bytes: Bytes) -> Self {
        held.each(bytes).for_each(|(counter, n)| {
            counter.fetch_add(n, Ordering::Relaxed);
        });
        Self {
            held: Arc::clone(held),
            bytes,
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.held.each(self.bytes).for_each(|(counter, n)| {
            counter.fetch_sub(n, Ordering::Release);
        });
    }
}

/// Something whose bytes count from before it is made until after it is gone.
#[derive(Debug)]
pub(crate) struct Counted<T> {
    /// Dropped first: fields go in their order.
    inner: T,
    share: Share,
}

impl<T> Counted<T> {
    pub(crate) fn new(held: &Arc<Held>, bytes: Bytes, make: impl FnOnce() -> T) -> Self {
        let share = Share::new(held, bytes);
        Self {
            inner: make(),
            share,
        }
    }

    /// Where it counts.
    pub(crate) fn held(&self) -> &Arc<Held> {
        &self.share.held
    }

    /// What it counts as.
    pub(crate) fn bytes(&self) -> Bytes {
        self.share.bytes
    }
}

impl<T> Deref for Counted<T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T> DerefMut for Counted<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

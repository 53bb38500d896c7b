//! The bytes that chunks of `hot-flat` count, under loom: every interleaving, and what weak memory may show.

use std::sync::Arc;

use loom::thread;

use super::Findings;
use crate::loomed::held::{Bytes, Counted, Held, Share};
use crate::loomed::sync::{AtomicU32, Mutex, Ordering::Relaxed, Ordering::Release, weaken};

pub use crate::loomed::sync::Weakened;

/// A mistake in the books of an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// None.
    Nothing,
    /// Orderings of the sums are relaxed.
    Weak(Weakened),
    /// A chunk is shown before its bytes are counted.
    ShownBeforeCounted,
    /// Bytes are subtracted before their memory is given back, or before a snapshot has let a chunk go.
    SubtractedFirst,
    /// A snapshot's share is never given back.
    Kept,
}

fn begin(planted: Planted) -> Arc<Held> {
    weaken(match planted {
        Planted::Weak(what) => what,
        _ => Weakened::Nothing,
    });
    Arc::new(Held::default())
}

/// A chunk.
const CHUNK: Bytes = Bytes {
    vectors: 60,
    rows: 30,
    chunks: 10,
    pinned: 0,
};

/// A snapshot's share in one.
const PINNED: Bytes = Bytes {
    vectors: 0,
    rows: 0,
    chunks: 0,
    pinned: 100,
};

/// So many owners of something; each is one less when it goes.
struct Owner(Arc<AtomicU32>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Release);
    }
}

/// What is counted, and goes when this goes.
struct Hold {
    _counted: Option<Counted<Owner>>,
    /// In a wrong order.
    _hasty: Option<(Share, Owner)>,
}

impl Hold {
    fn new(held: &Arc<Held>, bytes: Bytes, owner: Owner, planted: Planted) -> Self {
        if planted == Planted::SubtractedFirst {
            return Self {
                _counted: None,
                _hasty: Some((Share::new(held, bytes), owner)),
            };
        }
        Self {
            _counted: Some(Counted::new(held, bytes, || owner)),
            _hasty: None,
        }
    }
}

/// A writer adds a chunk to the list and takes another out, which goes when the lock is given up. Whoever has the list reads no fewer bytes than those of
/// its chunks, and no more than those of all that there were.
pub fn a_chunk_that_is_shown_is_counted(planted: Planted) {
    let (held, findings) = (begin(planted), Arc::new(Findings::default()));
    let chunk = |held: &Arc<Held>, bytes| Counted::new(held, bytes, || ());
    let list = Arc::new(Mutex::new(vec![chunk(&held, CHUNK)]));
    let writer = {
        let (held, list) = (held.clone(), list.clone());
        thread::spawn(move || {
            let late = (planted == Planted::ShownBeforeCounted).then(|| {
                list.lock().push(chunk(&held, Bytes::default()));
                Share::new(&held, CHUNK)
            });
            if late.is_none() {
                list.lock().push(chunk(&held, CHUNK));
            }
            let out = list.lock().remove(0);
            drop(out);
            late
        })
    };
    for _ in 0..2 {
        let all = list.lock();
        let (known, counted) = (all.len() as u64, held.bytes());
        drop(all);
        for (part, one) in [
            (counted.vectors, CHUNK.vectors),
            (counted.rows, CHUNK.rows),
            (counted.chunks, CHUNK.chunks),
        ] {
            let right = (known * one..=2 * one).contains(&part);
            findings.note(right, || format!("{known} chunks of {one}, counted {part}"));
        }
    }
    let late = writer.join().expect("the writer ended");
    findings.say();
    assert_eq!(held.bytes(), CHUNK, "one is left");
    let left = list.lock().pop();
    drop((left, late));
    assert_eq!(held.bytes(), Bytes::default(), "at rest");
}

/// A search gives up the last share in a chunk that the index no longer has: memory that does not count any more was given back.
pub fn memory_that_no_longer_counts_is_gone(planted: Planted) {
    let (held, findings) = (begin(planted), Findings::default());
    let owners = Arc::new(AtomicU32::new(1));
    let chunk = Hold::new(&held, CHUNK, Owner(owners.clone()), planted);
    let search = thread::spawn(move || drop(chunk));
    let counted = held.bytes().total();
    let there = owners.load(Relaxed) > 0;
    findings.note(!there || counted == CHUNK.total(), || {
        format!("a chunk is there, and {counted} bytes are counted")
    });
    search.join().expect("the search ended");
    findings.say();
    assert_eq!(held.bytes(), Bytes::default(), "at rest");
}

/// Two snapshots let a chunk go that the index has too: a writer that is told of no share in it finds itself the only owner, and copies nothing. What
/// was pinned is given back once.
pub fn a_writer_copies_no_more_than_it_was_told(planted: Planted) {
    let (held, findings) = (begin(planted), Findings::default());
    let owners = Arc::new(AtomicU32::new(3));
    let snapshots: Vec<_> = (0..2)
        .map(|_| {
            let pin = Hold::new(&held, PINNED, Owner(owners.clone()), planted);
            thread::spawn(move || match planted {
                Planted::Kept => std::mem::forget(pin),
                _ => drop(pin),
            })
        })
        .collect();
    let pinned = held.bytes().pinned;
    // As a copy on write does, which may see an older count than there is.
    let others = u64::from(owners.load(Relaxed) - 1);
    findings.note(
        others * PINNED.pinned <= pinned && pinned <= 2 * PINNED.pinned,
        || format!("{others} others have the chunk, {pinned} bytes are pinned"),
    );
    for snapshot in snapshots {
        snapshot.join().expect("the snapshot ended");
    }
    findings.say();
    assert_eq!(held.bytes(), Bytes::default(), "at rest");
}

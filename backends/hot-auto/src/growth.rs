//! Moving rows from the scan to the graph while searches and writes go on.
//!
//! A row is written to the graph first and then taken out of the scan, so at every moment it is in at least one of them; a search
//! asks the scan first and the graph afterwards, so it meets each row at least once, and drops the second meeting. A removal takes a row
//! out of both, and holds the row's stripe meanwhile, as a move does: no move brings back what was removed.
//!
//! Moves are made by the writes themselves, a few for each row that comes in: there is no thread to wait for, the same calls make the
//! same moves, and a scan that has become as long as it may be only gets shorter from then on.

use aether_core::role::HotIndex;
use aether_core::{Result, Row};

use super::sync::{AtomicUsize, Mutex, MutexGuard, Ordering, STRIPES};

/// Rows that move under one hold of their stripes.
const TOGETHER: usize = 32;

/// The rows still to be moved, and who moves them.
#[derive(Debug)]
pub(crate) struct Growth {
    stripes: [Mutex<()>; STRIPES],
    list: Mutex<List>,
    /// Bytes of the list.
    list_bytes: AtomicUsize,
    /// Rows that are in both indexes at this moment, at most [`TOGETHER`].
    twice: AtomicUsize,
}

/// Rows in the order opposite to the one in which they move.
#[derive(Debug, Default)]
struct List {
    rows: Vec<Row>,
    vectors: Vec<f32>,
}

impl Growth {
    pub(crate) fn new() -> Self {
        Self {
            stripes: std::array::from_fn(|_| Mutex::new(())),
            list: Mutex::default(),
            list_bytes: AtomicUsize::new(0),
            twice: AtomicUsize::new(0),
        }
    }

    /// Keeps a row where it is.
    pub(crate) fn hold(&self, row: Row) -> MutexGuard<'_, ()> {
        self.stripes[stripe(row)].lock()
    }

    /// Rows counted by both indexes.
    pub(crate) fn twice(&self) -> usize {
        self.twice.load(Ordering::Acquire)
    }

    /// Bytes that moving takes beside both indexes.
    pub(crate) fn bytes(&self) -> u64 {
        self.list_bytes.load(Ordering::Relaxed) as u64
    }

    /// The most that [`Growth::bytes`] can become while so many rows move.
    pub(crate) fn bytes_for(rows: usize, dim: usize) -> u64 {
        let vectors = TOGETHER
            .saturating_mul(dim)
            .saturating_mul(size_of::<f32>());
        let rows = rows.saturating_mul(size_of::<Row>());
        rows.saturating_add(vectors) as u64
    }

    /// Moves up to `most` rows; `true` when none is left. Answers at once when another thread is moving rows, unless it is to `wait`
    /// for that.
    ///
    /// # Errors
    /// Those of the graph; the rows that could not move stay where they are.
    pub(crate) fn shift(
        &self,
        few: &dyn HotIndex,
        many: &dyn HotIndex,
        dim: usize,
        most: usize,
        wait: bool,
    ) -> Result<bool> {
        let list = if wait {
            Some(self.list.lock())
        } else {
            self.list.try_lock()
        };
        let Some(mut list) = list else {
            return Ok(false);
        };
        let mut left = most;
        while left > 0 {
            if list.rows.is_empty() {
                list.rows = few.rows();
                list.rows.reverse();
                self.count(&list);
            }
            if list.rows.is_empty() {
                *list = List::default();
                self.count(&list);
                return Ok(true);
            }
            let some = list.rows.len().min(TOGETHER).min(left);
            let at = list.rows.len() - some;
            let mut rows = list.rows.split_off(at);
            rows.reverse();
            self.shift_some(few, many, dim, &rows, &mut list.vectors)?;
            self.count(&list);
            left -= some;
        }
        Ok(false)
    }

    fn count(&self, list: &List) {
        let bytes =
            list.rows.capacity() * size_of::<Row>() + list.vectors.capacity() * size_of::<f32>();
        self.list_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Moves some rows, those of them that are still there.
    fn shift_some(
        &self,
        few: &dyn HotIndex,
        many: &dyn HotIndex,
        dim: usize,
        rows: &[Row],
        vectors: &mut Vec<f32>,
    ) -> Result<()> {
        let _held = self.hold_all(rows);
        let mut there = Vec::with_capacity(rows.len());
        vectors.clear();
        // No more than asked for: `bytes_for` counts on it.
        vectors.reserve_exact(rows.len() * dim);
        vectors.resize(rows.len() * dim, 0.0);
        for row in rows {
            let from = there.len() * dim;
            if few.read(*row, &mut vectors[from..from + dim])? {
                there.push(*row);
            }
        }
        self.twice.store(there.len(), Ordering::Release);
        let moved = many.insert_batch(&there, &vectors[..there.len() * dim]);
        let from = if moved.is_ok() { few } else { many };
        let taken = there.iter().try_for_each(|row| from.remove(*row).map(drop));
        self.twice.store(0, Ordering::Release);
        moved.and(taken)
    }

    /// The stripes of some rows, each once and in order, so that no two threads wait for each other.
    fn hold_all(&self, rows: &[Row]) -> Vec<MutexGuard<'_, ()>> {
        let mut stripes: Vec<usize> = rows.iter().map(|row| stripe(*row)).collect();
        stripes.sort_unstable();
        stripes.dedup();
        stripes.iter().map(|at| self.stripes[*at].lock()).collect()
    }
}

fn stripe(row: Row) -> usize {
    // Fibonacci hashing: the high bits of the product depend on all bits of the row.
    (row.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize % STRIPES
}

//! Tells when nobody can still be looking at a place that was given up.
//!
//! A reader announces the epoch in which it began ([`Pins::pin`]). A writer that takes a row out first makes it unreachable
//! for newcomers, then [`Pins::retire`] gives it the present epoch and begins the next one. The place may be written over
//! once every announced epoch is later ([`Pins::oldest`]).
//!
//! Why that is enough: a reader writes its announcement, then a sequentially consistent fence, then reads the graph. A writer
//! makes the row unreachable, then (in `oldest`) a fence, then reads the announcements. Of the two fences one comes
//! first. If the writer's does, the reader sees the row unreachable. If the reader's does, the writer sees the
//! announcement; its epoch is the present one or an earlier one, and only an epoch read after `retire` is later than
//! the row's, in which case the reader has also seen what came before `retire`.

use super::sync::{AtomicU64, AtomicUsize, CELLS, Ordering, fence, thread_number, yield_now};

const FREE: u64 = 0;

#[derive(Debug)]
#[repr(align(64))]
struct Cell(AtomicU64);

#[derive(Debug)]
pub(crate) struct Pins {
    epoch: AtomicU64,
    cells: [Cell; CELLS],
    without_cell: AtomicUsize,
}

impl Pins {
    pub(crate) fn new() -> Self {
        Self {
            epoch: AtomicU64::new(1),
            cells: std::array::from_fn(|_| Cell(AtomicU64::new(FREE))),
            without_cell: AtomicUsize::new(0),
        }
    }

    /// Announces a reader until the guard is dropped.
    pub(crate) fn pin(&self) -> Pin<'_> {
        let start = thread_number();
        let epoch = self.epoch.load(Ordering::SeqCst);
        for i in 0..CELLS {
            let cell = (start + i) % CELLS;
            let atomic = &self.cells[cell].0;
            if atomic.load(Ordering::Relaxed) == FREE
                && atomic
                    .compare_exchange(FREE, epoch, Ordering::SeqCst, Ordering::Relaxed)
                    .is_ok()
            {
                fence(Ordering::SeqCst);
                return Pin {
                    pins: self,
                    cell: Some(cell),
                };
            }
        }
        self.without_cell.fetch_add(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        Pin {
            pins: self,
            cell: None,
        }
    }

    /// The epoch of something that has just been made unreachable. Grows from call to call.
    pub(crate) fn retire(&self) -> u64 {
        self.epoch.fetch_add(1, Ordering::SeqCst)
    }

    /// What was retired in an epoch before this one has no reader left.
    pub(crate) fn oldest(&self) -> u64 {
        fence(Ordering::SeqCst);
        if self.without_cell.load(Ordering::SeqCst) > 0 {
            return 0;
        }
        self.cells
            .iter()
            .map(|c| c.0.load(Ordering::SeqCst))
            .filter(|e| *e != FREE)
            .min()
            .unwrap_or(u64::MAX)
    }

    /// Waits until every reader that runs now has ended. The caller must not be pinned.
    pub(crate) fn wait(&self) {
        let epoch = self.retire();
        while self.oldest() <= epoch {
            yield_now();
        }
    }
}

#[derive(Debug)]
pub(crate) struct Pin<'a> {
    pins: &'a Pins,
    cell: Option<usize>,
}

impl Drop for Pin<'_> {
    fn drop(&mut self) {
        match self.cell {
            Some(cell) => self.pins.cells[cell].0.store(FREE, Ordering::Release),
            None => {
                self.pins.without_cell.fetch_sub(1, Ordering::Release);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_holds_up_what_was_retired_after_it_began_and_nothing_else() {
        let pins = Pins::new();
        let before = pins.retire();
        assert!(before < pins.oldest());
        let reader = pins.pin();
        assert!(before < pins.oldest());
        let after = pins.retire();
        assert!(after >= pins.oldest());
        let second = pins.pin();
        drop(reader);
        assert!(after < pins.oldest());
        drop(second);
    }

    #[test]
    fn readers_beyond_the_cells_hold_up_everything() {
        let pins = Pins::new();
        let readers: Vec<_> = (0..=CELLS).map(|_| pins.pin()).collect();
        assert_eq!(pins.oldest(), 0);
        drop(readers);
        assert_eq!(pins.oldest(), u64::MAX);
    }
}

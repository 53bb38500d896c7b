//! Where a hot row stands, and which are the lowest.

use aether_core::Time;
use aether_core::role::{Context, Verdict, Want};

use crate::books::Books;

use super::Flux;
use super::figures::Hot;
use super::order::RECENT;

/// Hot rows from which on a share of them stays by recency; all of fewer or none.
const RECENT_LEAST: u32 = 8;
/// Rows that pass from recency to score in one event, at most: a smaller share comes about over some uses.
const PASS_AT_ONCE: usize = 8;
/// Rows looked at for the lowest keep-value, where nothing may be put in order.
const LOOK_AT: usize = 16;

impl Flux {
    /// Rows that may stay by recency, of so many: no share of a handful, where one row more or less would decide everything.
    pub(super) fn recent_of(&self, rows: u32) -> u32 {
        match rows < RECENT_LEAST {
            true if self.steer.is_recency() => rows,
            true => 0,
            false => (f64::from(rows) * self.steer.recent_share()) as u32,
        }
    }

    /// Puts a row that is in no list, or in a bucket, in the bucket of its worth.
    pub(super) fn place(&mut self, books: &mut Books<Hot>, slot: u32, now: Time) {
        let (restore_us, bytes) = (books.figures(slot).restore_us(), books.weight(slot));
        if (restore_us, bytes) != (self.priced.0, self.priced.1) {
            self.priced = (restore_us, bytes, self.price(restore_us, bytes));
        }
        let worth = self.worth(books, slot, now);
        self.ring.link(books, slot, worth);
    }

    /// A hot row is used.
    pub(super) fn use_row(&mut self, books: &mut Books<Hot>, slot: u32, uses: f64, now: Time) {
        let hot = books.figures(slot);
        let past = hot.past();
        self.simulate(past, hot.restore_us(), now);
        let used = past.scored({ past.score }.used(uses, self.now));
        books.set_figures(slot, hot.used_at(used, now));
        // Without recency the row has gained worth and may wait where it is.
        if !books.pinned(slot) && (hot.recent() || self.recent_of(books.free()) > 0) {
            self.bring_forward(books, slot, now);
        }
    }

    /// Makes a row the most recently used; those beyond the share of recency pass on to their buckets, oldest first.
    pub(super) fn bring_forward(&mut self, books: &mut Books<Hot>, slot: u32, now: Time) {
        let hot = books.figures(slot);
        if !hot.recent() {
            self.recent += 1;
            books.set_figures(slot, hot.placed(true));
        }
        books.push_back(RECENT, slot);
        for _ in 0..PASS_AT_ONCE {
            if self.recent <= self.recent_of(books.free()) || !self.pass_oldest(books, now) {
                break;
            }
        }
    }

    /// The oldest of the recent rows passes on to the bucket of its worth; `false` without any.
    pub(super) fn pass_oldest(&mut self, books: &mut Books<Hot>, now: Time) -> bool {
        let Some(oldest) = books.front(RECENT) else {
            return false;
        };
        self.recent -= 1;
        books.set_figures(oldest, books.figures(oldest).placed(false));
        self.place(books, oldest, now);
        true
    }

    pub(super) fn verdict(&self, books: &Books<Hot>, slot: u32, now: Time) -> Verdict {
        Verdict {
            row: books.row(slot),
            keep: self.keep_of(books, slot, now),
            certain: false,
            reason: match books.figures(slot).recent() {
                true => "the least recent of the rows used last",
                false => "least likely to be used again for its size and cost",
            },
        }
    }

    /// Rows by their keep-values, lowest first; equal ones in the order in which they were.
    pub(super) fn in_order(&self, books: &Books<Hot>, slots: Vec<u32>, now: Time) -> Vec<u32> {
        let with_keep = |slot: u32| (self.keep_of(books, slot, now), slot);
        let mut rows: Vec<_> = slots.into_iter().map(with_keep).collect();
        rows.sort_by(|a, b| a.0.total_cmp(&b.0));
        rows.into_iter().map(|(_, slot)| slot).collect()
    }

    /// The lowest rows, in order.
    pub(super) fn worst(&self, books: &Books<Hot>, want: Want, context: &Context) -> Vec<u32> {
        let mut bytes = 0_u64;
        let rows = self.ring.ascending(books).chain(books.list(RECENT));
        let enough = rows.take(want.rows).take_while(|slot| {
            let before = bytes;
            bytes = bytes.saturating_add(books.weight_or_mean(*slot, context));
            before < want.bytes
        });
        self.in_order(books, enough.collect(), context.now)
    }

    /// Puts the lowest rows in the order in which they are to leave.
    pub(super) fn settle(&mut self, books: &mut Books<Hot>, rows: usize, now: Time) {
        let mut ring = self.ring;
        ring.settle(books, rows, |books, slot| self.worth(books, slot, now));
        self.ring = ring;
    }

    /// The row to leave first.
    pub(super) fn first(&mut self, books: &Books<Hot>) -> Option<u32> {
        self.ring.first(books).or_else(|| books.front(RECENT))
    }

    /// The lowest keep-value of the hot rows, as far as those that gained since they were put in order do not hide it; `None` without
    /// any.
    pub(super) fn lowest(&self, books: &Books<Hot>, now: Time) -> Option<f64> {
        let rows = self.ring.ascending(books).chain(books.list(RECENT));
        let keeps = rows
            .take(LOOK_AT)
            .map(|slot| self.keep_of(books, slot, now));
        keeps.min_by(f64::total_cmp)
    }
}

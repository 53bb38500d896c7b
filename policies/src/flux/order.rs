//! The order of the hot rows: which list of the books each stands in, and how the lowest is found.
//!
//! List 0 holds the most recently used rows, oldest first. The others are a ring of buckets, each [`WIDTH`] of a doubling of
//! worth wide. A row's bucket follows from its time-invariant worth, so that no row changes its bucket by waiting. When the
//! top of the ring rises, the buckets it takes over are emptied into the lowest that is left.

use crate::books::Books;

use super::figures::Hot;

/// The list of the most recently used rows.
pub(super) const RECENT: u32 = 0;
/// Buckets: they span 128 doublings.
const BUCKETS: u32 = 2048;
/// Buckets in one doubling.
const PER_DOUBLING: f64 = 16.0;
/// Lists in all.
pub(super) const LISTS: u32 = 1 + BUCKETS;

/// Where the ring stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ring {
    /// The highest bucket in use so far.
    pub(super) top: u64,
    /// No bucket below it holds a row.
    pub(super) low: u64,
}

impl Ring {
    fn bottom(self) -> u64 {
        self.top.saturating_sub(u64::from(BUCKETS) - 1)
    }

    fn list(bucket: u64) -> u32 {
        1 + (bucket % u64::from(BUCKETS)) as u32
    }

    /// Puts a row behind the others of its bucket; `worth` is 0 or more and does not change with time. O(1), next to the
    /// buckets that the top passes: no more than time brings.
    pub(super) fn link(&mut self, books: &mut Books<Hot>, slot: u32, worth: f64) {
        let bucket = (worth * PER_DOUBLING).max(0.0) as u64;
        self.rise(books, bucket);
        let bucket = bucket.max(self.bottom());
        self.low = self.low.min(bucket);
        books.push_back(Self::list(bucket), slot);
    }

    fn rise(&mut self, books: &mut Books<Hot>, bucket: u64) {
        let steps = bucket.saturating_sub(self.top).min(u64::from(BUCKETS));
        for taken_over in bucket - steps + 1..=bucket {
            books.append(Self::list(taken_over), Self::list(taken_over + 1));
        }
        self.top = self.top.max(bucket);
        self.low = self.low.max(self.bottom());
    }

    /// Slots from the lowest worth, bucket by bucket, then the most recently used. Buckets are handed out whole, each with a
    /// mark at its end.
    pub(super) fn ascending<'a>(
        &mut self,
        books: &'a Books<Hot>,
    ) -> impl Iterator<Item = Step> + use<'a> {
        while self.low < self.top && books.list(Self::list(self.low)).next().is_none() {
            self.low += 1;
        }
        let buckets = self.low..=self.top;
        let rows = |list: u32| books.list(list).map(Step::Row).chain([Step::End]);
        buckets
            .flat_map(move |bucket| rows(Self::list(bucket)))
            .chain(rows(RECENT))
    }
}

/// One step of the walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A row.
    Row(u32),
    /// No row that follows is worth less than those before.
    End,
}

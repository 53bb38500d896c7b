//! The order of the hot rows: which list of the books each stands in, and how the lowest is found.
//!
//! List 0 holds the most recently used rows, oldest first. The others are a ring of buckets, each an eighth of a doubling of worth wide,
//! rows within one in the order in which they came to it. A row's bucket follows from its time-invariant worth, so that no row
//! changes its bucket by waiting. When the top of the ring rises, the buckets it takes over are emptied into the lowest that is left.
//!
//! A row that gains worth may stay where it is: it is put in its place when it is met among the lowest.

use crate::books::Books;

use super::figures::Hot;

/// The list of the most recently used rows.
pub(super) const RECENT: u32 = 0;
/// Buckets: they span 64 doublings.
const BUCKETS: u32 = 512;
/// Buckets in one doubling.
const PER_DOUBLING: f64 = 8.0;
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

fn bucket_of(worth: f64) -> u64 {
    // A cast saturates; what is no number becomes 0.
    (worth * PER_DOUBLING) as u64
}

fn list(bucket: u64) -> u32 {
    1 + (bucket % u64::from(BUCKETS)) as u32
}

impl Ring {
    fn bottom(self) -> u64 {
        self.top.saturating_sub(u64::from(BUCKETS) - 1)
    }

    /// Puts a row behind the others of its bucket; `worth` is 0 or more and does not change with time. O(1), next to the
    /// buckets that the top passes: no more than time brings.
    pub(super) fn link(&mut self, books: &mut Books<Hot>, slot: u32, worth: f64) {
        let bucket = bucket_of(worth);
        if bucket > self.top {
            self.rise(books, bucket);
        }
        let bucket = bucket.max(self.bottom());
        self.low = self.low.min(bucket);
        books.push_back(list(bucket), slot);
    }

    fn rise(&mut self, books: &mut Books<Hot>, bucket: u64) {
        let steps = (bucket - self.top).min(u64::from(BUCKETS));
        for taken_over in bucket - steps + 1..=bucket {
            books.append(list(taken_over), list(taken_over + 1));
        }
        self.top = bucket;
        self.low = self.low.max(self.bottom());
    }

    /// The lowest bucket that holds a row.
    fn lowest(&mut self, books: &Books<Hot>) -> Option<u64> {
        while self.low <= self.top {
            if books.front(list(self.low)).is_some() {
                return Some(self.low);
            }
            if self.low == self.top {
                break;
            }
            self.low += 1;
        }
        None
    }

    /// The first of the lowest rows; `None` if no row is in a bucket.
    pub(super) fn first(&mut self, books: &Books<Hot>) -> Option<u32> {
        self.lowest(books)
            .and_then(|bucket| books.front(list(bucket)))
    }

    /// Slots from the lowest bucket up.
    pub(super) fn ascending(self, books: &Books<Hot>) -> impl Iterator<Item = u32> {
        (self.low..=self.top).flat_map(|bucket| books.list(list(bucket)))
    }

    /// Puts rows in their places until the lowest `rows` that are met stand where they belong. O(rows), next to those that moved.
    pub(super) fn settle(
        &mut self,
        books: &mut Books<Hot>,
        rows: usize,
        worth: impl Fn(&Books<Hot>, u32) -> f64,
    ) {
        let (mut left, mut bucket) = (rows, self.lowest(books).unwrap_or(self.top));
        while left > 0 && bucket <= self.top {
            let met: Vec<u32> = books.list(list(bucket)).take(left).collect();
            let mut moved = false;
            for slot in &met {
                let worth = worth(books, *slot);
                if bucket_of(worth) > bucket {
                    self.link(books, *slot, worth);
                    moved = true;
                }
            }
            // The next rows of the bucket take the places of those that moved.
            if !moved {
                left -= met.len();
                bucket += 1;
            }
            bucket = bucket.max(self.low);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::figures::Past;
    use super::*;
    use aether_core::{Row, Time};

    /// Rows are met in the order of their worths, to a bucket, also those that gained since they were put in their places, and those
    /// below the ring's bottom first of all.
    #[test]
    fn the_lowest_come_first_whatever_was_gained_meanwhile() {
        let mut random = fastrand::Rng::with_seed(2);
        let mut books = Books::<Hot>::new(LISTS);
        let mut ring = Ring::default();
        let mut worths = Vec::new();
        for row in 0..500 {
            let hot = Hot::new(Past::default(), 0.0, Time(0));
            let slot = books.insert(Row(row), 1, hot).unwrap();
            worths.push(random.f64() * 80.0);
            ring.link(&mut books, slot, worths[slot as usize]);
        }
        for worth in &mut worths {
            *worth += if random.bool() { 5.0 } else { 0.0 };
        }
        let first = 40;
        ring.settle(&mut books, first, |_, slot| worths[slot as usize]);
        let bottom = (ring.bottom() as f64) / PER_DOUBLING;
        let of = |slot: &u32| worths[*slot as usize].max(bottom);
        let mut expected: Vec<f64> = (0..500).map(|slot| of(&slot)).collect();
        expected.sort_by(f64::total_cmp);
        let met: Vec<f64> = ring.ascending(&books).take(first).map(|s| of(&s)).collect();
        for (met, expected) in met.iter().zip(&expected) {
            assert!(
                (met - expected).abs() <= 2.0 / PER_DOUBLING,
                "{met} {expected}"
            );
        }
        assert_eq!(ring.ascending(&books).count(), 500);
        assert_eq!(ring.first(&books), ring.ascending(&books).next());
    }
}

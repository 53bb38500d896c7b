//! What is remembered of rows that are not hot.

use std::fmt;

use aether_core::{Error, Result, Row};

use super::hash;
use super::packed::{Input, Packed};

/// Places of one set.
const WAYS: usize = 8;
/// Sets that a history has at least.
const SETS_MIN: u64 = 8;

#[derive(Clone, Copy, Default)]
#[repr(C, packed(2))]
struct Entry<P> {
    row: u64,
    past: P,
}

/// Figures of rows that left the hot tier or never were in it, without a hash table and without lists: a row's hash
/// picks a set of eight places, ordered by last use; the ninth row of a set pushes the least recent one out. May hold
/// between a half and all of `share` rows for each hot row, and never fewer than 64; it grows towards that as it fills.
/// 8 bytes and the figures for a place.
pub(crate) struct History<P> {
    share: f64,
    /// Sets that it may grow to.
    target: u64,
    entries: Vec<Entry<P>>,
    /// Places taken of each set; its length is the number of sets, a power of two, or 0 without a share.
    taken: Vec<u8>,
}

impl<P> fmt::Debug for History<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "History({} places)", self.entries.len())
    }
}

impl<P: Packed> History<P> {
    /// An empty history; a `share` of 0 remembers nothing.
    pub(crate) fn new(share: f64) -> Self {
        let mut history = Self {
            share,
            target: 0,
            entries: Vec::new(),
            taken: Vec::new(),
        };
        history.target = history.sets_for(0);
        history.resize(history.target.min(SETS_MIN));
        history
    }

    fn sets_for(&self, hot: u64) -> u64 {
        if self.share <= 0.0 {
            return 0;
        }
        let sets = ((hot as f64 * self.share) as u64 / WAYS as u64).max(SETS_MIN);
        1 << (63 - sets.leading_zeros())
    }

    /// Many policies remember by themselves what they need.
    #[inline]
    fn remembers_nothing(&self) -> bool {
        self.taken.is_empty()
    }

    fn resize(&mut self, sets: u64) {
        let sets = sets as usize;
        let old = std::mem::take(&mut self.entries);
        let taken = std::mem::replace(&mut self.taken, vec![0; sets]);
        self.entries = vec![Entry::default(); sets * WAYS];
        for (set, places) in taken.iter().zip(old.chunks_exact(WAYS)) {
            // Least recent first, as putting makes each the most recent of its new set.
            for entry in places[..usize::from(*set)].iter().rev() {
                self.put(Row(entry.row), entry.past);
            }
        }
    }

    /// Follows the number of hot rows; O(1) but for a quartering.
    pub(crate) fn fit(&mut self, hot: usize) {
        if self.remembers_nothing() {
            return;
        }
        let (sets, target) = (self.taken.len() as u64, self.sets_for(hot as u64));
        self.target = target;
        if target * 4 <= sets && target > 0 {
            self.resize(target);
        }
    }

    fn set_of(&self, row: Row) -> Option<usize> {
        let mask = self.taken.len().checked_sub(1)?;
        Some(hash(row) as usize & mask)
    }

    fn places(&self, set: usize) -> &[Entry<P>] {
        &self.entries[set * WAYS..][..usize::from(self.taken[set])]
    }

    /// Touches the sets of these rows.
    pub(crate) fn prefetch(&self, rows: &[Row]) {
        let sets = rows.iter().filter_map(|row| self.set_of(*row));
        // A set of eight lies in three or four lines of cache.
        let of = |at: usize| self.entries[at].row;
        let touched = sets.map(|set| {
            let first = set * WAYS;
            of(first) ^ of(first + WAYS / 2) ^ of(first + WAYS - 1) ^ u64::from(self.taken[set])
        });
        std::hint::black_box(touched.fold(0, |sum, n| sum ^ n));
    }

    /// What is remembered of a row.
    #[inline]
    pub(crate) fn get(&self, row: Row) -> Option<P> {
        let places = self.places(self.set_of(row)?);
        let found = places.iter().find(|e| e.row == row.0);
        found.map(|e| e.past)
    }

    /// Forgets a row and returns what was known of it.
    #[inline]
    pub(crate) fn remove(&mut self, row: Row) -> Option<P> {
        match self.remembers_nothing() {
            true => None,
            false => self.take_out(row),
        }
    }

    fn take_out(&mut self, row: Row) -> Option<P> {
        let set = self.set_of(row)?;
        let at = self.places(set).iter().position(|e| e.row == row.0)?;
        let places = &mut self.entries[set * WAYS..][..WAYS];
        let past = places[at].past;
        places[at..].rotate_left(1);
        self.taken[set] -= 1;
        Some(past)
    }

    /// Remembers a row as the most recent of its set; O(1) but for a doubling when a set is full.
    #[inline]
    pub(crate) fn put(&mut self, row: Row, past: P) {
        if !self.remembers_nothing() {
            self.put_in(row, past);
        }
    }

    fn put_in(&mut self, row: Row, past: P) {
        let Some(mut set) = self.set_of(row) else {
            return;
        };
        let sets = self.taken.len() as u64;
        if sets < self.target
            && usize::from(self.taken[set]) == WAYS
            && self.places(set).iter().all(|e| e.row != row.0)
        {
            self.resize(sets * 2);
            set = hash(row) as usize & (self.taken.len() - 1);
        }
        let places = &mut self.entries[set * WAYS..][..WAYS];
        let taken = &mut self.taken[set];
        match places[..usize::from(*taken)]
            .iter()
            .position(|e| e.row == row.0)
        {
            Some(at) => places[..=at].rotate_right(1),
            None => {
                places.rotate_right(1);
                *taken = (*taken + 1).min(WAYS as u8);
            }
        }
        places[0] = Entry { row: row.0, past };
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::new(self.share);
    }

    pub(crate) fn bytes(&self) -> u64 {
        (self.entries.capacity() * size_of::<Entry<P>>() + self.taken.capacity()) as u64
    }

    /// Upper bound of [`History::bytes`] at any number of hot rows up to `hot`.
    pub(crate) fn bytes_bound(&self, hot: u64) -> u64 {
        let sets = self.sets_for(hot).max(self.taken.len() as u64);
        sets.saturating_mul((WAYS * size_of::<Entry<P>>() + 1) as u64)
    }

    /// Appends the number of sets, then each set's number of places taken and those places.
    pub(crate) fn save(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.taken.len() as u32).to_le_bytes());
        for (set, taken) in self.taken.iter().enumerate() {
            out.push(*taken);
            for entry in self.places(set) {
                out.extend_from_slice(&{ entry.row }.to_le_bytes());
                { entry.past }.put(out);
            }
        }
    }

    /// Reads what `save` wrote, under this history's share and `hot` rows.
    pub(crate) fn load(&mut self, input: &mut Input<'_>, hot: usize) -> Result<()> {
        let sets = input.count(1)?;
        let target = self.sets_for(hot as u64);
        // Any number that `fit` would leave alone is kept, so that books of the same share come back as they were.
        let usable = sets as u64 >= SETS_MIN && (sets as u64) < target.saturating_mul(4);
        if sets > 0 && !sets.is_power_of_two() {
            return Err(Error::corrupt(format!(
                "policy books: expected a history of a power of two sets, got {sets}"
            )));
        }
        self.target = target;
        self.resize(if usable { sets as u64 } else { target });
        for _ in 0..sets {
            let taken = input.u8()?;
            if usize::from(taken) > WAYS {
                return Err(Error::corrupt(format!(
                    "policy books: expected at most {WAYS} rows in a set of the history, got {taken}"
                )));
            }
            let mut places = [(Row(0), P::default()); WAYS];
            for place in &mut places[..usize::from(taken)] {
                *place = (Row(input.u64()?), P::take(input)?);
            }
            for (row, past) in places[..usize::from(taken)].iter().rev() {
                self.put(*row, *past);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::books::packed::Stamp;
    use aether_core::Time;

    fn stamp(n: u64) -> Stamp {
        Stamp::of(Time(n << 4))
    }

    #[test]
    fn recent_rows_are_kept_and_the_number_is_bounded() {
        let mut history = History::new(0.5);
        history.fit(1024);
        assert!(history.bytes() <= 64 * 14 + 8, "it grows as it fills");
        for n in 0..100_000 {
            history.put(Row(n), stamp(n));
        }
        assert!(history.bytes() <= 512 * 14 + 64);
        let kept = (0..100_000).filter(|n| history.get(Row(*n)).is_some());
        assert_eq!(kept.count(), 512);
        // The last sixty-four of half a thousand places: a set would have to see nine of them.
        let recent = (99_936..100_000).filter(|n| history.get(Row(*n)) == Some(stamp(*n)));
        assert_eq!(recent.count(), 64);
    }

    #[test]
    fn what_is_removed_is_forgotten_and_what_is_put_again_is_fresh() {
        let mut history = History::new(1.0);
        history.put(Row(1), stamp(1));
        history.put(Row(1), stamp(2));
        assert_eq!(history.remove(Row(1)), Some(stamp(2)));
        assert_eq!(history.remove(Row(1)), None);
        assert_eq!(history.get(Row(1)), None);
    }

    #[test]
    fn growing_shrinking_and_loading_lose_nothing_that_fits() {
        let mut history = History::new(1.0);
        (0..30).for_each(|n| history.put(Row(n), stamp(n)));
        let known: Vec<_> = (0..30).filter(|n| history.get(Row(*n)).is_some()).collect();
        history.fit(5_000);
        history.fit(300);
        let mut bytes = Vec::new();
        history.save(&mut bytes);
        let mut other = History::<Stamp>::new(1.0);
        other.load(&mut Input(&bytes), 300).unwrap();
        for n in known {
            assert_eq!(other.get(Row(n)), Some(stamp(n)));
        }
        let mut again = Vec::new();
        other.save(&mut again);
        assert_eq!(bytes, again);
    }

    #[test]
    fn without_a_share_nothing_is_kept() {
        let mut history = History::new(0.0);
        history.fit(1_000_000);
        history.put(Row(1), stamp(1));
        assert_eq!((history.get(Row(1)), history.bytes()), (None, 0));
    }
}

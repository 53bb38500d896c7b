//! Where a ghost is found: an open-addressed table of numbers, without the ghosts themselves.
//!
//! A place is 8 bytes, so that mostly one line of cache answers whether a row is there; only where a place has the same 31 bits of hash is
//! the row itself looked at. A removal moves the places behind it up (Knuth, The Art of Computer Programming 3, section 6.4, algorithm R): none
//! is spoilt, however many rows come and go. Places are as many as are needed, not a power of two: a half to three quarters of them are taken.

use aether_core::Row;

use super::hash;

/// Places of the smallest table.
const PLACES_MIN: u64 = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    /// The upper bits of the row's hash, the last one set; places are in its order.
    hash: u32,
    number: u32,
}

/// Nothing is here: no hash that is kept is 0.
const EMPTY: Place = Place { hash: 0, number: 0 };

fn hash_of(row: Row) -> u32 {
    (hash(row) >> 32) as u32 | 1
}

/// A number for each of some rows, known to whoever has the rows.
#[derive(Debug, Default)]
pub(super) struct Table {
    places: Vec<Place>,
    taken: u64,
}

/// Whether so many places hold so many rows.
fn hold(places: u64, rows: u64) -> bool {
    rows <= places / 4 * 3
}

/// The next larger table.
fn larger(places: u64) -> u64 {
    (places.saturating_add(places / 2)).max(PLACES_MIN)
}

impl Table {
    /// The first place that a hash may be at (D. Lemire, "Fast Random Integer Generation in an Interval", 2019, section 3).
    fn home(&self, hash: u32) -> usize {
        ((u64::from(hash) * self.places.len() as u64) >> 32) as usize
    }

    fn next(&self, at: usize) -> usize {
        match at + 1 {
            end if end == self.places.len() => 0,
            next => next,
        }
    }

    /// Steps from one place to another.
    fn steps(&self, from: usize, to: usize) -> usize {
        match to.checked_sub(from) {
            Some(steps) => steps,
            None => to + self.places.len() - from,
        }
    }

    /// The first place with the row's hash of whose number `is` holds.
    fn position(&self, row: Row, is: impl Fn(u32) -> bool) -> Option<usize> {
        if self.places.is_empty() {
            return None;
        }
        let hash = hash_of(row);
        let mut at = self.home(hash);
        loop {
            let place = self.places[at];
            if place.hash == hash && is(place.number) {
                return Some(at);
            }
            if place == EMPTY {
                return None;
            }
            at = self.next(at);
        }
    }

    /// A row's number; `is` says whether the row has one.
    pub(super) fn find(&self, row: Row, is: impl Fn(u32) -> bool) -> Option<u32> {
        let at = self.position(row, is)?;
        Some(self.places[at].number)
    }

    /// Touches what tells of these rows.
    pub(super) fn prefetch(&self, rows: impl Iterator<Item = Row>) {
        if !self.places.is_empty() {
            let numbers = rows.map(|row| self.places[self.home(hash_of(row))].number);
            std::hint::black_box(numbers.fold(0, |sum, number| sum ^ number));
        }
    }

    /// Notes the number of a row that has none. `all` are the rows that have one, with it, for a table that has become too small.
    pub(super) fn insert(
        &mut self,
        row: Row,
        number: u32,
        all: impl FnOnce(&mut dyn FnMut(Row, u32)),
    ) {
        let places = self.places.len() as u64;
        if !hold(places, self.taken + 1) {
            self.rebuild(larger(places), all);
        }
        self.take(row, number);
    }

    fn take(&mut self, row: Row, number: u32) {
        let hash = hash_of(row);
        let mut at = self.home(hash);
        while self.places[at] != EMPTY {
            at = self.next(at);
        }
        self.places[at] = Place { hash, number };
        self.taken += 1;
    }

    /// Forgets a row's number.
    pub(super) fn remove(&mut self, row: Row, number: u32) {
        let Some(mut hole) = self.position(row, |n| n == number) else {
            return;
        };
        let mut at = self.next(hole);
        while self.places[at] != EMPTY {
            let home = self.home(self.places[at].hash);
            // It may go up if its home is not behind the hole.
            if self.steps(home, at) >= self.steps(hole, at) {
                self.places[hole] = self.places[at];
                hole = at;
            }
            at = self.next(at);
        }
        self.places[hole] = EMPTY;
        self.taken -= 1;
    }

    /// Gives a row another number.
    pub(super) fn renumber(&mut self, row: Row, from: u32, to: u32) {
        if let Some(at) = self.position(row, |number| number == from) {
            self.places[at].number = to;
        }
    }

    /// Gives back places when rows have become few.
    pub(super) fn shrink(&mut self, all: impl FnOnce(&mut dyn FnMut(Row, u32))) {
        let places = self.places.len() as u64;
        if places > PLACES_MIN && self.taken < places / 8 {
            self.rebuild((places / 4).max(PLACES_MIN), all);
        }
    }

    /// Makes the table anew. The old one goes first: no two at a time.
    fn rebuild(&mut self, places: u64, all: impl FnOnce(&mut dyn FnMut(Row, u32))) {
        *self = Self::default();
        self.places = vec![EMPTY; places as usize];
        all(&mut |row, number| self.take(row, number));
    }

    /// Bytes allocated.
    pub(super) fn bytes(&self) -> u64 {
        (self.places.capacity() * size_of::<Place>()) as u64
    }

    /// Upper bound of [`Table::bytes`] at any number of rows up to `rows`.
    pub(super) fn bytes_bound(&self, rows: u64) -> u64 {
        // The last table that does not hold them has fewer than four thirds as many places, and a few.
        let needed = larger(rows.saturating_add(rows / 3).saturating_add(4));
        let places = needed.max(self.places.len() as u64);
        places.saturating_mul(size_of::<Place>() as u64)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Random changes beside a map, in tables from the smallest on.
    #[test]
    fn rows_are_found_as_in_a_map() {
        for seed in 0..20 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let keys = rng.u64(1..2_000);
            let (mut table, mut model) = (Table::default(), BTreeMap::<u64, u32>::new());
            let mut most = 0;
            for number in 0..20_000 {
                let row = rng.u64(..keys);
                let all = |take: &mut dyn FnMut(Row, u32)| {
                    model
                        .iter()
                        .for_each(|(row, number)| take(Row(*row), *number));
                };
                let known = model.get(&row).copied();
                let found = table.find(Row(row), |number| Some(number) == known);
                assert_eq!(found, known);
                match (known, rng.bool()) {
                    (None, _) => {
                        table.insert(Row(row), number, all);
                        model.insert(row, number);
                    }
                    (Some(was), true) => {
                        table.remove(Row(row), was);
                        model.remove(&row);
                        let all = |take: &mut dyn FnMut(Row, u32)| {
                            model
                                .iter()
                                .for_each(|(row, number)| take(Row(*row), *number));
                        };
                        table.shrink(all);
                    }
                    (Some(was), false) => {
                        table.renumber(Row(row), was, number);
                        model.insert(row, number);
                    }
                }
                most = most.max(table.taken);
                assert_eq!(table.taken, model.len() as u64);
                assert!(table.bytes() <= Table::default().bytes_bound(most));
            }
            for (row, number) in &model {
                assert_eq!(table.find(Row(*row), |n| n == *number), Some(*number));
                assert_eq!(table.find(Row(*row + keys), |n| n == *number), None);
            }
            for (row, number) in std::mem::take(&mut model) {
                table.remove(Row(row), number);
            }
            assert!(table.places.iter().all(|place| *place == EMPTY));
            let full = table.bytes();
            table.shrink(|_| {});
            assert!(table.bytes() <= full);
        }
    }

    #[test]
    fn a_table_takes_at_most_sixteen_bytes_a_row_but_for_a_few() {
        let mut table = Table::default();
        for row in 0..100_000_u32 {
            table.insert(Row(u64::from(row)), row, |take| {
                (0..row).for_each(|row| take(Row(u64::from(row)), row));
            });
            let rows = u64::from(row) + 1;
            assert!(
                table.bytes() <= rows * 16 + 1_024,
                "{rows}: {}",
                table.bytes()
            );
        }
    }
}

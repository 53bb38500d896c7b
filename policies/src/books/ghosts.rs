//! Rows that left the hot tier, in the order in which they left, as many policies of the literature remember them.

use aether_core::{Result, Row};

use super::saved::wrong;
use super::{Books, Input, Load, Packed, Shape};

/// Queues of rows that are not hot, each row with its weight and figures `P` and in one queue, and never more rows than a
/// share of the hot ones. 21 bytes, the figures, and 5.7 to 12.2 of hash table a ghost.
///
/// A ghost that is missed is held apart, so that room made for its return cannot push it out; if it does not return before the
/// next ghost is missed, it goes back to the end of its queue.
#[derive(Debug)]
pub(crate) struct Ghosts<P> {
    books: Books<P>,
    queues: u32,
    held: Option<Held<P>>,
    share: f64,
    rows_max: u64,
}

#[derive(Clone, Copy, Debug)]
struct Held<P> {
    row: Row,
    queue: u32,
    weight: u32,
    figures: P,
}

/// Ghosts that are kept whatever the number of hot rows.
const ROWS_MIN: u64 = 64;

impl<P: Packed> Ghosts<P> {
    /// Empty queues; `share` is the most ghosts for each hot row.
    pub(crate) fn new(queues: u32, share: f64) -> Self {
        let shape = Shape {
            lists: queues,
            counted: true,
            ..Shape::default()
        };
        Self {
            books: Books::shaped(shape),
            queues,
            held: None,
            share,
            rows_max: if share > 0.0 { ROWS_MIN } else { 0 },
        }
    }

    /// Touches what is kept of these rows.
    pub(crate) fn prefetch(&self, rows: &[Row]) {
        self.books.prefetch(rows, true);
    }

    /// Touches what is kept of the ghosts that are forgotten next, so many of each queue.
    pub(crate) fn prefetch_oldest(&self, ghosts: usize) {
        let oldest = (0..self.queues).flat_map(|queue| self.books.list(queue).take(ghosts));
        self.books.prefetch_slots(oldest);
    }

    /// The queue and the figures of a ghost.
    pub(crate) fn get(&self, row: Row) -> Option<(u32, P)> {
        if let Some(held) = self.held.filter(|held| held.row == row) {
            return Some((held.queue, held.figures));
        }
        let slot = self.books.find(row)?;
        let queue = self.books.list_of(slot)?;
        Some((queue, self.books.figures(slot)))
    }

    /// Takes a ghost out and tells what was known.
    pub(crate) fn remove(&mut self, row: Row) -> Option<(u32, P)> {
        let found = self.get(row)?;
        match self.books.find(row) {
            Some(slot) => {
                self.books.remove(slot);
            }
            None => self.held = None,
        }
        Some(found)
    }

    /// A ghost was missed: holds it apart and tells what was known.
    pub(crate) fn missed(&mut self, row: Row) -> Option<(u32, P)> {
        let slot = match self.books.find(row) {
            Some(slot) => slot,
            None => return self.get(row),
        };
        let queue = self.books.list_of(slot)?;
        let weight = self.books.weight(slot);
        let figures = self.books.remove(slot);
        if let Some(waited) = self.held.take() {
            self.put(waited.queue, waited.row, waited.weight, waited.figures);
        }
        self.held = Some(Held {
            row,
            queue,
            weight,
            figures,
        });
        Some((queue, figures))
    }

    /// Remembers a row as the last of a queue.
    pub(crate) fn put(&mut self, queue: u32, row: Row, weight: u32, figures: P) {
        if self.rows_max == 0 {
            return;
        }
        self.remove(row);
        if let Some(slot) = self.books.insert(row, weight, figures) {
            self.books.push_back(queue, slot);
            self.shed();
        }
    }

    /// Drops the first of a queue; whether there was one.
    pub(crate) fn pop(&mut self, queue: u32) -> bool {
        let first = self.books.front(queue);
        first.map(|slot| self.books.remove(slot)).is_some()
    }

    /// The first of a queue, which has been there for longest.
    pub(crate) fn first(&self, queue: u32) -> Option<(Row, P)> {
        let slot = self.books.front(queue)?;
        Some((self.books.row(slot), self.books.figures(slot)))
    }

    /// Drops the first ghosts of a queue until so many bytes are left.
    pub(crate) fn trim(&mut self, queue: u32, bytes: u64) {
        while self.load(queue).bytes > bytes && self.pop(queue) {}
    }

    pub(crate) fn load(&self, queue: u32) -> Load {
        self.books.load(queue)
    }

    /// Follows the number of hot rows.
    pub(crate) fn fit(&mut self, hot: usize) {
        if self.share > 0.0 {
            self.rows_max = Self::most(self.share, hot as u64);
            self.shed();
        }
    }

    /// One more than the share, so that a row that leaves before another enters costs nothing.
    fn most(share: f64, hot: u64) -> u64 {
        let most = (hot.saturating_add(1) as f64 * share).ceil();
        (most as u64).max(ROWS_MIN)
    }

    fn shed(&mut self) {
        while self.books.len() as u64 > self.rows_max {
            let fullest = (0..self.queues).max_by_key(|q| self.load(*q).rows);
            if !fullest.is_some_and(|q| self.pop(q)) {
                return;
            }
        }
    }

    /// A new version takes over what is known of the former one.
    pub(crate) fn rename(&mut self, old: Row, new: Row) {
        if let Some(held) = self.held.as_mut().filter(|held| held.row == old) {
            held.row = new;
        } else if self.books.find(old).is_some() {
            self.remove(new);
            if let Some(slot) = self.books.find(old) {
                self.books.rename(slot, new);
            }
        }
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::new(self.queues, self.share);
    }

    /// Bytes allocated beyond the struct itself. O(1).
    pub(crate) fn bytes(&self) -> u64 {
        self.books.bytes()
    }

    /// Upper bound of [`Ghosts::bytes`] at any number of hot rows up to `hot`.
    pub(crate) fn bytes_bound(&self, hot: u64) -> u64 {
        let most = match self.share {
            share if share > 0.0 => Self::most(share, hot).max(self.rows_max),
            _ => 0,
        };
        self.books.bytes_bound(most.saturating_add(1))
    }

    pub(crate) fn save(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.rows_max.to_le_bytes());
        self.books.save(out);
        out.push(u8::from(self.held.is_some()));
        if let Some(held) = self.held {
            out.extend_from_slice(&held.row.0.to_le_bytes());
            out.extend_from_slice(&held.queue.to_le_bytes());
            out.extend_from_slice(&held.weight.to_le_bytes());
            held.figures.put(out);
        }
    }

    pub(crate) fn load_saved(&mut self, input: &mut Input<'_>) -> Result<()> {
        self.clear();
        self.rows_max = input.u64()?;
        self.books.load_saved(input)?;
        if input.u8()? > 0 {
            let held = Held {
                row: Row(input.u64()?),
                queue: input.u32()?,
                weight: input.u32()?,
                figures: P::take(input)?,
            };
            if held.queue >= self.queues {
                return Err(wrong(format!("there is no queue {}", held.queue)));
            }
            self.held = Some(held);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ghosts(share: f64) -> Ghosts<()> {
        Ghosts::new(2, share)
    }

    #[test]
    fn the_oldest_leave_first_by_bytes_and_by_number() {
        let mut ghosts = ghosts(1.0);
        (0..10).for_each(|n| ghosts.put(0, Row(n), 10, ()));
        ghosts.trim(0, 35);
        assert_eq!(ghosts.load(0), Load { rows: 3, bytes: 30 });
        assert_eq!(ghosts.get(Row(6)), None);
        assert_eq!(ghosts.get(Row(7)), Some((0, ())));
        (100..1_000).for_each(|n| ghosts.put(1, Row(n), 10, ()));
        assert_eq!(ghosts.load(0).rows + ghosts.load(1).rows, ROWS_MIN);
        ghosts.fit(200);
        (1_000..2_000).for_each(|n| ghosts.put(1, Row(n), 10, ()));
        assert_eq!(ghosts.load(0).rows + ghosts.load(1).rows, 201);
    }

    #[test]
    fn a_missed_ghost_is_held_until_it_enters_or_another_is_missed() {
        let mut ghosts = ghosts(1.0);
        (0..3).for_each(|n| ghosts.put(1, Row(n), 1, ()));
        assert_eq!(ghosts.missed(Row(0)), Some((1, ())));
        ghosts.trim(1, 0);
        assert_eq!(ghosts.get(Row(0)), Some((1, ())));
        ghosts.put(1, Row(5), 1, ());
        assert_eq!(ghosts.missed(Row(9)), None);
        assert_eq!(ghosts.missed(Row(5)), Some((1, ())));
        assert_eq!(ghosts.load(1).rows, 1);
        assert_eq!(ghosts.remove(Row(5)), Some((1, ())));
        assert_eq!(ghosts.get(Row(5)), None);
    }

    #[test]
    fn saved_ghosts_come_back_as_they_were() {
        let mut ghosts = ghosts(1.0);
        (0..50).for_each(|n| ghosts.put((n % 2) as u32, Row(n), n as u32, ()));
        assert!(ghosts.missed(Row(17)).is_some());
        let mut bytes = Vec::new();
        ghosts.save(&mut bytes);
        let mut other = Ghosts::<()>::new(2, 1.0);
        other.load_saved(&mut Input(&bytes)).unwrap();
        let mut again = Vec::new();
        other.save(&mut again);
        assert_eq!(bytes, again);
        assert_eq!(other.get(Row(17)), Some((1, ())));
    }
}

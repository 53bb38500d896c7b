//! Rows that left the hot tier, in the order in which they left, as many policies of the literature remember them.

use aether_core::{Result, Row};

use super::ring::{Item, Ring};
use super::saved::wrong;
use super::table::Table;
use super::{Input, Load, Packed};

/// Queues of rows that are not hot, each row with its weight and figures `P` and in one queue, and never more rows than a
/// share of the hot ones. 12 to 18 bytes, once to one and a half times the figures, and 10.7 to 16 of table a ghost.
///
/// A ghost that is missed is held apart, so that room made for its return cannot push it out; if it does not return before the
/// next ghost is missed, it goes back to the end of its queue.
#[derive(Debug)]
pub(crate) struct Ghosts<P> {
    queues: Vec<Ring<Ghost<P>>>,
    loads: Vec<Load>,
    table: Table,
    held: Option<Held<P>>,
    /// The row that was looked for last, if it was no ghost: a miss asks for the same row several times.
    absent: Option<Row>,
    share: f64,
    rows_max: u64,
}

/// Bits of a ghost's number in its queue; queues take what is left of 32.
const NUMBER_BITS: u32 = 30;
const NUMBER_MASK: u32 = (1 << NUMBER_BITS) - 1;
/// Queues that can be told apart.
const QUEUES_MAX: u32 = 1 << (32 - NUMBER_BITS);
/// Ghosts that can be told apart by their numbers, with half as many holes among them.
const GHOSTS_MAX: u64 = 1 << (NUMBER_BITS - 1);

/// A queue, and a number in it modulo 2^30.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Spot(u32);

impl Spot {
    fn new(queue: u32, number: u32) -> Self {
        Self(queue << NUMBER_BITS | number & NUMBER_MASK)
    }

    fn queue(self) -> usize {
        (self.0 >> NUMBER_BITS) as usize
    }

    /// Distance from a number that is less than 2^30 before this one.
    fn after(self, first: u32) -> usize {
        (self.0.wrapping_sub(first) & NUMBER_MASK) as usize
    }
}

/// A ghost in its queue. Packed, as a million of them are held.
#[derive(Clone, Copy)]
#[repr(C, packed(2))]
struct Ghost<P> {
    row: u64,
    /// The largest number of all marks a hole.
    weight: u32,
    figures: P,
}

impl<P: Packed> Ghost<P> {
    fn row(self) -> Row {
        Row(self.row)
    }
}

impl<P: Packed> Item for Ghost<P> {
    fn hole() -> Self {
        Self {
            row: 0,
            weight: u32::MAX,
            figures: P::default(),
        }
    }

    fn is_hole(self) -> bool {
        self.weight == u32::MAX
    }
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
/// Holes that a queue may have however few ghosts it holds.
const HOLES_MIN: usize = 64;

impl<P: Packed> Ghosts<P> {
    /// Empty queues, at most four; `share` is the most ghosts for each hot row.
    pub(crate) fn new(queues: u32, share: f64) -> Self {
        debug_assert!(queues <= QUEUES_MAX);
        Self {
            queues: (0..queues).map(|_| Ring::default()).collect(),
            loads: vec![Load::default(); queues as usize],
            table: Table::default(),
            held: None,
            absent: None,
            share,
            rows_max: if share > 0.0 { ROWS_MIN } else { 0 },
        }
    }

    /// Touches what is kept of these rows.
    pub(crate) fn prefetch(&self, rows: &[Row]) {
        self.table.prefetch(rows.iter().copied());
    }

    /// Touches what is kept of the ghosts that are forgotten next, so many of each queue.
    pub(crate) fn prefetch_oldest(&self, ghosts: usize) {
        for queue in &self.queues {
            self.table
                .prefetch(queue.items().take(ghosts).map(Ghost::row));
        }
    }

    /// Ghosts that are not held apart.
    fn rows(&self) -> u64 {
        self.loads.iter().map(|load| load.rows).sum()
    }

    fn find(&self, row: Row) -> Option<Spot> {
        if self.absent == Some(row) {
            return None;
        }
        let spot = self
            .table
            .find(row, |spot| self.at(Spot(spot)).row() == row);
        spot.map(Spot)
    }

    fn index(&self, spot: Spot) -> usize {
        spot.after(self.queues[spot.queue()].first())
    }

    fn at(&self, spot: Spot) -> Ghost<P> {
        self.queues[spot.queue()].get(self.index(spot))
    }

    fn is_held(&self, row: Row) -> bool {
        self.held.is_some_and(|held| held.row == row)
    }

    /// The queue and the figures of a ghost.
    pub(crate) fn get(&self, row: Row) -> Option<(u32, P)> {
        if let Some(held) = self.held.filter(|held| held.row == row) {
            return Some((held.queue, held.figures));
        }
        let spot = self.find(row)?;
        Some((spot.queue() as u32, self.at(spot).figures))
    }

    /// Takes a ghost out and tells what was known.
    pub(crate) fn remove(&mut self, row: Row) -> Option<(u32, P)> {
        if self.is_held(row) {
            return self.held.take().map(|held| (held.queue, held.figures));
        }
        let spot = self.find(row)?;
        let ghost = self.take(spot);
        Some((spot.queue() as u32, ghost.figures))
    }

    /// Takes the ghost at a spot out.
    fn take(&mut self, spot: Spot) -> Ghost<P> {
        let (queue, index) = (spot.queue(), self.index(spot));
        let ghost = self.queues[queue].get(index);
        self.table.remove(ghost.row(), spot.0);
        let load = &mut self.loads[queue];
        load.rows -= 1;
        load.bytes -= u64::from(ghost.weight.max(1));
        let ring = &mut self.queues[queue];
        ring.remove(index);
        if ring.holes() > HOLES_MIN.max(ring.filled() / 2) {
            self.close_holes(queue as u32);
        }
        let queues = &self.queues;
        self.table.shrink(|take| each(queues, take));
        ghost
    }

    /// As many steps as ghosts and holes, which were at least as many removals as half the ghosts.
    fn close_holes(&mut self, queue: u32) {
        let table = &mut self.table;
        self.queues[queue as usize].close_holes(|ghost, from, to| {
            let [from, to] = [from, to].map(|number| Spot::new(queue, number).0);
            table.renumber(ghost.row(), from, to);
        });
    }

    /// A ghost was missed: holds it apart and tells what was known.
    pub(crate) fn missed(&mut self, row: Row) -> Option<(u32, P)> {
        if let Some(held) = self.held.filter(|held| held.row == row) {
            return Some((held.queue, held.figures));
        }
        let Some(spot) = self.find(row) else {
            self.absent = Some(row);
            return None;
        };
        let queue = spot.queue() as u32;
        let ghost = self.take(spot);
        if let Some(waited) = self.held.take() {
            self.put(waited.queue, waited.row, waited.weight, waited.figures);
        }
        self.held = Some(Held {
            row,
            queue,
            weight: ghost.weight,
            figures: ghost.figures,
        });
        Some((queue, ghost.figures))
    }

    /// Remembers a row as the last of a queue.
    pub(crate) fn put(&mut self, queue: u32, row: Row, weight: u32, figures: P) {
        if self.rows_max > 0 {
            self.remove(row);
            self.push(queue, row, weight, figures);
            self.shed();
        }
    }

    /// Adds a row that is no ghost.
    fn push(&mut self, queue: u32, row: Row, weight: u32, figures: P) {
        let ghost = Ghost {
            row: row.0,
            weight: weight.min(u32::MAX - 1),
            figures,
        };
        // Before it is in its queue: a table that is made anew takes up what is there.
        let number = self.queues[queue as usize].next_number();
        let spot = Spot::new(queue, number);
        let queues = &self.queues;
        self.table.insert(row, spot.0, |take| each(queues, take));
        self.queues[queue as usize].push_back(ghost);
        self.absent = self.absent.filter(|absent| *absent != row);
        let load = &mut self.loads[queue as usize];
        load.rows += 1;
        load.bytes += u64::from(weight.max(1));
    }

    /// Drops the first of a queue; whether there was one.
    pub(crate) fn pop(&mut self, queue: u32) -> bool {
        let ring = &self.queues[queue as usize];
        let first = ring.front().map(|_| Spot::new(queue, ring.first()));
        first.map(|spot| self.take(spot)).is_some()
    }

    /// The first of a queue, which has been there for longest.
    pub(crate) fn first(&self, queue: u32) -> Option<(Row, P)> {
        let ghost = self.queues[queue as usize].front()?;
        Some((ghost.row(), ghost.figures))
    }

    /// Drops the first ghosts of a queue until so many bytes are left.
    pub(crate) fn trim(&mut self, queue: u32, bytes: u64) {
        while self.load(queue).bytes > bytes && self.pop(queue) {}
    }

    pub(crate) fn load(&self, queue: u32) -> Load {
        self.loads.get(queue as usize).copied().unwrap_or_default()
    }

    /// Follows the number of hot rows.
    pub(crate) fn fit(&mut self, hot: usize) {
        if self.share > 0.0 {
            self.rows_max = Self::most(self.share, hot as u64);
            self.shed();
        }
    }

    /// One more than the share, so that a row that leaves before another enters costs nothing; and no more than can be told apart.
    fn most(share: f64, hot: u64) -> u64 {
        let most = hot.saturating_add(1) as f64 * share;
        let whole = most as u64;
        let part = u64::from(most > whole as f64);
        whole.saturating_add(part).clamp(ROWS_MIN, GHOSTS_MAX)
    }

    fn shed(&mut self) {
        while self.rows() > self.rows_max {
            let fullest = (0..self.queues.len() as u32).max_by_key(|q| self.load(*q).rows);
            if !fullest.is_some_and(|q| self.pop(q)) {
                return;
            }
        }
    }

    /// A new version takes over what is known of the former one.
    pub(crate) fn rename(&mut self, old: Row, new: Row) {
        if let Some(held) = self.held.as_mut().filter(|held| held.row == old) {
            held.row = new;
            self.absent = None;
        } else if self.find(old).is_some() {
            self.remove(new);
            let Some(spot) = self.find(old) else { return };
            let index = self.index(spot);
            self.table.remove(old, spot.0);
            self.table.insert(new, spot.0, |_| {});
            self.absent = None;
            let ring = &mut self.queues[spot.queue()];
            let ghost = ring.get(index);
            ring.set(
                index,
                Ghost {
                    row: new.0,
                    ..ghost
                },
            );
        }
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::new(self.queues.len() as u32, self.share);
    }

    /// Bytes allocated beyond the struct itself. O(1).
    pub(crate) fn bytes(&self) -> u64 {
        let rings: u64 = self.queues.iter().map(Ring::bytes).sum();
        rings + self.table.bytes() + self.tables()
    }

    fn tables(&self) -> u64 {
        (self.queues.capacity() * size_of::<Ring<Ghost<P>>>()
            + self.loads.capacity() * size_of::<Load>()) as u64
    }

    /// Upper bound of [`Ghosts::bytes`] at any number of hot rows up to `hot`.
    pub(crate) fn bytes_bound(&self, hot: u64) -> u64 {
        let most = match self.share {
            share if share > 0.0 => Self::most(share, hot).max(self.rows_max),
            _ => 0,
        };
        let ghosts = most.saturating_add(1);
        let holes = (ghosts / 2).saturating_add((self.queues.len() * HOLES_MIN) as u64);
        Ring::bytes_bound(&self.queues, ghosts.saturating_add(holes))
            .saturating_add(self.table.bytes_bound(ghosts))
            .saturating_add(self.tables())
    }

    pub(crate) fn save(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.rows_max.to_le_bytes());
        for queue in &self.queues {
            out.extend_from_slice(&(queue.filled() as u32).to_le_bytes());
            for ghost in queue.items() {
                save_ghost(ghost.row(), ghost.weight, ghost.figures, out);
            }
        }
        out.push(u8::from(self.held.is_some()));
        if let Some(held) = self.held {
            out.extend_from_slice(&held.queue.to_le_bytes());
            save_ghost(held.row, held.weight, held.figures, out);
        }
    }

    pub(crate) fn load_saved(&mut self, input: &mut Input<'_>) -> Result<()> {
        self.clear();
        self.rows_max = input.u64()?.min(GHOSTS_MAX);
        for queue in 0..self.queues.len() as u32 {
            for _ in 0..input.count(12 + P::BYTES)? {
                let (row, weight, figures) = (Row(input.u64()?), input.u32()?, P::take(input)?);
                if self.find(row).is_some() {
                    return Err(wrong(format!("ghost {row} stands twice")));
                }
                self.push(queue, row, weight, figures);
            }
        }
        if input.u8()? > 0 {
            let queue = input.u32()?;
            let held = Held {
                queue,
                row: Row(input.u64()?),
                weight: input.u32()?,
                figures: P::take(input)?,
            };
            if queue as usize >= self.queues.len() || self.find(held.row).is_some() {
                return Err(wrong(format!(
                    "ghost {} of queue {queue} stands twice, or there is no such queue",
                    held.row
                )));
            }
            self.held = Some(held);
        }
        Ok(())
    }
}

/// Tells of all ghosts that are not held apart.
fn each<P: Packed>(queues: &[Ring<Ghost<P>>], take: &mut dyn FnMut(Row, u32)) {
    for (queue, ring) in (0..).zip(queues) {
        for (number, ghost) in ring.numbered() {
            take(ghost.row(), Spot::new(queue, number).0);
        }
    }
}

fn save_ghost<P: Packed>(row: Row, weight: u32, figures: P, out: &mut Vec<u8>) {
    out.extend_from_slice(&row.0.to_le_bytes());
    out.extend_from_slice(&weight.to_le_bytes());
    figures.put(out);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ghosts(share: f64) -> Ghosts<()> {
        Ghosts::new(2, share)
    }

    #[test]
    fn spots_are_told_apart_where_numbers_wrap() {
        for first in [0, 5, NUMBER_MASK - 2, u32::MAX - 2] {
            for index in [0, 1, 4, 1_000] {
                let spot = Spot::new(2, first.wrapping_add(index));
                assert_eq!((spot.queue(), spot.after(first)), (2, index as usize));
            }
        }
    }

    /// Random changes beside vectors: order, weights, what is held, and the bound on RAM.
    #[test]
    fn ghosts_are_as_vectors_are() {
        for seed in 0..20 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let keys = rng.u64(1..3_000);
            let mut ghosts = Ghosts::<u16>::new(2, 1.0);
            ghosts.fit(2_000);
            let mut model = vec![Vec::<(u64, u32, u16)>::new(); 2];
            let mut held: Option<(usize, (u64, u32, u16))> = None;
            for step in 0..10_000_u32 {
                let (row, queue) = (rng.u64(..keys), rng.u32(..2));
                let known = |model: &[Vec<(u64, u32, u16)>], row: u64| {
                    let found = |q: usize| model[q].iter().position(|g| g.0 == row);
                    (0..2).find_map(|q| Some((q, found(q)?)))
                };
                let drop_row = |model: &mut [Vec<(u64, u32, u16)>], row: u64| {
                    model.iter_mut().for_each(|q| q.retain(|g| g.0 != row));
                };
                match rng.u8(..6) {
                    0..3 => {
                        let (weight, figures) = (rng.u32(..50), step as u16);
                        ghosts.put(queue, Row(row), weight, figures);
                        held = held.filter(|(_, (r, ..))| *r != row);
                        drop_row(&mut model, row);
                        model[queue as usize].push((row, weight, figures));
                        if model[0].len() + model[1].len() > 2_001 {
                            let fullest = usize::from(model[1].len() >= model[0].len());
                            model[fullest].remove(0);
                        }
                    }
                    3 => {
                        let told = ghosts.missed(Row(row));
                        if let Some((q, at)) = known(&model, row) {
                            let ghost = model[q].remove(at);
                            assert_eq!(told, Some((q as u32, ghost.2)));
                            if let Some((q, ghost)) = held.replace((q, ghost)) {
                                model[q].push(ghost);
                            }
                        } else {
                            let kept = held.filter(|(_, (r, ..))| *r == row);
                            assert_eq!(told, kept.map(|(q, (.., f))| (q as u32, f)));
                        }
                    }
                    4 => {
                        let told = ghosts.remove(Row(row));
                        let kept = held.filter(|(_, (r, ..))| *r == row);
                        if kept.is_some() {
                            held = None;
                        }
                        let found = known(&model, row).map(|(q, at)| (q, model[q].remove(at)));
                        let wanted = kept.or(found);
                        assert_eq!(told, wanted.map(|(q, (.., f))| (q as u32, f)));
                    }
                    _ => {
                        let popped = ghosts.pop(queue);
                        let wanted = !model[queue as usize].is_empty();
                        assert_eq!(popped, wanted);
                        if wanted {
                            model[queue as usize].remove(0);
                        }
                    }
                }
                for queue in 0..2 {
                    let of = &model[queue as usize];
                    let bytes = of.iter().map(|g| u64::from(g.1.max(1))).sum();
                    let rows = of.len() as u64;
                    assert_eq!(ghosts.load(queue), Load { rows, bytes });
                    let first = of.first().map(|g| (Row(g.0), g.2));
                    assert_eq!(ghosts.first(queue), first);
                }
                let kept = held.filter(|(_, (r, ..))| *r == row);
                let found = known(&model, row).map(|(q, at)| (q, model[q][at]));
                let wanted = kept.or(found).map(|(q, (.., f))| (q as u32, f));
                assert_eq!(ghosts.get(Row(row)), wanted);
                assert!(ghosts.bytes() <= ghosts.bytes_bound(2_000));
            }
        }
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

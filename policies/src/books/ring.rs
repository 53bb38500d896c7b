//! A queue as a ring of its items in their order: what leaves at the front and what comes next there is read in the order of memory, and an
//! item put at the end touches no neighbour. An item that is taken out of the midst leaves a hole.

use std::collections::VecDeque;

/// Items of one piece.
pub(super) const PIECE: usize = 128;

/// An item of a ring, with a value that says that there is none.
pub(super) trait Item: Copy {
    fn hole() -> Self;

    fn is_hole(self) -> bool;
}

/// Items in their order, in pieces of fixed size: it never copies what it holds.
///
/// Each has a number, one more than the item before it; numbers wrap around. Neither the first nor the last item is a hole.
pub(super) struct Ring<T> {
    pieces: VecDeque<Box<[T; PIECE]>>,
    /// A piece for the next one that is wanted.
    spare: Option<Box<[T; PIECE]>>,
    /// Places before the first item, in the first piece.
    skip: usize,
    /// Items and holes.
    len: usize,
    holes: usize,
    /// The number of the first item.
    first: u32,
}

impl<T> std::fmt::Debug for Ring<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ring({} items)", self.len - self.holes)
    }
}

impl<T> Default for Ring<T> {
    fn default() -> Self {
        Self {
            pieces: VecDeque::new(),
            spare: None,
            skip: 0,
            len: 0,
            holes: 0,
            first: 0,
        }
    }
}

impl<T: Item> Ring<T> {
    pub(super) fn holes(&self) -> usize {
        self.holes
    }

    /// Items.
    pub(super) fn filled(&self) -> usize {
        self.len - self.holes
    }

    /// The number of the first item.
    pub(super) fn first(&self) -> u32 {
        self.first
    }

    /// The item at a distance from the first.
    pub(super) fn get(&self, index: usize) -> T {
        let at = self.skip + index;
        self.pieces[at / PIECE][at % PIECE]
    }

    pub(super) fn set(&mut self, index: usize, item: T) {
        let at = self.skip + index;
        self.pieces[at / PIECE][at % PIECE] = item;
    }

    /// Distance from the first item of that with a number.
    pub(super) fn index(&self, number: u32) -> usize {
        number.wrapping_sub(self.first) as usize
    }

    pub(super) fn front(&self) -> Option<T> {
        (self.len > 0).then(|| self.get(0))
    }

    /// The number that the next item gets.
    pub(super) fn next_number(&self) -> u32 {
        self.first.wrapping_add(self.len as u32)
    }

    /// What stands in the first places, of which some may be holes.
    pub(super) fn first_places(&self, places: usize) -> impl Iterator<Item = T> {
        let all = (0..places.min(self.len)).map(|index| self.get(index));
        all.filter(|item| !item.is_hole())
    }

    /// All items from the front, with their numbers.
    pub(super) fn numbered(&self) -> impl Iterator<Item = (u32, T)> {
        let all = (0..self.len).map(|index| (self.number(index), self.get(index)));
        all.filter(|(_, item)| !item.is_hole())
    }

    fn number(&self, index: usize) -> u32 {
        self.first.wrapping_add(index as u32)
    }

    /// All items from the front.
    pub(super) fn items(&self) -> impl Iterator<Item = T> {
        self.numbered().map(|(_, item)| item)
    }

    /// Answers the item's number.
    pub(super) fn push_back(&mut self, item: T) -> u32 {
        if (self.skip + self.len) / PIECE == self.pieces.len() {
            let piece = self.spare.take();
            self.pieces
                .push_back(piece.unwrap_or_else(|| Box::new([T::hole(); PIECE])));
        }
        self.len += 1;
        self.set(self.len - 1, item);
        self.number(self.len - 1)
    }

    fn pop_front(&mut self) {
        self.skip += 1;
        self.len -= 1;
        self.first = self.first.wrapping_add(1);
        if self.skip == PIECE || self.len == 0 {
            self.spare = self.pieces.pop_front().or(self.spare.take());
            self.skip = 0;
        }
    }

    fn pop_back(&mut self) {
        self.len -= 1;
        self.give_back();
    }

    /// Gives back the pieces behind the last item.
    fn give_back(&mut self) {
        while self.pieces.len() > (self.skip + self.len).div_ceil(PIECE) {
            self.spare = self.pieces.pop_back();
        }
        if self.len == 0 {
            self.skip = 0;
        }
    }

    /// Takes out the item at a distance from the first.
    pub(super) fn remove(&mut self, index: usize) {
        if index == 0 {
            self.pop_front();
            while self.len > 0 && self.get(0).is_hole() {
                self.pop_front();
                self.holes -= 1;
            }
        } else if index == self.len - 1 {
            self.pop_back();
            while self.get(self.len - 1).is_hole() {
                self.pop_back();
                self.holes -= 1;
            }
        } else {
            self.set(index, T::hole());
            self.holes += 1;
        }
    }

    /// Moves items together, in their order; tells of each item its former and its new number. As many steps as items and holes.
    pub(super) fn close_holes(&mut self, mut moved: impl FnMut(T, u32, u32)) {
        let mut kept = 0;
        for index in 0..self.len {
            let item = self.get(index);
            if !item.is_hole() {
                self.set(kept, item);
                moved(item, self.number(index), self.number(kept));
                kept += 1;
            }
        }
        (self.len, self.holes) = (kept, 0);
        self.give_back();
    }

    /// Bytes allocated.
    pub(super) fn bytes(&self) -> u64 {
        let pieces = self.pieces.len() + usize::from(self.spare.is_some());
        (pieces * size_of::<[T; PIECE]>() + self.pieces.capacity() * size_of::<Box<T>>()) as u64
    }

    /// Upper bound of the sum of [`Ring::bytes`] over `rings`, which may hold so many items and holes together.
    pub(super) fn bytes_bound(rings: &[Self], entries: u64) -> u64 {
        let count = rings.len() as u64;
        // A piece that is begun at either end, and the spare one.
        let pieces = (entries / PIECE as u64).saturating_add(count * 3);
        let tables: usize = rings.iter().map(|ring| ring.pieces.capacity()).sum();
        let tables = (tables as u64).saturating_add(pieces.saturating_mul(2) + count * 4);
        pieces
            .saturating_mul(size_of::<[T; PIECE]>() as u64)
            .saturating_add(tables.saturating_mul(size_of::<Box<T>>() as u64))
    }
}

//! A growing array in pieces of fixed size: it never copies what it holds and wastes less than two pieces.

use std::fmt;

/// Items of one piece.
const CHUNK: usize = 256;

/// A growing array without the doubling of a `Vec`: unused room is below two pieces, whatever its length.
///
/// Pieces are thin boxes, so that the table of them, which every look goes through, stays in the first cache: 8 bytes for 256
/// items.
pub(crate) struct Chunked<T> {
    chunks: Vec<Box<[T; CHUNK]>>,
    len: usize,
}

/// The length alone: there may be millions of items.
impl<T> fmt::Debug for Chunked<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chunked({} items)", self.len)
    }
}

impl<T: Copy> Chunked<T> {
    pub(crate) fn new() -> Self {
        Self {
            chunks: Vec::new(),
            len: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn push(&mut self, item: T) {
        if self.len / CHUNK == self.chunks.len() {
            // Places beyond the length hold copies, never read before they are set.
            self.chunks.push(Box::new([item; CHUNK]));
        }
        self.len += 1;
        *self.at_mut(self.len as u32 - 1) = item;
    }

    /// Takes the last item. One empty piece is kept, so that a length swaying about a border allocates nothing.
    pub(crate) fn pop(&mut self) -> Option<T> {
        let last = self.len.checked_sub(1)?;
        let item = self.get(last as u32);
        self.len = last;
        self.chunks.truncate(last.div_ceil(CHUNK) + 1);
        Some(item)
    }

    pub(crate) fn at(&self, index: u32) -> &T {
        let index = index as usize;
        debug_assert!(index < self.len, "{index} of {}", self.len);
        &self.chunks[index / CHUNK][index % CHUNK]
    }

    pub(crate) fn at_mut(&mut self, index: u32) -> &mut T {
        let index = index as usize;
        debug_assert!(index < self.len, "{index} of {}", self.len);
        &mut self.chunks[index / CHUNK][index % CHUNK]
    }

    pub(crate) fn get(&self, index: u32) -> T {
        *self.at(index)
    }

    pub(crate) fn set(&mut self, index: u32, item: T) {
        *self.at_mut(index) = item;
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::new();
    }

    /// Bytes allocated. O(1).
    pub(crate) fn bytes(&self) -> u64 {
        (self.chunks.len() * CHUNK * size_of::<T>() + self.chunks.capacity() * size_of::<Box<T>>())
            as u64
    }

    /// Upper bound of [`Chunked::bytes`] at any length up to `len`.
    pub(crate) fn bytes_bound(&self, len: u64) -> u64 {
        let chunks = (len / CHUNK as u64 + 2).max(self.chunks.len() as u64);
        let pointers = chunks
            .checked_next_power_of_two()
            .unwrap_or(u64::MAX)
            .max(self.chunks.capacity() as u64)
            .max(4);
        chunks
            .saturating_mul((CHUNK * size_of::<T>()) as u64)
            .saturating_add(pointers.saturating_mul(size_of::<Box<T>>() as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_and_shrinks_piecewise_and_keeps_what_it_holds() {
        let mut items = Chunked::new();
        let bound = items.bytes_bound(1000);
        for i in 0..1000_u64 {
            items.push(i);
            assert!(items.bytes() <= bound);
            assert!(items.bytes() <= items.bytes_bound(items.len() as u64));
        }
        items.set(700, 7);
        assert_eq!((items.get(700), items.get(999)), (7, 999));
        while items.len() > 1 {
            assert!(items.pop().is_some());
            assert!(items.bytes() <= items.bytes_bound(items.len() as u64));
        }
        assert!(items.bytes() <= 2 * 256 * 8 + 4 * 24 + 64);
        assert_eq!(items.pop(), Some(0));
        assert_eq!(items.pop(), None);
    }
}

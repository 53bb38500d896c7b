//! A block of rows in RAM: vectors side by side, which places are taken, and by whom.

use std::sync::Arc;

use aether_core::Metric;

use crate::held::{Bytes, Counted, Held};

/// Floats that align the first vector to 64 bytes, wherever the allocator puts the block.
const ALIGN_FLOATS: usize = 16;

/// What the allocator adds to each of a chunk's allocations, and the chunk's own headers.
const CHUNK_OVERHEAD: u64 = (size_of::<Chunk>() + 2 * 2 * size_of::<usize>() + 6 * 16) as u64;

/// What all chunks of an index have in common.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    pub(crate) dim: usize,
    pub(crate) metric: Metric,
    /// Places of the smallest and the largest chunk.
    rows_min: usize,
    rows_max: usize,
}

impl Layout {
    pub(crate) fn new(dim: usize, metric: Metric, chunk_bytes: u64) -> Self {
        let places = |bytes: u64| usize::try_from(bytes / (4 * dim as u64)).unwrap_or(usize::MAX);
        let rows_max = places(chunk_bytes).clamp(1, 1 << 16);
        // Small first chunks, so that a small index is small.
        let rows_min = places(chunk_bytes.min(1 << 14)).clamp(1, rows_max);
        Self {
            dim,
            metric,
            rows_min,
            rows_max,
        }
    }

    /// Places of the next chunk of an index that has `capacity` in all: chunks grow by quarters, so at most a fifth of a large index
    /// lies idle, up to the configured size.
    pub(crate) fn next_capacity(&self, capacity: usize) -> usize {
        (capacity / 4).clamp(self.rows_min, self.rows_max)
    }

    pub(crate) fn rows_max(&self) -> usize {
        self.rows_max
    }

    fn scales(&self, capacity: usize) -> usize {
        if self.metric == Metric::Cosine {
            capacity
        } else {
            0
        }
    }

    pub(crate) fn bytes(&self, capacity: usize) -> Bytes {
        let words = capacity.div_ceil(64);
        Bytes {
            vectors: 4 * (capacity as u64 * self.dim as u64 + ALIGN_FLOATS as u64),
            rows: 8 * (capacity as u64 + words as u64) + 4 * self.scales(capacity) as u64,
            chunks: CHUNK_OVERHEAD,
            pinned: 0,
        }
    }
}

/// See the module. Invariants: `live` has just `count` bits set, all below `used`; a place below `used` whose bit is not set is
/// that of a removed row.
#[derive(Debug)]
pub(crate) struct Chunk {
    layout: Layout,
    memory: Counted<Memory>,
    used: usize,
    count: usize,
}

/// What a chunk asks of the allocator.
#[derive(Debug)]
struct Memory {
    rows: Box<[u64]>,
    live: Box<[u64]>,
    /// 1/|v| under cosine, else empty.
    scales: Box<[f32]>,
    floats: Box<[f32]>,
    /// Index in `floats` of the first vector.
    start: usize,
}

impl Memory {
    fn new(layout: Layout, capacity: usize) -> Self {
        let floats = vec![0.0f32; capacity * layout.dim + ALIGN_FLOATS].into_boxed_slice();
        let start = floats.as_ptr().align_offset(64).min(ALIGN_FLOATS);
        Self {
            rows: vec![0; capacity].into_boxed_slice(),
            live: vec![0; capacity.div_ceil(64)].into_boxed_slice(),
            scales: vec![0.0; layout.scales(capacity)].into_boxed_slice(),
            floats,
            start,
        }
    }
}

impl Chunk {
    pub(crate) fn new(layout: Layout, capacity: usize, held: &Arc<Held>) -> Self {
        let make = || Memory::new(layout, capacity);
        Self {
            layout,
            memory: Counted::new(held, layout.bytes(capacity), make),
            used: 0,
            count: 0,
        }
    }

    pub(crate) fn capacity(&self) -> usize {
        self.memory.rows.len()
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    pub(crate) fn removed(&self) -> usize {
        self.used - self.count
    }

    pub(crate) fn is_full(&self) -> bool {
        self.count == self.capacity()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.memory.bytes().total()
    }

    pub(crate) fn held(&self) -> &Arc<Held> {
        self.memory.held()
    }

    pub(crate) fn vector(&self, place: usize) -> &[f32] {
        let from = self.memory.start + place * self.layout.dim;
        &self.memory.floats[from..from + self.layout.dim]
    }

    /// Puts a row into the first free place; `None` if there is none.
    pub(crate) fn put(&mut self, row: u64, vector: &[f32]) -> Option<usize> {
        if self.is_full() {
            return None;
        }
        let place = if self.removed() == 0 {
            self.used
        } else {
            let mut words = self.memory.live.iter().enumerate();
            let (word, bits) = words.find(|(_, bits)| **bits != u64::MAX)?;
            word * 64 + bits.trailing_ones() as usize
        };
        self.used = self.used.max(place + 1);
        self.count += 1;
        let memory = &mut *self.memory;
        memory.live[place / 64] |= 1 << (place % 64);
        memory.rows[place] = row;
        if let Some(scale) = memory.scales.get_mut(place) {
            *scale = self.layout.metric.scale(vector);
        }
        let from = memory.start + place * self.layout.dim;
        memory.floats[from..from + self.layout.dim].copy_from_slice(vector);
        Some(place)
    }

    pub(crate) fn clear(&mut self, place: usize) {
        self.memory.live[place / 64] &= !(1 << (place % 64));
        self.count -= 1;
        if self.count == 0 {
            self.used = 0;
        }
    }

    /// Places taken, rows, in order of places.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        let memory = &*self.memory;
        memory
            .live
            .iter()
            .enumerate()
            .flat_map(move |(word, bits)| {
                let mut bits = *bits;
                std::iter::from_fn(move || {
                    let bit = bits.trailing_zeros() as usize;
                    if bit == 64 {
                        return None;
                    }
                    bits &= bits - 1;
                    let place = word * 64 + bit;
                    Some((place, memory.rows[place]))
                })
            })
    }

    /// [`Metric::scale`] of the vector at a place.
    #[inline]
    pub(crate) fn scale(&self, place: usize) -> f32 {
        self.memory.scales.get(place).copied().unwrap_or(1.0)
    }

    /// Calls `visit(row, distance)` for each row. O(rows x dim).
    pub(crate) fn distances(&self, query: &[f32], scale: f32, mut visit: impl FnMut(u64, f32)) {
        let metric = self.layout.metric;
        for (place, row) in self.iter() {
            let (vector, own) = (self.vector(place), self.scale(place));
            visit(row, metric.distance_scaled(query, scale, vector, own));
        }
    }
}

impl Clone for Chunk {
    fn clone(&self) -> Self {
        let mut copy = Self::new(self.layout, self.capacity(), self.held());
        let (from, to) = (&*self.memory, &mut *copy.memory);
        to.rows.copy_from_slice(&from.rows);
        to.live.copy_from_slice(&from.live);
        to.scales.copy_from_slice(&from.scales);
        let floats = self.capacity() * self.layout.dim;
        to.floats[to.start..to.start + floats]
            .copy_from_slice(&from.floats[from.start..from.start + floats]);
        copy.used = self.used;
        copy.count = self.count;
        copy
    }
}

//! All chunks of an index and where each row is. Everything here happens under the index's one lock for writers.

use std::sync::Arc;

use aether_core::Row;
use hashbrown::HashMap;
use parking_lot::RwLock;

use crate::chunk::{Chunk, Layout};
use crate::held::Held;

/// A chunk behind its own lock, held for the scan of that chunk only. The inner `Arc` is shared with a running snapshot; a writer
/// then copies the chunk first.
pub(crate) type Cell = RwLock<Arc<Chunk>>;

/// The chunks by number; a hole is a number to be used again. A search keeps the list it began with.
pub(crate) type List = Vec<Option<Arc<Cell>>>;

#[derive(Clone, Copy, Debug)]
struct Place {
    chunk: u32,
    place: u32,
}

/// Most rows that are written under one hold of the lock.
const STEP_ROWS: usize = 256;

#[derive(Debug)]
pub(crate) struct Arena {
    layout: Layout,
    map: HashMap<u64, Place>,
    list: Arc<List>,
    /// Numbers of holes in `list`.
    holes: Vec<u32>,
    /// Numbers of chunks with a free place, each once.
    open: Vec<u32>,
    /// Places in all chunks.
    capacity: usize,
    removed: usize,
    /// Grows with each removal: a search during which it stood still has seen no row twice.
    pub(crate) removals: u64,
    held: Arc<Held>,
}

impl Arena {
    pub(crate) fn new(layout: Layout, held: Arc<Held>) -> Self {
        Self {
            layout,
            map: HashMap::new(),
            list: Arc::default(),
            holes: Vec::new(),
            open: Vec::new(),
            capacity: 0,
            removed: 0,
            removals: 0,
            held,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }

    pub(crate) fn removed(&self) -> usize {
        self.removed
    }

    pub(crate) fn contains(&self, row: Row) -> bool {
        self.map.contains_key(&row.0)
    }

    /// Every row, chunk by chunk: who removes them in this order empties one chunk after the other.
    pub(crate) fn rows(&self) -> Vec<Row> {
        let mut rows = Vec::with_capacity(self.len());
        for cell in self.list.iter().flatten() {
            rows.extend(cell.read().iter().map(|(_, row)| Row(row)));
        }
        rows
    }

    pub(crate) fn list(&self) -> Arc<List> {
        Arc::clone(&self.list)
    }

    fn cell(&self, number: u32) -> Option<&Arc<Cell>> {
        self.list.get(number as usize)?.as_ref()
    }

    /// Copies a row's vector out; `false` if it is not here.
    pub(crate) fn read(&self, row: Row, out: &mut [f32]) -> bool {
        let Some(at) = self.map.get(&row.0) else {
            return false;
        };
        let Some(cell) = self.cell(at.chunk) else {
            return false;
        };
        out.copy_from_slice(cell.read().vector(at.place as usize));
        true
    }

    /// Adds rows that are not here yet, up to a full chunk or [`STEP_ROWS`]; how many of the pairs are done with.
    pub(crate) fn insert_some(&mut self, rows: &[Row], vectors: &[f32]) -> usize {
        let pairs = rows
            .iter()
            .zip(vectors.chunks_exact(self.layout.dim))
            .take(STEP_ROWS);
        let (mut done, mut full) = (0, false);
        let mut target: Option<(u32, Arc<Cell>)> = None;
        for (row, vector) in pairs {
            if full {
                break;
            }
            if !self.map.contains_key(&row.0) {
                let (number, cell) = match target.take() {
                    Some(found) => found,
                    None => self.room(),
                };
                let mut guard = cell.write();
                let chunk = Arc::make_mut(&mut *guard);
                let before = chunk.removed();
                if let Some(place) = chunk.put(row.0, vector) {
                    let place = Place {
                        chunk: number,
                        place: place as u32,
                    };
                    self.map.insert(row.0, place);
                    self.removed -= before - chunk.removed();
                }
                full = chunk.is_full();
                drop(guard);
                if full {
                    self.open.retain(|n| *n != number);
                }
                target = Some((number, cell));
            }
            done += 1;
        }
        done
    }

    /// A chunk with a free place.
    fn room(&mut self) -> (u32, Arc<Cell>) {
        if let Some(number) = self.open.last().copied()
            && let Some(cell) = self.cell(number)
        {
            return (number, Arc::clone(cell));
        }
        let capacity = self.layout.next_capacity(self.capacity);
        let chunk = Chunk::new(self.layout, capacity, &self.held);
        self.publish(chunk)
    }

    /// Puts a chunk into the list.
    fn publish(&mut self, chunk: Chunk) -> (u32, Arc<Cell>) {
        self.capacity += chunk.capacity();
        let open = !chunk.is_full();
        let cell = Arc::new(RwLock::new(Arc::new(chunk)));
        let list = Arc::make_mut(&mut self.list);
        let number = match self.holes.pop() {
            Some(number) => {
                list[number as usize] = Some(Arc::clone(&cell));
                number
            }
            None => {
                list.push(Some(Arc::clone(&cell)));
                (list.len() - 1) as u32
            }
        };
        if open {
            self.open.push(number);
        }
        (number, cell)
    }

    /// Takes a chunk out of the list; searches that began before may still read it.
    fn unpublish(&mut self, number: u32) {
        if let Some(cell) = Arc::make_mut(&mut self.list)[number as usize].take() {
            let chunk = cell.read();
            self.capacity -= chunk.capacity();
            self.removed -= chunk.removed();
            self.holes.push(number);
            self.open.retain(|n| *n != number);
        }
    }

    /// Removes a row; `false` if it is not here.
    pub(crate) fn remove(&mut self, row: Row) -> bool {
        let Some(at) = self.map.remove(&row.0) else {
            return false;
        };
        self.removals += 1;
        let Some(cell) = self.cell(at.chunk).cloned() else {
            return false;
        };
        let mut guard = cell.write();
        let chunk = Arc::make_mut(&mut *guard);
        let (was_full, before) = (chunk.is_full(), chunk.removed());
        chunk.clear(at.place as usize);
        let (after, empty) = (chunk.removed(), chunk.count() == 0);
        drop(guard);
        self.removed = self.removed + after - before;
        if was_full {
            self.open.push(at.chunk);
        }
        // An empty chunk goes at once, unless it is all the room there is: the next insert would only make it again.
        if empty && self.open.len() > 1 {
            self.unpublish(at.chunk);
        }
        true
    }

    /// Numbers of the chunks in which removed rows left places.
    pub(crate) fn with_holes(&self) -> Vec<u32> {
        let numbered = self.list.iter().enumerate();
        numbered
            .filter_map(|(n, cell)| (cell.as_ref()?.read().removed() > 0).then_some(n as u32))
            .collect()
    }

    /// Packs the rows of the first of some chunks into one new chunk; how many are done with.
    pub(crate) fn pack(&mut self, numbers: &[u32]) -> usize {
        let (mut donors, mut rows) = (Vec::new(), 0);
        for number in numbers {
            let Some(cell) = self.cell(*number) else {
                donors.push(None);
                continue;
            };
            let chunk = Arc::clone(&*cell.read());
            if chunk.removed() == 0 {
                donors.push(None);
                continue;
            }
            if rows > 0 && rows + chunk.count() > self.layout.rows_max() {
                break;
            }
            rows += chunk.count();
            donors.push(Some((*number, chunk)));
        }
        let done = donors.len();
        let donors: Vec<(u32, Arc<Chunk>)> = donors.into_iter().flatten().collect();
        if rows > 0 {
            let mut packed = Chunk::new(self.layout, rows, &self.held);
            let mut moved = Vec::with_capacity(rows);
            for (_, donor) in &donors {
                for (place, row) in donor.iter() {
                    moved.extend(packed.put(row, donor.vector(place)).map(|at| (row, at)));
                }
            }
            let (chunk, _) = self.publish(packed);
            for (row, place) in moved {
                self.map.insert(
                    row,
                    Place {
                        chunk,
                        place: place as u32,
                    },
                );
            }
        }
        for (number, _) in donors {
            self.unpublish(number);
        }
        done
    }

    /// Gives back what the books take beyond their need, and the chunk that is kept for the next insert when no row is left.
    pub(crate) fn shrink(&mut self) {
        if self.map.is_empty() {
            for number in 0..self.list.len() as u32 {
                self.unpublish(number);
            }
        }
        if self.map.capacity() > 2 * self.map.len() {
            self.map.shrink_to_fit();
        }
        let list = Arc::make_mut(&mut self.list);
        while list.pop_if(|cell| cell.is_none()).is_some() {}
        list.shrink_to_fit();
        let len = list.len() as u32;
        self.holes.retain(|n| *n < len);
        self.holes.shrink_to_fit();
        self.open.shrink_to_fit();
    }

    /// The chunks as they are now, shared.
    pub(crate) fn snapshot(&self) -> Vec<Arc<Chunk>> {
        let cells = self.list.iter().flatten();
        cells.map(|cell| Arc::clone(&*cell.read())).collect()
    }

    /// Bytes of the row map.
    pub(crate) fn map_bytes(&self) -> u64 {
        self.map.allocation_size() as u64
    }

    /// Bytes of the lists of chunks.
    pub(crate) fn list_bytes(&self) -> u64 {
        list_bytes(
            self.list.capacity(),
            self.holes.capacity() + self.open.capacity(),
        )
    }

    /// Upper bound of [`Self::map_bytes`] plus [`Self::list_bytes`] plus all chunks after `additional` inserts, given what
    /// chunks take now. O(log n).
    pub(crate) fn bytes_after(&self, additional: usize, chunks_now: u64) -> u64 {
        let rows = self.map.len().saturating_add(additional);
        let mut missing = rows.saturating_sub(self.capacity);
        let (mut capacity, mut chunks, mut bytes) = (self.capacity, 0u64, chunks_now);
        while missing > 0 {
            let next = self.layout.next_capacity(capacity);
            // Chunks of full size are counted at once.
            let times = if next == self.layout.rows_max() {
                missing.div_ceil(next)
            } else {
                1
            };
            let each = self.layout.bytes(next).total();
            bytes = bytes.saturating_add(each.saturating_mul(times as u64));
            chunks = chunks.saturating_add(times as u64);
            capacity = capacity.saturating_add(next.saturating_mul(times));
            missing = missing.saturating_sub(next.saturating_mul(times));
        }
        // A vector at most doubles when it grows, to no less than four.
        let grown = |len: usize, capacity: usize| -> usize {
            let wanted = len.saturating_add(usize::try_from(chunks).unwrap_or(usize::MAX));
            if wanted <= capacity && chunks == 0 {
                capacity
            } else {
                capacity.max(wanted.saturating_mul(2)).max(4)
            }
        };
        let lists = list_bytes(
            grown(self.list.len(), self.list.capacity()),
            grown(self.holes.len(), self.holes.capacity())
                .saturating_add(grown(self.list.len(), self.open.capacity())),
        );
        bytes
            .saturating_add(lists)
            .saturating_add(self.map_bytes_after(rows))
    }

    /// Upper bound of the map's bytes at `rows` rows: hashbrown's tables hold a power of two of buckets, at most 7/8 full, one control
    /// byte each, and double when they are full (removed entries count until a rehash).
    fn map_bytes_after(&self, rows: usize) -> u64 {
        let now = self.map_bytes();
        if rows <= self.map.capacity() {
            return now;
        }
        let buckets = (rows as u64).saturating_mul(8) / 7 + 1;
        let buckets = buckets
            .checked_next_power_of_two()
            .unwrap_or(u64::MAX)
            .max(16);
        let each = (size_of::<(u64, Place)>() + 1) as u64;
        let fresh = buckets.saturating_mul(each).saturating_add(64);
        fresh.max(now.saturating_mul(2))
    }
}

fn list_bytes(list: usize, numbers: usize) -> u64 {
    (list as u64)
        .saturating_mul(size_of::<Option<Arc<Cell>>>() as u64)
        .saturating_add((numbers as u64).saturating_mul(4))
}

//! Which points are hot: id to row, row to what the engine must know of it without asking a store.
//!
//! RAM counts against the budget, so entries are compact and live in fixed chunks, and the two tables hold four bytes a row.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashMap, HashTable};

use super::record::{Expiry, Home};
use crate::id::{PointId, Row, SegmentId};
use crate::segment::SEGMENT_ROWS_MAX;

const CHUNK: usize = 1024;

/// What the engine knows of a hot row. 40 bytes: home and flags share one word, segment 39 bits, ordinal 22, flags 3.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) id: PointId,
    pub(crate) row: Row,
    packed: u64,
}

const PAYLOAD: u64 = 1;
const LEAVING: u64 = 2;
const KILLED: u64 = 4;
const FLAG_BITS: u32 = 3;
const ORDINAL_BITS: u32 = 22;
/// Stands for the metadata store: at a segment a millisecond, it is reached after 17 years.
const FRESH: u64 = (1 << (u64::BITS - FLAG_BITS - ORDINAL_BITS)) - 1;
const _: () = assert!(SEGMENT_ROWS_MAX == 1 << ORDINAL_BITS);

impl Entry {
    pub(crate) fn new(id: PointId, row: Row, home: Home, payload: bool) -> Self {
        let packed = if payload { PAYLOAD } else { 0 };
        let mut entry = Self { id, row, packed };
        entry.set_home(home);
        entry
    }

    pub(crate) fn home(&self) -> Home {
        match self.packed >> (FLAG_BITS + ORDINAL_BITS) {
            FRESH => Home::Fresh,
            segment => {
                let ordinal = (self.packed >> FLAG_BITS) & (SEGMENT_ROWS_MAX as u64 - 1);
                Home::Segment(SegmentId(segment), ordinal as u32)
            }
        }
    }

    pub(crate) fn set_home(&mut self, home: Home) {
        let place = match home {
            Home::Fresh => FRESH << ORDINAL_BITS,
            Home::Segment(segment, ordinal) => {
                debug_assert!(segment.0 < FRESH && (ordinal as usize) < SEGMENT_ROWS_MAX);
                segment.0 << ORDINAL_BITS | u64::from(ordinal)
            }
        };
        self.packed = place << FLAG_BITS | self.packed & (PAYLOAD | LEAVING | KILLED);
    }

    /// Whether it has a payload.
    pub(crate) fn payload(&self) -> bool {
        self.packed & PAYLOAD != 0
    }

    /// Demoted, and only waiting for readers to be taken out.
    pub(crate) fn leaving(&self) -> bool {
        self.packed & LEAVING != 0
    }

    /// Replaced or deleted, and only waiting for readers to be taken out.
    pub(crate) fn killed(&self) -> bool {
        self.packed & KILLED != 0
    }

    /// Whether it lives and stays.
    pub(crate) fn settled(&self) -> bool {
        self.packed & (LEAVING | KILLED) == 0
    }
}

/// A place for an entry, or a link in the list of free places.
#[derive(Debug)]
enum Slot {
    Full(Entry),
    /// The next free slot; [`NO_SLOT`] ends the list.
    Free(u32),
}

const NO_SLOT: u32 = u32::MAX;

/// The hot points. O(1) for everything but iteration.
#[derive(Debug)]
pub(crate) struct Directory {
    chunks: Vec<Box<[Slot]>>,
    first_free: u32,
    free: usize,
    by_row: HashTable<u32>,
    by_id: HashTable<u32>,
    hasher: DefaultHashBuilder,
    expiries: HashMap<Row, Expiry>,
    text_bytes: u64,
    /// Rows that are neither killed nor leaving.
    settled: usize,
}

/// What a row takes beyond [`Directory::bytes_after`]: the text of its id, and its time to live.
pub(crate) fn extra_bytes(id: &PointId, ttl: bool) -> u64 {
    // The table of times to live doubles as it grows: an entry may bring three more places.
    text_bytes(id)
        + if ttl {
            4 * (size_of::<(Row, Expiry)>() as u64 + 1)
        } else {
            0
        }
}

fn text_bytes(id: &PointId) -> u64 {
    match id {
        PointId::Int(_) | PointId::Uuid(_) => 0,
        // The allocator's own share is about 16 bytes.
        PointId::Text(t) => t.len() as u64 + 16,
    }
}

fn slot_of(chunks: &[Box<[Slot]>], slot: u32) -> Option<&Entry> {
    match chunks
        .get(slot as usize / CHUNK)?
        .get(slot as usize % CHUNK)?
    {
        Slot::Full(entry) => Some(entry),
        Slot::Free(_) => None,
    }
}

impl Default for Directory {
    fn default() -> Self {
        Self {
            chunks: Vec::new(),
            first_free: NO_SLOT,
            free: 0,
            by_row: HashTable::new(),
            by_id: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            expiries: HashMap::new(),
            text_bytes: 0,
            settled: 0,
        }
    }
}

impl Directory {
    fn entry(&self, slot: u32) -> Option<&Entry> {
        slot_of(&self.chunks, slot)
    }

    fn row_slot(&self, row: Row) -> Option<u32> {
        let hash = self.hasher.hash_one(row);
        self.by_row
            .find(hash, |s| self.entry(*s).is_some_and(|e| e.row == row))
            .copied()
    }

    fn id_slot(&self, id: &PointId) -> Option<u32> {
        let hash = self.hasher.hash_one(id);
        self.by_id
            .find(hash, |s| self.entry(*s).is_some_and(|e| e.id == *id))
            .copied()
    }

    /// The entry of a row, also if it is on its way out.
    pub(crate) fn row(&self, row: Row) -> Option<&Entry> {
        self.entry(self.row_slot(row)?)
    }

    /// The current hot row of a point; it may be leaving, but it lives.
    pub(crate) fn id(&self, id: &PointId) -> Option<&Entry> {
        self.entry(self.id_slot(id)?)
    }

    fn place(&mut self, slot: u32) -> Option<&mut Slot> {
        self.chunks
            .get_mut(slot as usize / CHUNK)?
            .get_mut(slot as usize % CHUNK)
    }

    /// Adds a chunk of free places; only when there is none left.
    fn add_chunk(&mut self) {
        let first = (self.chunks.len() * CHUNK) as u32;
        let next = |i: u32| {
            if i + 1 < CHUNK as u32 {
                first + i + 1
            } else {
                NO_SLOT
            }
        };
        self.chunks
            .push((0..CHUNK as u32).map(|i| Slot::Free(next(i))).collect());
        self.first_free = first;
        self.free += CHUNK;
    }

    /// Adds a row and makes it its point's current one.
    pub(crate) fn insert(&mut self, entry: Entry) {
        let (row_hash, id_hash) = (
            self.hasher.hash_one(entry.row),
            self.hasher.hash_one(&entry.id),
        );
        self.text_bytes += text_bytes(&entry.id);
        self.settled += usize::from(entry.settled());
        let old = self.id_slot(&entry.id);
        if self.first_free == NO_SLOT {
            self.add_chunk();
        }
        let slot = self.first_free;
        if let Some(place) = self.place(slot)
            && let Slot::Free(next) = std::mem::replace(place, Slot::Full(entry))
        {
            self.first_free = next;
            self.free -= 1;
        }
        let (chunks, hasher) = (&self.chunks, &self.hasher);
        if let Some(old) = old
            && let Ok(found) = self.by_id.find_entry(id_hash, |s| *s == old)
        {
            found.remove();
        }
        self.by_id.insert_unique(id_hash, slot, |s| {
            slot_of(chunks, *s).map_or(0, |e| hasher.hash_one(&e.id))
        });
        self.by_row.insert_unique(row_hash, slot, |s| {
            slot_of(chunks, *s).map_or(0, |e| hasher.hash_one(e.row))
        });
    }

    fn modify<T>(&mut self, row: Row, change: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        let slot = self.row_slot(row)?;
        let Slot::Full(entry) = self.place(slot)? else {
            return None;
        };
        let before = entry.settled();
        let out = change(entry);
        let after = entry.settled();
        self.settled = self.settled + usize::from(after) - usize::from(before);
        Some(out)
    }

    /// Notes that a row was replaced or deleted: its point no longer leads to it.
    pub(crate) fn kill(&mut self, row: Row) {
        let Some(slot) = self.row_slot(row) else {
            return;
        };
        let id_hash = self.entry(slot).map(|e| self.hasher.hash_one(&e.id));
        if let Some(Ok(found)) = id_hash.map(|hash| self.by_id.find_entry(hash, |s| *s == slot)) {
            found.remove();
        }
        self.modify(row, |e| e.packed |= KILLED);
    }

    /// Notes that a row's home is now a segment, and that it will leave.
    pub(crate) fn leave(&mut self, row: Row, home: Option<Home>) {
        self.modify(row, |e| {
            e.packed |= LEAVING;
            if let Some(home) = home {
                e.set_home(home);
            }
        });
    }

    /// Notes that a row's home is another place, whatever becomes of the row.
    pub(crate) fn rehome(&mut self, row: Row, home: Home) {
        self.modify(row, |e| e.set_home(home));
    }

    /// Takes a row out.
    pub(crate) fn remove(&mut self, row: Row) -> Option<Entry> {
        let slot = self.row_slot(row)?;
        let (row_hash, id_hash) = (
            self.hasher.hash_one(row),
            self.hasher.hash_one(&self.entry(slot)?.id),
        );
        if let Ok(found) = self.by_row.find_entry(row_hash, |s| *s == slot) {
            found.remove();
        }
        if let Ok(found) = self.by_id.find_entry(id_hash, |s| *s == slot) {
            found.remove();
        }
        let next = self.first_free;
        let Slot::Full(entry) = std::mem::replace(self.place(slot)?, Slot::Free(next)) else {
            return None;
        };
        self.first_free = slot;
        self.free += 1;
        self.text_bytes -= text_bytes(&entry.id);
        self.settled -= usize::from(entry.settled());
        self.expiries.remove(&row);
        Some(entry)
    }

    /// A hot row's time to live.
    pub(crate) fn expiry(&self, row: Row) -> Option<Expiry> {
        if self.expiries.is_empty() {
            None
        } else {
            self.expiries.get(&row).copied()
        }
    }

    pub(crate) fn set_expiry(&mut self, row: Row, expiry: Expiry) {
        self.expiries.insert(row, expiry);
    }

    /// Rows that live and stay.
    pub(crate) fn len(&self) -> usize {
        self.settled
    }

    /// Rows present, those on their way out included.
    pub(crate) fn present(&self) -> usize {
        self.by_row.len()
    }

    /// Every row that lives and stays.
    pub(crate) fn settled(&self) -> impl Iterator<Item = &Entry> {
        self.chunks
            .iter()
            .flat_map(|c| c.iter())
            .filter_map(|slot| match slot {
                Slot::Full(entry) if entry.settled() => Some(entry),
                Slot::Full(_) | Slot::Free(_) => None,
            })
    }

    /// RAM held.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes_after(0)
    }

    /// Upper bound of the RAM held after so many more rows with integer ids or UUIDs; texts add their own length.
    pub(crate) fn bytes_after(&self, additional: usize) -> u64 {
        let grown = additional.saturating_sub(self.free);
        let chunks = self.chunks.len() + grown.div_ceil(CHUNK);
        let table = |t: &HashTable<u32>| {
            let now = t.allocation_size() as u64;
            if t.capacity() - t.len() >= additional {
                return now;
            }
            // A table that removals have littered may double although it is not full.
            now.max(table_bytes(
                (t.len() + additional).max(t.num_buckets() * 7 / 8 + 1),
                4,
            ))
        };
        (chunks * CHUNK * size_of::<Slot>()) as u64
            + self.text_bytes
            + table(&self.by_row)
            + table(&self.by_id)
            + self.expiries.allocation_size() as u64
    }
}

/// RAM of a hash table with room for so many: hashbrown keeps a power of two of buckets, at most 7/8 full, one control byte each.
fn table_bytes(capacity: usize, item: usize) -> u64 {
    if capacity == 0 {
        return 0;
    }
    let buckets = (capacity * 8 / 7 + 1).next_power_of_two().max(4);
    (buckets * (item + 1) + 16) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: u64, row: u64) -> Entry {
        Entry::new(PointId::Int(id), Row(row), Home::Fresh, false)
    }

    #[test]
    fn an_update_keeps_the_old_row_until_it_is_removed() {
        let mut d = Directory::default();
        d.insert(entry(1, 10));
        d.kill(Row(10));
        d.insert(entry(1, 11));
        assert_eq!(d.id(&PointId::Int(1)).unwrap().row, Row(11));
        assert!(d.row(Row(10)).unwrap().killed());
        assert_eq!((d.len(), d.present()), (1, 2));
        assert!(d.remove(Row(10)).is_some());
        assert_eq!(d.id(&PointId::Int(1)).unwrap().row, Row(11));
        assert!(d.remove(Row(10)).is_none());
        d.leave(Row(11), Some(Home::Segment(SegmentId(3), 4)));
        assert_eq!(
            d.row(Row(11)).unwrap().home(),
            Home::Segment(SegmentId(3), 4)
        );
        assert_eq!(d.len(), 0);
    }

    #[test]
    fn an_entry_is_small_and_keeps_home_and_flags_apart() {
        assert_eq!(size_of::<Entry>(), 40);
        assert_eq!(size_of::<Slot>(), 40);
        let last = Home::Segment(SegmentId(FRESH - 1), SEGMENT_ROWS_MAX as u32 - 1);
        for home in [Home::Fresh, Home::Segment(SegmentId(0), 0), last] {
            for payload in [false, true] {
                let mut e = Entry::new(PointId::Int(1), Row(2), home, payload);
                e.packed |= LEAVING;
                e.set_home(last);
                e.set_home(home);
                assert_eq!(
                    (e.home(), e.payload(), e.leaving(), e.killed()),
                    (home, payload, true, false)
                );
            }
        }
    }

    #[test]
    fn the_bound_on_bytes_holds_at_every_step_and_a_row_is_cheap() {
        let mut d = Directory::default();
        let mut rng = fastrand::Rng::with_seed(3);
        let mut next = 0;
        while d.present() < 100_000 {
            let n = rng.usize(1..3000);
            let bound = d.bytes_after(n);
            for _ in 0..n {
                d.insert(entry(next, next));
                next += 1;
            }
            assert!(d.bytes() <= bound, "{} > {bound}", d.bytes());
            for _ in 0..n / 3 {
                d.remove(Row(rng.u64(..next)));
            }
        }
        let a_row = d.bytes() as f64 / d.present() as f64;
        assert!(a_row < 100.0, "{a_row} bytes a row");
    }
}

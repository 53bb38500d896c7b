//! The hot rows and what is known of each: a dense list, a hash table into it, and the pins of rows that are cold just now.
//!
//! Everything that grows says how far it will have grown after more rows, because the engine counts a policy's books against the
//! budget before it lets rows in.

use aether_core::Row;
use hashbrown::HashTable;

/// What is known of a hot row: 24 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) row: Row,
    /// Last use, in microseconds.
    pub(crate) used: u64,
    /// RAM of the row.
    pub(crate) bytes: u32,
    /// Bits 0 to 23: the hours of the day in which it was used. Bit 31: it is pinned.
    pub(crate) bits: u32,
}

pub(crate) const PINNED: u32 = 1 << 31;

impl Record {
    pub(crate) fn pinned(&self) -> bool {
        self.bits & PINNED > 0
    }
}

/// Pinned rows that are cold: so many are remembered. The engine never demotes a pinned row whatever a policy says, so a forgotten one
/// costs a useless proposal and nothing else.
const PINS_MAX: usize = 1024;

#[derive(Debug, Default)]
pub(crate) struct Books {
    /// Dense: taking one out moves the last into its place.
    records: Vec<Record>,
    /// Places in `records`, by row.
    places: HashTable<u32>,
    /// Sorted.
    cold_pins: Vec<Row>,
}

/// Spreads a row over 64 bits (the finaliser of MurmurHash3).
fn hash(row: Row) -> u64 {
    let mut x = row.0;
    x = (x ^ x >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    x = (x ^ x >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    x ^ x >> 33
}

impl Books {
    pub(crate) fn records(&self) -> &[Record] {
        &self.records
    }

    pub(crate) fn cold_pins(&self) -> &[Row] {
        &self.cold_pins
    }

    fn place(&self, row: Row) -> Option<usize> {
        let found = self
            .places
            .find(hash(row), |p| self.records[*p as usize].row == row);
        found.map(|p| *p as usize)
    }

    pub(crate) fn get(&self, row: Row) -> Option<&Record> {
        self.place(row).map(|p| &self.records[p])
    }

    pub(crate) fn get_mut(&mut self, row: Row) -> Option<&mut Record> {
        self.place(row).map(|p| &mut self.records[p])
    }

    /// Takes up a row that is not in the books.
    pub(crate) fn insert(&mut self, mut record: Record) {
        if self.unpin_cold(record.row) {
            record.bits |= PINNED;
        }
        if self.records.len() == self.records.capacity() {
            // By an eighth, not by doubling: half-empty lists would count against the budget.
            self.records.reserve_exact(self.records.len() / 8 + 64);
        }
        // Rows are counted in u32: 2^32 of them would not fit any index.
        let place = self.records.len() as u32;
        self.records.push(record);
        let records = &self.records;
        self.places
            .insert_unique(hash(record.row), place, |p| hash(records[*p as usize].row));
    }

    pub(crate) fn remove(&mut self, row: Row) -> Option<Record> {
        let place = self.place(row)?;
        if let Ok(entry) = self.places.find_entry(hash(row), |p| *p as usize == place) {
            entry.remove();
        }
        let record = self.records.swap_remove(place);
        if let Some(moved) = self.records.get(place) {
            let old = self.records.len() as u32;
            if let Some(p) = self.places.find_mut(hash(moved.row), |p| *p == old) {
                *p = place as u32;
            }
        }
        Some(record)
    }

    /// Notes that a cold row is pinned.
    pub(crate) fn pin_cold(&mut self, row: Row) {
        if let Err(at) = self.cold_pins.binary_search(&row)
            && self.cold_pins.len() < PINS_MAX
        {
            self.cold_pins.insert(at, row);
        }
    }

    /// Forgets that note; answers whether there was one.
    pub(crate) fn unpin_cold(&mut self, row: Row) -> bool {
        let found = self.cold_pins.binary_search(&row);
        found.map(|at| self.cold_pins.remove(at)).is_ok()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.sum(
            self.records.capacity() as u64,
            self.places.allocation_size() as u64,
        )
    }

    /// Upper bound of [`Books::bytes`] as long as at most `additional` more rows are hot.
    pub(crate) fn bytes_after(&self, additional: usize) -> u64 {
        let rows = (self.records.len() as u64).saturating_add(additional as u64);
        let mut list = self.records.capacity() as u64;
        if rows > list {
            list = rows.saturating_add(rows / 8 + 64);
        }
        // hashbrown keeps a power of two of places, at most 7/8 full, and a byte beside each; a table that removals have littered may
        // double although it is not full, even if no row is added.
        let littered = self.places.num_buckets() as u64 * 7 / 8 + 1;
        let wanted = rows.max(littered).saturating_mul(8) / 7 + 1;
        let buckets = wanted
            .checked_next_power_of_two()
            .unwrap_or(u64::MAX / 8)
            .max(4);
        self.sum(list, buckets.saturating_mul(5).saturating_add(16))
    }

    fn sum(&self, list: u64, table: u64) -> u64 {
        let pins = (PINS_MAX * size_of::<Row>()) as u64;
        let records = list.saturating_mul(size_of::<Record>() as u64);
        records.saturating_add(table).saturating_add(pins)
    }
}

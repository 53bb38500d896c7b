//! Chooses half-life and share of recency by trying them on a sample of the rows.
//!
//! Every pair of [`GRID`] is simulated on the rows whose hash falls into the sample, with a capacity as much smaller (Waldspurger,
//! Saemundsson, Ahmad, Park, "Cache Modeling and Optimization using Miniature Simulations", USENIX ATC 2017). The rate is a power
//! of two such that a miniature holds at most [`MINIATURE_ROWS`] rows, so that a large tier pays next to nothing.
//!
//! **Hysteresis.** For each pair the uses are counted in which it and the present one differ, as a sum of +1 and -1 and as
//! their number, both decayed over [`HORIZON`] turnovers. The present pair gives way when the best other one leads by more than
//! [`STANDARD_ERRORS`] of what chance alone would give, the square root of that number.

use aether_core::{Result, Row};
use hashbrown::HashTable;

use crate::books::{Input, hash};

use super::ghost::{Ghost, Sampled};
use super::wrong;

/// Half-lives tried, in capacities of uses: each four times the one before, from a little more than recency to a long memory.
const HALF_LIVES: [f64; 6] = [0.25, 1.0, 4.0, 16.0, 64.0, 256.0];
/// Shares of rows tried that stay by recency alone.
const RECENT_SHARES: [f64; 4] = [0.0, 0.1, 0.3, 0.6];
/// The pair to begin with: most recency, as nothing speaks against it yet, and the longer of the middle half-lives, as what was
/// forgotten cannot be recalled.
const START: usize = 3 * RECENT_SHARES.len() + 3;
/// Pairs.
const GRID: usize = HALF_LIVES.len() * RECENT_SHARES.len();

/// Most rows that a miniature holds.
const MINIATURE_ROWS: f64 = 384.0;
/// Rows of the sample that are remembered: those held and those that left lately.
const SLOTS: usize = 2048;
/// Turnovers of a miniature over which an advantage is forgotten.
const HORIZON: f64 = 20.0;
/// Lead needed to change, in standard errors.
const STANDARD_ERRORS: f64 = 2.5;
/// Slots looked at for one that no ghost holds.
const LOOK_AT: usize = 8;
/// Change of capacity that is followed.
const TOLERANCE: f64 = 1.125;

/// No row.
const VACANT: u64 = u64::MAX;

/// The trials and their outcome.
#[derive(Debug)]
pub(super) struct Steer {
    current: usize,
    ghosts: Vec<Ghost>,
    /// Lead of each over the current one, and the number of uses in which they differed.
    lead: [f64; GRID],
    differ: [f64; GRID],
    /// Sampled uses since the current one was chosen.
    since: f64,
    /// Changes made.
    pub(super) changes: u64,
    index: HashTable<u16>,
    rows: Vec<u64>,
    sampled: Sampled,
    /// Order of use of the slots; the last entry is the sentinel.
    links: Vec<[u16; 2]>,
    /// Uses since the last sampled one.
    waited: u64,
    /// A row is sampled when so many high bits of its hash are 0.
    shift: u32,
    /// Capacity of the hot tier in rows and bytes; 0 while it is not known.
    capacity_rows: f64,
    capacity_bytes: f64,
}

impl Steer {
    pub(super) fn new() -> Self {
        Self {
            current: START,
            ghosts: Vec::new(),
            lead: [0.0; GRID],
            differ: [0.0; GRID],
            since: 0.0,
            changes: 0,
            index: HashTable::new(),
            rows: Vec::new(),
            sampled: Sampled {
                bytes: Vec::new(),
                value: Vec::new(),
            },
            links: Vec::new(),
            waited: 0,
            shift: 0,
            capacity_rows: 0.0,
            capacity_bytes: 0.0,
        }
    }

    /// The present half-life, in capacities of uses.
    pub(super) fn half_life(&self) -> f64 {
        HALF_LIVES[self.current / RECENT_SHARES.len()]
    }

    /// The present share of rows that stay by recency alone.
    pub(super) fn recent_share(&self) -> f64 {
        RECENT_SHARES[self.current % RECENT_SHARES.len()]
    }

    /// Rows that the hot tier holds when it is full; 0 while that is not known.
    pub(super) fn capacity_rows(&self) -> f64 {
        self.capacity_rows
    }

    /// The hot tier holds so much. Small changes are not followed.
    pub(super) fn fit(&mut self, rows: f64, bytes: f64) {
        let near = |old: f64, new: f64| new <= old * TOLERANCE && old <= new * TOLERANCE;
        if near(self.capacity_rows, rows) && near(self.capacity_bytes, bytes) {
            return;
        }
        (self.capacity_rows, self.capacity_bytes) = (rows, bytes);
        let shift = (rows / MINIATURE_ROWS).log2().ceil().clamp(0.0, 40.0) as u32;
        if shift > self.shift {
            // The smaller sample is a part of the larger one.
            for slot in 0..self.rows.len() {
                let row = self.rows[slot];
                if row != VACANT && !is_sampled(row, shift) {
                    self.vacate(slot as u16);
                }
            }
        }
        self.shift = shift;
    }

    /// A use of a row; `bytes` and `value` are its RAM and the part of its worth that is not its score.
    pub(super) fn used(&mut self, row: Row, bytes: u32, value: f32) {
        self.waited += 1;
        if self.capacity_rows < 1.0 || row.0 == VACANT || !is_sampled(row.0, self.shift) {
            return;
        }
        let slot = self.slot_of(row.0, bytes, value);
        let waited = std::mem::take(&mut self.waited) as f64;
        let share = (-f64::from(self.shift)).exp2();
        let capacity = (self.capacity_bytes * share).max(1.0) as u64;
        let rows = (self.capacity_rows * share).max(1.0);
        let keep = 1.0 - 1.0 / (HORIZON * rows);
        let mut hits = [false; GRID];
        for (ghost, hit) in self.ghosts.iter_mut().zip(&mut hits) {
            let half_lives = waited / (ghost.half_life * self.capacity_rows);
            *hit = ghost.used(slot, half_lives, capacity, &self.sampled);
        }
        self.since += 1.0;
        let mut best = (0.0, self.current);
        for (other, hit) in hits.iter().enumerate() {
            let (lead, differ) = (&mut self.lead[other], &mut self.differ[other]);
            *lead *= keep;
            *differ *= keep;
            if *hit != hits[self.current] {
                *lead += if *hit { 1.0 } else { -1.0 };
                *differ += 1.0;
            }
            if *lead > best.0 && *lead > STANDARD_ERRORS * differ.sqrt() + 1.0 {
                best = (*lead, other);
            }
        }
        if best.1 != self.current && self.since > 2.0 * rows {
            self.change(best.1);
        }
    }

    /// Leads are over the current one: they move with it.
    fn change(&mut self, to: usize) {
        let (lead, differ) = (self.lead[to], self.differ[to]);
        self.lead.iter_mut().for_each(|other| *other -= lead);
        self.differ[self.current] = differ;
        self.differ[to] = 0.0;
        self.current = to;
        self.changes += 1;
    }

    /// A row is gone for good.
    pub(super) fn gone(&mut self, row: Row) {
        let same = |slot: &u16| self.rows[usize::from(*slot)] == row.0;
        if let Some(slot) = self.index.find(hash(row), same).copied() {
            self.vacate(slot);
        }
    }

    fn sentinel(&self) -> usize {
        self.links.len() - 1
    }

    fn join(&mut self, a: u16, b: u16) {
        self.links[usize::from(a)][1] = b;
        self.links[usize::from(b)][0] = a;
    }

    /// Moves a slot to an end of the order of use: the recent one, or that of the slots to be given away.
    fn relink(&mut self, slot: u16, recent: bool) {
        let [back, ahead] = self.links[usize::from(slot)];
        self.join(back, ahead);
        let sentinel = self.sentinel() as u16;
        let [last, first] = self.links[usize::from(sentinel)];
        let (before, after) = if recent {
            (last, sentinel)
        } else {
            (sentinel, first)
        };
        self.join(before, slot);
        self.join(slot, after);
    }

    /// Nothing stays of the row of a slot.
    fn vacate(&mut self, slot: u16) {
        let row = self.rows[usize::from(slot)];
        if let Ok(entry) = self
            .index
            .find_entry(hash(Row(row)), |other| *other == slot)
        {
            entry.remove();
        }
        for ghost in &mut self.ghosts {
            ghost.forget(slot, &self.sampled);
        }
        self.rows[usize::from(slot)] = VACANT;
        self.relink(slot, false);
    }

    /// The slot of a row, which is given the least recent one that no ghost holds if it has none.
    fn slot_of(&mut self, row: u64, bytes: u32, value: f32) -> u16 {
        self.allocate();
        let same = |slot: &u16| self.rows[usize::from(*slot)] == row;
        if let Some(slot) = self.index.find(hash(Row(row)), same).copied() {
            self.relink(slot, true);
            return slot;
        }
        let slot = if self.rows.len() < SLOTS {
            self.rows.push(VACANT);
            (self.rows.len() - 1) as u16
        } else {
            self.least_recent()
        };
        if self.rows[usize::from(slot)] != VACANT {
            self.vacate(slot);
        }
        let at = usize::from(slot);
        self.rows[at] = row;
        self.sampled.bytes[at] = bytes;
        self.sampled.value[at] = value;
        let rows = &self.rows;
        self.index.insert_unique(hash(Row(row)), slot, |slot| {
            hash(Row(rows[usize::from(*slot)]))
        });
        self.relink(slot, true);
        slot
    }

    fn least_recent(&self) -> u16 {
        let mut slot = self.links[self.sentinel()][1];
        let first = slot;
        for _ in 0..LOOK_AT {
            if usize::from(slot) == self.sentinel() {
                break;
            }
            if !self.ghosts.iter().any(|ghost| ghost.holds(slot)) {
                return slot;
            }
            slot = self.links[usize::from(slot)][1];
        }
        first
    }

    /// Memory is taken when the first row is sampled, all at once: it never grows afterwards.
    fn allocate(&mut self) {
        if !self.ghosts.is_empty() {
            return;
        }
        let pairs = HALF_LIVES
            .iter()
            .flat_map(|half_life| RECENT_SHARES.iter().map(move |share| (*half_life, *share)));
        self.ghosts = pairs
            .map(|(half_life, share)| Ghost::new(half_life, share, SLOTS))
            .collect();
        self.rows = Vec::with_capacity(SLOTS);
        self.sampled.bytes = vec![0; SLOTS];
        self.sampled.value = vec![0.0; SLOTS];
        self.links = (0..=SLOTS).map(|at| [at as u16; 2]).collect();
        // One more would take a table twice as large.
        self.index = HashTable::with_capacity(SLOTS);
    }

    /// RAM once a row was sampled, in bytes; the index takes 5 bytes for each of up to 8/7 as many buckets, a power of two.
    pub(super) const BYTES_MOST: u64 = GRID as u64
        * (size_of::<Ghost>() as u64 + Ghost::bytes(SLOTS))
        + (SLOTS * (8 + 4 + 4) + (SLOTS + 1) * 4 + SLOTS * 2 * 3 + 64) as u64;

    /// RAM now.
    pub(super) fn bytes(&self) -> u64 {
        match self.ghosts.is_empty() {
            true => 0,
            false => {
                let ghosts = GRID as u64 * (size_of::<Ghost>() as u64 + Ghost::bytes(SLOTS));
                let slots = (SLOTS * (8 + 4 + 4) + (SLOTS + 1) * 4) as u64;
                ghosts + slots + self.index.allocation_size() as u64
            }
        }
    }

    pub(super) fn save(&self, out: &mut Vec<u8>) {
        out.push(self.current as u8);
        for value in self.lead.iter().chain(&self.differ) {
            out.extend_from_slice(&value.to_le_bytes());
        }
        for value in [self.since, self.capacity_rows, self.capacity_bytes] {
            out.extend_from_slice(&value.to_le_bytes());
        }
        for value in [self.changes, self.waited, u64::from(self.shift)] {
            out.extend_from_slice(&value.to_le_bytes());
        }
        out.extend_from_slice(&(self.rows.len() as u32).to_le_bytes());
        if self.rows.is_empty() {
            return;
        }
        for (at, row) in self.rows.iter().enumerate() {
            out.extend_from_slice(&row.to_le_bytes());
            out.extend_from_slice(&self.sampled.bytes[at].to_le_bytes());
            out.extend_from_slice(&self.sampled.value[at].to_le_bytes());
        }
        let mut slot = self.links[self.sentinel()][1];
        while usize::from(slot) != self.sentinel() {
            out.extend_from_slice(&slot.to_le_bytes());
            slot = self.links[usize::from(slot)][1];
        }
        for ghost in &self.ghosts {
            ghost.save(self.rows.len(), out);
        }
    }

    /// Takes up what `save` wrote.
    pub(super) fn load(&mut self, input: &mut Input<'_>) -> Result<()> {
        *self = Self::new();
        self.current = usize::from(input.u8()?);
        if self.current >= GRID {
            return Err(wrong(format!("pair {} of {GRID} is chosen", self.current)));
        }
        let mut number = || {
            let value = f64::from_bits(input.u64()?);
            match value.is_finite() {
                true => Ok(value),
                false => Err(wrong(format!("a figure of the trials is {value}"))),
            }
        };
        for value in self.lead.iter_mut().chain(&mut self.differ) {
            *value = number()?;
        }
        for value in [
            &mut self.since,
            &mut self.capacity_rows,
            &mut self.capacity_bytes,
        ] {
            *value = number()?;
        }
        self.changes = input.u64()?;
        self.waited = input.u64()?;
        self.shift = input.u64()?.min(40) as u32;
        let count = input.count(16)?;
        if count > SLOTS {
            return Err(wrong(format!(
                "{count} rows are sampled of {SLOTS} at most"
            )));
        }
        if count == 0 {
            return Ok(());
        }
        self.allocate();
        for at in 0..count {
            let row = input.u64()?;
            self.rows.push(row);
            self.sampled.bytes[at] = input.u32()?;
            self.sampled.value[at] = f32::from_bits(input.u32()?);
            let same = |slot: &u16| self.rows[usize::from(*slot)] == row;
            if row == VACANT {
                continue;
            }
            if self.index.find(hash(Row(row)), same).is_some() || self.sampled.value[at].is_nan() {
                return Err(wrong(format!(
                    "row {row} is sampled twice or worth nothing"
                )));
            }
            let rows = &self.rows;
            self.index.insert_unique(hash(Row(row)), at as u16, |slot| {
                hash(Row(rows[usize::from(*slot)]))
            });
        }
        let mut met = vec![false; count];
        for _ in 0..count {
            let slot = input.u16()?;
            match met.get_mut(usize::from(slot)) {
                Some(met) if !*met => *met = true,
                _ => return Err(wrong(format!("slot {slot} of {count} is ordered wrongly"))),
            }
            self.relink(slot, true);
        }
        for ghost in &mut self.ghosts {
            ghost.load(count, &self.sampled, input)?;
        }
        Ok(())
    }
}

fn is_sampled(row: u64, shift: u32) -> bool {
    hash(Row(row)).leading_zeros() >= shift
}

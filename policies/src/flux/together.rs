//! Rows that are retrieved together: which cold rows are likely to be asked for soon, because they answered searches beside rows that
//! answer one now.
//!
//! The last retrievals are remembered as a ring of mentions, each with the distance to the row's former one. A row of the present search
//! leads to the retrievals that it was in before, [`DEPTH`] of them at most, and these to their other rows:
//!
//! ```text
//! expectation(x) = mean over the rows r of the search of (share of the retrievals looked at for r that hold x)
//! ```
//!
//! It lies between 0 and 1, however many rows a search returns and however often one is retrieved. What is older than the ring is
//! forgotten. The cold rows expected most are wished for, where the expectation exceeds a threshold that is learned: it rises with
//! each wish that left unused, and falls with each that was used. Above 1 nothing is wished for; it sinks slowly, so that a wish is tried
//! again. Wishes are allowed at a rate, and saved up where nothing is worth one: a topic that was asked for long ago comes back as a whole.
//! 16 bytes a mention.

use aether_core::{Result, Row};

use crate::books::{Input, hash};

use super::wrong;

/// Retrievals looked at for one row.
const DEPTH: usize = 12;
/// Rows of one retrieval that are remembered, nearest first.
const WIDTH: usize = 16;
/// Mentions, at least and at most: powers of two.
const MENTIONS_LEAST: usize = 256;
const MENTIONS_MOST: usize = 1 << 16;
/// Mentions for one hot row.
const MENTIONS_A_ROW: u64 = 16;
/// Wishes made from one retrieval, and held until they are asked for.
const WISHES_AT_ONCE: usize = 4;
const WISHES_HELD: usize = 64;
/// Wishes whose outcome is waited for, and retrievals after which no more is waited.
const WATCHED: usize = 64;
const PATIENCE: u64 = 2048;
/// The threshold to begin with, its bounds, and how it answers to a wish that was of no use, to one that was, and to each retrieval: it holds
/// still where one in seventeen is used. Whatever leaves for a wish is the row that was least likely to be used.
const THRESHOLD: f64 = 0.05;
const THRESHOLD_RANGE: (f64, f64) = (0.02, 1.1);
const DEARER: f64 = 1.01;
const CHEAPER: f64 = 0.85;
const CALMER: f64 = 0.9998;
/// Wishes that may be saved up.
const ALLOWANCE_MOST: f64 = 32.0;

/// In `back`: the first of its retrieval.
const FIRST: u32 = 1 << 31;

/// What is learned from retrievals.
#[derive(Debug)]
pub(super) struct Together {
    /// Wishes for each access, at most.
    rate: f64,
    allowance: f64,
    threshold: f64,
    /// The row of each mention, by its number modulo their count, which is a power of two.
    rows: Vec<u64>,
    /// Mentions between each and the row's former one, 0 for none; `FIRST` marks where a retrieval begins.
    back: Vec<u32>,
    /// Number of the last mention of a row by its hash: a later one of another row may take its place.
    last: Vec<u32>,
    /// Mentions so far.
    mentions: u64,
    retrievals: u64,
    wishes: Vec<(u64, f64)>,
    watched: Vec<Watched>,
}

/// A row that was wished for.
#[derive(Clone, Copy, Debug)]
struct Watched {
    row: u64,
    /// The retrieval after which no more is waited for.
    until: u64,
    /// Whether it came into the hot tier.
    came_in: bool,
}

/// The place of a mention whose row is gone.
const VACANT: u64 = u64::MAX;

impl Together {
    /// Nothing is learned at a rate of 0.
    pub(super) fn new(rate: f64) -> Self {
        Self {
            rate,
            allowance: 0.0,
            threshold: THRESHOLD,
            rows: Vec::new(),
            back: Vec::new(),
            last: Vec::new(),
            mentions: 0,
            retrievals: 0,
            wishes: Vec::new(),
            watched: Vec::new(),
        }
    }

    pub(super) fn rate(&self) -> f64 {
        self.rate
    }

    /// A row was used: wishes become allowed.
    pub(super) fn used(&mut self) {
        self.allowance = (self.allowance + self.rate).min(ALLOWANCE_MOST);
    }

    fn place(&self, number: u64) -> usize {
        number as usize & (self.rows.len() - 1)
    }

    /// Whether a mention is still in the ring.
    fn remembers(&self, number: u64) -> bool {
        number < self.mentions && self.mentions - number <= self.rows.len() as u64
    }

    /// The number of a row's last mention.
    fn last_of(&self, row: u64) -> Option<u64> {
        let mask = self.last.len().checked_sub(1)?;
        let low = self.last[hash(Row(row)) as usize & mask];
        // The last number that ends in these bits.
        let number = self.mentions - u64::from((self.mentions as u32).wrapping_sub(low));
        (self.remembers(number) && self.rows[self.place(number)] == row).then_some(number)
    }

    /// A row's mentions, last first.
    fn mentions_of(&self, row: u64) -> impl Iterator<Item = u64> + '_ {
        std::iter::successors(self.last_of(row), move |number| {
            let back = u64::from(self.back[self.place(*number)] & !FIRST);
            let former = number.checked_sub(back).filter(|_| back > 0)?;
            (self.remembers(former) && self.rows[self.place(former)] == row).then_some(former)
        })
    }

    /// The rows of the retrieval that a mention belongs to, as far as they are remembered.
    fn retrieval(&self, number: u64) -> impl Iterator<Item = u64> + '_ {
        let is_first = |n: &u64| self.back[self.place(*n)] & FIRST > 0;
        let down = (0..=number).rev().take_while(|n| self.remembers(*n));
        let first = down.take(WIDTH).find(is_first).unwrap_or(number);
        let rest = (first + 1..self.mentions).take_while(move |n| !is_first(n));
        std::iter::once(first)
            .chain(rest)
            .map(|n| self.rows[self.place(n)])
    }

    /// These rows answered one search, next to `hot` hot ones.
    pub(super) fn heard(&mut self, rows: &[Row], hot: u64, is_hot: impl Fn(Row) -> bool) {
        if self.rate <= 0.0 {
            return;
        }
        let rows = &rows[..rows.len().min(WIDTH)];
        self.retrievals += 1;
        self.learn(rows);
        let mut found = self.expectations(rows);
        found.retain(|(row, expected)| {
            *expected > self.threshold && self.last_of(*row).is_some() && !is_hot(Row(*row))
        });
        found.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        found.truncate(WISHES_AT_ONCE);
        self.wishes.append(&mut found);
        let over = self.wishes.len().saturating_sub(WISHES_HELD);
        self.wishes.drain(..over);
        if !self.knows(rows) {
            self.remember(rows, hot);
        }
    }

    /// Whether one retrieval that is remembered holds all these rows: the ring is for different ones.
    fn knows(&self, rows: &[Row]) -> bool {
        let Some(first) = rows.first() else {
            return true;
        };
        self.mentions_of(first.0).take(DEPTH).any(|number| {
            let held = |row: u64| rows.contains(&Row(row));
            self.retrieval(number).filter(|row| held(*row)).count() == rows.len()
        })
    }

    /// What came of earlier wishes: these rows were used.
    fn learn(&mut self, rows: &[Row]) {
        let mut threshold = self.threshold * CALMER;
        let now = self.retrievals;
        self.watched.retain(|watched| {
            let used = watched.came_in && rows.contains(&Row(watched.row));
            if used {
                threshold *= CHEAPER;
            }
            !used && watched.until >= now
        });
        self.threshold = threshold.max(THRESHOLD_RANGE.0);
    }

    /// A row came into the hot tier; answers whether that was wished for.
    pub(super) fn entered(&mut self, row: Row) -> bool {
        let mut watched = self.watched.iter_mut();
        let awaited = watched.find(|watched| watched.row == row.0 && !watched.came_in);
        awaited.map(|watched| watched.came_in = true).is_some()
    }

    /// A row left the hot tier: if it is one that was wished for, then unused.
    pub(super) fn left(&mut self, row: Row) {
        let wished = |watched: &Watched| watched.row == row.0 && watched.came_in;
        if let Some(at) = self.watched.iter().position(wished) {
            self.watched.remove(at);
            self.threshold = (self.threshold * DEARER).min(THRESHOLD_RANGE.1);
        }
    }

    /// Rows that were retrieved with these before, each with its expectation.
    fn expectations(&self, rows: &[Row]) -> Vec<(u64, f64)> {
        let mut found: Vec<(u64, f64)> = Vec::new();
        for row in rows {
            let looked_at = self.mentions_of(row.0).take(DEPTH).count();
            for number in self.mentions_of(row.0).take(DEPTH) {
                let weight = 1.0 / (looked_at * rows.len()) as f64;
                let others = self
                    .retrieval(number)
                    .filter(|other| *other != VACANT && !rows.contains(&Row(*other)));
                found.extend(others.map(|other| (other, weight)));
            }
        }
        found.sort_unstable_by_key(|(row, _)| *row);
        found.dedup_by(|next, kept| {
            let same = next.0 == kept.0;
            if same {
                kept.1 += next.1;
            }
            same
        });
        found
    }

    fn remember(&mut self, rows: &[Row], hot: u64) {
        for (at, row) in rows.iter().enumerate() {
            if self.mentions >= self.rows.len() as u64 {
                self.grow(hot);
            }
            let back = self.last_of(row.0).map_or(0, |last| self.mentions - last);
            let first = if at == 0 { FIRST } else { 0 };
            let place = self.place(self.mentions);
            self.rows[place] = row.0;
            self.back[place] = back as u32 | first;
            let mask = self.last.len() - 1;
            self.last[hash(*row) as usize & mask] = self.mentions as u32;
            self.mentions += 1;
        }
    }

    /// Makes the ring twice as large, as far as the number of hot rows allows, or smaller when a quarter would do.
    fn grow(&mut self, hot: u64) {
        let (held, most) = (self.rows.len(), mentions_for(hot));
        let wanted = match held {
            0 => MENTIONS_LEAST,
            held if held < most => held * 2,
            held if most * 4 <= held => most,
            _ => return,
        };
        let mut larger = Self {
            rows: vec![VACANT; wanted],
            back: vec![FIRST; wanted],
            last: vec![0; wanted],
            mentions: self.mentions,
            ..Self::new(self.rate)
        };
        let oldest = self.mentions.saturating_sub(held.min(wanted) as u64);
        for number in oldest..self.mentions {
            let (from, to) = (self.place(number), larger.place(number));
            larger.rows[to] = self.rows[from];
            larger.back[to] = self.back[from];
            if self.rows[from] != VACANT {
                let mask = wanted - 1;
                larger.last[hash(Row(self.rows[from])) as usize & mask] = number as u32;
            }
        }
        (self.rows, self.back, self.last) = (larger.rows, larger.back, larger.last);
    }

    /// Rows to wish for, with how likely they are to be used, most likely first.
    pub(super) fn wishes(&mut self, most: usize, is_hot: impl Fn(Row) -> bool) -> Vec<(Row, f64)> {
        let mut wishes = std::mem::take(&mut self.wishes);
        // Of a row that several searches led to, the greatest expectation.
        wishes.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(b.1.total_cmp(&a.1)));
        wishes.dedup_by_key(|(row, _)| *row);
        wishes.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        wishes.retain(|(row, _)| self.last_of(*row).is_some() && !is_hot(Row(*row)));
        wishes.truncate(most.min(self.allowance as usize));
        self.allowance -= wishes.len() as f64;
        for (row, _) in &wishes {
            if self.watched.len() >= WATCHED {
                self.watched.remove(0);
            }
            self.watched.push(Watched {
                row: *row,
                until: self.retrievals + PATIENCE,
                came_in: false,
            });
        }
        let named = wishes
            .into_iter()
            .map(|(row, expected)| (Row(row), expected));
        named.collect()
    }

    /// A row is gone for good: nothing leads to it any more.
    pub(super) fn gone(&mut self, row: Row) {
        if let Some(last) = self.last_of(row.0) {
            let place = self.place(last);
            self.rows[place] = VACANT;
        }
    }

    /// RAM beyond the struct, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        (self.rows.capacity() * 8
            + (self.back.capacity() + self.last.capacity()) * 4
            + self.wishes.capacity() * 16
            + self.watched.capacity() * size_of::<Watched>()) as u64
    }

    /// Upper bound of [`Together::bytes`] at any number of hot rows up to `hot`.
    pub(super) fn bytes_bound(&self, hot: u64) -> u64 {
        if self.rate <= 0.0 {
            return 0;
        }
        let mentions = mentions_for(hot).max(self.rows.len()) as u64;
        let lists = 2 * (WISHES_HELD + WISHES_AT_ONCE + WATCHED) as u64;
        16 * mentions + size_of::<Watched>() as u64 * lists
    }

    pub(super) fn save(&self, out: &mut Vec<u8>) {
        for number in [
            self.allowance.to_bits(),
            self.threshold.to_bits(),
            self.mentions,
            self.retrievals,
        ] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&(self.rows.len() as u32).to_le_bytes());
        for row in &self.rows {
            out.extend_from_slice(&row.to_le_bytes());
        }
        for number in self.back.iter().chain(&self.last) {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&(self.wishes.len() as u32).to_le_bytes());
        for (row, expected) in &self.wishes {
            out.extend_from_slice(&row.to_le_bytes());
            out.extend_from_slice(&expected.to_le_bytes());
        }
        out.extend_from_slice(&(self.watched.len() as u32).to_le_bytes());
        for watched in &self.watched {
            out.extend_from_slice(&watched.row.to_le_bytes());
            out.extend_from_slice(&watched.until.to_le_bytes());
            out.push(u8::from(watched.came_in));
        }
    }

    /// Takes up what `save` wrote.
    pub(super) fn load(&mut self, input: &mut Input<'_>) -> Result<()> {
        *self = Self::new(self.rate);
        let share = |bits: u64, most: f64| match f64::from_bits(bits) {
            value if (0.0..=most).contains(&value) => Ok(value),
            value => Err(wrong(format!("expected 0 to {most}, got {value}"))),
        };
        self.allowance = share(input.u64()?, ALLOWANCE_MOST)?;
        self.threshold = share(input.u64()?, THRESHOLD_RANGE.1)?;
        self.mentions = input.u64()?;
        self.retrievals = input.u64()?;
        let held = input.count(16)?;
        let sound = held == 0 && self.mentions == 0
            || held.is_power_of_two() && (MENTIONS_LEAST..=MENTIONS_MOST).contains(&held);
        if !sound || self.mentions > 1 << 60 || self.retrievals > 1 << 60 {
            return Err(wrong(format!(
                "{} mentions of {} retrievals in a ring of {held}",
                self.mentions, self.retrievals
            )));
        }
        self.rows = (0..held).map(|_| input.u64()).collect::<Result<_>>()?;
        self.back = (0..held).map(|_| input.u32()).collect::<Result<_>>()?;
        self.last = (0..held).map(|_| input.u32()).collect::<Result<_>>()?;
        for _ in 0..input.count(16)? {
            self.wishes.push((input.u64()?, share(input.u64()?, 2.0)?));
        }
        for _ in 0..input.count(17)? {
            self.watched.push(Watched {
                row: input.u64()?,
                until: input.u64()?,
                came_in: input.u8()? > 0,
            });
        }
        if self.wishes.len() > WISHES_HELD || self.watched.len() > WATCHED {
            return Err(wrong("too many wishes".to_owned()));
        }
        Ok(())
    }
}

/// Mentions that are remembered next to so many hot rows.
fn mentions_for(hot: u64) -> usize {
    let mentions = hot.saturating_mul(MENTIONS_A_ROW);
    let mentions = usize::try_from(mentions).unwrap_or(MENTIONS_MOST);
    1 << mentions.clamp(MENTIONS_LEAST, MENTIONS_MOST).ilog2()
}

#[cfg(test)]
mod tests;

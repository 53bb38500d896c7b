//! The policy: who leaves the hot tier, who may enter it, and why.
//!
//! A row's worth is `2^(-age / half_life)`, plus `habit` when it was used at this hour of the day (or the next) within the last week.

use aether_core::role::{
    Context, Event, EvictionPolicy, Explanation, Figure, Item, Tier, Verdict, Want,
};
use aether_core::seal::{seal, unseal};
use aether_core::{Error, Result, Row, Time};

use crate::RhythmConfig;
use crate::books::{Books, PINNED, Record};

/// Parts of a day.
const HOURS: u64 = 24;
/// Habits that were not kept for so many days are none.
const DAYS: u64 = 7;
/// Rows looked at where few are wanted: of 256 random rows the worst is among the worst 2 % with 99.4 %.
const SAMPLE: usize = 256;
/// First bytes of saved books, and the seed of their checksum.
const MAGIC: &[u8; 8] = b"RHYTHM\x00\x01";
const SEED: u64 = 0x7268_7974_686d;

/// The policy `rhythm`.
#[derive(Debug)]
pub struct Rhythm {
    books: Books,
    rng: fastrand::Rng,
    period_us: u64,
    half_life_s: f64,
    habit: f64,
}

/// Why a row is worth what it is.
struct Worth {
    keep: f64,
    age_s: f64,
    recency: f64,
    habit: f64,
}

impl Rhythm {
    /// A policy with empty books.
    pub fn new(config: &RhythmConfig, seed: u64) -> Self {
        Self {
            books: Books::default(),
            rng: fastrand::Rng::with_seed(seed),
            period_us: u64::try_from(config.period.0.as_micros()).unwrap_or(u64::MAX),
            half_life_s: config.half_life.0.as_secs_f64(),
            habit: config.habit,
        }
    }

    /// The bit of the hour of the day.
    fn hour(&self, now: Time) -> u32 {
        let hour =
            (now.0 % self.period_us) as u128 * u128::from(HOURS) / u128::from(self.period_us);
        1 << hour
    }

    fn worth(&self, record: &Record, now: Time) -> Worth {
        let age_us = now.0.saturating_sub(record.used);
        let age_s = now.seconds_since(Time(record.used));
        let recency = (-age_s / self.half_life_s).exp2();
        let this = self.hour(now);
        let next = if this == 1 << (HOURS - 1) {
            1
        } else {
            this << 1
        };
        let kept = record.bits & (this | next) > 0 && age_us / self.period_us < DAYS;
        let habit = if kept { self.habit } else { 0.0 };
        Worth {
            keep: recency + habit,
            age_s,
            recency,
            habit,
        }
    }

    /// A row is used: what is not in the books is taken up as new.
    fn use_row(&mut self, row: Row, bytes: Option<u32>, inherited: u32, now: Time) {
        let hour = self.hour(now);
        if let Some(record) = self.books.get_mut(row) {
            record.used = record.used.max(now.0);
            record.bits |= hour | inherited;
            record.bytes = bytes.unwrap_or(record.bytes);
            return;
        }
        self.books.insert(Record {
            row,
            used: now.0,
            // A row of unknown size counts nothing: rather one victim too many than one too few.
            bytes: bytes.unwrap_or(0),
            bits: hour | inherited,
        });
    }

    /// The row leaves the hot tier; its pin, if it has one, is remembered.
    fn leave(&mut self, row: Row) {
        if let Some(record) = self.books.remove(row)
            && record.pinned()
        {
            self.books.pin_cold(row);
        }
    }

    /// Rows that may go, in random order, until there are `rows` of them with at least `bytes`.
    fn sample(&mut self, rows: usize, bytes: u64) -> Vec<Record> {
        let records = self.books.records();
        let n = records.len();
        let mut found = Vec::new();
        if n == 0 {
            return found;
        }
        // Steps that share no divisor with the number of places meet each place once.
        let divides = |mut a: usize, mut b: usize| {
            while b > 0 {
                (a, b) = (b, a % b);
            }
            a
        };
        let mut step = self.rng.usize(1..=n);
        while divides(step, n) > 1 {
            step = step % n + 1;
        }
        let mut place = self.rng.usize(..n);
        let mut freed = 0u64;
        for _ in 0..n {
            let record = records[place];
            place = (place + step) % n;
            if record.pinned() {
                continue;
            }
            freed = freed.saturating_add(u64::from(record.bytes));
            found.push(record);
            if found.len() >= rows && freed >= bytes {
                break;
            }
        }
        found
    }
}

impl EvictionPolicy for Rhythm {
    fn on_event(&mut self, event: &Event, now: Time) {
        match *event {
            Event::Inserted {
                item,
                tier: Tier::Hot,
            } => self.use_row(item.row, Some(item.bytes), 0, now),
            Event::Replaced { old, item, tier } => {
                // The new version takes over the old one's habits and its pin.
                let mut bits = self.books.remove(old).map_or(0, |r| r.bits);
                if self.books.unpin_cold(old) {
                    bits |= PINNED;
                }
                if tier == Tier::Hot {
                    self.use_row(item.row, Some(item.bytes), bits, now);
                } else if bits & PINNED > 0 {
                    self.books.pin_cold(item.row);
                }
            }
            Event::Accessed { row } => self.use_row(row, None, 0, now),
            Event::Moved {
                item,
                to: Tier::Hot,
            } => {
                self.use_row(item.row, Some(item.bytes), 0, now);
            }
            Event::Moved {
                item,
                to: Tier::Cold,
            } => self.leave(item.row),
            Event::Pinned { row, pinned } => match (self.books.get_mut(row), pinned) {
                (Some(record), true) => record.bits |= PINNED,
                (Some(record), false) => record.bits &= !PINNED,
                (None, true) => self.books.pin_cold(row),
                (None, false) => {
                    self.books.unpin_cold(row);
                }
            },
            Event::Removed { row } => {
                self.books.remove(row);
                self.books.unpin_cold(row);
            }
            // A miss or a judgement says nothing about the time of day; `admit` is asked about a miss anyway. Events may be added.
            _ => {}
        }
    }

    fn victims(&mut self, want: Want, context: &Context) -> Vec<Verdict> {
        // Twice what is wanted, so that there is a choice; all there is only when all is wanted.
        let rows = want.rows.saturating_mul(2).clamp(SAMPLE, SAMPLE * 16);
        let sampled = self.sample(rows, want.bytes.saturating_mul(2));
        let mut verdicts: Vec<(Verdict, u32)> = Vec::with_capacity(sampled.len());
        for record in &sampled {
            let worth = self.worth(record, context.now);
            let reason = if worth.habit > 0.0 {
                "usually used now, but long unused"
            } else {
                "not used at this time of day"
            };
            let verdict = Verdict {
                row: record.row,
                keep: worth.keep,
                certain: false,
                reason,
            };
            verdicts.push((verdict, record.bytes));
        }
        // By row where worth is equal, so that the same books give the same answer.
        verdicts.sort_by(|(a, _), (b, _)| a.keep.total_cmp(&b.keep).then(a.row.cmp(&b.row)));
        let mut freed = 0u64;
        let enough = |(_, bytes): &(Verdict, u32)| {
            let goes_on = want.bytes == 0 || freed < want.bytes;
            freed = freed.saturating_add(u64::from(*bytes));
            goes_on
        };
        verdicts
            .into_iter()
            .take(want.rows)
            .take_while(enough)
            .map(|(v, _)| v)
            .collect()
    }

    fn admit(&mut self, candidate: &Item, _: &Context) -> Verdict {
        // It was used just now, and so at this hour: it is worth what a hot row is at the moment of its use.
        Verdict {
            row: candidate.row,
            keep: 1.0 + self.habit,
            certain: false,
            reason: "just used",
        }
    }

    fn explain(&self, row: Row, context: &Context) -> Explanation {
        let Some(record) = self.books.get(row) else {
            let words = "not in the hot tier, and this policy keeps no history of rows that left"
                .to_owned();
            return Explanation {
                row,
                known: false,
                keep: None,
                figures: Vec::new(),
                words,
            };
        };
        let worth = self.worth(record, context.now);
        let hours = record.bits & (PINNED - 1);
        let figure = |name, value, unit| Figure { name, value, unit };
        let figures = vec![
            figure("age", worth.age_s, "s"),
            figure("recency", worth.recency, ""),
            figure("habit", worth.habit, ""),
            figure("hours", f64::from(hours.count_ones()), "of 24"),
        ];
        let then = if record.pinned() {
            "pinned, so it stays"
        } else {
            "leaves when room is needed and rows of less worth are gone"
        };
        let habit = if worth.habit > 0.0 { "" } else { "not " };
        let words = format!(
            "used {:.0} s ago, {habit}usually used at this time of day; {then}",
            worth.age_s
        );
        Explanation {
            row,
            known: true,
            keep: Some(worth.keep),
            figures,
            words,
        }
    }

    fn len(&self) -> usize {
        self.books.records().len()
    }

    fn bytes(&self) -> u64 {
        self.books.bytes()
    }

    fn bytes_after(&self, additional: usize) -> u64 {
        self.books.bytes_after(additional)
    }

    fn save(&self, out: &mut Vec<u8>) {
        let from = out.len();
        let pins = self.books.cold_pins();
        out.extend_from_slice(MAGIC);
        // The generator's state goes along: books that were saved and loaded draw the same samples.
        out.extend_from_slice(&self.rng.get_seed().to_le_bytes());
        out.extend_from_slice(&(pins.len() as u32).to_le_bytes());
        pins.iter()
            .for_each(|row| out.extend_from_slice(&row.0.to_le_bytes()));
        for r in self.books.records() {
            out.extend_from_slice(&r.row.0.to_le_bytes());
            out.extend_from_slice(&r.used.to_le_bytes());
            out.extend_from_slice(&r.bytes.to_le_bytes());
            out.extend_from_slice(&r.bits.to_le_bytes());
        }
        seal(out, from, SEED);
    }

    fn load(&mut self, bytes: &[u8]) -> Result<()> {
        self.books = Books::default();
        let bad =
            || Error::corrupt("books of rhythm: expected what this policy saved, got other bytes");
        let body = unseal(bytes, SEED, "books of rhythm")?;
        let body = body.strip_prefix(MAGIC).ok_or_else(bad)?;
        let (rng, body) = body.split_first_chunk::<8>().ok_or_else(bad)?;
        let (count, body) = body.split_first_chunk::<4>().ok_or_else(bad)?;
        let pins = (u32::from_le_bytes(*count) as usize)
            .checked_mul(8)
            .ok_or_else(bad)?;
        let (pins, records) = body.split_at_checked(pins).ok_or_else(bad)?;
        let (records, rest) = records.as_chunks::<24>();
        if !rest.is_empty() {
            return Err(bad());
        }
        let mut books = Books::default();
        for pin in pins.as_chunks::<8>().0 {
            books.pin_cold(Row(u64::from_le_bytes(*pin)));
        }
        for record in records {
            let word = |at: usize| {
                record[at..]
                    .first_chunk()
                    .copied()
                    .map(u64::from_le_bytes)
                    .ok_or_else(bad)
            };
            let half = |at: usize| {
                record[at..]
                    .first_chunk()
                    .copied()
                    .map(u32::from_le_bytes)
                    .ok_or_else(bad)
            };
            let record = Record {
                row: Row(word(0)?),
                used: word(8)?,
                bytes: half(16)?,
                bits: half(20)?,
            };
            if books.get(record.row).is_some() {
                return Err(bad());
            }
            books.insert(record);
        }
        self.books = books;
        self.rng = fastrand::Rng::with_seed(u64::from_le_bytes(*rng));
        Ok(())
    }
}

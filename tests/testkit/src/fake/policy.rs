//! Fakes of the policy role: one that is right and plain, and many that are wrong in one way each.
//!
//! [`REFERENCE`] keeps a sorted array and looks at every row, which the contract forbids for speed alone: good enough for a
//! test's thousand rows. [`BROKEN`] lists the wrong ones with the check that must catch each. None is registered: add one
//! to a [`Registry`](aether_core::Registry) by hand.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use aether_core::config::RawConfig;
use aether_core::role::{
    Context, Event, EvictionPolicy, Explanation, Figure, Item, Tier, Verdict, Want,
};
use aether_core::seal::{seal, unseal};
use aether_core::{BuildContext, Error, Factory, OptionSpec, Plugin, Result, Row, Time};
use serde::Deserialize;

mod faults;

pub use faults::{BROKEN, Broken, Fault};

const OPTIONS: &[OptionSpec] = &[OptionSpec {
    name: "scale",
    default: "1.0",
    unit: "per second",
    help: "Factor between a row's last use and its keep-value.",
}];

const fn plugin(options: &'static [OptionSpec], persistent: bool, factory: Factory) -> Plugin {
    Plugin {
        name: "fake",
        crate_name: env!("CARGO_PKG_NAME"),
        summary: "Moves out what was not used for longest, after looking at every row.",
        options,
        persistent,
        factory,
    }
}

/// A right policy: least recently used, by looking at every row.
pub static REFERENCE: Plugin = plugin(
    OPTIONS,
    false,
    Factory::Policy(|raw, context| build(raw, context, Fault::None)),
);

/// Counted across instances, as no policy may.
static ELSEWHERE: AtomicU64 = AtomicU64::new(0);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FakeConfig {
    scale: f64,
}

impl Default for FakeConfig {
    fn default() -> Self {
        Self { scale: 1.0 }
    }
}

fn build(
    raw: &RawConfig,
    _context: &BuildContext,
    fault: Fault,
) -> Result<Box<dyn EvictionPolicy>> {
    let FakeConfig { scale } = raw.parse()?;
    if !(scale.is_finite() && scale > 0.0) {
        return Err(raw.error("scale", format!("expected more than 0, got {scale}")));
    }
    Ok(Box::new(Fake {
        scale,
        fault,
        hot: Vec::new(),
        pins: BTreeSet::new(),
        all: BTreeSet::new(),
        wished: Vec::new(),
        turn: 0,
        asked: AtomicU64::new(0),
    }))
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    row: Row,
    used: Time,
    turn: u64,
    bytes: u32,
    restore_us: f32,
}

const ENTRY_BYTES: usize = 32;

#[derive(Debug)]
struct Fake {
    scale: f64,
    fault: Fault,
    /// Sorted by row.
    hot: Vec<Entry>,
    /// Pinned rows, hot or cold.
    pins: BTreeSet<Row>,
    /// Every row ever heard of; only the fault that remembers them puts any in.
    all: BTreeSet<Row>,
    /// Cold rows of the last retrieval; only the faults that wish wish for them.
    wished: Vec<Row>,
    /// Uses so far: their order where time stands still.
    turn: u64,
    asked: AtomicU64,
}

impl Fake {
    fn is(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    fn find(&self, row: Row) -> Option<usize> {
        self.hot.binary_search_by_key(&row, |e| e.row).ok()
    }

    fn use_now(&mut self, row: Row, now: Time) {
        self.turn += 1;
        if let Some(at) = self.find(row) {
            self.hot[at].used = now;
            self.hot[at].turn = self.turn;
        }
    }

    fn enter(&mut self, item: &Item, now: Time) {
        match self.hot.binary_search_by_key(&item.row, |e| e.row) {
            Ok(at) => {
                self.hot[at].bytes = item.bytes;
                self.hot[at].restore_us = item.restore_us;
            }
            Err(at) => {
                if self.hot.len() == self.hot.capacity() {
                    self.hot.reserve_exact(256);
                }
                self.turn += 1;
                let entry = Entry {
                    row: item.row,
                    used: now,
                    turn: self.turn,
                    bytes: item.bytes,
                    restore_us: item.restore_us,
                };
                self.hot.insert(at, entry);
            }
        }
    }

    fn place(&mut self, item: &Item, tier: Tier, now: Time) {
        if self.is(Fault::RemembersEverything) {
            self.all.insert(item.row);
        }
        match (tier, self.find(item.row)) {
            (Tier::Hot, _) => self.enter(item, now),
            (Tier::Cold, Some(_)) if self.is(Fault::ProposesCold) => {}
            (Tier::Cold, Some(at)) => {
                self.hot.remove(at);
                if self.is(Fault::ForgetsPinsInTheCold) {
                    self.pins.remove(&item.row);
                }
            }
            (Tier::Cold, None) => {}
        }
    }

    fn wish(&self, row: Row) -> Verdict {
        Verdict {
            row,
            keep: 0.0,
            certain: true,
            reason: "used together with others",
        }
    }

    fn keep(&self, entry: &Entry, now: Time) -> f64 {
        let seconds = entry.used.0 as f64 * 1e-6 * self.scale;
        match self.fault {
            Fault::KeepsForEver if entry.used == now => f64::INFINITY,
            Fault::StumblesOverOddFigures if entry.restore_us.is_nan() => f64::NAN,
            Fault::StumblesOverTime if now.seconds_since(entry.used) > 1.5e8 => f64::NAN,
            Fault::DrawsFromElsewhere => {
                seconds + ELSEWHERE.fetch_add(1, Ordering::Relaxed) as f64 * 1e-3
            }
            Fault::ChangesWhenAsked => seconds + self.asked.load(Ordering::Relaxed) as f64,
            _ => seconds,
        }
    }

    fn read(&mut self, mut bytes: &[u8]) -> Option<()> {
        let mut number = |len: usize| {
            let (head, rest) = bytes.split_at_checked(len)?;
            bytes = rest;
            Some(head.iter().rev().fold(0_u64, |n, b| n << 8 | u64::from(*b)))
        };
        self.turn = number(8)?;
        let pins = number(8)?;
        for _ in 0..pins {
            self.pins.insert(Row(number(8)?));
        }
        while let Some(row) = number(8) {
            let entry = Entry {
                row: Row(row),
                used: Time(number(8)?),
                turn: number(8)?,
                bytes: number(4)? as u32,
                restore_us: f32::from_bits(number(4)? as u32),
            };
            self.hot.retain(|e| e.row != entry.row);
            self.hot.push(entry);
        }
        self.hot.sort_by_key(|e| e.row);
        Some(())
    }

    fn clear(&mut self) {
        self.hot = Vec::new();
        self.pins.clear();
    }
}

impl EvictionPolicy for Fake {
    fn on_event(&mut self, event: &Event, now: Time) {
        if let Event::Removed { row } | Event::Replaced { old: row, .. } = *event {
            self.wished.retain(|wished| *wished != row);
        }
        if let Event::Moved { item, .. } = event {
            self.wished.retain(|wished| *wished != item.row);
        }
        match *event {
            Event::Inserted { ref item, tier } => self.place(item, tier, now),
            Event::Moved { ref item, to } => self.place(item, to, now),
            Event::Replaced {
                old,
                ref item,
                tier,
            } => {
                if let Some(at) = self.find(old) {
                    self.hot.remove(at);
                }
                if self.pins.remove(&old) {
                    self.pins.insert(item.row);
                }
                self.place(item, tier, now);
                let forgets = self.is(Fault::LosesHistory);
                self.use_now(item.row, if forgets { Time(0) } else { now });
            }
            Event::Accessed { row } => {
                let item = Item {
                    row,
                    bytes: 0,
                    restore_us: 0.0,
                };
                if self.find(row).is_none() && !self.is(Fault::IgnoresUnknown) {
                    self.enter(&item, now);
                }
                self.use_now(row, now);
            }
            Event::Missed { ref item } if self.is(Fault::TakesUpWhatIsCold) => {
                self.enter(item, now);
            }
            Event::Pinned { row, pinned: true } => {
                self.pins.insert(row);
            }
            Event::Pinned { row, pinned: false } => {
                self.pins.remove(&row);
            }
            Event::Removed { row } if !self.is(Fault::KeepsRemoved) => {
                self.pins.remove(&row);
                if let Some(at) = self.find(row) {
                    self.hot.remove(at);
                }
            }
            _ => {}
        }
    }

    fn on_together(&mut self, rows: &[Row], _now: Time) {
        let cold = rows.iter().copied().filter(|row| self.find(*row).is_none());
        self.wished = cold.collect();
    }

    fn wishes(&mut self, rows: usize, _context: &Context) -> Vec<Verdict> {
        let wished: Vec<Row> = match self.fault {
            Fault::WishesForWhatIsHot => self.hot.iter().map(|e| e.row).collect(),
            Fault::WishesAgain => self.wished.clone(),
            Fault::WishesUnasked => std::mem::take(&mut self.wished),
            _ => Vec::new(),
        };
        wished
            .into_iter()
            .take(rows)
            .map(|row| self.wish(row))
            .collect()
    }

    fn victims(&mut self, want: Want, context: &Context) -> Vec<Verdict> {
        let pinned = |e: &&Entry| self.pins.contains(&e.row) && !self.is(Fault::ProposesPinned);
        let sample = if self.is(Fault::LooksOnce) {
            1_000
        } else {
            usize::MAX
        };
        let mut order: Vec<&Entry> = self
            .hot
            .iter()
            .filter(|e| !pinned(e))
            .take(sample)
            .collect();
        match self.fault {
            Fault::DoesNotSort => {}
            Fault::EvictsTheMostValuable => order.sort_by_key(|e| std::cmp::Reverse(e.turn)),
            _ => order.sort_by_key(|e| (e.used, e.turn)),
        }
        let rows = match self.fault {
            Fault::ProposesTooMany if want.bytes > 0 => usize::MAX,
            Fault::ProposesTooFew => want.rows.min(3),
            Fault::KeepsTheLast if order.len() == 1 => 0,
            _ => want.rows,
        };
        let (mut verdicts, mut bytes) = (Vec::new(), 0);
        for entry in order.into_iter().take(rows) {
            verdicts.push(Verdict {
                row: entry.row,
                keep: self.keep(entry, context.now),
                certain: false,
                reason: "least recently used",
            });
            bytes += u64::from(entry.bytes);
            if want.bytes > 0 && bytes >= want.bytes {
                break;
            }
        }
        if self.is(Fault::ProposesTwice) && verdicts.len() < rows {
            verdicts.extend(verdicts.first().cloned());
        }
        if self.is(Fault::TakesProposalsForMoves) {
            self.hot.retain(|e| verdicts.iter().all(|v| v.row != e.row));
        }
        verdicts
    }

    fn admit(&mut self, candidate: &Item, context: &Context) -> Verdict {
        let scale = match self.fault {
            Fault::AdmitsInAnotherScale => -1.0,
            _ => self.scale,
        };
        let row = match self.fault {
            Fault::AdmitsAnotherRow => Row(0),
            _ => candidate.row,
        };
        Verdict {
            row,
            keep: context.now.0 as f64 * 1e-6 * scale,
            certain: true,
            reason: "just used",
        }
    }

    fn explain(&self, row: Row, context: &Context) -> Explanation {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let Some(at) = self.find(row) else {
            return Explanation {
                row,
                known: self.is(Fault::KnowsEveryone),
                keep: None,
                figures: Vec::new(),
                words: "not hot".to_owned(),
            };
        };
        let keep = self.keep(&self.hot[at], context.now);
        let other = self.is(Fault::ExplainsAnotherValue);
        let wrong = self.is(Fault::ExplainsWrongParts);
        let part = Figure {
            name: "recency_part",
            value: if wrong { keep / 2.0 - 1.0 } else { keep },
            unit: Figure::PART,
        };
        Explanation {
            row,
            known: true,
            keep: Some(if other { keep + 1.0 } else { keep }),
            figures: if self.is(Fault::ExplainsNothing) {
                Vec::new()
            } else {
                vec![part]
            },
            words: format!("used last at {}", self.hot[at].used),
        }
    }

    fn len(&self) -> usize {
        let pinned = |e: &Entry| self.is(Fault::CountsWrong) && self.pins.contains(&e.row);
        self.hot.iter().filter(|e| !pinned(e)).count()
    }

    fn bytes(&self) -> u64 {
        let each = match self.fault {
            Fault::TakesTooMuch => 100,
            Fault::ClaimsNoMemory => return 0,
            _ => size_of::<Entry>(),
        };
        // A tree's node of rows is at most half empty.
        (self.hot.capacity() * each + (self.pins.len() + self.all.len()) * 24) as u64
    }

    fn bytes_after(&self, additional: usize) -> u64 {
        if self.is(Fault::ForecastsTooLittle) {
            return self.bytes();
        }
        // Pins come one at a time and rarely; a thousand of them are allowed for.
        let rows = (self.hot.capacity() as u64).saturating_add(additional as u64);
        rows.saturating_add(256)
            .saturating_mul(size_of::<Entry>() as u64)
            .saturating_add((1_000 + self.pins.len() + self.all.len()) as u64 * 24)
    }

    fn save(&self, out: &mut Vec<u8>) {
        if self.is(Fault::OverwritesWhenSaving) {
            out.clear();
        }
        let from = out.len();
        let forgets = self.is(Fault::ForgetsWhenSaved);
        let pins = if forgets {
            &BTreeSet::new()
        } else {
            &self.pins
        };
        out.extend_from_slice(&self.turn.to_le_bytes());
        out.extend_from_slice(&(pins.len() as u64).to_le_bytes());
        pins.iter()
            .for_each(|pin| out.extend_from_slice(&pin.0.to_le_bytes()));
        for entry in &self.hot {
            for number in [entry.row.0, entry.used.0, entry.turn] {
                out.extend_from_slice(&number.to_le_bytes());
            }
            out.extend_from_slice(&entry.bytes.to_le_bytes());
            out.extend_from_slice(&entry.restore_us.to_bits().to_le_bytes());
        }
        if !self.is(Fault::TrustsBytes) {
            seal(out, from, 0);
        }
    }

    fn load(&mut self, bytes: &[u8]) -> Result<()> {
        if self.is(Fault::PanicsOnDamage) {
            assert!(bytes.len() > ENTRY_BYTES, "too few bytes");
        }
        let inner = match self.fault {
            Fault::TrustsBytes => Ok(bytes),
            _ => unseal(bytes, 0, "fake books"),
        };
        if inner.is_ok() && !self.is(Fault::AddsWhenLoading) {
            self.clear();
        }
        let read = inner.and_then(|inner| match self.read(inner) {
            Some(()) => Ok(()),
            None => Err(Error::corrupt("fake books: they end early")),
        });
        read.map_err(|e| {
            if !self.is(Fault::KeepsBooksAfterDamage) {
                self.clear();
            }
            if self.is(Fault::MistakesDamage) {
                return Error::internal(e.message());
            }
            e
        })
    }
}

#[cfg(test)]
mod tests;

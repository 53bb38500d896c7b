//! What all policies have in common: how events change the books, what is saved, and what damage is.

use aether_core::role::{Context, Event, EvictionPolicy, Explanation, Item, Tier, Verdict, Want};
use aether_core::seal::{checksum, seal, unseal};
use aether_core::{Result, Role, Row, Time};

use super::packed::Input;
use super::rules::{Rules, Standing};
use super::saved::wrong;
use super::{Books, History, Slots};

/// Begins every saved state.
const MAGIC: [u8; 8] = *b"AETHPOL3";

/// A policy: [`Rules`] over shared books.
#[derive(Debug)]
pub(crate) struct Policy<R: Rules> {
    pub(crate) rules: R,
    books: Books<R::Hot>,
    history: History<R::Past>,
    /// The latest time heard of: time never goes backwards in here.
    now: Time,
}

impl<R: Rules> Policy<R> {
    /// Empty books. `share`: rows remembered for each hot row.
    pub(crate) fn new(rules: R, share: f64) -> Self {
        Self {
            rules,
            books: Books::shaped(R::shape()),
            history: History::new(share),
            now: Time::default(),
        }
    }

    /// A row is hot: takes it up if it is not in the books. Returns its slot and whether it is new there.
    fn enter(&mut self, item: &Item) -> Option<(u32, bool)> {
        if let Some(slot) = self.books.find(item.row) {
            return Some((slot, false));
        }
        let past = self.rules.take_back(item.row);
        let past = past.or(self.history.remove(item.row));
        let figures = self.rules.enter(item.restore_us, past, self.now);
        let slot = self.books.insert(item.row, item.bytes, figures)?;
        if !self.books.pinned(slot) {
            self.rules.link(&mut self.books, slot, self.now);
        }
        self.history.fit(self.books.len());
        self.rules.fit(self.books.len());
        Some((slot, true))
    }

    fn hot(&mut self, item: &Item) {
        if let Some((slot, false)) = self.enter(item) {
            self.books.set_weight(slot, item.bytes);
            let figures = self.rules.update(self.books.figures(slot), item.restore_us);
            self.books.set_figures(slot, figures);
            if !self.books.pinned(slot) {
                self.rules.changed(&mut self.books, slot, self.now);
            }
        }
    }

    fn accessed(&mut self, row: Row) {
        let found = self.books.find(row);
        let bytes = found.map_or(0, |slot| self.books.weight(slot));
        self.rules.seen(&mut self.books, row, bytes);
        if let Some(slot) = found {
            return self.rules.touch(&mut self.books, slot, self.now);
        }
        let item = Item {
            row,
            bytes: 0,
            restore_us: 0.0,
        };
        let known = self.past(row).is_some();
        // A row without a past enters with one use: this one.
        if let (Some((slot, _)), true) = (self.enter(&item), known) {
            self.rules.touch(&mut self.books, slot, self.now);
        }
    }

    /// A row is not hot any more.
    fn cold(&mut self, row: Row) {
        if let Some(slot) = self.books.find(row) {
            if self.books.pinned(slot) {
                self.books.remember(row);
            } else {
                self.rules.unlink(self.books.figures(slot));
            }
            let (list, bytes) = (self.books.list_of(slot), self.books.weight(slot));
            let figures = self.books.remove(slot);
            self.history.fit(self.books.len());
            self.rules.fit(self.books.len());
            self.history.put(row, self.rules.leave(figures));
            let books = &mut self.books;
            self.rules.departed(books, row, bytes, figures, list);
        }
    }

    fn removed(&mut self, row: Row) {
        self.rules.gone(row);
        if let Some(slot) = self.books.find(row) {
            if !self.books.pinned(slot) {
                self.rules.unlink(self.books.figures(slot));
            }
            self.books.remove(slot);
            self.history.fit(self.books.len());
            self.rules.fit(self.books.len());
        }
        self.history.remove(row);
        self.rules.forget(row);
        self.books.unremember(row);
    }

    fn replaced(&mut self, old: Row, item: &Item, tier: Tier) {
        if old != item.row {
            self.rules.gone(old);
            // Rows are never used twice, so that only a repeated event finds the new one known already.
            if self.books.find(item.row).is_some() {
                self.removed(old);
                return self.placed(item, tier);
            }
            if let Some(past) = self.history.remove(old) {
                self.history.put(item.row, past);
            }
            self.rules.rename(old, item.row);
            let (of_old, of_new) = (self.books.unremember(old), self.books.unremember(item.row));
            if of_old || of_new {
                self.books.remember(item.row);
            }
            if let Some(slot) = self.books.find(old) {
                self.books.rename(slot, item.row);
                if self.books.unremember(item.row) {
                    self.pin(slot, true);
                }
            }
        }
        self.placed(item, tier);
        if let (Tier::Hot, Some(slot)) = (tier, self.books.find(item.row)) {
            self.rules.renew(&mut self.books, slot, self.now);
        }
    }

    fn placed(&mut self, item: &Item, tier: Tier) {
        match tier {
            Tier::Hot => self.hot(item),
            Tier::Cold => self.cold(item.row),
        }
    }

    fn pin(&mut self, slot: u32, pinned: bool) {
        if self.books.pinned(slot) != pinned {
            if pinned {
                self.rules.unlink(self.books.figures(slot));
            }
            let slot = self.books.set_pinned(slot, pinned);
            if !pinned {
                self.rules.link(&mut self.books, slot, self.now);
            }
        }
    }

    fn judge(&mut self, row: Row, reward: f32) {
        if reward.is_nan() {
            return;
        }
        let reward = reward.clamp(0.0, 1.0);
        if let Some(slot) = self.books.find(row) {
            let figures = self.rules.judge(self.books.figures(slot), reward, self.now);
            self.books.set_figures(slot, figures);
            if !self.books.pinned(slot) {
                self.rules.changed(&mut self.books, slot, self.now);
            }
        } else {
            let past = self.history.get(row);
            if let Some(past) = self.rules.judge_past(past, reward, self.now) {
                self.history.put(row, past);
            }
        }
    }

    fn past(&self, row: Row) -> Option<R::Past> {
        self.rules.recall(row).or(self.history.get(row))
    }

    fn at(&self, context: &Context) -> Context {
        Context {
            now: context.now.max(self.now),
            ..*context
        }
    }

    fn clear(&mut self) {
        self.books.clear();
        self.history.clear();
        self.rules.clear();
        self.now = Time::default();
    }

    /// Reads all that `save` wrote between magic and checksum.
    fn read(&mut self, input: &mut Input<'_>) -> Result<()> {
        self.now = Time(input.u64()?);
        self.books.load_saved(input)?;
        self.history.load(input, self.books.len())?;
        self.rules.load(input)?;
        if !input.0.is_empty() {
            return Err(wrong(format!("{} bytes too many", input.0.len())));
        }
        Ok(())
    }
}

impl<R: Rules> EvictionPolicy for Policy<R> {
    fn on_event(&mut self, event: &Event, now: Time) {
        self.now = self.now.max(now);
        // After a row left, one comes in or another leaves; everything else wants rows in slots without a gap.
        if !matches!(event, Event::Moved { .. }) {
            self.books.settle();
        }
        match *event {
            Event::Inserted { ref item, tier } => {
                if tier == Tier::Hot {
                    self.rules.seen(&mut self.books, item.row, item.bytes);
                }
                self.placed(item, tier);
            }
            Event::Replaced {
                old,
                ref item,
                tier,
            } => self.replaced(old, item, tier),
            Event::Accessed { row } => self.accessed(row),
            // A search that began before a promotion may tell of its miss afterwards: a use all the same.
            Event::Missed { ref item } => {
                self.rules.seen(&mut self.books, item.row, item.bytes);
                match self.books.find(item.row) {
                    Some(slot) => self.rules.touch(&mut self.books, slot, self.now),
                    None => {
                        self.rules.missed(&mut self.books, item, self.now);
                        let past = self.history.get(item.row);
                        let past = self.rules.miss(&mut self.books, past, self.now);
                        self.history.put(item.row, past);
                    }
                }
            }
            Event::Feedback { row, reward } => self.judge(row, reward),
            Event::Pinned { row, pinned } => match self.books.find(row) {
                Some(slot) => self.pin(slot, pinned),
                None if pinned => self.books.remember(row),
                None => {
                    self.books.unremember(row);
                }
            },
            Event::Removed { row } => self.removed(row),
            Event::Moved { ref item, to } => self.placed(item, to),
            // Events of a later version of the contract.
            _ => {}
        }
    }

    fn prefetch(&self, rows: &[Row]) {
        let missing = self.books.prefetch(rows, R::MOVES_ON_USE);
        let missing = missing.as_slice();
        // Where the tier is full, a row leaves for each that comes in.
        if !missing.is_empty() {
            self.history.prefetch(missing);
            self.rules.prefetch(missing);
            let mut leaving = Slots::default();
            (self.rules).upcoming(&self.books, missing.len(), &mut leaving);
            let leaving = self.books.prefetch_slots(leaving.as_slice());
            self.history.prefetch(leaving.as_slice());
            (self.rules).prefetch_leaving(leaving.as_slice(), missing.len());
        }
    }

    fn on_together(&mut self, rows: &[Row], now: Time) {
        self.now = self.now.max(now);
        self.books.settle();
        self.rules.together(&self.books, rows);
    }

    fn wishes(&mut self, rows: usize, context: &Context) -> Vec<Verdict> {
        self.books.settle();
        let context = self.at(context);
        let wishes = self.rules.wishes(&self.books, rows, &context);
        let verdicts = wishes.into_iter().map(|(verdict, uses)| {
            let past = self.rules.expect(self.history.get(verdict.row), uses);
            if let Some(past) = past {
                self.history.put(verdict.row, past);
            }
            verdict
        });
        verdicts.collect()
    }

    fn victims(&mut self, want: Want, context: &Context) -> Vec<Verdict> {
        self.books.settle();
        let rows = want.rows.min(self.books.free() as usize);
        if rows == 0 {
            return Vec::new();
        }
        let (want, context) = (Want { rows, ..want }, self.at(context));
        if want.bytes > 0 {
            self.rules.prepare(&mut self.books, want, &context);
        }
        self.rules.victims(&self.books, want, &context)
    }

    fn victim(&mut self, bytes: u64, context: &Context) -> Option<Verdict> {
        self.books.settle();
        if self.books.free() == 0 {
            return None;
        }
        let (want, context) = (Want { rows: 1, bytes }, self.at(context));
        if bytes > 0 {
            self.rules.prepare(&mut self.books, want, &context);
        }
        self.rules.victim(&self.books, want, &context)
    }

    fn admit(&mut self, candidate: &Item, context: &Context) -> Verdict {
        self.books.settle();
        let past = match self.books.find(candidate.row) {
            Some(slot) => Some(self.rules.leave(self.books.figures(slot))),
            None => self.past(candidate.row),
        };
        let context = self.at(context);
        self.rules.admit(&self.books, candidate, past, &context)
    }

    fn explain(&self, row: Row, context: &Context) -> Explanation {
        let context = self.at(context);
        let told = match self.books.find(row) {
            Some(slot) => Some(self.rules.explain_hot(&self.books, slot, &context)),
            None => {
                let past = self.past(row).map(Standing::Past);
                past.map(|past| self.rules.explain(&self.books, past, &context))
            }
        };
        let Some((keep, figures, words)) = told else {
            let pinned = self.books.remembered(row);
            return Explanation {
                row,
                known: false,
                keep: None,
                figures: Vec::new(),
                words: if pinned {
                    "not in the hot tier, but pinned: it stays once it is promoted".to_owned()
                } else {
                    "not in the hot tier, and not remembered: its next use begins its record"
                        .to_owned()
                },
            };
        };
        Explanation {
            row,
            known: true,
            keep: Some(keep),
            figures,
            words,
        }
    }

    fn len(&self) -> usize {
        self.books.len()
    }

    fn bytes(&self) -> u64 {
        size_of::<Self>() as u64 + self.books.bytes() + self.history.bytes() + self.rules.bytes()
    }

    fn bytes_after(&self, additional: usize) -> u64 {
        let rows = (self.books.len() as u64).saturating_add(additional as u64);
        (size_of::<Self>() as u64)
            .saturating_add(self.books.bytes_bound(rows))
            .saturating_add(self.history.bytes_bound(rows))
            .saturating_add(self.rules.bytes_bound(rows))
    }

    fn save(&self, out: &mut Vec<u8>) {
        let from = out.len();
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&self.now.0.to_le_bytes());
        self.books.save(out);
        self.history.save(out);
        self.rules.save(out);
        seal(out, from, checksum(R::NAME.as_bytes(), 0));
    }

    fn load(&mut self, bytes: &[u8]) -> Result<()> {
        self.clear();
        let sealed = unseal(bytes, checksum(R::NAME.as_bytes(), 0), "policy books");
        let read = sealed.and_then(|inner| {
            let mut input = Input(inner);
            if input.take(MAGIC.len())? != MAGIC {
                return Err(wrong("they do not begin with AETHPOL3".to_owned()));
            }
            self.read(&mut input)
        });
        read.map_err(|e| {
            self.clear();
            e.at(Role::Policy, R::NAME, "load")
        })
    }
}

#[cfg(test)]
mod tests;

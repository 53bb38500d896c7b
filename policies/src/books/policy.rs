//! What all policies have in common: how events change the books, what is saved, and what damage is.

use aether_core::role::{
    Context, Event, EvictionPolicy, Explanation, Figure, Item, Tier, Verdict, Want,
};
use aether_core::seal::{checksum, seal, unseal};
use aether_core::{Error, Result, Role, Row, Time};

use super::packed::{Input, Packed};
use super::{Books, History};

/// Begins every saved state.
const MAGIC: [u8; 8] = *b"AETHPOL1";

/// Where a policy sees a row, and with what figures.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Standing<H, P> {
    /// In the hot tier; pinned or not.
    Hot { figures: H, pinned: bool },
    /// Remembered, not hot.
    Past(P),
}

/// What makes one policy different from another: its figures, where they put a row in its lists, and the choice of
/// victims. [`Policy`] does the rest: it calls these with rows whose place is settled, and never links a pinned one.
pub(crate) trait Rules: std::fmt::Debug + Send + 'static {
    /// The plug-in's name; marks its saved state.
    const NAME: &'static str;
    /// Lists that it keeps. With any, every row that is not pinned must be in one.
    const LISTS: u32;
    /// Rows that its history may hold however few are hot.
    const HISTORY_LEAST: u64 = 64;
    /// Figures of a hot row.
    type Hot: Packed;
    /// What is remembered of a row that is not hot; `()` with a history of share 0.
    type Past: Packed;

    /// A row was used or came to be: told before anything else about it. `bytes` is 0 where they are not known.
    fn seen(&mut self, _books: &mut Books<Self::Hot>, _row: Row, _bytes: u32) {}

    /// A row is gone for good.
    fn gone(&mut self, _row: Row) {}

    /// Figures or weight of a hot row changed without a use; it is in a list.
    fn changed(&mut self, _books: &mut Books<Self::Hot>, _slot: u32, _now: Time) {}

    /// A row that is in a list is about to be taken out of it: it leaves the hot tier or is pinned.
    fn unlink(&mut self, _figures: Self::Hot) {}

    /// Figures of a row that becomes hot, with what was remembered of it. Entering renews recency.
    fn enter(&mut self, restore_us: f32, past: Option<Self::Past>, now: Time) -> Self::Hot;

    /// Figures of a hot row about which the engine told again what it would cost to restore.
    fn update(&mut self, figures: Self::Hot, _restore_us: f32) -> Self::Hot {
        figures
    }

    /// Takes note of a use; the row may be pinned.
    fn touch(&mut self, books: &mut Books<Self::Hot>, slot: u32, now: Time);

    /// Takes note that a new version took the row's place: recency is renewed, frequency is not.
    fn renew(&mut self, books: &mut Books<Self::Hot>, slot: u32, now: Time);

    /// Puts a row that just became hot, or was unpinned, in its list.
    fn link(&mut self, books: &mut Books<Self::Hot>, slot: u32, now: Time);

    /// What to remember of a hot row that leaves.
    fn leave(&self, figures: Self::Hot) -> Self::Past;

    /// A cold row was used: what to remember of it now.
    fn miss(
        &mut self,
        books: &mut Books<Self::Hot>,
        past: Option<Self::Past>,
        now: Time,
    ) -> Self::Past;

    /// A hot row was judged.
    fn judge(&mut self, figures: Self::Hot, _reward: f32, _now: Time) -> Self::Hot {
        figures
    }

    /// A row that is not hot was judged; `None` remembers nothing new.
    fn judge_past(
        &mut self,
        past: Option<Self::Past>,
        _reward: f32,
        _now: Time,
    ) -> Option<Self::Past> {
        past
    }

    /// The rows to leave first. `want.rows` is 1 to the number of rows that are not pinned.
    fn victims(&mut self, books: &Books<Self::Hot>, want: Want, context: &Context) -> Vec<Verdict>;

    /// What a row would be worth that was just used.
    fn admit(
        &mut self,
        books: &Books<Self::Hot>,
        item: &Item,
        past: Option<Self::Past>,
        context: &Context,
    ) -> Verdict;

    /// Keep-value, figures and words for a row.
    fn explain(
        &self,
        books: &Books<Self::Hot>,
        standing: Standing<Self::Hot, Self::Past>,
        context: &Context,
    ) -> (f64, Vec<Figure>, String);

    /// The same for a hot row, where the weight of its slot matters too.
    fn explain_hot(
        &self,
        books: &Books<Self::Hot>,
        slot: u32,
        context: &Context,
    ) -> (f64, Vec<Figure>, String) {
        let standing = Standing::Hot {
            figures: books.figures(slot),
            pinned: books.pinned(slot),
        };
        self.explain(books, standing, context)
    }

    /// Appends state beyond the books.
    fn save(&self, _out: &mut Vec<u8>) {}

    /// Takes up what `save` appended.
    fn load(&mut self, _input: &mut Input<'_>) -> Result<()> {
        Ok(())
    }

    /// Goes back to the state after building.
    fn clear(&mut self) {}

    /// RAM beyond the books.
    fn bytes(&self) -> u64 {
        0
    }

    /// The most that [`Rules::bytes`] can become; constant.
    fn bytes_most(&self) -> u64 {
        self.bytes()
    }
}

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
            books: Books::new(R::LISTS),
            history: History::new(share, R::HISTORY_LEAST),
            now: Time::default(),
        }
    }

    /// A row is hot: takes it up if it is not in the books. Returns its slot and whether it is new there.
    fn enter(&mut self, item: &Item) -> Option<(u32, bool)> {
        if let Some(slot) = self.books.find(item.row) {
            return Some((slot, false));
        }
        let past = self.history.remove(item.row);
        let figures = self.rules.enter(item.restore_us, past, self.now);
        let slot = self.books.insert(item.row, item.bytes, figures)?;
        if !self.books.pinned(slot) {
            self.rules.link(&mut self.books, slot, self.now);
        }
        self.history.fit(self.books.len());
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
        let known = self.history.get(row).is_some();
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
            let figures = self.books.remove(slot);
            self.history.fit(self.books.len());
            self.history.put(row, self.rules.leave(figures));
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
        }
        self.history.remove(row);
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
        let rows = input.count(12 + R::Hot::BYTES)?;
        for _ in 0..rows {
            let (row, weight) = (Row(input.u64()?), input.u32()?);
            let figures = R::Hot::take(input)?;
            if self.books.restore(row, weight, figures).is_none() {
                return Err(wrong(format!(
                    "row {row} stands twice or behind a pinned one"
                )));
            }
        }
        self.read_lists(input)?;
        for _ in 0..input.count(8)? {
            self.books.remember(Row(input.u64()?));
        }
        self.history.load(input, rows)?;
        self.rules.load(input)?;
        if !input.0.is_empty() {
            return Err(wrong(format!("{} bytes too many", input.0.len())));
        }
        Ok(())
    }

    fn read_lists(&mut self, input: &mut Input<'_>) -> Result<()> {
        let mut linked = 0;
        for list in 0..R::LISTS {
            for _ in 0..input.count(4)? {
                let slot = input.u32()?;
                if slot >= self.books.free() || self.books.linked(slot) {
                    return Err(wrong(format!(
                        "slot {slot} is pinned, absent or listed twice"
                    )));
                }
                self.books.push_back(list, slot);
                linked += 1;
            }
        }
        if R::LISTS > 0 && linked != self.books.free() {
            let free = self.books.free();
            return Err(wrong(format!("{linked} of {free} rows are listed")));
        }
        Ok(())
    }
}

fn wrong(what: String) -> Error {
    Error::corrupt(format!(
        "policy books: {what}: expected what `save` wrote; delete the saved books to begin with empty ones"
    ))
}

impl<R: Rules> EvictionPolicy for Policy<R> {
    fn on_event(&mut self, event: &Event, now: Time) {
        self.now = self.now.max(now);
        match *event {
            Event::Inserted { ref item, tier } => {
                self.rules.seen(&mut self.books, item.row, item.bytes);
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

    fn victims(&mut self, want: Want, context: &Context) -> Vec<Verdict> {
        let rows = want.rows.min(self.books.free() as usize);
        if rows == 0 {
            return Vec::new();
        }
        let context = self.at(context);
        self.rules
            .victims(&self.books, Want { rows, ..want }, &context)
    }

    fn admit(&mut self, candidate: &Item, context: &Context) -> Verdict {
        let past = match self.books.find(candidate.row) {
            Some(slot) => Some(self.rules.leave(self.books.figures(slot))),
            None => self.history.get(candidate.row),
        };
        let context = self.at(context);
        self.rules.admit(&self.books, candidate, past, &context)
    }

    fn explain(&self, row: Row, context: &Context) -> Explanation {
        let context = self.at(context);
        let explained = match self.books.find(row) {
            Some(slot) => Some(self.rules.explain_hot(&self.books, slot, &context)),
            None => self.history.get(row).map(|past| {
                let standing = Standing::Past(past);
                self.rules.explain(&self.books, standing, &context)
            }),
        };
        let Some((keep, figures, words)) = explained else {
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
            .saturating_add(self.rules.bytes_most())
    }

    fn save(&self, out: &mut Vec<u8>) {
        let from = out.len();
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&self.now.0.to_le_bytes());
        let books = &self.books;
        out.extend_from_slice(&(books.len() as u32).to_le_bytes());
        for slot in 0..books.len() as u32 {
            let pin = if books.pinned(slot) { super::PINNED } else { 0 };
            out.extend_from_slice(&books.row(slot).0.to_le_bytes());
            out.extend_from_slice(&(books.weight(slot) | pin).to_le_bytes());
            books.figures(slot).put(out);
        }
        for list in 0..R::LISTS {
            let at = out.len();
            out.extend_from_slice(&[0; 4]);
            let mut count = 0_u32;
            for slot in books.list(list) {
                out.extend_from_slice(&slot.to_le_bytes());
                count += 1;
            }
            out[at..at + 4].copy_from_slice(&count.to_le_bytes());
        }
        out.extend_from_slice(&(books.pins.len() as u32).to_le_bytes());
        for pin in &books.pins {
            out.extend_from_slice(&pin.to_le_bytes());
        }
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
                return Err(wrong("they do not begin with AETHPOL1".to_owned()));
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

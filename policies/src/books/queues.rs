//! Policies made of queues: each row is in one, its place there follows from its uses, and a rule says which row leaves next.
//!
//! Most policies of the literature decide while they evict: they move rows between queues, clear marks, advance a hand. Here a
//! proposal must be possible without an eviction. So the row that the rule names is moved to a queue of its own, the **doomed**,
//! whose order is the order of proposals; when it leaves, it does so as if from its former queue, and when it is used first, it goes
//! back to that queue's end and the use counts there. A replay, in which every proposal is followed, sees the policy exactly.
//! A single row that the rule would name again stays where it is ([`Queues::NAMES_AGAIN`]).

use aether_core::role::{Context, Figure, Item, Verdict, Want};
use aether_core::{Result, Row, Time};

use super::shelf::{Mark, Queues, Shelf, WORD_BITS, WORD_MAX};
use super::{Books, Ghosts, Input, Rules, Shape, Slots, Standing, part, words_of};

/// A policy of queues as [`Rules`].
#[derive(Debug)]
pub(crate) struct Queued<Q: Queues> {
    queues: Q,
    ghosts: Ghosts<Q::Ghost>,
    capacity: u64,
    /// The ghost that is about to be placed.
    arriving: Option<(Row, (u32, Q::Ghost))>,
    /// The row to propose, where it need not be put aside.
    named: Option<u32>,
}

/// Keep-values of one class lie within so much of one another: more than ln(1 + s) of any age.
const CLASS: f64 = 64.0;

impl<Q: Queues> Queued<Q> {
    /// Empty queues; `share`: ghosts for each hot row at most.
    pub(crate) fn new(queues: Q, share: f64) -> Self {
        Self {
            queues,
            ghosts: Ghosts::new(Q::GHOSTS, share),
            capacity: 0,
            arriving: None,
            named: None,
        }
    }

    fn with<T>(
        &mut self,
        books: &mut Books<Mark>,
        now: Time,
        act: impl FnOnce(&mut Q, &mut Shelf<'_, Q::Ghost>) -> T,
    ) -> T {
        let now = self.queues.tick(now);
        let mut shelf = Shelf {
            books,
            ghosts: &mut self.ghosts,
            capacity: self.capacity,
            now,
        };
        act(&mut self.queues, &mut shelf)
    }

    fn learn(&mut self, context: &Context) {
        self.capacity = match context.budget_bytes {
            0 => context.hot_bytes,
            budget => budget,
        };
    }

    /// A doomed row goes back to the end of its queue. Mostly no row is doomed, and then a row's list need not be looked up.
    fn spare(books: &mut Books<Mark>, slot: u32) {
        if books.load(Q::QUEUES).rows > 0 && books.list_of(slot) == Some(Q::QUEUES) {
            let mark = books.figures(slot);
            let queue = u32::from(mark.word >> WORD_BITS);
            let word = mark.word & WORD_MAX;
            books.set_figures(slot, Mark { word, ..mark });
            books.push_back(queue.min(Q::QUEUES - 1), slot);
        }
    }

    fn age(&self, books: &Books<Mark>, slot: u32, now: Time) -> f64 {
        let now = self.queues.tick(now);
        books.figures(slot).placed.age_s(now.time())
    }

    /// A row's place in the order in which rows leave, roughly: the doomed first, the pinned last.
    fn class_of(&self, books: &Books<Mark>, slot: u32) -> f64 {
        let word = books.figures(slot).word & WORD_MAX;
        match books.list_of(slot) {
            Some(queue) if queue < Q::QUEUES => f64::from(self.queues.class(queue, word)),
            Some(_) => -1.0,
            None => f64::from(Q::QUEUES),
        }
    }

    fn keep(&self, books: &Books<Mark>, slot: u32, now: Time) -> f64 {
        self.class_of(books, slot) * CLASS - self.age(books, slot, now).ln_1p()
    }

    fn reason(&self, books: &Books<Mark>, slot: u32) -> &'static str {
        let word = books.figures(slot).word;
        match books.list_of(slot) {
            Some(queue) if queue < Q::QUEUES => self.queues.words(queue, word & WORD_MAX),
            Some(_) => {
                let queue = u32::from(word >> WORD_BITS).min(Q::QUEUES - 1);
                self.queues.words(queue, word & WORD_MAX)
            }
            None => "pinned",
        }
    }

    fn verdict(&self, books: &Books<Mark>, slot: u32, now: Time) -> Verdict {
        Verdict {
            row: books.row(slot),
            keep: self.keep(books, slot, now),
            certain: false,
            reason: self.reason(books, slot),
        }
    }
}

impl<Q: Queues> Rules for Queued<Q> {
    const NAME: &'static str = Q::NAME;
    const LISTS: u32 = Q::QUEUES + 1;
    const MOVES_ON_USE: bool = Q::MOVES_ON_USE;
    type Hot = Mark;
    type Past = (u32, Q::Ghost);

    fn shape() -> Shape {
        Shape {
            lists: Self::LISTS,
            counted: true,
            second: Q::SECOND,
            ..Shape::default()
        }
    }

    fn prefetch(&self, rows: &[Row]) {
        self.queues.prefetch(rows);
        if Q::GHOSTS > 0 {
            self.ghosts.prefetch(rows);
        }
    }

    fn prefetch_leaving(&self, rows: &[Row], leaving: usize) {
        self.prefetch(rows);
        if Q::GHOSTS > 0 {
            self.ghosts.prefetch_oldest(leaving);
        }
    }

    fn upcoming(&self, books: &Books<Mark>, rows: usize, slots: &mut Slots) {
        // Most policies look at the fronts of one queue or two, and pass some rows on before one leaves.
        for queue in 0..Q::QUEUES.min(2) {
            books.fronts(queue, rows, slots);
        }
    }

    fn enter(&mut self, _restore_us: f32, _past: Option<Self::Past>, now: Time) -> Mark {
        Mark {
            placed: self.queues.tick(now),
            word: 0,
        }
    }

    fn touch(&mut self, books: &mut Books<Mark>, slot: u32, now: Time) {
        self.queues.counted(books.row(slot));
        Self::spare(books, slot);
        if !books.pinned(slot) {
            self.with(books, now, |queues, shelf| queues.used(shelf, slot));
        }
    }

    fn renew(&mut self, books: &mut Books<Mark>, slot: u32, now: Time) {
        Self::spare(books, slot);
        if let Some(queue) = books.list_of(slot) {
            self.with(books, now, |queues, shelf| {
                queues.renewed(shelf, slot, queue);
            });
        }
    }

    /// An unpinned row enters as if it were new.
    fn link(&mut self, books: &mut Books<Mark>, slot: u32, now: Time) {
        let row = books.row(slot);
        let arriving = self.arriving.take().filter(|(known, _)| *known == row);
        let ghost = arriving.map(|(_, ghost)| ghost);
        self.with(books, now, |queues, shelf| {
            queues.enter(shelf, slot, ghost);
        });
    }

    fn leave(&self, _figures: Mark) -> Self::Past {
        Self::Past::default()
    }

    fn miss(
        &mut self,
        _books: &mut Books<Mark>,
        past: Option<Self::Past>,
        _now: Time,
    ) -> Self::Past {
        past.unwrap_or_default()
    }

    fn missed(&mut self, books: &mut Books<Mark>, item: &Item, now: Time) {
        self.queues.counted(item.row);
        let ghost = match Q::GHOSTS {
            0 => None,
            _ => self.ghosts.missed(item.row),
        };
        self.with(books, now, |queues, shelf| {
            queues.missed(shelf, item, ghost);
        });
    }

    fn departed(
        &mut self,
        books: &mut Books<Mark>,
        row: Row,
        bytes: u32,
        figures: Mark,
        list: Option<u32>,
    ) {
        let queue = match list {
            // A pinned row that leaves is in no queue: what would be remembered of it is not known.
            None => return,
            Some(queue) if queue < Q::QUEUES => queue,
            Some(_) => u32::from(figures.word >> WORD_BITS).min(Q::QUEUES - 1),
        };
        let word = figures.word & WORD_MAX;
        self.with(books, figures.placed.time(), |queues, shelf| {
            queues.left(shelf, row, bytes, word, queue);
        });
    }

    fn recall(&self, row: Row) -> Option<Self::Past> {
        match Q::GHOSTS {
            0 => self.queues.recall(row),
            _ => self.ghosts.get(row),
        }
    }

    fn take_back(&mut self, row: Row) -> Option<Self::Past> {
        if Q::GHOSTS == 0 {
            return None;
        }
        let ghost = self.ghosts.remove(row);
        self.arriving = ghost.map(|ghost| (row, ghost));
        ghost
    }

    fn forget(&mut self, row: Row) {
        self.queues.forget(row);
        if Q::GHOSTS > 0 {
            self.ghosts.remove(row);
        }
    }

    fn rename(&mut self, old: Row, new: Row) {
        self.queues.rename(old, new);
        if Q::GHOSTS > 0 {
            self.ghosts.rename(old, new);
        }
    }

    fn fit(&mut self, hot: usize) {
        self.queues.fit(hot);
        if Q::GHOSTS > 0 {
            self.ghosts.fit(hot);
        }
    }

    fn prepare(&mut self, books: &mut Books<Mark>, want: Want, context: &Context) {
        self.learn(context);
        let doomed = books.load(Q::QUEUES);
        let (mut rows, mut bytes) = (doomed.rows, doomed.bytes);
        if Q::NAMES_AGAIN && want.rows == 1 && rows == 0 {
            self.named = self.with(books, context.now, Q::next);
            return;
        }
        while rows < want.rows as u64 && bytes < want.bytes {
            let next = self.with(books, context.now, |queues, shelf| {
                let slot = queues.next(shelf)?;
                let queue = shelf.queue_of(slot)?;
                let word = shelf.word(slot);
                shelf.place(Q::QUEUES, slot, word);
                let mark = shelf.books.figures(slot);
                let word = word | (queue as u16) << WORD_BITS;
                shelf.books.set_figures(slot, Mark { word, ..mark });
                shelf.books.unlink_second(slot);
                Some(())
            });
            if next.is_none() {
                break;
            }
            let doomed = books.load(Q::QUEUES);
            (rows, bytes) = (doomed.rows, doomed.bytes);
        }
    }

    fn victims(&mut self, books: &Books<Mark>, want: Want, context: &Context) -> Vec<Verdict> {
        if let Some(slot) = self.named.take() {
            return vec![self.verdict(books, slot, context.now)];
        }
        let verdict = |slot| self.verdict(books, slot, context.now);
        if want.bytes > 0 {
            return books.take_in_order(books.list(Q::QUEUES), want, context, verdict);
        }
        self.learn(context);
        let verdict = |slot| self.verdict(books, slot, context.now);
        let queues = (0..Q::QUEUES).flat_map(|queue| books.list(queue));
        let order = books.list(Q::QUEUES).chain(queues);
        let mut sample: Vec<Verdict> = order.take(want.rows).map(verdict).collect();
        sample.sort_by(|a, b| a.keep.total_cmp(&b.keep));
        sample
    }

    fn victim(&mut self, books: &Books<Mark>, want: Want, context: &Context) -> Option<Verdict> {
        if let Some(slot) = self.named.take() {
            return Some(self.verdict(books, slot, context.now));
        }
        match want.bytes {
            0 => self.victims(books, want, context).into_iter().next(),
            _ => Some(self.verdict(books, books.front(Q::QUEUES)?, context.now)),
        }
    }

    fn admit(
        &mut self,
        _books: &Books<Mark>,
        item: &Item,
        past: Option<Self::Past>,
        context: &Context,
    ) -> Verdict {
        self.learn(context);
        if !self.queues.admits(item.bytes, self.capacity) {
            return Verdict {
                row: item.row,
                keep: -1e3 * CLASS,
                certain: false,
                reason: "too large for the queue that new rows enter",
            };
        }
        Verdict {
            row: item.row,
            keep: f64::from(Q::QUEUES) * CLASS,
            certain: true,
            reason: match past {
                Some(_) => "used again, and remembered",
                None => "just used",
            },
        }
    }

    fn explain(
        &self,
        _books: &Books<Mark>,
        standing: Standing<Mark, Self::Past>,
        _context: &Context,
    ) -> (f64, Vec<Figure>, String) {
        let ghost = match standing {
            Standing::Past(ghost) => ghost,
            Standing::Hot { .. } => Self::Past::default(),
        };
        let queue = self.queues.door(Some(ghost));
        let figure = Figure {
            name: "ghost_queue",
            value: f64::from(ghost.0),
            unit: "number",
        };
        let words = format!(
            "left the hot tier and is remembered; if it returns: {}",
            self.queues.words(queue, 0)
        );
        let keep = f64::from(self.queues.class(queue, 0)) * CLASS;
        (keep, vec![figure], words)
    }

    fn explain_hot(
        &self,
        books: &Books<Mark>,
        slot: u32,
        context: &Context,
    ) -> (f64, Vec<Figure>, String) {
        let age = self.age(books, slot, context.now);
        let since = match self.queues.unit() {
            "s" => words_of(age),
            unit => format!("{age:.0} {unit}"),
        };
        let then = match books.pinned(slot) {
            true => "pinned, so it stays",
            false => self.reason(books, slot),
        };
        let figure = |name, value, unit| Figure { name, value, unit };
        let word = f64::from(books.figures(slot).word & WORD_MAX);
        let figures = vec![
            figure("age", age, self.queues.unit()),
            figure("mark", word, "as the policy keeps it"),
            part("queue_part", self.class_of(books, slot) * CLASS),
            part("recency_part", -age.ln_1p()),
        ];
        let words = format!("put where it is {since} ago; {then}");
        (self.keep(books, slot, context.now), figures, words)
    }

    fn save(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.capacity.to_le_bytes());
        self.ghosts.save(out);
        self.queues.save(out);
    }

    fn load(&mut self, input: &mut Input<'_>) -> Result<()> {
        self.capacity = input.u64()?;
        self.ghosts.load_saved(input)?;
        self.queues.load(input)
    }

    fn clear(&mut self) {
        self.ghosts.clear();
        self.capacity = 0;
        self.arriving = None;
        self.queues.clear();
    }

    fn bytes(&self) -> u64 {
        self.ghosts.bytes() + self.queues.bytes()
    }

    fn bytes_bound(&self, hot: u64) -> u64 {
        let queues = self.queues.bytes_bound(hot);
        self.ghosts.bytes_bound(hot).saturating_add(queues)
    }
}

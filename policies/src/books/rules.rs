//! What makes one policy different from another.

use aether_core::role::{Context, Figure, Item, Verdict, Want};
use aether_core::{Result, Row, Time};

use super::packed::{Input, Packed};
use super::{Books, Shape, Slots};

/// Where a policy sees a row, and with what figures.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Standing<H, P> {
    /// In the hot tier; pinned or not.
    Hot { figures: H, pinned: bool },
    /// Remembered, not hot.
    Past(P),
}

/// What makes one policy different from another: its figures, where they put a row in its lists, and the choice of
/// victims. [`Policy`](super::Policy) does the rest: it calls these with rows whose place is settled, and never links a pinned one.
pub(crate) trait Rules: std::fmt::Debug + Send + 'static {
    /// The plug-in's name; marks its saved state.
    const NAME: &'static str;
    /// Lists that it keeps. With any, every row that is not pinned must be in one.
    const LISTS: u32;
    /// Whether a use gives a row another place in the lists: then its neighbours there are worth a look beforehand.
    const MOVES_ON_USE: bool = true;
    /// Figures of a hot row.
    type Hot: Packed;
    /// What is remembered of a row that is not hot; `()` with a history of share 0.
    type Past: Packed;

    /// How rows are ordered.
    fn shape() -> Shape {
        Shape {
            lists: Self::LISTS,
            ..Shape::default()
        }
    }

    /// A row was used or came to be hot: told before anything else about it. `bytes` is 0 where they are not known.
    fn seen(&mut self, _books: &mut Books<Self::Hot>, _row: Row, _bytes: u32) {}

    /// A row is gone for good.
    fn gone(&mut self, _row: Row) {}

    /// Touches what is kept beside the books of rows that are not hot.
    fn prefetch(&self, _rows: &[Row]) {}

    /// The same of rows of which so many will probably leave, and of what is forgotten for them.
    fn prefetch_leaving(&self, rows: &[Row], _leaving: usize) {
        self.prefetch(rows);
    }

    /// Slots that will probably be looked at for the next so many rows to leave. Only a hint where to look in time.
    fn upcoming(&self, books: &Books<Self::Hot>, rows: usize, slots: &mut Slots) {
        slots.extend(books.list(0).take(rows));
    }

    /// Figures or weight of a hot row changed without a use; it is in a list.
    fn changed(&mut self, _books: &mut Books<Self::Hot>, _slot: u32, _now: Time) {}

    /// A row that is in a list is about to be taken out of it: it leaves the hot tier or is pinned.
    fn unlink(&mut self, _figures: Self::Hot) {}

    /// These rows, hot and cold, answered one search.
    fn together(&mut self, _books: &Books<Self::Hot>, _rows: &[Row]) {}

    /// Rows wished for although nobody asked for them just now, each with the number of uses that is expected of it.
    fn wishes(
        &mut self,
        _books: &Books<Self::Hot>,
        _rows: usize,
        _context: &Context,
    ) -> Vec<(Verdict, f64)> {
        Vec::new()
    }

    /// What to remember of a row that so many uses are expected of.
    fn expect(&self, past: Option<Self::Past>, _uses: f64) -> Option<Self::Past> {
        past
    }

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

    /// A cold row was used, before anything else is asked about it: the place to look it up in a memory of one's own.
    fn missed(&mut self, _books: &mut Books<Self::Hot>, _item: &Item, _now: Time) {}

    /// A row left the hot tier, and was in that list: the place to write it into a memory of one's own. Its weight in bytes.
    fn departed(
        &mut self,
        _books: &mut Books<Self::Hot>,
        _row: Row,
        _bytes: u32,
        _figures: Self::Hot,
        _list: Option<u32>,
    ) {
    }

    /// What a memory of one's own holds of a row that is not hot.
    fn recall(&self, _row: Row) -> Option<Self::Past> {
        None
    }

    /// The same for a row that enters, which is forgotten thereby.
    fn take_back(&mut self, _row: Row) -> Option<Self::Past> {
        None
    }

    /// Forgets a row that is not hot.
    fn forget(&mut self, _row: Row) {}

    /// A new version takes over what is remembered of the former one.
    fn rename(&mut self, _old: Row, _new: Row) {}

    /// Follows the number of hot rows.
    fn fit(&mut self, _hot: usize) {}

    /// Before [`Rules::victims`] under pressure: the place to put rows in the order in which they are to leave. A proposal all
    /// the same: what is put in order may stay.
    fn prepare(&mut self, _books: &mut Books<Self::Hot>, _want: Want, _context: &Context) {}

    /// The first of [`Rules::victims`], where it can be found without a list.
    fn victim(
        &mut self,
        books: &Books<Self::Hot>,
        want: Want,
        context: &Context,
    ) -> Option<Verdict> {
        self.victims(books, want, context).into_iter().next()
    }

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

    /// The same for a hot row by its slot.
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

    /// Upper bound of [`Rules::bytes`] at any number of hot rows up to `hot`.
    fn bytes_bound(&self, _hot: u64) -> u64 {
        self.bytes()
    }
}

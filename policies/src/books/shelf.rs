//! What a policy of queues has to say, and what it works on.

use aether_core::role::Item;
use aether_core::{Result, Row, Time};

use super::{Books, Ghosts, Input, Packed, Stamp};

/// Figures of a row in a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    /// When it was put at its queue's end, on the policy's clock.
    pub(super) placed: Stamp,
    /// The policy's own 12 bits, and above them the former queue of a doomed row.
    pub(super) word: u16,
}

/// Bits of the policy's own.
pub(super) const WORD_BITS: u32 = 12;
/// Largest value of the policy's own.
pub(crate) const WORD_MAX: u16 = (1 << WORD_BITS) - 1;

impl Packed for Mark {
    const BYTES: usize = 8;

    fn put(self, out: &mut Vec<u8>) {
        self.placed.put(out);
        self.word.put(out);
    }

    fn take(input: &mut Input<'_>) -> Result<Self> {
        Ok(Self {
            placed: Stamp::take(input)?,
            word: input.u16()?,
        })
    }
}

/// What a policy of queues works on.
pub(crate) struct Shelf<'a, G> {
    pub(super) books: &'a mut Books<Mark>,
    /// Rows that left.
    pub(crate) ghosts: &'a mut Ghosts<G>,
    /// Bytes of the hot tier; 0 until it is known.
    pub(crate) capacity: u64,
    pub(super) now: Stamp,
}

impl<G: Packed> Shelf<'_, G> {
    /// Puts a row at a queue's end, with the policy's own figure.
    pub(crate) fn place(&mut self, queue: u32, slot: u32, word: u16) {
        let placed = self.now;
        let word = word.min(WORD_MAX);
        self.books.set_figures(slot, Mark { placed, word });
        self.books.push_back(queue, slot);
    }

    /// Puts a row at a queue's end, but leaves the time when it was placed.
    pub(crate) fn shift(&mut self, queue: u32, slot: u32) {
        self.books.push_back(queue, slot);
    }

    /// Puts a row at the end of a list of the second order.
    pub(crate) fn rank(&mut self, list: u32, slot: u32) {
        self.books.push_second(list, slot);
    }

    /// The first and the last of a list of the second order.
    pub(crate) fn ranked(&self, list: u32) -> Option<(u32, u32)> {
        self.books.second_ends(list)
    }

    pub(crate) fn row(&self, slot: u32) -> Row {
        self.books.row(slot)
    }

    pub(crate) fn weight(&self, slot: u32) -> u32 {
        self.books.weight(slot).max(1)
    }

    /// The policy's own figure.
    pub(crate) fn word(&self, slot: u32) -> u16 {
        self.books.figures(slot).word & WORD_MAX
    }

    pub(crate) fn set_word(&mut self, slot: u32, word: u16) {
        let mark = self.books.figures(slot);
        let word = word.min(WORD_MAX) | mark.word & !WORD_MAX;
        self.books.set_figures(slot, Mark { word, ..mark });
    }

    /// When the row was put where it is.
    pub(crate) fn placed(&self, slot: u32) -> Stamp {
        self.books.figures(slot).placed
    }

    /// Sets the clock on, for a policy that counts uses while it handles one.
    pub(crate) fn set_now(&mut self, now: Stamp) {
        self.now = now;
    }

    pub(crate) fn queue_of(&self, slot: u32) -> Option<u32> {
        self.books.list_of(slot)
    }

    pub(crate) fn front(&self, queue: u32) -> Option<u32> {
        self.books.front(queue)
    }

    /// Bytes of a queue's rows.
    pub(crate) fn bytes(&self, queue: u32) -> u64 {
        self.books.load(queue).bytes
    }

    /// Rows in a queue.
    pub(crate) fn rows(&self, queue: u32) -> u64 {
        self.books.load(queue).rows
    }
}

/// What makes one policy of queues different from another.
pub(crate) trait Queues: std::fmt::Debug + Send + 'static {
    /// The plug-in's name.
    const NAME: &'static str;
    /// Queues of hot rows, at most 15.
    const QUEUES: u32;
    /// Queues of ghosts.
    const GHOSTS: u32;
    /// Whether a use gives a row another place in the queues.
    const MOVES_ON_USE: bool = true;
    /// Whether [`Queues::next`], asked again, names the same row until something else happens: then a single row that is named need not be put
    /// aside as doomed.
    const NAMES_AGAIN: bool = false;
    /// Lists of a second order, in which rows may be beside their queues until they are doomed.
    const SECOND: u32 = 0;
    /// What is remembered of a ghost.
    type Ghost: Packed;

    /// A row became hot: places it. With its queue of ghosts and what that remembered, if it was one.
    fn enter(
        &mut self,
        shelf: &mut Shelf<'_, Self::Ghost>,
        slot: u32,
        ghost: Option<(u32, Self::Ghost)>,
    );

    /// A row in a queue was used.
    fn used(&mut self, shelf: &mut Shelf<'_, Self::Ghost>, slot: u32);

    /// A new version took the place of a row in a queue: recency is renewed, frequency is not.
    fn renewed(&mut self, shelf: &mut Shelf<'_, Self::Ghost>, slot: u32, queue: u32) {
        let word = shelf.word(slot);
        shelf.place(queue, slot, word);
    }

    /// The row that leaves next, of those in the policy's queues; moves rows as it must. `None` only when all are empty.
    fn next(&mut self, shelf: &mut Shelf<'_, Self::Ghost>) -> Option<u32>;

    /// A cold row was used.
    fn missed(
        &mut self,
        _shelf: &mut Shelf<'_, Self::Ghost>,
        _item: &Item,
        _ghost: Option<(u32, Self::Ghost)>,
    ) {
    }

    /// A row left the hot tier from a queue, with the policy's own figure.
    fn left(
        &mut self,
        _shelf: &mut Shelf<'_, Self::Ghost>,
        _row: Row,
        _bytes: u32,
        _word: u16,
        _queue: u32,
    ) {
    }

    /// Whether a row of so many bytes may come in.
    fn admits(&self, _bytes: u32, _capacity: u64) -> bool {
        true
    }

    /// The queue that a row would enter.
    fn door(&self, _ghost: Option<(u32, Self::Ghost)>) -> u32 {
        0
    }

    /// The order in which rows leave, roughly, from 0: rows of a higher class after those of a lower.
    fn class(&self, queue: u32, _word: u16) -> u32 {
        queue
    }

    /// Where a row stands, in a few words.
    fn words(&self, queue: u32, word: u16) -> &'static str;

    /// The policy's clock; a second is a unit of what it counts.
    fn tick(&self, now: Time) -> Stamp {
        Stamp::of(now)
    }

    /// What the clock counts: "s" or "uses".
    fn unit(&self) -> &'static str {
        "s"
    }

    fn save(&self, _out: &mut Vec<u8>) {}

    fn load(&mut self, _input: &mut Input<'_>) -> Result<()> {
        Ok(())
    }

    fn clear(&mut self) {}

    /// RAM beyond books and ghosts.
    fn bytes(&self) -> u64 {
        0
    }

    /// Upper bound of [`Queues::bytes`] at any number of hot rows up to `hot`.
    fn bytes_bound(&self, _hot: u64) -> u64 {
        self.bytes()
    }

    /// Follows the number of hot rows.
    fn fit(&mut self, _hot: usize) {}

    /// What a memory beside the ghosts holds of a row that is not hot, as the queue and figures of a ghost.
    fn recall(&self, _row: Row) -> Option<(u32, Self::Ghost)> {
        None
    }

    /// That memory forgets a row.
    fn forget(&mut self, _row: Row) {}

    /// In that memory a new version takes over what is known of the former one.
    fn rename(&mut self, _old: Row, _new: Row) {}

    /// Touches what that memory holds of these rows.
    fn prefetch(&self, _rows: &[Row]) {}

    /// A row, hot or cold, was used; comes before everything else about it.
    fn counted(&mut self, _row: Row) {}
}

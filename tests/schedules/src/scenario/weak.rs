//! The epochs of `hot-hnsw` and the cells that its searches read without a lock under loom: every interleaving, and what weak memory may show.

use loom::sync::Arc;
use loom::thread;

use crate::loomed::cells::{Base, Chain, Entry, Linked, Links, NONE, Tag, Used};
use crate::loomed::epoch::Pins;
use crate::loomed::sync::{AtomicU32, AtomicU64, Ordering::Relaxed};

const OLD: u64 = 1;
const NEW: u64 = 2;

/// Readers that find a row while a writer takes it out and writes over its place. Only the epochs order anything: all else is relaxed, as far
/// as memory allows. A planted mistake: the writer does not ask who still looks.
pub fn a_place_is_not_written_over_under_a_reader(readers: usize, planted: bool) {
    let pins = Arc::new(Pins::new());
    let linked = Arc::new(AtomicU64::new(1));
    let place = Arc::new(AtomicU64::new(OLD));
    let threads: Vec<_> = (0..readers)
        .map(|_| {
            let (pins, linked, place) = (pins.clone(), linked.clone(), place.clone());
            thread::spawn(move || {
                let pin = pins.pin();
                if linked.load(Relaxed) == 1 {
                    let found = place.load(Relaxed);
                    assert_eq!(found, OLD, "a place was written over under a reader");
                }
                drop(pin);
            })
        })
        .collect();
    linked.store(0, Relaxed);
    let epoch = pins.retire();
    if planted || epoch < pins.oldest() {
        place.store(NEW, Relaxed);
    }
    threads
        .into_iter()
        .for_each(|t| t.join().expect("a reader ended"));
}

/// A mistake that a writer of the graph may make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// None.
    Nothing,
    /// A row's tag is set before the row is written.
    TagBeforeRow,
    /// A list's count is raised before the link is there.
    CountBeforeLink,
    /// A slot is given to another row without asking who still looks at the former.
    ReusedAtOnce,
    /// A slot is counted before its region has memory.
    CountedBeforeMemory,
    /// A row becomes the entry point before its tag is set.
    EntryBeforeTag,
    /// An upper record is added to its row's chain before it is emptied.
    ChainedBeforeEmptied,
    /// A row is marked as linked before a link leads to it.
    MarkedBeforeLink,
}

/// A list of links and the rows they lead to; row `r` lies in slot `r % ROWS`. What a row holds is its link times ten, plainly written.
struct Graph {
    pins: Pins,
    count: AtomicU32,
    cells: [AtomicU32; ROWS],
    tags: [Tag; ROWS],
    rows: [AtomicU64; ROWS],
    planted: Planted,
}

const ROWS: usize = 3;

impl Graph {
    fn new(planted: Planted) -> Self {
        Self {
            pins: Pins::new(),
            count: AtomicU32::new(0),
            cells: std::array::from_fn(|_| AtomicU32::new(NONE)),
            tags: std::array::from_fn(|_| Tag::none()),
            rows: std::array::from_fn(|_| AtomicU64::new(0)),
            planted,
        }
    }

    fn links(&self) -> Links<'_> {
        Links {
            count: &self.count,
            cells: &self.cells,
        }
    }

    /// Writes a row and shows it to whoever has its link.
    fn publish(&self, link: u32) {
        let slot = link as usize % ROWS;
        let write = || self.rows[slot].store(u64::from(link) * 10, Relaxed);
        if self.planted == Planted::TagBeforeRow {
            self.tags[slot].set(link);
            write();
        } else {
            write();
            self.tags[slot].set(link);
        }
    }

    fn append(&self, link: u32) {
        if self.planted == Planted::CountBeforeLink {
            let count = self.count.load(Relaxed);
            self.count.store(count + 1, Relaxed);
            self.cells[count as usize].store(link, Relaxed);
        } else {
            assert!(self.links().append(link), "there is room");
        }
    }

    /// A search that goes through all slots: a row that is there is whole.
    fn scan(&self) {
        let pin = self.pins.pin();
        for (tag, row) in self.tags.iter().zip(&self.rows) {
            let link = tag.get();
            if link != NONE {
                let row = row.load(Relaxed);
                assert_eq!(row, u64::from(link) * 10, "a row is not what its tag says");
            }
        }
        drop(pin);
    }

    /// A search: every link that it meets was written by somebody, and a row whose tag it sees is whole, and stays so while it looks.
    fn read(&self, known: &[u32]) {
        let pin = self.pins.pin();
        for link in self.links().read() {
            assert!(known.contains(&link), "a link that nobody wrote: {link}");
            let slot = link as usize % ROWS;
            if self.tags[slot].get() == link {
                let row = self.rows[slot].load(Relaxed);
                assert_eq!(row, u64::from(link) * 10, "a row is not what its tag says");
            }
        }
        drop(pin);
    }
}

/// Runs a reader beside a writer.
fn beside(planted: Planted, known: &'static [u32], begun: fn(&Graph), write: fn(&Graph)) {
    let graph = Arc::new(Graph::new(planted));
    begun(&graph);
    let reader = graph.clone();
    let reader = thread::spawn(move || reader.read(known));
    write(&graph);
    reader.join().expect("the reader ended");
}

/// A row is written, and a link to it is added to a list with another.
pub fn a_row_whose_link_is_read_is_whole(planted: Planted) {
    let begun = |graph: &Graph| {
        graph.publish(1);
        graph.append(1);
    };
    beside(planted, &[1, 2], begun, |graph| {
        graph.publish(2);
        graph.append(2);
    });
}

/// A row is written while all slots are gone through.
pub fn a_row_whose_tag_is_seen_is_whole(planted: Planted) {
    let graph = Arc::new(Graph::new(planted));
    let reader = graph.clone();
    let reader = thread::spawn(move || reader.scan());
    graph.publish(2);
    reader.join().expect("the reader ended");
}

/// A list is rewritten to a shorter one, and a row added to that.
pub fn a_list_that_is_rewritten_shows_links_only(planted: Planted) {
    let begun = |graph: &Graph| {
        for link in [1, 2] {
            graph.publish(link);
            graph.append(link);
        }
    };
    beside(planted, &[0, 1, 2], begun, |graph| {
        graph.links().write([2].into_iter());
        graph.publish(0);
        graph.append(0);
    });
}

/// A row is removed, its slot given to another once nobody can look at the former, and that one linked: row 4 lies where row 1 did.
pub fn a_slot_that_is_given_to_another_row_is_seen_as_either(planted: Planted) {
    let begun = |graph: &Graph| {
        graph.publish(1);
        graph.append(1);
    };
    beside(planted, &[1, 4], begun, |graph| {
        graph.tags[1].set(NONE);
        graph.links().write([].into_iter());
        let epoch = graph.pins.retire();
        if graph.planted == Planted::ReusedAtOnce || epoch < graph.pins.oldest() {
            graph.publish(4);
            graph.append(4);
        }
    });
}

/// An arena of one region that comes into being while a search looks: the memory of the region is its rows.
struct Growing {
    base: Base<u8>,
    used: Used,
    entry: Entry,
    tag: Tag,
    row: AtomicU64,
    planted: Planted,
}

impl Growing {
    fn new(planted: Planted) -> Self {
        Self {
            base: Base::none(),
            used: Used::none(),
            entry: Entry::none(),
            tag: Tag::none(),
            row: AtomicU64::new(0),
            planted,
        }
    }

    /// Makes the region, hands out its first slot, writes a row there, shows it and lets searches enter by it.
    fn begin(&self, link: u32) {
        let memory = || self.base.set(std::ptr::dangling_mut());
        if self.planted == Planted::CountedBeforeMemory {
            self.used.set(1);
            memory();
        } else {
            memory();
            self.used.set(1);
        }
        self.row.store(u64::from(link) * 10, Relaxed);
        if self.planted == Planted::EntryBeforeTag {
            self.entry.set(link);
            self.tag.set(link);
        } else {
            self.tag.set(link);
            self.entry.set(link);
        }
    }

    fn is_whole(&self, link: u32) {
        let row = self.row.load(Relaxed);
        assert_eq!(row, u64::from(link) * 10, "a row is not what its tag says");
    }

    /// A search that goes through all slots: each has memory, and a row that is there is whole.
    fn scan(&self) {
        if self.used.get() > 0 {
            assert!(!self.base.get().is_null(), "a slot without memory");
            match self.tag.get() {
                NONE => {}
                link => self.is_whole(link),
            }
        }
    }

    /// A search that begins at the entry point, which leads to a row that is there and whole.
    fn enter(&self) {
        match self.entry.get() {
            NONE => {}
            link => {
                assert!(!self.base.get().is_null(), "an entry without memory");
                assert_eq!(self.tag.get(), link, "the entry point is not shown yet");
                self.is_whole(link);
            }
        }
    }
}

fn beside_growth(planted: Planted, search: fn(&Growing)) {
    let growing = Arc::new(Growing::new(planted));
    let reader = growing.clone();
    let reader = thread::spawn(move || search(&reader));
    growing.begin(2);
    reader.join().expect("the reader ended");
}

/// An arena grows while all slots are gone through.
pub fn a_slot_that_is_counted_has_memory(planted: Planted) {
    beside_growth(planted, Growing::scan);
}

/// The first row of a graph becomes its entry point while a search begins.
pub fn an_entry_point_leads_to_a_whole_row(planted: Planted) {
    beside_growth(planted, Growing::enter);
}

/// A row of two levels above the lowest whose records served another row before, so that they hold its links until they are emptied.
struct Tall {
    upper: AtomicU32,
    counts: [AtomicU32; LEVELS],
    nexts: [AtomicU32; LEVELS],
    linked: Linked,
    neighbour: [AtomicU32; 2],
    planted: Planted,
}

const LEVELS: usize = 2;

impl Tall {
    fn new(planted: Planted) -> Self {
        Self {
            upper: AtomicU32::new(NONE),
            counts: std::array::from_fn(|_| AtomicU32::new(9)),
            nexts: std::array::from_fn(|_| AtomicU32::new(9)),
            linked: Linked::none(),
            neighbour: [AtomicU32::new(0), AtomicU32::new(NONE)],
            planted,
        }
    }

    /// The list of a neighbour, with room for one link.
    fn links(&self) -> Links<'_> {
        let [count, cell] = &self.neighbour;
        Links {
            count,
            cells: std::slice::from_ref(cell),
        }
    }

    /// Takes the records one after the other, as a new row does.
    fn rise(&self) {
        let mut chain = Chain(&self.upper);
        for record in 0..LEVELS {
            let empty = || {
                self.counts[record].store(0, Relaxed);
                self.nexts[record].store(NONE, Relaxed);
            };
            if self.planted == Planted::ChainedBeforeEmptied {
                chain.set(record as u32);
                empty();
            } else {
                empty();
                chain.set(record as u32);
            }
            chain = Chain(&self.nexts[record]);
        }
    }

    /// Gets a link from its neighbour, and is marked.
    fn join(&self) {
        let link = || assert!(self.links().append(2), "there is room");
        if self.planted == Planted::MarkedBeforeLink {
            self.linked.set();
            link();
        } else {
            link();
            self.linked.set();
        }
    }

    /// Follows the chain: every record on it is empty, whatever it was before.
    fn climb(&self) {
        let mut record = Chain(&self.upper).get();
        for _ in 0..LEVELS {
            if record == NONE {
                return;
            }
            assert!(record < LEVELS as u32, "a chain of another row: {record}");
            let count = self.counts[record as usize].load(Relaxed);
            assert_eq!(count, 0, "a record with links of another row");
            record = Chain(&self.nexts[record as usize]).get();
        }
    }

    /// Looks for an entry point: a row that is marked is one that its neighbour leads to.
    fn choose(&self) {
        if self.linked.get() {
            assert_eq!(self.links().len(), 1, "marked, and no link leads to it");
        }
    }
}

fn beside_tall(planted: Planted, write: fn(&Tall), search: fn(&Tall)) {
    let tall = Arc::new(Tall::new(planted));
    let reader = tall.clone();
    let reader = thread::spawn(move || search(&reader));
    write(&tall);
    reader.join().expect("the reader ended");
}

/// A row takes upper records while a search goes along its chain.
pub fn an_upper_record_that_is_reached_is_empty(planted: Planted) {
    beside_tall(planted, Tall::rise, Tall::climb);
}

/// A row is linked and marked while an entry point is looked for.
pub fn a_row_that_is_marked_has_a_link(planted: Planted) {
    beside_tall(planted, Tall::join, Tall::choose);
}

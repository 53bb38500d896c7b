//! Compact codes of the rows, by which a search finds its way.
//!
//! A code is a few bits a dimension (RaBitQ, see `aether-codes`): the residual of the vector to one of the index's centres,
//! turned and rounded. A search estimates distances from codes, which are a quarter to an eighth of the vectors, and compares with
//! the vectors only those rows that may be answers.
//!
//! ```text
//! record of the code arena, a whole number of cache lines
//! | code | label: 20 bytes | idle |
//! ```
//!
//! The rules of `graph` hold for a record as for a head: it is written between taking the slot and storing its tag, and read
//! only after the tag was seen.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use aether_codes::{Coder, Kernel, Measure, Query, Workspace};
use aether_core::Metric;

use crate::arena::Arena;
use crate::cells::Tag;
use crate::centres::Centres;
use crate::kernel::{Kernels, prefetch};
use crate::node::{Link, slot_of};
use crate::product::{Layout, Products};
use crate::scratch::{Line, Met};

/// Cache lines of a code asked for as soon as its link is seen.
const LINES_ASKED: usize = 8;

/// What is known of a row beside its code.
#[derive(Debug)]
#[repr(C)]
struct Label {
    /// As the tag of the row's head.
    tag: Tag,
    centre: AtomicU32,
    add: AtomicU32,
    scale: AtomicU32,
    error: AtomicU32,
}

#[derive(Debug)]
pub(crate) struct Codes {
    coder: Coder,
    layout: Layout,
    products: Products,
    /// Offset of the label in a record.
    label: usize,
    stride: usize,
    pub(crate) arena: Arena,
    pub(crate) centres: Centres,
    /// Cleared for good by the first row whose numbers do not fit in f32.
    usable: AtomicBool,
}

/// A query as the codes want it.
#[derive(Debug)]
pub(crate) struct Sought {
    query: Query,
    bytes: Vec<Line>,
    /// For each centre: what it adds to every distance, and how far the query is from it.
    spots: Vec<(f32, f32)>,
    step: f32,
    /// Product of a code whose every number is the grid's middle.
    middle: f32,
    rounding: f32,
}

impl Default for Sought {
    fn default() -> Self {
        Self {
            query: Query::unset(Kernel::best()),
            bytes: Vec::new(),
            spots: Vec::new(),
            step: 1.0,
            middle: 0.0,
            rounding: 0.0,
        }
    }
}

impl Codes {
    /// Codes of `bits` (4 or 8) a dimension for vectors of 1 to 65,536.
    pub(crate) fn new(dim: usize, bits: u8, metric: Metric, kernels: Kernels) -> Option<Self> {
        let measure = match metric {
            Metric::L2 => Measure::L2,
            Metric::InnerProduct => Measure::InnerProduct,
            Metric::Cosine => Measure::Cosine,
        };
        let coder = Coder::new(dim, bits, measure)?;
        let layout = Layout::new(bits, coder.padded());
        let label = layout.bytes().next_multiple_of(align_of::<Label>());
        let stride = (label + size_of::<Label>()).next_multiple_of(64);
        let products = Products::detect(layout);
        let centres = Centres::new(&coder, metric, kernels);
        Some(Self {
            coder,
            layout,
            products,
            label,
            stride,
            arena: Arena::new(stride, 0),
            centres,
            usable: AtomicBool::new(true),
        })
    }

    /// Sets up a record of a slot that was never used.
    pub(crate) fn init(&self, record: *mut u8) {
        let label = Label {
            tag: Tag::none(),
            centre: AtomicU32::new(0),
            add: AtomicU32::new(0),
            scale: AtomicU32::new(0),
            error: AtomicU32::new(0),
        };
        // SAFETY: the caller gives a fresh record of this arena, with room for a label at this offset.
        unsafe { record.add(self.label).cast::<Label>().write(label) };
    }

    /// Whether every row's code says how far it is. Not once a row came whose squared length is near the largest f32.
    pub(crate) fn usable(&self) -> bool {
        self.usable.load(Ordering::Relaxed)
    }

    /// Bytes of a row's code and label, padding included.
    pub(crate) fn record_bytes(&self) -> usize {
        self.stride
    }

    /// RAM beside the arena.
    pub(crate) fn bytes(&self) -> usize {
        self.coder.bytes() + self.centres.bytes()
    }

    #[inline(always)]
    fn label(&self, record: *mut u8) -> &Label {
        // SAFETY: every record has a label at this offset, written when its page was made.
        unsafe { &*record.add(self.label).cast::<Label>() }
    }

    /// Writes a row's code. The slot belongs to this thread.
    pub(crate) fn write(&self, slot: u32, vector: &[f32], work: &mut Workspace) {
        let Some((at, spot)) = self.centres.nearest(vector) else {
            return;
        };
        let factors = self.coder.code(&spot.centre, vector, work);
        let record = self.arena.at(slot);
        // SAFETY: the slot belongs to this thread, and no search that saw a former row is left.
        let code = unsafe { std::slice::from_raw_parts_mut(record, self.layout.bytes()) };
        self.layout.pack(work.numbers(), code);
        let numbers = [factors.add, factors.scale, factors.error];
        if !numbers.iter().all(|x| x.is_finite()) {
            self.usable.store(false, Ordering::Relaxed);
        }
        let label = self.label(record);
        label.centre.store(at as u32, Ordering::Relaxed);
        label.add.store(factors.add.to_bits(), Ordering::Relaxed);
        label
            .scale
            .store(factors.scale.to_bits(), Ordering::Relaxed);
        label
            .error
            .store(factors.error.to_bits(), Ordering::Relaxed);
        self.centres.learn(&self.coder, vector, factors.radius);
    }

    pub(crate) fn set_tag(&self, slot: u32, tag: Link) {
        self.label(self.arena.at(slot)).tag.set(tag);
    }

    /// Prepares for a query, `[dim]`; `padded` is the same for the kernels.
    pub(crate) fn seek(&self, sought: &mut Sought, vector: &[f32], padded: *const f32) {
        sought.query.set(&self.coder, vector);
        sought.step = sought.query.step();
        let middle = (f32::from(1u16 << self.coder.bits()) - 1.0) / 2.0;
        sought.middle = middle * sought.query.sum() as f32;
        sought.rounding = sought.query.rounding(&self.coder);
        let bytes = self.layout.query_bytes();
        sought
            .bytes
            .resize(bytes.div_ceil(size_of::<Line>()), Line::default());
        // SAFETY: so many bytes were just made room for, and a float's bytes may be any.
        let out = unsafe {
            std::slice::from_raw_parts_mut(sought.bytes.as_mut_ptr().cast::<i8>(), bytes)
        };
        self.layout.spread(sought.query.bytes(), out);
        self.centres.look(vector, padded, &mut sought.spots);
    }

    /// Estimates the distances of those of `links` that are alive. The caller is pinned.
    #[inline(always)]
    pub(crate) fn estimate(&self, sought: &Sought, links: &[Link], met: &mut Met) {
        met.clear();
        for link in links {
            let record = self.arena.at(slot_of(*link));
            if self.label(record).tag.get() == *link {
                met.links.push(*link);
                met.records.push(record.cast_const());
            }
        }
        met.products.resize(met.records.len(), 0);
        // SAFETY: each record is one of the arena's, of a row whose tag was seen; the query was laid out by `seek`.
        unsafe {
            let query = sought.bytes.as_ptr().cast();
            self.products.of(&met.records, query, &mut met.products);
        }
        let rows = met.records.iter().zip(&met.products);
        let distances = rows.map(|(record, product)| {
            let label = self.label(record.cast_mut());
            self.distance(sought, label, *product)
        });
        met.distances.extend(distances);
    }

    /// Asks for the memory of a row's code.
    #[inline(always)]
    pub(crate) fn ask(&self, slot: u32) {
        let record: *const u8 = self.arena.at(slot);
        for line in 0..(self.stride / 64).min(LINES_ASKED) {
            prefetch(record.wrapping_add(64 * line));
        }
    }

    #[inline(always)]
    fn distance(&self, sought: &Sought, label: &Label, product: i32) -> f32 {
        let centre = label.centre.load(Ordering::Relaxed) as usize;
        let base = sought.spots.get(centre).map_or(f32::INFINITY, |s| s.0);
        let add = f32::from_bits(label.add.load(Ordering::Relaxed));
        let scale = f32::from_bits(label.scale.load(Ordering::Relaxed));
        base + add + scale * (sought.step * (product as f32 - sought.middle))
    }

    /// Standard deviation of a row's estimate.
    #[inline(always)]
    pub(crate) fn deviation(&self, sought: &Sought, slot: u32) -> f32 {
        let label = self.label(self.arena.at(slot));
        let centre = label.centre.load(Ordering::Relaxed) as usize;
        let away = sought.spots.get(centre).map_or(0.0, |s| s.1);
        let error = f32::from_bits(label.error.load(Ordering::Relaxed)) * away;
        let rounding = f32::from_bits(label.scale.load(Ordering::Relaxed)) * sought.rounding;
        (error * error + rounding * rounding).sqrt()
    }
}

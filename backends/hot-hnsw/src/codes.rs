//! Compact codes of the rows, by which a search finds its way.
//!
//! A code is a few bits a dimension (RaBitQ, see `aether-codes`): the residual of the vector to one of the index's centres,
//! turned and rounded. A search estimates distances from codes, which are a quarter to an eighth of the vectors, and compares with
//! the vectors only those rows that may be answers.
//!
//! ```text
//! record of the code arena, a whole number of cache lines
//! | code | label: 32 bytes | idle |
//! ```
//!
//! The rules of `graph` hold for a record as for a head: it is written between taking the slot and storing its tag, and read
//! only after the tag was seen.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use aether_codes::{Centre, Coder, Kernel, Measure, Query, Workspace};
use aether_core::vector::dot;
use aether_core::{Metric, Row};

use crate::arena::Arena;
use crate::kernel::{Kernels, LANES, prefetch};
use crate::node::{Link, NONE, slot_of};
use crate::product::{Layout, Products};
use crate::scratch::{Line, Met, fill};

/// Cache lines of a code asked for as soon as its link is seen.
const LINES_ASKED: usize = 8;

/// Centres at most.
pub(crate) const CENTRES_MAX: usize = 16;

/// What is known of a row beside its code.
#[derive(Debug)]
#[repr(C, align(8))]
pub(crate) struct Label {
    /// As the tag of the row's head.
    tag: AtomicU32,
    centre: AtomicU32,
    add: AtomicU32,
    scale: AtomicU32,
    error: AtomicU32,
    row: AtomicU64,
}

const _: () = assert!(size_of::<Label>() == 32);

/// A point of the space around which rows are coded.
#[derive(Debug)]
struct Spot {
    centre: Centre,
    /// The same, padded for the kernels.
    padded: Vec<Line>,
    norm2: f32,
}

#[derive(Debug)]
pub(crate) struct Codes {
    coder: Coder,
    metric: Metric,
    dim: usize,
    padded: usize,
    kernels: Kernels,
    layout: Layout,
    products: Products,
    /// Offset of the label in a record.
    label: usize,
    stride: usize,
    pub(crate) arena: Arena,
    /// The first is zero.
    spots: [OnceLock<Spot>; CENTRES_MAX],
    used: AtomicUsize,
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
        let codes = Self {
            coder,
            metric,
            dim,
            padded: dim.next_multiple_of(LANES),
            kernels,
            layout,
            products: Products::detect(layout),
            label,
            stride,
            arena: Arena::new(stride, 0),
            spots: Default::default(),
            used: AtomicUsize::new(0),
        };
        codes.add_centre(&vec![0.0; dim]);
        Some(codes)
    }

    /// Sets up a record of a slot that was never used.
    pub(crate) fn init(&self, record: *mut u8) {
        let label = Label {
            tag: AtomicU32::new(NONE),
            centre: AtomicU32::new(0),
            add: AtomicU32::new(0),
            scale: AtomicU32::new(0),
            error: AtomicU32::new(0),
            row: AtomicU64::new(0),
        };
        // SAFETY: the caller gives a fresh record of this arena, with room for a label at this offset.
        unsafe { record.add(self.label).cast::<Label>().write(label) };
    }

    /// Bytes of a record.
    pub(crate) fn stride(&self) -> usize {
        self.stride
    }

    /// RAM beside the arena.
    pub(crate) fn bytes(&self) -> usize {
        let spots = self.used.load(Ordering::Relaxed);
        self.coder.bytes() + spots * 3 * self.padded * size_of::<f32>()
    }

    /// What [`Codes::bytes`] is at most.
    pub(crate) fn bytes_at_most(&self) -> usize {
        self.coder.bytes() + CENTRES_MAX * 3 * self.padded * size_of::<f32>()
    }

    /// Adds a centre, `[dim]`; `false` when there is no room for it.
    pub(crate) fn add_centre(&self, centre: &[f32]) -> bool {
        let at = self.used.load(Ordering::Relaxed);
        let Some(cell) = self.spots.get(at) else {
            return false;
        };
        let spot = Spot {
            centre: self.coder.centre(centre),
            padded: pad(centre),
            norm2: centre.iter().map(|x| x * x).sum(),
        };
        let added = cell.set(spot).is_ok();
        if added {
            self.used.store(at + 1, Ordering::Release);
        }
        added
    }

    pub(crate) fn centres(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    #[inline(always)]
    fn label(&self, record: *mut u8) -> &Label {
        // SAFETY: every record has a label at this offset, written when its page was made.
        unsafe { &*record.add(self.label).cast::<Label>() }
    }

    /// Writes a row's code. The slot belongs to this thread.
    pub(crate) fn write(&self, slot: u32, row: Row, vector: &[f32], work: &mut Workspace) {
        let (at, spot) = self.nearest(vector);
        let factors = self.coder.code(&spot.centre, vector, work);
        let record = self.arena.at(slot);
        // SAFETY: the slot belongs to this thread, and no search that saw a former row is left.
        let code = unsafe { std::slice::from_raw_parts_mut(record, self.layout.bytes()) };
        self.layout.pack(work.numbers(), code);
        let label = self.label(record);
        label.centre.store(at as u32, Ordering::Relaxed);
        label.add.store(factors.add.to_bits(), Ordering::Relaxed);
        label
            .scale
            .store(factors.scale.to_bits(), Ordering::Relaxed);
        label
            .error
            .store(factors.error.to_bits(), Ordering::Relaxed);
        label.row.store(row.0, Ordering::Relaxed);
    }

    /// The centre nearest to a vector.
    fn nearest(&self, vector: &[f32]) -> (usize, &Spot) {
        let unit = self.metric.scale(vector);
        let unit = if self.metric == Metric::Cosine {
            unit
        } else {
            1.0
        };
        let away = |spot: &Spot| {
            // SAFETY: a line is as many floats, and together they are at least `dim`.
            let centre =
                unsafe { std::slice::from_raw_parts(spot.padded.as_ptr().cast(), self.dim) };
            spot.norm2 - 2.0 * dot(vector, centre) * unit
        };
        let spots = self.spots.iter().map_while(OnceLock::get).enumerate();
        let best = spots.min_by(|a, b| away(a.1).total_cmp(&away(b.1)));
        best.unwrap_or_else(|| unreachable!("there is always the first centre"))
    }

    pub(crate) fn set_tag(&self, slot: u32, tag: Link) {
        self.label(self.arena.at(slot))
            .tag
            .store(tag, Ordering::Release);
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
        let unit = match self.metric {
            Metric::Cosine => self.metric.scale(vector),
            Metric::L2 | Metric::InnerProduct => 1.0,
        };
        let norm2: f32 = dot(vector, vector) * unit * unit;
        sought.spots.clear();
        for spot in self.spots.iter().map_while(OnceLock::get) {
            let centre = spot.padded.as_ptr().cast::<f32>();
            // SAFETY: both are padded vectors of this dimension.
            let place = unsafe {
                match self.metric {
                    Metric::L2 => {
                        let away2 = self.kernels.l2(padded, centre, self.padded, f32::INFINITY);
                        (away2, away2.sqrt())
                    }
                    Metric::InnerProduct | Metric::Cosine => {
                        let dot = self.kernels.dot(padded, centre, self.padded) * unit;
                        let away2 = (norm2 - 2.0 * dot + spot.norm2).max(0.0);
                        let one = if self.metric == Metric::Cosine {
                            1.0
                        } else {
                            0.0
                        };
                        (one - dot, away2.sqrt())
                    }
                }
            };
            sought.spots.push(place);
        }
    }

    /// Estimates the distances of those of `links` that are alive. The caller is pinned.
    #[inline(always)]
    pub(crate) fn estimate(&self, sought: &Sought, links: &[Link], met: &mut Met) {
        met.clear();
        for link in links {
            let record = self.arena.at(slot_of(*link));
            if self.label(record).tag.load(Ordering::Acquire) == *link {
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

/// A vector padded with zeros to whole lines.
fn pad(vector: &[f32]) -> Vec<Line> {
    let mut lines = Vec::new();
    fill(&mut lines, vector);
    lines
}

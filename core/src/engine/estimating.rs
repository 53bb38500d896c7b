//! Which rows of the probed partitions may be answers, by their codes: the part of a bounded search that needs no I/O.

use std::sync::Arc;

use aether_codes::least;
use hashbrown::{HashMap, HashSet};

use super::cold::{ColdView, Place, Segment};
use super::cold_scan::{Best, Seen};
use super::estimate::Prepared;
use crate::error::Result;
use crate::id::Row;
use crate::role::Neighbor;
use crate::segment::CodePage;

/// A row that may be an answer.
#[derive(Clone, Debug)]
pub(super) struct Maybe {
    pub(super) lower: f32,
    pub(super) estimate: f32,
    pub(super) row: Row,
    pub(super) partition: u32,
    pub(super) segment: Arc<Segment>,
    pub(super) block: usize,
    pub(super) place: usize,
}

/// A page of codes: its segment and its number there.
pub(super) type PageKey = (u64, u32);

/// For each of the [`places`] that a search looks at the page of its codes; `None` where it has none, or they could not be read.
pub(super) type Pages = Vec<Option<CodePage>>;

/// Where the rows of ranked partitions lie, one partition after another.
pub(super) fn places<'a>(
    view: &'a ColdView,
    ranked: &'a [(f32, u32)],
) -> impl Iterator<Item = &'a Place> {
    let cells = ranked.iter().filter_map(|(_, p)| view.cell(*p));
    cells.flat_map(|cell| &cell.places)
}

/// Some partitions that are looked at together.
pub(super) struct Run {
    /// Their ranks and numbers.
    pub(super) probed: Vec<(f32, u32)>,
    pub(super) pages: Pages,
    /// Those among the pages that are worth being sorted.
    pub(super) again: HashSet<PageKey>,
}

/// What is known so far.
pub(super) struct Estimating {
    pub(super) seen: Seen,
    pub(super) view: Arc<ColdView>,
    pub(super) deviations: f32,
    /// Rows found hot: a copy in a segment must not count twice.
    pub(super) hot: HashSet<Row>,
    /// Upper bounds.
    pub(super) best: Best,
    /// Rows that may be answers.
    pub(super) maybe: Vec<Maybe>,
    /// Rows whose distance was estimated.
    pub(super) estimated: u64,
}

impl Estimating {
    /// Adds the rows of some partitions that may be answers.
    pub(super) fn look_at(&mut self, mut run: Run) -> Result<()> {
        self.sort_pages(&mut run)?;
        let (seen, view) = (&self.seen, &self.view);
        let query = &seen.request.vector;
        let (coders, metric) = (&seen.inner.coders, seen.inner.metric);
        let mut prepared = Prepared::new(coders, query, self.deviations);
        let norm = metric.norm_of(query);
        let mut pages = run.pages.iter();
        for (rank, partition) in &run.probed {
            let Some(cell) = view.cell(*partition) else {
                continue;
            };
            let held = pages.by_ref().take(cell.places.len());
            if least(coders.measure(), norm, *rank, cell.radius) > self.best.bar() {
                held.for_each(|_| ());
                continue;
            }
            for (place, page) in cell.places.iter().zip(held) {
                let Some(page) = page else { continue };
                let (segment, directory) = (&place.segment, &place.segment.directory);
                let block = segment.block(place.block)?;
                self.estimated += u64::from(block.rows);
                let mut bar = self.best.bar();
                let below = prepared.below(view, *rank, place, page.codes(block)?, bar)?;
                if below.is_empty() {
                    continue;
                }
                let rows = page.rows(directory, block)?;
                for (at, bound) in below {
                    if bound.lower() > bar {
                        continue;
                    }
                    let at = *at as usize;
                    let Some(row) = rows.get(at) else { continue };
                    let ordinal = block.first_ordinal + at as u32;
                    if self.hot.contains(&row) || seen.hides(segment, ordinal, row) {
                        continue;
                    }
                    self.best.offer(Neighbor {
                        row,
                        distance: bound.upper(),
                    });
                    bar = self.best.bar();
                    self.maybe.push(Maybe {
                        lower: bound.lower(),
                        estimate: bound.estimate,
                        row,
                        partition: *partition,
                        segment: segment.clone(),
                        block: place.block,
                        place: at,
                    });
                }
            }
        }
        let bar = self.best.bar();
        self.maybe.retain(|m| m.lower <= bar);
        Ok(())
    }

    /// The rows that may be answers, the best estimate first, and the bar.
    pub(super) fn finish(mut self) -> (Vec<Maybe>, f32) {
        let by = |a: &Maybe, b: &Maybe| a.estimate.total_cmp(&b.estimate).then(a.row.cmp(&b.row));
        self.maybe.sort_unstable_by(by);
        (self.maybe, self.best.bar())
    }

    /// Sorts pages that are looked at again into layers, for this search and those to come.
    fn sort_pages(&self, run: &mut Run) -> Result<()> {
        if run.again.is_empty() {
            return Ok(());
        }
        let inner = &self.seen.inner;
        let mut sorted: HashMap<PageKey, CodePage> = HashMap::new();
        for (place, held) in places(&self.view, &run.probed).zip(&mut run.pages) {
            let (segment, directory) = (&place.segment, &place.segment.directory);
            let number = directory.page_of(place.block);
            let key = (segment.id.0, number);
            let Some(page) = held.as_mut().filter(|_| run.again.contains(&key)) else {
                continue;
            };
            if !sorted.contains_key(&key) {
                let coder = inner.coders.get(directory.code_bits)?;
                let layered = page.layered(directory, number, coder, &*self.view)?;
                let layered = layered.unwrap_or_else(|| page.clone());
                inner.blocks.replace_codes(segment, number, &layered);
                sorted.insert(key, layered);
            }
            if let Some(layered) = sorted.get(&key) {
                *page = layered.clone();
            }
        }
        Ok(())
    }
}

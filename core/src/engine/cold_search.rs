//! A bounded search of the cold tier: choose partitions, estimate by codes, read only what may still be an answer.
//!
//! 1. Partitions are ranked by their centroids; [`probing`](super::probing) says how many of them to look at.
//! 2. Round one reads what is not at hand of their codes. Blocks without codes are read and compared whole.
//! 3. Every row gets a lower and an upper bound. The k-th smallest of the upper bounds, of exact distances of hot rows where there are
//!    such, is the bar: a row whose lower bound lies above it is no answer. A partition whose every row lies above it is passed over.
//! 4. Round two reads the rows that are left, the best first as far as the budget goes, and compares them exactly.
//!
//! The answer is proven when every row that was not compared lay above the bar, those of partitions that were not probed by the radius
//! of their partition.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use aether_codes::{Layers, least};
use bytes::Bytes;
use futures::StreamExt;
use hashbrown::{HashMap, HashSet};
use tokio::sync::SemaphorePermit;
use tokio::time::Instant;

use super::cold::{ColdView, Place, ReadCost, Segment};
use super::cold_scan::{Best, Blocks, ColdScan, Job, Seen, Task, WantedGroup, whole_blocks};
use super::estimating::{Estimating, Maybe, PageKey, Run, places};
use super::inner::Inner;
use super::offload::offload;
use super::probing::in_order;
use super::record::Stub;
use super::types::Cut;
use crate::error::{Error, Result};
use crate::id::Row;
use crate::role::{Neighbor, Table};
use crate::segment::CodePage;

/// Floats of codes that are estimated on the caller's own thread: about 200 microseconds of work.
const INLINE_CODES: u64 = 16 << 20;

/// How far to go.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Reach {
    /// Every partition.
    All,
    /// The nearest partitions that hold a share of the rows.
    Share(f64),
    /// The nearest partitions that should hold a share of the answers.
    Recall(f64),
}

/// What a bounded search is asked.
#[derive(Clone, Debug)]
pub(super) struct Bounded<'a> {
    pub(super) reach: Reach,
    /// Standard deviations of the bounds.
    pub(super) deviations: f32,
    pub(super) read_budget: u64,
    pub(super) deadline: Instant,
    /// Bytes of codes that it may have on their way at once.
    pub(super) codes_space: u64,
    /// The answers of the hot tier.
    pub(super) hot: &'a [Neighbor],
    pub(super) most: usize,
}

/// What is wanted of a segment: its groups by number, and the partitions they belong to.
type InSegment = (Arc<Segment>, BTreeMap<u32, WantedGroup>, BTreeSet<u32>);

/// The blocks of ranked partitions that have no codes, by segment.
fn blocks_without_codes(view: &ColdView, ranked: &[(f32, u32)]) -> Vec<Blocks> {
    let mut whole: BTreeMap<u64, Blocks> = BTreeMap::new();
    for Place { segment, block } in places(view, ranked) {
        if segment.directory.code_bits == 0 {
            let blocks = whole.entry(segment.id.0);
            let blocks = blocks.or_insert_with(|| (segment.clone(), Vec::new()));
            blocks.1.push(*block);
        }
    }
    let mut whole: Vec<Blocks> = whole.into_values().collect();
    whole
        .iter_mut()
        .for_each(|(_, blocks)| blocks.sort_unstable());
    whole
}

/// Pages of codes that are not at hand, by segment.
type Missing = BTreeMap<u64, (Arc<Segment>, BTreeSet<u32>)>;

/// A read of pages: segment, pages, what came.
type PagesRead = (Arc<Segment>, Vec<u32>, Result<(Vec<CodePage>, ReadCost)>);

impl Inner {
    /// Searches the nearest partitions.
    pub(super) async fn search_codes(
        self: &Arc<Self>,
        view: &Arc<ColdView>,
        seen: &Seen,
        asked: &Bounded<'_>,
    ) -> Result<ColdScan> {
        let mut scan = ColdScan::of(view);
        let mut ranked = view.ranks(&seen.request.vector);
        let reach = self.reach(view, &mut ranked, asked.reach);
        let beyond = ranked.split_off(reach);
        let mut best = Best::new(asked.most);
        let jobs = whole_blocks(blocks_without_codes(view, &ranked))?;
        if !jobs.is_empty() {
            let deadline = asked.deadline;
            (self.run_jobs(jobs, seen, deadline, &mut best, &mut scan)).await;
        }
        let mut uppers = best.clone();
        // A copy in a block without codes was compared already, and must not count twice.
        let twice: HashSet<Row> = best.iter().map(|n| n.row).collect();
        let hot = asked.hot.iter().filter(|n| !twice.contains(&n.row));
        hot.for_each(|n| uppers.offer(*n));
        let probed = ranked.len();
        let mut estimating = Estimating {
            seen: seen.clone(),
            view: view.clone(),
            deviations: asked.deviations,
            hot: asked.hot.iter().map(|n| n.row).collect(),
            best: uppers,
            maybe: Vec::new(),
            estimated: 0,
        };
        for some in self.runs(view, ranked, asked.codes_space) {
            let (run, _space) = self.gather(view, some, asked, &mut scan).await;
            estimating = self.estimate(estimating, run).await?;
        }
        scan.estimated = estimating.estimated;
        let (mut maybe, bar) = estimating.finish();
        let (norm, measure) = (
            self.metric.norm_of(&seen.request.vector),
            self.coders.measure(),
        );
        let radius = |p: u32| view.cell(p).map_or(0.0, |c| c.radius);
        let all_above = (beyond.iter()).all(|(r, p)| least(measure, norm, *r, radius(*p)) > bar);

        scan.partitions = maybe.iter().map(|m| (m.row, m.partition)).collect();
        self.compare_at_hand(&mut maybe, seen, &mut best, &mut scan)?;
        let jobs = self.exact_jobs(&maybe, asked.read_budget, &mut scan)?;
        if !jobs.is_empty() {
            // What will be asked next, the names, is read beside the vectors.
            let at_hand = best.iter().map(|n| n.row);
            let likely: Vec<Row> = at_hand
                .chain(maybe.iter().take(asked.most).map(|m| m.row))
                .collect();
            let reads = self.run_jobs(jobs, seen, asked.deadline, &mut best, &mut scan);
            let ((), named) = tokio::join!(reads, self.names_ahead(&likely));
            scan.named = named?;
        }
        scan.proven = all_above && scan.cuts.is_empty();
        scan.bar = bar;
        scan.probed = probed - scan.unread.len().min(probed);
        scan.found = best.into_vec();
        Ok(scan)
    }

    /// Estimates the rows of some partitions: at once where that is little work.
    async fn estimate(&self, mut estimating: Estimating, run: Run) -> Result<Estimating> {
        let cells = run
            .probed
            .iter()
            .filter_map(|(_, p)| estimating.view.cell(*p));
        let floats = cells.map(|c| c.rows).sum::<u64>() * self.dim as u64;
        if floats <= INLINE_CODES && run.again.is_empty() {
            estimating.look_at(run)?;
            return Ok(estimating);
        }
        let work = move || estimating.look_at(run).map(|()| estimating);
        offload(work).await?
    }

    /// The ranked partitions in runs whose codes fit in the space that there is for codes on their way: as a rule in one, and what is at
    /// hand needs none. Of more the nearest come first, since they set the bar, and then the others as they lie in the segments, so that
    /// few pages are read twice.
    fn runs(
        &self,
        view: &ColdView,
        mut ranked: Vec<(f32, u32)>,
        space: u64,
    ) -> Vec<Vec<(f32, u32)>> {
        // The first may fill what `codes.ram` has left; then nothing is left.
        let first = space.max(self.blocks.codes_left());
        if view.codes_bytes() <= first {
            return vec![ranked];
        }
        let take = |ranked: &[(f32, u32)], space: u64| {
            let (mut counted, mut bytes) = (HashSet::new(), 0);
            let fits = (0..ranked.len()).position(|n| {
                bytes += self.missing_bytes(view, &ranked[n..=n], &mut counted);
                bytes > space
            });
            fits.map_or(ranked.len(), |n| n.max(1))
        };
        let mut runs = Vec::new();
        let mut rest = ranked.split_off(take(&ranked, first));
        runs.push(ranked);
        rest.sort_unstable_by_key(|(_, p)| {
            let first = view.cell(*p).and_then(|c| c.places.first());
            first.map(|place| (place.segment.id, place.block))
        });
        while !rest.is_empty() {
            let later = rest.split_off(take(&rest, space));
            runs.push(std::mem::replace(&mut rest, later));
        }
        runs
    }

    /// Bytes of the pages of codes of ranked partitions that are not at hand, but for those `counted` before, which they join.
    fn missing_bytes(
        &self,
        view: &ColdView,
        ranked: &[(f32, u32)],
        counted: &mut HashSet<PageKey>,
    ) -> u64 {
        let mut bytes = 0;
        for Place { segment, block } in places(view, ranked) {
            let directory = &segment.directory;
            let page = directory.page_of(*block);
            if directory.code_bits > 0
                && counted.insert((segment.id.0, page))
                && !self.blocks.has_codes(segment, page)
            {
                let range = directory.page_range(page);
                bytes += range.map_or(0, |r| r.end - r.start);
            }
        }
        bytes
    }

    /// How many of the ranked partitions to look at; puts so many in order.
    fn reach(&self, view: &ColdView, ranked: &mut [(f32, u32)], reach: Reach) -> usize {
        let config = &self.config.search;
        let rows_of = |p: u32| view.cell(p).map_or(0, |c| c.rows);
        let fewest = config.probe_min.min(ranked.len());
        let share = |ranked: &mut [(f32, u32)], share: f64| {
            let total: u64 = ranked.iter().map(|(_, p)| rows_of(*p)).sum();
            let (wanted, mut rows) = ((total as f64 * share).ceil() as u64, 0);
            in_order(ranked, fewest, |(_, p)| {
                rows += rows_of(*p);
                rows >= wanted
            })
        };
        match reach {
            Reach::All => in_order(ranked, ranked.len(), |_| false),
            Reach::Share(s) => share(ranked, s),
            Reach::Recall(r) => (self.probing.reach(ranked, fewest, rows_of, r))
                .unwrap_or_else(|| share(ranked, config.probe)),
        }
    }

    /// The pages of the partitions' codes, from RAM or read now, and which of them were in RAM as they had been read. Those that were read
    /// have their room until they have been estimated.
    async fn gather(
        self: &Arc<Self>,
        view: &ColdView,
        probed: Vec<(f32, u32)>,
        asked: &Bounded<'_>,
        scan: &mut ColdScan,
    ) -> (Run, Option<SemaphorePermit<'_>>) {
        let mut run = Run {
            pages: vec![None; places(view, &probed).count()],
            probed,
            again: HashSet::new(),
        };
        let (mut missing, bytes) = self.take_at_hand(view, &mut run);
        let mut space = None;
        if !missing.is_empty() {
            // Whoever waits holds nothing that the cache may want to let go of; and meanwhile another search may have read them.
            run.pages.fill(None);
            run.again.clear();
            let bytes = bytes.min(asked.codes_space);
            space = self.codes_room.take(bytes, asked.deadline).await;
            (missing, _) = self.take_at_hand(view, &mut run);
        }
        if !missing.is_empty() {
            let read = self.read_pages(missing, asked.deadline, scan).await;
            for (Place { segment, block }, page) in places(view, &run.probed).zip(&mut run.pages) {
                if page.is_none() {
                    let key = (segment.id.0, segment.directory.page_of(*block));
                    *page = read.get(&key).cloned();
                }
            }
        }
        (run, space)
    }

    /// Takes the pages that are at hand into a run; answers those that are not, and their bytes.
    fn take_at_hand(&self, view: &ColdView, run: &mut Run) -> (Missing, u64) {
        let (mut missing, mut bytes) = (Missing::new(), 0);
        for (Place { segment, block }, held) in places(view, &run.probed).zip(&mut run.pages) {
            let directory = &segment.directory;
            if directory.code_bits == 0 || held.is_some() {
                continue;
            }
            let page = directory.page_of(*block);
            *held = self.blocks.codes_at_hand(segment, page);
            match held {
                Some(held) if held.is_plain() && Layers::are_worth(directory.code_bits) => {
                    run.again.insert((segment.id.0, page));
                }
                Some(_) => {}
                None => {
                    let wanted = missing.entry(segment.id.0);
                    let wanted = wanted.or_insert_with(|| (segment.clone(), BTreeSet::new()));
                    if wanted.1.insert(page) {
                        let range = directory.page_range(page);
                        bytes += range.map_or(0, |r| r.end - r.start);
                    }
                }
            }
        }
        (missing, bytes)
    }

    /// Reads pages of codes, those of a segment in one request; what cannot be read is noted in `scan`.
    async fn read_pages(
        self: &Arc<Self>,
        missing: Missing,
        deadline: Instant,
        scan: &mut ColdScan,
    ) -> HashMap<PageKey, CodePage> {
        let mut pages = HashMap::new();
        let before = scan.cost.requests;
        let mut pending: BTreeMap<u64, BTreeSet<u32>> = BTreeMap::new();
        for (segment, wanted) in missing.values() {
            let blocks = wanted
                .iter()
                .flat_map(|p| segment.directory.page_blocks(*p));
            let partitions = blocks.filter_map(|b| segment.directory.blocks.get(b));
            pending.insert(segment.id.0, partitions.map(|b| b.partition).collect());
        }
        // Room may have come too late: what would be given up at once is not asked for.
        if Instant::now() >= deadline {
            scan.late(pending.values().flatten());
            scan.unread.extend(pending.into_values().flatten());
            return pages;
        }
        let reads = missing.into_values().map(|(segment, wanted)| {
            let inner = self.clone();
            async move {
                let wanted: Vec<u32> = wanted.into_iter().collect();
                let mut cost = ReadCost::default();
                let read = inner.blocks.read_codes(&segment, &wanted, &mut cost).await;
                let result: PagesRead = (segment, wanted, read.map(|r| (r, cost)));
                result
            }
        });
        let mut running = futures::stream::iter(reads).buffer_unordered(self.config.search.reads);
        loop {
            match tokio::time::timeout_at(deadline, running.next()).await {
                Ok(None) => break,
                Ok(Some((segment, wanted, Ok((read, cost))))) => {
                    pending.remove(&segment.id.0);
                    scan.cost.requests += cost.requests;
                    scan.cost.bytes += cost.bytes;
                    let keys = wanted.into_iter().map(|p| (segment.id.0, p));
                    pages.extend(keys.zip(read));
                }
                Ok(Some((segment, _, Err(error)))) => scan.unreachable(segment.id.0, &error),
                Err(_) => {
                    scan.late(pending.values().flatten());
                    break;
                }
            }
        }
        scan.unread.extend(pending.into_values().flatten());
        scan.note_round(before);
        pages
    }

    /// Compares the rows whose vectors are at hand, and leaves in `maybe` those that are not and may still be answers.
    fn compare_at_hand(
        &self,
        maybe: &mut Vec<Maybe>,
        seen: &Seen,
        best: &mut Best,
        scan: &mut ColdScan,
    ) -> Result<()> {
        let query = &seen.request.vector;
        let scale = self.metric.scale(query);
        let mut vector = Vec::with_capacity(self.dim);
        let mut left = Vec::new();
        for m in maybe.drain(..) {
            let ordinal = m.segment.block(m.block)?.first_ordinal + m.place as u32;
            if m.lower > best.bar() {
                continue;
            }
            if !self.blocks.row_at_hand(&m.segment, ordinal, &mut vector) {
                left.push(m);
                continue;
            }
            scan.scored += 1;
            let own = self.metric.scale(&vector);
            best.offer(Neighbor {
                row: m.row,
                distance: self.metric.distance_scaled(query, scale, &vector, own),
            });
        }
        left.retain(|m| m.lower <= best.bar());
        *maybe = left;
        Ok(())
    }

    /// The names of some cold rows; those that are gone are left out.
    async fn names_ahead(&self, rows: &[Row]) -> Result<HashMap<Row, Stub>> {
        let key = |row: &Row| Bytes::copy_from_slice(&row.key());
        let keys: Vec<Bytes> = rows.iter().map(key).collect();
        let stored = self.get_chunked(Table::Cold, &keys).await?;
        let named = rows.iter().zip(&stored);
        let named = named.filter_map(|(row, value)| Some((*row, value.as_ref()?)));
        named
            .map(|(row, value)| Ok((row, Stub::decode(value)?)))
            .collect()
    }

    /// The reads of the rows that may be answers, the best first as far as the budget goes.
    fn exact_jobs(&self, maybe: &[Maybe], budget: u64, scan: &mut ColdScan) -> Result<Vec<Job>> {
        let mut segments: BTreeMap<u64, InSegment> = BTreeMap::new();
        let (mut bytes, mut left_out) = (0, 0);
        for m in maybe {
            let directory = &m.segment.directory;
            let block = m.segment.block(m.block)?;
            let group = directory.group_of(block, m.place).ok_or_else(|| {
                Error::internal(format!("place {} of a block has no group", m.place))
            })?;
            let in_group = m.place - group.first_place as usize;
            let wanted = segments.entry(m.segment.id.0);
            let wanted =
                wanted.or_insert_with(|| (m.segment.clone(), BTreeMap::new(), BTreeSet::new()));
            if !wanted.1.contains_key(&group.number) {
                let more = group.range.end - group.range.start;
                if bytes + more > budget {
                    left_out += 1;
                    continue;
                }
                bytes += more;
            }
            let number = group.number;
            let rows = wanted.1.entry(number);
            let rows = rows.or_insert_with(|| (m.block, group, Vec::new()));
            rows.2.push((m.row, in_group));
            wanted.2.insert(m.partition);
        }
        if left_out > 0 {
            scan.cuts.push(Cut::ReadBudget { rows: left_out });
        }
        let job = |(segment, groups, partitions): InSegment| Job {
            segment,
            task: Task::Groups(groups.into_values().collect()),
            partitions,
        };
        let wanted = segments.into_values().filter(|s| !s.1.is_empty());
        Ok(wanted.map(job).collect())
    }
}

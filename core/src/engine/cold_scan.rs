//! Exact comparison of cold rows: whole blocks for a complete search and for segments without codes, single groups for rows that their
//! codes could not rule out.

use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;

use futures::StreamExt;
use hashbrown::HashMap;
use tokio::time::Instant;

use super::cold::{ColdView, ReadCost, Segment};
use super::inner::Inner;
use super::offload::offload;
use super::parts::check_row;
use super::query::INLINE_FLOATS;
use super::record::Stub;
use super::types::{Cut, SearchRequest};
use crate::error::{Error, Result};
use crate::id::Row;
use crate::role::Neighbor;
use crate::segment::Group;

/// Bytes that one job of a complete search reads at once, so that a segment of any size is scanned in bounded RAM.
const JOB_BYTES: u64 = 4 << 20;

/// The best so far.
#[derive(Clone, Debug)]
pub(super) struct Best {
    heap: BinaryHeap<Neighbor>,
    most: usize,
}

impl Best {
    pub(super) fn new(most: usize) -> Self {
        Self {
            heap: BinaryHeap::new(),
            most,
        }
    }

    pub(super) fn offer(&mut self, n: Neighbor) {
        if self.heap.len() < self.most {
            self.heap.push(n);
        } else if self.heap.peek().is_some_and(|worst| n < *worst) {
            self.heap.pop();
            self.heap.push(n);
        }
    }

    /// What a distance must not exceed to be among the best; infinite while there is room.
    pub(super) fn bar(&self) -> f32 {
        match self.heap.peek() {
            Some(worst) if self.heap.len() >= self.most => worst.distance,
            _ => f32::INFINITY,
        }
    }

    /// Those kept, in any order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Neighbor> {
        self.heap.iter()
    }

    pub(super) fn into_vec(self) -> Vec<Neighbor> {
        self.heap.into_vec()
    }
}

/// What a search found in the cold tier, and what it looked at.
#[derive(Debug, Default)]
pub(super) struct ColdScan {
    pub(super) found: Vec<Neighbor>,
    /// No row that was left out for want of places is nearer than this; infinite if none was.
    pub(super) bar: f32,
    /// Rows whose distance was estimated.
    pub(super) estimated: u64,
    /// Rows compared exactly.
    pub(super) scored: u64,
    pub(super) probed: usize,
    /// Whether no row that was left out can be nearer than those found, as surely as the bounds say.
    pub(super) proven: bool,
    pub(super) cost: ReadCost,
    /// Rounds of requests, one after another.
    pub(super) rounds: u32,
    pub(super) cuts: Vec<Cut>,
    /// Partitions of what was not read in time.
    late: BTreeSet<u32>,
    /// Partitions of what could not be read.
    pub(super) unread: BTreeSet<u32>,
    /// For a comparison: the partition of each row found by its code.
    pub(super) partitions: Vec<(Row, u32)>,
    /// Names of likely answers, read while their vectors were.
    pub(super) named: HashMap<Row, Stub>,
}

/// Which rows a search may see.
#[derive(Clone)]
pub(super) struct Seen {
    pub(super) inner: Arc<Inner>,
    pub(super) request: Arc<SearchRequest>,
    pub(super) high: u64,
}

impl Seen {
    /// Whether a cold row is no answer: dead, not there yet, or filtered out.
    pub(super) fn hides(&self, segment: &Segment, ordinal: u32, row: Row) -> bool {
        row.0 > self.high
            || segment.is_dead(ordinal)
            || self.inner.kills.read().is_dead(row, self.high)
            || self.request.filter.as_ref().is_some_and(|f| !f(row))
    }
}

/// Blocks of one segment that are read whole.
pub(super) type Blocks = (Arc<Segment>, Vec<usize>);

/// Rows of one group that are wanted: the row and its place in the group.
pub(super) type WantedGroup = (usize, Group, Vec<(Row, usize)>);

/// One request's worth of work.
#[derive(Clone, Debug)]
pub(super) enum Task {
    Blocks(Vec<usize>),
    Groups(Vec<WantedGroup>),
}

/// A task and the partitions that stay unread without it.
pub(super) struct Job {
    pub(super) segment: Arc<Segment>,
    pub(super) task: Task,
    pub(super) partitions: BTreeSet<u32>,
}

/// Cuts whole blocks into jobs of bounded size.
pub(super) fn whole_blocks(work: Vec<Blocks>) -> Result<Vec<Job>> {
    let mut jobs = Vec::new();
    for (segment, blocks) in work {
        let (mut run, mut bytes, mut partitions) = (Vec::new(), 0, BTreeSet::new());
        for index in blocks {
            let block = segment.block(index)?;
            if bytes > 0 && bytes + u64::from(block.vectors_bytes) > JOB_BYTES {
                jobs.push(Job {
                    segment: segment.clone(),
                    task: Task::Blocks(std::mem::take(&mut run)),
                    partitions: std::mem::take(&mut partitions),
                });
                bytes = 0;
            }
            run.push(index);
            bytes += u64::from(block.vectors_bytes);
            partitions.insert(block.partition);
        }
        if !run.is_empty() {
            jobs.push(Job {
                segment,
                task: Task::Blocks(run),
                partitions,
            });
        }
    }
    Ok(jobs)
}

/// All blocks of segments that hold live rows, or those of some partitions.
pub(super) fn blocks_of(view: &ColdView, chosen: impl Fn(u32) -> bool) -> Vec<Blocks> {
    let live = view.segments.values().filter(|s| s.live() > 0);
    let work = live.map(|s| {
        let wanted = |(_, b): &(usize, &crate::segment::Block)| chosen(b.partition);
        let blocks = s.directory.blocks.iter().enumerate().filter(wanted);
        (s.clone(), blocks.map(|(i, _)| i).collect::<Vec<_>>())
    });
    work.filter(|(_, blocks)| !blocks.is_empty()).collect()
}

/// A group to read: its block, itself, and the rows to compare, all that are seen if `None`.
type Wanted = (usize, Group, Option<Vec<(Row, usize)>>);

/// What a job gives: neighbours, rows scored, cost.
type Scored = (Vec<Neighbor>, u64, ReadCost);

impl Inner {
    /// Runs jobs, a few at a time, until all are done or time is out. What could not be read is noted in `scan`.
    pub(super) async fn run_jobs(
        self: &Arc<Self>,
        jobs: Vec<Job>,
        seen: &Seen,
        deadline: Instant,
        best: &mut Best,
        scan: &mut ColdScan,
    ) {
        let before = scan.cost.requests;
        let mut pending: BTreeMap<usize, BTreeSet<u32>> = (jobs.iter().enumerate())
            .map(|(i, j)| (i, j.partitions.clone()))
            .collect();
        let most = best.most;
        let whole = jobs.iter().any(|j| matches!(j.task, Task::Blocks(_)));
        let at_once = if whole {
            self.jobs_at_once(JOB_BYTES)
        } else {
            self.config.search.reads
        };
        let jobs = jobs.into_iter().enumerate().map(|(i, job)| {
            let (inner, seen, id) = (self.clone(), seen.clone(), job.segment.id.0);
            async move {
                (
                    i,
                    id,
                    inner.run_job(job.segment, job.task, seen, most).await,
                )
            }
        });
        let mut running = futures::stream::iter(jobs).buffer_unordered(at_once);
        loop {
            match tokio::time::timeout_at(deadline, running.next()).await {
                Ok(None) => break,
                Ok(Some((i, _, Ok((found, rows, spent))))) => {
                    pending.remove(&i);
                    scan.scored += rows;
                    scan.cost.requests += spent.requests;
                    scan.cost.bytes += spent.bytes;
                    found.into_iter().for_each(|n| best.offer(n));
                }
                Ok(Some((_, id, Err(error)))) => scan.unreachable(id, &error),
                Err(_) => {
                    scan.late(pending.values().flatten());
                    break;
                }
            }
        }
        scan.unread.extend(pending.into_values().flatten());
        scan.note_round(before);
    }

    /// Reads and scores what one job wants.
    async fn run_job(
        self: Arc<Self>,
        segment: Arc<Segment>,
        task: Task,
        seen: Seen,
        most: usize,
    ) -> Result<Scored> {
        let mut cost = ReadCost::default();
        let mut wanted: Vec<Wanted> = Vec::new();
        match task {
            Task::Groups(groups) => {
                wanted.extend(groups.into_iter().map(|(b, g, rows)| (b, g, Some(rows))));
            }
            Task::Blocks(blocks) => {
                for index in blocks {
                    let block = segment.block(index)?;
                    let groups = 0..segment.directory.group_count(block);
                    let groups = groups.filter_map(|g| segment.directory.group(block, g));
                    wanted.extend(groups.map(|g| (index, g, None)));
                }
            }
        }
        let groups: Vec<Group> = wanted.iter().map(|(_, g, _)| g.clone()).collect();
        let packed = self
            .blocks
            .read_groups(&segment, &groups, &mut cost)
            .await?;
        let floats = groups.iter().map(|g| g.rows as usize).sum::<usize>() * self.dim;
        let score = move || -> Result<(Vec<Neighbor>, u64)> {
            let (mut best, mut scored) = (Best::new(most), 0);
            let query = &seen.request.vector;
            let scale = self.metric.scale(query);
            for ((index, group, rows), bytes) in wanted.iter().zip(&packed) {
                let scanned = self.blocks.unpack_group(&segment, *index, group, bytes)?;
                let first = segment.block(*index)?.first_ordinal + group.first_place;
                let vector = |place: usize| scanned.vectors.chunks_exact(self.dim).nth(place);
                let mut compare = |place: usize, row: Row| {
                    if let Some(vector) = vector(place) {
                        scored += 1;
                        let own = self.metric.scale(vector);
                        let distance = (self.metric).distance_scaled(query, scale, vector, own);
                        best.offer(Neighbor { row, distance });
                    }
                };
                match rows {
                    Some(rows) => {
                        for (row, place) in rows {
                            check_row(&segment, &scanned.rows, *place, *row)?;
                            compare(*place, *row);
                            if let Some(vector) = vector(*place).filter(|_| scanned.again) {
                                self.blocks
                                    .keep_row(&segment, first + *place as u32, vector);
                            }
                        }
                    }
                    None => {
                        for (place, row) in scanned.rows.iter().enumerate() {
                            if !seen.hides(&segment, first + place as u32, *row) {
                                compare(place, *row);
                            }
                        }
                    }
                }
            }
            Ok((best.into_vec(), scored))
        };
        let (found, scored) = if floats <= INLINE_FLOATS {
            score()?
        } else {
            offload(score).await??
        };
        Ok((found, scored, cost))
    }

    /// Compares every cold row.
    pub(super) async fn scan_complete(
        self: &Arc<Self>,
        view: &ColdView,
        seen: &Seen,
        deadline: Instant,
        most: usize,
    ) -> Result<ColdScan> {
        let mut scan = ColdScan::of(view);
        let mut best = Best::new(most);
        let jobs = whole_blocks(blocks_of(view, |_| true))?;
        self.run_jobs(jobs, seen, deadline, &mut best, &mut scan)
            .await;
        // Blocks of a partition whose rows are all dead are read too; it is none of those that hold rows.
        let missed = scan.unread.iter().filter(|p| view.cell(**p).is_some());
        scan.probed = view.partitions().saturating_sub(missed.count());
        scan.proven = scan.cuts.is_empty();
        scan.bar = best.bar();
        scan.found = best.into_vec();
        Ok(scan)
    }
}

impl ColdScan {
    /// Nothing yet, but for what cannot be looked at.
    pub(super) fn of(view: &ColdView) -> Self {
        Self {
            cuts: view.lost_cuts(),
            ..Self::default()
        }
    }

    /// Notes that a round has ended, if it made requests: there had been `before`.
    pub(super) fn note_round(&mut self, before: u64) {
        self.rounds += u32::from(self.cost.requests > before);
    }

    /// Whether points that had expired took the places of others that may be answers: `expired` of them were met, and the answers are
    /// `found`, the last of them at `last`, of `k`.
    pub(super) fn crowded(
        &self,
        expired: usize,
        found: usize,
        last: Option<f32>,
        k: usize,
    ) -> bool {
        let short = found < k || last.is_some_and(|last| last > self.bar);
        expired > 0 && self.bar.is_finite() && short
    }

    /// Notes that time ran out before these partitions were read. An answer has one such note, whatever it was that was late.
    pub(super) fn late<'a>(&mut self, missed: impl Iterator<Item = &'a u32>) {
        self.late.extend(missed);
        let partitions = self.late.len();
        self.cuts.retain(|c| !matches!(c, Cut::Deadline { .. }));
        self.cuts.push(Cut::Deadline { partitions });
    }

    pub(super) fn unreachable(&mut self, segment: u64, error: &Error) {
        tracing::warn!(segment, %error, "a segment could not be searched");
        let error = error.to_string();
        let known = |c: &Cut| matches!(c, Cut::Unreachable { segment: s, .. } if *s == segment);
        if !self.cuts.iter().any(known) {
            self.cuts.push(Cut::Unreachable { segment, error });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_are_kept_and_the_worst_let_go() {
        let mut best = Best::new(3);
        assert_eq!(best.bar(), f32::INFINITY);
        for d in [5.0, 1.0, 4.0, 2.0, 3.0] {
            best.offer(Neighbor {
                row: Row(d as u64),
                distance: d,
            });
        }
        assert_eq!(best.bar(), 3.0);
        let mut kept: Vec<u64> = best.into_vec().into_iter().map(|n| n.row.0).collect();
        kept.sort_unstable();
        assert_eq!(kept, [1, 2, 3]);
    }
}

//! Vectors and payloads of rows whose names are known.
//!
//! All reads of one call go side by side, one request for what is wanted of a segment's vectors and one for its payloads: on a remote store
//! they cost one round, however many rows, segments and blocks there are. What would not fit in a quarter of `memory.working_space` comes in
//! several.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use tokio::time::Instant;

use super::cold::{ReadCost, Segment};
use super::inner::Inner;
use super::query::{LONGEST, Named};
use super::record::{Fresh, Home};
use super::types::{Cut, Parts};
use super::working::on_their_way;
use crate::error::{Error, Result};
use crate::id::{Row, SegmentId};
use crate::role::{Fidelity, Table};
use crate::segment::Group;

/// Vector, fidelity and payload of a row.
pub(super) type PartsRead = (Option<Vec<f32>>, Fidelity, Option<serde_json::Value>);

/// A group that is wanted: its block, itself, and (place among the wanted rows, place in the group).
type WantedGroup = (usize, Group, Vec<(usize, usize)>);

/// What is wanted of a segment.
#[derive(Debug)]
struct OfSegment {
    segment: Arc<Segment>,
    /// By number.
    groups: BTreeMap<u32, WantedGroup>,
    /// By block: (place among the wanted rows, place in the block).
    payloads: BTreeMap<usize, Vec<(usize, usize)>>,
}

/// What is wanted of segments, by their numbers.
type OfSegments = BTreeMap<u64, OfSegment>;

/// Bytes that were read, still packed, or why they were not; `None` when they came too late.
type Packed = (Option<Result<Vec<Bytes>>>, ReadCost);

/// How far reading goes, what it left out and what it cost. Without a deadline nothing may be left out.
#[derive(Debug, Default)]
pub(super) struct ReadLimit {
    deadline: Option<Instant>,
    /// Segments and why they could not be read.
    unreachable: BTreeMap<u64, String>,
    /// Partitions whose parts were not read in time.
    late: BTreeSet<u32>,
    /// Points left out because the outcome of their last write is unknown.
    unsure: usize,
    pub(super) cost: ReadCost,
    /// Rounds in which there were requests.
    pub(super) rounds: u32,
}

impl ReadLimit {
    pub(super) fn until(deadline: Instant) -> Self {
        Self {
            deadline: Some(deadline),
            ..Self::default()
        }
    }

    /// What was read of a segment, or notes why it could not be.
    ///
    /// # Errors
    /// That of the read, where nothing may be left out.
    fn take<T>(
        &mut self,
        segment: &Segment,
        partitions: impl IntoIterator<Item = u32>,
        read: Option<Result<T>>,
    ) -> Result<Option<T>> {
        match read {
            Some(Ok(value)) => return Ok(Some(value)),
            Some(Err(error)) => self.refuse(segment.id, error)?,
            None => self.late.extend(partitions),
        }
        Ok(None)
    }

    /// Notes why a segment could not be read.
    ///
    /// # Errors
    /// The same, where nothing may be left out.
    fn refuse(&mut self, segment: SegmentId, error: Error) -> Result<()> {
        if self.deadline.is_none() {
            return Err(error);
        }
        let why = self.unreachable.entry(segment.0);
        why.or_insert_with(|| error.to_string());
        Ok(())
    }

    pub(super) fn cuts(self) -> Vec<Cut> {
        let unreachable = |(segment, error)| Cut::Unreachable { segment, error };
        let mut cuts: Vec<Cut> = self.unreachable.into_iter().map(unreachable).collect();
        let (partitions, points) = (self.late.len(), self.unsure);
        cuts.extend((partitions > 0).then_some(Cut::Deadline { partitions }));
        cuts.extend((points > 0).then_some(Cut::Unsure { points }));
        cuts
    }
}

impl Inner {
    /// What to do about a row that the metadata store no longer knows, or knows in a segment that this process does not.
    /// Normally a writer is about to show why. But once a write's outcome is unknown nobody ever will, in this process: a search leaves
    /// the point out and says so, a read by id says so.
    ///
    /// # Errors
    /// `Poisoned` where nothing may be left out.
    pub(super) fn leave_unsure(&self, limit: &mut ReadLimit) -> Result<bool> {
        match &*self.poisoned.read() {
            None => Ok(false),
            Some(_) if limit.deadline.is_some() => {
                limit.unsure += 1;
                Ok(true)
            }
            Some(e) => Err(Error::poisoned(format!(
                "the last write of this point has an unknown outcome; reopen the memory to find out. It said: {e}"
            ))),
        }
    }

    /// Reads vectors and payloads of named rows, in order. `None` when a row was changed meanwhile.
    pub(super) async fn read_parts(
        self: &Arc<Self>,
        wants: &[(Row, Named)],
        parts: Parts,
        limit: &mut ReadLimit,
    ) -> Result<Option<Vec<PartsRead>>> {
        let mut read: Vec<PartsRead> = vec![(None, Fidelity::Exact, None); wants.len()];
        let mut cold = OfSegments::new();
        let mut fresh = Vec::new();
        let view = self.view();
        for (i, (row, named)) in wants.iter().enumerate() {
            let place = match named.home {
                Home::Fresh => {
                    if parts.payload && named.payload {
                        fresh.push(i);
                    }
                    None
                }
                Home::Segment(id, ordinal) => {
                    let segment = view.find(id);
                    let place = segment.and_then(|s| Some((s, s.directory.locate(ordinal)?)));
                    let Some((segment, place)) = place else {
                        if let Some(lost) = view.lost.get(&id) {
                            limit.refuse(id, lost.refusal())?;
                            continue;
                        }
                        if self.leave_unsure(limit)? {
                            continue;
                        }
                        return Ok(None);
                    };
                    read[i].1 = segment.fidelity;
                    Some((segment, place))
                }
            };
            if parts.vector {
                let mut vector = vec![0.0; self.dim];
                if named.resident && self.hot.read(*row, &mut vector)? {
                    read[i].0 = Some(vector);
                } else if let Some((segment, (block, at))) = place
                    && let Some(group) = segment.directory.group_of(segment.block(block)?, at)
                {
                    let at = at - group.first_place as usize;
                    let groups = &mut of(&mut cold, segment).groups;
                    let wanted = groups.entry(group.number);
                    let wanted = wanted.or_insert_with(|| (block, group, Vec::new()));
                    wanted.2.push((i, at));
                } else {
                    return Ok(None);
                }
            }
            if parts.payload
                && named.payload
                && let Some((segment, (block, at))) = place
            {
                let payloads = &mut of(&mut cold, segment).payloads;
                payloads.entry(block).or_default().push((i, at));
            }
        }
        let later = || Instant::now() + LONGEST;
        for (bytes, wave) in waves(cold, on_their_way(&self.config))? {
            let before = limit.cost.requests;
            let deadline = limit.deadline.unwrap_or_else(later);
            let _room = self.parts_room.take(bytes, deadline).await;
            self.read_cold_parts(wave, wants, limit, &mut read).await?;
            limit.rounds += u32::from(limit.cost.requests > before);
        }
        if !fresh.is_empty() {
            let keys: Vec<Bytes> = fresh
                .iter()
                .map(|i| Bytes::copy_from_slice(&wants[*i].0.key()))
                .collect();
            for (i, value) in fresh
                .into_iter()
                .zip(self.get_chunked(Table::Fresh, &keys).await?)
            {
                let Some(value) = value else {
                    if self.leave_unsure(limit)? {
                        continue;
                    }
                    return Ok(None);
                };
                let record = Fresh::decode(&value, self.dim)?;
                read[i].2 = record.payload.map(|b| parse_payload(&b)).transpose()?;
            }
        }
        Ok(Some(read))
    }

    /// Reads what is wanted of segments, side by side.
    async fn read_cold_parts(
        self: &Arc<Self>,
        cold: OfSegments,
        wants: &[(Row, Named)],
        limit: &mut ReadLimit,
        read: &mut [PartsRead],
    ) -> Result<()> {
        let reads: Vec<BoxFuture<'static, Packed>> = (cold.values())
            .flat_map(|of| self.reads_of(of, limit.deadline))
            .collect();
        let side_by_side = futures::stream::iter(reads).buffered(self.config.search.reads);
        // In the order of `cold`, of each segment the vectors first.
        let packed: Vec<Packed> = side_by_side.collect().await;
        let mut packed = packed.into_iter().peekable();
        for of in cold.into_values() {
            let segment = &*of.segment;
            let partition = |b: &usize| Some(segment.directory.blocks.get(*b)?.partition);
            let mut bytes_of = |blocks: Vec<usize>, limit: &mut ReadLimit| -> Result<Vec<Bytes>> {
                let Some((bytes, cost)) = packed.next_if(|_| !blocks.is_empty()) else {
                    return Ok(Vec::new());
                };
                limit.cost.add(cost);
                let taken = limit.take(segment, blocks.iter().filter_map(partition), bytes);
                Ok(taken?.unwrap_or_default())
            };
            let groups = bytes_of(of.groups.values().map(|g| g.0).collect(), limit)?;
            let payloads = bytes_of(of.payloads.keys().copied().collect(), limit)?;
            for ((block, group, places), bytes) in of.groups.into_values().zip(groups) {
                let unpacked = self.blocks.unpack_group(segment, block, &group, &bytes);
                let Some(scanned) = limit.take(segment, None, Some(unpacked))? else {
                    continue;
                };
                for (i, at) in places {
                    check_row(segment, &scanned.rows, at, wants[i].0)?;
                    let vector = scanned.vectors.chunks_exact(self.dim).nth(at);
                    read[i].0 = vector.map(<[f32]>::to_vec);
                }
            }
            for ((block, places), bytes) in of.payloads.into_iter().zip(payloads) {
                let unpacked = self.blocks.unpack_payloads(segment, block, &bytes);
                let Some(unpacked) = limit.take(segment, None, Some(unpacked))? else {
                    continue;
                };
                for (i, at) in places {
                    let bytes = unpacked.get(at);
                    read[i].2 = bytes.map(|b| parse_payload(&b)).transpose()?;
                }
            }
        }
        Ok(())
    }

    /// The reads of what is wanted of a segment: of its vectors, then of its payloads.
    fn reads_of(
        self: &Arc<Self>,
        of: &OfSegment,
        deadline: Option<Instant>,
    ) -> Vec<BoxFuture<'static, Packed>> {
        let mut reads = Vec::new();
        if !of.groups.is_empty() {
            let (inner, segment) = (self.clone(), of.segment.clone());
            let groups: Vec<Group> = of.groups.values().map(|(_, g, _)| g.clone()).collect();
            reads.push(until(deadline, async move {
                let mut cost = ReadCost::default();
                let read = inner.blocks.read_groups(&segment, &groups, &mut cost);
                (read.await, cost)
            }));
        }
        if !of.payloads.is_empty() {
            let (inner, segment) = (self.clone(), of.segment.clone());
            let blocks: Vec<usize> = of.payloads.keys().copied().collect();
            reads.push(until(deadline, async move {
                let mut cost = ReadCost::default();
                let read = inner.blocks.read_payloads(&segment, &blocks, &mut cost);
                (read.await, cost)
            }));
        }
        reads
    }
}

/// What is wanted of a segment so far.
fn of<'a>(cold: &'a mut OfSegments, segment: &Arc<Segment>) -> &'a mut OfSegment {
    cold.entry(segment.id.0).or_insert_with(|| OfSegment {
        segment: segment.clone(),
        groups: BTreeMap::new(),
        payloads: BTreeMap::new(),
    })
}

/// What is wanted in parts of so many packed bytes, or of one piece that has more, each with its bytes.
fn waves(cold: OfSegments, space: u64) -> Result<Vec<(u64, OfSegments)>> {
    let (mut waves, mut wave, mut bytes) = (Vec::new(), OfSegments::new(), 0);
    let mut fits = |wave: &mut OfSegments, range: Range<u64>| {
        let more = range.end - range.start;
        if bytes > 0 && bytes + more > space {
            waves.push((bytes, std::mem::take(wave)));
            bytes = 0;
        }
        bytes += more;
    };
    for wanted in cold.into_values() {
        let segment = &wanted.segment;
        for (number, group) in wanted.groups {
            fits(&mut wave, group.1.range.clone());
            of(&mut wave, segment).groups.insert(number, group);
        }
        for (block, places) in wanted.payloads {
            fits(&mut wave, segment.block(block)?.payloads_range());
            of(&mut wave, segment).payloads.insert(block, places);
        }
    }
    waves.push((bytes, wave));
    Ok(waves)
}

/// A read that is given up at the deadline, if there is one.
fn until(
    deadline: Option<Instant>,
    read: impl Future<Output = (Result<Vec<Bytes>>, ReadCost)> + Send + 'static,
) -> BoxFuture<'static, Packed> {
    Box::pin(async move {
        let Some(deadline) = deadline else {
            let (read, cost) = read.await;
            return (Some(read), cost);
        };
        match tokio::time::timeout_at(deadline, read).await {
            Ok((read, cost)) => (Some(read), cost),
            Err(_) => (None, ReadCost::default()),
        }
    })
}

pub(super) fn check_row(segment: &Segment, rows: &[Row], at: usize, expected: Row) -> Result<()> {
    match rows.get(at) {
        Some(row) if *row == expected => Ok(()),
        got => Err(Error::corrupt(format!(
            "segment {}: expected {expected:?} at place {at} of its block, got {got:?}; run `aether check`",
            segment.id
        ))),
    }
}

fn parse_payload(bytes: &[u8]) -> Result<serde_json::Value> {
    serde_json::from_slice(bytes)
        .map_err(|e| Error::corrupt("a stored payload is not JSON").with_source(e))
}

//! The rows of a step: which blocks they are in, what of them still lives.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use futures::StreamExt;

use super::super::cold::Segment;
use super::super::inner::Inner;
use super::super::offload::offload;
use super::super::record::Stub;
use crate::error::{Error, Result};
use crate::id::{PointId, Row, SegmentId};
use crate::role::Table;
use crate::segment::{Block, SegmentRow};

/// Reads of a step at once: a remote store answers several in the time of one.
const READS: usize = 4;
/// Rows looked up together.
const LOOKED_UP: usize = 4096;

/// Blocks of one input that a step takes.
pub(super) struct Taken {
    pub(super) segment: Arc<Segment>,
    pub(super) blocks: Vec<usize>,
    /// Whether no live block is left.
    pub(super) whole: bool,
}

impl Taken {
    /// Its blocks in runs of at most so many bytes, if one block is not more: what is read at once.
    fn reads(&self, most: u64) -> Vec<Range<usize>> {
        let (mut runs, mut bytes): (Vec<Range<usize>>, u64) = (Vec::new(), 0);
        for (at, index) in self.blocks.iter().enumerate() {
            let block = whole_bytes(&self.segment.directory.blocks[*index]);
            bytes += block;
            match runs.last_mut().filter(|_| bytes <= most) {
                Some(run) => run.end = at + 1,
                None => {
                    runs.push(at..at + 1);
                    bytes = block;
                }
            }
        }
        runs
    }
}

/// Some blocks of one segment as they were read.
struct Read {
    /// Each with how many of the parts are its own.
    blocks: Vec<(Block, usize)>,
    parts: Vec<Bytes>,
}

impl Read {
    fn bytes(&self) -> u64 {
        self.parts.iter().map(|b| b.len() as u64).sum()
    }
}

/// Rows on their way, and the places where they were.
#[derive(Default)]
pub(super) struct Gathered {
    pub(super) rows: Vec<SegmentRow>,
    pub(super) places: BTreeMap<Row, (SegmentId, u32)>,
    pub(super) ttl: BTreeSet<Row>,
    pub(super) read: u64,
}

/// Leaves out those rows of a block that a step does not want; the dead ones are left out already.
pub(super) type Sieve = Arc<dyn Fn(&[SegmentRow], &mut [bool]) + Send + Sync>;

impl Inner {
    pub(super) fn take_blocks(&self, inputs: &[Arc<Segment>]) -> Vec<Taken> {
        let mut live = Vec::new();
        for (input, segment) in inputs.iter().enumerate() {
            for (index, block) in segment.directory.blocks.iter().enumerate() {
                let dead = segment.dead_in(block);
                let rows = dead.iter().filter(|d| !**d).count() as u64;
                if rows > 0 {
                    let bytes = whole_bytes(block) * rows / u64::from(block.rows);
                    live.push((block.partition, input, index, rows, bytes));
                }
            }
        }
        live.sort_unstable();
        let (mut rows, mut bytes) = (0, 0);
        let most = self.config.compaction.segment_bytes.0;
        let fits = live
            .iter()
            .take_while(|b| {
                let first = rows == 0;
                (rows, bytes) = (rows + b.3, bytes + b.4);
                first || self.size(rows, bytes) <= most
            })
            .count();
        let mut taken: Vec<Taken> = inputs
            .iter()
            .map(|segment| Taken {
                segment: segment.clone(),
                blocks: Vec::new(),
                whole: true,
            })
            .collect();
        for (at, (_, input, index, ..)) in live.into_iter().enumerate() {
            if at < fits {
                taken[input].blocks.push(index);
            } else {
                taken[input].whole = false;
            }
        }
        taken
    }

    /// Reads the rows of some blocks that are not marked dead and that `sieve` lets through, a few reads at once, in order; stops early when
    /// `enough` says so. The error names the part that it came from by its place.
    pub(super) async fn gather_rows(
        self: &Arc<Self>,
        parts: &[Taken],
        sieve: Option<&Sieve>,
        enough: impl Fn() -> bool,
        gathered: &mut Gathered,
    ) -> std::result::Result<(), (usize, Error)> {
        let most = self.read_bytes();
        let mut pieces = Vec::new();
        for (place, part) in parts.iter().enumerate() {
            pieces.extend(part.reads(most).into_iter().map(|range| (place, range)));
        }
        let reads = pieces.into_iter().map(|(place, range)| {
            let (inner, segment) = (self.clone(), parts[place].segment.clone());
            let blocks = parts[place].blocks[range].iter();
            let blocks: Vec<Block> = blocks.map(|b| segment.directory.blocks[*b]).collect();
            async move { (place, inner.read_whole(&segment, blocks).await) }
        });
        let mut reads = futures::stream::iter(reads).buffered(READS);
        while !enough() {
            let Some((place, read)) = reads.next().await else {
                break;
            };
            let at = |e| (place, e);
            let segment = &parts[place].segment;
            let read = read.map_err(at)?;
            gathered.read += read.bytes();
            let rows = self.unpack(segment.clone(), read, sieve.cloned()).await;
            for (ordinal, row) in rows.map_err(at)? {
                gathered.places.insert(row.row, (segment.id, ordinal));
                gathered.rows.push(row);
            }
        }
        Ok(())
    }

    async fn read_whole(&self, segment: &Segment, blocks: Vec<Block>) -> Result<Read> {
        let ranges: Vec<_> = blocks.iter().map(|b| segment.whole_ranges(b)).collect();
        let parts = self
            .blocks
            .read_past_cache(segment, &ranges.concat())
            .await?;
        let lengths = ranges.iter().map(Vec::len);
        Ok(Read {
            blocks: blocks.into_iter().zip(lengths).collect(),
            parts,
        })
    }

    async fn unpack(
        self: &Arc<Self>,
        segment: Arc<Segment>,
        read: Read,
        sieve: Option<Sieve>,
    ) -> Result<Vec<(u32, SegmentRow)>> {
        let inner = self.clone();
        let unpacked = offload(move || {
            let mut rows = Vec::new();
            let mut rest = &read.parts[..];
            for (block, parts) in &read.blocks {
                let (now, later) = rest.split_at(*parts);
                rest = later;
                let mut left_out = segment.dead_in(block);
                let unpacked = inner.blocks.unpack_whole(&segment, block, now)?;
                if let Some(sieve) = &sieve {
                    sieve(&unpacked, &mut left_out);
                }
                let placed = (block.first_ordinal..).zip(unpacked).zip(left_out);
                rows.extend(placed.filter(|(_, out)| !out).map(|(row, _)| row));
            }
            Ok(rows)
        });
        unpacked.await?
    }

    /// Leaves out what was killed and is not marked yet, and what has expired, which is removed first.
    pub(super) async fn drop_dead(&self, gathered: &mut Gathered) -> Result<()> {
        // Neighbours in the store are looked up together.
        gathered.rows.sort_unstable_by_key(|r| r.row);
        let key = |r: &SegmentRow| Bytes::copy_from_slice(&r.row.key());
        let mut live: HashSet<Row> = HashSet::with_capacity(gathered.rows.len());
        for rows in gathered.rows.chunks(LOOKED_UP) {
            let keys: Vec<Bytes> = rows.iter().map(key).collect();
            for (row, value) in rows.iter().zip(self.get_chunked(Table::Cold, &keys).await?) {
                let Some(stub) = value.as_deref().map(Stub::decode).transpose()? else {
                    continue;
                };
                if gathered.places.get(&row.row) == Some(&(stub.segment, stub.ordinal)) {
                    live.insert(row.row);
                    if stub.ttl {
                        gathered.ttl.insert(row.row);
                    }
                }
            }
        }
        let mortal: Vec<Row> = gathered.ttl.iter().copied().collect();
        let now = self.now();
        let mut expiries = self.expiries_now(&mortal).await?;
        expiries.retain(|_, e| e.at <= now.0);
        if !expiries.is_empty() {
            let ended = gathered
                .rows
                .iter()
                .filter(|r| expiries.contains_key(&r.row));
            let ended: Vec<(PointId, Row)> = ended.map(|r| (r.id.clone(), r.row)).collect();
            let removed = self.expire_rows(ended).await?;
            self.counts.expired.fetch_add(removed as u64, Relaxed);
            let rows: Vec<Row> = expiries.into_keys().collect();
            let keys: Vec<Bytes> = rows
                .iter()
                .map(|r| Bytes::copy_from_slice(&r.key()))
                .collect();
            for (row, value) in rows.iter().zip(self.get_chunked(Table::Cold, &keys).await?) {
                if value.is_none() {
                    live.remove(row);
                }
            }
        }
        gathered.rows.retain(|r| live.contains(&r.row));
        Ok(())
    }
}

/// Bytes that are read of a block: all but its codes.
fn whole_bytes(block: &Block) -> u64 {
    u64::from(block.vectors_bytes) + u64::from(block.keys_bytes) + u64::from(block.payloads_bytes)
}

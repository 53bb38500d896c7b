//! The rows of a step: which blocks they are in, what of them still lives.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;

use super::super::cold::Segment;
use super::super::inner::Inner;
use super::super::record::Stub;
use crate::error::{Error, Result};
use crate::id::{PointId, Row, SegmentId};
use crate::role::Table;
use crate::segment::{Block, SegmentRow};

/// Bytes read by one request.
const READ_BYTES: u64 = 8 << 20;

/// Blocks of one input that a step takes.
pub(super) struct Taken {
    pub(super) segment: Arc<Segment>,
    pub(super) blocks: Vec<usize>,
    /// Whether no live block is left.
    pub(super) whole: bool,
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

    /// Reads the rows of some blocks that are not marked dead and that `sieve` lets through.
    pub(super) async fn gather_rows(
        self: &Arc<Self>,
        part: &Taken,
        sieve: Option<&Sieve>,
        gathered: &mut Gathered,
    ) -> Result<()> {
        let mut rest = part.blocks.as_slice();
        while !rest.is_empty() {
            let mut bytes = 0;
            let within = |index: &&usize| {
                let first = bytes == 0;
                bytes += whole_bytes(&part.segment.directory.blocks[**index]);
                first || bytes <= READ_BYTES
            };
            let n = rest.iter().take_while(within).count();
            let (now, later) = rest.split_at(n);
            rest = later;
            let blocks = now.iter().map(|i| part.segment.directory.blocks[*i]);
            let blocks: Vec<_> = blocks.collect();
            let parts: Vec<_> = blocks
                .iter()
                .map(|b| part.segment.whole_ranges(b))
                .collect();
            let ranges = parts.concat();
            let read = self.blocks.read_past_cache(&part.segment, &ranges).await?;
            gathered.read += read.iter().map(|b| b.len() as u64).sum::<u64>();
            let (inner, segment, sieve) = (self.clone(), part.segment.clone(), sieve.cloned());
            let unpacked = tokio::task::spawn_blocking(move || {
                let mut rows = Vec::new();
                let mut read = &read[..];
                for (block, parts) in blocks.iter().zip(&parts) {
                    let (now, later) = read.split_at(parts.len());
                    read = later;
                    let mut left_out = segment.dead_in(block);
                    let unpacked = inner.blocks.unpack_whole(&segment, block, now)?;
                    if let Some(sieve) = &sieve {
                        sieve(&unpacked, &mut left_out);
                    }
                    let placed = (block.first_ordinal..).zip(unpacked).zip(left_out);
                    rows.extend(placed.filter(|(_, out)| !out).map(|(row, _)| row));
                }
                Ok::<_, Error>(rows)
            });
            for (ordinal, row) in unpacked.await.map_err(Error::task)?? {
                gathered.places.insert(row.row, (part.segment.id, ordinal));
                gathered.rows.push(row);
            }
        }
        Ok(())
    }

    /// Leaves out what was killed and is not marked yet, and what has expired, which is removed first.
    pub(super) async fn drop_dead(&self, gathered: &mut Gathered) -> Result<()> {
        let keys = |rows: &[SegmentRow]| -> Vec<Bytes> {
            let key = |r: &SegmentRow| Bytes::copy_from_slice(&r.row.key());
            rows.iter().map(key).collect()
        };
        let mut live: BTreeSet<Row> = BTreeSet::new();
        let stored = self.get_chunked(Table::Cold, &keys(&gathered.rows)).await?;
        for (row, value) in gathered.rows.iter().zip(stored) {
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

//! The cold tier in RAM: which segments there are, what is dead in them, and how their blocks are read.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use bytes::Bytes;
use parking_lot::RwLock;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use tokio::time::Instant;

use super::record::Manifest;
use super::stats::Counts;
use crate::codec::Decoders;
use crate::error::{Error, Result};
use crate::id::{BlobKey, Row, SegmentId};
use crate::partition::{Generation, choose};
use crate::role::{ColdStore, Fidelity};
use crate::segment::{
    Block, Directory, Payloads, SegmentRow, parse_footer, parse_keys, parse_payloads, parse_rows,
    parse_vectors,
};

/// A committed segment.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) id: SegmentId,
    pub(crate) blob: BlobKey,
    pub(crate) bytes: u64,
    pub(crate) directory: Directory,
    /// What its codec gives back.
    pub(crate) fidelity: Fidelity,
    /// Bit by ordinal, and how many are set.
    dead: RwLock<(Vec<u64>, u32)>,
}

impl Segment {
    pub(crate) fn new(
        id: SegmentId,
        manifest: &Manifest,
        directory: Directory,
        fidelity: Fidelity,
    ) -> Self {
        let dead = RwLock::new((vec![0; (directory.rows as usize).div_ceil(64)], 0));
        let (blob, bytes) = (manifest.blob.clone(), manifest.bytes);
        Self {
            id,
            blob,
            bytes,
            directory,
            fidelity,
            dead,
        }
    }

    /// Marks a row dead for every search that begins from now on.
    pub(crate) fn mark_dead(&self, ordinal: u32) {
        let (words, count) = &mut *self.dead.write();
        if let Some(word) = words.get_mut(ordinal as usize / 64) {
            let bit = 1 << (ordinal % 64);
            *count += u32::from(*word & bit == 0);
            *word |= bit;
        }
    }

    /// Whether a row is marked dead.
    pub(crate) fn is_dead(&self, ordinal: u32) -> bool {
        let dead = self.dead.read();
        let word = dead.0.get(ordinal as usize / 64);
        word.is_some_and(|w| w >> (ordinal % 64) & 1 == 1)
    }

    /// The same segment for searches that begin from now on, in which some more rows count as dead: they have moved on. Those that
    /// began before keep this one.
    pub(crate) fn without(&self, ordinals: &[u32]) -> Self {
        let copy = Self {
            id: self.id,
            blob: self.blob.clone(),
            bytes: self.bytes,
            directory: self.directory.clone(),
            fidelity: self.fidelity,
            dead: RwLock::new(self.dead.read().clone()),
        };
        ordinals.iter().for_each(|o| copy.mark_dead(*o));
        copy
    }

    /// Rows not marked dead.
    pub(crate) fn live(&self) -> u64 {
        u64::from(self.directory.rows.saturating_sub(self.dead.read().1))
    }

    /// For each place of a block whether its row is dead.
    pub(crate) fn dead_in(&self, first_ordinal: u32, rows: u32) -> Vec<bool> {
        let dead = self.dead.read();
        let bit = |o: u32| {
            dead.0
                .get(o as usize / 64)
                .is_some_and(|w| w >> (o % 64) & 1 == 1)
        };
        (first_ordinal..first_ordinal + rows).map(bit).collect()
    }

    fn ram_bytes(&self) -> u64 {
        let blocks = self.directory.blocks.len() * size_of::<Block>();
        (blocks + self.directory.rows as usize / 8 + size_of::<Self>()) as u64
    }
}

/// One moment of the cold tier. Immutable; a change publishes another.
#[derive(Clone, Debug, Default)]
pub(crate) struct ColdView {
    pub(crate) segments: BTreeMap<SegmentId, Arc<Segment>>,
    pub(crate) generations: Vec<Arc<Generation>>,
    /// Segments that are no longer, or perhaps not yet, searched: a row that a name leads to may still be read there, and a kill that a
    /// search of before must see is marked there.
    pub(crate) beside: Vec<Arc<Segment>>,
    /// Rows written to each partition, by its number.
    partition_rows: Arc<Vec<u64>>,
}

impl ColdView {
    /// The same with one segment more.
    pub(crate) fn with_segment(&self, segment: Arc<Segment>) -> Self {
        self.with_segments([segment])
    }

    /// The same with some segments more.
    pub(crate) fn with_segments(&self, segments: impl IntoIterator<Item = Arc<Segment>>) -> Self {
        let mut next = self.clone();
        let rows = Arc::make_mut(&mut next.partition_rows);
        for segment in segments {
            for block in &segment.directory.blocks {
                let partition = block.partition as usize;
                if rows.len() <= partition {
                    rows.resize(partition + 1, 0);
                }
                if let Some(held) = rows.get_mut(partition) {
                    *held += u64::from(block.rows);
                }
            }
            next.segments.insert(segment.id, segment);
        }
        next
    }

    /// The same after a compaction: `added` in place of `removed`, and segments of which some rows moved on in the place of their
    /// former selves. What searches of before read stays beside.
    pub(crate) fn compacted(
        &self,
        added: Option<Arc<Segment>>,
        removed: &[SegmentId],
        lessened: Vec<Arc<Segment>>,
    ) -> Self {
        let mut next = self.with_segments(added);
        let rows = Arc::make_mut(&mut next.partition_rows);
        for id in removed {
            let Some(segment) = next.segments.remove(id) else {
                continue;
            };
            for block in &segment.directory.blocks {
                if let Some(held) = rows.get_mut(block.partition as usize) {
                    *held = held.saturating_sub(u64::from(block.rows));
                }
            }
            next.beside.push(segment);
        }
        for segment in lessened {
            next.beside
                .extend(next.segments.insert(segment.id, segment));
        }
        next
    }

    /// The same with a segment beside of which nobody knows whether it is part of the memory.
    pub(crate) fn with_beside(&self, segment: Arc<Segment>) -> Self {
        let mut next = self.clone();
        next.beside.push(segment);
        next
    }

    /// The same without some segments beside, as no search of before is left.
    pub(crate) fn without_beside(&self, gone: &[Arc<Segment>]) -> Self {
        let mut next = self.clone();
        next.beside
            .retain(|s| !gone.iter().any(|g| Arc::ptr_eq(s, g)));
        next
    }

    /// A segment that a row's name leads to.
    pub(crate) fn find(&self, id: SegmentId) -> Option<&Arc<Segment>> {
        let beside = || self.beside.iter().rev().find(|s| s.id == id);
        self.segments.get(&id).or_else(beside)
    }

    /// Marks a row dead wherever its segment is still read.
    pub(crate) fn mark_dead(&self, id: SegmentId, ordinal: u32) {
        let beside = self.beside.iter().filter(|s| s.id == id);
        for segment in self.segments.get(&id).into_iter().chain(beside) {
            segment.mark_dead(ordinal);
        }
    }

    /// The same with one generation more.
    pub(crate) fn with_generation(&self, generation: Arc<Generation>) -> Self {
        let mut next = self.clone();
        next.generations.push(generation);
        next
    }

    /// Rows that live in segments, whether or not they are also resident.
    pub(crate) fn live_rows(&self) -> u64 {
        self.segments.values().map(|s| s.live()).sum()
    }

    /// Bytes in the cold store.
    pub(crate) fn blob_bytes(&self) -> u64 {
        self.segments.values().map(|s| s.bytes).sum()
    }

    /// Bytes that the index of the cold tier takes in RAM.
    pub(crate) fn ram_bytes(&self) -> u64 {
        self.segments.values().map(|s| s.ram_bytes()).sum::<u64>()
            + self.generations.iter().map(|g| g.bytes()).sum::<u64>()
            + self.partition_rows.len() as u64 * 8
    }

    /// Partitions that hold rows.
    pub(crate) fn partitions(&self) -> usize {
        self.partition_rows.iter().filter(|n| **n > 0).count()
    }

    /// All partitions that hold rows.
    pub(crate) fn all_partitions(&self) -> BTreeSet<u32> {
        (0..)
            .zip(self.partition_rows.iter())
            .filter(|(_, n)| **n > 0)
            .map(|(p, _)| p)
            .collect()
    }

    /// The partitions nearest to a query that hold a share of the rows.
    pub(crate) fn nearest_partitions(
        &self,
        query: &[f32],
        share: f64,
        min: usize,
    ) -> BTreeSet<u32> {
        let held = |p: u32| self.partition_rows.get(p as usize).copied().unwrap_or(0);
        let total: u64 = self.partition_rows.iter().sum();
        let wanted = (total as f64 * share).ceil() as u64;
        choose(&self.generations, query, held, wanted, min)
            .into_iter()
            .collect()
    }
}

#[derive(Clone, Debug)]
struct BytesWeight;

type CacheKey = (u64, u32, u8);

impl Weighter<CacheKey, Bytes> for BytesWeight {
    fn weight(&self, _: &CacheKey, value: &Bytes) -> u64 {
        value.len() as u64 + 64
    }
}

/// Reads blocks of segments, through a cache of what was read and verified before.
pub(crate) struct BlockReader {
    store: Arc<dyn ColdStore>,
    decoders: Decoders,
    dim: usize,
    payload_max: u64,
    cache: Cache<CacheKey, Bytes, BytesWeight>,
    counts: Arc<Counts>,
    /// Moving average of a request's time, in microseconds, as float bits.
    read_us: AtomicU32,
}

impl fmt::Debug for BlockReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockReader")
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

/// What a read cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ReadCost {
    pub(crate) requests: u64,
    pub(crate) bytes: u64,
}

/// A block's rows and vectors.
#[derive(Debug, Default)]
pub(crate) struct Scanned {
    pub(crate) rows: Vec<Row>,
    /// `[rows, dim]`.
    pub(crate) vectors: Vec<f32>,
}

const SCAN: u8 = 0;
const PAYLOADS: u8 = 1;

impl BlockReader {
    pub(crate) fn new(
        store: Arc<dyn ColdStore>,
        decoders: Decoders,
        dim: usize,
        payload_max: u64,
        cache_bytes: u64,
        counts: Arc<Counts>,
    ) -> Self {
        let items = (cache_bytes / 16_384).clamp(16, 1 << 20) as usize;
        let cache = Cache::with_weighter(items, cache_bytes, BytesWeight);
        let read_us = AtomicU32::new(200f32.to_bits());
        Self {
            store,
            decoders,
            dim,
            payload_max,
            cache,
            counts,
            read_us,
        }
    }

    pub(crate) fn store(&self) -> &Arc<dyn ColdStore> {
        &self.store
    }

    /// Moving average of a request's time in microseconds; 200 before the first.
    pub(crate) fn read_us(&self) -> f32 {
        f32::from_bits(self.read_us.load(Relaxed))
    }

    pub(crate) fn cache_bytes(&self) -> u64 {
        self.cache.weight()
    }

    /// Reads a footer, as the manifest places it.
    pub(crate) async fn footer(&self, id: SegmentId, manifest: &Manifest) -> Result<Segment> {
        let end = manifest
            .footer_offset
            .checked_add(u64::from(manifest.footer_bytes));
        let range = match end {
            Some(end) if end <= manifest.bytes => manifest.footer_offset..end,
            _ => {
                return Err(Error::corrupt("manifest: the footer lies outside the blob")
                    .with("segment", id));
            }
        };
        let bytes = self.fetch(id, &manifest.blob, &[range]).await?;
        let footer = bytes.first().map(|b| &b[..]).unwrap_or_default();
        let directory = parse_footer(id, footer, manifest.footer_offset)?;
        if directory.rows != manifest.rows || directory.generation != manifest.generation {
            return Err(Error::corrupt("footer and manifest disagree").with("segment", id));
        }
        let fidelity = self.decoders.fidelity(&directory.codec)?;
        Ok(Segment::new(id, manifest, directory, fidelity))
    }

    async fn fetch(
        &self,
        id: SegmentId,
        blob: &BlobKey,
        ranges: &[Range<u64>],
    ) -> Result<Vec<Bytes>> {
        self.counts.cold_requests.fetch_add(1, Relaxed);
        let begun = Instant::now();
        let read = self.store.read(blob, ranges).await.map_err(|e| {
            // The manifest knows where a blob ends: a range beyond it means that the blob was cut.
            if e.is_invalid_input() {
                Error::corrupt("the blob is shorter than its manifest says")
                    .with("segment", id)
                    .with("blob", blob)
                    .with_source(e)
            } else {
                e.with("segment", id).with("blob", blob)
            }
        })?;
        let parts = read.ok_or_else(|| {
            Error::corrupt(
                "the blob of a segment is missing from the cold store; run `aether check`",
            )
            .with("segment", id)
            .with("blob", blob)
        })?;
        let fits = parts.len() == ranges.len()
            && parts
                .iter()
                .zip(ranges)
                .all(|(b, r)| b.len() as u64 == r.end - r.start);
        if !fits {
            return Err(
                Error::corrupt("the cold store returned other lengths than asked for")
                    .with("segment", id)
                    .with("blob", blob),
            );
        }
        let (now, before) = (begun.elapsed().as_secs_f32() * 1e6, self.read_us());
        self.read_us
            .store((before + 0.1 * (now - before)).to_bits(), Relaxed);
        let bytes = parts.iter().map(|b| b.len() as u64).sum();
        self.counts.cold_read_bytes.fetch_add(bytes, Relaxed);
        Ok(parts)
    }

    /// Reads one kind of part of some blocks of one segment, the missing ones in one request.
    async fn parts(
        &self,
        segment: &Segment,
        blocks: &[usize],
        kind: u8,
        cost: &mut ReadCost,
    ) -> Result<Vec<Bytes>> {
        let mut found = vec![None; blocks.len()];
        let (mut missing, mut ranges) = (Vec::new(), Vec::new());
        for (place, index) in blocks.iter().enumerate() {
            let block = segment.directory.blocks.get(*index).ok_or_else(|| {
                Error::internal(format!("block {index} of {:?} is out of range", segment.id))
            })?;
            found[place] = self.cache.get(&(segment.id.0, *index as u32, kind));
            if found[place].is_none() {
                missing.push(place);
                ranges.push(if kind == SCAN {
                    block.scan_range()
                } else {
                    block.payloads_range()
                });
            }
        }
        self.counts
            .cache_hits
            .fetch_add((blocks.len() - missing.len()) as u64, Relaxed);
        self.counts
            .cache_misses
            .fetch_add(missing.len() as u64, Relaxed);
        if !missing.is_empty() {
            let read = self.fetch(segment.id, &segment.blob, &ranges).await?;
            cost.requests += 1;
            for (place, bytes) in missing.into_iter().zip(read) {
                cost.bytes += bytes.len() as u64;
                found[place] = Some(bytes);
            }
        }
        Ok(found.into_iter().flatten().collect())
    }

    /// Reads ranges of a segment past the cache.
    pub(crate) async fn read_past_cache(
        &self,
        segment: &Segment,
        ranges: &[Range<u64>],
    ) -> Result<Vec<Bytes>> {
        self.fetch(segment.id, &segment.blob, ranges).await
    }

    /// Checks and unpacks a whole block, as [`BlockReader::read_past_cache`] read it. CPU only.
    pub(crate) fn unpack_whole(
        &self,
        segment: &Segment,
        block: &Block,
        bytes: &Bytes,
    ) -> Result<Vec<SegmentRow>> {
        let part = |range: Range<u64>| {
            let (from, to) = (range.start - block.offset, range.end - block.offset);
            bytes.get(from as usize..to as usize).unwrap_or_default()
        };
        let id = segment.id;
        let rows = parse_rows(id, block, part(block.rows_range()))?;
        let mut vectors = Vec::new();
        let packed = part(block.vectors_range());
        parse_vectors(id, block, packed, self.dim, &self.decoders, &mut vectors)?;
        let ids = parse_keys(id, block, part(block.keys_range()))?;
        let payloads = parse_payloads(id, block, part(block.payloads_range()), self.payload_max)?;
        let whole = rows.into_iter().zip(ids).enumerate();
        let vectors = vectors.chunks_exact(self.dim);
        Ok(whole
            .zip(vectors)
            .map(|((place, (row, id)), vector)| SegmentRow {
                row,
                id,
                vector: vector.to_vec(),
                payload: payloads.get(place),
                partition: block.partition,
            })
            .collect())
    }

    /// Reads rows and vectors of some blocks, still packed.
    pub(crate) async fn read_scan(
        &self,
        segment: &Segment,
        blocks: &[usize],
        cost: &mut ReadCost,
    ) -> Result<Vec<Bytes>> {
        self.parts(segment, blocks, SCAN, cost).await
    }

    /// Checks and unpacks what [`BlockReader::read_scan`] read, and keeps the good bytes in the cache. CPU only.
    pub(crate) fn unpack_scan(
        &self,
        segment: &Segment,
        index: usize,
        bytes: &Bytes,
    ) -> Result<Scanned> {
        let block = segment.directory.blocks.get(index).ok_or_else(|| {
            Error::internal(format!("block {index} of {:?} is out of range", segment.id))
        })?;
        let (rows, vectors) = bytes
            .split_at_checked(block.lengths[0] as usize)
            .ok_or_else(|| {
                Error::corrupt("segment block: too short").with("segment", segment.id)
            })?;
        let mut scanned = Scanned {
            rows: parse_rows(segment.id, block, rows)?,
            vectors: Vec::new(),
        };
        parse_vectors(
            segment.id,
            block,
            vectors,
            self.dim,
            &self.decoders,
            &mut scanned.vectors,
        )?;
        self.keep(segment, index, SCAN, bytes);
        Ok(scanned)
    }

    /// Reads and unpacks the payloads of some blocks.
    pub(crate) async fn payloads(
        &self,
        segment: &Segment,
        blocks: &[usize],
        cost: &mut ReadCost,
    ) -> Result<Vec<Payloads>> {
        let read = self.parts(segment, blocks, PAYLOADS, cost).await?;
        let mut unpacked = Vec::with_capacity(read.len());
        for (index, bytes) in blocks.iter().zip(&read) {
            let block = &segment.directory.blocks[*index];
            unpacked.push(parse_payloads(segment.id, block, bytes, self.payload_max)?);
            self.keep(segment, *index, PAYLOADS, bytes);
        }
        Ok(unpacked)
    }

    fn keep(&self, segment: &Segment, index: usize, kind: u8, bytes: &Bytes) {
        let key = (segment.id.0, index as u32, kind);
        if self.cache.peek(&key).is_none() {
            // A copy of its own: a slice would keep the whole read alive, beyond what the cache counts.
            self.cache.insert(key, Bytes::copy_from_slice(bytes));
        }
    }
}

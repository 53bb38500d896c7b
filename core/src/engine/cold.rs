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

use super::lost::Lost;
use super::record::Manifest;
use super::stats::Counts;
use crate::codec::Decoders;
use crate::error::{Error, Result};
use crate::id::{BlobKey, Row, SegmentId};
use crate::partition::Partitions;
use crate::role::{ColdStore, Fidelity};
use crate::segment::{
    Block, Centroids, CodePage, Directory, Group, Payloads, SegmentRow, parse_end, parse_group,
    parse_keys, parse_payloads,
};
use crate::wire::put_floats;

/// A committed segment.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) id: SegmentId,
    pub(crate) blob: BlobKey,
    pub(crate) bytes: u64,
    /// Shared with the former selves of the segment, of which fewer rows had moved on.
    pub(crate) directory: Arc<Directory>,
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
            directory: Arc::new(directory),
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

    /// Rows of a block not marked dead.
    pub(crate) fn live_in(&self, block: &Block) -> u64 {
        let (words, count) = &*self.dead.read();
        if *count == 0 {
            return u64::from(block.rows);
        }
        dead_bits(words, block).filter(|dead| !dead).count() as u64
    }

    /// For each place of a block whether its row is dead.
    pub(crate) fn dead_in(&self, block: &Block) -> Vec<bool> {
        dead_bits(&self.dead.read().0, block).collect()
    }

    /// What must be read to have all of a block but its codes: its groups of vectors, its keys, its payloads.
    pub(crate) fn whole_ranges(&self, block: &Block) -> Vec<Range<u64>> {
        let groups = 0..self.directory.group_count(block);
        let groups = groups.filter_map(|i| self.directory.group(block, i));
        let mut ranges: Vec<Range<u64>> = groups.map(|g| g.range).collect();
        ranges.extend([block.keys_range(), block.payloads_range()]);
        ranges
    }

    /// A block by its number.
    pub(crate) fn block(&self, index: usize) -> Result<&Block> {
        self.directory.blocks.get(index).ok_or_else(|| {
            Error::internal(format!("block {index} of {:?} is out of range", self.id))
        })
    }

    fn ram_bytes(&self) -> u64 {
        let d = &self.directory;
        let blocks = d.blocks.len() * (size_of::<Block>() + size_of::<Place>());
        let lengths = (d.group_bytes.len() + d.pages.len()) * 4;
        (blocks + lengths + d.rows as usize / 8 + size_of::<Self>()) as u64
    }
}

/// The bits of a block's rows.
fn dead_bits(words: &[u64], block: &Block) -> impl Iterator<Item = bool> {
    let bit = |o: u32| {
        let word = words.get(o as usize / 64);
        word.is_some_and(|w| w >> (o % 64) & 1 == 1)
    };
    let first = block.first_ordinal;
    (first..first + block.rows).map(bit)
}

/// One block of a partition.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) segment: Arc<Segment>,
    pub(crate) block: usize,
}

/// What there is of one partition.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cell {
    /// Rows written to it.
    pub(crate) rows: u64,
    /// No row is further from the centroid.
    pub(crate) radius: f32,
    pub(crate) places: Vec<Place>,
}

impl Cell {
    /// Takes out what a segment holds of it.
    fn leave(&mut self, id: SegmentId) {
        self.places.retain(|p| p.segment.id != id);
        let block = |p: &Place| p.segment.directory.blocks.get(p.block).copied();
        let blocks = || self.places.iter().filter_map(block);
        let rows = blocks().map(|b| u64::from(b.rows)).sum();
        let radius = blocks().map(|b| b.radius).fold(0.0, f32::max);
        (self.rows, self.radius) = (rows, radius);
    }
}

/// One moment of the cold tier. Immutable; a change publishes another.
#[derive(Clone, Debug)]
pub(crate) struct ColdView {
    pub(crate) segments: BTreeMap<SegmentId, Arc<Segment>>,
    /// The partitions there are.
    pub(crate) index: Arc<Partitions>,
    /// Segments that are no longer, or perhaps not yet, searched: a row that a name leads to may still be read there, and a kill that a
    /// search of before must see is marked there.
    pub(crate) beside: Vec<Arc<Segment>>,
    /// Segments that could not be opened.
    pub(crate) lost: BTreeMap<SegmentId, Arc<Lost>>,
    /// By the partition's number; eight bytes for each number ever used.
    cells: Arc<Vec<Option<Arc<Cell>>>>,
    /// How many of them hold rows.
    held: usize,
}

impl Centroids for ColdView {
    fn centroid(&self, partition: u32) -> Option<&[f32]> {
        self.index.centroid(partition)
    }
}

impl ColdView {
    /// Partitions without rows.
    pub(crate) fn new(index: Arc<Partitions>) -> Self {
        Self {
            segments: BTreeMap::new(),
            index,
            beside: Vec::new(),
            lost: BTreeMap::new(),
            cells: Arc::default(),
            held: 0,
        }
    }

    /// The same with one segment more.
    pub(crate) fn with_segment(&self, segment: Arc<Segment>) -> Self {
        self.with_segments([segment])
    }

    /// The same with some segments more.
    pub(crate) fn with_segments(&self, segments: impl IntoIterator<Item = Arc<Segment>>) -> Self {
        let mut next = self.clone();
        let cells = Arc::make_mut(&mut next.cells);
        for segment in segments {
            for (index, block) in segment.directory.blocks.iter().enumerate() {
                // Of a block whose rows have all moved on there is nothing to find.
                if segment.live_in(block) == 0 {
                    continue;
                }
                let partition = block.partition as usize;
                if cells.len() <= partition {
                    cells.resize_with(partition + 1, || None);
                }
                if let Some(cell) = cells.get_mut(partition) {
                    let cell = Arc::make_mut(cell.get_or_insert_default());
                    cell.rows += u64::from(block.rows);
                    cell.radius = cell.radius.max(block.radius);
                    cell.places.push(Place {
                        segment: segment.clone(),
                        block: index,
                    });
                }
            }
            next.segments.insert(segment.id, segment);
        }
        next.held = next.cells.iter().flatten().count();
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
        let mut next = self.clone();
        let gone = removed.iter().copied();
        let gone: BTreeSet<SegmentId> = gone.chain(lessened.iter().map(|s| s.id)).collect();
        let cells = Arc::make_mut(&mut next.cells);
        for id in &gone {
            let Some(segment) = next.segments.remove(id) else {
                continue;
            };
            for block in &segment.directory.blocks {
                let Some(slot) = cells.get_mut(block.partition as usize) else {
                    continue;
                };
                let holds = |c: &&mut Arc<Cell>| c.places.iter().any(|p| p.segment.id == *id);
                if let Some(cell) = slot.as_mut().filter(holds) {
                    Arc::make_mut(cell).leave(*id);
                    if cell.places.is_empty() {
                        *slot = None;
                    }
                }
            }
            next.beside.push(segment);
        }
        next.with_segments(added.into_iter().chain(lessened))
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

    /// The same with a segment that could not be opened.
    pub(crate) fn with_lost(mut self, lost: Lost) -> Self {
        self.lost.insert(lost.id, Arc::new(lost));
        self
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
        if let Some(lost) = self.lost.get(&id) {
            lost.mark_dead(ordinal);
        }
    }

    /// The same with other partitions.
    pub(crate) fn with_index(&self, index: Arc<Partitions>) -> Self {
        let mut next = self.clone();
        next.index = index;
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
            + self.index.bytes()
            + (self.cells.len() * 8 + self.partitions() * (size_of::<Cell>() + 16)) as u64
    }

    /// Bytes of the rows and codes of all segments, wherever they are held.
    pub(crate) fn codes_bytes(&self) -> u64 {
        let regions = self.segments.values().map(|s| {
            let blocks = &s.directory.blocks;
            let ends = blocks.first().zip(blocks.last());
            ends.filter(|_| s.directory.code_bits > 0)
                .map_or(0, |(a, z)| z.codes_range().end - a.rows_offset)
        });
        regions.sum()
    }

    /// What there is of a partition, if it holds rows.
    pub(crate) fn cell(&self, partition: u32) -> Option<&Cell> {
        self.cells.get(partition as usize)?.as_deref()
    }

    /// Partitions that hold rows.
    pub(crate) fn partitions(&self) -> usize {
        self.held
    }

    /// All partitions that hold rows, each with its rank for a query: the smaller, the more promising.
    pub(crate) fn ranks(&self, query: &[f32]) -> Vec<(f32, u32)> {
        let mut ranked = Vec::with_capacity(self.index.len());
        self.index.ranks(query, &mut ranked);
        ranked.retain(|(_, p)| self.cell(*p).is_some());
        ranked
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

#[derive(Clone, Debug)]
struct PageWeight;

impl Weighter<(u64, u32), CodePage> for PageWeight {
    fn weight(&self, _: &(u64, u32), page: &CodePage) -> u64 {
        page.bytes() + 96
    }
}

/// Reads parts of segments, through a cache of what was read and verified before.
pub(crate) struct BlockReader {
    store: Arc<dyn ColdStore>,
    decoders: Decoders,
    payload_max: u64,
    cache: Cache<CacheKey, Bytes, BytesWeight>,
    /// Rows and codes, by segment and page.
    codes: Cache<(u64, u32), CodePage, PageWeight>,
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

impl ReadCost {
    pub(crate) fn add(&mut self, more: Self) {
        self.requests += more.requests;
        self.bytes += more.bytes;
    }
}

/// A group's rows and vectors.
#[derive(Debug, Default)]
pub(crate) struct Scanned {
    pub(crate) rows: Vec<Row>,
    /// `[rows, dim]`.
    pub(crate) vectors: Vec<f32>,
    /// Whether the group came from the cache: what is wanted of it is worth keeping unpacked.
    pub(crate) again: bool,
}

const GROUP: u8 = 0;
const PAYLOADS: u8 = 1;
/// A single row's vector, unpacked.
const ROW: u8 = 2;

impl BlockReader {
    pub(crate) fn new(
        store: Arc<dyn ColdStore>,
        decoders: Decoders,
        payload_max: u64,
        cache_bytes: u64,
        codes_bytes: u64,
        counts: Arc<Counts>,
    ) -> Self {
        let items = |bytes: u64, each: u64| (bytes / each).clamp(16, 1 << 20) as usize;
        let cache = Cache::with_weighter(items(cache_bytes, 8_192), cache_bytes, BytesWeight);
        let codes = Cache::with_weighter(items(codes_bytes, 65_536), codes_bytes, PageWeight);
        let read_us = AtomicU32::new(200f32.to_bits());
        Self {
            store,
            decoders,
            payload_max,
            cache,
            codes,
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

    /// RAM of codes.
    pub(crate) fn codes_bytes(&self) -> u64 {
        self.codes.weight()
    }

    /// Reads a footer, as the manifest places it, and the tail behind it: one request.
    pub(crate) async fn footer(&self, id: SegmentId, manifest: &Manifest) -> Result<Segment> {
        let end = manifest
            .footer_offset
            .checked_add(u64::from(manifest.footer_bytes));
        let range = match end {
            Some(end) if end <= manifest.bytes => manifest.footer_offset..manifest.bytes,
            _ => {
                return Err(Error::corrupt("manifest: the footer lies outside the blob")
                    .with("segment", id)
                    .with("blob", &manifest.blob));
            }
        };
        let bytes = self.fetch(id, &manifest.blob, &[range]).await?;
        let end = bytes.first().map(|b| &b[..]).unwrap_or_default();
        let directory = parse_end(id, end, manifest.footer_offset, manifest.footer_bytes)
            .map_err(|e| e.with("blob", &manifest.blob))?;
        if directory.rows != manifest.rows || directory.generation != manifest.generation {
            return Err(Error::corrupt("footer and manifest disagree")
                .with("segment", id)
                .with("blob", &manifest.blob));
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

    /// Reads one kind of part of one segment, each known by a number; the missing ones in one request.
    async fn parts(
        &self,
        segment: &Segment,
        kind: u8,
        wanted: &[(u32, Range<u64>)],
        cost: &mut ReadCost,
    ) -> Result<Vec<Bytes>> {
        let mut found = vec![None; wanted.len()];
        let (mut missing, mut ranges) = (Vec::new(), Vec::new());
        for (place, (number, range)) in wanted.iter().enumerate() {
            found[place] = self.cache.get(&(segment.id.0, *number, kind));
            if found[place].is_none() {
                missing.push(place);
                ranges.push(range.clone());
            }
        }
        self.counts
            .cache_hits
            .fetch_add((wanted.len() - missing.len()) as u64, Relaxed);
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

    /// Reads ranges of a segment past the cache; those that follow one another as one.
    pub(crate) async fn read_past_cache(
        &self,
        segment: &Segment,
        ranges: &[Range<u64>],
    ) -> Result<Vec<Bytes>> {
        self.fetch(segment.id, &segment.blob, ranges).await
    }

    /// Checks and unpacks a whole block from its parts, as [`Segment::whole_ranges`] names them. CPU only.
    pub(crate) fn unpack_whole(
        &self,
        segment: &Segment,
        block: &Block,
        parts: &[Bytes],
    ) -> Result<Vec<SegmentRow>> {
        let (id, directory) = (segment.id, &segment.directory);
        let [groups @ .., keys, payloads] = parts else {
            return Err(Error::internal("a block was unpacked without its parts"));
        };
        let (mut rows, mut vectors) = (Vec::new(), Vec::new());
        for (index, bytes) in (0u32..).zip(groups) {
            let group = directory.group(block, index);
            let group =
                group.ok_or_else(|| Error::internal("a block has more parts than groups"))?;
            let decoders = &self.decoders;
            let read = parse_group(id, directory, block, &group, bytes, decoders, &mut vectors)?;
            rows.extend(read);
        }
        let ids = parse_keys(id, block, keys)?;
        let payloads = parse_payloads(id, block, payloads, self.payload_max)?;
        let dim = vectors.len() / rows.len().max(1);
        let whole = rows.into_iter().zip(ids).enumerate();
        Ok(whole
            .zip(vectors.chunks_exact(dim.max(1)))
            .map(|((place, (row, id)), vector)| SegmentRow {
                row,
                id,
                vector: vector.to_vec(),
                payload: payloads.get(place),
                partition: block.partition,
            })
            .collect())
    }

    /// Lets go of the codes of a segment that is no more.
    pub(crate) fn forget(&self, segment: &Segment) {
        for page in 0..segment.directory.pages.len() as u32 {
            self.codes.remove(&(segment.id.0, page));
        }
    }

    /// Lets go of the codes of rows that all have moved on: a merge empties its inputs partition by partition, and until the last of them
    /// has gone the codes of all rows would be here twice.
    pub(crate) fn forget_emptied(&self, segment: &Segment) {
        let directory = &segment.directory;
        for page in 0..directory.pages.len() as u32 {
            let mut blocks = directory.page_blocks(page);
            let dead = |b: usize| (directory.blocks.get(b)).is_none_or(|b| segment.live_in(b) == 0);
            if blocks.all(dead) {
                self.codes.remove(&(segment.id.0, page));
            }
        }
    }

    /// Pages of rows and codes that are at hand.
    pub(crate) fn codes_at_hand(&self, segment: &Segment, page: u32) -> Option<CodePage> {
        self.codes.get(&(segment.id.0, page))
    }

    /// RAM that is left for codes.
    pub(crate) fn codes_left(&self) -> u64 {
        self.codes.capacity().saturating_sub(self.codes.weight())
    }

    /// Whether a page of rows and codes is at hand.
    pub(crate) fn has_codes(&self, segment: &Segment, page: u32) -> bool {
        self.codes.contains_key(&(segment.id.0, page))
    }

    /// Reads and checks pages of rows and codes that are not at hand, in one request.
    pub(crate) async fn read_codes(
        &self,
        segment: &Segment,
        pages: &[u32],
        cost: &mut ReadCost,
    ) -> Result<Vec<CodePage>> {
        let range = |page: &u32| segment.directory.page_range(*page);
        let ranges: Vec<Range<u64>> = pages.iter().filter_map(range).collect();
        let read = self.fetch(segment.id, &segment.blob, &ranges).await?;
        cost.requests += 1;
        cost.bytes += read.iter().map(|b| b.len() as u64).sum::<u64>();
        (pages.iter().zip(read))
            .map(|(page, bytes)| self.keep_codes(segment, *page, &bytes))
            .collect()
    }

    /// Checks a page of rows and codes and keeps it.
    fn keep_codes(&self, segment: &Segment, page: u32, bytes: &Bytes) -> Result<CodePage> {
        // A copy of its own, as in `keep`.
        let bytes = Bytes::copy_from_slice(bytes);
        let checked = CodePage::check(segment.id, &segment.directory, page, bytes.clone())?;
        if let Some(range) = segment.directory.page_range(page) {
            self.store.verified(&segment.blob, range, &bytes);
        }
        self.codes.insert((segment.id.0, page), checked.clone());
        Ok(checked)
    }

    /// Keeps a page in another form, if it is still kept at all.
    pub(crate) fn replace_codes(&self, segment: &Segment, page: u32, codes: &CodePage) {
        let replaced = self
            .codes
            .replace((segment.id.0, page), codes.clone(), true);
        if replaced.is_err() {
            tracing::trace!(segment = %segment.id, page, "a page was let go of while it was sorted");
        }
    }

    /// Keeps the codes of a segment that was just written.
    pub(crate) fn keep_written(&self, segment: &Segment, data: &Bytes) -> Result<()> {
        for page in 0..segment.directory.pages.len() as u32 {
            if let Some(range) = segment.directory.page_range(page) {
                let bytes = data.slice(range.start as usize..range.end as usize);
                self.keep_codes(segment, page, &bytes)?;
            }
        }
        Ok(())
    }

    /// Reads groups of vectors, still packed.
    pub(crate) async fn read_groups(
        &self,
        segment: &Segment,
        groups: &[Group],
        cost: &mut ReadCost,
    ) -> Result<Vec<Bytes>> {
        let wanted: Vec<(u32, Range<u64>)> =
            groups.iter().map(|g| (g.number, g.range.clone())).collect();
        self.parts(segment, GROUP, &wanted, cost).await
    }

    /// Checks and unpacks a group, and keeps the good bytes in the cache. CPU only.
    pub(crate) fn unpack_group(
        &self,
        segment: &Segment,
        block: usize,
        group: &Group,
        bytes: &Bytes,
    ) -> Result<Scanned> {
        let mut scanned = Scanned::default();
        scanned.rows = parse_group(
            segment.id,
            &segment.directory,
            segment.block(block)?,
            group,
            bytes,
            &self.decoders,
            &mut scanned.vectors,
        )?;
        scanned.again = !self.keep(segment, group.number, GROUP, group.range.clone(), bytes);
        Ok(scanned)
    }

    /// Keeps one row's vector, `[dim]`, so that it is compared the next time without its group being unpacked.
    pub(crate) fn keep_row(&self, segment: &Segment, ordinal: u32, vector: &[f32]) {
        let mut bytes = Vec::with_capacity(vector.len() * 4);
        put_floats(&mut bytes, vector);
        self.cache
            .insert((segment.id.0, ordinal, ROW), bytes.into());
    }

    /// Writes a row's vector to `out`, `[dim]`, if it is at hand unpacked; whether it was.
    pub(crate) fn row_at_hand(&self, segment: &Segment, ordinal: u32, out: &mut Vec<f32>) -> bool {
        let Some(bytes) = self.cache.get(&(segment.id.0, ordinal, ROW)) else {
            return false;
        };
        self.counts.cache_hits.fetch_add(1, Relaxed);
        out.clear();
        let (floats, _) = bytes.as_chunks::<4>();
        out.extend(floats.iter().map(|f| f32::from_le_bytes(*f)));
        true
    }

    /// Reads the payloads of some blocks, still packed.
    pub(crate) async fn read_payloads(
        &self,
        segment: &Segment,
        blocks: &[usize],
        cost: &mut ReadCost,
    ) -> Result<Vec<Bytes>> {
        let mut wanted = Vec::with_capacity(blocks.len());
        for index in blocks {
            wanted.push((*index as u32, segment.block(*index)?.payloads_range()));
        }
        self.parts(segment, PAYLOADS, &wanted, cost).await
    }

    /// Checks and unpacks the payloads of a block, and keeps the good bytes in the cache. CPU only.
    pub(crate) fn unpack_payloads(
        &self,
        segment: &Segment,
        block: usize,
        bytes: &Bytes,
    ) -> Result<Payloads> {
        let held = segment.block(block)?;
        let unpacked = parse_payloads(segment.id, held, bytes, self.payload_max)?;
        let range = held.payloads_range();
        self.keep(segment, block as u32, PAYLOADS, range, bytes);
        Ok(unpacked)
    }

    /// Keeps bytes that were checked, and tells the store so, which may keep them as well; `false` when they were kept already.
    fn keep(
        &self,
        segment: &Segment,
        number: u32,
        kind: u8,
        range: Range<u64>,
        bytes: &Bytes,
    ) -> bool {
        let key = (segment.id.0, number, kind);
        if self.cache.peek(&key).is_some() {
            return false;
        }
        self.store.verified(&segment.blob, range, bytes);
        // A copy of its own: a slice would keep the whole read alive, beyond what the cache counts.
        self.cache.insert(key, Bytes::copy_from_slice(bytes));
        true
    }
}

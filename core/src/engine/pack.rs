//! Rows into a segment: sorted by partition, coded and packed. Trains the partitions when the first rows come.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use aether_codes::Coder;
use parking_lot::Mutex;

use super::driver::Draft;
use super::inner::{Inner, Writer};
use super::offload::offload;
use super::record::{Stub, key};
use crate::error::{Error, Result};
use crate::id::{PointId, Row, SegmentId};
use crate::partition::{Partition, Partitions, plan};
use crate::role::{Batch, Table};
use crate::segment::{
    BlockPlan, Centroids, Codes, PackedBlock, Packing, SegmentRow, SegmentWriter, block_ranges,
    pack_block,
};

/// Most vector bytes of a block: the payloads of a block are packed together, so it should not be too large.
const BLOCK_BYTES: usize = 256 << 10;
/// Rows that are worth a thread of their own.
const ROWS_EACH: usize = 128;
/// Rows that are sorted into partitions together: enough to compare many with each group of centroids, few enough that what is noted of
/// each pair does not count beside the rows.
const ASSIGNED_TOGETHER: usize = 512;

impl Inner {
    /// The partitions that new rows are sorted into; trains them when there are none. `rows` are at hand; `writer` is the lock where the
    /// caller holds it already.
    async fn partitions(
        self: &Arc<Self>,
        writer: Option<&Writer>,
        rows: &[SegmentRow],
    ) -> Result<Arc<Partitions>> {
        let now = self.view().index.clone();
        if !now.is_empty() {
            return Ok(now);
        }
        let points = self.points.load(Relaxed).max(rows.len() as u64);
        let (k, wanted) = plan(
            points,
            self.config.search.partition_rows,
            self.sample_rows(),
        );
        let at_hand = rows.iter().take(wanted).map(|r| r.vector.clone());
        let (inner, mut sample) = (self.clone(), at_hand.collect::<Vec<_>>());
        let first = now.next_number();
        let trained = offload(move || {
            let seed = inner.config.memory.seed ^ u64::from(first);
            inner.sample_hot(&mut sample, wanted, seed)?;
            let sample: Vec<&[f32]> = sample.iter().map(Vec::as_slice).collect();
            Ok::<_, Error>(now.train(&sample, k, seed))
        });
        let made = trained.await??;
        let partition = |(number, centroid)| Partition {
            number,
            retired: false,
            centroid,
        };
        let made: Vec<Partition> = (first..).zip(made).map(partition).collect();
        match writer {
            Some(writer) => self.publish_partitions(writer, &made).await,
            None => {
                let writer = self.writer.lock().await;
                self.publish_partitions(&writer, &made).await
            }
        }
    }

    /// Adds random hot rows until there are `wanted`.
    fn sample_hot(&self, sample: &mut Vec<Vec<f32>>, wanted: usize, seed: u64) -> Result<()> {
        let mut hot = self.hot.rows();
        hot.sort_unstable();
        fastrand::Rng::with_seed(seed).shuffle(&mut hot);
        for row in hot {
            if sample.len() >= wanted {
                break;
            }
            let mut vector = vec![0.0; self.dim];
            if self.hot.read(row, &mut vector)? {
                sample.push(vector);
            }
        }
        Ok(())
    }

    /// Makes the first partitions durable, unless others came first; answers those that are in use. They are any number of
    /// commits: some of them are an index as well.
    async fn publish_partitions(
        &self,
        writer: &Writer,
        made: &[Partition],
    ) -> Result<Arc<Partitions>> {
        let now = self.view().index.clone();
        if !now.is_empty() {
            return Ok(now);
        }
        let next = Arc::new(now.changed(made, &[].into(), &[].into())?);
        let most = self.meta_capability.batch_bytes_max / 2;
        let mut batch = Batch::new(writer.epoch);
        for partition in made {
            let value = partition.encode();
            if batch.bytes() + value.len() > most {
                self.commit_durably(writer, batch).await?;
                batch = Batch::new(writer.epoch);
            }
            batch.put(Table::State, key::partition(partition.number), value);
        }
        self.commit_durably(writer, batch).await?;
        let mut cold = self.cold.write();
        *cold = Arc::new(cold.with_index(next.clone()));
        Ok(next)
    }

    /// Sorts rows by partition and packs them, on all processors.
    pub(super) async fn pack(
        self: &Arc<Self>,
        writer: Option<&Writer>,
        draft: &mut Draft,
        rows: Vec<SegmentRow>,
    ) -> Result<Vec<PackedRow>> {
        let partitions = self.partitions(writer, &rows).await?;
        self.pack_into(partitions, draft, rows).await
    }

    /// The same with partitions that no search sees yet. Answers the rows in order of their ordinals.
    ///
    /// Rows give up their vectors as they are packed, and packed blocks go straight to their places: beside the rows that still wait there
    /// is the segment, and a block for each processor.
    pub(super) async fn pack_into(
        self: &Arc<Self>,
        partitions: Arc<Partitions>,
        draft: &mut Draft,
        rows: Vec<SegmentRow>,
    ) -> Result<Vec<PackedRow>> {
        draft.user_bytes = rows.iter().map(|r| r.bytes()).sum();
        draft.partitions = Some(partitions.clone());
        let count = rows.len();
        let mut rows = sorted_into(&partitions, rows).await?;
        rows.sort_unstable_by_key(|r| (r.partition, r.row));

        let ranges = block_ranges(&rows, self.block_rows());
        let plan = ranges
            .iter()
            .map(|range| BlockPlan::of(&rows[range.clone()]));
        let plan: Vec<BlockPlan> = plan.collect();
        let mut rest = rows.into_iter();
        let blocks: Vec<(usize, Vec<SegmentRow>)> = (ranges.iter().enumerate())
            .map(|(place, range)| (place, rest.by_ref().take(range.len()).collect()))
            .collect();
        drop(rest);
        let bits = self.config.codes.bits;
        let assembly = {
            let coder = self.coders.get(bits)?;
            let packing = self.packing(coder, &*partitions);
            Arc::new(Mutex::new(Assembly::new(draft.segment, &plan, &packing)?))
        };
        let packed = {
            let (inner, partitions, assembly) =
                (self.clone(), partitions.clone(), assembly.clone());
            let pack = move |(place, rows): (usize, Vec<SegmentRow>)| {
                let coder = inner.coders.get(bits)?;
                let block = pack_block(&rows, &inner.packing(coder, &*partitions))?;
                let rows: Vec<PackedRow> = rows.into_iter().map(PackedRow::of).collect();
                assembly.lock().take(place, block)?;
                Ok(rows)
            };
            let least = 1 + blocks.len() * ROWS_EACH / count.max(1);
            on_all_processors(blocks, least, pack).await?
        };
        let inner = self.clone();
        let written = offload(move || {
            let coder = inner.coders.get(bits)?;
            let alone = || Error::internal("a segment ended while it was being packed");
            let assembly = Arc::into_inner(assembly).ok_or_else(alone)?.into_inner();
            (assembly.writer).finish(&inner.packing(coder, &*partitions))
        });
        draft.written = Some(written.await??);
        Ok(packed.into_iter().flatten().collect())
    }

    /// Most rows of a block.
    fn block_rows(&self) -> usize {
        (BLOCK_BYTES / (self.dim * 4)).clamp(1, 4096)
    }

    /// How this memory packs segments.
    fn packing<'a>(&'a self, coder: &'a Coder, centroids: &'a dyn Centroids) -> Packing<'a> {
        let row = self.dim * 4;
        let group = usize::try_from(self.config.codes.group.0).unwrap_or(usize::MAX);
        Packing {
            dim: self.dim,
            group_rows: (group / row).clamp(1, 256),
            codec: &self.codec,
            codes: Codes::new(coder, centroids),
        }
    }
}

/// The partition of each row, on all processors.
async fn sorted_into(
    partitions: &Arc<Partitions>,
    rows: Vec<SegmentRow>,
) -> Result<Vec<SegmentRow>> {
    let count = rows.len();
    let mut rest = rows.into_iter();
    let pieces = std::iter::from_fn(|| {
        let piece: Vec<SegmentRow> = rest.by_ref().take(ASSIGNED_TOGETHER).collect();
        (!piece.is_empty()).then_some(piece)
    });
    let pieces: Vec<Vec<SegmentRow>> = pieces.collect();
    let partitions = partitions.clone();
    let assign = move |mut rows: Vec<SegmentRow>| {
        let vectors: Vec<&[f32]> = rows.iter().map(|r| &r.vector[..]).collect();
        let assigned = partitions.assign(&vectors);
        for (row, partition) in rows.iter_mut().zip(assigned) {
            row.partition = partition;
        }
        Ok(rows)
    };
    let done = on_all_processors(pieces, 1, assign).await?;
    let mut rows = Vec::with_capacity(count);
    done.into_iter().for_each(|mut some| rows.append(&mut some));
    Ok(rows)
}

/// A row whose vector and payload are in a segment now.
#[derive(Debug)]
pub(super) struct PackedRow {
    pub(super) row: Row,
    pub(super) partition: u32,
    id: PointId,
    payload: bool,
}

impl PackedRow {
    fn of(row: SegmentRow) -> Self {
        Self {
            row: row.row,
            partition: row.partition,
            id: row.id,
            payload: row.payload.is_some(),
        }
    }
}

/// A segment that takes its blocks in whatever order they are ready.
struct Assembly {
    writer: SegmentWriter,
    next: usize,
    early: BTreeMap<usize, PackedBlock>,
}

impl Assembly {
    fn new(segment: SegmentId, plan: &[BlockPlan], packing: &Packing<'_>) -> Result<Self> {
        Ok(Self {
            writer: SegmentWriter::new(segment, plan, packing)?,
            next: 0,
            early: BTreeMap::new(),
        })
    }

    fn take(&mut self, place: usize, block: PackedBlock) -> Result<()> {
        self.early.insert(place, block);
        while let Some(block) = self.early.remove(&self.next) {
            self.writer.append(block)?;
            self.next += 1;
        }
        Ok(())
    }
}

/// Does pieces of some work on as many blocking threads as there are processors, if each has at least so many of them to do. Each takes the
/// next piece when it is done with one. What comes of them, in order.
async fn on_all_processors<P: Send + 'static, T: Send + 'static>(
    pieces: Vec<P>,
    least: usize,
    work: impl Fn(P) -> Result<T> + Send + Sync + 'static,
) -> Result<Vec<T>> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = processors.min(pieces.len().div_ceil(least.max(1)));
    let queue = Arc::new((Mutex::new(Some(pieces.into_iter().enumerate())), work));
    let start = |_| {
        let queue = queue.clone();
        offload(move || {
            let (pieces, work) = &*queue;
            let mut done = Vec::new();
            loop {
                let next = pieces.lock().as_mut().and_then(Iterator::next);
                let Some((place, piece)) = next else {
                    return Ok(done);
                };
                // What is left is in vain then.
                let result = work(piece).inspect_err(|_| *pieces.lock() = None)?;
                done.push((place, result));
            }
        })
    };
    let tasks: Vec<_> = (0..threads).map(start).collect();
    drop(queue);
    let mut all: Vec<(usize, T)> = Vec::new();
    for done in futures::future::join_all(tasks).await {
        all.append(&mut done??);
    }
    all.sort_unstable_by_key(|(place, _)| *place);
    Ok(all.into_iter().map(|(_, result)| result).collect())
}

/// The stubs of rows packed into a segment.
pub(super) fn stubs(
    segment: SegmentId,
    rows: Vec<PackedRow>,
    ttl: impl Fn(Row) -> bool,
) -> Vec<(Row, Stub)> {
    let stub = |(ordinal, r): (u32, PackedRow)| {
        let stub = Stub {
            id: r.id,
            segment,
            ordinal,
            ttl: ttl(r.row),
            payload: r.payload,
        };
        (r.row, stub)
    };
    (0u32..).zip(rows).map(stub).collect()
}

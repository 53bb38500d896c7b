//! Rows into a segment: sorted by partition, coded and packed. Trains the partitions when the first rows come.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use aether_codes::Coder;

use super::driver::Draft;
use super::inner::{Inner, Writer};
use super::record::{Stub, key};
use crate::error::{Error, Result};
use crate::id::{Row, SegmentId};
use crate::partition::{Partition, Partitions, plan};
use crate::role::{Batch, Table};
use crate::segment::{Centroids, Codes, Packing, SegmentRow, assemble, block_ranges, pack_block};

/// Most vector bytes of a block: the payloads of a block are packed together, so it should not be too large.
const BLOCK_BYTES: usize = 256 << 10;
/// Rows that are worth a thread of their own.
const ROWS_EACH: usize = 128;
/// Most vector bytes of the sample that partitions are trained from.
const SAMPLE_BYTES: usize = 32 << 20;

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
        let sample_max = (SAMPLE_BYTES / (self.dim * 4)).max(1);
        let (k, wanted) = plan(points, self.config.search.partition_rows, sample_max);
        let at_hand = rows.iter().take(wanted).map(|r| r.vector.clone());
        let (inner, mut sample) = (self.clone(), at_hand.collect::<Vec<_>>());
        let first = now.next_number();
        let trained = tokio::task::spawn_blocking(move || {
            let seed = inner.config.memory.seed ^ u64::from(first);
            inner.sample_hot(&mut sample, wanted, seed)?;
            let sample: Vec<&[f32]> = sample.iter().map(Vec::as_slice).collect();
            Ok::<_, Error>(now.train(&sample, k, seed))
        });
        let made = trained.await.map_err(Error::task)??;
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
    ) -> Result<Vec<SegmentRow>> {
        let partitions = self.partitions(writer, &rows).await?;
        self.pack_into(partitions, draft, rows).await
    }

    /// The same with partitions that no search sees yet.
    pub(super) async fn pack_into(
        self: &Arc<Self>,
        partitions: Arc<Partitions>,
        draft: &mut Draft,
        mut rows: Vec<SegmentRow>,
    ) -> Result<Vec<SegmentRow>> {
        draft.user_bytes = rows.iter().map(|r| r.bytes()).sum();
        draft.partitions = Some(partitions.clone());
        let count = rows.len();
        let all = Arc::new(rows);
        let assigned = {
            let (all, partitions) = (all.clone(), partitions.clone());
            let assign = move |part: Range<usize>| {
                let vectors: Vec<&[f32]> = all[part].iter().map(|r| &r.vector[..]).collect();
                Ok(partitions.assign(&vectors))
            };
            on_all_processors(shares(count, ROWS_EACH), assign).await?
        };
        rows = Arc::unwrap_or_clone(all);
        for (row, partition) in rows.iter_mut().zip(assigned.into_iter().flatten()) {
            row.partition = partition;
        }
        rows.sort_unstable_by_key(|r| (r.partition, r.row));

        let ranges = block_ranges(&rows, self.block_rows());
        let parts = shares(ranges.len(), 1 + ranges.len() * ROWS_EACH / count.max(1));
        let all = Arc::new(rows);
        let packed = {
            let (inner, all, partitions) = (self.clone(), all.clone(), partitions.clone());
            let pack = move |blocks: Range<usize>| {
                let coder = inner.coders.get(inner.config.codes.bits)?;
                let packing = inner.packing(coder, &*partitions);
                let blocks = ranges[blocks].iter().cloned();
                let packed = blocks.map(|range| pack_block(&all[range], &packing));
                packed.collect::<Result<Vec<_>>>()
            };
            on_all_processors(parts, pack).await?
        };
        let (inner, segment) = (self.clone(), draft.segment);
        let written = tokio::task::spawn_blocking(move || {
            let coder = inner.coders.get(inner.config.codes.bits)?;
            let packed = packed.into_iter().flatten().collect();
            assemble(segment, packed, &inner.packing(coder, &*partitions))
        });
        draft.written = Some(written.await.map_err(Error::task)??);
        Ok(Arc::unwrap_or_clone(all))
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

/// `n` things in parts of about one size: one for each processor, but none of less than `least`.
fn shares(n: usize, least: usize) -> Vec<Range<usize>> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let each = n.div_ceil(processors).max(least).max(1);
    let ends = (each..n + each).step_by(each);
    ends.map(|end| end - each..end.min(n)).collect()
}

/// Does parts of some work on blocking threads; what comes of them, in order.
async fn on_all_processors<T: Send + 'static>(
    parts: Vec<Range<usize>>,
    work: impl Fn(Range<usize>) -> Result<T> + Send + Sync + 'static,
) -> Result<Vec<T>> {
    let work = Arc::new(work);
    let start = |part: Range<usize>| {
        let work = work.clone();
        tokio::task::spawn_blocking(move || work(part))
    };
    let tasks: Vec<_> = parts.into_iter().map(start).collect();
    let mut done = Vec::with_capacity(tasks.len());
    for task in tasks {
        done.push(task.await.map_err(Error::task)??);
    }
    Ok(done)
}

/// The stubs of rows packed into a segment.
pub(super) fn stubs(
    segment: SegmentId,
    rows: &[SegmentRow],
    ttl: impl Fn(Row) -> bool,
) -> Vec<(Row, Stub)> {
    let stub = |(ordinal, r): (u32, &SegmentRow)| {
        let stub = Stub {
            id: r.id.clone(),
            segment,
            ordinal,
            ttl: ttl(r.row),
            payload: r.payload.is_some(),
        };
        (r.row, stub)
    };
    (0u32..).zip(rows).map(stub).collect()
}

//! How `memory.working_space` is divided.
//!
//! | share | what for |
//! |---|---|
//! | 2/3 | one step of a compaction: its rows, the segment that they become, and its commit |
//! | 1/6 each | two batches of a demotion: one is packed while the other is written |
//!
//! Codes that searches have to read are on their way a quarter of the whole at a time, beside all this, whatever the number of searches; a
//! comparison with the truth, which reads those of every partition, half of that. They are held by `codes.ram` from then on, as far as that
//! goes, and one search may fill what that has left in one go. Another quarter is for vectors and payloads of answers and of reads by id on
//! their way, packed. Each search that reads whole blocks has a quarter of its own for them.
//!
//! What training partitions takes, once for a memory, comes before the first segment is written, and is a step's share at most. Writes under
//! way are bounded by `limits.batch_bytes` and the callers' number, and not counted here.

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};

use super::inner::Inner;
use crate::config::Config;
use crate::segment::SEGMENT_ROWS_MAX;

/// What a row takes beside its vector, the packed form of it and its code: its names (which place it comes from, which it goes to), and its
/// part of a commit. Measured with ids of integers, where a third of it is left. Unit: bytes.
const ROW_BYTES: usize = 400;
/// What one row adds to a step's commit at most: a stub with the longest id, and a mark where it was. Unit: bytes.
const ROW_META_BYTES: usize = 576;
/// Most bytes read by one request of a compaction.
const READ_BYTES_MAX: u64 = 8 << 20;
/// A step's share is larger than a read by so much: several reads, and what is unpacked of one, are there beside all rows.
const READS_PER_STEP: u64 = 48;
/// Smaller reads would cost a remote store's request each.
const READ_BYTES_MIN: u64 = 128 << 10;
/// Most vector bytes of the sample that partitions are trained from.
const SAMPLE_BYTES: u64 = 32 << 20;
/// Training holds the sample, the same in unit length, and each row's nearest centroids.
const SAMPLE_COPIES: u64 = 4;

/// Bytes of one kind that searches may have on their way.
pub(crate) fn on_their_way(config: &Config) -> u64 {
    config.memory.working_space.0 / 4
}

/// Room for what is on its way from the cold store to searches and reads, shared by all of them. Unit of a permit: KiB.
#[derive(Debug)]
pub(crate) struct Room {
    free: Semaphore,
    all: u32,
}

impl Room {
    /// Room for so many bytes.
    pub(crate) fn new(bytes: u64) -> Self {
        let all = u32::try_from(bytes >> 10).unwrap_or(u32::MAX).max(1);
        let free = Semaphore::new(all as usize);
        Self { free, all }
    }

    /// Waits for room until the deadline; who wants more than there is at all takes all of it. `None` where nothing was to be read, and when the
    /// deadline came.
    pub(crate) async fn take(&self, bytes: u64, deadline: Instant) -> Option<SemaphorePermit<'_>> {
        if bytes == 0 {
            return None;
        }
        let wanted = u32::try_from(bytes.div_ceil(1 << 10)).unwrap_or(u32::MAX);
        let room = self.free.acquire_many(wanted.min(self.all));
        timeout_at(deadline, room).await.ok()?.ok()
    }
}

impl Inner {
    fn step_bytes(&self) -> u64 {
        self.config.memory.working_space.0 / 3 * 2
    }

    /// Bytes of codes that a search reads before it has estimated any.
    pub(super) fn codes_space(&self) -> u64 {
        on_their_way(&self.config)
    }

    /// Jobs of whole blocks that one search has read at once.
    pub(super) fn jobs_at_once(&self, job_bytes: u64) -> usize {
        let by_space = self.config.memory.working_space.0 / 4 / job_bytes;
        usize::try_from(by_space).map_or(self.config.search.reads, |n| {
            n.clamp(1, self.config.search.reads)
        })
    }

    /// Bytes of vectors.
    fn vector_bytes(&self, rows: usize) -> usize {
        rows * self.dim * 4
    }

    /// Bytes that a row takes on its way into a segment: its vector, once as it is and once packed, its code, and its names.
    fn row_work_bytes(&self) -> usize {
        let code = self.dim * usize::from(self.config.codes.bits) / 8 + 24;
        self.vector_bytes(2) + code + ROW_BYTES
    }

    /// Rows that one segment may hold: by its size, by the space that a step has, by what one commit takes, and by the directory's places.
    pub(super) fn segment_rows(&self) -> usize {
        let step = self.step_bytes() / 4 * 3;
        let by_space = step / self.row_work_bytes() as u64;
        let by_bytes = self.config.compaction.segment_bytes.0 / self.vector_bytes(1) as u64;
        let by_commit = self.meta_capability.batch_bytes_max / 2 / ROW_META_BYTES;
        (by_space.min(by_bytes) as usize)
            .min(by_commit)
            .clamp(1, SEGMENT_ROWS_MAX)
    }

    /// Packed bytes that one segment may have, payloads included, which may unpack to several times as much.
    pub(super) fn packed_bytes(&self) -> u64 {
        (self.config.compaction.segment_bytes.0 * 2).min(self.step_bytes() / 3)
    }

    /// Bytes of payloads that are demoted together, if one row has not more.
    pub(super) fn payload_bytes(&self) -> usize {
        (self.config.memory.working_space.0 / 18) as usize
    }

    /// Bytes that one read of a compaction asks for, if one block is not more.
    pub(super) fn read_bytes(&self) -> u64 {
        (self.step_bytes() / READS_PER_STEP).clamp(READ_BYTES_MIN, READ_BYTES_MAX)
    }

    /// Rows that are demoted together.
    pub(super) fn batch_rows(&self) -> usize {
        let flux = &self.config.flux;
        let by_space = self.config.memory.working_space.0 / 6 / self.row_work_bytes() as u64;
        let by_bytes = flux.batch_bytes.0 / self.vector_bytes(1) as u64;
        (by_space.min(by_bytes) as usize).clamp(1, flux.batch_rows)
    }

    /// Rows of the sample that partitions are trained from, at most.
    pub(super) fn sample_rows(&self) -> usize {
        let bytes = SAMPLE_BYTES.min(self.step_bytes() / SAMPLE_COPIES);
        (bytes as usize / self.vector_bytes(1)).max(1)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn codes_on_their_way_wait_for_room_until_the_deadline() {
        let room = Room::new(64 << 10);
        let soon = || Instant::now() + Duration::from_secs(1);
        assert!(room.take(0, soon()).await.is_none(), "nothing needs none");
        let some = room.take(40 << 10, soon()).await;
        assert!(some.is_some());
        assert!(room.take(24 << 10, soon()).await.is_some());
        assert!(room.take(25 << 10, soon()).await.is_none(), "too little");
        drop(some);
        let all = room.take(1 << 40, soon()).await;
        assert!(all.is_some(), "more than there is means all of it");
        assert!(room.take(1, soon()).await.is_none());
        drop(all);
        assert!(room.take(1, soon()).await.is_some());
    }
}

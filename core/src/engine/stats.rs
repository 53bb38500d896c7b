//! What a memory counts, and how it says so: [`Stats`] for people and programs, `metrics` for scrapers.
//!
//! | metric | kind | meaning |
//! |---|---|---|
//! | `aether_searches_total{mode}` | counter | searches answered |
//! | `aether_search_seconds{mode}` | histogram | time of a search |
//! | `aether_searches_partial_total` | counter | answers that were cut short |
//! | `aether_bounded_recall` | gauge | share of the true answers that bounded searches find, measured |
//! | `aether_hits_total{tier}` | counter | answers by the tier they came from |
//! | `aether_writes_total{kind}` | counter | points upserted or deleted |
//! | `aether_commit_seconds` | histogram | time of a group commit, durability included |
//! | `aether_moves_total{to}` | counter | rows that changed tier |
//! | `aether_migrations_failed_total` | counter | migrations that were rolled back or abandoned |
//! | `aether_compactions_total` | counter | steps of compactions completed |
//! | `aether_compaction_bytes_total{way}` | counter | bytes that compactions read and wrote |
//! | `aether_write_amplification`, `aether_garbage_blobs` | gauge | as in [`Stats`] |
//! | `aether_events_dropped_total` | counter | accesses that the policy was not told of |
//! | `aether_store_requests_total{kind}`, `aether_store_bytes_total{way}` | counter | what the cold store was asked, since the memory was created |
//! | `aether_store_hedges_total{what}`, `aether_store_retries_total` | counter | reads sent twice, and calls repeated, since it was opened |
//! | `aether_store_dollars{for}`, `aether_store_dollars_month` | gauge | price of all requests so far, and of a month of what is stored |
//! | `aether_cache_hit_ratio` | gauge | share of blocks that the cache had |
//! | `aether_hot_bytes`, `aether_hot_budget_bytes`, `aether_hot_rows`, `aether_cold_rows`, `aether_lost_rows`, `aether_temperature`, `aether_pressure` | gauge | as in [`Stats`] |

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::Serialize;

use super::remote::RemoteStats;
use super::shadow::ShadowStats;
use crate::flux::Sizing;
use crate::role::{HotChoice, SearchWork};

macro_rules! counts {
    ($($(#[doc = $doc:literal])+ $name:ident,)*) => {
        /// Counters since the memory was opened.
        #[derive(Debug, Default)]
        pub(crate) struct Counts { $($(#[doc = $doc])+ pub(crate) $name: AtomicU64,)* }

        /// The counters' values.
        #[derive(Clone, Debug, Default, PartialEq, Serialize)]
        pub struct Counted { $($(#[doc = $doc])+ pub $name: u64,)* }

        impl Counts {
            pub(crate) fn read(&self) -> Counted {
                Counted { $($name: self.$name.load(Relaxed),)* }
            }
        }
    };
}

counts! {
    /// Searches answered.
    searches,
    /// Searches whose answer was cut short.
    searches_partial,
    /// Searches that began again because what they found was deleted or replaced under them.
    searches_repeated,
    /// Bounded searches compared with the truth.
    searches_compared,
    /// Cold rows whose distance was estimated by their codes.
    rows_estimated,
    /// Cold rows that were read and compared exactly.
    rows_compared,
    /// Calls refused because too many were waiting.
    overloaded,
    /// Points asked for by id.
    gets,
    /// Points written.
    upserts,
    /// Points deleted by call.
    deletes,
    /// Points that ended by themselves.
    expired,
    /// Group commits.
    commits,
    /// Uses of cold rows by searches and gets.
    rows_missed,
    /// Answers that came from the hot tier.
    hits_hot,
    /// Answers that came from the cold tier.
    hits_cold,
    /// New rows that found no room and landed cold.
    landed_cold,
    /// Rows demoted.
    demoted,
    /// Rows demoted without writing anything, since a segment already held them.
    released,
    /// Rows promoted.
    promoted,
    /// Migrations rolled back or abandoned.
    migrations_failed,
    /// Segments written.
    segments_written,
    /// Bytes put into the cold store.
    cold_written_bytes,
    /// Bytes of ids, vectors and payloads that went cold: by demotion, or as new rows that found no room.
    demoted_bytes,
    /// Steps of compactions that were completed.
    compactions,
    /// Rows that compactions moved to another segment.
    compacted_rows,
    /// Bytes of the blobs that compactions wrote.
    compacted_bytes,
    /// Bytes still to be read by the compaction under way.
    compaction_left_bytes,
    /// Steps of compactions put off since searches were under way.
    compactions_yielded,
    /// Steps of compactions that failed.
    compactions_failed,
    /// Partitions that were split.
    partitions_split,
    /// Partitions that ended because they had shrunk.
    partitions_ended,
    /// Rows that moved to another partition since a split brought a nearer one.
    border_rows,
    /// Blobs that were swept since nothing needed them any more.
    blobs_swept,
    /// Requests to the cold store for reading.
    cold_requests,
    /// Bytes read from the cold store.
    cold_read_bytes,
    /// Blocks that the cache had.
    cache_hits,
    /// Blocks that the cache did not have.
    cache_misses,
    /// Accesses that the policy was not told of, because its queue was full.
    events_dropped,
    /// Cold rows that could not be queued for promotion, because the queue was full.
    restores_dropped,
    /// Turns of the scheduler.
    ticks,
}

impl Counted {
    /// Share of blocks that the cache had; `None` before the first block was asked for.
    pub fn cache_hit_rate(&self) -> Option<f64> {
        let all = self.cache_hits + self.cache_misses;
        (all > 0).then(|| self.cache_hits as f64 / all as f64)
    }
}

/// A promotion that was given up.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RestoreFailure {
    /// The row.
    pub row: u64,
    /// Tries made.
    pub tries: u32,
    /// What the last one said.
    pub error: String,
}

/// The state of a memory at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Stats {
    /// Live points.
    pub points: u64,
    /// Rows resident in RAM.
    pub hot_rows: u64,
    /// Live rows in segments, those that are also resident included.
    pub cold_rows: u64,
    /// Those of them in segments that could not be opened, since their blob is missing or damaged: not found until it is back.
    pub lost_rows: u64,
    /// Segments that could not be opened.
    pub lost_segments: u64,
    /// Names of the first sixteen of their blobs.
    pub lost_blobs: Vec<String>,
    /// Bytes of the hot tier: index, directory and the policy's books.
    pub hot_bytes: u64,
    /// The same by part.
    pub hot_parts: BTreeMap<String, u64>,
    /// What the hot index chose by itself, and why; `None` for one that has nothing to choose.
    pub hot_choice: Option<HotChoice>,
    /// Rows on each level of the hot index's graph, the level that has all rows first; empty for an index without levels.
    pub hot_levels: Vec<u64>,
    /// What searches did in the hot index since the memory was opened, all together.
    pub hot_work: SearchWork,
    /// Bytes allowed for the hot tier: set, or derived from the objective.
    pub budget_bytes: u64,
    /// Rows that the budget holds.
    pub hot_capacity_rows: u64,
    /// Bytes in the cold store.
    pub cold_bytes: u64,
    /// RAM of the cold tier's index.
    pub cold_index_bytes: u64,
    /// RAM of codes of cold rows.
    pub codes_bytes: u64,
    /// Segments.
    pub segments: u64,
    /// Partitions that hold rows.
    pub partitions: u64,
    /// RAM of the block cache.
    pub cache_bytes: u64,
    /// Blobs that are not needed any more and wait for their sweep.
    pub garbage: u64,
    /// Rows pinned.
    pub pinned: u64,
    /// Rows that wait for promotion.
    pub restore_queue: u64,
    /// The promotions given up last.
    pub restore_failures: Vec<RestoreFailure>,
    /// The flux's temperature.
    pub temperature: f64,
    /// Share of the hot tier's capacity in use.
    pub pressure: f64,
    /// The worth at which a row had an even chance, in the last turn that looked.
    pub midpoint: Option<f64>,
    /// Share of the true answers that bounded searches found, where they were compared; recent ones count most, those of former openings
    /// too. `None` before the first comparison.
    pub recall: Option<f64>,
    /// Searches compared for it since the memory was created.
    pub recall_comparisons: u64,
    /// Name of the live policy.
    pub policy: String,
    /// Accesses that the recording missed, because they came too fast or it could not be written.
    pub records_dropped: u64,
    /// What other policies would have done with the same accesses, by a sample.
    pub shadows: Vec<ShadowStats>,
    /// Why writes are refused, if they are.
    pub poisoned: Option<String>,
    /// The cold store's requests and their price.
    pub remote: RemoteStats,
    /// How the hot tier's size was derived, where `[flux] objective` states what is wanted of it.
    pub objective: Option<Sizing>,
    /// Counters since the memory was opened.
    #[serde(flatten)]
    pub counted: Counted,
}

impl Stats {
    /// Share of answers that came from the hot tier; `None` before the first answer.
    pub fn hit_rate(&self) -> Option<f64> {
        let all = self.counted.hits_hot + self.counted.hits_cold;
        (all > 0).then(|| self.counted.hits_hot as f64 / all as f64)
    }

    /// Bytes put into the cold store for each byte that went cold since the memory was created; `None` before the first.
    pub fn write_amplification(&self) -> Option<f64> {
        self.remote.ledger.write_amplification()
    }
}

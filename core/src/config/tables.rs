//! The tables that belong to the engine: every key with its type, default, unit and meaning in one place.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::objective::ObjectiveConfig;
use super::units::{ByteSize, Span};
use crate::plugin::OptionSpec;
use crate::vector::Metric;

/// Declares a strict table: struct, defaults, and the list of its keys for people.
macro_rules! table {
    ($(#[$meta:meta])* $name:ident { $($(#[doc = $help:literal])+ $field:ident: $type:ty = $default:literal, $unit:literal;)* }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct $name {
            $($(#[doc = $help])+ pub $field: $type,)*
        }

        impl $name {
            /// Every key of the table.
            pub const OPTIONS: &'static [OptionSpec] = &[$(OptionSpec {
                name: stringify!($field),
                default: $default,
                unit: $unit,
                help: concat!($($help),+),
            },)*];
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: default_of($default),)* }
            }
        }
    };
}

/// Reads a default as it stands in [`OptionSpec::default`]; a test reads every one.
fn default_of<T: serde::de::DeserializeOwned>(toml: &str) -> T {
    let parsed = toml.parse::<toml_edit::Value>().ok();
    #[expect(
        clippy::expect_used,
        reason = "a constant of this file, read by the tests"
    )]
    parsed
        .and_then(|v| T::deserialize(serde::de::IntoDeserializer::into_deserializer(v)).ok())
        .expect("a default of this file")
}

/// When an acknowledgement may be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// When the metadata store shows the write; a crash loses what came after the last durable commit, at most since the last flush
    /// (`memory.flush_every`).
    None,
    /// After the write survives a power cut.
    Commit,
    /// After the rows written also have a segment in the cold store as their home, hot or not. One segment for each group of writes.
    Cold,
}

/// How far a search goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SearchMode {
    /// The hot tier alone.
    HotOnly,
    /// The hot tier and the nearest partitions of the cold tier.
    Bounded,
    /// Every row, compared exactly.
    Complete,
}

impl SearchMode {
    /// All modes, from the quickest to the most thorough.
    pub const ALL: [SearchMode; 3] = [
        SearchMode::HotOnly,
        SearchMode::Bounded,
        SearchMode::Complete,
    ];

    /// The mode's name in configuration and output.
    pub fn name(self) -> &'static str {
        match self {
            Self::HotOnly => "hot-only",
            Self::Bounded => "bounded",
            Self::Complete => "complete",
        }
    }
}

table! {
    /// `[memory]`: what is kept, where, and in how much RAM.
    MemoryConfig {
        /// Folder of the memory; relative to the working directory.
        path: PathBuf = "\"aether-data\"", "";
        /// Dimension of every vector, 1 to 65,536; 0 takes it from the folder, or from the first vector of a new memory's import.
        dim: usize = "0", "floats";
        /// How near two vectors are: l2, inner-product or cosine.
        metric: Metric = "\"cosine\"", "";
        /// RAM for the hot tier: index, directory and the policy's books together never exceed it.
        hot_budget: ByteSize = "\"512MiB\"", "bytes";
        /// RAM for rows on their way between the tiers and through a compaction, whose segments are smaller where it is little.
        working_space: ByteSize = "\"128MiB\"", "bytes";
        /// When a write is acknowledged: commit (survives a power cut), none (a crash may lose what came since the last flush) or cold (as commit, and the rows are in the cold store).
        durability: Durability = "\"commit\"", "";
        /// Longest time an insert into a full hot tier waits for room before it lands cold.
        insert_wait: Span = "\"2s\"", "duration";
        /// How often access statistics, renewed times to live and the policy's books are written down.
        flush_every: Span = "\"30s\"", "duration";
        /// Longest time a closed memory is believed to have slept: a wall clock that jumped further counts as this much.
        clock_jump_max: Span = "\"7d\"", "duration";
        /// Seed of every random choice.
        seed: u64 = "42", "";
    }
}

table! {
    /// `[flux]`: when and how much moves between the tiers.
    FluxConfig {
        /// What the hot tier is to achieve, from which its size is derived: { p99_ms = 5, within = "2GiB" }, or prices such as
        /// { ram = 2.5, request = 0.0004 }, see docs/policies.md; empty for memory.hot_budget.
        objective: ObjectiveConfig = "{}", "";
        /// Time between two turns of the scheduler; "0s" leaves turns to calls of `tick`.
        tick: Span = "\"250ms\"", "duration";
        /// Share of the budget above which chance ends and the worst rows leave.
        high_water: f64 = "0.95", "share of hot_budget";
        /// Share of the budget at which such an eviction stops, and above which rows begin to drift out.
        low_water: f64 = "0.90", "share of hot_budget";
        /// Lowest temperature.
        temperature_floor: f64 = "0.05", "";
        /// Highest temperature.
        temperature_ceiling: f64 = "4.0", "";
        /// Factor of the temperature each turn without pressure.
        temperature_decay: f64 = "0.9", "per tick";
        /// Factor of the temperature each turn under pressure.
        temperature_rise: f64 = "1.5", "per tick";
        /// Steepness of the sigmoid, in units of the sample's spread of keep-values.
        steepness: f64 = "4.0", "";
        /// Hot rows that are scored in one turn.
        sample: usize = "256", "rows";
        /// Most rows of one migration.
        batch_rows: usize = "8192", "rows";
        /// Most vector bytes of one migration.
        batch_bytes: ByteSize = "\"8MiB\"", "bytes";
        /// Cold rows that may wait for promotion; further ones are counted and forgotten.
        restore_queue: usize = "1024", "rows";
        /// Tries before a promotion is given up and shown in `stats`.
        restore_tries: u32 = "6", "";
        /// Wait before the second try; doubles with each, with jitter.
        restore_backoff: Span = "\"100ms\"", "duration";
        /// Accesses that may wait for the policy; further ones are counted and dropped.
        event_queue: usize = "65536", "events";
    }
}

table! {
    /// `[compaction]`: how the cold tier is kept in order.
    CompactionConfig {
        /// Whether segments are merged in the background; by hand, `compact` merges them all the same.
        enabled: bool = "true", "";
        /// Segments of about one size that are merged into one of the next level; fewer cost more writing, more cost searches requests.
        ratio: usize = "8", "segments";
        /// Share of dead rows at which a segment is written anew without them.
        dead_share: f64 = "0.4", "share of rows";
        /// Vector bytes of one segment, before packing, if memory.working_space has room for it about five times.
        segment_bytes: ByteSize = "\"32MiB\"", "bytes";
        /// Most that is read and written in the background; "0B" sets no limit.
        rate: ByteSize = "\"64MiB\"", "bytes per second";
        /// Longest time that the background's next step gives way to searches under way.
        patience: Span = "\"2s\"", "duration";
        /// Time for which a blob that is not needed any more is kept: longer than any write of a lost reply may still be on its way.
        grace: Span = "\"10min\"", "duration";
    }
}

table! {
    /// `[search]`: how far and how long a search goes.
    SearchConfig {
        /// Mode of a search that names none: hot-only, bounded or complete.
        mode: SearchMode = "\"bounded\"", "";
        /// Searches that run at once; 0 is four for each processor.
        concurrent: usize = "0", "searches";
        /// Searches that may wait for a turn; a further one is refused at once.
        queue: usize = "256", "searches";
        /// Time a search may take when it names no deadline of its own; what is found by then is returned, marked partial.
        deadline: Span = "\"10s\"", "duration";
        /// Share of the true answers that a bounded search should find; it looks at as many partitions as that takes.
        recall: f64 = "0.98", "share of answers";
        /// Share of the cold rows that a bounded search looks at until enough searches were compared with the truth.
        probe: f64 = "0.25", "share of cold rows";
        /// Share of the bounded searches that are compared with the truth, in the background; 0 compares none.
        compare: f64 = "0.01", "share of searches";
        /// Most bytes of cold vectors that a bounded search reads.
        read_budget: ByteSize = "\"64MiB\"", "bytes";
        /// Least number of partitions that a bounded search looks at.
        probe_min: usize = "8", "partitions";
        /// Rows that a partition should hold.
        partition_rows: usize = "64", "rows";
        /// RAM for blocks read from the cold store.
        cache: ByteSize = "\"64MiB\"", "bytes";
        /// Requests of one search that are under way at once: for codes, rows, vectors and payloads of several segments.
        reads: usize = "32", "requests";
    }
}

table! {
    /// `[remote]`: how reads of the cold store are hedged and repeated, and what its requests cost. The prices are those that S3 Standard
    /// lists in us-east-1 for use within its region; put your provider's here.
    RemoteConfig {
        /// Quantile of the last reads' times after which a read is sent a second time, and the first answer counts; 0 sends none.
        hedge: f64 = "0.95", "quantile";
        /// Reads are never sent a second time before this, so that quick stores never see one.
        hedge_after: Span = "\"20ms\"", "duration";
        /// Most reads that are sent a second time.
        hedge_share: f64 = "0.1", "share of reads";
        /// How often a call that failed for now is repeated; a store such as object-store repeats requests itself.
        retries: u32 = "0", "";
        /// Pause before the first repetition at most; each further one may pause twice as long. The pause is drawn evenly.
        retry_pause: Span = "\"100ms\"", "duration";
        /// Longest pause before a repetition.
        retry_pause_max: Span = "\"5s\"", "duration";
        /// Price of a thousand reads or questions for a length.
        price_get: f64 = "0.0004", "dollars";
        /// Price of a thousand puts or pages of a listing; deletions are free.
        price_put: f64 = "0.005", "dollars";
        /// Price of a gigabyte (1e9 bytes) kept for a month.
        price_month: f64 = "0.023", "dollars";
        /// Price of a gigabyte read.
        price_transfer: f64 = "0.0", "dollars";
    }
}

table! {
    /// `[codes]`: compact codes of cold rows, by which a search decides which of them to read.
    CodesConfig {
        /// Bits a dimension, 1 to 8: each one halves the error of an estimate. Concerns rows that go cold from now on.
        bits: u8 = "4", "bits";
        /// How surely a row's distance lies inside the bounds that its code gives.
        confidence: f64 = "0.99", "";
        /// RAM for codes; those beyond are read from the cold store when they are wanted.
        ram: ByteSize = "\"256MiB\"", "bytes";
        /// Vector bytes that are packed together: the least that is read to compare a row exactly.
        group: ByteSize = "\"8KiB\"", "bytes";
    }
}

table! {
    /// `[limits]`: what a single call may ask for.
    LimitsConfig {
        /// Largest k of a search.
        k: usize = "10000", "answers";
        /// Most points of one upsert or ids of one delete.
        batch_rows: usize = "10000", "points";
        /// Most bytes of vectors and payloads of one upsert.
        batch_bytes: ByteSize = "\"16MiB\"", "bytes";
        /// Largest payload of one point, as JSON text.
        payload_bytes: ByteSize = "\"256KiB\"", "bytes";
        /// Writes that may wait for the committer; a further one waits for a place until its deadline.
        write_queue: usize = "1024", "calls";
        /// Time that a write may wait for its place in the queue.
        write_wait: Span = "\"30s\"", "duration";
    }
}

table! {
    /// `[shadow]`: policies that are watched beside the live one; nothing moves by them.
    ShadowConfig {
        /// Names of policies, with their default settings.
        policies: Vec<String> = "[]", "";
        /// Share of the rows that they look at.
        sample: f64 = "0.1", "share of rows";
        /// Price of a read of the cold store, for the estimate in `stats`.
        read_usd: f64 = "0.0000004", "dollars";
        /// Price of writing a segment.
        write_usd: f64 = "0.000005", "dollars";
    }
}

table! {
    /// `[record]`: a trace of what the memory is asked for, to be replayed by `aether replay`.
    RecordConfig {
        /// File of the recording; empty records nothing.
        path: PathBuf = "\"\"", "";
        /// Its size: it is a ring, and the oldest accesses give way.
        max_bytes: ByteSize = "\"64MiB\"", "bytes";
        /// Share of the ids that are recorded, always or never.
        sample: f64 = "1.0", "share of ids";
        /// Text that ids are hashed with, to be kept apart from the recording; empty leaves integers as they are.
        hash_key: String = "\"\"", "";
    }
}

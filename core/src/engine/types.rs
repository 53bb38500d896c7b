//! What goes into a memory and what comes out of it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::config::SearchMode;
use crate::error::{Error, Result};
use crate::id::{PointId, Row};
use crate::role::{Fidelity, Tier};

/// How long a point lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Ttl {
    /// Time from the write (or, with `renew`, from the last read) to the point's end; more than zero.
    pub lifetime: Duration,
    /// Whether each `get` and each search that returns the point starts the time anew.
    pub renew: bool,
}

/// What the user stores.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// Its name; an upsert of a name that exists replaces the point.
    pub id: PointId,
    /// `[dim]`, finite; not zero under cosine.
    pub vector: Vec<f32>,
    /// Any JSON, up to `limits.payload_bytes` as text.
    pub payload: Option<Value>,
    /// When it ends by itself.
    pub ttl: Option<Ttl>,
}

impl Point {
    /// A point of an id and a vector.
    pub fn new(id: impl Into<PointId>, vector: Vec<f32>) -> Self {
        Self {
            id: id.into(),
            vector,
            payload: None,
            ttl: None,
        }
    }

    /// Adds a payload.
    pub fn with_payload(mut self, payload: Value) -> Self {
        self.payload = Some(payload);
        self
    }

    /// Adds a time to live, which reads renew if `renew`.
    pub fn with_ttl(mut self, lifetime: Duration, renew: bool) -> Self {
        self.ttl = Some(Ttl { lifetime, renew });
        self
    }
}

/// What of a point is wanted back. Both by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts {
    /// The vector.
    pub vector: bool,
    /// The payload.
    pub payload: bool,
}

impl Default for Parts {
    fn default() -> Self {
        Self {
            vector: true,
            payload: true,
        }
    }
}

impl Parts {
    /// Id, row, tier and distance only.
    pub const NONE: Parts = Parts {
        vector: false,
        payload: false,
    };
}

/// A point as it is stored.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Record {
    /// The point's name.
    pub id: PointId,
    /// Its current version.
    pub row: Row,
    /// Where it was found.
    pub tier: Tier,
    /// Its vector, if asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vector: Option<Vec<f32>>,
    /// Whether and how far the vector may differ from what was written: a point that once went cold through a lossy codec
    /// says so here, also when it is hot again.
    pub fidelity: Fidelity,
    /// Its payload, if it has one and it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<Value>,
    /// Time until it ends by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<Duration>,
}

/// Says of a row whether it may be an answer.
pub type RowPredicate = Arc<dyn Fn(Row) -> bool + Send + Sync>;

/// One search.
#[derive(Clone)]
pub struct SearchRequest {
    /// `[dim]`, finite.
    pub vector: Vec<f32>,
    /// How many answers at most: 1 to `limits.k`.
    pub k: usize,
    /// How far to go; `search.mode` if `None`.
    pub mode: Option<SearchMode>,
    /// Breadth of the hot index's search; its own default if `None`.
    pub ef: Option<usize>,
    /// Share of the true answers that a bounded search should find; `search.recall` if `None`.
    pub recall: Option<f64>,
    /// Share of the cold rows to look at in a bounded search, whatever that finds; `recall` decides if `None`.
    pub probe: Option<f64>,
    /// Most bytes of cold vectors that a bounded search reads; `search.read_budget` if `None`.
    pub read_budget: Option<u64>,
    /// Only rows for which this is true are answers.
    pub filter: Option<RowPredicate>,
    /// Time allowed; `search.deadline` if `None`. What is found by then is returned and marked partial.
    pub deadline: Option<Duration>,
    /// What to return of each point. Nothing but id, row, tier and distance by default.
    pub parts: Parts,
    /// Whether the answers count as accesses for the policy and renew times to live. `true` by default; measurements turn it off.
    pub touch: bool,
}

impl fmt::Debug for SearchRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SearchRequest")
            .field("dim", &self.vector.len())
            .field("k", &self.k)
            .field("mode", &self.mode)
            .field("ef", &self.ef)
            .field("recall", &self.recall)
            .field("probe", &self.probe)
            .field("read_budget", &self.read_budget)
            .field("filter", &self.filter.is_some())
            .field("deadline", &self.deadline)
            .field("parts", &self.parts)
            .field("touch", &self.touch)
            .finish()
    }
}

impl SearchRequest {
    /// A search for the `k` nearest, with the configured mode and deadline.
    pub fn new(vector: Vec<f32>, k: usize) -> Self {
        Self {
            vector,
            k,
            mode: None,
            ef: None,
            recall: None,
            probe: None,
            read_budget: None,
            filter: None,
            deadline: None,
            parts: Parts::NONE,
            touch: true,
        }
    }

    /// Sets how far to go.
    pub fn mode(mut self, mode: SearchMode) -> Self {
        self.mode = Some(mode);
        self
    }

    /// Sets the breadth of the hot index's search.
    pub fn ef(mut self, ef: usize) -> Self {
        self.ef = Some(ef);
        self
    }

    /// Sets the share of the true answers that a bounded search should find.
    pub fn recall(mut self, share: f64) -> Self {
        self.recall = Some(share);
        self
    }

    /// Sets how many bytes of cold vectors a bounded search may read.
    pub fn read_budget(mut self, bytes: u64) -> Self {
        self.read_budget = Some(bytes);
        self
    }

    /// Sets the share of cold rows that a bounded search looks at.
    pub fn probe(mut self, share: f64) -> Self {
        self.probe = Some(share);
        self
    }

    /// Accepts only some rows.
    pub fn filter(mut self, accept: impl Fn(Row) -> bool + Send + Sync + 'static) -> Self {
        self.filter = Some(Arc::new(accept));
        self
    }

    /// Sets the time allowed.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Asks for vectors and payloads as well.
    pub fn parts(mut self, parts: Parts) -> Self {
        self.parts = parts;
        self
    }

    /// Leaves no trace with the policy.
    pub fn untouched(mut self) -> Self {
        self.touch = false;
        self
    }
}

/// One answer of a search.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Hit {
    /// The point.
    pub id: PointId,
    /// Its version that was compared.
    pub row: Row,
    /// Distance from the query; smaller is nearer (see [`Metric`](crate::Metric)).
    pub distance: f32,
    /// Where it was found.
    pub tier: Tier,
    /// Its vector, if asked for and it could be read; [`Coverage::cuts`] says why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vector: Option<Vec<f32>>,
    /// How far vector and distance may be from the truth.
    pub fidelity: Fidelity,
    /// Its payload, if it has one and it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<Value>,
}

/// Why an answer is not whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "cause")]
pub enum Cut {
    /// Time ran out before all partitions were read, for the scan or for the vectors and payloads of the answers.
    Deadline {
        /// Partitions that were to be read and were not.
        partitions: usize,
    },
    /// A segment could not be read, for the scan or for the vectors and payloads of the answers. Of segments that could not be opened, the
    /// first sixteen are named; [`Stats::lost_segments`](super::Stats) counts them.
    Unreachable {
        /// Its number.
        segment: u64,
        /// What its store said.
        error: String,
    },
    /// Reading every row that might be an answer would have gone beyond the budget: those with the worst estimates were left out.
    ReadBudget {
        /// Rows left out.
        rows: usize,
    },
    /// The outcome of the last write is unknown, and points that it may have changed were left out; opening the memory anew
    /// finds out. See [`Stats::poisoned`](super::Stats).
    Unsure {
        /// Candidates left out.
        points: usize,
    },
}

/// What a search looked at.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Coverage {
    /// How far it was to go.
    pub mode: SearchMode,
    /// Rows resident when it ran.
    pub hot_rows: u64,
    /// Live rows in the cold tier when it ran.
    pub cold_rows: u64,
    /// Cold rows whose distance was estimated by their codes.
    pub cold_rows_estimated: u64,
    /// Cold rows read and compared exactly.
    pub cold_rows_scored: u64,
    /// Partitions there were.
    pub partitions: usize,
    /// Partitions looked at.
    pub partitions_probed: usize,
    /// Requests to the cold store (reads that the cache answered are none): for codes, for rows to compare, and for the vectors and payloads
    /// that were asked for with the answers.
    pub requests: u64,
    /// Rounds of such requests: those of one round go side by side, the next round needs what they bring. Codes take one, as a rule, rows
    /// to compare one, and vectors and payloads of the answers one more where they are not at hand by then; more than working space allows at
    /// once, several.
    pub rounds: u32,
    /// Bytes that came from the cold store.
    pub bytes: u64,
    /// Whether no cold row that was left out can be nearer than the answers: each was compared, or excluded by the bounds of its code (at
    /// `codes.confidence`) or of its partition (for certain). A bounded search may find all without being able to prove it.
    pub proven: bool,
    /// What kept the search from going as far as its mode says. Empty: nothing did.
    pub cuts: Vec<Cut>,
}

impl Coverage {
    /// Whether the search went as far as its mode says.
    pub fn is_whole(&self) -> bool {
        self.cuts.is_empty()
    }
}

/// The answers of a search, nearest first, and what they covered.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Answer {
    /// Up to `k` points, each once.
    pub hits: Vec<Hit>,
    /// What was looked at.
    pub coverage: Coverage,
}

/// Receipt of an upsert: under the default durability, it survives a power cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Written {
    /// The new version of each point, in the order given.
    pub rows: Vec<Row>,
    /// How many landed cold, because the hot tier had no room.
    pub cold: usize,
}

/// Points to be written and points to be deleted, staged until [`Memory::apply`](super::Memory::apply) makes them all visible at once. Until
/// then the memory knows nothing of them: dropping them, or an error, undoes nothing that others did meanwhile.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    pub(crate) points: Vec<Point>,
    pub(crate) ids: Vec<PointId>,
}

impl Changes {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Stages a point, which is to replace the one of its id, if there is one then.
    pub fn upsert(&mut self, point: Point) -> &mut Self {
        self.points.push(point);
        self
    }

    /// Stages the deletion of a point, if there is one then.
    pub fn delete(&mut self, id: PointId) -> &mut Self {
        self.ids.push(id);
        self
    }

    /// How many changes are staged.
    pub fn len(&self) -> usize {
        self.points.len() + self.ids.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Receipt of [`Changes`]: under the default durability, they survive a power cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Changed {
    /// What was written.
    pub written: Written,
    /// How many of the points to be deleted there were.
    pub deleted: usize,
}

/// What a compaction by hand did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Compacted {
    /// Segments there were.
    pub segments_before: usize,
    /// Segments there are now.
    pub segments_after: usize,
    /// Rows that were written anew.
    pub rows: u64,
    /// Bytes read from the cold store.
    pub bytes_read: u64,
    /// Bytes written to it.
    pub bytes_written: u64,
    /// Blobs that went; those of this compaction's inputs go later, after their grace.
    pub blobs_swept: usize,
}

/// What one turn of the scheduler did.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct TickReport {
    /// Hot rows scored.
    pub scored: usize,
    /// Rows demoted.
    pub demoted: usize,
    /// Rows promoted.
    pub promoted: usize,
    /// Points that had expired and were removed.
    pub expired: usize,
    /// Rows that a step of compaction moved to another segment.
    pub compacted: usize,
    /// The temperature afterwards.
    pub temperature: f64,
    /// Hot bytes over the budget afterwards.
    pub pressure: f64,
    /// The worth at which a row had an even chance.
    pub midpoint: Option<f64>,
}

pub(crate) fn check_reward(reward: f32) -> Result<()> {
    if (0.0..=1.0).contains(&reward) {
        return Ok(());
    }
    Err(Error::invalid_input(format!(
        "reward: expected 0.0 to 1.0, got {reward}"
    )))
}

//! Rows resident in RAM, searchable.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::io::{Read, Write};

use serde::Serialize;

use crate::error::{Error, Result};
use crate::id::Row;
use crate::vector::{Metric, VectorBlock};

use super::work::SearchTally;

/// Says whether a row may be an answer. Called from search threads; cheap and without side effects.
pub type RowFilter<'a> = dyn Fn(Row) -> bool + Sync + 'a;

/// How one search is to be done.
#[derive(Clone, Copy, Default)]
pub struct SearchOptions<'a> {
    /// Breadth of an approximate search: candidates kept (`ef` of HNSW). The index's own default when `None`;
    /// at least `k` is used in any case. Exact indexes ignore it.
    pub ef: Option<usize>,
    /// Asks for the exact answer, whatever it costs: every resident row is compared.
    pub exact: bool,
    /// Only rows for which this is true are answers; `k` counts accepted rows.
    pub filter: Option<&'a RowFilter<'a>>,
    /// Where the search adds what it did. An index that keeps no count adds nothing.
    pub tally: Option<&'a SearchTally>,
}

impl fmt::Debug for SearchOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SearchOptions")
            .field("ef", &self.ef)
            .field("exact", &self.exact)
            .field("filter", &self.filter.is_some())
            .field("tally", &self.tally.is_some())
            .finish()
    }
}

/// A row and its distance from the query. Ordered by distance, then by row, with a total order on floats.
#[derive(Clone, Copy, Debug)]
pub struct Neighbor {
    /// The row found.
    pub row: Row,
    /// [`Metric::distance`] from the query: smaller is nearer.
    pub distance: f32,
}

impl PartialEq for Neighbor {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Neighbor {}

impl PartialOrd for Neighbor {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Neighbor {
    fn cmp(&self, other: &Self) -> Ordering {
        self.distance
            .total_cmp(&other.distance)
            .then(self.row.cmp(&other.row))
    }
}

/// What a hot index can do; read by the engine and by the conformance suite.
#[derive(Clone, Debug)]
pub struct HotCapability {
    /// Whether a search without `exact` may miss neighbours.
    pub approximate: bool,
    /// Whether [`HotIndex::read`] returns the inserted vector bit for bit.
    pub exact_read: bool,
    /// Whether [`HotIndex::save`] and [`HotIndex::load`] work; otherwise they answer `Unsupported`.
    pub snapshot: bool,
    /// Largest dimension it accepts.
    pub dim_max: usize,
    /// Metrics it accepts.
    pub metrics: &'static [Metric],
}

/// What an index chose by itself, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HotChoice {
    /// What answers searches now: the kind of index and the settings that were not given.
    pub index: String,
    /// The rule that led there, with the figures that it was applied to.
    pub reason: String,
}

impl fmt::Display for HotChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.index, self.reason)
    }
}

/// Figures of a hot index at one moment.
#[derive(Clone, Debug, Default, Serialize)]
pub struct HotStats {
    /// Rows that can be found.
    pub rows: u64,
    /// Places of removed rows not yet reused or reclaimed.
    pub removed: u64,
    /// All bytes in RAM, as [`HotIndex::bytes`].
    pub bytes: u64,
    /// The same bytes by part, such as `vectors`, `links`, `map`. Sums to `bytes`.
    pub parts: BTreeMap<&'static str, u64>,
    /// Rows on each level of a graph, the level that has all rows first; empty for an index without levels.
    pub levels: Vec<u64>,
    /// What it chose by itself; `None` for an index that has nothing to choose.
    pub choice: Option<HotChoice>,
}

/// Rows resident in RAM, searchable.
///
/// **Threads.** Every method may be called from many threads at once. A search that runs beside an insert or a
/// removal sees each row either before or after the change; it never returns a row whose removal returned before
/// the search began, and finds (an exact one surely, an approximate one as well as ever) each row whose
/// insertion returned before the search began and that was not removed.
///
/// **Vectors** are `[dim]`, finite, and checked by the engine ([`Metric::check`]) before they come here; an index
/// still answers `InvalidInput` to a wrong length. Under cosine an index keeps the vector as it came.
///
/// **Errors** change nothing.
pub trait HotIndex: fmt::Debug + Send + Sync + 'static {
    /// What this index can do.
    fn capability(&self) -> HotCapability;

    /// Adds a row. A row that is already resident stays as it is and the answer is `Ok`: rows are immutable, and
    /// recovery repeats itself. A row may come back after its removal.
    ///
    /// # Errors
    /// `InvalidInput` for a wrong length. `Capacity` beyond a limit of the index's own.
    fn insert(&self, row: Row, vector: &[f32]) -> Result<()>;

    /// Adds many rows; the same as [`HotIndex::insert`] for each, in order, but free to use more threads.
    /// `vectors` is `[rows.len(), dim]`, row-major. On an error some of the rows may be resident.
    fn insert_batch(&self, rows: &[Row], vectors: &[f32]) -> Result<()> {
        if rows.is_empty() {
            return if vectors.is_empty() {
                Ok(())
            } else {
                Err(Error::invalid_input(
                    "vectors without rows: expected one vector a row",
                ))
            };
        }
        if vectors.is_empty() || !vectors.len().is_multiple_of(rows.len()) {
            return Err(Error::invalid_input(format!(
                "vectors: expected {} of one length, got {} floats in all",
                rows.len(),
                vectors.len()
            )));
        }
        let dim = vectors.len() / rows.len();
        rows.iter()
            .zip(vectors.chunks_exact(dim))
            .try_for_each(|(row, v)| self.insert(*row, v))
    }

    /// Removes a row; `false` if it was not resident. Its place may be reused by later inserts.
    fn remove(&self, row: Row) -> Result<bool>;

    /// Whether a row is resident.
    fn contains(&self, row: Row) -> bool;

    /// Copies a row's vector to `out: [dim]`; `false`, and `out` untouched, if the row is not resident.
    ///
    /// # Errors
    /// `InvalidInput` when `out` has a wrong length.
    fn read(&self, row: Row, out: &mut [f32]) -> Result<bool>;

    /// The up to `k` nearest accepted rows, nearest first, each once, ties by row. Fewer than `k` only when fewer are
    /// accepted (an approximate index may also miss some). `k` of 0 gives nothing.
    ///
    /// # Errors
    /// `InvalidInput` when `query` has a wrong length or a number that is not finite.
    fn search(&self, query: &[f32], k: usize, options: &SearchOptions<'_>)
    -> Result<Vec<Neighbor>>;

    /// The answers of several queries, `[queries, dim]`, in their order: each as [`HotIndex::search`] gives it, up to the rounding of sums. An index
    /// that can read its rows once for all of them does.
    ///
    /// # Errors
    /// As [`HotIndex::search`].
    fn search_batch(
        &self,
        queries: VectorBlock<'_>,
        k: usize,
        options: &SearchOptions<'_>,
    ) -> Result<Vec<Vec<Neighbor>>> {
        queries
            .iter()
            .map(|query| self.search(query, k, options))
            .collect()
    }

    /// Resident rows. O(1).
    fn len(&self) -> usize;

    /// Whether no row is resident.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every resident row, in no particular order, as of some moment during the call.
    fn rows(&self) -> Vec<Row>;

    /// Bytes this index really holds in RAM, its own overhead and unused capacity included. O(1).
    fn bytes(&self) -> u64;

    /// Upper bound of what [`HotIndex::bytes`] would be after `additional` more inserts. O(1). The engine inserts only
    /// when this fits its budget, so a bound that is too low breaks the promise that the budget holds.
    fn bytes_after(&self, additional: usize) -> u64;

    /// Reclaims what removed rows left behind; searches and writes go on meanwhile. May be slow.
    fn compact(&self) -> Result<()>;

    /// Writes a checksummed snapshot of all rows as of some moment during the call.
    ///
    /// # Errors
    /// `Unsupported` by capability. `Unavailable` when `out` fails.
    fn save(&self, out: &mut dyn Write) -> Result<()>;

    /// Reads a snapshot into an empty index of the same dimension and metric.
    ///
    /// # Errors
    /// `InvalidInput` when the index is not empty. `Corrupt` for damage, another dimension, metric or version; the
    /// index is then still empty. Memory is never allocated beyond what `input` really delivers.
    fn load(&self, input: &mut dyn Read) -> Result<()>;

    /// Figures of this moment.
    fn stats(&self) -> HotStats;
}

//! The contract, on top of the graph.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZero;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use aether_core::role::{HotCapability, HotIndex, HotStats, Neighbor, SearchOptions, SearchWork};
use aether_core::vector::{DIM_MAX, dot};
use aether_core::{Error, Metric, Result, Role, Row};
use parking_lot::Mutex;

use crate::config::{HnswConfig, Place};
use crate::graph::{Graph, Point};
use crate::map::Heads;
use crate::node::Head;
use crate::scratch::Scratch;

/// Rows that a thread takes at once from a batch.
const TAKE: usize = 16;

/// A hierarchical navigable small-world graph over rows in RAM.
///
/// **Complexity** with n rows of dimension dim: `insert` and `search` about O(dim log n); `remove` about as much as
/// `insert`; `read` and `contains` O(1); an exact search O(n dim).
///
/// **Threads.** Searches take no lock. Insertions and removals of different rows run at the same time. An insertion may wait for the
/// searches that run when it needs the slot of a row that was removed a moment ago and no other is left.
///
/// **Determinism.** Used from one thread, the same calls in the same order with the same seed give the same graph and
/// the same answers.
#[derive(Debug)]
pub struct HnswIndex {
    pub(crate) graph: Graph,
    config: HnswConfig,
}

impl HnswIndex {
    /// An empty index.
    ///
    /// # Errors
    /// `Config` for a dimension of 0 or above [`DIM_MAX`]. With vectors in a file: `Config` without codes, `Unavailable` when the file
    /// cannot be made.
    pub fn new(dim: usize, metric: Metric, seed: u64, config: HnswConfig) -> Result<Self> {
        Self::new_in(dim, metric, seed, config, None)
    }

    /// As [`HnswIndex::new`]; a file of vectors is made in `folder`, by default the system's folder for temporary files. It has no name
    /// from the first moment on, so it is gone when the index is, whatever ends the process.
    ///
    /// # Errors
    /// As [`HnswIndex::new`].
    pub fn new_in(
        dim: usize,
        metric: Metric,
        seed: u64,
        config: HnswConfig,
        folder: Option<&Path>,
    ) -> Result<Self> {
        if dim == 0 || dim > DIM_MAX {
            return Err(Error::config(format!(
                "dim: expected 1 to {DIM_MAX}, got {dim}"
            )));
        }
        let bits = config.code_bits_for(dim);
        let vectors = match config.vectors {
            Place::Ram => None,
            Place::File if bits == 0 => {
                return Err(Error::config(format!(
                    "vectors: a file wants codes to search by, and there are none for {dim} dimensions: set code_bits to 4 or 8"
                )));
            }
            Place::File => Some(nameless(folder)?),
        };
        Ok(Self {
            graph: Graph::new(
                dim,
                metric,
                config.m,
                config.ef_construction,
                bits,
                vectors,
                seed,
            ),
            config,
        })
    }

    fn check_len(&self, what: &str, len: usize, operation: &'static str) -> Result<()> {
        let dim = self.graph.shape.dim;
        if len == dim {
            return Ok(());
        }
        Err(at(
            Error::invalid_input(format!("{what}: expected {dim} dimensions, got {len}")),
            operation,
        ))
    }

    fn insert_one(&self, row: Row, vector: &[f32]) -> Result<()> {
        let _row = self.graph.stripe(row);
        if self.contains(row) {
            return Ok(());
        }
        let scale = self.graph.metric.scale(vector);
        self.graph
            .insert(row, vector, scale)
            .map_err(|e| at(e, "insert"))
    }

    fn threads_for(&self, rows: usize) -> usize {
        let threads = match self.config.threads {
            0 => std::thread::available_parallelism().map_or(1, NonZero::get),
            n => n,
        };
        threads.min(rows.div_ceil(TAKE))
    }

    fn fixed_bytes(&self) -> u64 {
        size_of::<Self>() as u64
    }
}

/// A file without a name.
fn nameless(folder: Option<&Path>) -> Result<File> {
    let made = match folder {
        Some(folder) => {
            std::fs::create_dir_all(folder).and_then(|()| tempfile::tempfile_in(folder))
        }
        None => tempfile::tempfile(),
    };
    made.map_err(|e| {
        at(
            Error::unavailable("cannot make the file of vectors").with_source(e),
            "open",
        )
    })
}

/// Names this plug-in and what it was doing in an error.
pub(crate) fn at(error: Error, operation: &'static str) -> Error {
    error.at(Role::Hot, "hnsw", operation)
}

impl HotIndex for HnswIndex {
    fn capability(&self) -> HotCapability {
        HotCapability {
            approximate: true,
            exact_read: true,
            snapshot: true,
            dim_max: DIM_MAX,
            metrics: &Metric::ALL,
        }
    }

    fn insert(&self, row: Row, vector: &[f32]) -> Result<()> {
        self.check_len("vector", vector.len(), "insert")?;
        self.insert_one(row, vector)
    }

    fn insert_batch(&self, rows: &[Row], vectors: &[f32]) -> Result<()> {
        let dim = self.graph.shape.dim;
        if rows.len().checked_mul(dim) != Some(vectors.len()) {
            return Err(at(
                Error::invalid_input(format!(
                    "vectors: expected {} x {dim} floats, got {}",
                    rows.len(),
                    vectors.len()
                )),
                "insert",
            ));
        }
        let vector = |i: usize| &vectors[i * dim..(i + 1) * dim];
        let threads = self.threads_for(rows.len());
        if threads <= 1 {
            return (0..rows.len()).try_for_each(|i| self.insert_one(rows[i], vector(i)));
        }
        // A row that stands twice in the batch keeps its first vector, whichever thread comes first.
        let mut order: Vec<u32> = Vec::new();
        let last = u32::try_from(rows.len()).map_err(|_| {
            at(
                Error::invalid_input("batch: expected fewer than 2^32 rows"),
                "insert",
            )
        })?;
        order.extend(0..last);
        order.sort_unstable_by_key(|i| (rows[*i as usize], *i));
        order.dedup_by_key(|i| rows[*i as usize]);
        order.sort_unstable();
        let (next, failed) = (AtomicUsize::new(0), Mutex::new(None));
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    while failed.lock().is_none() {
                        let from = next.fetch_add(TAKE, Ordering::Relaxed);
                        let Some(rest) = order.get(from..) else {
                            return;
                        };
                        for i in rest.iter().take(TAKE).map(|i| *i as usize) {
                            if let Err(error) = self.insert_one(rows[i], vector(i)) {
                                failed.lock().get_or_insert(error);
                                return;
                            }
                        }
                    }
                });
            }
        });
        failed.into_inner().map_or(Ok(()), Err)
    }

    fn remove(&self, row: Row) -> Result<bool> {
        let _row = self.graph.stripe(row);
        Ok(self.graph.remove(row))
    }

    fn contains(&self, row: Row) -> bool {
        self.graph.map.get(row, &self.graph).is_some()
    }

    fn read(&self, row: Row, out: &mut [f32]) -> Result<bool> {
        self.check_len("out", out.len(), "read")?;
        let Some((slot, _stays)) = self.graph.map.get(row, &self.graph) else {
            return Ok(false);
        };
        let vector = self.graph.vector(slot);
        // SAFETY: the vector is `dim` floats long; while the guard lives the row is not removed, so nobody writes there.
        unsafe { std::ptr::copy_nonoverlapping(vector, out.as_mut_ptr(), out.len()) };
        Ok(true)
    }

    fn search(
        &self,
        query: &[f32],
        k: usize,
        options: &SearchOptions<'_>,
    ) -> Result<Vec<Neighbor>> {
        self.check_len("query", query.len(), "search")?;
        if let Some(i) = query.iter().position(|x| !x.is_finite()) {
            return Err(at(
                Error::invalid_input(format!(
                    "query[{i}]: expected a finite number, got {}",
                    query[i]
                )),
                "search",
            ));
        }
        if !dot(query, query).is_finite() {
            return Err(at(
                Error::invalid_input(
                    "query: its squared norm does not fit in f32; scale the vector down",
                ),
                "search",
            ));
        }
        if k == 0 {
            return Ok(Vec::new());
        }
        let ef = options.ef.unwrap_or(self.config.ef_search).max(1);
        Ok(Scratch::with(|scratch| {
            let point = Point {
                vector: scratch.set_query(query),
                scale: self.graph.metric.scale(query),
            };
            scratch.done = SearchWork::default();
            let found = {
                let _pin = self.graph.pins.pin();
                self.graph
                    .find(scratch, point, k, ef, options.exact, options.filter)
            };
            if let Some(tally) = options.tally {
                tally.add(&self.graph.with_bytes(scratch.done));
            }
            found
        }))
    }

    fn len(&self) -> usize {
        self.graph.map.len()
    }

    fn rows(&self) -> Vec<Row> {
        let _pin = self.graph.pins.pin();
        let row = |slot: &u32| Row(self.graph.head(*slot).row.load(Ordering::Relaxed));
        self.graph.map.slots(&self.graph).iter().map(row).collect()
    }

    fn bytes(&self) -> u64 {
        self.graph.arena_bytes() + self.fixed_bytes()
    }

    fn bytes_after(&self, additional: usize) -> u64 {
        self.graph.arena_bytes_after(additional) + self.fixed_bytes()
    }

    fn compact(&self) -> Result<()> {
        self.graph.compact().map_err(|e| at(e, "compact"))
    }

    fn save(&self, out: &mut dyn Write) -> Result<()> {
        self.graph.save(out).map_err(|e| at(e, "save"))
    }

    fn load(&self, input: &mut dyn Read) -> Result<()> {
        self.graph.load(input).map_err(|e| at(e, "load"))
    }

    fn stats(&self) -> HotStats {
        let graph = &self.graph;
        let bytes = self.bytes();
        let slots = graph.nodes.capacity() as u64;
        let shape = &graph.shape;
        let vectors = match &graph.vectors {
            Some(arena) => arena.ram_bytes() as u64,
            None => slots * shape.vector_bytes() as u64,
        };
        let codes = graph.codes.as_ref();
        let codes = codes.map_or(0, |codes| codes.arena.bytes() + codes.bytes()) as u64;
        let heads = slots * size_of::<Head>() as u64;
        let links = slots * shape.head as u64 + graph.upper.bytes() as u64;
        let map = graph.map.arena().bytes() as u64;
        let rest = bytes.saturating_sub(vectors + codes + heads + links + map);
        HotStats {
            rows: graph.map.len() as u64,
            removed: graph.removed() as u64,
            bytes: vectors + codes + heads + links + map + rest,
            parts: BTreeMap::from([
                ("vectors", vectors),
                ("codes", codes),
                ("heads", heads),
                ("links", links),
                ("map", map),
                ("idle", rest),
            ]),
            levels: graph.rows_by_level(),
            choice: Some(self.config.choice(graph.shape.dim)),
        }
    }
}

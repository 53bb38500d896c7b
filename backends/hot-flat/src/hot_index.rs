//! [`HotIndex`] by exact scan.
//!
//! Locks, always in this order: `gate` (removals only), `arena` (for the moment of a write or a look-up), then one chunk. A search holds `arena` only to take
//! the list of chunks. Rows never move while a chunk is in the list; compaction writes new chunks and takes the old ones out of
//! the list under the lock, so any one list holds each row once.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::sync::Arc;

use aether_core::plugin::Role;
use aether_core::role::{HotCapability, HotIndex, HotStats, Neighbor, SearchOptions, SearchWork};
use aether_core::vector::{DIM_MAX, VectorBlock};
use aether_core::{Error, Metric, Result, Row};
use parking_lot::RwLock;

use crate::arena::Arena;
use crate::batch::scan_batch;
use crate::chunk::{Chunk, Layout};
use crate::config::FlatConfig;
use crate::format;
use crate::held::{Bytes, Counted, Held};
use crate::search::{Scanned, has_duplicates, scan};

/// Scans beside removals before one is done with removals held back.
const TRIES: usize = 3;

/// The exact hot index.
#[derive(Debug)]
pub struct Flat {
    layout: Layout,
    held: Arc<Held>,
    arena: RwLock<Arena>,
    /// Held by each removal, and wholly by a search that must see none.
    gate: RwLock<()>,
}

impl Flat {
    /// An empty index.
    ///
    /// # Errors
    /// `Config` when `dim` is not 1 to 65,536.
    pub fn new(config: &FlatConfig, metric: Metric, dim: usize) -> Result<Self> {
        if dim == 0 || dim > DIM_MAX {
            return Err(Error::config(format!(
                "hot index flat: expected a dimension of 1 to {DIM_MAX}, got {dim}"
            )));
        }
        let layout = Layout::new(dim, metric, config.chunk.0);
        let held = Arc::new(Held::default());
        Ok(Self {
            layout,
            arena: RwLock::new(Arena::new(layout, Arc::clone(&held))),
            held,
            gate: RwLock::new(()),
        })
    }

    fn check_len(&self, what: &str, len: usize) -> Result<()> {
        if len == self.layout.dim {
            return Ok(());
        }
        Err(Error::invalid_input(format!(
            "{what}: expected {} dimensions, got {len}",
            self.layout.dim
        )))
    }

    fn check_query(&self, query: &[f32]) -> Result<()> {
        self.check_len("query", query.len())?;
        match query.iter().position(|x| !x.is_finite()) {
            None => Ok(()),
            Some(i) => Err(Error::invalid_input(format!(
                "query[{i}]: expected a finite number, got {}",
                query[i]
            ))),
        }
    }

    /// Notes what a scan did where it is asked for, and hands on what it found.
    fn count(&self, scanned: Scanned, options: &SearchOptions<'_>) -> Vec<Neighbor> {
        if let Some(tally) = options.tally {
            tally.add(&SearchWork {
                scanned: scanned.compared,
                vector_bytes: scanned.compared * 4 * self.layout.dim as u64,
                ..SearchWork::default()
            });
        }
        scanned.found
    }

    fn parts(&self, arena: &Arena) -> BTreeMap<&'static str, u64> {
        let held = self.held.bytes();
        let fixed = size_of::<Self>() as u64;
        BTreeMap::from([
            ("vectors", held.vectors),
            ("rows", held.rows),
            ("chunks", held.chunks + arena.list_bytes() + fixed),
            ("map", arena.map_bytes()),
        ])
    }
}

impl HotIndex for Flat {
    fn capability(&self) -> HotCapability {
        HotCapability {
            approximate: false,
            exact_read: true,
            snapshot: true,
            dim_max: DIM_MAX,
            metrics: &Metric::ALL,
        }
    }

    fn insert(&self, row: Row, vector: &[f32]) -> Result<()> {
        self.check_len("vector", vector.len())?;
        self.arena.write().insert_some(&[row], vector);
        Ok(())
    }

    /// Bound by the speed of memory. The lock is given up between steps, so that searches start meanwhile.
    fn insert_batch(&self, rows: &[Row], vectors: &[f32]) -> Result<()> {
        let dim = self.layout.dim;
        if rows.len().checked_mul(dim) != Some(vectors.len()) {
            return Err(Error::invalid_input(format!(
                "vectors: expected {} of {dim} floats, got {} floats in all",
                rows.len(),
                vectors.len()
            )));
        }
        let mut from = 0;
        while from < rows.len() {
            from += self
                .arena
                .write()
                .insert_some(&rows[from..], &vectors[from * dim..]);
        }
        Ok(())
    }

    fn remove(&self, row: Row) -> Result<bool> {
        let _gate = self.gate.read();
        Ok(self.arena.write().remove(row))
    }

    fn contains(&self, row: Row) -> bool {
        self.arena.read().contains(row)
    }

    fn read(&self, row: Row, out: &mut [f32]) -> Result<bool> {
        self.check_len("out", out.len())?;
        Ok(self.arena.read().read(row, out))
    }

    fn search(
        &self,
        query: &[f32],
        k: usize,
        options: &SearchOptions<'_>,
    ) -> Result<Vec<Neighbor>> {
        self.check_query(query)?;
        if k == 0 {
            return Ok(Vec::new());
        }
        let metric = self.layout.metric;
        for _ in 0..TRIES {
            let (list, rows, removals) = {
                let arena = self.arena.read();
                (arena.list(), arena.len(), arena.removals)
            };
            let found = self.count(scan(&list, metric, query, k, rows, options.filter), options);
            // A row that was removed and came back during the scan may have been met at both places.
            if self.arena.read().removals == removals || !has_duplicates(&found) {
                return Ok(found);
            }
        }
        let _removals_wait = self.gate.write();
        let (list, rows) = {
            let arena = self.arena.read();
            (arena.list(), arena.len())
        };
        let scanned = scan(&list, metric, query, k, rows, options.filter);
        Ok(self.count(scanned, options))
    }

    /// Reads the rows once for all queries; a chunk at a time is held back from writers until all queries were compared with it.
    fn search_batch(
        &self,
        queries: VectorBlock<'_>,
        k: usize,
        options: &SearchOptions<'_>,
    ) -> Result<Vec<Vec<Neighbor>>> {
        queries
            .iter()
            .try_for_each(|query| self.check_query(query))?;
        if k == 0 {
            return Ok(vec![Vec::new(); queries.shape().rows]);
        }
        let (list, rows, removals) = {
            let arena = self.arena.read();
            (arena.list(), arena.len(), arena.removals)
        };
        let metric = self.layout.metric;
        let scanned = scan_batch(&list, metric, queries.iter(), k, rows, options.filter);
        let still = self.arena.read().removals == removals;
        let answers = queries.iter().zip(scanned).map(|(query, scanned)| {
            let found = self.count(scanned, options);
            // A row that was removed and came back during the scan may have been met at both places.
            if still || !has_duplicates(&found) {
                return Ok(found);
            }
            self.search(query, k, options)
        });
        answers.collect()
    }

    fn len(&self) -> usize {
        self.arena.read().len()
    }

    fn rows(&self) -> Vec<Row> {
        self.arena.read().rows()
    }

    fn bytes(&self) -> u64 {
        self.parts(&self.arena.read()).values().sum()
    }

    /// While a snapshot is being written, the chunks that it has yet to write count twice: a writer would copy them. So does what a writer has copied
    /// already, until the snapshot lets it go: more is promised to be taken than will be.
    fn bytes_after(&self, additional: usize) -> u64 {
        let arena = self.arena.read();
        let held = self.held.bytes();
        arena
            .bytes_after(additional, held.total())
            .saturating_add(size_of::<Self>() as u64)
            .saturating_add(held.pinned)
    }

    /// O(rows in chunks with removed rows). Takes the lock for one new chunk at a time.
    fn compact(&self) -> Result<()> {
        let numbers = self.arena.read().with_holes();
        let mut from = 0;
        while from < numbers.len() {
            from += self.arena.write().pack(&numbers[from..]).max(1);
        }
        self.arena.write().shrink();
        Ok(())
    }

    /// Writers go on meanwhile; they copy a chunk that is yet to be written out before they change it.
    fn save(&self, out: &mut dyn Write) -> Result<()> {
        let (chunks, rows) = {
            let arena = self.arena.read();
            let chunks: Vec<Pin> = arena.snapshot().into_iter().map(pin).collect();
            (chunks, arena.len())
        };
        let mut writer = format::Writer::new(out, self.layout.metric, self.layout.dim, rows)
            .map_err(|e| e.at(Role::Hot, "flat", "save"))?;
        for pin in chunks {
            for (place, row) in pin.iter() {
                writer
                    .push(row, pin.vector(place))
                    .map_err(|e| e.at(Role::Hot, "flat", "save"))?;
            }
        }
        writer.finish().map_err(|e| e.at(Role::Hot, "flat", "save"))
    }

    fn load(&self, input: &mut dyn Read) -> Result<()> {
        let not_empty = |rows: usize| {
            Error::invalid_input(format!(
                "load: expected an empty index, got one of {rows} rows"
            ))
            .at(Role::Hot, "flat", "load")
        };
        match self.len() {
            0 => {}
            rows => return Err(not_empty(rows)),
        }
        let mut staged = Arena::new(self.layout, Arc::clone(&self.held));
        format::read(
            input,
            self.layout.metric,
            self.layout.dim,
            |rows, vectors| {
                let before = staged.len();
                let mut from = 0;
                while from < rows.len() {
                    from += staged.insert_some(&rows[from..], &vectors[from * self.layout.dim..]);
                }
                if staged.len() - before < rows.len() {
                    return Err(Error::corrupt(
                        "snapshot: expected each row once, got one twice",
                    ));
                }
                Ok(())
            },
        )
        .map_err(|e| e.at(Role::Hot, "flat", "load"))?;
        let mut arena = self.arena.write();
        if arena.len() > 0 {
            return Err(not_empty(arena.len()));
        }
        staged.removals = arena.removals + 1;
        *arena = staged;
        Ok(())
    }

    fn stats(&self) -> HotStats {
        let arena = self.arena.read();
        let parts = self.parts(&arena);
        HotStats {
            rows: arena.len() as u64,
            removed: arena.removed() as u64,
            bytes: parts.values().sum(),
            parts,
            ..HotStats::default()
        }
    }
}

/// A chunk that a snapshot shares with the index.
type Pin = Counted<Arc<Chunk>>;

fn pin(chunk: Arc<Chunk>) -> Pin {
    let held = Arc::clone(chunk.held());
    let bytes = Bytes {
        pinned: chunk.bytes(),
        ..Bytes::default()
    };
    Counted::new(&held, bytes, || chunk)
}

#[cfg(test)]
mod tests;

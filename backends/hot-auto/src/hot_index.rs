//! The contract, by two indexes.
//!
//! | stage | rows are in | left when |
//! |---|---|---|
//! | few | the scan | it holds as many as the plan lets it, and one more comes |
//! | growing | both, each in one; new ones go to the graph | the last row has moved |
//! | many | the graph | never: an index made anew, as at the next opening, chooses anew |
//!
//! Locks, always in this order: the door of [`Stages`], then those of [`Growth`] (its list, then stripes), then those of the two indexes. A search
//! takes none of the first two: it asks the scan, then looks at the stage, then asks the graph.

use std::collections::{BTreeMap, HashSet};
use std::io::{Read, Write};
use std::sync::Arc;

use aether_core::config::{ByteSize, RawConfig};
use aether_core::plugin::{BuildContext, Role};
use aether_core::role::{HotCapability, HotChoice, HotIndex, HotStats, Neighbor, SearchOptions};
use aether_core::vector::VectorBlock;
use aether_core::{Error, Result, Row};

use crate::NAME;
use crate::calibration;
use crate::config::{AutoConfig, FEW, MANY, slot};
use crate::format::{self, Kind};
use crate::growth::Growth;
use crate::plan::Plan;
use crate::stage::{Stage, Stages};

/// Rows that move for each row that comes in: all have moved when half as many more have come.
const MOVES: usize = 2;

/// Part of the budget that the measurement may take, for some milliseconds before there is any row.
const MEASURED_PART: u64 = 4;

/// What the scan's lists may grow by while rows leave it: a few words for each of its chunks of at least 16 KiB, and a little more.
const LISTS_PART: u64 = 512;
const LISTS_LEAST: u64 = 256;

/// The key of the graph that says where its vectors lie.
const VECTORS: &str = "vectors";

/// A hot index that scans few rows and walks a graph of many.
///
/// **Complexity.** As `flat` up to the number of rows that [`HotStats::choice`] tells, as `hnsw` beyond; in between a search is at most the sum
/// of both, and an insertion that of three into `hnsw`.
///
/// **Determinism.** With a clock that stands still nothing is measured, and the same calls from one thread give the same answers.
#[derive(Debug)]
pub struct Auto {
    dim: usize,
    few: Arc<dyn HotIndex>,
    many: Arc<dyn HotIndex>,
    plan: Plan,
    stages: Stages,
    growth: Growth,
}

impl Auto {
    /// An empty index. Takes some milliseconds, for it measures how long a scan takes.
    ///
    /// # Errors
    /// Those of the two indexes, such as `Config` for a key in one of their tables.
    pub fn new(config: &AutoConfig, raw: &RawConfig, context: &BuildContext) -> Result<Self> {
        let (few_slot, mut many_slot) = (slot(raw, FEW)?, slot(raw, MANY)?);
        let few = context.registry.hot(&few_slot, context)?;
        let mut many = context.registry.hot(&many_slot, context)?;
        let budget = context.hot_budget;
        let measured_max = budget.unwrap_or(u64::MAX) / MEASURED_PART;
        let cost = calibration::measure(
            || context.registry.hot(&few_slot, context),
            context,
            measured_max,
        )?;
        let mut plan = Plan::new(
            config,
            cost,
            budget,
            |n| few.bytes_after(n),
            |n| many.bytes_after(n),
        );
        let wanted = many.bytes_after(config.rows);
        let may_spill = config.spill && !many_slot.raw.keys().any(|key| key == VECTORS);
        if let Some(budget) = budget.filter(|budget| may_spill && wanted > *budget) {
            many_slot.raw.set(VECTORS, "\"file\"")?;
            let spilled = context.registry.hot(&many_slot, context);
            let (rows, wanted) = (config.rows, ByteSize(wanted));
            plan.reason += &format!(
                "; a graph of {rows} rows and its vectors would take {wanted}, more than the budget of {}",
                ByteSize(budget)
            );
            match spilled {
                Ok(spilled) => many = spilled,
                // Vectors without codes cannot lie in a file: that is a reason to keep them, not to fail.
                Err(error) if error.is_config() => plan.reason += ", but there are no codes",
                Err(error) => return Err(error),
            }
        }
        let stage = if plan.scanned_max == 0 {
            Stage::Many
        } else {
            Stage::Few
        };
        Ok(Self {
            dim: context.dim,
            few,
            many,
            plan,
            stages: Stages::new(stage),
            growth: Growth::new(),
        })
    }

    fn check_len(&self, what: &str, len: usize, expected: usize) -> Result<()> {
        if len == expected {
            return Ok(());
        }
        Err(at(
            Error::invalid_input(format!("{what}: expected {expected} floats, got {len}")),
            "insert",
        ))
    }

    /// Puts into the scan as many of the rows as belong there; how many are done with.
    fn insert_few(&self, rows: &[Row], vectors: &[f32]) -> Result<usize> {
        let Some(door) = self.stages.enter() else {
            return Ok(0);
        };
        let mut done = 0;
        // Rows that are there already take no room, so it may take more than one turn.
        while done < rows.len() {
            let room = self.plan.scanned_max.saturating_sub(self.few.len());
            if room == 0 {
                door.set(Stage::Growing);
                break;
            }
            let next = rows.len().min(done.saturating_add(room));
            let vectors = &vectors[done * self.dim..next * self.dim];
            self.few.insert_batch(&rows[done..next], vectors)?;
            done = next;
        }
        Ok(done)
    }

    /// Puts rows into the graph, those that the scan does not hold.
    fn insert_many(&self, rows: &[Row], vectors: &[f32]) -> Result<()> {
        if self.stages.now() == Stage::Many {
            return self.many.insert_batch(rows, vectors);
        }
        let (mut fresh, mut fresh_vectors) = (Vec::new(), Vec::new());
        for (row, vector) in rows.iter().zip(vectors.chunks_exact(self.dim)) {
            if !self.few.contains(*row) {
                fresh.push(*row);
                fresh_vectors.extend_from_slice(vector);
            }
        }
        self.many.insert_batch(&fresh, &fresh_vectors)?;
        // The rows that came are in; those that could not move are found where they are.
        if let Err(error) = self.shift(rows.len().saturating_mul(MOVES), false) {
            tracing::warn!(%error, "rows stay in the scan for now");
        }
        Ok(())
    }

    /// Moves some rows, if there is something to move; `false` when some are left.
    fn shift(&self, most: usize, wait: bool) -> Result<bool> {
        if self.stages.now() != Stage::Growing {
            return Ok(true);
        }
        let (few, many) = (self.few.as_ref(), self.many.as_ref());
        let moved = self.growth.shift(few, many, self.dim, most, wait)?;
        // Asked again behind the door: a snapshot may have been loaded since.
        let done = moved && self.stages.finish(|| self.few.is_empty());
        if done {
            self.few.compact()?;
        }
        Ok(done)
    }

    /// Moves all rows that are to move.
    fn finish_growing(&self) -> Result<()> {
        while !self.shift(usize::MAX, true)? {}
        Ok(())
    }

    fn choice(&self) -> HotChoice {
        let many = self.many.stats().choice;
        let many = many.map_or_else(|| MANY.to_owned(), |choice| choice.index);
        let scanned = self.few.len();
        HotChoice {
            index: match self.stages.now() {
                Stage::Few => FEW.to_owned(),
                Stage::Growing => format!("{FEW}, becoming {many} ({scanned} rows still to move)"),
                Stage::Many => many,
            },
            reason: self.plan.reason.clone(),
        }
    }

    fn fixed_bytes(&self) -> u64 {
        size_of::<Self>() as u64 + self.growth.bytes()
    }
}

/// Names this plug-in and what it was doing in an error.
fn at(error: Error, operation: &'static str) -> Error {
    error.at(Role::Hot, NAME, operation)
}

impl HotIndex for Auto {
    fn capability(&self) -> HotCapability {
        let (few, many) = (self.few.capability(), self.many.capability());
        HotCapability {
            approximate: few.approximate || many.approximate,
            exact_read: few.exact_read && many.exact_read,
            snapshot: few.snapshot && many.snapshot,
            dim_max: few.dim_max.min(many.dim_max),
            metrics: few.metrics,
        }
    }

    fn insert(&self, row: Row, vector: &[f32]) -> Result<()> {
        self.insert_batch(&[row], vector)
    }

    fn insert_batch(&self, rows: &[Row], vectors: &[f32]) -> Result<()> {
        self.check_len(
            "vectors",
            vectors.len(),
            rows.len().saturating_mul(self.dim),
        )?;
        let done = self.insert_few(rows, vectors)?;
        if done == rows.len() {
            return Ok(());
        }
        self.insert_many(&rows[done..], &vectors[done * self.dim..])
    }

    fn remove(&self, row: Row) -> Result<bool> {
        if self.stages.now() == Stage::Many {
            return self.many.remove(row);
        }
        let _held = self.growth.hold(row);
        let scanned = self.few.remove(row)?;
        Ok(self.many.remove(row)? || scanned)
    }

    fn contains(&self, row: Row) -> bool {
        self.few.contains(row) || self.many.contains(row)
    }

    fn read(&self, row: Row, out: &mut [f32]) -> Result<bool> {
        Ok(self.few.read(row, out)? || self.many.read(row, out)?)
    }

    fn search(
        &self,
        query: &[f32],
        k: usize,
        options: &SearchOptions<'_>,
    ) -> Result<Vec<Neighbor>> {
        let (mut found, more) = self.stages.ask(
            || self.few.search(query, k, options),
            || self.many.search(query, k, options),
        )?;
        if let Some(more) = more {
            found.extend(more);
            merge(&mut found, k);
        }
        Ok(found)
    }

    fn search_batch(
        &self,
        queries: VectorBlock<'_>,
        k: usize,
        options: &SearchOptions<'_>,
    ) -> Result<Vec<Vec<Neighbor>>> {
        if self.stages.now() == Stage::Few {
            let found = self.few.search_batch(queries, k, options)?;
            // Should rows have begun to leave meanwhile, the scan may have missed some.
            if self.stages.now() == Stage::Few {
                return Ok(found);
            }
        }
        let one_by_one = queries.iter().map(|query| self.search(query, k, options));
        one_by_one.collect()
    }

    /// While rows move it may be short of the few that are on their way.
    fn len(&self) -> usize {
        (self.few.len() + self.many.len()).saturating_sub(self.growth.twice())
    }

    fn rows(&self) -> Vec<Row> {
        let mut rows = self.few.rows();
        rows.extend(self.many.rows());
        rows.sort_unstable();
        rows.dedup();
        rows
    }

    fn bytes(&self) -> u64 {
        self.few.bytes() + self.many.bytes() + self.fixed_bytes()
    }

    /// Counts the scan whole as long as rows are in it, although it gives back what they leave.
    fn bytes_after(&self, additional: usize) -> u64 {
        let (stage, scanned) = (self.stages.now(), self.few.len());
        let fixed = size_of::<Self>() as u64;
        if stage == Stage::Many {
            return self.few.bytes() + self.many.bytes_after(additional) + fixed;
        }
        let room = match stage {
            Stage::Few => self.plan.scanned_max.saturating_sub(scanned),
            Stage::Growing | Stage::Many => 0,
        };
        if stage == Stage::Few && additional <= room {
            return self.few.bytes_after(additional) + self.many.bytes() + fixed;
        }
        let few = self.few.bytes_after(room);
        let lists = few / LISTS_PART + LISTS_LEAST;
        let list = self.growth.bytes() + Growth::bytes_for(scanned.saturating_add(room), self.dim);
        // Both ends of the move count: rows are in the scan until they have arrived.
        let many = self.many.bytes_after(scanned.saturating_add(additional));
        [lists, list, many, fixed]
            .iter()
            .fold(few, |sum, n| sum.saturating_add(*n))
    }

    /// Moves the rows that still are to move, then compacts both indexes.
    fn compact(&self) -> Result<()> {
        self.finish_growing()?;
        self.few.compact()?;
        self.many.compact()
    }

    /// A snapshot of the scan holds up insertions until it is written; rows that are moving arrive before one of the graph is begun.
    fn save(&self, out: &mut dyn Write) -> Result<()> {
        if let Some(_door) = self.stages.enter() {
            format::write(out, Kind::Few).map_err(|e| at(e, "save"))?;
            return self.few.save(out);
        }
        self.finish_growing()?;
        format::write(out, Kind::Many).map_err(|e| at(e, "save"))?;
        self.many.save(out)
    }

    /// Rows come back into the index that they were saved from; should they be too many for a scan by now, they move with the next
    /// ones that come.
    fn load(&self, input: &mut dyn Read) -> Result<()> {
        let door = self.stages.door();
        // Not by `len`, of which rows that are moving just now may be missing.
        if !(self.few.is_empty() && self.many.is_empty()) {
            let text = format!(
                "load: expected an empty index, got one of {} rows",
                self.few.len() + self.many.len()
            );
            return Err(at(Error::invalid_input(text), "load"));
        }
        match format::read(input).map_err(|e| at(e, "load"))? {
            Kind::Few => {
                // Before a row is there, so that nobody passes the scan over.
                if self.stages.now() != Stage::Few {
                    door.set(Stage::Growing);
                }
                self.few.load(input)?;
            }
            Kind::Many => {
                self.many.load(input)?;
                door.set(Stage::Many);
            }
        }
        Ok(())
    }

    fn stats(&self) -> HotStats {
        let (few, many) = (self.few.stats(), self.many.stats());
        let mut parts: BTreeMap<&'static str, u64> = few.parts;
        for (part, bytes) in many.parts {
            *parts.entry(part).or_default() += bytes;
        }
        parts.insert(NAME, self.fixed_bytes());
        HotStats {
            rows: (few.rows + many.rows).saturating_sub(self.growth.twice() as u64),
            removed: few.removed + many.removed,
            bytes: parts.values().sum(),
            parts,
            levels: many.levels,
            choice: Some(self.choice()),
        }
    }
}

/// Orders the answers of both indexes, keeps `k`, each row once: one that moved meanwhile was met in both.
fn merge(found: &mut Vec<Neighbor>, k: usize) {
    found.sort_unstable();
    let mut seen = HashSet::with_capacity(found.len());
    found.retain(|n| seen.insert(n.row));
    found.truncate(k);
}

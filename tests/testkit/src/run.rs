//! One memory beside its model: does operations on both, survives power cuts, and compares.

use std::cell::Cell;
use std::path::Path;
use std::time::Duration;

use aether_core::config::SearchMode;
use aether_core::engine::{CheckReport, Parts, Record};
use aether_core::role::Tier;
use aether_core::{Error, ErrorKind, Memory, Metric, PointId, SearchRequest};

use crate::model::{Model, Verdict as Judged};
use crate::workload::Op;

/// `memory.flush_every` of these memories: short, so that flushes happen and get lost.
pub const FLUSH: &str = "flush_every = \"5s\"";
const FLUSH_US: u64 = 5_000_000;

/// What a memory stands on: stores whose plug can be pulled, and a clock.
///
/// The memory has [`FLUSH`] under `[memory]`, and its own tasks do nothing that an answer could show.
pub trait World {
    /// Dimension of the vectors.
    fn dim(&self) -> usize;

    /// The metric of the memory.
    fn metric(&self) -> Metric;

    /// Microseconds since the memory was created, which go on while it is closed.
    fn now(&self) -> u64;

    /// Lets time pass.
    fn advance(&self, by: Duration);

    /// Opens the memory on what is stored.
    fn open(&self) -> impl Future<Output = aether_core::Result<Memory>>;

    /// Verifies what is stored, whoever lives.
    fn check(&self) -> impl Future<Output = aether_core::Result<CheckReport>>;

    /// Verifies what a snapshot would be restored to, where this world can restore one.
    fn check_copy(
        &self,
        snapshot: &Path,
    ) -> impl Future<Output = aether_core::Result<Option<CheckReport>>> {
        let _ = snapshot;
        async { Ok(None) }
    }

    /// Whether the process has died.
    fn is_dead(&self) -> bool;

    /// Pulls the plug at a call from now, counted from 1, before or after its effect.
    fn die_at(&self, call: u64, after: bool);

    /// No more faults.
    fn unscript(&self);

    /// Hears what is done next, in a word: the name of an operation.
    fn doing(&self, what: &str) {
        let _ = what;
    }

    /// Ends this life as a power cut would, and begins the next. Of what was not durable as much survives as `keep` says.
    fn crash(&mut self, keep: usize);
}

/// A memory, what it must hold, and the last steps for whoever has to find out.
#[derive(Debug)]
pub struct Run<W> {
    /// What the memory stands on.
    pub world: W,
    /// The memory, but between a power cut and the next opening.
    pub memory: Option<Memory>,
    /// What it must hold.
    pub model: Model,
    /// What was done, in words.
    pub log: Vec<String>,
    /// Given to the next [`World::crash`].
    pub keep: usize,
    /// Pull the plug again so many calls into the next opening.
    pub again: Option<u64>,
    /// Whether stores fail now: then an operation may fail, and an answer may be cut short.
    pub faulty: bool,
    /// Kinds of error that an operation may answer with while stores fail, beside those of [`Run::is_honest`]: as these faults have them.
    pub also: &'static [ErrorKind],
    /// Whether an operation has failed so.
    pub failed: Cell<bool>,
    /// Power cuts so far.
    pub crashes: usize,
    /// Rows moved by hand.
    pub moved: u64,
    /// Answers from the cold store.
    pub cold_hits: usize,
    /// Rows compacted.
    pub compacted: u64,
    /// Partitions that were split.
    pub split: u64,
    /// Partitions that ended since they had shrunk.
    pub ended: u64,
}

/// Nothing, or what is wrong.
pub type Step = Result<(), String>;

impl<W: World> Run<W> {
    /// Opens a new memory.
    ///
    /// # Panics
    /// When it does not open.
    pub async fn new(world: W) -> Self {
        let memory = world.open().await.expect("a new memory opens");
        let model = Model::new(world.metric(), FLUSH_US);
        Self::with(world, model, Some(memory))
    }

    fn with(world: W, model: Model, memory: Option<Memory>) -> Self {
        Self {
            model,
            memory,
            world,
            log: Vec::new(),
            keep: 0,
            again: None,
            faulty: false,
            also: &[],
            failed: Cell::new(false),
            crashes: 0,
            moved: 0,
            cold_hits: 0,
            compacted: 0,
            split: 0,
            ended: 0,
        }
    }

    /// The time of the memory.
    pub fn now(&self) -> u64 {
        self.world.now()
    }

    /// The open memory.
    ///
    /// # Panics
    /// Between a power cut and the next opening.
    pub fn memory(&self) -> Memory {
        self.memory.clone().expect("a memory is open between steps")
    }

    /// Whether an error is of a kind that says what a dead or failing store did: it gave no answer, or left it unknown what is durable.
    /// That the disk is full, or that stored bytes are wrong, is honest where [`Run::also`] says that it may be so. Nothing excuses a
    /// panic within the engine, which is `Internal`, or blame for the caller.
    pub fn is_honest(&self, error: &Error) -> bool {
        let kind = error.kind();
        matches!(kind, ErrorKind::Unavailable | ErrorKind::Poisoned) || self.also.contains(&kind)
    }

    /// An error is right only where the plug was pulled under the operation, or a store failed, and if it says so.
    fn excuse<T>(&self, what: &str, result: aether_core::Result<T>) -> Result<Option<T>, String> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(e) if self.world.is_dead() && self.is_honest(&e) => Ok(None),
            Err(e) if self.faulty && self.is_honest(&e) => {
                self.failed.set(true);
                Ok(None)
            }
            Err(e) => Err(format!("{what} failed: {e:?}")),
        }
    }

    /// Does an operation on both; a power cut in it is survived and looked into.
    ///
    /// # Errors
    /// What is wrong.
    pub async fn step(&mut self, op: Op) -> Step {
        self.step_without_rising(op).await?;
        if self.world.is_dead() {
            self.rise().await?;
        }
        self.check_figures()
    }

    /// A run whose model knows the same, on another world.
    pub fn on(&self, world: W) -> Self {
        Self {
            keep: self.keep,
            also: self.also,
            ..Self::with(world, self.model.clone(), None)
        }
    }

    /// The same, but after a power cut the memory stays as the cut left it.
    ///
    /// # Errors
    /// What is wrong.
    pub async fn step_without_rising(&mut self, op: Op) -> Step {
        let counted = |run: &Self| {
            let counted = run.memory.as_ref().map(|m| m.stats().counted);
            counted.map_or((0, 0), |c| (c.partitions_split, c.partitions_ended))
        };
        let before = counted(self);
        let done = self.operate(op).await;
        // Smaller after a reopening, which begins to count anew.
        let after = counted(self);
        self.split += after.0.saturating_sub(before.0);
        self.ended += after.1.saturating_sub(before.1);
        done
    }

    async fn operate(&mut self, op: Op) -> Step {
        self.world.doing(op.name());
        let memory = self.memory();
        let now = self.now();
        match op {
            Op::Upsert(points) => {
                let done = memory.upsert(points.clone()).await;
                match self.excuse("upsert", done)? {
                    Some(written) => self.model.upserted(&points, &written.rows, now),
                    None => self.model.maybe_upserted(&points, now),
                }
            }
            Op::Delete(ids) => {
                let bounds = self.model.count_of(&ids, now);
                let done = memory.delete(&ids).await;
                match self.excuse("delete", done)? {
                    Some(n) => {
                        within("deleted", n, bounds)?;
                        self.model.deleted(&ids);
                    }
                    None => self.model.maybe_deleted(&ids),
                }
            }
            Op::Get(id) => {
                let done = memory.get(&id).await;
                if let Some(record) = self.excuse("get", done)? {
                    self.model.check_get(&id, record.as_ref(), now)?;
                }
            }
            Op::Search {
                query,
                k,
                mode,
                filter,
                parts,
            } => self.search(query, k, mode, filter, parts).await?,
            Op::Feedback(id, reward) => {
                let done = memory.feedback(&id, reward).await;
                if let Some(known) = self.excuse("feedback", done)? {
                    let (least, most) = self.model.count_of(&[id], now);
                    within("judged", usize::from(known), (least, most))?;
                }
            }
            Op::Pin(ids, pin) => {
                let bounds = self.model.count_of(&ids, now);
                let done = if pin {
                    memory.pin(&ids).await
                } else {
                    memory.unpin(&ids).await
                };
                match self.excuse("pin", done)? {
                    Some(n) => {
                        within("pinned", n, bounds)?;
                        self.model.pinned(&ids, pin, now);
                        self.check_pins(&ids).await?;
                    }
                    None => self.model.maybe_pinned(&ids),
                }
            }
            Op::Demote(ids) => self.demote(&ids).await?,
            Op::Promote(ids) => {
                let done = memory.promote(&ids).await;
                if let Some(n) = self.excuse("promote", done)? {
                    within("promoted", n, (0, ids.len()))?;
                    self.moved += n as u64;
                }
            }
            Op::Tick => {
                let done = memory.tick().await;
                if let Some(report) = self.excuse("tick", done)? {
                    self.compacted += report.compacted as u64;
                    if !self.world.is_dead() {
                        self.model.ticked(now);
                    }
                }
            }
            Op::Temperature(t) => memory.set_temperature(t).map_err(|e| e.to_string())?,
            Op::Compact => {
                let done = memory.compact().await;
                if let Some(done) = self.excuse("compact", done)? {
                    self.compacted += done.rows;
                }
            }
            Op::Snapshot => self.snapshot(&memory).await?,
            Op::Advance(by) => self.world.advance(by),
            Op::Reopen => {
                self.world.doing("close");
                let done = memory.close().await;
                drop(memory);
                if self.excuse("close", done)?.is_some() && !self.world.is_dead() {
                    self.memory = None;
                    self.model.reopened();
                    self.check_stored().await?;
                    let opened = self.world.open().await;
                    self.memory = self.excuse("open", opened)?;
                    if self.memory.is_some() && !self.faulty {
                        let checked = self.check_everything().await;
                        // The plug may have been pulled in the middle of it.
                        if !self.world.is_dead() {
                            checked?;
                        }
                    }
                }
            }
            Op::Crash {
                calls,
                after,
                keep,
                again,
            } => {
                (self.keep, self.again) = (keep, again);
                self.world.die_at(calls, after);
            }
        }
        Ok(())
    }

    /// After a power cut: opens again while stores fail, which may be refused, and is cut off again.
    ///
    /// # Errors
    /// What is wrong.
    pub async fn rise_among_faults(&mut self) -> Step {
        self.crashes += 1;
        self.memory = None;
        self.world.crash(self.keep);
        self.model.crashed();
        match self.world.open().await {
            Err(e) if !self.is_honest(&e) => Err(format!("open among faults failed: {e:?}")),
            _ => Ok(()),
        }
    }

    /// After a power cut: opens again, perhaps with another cut in the middle, and finds out what became of the last operation.
    ///
    /// # Errors
    /// What is wrong.
    pub async fn rise(&mut self) -> Step {
        self.crashes += 1;
        self.memory = None;
        self.world.crash(self.keep);
        self.model.crashed();
        if let Some(calls) = self.again.take() {
            self.world.die_at(calls, calls % 2 == 0);
            match self.world.open().await {
                Err(e) if !self.world.is_dead() || !self.is_honest(&e) => {
                    return Err(format!("open failed: {e:?}"));
                }
                opened => drop(opened),
            }
            self.crashes += 1;
            self.world.crash(self.keep);
            self.model.crashed();
        }
        self.check_stored().await?;
        self.memory = Some(
            self.world
                .open()
                .await
                .map_err(|e| format!("open after a crash: {e}"))?,
        );
        let report = self.world.check().await.map_err(|e| e.to_string())?;
        if !report.is_clean() || report.orphans + report.intents > 0 {
            return Err(format!("recovery left something behind: {report:#?}"));
        }
        self.look().await
    }

    /// Finds out what became of operations whose outcome is not known, and compares everything.
    ///
    /// # Errors
    /// What is wrong.
    pub async fn look(&mut self) -> Step {
        let doubted = self.model.doubted();
        let records = self.get_all(&doubted).await?;
        let now = self.now();
        self.model.resolve(&records, now)?;
        self.check_everything().await
    }

    async fn get_all(&self, ids: &[PointId]) -> Result<Vec<Option<Record>>, String> {
        let got = self.memory().get_many(ids, Parts::default()).await;
        got.map_err(|e| format!("get_many failed: {e}"))
    }

    async fn search(
        &mut self,
        query: Vec<f32>,
        k: usize,
        mode: SearchMode,
        filter: Option<u64>,
        parts: bool,
    ) -> Step {
        let mut request = SearchRequest::new(query.clone(), k).mode(mode);
        if let Some(rest) = filter {
            request = request.filter(move |row| row.0 % 3 == rest);
        }
        if parts {
            request = request.parts(Parts::default());
        }
        let done = self.memory().search(request).await;
        if let Some(answer) = self.excuse("search", done)? {
            let dead = self.world.is_dead();
            if !dead && !self.faulty && !answer.coverage.is_whole() {
                return Err(format!("cut short without a cause: {:?}", answer.coverage));
            }
            let cold = answer.hits.iter().filter(|h| h.tier == Tier::Cold);
            self.cold_hits += cold.count();
            let now = self.now();
            self.model.check_answer(&answer, &query, k, filter, now)?;
            if parts {
                self.model.check_parts(&answer)?;
            }
        }
        Ok(())
    }

    async fn demote(&mut self, ids: &[PointId]) -> Step {
        let now = self.now();
        let tiers = |model: &mut Model, records: Vec<Option<Record>>| -> Vec<Option<Tier>> {
            let read = records.iter().flatten();
            read.for_each(|r| model.was_read(&r.id, now));
            records.into_iter().map(|r| r.map(|r| r.tier)).collect()
        };
        let memory = self.memory();
        let before = memory.get_many(ids, Parts::NONE).await;
        let Some(before) = self.excuse("get_many", before)? else {
            return Ok(());
        };
        let before = tiers(&mut self.model, before);
        let done = memory.demote(ids).await;
        let Some(moved) = self.excuse("demote", done)? else {
            return Ok(());
        };
        self.moved += moved as u64;
        let after = memory.get_many(ids, Parts::NONE).await;
        let Some(after) = self.excuse("get_many", after)? else {
            return Ok(());
        };
        let after = tiers(&mut self.model, after);
        for ((id, before), after) in ids.iter().zip(before).zip(after) {
            if self.model.is_pinned(id) && (before, after) == (Some(Tier::Hot), Some(Tier::Cold)) {
                return Err(format!("{id} is pinned and went cold"));
            }
        }
        Ok(())
    }

    /// A snapshot says that it is whole if and only if it is.
    async fn snapshot(&self, memory: &Memory) -> Step {
        let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
        let done = memory.snapshot(folder.path()).await;
        let says = folder.path().join("DONE").exists();
        if says != done.is_ok() {
            return Err(format!("snapshot: {done:?}, and it says done: {says}"));
        }
        let Some(report) = self.excuse("snapshot", done)? else {
            return Ok(());
        };
        let stored = memory.stats().segments;
        within(
            "segments of the snapshot",
            report.segments as usize,
            (stored as usize, stored as usize),
        )?;
        match self.world.check_copy(folder.path()).await {
            Ok(report) if report.as_ref().is_none_or(CheckReport::is_clean) => Ok(()),
            holds => Err(format!("a snapshot says that it is whole: {holds:#?}")),
        }
    }

    async fn check_pins(&self, ids: &[PointId]) -> Step {
        for id in ids {
            let told = self.memory().explain(id).await;
            let Some(told) = self.excuse("explain", told)?.flatten() else {
                continue;
            };
            if self.model.is_pinned(id) && !told.pinned {
                return Err(format!("{id} was pinned and is not: {told}"));
            }
        }
        Ok(())
    }

    fn check_figures(&self) -> Step {
        let Some(memory) = &self.memory else {
            return Ok(());
        };
        let (stats, now) = (memory.stats(), self.now());
        if stats.hot_bytes > stats.budget_bytes {
            return Err(format!("over the budget: {stats:#?}"));
        }
        within("points", stats.points as usize, self.model.count(now))
    }

    /// What is stored is whole; what a crash left unfinished is not wrong.
    ///
    /// # Errors
    /// What is wrong.
    pub async fn check_stored(&self) -> Step {
        let report = self.world.check().await.map_err(|e| e.to_string())?;
        if !report.is_clean() {
            return Err(format!("{report:#?}"));
        }
        Ok(())
    }

    /// Every point by its id and by a search for all of them.
    ///
    /// # Errors
    /// What is wrong.
    pub async fn check_everything(&mut self) -> Step {
        let (ids, now) = (self.model.ids(), self.now());
        let records = self.get_all(&ids).await?;
        for (id, record) in ids.iter().zip(&records) {
            self.model.check_get(id, record.as_ref(), now)?;
        }
        let k = (ids.len() + 5).min(10_000);
        let query = vec![0.5; self.world.dim()];
        self.search(query, k, SearchMode::Complete, None, true)
            .await?;
        for id in &ids {
            if self.model.is_pinned(id) {
                self.check_pins(std::slice::from_ref(id)).await?;
            }
        }
        Ok(())
    }
}

impl<W: World> Run<W> {
    /// Does operations one after the other.
    ///
    /// # Panics
    /// When something is wrong; the message says where, beginning with `at`.
    pub async fn work(&mut self, ops: &[Op], at: &str) {
        for (i, op) in ops.iter().enumerate() {
            if let Err(what) = self.step(op.clone()).await {
                let mut text = format!("{op:?}");
                text.truncate(text.floor_char_boundary(300));
                panic!("{at}: operation {i} ({text}): {what}");
            }
        }
    }

    /// Compares everything, closes, and verifies what is stored.
    ///
    /// # Panics
    /// As [`Run::work`].
    pub async fn end(&mut self, at: &str) {
        // A cut that is still to come is not one of the work.
        self.world.unscript();
        let mut ended = self.finish().await;
        // One that had begun in a task of the memory's own comes when that task goes on.
        if ended.is_err() && self.world.is_dead() {
            ended = match self.rise().await {
                Ok(()) => self.finish().await,
                Err(what) => Err(what),
            };
        }
        ended.unwrap_or_else(|what| panic!("{at}: at the end: {what}"));
    }

    async fn finish(&mut self) -> Step {
        self.check_everything().await?;
        self.memory().close().await.map_err(|e| e.to_string())?;
        self.check_stored().await
    }
}

fn within(what: &str, n: usize, (least, most): (usize, usize)) -> Judged {
    if (least..=most).contains(&n) {
        return Ok(());
    }
    Err(format!("{what}: expected {least} to {most}, got {n}"))
}

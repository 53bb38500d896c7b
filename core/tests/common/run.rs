//! One memory beside its model: does operations on both, survives power cuts, and compares.

use std::cell::Cell;

use aether_core::config::SearchMode;
use aether_core::engine::{Parts, Record};
use aether_core::role::Tier;
use aether_core::{Clock, Memory, PointId, SearchRequest};
use aether_testkit::model::{Model, Verdict as Judged};
use aether_testkit::workload::Op;

use super::{Settings, World};

/// `memory.flush_every` of these memories: short, so that flushes happen and get lost.
pub const FLUSH: &str = "flush_every = \"5s\"";
pub const FLUSH_US: u64 = 5_000_000;

/// A memory, what it must hold, and the last steps for whoever has to find out.
pub struct Run {
    pub world: World,
    pub memory: Option<Memory>,
    pub model: Model,
    pub log: Vec<String>,
    pub keep: usize,
    pub again: Option<u64>,
    /// Whether stores fail now: then an operation may fail, and an answer may be cut short.
    pub faulty: bool,
    /// Whether an operation has failed so.
    pub failed: Cell<bool>,
    pub crashes: usize,
    pub moved: u64,
    pub cold_hits: usize,
    pub compacted: u64,
    /// Partitions that were split, and that ended since they had shrunk.
    pub split: u64,
    pub ended: u64,
}

pub type Step = Result<(), String>;

impl Run {
    pub async fn new(settings: Settings) -> Self {
        let world = World::with(settings);
        let memory = world.open().await;
        Self {
            model: Model::new(world.settings.metric, FLUSH_US),
            memory: Some(memory),
            world,
            log: Vec::new(),
            keep: 0,
            again: None,
            faulty: false,
            failed: Cell::new(false),
            crashes: 0,
            moved: 0,
            cold_hits: 0,
            compacted: 0,
            split: 0,
            ended: 0,
        }
    }

    pub fn now(&self) -> u64 {
        // The memory was created when this clock stood at zero, and the clock goes on while it is closed.
        self.world.clock.monotonic_us()
    }

    pub fn memory(&self) -> Memory {
        self.memory.clone().expect("a memory is open between steps")
    }

    /// An error is right only where the plug was pulled under the operation, or a store failed.
    fn excuse<T>(&self, what: &str, result: aether_core::Result<T>) -> Result<Option<T>, String> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(_) if self.world.power.is_dead() => Ok(None),
            Err(_) if self.faulty => {
                self.failed.set(true);
                Ok(None)
            }
            Err(e) => Err(format!("{what} failed: {e}")),
        }
    }

    /// Does an operation on both; a power cut in it is survived and looked into.
    pub async fn step(&mut self, op: Op) -> Step {
        self.step_without_rising(op).await?;
        if self.world.power.is_dead() {
            self.rise().await?;
        }
        self.check_figures()
    }

    /// A run whose model knows the same, on another world.
    pub fn on(&self, world: World) -> Self {
        Self {
            memory: None,
            model: self.model.clone(),
            world,
            log: Vec::new(),
            keep: self.keep,
            again: None,
            faulty: false,
            failed: Cell::new(false),
            crashes: 0,
            moved: 0,
            cold_hits: 0,
            compacted: 0,
            split: 0,
            ended: 0,
        }
    }

    /// The same, but after a power cut the memory stays as the cut left it.
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
                    if !self.world.power.is_dead() {
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
            Op::Advance(by) => self.world.clock.advance(by),
            Op::Reopen => {
                let done = memory.close().await;
                drop(memory);
                if self.excuse("close", done)?.is_some() && !self.world.power.is_dead() {
                    self.memory = None;
                    self.check_stored().await?;
                    self.world.power.unscript();
                    self.memory = Some(
                        self.world
                            .builder()
                            .open()
                            .await
                            .map_err(|e| e.to_string())?,
                    );
                    self.model.reopened();
                    self.check_everything().await?;
                }
            }
            Op::Crash {
                calls,
                after,
                keep,
                again,
            } => {
                (self.keep, self.again) = (keep, again);
                self.world.power.die_at(calls, after);
            }
        }
        Ok(())
    }

    /// After a power cut: opens again, perhaps with another cut in the middle, and finds out what became of the last operation.
    pub async fn rise(&mut self) -> Step {
        self.crashes += 1;
        self.memory = None;
        let keep = self.keep.min(self.world.meta.pending());
        self.world.crash(keep);
        self.model.crashed();
        if let Some(calls) = self.again.take() {
            self.world.power.die_at(calls, calls % 2 == 0);
            match self.world.builder().open().await {
                Err(e) if !self.world.power.is_dead() => return Err(format!("open failed: {e}")),
                opened => drop(opened),
            }
            self.crashes += 1;
            let keep = keep.min(self.world.meta.pending());
            self.world.crash(keep);
            self.model.crashed();
        }
        self.check_stored().await?;
        self.memory = Some(
            self.world
                .builder()
                .open()
                .await
                .map_err(|e| format!("open after a crash: {e}"))?,
        );
        let report = self.world.check().await;
        if !report.is_clean() || report.orphans + report.intents > 0 {
            return Err(format!("recovery left something behind: {report:#?}"));
        }
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
            let dead = self.world.power.is_dead();
            if !dead && !self.faulty && !answer.coverage.is_whole() {
                return Err(format!("cut short without a cause: {:?}", answer.coverage));
            }
            let cold = answer.hits.iter().filter(|h| h.tier == Tier::Cold);
            self.cold_hits += cold.count();
            let now = self.now();
            self.model.check_answer(&answer, &query, k, filter, now)?;
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
        let (stats, now) = (self.memory().stats(), self.now());
        if stats.hot_bytes > stats.budget_bytes {
            return Err(format!("over the budget: {stats:#?}"));
        }
        within("points", stats.points as usize, self.model.count(now))
    }

    /// What is stored is whole; what a crash left unfinished is not wrong.
    pub async fn check_stored(&self) -> Step {
        let report = self.world.check().await;
        if !report.is_clean() {
            return Err(format!("{report:#?}"));
        }
        Ok(())
    }

    /// Every point by its id and by a search for all of them.
    pub async fn check_everything(&mut self) -> Step {
        let (ids, now) = (self.model.ids(), self.now());
        let records = self.get_all(&ids).await?;
        for (id, record) in ids.iter().zip(&records) {
            self.model.check_get(id, record.as_ref(), now)?;
        }
        let k = (ids.len() + 5).min(10_000);
        let query = vec![0.5; self.world.settings.dim];
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

fn within(what: &str, n: usize, (least, most): (usize, usize)) -> Judged {
    if (least..=most).contains(&n) {
        return Ok(());
    }
    Err(format!("{what}: expected {least} to {most}, got {n}"))
}

//! What must be true after a kill.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use aether::config::SearchMode;
use aether::role::Fidelity;
use aether::{
    Answer, CheckReport, Config, Memory, Metric, Parts, PointId, Record, Registry, SearchRequest,
    Stats,
};

use super::script::{
    Line, Op, PLACES, Place, Version, WORKERS, id_of, mix, operation, payload_of, vector_of,
};
use crate::cli::{Done, memory};

/// Problems told in full; of more only the number.
const TOLD: usize = 20;

/// The points as the acknowledgements say, and the operations that may or may not have happened.
#[derive(Debug, Default)]
pub(super) struct Oracle {
    live: BTreeMap<Place, Version>,
    /// Begun and not acknowledged yet, by worker.
    open: BTreeMap<u64, Op>,
    /// What failed operations may have left in a place, beside what was there.
    unsure: BTreeMap<Place, Vec<Option<Version>>>,
    /// Whether points are pinned, where that is certain.
    pins: BTreeMap<Place, bool>,
    pub(super) found: Found,
}

/// What was counted, and what was wrong.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    pub(super) acknowledged: u64,
    /// Operations that failed and said so.
    pub(super) failed: u64,
    /// Writes without acknowledgement that were found done, and not done.
    pub(super) completed: u64,
    pub(super) undone: u64,
    /// Acknowledged points that are not there, or not as they were written last.
    pub(super) lost: u64,
    /// Points that are there and should not be.
    pub(super) phantom: u64,
    problems: Vec<String>,
    more: usize,
}

impl Found {
    pub(super) fn problem(&mut self, text: String) {
        if self.problems.len() < TOLD {
            self.problems.push(text);
        } else {
            self.more += 1;
        }
    }

    fn must(&mut self, holds: bool, problem: impl FnOnce() -> String) {
        if !holds {
            self.problem(problem());
        }
    }

    /// Everything that was wrong, in words.
    pub(super) fn problems(&self) -> Vec<String> {
        let more = (self.more > 0).then(|| format!("and {} more", self.more));
        self.problems.iter().cloned().chain(more).collect()
    }

    pub(super) fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }
}

impl Oracle {
    /// Takes note of what a child with this seed said.
    pub(super) fn hear(&mut self, seed: u64, line: Line) {
        match line {
            Line::Opened => {}
            Line::Refused => self.found.failed += 1,
            Line::Begun(worker, number) => {
                let op = operation(seed, worker, number);
                if self.open.insert(worker, op).is_some() {
                    let text = format!("worker {worker} began twice");
                    self.found.problem(text);
                }
            }
            Line::Done(worker, _) => {
                self.found.acknowledged += 1;
                if let Some(op) = self.open.remove(&worker) {
                    self.apply(&op);
                }
            }
            Line::Failed(worker, _) => {
                self.found.failed += 1;
                let op = self.open.remove(&worker);
                op.iter().for_each(|op| self.doubt_pins(op));
                for (place, version) in op.iter().flat_map(Op::effect) {
                    self.unsure.entry(place).or_default().push(version);
                }
            }
        }
    }

    fn apply(&mut self, op: &Op) {
        for (place, version) in op.effect() {
            self.settle(place, version);
        }
        let (Op::Pin(places) | Op::Unpin(places)) = op else {
            return;
        };
        let pinned = matches!(op, Op::Pin(_));
        for place in places {
            // Where there may be no point, there may be nothing to pin.
            let lives = self.live.contains_key(place) && !self.unsure.contains_key(place);
            if lives || !pinned {
                self.pins.insert(*place, pinned);
            } else {
                self.pins.remove(place);
            }
        }
    }

    /// Nobody knows any more whether these are pinned.
    fn doubt_pins(&mut self, op: &Op) {
        if let Op::Pin(places) | Op::Unpin(places) | Op::Delete(places) = op {
            places.iter().for_each(|place| {
                self.pins.remove(place);
            });
        }
    }

    /// A place holds this, for certain.
    fn settle(&mut self, place: Place, version: Option<Version>) {
        self.unsure.remove(&place);
        match version {
            Some(version) => self.live.insert(place, version),
            None => {
                self.pins.remove(&place);
                self.live.remove(&place)
            }
        };
    }

    fn expected(&self, place: Place) -> Option<Version> {
        self.live.get(&place).copied()
    }

    /// Opens the memory, compares all of it, closes it, and verifies every byte of it. Answers its figures.
    ///
    /// # Errors
    /// When the memory cannot be opened, read or closed: then nothing can be said of what it holds.
    pub(super) async fn verify(
        &mut self,
        config: &Config,
        registry: &Arc<Registry>,
    ) -> Done<Stats> {
        let memory = memory::open(config.clone(), registry.clone()).await?;
        let found = read_all(&memory).await?;
        self.compare_points(&found);
        self.compare_pins(&memory).await?;
        self.compare_searches(&memory).await?;
        let stats = memory.stats();
        self.compare_stats(&stats);
        memory.close().await?;
        drop(memory);
        let report = aether::check(config, registry.clone()).await?;
        self.compare_report(&report);
        Ok(stats)
    }

    /// All points are counted, and the budget holds.
    fn compare_stats(&mut self, stats: &Stats) {
        self.found
            .must(stats.points as usize == self.live.len(), || {
                format!("expected {} points counted: {stats:?}", self.live.len())
            });
        self.found.must(stats.hot_bytes <= stats.budget_bytes, || {
            format!("over the budget of hot bytes: {stats:?}")
        });
    }

    /// What is stored is whole, and recovery left nothing behind.
    fn compare_report(&mut self, report: &CheckReport) {
        self.found
            .must(report.is_clean(), || format!("check: {report:#?}"));
        let whole = report.points as usize == self.live.len();
        self.found
            .must(whole && report.orphans + report.intents == 0, || {
                format!(
                    "check: expected {} points, no orphans and no intents: {report:#?}",
                    self.live.len()
                )
            });
    }

    /// Every place holds what it must, or what it may.
    pub(super) fn compare_points(&mut self, found: &BTreeMap<Place, Record>) {
        self.resolve(found);
        self.settle_unsure(found);
        for place in 0..WORKERS * PLACES {
            let (expected, record) = (self.expected(place), found.get(&place));
            if matches(place, expected, record) {
                continue;
            }
            if expected.is_some() {
                self.found.lost += 1;
            } else {
                self.found.phantom += 1;
            }
            self.found.problem(format!(
                "point {place} ({}): expected version {expected:?}, found {record:?}",
                id_of(place)
            ));
        }
    }

    /// An operation without acknowledgement happened as a whole or not at all.
    fn resolve(&mut self, found: &BTreeMap<Place, Record>) {
        for op in std::mem::take(&mut self.open).into_values() {
            self.doubt_pins(&op);
            let effect = op.effect();
            if effect.iter().any(|(p, _)| self.unsure.contains_key(p)) {
                for (place, version) in effect {
                    self.unsure.entry(place).or_default().push(version);
                }
                continue;
            }
            let done = effect
                .iter()
                .all(|(place, version)| matches(*place, *version, found.get(place)));
            let undone = effect
                .iter()
                .all(|(place, _)| matches(*place, self.expected(*place), found.get(place)));
            if !done && !undone {
                self.found.problem(format!(
                    "neither all nor nothing of an unacknowledged batch is there: {op:?}"
                ));
            }
            if effect.is_empty() || done == undone {
                continue;
            }
            self.found.completed += u64::from(done);
            self.found.undone += u64::from(undone);
            if done {
                self.apply(&op);
            }
        }
    }

    /// What a failed operation may have left is right, and stays as it was found.
    fn settle_unsure(&mut self, found: &BTreeMap<Place, Record>) {
        for (place, versions) in std::mem::take(&mut self.unsure) {
            let record = found.get(&place);
            let left = versions.into_iter().find(|v| matches(place, *v, record));
            if let Some(version) = left {
                self.settle(place, version);
            }
        }
    }

    /// A pin that was acknowledged holds, and one that was taken away is gone.
    async fn compare_pins(&mut self, memory: &Memory) -> Done<()> {
        for (place, pinned) in &self.pins {
            let id = id_of(*place);
            // A point that should be there and is not was told of already.
            let Some(told) = memory.explain(&id).await? else {
                continue;
            };
            if told.pinned != *pinned {
                self.found.lost += 1;
                self.found.problem(format!(
                    "point {place} ({id}): expected pinned {pinned}, found {}",
                    told.pinned
                ));
            }
        }
        Ok(())
    }

    /// Every live point is found exactly once, nothing else is, and the nearest are the nearest.
    async fn compare_searches(&mut self, memory: &Memory) -> Done<()> {
        let query = vector_of(mix(&[self.found.acknowledged]));
        let most = self.live.len() + 1;
        let request = SearchRequest::new(query.clone(), most).mode(SearchMode::Complete);
        let answer = memory.search(request).await?;
        self.compare_answer(&query, &answer);
        Ok(())
    }

    fn compare_answer(&mut self, query: &[f32], answer: &Answer) {
        let mut truth: Vec<(f32, PointId)> = (self.live.iter())
            .map(|(p, v)| (Metric::L2.distance(query, &vector_of(*v)), id_of(*p)))
            .collect();
        truth.sort_by(|a, b| a.0.total_cmp(&b.0));
        self.found.must(answer.coverage.is_whole(), || {
            format!("a complete search was not whole: {:?}", answer.coverage)
        });
        let ids: BTreeSet<_> = answer.hits.iter().map(|h| h.id.clone()).collect();
        self.found.must(ids.len() == answer.hits.len(), || {
            "a complete search found a point twice".to_owned()
        });
        let live: BTreeSet<_> = truth.iter().map(|t| t.1.clone()).collect();
        self.found.must(ids == live, || {
            let missing: Vec<_> = live.difference(&ids).collect();
            let beside: Vec<_> = ids.difference(&live).collect();
            format!("a complete search missed {missing:?} and found {beside:?} that is not there")
        });
        let nearest: HashSet<_> = truth.iter().take(10).map(|t| &t.1).collect();
        let first: HashSet<_> = answer.hits.iter().take(10).map(|h| &h.id).collect();
        let exact = answer.hits.iter().all(|h| h.fidelity == Fidelity::Exact);
        self.found.must(!exact || first == nearest, || {
            format!("the ten nearest: expected {nearest:?}, found {first:?}")
        });
    }
}

/// Whether a point is what it should be. A vector that came back through a lossy codec is not compared.
fn matches(place: Place, expected: Option<Version>, record: Option<&Record>) -> bool {
    match (expected, record) {
        (None, None) => true,
        (Some(version), Some(record)) => {
            record.id == id_of(place)
                && record.payload == payload_of(version)
                && (record.fidelity != Fidelity::Exact
                    || record.vector.as_ref() == Some(&vector_of(version)))
        }
        _ => false,
    }
}

async fn read_all(memory: &Memory) -> Done<BTreeMap<Place, Record>> {
    let ids: Vec<_> = (0..WORKERS * PLACES).map(id_of).collect();
    let records = memory.get_many(&ids, Parts::default()).await?;
    let found = (0..).zip(records);
    Ok(found.filter_map(|(p, r)| r.map(|r| (p, r))).collect())
}

#[cfg(test)]
mod tests {
    use super::super::script::{SETTINGS, fit, point_of};
    use super::*;

    const SEED: u64 = 11;

    /// A memory that does what it is told, and an oracle that hears something else.
    struct Scene {
        _folder: tempfile::TempDir,
        config: Config,
        registry: Arc<Registry>,
        oracle: Oracle,
    }

    impl Scene {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let mut config = Config::from_toml(SETTINGS).unwrap();
            fit(&mut config, &folder.path().join("memory")).unwrap();
            Self {
                _folder: folder,
                config,
                registry: Arc::new(aether::registry().unwrap()),
                oracle: Oracle::default(),
            }
        }

        /// Does the writes on the memory.
        async fn write(&self, writes: &[(Place, Option<Version>)]) {
            let memory = memory::open(self.config.clone(), self.registry.clone());
            let memory = memory.await.unwrap();
            for (place, version) in writes {
                match version {
                    Some(v) => drop(memory.upsert(vec![point_of(*place, *v)]).await.unwrap()),
                    None => drop(memory.delete(&[id_of(*place)]).await.unwrap()),
                }
            }
            memory.close().await.unwrap();
        }

        async fn judge(mut self) -> Found {
            self.oracle
                .verify(&self.config, &self.registry)
                .await
                .unwrap();
            self.oracle.found
        }
    }

    /// The first write of worker 0 from a number on that satisfies a condition, and its number.
    fn find(from: u64, fits: impl Fn(&[(Place, Option<Version>)]) -> bool) -> (u64, Op) {
        let all = (from..).map(|n| (n, operation(SEED, 0, n)));
        let mut fitting = all.filter(|(_, op)| fits(&op.effect()));
        fitting.next().unwrap()
    }

    fn is_upsert(effect: &[(Place, Option<Version>)]) -> bool {
        effect.len() >= 4 && effect.iter().all(|(_, version)| version.is_some())
    }

    #[tokio::test]
    async fn what_was_done_as_it_was_said_is_clean() {
        let mut scene = Scene::new();
        let (n, op) = find(0, is_upsert);
        scene.write(&op.effect()).await;
        scene.oracle.hear(SEED, Line::Begun(0, n));
        scene.oracle.hear(SEED, Line::Done(0, n));
        // Begun, never acknowledged, and not done.
        let (m, _) = find(n + 1, is_upsert);
        scene.oracle.hear(SEED, Line::Begun(0, m));
        let found = scene.judge().await;
        assert!(found.is_clean(), "{:?}", found.problems());
        assert_eq!((found.lost, found.phantom, found.undone), (0, 0, 1));
    }

    #[tokio::test]
    async fn planted_a_write_that_was_acknowledged_and_is_not_there() {
        let mut scene = Scene::new();
        let (n, op) = find(0, is_upsert);
        scene.write(&op.effect()[1..]).await;
        scene.oracle.hear(SEED, Line::Begun(0, n));
        scene.oracle.hear(SEED, Line::Done(0, n));
        let found = scene.judge().await;
        assert_eq!((found.lost, found.phantom), (1, 0));
        assert!(!found.is_clean());
    }

    #[tokio::test]
    async fn planted_a_pin_that_was_acknowledged_and_is_not_there() {
        let pins = |op: &Op| matches!(op, Op::Pin(_));
        let (m, pin) = (0..)
            .map(|n| (n, operation(SEED, 0, n)))
            .find(|(_, op)| pins(op))
            .unwrap();
        let Op::Pin(places) = pin else { unreachable!() };
        for kept in [true, false] {
            let mut scene = Scene::new();
            let writes: Vec<_> = places.iter().map(|p| (*p, Some(7))).collect();
            scene.write(&writes).await;
            scene.oracle.live = places.iter().map(|p| (*p, 7)).collect();
            scene.oracle.hear(SEED, Line::Begun(0, m));
            scene.oracle.hear(SEED, Line::Done(0, m));
            if kept {
                let memory = memory::open(scene.config.clone(), scene.registry.clone());
                let memory = memory.await.unwrap();
                let ids: Vec<_> = places.iter().map(|p| id_of(*p)).collect();
                memory.pin(&ids).await.unwrap();
                memory.close().await.unwrap();
            }
            let found = scene.judge().await;
            let lost = if kept { 0 } else { places.len() as u64 };
            assert_eq!(found.lost, lost, "{:?}", found.problems());
        }
    }

    #[tokio::test]
    async fn planted_an_older_version_that_came_back() {
        let mut scene = Scene::new();
        let (n, op) = find(0, is_upsert);
        let mut effect = op.effect();
        effect[0].1 = Some(7);
        scene.write(&effect).await;
        scene.oracle.hear(SEED, Line::Begun(0, n));
        scene.oracle.hear(SEED, Line::Done(0, n));
        let found = scene.judge().await;
        assert_eq!((found.lost, found.phantom), (1, 0));
    }

    #[tokio::test]
    async fn planted_a_point_that_nobody_wrote() {
        let scene = Scene::new();
        scene.write(&[(3, Some(5))]).await;
        let found = scene.judge().await;
        assert_eq!((found.lost, found.phantom), (0, 1));
        assert!(!found.is_clean());
    }

    /// Each thing that figures, a check or a search may say and must not, beside what they say of a memory in order.
    /// What is said of something, and how it is spoilt so that this is said.
    type Mistake<T> = (&'static str, fn(&mut T));

    #[tokio::test]
    async fn planted_figures_checks_and_searches_that_are_wrong() {
        let mut scene = Scene::new();
        let writes: Vec<_> = (0..20).map(|place| (place, Some(7 + place))).collect();
        scene.write(&writes).await;
        scene.oracle.live = writes.iter().map(|(p, v)| (*p, v.unwrap())).collect();
        let memory = memory::open(scene.config.clone(), scene.registry.clone());
        let memory = memory.await.unwrap();
        let query = vector_of(5);
        let request = SearchRequest::new(query.clone(), 21).mode(SearchMode::Complete);
        let answer = memory.search(request).await.unwrap();
        let stats = memory.stats();
        memory.close().await.unwrap();
        drop(memory);
        let report = aether::check(&scene.config, scene.registry.clone());
        let report = report.await.unwrap();
        let mut judged = |answer: &Answer, stats: &Stats, report: &CheckReport| {
            scene.oracle.found = Found::default();
            scene.oracle.compare_answer(&query, answer);
            scene.oracle.compare_stats(stats);
            scene.oracle.compare_report(report);
            scene.oracle.found.problems().join(" ")
        };
        assert_eq!(judged(&answer, &stats, &report), "");
        let stats_of: [Mistake<Stats>; 3] = [
            ("points counted", |s| s.points += 1),
            ("points counted", |s| s.points -= 1),
            ("over the budget", |s| s.hot_bytes = s.budget_bytes + 1),
        ];
        for (said, spoil) in stats_of {
            let mut wrong = stats.clone();
            spoil(&mut wrong);
            let words = judged(&answer, &wrong, &report);
            assert!(words.contains(said), "{said}: {words}");
        }
        let reports: [Mistake<CheckReport>; 4] = [
            ("check: ", |r| r.problem_count = 1),
            ("no orphans", |r| r.orphans = 1),
            ("no intents", |r| r.intents = 1),
            ("expected 20 points", |r| r.points -= 1),
        ];
        for (said, spoil) in reports {
            let mut wrong = report.clone();
            spoil(&mut wrong);
            let words = judged(&answer, &stats, &wrong);
            assert!(words.contains(said), "{said}: {words}");
        }
        let answers: [Mistake<Answer>; 5] = [
            ("missed [Int(", |a| drop(a.hits.pop())),
            ("found a point twice", |a| a.hits.push(a.hits[0].clone())),
            ("is not there", |a| a.hits[19].id = id_of(30)),
            ("the ten nearest", |a| a.hits.swap(0, 15)),
            ("was not whole", |a| {
                a.coverage.cuts = vec![aether::Cut::Deadline { partitions: 1 }];
            }),
        ];
        for (said, spoil) in answers {
            let mut wrong = answer.clone();
            spoil(&mut wrong);
            let words = judged(&wrong, &stats, &report);
            assert!(words.contains(said), "{said}: {words}");
        }
    }

    #[tokio::test]
    async fn planted_half_of_an_unacknowledged_batch() {
        let mut scene = Scene::new();
        let (n, op) = find(0, is_upsert);
        scene.write(&op.effect()[..2]).await;
        scene.oracle.hear(SEED, Line::Begun(0, n));
        let found = scene.judge().await;
        let words = found.problems().join(" ");
        assert!(words.contains("neither all nor nothing"), "{words}");
    }
}

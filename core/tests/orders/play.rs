//! One schedule of a scenario: from a memory that was prepared, through the clients' work in the order of a seed, to a reopening.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use aether_core::config::SearchMode;
use aether_core::engine::{Answer, Parts, Record};
use aether_core::role::{ColdStore, EvictionPolicy, MetaStore};
use aether_core::{
    Clock, Error, ManualClock, Memory, Metric, Point, PointId, Result as Said, Retry, SearchRequest,
};
use aether_testkit::conformance::policy::PolicyHarness;
use aether_testkit::env::variable;
use aether_testkit::orders::{Call, Did, History, InTurn, Turns, alone};
use fastrand::Rng;
use parking_lot::Mutex;
use tokio::task::{self, JoinHandle, LocalSet};
use tokio::time::Instant;

use super::scenario::{Do, PASS, Scenario};
use crate::common::{Settings, Stores, World};

fn int(id: &PointId) -> Result<u64, String> {
    match id {
        PointId::Int(n) => Ok(*n),
        other => Err(format!("{other} was never written")),
    }
}

fn names(ids: &[u64]) -> Vec<PointId> {
    ids.iter().copied().map(PointId::Int).collect()
}

/// Points of so many dimensions, whose vectors and payloads tell their versions.
#[derive(Clone, Copy, Debug)]
struct Space(usize);

impl Space {
    /// The vector of a version of a point.
    fn vector(self, id: u64, version: u64) -> Vec<f32> {
        let mut rng = Rng::with_seed(id << 32 | version);
        (0..self.0).map(|_| rng.f32()).collect()
    }

    fn point(self, id: u64, version: u64) -> Point {
        let payload = serde_json::json!({ "version": version });
        Point::new(id, self.vector(id, version)).with_payload(payload)
    }

    /// Which version something is, if its parts agree.
    fn version(
        self,
        id: u64,
        vector: Option<&[f32]>,
        payload: Option<&serde_json::Value>,
    ) -> Result<u64, String> {
        let version = payload.and_then(|p| p["version"].as_u64());
        let version = version.ok_or_else(|| format!("{id} has the payload {payload:?}"))?;
        if vector != Some(&self.vector(id, version)[..]) {
            return Err(format!(
                "{id} has another vector than that of its version {version}"
            ));
        }
        Ok(version)
    }

    fn of_record(self, id: u64, record: Option<&Record>) -> Result<Option<u64>, String> {
        let Some(record) = record else {
            return Ok(None);
        };
        if int(&record.id)? != id {
            return Err(format!("{id} was asked for, {} came", record.id));
        }
        let version = self.version(id, record.vector.as_deref(), record.payload.as_ref());
        version.map(Some)
    }

    /// What a point takes in the kit's hot index.
    fn row_bytes(self) -> u64 {
        4 * self.0 as u64 + 64
    }

    fn query(self) -> Vec<f32> {
        vec![0.5; self.0]
    }

    /// The versions in an answer to [`Space::query`], each id once.
    fn of_answer(self, answer: &Answer) -> Result<BTreeMap<u64, u64>, String> {
        let (query, mut found) = (self.query(), BTreeMap::new());
        for hit in &answer.hits {
            let id = int(&hit.id)?;
            let version = self.version(id, hit.vector.as_deref(), hit.payload.as_ref())?;
            let distance = Metric::L2.distance(&query, &self.vector(id, version));
            if (distance - hit.distance).abs() > 1e-4 * distance.max(1.0) {
                return Err(format!("{id} is at {distance}, not at {}", hit.distance));
            }
            if found.insert(id, version).is_some() {
                return Err(format!("{id} was found twice: {:?}", answer.hits));
            }
        }
        Ok(found)
    }

    async fn everything(self, memory: &Memory, mode: SearchMode) -> Said<Answer> {
        let request = SearchRequest::new(self.query(), 100).mode(mode);
        memory.search(request.parts(Parts::default())).await
    }
}

/// A turn takes a millisecond. A schedule that takes longer than this had someone wait until a deadline that is to help against
/// stores that do not answer, and here they do.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the clients of one schedule share.
struct Ground {
    memory: Memory,
    world: World,
    turns: Turns,
    history: Mutex<History>,
    /// Ids that there may be.
    ids: Vec<u64>,
    /// Versions that end with [`PASS`].
    mortal: Vec<(u64, u64)>,
    versions: AtomicU64,
    space: Space,
    closes: bool,
    hidden: u64,
    /// Snapshots, and when they were taken.
    snapshots: Mutex<Vec<(u64, u64, tempfile::TempDir)>>,
    done: AtomicU64,
}

impl Ground {
    /// An error that is none of the engine's mistakes: a power cut, or a memory that was closed. Whether it says that nothing happened.
    fn excuse(&self, what: &str, error: &Error) -> Result<bool, String> {
        let closed = error.is_closed() && self.closes;
        if self.world.power.is_dead() || closed {
            return Ok(closed && error.retry() != Retry::Unknown);
        }
        Err(format!("{what} failed: {error} ({:?})", error.kind()))
    }

    /// Judges a write: what it did, that it surely did nothing, or neither.
    fn wrote(&self, what: &str, call: Call, done: Said<Did>) -> Result<(), String> {
        match done {
            Ok(did) => self.history.lock().replied(call, did),
            Err(error) => {
                if self.excuse(what, &error)? {
                    self.history.lock().undone(call);
                }
            }
        }
        Ok(())
    }

    fn now(&self) -> u64 {
        self.history.lock().now()
    }

    /// With what the engine reckons with, so that no room is left that would hide a mistake: the most that the policy's books may take, and of
    /// the index what its rows take, whatever it tells.
    fn within_budget(&self) -> Result<(), String> {
        let stats = self.memory.stats();
        let index: u64 = (stats.hot_parts.iter())
            .filter_map(|(name, bytes)| name.starts_with("index.").then_some(*bytes))
            .sum();
        let index = index.max(stats.hot_rows * self.space.row_bytes());
        let books = stats.hot_parts["policy"].max(books_after(stats.hot_rows));
        let hot = index + stats.hot_parts["directory"] + books + self.hidden;
        if stats.hot_bytes > stats.budget_bytes || hot > stats.budget_bytes {
            return Err(format!("over the budget, with {hot} bytes: {stats:#?}"));
        }
        Ok(())
    }

    /// What a deletion says it deleted; what has expired may count or not.
    fn counted(&self, n: usize) -> Option<usize> {
        self.mortal.is_empty().then_some(n)
    }

    /// Boxed, since what is given up is within another.
    fn act<'a>(
        &'a self,
        who: usize,
        what: &'a Do,
    ) -> Pin<Box<dyn Future<Output = Result<(), String>> + 'a>> {
        Box::pin(self.act_now(who, what))
    }

    async fn act_now(&self, who: usize, what: &Do) -> Result<(), String> {
        let memory = &self.memory;
        let other = |name: &str, done: Said<()>| match done {
            Ok(()) => Ok(()),
            Err(error) => self.excuse(name, &error).map(drop),
        };
        match what {
            Do::Upsert(ids) => {
                let version = |id: &u64| (*id, self.versions.fetch_add(1, SeqCst));
                let versions: Vec<(u64, u64)> = ids.iter().map(version).collect();
                let points = versions.iter().map(|(id, v)| self.space.point(*id, *v));
                let points: Vec<Point> = points.collect();
                let did = Did::Upsert(versions);
                let call = self.history.lock().called(who, did.clone());
                let done = memory.upsert(points).await.map(|_| did);
                self.wrote("upsert", call, done)
            }
            Do::Delete(ids) => {
                let unknown = Did::Delete(ids.clone(), None);
                let call = self.history.lock().called(who, unknown);
                let done = memory.delete(&names(ids)).await;
                let done = done.map(|n| Did::Delete(ids.clone(), self.counted(n)));
                self.wrote("delete", call, done)
            }
            Do::Pass => {
                let did = Did::End(self.mortal.clone());
                let call = self.history.lock().called(who, did.clone());
                self.world.clock.advance(PASS);
                self.wrote("time", call, Ok(did))
            }
            Do::Get(id) => {
                let began = self.now();
                match memory.get(&PointId::Int(*id)).await {
                    Ok(record) => {
                        let seen = self.space.of_record(*id, record.as_ref())?;
                        self.history.lock().saw(who, began, vec![(*id, seen)]);
                        Ok(())
                    }
                    Err(error) => self.excuse("get", &error).map(drop),
                }
            }
            Do::GetMany(ids) => {
                let began = self.now();
                match memory.get_many(&names(ids), Parts::default()).await {
                    Ok(records) => {
                        for (id, record) in ids.iter().zip(&records) {
                            let seen = self.space.of_record(*id, record.as_ref())?;
                            self.history.lock().saw(who, began, vec![(*id, seen)]);
                        }
                        Ok(())
                    }
                    Err(error) => self.excuse("get_many", &error).map(drop),
                }
            }
            Do::Search | Do::SearchHot => {
                let complete = matches!(what, Do::Search);
                let mode = [SearchMode::HotOnly, SearchMode::Complete][usize::from(complete)];
                let began = self.now();
                let answer = match self.space.everything(memory, mode).await {
                    Ok(answer) => answer,
                    Err(error) => return self.excuse("search", &error).map(drop),
                };
                if !answer.coverage.is_whole() {
                    let cut = self.world.power.is_dead() || self.closes;
                    let why = format!("cut short: {:?}", answer.coverage);
                    return if cut { Ok(()) } else { Err(why) };
                }
                let found = self.space.of_answer(&answer)?;
                let ids = self
                    .ids
                    .iter()
                    .filter(|id| complete || found.contains_key(id));
                let seen = ids.map(|id| (*id, found.get(id).copied())).collect();
                self.history.lock().saw(who, began, seen);
                Ok(())
            }
            Do::Demote(ids) => other("demote", memory.demote(&names(ids)).await.map(drop)),
            Do::Promote(ids) => other("promote", memory.promote(&names(ids)).await.map(drop)),
            Do::Pin(ids) => other("pin", memory.pin(&names(ids)).await.map(drop)),
            Do::Unpin(ids) => other("unpin", memory.unpin(&names(ids)).await.map(drop)),
            Do::Feedback(id) => {
                let done = memory.feedback(&PointId::Int(*id), 0.5).await;
                other("feedback", done.map(drop))
            }
            Do::Compact => other("compact", memory.compact().await.map(drop)),
            Do::Tick => other("tick", memory.tick().await.map(drop)),
            Do::Snapshot => {
                let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
                let began = self.now();
                let done = memory.snapshot(folder.path()).await;
                let ended = self.now();
                if done.is_ok() {
                    self.snapshots.lock().push((began, ended, folder));
                }
                other("snapshot", done.map(drop))
            }
            Do::GiveUp(what) => {
                tokio::select! {
                    biased;
                    done = self.act(who, what) => done,
                    () = self.turns.turn("gives up") => Ok(()),
                }
            }
            Do::Close => other("close", memory.close().await),
        }
    }
}

async fn client(ground: Arc<Ground>, who: usize, list: Vec<Do>) -> Result<(), String> {
    for what in list {
        ground.turns.turn("client").await;
        let done = ground.act(who, &what).await;
        ground.turns.note((who, done.is_ok()));
        done.map_err(|e| format!("client {who}, {what:?}: {e}"))?;
        ground.done.fetch_add(1, SeqCst);
        ground.within_budget()?;
    }
    Ok(())
}

/// The most that the books of `lru` take with so many rows: pieces of them are reckoned with before they are needed.
fn books_after(rows: u64) -> u64 {
    thread_local! {
        static EMPTY: Box<dyn EvictionPolicy> = PolicyHarness::new(&aether_policies::lru::PLUGIN).build(0);
    }
    EMPTY.with(|policy| policy.bytes_after(rows as usize))
}

/// What so many points take, as the engine reckons, in a memory that has room: so that the budget leaves none for one more.
async fn bytes_of(scenario: &Scenario, rows: u64) -> u64 {
    let space = Space(scenario.settings.dim);
    let world = World::with(Settings {
        tick: "0s",
        budget: "1MiB",
        hot: "fake",
        ..scenario.settings.clone()
    });
    let memory = world.open().await;
    let mortal = scenario.mortal.len() as u64;
    // The directory's tables may double before they are full.
    let points = (1..=2 * rows).map(|id| match id <= mortal {
        true => space.point(id, 0).with_ttl(PASS, false),
        false => space.point(id, 0),
    });
    memory.upsert(points.collect()).await.unwrap();
    let stats = memory.stats();
    assert_eq!(stats.hot_rows, 2 * rows, "{stats:#?}");
    memory.close().await.unwrap();
    stats.hot_parts["directory"] + books_after(rows) + rows * space.row_bytes()
}

/// Puts a mistake between the turns and the stores.
pub(crate) type Plant = fn(Stores, &Turns) -> Stores;

/// A closed memory that every schedule of a scenario begins with.
pub(crate) struct Prepared {
    world: World,
    versions: BTreeMap<u64, u64>,
    next_version: u64,
    mortal: Vec<(u64, u64)>,
    /// Turns of a schedule, about.
    expected: u64,
}

fn fork(world: &World) -> World {
    let mut fork = world.fork(0);
    // A clock of its own, that stands where the other stood.
    let clock = ManualClock::new();
    clock.advance(Duration::from_micros(world.clock.monotonic_us()));
    fork.clock = Arc::new(clock);
    fork
}

async fn prepare(scenario: &Scenario, settings: Settings) -> Prepared {
    // The memory's own tasks would move what is prepared, and so would an index that reckons wrongly.
    let mut world = World::with(Settings {
        tick: "0s",
        hot: "fake",
        ..settings.clone()
    });
    let memory = world.open().await;
    let space = Space(scenario.settings.dim);
    let (mut versions, mut mortal, mut next) = (BTreeMap::new(), Vec::new(), 1);
    let groups = scenario.cold.iter().map(|ids| (ids, true));
    for (ids, cold) in groups.chain([(&scenario.hot, false)]) {
        let mut points = Vec::new();
        for id in ids {
            let mut point = space.point(*id, next);
            if scenario.mortal.contains(id) {
                point = point.with_ttl(PASS / 2, false);
                mortal.push((*id, next));
            }
            points.push(point);
            versions.insert(*id, next);
            next += 1;
        }
        memory.upsert(points).await.unwrap();
        if cold {
            let demoted = memory.demote(&names(ids)).await.unwrap();
            assert_eq!(demoted, ids.len(), "{:#?}", memory.stats());
        }
    }
    let stats = memory.stats();
    assert_eq!(stats.hot_rows, scenario.hot.len() as u64, "{stats:#?}");
    memory.close().await.unwrap();
    world.settings = settings;
    Prepared {
        world,
        versions,
        next_version: next,
        mortal,
        expected: 60,
    }
}

/// What one schedule was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    pub(crate) trace: u64,
    pub(crate) turns: u64,
    pub(crate) switches: u64,
    pub(crate) done: u64,
    pub(crate) cut: bool,
}

/// Plays one schedule; the turns in words, if they are kept.
pub(crate) async fn play(
    prepared: &Prepared,
    scenario: &Scenario,
    planted: Option<Plant>,
    seed: u64,
    words: bool,
) -> (Result<Figures, String>, Vec<String>) {
    let turns = Turns::new(seed, prepared.expected);
    if words {
        turns.keep_words();
    }
    let played = play_with(&turns, prepared, scenario, planted, seed).await;
    (played, turns.words())
}

async fn play_with(
    turns: &Turns,
    prepared: &Prepared,
    scenario: &Scenario,
    planted: Option<Plant>,
    seed: u64,
) -> Result<Figures, String> {
    let hook = turns.clone();
    aether_core::engine::compute_in_turn(move || {
        let turns = hook.clone();
        Box::pin(async move { turns.turn("work").await })
    });
    let mut rng = Rng::with_seed(seed ^ 0xc07);
    let world = fork(&prepared.world);
    let stores = world.stores();
    let (meta, cold) = match planted {
        Some(plant) => plant(stores, turns),
        None => stores,
    };
    let meta: Arc<dyn MetaStore> = Arc::new(InTurn::new(meta, turns));
    let cold: Arc<dyn ColdStore> = Arc::new(InTurn::new(cold, turns));
    let opened = world
        .builder()
        .meta_store(meta)
        .cold_store(cold)
        .open()
        .await;
    let lists = (scenario.clients)(seed);
    let closes = lists.iter().flatten().any(|what| matches!(what, Do::Close));
    let ground = Arc::new(Ground {
        memory: opened.map_err(|e| format!("open failed: {e}"))?,
        world,
        turns: turns.clone(),
        history: Mutex::new(History::new(prepared.versions.clone())),
        ids: ids_of(prepared, &lists),
        mortal: prepared.mortal.clone(),
        versions: AtomicU64::new(prepared.next_version),
        space: Space(scenario.settings.dim),
        closes,
        hidden: scenario.hidden,
        snapshots: Mutex::default(),
        done: AtomicU64::new(0),
    });
    turns.hold();
    let tasks: Vec<JoinHandle<_>> = lists
        .into_iter()
        .enumerate()
        .map(|(who, list)| task::spawn_local(client(ground.clone(), who, list)))
        .collect();
    // Every third schedule ends with a power cut, at any turn.
    let cut_at = (seed % 3 == 2).then(|| rng.u64(0..prepared.expected));
    let (mut cut, mut within, began) = (false, Ok(()), Instant::now());
    let played = turns.play(&tasks, |turn| {
        if scenario.tight {
            within = ground.within_budget();
        }
        cut = cut_at.is_some_and(|at| turn >= at);
        if cut {
            ground.world.power.kill();
        }
        cut || within.is_err()
    });
    played
        .await
        .map_err(|stuck| format!("{stuck}; {:#?}", ground.memory.stats()))?;
    within?;
    let took = began.elapsed();
    if took > PATIENCE {
        return Err(format!("someone waited in vain: it took {took:?}"));
    }
    for task in tasks {
        task.await
            .map_err(|e| format!("a client panicked: {e}"))??;
    }
    let (turns_given, switches) = turns.counts();
    let figures = Figures {
        trace: turns.trace(),
        turns: turns_given,
        switches,
        done: ground.done.load(SeqCst),
        cut,
    };
    let ground = Arc::into_inner(ground).ok_or("a client has not ended")?;
    end(ground, cut, rng.usize(..4)).await?;
    Ok(figures)
}

/// All ids that a schedule may touch.
fn ids_of(prepared: &Prepared, lists: &[Vec<Do>]) -> Vec<u64> {
    fn of(what: &Do) -> &[u64] {
        match what {
            Do::Upsert(ids) => ids,
            Do::GiveUp(what) => of(what),
            _ => &[],
        }
    }
    let written = lists.iter().flatten().flat_map(of);
    let all: BTreeSet<u64> = prepared.versions.keys().chain(written).copied().collect();
    all.into_iter().collect()
}

/// Looks at everything, closes or cuts, opens again, and looks again.
async fn end(mut ground: Ground, cut: bool, keep: usize) -> Result<(), String> {
    const LAST: usize = 99;
    if cut {
        drop(ground.memory);
        ground.world.crash(keep);
    } else {
        if !ground.closes {
            ground.act(LAST, &Do::Search).await?;
            ground.act(LAST, &Do::GetMany(ground.ids.clone())).await?;
        }
        let closed = ground.memory.close().await;
        closed.map_err(|e| format!("close failed: {e}"))?;
        drop(ground.memory);
    }
    let report = ground.world.check().await;
    if !report.is_clean() {
        return Err(format!("what is stored is not whole: {report:#?}"));
    }
    ground.memory = ground.world.open().await;
    ground.closes = false;
    ground.act(LAST, &Do::Search).await?;
    ground.act(LAST, &Do::GetMany(ground.ids.clone())).await?;
    ground.memory.close().await.map_err(|e| e.to_string())?;
    let report = ground.world.check().await;
    if !report.is_clean() {
        return Err(format!(
            "what is stored is not whole after a reopening: {report:#?}"
        ));
    }
    let mut history = ground.history.into_inner();
    for (began, ended, folder) in ground.snapshots.into_inner() {
        let found = restored(&ground.world, ground.space, folder.path()).await?;
        let seen = ground.ids.iter().map(|id| (*id, found.get(id).copied()));
        history.saw_until(LAST, began, ended, seen.collect());
    }
    history.check()
}

/// What a snapshot holds.
async fn restored(
    world: &World,
    space: Space,
    folder: &Path,
) -> Result<BTreeMap<u64, u64>, String> {
    let restored = world.restored(folder).await;
    let memory = restored
        .map_err(|e| format!("restore failed: {e}"))?
        .open()
        .await;
    let answer = space.everything(&memory, SearchMode::Complete).await;
    let answer = answer.map_err(|e| format!("a restored memory: {e}"))?;
    memory.close().await.map_err(|e| e.to_string())?;
    space.of_answer(&answer)
}

/// Plays a schedule.
fn one(
    prepared: &Prepared,
    scenario: &Scenario,
    planted: Option<Plant>,
    seed: u64,
) -> Result<Figures, String> {
    alone(LocalSet::new().run_until(play(prepared, scenario, planted, seed, false))).0
}

/// The schedules that a scenario gets: the one of `AETHER_SEED`, or from there on as many as `AETHER_SCHEDULES` says.
fn seeds(share: u64) -> std::ops::Range<u64> {
    let (first, many) = (variable("AETHER_SEED"), variable("AETHER_SCHEDULES"));
    let many = match (first, many) {
        (Some(_), None) => 1,
        (_, many) => many.unwrap_or(2_000).div_ceil(share),
    };
    let first = first.unwrap_or(0);
    first..first + many
}

pub(crate) fn ready(scenario: &Scenario) -> Prepared {
    aether_core::engine::compute_in_place(true);
    let mut settings = scenario.settings.clone();
    if let Some(rows) = scenario.room {
        let bytes = alone(bytes_of(scenario, rows));
        settings.budget = format!("{bytes}B").leak();
    }
    let mut prepared = alone(prepare(scenario, settings));
    // One of the way that makes no falls, and that no power cut ends.
    if let Ok(figures) = one(&prepared, scenario, None, 0) {
        prepared.expected = figures.turns;
    }
    prepared
}

/// Plays all schedules of a scenario.
pub(crate) fn explore(scenario: &Scenario) {
    let prepared = ready(scenario);
    let (mut traces, mut all, mut cuts) = (BTreeSet::new(), Figures::default(), 0_u64);
    let seeds = seeds(scenario.share);
    for seed in seeds.clone() {
        let figures = match one(&prepared, scenario, None, seed) {
            Ok(figures) => figures,
            Err(what) => {
                let turns =
                    alone(LocalSet::new().run_until(play(&prepared, scenario, None, seed, true))).1;
                panic!(
                    "AETHER_SEED={seed} cargo test -p aether-core --test orders {}: {what}\nthe turns:\n{}",
                    scenario.name,
                    turns.join("\n")
                );
            }
        };
        // The same seed, the same turns.
        if seed % 64 == 0 {
            let again = one(&prepared, scenario, None, seed);
            assert_eq!(again, Ok(figures), "AETHER_SEED={seed} {}", scenario.name);
        }
        traces.insert(figures.trace);
        all.turns += figures.turns;
        all.switches += figures.switches;
        all.done += figures.done;
        cuts += u64::from(figures.cut);
    }
    let n = seeds.end - seeds.start;
    println!(
        "{}: {n} schedules, {} different, {} turns, {} switches of task, {} operations, {cuts} power cuts",
        scenario.name,
        traces.len(),
        all.turns,
        all.switches,
        all.done
    );
    if n >= 100 {
        assert!(
            traces.len() as u64 > n / 2,
            "{} of {n} schedules differ",
            traces.len()
        );
        assert!(cuts > n / 8, "{cuts} cuts of {n}");
    }
}

/// After how many schedules a planted mistake is found, and what is said of it.
pub(crate) fn find(scenario: &Scenario, planted: Plant, most: u64) -> Option<(u64, String)> {
    let prepared = ready(scenario);
    (0..most).find_map(|seed| {
        let what = one(&prepared, scenario, Some(planted), seed).err()?;
        Some((seed + 1, what))
    })
}

//! Clocks that go wrong: backwards, ten years ahead, standing still. Nothing is lost, the hot tier does not empty itself, and times to live
//! drift by no more than was said.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use aether::config::SearchMode;
use aether::role::{
    Batch, BlobInfo, ColdStore, Epoch, KeyRange, MetaCapability, MetaStore, Op, Seq, Table, Tier,
};
use aether::{
    BlobKey, Clock, Config, Memory, MemoryBuilder, Parts, Point, PointId, Registry, Result, Role,
    SearchRequest,
};
use aether_testkit::fake::cold::StrictCold;
use aether_testkit::fake::meta::StrictMeta;
use async_trait::async_trait;
use bytes::Bytes;

const DIM: usize = 8;
const ROWS: u64 = 1_500;
/// Of these, the first so many are cold.
const COLD: u64 = 300;
const SECOND: u64 = 1_000_000;
const DAY: u64 = 86_400 * SECOND;
const TEN_YEARS: u64 = 3_652 * DAY;
/// `memory.clock_jump_max` and `memory.flush_every` of these memories.
const JUMP_MAX: u64 = 7 * DAY;
const FLUSH: u64 = 30 * SECOND;
/// Where the clocks begin, so that there is room before it.
const BEGIN: u64 = 2 * TEN_YEARS;
/// Policies whose rule is that a row leaves after an hour without a use: time that passed is their reason.
const BY_IDLENESS: [&str; 2] = ["age", "ttl-idle"];

/// Two clocks that may be set to anything, the monotonic one too, which no sound system does.
#[derive(Debug)]
struct Hostile {
    monotonic: AtomicU64,
    wall: AtomicU64,
}

impl Clock for Hostile {
    fn monotonic_us(&self) -> u64 {
        self.monotonic.load(SeqCst)
    }

    fn wall_us(&self) -> u64 {
        self.wall.load(SeqCst)
    }
}

impl Hostile {
    /// Time passes on both, as it should.
    fn pass(&self, us: u64) {
        self.monotonic.fetch_add(us, SeqCst);
        self.wall.fetch_add(us, SeqCst);
    }
}

/// Mistakes in what stands between a memory and its clock or stores, which the tests below must find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Planted {
    Nothing,
    /// The wall clock is taken for the passing of time.
    WallForTime,
    /// Nobody looks at the wall clock, so that time stands still while a memory is closed.
    NoWall,
    /// What is noted of the time is not stored.
    TimeNotKept,
    /// A segment is put only when the clock has gone on.
    WaitsForTime,
}

/// A clock as a memory sees it that is wrong about it.
#[derive(Debug)]
struct Wrong(Arc<Hostile>, Planted);

impl Clock for Wrong {
    fn monotonic_us(&self) -> u64 {
        match self.1 {
            Planted::WallForTime => self.0.wall_us(),
            _ => self.0.monotonic_us(),
        }
    }

    fn wall_us(&self) -> u64 {
        match self.1 {
            Planted::NoWall => BEGIN,
            _ => self.0.wall_us(),
        }
    }
}

/// Metadata that keep all but the time.
#[derive(Debug)]
struct Timeless(StrictMeta);

#[async_trait]
impl MetaStore for Timeless {
    async fn claim(&self) -> Result<Epoch> {
        self.0.claim().await
    }

    async fn get(&self, table: Table, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>> {
        self.0.get(table, keys).await
    }

    async fn scan(
        &self,
        table: Table,
        range: KeyRange,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>> {
        self.0.scan(table, range, limit).await
    }

    async fn commit(&self, mut batch: Batch) -> Result<Seq> {
        let is_begun = !self
            .0
            .scan(Table::Points, KeyRange::all(), 1)
            .await?
            .is_empty();
        let is_time = |op: &Op| matches!(op, Op::Put(Table::State, key, _) if &key[..] == b"clock");
        batch.ops.retain(|op| !(is_begun && is_time(op)));
        self.0.commit(batch).await
    }

    async fn durable(&self, seq: Seq) -> Result<()> {
        self.0.durable(seq).await
    }

    fn capability(&self) -> MetaCapability {
        self.0.capability()
    }

    async fn close(&self) -> Result<()> {
        self.0.close().await
    }
}

/// Segments that wait for their clock.
#[derive(Debug)]
struct Waiting(StrictCold, Arc<Hostile>);

#[async_trait]
impl ColdStore for Waiting {
    async fn put(&self, key: &BlobKey, data: Bytes) -> Result<()> {
        let began = self.1.monotonic_us();
        // Of segments alone: the mark of a new memory comes before anything that is watched.
        while key.as_str().starts_with("segments/") && self.1.monotonic_us() == began {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.0.put(key, data).await
    }

    async fn read(&self, key: &BlobKey, ranges: &[Range<u64>]) -> Result<Option<Vec<Bytes>>> {
        self.0.read(key, ranges).await
    }

    async fn size(&self, key: &BlobKey) -> Result<Option<u64>> {
        self.0.size(key).await
    }

    async fn delete(&self, key: &BlobKey) -> Result<()> {
        self.0.delete(key).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<BlobInfo>> {
        self.0.list(prefix).await
    }
}

struct World {
    meta: StrictMeta,
    cold: StrictCold,
    clock: Arc<Hostile>,
    planted: Planted,
    registry: Arc<Registry>,
    config: Config,
}

fn vector(i: u64) -> Vec<f32> {
    let mut rng = fastrand::Rng::with_seed(i);
    (0..DIM).map(|_| rng.f32()).collect()
}

fn ids(range: Range<u64>) -> Vec<PointId> {
    range.map(PointId::Int).collect()
}

/// Points of their own kind: they end after so long, and reads may renew that.
const MORTAL: u64 = 10_000;
const RENEWED: u64 = 10_001;
const LIFETIME: Duration = Duration::from_secs(30 * 86_400);

impl World {
    fn new(policy: &str) -> Self {
        Self::with(policy, "640KiB")
    }

    fn with(policy: &str, budget: &str) -> Self {
        let toml = format!(
            "[memory]\ndim = {DIM}\nmetric = \"l2\"\nhot_budget = {budget:?}\ninsert_wait = \"50ms\"\nclock_jump_max = \"7d\"\n\
             flush_every = \"30s\"\n[flux]\ntick = \"0s\"\n[search]\npartition_rows = 64\n[hot]\nbackend = \"flat\"\n\
             [policy]\nbackend = {policy:?}\n[limits]\nbatch_bytes = \"4MiB\"\n"
        );
        let clock = Hostile {
            monotonic: AtomicU64::new(BEGIN),
            wall: AtomicU64::new(BEGIN),
        };
        Self {
            meta: StrictMeta::new(),
            cold: StrictCold::new(),
            clock: Arc::new(clock),
            planted: Planted::Nothing,
            registry: Arc::new(aether::registry().unwrap()),
            config: Config::from_toml(&toml).unwrap(),
        }
    }

    fn with_planted(mut self, planted: Planted) -> Self {
        self.planted = planted;
        self
    }

    fn builder(&self) -> MemoryBuilder {
        let meta: Arc<dyn MetaStore> = match self.planted {
            Planted::TimeNotKept => Arc::new(Timeless(self.meta.handle())),
            _ => Arc::new(self.meta.handle()),
        };
        let cold: Arc<dyn ColdStore> = match self.planted {
            Planted::WaitsForTime => Arc::new(Waiting(self.cold.clone(), self.clock.clone())),
            _ => Arc::new(self.cold.clone()),
        };
        MemoryBuilder::new(self.config.clone(), self.registry.clone())
            .clock(Arc::new(Wrong(self.clock.clone(), self.planted)))
            .meta_store(meta)
            .cold_store(cold)
    }

    /// A memory with rows in both tiers and room in the hot one.
    async fn filled(&self) -> Memory {
        let memory = self.builder().open().await.unwrap();
        for from in (0..ROWS).step_by(100) {
            let points = (from..from + 100).map(|i| Point::new(i, vector(i)));
            memory.upsert(points.collect()).await.unwrap();
            self.clock.pass(SECOND);
        }
        let mortals = [(MORTAL, false), (RENEWED, true)];
        let mortals = mortals.map(|(i, renew)| Point::new(i, vector(i)).with_ttl(LIFETIME, renew));
        memory.upsert(mortals.to_vec()).await.unwrap();
        let demoted = memory.demote(&ids(0..COLD)).await.unwrap();
        assert_eq!(demoted as u64, COLD);
        // Uses, so that no policy's books are all alike.
        for i in (COLD..ROWS).step_by(7) {
            memory.get(&PointId::Int(i)).await.unwrap().unwrap();
        }
        memory.tick().await.unwrap();
        let stats = memory.stats();
        let full = stats.hot_bytes as f64 / stats.budget_bytes as f64;
        assert!((0.3..0.9).contains(&full), "{full}: {:?}", stats.hot_parts);
        memory
    }

    /// Every point without a time to live is there, once, as it was written; some turns go by.
    async fn nothing_is_lost(&self, memory: &Memory, what: &str) {
        for _ in 0..10 {
            memory.tick().await.unwrap();
        }
        let records = memory
            .get_many(&ids(0..ROWS), Parts::default())
            .await
            .unwrap();
        for (i, record) in (0..).zip(records) {
            let record = record.unwrap_or_else(|| panic!("{what}: point {i} is gone"));
            assert_eq!(record.vector, Some(vector(i)), "{what}: point {i}");
        }
        let request = SearchRequest::new(vector(77_777), ROWS as usize + 10);
        let request = request.mode(SearchMode::Complete);
        let answer = memory.search(request).await.unwrap();
        assert!(answer.coverage.is_whole(), "{what}: {:?}", answer.coverage);
        let mut found: Vec<_> = answer.hits.into_iter().map(|h| h.id).collect();
        let all = found.len();
        found.sort();
        found.dedup();
        assert_eq!(found.len(), all, "{what}: a point was found twice");
        let mortals = [MORTAL, RENEWED].map(PointId::Int);
        found.retain(|id| !mortals.contains(id));
        assert_eq!(found.len() as u64, ROWS, "{what}");
        let stats = memory.stats();
        assert!(stats.hot_bytes <= stats.budget_bytes, "{what}: {stats:?}");
    }

    /// After a closing, a power cut or nothing at all the memory works on.
    async fn works_on(&self, memory: Memory, what: &str) {
        memory
            .upsert(vec![Point::new(20_000, vector(20_000))])
            .await
            .unwrap();
        assert_eq!(memory.delete(&ids(20_000..20_001)).await.unwrap(), 1);
        memory.close().await.unwrap();
        drop(memory);
        let report = self.builder().check().await.unwrap();
        assert!(report.is_clean(), "{what}: {report:#?}");
    }
}

/// What is left of a point's time; `None` when it is over.
async fn left(memory: &Memory, id: u64) -> Option<u64> {
    let records = memory.get_many(&ids(id..id + 1), Parts::NONE).await;
    let record = records.unwrap().remove(0)?;
    Some(record.expires_in.unwrap().as_micros() as u64)
}

fn hot_rows(memory: &Memory) -> u64 {
    memory.stats().hot_rows
}

fn policies(registry: &Registry) -> Vec<&'static str> {
    let of_role = registry.iter().filter(|p| p.role() == Role::Policy);
    of_role.map(|p| p.name).collect()
}

/// What a clock does to a memory, how it is seen, and how much time the memory counts then.
struct Jump {
    name: &'static str,
    /// Whether the memory is closed meanwhile.
    closed: bool,
    monotonic: fn(u64) -> u64,
    wall: fn(u64) -> u64,
    counted: u64,
}

const JUMPS: [Jump; 6] = [
    Jump {
        name: "the wall clock goes back ten years while it is open",
        closed: false,
        monotonic: |m| m,
        wall: |w| w - TEN_YEARS,
        counted: 0,
    },
    Jump {
        name: "the wall clock goes ahead ten years while it is open",
        closed: false,
        monotonic: |m| m,
        wall: |w| w + TEN_YEARS,
        counted: 0,
    },
    Jump {
        name: "the wall clock goes back ten years while it is closed",
        closed: true,
        monotonic: |_| 0,
        wall: |w| w - TEN_YEARS,
        counted: 0,
    },
    Jump {
        name: "the wall clock goes ahead ten years while it is closed",
        closed: true,
        monotonic: |_| 0,
        wall: |w| w + TEN_YEARS,
        counted: JUMP_MAX,
    },
    Jump {
        name: "the monotonic clock goes back ten years",
        closed: false,
        monotonic: |m| m - TEN_YEARS,
        wall: |w| w,
        counted: 0,
    },
    Jump {
        name: "both clocks stand still while it is closed",
        closed: true,
        monotonic: |m| m,
        wall: |w| w,
        counted: 0,
    },
];

#[tokio::test]
async fn a_clock_that_jumps_loses_nothing_empties_nothing_and_shifts_ends_within_bounds() {
    let names = policies(&World::new("lru").registry);
    assert!(names.len() >= 15, "{names:?}");
    for policy in names {
        for jump in &JUMPS {
            // So much that the books of every policy leave room when the rows come back to RAM.
            let world = World::with(policy, "768KiB");
            let stays = !BY_IDLENESS.contains(&policy);
            judge_jump(world, policy, jump, stays).await;
        }
    }
}

/// `stays`: whether the hot rows stay hot even where the memory counts time.
async fn judge_jump(world: World, policy: &str, jump: &Jump, stays: bool) {
    let what = format!("{policy}: {}", jump.name);
    let mut memory = world.filled().await;
    let (hot, before) = (hot_rows(&memory), left(&memory, MORTAL).await.unwrap());
    if jump.closed {
        memory.close().await.unwrap();
    }
    let clock = &world.clock;
    clock
        .monotonic
        .store((jump.monotonic)(clock.monotonic_us()), SeqCst);
    clock.wall.store((jump.wall)(clock.wall_us()), SeqCst);
    if jump.closed {
        drop(memory);
        memory = world.builder().open().await.unwrap();
    }
    world.nothing_is_lost(&memory, &what).await;
    let after = left(&memory, MORTAL).await;
    let counted = after.map(|after| before - after);
    assert_eq!(counted, Some(jump.counted), "{what}: time counted");
    let stayed = hot_rows(&memory);
    if jump.counted == 0 || stays {
        assert!(stayed * 10 >= hot * 9, "{what}: {stayed} of {hot} hot");
    }
    world.works_on(memory, &what).await;
}

/// Ten years that really passed end what was to end, and nothing else.
#[tokio::test]
async fn ten_years_of_the_monotonic_clock_are_ten_years() {
    for policy in policies(&World::new("lru").registry) {
        let what = format!("{policy}: ten years pass");
        let world = World::new(policy);
        let memory = world.filled().await;
        let hot = hot_rows(&memory);
        world.clock.pass(TEN_YEARS);
        assert_eq!(left(&memory, MORTAL).await, None, "{what}");
        world.nothing_is_lost(&memory, &what).await;
        assert_eq!(memory.stats().points, ROWS, "{what}");
        if !BY_IDLENESS.contains(&policy) {
            let stayed = hot_rows(&memory);
            assert!(stayed * 10 >= hot * 9, "{what}: {stayed} of {hot} hot");
        }
        world.works_on(memory, &what).await;
    }
}

/// A clock that goes back is waited for: time stands still until it has caught up, and goes on from there.
#[tokio::test]
async fn time_goes_on_where_a_clock_that_went_back_has_caught_up() {
    let world = World::new("flux");
    let memory = world.filled().await;
    let before = left(&memory, MORTAL).await.unwrap();
    world.clock.monotonic.fetch_sub(3 * DAY, SeqCst);
    world.clock.pass(2 * DAY);
    assert_eq!(left(&memory, MORTAL).await, Some(before));
    world.clock.pass(2 * DAY);
    assert_eq!(left(&memory, MORTAL).await, Some(before - DAY));
    memory.close().await.unwrap();
}

/// A power cut with a wall clock that was set back: what passed since the last flush is all that is not counted.
#[tokio::test]
async fn after_a_power_cut_a_point_lives_one_flush_interval_longer_at_most() {
    for wall in [0, BEGIN + TEN_YEARS] {
        judge_power_cut(World::new("flux"), wall).await;
    }
}

async fn judge_power_cut(mut world: World, wall: u64) {
    let memory = world.filled().await;
    // A turn that flushes, then some time that nobody notes.
    world.clock.pass(FLUSH);
    memory.tick().await.unwrap();
    let unflushed = FLUSH - SECOND;
    world.clock.pass(unflushed);
    let mortal = left(&memory, MORTAL).await.unwrap();
    let renewed = left(&memory, RENEWED).await.unwrap();
    drop(memory);
    world.meta = world.meta.crash();
    world.clock.monotonic.store(5, SeqCst);
    world.clock.wall.store(wall, SeqCst);
    let memory = world.builder().open().await.unwrap();
    let what = format!("a power cut, and the wall says {wall}");
    let counted = if wall > BEGIN { JUMP_MAX } else { 0 };
    let ahead = mortal + unflushed - counted;
    assert_eq!(left(&memory, MORTAL).await, Some(ahead), "{what}");
    // Its renewals since the last flush are not known: for their sake it gets one interval more.
    let got = left(&memory, RENEWED).await.unwrap();
    assert!(
        got <= renewed + unflushed + FLUSH && got + counted + FLUSH >= renewed,
        "{what}: {got} of {renewed}"
    );
    world.nothing_is_lost(&memory, &what).await;
    world.works_on(memory, &what).await;
}

/// A clock that stands still: the memory works on, keeps to its budget, and neither waits nor ends anything.
#[tokio::test]
async fn a_memory_works_under_a_clock_that_stands_still() {
    for policy in policies(&World::new("lru").registry) {
        judge_still(World::new(policy), policy).await;
    }
}

async fn judge_still(world: World, policy: &str) {
    let what = format!("{policy}: the clock stands still");
    let memory = world.builder().open().await.unwrap();
    let work = async {
        // Three times what fits.
        for from in (0..3 * ROWS).step_by(100) {
            let points = (from..from + 100).map(|i| Point::new(i, vector(i)));
            memory.upsert(points.collect()).await.unwrap();
            memory.tick().await.unwrap();
        }
        memory.delete(&ids(ROWS..3 * ROWS)).await.unwrap();
        memory.compact().await.unwrap();
        let records = memory.get_many(&ids(0..ROWS), Parts::NONE).await.unwrap();
        records.iter().flatten().map(|r| r.tier).collect::<Vec<_>>()
    };
    let tiers = tokio::time::timeout(Duration::from_secs(60), work)
        .await
        .unwrap_or_else(|_| panic!("{what}: it waits for a time that never comes"));
    assert!(tiers.contains(&Tier::Cold), "{what}");
    world.nothing_is_lost(&memory, &what).await;
    world.works_on(memory, &what).await;
}

/// What a judge of the above says of a mistake that it must find.
async fn found(judge: impl Future<Output = ()> + Send + 'static) -> String {
    let panic = tokio::spawn(judge).await;
    let panic = panic
        .expect_err("a planted mistake is not found")
        .into_panic();
    panic.downcast_ref::<String>().unwrap().clone()
}

#[tokio::test]
async fn planted_mistakes_about_time_are_found() {
    let [_, ahead_open, _, ahead_closed, ..] = &JUMPS;
    for (planted, jump) in [
        (Planted::WallForTime, ahead_open),
        (Planted::NoWall, ahead_closed),
    ] {
        let world = World::with("lru", "768KiB").with_planted(planted);
        let said = found(judge_jump(world, "lru", jump, true)).await;
        assert!(said.contains("time counted"), "{planted:?}: {said}");
    }
    let world = World::new("flux").with_planted(Planted::TimeNotKept);
    let said = found(judge_power_cut(world, 0)).await;
    assert!(said.contains("a power cut, and the wall says 0"), "{said}");
}

/// A policy whose rule is time, judged as those whose rule is not: it lets all rows go after a jump.
#[tokio::test]
async fn a_planted_policy_that_empties_the_tier_after_a_jump_is_found() {
    for policy in BY_IDLENESS {
        let world = World::with(policy, "768KiB");
        let said = found(judge_jump(world, policy, &JUMPS[3], true)).await;
        assert!(said.ends_with("hot") && said.contains(" of "), "{said}");
    }
}

#[tokio::test]
async fn a_planted_jump_that_ends_a_point_is_found() {
    let said = found(async {
        let world = World::new("lru");
        let memory = world.filled().await;
        memory.delete(&ids(COLD + 7..COLD + 8)).await.unwrap();
        world.nothing_is_lost(&memory, "planted").await;
    });
    assert_eq!(said.await, format!("planted: point {} is gone", COLD + 7));
}

#[tokio::test(start_paused = true)]
async fn a_planted_store_that_waits_for_a_still_clock_is_found() {
    let world = World::new("lru").with_planted(Planted::WaitsForTime);
    let said = found(judge_still(world, "lru")).await;
    assert!(said.contains("waits for a time that never comes"), "{said}");
}

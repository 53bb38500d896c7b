//! Clocks that go wrong: backwards, ten years ahead, standing still. Nothing is lost, the hot tier does not empty itself, and times to live
//! drift by no more than was said.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use aether::config::SearchMode;
use aether::role::Tier;
use aether::{
    Clock, Config, Memory, MemoryBuilder, Parts, Point, PointId, Registry, Role, SearchRequest,
};
use aether_testkit::fake::cold::StrictCold;
use aether_testkit::fake::meta::StrictMeta;

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

struct World {
    meta: StrictMeta,
    cold: StrictCold,
    clock: Arc<Hostile>,
    registry: Arc<Registry>,
    config: Config,
}

fn vector(i: u64) -> Vec<f32> {
    let mut rng = fastrand::Rng::with_seed(i);
    (0..DIM).map(|_| rng.f32()).collect()
}

fn ids(range: std::ops::Range<u64>) -> Vec<PointId> {
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
            registry: Arc::new(aether::registry().unwrap()),
            config: Config::from_toml(&toml).unwrap(),
        }
    }

    fn builder(&self) -> MemoryBuilder {
        MemoryBuilder::new(self.config.clone(), self.registry.clone())
            .clock(self.clock.clone())
            .meta_store(Arc::new(self.meta.handle()))
            .cold_store(Arc::new(self.cold.clone()))
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
            let what = format!("{policy}: {}", jump.name);
            // So much that the books of every policy leave room when the rows come back to RAM.
            let world = World::with(policy, "768KiB");
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
            let after = left(&memory, MORTAL).await.unwrap();
            assert_eq!(before - after, jump.counted, "{what}: time counted");
            let stayed = hot_rows(&memory);
            if jump.counted == 0 || !BY_IDLENESS.contains(&policy) {
                assert!(stayed * 10 >= hot * 9, "{what}: {stayed} of {hot} hot");
            }
            world.works_on(memory, &what).await;
        }
    }
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
        let mut world = World::new("flux");
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
}

/// A clock that stands still: the memory works on, keeps to its budget, and neither waits nor ends anything.
#[tokio::test]
async fn a_memory_works_under_a_clock_that_stands_still() {
    for policy in policies(&World::new("lru").registry) {
        let what = format!("{policy}: the clock stands still");
        let world = World::new(policy);
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
}

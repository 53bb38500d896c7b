//! A memory on the kit's strict stores, with a plug that can be pulled: what the engine's integration tests share.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test file uses its own part of this"
)]

mod reckless;
pub mod script;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use aether_core::config::SearchMode;
use aether_core::engine::{Answer, CheckReport};
use aether_core::role::{
    Batch, BlobInfo, ByteCodec, Codec, CodecId, ColdStore, Epoch, Fidelity, KeyRange,
    MetaCapability, MetaStore, Op, Seq, Table,
};
use aether_core::vector::{Shape, VectorBlock};
use aether_core::{
    BlobKey, Clock, Config, Error, Factory, ManualClock, Memory, MemoryBuilder, Metric, Plugin,
    Point, PointId, Registry, Result, Retry, SearchRequest,
};
use aether_testkit::fake::cold::StrictCold;
use aether_testkit::fake::meta::StrictMeta;
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;

/// Floats as they are; segments have their own checksums.
#[derive(Debug)]
struct Plain;

impl Codec for Plain {
    fn id(&self) -> CodecId {
        CodecId(60_000)
    }

    fn fidelity(&self) -> Fidelity {
        Fidelity::Exact
    }

    fn encode(&self, block: VectorBlock<'_>, out: &mut Vec<u8>) -> Result<()> {
        let floats = block.data().iter();
        floats.for_each(|x| out.extend_from_slice(&x.to_le_bytes()));
        Ok(())
    }

    fn decode(&self, bytes: &[u8], shape: Shape, out: &mut Vec<f32>) -> Result<()> {
        if bytes.len() != shape.len() * 4 {
            return Err(Error::corrupt("plain: wrong length"));
        }
        let floats = bytes.as_chunks::<4>().0.iter();
        out.extend(floats.map(|b| f32::from_le_bytes(*b)));
        Ok(())
    }

    fn as_byte_codec(&self) -> Option<&dyn ByteCodec> {
        None
    }
}

static PLAIN: Plugin = Plugin {
    name: "plain",
    crate_name: "test",
    summary: "floats as they are",
    options: &[],
    persistent: false,
    factory: Factory::Codec(CodecId(60_000), |_, _| Ok(Arc::new(Plain))),
};

static GIVEN_META: Plugin = Plugin {
    name: "test",
    crate_name: "test",
    summary: "given to the builder",
    options: &[],
    persistent: false,
    factory: Factory::Meta(|_, _| Err(Error::internal("the builder was given a store"))),
};

static GIVEN_COLD: Plugin = Plugin {
    name: "test",
    crate_name: "test",
    summary: "given to the builder",
    options: &[],
    persistent: false,
    factory: Factory::Cold(|_, _| Err(Error::internal("the builder was given a store"))),
};

thread_local! {
    /// The stores that the plug-ins named `shelf` give out on this thread.
    static SHELF: RefCell<Option<(StrictMeta, StrictCold)>> = const { RefCell::new(None) };
}

fn shelf() -> Result<(StrictMeta, StrictCold)> {
    SHELF
        .with_borrow(Clone::clone)
        .ok_or_else(|| Error::internal("nothing was put on the shelf"))
}

static SHELF_META: Plugin = Plugin {
    name: "shelf",
    crate_name: "test",
    summary: "what a test put there",
    options: &[],
    persistent: true,
    factory: Factory::Meta(|_, _| Ok(Arc::new(shelf()?.0))),
};

static SHELF_COLD: Plugin = Plugin {
    name: "shelf",
    crate_name: "test",
    summary: "what a test put there",
    options: &[],
    persistent: true,
    factory: Factory::Cold(|_, _| Ok(Arc::new(shelf()?.1))),
};

fn registry() -> Arc<Registry> {
    let mut registry = Registry::empty();
    for plugin in [
        &PLAIN,
        &aether_hot_flat::PLUGIN,
        &aether_testkit::fake::hot::STRICT,
        &reckless::FORGETS,
        &reckless::HIDES,
        &aether_policies::lru::PLUGIN,
        &GIVEN_META,
        &GIVEN_COLD,
        &SHELF_META,
        &SHELF_COLD,
    ] {
        registry.add(plugin).unwrap();
    }
    Arc::new(registry)
}

/// Both stores of a memory.
pub type Stores = (Arc<dyn MetaStore>, Arc<dyn ColdStore>);

/// Dimension of the vectors of [`vector`].
pub const DIM: usize = 8;

/// A call of a store, as a script sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// An operation of the metadata store, by name.
    Meta(&'static str),
    Put(BlobKey),
    Read(BlobKey),
    Size(BlobKey),
    Delete(BlobKey),
    List,
}

impl Call {
    /// Whether a call without a reply may have had an effect.
    pub fn changes(&self) -> bool {
        matches!(
            self,
            Self::Meta("commit" | "durable" | "claim" | "close") | Self::Put(_) | Self::Delete(_)
        )
    }
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Pass,
    /// Surely no effect, and the caller is told so.
    Fail,
    /// The same, and that trying again is of no use.
    Deny,
    /// No effect, but the caller cannot know.
    Lost,
    /// The whole effect, but the caller cannot know.
    LoseReply,
    /// No effect and no answer until [`Power::release`]; then as if nothing had been.
    Hold,
    /// The whole effect, after a while.
    Late(Duration),
    /// A read's answer with a bit that was not written; of other calls nothing.
    Garble,
    /// The process dies just before the effect.
    Die,
    /// The process dies just after the effect.
    DieAfter,
}

type Script = Arc<dyn Fn(&Call, u64) -> Verdict + Send + Sync>;

/// One life of a process: every call to both stores goes through it, and when it ends, none comes through any more, whatever
/// tasks of that life are still about.
#[derive(Clone)]
pub struct Power(Arc<PowerState>);

struct PowerState {
    dead: AtomicBool,
    calls: AtomicU64,
    script: Mutex<Option<Script>>,
    released: watch::Sender<u64>,
    held: watch::Sender<usize>,
    trace: Mutex<Vec<Call>>,
    /// What is being done, in a word.
    doing: Mutex<String>,
    /// What was committed last, in a word.
    committed: Mutex<&'static str>,
    /// The step at which it died, and whether after its effect.
    cut: Mutex<Option<(String, bool)>>,
    /// Steps that waited for a sync.
    waits: Mutex<BTreeSet<String>>,
}

impl fmt::Debug for Power {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Power")
            .field("dead", &self.is_dead())
            .field("calls", &self.calls())
            .finish()
    }
}

impl Power {
    pub fn new() -> Self {
        Self(Arc::new(PowerState {
            dead: AtomicBool::new(false),
            calls: AtomicU64::new(0),
            script: Mutex::new(None),
            released: watch::Sender::new(0),
            held: watch::Sender::new(0),
            trace: Mutex::new(Vec::new()),
            doing: Mutex::default(),
            committed: Mutex::new("nothing"),
            cut: Mutex::new(None),
            waits: Mutex::default(),
        }))
    }

    /// Names what is being done.
    pub fn doing(&self, what: &str) {
        what.clone_into(&mut self.0.doing.lock());
    }

    /// The step at which this life was cut, and whether after its effect.
    pub fn cut(&self) -> Option<(String, bool)> {
        self.0.cut.lock().clone()
    }

    /// The steps of this life that waited for a sync.
    pub fn waits(&self) -> BTreeSet<String> {
        self.0.waits.lock().clone()
    }

    /// A call by what it is for.
    fn step(&self, call: &Call) -> String {
        let (doing, committed) = (self.0.doing.lock(), *self.0.committed.lock());
        let step = match call {
            Call::Meta("commit") => committed.to_owned(),
            Call::Meta("durable") => format!("durable after {committed}"),
            Call::Meta(other) => (*other).to_owned(),
            Call::Put(_) => "put".to_owned(),
            Call::Read(_) => "read".to_owned(),
            Call::Size(_) => "size".to_owned(),
            Call::Delete(_) => "delete".to_owned(),
            Call::List => "list".to_owned(),
        };
        format!("{doing}: {step}")
    }

    fn note_cut(&self, call: &Call, after: bool) {
        *self.0.cut.lock() = Some((self.step(call), after));
    }

    /// Asks `script` before every call from now on, with the call and its number in this life, from 1.
    pub fn script(&self, script: impl Fn(&Call, u64) -> Verdict + Send + Sync + 'static) {
        *self.0.script.lock() = Some(Arc::new(script));
    }

    /// No more faults.
    pub fn unscript(&self) {
        *self.0.script.lock() = None;
    }

    /// Pulls the plug at the `n`th call from now, counted from 1.
    pub fn die_at(&self, n: u64, after: bool) {
        let at = self.calls() + n;
        self.script(move |_, i| match (i == at, after) {
            (false, _) => Verdict::Pass,
            (true, false) => Verdict::Die,
            (true, true) => Verdict::DieAfter,
        });
    }

    pub fn kill(&self) {
        self.0.dead.store(true, SeqCst);
    }

    pub fn is_dead(&self) -> bool {
        self.0.dead.load(SeqCst)
    }

    /// Calls so far.
    pub fn calls(&self) -> u64 {
        self.0.calls.load(SeqCst)
    }

    /// The calls so far, in order.
    pub fn trace(&self) -> Vec<Call> {
        self.0.trace.lock().clone()
    }

    /// Lets every held call go on.
    pub fn release(&self) {
        self.0.released.send_modify(|n| *n += 1);
    }

    /// Calls that are held.
    pub fn held(&self) -> usize {
        *self.0.held.borrow()
    }

    /// Waits until so many calls are held.
    pub async fn wait_for_held(&self, calls: usize) {
        let mut held = self.0.held.subscribe();
        held.wait_for(|n| *n >= calls).await.unwrap();
    }

    async fn run<T>(&self, call: Call, effect: impl Future<Output = Result<T>>) -> Result<T> {
        self.run_or(call, effect, |_| ()).await
    }

    /// The last: what makes a reply wrong.
    async fn run_or<T>(
        &self,
        call: Call,
        effect: impl Future<Output = Result<T>>,
        wrong: impl FnOnce(&mut T),
    ) -> Result<T> {
        let unknown = |what: &str| {
            let class = if call.changes() {
                Retry::Unknown
            } else {
                Retry::Later
            };
            Error::unavailable(format!("injected: {what} at {call:?}")).with_retry(class)
        };
        if self.is_dead() {
            return Err(unknown("the process has died"));
        }
        let n = self.0.calls.fetch_add(1, SeqCst) + 1;
        self.0.trace.lock().push(call.clone());
        let script = self.0.script.lock().clone();
        match script.map_or(Verdict::Pass, |s| s(&call, n)) {
            Verdict::Pass => effect.await,
            Verdict::Garble => {
                let mut reply = effect.await?;
                wrong(&mut reply);
                Ok(reply)
            }
            Verdict::Late(by) => {
                tokio::time::sleep(by).await;
                effect.await
            }
            Verdict::Fail => Err(Error::unavailable(format!(
                "injected: no effect at {call:?}"
            ))),
            Verdict::Deny => Err(Error::unavailable(format!(
                "injected: no effect at {call:?}, now or later"
            ))
            .with_retry(Retry::Never)),
            Verdict::Lost => Err(unknown("no reply")),
            Verdict::LoseReply => effect.await.and(Err(unknown("no reply"))),
            Verdict::Hold => {
                let mut released = self.0.released.subscribe();
                let turn = *released.borrow_and_update();
                self.0.held.send_modify(|n| *n += 1);
                let gone = released.wait_for(|now| *now > turn).await.is_err();
                self.0.held.send_modify(|n| *n -= 1);
                if gone || self.is_dead() {
                    return Err(unknown("the process has died"));
                }
                effect.await
            }
            Verdict::Die => {
                self.note_cut(&call, false);
                self.kill();
                Err(unknown("the process has died"))
            }
            Verdict::DieAfter => {
                self.note_cut(&call, true);
                let result = effect.await;
                self.kill();
                result.and(Err(unknown("the process has died")))
            }
        }
    }
}

/// What a commit is for, by the tables that it touches.
fn step_of(batch: &Batch) -> &'static str {
    let parts = |op: &Op| match op {
        Op::Put(table, key, _) => (*table, true, key.clone()),
        Op::Delete(table, key) => (*table, false, key.clone()),
    };
    let touched: Vec<(Table, bool, Bytes)> = batch.ops.iter().map(parts).collect();
    let some = |table, put| touched.iter().any(|(t, p, _)| (*t, *p) == (table, put));
    let state = |prefix: &[u8]| {
        let put = |(t, p, key): &(Table, bool, Bytes)| {
            *t == Table::State && *p && key.starts_with(prefix)
        };
        touched.iter().any(put)
    };
    let (puts, deletes) = (true, false);
    match () {
        () if some(Table::Segments, deletes) && state(b"partition/") => "split or merge",
        () if some(Table::Segments, deletes) => "compaction",
        () if some(Table::Segments, puts) && some(Table::Points, puts) => "cold write",
        () if some(Table::Segments, puts) => "demotion",
        () if state(b"format") => "identity",
        () if some(Table::Points, puts) || some(Table::Points, deletes) => "write",
        () if some(Table::Resident, puts) => "promotion",
        () if some(Table::Resident, deletes) => "release",
        () if some(Table::Intents, puts) => "intent",
        () if some(Table::Intents, deletes) => "intent's end",
        () if state(b"partition/") => "partitions",
        () => "flush",
    }
}

/// The last: the step whose syncs are none.
#[derive(Debug)]
struct PoweredMeta(StrictMeta, Power, Option<&'static str>);

#[async_trait]
impl MetaStore for PoweredMeta {
    async fn claim(&self) -> Result<Epoch> {
        self.1.run(Call::Meta("claim"), self.0.claim()).await
    }

    async fn get(&self, table: Table, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>> {
        self.1.run(Call::Meta("get"), self.0.get(table, keys)).await
    }

    async fn scan(
        &self,
        table: Table,
        range: KeyRange,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>> {
        self.1
            .run(Call::Meta("scan"), self.0.scan(table, range, limit))
            .await
    }

    async fn commit(&self, batch: Batch) -> Result<Seq> {
        *self.1.0.committed.lock() = step_of(&batch);
        self.1.run(Call::Meta("commit"), self.0.commit(batch)).await
    }

    async fn durable(&self, seq: Seq) -> Result<()> {
        let call = Call::Meta("durable");
        self.1.0.waits.lock().insert(self.1.step(&call));
        if self.2.is_some_and(|step| self.1.step(&call) == step) {
            return self.1.run(call, async { Ok(()) }).await;
        }
        self.1.run(call, self.0.durable(seq)).await
    }

    fn capability(&self) -> MetaCapability {
        self.0.capability()
    }

    async fn close(&self) -> Result<()> {
        self.1.run(Call::Meta("close"), self.0.close()).await
    }
}

/// One bit in the middle flipped.
fn garble(part: &Bytes) -> Bytes {
    let mut wrong = part.to_vec();
    if let Some(byte) = wrong.get_mut(part.len() / 2) {
        *byte ^= 1;
    }
    wrong.into()
}

#[derive(Debug)]
struct PoweredCold(StrictCold, Power);

#[async_trait]
impl ColdStore for PoweredCold {
    async fn put(&self, key: &BlobKey, data: Bytes) -> Result<()> {
        self.1
            .run(Call::Put(key.clone()), self.0.put(key, data))
            .await
    }

    async fn read(&self, key: &BlobKey, ranges: &[Range<u64>]) -> Result<Option<Vec<Bytes>>> {
        let wrong = |read: &mut Option<Vec<Bytes>>| {
            let parts = read.iter_mut().flatten();
            parts.for_each(|part| *part = garble(part));
        };
        let call = Call::Read(key.clone());
        self.1.run_or(call, self.0.read(key, ranges), wrong).await
    }

    async fn size(&self, key: &BlobKey) -> Result<Option<u64>> {
        self.1.run(Call::Size(key.clone()), self.0.size(key)).await
    }

    async fn delete(&self, key: &BlobKey) -> Result<()> {
        self.1
            .run(Call::Delete(key.clone()), self.0.delete(key))
            .await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<BlobInfo>> {
        self.1.run(Call::List, self.0.list(prefix)).await
    }
}

/// Puts something between a memory and its stores: a mistake that a test must catch.
pub type Wrap = fn(Arc<dyn MetaStore>, Arc<dyn ColdStore>) -> Stores;

/// How a memory is set up.
#[derive(Clone, Debug)]
pub struct Settings {
    pub dim: usize,
    pub metric: Metric,
    pub budget: &'static str,
    /// The hot index: `flat`, or the kit's `fake`.
    pub hot: &'static str,
    /// More lines of the tables of the same name.
    pub memory: &'static str,
    pub flux: &'static str,
    /// Time between two turns of the memory's own tasks; `0s` for none.
    pub tick: &'static str,
    pub search: &'static str,
    pub compaction: &'static str,
    pub limits: &'static str,
    pub insert_wait: &'static str,
    pub wrap: Option<Wrap>,
    /// A step, as [`World::cuts`] names it, whose syncs of the metadata are none.
    pub unsynced: Option<&'static str>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            dim: DIM,
            metric: Metric::L2,
            budget: "64MiB",
            hot: "flat",
            memory: "",
            flux: "",
            tick: "0s",
            search: "",
            compaction: "",
            limits: "",
            insert_wait: "200ms",
            wrap: None,
            unsynced: None,
        }
    }
}

/// The stores that survive, and the life that goes on on them.
#[derive(Debug)]
pub struct World {
    pub meta: StrictMeta,
    pub cold: StrictCold,
    pub clock: Arc<ManualClock>,
    pub power: Power,
    pub settings: Settings,
    /// The steps at which lives of this world were cut, and whether after their effect.
    pub cuts: Vec<(String, bool)>,
    /// The steps at which ended lives of this world waited for a sync.
    pub waits: BTreeSet<String>,
}

impl World {
    pub fn new(budget: &'static str) -> Self {
        Self::with(Settings {
            budget,
            ..Settings::default()
        })
    }

    pub fn with(settings: Settings) -> Self {
        Self {
            meta: StrictMeta::new(),
            cold: StrictCold::new(),
            clock: Arc::new(ManualClock::new()),
            power: Power::new(),
            settings,
            cuts: Vec::new(),
            waits: BTreeSet::new(),
        }
    }

    pub fn builder(&self) -> MemoryBuilder {
        self.builder_on(&self.power)
    }

    fn builder_on(&self, power: &Power) -> MemoryBuilder {
        let (meta, cold) = self.stores_on(power);
        MemoryBuilder::new(self.config(), registry())
            .clock(self.clock.clone())
            .meta_store(meta)
            .cold_store(cold)
    }

    /// Both stores as a memory of this life uses them.
    pub fn stores(&self) -> Stores {
        self.stores_on(&self.power)
    }

    fn stores_on(&self, power: &Power) -> Stores {
        let unsynced = self.settings.unsynced;
        let meta = PoweredMeta(self.meta.handle(), power.clone(), unsynced);
        let meta: Arc<dyn MetaStore> = Arc::new(meta);
        let cold: Arc<dyn ColdStore> = Arc::new(PoweredCold(self.cold.clone(), power.clone()));
        match self.settings.wrap {
            Some(wrap) => wrap(meta, cold),
            None => (meta, cold),
        }
    }

    fn config(&self) -> Config {
        let Settings {
            dim,
            metric,
            budget,
            hot,
            memory,
            flux,
            tick,
            search,
            compaction,
            limits,
            insert_wait,
            wrap: _,
            unsynced: _,
        } = &self.settings;
        let text = format!(
            "[memory]\ndim = {dim}\nmetric = \"{metric}\"\nhot_budget = \"{budget}\"\ninsert_wait = \"{insert_wait}\"\n{memory}\n\
             [flux]\ntick = \"{tick}\"\n{flux}\n[search]\npartition_rows = 16\n{search}\n[compaction]\n{compaction}\n[limits]\nbatch_bytes = \"4MiB\"\n{limits}\n\
             [hot]\nbackend = \"{hot}\"\n[meta]\nbackend = \"test\"\n[cold]\nbackend = \"test\"\n\
             [codec]\nbackend = \"plain\"\n[policy]\nbackend = \"lru\"\n",
        );
        Config::from_toml(&text).unwrap()
    }

    /// Another world, whose stores hold what a snapshot of this one holds, with a clock that stands where this one's does.
    pub async fn restored(&self, folder: &Path) -> Result<Self> {
        let (meta, cold) = (StrictMeta::new(), StrictCold::new());
        SHELF.set(Some((meta.clone(), cold.clone())));
        let own = tempfile::tempdir().unwrap();
        let mut config = self.config();
        config.memory.path = own.path().join("memory");
        config.meta.backend = "shelf".to_owned();
        config.cold.backend = "shelf".to_owned();
        Memory::restore(folder, config, registry()).await?;
        Ok(Self {
            meta,
            cold,
            clock: self.clock.clone(),
            power: Power::new(),
            settings: self.settings.clone(),
            cuts: Vec::new(),
            waits: BTreeSet::new(),
        })
    }

    /// Notes of moves under way that are stored now.
    pub fn intents(&self) -> Vec<Bytes> {
        let stored = self.meta.dump().into_iter();
        stored
            .filter(|(table, ..)| *table == Table::Intents)
            .map(|(_, key, _)| key)
            .collect()
    }

    pub async fn open(&self) -> Memory {
        self.builder().open().await.unwrap()
    }

    /// Ends this life as a power cut would, keeping the first `keep` commits that were not durable yet. A new life begins.
    pub fn crash(&mut self, keep: usize) {
        self.power.kill();
        self.cuts.extend(self.power.cut());
        self.waits.append(&mut self.power.waits());
        self.meta = self.meta.crash_keeping(keep);
        self.power = Power::new();
    }

    /// Another world with the same stores' contents as a power cut leaves them now, and the same clock.
    pub fn fork(&self, keep: usize) -> Self {
        let cold = StrictCold::new();
        for (key, bytes) in self.cold.blobs() {
            cold.tamper(&key, Some(bytes));
        }
        Self {
            meta: self.meta.crash_keeping(keep),
            cold,
            clock: self.clock.clone(),
            power: Power::new(),
            settings: self.settings.clone(),
            cuts: Vec::new(),
            waits: BTreeSet::new(),
        }
    }

    /// The blobs of segments, by name.
    pub fn segments(&self) -> Vec<(BlobKey, Bytes)> {
        let mut blobs = self.cold.blobs();
        blobs.retain(|(key, _)| key.as_str().starts_with("segments/"));
        blobs
    }

    /// Verifies what is stored, whoever lives.
    pub async fn check(&self) -> CheckReport {
        self.builder_on(&Power::new()).check().await.unwrap()
    }

    pub async fn check_clean(&self) {
        let report = self.check().await;
        assert!(report.is_clean(), "{report:#?}");
    }
}

impl aether_testkit::run::World for World {
    fn dim(&self) -> usize {
        self.settings.dim
    }

    fn metric(&self) -> Metric {
        self.settings.metric
    }

    fn now(&self) -> u64 {
        // The memory was created when this clock stood at zero.
        self.clock.monotonic_us()
    }

    fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    async fn open(&self) -> Result<Memory> {
        self.power.doing("open");
        self.builder().open().await
    }

    fn doing(&self, what: &str) {
        self.power.doing(what);
    }

    async fn check(&self) -> Result<CheckReport> {
        self.builder_on(&Power::new()).check().await
    }

    fn is_dead(&self) -> bool {
        self.power.is_dead()
    }

    fn die_at(&self, call: u64, after: bool) {
        self.power.die_at(call, after);
    }

    fn unscript(&self) {
        self.power.unscript();
    }

    fn crash(&mut self, keep: usize) {
        World::crash(self, keep);
    }
}

/// A run of a memory on the kit's strict stores.
pub type Run = aether_testkit::run::Run<World>;

pub fn vector(i: u64) -> Vec<f32> {
    let mut rng = fastrand::Rng::with_seed(i);
    (0..DIM).map(|_| rng.f32()).collect()
}

pub fn points(range: Range<u64>) -> Vec<Point> {
    range
        .map(|i| Point::new(i, vector(i)).with_payload(serde_json::json!({ "n": i })))
        .collect()
}

pub fn ids(range: Range<u64>) -> Vec<PointId> {
    range.map(PointId::Int).collect()
}

pub async fn complete(memory: &Memory, query: Vec<f32>, k: usize) -> Answer {
    memory
        .search(SearchRequest::new(query, k).mode(SearchMode::Complete))
        .await
        .unwrap()
}

pub fn exact(live: impl Iterator<Item = u64>, query: &[f32], k: usize) -> Vec<u64> {
    let mut all: Vec<(f32, u64)> = live
        .map(|i| (Metric::L2.distance(query, &vector(i)), i))
        .collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    all.into_iter().take(k).map(|(_, i)| i).collect()
}

pub fn found(answer: &Answer) -> Vec<u64> {
    let id = |id: &PointId| match id {
        PointId::Int(n) => *n,
        other => panic!("unexpected id {other}"),
    };
    answer.hits.iter().map(|h| id(&h.id)).collect()
}

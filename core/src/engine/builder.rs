//! Opens a memory: locks its folder, resolves what a crash left, rebuilds RAM from homes.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use bytes::Bytes;
use futures::StreamExt;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Mutex as AsyncMutex, mpsc};

use super::admission::Admission;
use super::aim::Aim;
use super::blocking::BlockingMemory;
use super::check::{self, CheckReport};
use super::cold::{BlockReader, ColdView, Segment};
use super::commit;
use super::desk::Desk;
use super::directory::{Directory, Entry, extra_bytes};
use super::estimate::Coders;
use super::explained::Mover;
use super::inner::{Gauge, Inner, Kills, Step, Why, Writer};
use super::lock::DirLock;
use super::lost::Lost;
use super::memory::Memory;
use super::moves::MoveLog;
use super::offload::offload;
use super::owner::{Owner, refuse_full};
use super::probing::Probing;
use super::query::Fetched;
use super::readers::Readers;
use super::record::{
    Counters, Expiry, Fresh, Home, Identity, Manifest, Stub, decode_clock, decode_dead_key,
    decode_intent, encode_clock, key,
};
use super::recorder::Recorder;
use super::remote::Remote;
use super::restore::RestoreQueue;
use super::shadow;
use super::snapshot::{self, SnapshotReport};
use super::stats::Counts;
use super::timeline::Timeline;
use super::turn::{BY_HAND, FluxState};
use super::working::{Room, on_their_way};
use crate::clock::{Clock, SystemClock, Time};
use crate::codec::{BlockCodec, Decoders};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::flux::{Reuse, Temperature};
use crate::id::{BlobKey, Row, SegmentId};
use crate::migrate::{Intent, IntentKind, Repair, plan_recovery};
use crate::partition::Partitions;
use crate::plugin::BuildContext;
use crate::registry::Registry;
use crate::role::{Batch, ColdStore, Event, KeyRange, MetaStore, SearchTally, Table, Tier};

/// File of the hot index's snapshot inside the memory's folder.
const HOT_SNAPSHOT: &str = "hot.snapshot";
/// Pairs read from the metadata store at a time.
const PAGE: usize = 2048;
/// Where blobs of segments live.
pub(super) const BLOB_PREFIX: &str = "segments/";

/// Assembles a [`Memory`] from settings and components.
#[derive(Debug)]
pub struct MemoryBuilder {
    config: Config,
    registry: Arc<Registry>,
    clock: Arc<dyn Clock>,
    cold: Option<Arc<dyn ColdStore>>,
    meta: Option<Arc<dyn MetaStore>>,
}

impl MemoryBuilder {
    /// A builder with the machine's clock.
    pub fn new(config: Config, registry: Arc<Registry>) -> Self {
        Self {
            config,
            registry,
            clock: Arc::new(SystemClock::new()),
            cold: None,
            meta: None,
        }
    }

    /// Takes time from elsewhere.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Uses this cold store in place of the configured one; for wrappers and tests.
    pub fn cold_store(mut self, store: Arc<dyn ColdStore>) -> Self {
        self.cold = Some(store);
        self
    }

    /// Uses this metadata store in place of the configured one; for wrappers and tests.
    pub fn meta_store(mut self, store: Arc<dyn MetaStore>) -> Self {
        self.meta = Some(store);
        self
    }

    /// Verifies what is stored, without opening the memory; as [`check`](super::check()), but on the stores given to this builder, where
    /// both were.
    ///
    /// # Errors
    /// As [`check`](super::check()).
    pub async fn check(self) -> Result<CheckReport> {
        let Self {
            config,
            registry,
            clock,
            cold,
            meta,
        } = self;
        let (Some(meta), Some(cold)) = (meta, cold) else {
            return check::check(&config, registry).await;
        };
        let (dim, metric, seed) = (config.memory.dim, config.memory.metric, config.memory.seed);
        let context = BuildContext {
            dim,
            metric,
            data_dir: None,
            clock,
            seed,
            read_only: true,
            hot_budget: None,
            registry: registry.clone(),
        };
        check::check_stores(&config, registry, context, &*meta, &*cold).await
    }

    /// Copies a snapshot into empty stores; as [`Memory::restore`], but into the stores given to this builder, where both were. The metadata store is
    /// closed afterwards.
    ///
    /// # Errors
    /// As [`Memory::restore`].
    pub async fn restore(self, folder: impl AsRef<Path>) -> Result<SnapshotReport> {
        match (self.meta, self.cold) {
            (Some(meta), Some(cold)) => {
                self.config.check_plugins(&self.registry)?;
                let drawn = (&self.config.memory, &*self.clock);
                snapshot::restore_and_close(folder.as_ref(), drawn, &*meta, &*cold).await
            }
            _ => snapshot::restore(folder.as_ref(), self.config, self.registry, self.clock).await,
        }
    }

    /// Opens the memory with a runtime of its own, for callers that are not async.
    ///
    /// # Errors
    /// As [`MemoryBuilder::open`]; `Internal` when no runtime can be started.
    pub fn open_blocking(self) -> Result<BlockingMemory> {
        BlockingMemory::start(self)
    }

    /// Opens the memory, creating it if its folder is empty, and recovers from a crash. Must be called inside a tokio runtime with
    /// time enabled; the memory's tasks run there.
    ///
    /// # Errors
    /// `Config` for wrong settings, settings that do not fit what is stored, or a cold store that is another memory's. `Locked` when another
    /// process holds the folder. `Corrupt` when metadata are damaged, or when a cold store without this memory's mark has none of its segments.
    /// `Unavailable` when a store does not answer. A segment that is missing or damaged is no error: searches name it, and
    /// [`Stats::lost_segments`](super::Stats) counts it.
    pub async fn open(self) -> Result<Memory> {
        let Parts { inner, receiver } = assemble(self).await?;
        inner.load().await?;
        Ok(Memory::start(inner, receiver))
    }
}

struct Parts {
    inner: Arc<Inner>,
    receiver: mpsc::Receiver<commit::Call>,
}

/// Builds codec and decoders.
pub(super) fn codecs(
    config: &Config,
    registry: &Arc<Registry>,
    context: &BuildContext,
) -> Result<(BlockCodec, Decoders)> {
    let first = registry.codec(&config.codec, context)?;
    let then = config
        .codec_then
        .as_ref()
        .map(|slot| registry.codec(slot, context))
        .transpose()?;
    Ok((
        BlockCodec::new(first, then)?,
        Decoders::new(registry.clone(), context.clone()),
    ))
}

/// Opens both stores on a blocking thread.
pub(super) async fn open_stores(
    config: &Config,
    registry: &Arc<Registry>,
    context: &BuildContext,
) -> Result<(Arc<dyn MetaStore>, Arc<dyn ColdStore>)> {
    let (config, registry, context) = (config.clone(), registry.clone(), context.clone());
    let opened = offload(move || {
        let meta = registry.meta(&config.meta, &context)?;
        let cold = registry.cold(&config.cold, &context)?;
        Ok::<_, Error>((meta, cold))
    });
    opened.await?
}

/// Whether anything of this memory outlives the process.
pub(super) fn keeps_files(config: &Config, registry: &Registry) -> Result<bool> {
    Ok(registry.persistent(&config.meta)? || registry.persistent(&config.cold)?)
}

async fn assemble(builder: MemoryBuilder) -> Result<Parts> {
    let MemoryBuilder {
        config,
        registry,
        clock,
        cold,
        meta,
    } = builder;
    config.validate()?;
    config.check_plugins(&registry)?;
    let own_stores = meta.is_some() && cold.is_some();
    let folder: Option<PathBuf> =
        (!own_stores && keeps_files(&config, &registry)?).then(|| config.memory.path.clone());
    let lock = folder.as_deref().map(DirLock::acquire).transpose()?;
    let mut context = BuildContext {
        dim: config.memory.dim,
        metric: config.memory.metric,
        data_dir: folder,
        clock: clock.clone(),
        seed: config.memory.seed,
        read_only: false,
        hot_budget: Some(config.hot_bound()),
        registry: registry.clone(),
    };
    let (meta, cold) = match (meta, cold) {
        (Some(meta), Some(cold)) => (meta, cold),
        (meta, cold) => {
            let (own_meta, own_cold) = open_stores(&config, &registry, &context).await?;
            (meta.unwrap_or(own_meta), cold.unwrap_or(own_cold))
        }
    };
    let epoch = meta.claim().await?;
    let capability = meta.capability();
    let largest = config.limits.batch_bytes.0.saturating_mul(2) as usize;
    if largest > capability.batch_bytes_max {
        return Err(Error::config(format!(
            "limits.batch_bytes {} is too large for metadata store {:?}, whose largest batch is {} bytes: lower it to half of that",
            config.limits.batch_bytes, config.meta.backend, capability.batch_bytes_max
        )));
    }
    let (identity, new) = identity(&config, &*meta).await?;
    let wall_us = clock.wall_us();
    (context.dim, context.metric) = (identity.dim, identity.metric);
    let saved_clock = state(&*meta, key::CLOCK)
        .await?
        .map(|v| decode_clock(&v))
        .transpose()?;
    let jump = u64::try_from(config.memory.clock_jump_max.0.as_micros()).unwrap_or(u64::MAX);
    let timeline = Timeline::resume(clock, saved_clock, jump);
    let counters = state(&*meta, key::COUNTERS)
        .await?
        .map(|v| Counters::decode(&v))
        .transpose()?;
    let counters = counters.unwrap_or_default();

    let hot = registry.hot(&config.hot, &context)?;
    let dim_max = hot.capability().dim_max;
    if identity.dim > dim_max {
        return Err(Error::config(format!(
            "hot index {:?} takes up to {dim_max} dimensions, the memory has {}",
            config.hot.backend, identity.dim
        )));
    }
    let coders = Coders::new(identity.dim, identity.metric);
    let (codec, decoders) = codecs(&config, &registry, &context)?;
    let policy = registry.policy(&config.policy, &context)?;
    let recorder = Recorder::open(&config.record)?;
    let objective = config.objective()?;
    let shadows = shadow::build(&config, &registry, &context, identity.dim)?;
    let counts = Arc::new(Counts::default());
    let (cold, remote) = Remote::open(cold, &*meta, &config.remote, config.memory.seed).await?;
    // Only when everything is built: a refused configuration leaves no memory behind.
    if new {
        refuse_full(&*cold, &HashSet::new()).await?;
        let own = Owner::draw(&config.memory, epoch, timeline.clock());
        write_identity(&identity, own, &*meta, epoch, wall_us).await?;
    }
    let payload_max = config.limits.payload_bytes.0.max(1 << 24);
    let blocks = BlockReader::new(
        cold,
        decoders,
        payload_max,
        config.search.cache.0,
        config.codes.ram.0,
        counts.clone(),
    );
    let (calls, receiver) = mpsc::channel(config.limits.write_queue);
    let places = match config.search.concurrent {
        0 => 4 * std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        n => n,
    };
    let flux = &config.flux;
    let temperature = Temperature::new(flux);
    let gauge = Gauge {
        temperature: temperature.value(),
        wanted: None,
        midpoint: None,
    };
    let seed = config.memory.seed ^ epoch.0.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let flux_state = FluxState {
        temperature,
        rng: fastrand::Rng::with_seed(seed ^ 1),
        flushed: timeline.now(),
        flushes_until_policy: 1,
        drifting: BTreeMap::new(),
        midpoint: None,
    };
    let no_partitions = Arc::new(Partitions::new(identity.dim, identity.metric));
    let inner = Arc::new(Inner {
        dim: identity.dim,
        metric: identity.metric,
        hot,
        meta_capability: capability,
        meta,
        codec,
        blocks,
        codes_room: Room::new(on_their_way(&config)),
        parts_room: Room::new(on_their_way(&config)),
        coders,
        deviations: aether_codes::deviations(config.codes.confidence),
        probing: Probing::default(),
        readers: Readers::default(),
        // The last number that was given out, not the next one: that is the mark of the next write, which a search of now must not see.
        visible: AtomicU64::new(counters.next_row.saturating_sub(1)),
        directory: RwLock::new(Directory::default()),
        kills: RwLock::new(Kills::default()),
        cold: RwLock::new(Arc::new(ColdView::new(no_partitions))),
        desk: Desk::new(
            policy,
            shadows,
            objective.map(|_| Reuse::default()),
            flux.event_queue,
            counts.clone(),
        ),
        recorder,
        pins: RwLock::default(),
        restore: Mutex::new(RestoreQueue::new(
            flux.restore_queue,
            flux.restore_tries,
            flux.restore_backoff.0,
        )),
        renewals: Mutex::default(),
        moves: Mutex::new(MoveLog::default()),
        writer: AsyncMutex::new(Writer {
            epoch,
            counters,
            rng: fastrand::Rng::with_seed(seed),
        }),
        flux: AsyncMutex::new(flux_state),
        compaction: AsyncMutex::default(),
        expiring: AsyncMutex::default(),
        garbage: Mutex::default(),
        gauge: Mutex::new(gauge),
        admission: Admission::new(places, config.search.queue),
        counts,
        points: AtomicU64::new(counters.points),
        poisoned: RwLock::new(None),
        closed: AtomicBool::new(false),
        calls,
        hot_search_us: AtomicU64::new(0),
        hot_work: SearchTally::default(),
        reaping: Mutex::new(()),
        lock: Mutex::new(lock),
        remote,
        aim: Aim::new(objective, config.hot_bound()),
        timeline,
        registry,
        config,
    });
    Ok(Parts { inner, receiver })
}

/// One value of the state table.
pub(super) async fn state(meta: &dyn MetaStore, name: &'static [u8]) -> Result<Option<Bytes>> {
    let values = meta.get(Table::State, &[Bytes::from_static(name)]).await?;
    Ok(values.into_iter().next().flatten())
}

/// What the memory is, or will be by the configuration; and whether it is new.
async fn identity(config: &Config, meta: &dyn MetaStore) -> Result<(Identity, bool)> {
    let wanted = &config.memory;
    if let Some(value) = state(meta, key::FORMAT).await? {
        let stored = Identity::decode(&value)?;
        if wanted.dim != 0 && wanted.dim != stored.dim {
            return Err(Error::config(format!(
                "memory.dim: the memory in {} has {} dimensions, the configuration says {}",
                wanted.path.display(),
                stored.dim,
                wanted.dim
            )));
        }
        if wanted.metric != stored.metric {
            return Err(Error::config(format!(
                "memory.metric: the memory in {} was made for {}, the configuration says {}",
                wanted.path.display(),
                stored.metric,
                wanted.metric
            )));
        }
        return Ok((stored, false));
    }
    if is_partial(meta).await? {
        return Err(Error::config(format!(
            "memory.path: {} holds part of a memory: it was being restored from a snapshot, and that was cut short. Restore it again, or \
             choose an empty folder",
            wanted.path.display()
        )));
    }
    if wanted.dim == 0 {
        return Err(Error::config(
            "memory.dim: a new memory needs the dimension of its vectors, such as dim = 384 under [memory]",
        ));
    }
    let identity = Identity {
        dim: wanted.dim,
        metric: wanted.metric,
        created: 0,
    };
    Ok((identity, true))
}

/// Whether a store without the identity of a memory holds anything: a restore writes everything else before that.
pub(super) async fn is_partial(meta: &dyn MetaStore) -> Result<bool> {
    for table in Table::ALL {
        if !meta.scan(table, KeyRange::all(), 1).await?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Makes a new memory what it will be for ever.
async fn write_identity(
    identity: &Identity,
    own: Owner,
    meta: &dyn MetaStore,
    epoch: crate::role::Epoch,
    wall_us: u64,
) -> Result<()> {
    let mut batch = Batch::new(epoch);
    batch.require(Table::State, Bytes::from_static(key::FORMAT), None);
    batch.put(
        Table::State,
        Bytes::from_static(key::FORMAT),
        identity.encode(),
    );
    // The time line begins here. Without this note a crash before the first flush would begin it anew: time would run backwards,
    // and times to live would be longer than they were said to be.
    batch.put(
        Table::State,
        Bytes::from_static(key::CLOCK),
        encode_clock(0, wall_us),
    );
    own.put(&mut batch);
    let seq = meta.commit(batch).await?;
    meta.durable(seq).await
}

/// Every pair of a table, page by page. No closure takes them, since a future that lends to an async closure cannot be spawned.
pub(super) struct Pages<'a> {
    meta: &'a dyn MetaStore,
    table: Table,
    rest: Option<KeyRange>,
}

impl<'a> Pages<'a> {
    pub(super) fn of(meta: &'a dyn MetaStore, table: Table) -> Self {
        Self::within(meta, table, KeyRange::all())
    }

    pub(super) fn within(meta: &'a dyn MetaStore, table: Table, range: KeyRange) -> Self {
        Self {
            meta,
            table,
            rest: Some(range),
        }
    }

    /// The next page, which is never empty.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<(Bytes, Bytes)>>> {
        let Some(range) = self.rest.take() else {
            return Ok(None);
        };
        let end = range.end.clone();
        let page = self.meta.scan(self.table, range, PAGE).await?;
        let Some((last, _)) = page.last() else {
            return Ok(None);
        };
        if page.len() == PAGE {
            let start = std::ops::Bound::Excluded(last.clone());
            self.rest = Some(KeyRange { start, end });
        }
        Ok(Some(page))
    }
}

/// Every pair of a small table.
pub(super) async fn collect(meta: &dyn MetaStore, table: Table) -> Result<Vec<(Bytes, Bytes)>> {
    let mut all = Vec::new();
    let mut pages = Pages::of(meta, table);
    while let Some(page) = pages.next().await? {
        all.extend(page);
    }
    Ok(all)
}

/// The manifest.
pub(super) async fn manifest(meta: &dyn MetaStore) -> Result<Vec<(SegmentId, Manifest)>> {
    let entries = collect(meta, Table::Segments).await?;
    let decode =
        |(k, v): (Bytes, Bytes)| Ok((SegmentId(Row::decode(&k)?.0), Manifest::decode(&v)?));
    entries.into_iter().map(decode).collect()
}

impl Inner {
    /// Everything between stores and a running memory.
    async fn load(self: &Arc<Self>) -> Result<()> {
        let manifest = manifest(&*self.meta).await?;
        self.claim_store(&manifest).await?;
        self.recover(&manifest).await?;
        self.load_cold(&manifest).await?;
        // The policy's books count against the budget, so they come before the rows.
        self.load_books().await?;
        let mut pinned = self.pinned_rows().await?;
        self.load_hot(&mut pinned).await?;
        // Before any shadow hears of a row: it makes room by the size of its tier.
        self.resize_shadows(self.fill());
        self.introduce();
        self.load_pins().await
    }

    /// Sends rows cold that found no room at open. They must be found before anyone can ask, pinned or not: so this happens before the
    /// pins are known, for a demotion passes over pinned rows.
    async fn send_cold(self: &Arc<Self>, overflow: &mut Vec<Row>) -> Result<()> {
        if overflow.is_empty() {
            return Ok(());
        }
        let why = Why {
            by: Mover::NoRoom,
            midpoint: None,
        };
        let step = |row| Step::unasked(row, "the budget was too small at open");
        let steps: Vec<Step> = overflow.drain(..).map(step).collect();
        self.demote(&steps, &why).await?;
        self.reap_off_worker().await;
        Ok(())
    }

    /// Resolves every intent of an unfinished migration, deletes blobs that nothing names, and takes up the notes of garbage.
    async fn recover(&self, manifest: &[(SegmentId, Manifest)]) -> Result<()> {
        let mut intents: Vec<Intent> = Vec::new();
        let mut patient: HashSet<BlobKey> = HashSet::new();
        let committed: HashSet<&BlobKey> = manifest.iter().map(|(_, m)| &m.blob).collect();
        for (k, v) in collect(&*self.meta, Table::Intents).await? {
            let (intent, since) = decode_intent(&k, &v)?;
            // The running memory sweeps what is noted, when the grace is over in which a put whose reply was lost may still arrive: a remote
            // store takes its time, and the first answer need not wait for it.
            if intent.kind == IntentKind::Garbage && !committed.contains(&intent.blob) {
                let (number, segment) = (intent.number, intent.segment);
                let blob = intent.blob.clone();
                let mut garbage = self.garbage.lock();
                garbage.note(number, Time(since), segment, blob, false);
                patient.insert(intent.blob);
                continue;
            }
            intents.push(intent);
        }
        let named: Vec<(SegmentId, BlobKey)> =
            manifest.iter().map(|(s, m)| (*s, m.blob.clone())).collect();
        let store = self.blocks.store();
        let listed = store.list(BLOB_PREFIX).await?;
        let present: Vec<BlobKey> = listed
            .into_iter()
            .map(|b| b.key)
            .filter(|k| !patient.contains(k))
            .collect();
        let (mut needless, mut done) = (Vec::new(), Vec::new());
        for repair in plan_recovery(&intents, &named, &present) {
            match repair {
                Repair::DeleteBlob(blob) => {
                    tracing::info!(%blob, "recovery deletes a blob that nothing names");
                    needless.push(blob);
                }
                Repair::DeleteIntent(number) => done.push(number),
                // Its segment is opened by name, and noted as lost if the blob is not there.
                Repair::Missing(..) => {}
            }
        }
        // Blobs before their intents, so that a crash in between repeats harmlessly.
        for deleted in self.delete_blobs(needless).await {
            deleted?;
        }
        if !done.is_empty() {
            let writer = self.writer.lock().await;
            let mut batch = Batch::new(writer.epoch);
            done.iter()
                .for_each(|n| batch.delete(Table::Intents, n.to_be_bytes().to_vec()));
            self.commit_durably(&writer, batch).await?;
            tracing::info!(
                intents = done.len(),
                "recovery rolled back unfinished migrations"
            );
        }
        Ok(())
    }

    /// Reads partitions, footers and dead rows.
    async fn load_cold(&self, manifest: &[(SegmentId, Manifest)]) -> Result<()> {
        let index = Arc::new(self.load_partitions().await?);
        // Gathered first: a future that holds an iterator which lends to a closure cannot be spawned.
        let mut reads = Vec::with_capacity(manifest.len());
        for (id, m) in manifest {
            reads.push(self.open_surely(*id, m, &index));
        }
        let mut footers = futures::stream::iter(reads).buffered(self.config.search.reads.max(8));
        let mut segments: BTreeMap<SegmentId, Segment> = BTreeMap::new();
        let mut view = ColdView::new(index.clone());
        for (id, m) in manifest {
            match footers.next().await {
                Some(Ok(segment)) => drop(segments.insert(*id, segment)),
                Some(Err(error)) if error.is_corrupt() => {
                    view = view.with_lost(Lost::new(*id, m.clone(), error));
                }
                Some(Err(error)) => return Err(error),
                None => return Err(Error::internal("a segment of the manifest was not opened")),
            }
        }
        drop(footers);
        let mut pages = Pages::of(&*self.meta, Table::Dead);
        while let Some(page) = pages.next().await? {
            for (k, _) in page {
                let (segment, ordinal) = decode_dead_key(&k)?;
                if let Some(segment) = segments.get(&segment) {
                    segment.mark_dead(ordinal);
                } else if let Some(lost) = view.lost.get(&segment) {
                    lost.mark_dead(ordinal);
                }
            }
        }
        let segments = segments.into_values().map(Arc::new);
        *self.cold.write() = Arc::new(view.with_segments(segments));
        Ok(())
    }

    /// Fills the hot index from its snapshot where that is whole, and from the rows' homes. What does not fit goes cold page by page, so
    /// that the directory never holds more than a page beyond the budget.
    async fn load_hot(self: &Arc<Self>, pinned: &mut HashSet<Row>) -> Result<()> {
        self.load_snapshot().await;
        let mut wanted: HashSet<Row> = HashSet::new();
        let mut overflow = Vec::new();
        let mut pages = Pages::of(&*self.meta, Table::Fresh);
        while let Some(page) = pages.next().await? {
            let (mut rows, mut vectors, mut entries) = (Vec::new(), Vec::new(), Vec::new());
            let mut mortal = Vec::new();
            for (k, v) in page {
                let row = Row::decode(&k)?;
                let fresh = Fresh::decode(&v, self.dim)?;
                if fresh.ttl {
                    mortal.push(row);
                }
                entries.push(Entry::new(
                    fresh.id,
                    row,
                    Home::Fresh,
                    fresh.payload.is_some(),
                ));
                rows.push(row);
                vectors.push(fresh.vector);
            }
            self.admit_at_open(&rows, &vectors, entries, mortal, pinned, &mut overflow)
                .await?;
            wanted.extend(rows);
            self.send_cold(&mut overflow).await?;
        }
        let mut dropped = Vec::new();
        let mut pages = Pages::of(&*self.meta, Table::Resident);
        while let Some(page) = pages.next().await? {
            let rows: Result<Vec<Row>> = page.iter().map(|(k, _)| Row::decode(k)).collect();
            for chunk in rows?.chunks(256) {
                let (fetched, mut known) = self.fetch_readable(chunk).await?;
                known.extend(fetched.iter().map(|f| f.0));
                dropped.extend(chunk.iter().filter(|r| !known.contains(r)));
                let (mut rows, mut vectors, mut entries) = (Vec::new(), Vec::new(), Vec::new());
                let mut mortal = Vec::new();
                for (row, stub, vector, _) in fetched {
                    let Stub {
                        id,
                        segment,
                        ordinal,
                        ttl,
                        payload,
                    } = stub;
                    if ttl {
                        mortal.push(row);
                    }
                    entries.push(Entry::new(
                        id,
                        row,
                        Home::Segment(segment, ordinal),
                        payload,
                    ));
                    rows.push(row);
                    vectors.push(vector);
                }
                let mut left_out = Vec::new();
                self.admit_at_open(&rows, &vectors, entries, mortal, pinned, &mut left_out)
                    .await?;
                wanted.extend(rows.iter().filter(|r| !left_out.contains(r)));
                // Their segment holds them, so leaving RAM costs nothing.
                for row in left_out {
                    self.directory.write().remove(row);
                    dropped.push(row);
                }
            }
        }
        for row in self.hot.rows() {
            if !wanted.contains(&row) {
                self.hot.remove(row)?;
            }
        }
        if !dropped.is_empty() {
            let writer = self.writer.lock().await;
            let mut batch = Batch::new(writer.epoch);
            dropped
                .iter()
                .for_each(|r| batch.delete(Table::Resident, r.key().to_vec()));
            self.commit_durably(&writer, batch).await?;
        }
        Ok(())
    }

    /// As [`Inner::fetch_cold`], but for rows whose home is damaged or missing, which are answered apart: they stay cold for now, where whoever
    /// asks for them is told, and are resident again when the memory opens with their home.
    async fn fetch_readable(
        self: &Arc<Self>,
        rows: &[Row],
    ) -> Result<(Vec<Fetched>, HashSet<Row>)> {
        let mut unreadable = self.lost_among(rows).await?;
        let rest = rows.iter().filter(|r| !unreadable.contains(*r));
        let rest: Vec<Row> = rest.copied().collect();
        let (mut fetched, mut todo) = (Vec::new(), vec![&rest[..]]);
        while let Some(some) = todo.pop() {
            match self.fetch_cold(some).await {
                Ok(more) => fetched.extend(more),
                Err(error) if error.is_corrupt() && some.len() > 1 => {
                    let (first, second) = some.split_at(some.len() / 2);
                    todo.extend([second, first]);
                }
                Err(error) if error.is_corrupt() => {
                    tracing::error!(%error, "a resident row cannot be read from its home");
                    unreadable.extend(some);
                }
                Err(error) => return Err(error),
            }
        }
        Ok((fetched, unreadable))
    }

    /// Takes rows into directory and index, as far as the budget goes; the others only into the directory.
    async fn admit_at_open(
        self: &Arc<Self>,
        rows: &[Row],
        vectors: &[Vec<f32>],
        entries: Vec<Entry>,
        mortal: Vec<Row>,
        pinned: &mut HashSet<Row>,
        overflow: &mut Vec<Row>,
    ) -> Result<()> {
        let expiries = self.expiries(&mortal).await?;
        // A renewal that was not written down before a crash must not cost a point: renewing ones get one flush interval more.
        let grace = u64::try_from(self.config.memory.flush_every.0.as_micros()).unwrap_or(u64::MAX);
        let (mut missing, mut data) = (Vec::new(), Vec::new());
        let extra = entries
            .iter()
            .map(|e| extra_bytes(&e.id, expiries.contains_key(&e.row)))
            .sum();
        let mut fits = self.fill_beside(extra).free as usize;
        for ((row, vector), entry) in rows.iter().zip(vectors).zip(entries) {
            // Pinned rows come first: the others leave room for those still to come.
            let kept_free = if pinned.remove(row) { 0 } else { pinned.len() };
            if self.hot.contains(*row) {
                // From the snapshot: its place is counted already.
            } else if fits > kept_free {
                fits -= 1;
                missing.push(*row);
                data.extend_from_slice(vector);
            } else {
                overflow.push(*row);
            }
            let mut directory = self.directory.write();
            directory.insert(entry);
            if let Some(e) = expiries.get(row) {
                let at = if e.renew {
                    e.at.saturating_add(grace)
                } else {
                    e.at
                };
                directory.set_expiry(*row, Expiry { at, ..*e });
            }
        }
        self.insert_hot(missing, data).await
    }

    /// The rows of pinned points.
    async fn pinned_rows(&self) -> Result<HashSet<Row>> {
        let mut rows = HashSet::new();
        let mut range = KeyRange::prefix(key::PIN);
        loop {
            let page = self.meta.scan(Table::State, range.clone(), PAGE).await?;
            let Some((last, _)) = page.last() else {
                return Ok(rows);
            };
            range.start = std::ops::Bound::Excluded(last.clone());
            let ids: Vec<Bytes> = page
                .iter()
                .map(|(k, _)| k.slice(key::PIN.len()..))
                .collect();
            for value in self
                .get_chunked(Table::Points, &ids)
                .await?
                .into_iter()
                .flatten()
            {
                rows.insert(Row::decode(&value)?);
            }
        }
    }

    async fn load_pins(&self) -> Result<()> {
        let pinned = self.pinned_rows().await?;
        self.pins.write().extend(pinned);
        let pinned = |row| Event::Pinned { row, pinned: true };
        let pins = self.queue_pinned();
        self.desk.tell(pins.into_iter().map(pinned), self.now());
        Ok(())
    }

    /// Lets pinned rows that are cold (there was no room at open, or no home to read them from) wait for room. Answers all pinned rows, in an order
    /// that does not change from run to run.
    pub(super) fn queue_pinned(&self) -> Vec<Row> {
        let mut pins: Vec<Row> = self.pins.read().iter().copied().collect();
        pins.sort_unstable();
        let directory = self.directory.read();
        let mut restore = self.restore.lock();
        for row in pins.iter().filter(|r| directory.row(**r).is_none()) {
            if !restore.push(*row, f64::INFINITY, BY_HAND) {
                self.counts
                    .restores_dropped
                    .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
        }
        drop((restore, directory));
        pins
    }

    /// Gives the policy its books back.
    async fn load_books(&self) -> Result<()> {
        self.load_shadows().await?;
        self.load_aim().await?;
        self.load_probing().await?;
        self.load_moves().await?;
        let Some(books) = self.saved_books().await? else {
            return Ok(());
        };
        if let Err(error) = self.desk.with(|policy| policy.load(&books)) {
            tracing::warn!(%error, "the policy begins with empty books");
        }
        Ok(())
    }

    /// Takes up the newest moves of the last run and the midpoint of its last turn, which `explain` tells.
    async fn load_moves(&self) -> Result<()> {
        let Some(saved) = state(&*self.meta, key::MOVES).await? else {
            return Ok(());
        };
        let loaded = self.moves.lock().load(&saved);
        match loaded {
            Ok(midpoint) => {
                self.flux.lock().await.midpoint = midpoint;
                self.gauge.lock().midpoint = midpoint;
            }
            Err(error) => tracing::warn!(%error, "former moves are not told"),
        }
        Ok(())
    }

    /// Tells the policy of hot rows that its books do not know.
    fn introduce(&self) {
        let now = self.now();
        let context = self.context(self.fill());
        let items: Vec<Row> = self.directory.read().settled().map(|e| e.row).collect();
        let unknown: Vec<Row> = self.desk.with(|policy| {
            let known = !policy.is_empty();
            items
                .into_iter()
                .filter(|r| !known || !policy.explain(*r, &context).known)
                .collect()
        });
        let events: Vec<Event> = unknown
            .into_iter()
            .map(|row| Event::Inserted {
                item: self.item(row),
                tier: Tier::Hot,
            })
            .collect();
        self.desk.tell(events, now);
    }

    fn snapshot_path(&self) -> Option<PathBuf> {
        self.lock.lock().as_ref()?;
        Some(self.config.memory.path.join(HOT_SNAPSHOT))
    }

    /// Loads the hot index's snapshot; a missing or damaged one only costs time.
    async fn load_snapshot(self: &Arc<Self>) {
        let Some(path) = self.snapshot_path() else {
            return;
        };
        if !self.hot.capability().snapshot {
            return;
        }
        let inner = self.clone();
        let loaded = offload(move || inner.load_snapshot_from(&path));
        match loaded.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) | Err(error) => {
                tracing::warn!(%error, "the hot snapshot cannot be used; the index is rebuilt from its rows' homes");
            }
        }
    }

    fn load_snapshot_from(&self, path: &Path) -> Result<()> {
        let failed =
            |e: std::io::Error| Error::unavailable(format!("{}", path.display())).with_source(e);
        let file = match std::fs::File::open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(failed(e)),
        };
        self.hot
            .load(&mut std::io::BufReader::with_capacity(1 << 20, file))?;
        // A snapshot that does not fit the budget, with what its rows take elsewhere, would break it before anything could be demoted.
        let rows = self.hot.len();
        let books = self.desk.with(|policy| {
            policy
                .bytes()
                .max(policy.bytes_after(rows.saturating_sub(policy.len())))
        });
        let beside = self.directory.read().bytes_after(rows) + books;
        if self.hot.bytes() + beside > self.config.hot_bound() {
            for row in self.hot.rows() {
                self.hot.remove(row)?;
            }
            self.hot.compact()?;
        }
        Ok(())
    }

    /// Writes the hot index's snapshot: temporary file, sync, rename.
    pub(super) fn save_snapshot(&self) -> Result<()> {
        let Some(path) = self.snapshot_path() else {
            return Ok(());
        };
        if !self.hot.capability().snapshot {
            return Ok(());
        }
        let temporary = path.with_extension("snapshot.new");
        let failed = |e: std::io::Error| {
            Error::unavailable(format!("cannot write the hot snapshot {}", path.display()))
                .with_source(e)
        };
        let file = std::fs::File::create(&temporary).map_err(failed)?;
        let mut out = std::io::BufWriter::with_capacity(1 << 20, file);
        self.hot.save(&mut out)?;
        let file = out.into_inner().map_err(|e| failed(e.into_error()))?;
        file.sync_all().map_err(failed)?;
        std::fs::rename(&temporary, &path).map_err(failed)
    }
}

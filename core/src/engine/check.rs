//! Verifies everything that is stored, and writes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;

use super::builder::{
    BLOB_PREFIX, Pages, codecs, collect, is_partial, keeps_files, manifest, open_stores, state,
};
use super::inner::Inner;
use super::lock::DirLock;
use super::owner::{Owner, refuse_marked};
use super::partitions::stored;
use super::record::{
    Counters, Expiry, Fresh, Identity, Manifest, Stub, decode_dead_key, decode_intent, key,
};
use crate::clock::SystemClock;
use crate::codec::Decoders;
use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{PointId, Row, SegmentId};
use crate::migrate::IntentKind;
use crate::partition::Partitions;
use crate::plugin::BuildContext;
use crate::registry::Registry;
use crate::role::{ColdStore, KeyRange, MetaStore, Table};
use crate::segment::{
    Centroids, CodePage, check_frame, parse_group, parse_keys, parse_payloads, parse_rows,
};

/// Problems listed before the rest is only counted.
const PROBLEMS_LISTED: usize = 1_000;

/// Something wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// What it is about, as `segment 7` or `point 12`.
    pub what: String,
    /// What is wrong with it.
    pub detail: String,
}

/// What a check verified, and what it found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// Points whose row and home were verified.
    pub points: u64,
    /// Rows whose home is the metadata store.
    pub fresh_rows: u64,
    /// Rows whose home is a segment.
    pub cold_rows: u64,
    /// Cold rows that are noted as resident in RAM.
    pub resident_rows: u64,
    /// Rows in segments that are noted as dead.
    pub dead_rows: u64,
    /// Segments read.
    pub segments: u64,
    /// Blocks decoded.
    pub blocks: u64,
    /// Bytes of segments whose checksums were verified.
    pub bytes: u64,
    /// Partitions of the cold tier's index.
    pub partitions: u64,
    /// Live rows of the smallest partition that has any.
    pub partition_rows_least: u64,
    /// Live rows of the largest partition.
    pub partition_rows_most: u64,
    /// Live rows that do not lie in their nearest partition: found less easily, but found. A split looks for rows to move beside it only, and a
    /// lossy codec may shift a vector over a border, so some are normal.
    pub off_partition: u64,
    /// Blobs that nothing names; the next open removes them.
    pub orphans: u64,
    /// Migrations that a crash left unfinished; the next open resolves them.
    pub intents: u64,
    /// Blobs of lost puts and of compacted segments that wait for their sweep.
    pub garbage: u64,
    /// What is wrong; at most a thousand are listed.
    pub problems: Vec<Problem>,
    /// Problems in all.
    pub problem_count: u64,
}

impl CheckReport {
    /// Whether nothing is wrong. What a crash leaves and the next open resolves is not wrong.
    pub fn is_clean(&self) -> bool {
        self.problem_count == 0
    }

    fn problem(&mut self, what: impl ToString, detail: impl ToString) {
        self.problem_count += 1;
        if self.problems.len() < PROBLEMS_LISTED {
            self.problems.push(Problem {
                what: what.to_string(),
                detail: detail.to_string(),
            });
        }
    }

    /// Notes an error as a problem.
    fn value<T>(&mut self, what: impl ToString, result: Result<T>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.problem(what, error);
                None
            }
        }
    }
}

/// Verifies every checksum, every home, every manifest entry, the partition index, orphans and intents of a memory that no process
/// has open. Writes nothing, not even a lock.
///
/// # Errors
/// `Locked` when a process has it open. `InvalidInput` when there is none. `Config`, `Unsupported` or `Unavailable` when it cannot be
/// opened for reading. What is wrong with the data itself is no error: it stands in the report.
pub async fn check(config: &Config, registry: Arc<Registry>) -> Result<CheckReport> {
    config.check_plugins(&registry)?;
    if !keeps_files(config, &registry)? {
        return Err(Error::invalid_input(
            "check: both stores of the configuration forget everything when the process ends: there is nothing to check",
        ));
    }
    let folder = config.memory.path.clone();
    if !folder.is_dir() {
        return Err(Error::invalid_input(format!(
            "check: there is no memory in {}",
            folder.display()
        )));
    }
    let _lock = DirLock::acquire_read_only(&folder)?;
    let context = BuildContext {
        dim: config.memory.dim,
        metric: config.memory.metric,
        data_dir: Some(folder),
        clock: Arc::new(SystemClock::new()),
        seed: config.memory.seed,
        read_only: true,
        hot_budget: None,
        registry: registry.clone(),
    };
    let (meta, cold) = open_stores(config, &registry, &context).await?;
    let report = check_stores(config, registry, context, &*meta, &*cold).await;
    meta.close().await?;
    report
}

/// Verifies what two stores hold together.
pub(super) async fn check_stores(
    config: &Config,
    registry: Arc<Registry>,
    mut context: BuildContext,
    meta: &dyn MetaStore,
    cold: &dyn ColdStore,
) -> Result<CheckReport> {
    let mut report = CheckReport::default();
    let Some(format) = state(meta, key::FORMAT).await? else {
        return Err(Error::invalid_input(match is_partial(meta).await? {
            true => {
                "check: the metadata store holds part of a memory, whose restoring was cut short: restore it again"
            }
            false => "check: the metadata store holds no memory yet",
        }));
    };
    let Identity { dim, metric, .. } = Identity::decode(&format)?;
    (context.dim, context.metric) = (dim, metric);
    let (_, decoders) = codecs(config, &registry, &context)?;
    let found = stored(meta, dim, metric).await.map(|(index, _)| index);
    let none = Partitions::new(dim, metric);
    let index = report.value("partition index", found).unwrap_or(none);
    report.partitions = index.len() as u64;

    let mut checker = Checker {
        dim,
        payload_max: config.limits.payload_bytes.0.max(1 << 24),
        decoders,
        index,
        report,
        rows: BTreeMap::new(),
        dead: BTreeSet::new(),
        expected_cold: BTreeMap::new(),
        sizes: BTreeMap::new(),
    };
    checker.check_owner(meta, cold).await?;
    checker.read_tables(meta).await?;
    checker.read_segments(meta, cold).await?;
    let sizes = || checker.sizes.values().copied();
    let (least, most) = (sizes().min().unwrap_or(0), sizes().max().unwrap_or(0));
    (
        checker.report.partition_rows_least,
        checker.report.partition_rows_most,
    ) = (least, most);
    checker.compare_homes();
    checker.check_points(meta).await?;
    checker.check_resident(meta).await?;
    checker.check_state(meta).await?;
    Ok(checker.report)
}

/// Where a row is said to be.
#[derive(Clone, Debug)]
struct Place {
    id: PointId,
    cold: bool,
    ttl: bool,
}

struct Checker {
    dim: usize,
    payload_max: u64,
    decoders: Decoders,
    index: Partitions,
    report: CheckReport,
    rows: BTreeMap<Row, Place>,
    dead: BTreeSet<(SegmentId, u32)>,
    /// What segments should hold, by place.
    expected_cold: BTreeMap<(SegmentId, u32), (Row, PointId)>,
    /// Live rows of partitions.
    sizes: BTreeMap<u32, u64>,
}

impl Checker {
    /// The cold store may bear no other memory's mark.
    async fn check_owner(&mut self, meta: &dyn MetaStore, cold: &dyn ColdStore) -> Result<()> {
        // One without any mark is as a crash at creation leaves it, and the next opening marks it.
        let own = self
            .report
            .value("the memory's own number", Owner::of(meta).await);
        let refused = match own.flatten() {
            Some(own) => own.refuse_others(cold).await,
            None => refuse_marked(cold).await,
        };
        match refused {
            Err(error) if error.kind() == ErrorKind::Config => {
                self.report.problem("cold store", error);
                Ok(())
            }
            other => other,
        }
    }

    async fn read_tables(&mut self, meta: &dyn MetaStore) -> Result<()> {
        let mut pages = Pages::of(meta, Table::Fresh);
        while let Some(page) = pages.next().await? {
            for (k, v) in page {
                let row = Row::decode(&k)?;
                if let Some(f) = self.report.value(row, Fresh::decode(&v, self.dim)) {
                    self.report.fresh_rows += 1;
                    self.rows.insert(
                        row,
                        Place {
                            id: f.id,
                            cold: false,
                            ttl: f.ttl,
                        },
                    );
                }
            }
        }
        let mut pages = Pages::of(meta, Table::Cold);
        while let Some(page) = pages.next().await? {
            for (k, v) in page {
                let row = Row::decode(&k)?;
                let Some(stub) = self.report.value(row, Stub::decode(&v)) else {
                    continue;
                };
                self.report.cold_rows += 1;
                let place = (stub.segment, stub.ordinal);
                if let Some((other, _)) = self.expected_cold.insert(place, (row, stub.id.clone())) {
                    self.report.problem(
                        row,
                        format!("shares its place in {:?} with {other:?}", stub.segment),
                    );
                }
                let at = Place {
                    id: stub.id,
                    cold: true,
                    ttl: stub.ttl,
                };
                if self.rows.insert(row, at).is_some() {
                    self.report
                        .problem(row, "has two homes: the metadata store and a segment");
                }
            }
        }
        let mut pages = Pages::of(meta, Table::Dead);
        while let Some(page) = pages.next().await? {
            for (k, _) in page {
                if let Some(place) = self.report.value("dead row", decode_dead_key(&k)) {
                    self.report.dead_rows += 1;
                    self.dead.insert(place);
                }
            }
        }
        Ok(())
    }

    async fn read_segments(&mut self, meta: &dyn MetaStore, cold: &dyn ColdStore) -> Result<()> {
        let manifest = match manifest(meta).await {
            Ok(manifest) => manifest,
            Err(error) => {
                self.report.problem("manifest", error);
                return Ok(());
            }
        };
        for (id, entry) in &manifest {
            if let Err(error) = self.read_segment(*id, entry, cold).await {
                self.report
                    .problem(format!("{id:?} ({})", entry.blob), error);
            }
        }
        let named: BTreeSet<&str> = manifest.iter().map(|(_, m)| m.blob.as_str()).collect();
        let mut intended = BTreeSet::new();
        for (k, v) in collect(meta, Table::Intents).await? {
            let Some((intent, _)) = self.report.value("intent", decode_intent(&k, &v)) else {
                continue;
            };
            match intent.kind {
                IntentKind::Started => self.report.intents += 1,
                IntentKind::Garbage => {
                    self.report.garbage += 1;
                    // Of a segment that was compacted; the sweep clears them away.
                    self.dead.retain(|(segment, _)| *segment != intent.segment);
                }
            }
            if manifest.iter().any(|(s, _)| *s == intent.segment) {
                let problem = match intent.kind {
                    IntentKind::Started => "is committed and still has an intent",
                    IntentKind::Garbage => "is committed, and its blob is noted as garbage",
                };
                self.report.problem(intent.segment, problem);
            }
            intended.insert(intent.blob.as_str().to_owned());
        }
        for blob in cold.list(BLOB_PREFIX).await? {
            let name = blob.key.as_str();
            if !named.contains(name) && !intended.contains(name) {
                self.report.orphans += 1;
            }
        }
        Ok(())
    }

    async fn read_segment(
        &mut self,
        id: SegmentId,
        entry: &Manifest,
        cold: &dyn ColdStore,
    ) -> Result<()> {
        let read = match cold.size(&entry.blob).await? {
            Some(size) if size == entry.bytes => {
                let whole = 0..size;
                cold.read(&entry.blob, std::slice::from_ref(&whole)).await?
            }
            Some(size) => {
                return Err(Error::corrupt(format!(
                    "expected {} bytes, the blob has {size}",
                    entry.bytes
                )));
            }
            None => None,
        };
        let data = read.and_then(|mut parts| parts.pop());
        let data = data.ok_or_else(|| Error::corrupt("its blob is missing from the cold store"))?;
        let (offset, bytes) = (entry.footer_offset, entry.footer_bytes);
        let directory = check_frame(id, self.dim, &data, offset, bytes)?;
        if directory.rows != entry.rows || directory.generation != entry.generation {
            return Err(Error::corrupt("footer and manifest disagree"));
        }
        self.report.segments += 1;
        let named = directory.blocks.iter().map(|b| b.partition);
        let unknown = named.filter(|p| self.index.centroid(*p).is_none());
        for partition in unknown.collect::<BTreeSet<u32>>() {
            let detail = format!("names partition {partition}, which has no centroid");
            self.report.problem(format!("{id:?}"), detail);
        }
        let part = |range: std::ops::Range<u64>| {
            data.get(range.start as usize..range.end as usize)
                .unwrap_or_default()
        };
        for page in 0..directory.pages.len() as u32 {
            let range = directory.page_range(page).unwrap_or_default();
            let bytes = Bytes::copy_from_slice(part(range));
            CodePage::check(id, &directory, page, bytes)?;
        }
        for block in &directory.blocks {
            let rows = parse_rows(id, &directory, block, part(block.rows_range()))?;
            let (mut vectors, mut with_vectors) = (Vec::new(), Vec::new());
            for index in 0..directory.group_count(block) {
                let Some(group) = directory.group(block, index) else {
                    break;
                };
                let (sealed, decoders) = (part(group.range.clone()), &self.decoders);
                let numbers = parse_group(
                    id,
                    &directory,
                    block,
                    &group,
                    sealed,
                    decoders,
                    &mut vectors,
                )?;
                with_vectors.extend(numbers);
            }
            if with_vectors != rows {
                return Err(Error::corrupt(
                    "the rows beside the codes and beside the vectors of a block differ",
                ));
            }
            let ids = parse_keys(id, block, part(block.keys_range()))?;
            parse_payloads(id, block, part(block.payloads_range()), self.payload_max)?;
            let mut live = Vec::with_capacity(rows.len());
            for (place, (row, point)) in rows.iter().zip(&ids).enumerate() {
                let ordinal = block.first_ordinal + place as u32;
                live.push(self.compare_row((id, ordinal), *row, point));
            }
            let count = live.iter().filter(|l| **l).count() as u64;
            if count > 0 {
                *self.sizes.entry(block.partition).or_default() += count;
            }
            let vectors: Vec<&[f32]> = vectors.chunks_exact(self.dim).collect();
            let nearest = self.index.assign_exactly(&vectors);
            let off =
                (nearest.iter().zip(live)).filter(|(p, live)| *live && **p != block.partition);
            self.report.off_partition += off.count() as u64;
            self.report.blocks += 1;
        }
        self.report.bytes += data.len() as u64;
        Ok(())
    }

    /// A row that a segment holds must be the one that its stub says, or dead. Answers whether it lives.
    fn compare_row(&mut self, place: (SegmentId, u32), row: Row, id: &PointId) -> bool {
        let dead = self.dead.remove(&place);
        match self.expected_cold.remove(&place) {
            Some((expected, point)) if expected == row && point == *id => {
                if dead {
                    self.report
                        .problem(row, format!("lives, but is noted as dead in {:?}", place.0));
                }
                return true;
            }
            Some((expected, _)) => {
                let detail = format!("{:?} holds {row:?} at place {}", place.0, place.1);
                self.report.problem(expected, detail);
            }
            None if dead => {}
            None => self.report.problem(
                row,
                format!("is in {:?}, neither alive nor noted as dead", place.0),
            ),
        }
        false
    }

    /// What no segment held.
    fn compare_homes(&mut self) {
        for ((segment, ordinal), (row, id)) in std::mem::take(&mut self.expected_cold) {
            let point = Inner::brief(&id);
            let detail = format!(
                "of point {point}: its home, place {ordinal} of {segment:?}, cannot be read"
            );
            self.report.problem(row, detail);
        }
        for (segment, ordinal) in std::mem::take(&mut self.dead) {
            let detail = format!("notes a dead row at place {ordinal}, which cannot be read");
            self.report.problem(format!("{segment:?}"), detail);
        }
    }

    async fn check_points(&mut self, meta: &dyn MetaStore) -> Result<()> {
        let mut led_to = BTreeSet::new();
        let mut pages = Pages::of(meta, Table::Points);
        while let Some(page) = pages.next().await? {
            for (k, v) in page {
                let Some(id) = self.report.value("point", PointId::decode(&k)) else {
                    continue;
                };
                let what = format!("point {}", Inner::brief(&id));
                let Some(row) = self.report.value(&what, Row::decode(&v)) else {
                    continue;
                };
                match self.rows.get(&row) {
                    None => self
                        .report
                        .problem(&what, format!("leads to {row:?}, which is nowhere")),
                    Some(place) if place.id != id => {
                        let other = Inner::brief(&place.id);
                        self.report.problem(
                            &what,
                            format!("leads to {row:?}, which belongs to point {other}"),
                        );
                    }
                    Some(_) => self.report.points += 1,
                }
                if !led_to.insert(row) {
                    self.report
                        .problem(&what, format!("shares {row:?} with another point"));
                }
            }
        }
        let lost: Vec<Row> = self
            .rows
            .keys()
            .filter(|r| !led_to.contains(r))
            .copied()
            .collect();
        for row in lost {
            self.report
                .problem(row, "is alive, but no point leads to it");
        }
        Ok(())
    }

    async fn check_resident(&mut self, meta: &dyn MetaStore) -> Result<()> {
        let mut pages = Pages::of(meta, Table::Resident);
        while let Some(page) = pages.next().await? {
            for (k, _) in page {
                let row = Row::decode(&k)?;
                self.report.resident_rows += 1;
                if !self.rows.get(&row).is_some_and(|p| p.cold) {
                    self.report
                        .problem(row, "is noted as resident, but its home is no segment");
                }
            }
        }
        Ok(())
    }

    async fn check_state(&mut self, meta: &dyn MetaStore) -> Result<()> {
        let counters = state(meta, key::COUNTERS)
            .await?
            .map(|v| Counters::decode(&v))
            .transpose();
        let counters = self
            .report
            .value("counters", counters)
            .flatten()
            .unwrap_or_default();
        if counters.points != self.report.points && self.report.is_clean() {
            let (counted, found) = (counters.points, self.report.points);
            self.report.problem(
                "counters",
                format!("count {counted} points, {found} were found"),
            );
        }
        if let Some(last) = self.rows.keys().next_back()
            && last.0 >= counters.next_row
        {
            let next = counters.next_row;
            self.report.problem(
                "counters",
                format!("would give out {next} again: {last:?} is in use"),
            );
        }
        let mortal: Vec<Row> = self
            .rows
            .iter()
            .filter(|(_, p)| p.ttl)
            .map(|(r, _)| *r)
            .collect();
        for rows in mortal.chunks(1024) {
            let keys: Vec<Bytes> = rows.iter().map(|r| key::expiry(*r)).collect();
            for (row, value) in rows.iter().zip(meta.get(Table::State, &keys).await?) {
                match value {
                    None => self
                        .report
                        .problem(row, "has a time to live, but nobody knows which"),
                    Some(v) => drop(self.report.value(row, Expiry::decode(&v))),
                }
            }
        }
        let mut range = KeyRange::prefix(key::PIN);
        loop {
            let page = meta.scan(Table::State, range.clone(), 1024).await?;
            let Some((last, _)) = page.last() else {
                return Ok(());
            };
            range.start = std::ops::Bound::Excluded(last.clone());
            let ids: Vec<Bytes> = page
                .iter()
                .map(|(k, _)| k.slice(key::PIN.len()..))
                .collect();
            for (id, row) in ids.iter().zip(meta.get(Table::Points, &ids).await?) {
                if row.is_none() {
                    let point =
                        PointId::decode(id).map_or_else(|e| e.to_string(), |id| Inner::brief(&id));
                    self.report
                        .problem(format!("point {point}"), "is pinned, but does not exist");
                }
            }
        }
    }
}

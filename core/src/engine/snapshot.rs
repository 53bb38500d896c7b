//! A whole memory as a folder, and a folder as a whole memory.
//!
//! `meta.aether` holds every table: magic `AETHSNP\x01`, then for each pair table u8, key length u16, value length u32, key, value; ended by
//! table 0xFF and the number of pairs u64; sealed in frames of at most a megabyte (length u32, bytes, checksum u64 whose seed is the
//! frame's number). `segments/` holds the blobs under their own names. `DONE` is written last: a folder without it is no snapshot.

mod pairs;
mod place;

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;

use super::builder::{Pages, is_partial, keeps_files, manifest, open_stores, state};
use super::inner::Inner;
use super::lock::DirLock;
use super::owner::{Owner, refuse_full};
use super::record::{Manifest, key};
use crate::clock::Clock;
use crate::config::{Config, MemoryConfig};
use crate::error::{Error, Result};
use crate::id::SegmentId;
use crate::plugin::BuildContext;
use crate::registry::Registry;
use crate::role::{Batch, ColdStore, Epoch, MetaStore, Table};
use crate::segment::{check_part, parts};
use pairs::{PairReader, PairWriter};
use place::{NewFile, Place};

const META_FILE: &str = "meta.aether";
const DONE_FILE: &str = "DONE";
/// Blobs are copied in pieces of this size, but for a part of one that is larger.
const COPY_BYTES: u64 = 8 << 20;

/// What a snapshot holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SnapshotReport {
    /// Entries of the metadata store.
    pub entries: u64,
    /// Segments.
    pub segments: u64,
    /// Bytes of the segments.
    pub segment_bytes: u64,
}

fn failed(path: &Path) -> impl Fn(std::io::Error) -> Error + '_ {
    move |e| Error::unavailable(format!("snapshot file {}", path.display())).with_source(e)
}

/// Writes a snapshot of a running memory.
pub(super) async fn write(inner: &Arc<Inner>, folder: &Path) -> Result<SnapshotReport> {
    // Nothing moves while the flux is held, no segment ends while compaction is, and nothing is written while the writer is: one moment
    // for metadata and manifest. Segments are never changed, so they are copied after the writer is let go.
    let compaction = inner.compaction.lock().await;
    let flux = inner.flux.lock().await;
    inner.check_writable()?;
    if let Some(lost) = inner.view().missed().next() {
        return Err(lost.refusal().prefixed("a copy would have a hole"));
    }
    let mut place = Place::make(folder)?;
    inner.flush(true).await?;
    let writer = inner.writer.lock().await;
    let mut report = SnapshotReport::default();
    let file = place.create(META_FILE)?;
    let path = file.path.clone();
    let mut pairs = PairWriter::begin(BufWriter::new(file)).map_err(failed(&path))?;
    for table in Table::ALL {
        let mut pages = Pages::of(&*inner.meta, table);
        while let Some(page) = pages.next().await? {
            for (k, v) in page {
                pairs.push(table, &k, &v).map_err(failed(&path))?;
            }
        }
    }
    let manifest = manifest(&*inner.meta).await?;
    drop(writer);
    let (out, entries) = pairs.end().map_err(failed(&path))?;
    report.entries = entries;
    let file = out.into_inner();
    file.map_err(|e| failed(&path)(e.into_error()))?.keep()?;

    for (id, m) in manifest {
        let mut file = place.create(m.blob.as_str())?;
        copy_segment(inner, id, &m, &mut file).await?;
        file.keep()?;
        report.segments += 1;
        report.segment_bytes += m.bytes;
    }
    drop((flux, compaction));
    let text = serde_json::to_string(&report)
        .map_err(|e| Error::internal("a report is not JSON").with_source(e))?;
    place.end(&text)?;
    Ok(report)
}

/// Copies a blob and checks every part of it on the way: what was damaged or garbled would be found out by the restore, when there may be nothing
/// else any more.
async fn copy_segment(
    inner: &Inner,
    id: SegmentId,
    m: &Manifest,
    file: &mut NewFile<'_>,
) -> Result<()> {
    let shown = inner.view().segments.get(&id).map(|s| s.directory.clone());
    let directory = match shown {
        Some(directory) => directory,
        None => inner.blocks.footer(id, m).await?.directory,
    };
    let of = |e: Error| e.with("blob", &m.blob);
    let short = || Error::corrupt("the blob of a segment is shorter than its manifest says");
    let parts = parts(&directory, m.footer_offset, m.bytes);
    let mut rest = &parts[..];
    while let Some(first) = rest.first() {
        let most = first.start + COPY_BYTES;
        let taken = rest.iter().take_while(|part| part.end <= most).count();
        let (now, after) = rest.split_at(taken.max(1));
        rest = after;
        let range = first.start..now.last().map_or(first.end, |last| last.end);
        let read = (inner.blocks.store()).read(&m.blob, std::slice::from_ref(&range));
        // A range beyond its end is wrong only where a blob was cut.
        let read = read.await.map_err(|e| match e.is_invalid_input() {
            true => of(short().with_source(e)),
            false => of(e),
        });
        let bytes = read?.ok_or_else(|| {
            of(Error::corrupt(
                "the blob of a segment is missing from the cold store",
            ))
        })?;
        let bytes = bytes.into_iter().next().unwrap_or_default();
        if bytes.len() as u64 != range.end - range.start {
            return Err(of(short()));
        }
        for part in now {
            let at = |place: u64| (place - range.start) as usize;
            let data = bytes.get(at(part.start)..at(part.end));
            let data = data.ok_or_else(|| of(short()))?;
            let end = (m.footer_offset, m.footer_bytes);
            check_part(id, inner.dim, &directory, end, part.start, data).map_err(of)?;
        }
        file.write_all(&bytes).map_err(failed(&file.path))?;
    }
    Ok(())
}

/// Copies a snapshot into the stores of a configuration.
pub(super) async fn restore(
    folder: &Path,
    config: Config,
    registry: Arc<Registry>,
    clock: Arc<dyn Clock>,
) -> Result<SnapshotReport> {
    is_whole(folder)?;
    config.check_plugins(&registry)?;
    if !keeps_files(&config, &registry)? {
        return Err(Error::invalid_input(
            "restore: both stores of the configuration forget everything when the process ends; choose persistent ones",
        ));
    }
    let _lock = DirLock::acquire(&config.memory.path)?;
    let context = BuildContext {
        dim: config.memory.dim,
        metric: config.memory.metric,
        data_dir: Some(config.memory.path.clone()),
        clock: clock.clone(),
        seed: config.memory.seed,
        read_only: false,
        hot_budget: None,
        registry: registry.clone(),
    };
    let (meta, cold) = open_stores(&config, &registry, &context).await?;
    restore_and_close(folder, (&config.memory, &*clock), &*meta, &*cold).await
}

/// Of what a memory's number is made.
type Drawn<'a> = (&'a MemoryConfig, &'a dyn Clock);

/// Copies a snapshot into stores that hold no memory.
pub(super) async fn restore_and_close(
    folder: &Path,
    drawn: Drawn<'_>,
    meta: &dyn MetaStore,
    cold: &dyn ColdStore,
) -> Result<SnapshotReport> {
    let restored = restore_into(folder, drawn, meta, cold).await;
    let closed = meta.close().await;
    let report = restored?;
    closed.map(|()| report)
}

fn is_whole(folder: &Path) -> Result<()> {
    let done = folder.join(DONE_FILE);
    if done.try_exists().map_err(failed(&done))? {
        return Ok(());
    }
    Err(Error::invalid_input(format!(
        "snapshot: {} holds no whole snapshot (no file {DONE_FILE})",
        folder.display()
    )))
}

/// Removes what a restore that was cut short left in a store, which is no memory: perhaps it was of another snapshot. The number stays, by which
/// the cold store knows it.
async fn clear(meta: &dyn MetaStore, epoch: Epoch) -> Result<()> {
    for table in Table::ALL {
        let mut pages = Pages::of(meta, table);
        while let Some(page) = pages.next().await? {
            let mut batch = Batch::new(epoch);
            let own = |k: &Bytes| table == Table::State && k == key::OWNER;
            (page.into_iter().filter(|(k, _)| !own(k)))
                .for_each(|(key, _)| batch.delete(table, key));
            meta.commit(batch).await?;
        }
    }
    Ok(())
}

/// The identity comes last: what has all but that is opened by nobody. The copy is a memory of its own: it draws its own number, and marks the cold
/// store before anything is there that another memory might delete.
async fn restore_into(
    folder: &Path,
    (memory, clock): Drawn<'_>,
    meta: &dyn MetaStore,
    cold: &dyn ColdStore,
) -> Result<SnapshotReport> {
    is_whole(folder)?;
    let epoch = meta.claim().await?;
    if state(meta, key::FORMAT).await?.is_some() {
        return Err(Error::invalid_input(
            "restore: the stores of the configuration hold a memory already; choose an empty folder (memory.path)",
        ));
    }
    let own = Owner::of(meta).await?;
    match own {
        Some(own) => own.refuse_others(cold).await?,
        None => refuse_full(cold, &HashSet::new()).await?,
    }
    if is_partial(meta).await? {
        clear(meta, epoch).await?;
    }
    let own = own.unwrap_or_else(|| Owner::draw(memory, epoch, clock));
    let mut batch = Batch::new(epoch);
    own.put(&mut batch);
    let seq = meta.commit(batch).await?;
    meta.durable(seq).await?;
    own.mark_store(cold).await?;
    let path = folder.join(META_FILE);
    let input = BufReader::new(File::open(&path).map_err(failed(&path))?);
    let mut pairs = PairReader::begin(input)?;
    let mut report = SnapshotReport::default();
    let mut batch = Batch::new(epoch);
    let most = meta.capability().batch_bytes_max / 4;
    let mut identity = None;
    while let Some((table, k, v)) = pairs.read()? {
        report.entries += 1;
        if table == Table::State && k == key::FORMAT {
            identity = Some(v);
            continue;
        }
        if table == Table::State && k == key::OWNER {
            continue;
        }
        batch.put(table, k, v);
        if batch.bytes() > most || batch.ops.len() > 8192 {
            meta.commit(std::mem::replace(&mut batch, Batch::new(epoch)))
                .await?;
        }
    }
    let identity =
        identity.ok_or_else(|| Error::corrupt("snapshot: it does not say what memory it is of"))?;
    meta.commit(batch).await?;
    for (_, m) in manifest(meta).await? {
        let path = folder.join(m.blob.as_str());
        let data = std::fs::read(&path).map_err(failed(&path))?;
        if data.len() as u64 != m.bytes {
            return Err(Error::corrupt(format!(
                "snapshot: {} has {} bytes, its manifest says {}",
                path.display(),
                data.len(),
                m.bytes
            )));
        }
        cold.put(&m.blob, Bytes::from(data)).await?;
        report.segments += 1;
        report.segment_bytes += m.bytes;
    }
    let mut batch = Batch::new(epoch);
    batch.put(Table::State, Bytes::from_static(key::FORMAT), identity);
    let seq = meta.commit(batch).await?;
    meta.durable(seq).await?;
    Ok(report)
}

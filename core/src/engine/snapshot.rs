//! A whole memory as a folder, and a folder as a whole memory.
//!
//! `meta.aether` holds every table: magic `AETHSNP\x01`, then for each pair table u8, key length u16, value length u32, key, value; ended by
//! table 0xFF and the number of pairs u64; sealed in frames of at most a megabyte (length u32, bytes, checksum u64 whose seed is the
//! frame's number). `segments/` holds the blobs under their own names. `DONE` is written last: a folder without it is no snapshot.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;

use super::builder::{keeps_files, manifest, open_stores, scan_all, state};
use super::inner::Inner;
use super::lock::DirLock;
use super::record::key;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::plugin::BuildContext;
use crate::registry::Registry;
use crate::role::{Batch, ColdStore, MetaStore, Table};
use crate::seal::checksum;
use crate::wire::Reader;

const MAGIC: &[u8; 8] = b"AETHSNP\x01";
const META_FILE: &str = "meta.aether";
const DONE_FILE: &str = "DONE";
const FRAME_BYTES: usize = 1 << 20;
const END: u8 = 0xff;
/// Blobs are copied in parts of this size.
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

/// Writes pairs in sealed frames.
struct FrameWriter<W: Write> {
    out: W,
    frame: Vec<u8>,
    number: u64,
}

impl<W: Write> FrameWriter<W> {
    fn push(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.frame.extend_from_slice(bytes);
        if self.frame.len() >= FRAME_BYTES {
            self.flush()
        } else {
            Ok(())
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        for frame in self.frame.chunks(FRAME_BYTES) {
            self.out.write_all(&(frame.len() as u32).to_le_bytes())?;
            self.out.write_all(frame)?;
            self.out
                .write_all(&checksum(frame, self.number).to_le_bytes())?;
            self.number += 1;
        }
        self.frame.clear();
        Ok(())
    }
}

/// Reads the bytes of sealed frames, one frame in memory at a time.
struct FrameReader<R: Read> {
    input: R,
    frame: Vec<u8>,
    at: usize,
    number: u64,
}

impl<R: Read> FrameReader<R> {
    fn take(&mut self, mut n: usize, out: &mut Vec<u8>) -> Result<()> {
        out.clear();
        while n > 0 {
            if self.at == self.frame.len() {
                self.next_frame()?;
            }
            let rest = self.frame.get(self.at..).unwrap_or_default();
            let part = rest.get(..n.min(rest.len())).unwrap_or_default();
            out.extend_from_slice(part);
            self.at += part.len();
            n -= part.len();
        }
        Ok(())
    }

    fn next_frame(&mut self) -> Result<()> {
        let cut = |e| Error::corrupt("snapshot: the file ends too early").with_source(e);
        let mut head = [0; 4];
        self.input.read_exact(&mut head).map_err(cut)?;
        let length = u32::from_le_bytes(head) as usize;
        if length == 0 || length > FRAME_BYTES {
            return Err(Error::corrupt(format!(
                "snapshot: a frame of {length} bytes"
            )));
        }
        self.frame.resize(length, 0);
        self.input.read_exact(&mut self.frame).map_err(cut)?;
        let mut sum = [0; 8];
        self.input.read_exact(&mut sum).map_err(cut)?;
        if u64::from_le_bytes(sum) != checksum(&self.frame, self.number) {
            return Err(Error::corrupt(format!(
                "snapshot: frame {} is damaged",
                self.number
            )));
        }
        self.number += 1;
        self.at = 0;
        Ok(())
    }
}

/// Writes a snapshot of a running memory.
pub(super) async fn write(inner: &Arc<Inner>, folder: &Path) -> Result<SnapshotReport> {
    std::fs::create_dir_all(folder).map_err(failed(folder))?;
    if std::fs::read_dir(folder)
        .map_err(failed(folder))?
        .next()
        .is_some()
    {
        return Err(Error::invalid_input(format!(
            "snapshot: expected a new or empty folder, but {} holds files",
            folder.display()
        )));
    }
    // Nothing moves while the flux is held, no segment ends while compaction is, and nothing is written while the writer is: one moment
    // for metadata and manifest. Segments are never changed, so they are copied after the writer is let go.
    let compaction = inner.compaction.lock().await;
    let flux = inner.flux.lock().await;
    inner.check_writable()?;
    inner.flush(true).await?;
    let writer = inner.writer.lock().await;
    let mut report = SnapshotReport::default();
    let path = folder.join(META_FILE);
    let file = File::create_new(&path).map_err(failed(&path))?;
    let mut out = BufWriter::new(file);
    out.write_all(MAGIC).map_err(failed(&path))?;
    let mut frames = FrameWriter {
        out,
        frame: Vec::new(),
        number: 0,
    };
    for (number, table) in (0u8..).zip(Table::ALL) {
        scan_all(&*inner.meta, table, async |page| {
            for (k, v) in page {
                let mut pair = vec![number];
                pair.extend_from_slice(&(k.len() as u16).to_le_bytes());
                pair.extend_from_slice(&(v.len() as u32).to_le_bytes());
                pair.extend_from_slice(&k);
                pair.extend_from_slice(&v);
                frames.push(&pair).map_err(failed(&path))?;
                report.entries += 1;
            }
            Ok(())
        })
        .await?;
    }
    let manifest = manifest(&*inner.meta).await?;
    drop(writer);
    frames.push(&[END]).map_err(failed(&path))?;
    frames
        .push(&report.entries.to_le_bytes())
        .map_err(failed(&path))?;
    frames.flush().map_err(failed(&path))?;
    let file = frames
        .out
        .into_inner()
        .map_err(|e| failed(&path)(e.into_error()))?;
    file.sync_all().map_err(failed(&path))?;

    for (_, m) in manifest {
        let path = folder.join(m.blob.as_str());
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(failed(parent))?;
        }
        let mut file = File::create_new(&path).map_err(failed(&path))?;
        let mut at = 0;
        while at < m.bytes {
            let end = (at + COPY_BYTES).min(m.bytes);
            let range = at..end;
            let parts = inner
                .blocks
                .store()
                .read(&m.blob, std::slice::from_ref(&range))
                .await?;
            let parts = parts.ok_or_else(|| {
                Error::corrupt("the blob of a segment is missing from the cold store")
                    .with("blob", &m.blob)
            })?;
            for part in parts {
                file.write_all(&part).map_err(failed(&path))?;
            }
            at = end;
        }
        file.sync_all().map_err(failed(&path))?;
        report.segments += 1;
        report.segment_bytes += m.bytes;
    }
    drop((flux, compaction));
    let done = folder.join(DONE_FILE);
    let mut file = File::create_new(&done).map_err(failed(&done))?;
    let text = serde_json::to_string(&report)
        .map_err(|e| Error::internal("a report is not JSON").with_source(e))?;
    file.write_all(text.as_bytes()).map_err(failed(&done))?;
    file.sync_all().map_err(failed(&done))?;
    Ok(report)
}

/// Copies a snapshot into empty stores. The identity comes last: without it nothing opens what is only half there.
pub(super) async fn restore(
    folder: &Path,
    config: Config,
    registry: Arc<Registry>,
) -> Result<SnapshotReport> {
    if !folder.join(DONE_FILE).exists() {
        return Err(Error::invalid_input(format!(
            "snapshot: {} holds no whole snapshot (no file {DONE_FILE})",
            folder.display()
        )));
    }
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
        clock: Arc::new(crate::clock::SystemClock::new()),
        seed: config.memory.seed,
        read_only: false,
        registry: registry.clone(),
    };
    let (meta, cold) = open_stores(&config, &registry, &context).await?;
    let restored = restore_into(folder, &*meta, &*cold).await;
    let closed = meta.close().await;
    let report = restored?;
    closed.map(|()| report)
}

async fn restore_into(
    folder: &Path,
    meta: &dyn MetaStore,
    cold: &dyn ColdStore,
) -> Result<SnapshotReport> {
    let epoch = meta.claim().await?;
    if state(meta, key::FORMAT).await?.is_some() {
        return Err(Error::invalid_input(
            "restore: the stores of the configuration hold a memory already; choose an empty folder (memory.path)",
        ));
    }
    let path = folder.join(META_FILE);
    let mut input = BufReader::new(File::open(&path).map_err(failed(&path))?);
    let mut magic = [0; 8];
    input.read_exact(&mut magic).map_err(failed(&path))?;
    if &magic != MAGIC {
        return Err(Error::corrupt(format!(
            "{} is not a snapshot of this version",
            path.display()
        )));
    }
    let mut frames = FrameReader {
        input,
        frame: Vec::new(),
        at: 0,
        number: 0,
    };
    let mut report = SnapshotReport::default();
    let mut batch = Batch::new(epoch);
    let most = meta.capability().batch_bytes_max / 4;
    let (mut head, mut identity) = (Vec::new(), None);
    let mut buffer = Vec::new();
    loop {
        frames.take(1, &mut head)?;
        let number = head.first().copied().unwrap_or(END);
        if number == END {
            frames.take(8, &mut head)?;
            let expected = Reader::new(&head, "snapshot").u64()?;
            if expected != report.entries {
                return Err(Error::corrupt(format!(
                    "snapshot: expected {expected} entries, got {}",
                    report.entries
                )));
            }
            break;
        }
        let table = *Table::ALL
            .get(number as usize)
            .ok_or_else(|| Error::corrupt(format!("snapshot: unknown table {number}")))?;
        frames.take(6, &mut head)?;
        let mut r = Reader::new(&head, "snapshot");
        let (key_bytes, value_bytes) = (r.u16()? as usize, r.u32()? as usize);
        frames.take(key_bytes, &mut buffer)?;
        let k = Bytes::copy_from_slice(&buffer);
        frames.take(value_bytes, &mut buffer)?;
        let v = Bytes::copy_from_slice(&buffer);
        report.entries += 1;
        if table == Table::State && k == key::FORMAT {
            identity = Some(v);
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

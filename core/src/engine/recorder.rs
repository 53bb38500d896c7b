//! Records what a memory is asked for, into a ring file of bounded size, so that it can be replayed.
//!
//! A caller only puts records into a bounded buffer; the scheduler writes them down each turn, and `close` the last. Ids are sampled by
//! their hash: an id is recorded always or never, so that reuse is seen as it is. What finds no room in the buffer is dropped and counted.

mod format;
mod read;

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use crate::clock::Time;
use crate::config::RecordConfig;
use crate::error::{Error, Result};
use crate::id::PointId;
use crate::seal::checksum;
use format::{HEADER, Header, Layout, RECORD};
use read::failed;

pub use format::Recorded;
pub use read::Recording;

/// Records that wait to be written: 2 MiB.
const WAITING_MAX: usize = 1 << 16;
/// Records that feedback looks back over, to find the access it judges.
const LOOK_BACK: usize = 1024;
/// Steps of importance.
const IMPORTANCE_MAX: f32 = 10.0;
const SAMPLE_SEED: u64 = 0x7361_6d70_6c65;

#[derive(Debug, Default)]
struct Waiting {
    records: Vec<Recorded>,
    /// Time of the last retrieval: each has one of its own.
    time: u64,
    dropped: u64,
}

#[derive(Debug)]
struct Ring {
    file: File,
    next: u64,
}

/// The recorder of one memory.
#[derive(Debug)]
pub(crate) struct Recorder {
    path: PathBuf,
    header: Header,
    seed: u64,
    waiting: Mutex<Waiting>,
    ring: Mutex<Ring>,
}

impl Recorder {
    /// Opens or creates the ring; `None` where nothing is to be recorded. Blocks.
    ///
    /// # Errors
    /// `Config` for a file that is no recording or one with other settings; `Unavailable` when it cannot be written.
    pub(crate) fn open(config: &RecordConfig) -> Result<Option<Self>> {
        let path = config.path.clone();
        if path.as_os_str().is_empty() {
            return Ok(None);
        }
        let mut header = Header {
            layout: Layout::Second,
            places: (config.max_bytes.0.saturating_sub(HEADER as u64) / RECORD as u64).max(1),
            sample: config.sample,
            hashed: !config.hash_key.is_empty(),
        };
        let there = path.try_exists().map_err(|e| failed(&path, e))?;
        let next = match there {
            false => {
                begin(&path, header).map_err(|e| failed(&path, e))?;
                1
            }
            true => {
                let found = Recording::open(&path)?;
                header.layout = found.header().layout;
                if found.header() != header {
                    return Err(Error::config(format!(
                        "[record] path: expected a recording with the same max_bytes, sample and hash_key, got {} with others: move \
                         it away or name another file",
                        path.display()
                    )));
                }
                found.last + 1
            }
        };
        let opened = OpenOptions::new().write(true).open(&path);
        let file = opened.map_err(|e| failed(&path, e))?;
        let seed = match header.hashed {
            true => checksum(config.hash_key.as_bytes(), SAMPLE_SEED),
            false => 0,
        };
        Ok(Some(Self {
            path,
            header,
            seed,
            waiting: Mutex::default(),
            ring: Mutex::new(Ring { file, next }),
        }))
    }

    /// Key of an id, if it is in the sample.
    fn key(&self, id: &PointId) -> Option<u64> {
        let key = match id {
            PointId::Int(n) if !self.header.hashed => *n,
            _ => checksum(&id.key(), self.seed),
        };
        // 53 bits: exact in a float.
        let part = (checksum(&key.to_le_bytes(), SAMPLE_SEED) >> 11) as f64;
        (part < self.header.sample * (1_u64 << 53) as f64).then_some(key)
    }

    /// Notes the points that one call touched.
    pub(crate) fn access<'a>(
        &self,
        ids: impl IntoIterator<Item = &'a PointId>,
        size: u32,
        write: bool,
        now: Time,
    ) {
        let keys: Vec<u64> = ids.into_iter().filter_map(|id| self.key(id)).collect();
        if keys.is_empty() {
            return;
        }
        let mut waiting = self.waiting.lock();
        waiting.time = now.0.max(waiting.time + 1);
        let time = waiting.time;
        for key in keys {
            if waiting.records.len() >= WAITING_MAX {
                waiting.dropped += 1;
                continue;
            }
            waiting.records.push(Recorded {
                time,
                key,
                size,
                write,
                importance: None,
            });
        }
    }

    /// Notes a judgement with the access that it follows, if that is not written down yet.
    pub(crate) fn judge(&self, id: &PointId, reward: f32) {
        let Some(key) = self.key(id) else {
            return;
        };
        let mut waiting = self.waiting.lock();
        let mut recent = waiting.records.iter_mut().rev().take(LOOK_BACK);
        if let Some(record) = recent.find(|r| r.key == key) {
            record.importance = Some((reward.clamp(0.0, 1.0) * IMPORTANCE_MAX).round() as u8);
        }
    }

    /// Accesses that found no room.
    pub(crate) fn dropped(&self) -> u64 {
        self.waiting.lock().dropped
    }

    /// Writes down what waits. Blocks. What cannot be written counts as dropped.
    ///
    /// # Errors
    /// `Unavailable` when the file cannot be written.
    pub(crate) fn write(&self) -> Result<()> {
        let mut ring = self.ring.lock();
        let records = std::mem::take(&mut self.waiting.lock().records);
        let count = records.len() as u64;
        let written = self.write_records(&mut ring, &records);
        if written.is_err() {
            self.waiting.lock().dropped += count;
        }
        written.map_err(|e| failed(&self.path, e))
    }

    fn write_records(&self, ring: &mut Ring, records: &[Recorded]) -> std::io::Result<()> {
        let mut rest = records;
        let mut bytes = Vec::new();
        while !rest.is_empty() {
            let place = (ring.next - 1) % self.header.places;
            let room = usize::try_from(self.header.places - place).unwrap_or(usize::MAX);
            let (part, later) = rest.split_at(rest.len().min(room));
            bytes.clear();
            for (number, record) in (ring.next..).zip(part) {
                self.header.layout.encode(number, record, &mut bytes);
            }
            let offset = HEADER as u64 + place * RECORD as u64;
            ring.file.seek(SeekFrom::Start(offset))?;
            ring.file.write_all(&bytes)?;
            ring.next += part.len() as u64;
            rest = later;
        }
        Ok(())
    }
}

/// Begins a ring under another name, and gives it its own when its header is whole: a process that ends meanwhile leaves nothing that a
/// later opening would take for a damaged recording, and be refused for.
fn begin(path: &Path, header: Header) -> std::io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let mut file = File::create(&name)?;
    file.write_all(&header.encode())?;
    file.sync_all()?;
    std::fs::rename(&name, path)
}

#[cfg(test)]
mod tests;

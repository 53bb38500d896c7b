//! A trace made ready: keys renumbered in the order of their first use, requests in 16 bytes each, in RAM or in a temporary file.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::OnceLock;

use aether_core::{Error, Result};
use tempfile::NamedTempFile;

use super::reader::{Request, TraceFormat, TraceReader};

/// Requests of one block.
pub(super) const BLOCK: usize = 1 << 15;
/// Bytes of a request in the file.
const STEP: usize = 16;
/// There is no next use.
pub(super) const NEVER: u64 = u64::MAX;
/// Requests kept in RAM, 256 MiB of them; more go to a temporary file.
const IN_RAM: u64 = 1 << 24;

/// One request, made ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) time: u64,
    /// The key's number, from 0.
    pub(super) id: u32,
    /// 1 + importance; 0 without one.
    pub(super) judged: u32,
}

/// How a trace is made ready.
#[derive(Clone, Copy, Debug)]
pub struct TraceOptions {
    /// What the file is; its name tells if `None`.
    pub format: Option<TraceFormat>,
    /// At most so many requests from the beginning.
    pub limit: u64,
    /// Requests kept in RAM at most, at 16 bytes each and 8 more where an offline limit runs; a longer trace is kept in a
    /// temporary file.
    pub in_ram: u64,
}

impl Default for TraceOptions {
    fn default() -> Self {
        Self {
            format: None,
            limit: u64::MAX,
            in_ram: IN_RAM,
        }
    }
}

/// What is done with a block of requests and their next uses.
pub(super) type See<'a> = dyn FnMut(&[Step], &[u64]) -> Result<()> + 'a;

#[derive(Debug)]
enum Store<T> {
    Ram(Vec<T>),
    Disk(NamedTempFile),
}

/// A trace that can be replayed any number of times, from several threads at once. RAM: 4 bytes a key, and 16 a request unless they are
/// on disk.
#[derive(Debug)]
pub struct Trace {
    name: String,
    requests: u64,
    skipped: u64,
    unit_us: Option<u64>,
    sizes: Vec<u32>,
    bytes: u64,
    requested_bytes: u64,
    steps: Store<Step>,
    /// The number of the request that uses the same key next, found when it is first asked for.
    next: OnceLock<Result<Store<u64>, String>>,
}

impl Trace {
    /// Reads a trace through. `progress` hears how many more requests were read.
    ///
    /// # Errors
    /// As [`TraceReader::read`]; `InvalidInput` for a trace without requests or of more than 2^32 - 1 keys; `Unavailable` when the
    /// temporary file cannot be written.
    pub fn read(
        path: &Path,
        options: &TraceOptions,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Self> {
        let mut reader = TraceReader::open(path, options.format)?;
        let mut making = Making::new(options.in_ram);
        while making.trace.requests < options.limit
            && let Some(request) = reader.read()?
        {
            making.push(&request).map_err(|e| named(path, e))?;
            if making.trace.requests.is_multiple_of(BLOCK as u64) {
                progress(BLOCK as u64);
            }
        }
        progress(making.trace.requests % BLOCK as u64);
        let mut trace = making.finish()?;
        if trace.requests == 0 {
            return Err(Error::invalid_input(format!(
                "{}: expected at least one request, got none",
                path.display()
            )));
        }
        trace.name = name_of(path);
        trace.skipped = reader.skipped();
        trace.unit_us = reader.unit_us();
        Ok(trace)
    }

    /// Makes a trace of requests in RAM.
    ///
    /// # Errors
    /// `InvalidInput` for no request, a size of 0, or time that runs backwards.
    pub fn from_requests(
        name: impl Into<String>,
        requests: impl IntoIterator<Item = Request>,
    ) -> Result<Self> {
        let mut making = Making::new(IN_RAM);
        let mut time = 0;
        for request in requests {
            let at = making.trace.requests;
            if request.time < time || request.size == 0 {
                return Err(Error::invalid_input(format!(
                    "request {at}: expected a size of at least 1 and a time of at least {time}, got {request:?}"
                )));
            }
            time = request.time;
            making.push(&request)?;
        }
        let mut trace = making.finish()?;
        if trace.requests == 0 {
            return Err(Error::invalid_input(
                "expected at least one request, got none",
            ));
        }
        trace.name = name.into();
        Ok(trace)
    }

    /// The file's name without its endings.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Requests.
    pub fn requests(&self) -> u64 {
        self.requests
    }

    /// Different keys.
    pub fn keys(&self) -> u64 {
        self.sizes.len() as u64
    }

    /// Bytes of all keys together: the working set.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes asked for by all requests together.
    pub fn requested_bytes(&self) -> u64 {
        self.requested_bytes
    }

    /// Requests of size 0 that were left out.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Microseconds of one unit of its clock, where the file says so.
    pub fn unit_us(&self) -> Option<u64> {
        self.unit_us
    }

    /// Whether any key is larger than 1.
    pub fn has_sizes(&self) -> bool {
        self.bytes > self.keys()
    }

    /// Size of each key by its number.
    pub(super) fn sizes(&self) -> &[u32] {
        &self.sizes
    }

    /// Gives each block of requests to `see`, with the next uses if they are wanted.
    pub(super) fn each_block(&self, with_next: bool, see: &mut See<'_>) -> Result<()> {
        let next = if with_next { Some(self.next()?) } else { None };
        let mut steps = Blocks::new(&self.steps, self.requests)?;
        let mut nexts = next.map(|n| Blocks::new(n, self.requests)).transpose()?;
        while let Some(block) = steps.next()? {
            let next = match &mut nexts {
                Some(nexts) => nexts.next()?.unwrap_or_default(),
                None => &[],
            };
            see(block, next)?;
        }
        Ok(())
    }

    fn next(&self) -> Result<&Store<u64>> {
        let found = self
            .next
            .get_or_init(|| self.find_next().map_err(|e| e.to_string()));
        found
            .as_ref()
            .map_err(|e| Error::unavailable(format!("cannot find the next uses of keys: {e}")))
    }

    /// Goes through the requests from the last to the first.
    fn find_next(&self) -> Result<Store<u64>> {
        let mut seen = vec![NEVER; self.sizes.len()];
        let mut take =
            |step: &Step, number: u64| std::mem::replace(&mut seen[step.id as usize], number);
        match &self.steps {
            Store::Ram(steps) => {
                let mut next = vec![NEVER; steps.len()];
                for (at, step) in steps.iter().enumerate().rev() {
                    next[at] = take(step, at as u64);
                }
                Ok(Store::Ram(next))
            }
            Store::Disk(file) => {
                let mut file = file.reopen().map_err(spill_failed)?;
                let mut out = spill()?;
                let blocks = self.requests.div_ceil(BLOCK as u64);
                let (mut bytes, mut nexts) = (Vec::new(), Vec::new());
                for block in (0..blocks).rev() {
                    let first = block * BLOCK as u64;
                    let count = (self.requests - first).min(BLOCK as u64) as usize;
                    file.seek(SeekFrom::Start(first * STEP as u64))
                        .map_err(spill_failed)?;
                    bytes.resize(count * STEP, 0);
                    file.read_exact(&mut bytes).map_err(spill_failed)?;
                    nexts.clear();
                    nexts.resize(count * 8, 0);
                    for at in (0..count).rev() {
                        let step = Step::decode(&bytes[at * STEP..]);
                        let next = take(&step, first + at as u64);
                        nexts[at * 8..][..8].copy_from_slice(&next.to_le_bytes());
                    }
                    out.seek(SeekFrom::Start(first * 8)).map_err(spill_failed)?;
                    out.write_all(&nexts).map_err(spill_failed)?;
                }
                Ok(Store::Disk(out))
            }
        }
    }
}

fn named(path: &Path, error: Error) -> Error {
    let message = format!("{}: {}", path.display(), error.message());
    Error::invalid_input(message).with_source(error)
}

fn name_of(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut name = name.as_ref();
    for ending in [".zst", ".csv", ".bin", ".oracleGeneral", ".aetrec"] {
        name = name.strip_suffix(ending).unwrap_or(name);
    }
    name.to_owned()
}

/// A file that goes when it is dropped.
fn spill() -> Result<NamedTempFile> {
    tempfile::Builder::new()
        .prefix("aether-replay-")
        .tempfile()
        .map_err(spill_failed)
}

fn spill_failed(error: std::io::Error) -> Error {
    Error::unavailable(
        "cannot use a temporary file for a long trace: set TMPDIR to a folder with room",
    )
    .with_source(error)
}

/// A trace while it is read.
struct Making {
    trace: Trace,
    numbers: HashMap<u64, u32>,
    in_ram: u64,
    spill: Option<BufWriter<NamedTempFile>>,
}

impl Making {
    fn new(in_ram: u64) -> Self {
        let trace = Trace {
            name: String::new(),
            requests: 0,
            skipped: 0,
            unit_us: None,
            sizes: Vec::new(),
            bytes: 0,
            requested_bytes: 0,
            steps: Store::Ram(Vec::new()),
            next: OnceLock::new(),
        };
        Self {
            trace,
            numbers: HashMap::new(),
            in_ram,
            spill: None,
        }
    }

    fn push(&mut self, request: &Request) -> Result<()> {
        let trace = &mut self.trace;
        let fresh = trace.sizes.len();
        let id = match self.numbers.get(&request.key) {
            Some(id) => *id,
            None => {
                let id = u32::try_from(fresh).ok().filter(|n| *n < u32::MAX);
                let id = id.ok_or_else(|| {
                    Error::invalid_input(format!("expected fewer than {} keys, got more", u32::MAX))
                })?;
                self.numbers.insert(request.key, id);
                // One key has one size: the first seen.
                trace.sizes.push(request.size);
                trace.bytes += u64::from(request.size);
                id
            }
        };
        trace.requested_bytes += u64::from(trace.sizes[id as usize]);
        trace.requests += 1;
        let step = Step {
            time: request.time,
            id,
            judged: request.importance.map_or(0, |i| u32::from(i) + 1),
        };
        if self.spill.is_none()
            && let Store::Ram(steps) = &mut trace.steps
        {
            if (steps.len() as u64) < self.in_ram {
                steps.push(step);
                return Ok(());
            }
            let mut spill = BufWriter::with_capacity(BLOCK * STEP, spill()?);
            for step in std::mem::take(steps) {
                spill.write_all(&step.encode()).map_err(spill_failed)?;
            }
            self.spill = Some(spill);
        }
        match &mut self.spill {
            Some(spill) => spill.write_all(&step.encode()).map_err(spill_failed),
            None => Err(Error::internal("a trace has neither RAM nor a file")),
        }
    }

    fn finish(self) -> Result<Trace> {
        let mut trace = self.trace;
        if let Some(spill) = self.spill {
            let file = spill
                .into_inner()
                .map_err(|e| spill_failed(e.into_error()))?;
            trace.steps = Store::Disk(file);
        }
        Ok(trace)
    }
}

impl Step {
    fn encode(self) -> [u8; STEP] {
        let mut bytes = [0; STEP];
        bytes[..8].copy_from_slice(&self.time.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.id.to_le_bytes());
        bytes[12..].copy_from_slice(&self.judged.to_le_bytes());
        bytes
    }
}

/// What a block is made of, as it stands in a file.
trait Stored: Copy {
    const BYTES: usize;
    fn decode(bytes: &[u8]) -> Self;
}

impl Stored for Step {
    const BYTES: usize = STEP;

    fn decode(bytes: &[u8]) -> Self {
        Self {
            time: u64_at(bytes, 0),
            id: u64_at(bytes, 8) as u32,
            judged: (u64_at(bytes, 8) >> 32) as u32,
        }
    }
}

impl Stored for u64 {
    const BYTES: usize = 8;

    fn decode(bytes: &[u8]) -> Self {
        u64_at(bytes, 0)
    }
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

/// Goes through what is stored, block by block.
enum Blocks<'a, T> {
    Ram(std::slice::Chunks<'a, T>),
    Disk {
        file: File,
        left: u64,
        bytes: Vec<u8>,
        block: Vec<T>,
    },
}

impl<'a, T: Stored> Blocks<'a, T> {
    fn new(store: &'a Store<T>, count: u64) -> Result<Self> {
        Ok(match store {
            Store::Ram(items) => Self::Ram(items.chunks(BLOCK)),
            Store::Disk(file) => Self::Disk {
                // Each goes through the file with a place of its own.
                file: file.reopen().map_err(spill_failed)?,
                left: count,
                bytes: Vec::new(),
                block: Vec::with_capacity(BLOCK),
            },
        })
    }

    fn next(&mut self) -> Result<Option<&[T]>> {
        match self {
            Self::Ram(chunks) => Ok(chunks.next()),
            Self::Disk { left: 0, .. } => Ok(None),
            Self::Disk {
                file,
                left,
                bytes,
                block,
            } => {
                let count = (*left).min(BLOCK as u64) as usize;
                *left -= count as u64;
                bytes.resize(count * T::BYTES, 0);
                file.read_exact(bytes).map_err(spill_failed)?;
                block.clear();
                block.extend(bytes.chunks_exact(T::BYTES).map(T::decode));
                Ok(Some(block))
            }
        }
    }
}

#[cfg(test)]
mod tests;

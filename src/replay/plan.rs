//! Which policies meet which trace at which cache sizes, and the figures that come of it.

use std::fmt;
use std::num::NonZeroUsize;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use aether_core::config::{ByteSize, Slot};
use aether_core::role::EvictionPolicy;
use aether_core::{BuildContext, Error, Metric, Registry, Result, Role, SystemClock};
use serde::Serialize;

use super::limits::{BELADY, BELADY_SIZE, Belady, BeladySize};
use super::run::{Setup, Tally, replay};
use super::trace::Trace;

/// The policy that the gap is measured from.
const LRU: &str = "lru";

/// A size of the cache.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum CacheSize {
    /// A share of the keys, or of the working set's bytes.
    Share(f64),
    /// So many rows, or bytes.
    Units(u64),
}

impl FromStr for CacheSize {
    type Err = String;

    /// `10%`, `0.1`, or a number of rows or bytes such as `5000` or `64MiB`.
    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || {
            format!(
                "cache size {text:?}: expected a share such as 0.1% or 10%, or a number of rows (with --bytes: a size such as 64MiB)"
            )
        };
        let share = |text: &str, scale: f64| {
            let value: f64 = text.trim().parse().map_err(|_| expected())?;
            let share = value * scale;
            if share > 0.0 && share <= 1.0 {
                Ok(Self::Share(share))
            } else {
                Err(format!(
                    "cache size {text:?}: expected a share above 0 and up to 100%"
                ))
            }
        };
        if let Some(percent) = text.strip_suffix('%') {
            share(percent, 0.01)
        } else if text.contains('.') && text.parse::<f64>().is_ok() {
            share(text, 1.0)
        } else {
            let units = match text.parse() {
                Ok(n) => n,
                Err(_) => text.parse::<ByteSize>().map_err(|_| expected())?.0,
            };
            if units == 0 {
                return Err(format!("cache size {text:?}: expected at least 1"));
            }
            Ok(Self::Units(units))
        }
    }
}

impl CacheSize {
    /// The size in rows or bytes, and as a share, of a working set.
    ///
    /// # Errors
    /// `InvalidInput` for a share that rounds to nothing.
    fn of(self, working_set: u64) -> Result<(u64, f64)> {
        match self {
            Self::Units(units) => Ok((units, units as f64 / working_set as f64)),
            Self::Share(share) => {
                let units = (share * working_set as f64).round() as u64;
                if units == 0 {
                    return Err(Error::invalid_input(format!(
                        "cache size {}% of {working_set} is 0: expected at least 1",
                        share * 100.0
                    )));
                }
                Ok((units, share))
            }
        }
    }
}

/// A policy and its settings, as `lfu` or `flux:history=2,probe=0`.
#[derive(Clone, Debug)]
pub struct Choice {
    text: String,
    slot: Slot,
}

impl Choice {
    /// Reads a list such as `lru,flux:history=2,probe=0,belady`: a part with `=` belongs to the policy before it.
    ///
    /// # Errors
    /// `InvalidInput` for a key before any policy and for a policy that stands there twice with the same settings, `Config` for a value that
    /// is no TOML.
    pub fn list(text: &str) -> Result<Vec<Self>> {
        let mut found: Vec<(String, Vec<String>)> = Vec::new();
        for part in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
            let colon = part.find(':');
            let equals = part.find('=');
            match (colon, equals, found.last_mut()) {
                (Some(c), Some(e), _) if c < e => {
                    found.push((part[..c].to_owned(), vec![part[c + 1..].to_owned()]));
                }
                (_, Some(_), Some((_, keys))) => keys.push(part.to_owned()),
                (None, None, _) => found.push((part.to_owned(), Vec::new())),
                _ => {
                    return Err(Error::invalid_input(format!(
                        "policy {part:?}: expected NAME or NAME:KEY=VALUE"
                    )));
                }
            }
        }
        let mut choices: Vec<Self> = Vec::with_capacity(found.len());
        for (name, keys) in found {
            let choice = Self::new(&name, &keys)?;
            if choices.iter().any(|other| other.text == choice.text) {
                return Err(Error::invalid_input(format!(
                    "policy {:?} stands in the list twice: expected each once, or with other settings",
                    choice.text
                )));
            }
            choices.push(choice);
        }
        Ok(choices)
    }

    fn new(name: &str, keys: &[String]) -> Result<Self> {
        let mut toml = String::new();
        for key in keys {
            let (key, value) = key.split_once('=').unwrap_or((key, ""));
            let (key, value) = (key.trim(), value.trim());
            // A text may do without its quotes.
            let plain = Slot::with_keys(Role::Policy, name, &format!("{key} = {value}\n"));
            let line = match plain {
                Ok(_) => format!("{key} = {value}\n"),
                Err(_) => format!("{key} = {value:?}\n"),
            };
            toml.push_str(&line);
        }
        let text = if keys.is_empty() {
            name.to_owned()
        } else {
            format!("{name}:{}", keys.join(","))
        };
        Ok(Self {
            text,
            slot: Slot::with_keys(Role::Policy, name, &toml)?,
        })
    }

    fn plain(name: &str) -> Self {
        Self {
            text: name.to_owned(),
            slot: Slot::named(Role::Policy, name),
        }
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// An instance with empty books; it draws by `seed`.
    ///
    /// # Errors
    /// `Config` for a policy that is not in the registry, as the laboratory's limits are not, and for a key that it does not take.
    pub fn build(&self, registry: &Arc<Registry>, seed: u64) -> Result<Box<dyn EvictionPolicy>> {
        let context = BuildContext {
            dim: 1,
            metric: Metric::L2,
            data_dir: None,
            clock: Arc::new(SystemClock::new()),
            seed,
            read_only: false,
            hot_budget: None,
            registry: registry.clone(),
        };
        registry.policy(&self.slot, &context)
    }

    fn name(&self) -> &str {
        &self.slot.backend
    }

    fn is_limit(&self) -> bool {
        matches!(self.name(), BELADY | BELADY_SIZE)
    }
}

/// The figures of one policy at one cache size on one trace.
#[derive(Clone, Debug, Serialize)]
pub struct Cell {
    /// The trace's name.
    pub trace: String,
    /// The policy, with its settings as they were asked for.
    pub policy: String,
    /// Cache size as a share of the keys, or of the working set's bytes.
    pub cache_fraction: f64,
    /// Cache size in rows, or bytes.
    pub cache_size: u64,
    /// Share of the requests that missed; cold misses count.
    pub object_miss_ratio: f64,
    /// Share of the requested bytes that missed.
    pub byte_miss_ratio: f64,
    /// Rows that changed their tier, either way, for each request.
    pub moves_per_access: f64,
    /// Rows that were brought in, for each request.
    pub promotions_per_access: f64,
    /// What the policy was told: `keys`, or `retrievals` where it also heard which rows were used together.
    pub signal: &'static str,
    /// Rows that were brought in although nobody asked for them, for each request; with the signal `retrievals` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wishes_per_access: Option<f64>,
    /// Share of these that were used before they left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wishes_used: Option<f64>,
    /// Bytes of the policy's books, its history included, for each hot row at the end.
    pub metadata_bytes_per_item: f64,
    /// Time of replay and policy together, for each request.
    pub ns_per_access: f64,
    /// Share of the way from `lru` to `belady` in object misses; absent where `belady` did not run or there is no way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gap_closed: Option<f64>,
    /// The same, where the way is too short to mean much: `lru` minus `belady`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gap_room: Option<f64>,
    /// Share of the importance that missed, where requests are judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub importance_miss_ratio: Option<f64>,
    /// Requests of rows larger than the cache.
    pub too_large: u64,
}

/// What is to be replayed on each trace.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The policies.
    pub policies: Vec<Choice>,
    /// The cache sizes.
    pub sizes: Vec<CacheSize>,
    /// Whether cache sizes and rows count in bytes.
    pub by_bytes: bool,
    /// Microseconds of one unit of the trace's clock, where its file does not say.
    pub unit_us: u64,
    /// Whether requests of equal time are one retrieval. Each policy then runs twice: knowing keys alone, and told of retrievals.
    pub retrievals: bool,
    /// Seed of the policies' random draws.
    pub seed: u64,
    /// Threads; each replays one policy at one size.
    pub threads: NonZeroUsize,
}

#[derive(Clone, Copy)]
struct Job<'a> {
    choice: &'a Choice,
    retrievals: bool,
    size: u64,
    share: f64,
}

impl Plan {
    /// Builds every policy once, so that a wrong name or key is known before hours of work.
    ///
    /// # Errors
    /// `Config` with the names there are, or with the policy that refuses its settings; `InvalidInput` for an empty list, and for settings
    /// of a limit.
    pub fn check(&self, registry: &Arc<Registry>) -> Result<()> {
        if self.policies.is_empty() || self.sizes.is_empty() {
            return Err(Error::invalid_input(
                "expected at least one policy and one cache size",
            ));
        }
        for choice in &self.policies {
            if choice.is_limit() {
                if choice.text() != choice.name() {
                    return Err(Error::invalid_input(format!(
                        "policy {:?}: {} takes no settings",
                        choice.text(),
                        choice.name()
                    )));
                }
                continue;
            }
            let known = registry
                .iter()
                .any(|p| p.role() == Role::Policy && p.name == choice.name());
            choice.build(registry, self.seed).map_err(|e| match known {
                true => Error::config(format!("policy {:?}: {}", choice.text(), e.message())),
                false => Error::config(format!(
                    "{}; or one of the laboratory's limits, {BELADY} and {BELADY_SIZE}",
                    e.message()
                )),
            })?;
        }
        Ok(())
    }

    /// Replays every policy at every size on one trace, sizes in order and policies in order within each. Where `belady` runs and `lru`
    /// does not, `lru` runs too and is not listed: the gap begins there.
    ///
    /// # Errors
    /// As [`Plan::check`]; `InvalidInput` for a cache size of nothing; `Internal` for a policy that breaks its contract.
    pub fn run(
        &self,
        registry: &Arc<Registry>,
        trace: &Trace,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<Vec<Cell>> {
        self.check(registry)?;
        let lru = Choice::plain(LRU);
        let choices = self.choices(&lru);
        let listed = choices.len() - usize::from(self.hidden_lru());
        let working_set = if self.by_bytes {
            trace.bytes()
        } else {
            trace.keys()
        };
        let mut jobs = Vec::new();
        for size in &self.sizes {
            let (size, share) = size.of(working_set).map_err(|e| {
                Error::invalid_input(format!("trace {}: {}", trace.name(), e.message()))
            })?;
            jobs.extend(choices.iter().map(|(choice, retrievals)| Job {
                choice,
                retrievals: *retrievals,
                size,
                share,
            }));
        }
        let tallies = self.tallies(registry, trace, &jobs, progress)?;
        let mut cells = Vec::new();
        for (jobs, tallies) in jobs
            .chunks(choices.len())
            .zip(tallies.chunks(choices.len()))
        {
            let misses = |name: &str| {
                let at = jobs.iter().position(|j| j.choice.text == name)?;
                Some(tallies[at].object_miss_ratio())
            };
            let ends = misses(LRU).zip(misses(BELADY));
            let shown = jobs.iter().zip(tallies).take(listed);
            cells.extend(shown.map(|(job, tally)| cell(trace, job, tally, ends)));
        }
        Ok(cells)
    }

    /// Requests that a run will replay, for a progress bar.
    pub fn work(&self, trace: &Trace) -> u64 {
        let lru = Choice::plain(LRU);
        trace.requests() * self.sizes.len() as u64 * self.choices(&lru).len() as u64
    }

    /// Whether `lru` runs although it was not asked for.
    fn hidden_lru(&self) -> bool {
        let has = |name: &str| self.policies.iter().any(|c| c.text == name);
        has(BELADY) && !has(LRU)
    }

    /// What runs at each size, and whether it is told of retrievals; a hidden `lru` comes last.
    fn choices<'a>(&'a self, lru: &'a Choice) -> Vec<(&'a Choice, bool)> {
        let mut choices = Vec::new();
        for choice in &self.policies {
            choices.push((choice, false));
            if self.retrievals && !choice.is_limit() {
                choices.push((choice, true));
            }
        }
        if self.hidden_lru() {
            choices.push((lru, false));
        }
        choices
    }

    fn tallies(
        &self,
        registry: &Arc<Registry>,
        trace: &Trace,
        jobs: &[Job<'_>],
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<Vec<Tally>> {
        let next = AtomicUsize::new(0);
        let failed = AtomicBool::new(false);
        let found: Mutex<Vec<Option<Result<Tally>>>> =
            Mutex::new((0..jobs.len()).map(|_| None).collect());
        let work = || {
            while !failed.load(Ordering::Relaxed) {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some(job) = jobs.get(at) else {
                    return;
                };
                let tally = self.one(registry, trace, job, progress);
                failed.fetch_or(tally.is_err(), Ordering::Relaxed);
                if let Ok(mut found) = found.lock() {
                    found[at] = Some(tally);
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..self.threads.get().min(jobs.len()) {
                scope.spawn(work);
            }
            work();
        });
        let found = found
            .into_inner()
            .map_err(|_| Error::internal("a replay ended in a panic"))?;
        // Of several failures the first is told; what was not begun then is missing.
        let mut tallies = Vec::new();
        let mut unfinished = false;
        for tally in found {
            match tally {
                Some(Ok(tally)) => tallies.push(tally),
                Some(Err(error)) => return Err(error),
                None => unfinished = true,
            }
        }
        if unfinished {
            return Err(Error::internal("a replay was not finished"));
        }
        Ok(tallies)
    }

    fn one(
        &self,
        registry: &Arc<Registry>,
        trace: &Trace,
        job: &Job<'_>,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<Tally> {
        let setup = Setup {
            capacity: job.size,
            by_bytes: self.by_bytes,
            unit_us: trace.unit_us().unwrap_or(self.unit_us),
            retrievals: job.retrievals,
        };
        let keys = trace.keys() as usize;
        let name = job.choice.text();
        let tell = |n| {
            progress(n);
            Ok(())
        };
        match job.choice.name() {
            BELADY => replay(&mut Belady::new(keys), name, trace, setup, true, &tell),
            BELADY_SIZE => replay(
                &mut BeladySize::new(keys, self.seed),
                name,
                trace,
                setup,
                true,
                &tell,
            ),
            _ => {
                let mut policy = job.choice.build(registry, self.seed)?;
                replay(&mut policy, name, trace, setup, false, &tell)
            }
        }
    }
}

fn cell(trace: &Trace, job: &Job<'_>, tally: &Tally, ends: Option<(f64, f64)>) -> Cell {
    let missed = tally.object_miss_ratio();
    let room = ends.map(|(lru, belady)| lru - belady);
    Cell {
        trace: trace.name().to_owned(),
        policy: job.choice.text.clone(),
        cache_fraction: job.share,
        cache_size: job.size,
        object_miss_ratio: missed,
        byte_miss_ratio: tally.byte_miss_ratio(),
        moves_per_access: tally.moves_per_access(),
        promotions_per_access: tally.promotions_per_access(),
        signal: if job.retrievals { "retrievals" } else { "keys" },
        wishes_per_access: job.retrievals.then(|| tally.wishes_per_access()),
        wishes_used: (tally.wished > 0).then(|| tally.wished_used as f64 / tally.wished as f64),
        metadata_bytes_per_item: tally.metadata_bytes_per_item(),
        ns_per_access: tally.ns_per_access(),
        gap_closed: ends
            .filter(|(lru, belady)| lru > belady)
            .map(|(lru, belady)| (lru - missed) / (lru - belady)),
        gap_room: room,
        importance_miss_ratio: tally.importance_miss_ratio(),
        too_large: tally.too_large,
    }
}

impl fmt::Display for CacheSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Share(share) => write!(f, "{}%", share * 100.0),
            Self::Units(units) => write!(f, "{units}"),
        }
    }
}

#[cfg(test)]
mod tests;

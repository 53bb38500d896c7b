//! A strict hot index over a plain map, and the same index broken on purpose in every way that the suite must notice.

mod broken;
mod reckoned;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aether_core::config::RawConfig;
use aether_core::plugin::{Factory, OptionSpec, Plugin};
use aether_core::role::{HotCapability, HotIndex, HotStats, Neighbor, SearchOptions};
use aether_core::seal::{seal, unseal};
use aether_core::vector::DIM_MAX;
use aether_core::{BuildContext, Error, Metric, Result, Row};
use parking_lot::RwLock;

pub use broken::*;
pub use reckoned::Reckoned;

/// What a fake does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    ForgetsRemoves,
    ReturnsDead,
    RemoveSaysTrue,
    Overwrites,
    IgnoresFilter,
    FiltersTooLate,
    BoundTooLow,
    BoundOverflows,
    PartsMissing,
    BytesWithoutVectors,
    LosesOrder,
    TiesReversed,
    Normalises,
    TakesNan,
    TakesWrongLength,
    TouchesOut,
    FlushesDenormals,
    SentinelRow,
    LastOfBatchWins,
    OneTooFew,
    Misses,
    ExactMisses,
    CompactDropsRows,
    CompactInPieces,
    KeepsGarbage,
    NoChecksum,
    LoadsHalf,
    TakesOtherMetric,
    LoadsIntoFull,
    SwallowsWriteErrors,
    SavesInPieces,
    HidesOption,
    WrongCapability,
    SquareRootOfL2,
}

const OPTIONS: &[OptionSpec] = &[OptionSpec {
    name: "spare",
    default: "0",
    unit: "rows",
    help: "Rows that the fake pretends to hold memory for.",
}];

#[derive(serde::Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Keys {
    spare: usize,
}

/// The strict fake, which the whole suite must pass.
pub static STRICT: Plugin = Plugin {
    name: "fake",
    crate_name: env!("CARGO_PKG_NAME"),
    summary: "A plain map and an exact scan, for tests.",
    options: OPTIONS,
    persistent: false,
    factory: Factory::Hot(|raw, context| build(raw, context, Fault::None)),
};

fn build(raw: &RawConfig, context: &BuildContext, fault: Fault) -> Result<Arc<dyn HotIndex>> {
    let Keys { spare } = raw.parse()?;
    if fault == Fault::WrongCapability && context.metric == Metric::Cosine {
        return Err(Error::unsupported("cosine"));
    }
    Ok(Arc::new(FakeHot {
        fault,
        spare,
        dim: context.dim,
        metric: context.metric,
        state: RwLock::default(),
        searches: AtomicU64::new(0),
    }))
}

/// Bytes that the fake reckons for a row besides its vector.
const ROW_BYTES: u64 = 64;

#[derive(Debug, Default)]
struct State {
    live: BTreeMap<Row, Vec<f32>>,
    dead: BTreeMap<Row, Vec<f32>>,
}

#[derive(Debug)]
struct FakeHot {
    fault: Fault,
    spare: usize,
    dim: usize,
    metric: Metric,
    state: RwLock<State>,
    searches: AtomicU64,
}

impl FakeHot {
    fn is(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    fn check_len(&self, len: usize) -> Result<()> {
        if len == self.dim || self.is(Fault::TakesWrongLength) {
            return Ok(());
        }
        Err(Error::invalid_input(format!(
            "vector: expected {} dimensions, got {len}",
            self.dim
        )))
    }

    fn parts(&self, state: &State) -> BTreeMap<&'static str, u64> {
        let garbage = if self.is(Fault::KeepsGarbage) {
            state.dead.len()
        } else {
            0
        };
        let rows = (state.live.len() + garbage + self.spare) as u64;
        let vectors = if self.is(Fault::BytesWithoutVectors) {
            0
        } else {
            rows * 4 * self.dim as u64
        };
        BTreeMap::from([("vectors", vectors), ("map", rows * ROW_BYTES)])
    }

    fn kept(&self, v: &[f32]) -> Vec<f32> {
        match (self.fault, self.metric) {
            (Fault::Normalises, Metric::Cosine) => {
                let scale = self.metric.scale(v);
                v.iter().map(|x| x * scale).collect()
            }
            (Fault::FlushesDenormals, _) => v
                .iter()
                .map(|x| if x.is_normal() { *x } else { 0.0 })
                .collect(),
            _ => v.to_vec(),
        }
    }

    fn encode(&self, state: &State, out: &mut Vec<u8>) {
        let rows: Vec<_> = state.live.iter().collect();
        let metric = if self.is(Fault::TakesOtherMetric) {
            0
        } else {
            self.metric as u64
        };
        for n in [self.dim as u64, metric, rows.len() as u64] {
            out.extend_from_slice(&n.to_le_bytes());
        }
        for (row, v) in rows {
            out.extend_from_slice(&row.0.to_le_bytes());
            v.iter()
                .for_each(|x| out.extend_from_slice(&x.to_le_bytes()));
        }
    }

    fn decode(&self, bytes: &[u8]) -> Result<BTreeMap<Row, Vec<f32>>> {
        let corrupt = || Error::corrupt("snapshot: not one of this index");
        let words = bytes.chunks(8);
        let mut words = words.map(|w| w.try_into().map(u64::from_le_bytes).map_err(|_| corrupt()));
        let mut word = || words.next().ok_or_else(corrupt)?;
        let metric = if self.is(Fault::TakesOtherMetric) {
            0
        } else {
            self.metric as u64
        };
        let (dim, met, n) = (word()?, word()?, word()?);
        let size = 8 + 4 * self.dim as u64;
        let body = bytes.get(24..).ok_or_else(corrupt)?;
        if dim != self.dim as u64 || met != metric || Some(body.len() as u64) != n.checked_mul(size)
        {
            return Err(corrupt());
        }
        let mut rows = BTreeMap::new();
        for record in body.chunks_exact(size as usize) {
            let (row, v) = record.split_first_chunk::<8>().ok_or_else(corrupt)?;
            let v = v
                .chunks_exact(4)
                .map(|x| Ok(f32::from_le_bytes(x.try_into().map_err(|_| corrupt())?)));
            rows.insert(
                Row(u64::from_le_bytes(*row)),
                v.collect::<Result<Vec<f32>>>()?,
            );
        }
        Ok(rows)
    }
}

impl HotIndex for FakeHot {
    fn capability(&self) -> HotCapability {
        HotCapability {
            approximate: self.is(Fault::Misses),
            exact_read: true,
            snapshot: true,
            dim_max: DIM_MAX,
            metrics: &Metric::ALL,
        }
    }

    fn insert(&self, row: Row, vector: &[f32]) -> Result<()> {
        self.check_len(vector.len())?;
        if self.is(Fault::SentinelRow) && row == Row(u64::MAX) {
            return Ok(());
        }
        let mut state = self.state.write();
        state.dead.remove(&row);
        if self.is(Fault::Overwrites) || !state.live.contains_key(&row) {
            let kept = self.kept(vector);
            state.live.insert(row, kept);
        }
        Ok(())
    }

    fn insert_batch(&self, rows: &[Row], vectors: &[f32]) -> Result<()> {
        if vectors.len() != rows.len() * self.dim && !self.is(Fault::TakesWrongLength) {
            return Err(Error::invalid_input("batch of a wrong length"));
        }
        let pairs = rows.iter().zip(vectors.chunks_exact(self.dim));
        if self.is(Fault::LastOfBatchWins) {
            return pairs.rev().try_for_each(|(row, v)| self.insert(*row, v));
        }
        pairs
            .into_iter()
            .try_for_each(|(row, v)| self.insert(*row, v))
    }

    fn remove(&self, row: Row) -> Result<bool> {
        let mut state = self.state.write();
        if self.is(Fault::ForgetsRemoves) {
            return Ok(state.live.contains_key(&row));
        }
        let Some(v) = state.live.remove(&row) else {
            return Ok(self.is(Fault::RemoveSaysTrue));
        };
        if matches!(self.fault, Fault::ReturnsDead | Fault::KeepsGarbage) {
            state.dead.insert(row, v);
        }
        Ok(true)
    }

    fn contains(&self, row: Row) -> bool {
        self.state.read().live.contains_key(&row)
    }

    fn read(&self, row: Row, out: &mut [f32]) -> Result<bool> {
        self.check_len(out.len())?;
        let state = self.state.read();
        if self.is(Fault::TouchesOut) {
            out.fill(0.0);
        }
        let Some(v) = state.live.get(&row) else {
            return Ok(false);
        };
        out.copy_from_slice(v);
        Ok(true)
    }

    fn search(
        &self,
        query: &[f32],
        k: usize,
        options: &SearchOptions<'_>,
    ) -> Result<Vec<Neighbor>> {
        self.check_len(query.len())?;
        self.searches.fetch_add(1, Ordering::SeqCst);
        if query.iter().any(|x| !x.is_finite()) && !self.is(Fault::TakesNan) {
            return Err(Error::invalid_input("query: expected finite numbers"));
        }
        let state = self.state.read();
        let accept =
            |row: Row| self.is(Fault::IgnoresFilter) || options.filter.is_none_or(|f| f(row));
        let seen = |row: Row| match self.fault {
            Fault::Misses => options.exact || row.0.is_multiple_of(2),
            Fault::ExactMisses => row.0 % 50 != 49,
            _ => true,
        };
        let late = self.is(Fault::FiltersTooLate);
        let mut found: Vec<Neighbor> = state
            .live
            .iter()
            .chain(&state.dead)
            .filter(|(row, _)| seen(**row) && (late || accept(**row)))
            .map(|(row, v)| {
                let (a, b) = (self.metric.scale(query), self.metric.scale(v));
                let distance = self.metric.distance_scaled(query, a, v, b);
                let root = self.is(Fault::SquareRootOfL2) && self.metric == Metric::L2;
                Neighbor {
                    row: *row,
                    distance: if root { distance.sqrt() } else { distance },
                }
            })
            .collect();
        match self.fault {
            Fault::LosesOrder => {}
            Fault::TiesReversed => {
                found.sort_by(|a, b| a.distance.total_cmp(&b.distance).then(b.row.cmp(&a.row)));
            }
            _ => found.sort(),
        }
        found.truncate(if self.is(Fault::OneTooFew) {
            k.saturating_sub(1)
        } else {
            k
        });
        if late {
            found.retain(|n| accept(n.row));
        }
        Ok(found)
    }

    fn len(&self) -> usize {
        self.state.read().live.len()
    }

    fn rows(&self) -> Vec<Row> {
        self.state.read().live.keys().copied().collect()
    }

    fn bytes(&self) -> u64 {
        self.parts(&self.state.read()).values().sum()
    }

    fn bytes_after(&self, additional: usize) -> u64 {
        let each = match self.fault {
            Fault::BoundTooLow => 4 * self.dim as u64,
            _ => 4 * self.dim as u64 + ROW_BYTES,
        };
        if self.is(Fault::BoundOverflows) {
            return self
                .bytes()
                .wrapping_add(each.wrapping_mul(additional as u64));
        }
        self.bytes()
            .saturating_add(each.saturating_mul(additional as u64))
    }

    fn compact(&self) -> Result<()> {
        match self.fault {
            Fault::CompactDropsRows => {
                self.state.write().live.pop_last();
            }
            Fault::CompactInPieces => {
                let mut away = self.state.write().live.split_off(&Row(50));
                // Until somebody has searched meanwhile; bounded, for when nobody does.
                let before = self.searches.load(Ordering::SeqCst);
                for _ in 0..100_000 {
                    if self.searches.load(Ordering::SeqCst) > before + 2 {
                        break;
                    }
                    std::thread::yield_now();
                }
                self.state.write().live.append(&mut away);
            }
            _ => {}
        }
        Ok(())
    }

    fn save(&self, out: &mut dyn Write) -> Result<()> {
        let mut bytes = Vec::new();
        if self.is(Fault::SavesInPieces) {
            let first = self.state.read().live.clone();
            // Long enough for a busy writer to go several steps, bounded for an idle one.
            let last = first.keys().next_back().map_or(0, |row| row.0);
            let moved = |state: &State| state.live.keys().any(|row| row.0 > last + 3);
            for _ in 0..10_000 {
                if moved(&self.state.read()) {
                    break;
                }
                std::thread::yield_now();
            }
            let mut state = State {
                live: first,
                dead: BTreeMap::new(),
            };
            let second = self.state.read().live.clone();
            state.live.extend(second);
            self.encode(&state, &mut bytes);
        } else {
            self.encode(&self.state.read(), &mut bytes);
        }
        if !self.is(Fault::NoChecksum) {
            seal(&mut bytes, 0, 0);
        }
        match out.write_all(&bytes) {
            Err(e) if !self.is(Fault::SwallowsWriteErrors) => {
                Err(Error::unavailable("snapshot: cannot write").with_source(e))
            }
            _ => Ok(()),
        }
    }

    fn load(&self, input: &mut dyn Read) -> Result<()> {
        if !self.is_empty() && !self.is(Fault::LoadsIntoFull) {
            return Err(Error::invalid_input("load: expected an empty index"));
        }
        let mut bytes = Vec::new();
        input
            .read_to_end(&mut bytes)
            .map_err(|e| Error::unavailable("snapshot: cannot read").with_source(e))?;
        let body = match self.fault {
            Fault::NoChecksum => Ok(bytes.as_slice()),
            _ => unseal(&bytes, 0, "snapshot"),
        };
        if self.is(Fault::LoadsHalf) && body.is_err() && bytes.len() > 100 {
            self.state.write().live.insert(Row(0), vec![1.0; self.dim]);
        }
        let rows = self.decode(body?)?;
        self.state.write().live.extend(rows);
        Ok(())
    }

    fn stats(&self) -> HotStats {
        let state = self.state.read();
        let mut parts = self.parts(&state);
        let bytes = parts.values().sum();
        if self.is(Fault::PartsMissing) {
            parts.remove("map");
        }
        HotStats {
            rows: state.live.len() as u64,
            removed: 0,
            bytes,
            parts,
            ..HotStats::default()
        }
    }
}

#[cfg(test)]
mod tests;

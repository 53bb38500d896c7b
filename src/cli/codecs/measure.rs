//! What is measured on a sample.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aether::config::Slot;
use aether::import::Matrix;
use aether::vector::{Shape, VectorBlock};
use aether::{BuildContext, Error, Metric, Registry, Result, Role, SystemClock};
use aether_core::codec::{BlockCodec, Decoders};
use serde::Serialize;

/// The true neighbours of evenly spaced rows.
pub(super) fn truth(vectors: &Matrix, bench: &Bench, queries: usize) -> Vec<(usize, Vec<u32>)> {
    let rows = vectors.rows();
    let step = rows.div_ceil(queries.min(rows));
    let query = |q: usize| {
        let found = bench.neighbours(vectors, q, vectors.row(q));
        (q, found)
    };
    (0..rows).step_by(step).map(query).collect()
}

/// A codec to try.
pub(super) struct Candidate {
    pub(super) first: &'static str,
    pub(super) then: Option<&'static str>,
    pub(super) codec: BlockCodec,
    decoders: Arc<Decoders>,
}

impl Candidate {
    pub(super) fn name(&self) -> String {
        self.then.map_or_else(
            || self.first.to_owned(),
            |then| format!("{}+{then}", self.first),
        )
    }
}

/// Every codec of this build, and every lossy one with every byte codec that packs behind it; each with its defaults.
pub(super) fn candidates(vectors: &Matrix, metric: Metric, seed: u64) -> Result<Vec<Candidate>> {
    let registry = Arc::new(aether::registry()?);
    let context = BuildContext {
        dim: vectors.dim(),
        metric,
        data_dir: None,
        clock: Arc::new(SystemClock::new()),
        seed,
        read_only: true,
        hot_budget: None,
        registry: registry.clone(),
    };
    let decoders = Arc::new(Decoders::new(registry.clone(), context.clone()));
    let names = codec_names(&registry);
    let build = |name: &str| registry.codec(&Slot::named(Role::Codec, name), &context);
    let mut candidates = Vec::new();
    for first in names.iter().copied() {
        let codec = build(first)?;
        let mut followers = vec![None];
        // An exact codec that packs bytes has done so already; `raw` behind another only adds a checksum.
        if codec.as_byte_codec().is_none() {
            followers.extend(names.iter().filter(|n| **n != "raw").map(|n| Some(*n)));
        }
        for then in followers {
            let behind = then.map(build).transpose()?;
            if behind.as_ref().is_some_and(|c| c.as_byte_codec().is_none()) {
                continue;
            }
            candidates.push(Candidate {
                first,
                then,
                codec: BlockCodec::new(codec.clone(), behind)?,
                decoders: decoders.clone(),
            });
        }
    }
    Ok(candidates)
}

fn codec_names(registry: &Registry) -> Vec<&'static str> {
    let codecs = registry.iter().filter(|p| p.role() == Role::Codec);
    codecs.map(|p| p.name).collect()
}

/// What a codec does to the sample.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Figures {
    /// Plain bytes over packed bytes, block headers and checksums included.
    pub(super) ratio: f64,
    pub(super) packed_bytes: u64,
    /// Plain megabytes a second, one thread.
    pub(super) encode_mb_s: f64,
    pub(super) decode_mb_s: f64,
    /// Of the k nearest of the sample as it was, the share that is among the k nearest of it unpacked.
    pub(super) recall: f64,
    /// Seconds to transfer and unpack a gigabyte of plain vectors.
    pub(super) fetch_s_per_gb: f64,
}

/// How it is measured.
pub(super) struct Bench {
    pub(super) metric: Metric,
    pub(super) k: usize,
    pub(super) block: usize,
    /// Bytes a second.
    pub(super) bandwidth: f64,
    pub(super) time: Duration,
}

impl Bench {
    /// The k nearest rows to a query that is itself row `own`, without it.
    fn neighbours(&self, vectors: &Matrix, own: usize, query: &[f32]) -> Vec<u32> {
        let mut found = vectors.nearest(self.metric, query, self.k + 1);
        match found.iter().position(|row| *row as usize == own) {
            Some(place) => found.remove(place),
            None => found.pop().unwrap_or_default(),
        };
        found
    }

    /// # Errors
    /// `InvalidInput` when the codec cannot hold this data within its bound.
    pub(super) fn measure(
        &self,
        candidate: &Candidate,
        vectors: &Matrix,
        truth: &[(usize, Vec<u32>)],
    ) -> Result<Figures> {
        let dim = vectors.dim();
        let plain: Vec<f32> = vectors.iter().flatten().copied().collect();
        let mut blocks: Vec<(Shape, Vec<u8>)> = Vec::new();
        let encode_s = self.timed(|| {
            blocks.clear();
            for data in plain.chunks(self.block * dim) {
                let rows = data.len() / dim;
                let (shape, mut out) = (Shape { rows, dim }, Vec::new());
                candidate
                    .codec
                    .encode_block(VectorBlock::new(data, shape)?, &mut out)?;
                blocks.push((shape, out));
            }
            Ok(())
        })?;
        let mut unpacked = Vec::with_capacity(plain.len());
        let decode_s = self.timed(|| {
            unpacked.clear();
            for (shape, bytes) in &blocks {
                candidate
                    .decoders
                    .decode_block(bytes, *shape, &mut unpacked)?;
            }
            Ok(())
        })?;
        let exact = candidate.codec.fidelity().is_exact();
        let same = plain
            .iter()
            .zip(&unpacked)
            .all(|(a, b)| a.to_bits() == b.to_bits());
        if exact && !same {
            return Err(Error::internal(format!(
                "codec {} says that it is exact and is not: report it",
                candidate.name()
            )));
        }
        let recall = if exact {
            1.0
        } else {
            self.recall(vectors, &Matrix::new(dim, unpacked)?, truth)
        };
        let plain_bytes = plain.len() as f64 * 4.0;
        let packed_bytes: u64 = blocks.iter().map(|(_, b)| b.len() as u64).sum();
        let (ratio, mb) = (plain_bytes / packed_bytes as f64, plain_bytes / 1e6);
        Ok(Figures {
            ratio,
            packed_bytes,
            encode_mb_s: mb / encode_s,
            decode_mb_s: mb / decode_s,
            recall,
            fetch_s_per_gb: 1e9 / ratio / self.bandwidth + 1e3 * decode_s / mb,
        })
    }

    fn recall(&self, plain: &Matrix, unpacked: &Matrix, truth: &[(usize, Vec<u32>)]) -> f64 {
        let (mut found, mut all) = (0, 0);
        for (query, expected) in truth {
            let got = self.neighbours(unpacked, *query, plain.row(*query));
            found += expected.iter().filter(|row| got.contains(row)).count();
            all += expected.len();
        }
        found as f64 / all.max(1) as f64
    }

    /// Seconds of the quickest of as many runs as fit into the time, at least two.
    fn timed(&self, mut run: impl FnMut() -> Result<()>) -> Result<f64> {
        let begun = Instant::now();
        let mut best = f64::INFINITY;
        for round in 0.. {
            let started = Instant::now();
            run()?;
            best = best.min(started.elapsed().as_secs_f64());
            if round > 0 && begun.elapsed() >= self.time {
                break;
            }
        }
        Ok(best.max(1e-9))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bench() -> Bench {
        Bench {
            metric: Metric::L2,
            k: 10,
            block: 64,
            bandwidth: 90e6,
            time: Duration::ZERO,
        }
    }

    fn cloud(rows: usize, dim: usize) -> Matrix {
        let mut rng = fastrand::Rng::with_seed(5);
        let data = (0..rows * dim).map(|_| rng.f32() - 0.5).collect();
        Matrix::new(dim, data).unwrap()
    }

    /// On 1,000 random vectors of 32 dimensions (seed 5) half precision finds nearly all neighbours, and eight bits a component most of
    /// them; the sizes follow from the formats.
    #[test]
    fn figures_are_those_of_the_data() {
        let (sample, bench) = (cloud(1000, 32), bench());
        let truth = truth(&sample, &bench, 100);
        assert_eq!(truth.len(), 100);
        assert!(
            truth
                .iter()
                .all(|(q, t)| t.len() == 10 && !t.contains(&(*q as u32)))
        );
        let candidates = candidates(&sample, Metric::L2, 1).unwrap();
        let mut seen = 0;
        for candidate in candidates {
            let f = bench.measure(&candidate, &sample, &truth).unwrap();
            let (low, high, recall) = match (candidate.first, candidate.then) {
                ("raw", None) => (0.98, 1.0, 1.0),
                ("f16", None) => (1.95, 2.0, 0.99),
                ("sq8", None) => (3.0, 4.0, 0.9),
                ("f16" | "sq8", Some(_)) => (1.95, 5.0, 0.9),
                _ => (0.98, 1.3, 1.0),
            };
            let name = candidate.name();
            assert!(f.ratio > low && f.ratio <= high, "{name}: {f:?}");
            assert!(f.recall >= recall && f.recall <= 1.0, "{name}: {f:?}");
            assert!(f.encode_mb_s > 0.0 && f.decode_mb_s > 0.0, "{name}: {f:?}");
            let transfer = 1e9 / f.ratio / 90e6;
            assert!(f.fetch_s_per_gb > transfer, "{name}: {f:?}");
            seen += 1;
        }
        assert!(seen > 0);
    }

    #[test]
    fn a_codec_that_cannot_hold_the_data_says_so() {
        let sample = Matrix::new(2, vec![1e30, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
        let bench = Bench { k: 2, ..bench() };
        let truth = truth(&sample, &bench, 3);
        let candidates = candidates(&sample, Metric::L2, 1).unwrap();
        for candidate in candidates.iter().filter(|c| c.first == "f16") {
            let error = bench.measure(candidate, &sample, &truth).err();
            assert!(error.is_some_and(|e| e.is_invalid_input()));
        }
    }
}

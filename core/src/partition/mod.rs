//! The cold tier's coarse index: K-means cells, so that a bounded search reads only the nearest.
//!
//! Centroids are trained from a sample when the first rows go cold, and again, as a new *generation*, when the cold tier
//! has outgrown them. A segment belongs to the generation of its day; a search ranks the partitions of all generations
//! together, so nothing is ever rebuilt. Partition numbers are never used twice.

mod kmeans;

use crate::error::Result;
use crate::vector::{Metric, dot, squared_l2};
use crate::wire::{Reader, put_floats};

/// Most partitions of one generation: training is quadratic in them.
pub(crate) const PARTITIONS_MAX: usize = 1024;
/// A new generation is trained when the cold rows are so many times those that the newest one was made for.
const OUTGROWN: u64 = 2;
/// Training rows for each partition.
const SAMPLE_PER_PARTITION: usize = 24;

/// One training's centroids.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Generation {
    /// Its number; also the order of age.
    pub(crate) number: u32,
    /// Number of its first partition; the others follow.
    pub(crate) first_partition: u32,
    /// `[partitions, dim]`; unit length under cosine.
    centroids: Vec<f32>,
    dim: usize,
    metric: Metric,
}

impl Generation {
    /// Trains from a sample, `[rows, dim]`; deterministic from `seed`. O(iterations x sample x partitions x dim).
    pub(crate) fn train(
        number: u32,
        first_partition: u32,
        metric: Metric,
        dim: usize,
        sample: &[f32],
        partitions: usize,
        seed: u64,
    ) -> Self {
        let normalised;
        let sample = if metric == Metric::Cosine {
            normalised = sample
                .chunks_exact(dim)
                .flat_map(|v| scaled(metric, v))
                .collect::<Vec<_>>();
            &normalised[..]
        } else {
            sample
        };
        let spherical = metric == Metric::Cosine;
        let centroids = kmeans::train(sample, dim, partitions, spherical, seed);
        Self {
            number,
            first_partition,
            centroids,
            dim,
            metric,
        }
    }

    /// Number of partitions.
    pub(crate) fn len(&self) -> usize {
        self.centroids.len() / self.dim
    }

    /// One past its last partition.
    pub(crate) fn end_partition(&self) -> u32 {
        self.first_partition + self.len() as u32
    }

    /// The centroid of a partition of this generation, `[dim]`.
    pub(crate) fn centroid(&self, partition: u32) -> Option<&[f32]> {
        let index = partition.checked_sub(self.first_partition)? as usize;
        self.centroids.get(index * self.dim..(index + 1) * self.dim)
    }

    /// RAM of the centroids.
    pub(crate) fn bytes(&self) -> u64 {
        self.centroids.len() as u64 * 4
    }

    /// The partition that a vector belongs to. O(partitions x dim).
    pub(crate) fn assign(&self, vector: &[f32]) -> u32 {
        let scale = self.metric.scale(vector);
        let nearest = (self.centroids.chunks_exact(self.dim).enumerate())
            .map(|(i, c)| (self.rank(vector, scale, c), i))
            .min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        self.first_partition + nearest.map_or(0, |(_, i)| i as u32)
    }

    /// Every partition with its rank for a query (smaller is more promising), appended to `out`.
    pub(crate) fn ranks(&self, query: &[f32], out: &mut Vec<(f32, u32)>) {
        let scale = self.metric.scale(query);
        let ranked = (self
            .centroids
            .chunks_exact(self.dim)
            .zip(self.first_partition..))
        .map(|(c, p)| (self.rank(query, scale, c), p));
        out.extend(ranked);
    }

    /// Centroids are unit length under cosine, so a product ranks as the cosine does.
    fn rank(&self, v: &[f32], scale: f32, centroid: &[f32]) -> f32 {
        match self.metric {
            Metric::L2 => squared_l2(v, centroid),
            Metric::Cosine => 1.0 - dot(v, centroid) * scale,
            Metric::InnerProduct => -dot(v, centroid),
        }
    }

    /// The generation as bytes, in parts of at most `part_bytes`, for the metadata store.
    pub(crate) fn to_parts(&self, part_bytes: usize) -> Vec<Vec<u8>> {
        let floats = (part_bytes.saturating_sub(8) / 4).max(1);
        let head = [
            self.first_partition.to_le_bytes(),
            (self.len() as u32).to_le_bytes(),
        ]
        .concat();
        let with_head = |chunk: &[f32]| {
            let mut out = head.clone();
            put_floats(&mut out, chunk);
            out
        };
        self.centroids.chunks(floats).map(with_head).collect()
    }

    /// Reads what [`Generation::to_parts`] wrote.
    pub(crate) fn from_parts<'a>(
        number: u32,
        metric: Metric,
        dim: usize,
        parts: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Self> {
        let mut centroids = Vec::new();
        let (mut first_partition, mut partitions) = (0, 0);
        for part in parts {
            let mut r = Reader::new(part, "partition centroids");
            (first_partition, partitions) = (r.u32()?, r.u32()?);
            r.floats((part.len() - 8) / 4, &mut centroids)?;
            r.end()?;
        }
        if centroids.len() != partitions as usize * dim || partitions == 0 {
            return Err(Reader::new(&[], "partition centroids").bad(&format!(
                "generation {number}: expected {partitions} x {dim} floats, got {}",
                centroids.len()
            )));
        }
        Ok(Self {
            number,
            first_partition,
            centroids,
            dim,
            metric,
        })
    }
}

fn scaled(metric: Metric, v: &[f32]) -> impl Iterator<Item = f32> + '_ {
    let scale = metric.scale(v);
    v.iter().map(move |x| x * scale)
}

/// How many partitions a memory of so many points should have, and how many training rows they want.
///
/// Made for twice as many points as there are, since rows go cold while a memory grows.
pub(crate) fn plan(points: u64, partition_rows: usize) -> (usize, usize) {
    let partitions = (points * 2 / partition_rows as u64).clamp(1, PARTITIONS_MAX as u64) as usize;
    (partitions, partitions * SAMPLE_PER_PARTITION)
}

/// Whether the newest generation has been outgrown by so many cold rows.
pub(crate) fn outgrown(newest: &Generation, cold_rows: u64, partition_rows: usize) -> bool {
    newest.len() < PARTITIONS_MAX
        && cold_rows > OUTGROWN * newest.len() as u64 * partition_rows as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blobs(rng: &mut fastrand::Rng, blobs: usize, rows: usize, dim: usize) -> Vec<f32> {
        let centres: Vec<f32> = (0..blobs * dim).map(|_| rng.f32() * 20.0 - 10.0).collect();
        (0..rows)
            .flat_map(|i| {
                let c = (i % blobs) * dim;
                centres[c..c + dim]
                    .iter()
                    .map(|x| x + rng.f32())
                    .collect::<Vec<_>>()
            })
            .collect()
    }

    #[test]
    fn the_nearest_partitions_hold_most_neighbours() {
        for metric in Metric::ALL {
            let mut rng = fastrand::Rng::with_seed(1);
            let (dim, rows) = (16, 2000);
            let data = blobs(&mut rng, 20, rows, dim);
            let g = Generation::train(0, 5, metric, dim, &data, 20, 7);
            assert_eq!(
                g,
                Generation::train(0, 5, metric, dim, &data, 20, 7),
                "same seed, same cells"
            );
            let of: Vec<u32> = data.chunks(dim).map(|v| g.assign(v)).collect();
            let held = |p: u32| of.iter().filter(|q| **q == p).count() as u64;
            let (mut found, mut wanted) = (0, 0);
            for q in data.chunks(dim).step_by(97) {
                let mut truth: Vec<(f32, usize)> = data
                    .chunks(dim)
                    .enumerate()
                    .map(|(i, v)| (metric.distance(q, v), i))
                    .collect();
                truth.sort_by(|a, b| a.0.total_cmp(&b.0));
                let mut ranked = Vec::new();
                g.ranks(q, &mut ranked);
                ranked.sort_by(|a, b| a.0.total_cmp(&b.0));
                let mut left = rows as u64 / 4;
                let wanted_partition = |(_, p): &(f32, u32)| {
                    let before = left;
                    left = left.saturating_sub(held(*p));
                    before > 0
                };
                let probed: Vec<u32> = ranked
                    .into_iter()
                    .take_while(wanted_partition)
                    .map(|(_, p)| p)
                    .collect();
                wanted += 10;
                found += truth[..10]
                    .iter()
                    .filter(|(_, i)| probed.contains(&of[*i]))
                    .count();
            }
            assert!(found * 100 >= wanted * 95, "{metric}: {found} of {wanted}");
        }
    }

    #[test]
    fn a_generation_survives_its_parts_and_damage_is_found() {
        let mut rng = fastrand::Rng::with_seed(2);
        let data = blobs(&mut rng, 4, 100, 8);
        let g = Generation::train(3, 9, Metric::L2, 8, &data, 5, 7);
        let parts = g.to_parts(40);
        assert!(parts.len() > 1);
        let read = |parts: &[Vec<u8>]| {
            Generation::from_parts(3, Metric::L2, 8, parts.iter().map(Vec::as_slice))
        };
        assert_eq!(read(&parts).unwrap(), g);
        assert!(read(&parts[1..]).is_err());
        assert!(read(&[vec![1, 2, 3]]).is_err());
    }

    #[test]
    fn fewer_rows_than_partitions_and_equal_rows_do_no_harm() {
        let g = Generation::train(0, 0, Metric::L2, 2, &[1.0, 2.0], 8, 7);
        assert_eq!(g.len(), 1);
        let g = Generation::train(0, 0, Metric::Cosine, 2, &[1.0, 2.0].repeat(50), 8, 7);
        assert!(g.assign(&[1.0, 2.0]) < g.end_partition());
    }
}

//! The cold tier's coarse index: K-means cells, so that a bounded search reads only the nearest.
//!
//! Centroids are trained from a sample when the first rows go cold. From then on the index is kept good a little at a time, as SPFresh
//! does (Xu et al., SOSP 2023): a partition that grew is split, one that shrank ends, and the rows that are nearer to a new
//! centroid than to their own move there. [`balance`] decides, compaction carries it out; nothing is ever rebuilt as a whole.
//!
//! | rule | why |
//! |---|---|
//! | a centroid never changes, and no number is used twice | codes of rows are relative to it |
//! | a partition that ended is *retired*: no row is sorted into it any more | its rows are found by it until they have moved |
//! | it is forgotten when no segment names it and nobody holds an index in which it was in use | a segment may be on its way |
//! | an index is a value; a change makes another | a search sees one moment |

pub(crate) mod balance;
mod distance;
mod groups;
mod kmeans;
mod split;

use std::borrow::Cow;
use std::collections::BTreeSet;

use crate::error::{Error, Result};
use crate::segment::Centroids;
use crate::vector::{Metric, dot, squared_l2};
use crate::wire::{Reader, put_floats};
use balance::Bounds;
use distance::Measure;
use groups::Groups;

/// Training rows for each partition, where there are so many.
const SAMPLE_PER_PARTITION: usize = 24;
/// Fewer give no centroid worth the name.
const SAMPLE_MIN: usize = 8;
/// Version and flags before a centroid's floats.
const HEAD_BYTES: usize = 4;
const VERSION: u8 = 1;
/// Flag of a partition that has ended.
const RETIRED: u8 = 1;

/// Some partitions: their numbers, ascending, and their centroids, `[numbers, dim]`.
#[derive(Clone, Debug, Default, PartialEq)]
struct Set {
    numbers: Vec<u32>,
    centroids: Vec<f32>,
}

impl Set {
    fn place(&self, number: u32) -> Option<usize> {
        self.numbers.binary_search(&number).ok()
    }

    fn centroid(&self, number: u32, dim: usize) -> Option<&[f32]> {
        let at = self.place(number)? * dim;
        self.centroids.get(at..at + dim)
    }

    fn each(&self, dim: usize) -> impl Iterator<Item = (u32, &[f32])> {
        let centroids = self.centroids.chunks_exact(dim);
        self.numbers.iter().copied().zip(centroids)
    }

    fn of<'a>(some: impl Iterator<Item = (u32, &'a [f32])>) -> Self {
        let mut some: Vec<(u32, &[f32])> = some.collect();
        some.sort_unstable_by_key(|(number, _)| *number);
        let mut set = Self::default();
        for (number, centroid) in some {
            set.numbers.push(number);
            set.centroids.extend_from_slice(centroid);
        }
        set
    }
}

/// One partition as it is made or read.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Partition {
    pub(crate) number: u32,
    pub(crate) retired: bool,
    /// `[dim]`; unit length under cosine.
    pub(crate) centroid: Vec<f32>,
}

impl Partition {
    /// The partition as the metadata store has it.
    pub(crate) fn encode(&self) -> Vec<u8> {
        encode(self.retired, &self.centroid)
    }

    /// Reads what [`Partition::encode`] wrote.
    pub(crate) fn decode(number: u32, dim: usize, value: &[u8]) -> Result<Self> {
        let mut r = Reader::new(value, "partition");
        let (version, flags) = (r.u8()?, r.u8()?);
        if version != VERSION {
            return Err(r.bad(&format!("expected version {VERSION}, got {version}")));
        }
        r.u16()?;
        let mut centroid = Vec::new();
        r.floats(dim, &mut centroid)?;
        r.end()?;
        Ok(Self {
            number,
            retired: flags & RETIRED != 0,
            centroid,
        })
    }
}

fn encode(retired: bool, centroid: &[f32]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEAD_BYTES + centroid.len() * 4);
    out.extend_from_slice(&[VERSION, if retired { RETIRED } else { 0 }, 0, 0]);
    put_floats(&mut out, centroid);
    out
}

/// The partitions of a memory at one moment.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Partitions {
    dim: usize,
    metric: Metric,
    /// Those that rows are sorted into.
    active: Set,
    retired: Set,
    groups: Option<Groups>,
}

impl Centroids for Partitions {
    fn centroid(&self, partition: u32) -> Option<&[f32]> {
        let active = self.active.centroid(partition, self.dim);
        active.or_else(|| self.retired.centroid(partition, self.dim))
    }
}

impl Partitions {
    /// None yet.
    pub(crate) fn new(dim: usize, metric: Metric) -> Self {
        Self {
            dim,
            metric,
            active: Set::default(),
            retired: Set::default(),
            groups: None,
        }
    }

    /// Those that were read, in any order; of two with one number the later counts.
    pub(crate) fn read(dim: usize, metric: Metric, read: Vec<Partition>) -> Self {
        let by_number: std::collections::BTreeMap<u32, Partition> =
            read.into_iter().map(|p| (p.number, p)).collect();
        let of = |retired: bool| {
            let some = by_number.values().filter(|p| p.retired == retired);
            Set::of(some.map(|p| (p.number, &p.centroid[..])))
        };
        let mut read = Self::new(dim, metric);
        (read.active, read.retired) = (of(false), of(true));
        read.regroup(None);
        read
    }

    /// Centroids of up to `k` partitions, from a sample of vectors; deterministic from `seed`. See [`plan`] for the numbers.
    pub(crate) fn train(&self, sample: &[&[f32]], k: usize, seed: u64) -> Vec<Vec<f32>> {
        let sample = self.prepared(sample);
        let refs: Vec<&[f32]> = sample.iter().map(|v| &v[..]).collect();
        let mut made = kmeans::train(self.measure(), &refs, k.max(1), seed);
        for centroid in &mut made {
            if let Some(first) = refs.first().filter(|_| !self.is_centroid(centroid)) {
                *centroid = first.to_vec();
            }
        }
        made
    }

    /// Centroids of up to `parts` parts of the rows of one partition, each nearest to at least `least` of them; none where they are all
    /// alike.
    pub(crate) fn split(
        &self,
        rows: &[&[f32]],
        parts: usize,
        least: usize,
        seed: u64,
    ) -> Vec<Vec<f32>> {
        let rows = self.prepared(rows);
        let refs: Vec<&[f32]> = rows.iter().map(|v| &v[..]).collect();
        let made = split::split(self.measure(), &refs, parts, least, seed);
        if made.iter().all(|c| self.is_centroid(c)) {
            made
        } else {
            Vec::new()
        }
    }

    /// Under cosine, opposite rows may cancel one another: their mean has no direction.
    fn is_centroid(&self, c: &[f32]) -> bool {
        self.metric != Metric::Cosine || dot(c, c) > 0.5
    }

    /// The same with some partitions more, some retired, and some forgotten.
    ///
    /// # Errors
    /// `Internal` when a number is given twice.
    pub(crate) fn changed(
        &self,
        added: &[Partition],
        retired: &BTreeSet<u32>,
        forgotten: &BTreeSet<u32>,
    ) -> Result<Self> {
        if let Some(twice) = added.iter().find(|p| self.centroid(p.number).is_some()) {
            return Err(Error::internal(format!(
                "partition {} is made a second time",
                twice.number
            )));
        }
        let dim = self.dim;
        let stays = |(p, _): &(u32, &[f32])| !forgotten.contains(p);
        let ends = |(p, _): &(u32, &[f32])| retired.contains(p);
        let added = added.iter().map(|p| (p.number, &p.centroid[..]));
        let active = self.active.each(dim).filter(|p| !ends(p)).filter(stays);
        let gone = self.active.each(dim).filter(ends);
        let gone = self.retired.each(dim).chain(gone).filter(stays);
        let mut next = Self {
            dim,
            metric: self.metric,
            active: Set::of(active.chain(added)),
            retired: Set::of(gone),
            groups: None,
        };
        next.regroup(self.groups.as_ref());
        Ok(next)
    }

    fn regroup(&mut self, before: Option<&Groups>) {
        let groups = Groups::adapted(before, self.measure(), &self.centroids());
        self.groups = groups;
    }

    fn measure(&self) -> Measure {
        Measure::of(self.metric)
    }

    fn centroids(&self) -> Vec<&[f32]> {
        self.active.centroids.chunks_exact(self.dim).collect()
    }

    /// Whether rows can be sorted into them.
    pub(crate) fn is_empty(&self) -> bool {
        self.active.numbers.is_empty()
    }

    /// Partitions, those included that have ended.
    pub(crate) fn len(&self) -> usize {
        self.active.numbers.len() + self.retired.numbers.len()
    }

    /// Partitions that rows are sorted into, by number.
    pub(crate) fn active(&self) -> &[u32] {
        &self.active.numbers
    }

    /// Partitions that have ended.
    pub(crate) fn retired(&self) -> &[u32] {
        &self.retired.numbers
    }

    /// A number that was never used.
    pub(crate) fn next_number(&self) -> u32 {
        let last = |s: &Set| s.numbers.last().map_or(0, |p| p + 1);
        last(&self.active).max(last(&self.retired))
    }

    /// A partition as the metadata store has it, with another state.
    pub(crate) fn encode(&self, number: u32, retired: bool) -> Option<Vec<u8>> {
        Some(encode(retired, self.centroid(number)?))
    }

    /// RAM of the index.
    pub(crate) fn bytes(&self) -> u64 {
        let one = |s: &Set| (s.numbers.len() + s.centroids.len()) as u64 * 4;
        one(&self.active) + one(&self.retired) + self.groups.as_ref().map_or(0, Groups::bytes)
    }

    /// Under cosine, directions.
    fn prepared<'v>(&self, rows: &[&'v [f32]]) -> Vec<Cow<'v, [f32]>> {
        let prepare = |v: &&'v [f32]| match self.metric {
            Metric::L2 | Metric::InnerProduct => Cow::Borrowed(*v),
            Metric::Cosine => {
                let scale = self.metric.scale(v);
                Cow::Owned(v.iter().map(|x| x * scale).collect())
            }
        };
        rows.iter().map(prepare).collect()
    }

    /// The partition of each row: the nearest, or one nearly as near where there are many. Empty while there are no partitions.
    /// O(sqrt(partitions) x dim) a row.
    pub(crate) fn assign(&self, rows: &[&[f32]]) -> Vec<u32> {
        if self.is_empty() {
            return Vec::new();
        }
        let prepared = self.prepared(rows);
        let refs: Vec<&[f32]> = prepared.iter().map(|v| &v[..]).collect();
        let centroids = self.centroids();
        let found = match &self.groups {
            Some(groups) => groups.nearest(self.measure(), &refs, &centroids),
            None => distance::nearest(self.measure(), &refs, &centroids),
        };
        found
            .iter()
            .map(|(at, _)| self.active.numbers[*at])
            .collect()
    }

    /// The same, surely the nearest. O(partitions x dim) a row.
    pub(crate) fn assign_exactly(&self, rows: &[&[f32]]) -> Vec<u32> {
        if self.is_empty() {
            return Vec::new();
        }
        let prepared = self.prepared(rows);
        let refs: Vec<&[f32]> = prepared.iter().map(|v| &v[..]).collect();
        let found = distance::nearest(self.measure(), &refs, &self.centroids());
        found
            .iter()
            .map(|(at, _)| self.active.numbers[*at])
            .collect()
    }

    /// For each row whether one of `others`' centroids is nearer to it than the centroid of `own`.
    pub(crate) fn strays(&self, own: u32, others: &[&[f32]], rows: &[&[f32]]) -> Vec<bool> {
        let Some(own) = self.centroid(own) else {
            return vec![false; rows.len()];
        };
        let prepared = self.prepared(rows);
        let refs: Vec<&[f32]> = prepared.iter().map(|v| &v[..]).collect();
        let at_home = distance::nearest(self.measure(), &refs, &[own]);
        let elsewhere = distance::nearest(self.measure(), &refs, others);
        let pairs = elsewhere.iter().zip(&at_home);
        pairs.map(|((_, there), (_, here))| there < here).collect()
    }

    /// The up to `n` partitions in use nearest to a centroid, the nearest first, with their squared distances; those of `not` left out.
    pub(crate) fn nearest_to(
        &self,
        centroid: &[f32],
        n: usize,
        not: &BTreeSet<u32>,
    ) -> Vec<(f32, u32)> {
        let others = self.active.each(self.dim).filter(|(p, _)| !not.contains(p));
        let mut ranked: Vec<(f32, u32)> =
            others.map(|(p, c)| (squared_l2(c, centroid), p)).collect();
        let by = |a: &(f32, u32), b: &(f32, u32)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1));
        if n < ranked.len() {
            ranked.select_nth_unstable_by(n, by);
            ranked.truncate(n);
        }
        ranked.sort_unstable_by(by);
        ranked
    }

    /// Every partition with its rank for a query (smaller is more promising), appended to `out`.
    pub(crate) fn ranks(&self, query: &[f32], out: &mut Vec<(f32, u32)>) {
        let scale = self.metric.scale(query);
        for set in [&self.active, &self.retired] {
            let ranked = set
                .each(self.dim)
                .map(|(p, c)| (self.rank(query, scale, c), p));
            out.extend(ranked);
        }
    }

    /// Centroids are unit length under cosine, so a product ranks as the cosine does.
    fn rank(&self, v: &[f32], scale: f32, centroid: &[f32]) -> f32 {
        match self.metric {
            Metric::L2 => squared_l2(v, centroid),
            Metric::Cosine => 1.0 - dot(v, centroid) * scale,
            Metric::InnerProduct => -dot(v, centroid),
        }
    }
}

/// How many partitions a memory of so many points should have, and how many training rows they want, of which there are at most
/// `sample_max`.
///
/// Twice as many as it could fill, since it may grow; splitting does the rest.
pub(crate) fn plan(points: u64, partition_rows: usize, sample_max: usize) -> (usize, usize) {
    let target = Bounds::of(points, partition_rows).target.max(1);
    let wanted = usize::try_from(points * 2 / target).unwrap_or(usize::MAX);
    let partitions = wanted.clamp(1, (sample_max / SAMPLE_MIN).max(1));
    let sample = (partitions * SAMPLE_PER_PARTITION).min(sample_max);
    (partitions, sample.max(1))
}

/// Reads the centroids of a generation, as the first versions kept them, all of one training in parts: first partition u32, partitions
/// u32, floats.
pub(crate) fn read_generation<'a>(
    number: u32,
    dim: usize,
    parts: impl IntoIterator<Item = &'a [u8]>,
) -> Result<Vec<Partition>> {
    let mut centroids = Vec::new();
    let (mut first, mut partitions) = (0u32, 0);
    for part in parts {
        let mut r = Reader::new(part, "partition centroids");
        (first, partitions) = (r.u32()?, r.u32()?);
        r.floats((part.len() - 8) / 4, &mut centroids)?;
        r.end()?;
    }
    let fits = centroids.len() == partitions as usize * dim && partitions > 0;
    if !fits || first.checked_add(partitions).is_none() {
        return Err(Reader::new(&[], "partition centroids").bad(&format!(
            "generation {number}: expected {partitions} x {dim} floats, got {}",
            centroids.len()
        )));
    }
    let partition = |(number, c): (u32, &[f32])| Partition {
        number,
        retired: false,
        centroid: c.to_vec(),
    };
    Ok((first..)
        .zip(centroids.chunks_exact(dim))
        .map(partition)
        .collect())
}

#[cfg(test)]
mod tests;

//! Which segments a compaction merges: pure, from figures alone.
//!
//! Segments form levels by size, each `ratio` times the one below: `ratio` segments of one level merge into one of the next
//! (size-tiered, as O'Neil et al., Acta Informatica 33, 1996, with all components of a level alike), so that a row is written about once
//! for each level. A merge whose rows do not fit one segment is cut by partitions, and each part counts as large as the run that it is a
//! part of; such parts merge where enough of them hold rows of one partition. So a partition lies in about `ratio` segments of each
//! level, whatever the memory's size.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::SegmentId;

/// Full segments are so many times the size below which all are of the lowest level: a request costs more than reading those.
const LOWEST: f64 = 512.0;

/// What the choice needs to know of a segment.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Candidate {
    pub(crate) id: SegmentId,
    /// Its size, dead rows included, on the scale of [`Shape::segment_bytes`].
    pub(crate) bytes: u64,
    pub(crate) rows: u32,
    /// Rows not marked dead.
    pub(crate) live: u64,
    /// The partitions that it holds rows of, each once.
    pub(crate) partitions: Vec<u32>,
}

/// What is asked of the choice; see `[compaction]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) ratio: usize,
    pub(crate) dead_share: f64,
    pub(crate) segment_bytes: u64,
    /// Partitions that hold rows.
    pub(crate) partitions: usize,
}

impl Candidate {
    fn dead_share(&self) -> f64 {
        1.0 - self.live as f64 / f64::from(self.rows.max(1))
    }

    /// Whether it is as large as segments get, so that it may be one part of a run.
    fn is_full(&self, shape: &Shape) -> bool {
        self.bytes * 2 >= shape.segment_bytes
    }

    fn level(&self, shape: &Shape) -> u32 {
        let live = self.bytes as f64 * (1.0 - self.dead_share());
        let run = if self.is_full(shape) {
            live * shape.partitions as f64 / self.partitions.len().max(1) as f64
        } else {
            live
        };
        let base = shape.segment_bytes as f64 / LOWEST;
        let level = (run / base).max(1.0).log(shape.ratio as f64);
        level as u32
    }
}

/// The inputs of the next compaction; `None` when all is in order. O(segments x their partitions).
///
/// First what holds no live row at all, which costs nothing; then the lowest level that is full; then what is mostly dead.
pub(crate) fn choose(candidates: &[Candidate], shape: &Shape) -> Option<Vec<SegmentId>> {
    let empty: Vec<SegmentId> = ids(candidates.iter().filter(|c| c.live == 0));
    if !empty.is_empty() {
        return Some(empty);
    }
    let mut levels: BTreeMap<u32, Vec<&Candidate>> = BTreeMap::new();
    for c in candidates {
        levels.entry(c.level(shape)).or_default().push(c);
    }
    for (level, members) in &levels {
        if members.len() < shape.ratio {
            continue;
        }
        if members.iter().any(|c| c.is_full(shape)) {
            let deep = deepest(members);
            if deep.len() >= shape.ratio && gets_better(&deep) {
                return Some(ids(deep.into_iter()));
            }
            continue;
        }
        // What is smaller goes along: it would be merged next in any case.
        let below = levels.range(..=level).flat_map(|(_, c)| c.iter().copied());
        return Some(ids(below));
    }
    for members in levels.values() {
        let dead = ids(members
            .iter()
            .copied()
            .filter(|c| c.dead_share() >= shape.dead_share));
        if !dead.is_empty() {
            return Some(dead);
        }
    }
    None
}

fn ids<'a>(chosen: impl Iterator<Item = &'a Candidate>) -> Vec<SegmentId> {
    chosen.map(|c| c.id).collect()
}

/// The members that hold rows of the partition that most of them do.
fn deepest<'a>(members: &[&'a Candidate]) -> Vec<&'a Candidate> {
    let mut depth: BTreeMap<u32, usize> = BTreeMap::new();
    for p in members.iter().flat_map(|c| &c.partitions) {
        *depth.entry(*p).or_default() += 1;
    }
    let most = depth
        .into_iter()
        .max_by_key(|(p, n)| (*n, std::cmp::Reverse(*p)));
    let holds = |c: &&&Candidate| most.is_some_and(|(p, _)| c.partitions.contains(&p));
    members.iter().filter(holds).copied().collect()
}

/// Whether merging these leaves fewer pieces, a piece being what one segment holds of one partition. What is written is in order of
/// partitions, and each cut between two segments makes one piece more, of which one is to spare. Full segments of one and the same
/// partition get no better, however often they are merged.
fn gets_better(members: &[&Candidate]) -> bool {
    let pieces: usize = members.iter().map(|c| c.partitions.len()).sum();
    let partitions: BTreeSet<u32> = members.iter().flat_map(|c| c.partitions.clone()).collect();
    pieces > partitions.len() + members.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn shape() -> Shape {
        Shape {
            ratio: 4,
            dead_share: 0.5,
            segment_bytes: 32 * MIB,
            partitions: 100,
        }
    }

    fn segment(id: u64, bytes: u64, live: u64, partitions: std::ops::Range<u32>) -> Candidate {
        Candidate {
            id: SegmentId(id),
            bytes,
            rows: 1000,
            live,
            partitions: partitions.collect(),
        }
    }

    fn chosen(candidates: &[Candidate]) -> Option<Vec<u64>> {
        choose(candidates, &shape()).map(|ids| ids.into_iter().map(|s| s.0).collect())
    }

    #[test]
    fn a_full_level_is_merged_with_what_is_smaller_and_a_lone_large_one_stays() {
        let mut all = vec![segment(1, 12 * MIB, 1000, 0..100)];
        all.extend((2..5).map(|i| segment(i, MIB, 1000, 0..100)));
        all.push(segment(5, 10, 1000, 0..1));
        assert_eq!(chosen(&all), None);
        all.push(segment(6, MIB, 1000, 0..100));
        assert_eq!(chosen(&all), Some(vec![5, 2, 3, 4, 6]));
    }

    #[test]
    fn what_is_wholly_dead_goes_first_and_what_is_mostly_dead_last() {
        let all = [
            segment(1, 12 * MIB, 400, 0..100),
            segment(2, MIB, 0, 0..100),
            segment(3, MIB, 900, 0..100),
        ];
        assert_eq!(chosen(&all), Some(vec![2]));
        assert_eq!(chosen(&[all[0].clone(), all[2].clone()]), Some(vec![1]));
        assert_eq!(chosen(&all[2..]), None);
    }

    #[test]
    fn parts_of_a_run_merge_only_where_enough_of_them_overlap() {
        // Two runs of two parts each: every partition lies in two segments.
        let mut all: Vec<Candidate> = (0..4)
            .map(|i| segment(i, 30 * MIB, 1000, if i % 2 == 0 { 0..50 } else { 50..100 }))
            .collect();
        assert_eq!(chosen(&all), None, "a run has not become deep");
        all.extend(
            (4..8).map(|i| segment(i, 30 * MIB, 1000, if i % 2 == 0 { 0..50 } else { 50..100 })),
        );
        assert_eq!(chosen(&all), Some(vec![0, 2, 4, 6]));
    }

    #[test]
    fn merging_until_all_is_in_order_writes_each_row_about_once_for_each_level() {
        let (shape, mut next) = (shape(), 0);
        let mut all: Vec<Candidate> = Vec::new();
        let (mut fresh, mut written) = (0u64, 0u64);
        for _ in 0..1024 {
            next += 1;
            let id = next;
            all.push(segment(id, 128 << 10, 1000, 0..100));
            fresh += 128 << 10;
            while let Some(inputs) = choose(&all, &shape) {
                let mut bytes = 0;
                all.retain(|c| {
                    let input = inputs.contains(&c.id);
                    bytes += if input { c.bytes } else { 0 };
                    !input
                });
                written += bytes;
                let parts = bytes.div_ceil(shape.segment_bytes).max(1);
                for part in 0..parts {
                    next += 1;
                    let (from, to) = (part * 100 / parts, (part + 1) * 100 / parts);
                    all.push(segment(next, bytes / parts, 1000, from as u32..to as u32));
                }
            }
        }
        let amplification = (fresh + written) as f64 / fresh as f64;
        assert!(amplification < 8.0, "{amplification}");
        let deep = (0..100)
            .map(|p| all.iter().filter(|c| c.partitions.contains(&p)).count())
            .max();
        assert!(deep.unwrap() <= 12, "{deep:?} segments hold one partition");
    }

    /// Partitions larger than a segment, as small segments of long vectors have them, were merged for ever: parts of a partition came
    /// out as they had gone in. Found by `orders`, `no_room_and_the_memory_s_own_tasks`.
    #[test]
    fn merging_comes_to_an_end_however_large_partitions_are() {
        const ROWS: u64 = 10;
        for (ratio, rows_of_one) in [(2, 3), (2, 15), (3, 7), (3, 25), (4, 40), (8, 400)] {
            let shape = Shape {
                ratio,
                dead_share: 0.4,
                segment_bytes: ROWS * MIB,
                partitions: 400 / rows_of_one,
            };
            let mut rng = fastrand::Rng::with_seed(ratio as u64);
            let mut all: BTreeMap<SegmentId, Vec<u32>> = BTreeMap::new();
            let mut next = 0;
            let mut put = |all: &mut BTreeMap<SegmentId, Vec<u32>>, mut rows: Vec<u32>| {
                rows.sort_unstable();
                for part in rows.chunks(ROWS as usize) {
                    next += 1;
                    all.insert(SegmentId(next), part.to_vec());
                }
            };
            for _ in 0..100 {
                let drawn = (0..4).map(|_| rng.u32(0..shape.partitions as u32));
                put(&mut all, drawn.collect());
                let mut merges = 0;
                while let Some(inputs) = choose(&candidates(&all), &shape) {
                    let rows = inputs.iter().filter_map(|id| all.remove(id));
                    let rows = rows.collect::<Vec<_>>().concat();
                    put(&mut all, rows);
                    merges += 1;
                    assert!(merges < 50, "{shape:?} is never in order: {all:?}");
                }
            }
        }
    }

    fn candidates(all: &BTreeMap<SegmentId, Vec<u32>>) -> Vec<Candidate> {
        let candidate = |(id, rows): (&SegmentId, &Vec<u32>)| {
            let mut partitions = rows.clone();
            partitions.dedup();
            Candidate {
                id: *id,
                bytes: rows.len() as u64 * MIB,
                rows: rows.len() as u32,
                live: rows.len() as u64,
                partitions,
            }
        };
        all.iter().map(candidate).collect()
    }
}

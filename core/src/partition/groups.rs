//! The upper level of the centroids: about the square root of their number of groups of near ones, so that a row is compared with the
//! members of the nearest few groups instead of with all centroids.

use super::distance::{self, Measure};
use super::kmeans;

/// Below this, comparing with every centroid is as quick.
const FEWEST: usize = 256;
/// Groups whose members a row is compared with, at least.
const PROBED: usize = 4;
/// Of more groups, one in so many.
const PROBED_SHARE: usize = 8;
/// Rows that are compared together: enough for each group to meet many of them, few enough for their ranks to stay in the cache.
const TOGETHER: usize = 1024;
/// How far the number of centroids may leave what the groups were made for before they are made anew: a factor.
const OUTGROWN: f64 = 1.5;
/// Seed of the groups: not the memory's, since it decides nothing but speed and the last few rows' cells.
const SEED: u64 = 0x6772_6f75_7073;

/// Groups of centroids. Members are places in the list of centroids that the groups are used with.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Groups {
    centres: Vec<Vec<f32>>,
    members: Vec<Vec<u32>>,
    /// Centroids there were when the groups were made.
    made_for: usize,
}

impl Groups {
    /// Groups of centroids; `None` where there are too few to need them. O(n sqrt(n) dim).
    pub(super) fn of(measure: Measure, centroids: &[&[f32]]) -> Option<Self> {
        if centroids.len() < FEWEST {
            return None;
        }
        let k = (centroids.len() as f64).sqrt().ceil() as usize;
        let mut groups = Self {
            centres: kmeans::train(measure, centroids, k, SEED),
            members: Vec::new(),
            made_for: centroids.len(),
        };
        groups.enter(measure, centroids);
        Some(groups)
    }

    /// The groups for a list that has changed: kept while its length is about what they were made for.
    pub(super) fn adapted(
        before: Option<&Self>,
        measure: Measure,
        centroids: &[&[f32]],
    ) -> Option<Self> {
        let n = centroids.len();
        let still = |g: &&Self| {
            let ratio = n as f64 / g.made_for as f64;
            n >= FEWEST && (1.0 / OUTGROWN..OUTGROWN).contains(&ratio)
        };
        match before.filter(still) {
            Some(groups) => {
                let mut groups = groups.clone();
                groups.enter(measure, centroids);
                Some(groups)
            }
            None => Self::of(measure, centroids),
        }
    }

    fn enter(&mut self, measure: Measure, centroids: &[&[f32]]) {
        let centres: Vec<&[f32]> = self.centres.iter().map(Vec::as_slice).collect();
        self.members = vec![Vec::new(); centres.len()];
        for (place, (group, _)) in (0u32..).zip(distance::nearest(measure, centroids, &centres)) {
            self.members[group].push(place);
        }
    }

    /// RAM.
    pub(super) fn bytes(&self) -> u64 {
        let floats: usize = self.centres.iter().map(Vec::len).sum();
        let members: usize = self.members.iter().map(Vec::len).sum();
        ((floats + members) * 4) as u64
    }

    /// Nearly the nearest centroid of each row, as [`distance::nearest`]. Rows of one group are compared together.
    pub(super) fn nearest(
        &self,
        measure: Measure,
        rows: &[&[f32]],
        centroids: &[&[f32]],
    ) -> Vec<(usize, f32)> {
        let centres: Vec<&[f32]> = self.centres.iter().map(Vec::as_slice).collect();
        let probed = PROBED.max(centres.len() / PROBED_SHARE).min(centres.len());
        let mut best = Vec::with_capacity(rows.len());
        for rows in rows.chunks(TOGETHER) {
            let asked = self.asked(measure, rows, &centres, probed);
            best.extend(self.nearest_of(measure, rows, &asked, centroids));
        }
        best
    }

    /// For each group the places of the rows that are compared with its members.
    fn asked(
        &self,
        measure: Measure,
        rows: &[&[f32]],
        centres: &[&[f32]],
        probed: usize,
    ) -> Vec<Vec<usize>> {
        let width = centres.len();
        let mut ranked = vec![(0f32, 0u32); width * rows.len()];
        distance::each(measure, rows, centres, |r, c, distance| {
            // A group that lost all its members answers nothing.
            let none = self.members[c].is_empty();
            ranked[r * width + c] = (if none { f32::INFINITY } else { distance }, c as u32);
        });
        let mut asked: Vec<Vec<usize>> = vec![Vec::new(); width];
        for (row, ranks) in ranked.chunks_exact_mut(width.max(1)).enumerate() {
            let by = |a: &(f32, u32), b: &(f32, u32)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1));
            if probed < ranks.len() {
                ranks.select_nth_unstable_by(probed, by);
            }
            for (_, group) in &ranks[..probed] {
                asked[*group as usize].push(row);
            }
        }
        asked
    }

    fn nearest_of(
        &self,
        measure: Measure,
        rows: &[&[f32]],
        asked: &[Vec<usize>],
        centroids: &[&[f32]],
    ) -> Vec<(usize, f32)> {
        let mut best = vec![(0, f32::INFINITY); rows.len()];
        for (asked, members) in asked.iter().zip(&self.members) {
            let some: Vec<&[f32]> = asked.iter().map(|r| rows[*r]).collect();
            let of: Vec<&[f32]> = members.iter().map(|m| centroids[*m as usize]).collect();
            distance::each(measure, &some, &of, |r, c, distance| {
                let (row, place) = (asked[r], members[c] as usize);
                // The first of equals, in whatever order the groups come.
                if (distance, place) < (best[row].1, best[row].0) {
                    best[row] = (place, distance);
                }
            });
        }
        best
    }
}

//! How soon rows are used again, measured on a sample of them: what a hot tier of another size would miss, and how many rows were used of
//! late.
//!
//! A row is in the sample by a hash of its number, and the share that is sampled is halved whenever the sample is full (SHARDS with a fixed
//! size: Waldspurger et al., "Efficient MRC Construction with SHARDS", FAST 2015). Of each use of a sampled row counts how many other rows
//! were used since its last one: under plain recency a tier of more rows than that would have had it (Mattson et al., IBM Systems Journal
//! 9(2), 1970). The live policy is mostly better than plain recency, so what is said to be needed is on the safe side.

use hashbrown::HashMap;

use super::tree::Tree;
use crate::clock::Time;
use crate::id::Row;
use crate::seal::checksum;

/// Makes the sample independent of other hashes of rows.
const SEED: u64 = 0x0072_6575_7365;
/// Rows of the sample at most.
const SAMPLED: usize = 8192;
/// Sampled uses after which what was counted before weighs half.
const HALVE_AFTER: u32 = 1 << 16;
/// Steps of a doubling in which distances are counted.
const STEPS: f64 = 8.0;
/// Steps there are: distances up to 2^48.
const BUCKETS: usize = 48 * STEPS as usize;

/// Reuse of rows, on a sample.
#[derive(Clone, Debug)]
pub struct Reuse {
    limit: usize,
    /// Rows whose hash is below it are in the sample.
    threshold: u64,
    /// Where each sampled row stands in `uses`.
    places: HashMap<Row, u32>,
    /// Rows in the order of their last use, with gaps where a row was used again.
    uses: Vec<Option<(Row, Time)>>,
    /// Which places of `uses` are taken.
    taken: Tree,
    /// Uses by distance, in uses of all rows.
    distances: Vec<f64>,
    /// Uses of rows that were not known.
    first: f64,
    counted: u32,
}

impl Default for Reuse {
    fn default() -> Self {
        Self::new(SAMPLED)
    }
}

fn hash(row: Row) -> u64 {
    checksum(&row.0.to_le_bytes(), SEED)
}

/// The step that a distance is counted in: distances from `2^(b / 8) - 1` on.
fn bucket(distance: f64) -> usize {
    (((distance + 1.0).log2() * STEPS) as usize).min(BUCKETS - 1)
}

impl Reuse {
    /// Nothing known; at most `limit` rows sampled, two or more. About 50 bytes of RAM for each and 3 KiB.
    pub fn new(limit: usize) -> Self {
        let limit = limit.max(2);
        Self {
            limit,
            threshold: u64::MAX,
            places: HashMap::new(),
            uses: Vec::new(),
            taken: Tree::new(limit * 2),
            distances: vec![0.0; BUCKETS],
            first: 0.0,
            counted: 0,
        }
    }

    /// Rows for each that is sampled.
    fn scale(&self) -> f64 {
        2_f64.powi(64) / (self.threshold as f64 + 1.0)
    }

    /// A row was used. O(log n) for a sampled one, else a hash.
    pub fn used(&mut self, row: Row, now: Time) {
        if hash(row) > self.threshold {
            return;
        }
        let scale = self.scale();
        match self.places.get(&row).copied() {
            Some(place) => {
                let after = self.places.len() - self.taken.below(place as usize + 1);
                self.distances[bucket(after as f64 * scale)] += scale;
            }
            None => self.first += scale,
        }
        self.put_last(row, now);
        self.counted += 1;
        if self.counted >= HALVE_AFTER {
            self.counted = 0;
            self.first /= 2.0;
            self.distances.iter_mut().for_each(|n| *n /= 2.0);
        }
    }

    /// A row entered the memory: it is known from now on, and was not used.
    pub fn entered(&mut self, row: Row, now: Time) {
        if hash(row) <= self.threshold {
            self.put_last(row, now);
        }
    }

    /// A row is gone.
    pub fn removed(&mut self, row: Row) {
        if let Some(place) = self.places.remove(&row) {
            self.uses[place as usize] = None;
            self.taken.set(place as usize, false);
        }
    }

    fn put_last(&mut self, row: Row, now: Time) {
        self.removed(row);
        if self.uses.len() == self.limit * 2 {
            self.close_gaps();
        }
        let place = self.uses.len();
        self.uses.push(Some((row, now)));
        self.places.insert(row, place as u32);
        self.taken.set(place, true);
        while self.places.len() > self.limit {
            self.threshold /= 2;
            let threshold = self.threshold;
            let gone: Vec<Row> = self
                .places
                .keys()
                .copied()
                .filter(|row| hash(*row) > threshold)
                .collect();
            gone.into_iter().for_each(|row| self.removed(row));
        }
    }

    fn close_gaps(&mut self) {
        self.uses.retain(Option::is_some);
        self.taken = Tree::new(self.limit * 2);
        for (place, used) in self.uses.iter().enumerate() {
            if let Some((row, _)) = used {
                self.places.insert(*row, place as u32);
                self.taken.set(place, true);
            }
        }
    }

    /// All that is known, as words.
    pub fn save(&self) -> Vec<u64> {
        let head = [
            self.threshold,
            self.first.to_bits(),
            u64::from(self.counted),
        ];
        let distances = self.distances.iter().map(|n| n.to_bits());
        let uses = self
            .uses
            .iter()
            .flatten()
            .flat_map(|(row, at)| [row.0, at.0]);
        head.into_iter().chain(distances).chain(uses).collect()
    }

    /// What `save` told, under the usual limit; `None` for anything else.
    pub fn load(words: &[u64]) -> Option<Self> {
        let (head, rest) = words.split_first_chunk::<3>()?;
        let (distances, uses) = rest.split_at_checked(BUCKETS)?;
        let mut reuse = Self::default();
        (reuse.threshold, reuse.first) = (head[0], f64::from_bits(head[1]));
        reuse.counted = u32::try_from(head[2]).ok()?;
        reuse.distances = distances.iter().map(|n| f64::from_bits(*n)).collect();
        let (pairs, odd) = uses.as_chunks::<2>();
        let sound = |n: &f64| n.is_finite() && *n >= 0.0;
        if !odd.is_empty() || !sound(&reuse.first) || !reuse.distances.iter().all(sound) {
            return None;
        }
        pairs
            .iter()
            .for_each(|[row, at]| reuse.put_last(Row(*row), Time(*at)));
        Some(reuse)
    }

    /// Uses counted, older ones at less; about as many as of all rows.
    pub fn uses(&self) -> f64 {
        self.first + self.distances.iter().sum::<f64>()
    }

    /// Share of uses that a tier of `rows` of the memory's `points` would have missed. Falls from 1 to 0 as `rows` grows to `points`.
    /// Where the last use of a row was not seen, any distance beyond those that were is taken to be as likely as any other.
    pub fn missed(&self, rows: f64, points: f64) -> f64 {
        let all = self.uses();
        if rows >= points || all <= 0.0 {
            return 0.0;
        }
        let at = (rows.max(0.0) + 1.0).log2() * STEPS;
        let whole = (at as usize).min(BUCKETS - 1);
        // Within its step a distance is taken to be as likely as any other.
        let beyond = self.distances[whole + 1..].iter().sum::<f64>()
            + self.distances[whole] * (1.0 - (at - whole as f64)).clamp(0.0, 1.0);
        let seen = (self.places.len() as f64 * self.scale()).min(points);
        let unseen = if rows <= seen {
            1.0
        } else {
            (points - rows) / (points - seen)
        };
        (beyond + self.first * unseen) / all
    }

    /// The least rows whose tier would have missed at most the share `missed`, of `points` at most.
    pub fn rows_for(&self, missed: f64, points: u64) -> u64 {
        let (mut low, mut high) = (0, points);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.missed(middle as f64, points as f64) <= missed {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        low
    }

    /// Rows used or entered in the last `seconds`: the working set (Denning, Communications of the ACM 11(5), 1968).
    pub fn rows_used_within(&self, seconds: f64, now: Time) -> f64 {
        let used = self.uses.iter().rev().flatten();
        let late = used.take_while(|(_, at)| now.seconds_since(*at) <= seconds);
        late.count() as f64 * self.scale()
    }

    /// Seconds since the last use of the row that a tier of `rows` would lose next by plain recency; `None` if fewer were used.
    pub fn age_at(&self, rows: f64, now: Time) -> Option<f64> {
        let place = (rows / self.scale()) as usize;
        let (_, at) = self.uses.iter().rev().flatten().nth(place)?;
        Some(now.seconds_since(*at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows 0 to `rows` in turn, a second apart, `rounds` times.
    fn loops(reuse: &mut Reuse, rows: u64, rounds: u64) -> Time {
        for i in 0..rows * rounds {
            reuse.used(Row(i % rows), Time(i * 1_000_000));
        }
        Time((rows * rounds - 1) * 1_000_000)
    }

    #[test]
    fn a_loop_is_missed_by_any_tier_that_is_smaller() {
        let mut reuse = Reuse::new(64);
        let now = loops(&mut reuse, 8, 101);
        // Of 808 uses 8 were the first; all others lie 7 rows apart.
        assert_eq!(reuse.uses(), 808.0);
        assert_eq!(reuse.missed(8.0, 1000.0), 8.0 / 808.0);
        assert_eq!(reuse.missed(7.0, 1000.0), 1.0);
        assert_eq!(reuse.missed(1000.0, 1000.0), 0.0);
        assert_eq!(reuse.rows_for(0.02, 1000), 8);
        // Fewer than the first uses: only that nearly all points are hot answers that.
        assert!(reuse.rows_for(0.001, 1000) > 850);
        assert_eq!(reuse.rows_used_within(4.5, now), 5.0);
        assert_eq!(reuse.age_at(5.0, now), Some(5.0));
        assert_eq!(reuse.age_at(99.0, now), None);
    }

    #[test]
    fn what_is_missed_falls_as_the_tier_grows() {
        let mut rng = fastrand::Rng::with_seed(3);
        let mut reuse = Reuse::new(64);
        for i in 0..20_000 {
            let row = (rng.f64().powi(3) * 5000.0) as u64;
            reuse.used(Row(row), Time(i));
        }
        let missed: Vec<f64> = (0..60)
            .map(|i| reuse.missed(f64::from(i) * 100.0, 5000.0))
            .collect();
        assert!(
            missed.windows(2).all(|w| w[0] >= w[1] - 1e-12),
            "{missed:?}"
        );
        assert_eq!((missed[0], missed[50]), (1.0, 0.0));
    }

    #[test]
    fn a_sample_tells_about_all_rows() {
        let (mut all, mut few) = (Reuse::new(1 << 14), Reuse::new(1 << 9));
        let mut rng = fastrand::Rng::with_seed(5);
        let mut now = Time(0);
        for i in 0..200_000 {
            now = Time(i * 1000);
            let row = Row((rng.f64().powi(2) * 10_000.0) as u64);
            all.used(row, now);
            few.used(row, now);
        }
        assert!(few.places.len() <= 512 && few.scale() >= 16.0);
        for rows in [100.0, 1000.0, 4000.0] {
            let (exact, about) = (all.missed(rows, 1e4), few.missed(rows, 1e4));
            assert!((exact - about).abs() < 0.05, "{rows}: {exact} {about}");
        }
        let (exact, about) = (
            all.rows_used_within(20.0, now),
            few.rows_used_within(20.0, now),
        );
        assert!((exact / about - 1.0).abs() < 0.15, "{exact} {about}");
    }

    #[test]
    fn what_was_saved_goes_on_as_if_nothing_had_been() {
        let mut reuse = Reuse::default();
        let now = loops(&mut reuse, 9000, 3);
        let mut other = Reuse::load(&reuse.save()).unwrap();
        for known in [&mut reuse, &mut other] {
            known.used(Row(5), now);
        }
        assert_eq!(reuse.save(), other.save());
        assert_eq!(reuse.missed(700.0, 1e4), other.missed(700.0, 1e4));
        let words = reuse.save();
        assert!(Reuse::load(&words[..words.len() - 1]).is_none());
        assert!(Reuse::load(&words[..10]).is_none());
    }

    #[test]
    fn what_was_removed_is_not_counted_and_what_entered_is_no_use() {
        let mut reuse = Reuse::new(8);
        reuse.entered(Row(1), Time(0));
        reuse.entered(Row(2), Time(1));
        assert_eq!(reuse.uses(), 0.0);
        reuse.used(Row(1), Time(2));
        assert_eq!((reuse.first, reuse.uses()), (0.0, 1.0));
        reuse.removed(Row(1));
        reuse.used(Row(1), Time(3));
        assert_eq!((reuse.first, reuse.places.len()), (1.0, 2));
    }
}

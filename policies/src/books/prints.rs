//! Rows that left, by fingerprint: whether a row left of late, and nothing else of it.
//!
//! There is no queue, and no row has to be taken out for another: each fingerprint stands beside the number of bytes that had left before it,
//! and a row is remembered until so many more have left as the memory spans. So the authors of S3-FIFO keep their ghosts (J. Yang et al., "FIFO
//! Queues are All You Need for Cache Eviction", SOSP 2023, section 4.2). A row's set of eight places is one line of cache.

use aether_core::{Result, Row};

use super::hash;
use super::packed::Input;
use super::saved::wrong;

/// Places of a set.
const WAYS: usize = 8;
/// Sets of the smallest memory.
const SETS_MIN: u64 = 8;
/// Most sets. A set's number is the upper bits of its fingerprints, so that the more there are the less is left to tell rows apart.
const SETS_MAX: u64 = 1 << 22;
/// Places for each row that is to be remembered, at least: of places four fifths of which are taken, one row in fifteen finds its set full.
const PLACES_PER_ROW: f64 = 1.25;
/// Steps that a span has at most, so that 32 bits tell sixteen spans apart.
const SPAN_BITS: u32 = 28;

/// Fingerprints that fall together, each with the moment it was put. No fingerprint is 0; 0 marks an empty place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(align(64))]
struct Set {
    prints: [u32; WAYS],
    moments: [u32; WAYS],
}

const EMPTY: Set = Set {
    prints: [0; WAYS],
    moments: [0; WAYS],
};

impl Set {
    fn position(&self, print: u32) -> Option<usize> {
        self.prints.iter().position(|p| *p == print)
    }

    /// What is here, with its age at a moment.
    fn aged(&self, now: u32) -> impl Iterator<Item = (u32, u32, u32)> {
        let all = self.prints.into_iter().zip(self.moments);
        all.filter(|(print, _)| *print != 0)
            .map(move |(print, moment)| (print, moment, now.wrapping_sub(moment)))
    }

    /// Puts a fingerprint that is not here in an empty place, or in that of the oldest, unless it is older still.
    fn put(&mut self, print: u32, moment: u32, now: u32) {
        // Of one age the fingerprints decide, and not their places, which a saved set does not keep.
        let order = |print: u32, moment: u32| match print {
            0 => (u64::MAX, 0),
            _ => (u64::from(now.wrapping_sub(moment)), print),
        };
        let (mut at, mut oldest) = (WAYS, order(print, moment));
        for other in 0..WAYS {
            let found = order(self.prints[other], self.moments[other]);
            if found > oldest {
                (at, oldest) = (other, found);
            }
        }
        if at < WAYS {
            (self.prints[at], self.moments[at]) = (print, moment);
        }
    }
}

/// Which rows left of late; 10 to 20 bytes for each that it is to hold, up to twice as many while the tier shrinks. A row that never left is taken
/// for one that did in 4 of 10,000 cases among a million hot rows, in ten times as many among ten million, and in one or two of a hundred at
/// most. One row in forty is forgotten early, one in fifteen at worst.
#[derive(Debug)]
pub(crate) struct Prints {
    /// Rows remembered for each hot row.
    share: f64,
    /// A power of two of them; none without a share.
    sets: Vec<Set>,
    /// Hot rows from which there are twice as many sets, and below which a quarter is enough.
    grows_at: u64,
    shrinks_below: u64,
    /// Bytes that left so far, wrapping.
    bytes: u64,
    /// Bytes for which a row is remembered.
    span: u64,
    /// A moment is a number of bytes, divided by two so many times.
    shift: u32,
}

fn print_of(row: Row) -> u32 {
    (hash(row) >> 32) as u32 | 1
}

impl Prints {
    /// An empty memory; `share` is how many rows are to be remembered for each hot row, and 0 remembers nothing.
    pub(crate) fn new(share: f64) -> Self {
        let mut prints = Self {
            share,
            sets: Vec::new(),
            grows_at: 0,
            shrinks_below: 0,
            bytes: 0,
            span: 0,
            shift: 0,
        };
        if share > 0.0 {
            prints.sets = vec![EMPTY; SETS_MIN as usize];
            prints.set_borders();
        }
        prints
    }

    fn sets_for(&self, hot: u64) -> u64 {
        if self.share <= 0.0 {
            return 0;
        }
        let places = hot as f64 * self.share * PLACES_PER_ROW;
        let sets = (places as u64).div_ceil(WAYS as u64);
        let sets = sets.checked_next_power_of_two().unwrap_or(SETS_MAX);
        sets.clamp(SETS_MIN, SETS_MAX)
    }

    fn set_borders(&mut self) {
        let sets = self.sets.len() as u64;
        let rows = |sets: u64| ((sets * WAYS as u64) as f64 / (self.share * PLACES_PER_ROW)) as u64;
        self.grows_at = match sets < SETS_MAX {
            true => rows(sets).saturating_add(2),
            false => u64::MAX,
        };
        self.shrinks_below = if sets > SETS_MIN { rows(sets / 4) } else { 0 };
    }

    /// Follows the number of hot rows; O(1) but for a doubling or halving.
    pub(crate) fn fit(&mut self, hot: usize) {
        let hot = hot as u64;
        if self.sets.is_empty() || hot < self.grows_at && hot >= self.shrinks_below {
            return;
        }
        let sets = self.sets_for(hot);
        while (self.sets.len() as u64) < sets {
            self.double();
        }
        while self.sets.len() as u64 > sets {
            self.halve();
        }
        self.set_borders();
    }

    /// The number of a fingerprint's set; of none there is no set either.
    fn home(&self, print: u32) -> usize {
        let bits = self.sets.len().checked_ilog2().unwrap_or(0);
        (u64::from(print) << bits >> 32) as usize
    }

    /// Each set becomes two, in place and from the end.
    fn double(&mut self) {
        let former = self.sets.len();
        self.sets.resize(former * 2, EMPTY);
        let now = self.now();
        for at in (0..former).rev() {
            let set = std::mem::replace(&mut self.sets[at], EMPTY);
            for (print, moment, _) in set.aged(now) {
                let home = self.home(print);
                self.sets[home].put(print, moment, now);
            }
        }
    }

    /// Two sets become one, with the youngest of both.
    fn halve(&mut self) {
        let now = self.now();
        for at in 0..self.sets.len() / 2 {
            let pair = [self.sets[at * 2], self.sets[at * 2 + 1]];
            let mut all: Vec<(u32, u32, u32)> = pair.iter().flat_map(|s| s.aged(now)).collect();
            all.sort_unstable_by_key(|(print, _, age)| (*age, *print));
            let mut set = EMPTY;
            for (print, moment, _) in all.into_iter().take(WAYS) {
                set.put(print, moment, now);
            }
            self.sets[at] = set;
        }
        self.sets.truncate(self.sets.len() / 2);
        self.sets.shrink_to_fit();
    }

    fn now(&self) -> u32 {
        (self.bytes >> self.shift) as u32
    }

    /// Sets the bytes for which a row is remembered. O(1) unless they change by much; of a much larger span the steps are longer, and ages are
    /// rounded down to them.
    pub(crate) fn set_span(&mut self, span: u64) {
        if self.span == span {
            return;
        }
        self.span = span;
        let shift = (span.checked_ilog2().unwrap_or(0) + 1).saturating_sub(SPAN_BITS);
        if shift != self.shift {
            let (former, was) = (self.now(), self.shift);
            self.shift = shift;
            let now = self.now();
            for set in &mut self.sets {
                for (print, moment) in set.prints.iter_mut().zip(&mut set.moments) {
                    let age = u128::from(former.wrapping_sub(*moment)) << was >> shift;
                    // What is too old would be young again when moments come round.
                    match u32::try_from(age) {
                        Ok(age) if u64::from(age) <= span >> shift => {
                            *moment = now.wrapping_sub(age);
                        }
                        _ => *print = 0,
                    }
                }
            }
        }
    }

    /// Whether so young a row is remembered yet.
    fn lasts(&self, moment: u32) -> bool {
        u64::from(self.now().wrapping_sub(moment)) <= self.span >> self.shift
    }

    fn find(&self, row: Row) -> Option<(usize, usize)> {
        let print = print_of(row);
        let home = self.home(print);
        let set = self.sets.get(home)?;
        let at = set.position(print)?;
        self.lasts(set.moments[at]).then_some((home, at))
    }

    /// Whether a row is remembered.
    pub(crate) fn contains(&self, row: Row) -> bool {
        self.find(row).is_some()
    }

    /// Forgets a row, and answers when it had left, if it was remembered.
    pub(crate) fn take(&mut self, row: Row) -> Option<Moment> {
        let (home, at) = self.find(row)?;
        let set = &mut self.sets[home];
        set.prints[at] = 0;
        Some(Moment(set.moments[at]))
    }

    /// A row of so many bytes left.
    pub(crate) fn put(&mut self, row: Row, bytes: u32) {
        self.put_back(row, Moment(self.now()));
        self.bytes = self.bytes.wrapping_add(u64::from(bytes));
    }

    /// A row left then.
    pub(crate) fn put_back(&mut self, row: Row, moment: Moment) {
        let (print, now) = (print_of(row), self.now());
        let home = self.home(print);
        let Some(set) = self.sets.get_mut(home) else {
            return;
        };
        match set.position(print) {
            Some(at) => set.moments[at] = moment.0,
            None => set.put(print, moment.0, now),
        }
    }

    /// Touches what tells of these rows.
    pub(crate) fn prefetch(&self, rows: &[Row]) {
        if !self.sets.is_empty() {
            let prints = rows.iter().map(|row| print_of(*row));
            let touched = prints.map(|print| self.sets[self.home(print)].prints[0]);
            std::hint::black_box(touched.fold(0, |sum, print| sum ^ print));
        }
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::new(self.share);
    }

    /// Bytes allocated beyond the struct itself. O(1).
    pub(crate) fn bytes(&self) -> u64 {
        (self.sets.capacity() * size_of::<Set>()) as u64
    }

    /// Upper bound of [`Prints::bytes`] at any number of hot rows up to `hot`.
    pub(crate) fn bytes_bound(&self, hot: u64) -> u64 {
        let sets = self.sets_for(hot).max(self.sets.capacity() as u64);
        sets.saturating_mul(size_of::<Set>() as u64)
    }

    /// Appends what is counted, the number of sets, and each with its number of fingerprints before them.
    pub(crate) fn save(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.bytes.to_le_bytes());
        out.extend_from_slice(&self.span.to_le_bytes());
        out.extend_from_slice(&(self.sets.len() as u32).to_le_bytes());
        for set in &self.sets {
            let taken = set.prints.iter().filter(|print| **print != 0).count();
            out.push(taken as u8);
            for (print, moment, _) in set.aged(0) {
                out.extend_from_slice(&print.to_le_bytes());
                out.extend_from_slice(&moment.to_le_bytes());
            }
        }
    }

    /// Reads what `save` wrote.
    pub(crate) fn load(&mut self, input: &mut Input<'_>) -> Result<()> {
        self.clear();
        let bytes = input.u64()?;
        self.set_span(input.u64()?);
        self.bytes = bytes;
        let sets = input.count(1)? as u64;
        let usable = sets == 0 || sets.is_power_of_two() && (SETS_MIN..=SETS_MAX).contains(&sets);
        if !usable || (sets == 0) != self.sets.is_empty() {
            return Err(wrong(format!(
                "expected a power of two sets of fingerprints, or none where nothing is remembered, got {sets}"
            )));
        }
        self.sets = vec![EMPTY; sets as usize];
        for home in 0..sets as usize {
            let taken = usize::from(input.u8()?);
            if taken > WAYS {
                return Err(wrong(format!(
                    "expected at most {WAYS} fingerprints in a set, got {taken}"
                )));
            }
            for at in 0..taken {
                let (print, moment) = (input.u32()?, input.u32()?);
                let twice = self.sets[home].position(print).is_some();
                if print & 1 == 0 || self.home(print) != home || twice {
                    return Err(wrong(format!(
                        "fingerprint {print} stands twice or in a set that is not its own"
                    )));
                }
                (self.sets[home].prints[at], self.sets[home].moments[at]) = (print, moment);
            }
        }
        self.set_borders();
        Ok(())
    }
}

/// When a row left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment(u32);

impl Moment {
    pub(crate) fn put(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.to_le_bytes());
    }

    /// Reads what `put` wrote.
    pub(crate) fn take(input: &mut Input<'_>) -> Result<Self> {
        input.u32().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Random changes beside a map of when each row left. What is known is right, and hardly anything is forgotten early.
    #[test]
    fn rows_are_remembered_until_so_many_bytes_have_left() {
        let (mut known, mut forgotten, mut mistaken) = (0, 0, 0);
        for seed in 0..20 {
            let mut rng = fastrand::Rng::with_seed(seed);
            // Of each shift, and with a count of bytes that wraps.
            let unit = 1_u64 << rng.u32(0..24);
            let span = unit * rng.u64(600..700);
            let mut prints = Prints::new(1.0);
            prints.bytes = u64::MAX - span * 2;
            prints.set_span(span);
            prints.fit(700);
            let (mut model, mut bytes) = (BTreeMap::new(), 0_u64);
            for _ in 0..20_000 {
                let row = rng.u64(..2_000);
                // A moment is rounded down, so that what just lasts may be told either way.
                let age = model.get(&row).map(|left| bytes - left);
                let rounded = (1 << prints.shift) - 1;
                let lasts = age.is_some_and(|age| age <= span);
                let sure = age.is_none_or(|age| age.abs_diff(span) > rounded);
                if sure {
                    let found = prints.contains(Row(row));
                    known += u32::from(lasts);
                    forgotten += u32::from(lasts && !found);
                    mistaken += u32::from(found && !lasts);
                }
                if rng.bool() {
                    prints.take(Row(row));
                    model.remove(&row);
                } else {
                    let weight = unit * rng.u64(1..3);
                    prints.put(Row(row), weight as u32);
                    model.insert(row, bytes);
                    bytes += weight;
                }
            }
        }
        assert!(known > 50_000, "{known}");
        assert!(forgotten * 20 < known, "{forgotten} of {known}");
        assert!(mistaken * 1_000 < known, "{mistaken} of {known}");
    }

    #[test]
    fn a_row_that_comes_back_too_late_to_come_in_is_as_old_as_it_was() {
        let mut prints = Prints::new(1.0);
        prints.set_span(10);
        prints.put(Row(1), 4);
        prints.put(Row(2), 4);
        let moment = prints.take(Row(1)).unwrap();
        assert!(!prints.contains(Row(1)) && prints.contains(Row(2)));
        prints.put_back(Row(1), moment);
        assert!(prints.contains(Row(1)));
        prints.put(Row(3), 3);
        assert!(!prints.contains(Row(1)) && prints.contains(Row(2)));
        assert_eq!(prints.take(Row(1)), None);
    }

    #[test]
    fn sets_follow_the_hot_rows_and_keep_what_they_hold() {
        let mut prints = Prints::new(0.9);
        prints.set_span(1 << 27);
        let bound = prints.bytes_bound(100_000);
        for row in 0..100_000 {
            prints.put(Row(row), 1);
            prints.fit(row as usize + 1);
            assert!(prints.bytes() <= bound.min(prints.bytes_bound(row + 1)));
        }
        // Nine tenths are meant to be there, of which full sets forget some.
        let late = (10_000..100_000).filter(|row| prints.contains(Row(*row)));
        assert!(late.count() > 80_000);
        let full = prints.bytes();
        for hot in (0..100_000).rev() {
            prints.fit(hot);
            assert!(prints.bytes() <= prints.bytes_bound(hot as u64));
        }
        assert!(prints.bytes() < full / 100);
        // The youngest of each set are kept.
        let last = (99_980..100_000).filter(|row| prints.contains(Row(*row)));
        assert!(last.count() >= 15);
    }

    #[test]
    fn another_span_leaves_ages_alone() {
        let mut prints = Prints::new(1.0);
        prints.set_span(1 << 20);
        (0..10).for_each(|row| prints.put(Row(row), 1 << 16));
        for span in [1 << 40, 1 << 43, 1 << 20] {
            prints.set_span(span);
            assert!((0..10).all(|row| prints.contains(Row(row))));
        }
        prints.set_span((1 << 16) * 5);
        let left = (0..10).filter(|row| prints.contains(Row(*row)));
        assert_eq!(left.collect::<Vec<_>>(), [5, 6, 7, 8, 9]);
    }

    /// Of a span of steps of 64 bytes to one of single bytes, in which some ages are more than 32 bits.
    #[test]
    fn what_a_shorter_span_forgets_does_not_come_back() {
        let mut prints = Prints::new(1.0);
        prints.set_span(1 << 33);
        (0..20).for_each(|row| prints.put(Row(row), 1 << 30));
        prints.set_span(1 << 20);
        for row in 100..200 {
            prints.put(Row(row), 1);
            assert!((0..20).all(|row| !prints.contains(Row(row))), "{row}");
        }
        prints.set_span(1 << 62);
        assert!((0..20).all(|row| !prints.contains(Row(row))));
    }

    #[test]
    fn a_full_set_keeps_the_youngest_whatever_comes_back() {
        let mut set = EMPTY;
        (0..8).for_each(|n| set.put(n * 2 + 1, 100 + n, 200));
        set.put(101, 50, 200);
        assert_eq!(set.position(101), None);
        set.put(103, 150, 200);
        assert!(set.position(103).is_some() && set.position(1).is_none());
    }

    #[test]
    fn saved_sets_come_back_and_damaged_ones_do_not() {
        let mut prints = Prints::new(1.0);
        prints.set_span(1_000);
        prints.fit(500);
        (0..400).for_each(|row| prints.put(Row(row), 3));
        let mut saved = Vec::new();
        prints.save(&mut saved);
        let mut loaded = Prints::new(1.0);
        loaded.load(&mut Input(&saved)).unwrap();
        let known = |prints: &Prints| (0..400).map(|row| prints.contains(Row(row))).collect();
        let (before, after): (Vec<bool>, Vec<bool>) = (known(&prints), known(&loaded));
        assert_eq!(before, after);
        let mut again = Vec::new();
        loaded.save(&mut again);
        assert_eq!(saved, again);
        for end in 0..saved.len() {
            assert!(loaded.load(&mut Input(&saved[..end])).is_err(), "{end}");
        }
        // In another set than its own, and an even fingerprint, which there is not.
        let first = 20 + saved[20..].iter().position(|taken| *taken > 0).unwrap() + 1;
        for (at, bits) in [(first + 3, 0x80), (first, 1)] {
            let mut damaged = saved.clone();
            damaged[at] ^= bits;
            assert!(loaded.load(&mut Input(&damaged)).is_err(), "{at}");
        }
        assert!(Prints::new(0.0).load(&mut Input(&saved)).is_err());
    }
}

//! A count-min sketch of the frequency of rows, hot or not, in four bits a counter.

use aether_core::{Result, Row};

use super::hash;
use super::packed::Input;
use super::saved::wrong;

/// Counters of one row of the sketch, a power of two of 16-counter words.
const WORDS_MIN: u64 = 64;
/// Rows of the sketch; each has a quarter of the counters of every word.
const DEPTH: u32 = 4;
/// Uses for each hot row after which all counters are halved.
const WINDOW_PER_ROW: u64 = 10;
/// All but the highest bit of each counter.
const HALVED: u64 = 0x7777_7777_7777_7777;

/// Estimates how often each row was used of late, up to 15: G. Cormode, S. Muthukrishnan, "An Improved Data Stream Summary: The
/// Count-Min Sketch and its Applications", Journal of Algorithms 55(1), 2005, with the halving of TinyLFU. Between half a word and a word of
/// 8 bytes a hot row; grown by doubling, in which every counter is kept twice, so that no estimate falls.
#[derive(Debug)]
pub(crate) struct Sketch {
    words: Vec<u64>,
    added: u64,
}

impl Sketch {
    pub(crate) fn new() -> Self {
        Self {
            words: vec![0; WORDS_MIN as usize],
            added: 0,
        }
    }

    /// Words for so many hot rows.
    fn words_for(hot: u64) -> u64 {
        let words = hot / 2 + 1;
        words
            .checked_next_power_of_two()
            .unwrap_or(1 << 62)
            .max(WORDS_MIN)
    }

    /// Place and shift of a row's counter in each row of the sketch.
    fn places(&self, row: Row) -> [(usize, u32); DEPTH as usize] {
        let (mask, first) = (self.words.len() as u64 - 1, hash(row));
        let second = first.rotate_right(32) | 1;
        std::array::from_fn(|depth| {
            let mixed = first.wrapping_add(second.wrapping_mul(depth as u64 + 1));
            let quarter = (depth as u32 * 4 + (mixed >> 62) as u32) * 4;
            ((mixed >> 16 & mask) as usize, quarter)
        })
    }

    /// Takes note of a use.
    pub(crate) fn add(&mut self, row: Row) {
        let mut grew = false;
        for (word, shift) in self.places(row) {
            if self.words[word] >> shift & 15 < 15 {
                self.words[word] += 1 << shift;
                grew = true;
            }
        }
        self.added += u64::from(grew);
        if self.added >= self.words.len() as u64 * WINDOW_PER_ROW {
            self.words.iter_mut().for_each(|w| *w = *w >> 1 & HALVED);
            self.added /= 2;
        }
    }

    /// The least of a row's counters.
    pub(crate) fn estimate(&self, row: Row) -> u8 {
        let counts = self
            .places(row)
            .map(|(word, shift)| self.words[word] >> shift & 15);
        counts.into_iter().min().unwrap_or(0) as u8
    }

    /// Follows the number of hot rows; shrinks, and forgets, when it is an eighth.
    pub(crate) fn fit(&mut self, hot: u64) {
        let (words, due) = (self.words.len() as u64, Self::words_for(hot));
        if due > words {
            let mut larger = Vec::with_capacity(due as usize);
            while (larger.len() as u64) < due {
                larger.extend_from_slice(&self.words);
            }
            self.words = larger;
        } else if due * 8 <= words {
            self.words = vec![0; due as usize];
            self.added = 0;
        }
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::new();
    }

    pub(crate) fn bytes(&self) -> u64 {
        (self.words.capacity() * size_of::<u64>()) as u64
    }

    /// Upper bound of [`Sketch::bytes`] at any number of hot rows up to `hot`.
    pub(crate) fn bytes_bound(&self, hot: u64) -> u64 {
        let words = Self::words_for(hot).max(self.words.capacity() as u64);
        words.saturating_mul(size_of::<u64>() as u64)
    }

    pub(crate) fn save(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.added.to_le_bytes());
        out.extend_from_slice(&(self.words.len() as u32).to_le_bytes());
        for word in &self.words {
            out.extend_from_slice(&word.to_le_bytes());
        }
    }

    pub(crate) fn load(&mut self, input: &mut Input<'_>) -> Result<()> {
        self.added = input.u64()?;
        let words = input.count(8)?;
        if !words.is_power_of_two() || (words as u64) < WORDS_MIN {
            return Err(wrong(format!("a sketch of {words} words")));
        }
        self.words = Vec::with_capacity(words);
        for _ in 0..words {
            self.words.push(input.u64()?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Estimates are never below the truth up to the first halving, and seldom above it.
    #[test]
    fn estimates_are_close_to_the_truth() {
        let mut sketch = Sketch::new();
        sketch.fit(1_000);
        let mut random = fastrand::Rng::with_seed(4);
        let mut truth = vec![0_u8; 1_000];
        for _ in 0..4_000 {
            let row = random.usize(..1_000).min(random.usize(..1_000));
            truth[row] = (truth[row] + 1).min(15);
            sketch.add(Row(row as u64));
        }
        let mut over = 0;
        for (row, count) in truth.iter().enumerate() {
            let said = sketch.estimate(Row(row as u64));
            assert!(said >= *count, "row {row}: {said} of {count}");
            over += usize::from(said > *count);
        }
        assert!(over < 100, "{over} of 1,000 rows were estimated too high");
    }

    #[test]
    fn growing_keeps_estimates_and_halving_forgets() {
        let mut sketch = Sketch::new();
        (0..8).for_each(|_| sketch.add(Row(7)));
        sketch.fit(10_000);
        assert_eq!(sketch.estimate(Row(7)), 8);
        (0..200_000).for_each(|n| sketch.add(Row(1_000 + n)));
        assert!(sketch.estimate(Row(7)) <= 5);
    }
}

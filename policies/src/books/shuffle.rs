//! The slots of the books in random order, each once, without a list of them.

/// Numbers below `n` in an order drawn by a key: a bijective mixing of a counter over the next power of two, leaving
/// out what lies beyond `n`. At most two steps a number on average, no memory, ends after each was met once.
#[derive(Debug)]
pub(crate) struct Shuffle {
    n: u32,
    mask: u64,
    shift: u32,
    key: u64,
    next: u64,
}

impl Shuffle {
    pub(crate) fn new(n: u32, key: u64) -> Self {
        let mask = u64::from(n.max(1)).next_power_of_two() - 1;
        Self {
            n,
            mask,
            shift: (mask.count_ones() / 2).max(1),
            key,
            next: 0,
        }
    }

    /// Whether all numbers were met.
    pub(crate) fn is_done(&self) -> bool {
        self.next > self.mask
    }

    /// Adding, multiplying by an odd number, and folding the upper half on the lower, modulo a power of two, can each be
    /// undone: no two counters give one number.
    fn mix(&self, counter: u64) -> u64 {
        let mut x = counter;
        for turn in 0..3 {
            let key = self.key.rotate_left(21 * turn);
            x = x.wrapping_add(key).wrapping_mul(key << 1 | 1) & self.mask;
            x ^= x >> self.shift;
        }
        x
    }
}

impl Iterator for Shuffle {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        while !self.is_done() {
            let number = self.mix(self.next);
            self.next += 1;
            if number < u64::from(self.n) {
                return Some(number as u32);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_is_met_once_whatever_the_key() {
        for n in [0, 1, 2, 3, 7, 8, 9, 100, 1_000, 4_097] {
            for key in [0, 1, u64::MAX, 0x9e37_79b9_7f4a_7c15, 42] {
                let mut met: Vec<u32> = Shuffle::new(n, key).collect();
                met.sort_unstable();
                assert_eq!(met, (0..n).collect::<Vec<_>>(), "{n} {key}");
            }
        }
    }

    /// Samples of 64 of 10,000 over 2,000 keys: each tenth of the range gets its share, first and later draws alike.
    #[test]
    fn samples_are_spread_evenly() {
        let mut random = fastrand::Rng::with_seed(5);
        let (mut tenths, mut firsts) = ([0_u32; 10], [0_u32; 10]);
        for _ in 0..2_000 {
            let sample: Vec<u32> = Shuffle::new(10_000, random.u64(..)).take(64).collect();
            firsts[sample[0] as usize / 1_000] += 1;
            sample.iter().for_each(|s| tenths[*s as usize / 1_000] += 1);
        }
        // 12,800 expected of 128,000 draws, 200 of 2,000; five standard deviations of independent draws.
        assert!(
            tenths.iter().all(|t| t.abs_diff(12_800) < 540),
            "{tenths:?}"
        );
        assert!(firsts.iter().all(|t| t.abs_diff(200) < 68), "{firsts:?}");
    }
}

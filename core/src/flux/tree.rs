//! How many places below a given one are taken.

/// Flags in a row, counted in O(log n) (Fenwick, Software: Practice and Experience 24(3), 1994).
#[derive(Clone, Debug)]
pub(super) struct Tree {
    flags: Vec<bool>,
    /// `sums[i - 1]` counts the flags of the places from `i - (i & -i)` to `i - 1`.
    sums: Vec<u32>,
}

impl Tree {
    /// So many places, none taken.
    pub(super) fn new(places: usize) -> Self {
        Self {
            flags: vec![false; places],
            sums: vec![0; places],
        }
    }

    /// Takes a place or frees it.
    pub(super) fn set(&mut self, place: usize, taken: bool) {
        if std::mem::replace(&mut self.flags[place], taken) == taken {
            return;
        }
        let mut at = place + 1;
        while at <= self.sums.len() {
            let sum = &mut self.sums[at - 1];
            *sum = if taken { *sum + 1 } else { *sum - 1 };
            at += at & at.wrapping_neg();
        }
    }

    /// Places taken below `end`.
    pub(super) fn below(&self, end: usize) -> usize {
        let (mut at, mut sum) = (end, 0);
        while at > 0 {
            sum += self.sums[at - 1] as usize;
            at &= at - 1;
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_counts_as_looking_at_all_does() {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut tree = Tree::new(100);
        for _ in 0..2000 {
            tree.set(rng.usize(..100), rng.bool());
            let end = rng.usize(..=100);
            let taken = tree.flags[..end].iter().filter(|f| **f).count();
            assert_eq!(tree.below(end), taken);
        }
    }
}

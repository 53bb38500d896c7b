//! A cache in miniature: what the hot tier would hold under other settings, for a sample of the rows.
//!
//! The same order as the policy's own: the most recently used share stays whatever its score, of the rest the lowest score
//! leaves. Slots are those of the sample that all ghosts share; a slot costs 12 bytes in each ghost.

use aether_core::Result;

use crate::books::Input;

use super::wrong;

/// Not in this cache.
const ABSENT: u16 = u16::MAX;
/// Among the most recently used.
const RECENT: u16 = u16::MAX - 1;

/// What the ghosts of a sample have in common.
#[derive(Debug)]
pub(super) struct Sampled {
    /// RAM of each slot's row, in bytes.
    pub(super) bytes: Vec<u32>,
    /// Part of each slot's worth that is not its score.
    pub(super) value: Vec<f32>,
}

/// One setting under trial.
#[derive(Debug)]
pub(super) struct Ghost {
    /// Half-life of a count, in capacities of uses.
    pub(super) half_life: f64,
    /// Share of rows that stay by recency alone.
    pub(super) recent_share: f64,
    /// Virtual time: half-lives so far, less what was taken off to keep scores small.
    now: f64,
    score: Vec<f32>,
    /// `ABSENT`, `RECENT`, or the position in the heap.
    place: Vec<u16>,
    /// Neighbours in the order of use; the last entry is the sentinel.
    links: Vec<[u16; 2]>,
    /// Lowest worth first.
    heap: Vec<u16>,
    used: u64,
    recent: usize,
}

/// Virtual time after which scores are made small again, so that an `f32` holds them to 1/4,096 of a doubling.
const REBASE: f64 = 1024.0;

impl Ghost {
    pub(super) fn new(half_life: f64, recent_share: f64, slots: usize) -> Self {
        let own = |at: usize| [at as u16; 2];
        Self {
            half_life,
            recent_share,
            now: 0.0,
            score: vec![f32::NEG_INFINITY; slots],
            place: vec![ABSENT; slots],
            links: (0..=slots).map(own).collect(),
            heap: Vec::with_capacity(slots),
            used: 0,
            recent: 0,
        }
    }

    pub(super) fn holds(&self, slot: u16) -> bool {
        self.place[usize::from(slot)] != ABSENT
    }

    /// A use of a slot's row, `half_lives` after the last one; answers whether it was there. O(log n).
    pub(super) fn used(
        &mut self,
        slot: u16,
        half_lives: f64,
        capacity: u64,
        sampled: &Sampled,
    ) -> bool {
        self.advance(half_lives);
        let at = usize::from(slot);
        let count = (f64::from(self.score[at]) - self.now).exp2();
        self.score[at] = (self.now + count.ln_1p() / std::f64::consts::LN_2) as f32;
        let bytes = u64::from(sampled.bytes[at]);
        let hit = match self.place[at] {
            ABSENT if bytes > capacity => return false,
            ABSENT => {
                self.used += bytes;
                false
            }
            RECENT => {
                self.unlink(slot);
                true
            }
            position => {
                self.take_out(position, sampled);
                true
            }
        };
        self.push(slot);
        self.shed(capacity, sampled);
        hit
    }

    fn advance(&mut self, half_lives: f64) {
        self.now += half_lives;
        if self.now > REBASE {
            // Nothing that decayed by so much counts any more.
            let off = self.now as f32;
            self.now = 0.0;
            self.score.iter_mut().for_each(|score| *score -= off);
        }
    }

    /// Lets the least recent pass from recency to score, and the lowest worth leave, until all fits.
    fn shed(&mut self, capacity: u64, sampled: &Sampled) {
        loop {
            let rows = self.recent + self.heap.len();
            if self.recent as f64 > (rows as f64 * self.recent_share).floor()
                || (self.used > capacity && self.heap.is_empty() && self.recent > 0)
            {
                let oldest = self.links[self.sentinel()][1];
                self.unlink(oldest);
                self.put_in(oldest, sampled);
            } else if self.used > capacity && !self.heap.is_empty() {
                let worst = self.heap[0];
                self.drop_row(worst, sampled);
            } else {
                return;
            }
        }
    }

    fn drop_row(&mut self, slot: u16, sampled: &Sampled) {
        let at = usize::from(slot);
        match self.place[at] {
            ABSENT => return,
            RECENT => self.unlink(slot),
            position => self.take_out(position, sampled),
        }
        self.place[at] = ABSENT;
        self.used = self.used.saturating_sub(u64::from(sampled.bytes[at]));
    }

    /// A slot is given to another row: nothing stays of the former.
    pub(super) fn forget(&mut self, slot: u16, sampled: &Sampled) {
        self.drop_row(slot, sampled);
        self.score[usize::from(slot)] = f32::NEG_INFINITY;
    }

    fn sentinel(&self) -> usize {
        self.links.len() - 1
    }

    fn join(&mut self, a: u16, b: u16) {
        self.links[usize::from(a)][1] = b;
        self.links[usize::from(b)][0] = a;
    }

    fn push(&mut self, slot: u16) {
        let sentinel = self.sentinel() as u16;
        let last = self.links[usize::from(sentinel)][0];
        self.join(last, slot);
        self.join(slot, sentinel);
        self.place[usize::from(slot)] = RECENT;
        self.recent += 1;
    }

    fn unlink(&mut self, slot: u16) {
        let [back, ahead] = self.links[usize::from(slot)];
        self.join(back, ahead);
        self.recent -= 1;
    }

    fn worth(&self, slot: u16, sampled: &Sampled) -> f32 {
        self.score[usize::from(slot)] + sampled.value[usize::from(slot)]
    }

    fn put_in(&mut self, slot: u16, sampled: &Sampled) {
        self.heap.push(slot);
        self.rise(self.heap.len() - 1, sampled);
    }

    fn take_out(&mut self, position: u16, sampled: &Sampled) {
        let position = usize::from(position);
        self.heap.swap_remove(position);
        if position < self.heap.len() {
            let risen = self.rise(position, sampled);
            self.sink(risen, sampled);
        }
    }

    fn set(&mut self, position: usize, slot: u16) {
        self.heap[position] = slot;
        self.place[usize::from(slot)] = position as u16;
    }

    fn rise(&mut self, mut position: usize, sampled: &Sampled) -> usize {
        let slot = self.heap[position];
        let worth = self.worth(slot, sampled);
        while position > 0 {
            let parent = (position - 1) / 2;
            if self.worth(self.heap[parent], sampled) <= worth {
                break;
            }
            self.set(position, self.heap[parent]);
            position = parent;
        }
        self.set(position, slot);
        position
    }

    fn sink(&mut self, mut position: usize, sampled: &Sampled) {
        let slot = self.heap[position];
        let worth = self.worth(slot, sampled);
        loop {
            let left = 2 * position + 1;
            let child = [left, left + 1]
                .into_iter()
                .filter(|child| *child < self.heap.len())
                .min_by(|a, b| {
                    let worths = [a, b].map(|at| self.worth(self.heap[*at], sampled));
                    worths[0].total_cmp(&worths[1])
                });
            match child {
                Some(child) if self.worth(self.heap[child], sampled) < worth => {
                    self.set(position, self.heap[child]);
                    position = child;
                }
                _ => break,
            }
        }
        self.set(position, slot);
    }

    /// RAM, in bytes.
    pub(super) const fn bytes(slots: usize) -> u64 {
        (slots * (4 + 2 + 4 + 2) + 4) as u64
    }

    /// Appends virtual time, the scores of `slots` slots, and both orders.
    pub(super) fn save(&self, slots: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.now.to_le_bytes());
        for score in &self.score[..slots] {
            out.extend_from_slice(&score.to_le_bytes());
        }
        let sentinel = self.sentinel() as u16;
        let next = |slot: &u16| Some(self.links[usize::from(*slot)][1]).filter(|s| *s != sentinel);
        let first = Some(self.links[usize::from(sentinel)][1]).filter(|s| *s != sentinel);
        let recent: Vec<u16> = std::iter::successors(first, next).collect();
        for order in [&recent, &self.heap] {
            out.extend_from_slice(&(order.len() as u32).to_le_bytes());
            order
                .iter()
                .for_each(|slot| out.extend_from_slice(&slot.to_le_bytes()));
        }
    }

    /// Takes up what `save` wrote, in an empty ghost.
    pub(super) fn load(
        &mut self,
        slots: usize,
        sampled: &Sampled,
        input: &mut Input<'_>,
    ) -> Result<()> {
        self.now = f64::from_bits(input.u64()?);
        for score in &mut self.score[..slots] {
            *score = f32::from_bits(input.u32()?);
            if score.is_nan() || *score > 1e9 {
                return Err(wrong(format!("a ghost's score is {score}")));
            }
        }
        if !(0.0..=REBASE).contains(&self.now) {
            return Err(wrong(format!("a ghost's time is {}", self.now)));
        }
        for recent in [true, false] {
            for _ in 0..input.count(2)? {
                let slot = input.u16()?;
                let at = usize::from(slot);
                if at >= slots || self.place[at] != ABSENT {
                    return Err(wrong(format!(
                        "a ghost holds slot {slot} of {slots} wrongly"
                    )));
                }
                self.used += u64::from(sampled.bytes[at]);
                if recent {
                    self.push(slot);
                } else {
                    self.place[at] = self.heap.len() as u16;
                    self.heap.push(slot);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampled(slots: usize) -> Sampled {
        Sampled {
            bytes: vec![1; slots],
            value: vec![0.0; slots],
        }
    }

    /// A heap that lost its order would let the wrong row go: the one that leaves is always the lowest of a plain scan.
    #[test]
    fn the_lowest_score_leaves_whatever_the_order_of_uses() {
        let sampled = sampled(60);
        let mut random = fastrand::Rng::with_seed(3);
        for share in [0.0, 0.3, 1.0] {
            let mut ghost = Ghost::new(1.0, share, 60);
            for _ in 0..5_000 {
                let slot = random.u16(..60);
                let before: Vec<u16> = (0..60).filter(|s| ghost.holds(*s)).collect();
                let hit = ghost.used(slot, 0.05, 20, &sampled);
                assert_eq!(hit, before.contains(&slot));
                assert!(ghost.used <= 20 && ghost.recent + ghost.heap.len() <= 20);
                for (position, slot) in ghost.heap.iter().enumerate() {
                    assert_eq!(usize::from(ghost.place[usize::from(*slot)]), position);
                    let parent = ghost.heap[position.saturating_sub(1) / 2];
                    assert!(ghost.worth(parent, &sampled) <= ghost.worth(*slot, &sampled));
                }
            }
        }
    }

    /// With all rows held by recency it is least-recently-used; with none, and a long half-life, least-frequently-used.
    #[test]
    fn its_ends_are_lru_and_lfu() {
        let sampled = sampled(10);
        let mut lru = Ghost::new(1e9, 1.0, 10);
        let mut lfu = Ghost::new(1e9, 0.0, 10);
        for slot in [0, 0, 0, 1, 1, 2, 3, 2] {
            lru.used(slot, 1e-9, 3, &sampled);
            lfu.used(slot, 1e-9, 3, &sampled);
        }
        let held = |ghost: &Ghost| (0..4).filter(|s| ghost.holds(*s)).collect::<Vec<u16>>();
        assert_eq!(held(&lru), [1, 2, 3]);
        assert_eq!(held(&lfu), [0, 1, 2]);
    }
}

//! How many partitions a bounded search looks at, learned from searches whose true answers are known.
//!
//! Partitions are ranked by their centroids. Of a partition only its *lag* is known beforehand: how far its rank lies behind the first one,
//! in units of how far the mean lies behind. From searches of every partition we learn how many true answers a row of each lag gives;
//! such rates fall with the lag, and are made to (pool adjacent violators, Ayer et al. 1955). A search then takes partitions, the most
//! promising first, until they are expected to hold the share of the answers that was asked for. Queries whose neighbours are
//! scattered have many partitions of little lag, and so are given more of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::builder::state;
use super::inner::Inner;
use super::record::key;
use crate::error::Result;
use crate::role::{Batch, Table};
use crate::seal::{seal, unseal};
use crate::wire::Reader;

/// Classes of lag: so many to one unit, and one for all beyond.
const CLASSES: usize = 64;
/// Comparisons before what was learned is trusted.
const LEARNED_MIN: u64 = 24;
/// What an earlier comparison counts for beside the next: the last few hundred matter.
const FADING: f64 = 0.997;
/// Seed of the checksum of what is written down.
const SEED: u64 = 0x7072_6f62_696e_6700;
/// Of the answers that may be missed, the share that probing may miss: the rest is left to chance.
const ALLOWED: f64 = 0.7;

#[derive(Clone, Debug)]
struct Learned {
    comparisons: u64,
    rows: [f64; CLASSES],
    answers: [f64; CLASSES],
    found: f64,
    wanted: f64,
}

impl Default for Learned {
    fn default() -> Self {
        Self {
            comparisons: 0,
            rows: [0.0; CLASSES],
            answers: [0.0; CLASSES],
            found: 0.0,
            wanted: 0.0,
        }
    }
}

/// What was learned of the answers' whereabouts.
#[derive(Debug, Default)]
pub(crate) struct Probing {
    learned: Mutex<Learned>,
    /// Whether a search is being compared: one at a time.
    comparing: Arc<AtomicBool>,
    /// No comparison begins before.
    not_before: Mutex<Option<Instant>>,
}

/// The right to compare.
#[derive(Debug)]
pub(crate) struct Comparing(Arc<AtomicBool>);

impl Drop for Comparing {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// Partitions that are put in order at first; then as many again, and so on.
const IN_ORDER: usize = 64;

/// The order of promise.
pub(super) fn by_rank(a: &(f32, u32), b: &(f32, u32)) -> std::cmp::Ordering {
    a.0.total_cmp(&b.0).then(a.1.cmp(&b.1))
}

/// Puts ranked partitions in order from the front on until `enough` of them were seen, or `least`; answers how many. Those behind
/// stay in any order: of all partitions a search looks at few.
pub(super) fn in_order(
    ranked: &mut [(f32, u32)],
    least: usize,
    mut enough: impl FnMut(&(f32, u32)) -> bool,
) -> usize {
    let (mut done, mut reached) = (0, None);
    loop {
        let next = (done * 2).max(IN_ORDER).min(ranked.len());
        let rest = &mut ranked[done..];
        if next - done < rest.len() {
            rest.select_nth_unstable_by(next - done, by_rank);
        }
        let some = &mut rest[..next - done];
        some.sort_unstable_by(by_rank);
        if reached.is_none() {
            reached = some.iter().position(&mut enough).map(|i| done + i + 1);
        }
        done = next;
        match reached {
            Some(n) if n.max(least) <= done => return n.max(least),
            None | Some(_) if done == ranked.len() => return done,
            None | Some(_) => {}
        }
    }
}

/// The class of lag of each of some partitions, in any order.
fn classes(ranked: &[(f32, u32)]) -> impl Iterator<Item = usize> + '_ {
    let class = class_of(ranked);
    ranked.iter().map(move |r| class(r.0))
}

/// From a rank to its class of lag among some partitions.
fn class_of(ranked: &[(f32, u32)]) -> impl Fn(f32) -> usize + use<> {
    let first = (ranked.iter().map(|r| r.0).reduce(f32::min)).map_or(0.0, f64::from);
    let sum: f64 = ranked.iter().map(|r| f64::from(r.0) - first).sum();
    let unit = sum / ranked.len().max(1) as f64;
    move |rank| {
        let lag = if unit > 0.0 {
            (f64::from(rank) - first) / unit
        } else {
            0.0
        };
        ((lag * CLASSES as f64) as usize).min(CLASSES - 1)
    }
}

impl Learned {
    /// Answers to a row of each class, never rising with the lag.
    fn rates(&self) -> [f64; CLASSES] {
        let all: f64 = self.rows.iter().sum();
        // One answer spread over all rows: what was not seen yet is not impossible.
        let doubt = 1.0 / all.max(1.0);
        let mut pools: Vec<(f64, f64, usize)> = Vec::with_capacity(CLASSES);
        for (answers, rows) in self.answers.iter().zip(&self.rows) {
            pools.push((answers + doubt * rows, rows + 1e-9, 1));
            while let [.., a, b] = pools[..]
                && a.0 / a.1 < b.0 / b.1
            {
                pools.truncate(pools.len() - 2);
                pools.push((a.0 + b.0, a.1 + b.1, a.2 + b.2));
            }
        }
        let mut rates = [0.0; CLASSES];
        let each = (pools.iter()).flat_map(|(a, r, n)| std::iter::repeat_n(a / r, *n));
        rates.iter_mut().zip(each).for_each(|(rate, r)| *rate = r);
        rates
    }
}

impl Probing {
    /// How many of the ranked partitions, at least `least`, are expected to hold a share `recall` of the answers; puts so many in order.
    /// `None` while too little is known.
    pub(crate) fn reach(
        &self,
        ranked: &mut [(f32, u32)],
        least: usize,
        rows_of: impl Fn(u32) -> u64,
        recall: f64,
    ) -> Option<usize> {
        let rates = {
            let learned = self.learned.lock();
            if learned.comparisons < LEARNED_MIN {
                return None;
            }
            learned.rates()
        };
        let class = class_of(ranked);
        let expected = |(rank, p): &(f32, u32)| rates[class(*rank)] * rows_of(*p) as f64;
        let aim = 1.0 - (1.0 - recall) * ALLOWED;
        let wanted = aim * ranked.iter().map(expected).sum::<f64>();
        let mut so_far = 0.0;
        Some(in_order(ranked, least, |r| {
            so_far += expected(r);
            so_far >= wanted
        }))
    }

    /// Learns from a search of every partition: in which partitions its cold answers lay.
    pub(crate) fn learn(
        &self,
        ranked: &[(f32, u32)],
        rows_of: impl Fn(u32) -> u64,
        answers: &[u32],
    ) {
        let mut learned = self.learned.lock();
        learned.comparisons += 1;
        let old = learned.rows.iter_mut().map(|x| *x *= FADING).count();
        debug_assert_eq!(old, CLASSES);
        learned.answers.iter_mut().for_each(|x| *x *= FADING);
        for (class, (_, partition)) in classes(ranked).zip(ranked) {
            learned.rows[class] += rows_of(*partition) as f64;
            let here = answers.iter().filter(|p| *p == partition).count();
            learned.answers[class] += here as f64;
        }
    }

    /// Notes how many of the true answers a bounded search had found.
    pub(crate) fn note_recall(&self, found: usize, wanted: usize) {
        let mut learned = self.learned.lock();
        learned.found = learned.found * FADING + found as f64;
        learned.wanted = learned.wanted * FADING + wanted as f64;
        if learned.wanted > 0.0 {
            metrics::gauge!("aether_bounded_recall").set(learned.found / learned.wanted);
        }
    }

    /// The right to compare, unless another has it.
    pub(crate) fn begin(&self) -> Option<Comparing> {
        if self.not_before.lock().is_some_and(|t| Instant::now() < t) {
            return None;
        }
        let busy = self.comparing.swap(true, Ordering::Acquire);
        (!busy).then(|| Comparing(self.comparing.clone()))
    }

    /// After a comparison that took so long the next one waits, so that comparing never takes more than a twentieth of a processor; half
    /// of one while little is known.
    pub(crate) fn rest(&self, took: Duration) {
        let times = if self.is_new() { 1 } else { 20 };
        *self.not_before.lock() = Some(Instant::now() + took.saturating_mul(times));
    }

    /// All that was learned, as bytes with their checksum: a memory that opens again knows how far to go, and how well it did.
    fn save(&self) -> Vec<u8> {
        let learned = self.learned.lock().clone();
        let figures = [learned.found, learned.wanted];
        let figures = figures.iter().chain(&learned.rows).chain(&learned.answers);
        let mut out = learned.comparisons.to_le_bytes().to_vec();
        figures.for_each(|x| out.extend_from_slice(&x.to_le_bytes()));
        seal(&mut out, 0, SEED);
        out
    }

    /// Takes up what `save` wrote.
    ///
    /// # Errors
    /// `Corrupt`; what was known before stays.
    fn load(&self, bytes: &[u8]) -> Result<()> {
        let what = "what was learned of the answers' whereabouts";
        let mut r = Reader::new(unseal(bytes, SEED, what)?, what);
        let mut learned = Learned {
            comparisons: r.u64()?,
            ..Learned::default()
        };
        let figures = [&mut learned.found, &mut learned.wanted];
        let figures = figures.into_iter().chain(&mut learned.rows);
        for figure in figures.chain(&mut learned.answers) {
            *figure = f64::from_bits(r.u64()?);
            if !figure.is_finite() || *figure < 0.0 {
                return Err(r.bad("a count is none"));
            }
        }
        if learned.found > learned.wanted {
            return Err(r.bad("more answers were found than there were"));
        }
        *self.learned.lock() = learned;
        Ok(())
    }

    /// Whether too little is known yet.
    pub(crate) fn is_new(&self) -> bool {
        self.learned.lock().comparisons < LEARNED_MIN * 2
    }

    /// Searches that were compared with the truth, at former openings too.
    pub(crate) fn comparisons(&self) -> u64 {
        self.learned.lock().comparisons
    }

    /// Share of the true answers that bounded searches found.
    pub(crate) fn recall(&self) -> Option<f64> {
        let learned = self.learned.lock();
        (learned.wanted > 0.0).then(|| learned.found / learned.wanted)
    }
}

impl Inner {
    /// Adds what was learned to a batch, if there is something.
    pub(super) fn flush_probing(&self, batch: &mut Batch) {
        if self.probing.learned.lock().comparisons > 0 {
            let name = bytes::Bytes::from_static(key::PROBING);
            batch.put(Table::State, name, self.probing.save());
        }
    }

    /// Takes up what was learned before; what is damaged is learned anew.
    pub(super) async fn load_probing(&self) -> Result<()> {
        if let Some(saved) = state(&*self.meta, key::PROBING).await?
            && let Err(error) = self.probing.load(&saved)
        {
            tracing::warn!(%error, "how far to probe is learned anew");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ranks of 200 partitions and the partitions of ten answers, which thin out by `slope` with the rank.
    fn case(rng: &mut fastrand::Rng, slope: f64) -> (Vec<(f32, u32)>, Vec<u32>) {
        let ranked: Vec<(f32, u32)> = (0..200u32).map(|p| (1.0 + p as f32 / 100.0, p)).collect();
        let lag = |rng: &mut fastrand::Rng| (-(1.0 - rng.f64()).ln() * slope * 200.0) as u32;
        let answers = (0..10).map(|_| lag(rng).min(199)).collect();
        (ranked, answers)
    }

    #[test]
    fn the_reach_holds_the_share_asked_for_and_not_much_more() {
        let mut rng = fastrand::Rng::with_seed(3);
        let probing = Probing::default();
        let (mut ranked, _) = case(&mut rng, 0.05);
        assert_eq!(
            probing.reach(&mut ranked, 1, |_| 50, 0.9),
            None,
            "nothing is known"
        );
        for _ in 0..200 {
            let (ranked, answers) = case(&mut rng, 0.05);
            probing.learn(&ranked, |_| 50, &answers);
        }
        for recall in [0.8, 0.9, 0.95, 0.99] {
            rng.shuffle(&mut ranked);
            let reach = probing.reach(&mut ranked, 1, |_| 50, recall).unwrap();
            let (mut found, mut wanted) = (0, 0);
            for _ in 0..300 {
                let (_, answers) = case(&mut rng, 0.05);
                wanted += answers.len();
                found += answers.iter().filter(|p| (**p as usize) < reach).count();
            }
            let got = f64::from(found as u32) / wanted as f64;
            assert!(
                got >= recall - 0.02,
                "{recall}: {got} in {reach} partitions"
            );
            // Exponential: a share r lies within -ln(1 - r) slopes of ten partitions; the margin and the classes add a few.
            let ideal = -(1.0 - recall).ln() * 10.0;
            assert!(
                (reach as f64) < ideal * 1.5 + 6.0,
                "{recall}: {reach} partitions, ideal {ideal}"
            );
        }
    }

    #[test]
    fn what_was_learned_is_taken_up_again_and_damage_is_refused() {
        let mut rng = fastrand::Rng::with_seed(6);
        let probing = Probing::default();
        for _ in 0..100 {
            let (ranked, answers) = case(&mut rng, 0.05);
            probing.learn(&ranked, |_| 50, &answers);
            probing.note_recall(9, 10);
        }
        let saved = probing.save();
        let next = Probing::default();
        next.load(&saved).unwrap();
        assert_eq!(next.recall(), probing.recall());
        assert!(!next.is_new());
        let (mut ranked, _) = case(&mut rng, 0.05);
        let reach = |p: &Probing, r: &mut Vec<(f32, u32)>| p.reach(r, 1, |_| 50, 0.95);
        assert_eq!(reach(&next, &mut ranked), reach(&probing, &mut ranked));
        for at in 0..saved.len() {
            let mut bad = saved.clone();
            bad[at] ^= 1 << (at % 8);
            assert!(next.load(&bad).is_err_and(|e| e.is_corrupt()), "{at}");
            assert!(next.load(&saved[..at]).is_err(), "{at}");
        }
        // Wrong content under a right checksum.
        for (place, figure) in [(1, -1.0), (1, 1e9), (5, f64::NAN), (100, f64::INFINITY)] {
            let mut inner = unseal(&saved, SEED, "probing").unwrap().to_vec();
            inner[place * 8..][..8].copy_from_slice(&f64::to_le_bytes(figure));
            seal(&mut inner, 0, SEED);
            assert!(next.load(&inner).is_err_and(|e| e.is_corrupt()), "{figure}");
        }
        assert_eq!(next.recall(), probing.recall(), "what was known stays");
    }

    #[test]
    fn as_many_are_in_order_as_are_wanted() {
        let mut rng = fastrand::Rng::with_seed(5);
        for n in [0, 1, 63, 64, 65, 200, 1000] {
            for _ in 0..40 {
                // Ranks often are equal.
                let mut ranked: Vec<(f32, u32)> =
                    (0..n as u32).map(|p| (rng.u32(..50) as f32, p)).collect();
                rng.shuffle(&mut ranked);
                let mut sorted = ranked.clone();
                sorted.sort_unstable_by(by_rank);
                let (least, wanted) = (rng.usize(..n + 2), rng.usize(..n + 2));
                let mut seen = Vec::new();
                let reached = in_order(&mut ranked, least, |r| {
                    seen.push(*r);
                    seen.len() >= wanted
                });
                assert_eq!(
                    reached,
                    wanted.max(1).max(least).min(n),
                    "{n}: {wanted}, {least}"
                );
                assert_eq!(ranked[..reached], sorted[..reached]);
                assert_eq!(seen[..], sorted[..wanted.max(1).min(n)]);
                ranked.sort_unstable_by(by_rank);
                assert_eq!(ranked, sorted, "none was lost");
            }
        }
    }

    #[test]
    fn a_scattered_query_is_given_more() {
        let mut rng = fastrand::Rng::with_seed(4);
        let probing = Probing::default();
        for _ in 0..100 {
            let (ranked, answers) = case(&mut rng, 0.05);
            probing.learn(&ranked, |_| 50, &answers);
        }
        let (mut ranked, _) = case(&mut rng, 0.05);
        // Half of its partitions are nearly as near as the first.
        let mut scattered: Vec<(f32, u32)> = ranked
            .iter()
            .map(|(r, p)| (r.max(2.0) - 0.001 * (200 - p) as f32, *p))
            .collect();
        let usual = probing.reach(&mut ranked, 1, |_| 50, 0.95).unwrap();
        let more = probing.reach(&mut scattered, 1, |_| 50, 0.95).unwrap();
        assert!(more > usual, "{more} and {usual}");
    }
}

//! What searches of a hot index cost, in things that can be counted.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Serialize, Serializer};

/// Levels of a graph that are told apart; what happens above counts as the highest.
pub const WORK_LEVELS: usize = 16;

/// What one search did, or several together. Unlike times, these figures are the same on every machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SearchWork {
    /// Rows whose links were followed, by the level of the graph, the one that has all rows first.
    #[serde(serialize_with = "without_idle_levels")]
    pub hops: [u64; WORK_LEVELS],
    /// Distances estimated from codes.
    pub estimated: u64,
    /// Distances computed from vectors on the way through a graph, and for its answers.
    pub compared: u64,
    /// Distances computed from vectors while looking at row after row.
    pub scanned: u64,
    /// Bytes of the lists of links that were followed.
    pub link_bytes: u64,
    /// Bytes of the codes that distances were estimated from.
    pub code_bytes: u64,
    /// Bytes of the vectors that distances were computed from.
    pub vector_bytes: u64,
}

fn without_idle_levels<S: Serializer>(
    hops: &[u64; WORK_LEVELS],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let levels = hops.iter().rposition(|n| *n > 0).map_or(0, |top| top + 1);
    hops[..levels].serialize(serializer)
}

impl SearchWork {
    /// All bytes that were looked at.
    pub fn bytes(&self) -> u64 {
        self.link_bytes + self.code_bytes + self.vector_bytes
    }

    /// What came after `earlier`, an older reading of the same tally.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut hops = self.hops;
        for (hops, earlier) in hops.iter_mut().zip(earlier.hops) {
            *hops = hops.saturating_sub(earlier);
        }
        Self {
            hops,
            estimated: self.estimated.saturating_sub(earlier.estimated),
            compared: self.compared.saturating_sub(earlier.compared),
            scanned: self.scanned.saturating_sub(earlier.scanned),
            link_bytes: self.link_bytes.saturating_sub(earlier.link_bytes),
            code_bytes: self.code_bytes.saturating_sub(earlier.code_bytes),
            vector_bytes: self.vector_bytes.saturating_sub(earlier.vector_bytes),
        }
    }
}

/// Adds up what searches do. Any number of threads may add at once; a reading beside them may have a part of a search.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct SearchTally {
    hops: [AtomicU64; WORK_LEVELS],
    /// The rest of [`SearchWork`], in its order.
    others: [AtomicU64; 6],
}

impl SearchTally {
    /// Adds what a search did.
    pub fn add(&self, work: &SearchWork) {
        let others = [
            work.estimated,
            work.compared,
            work.scanned,
            work.link_bytes,
            work.code_bytes,
            work.vector_bytes,
        ];
        let (hops, rest) = (
            self.hops.iter().zip(work.hops),
            self.others.iter().zip(others),
        );
        for (sum, n) in hops.chain(rest).filter(|(_, n)| *n > 0) {
            sum.fetch_add(n, Ordering::Relaxed);
        }
    }

    /// The sums so far.
    pub fn read(&self) -> SearchWork {
        let [
            estimated,
            compared,
            scanned,
            link_bytes,
            code_bytes,
            vector_bytes,
        ] = std::array::from_fn(|i| self.others[i].load(Ordering::Relaxed));
        SearchWork {
            hops: std::array::from_fn(|level| self.hops[level].load(Ordering::Relaxed)),
            estimated,
            compared,
            scanned,
            link_bytes,
            code_bytes,
            vector_bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_adds_up_and_differences_are_what_came_in_between() {
        let mut work = SearchWork {
            estimated: 1,
            compared: 2,
            scanned: 3,
            link_bytes: 4,
            code_bytes: 5,
            vector_bytes: 6,
            ..SearchWork::default()
        };
        (work.hops[0], work.hops[2]) = (7, 8);
        let tally = SearchTally::default();
        tally.add(&work);
        let once = tally.read();
        assert_eq!(once, work);
        tally.add(&work);
        assert_eq!(tally.read().since(&once), work);
        assert_eq!(work.bytes(), 15);
        let text = serde_json::to_string(&work).unwrap();
        assert!(
            text.starts_with("{\"hops\":[7,0,8],\"estimated\":1"),
            "{text}"
        );
    }
}

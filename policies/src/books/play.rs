//! A cache of one row a key, for tests worked by hand.

use aether_core::role::{Context, Event, EvictionPolicy, Item, Tier};
use aether_core::{Row, Time};

/// A hot tier of so many rows, each of one byte.
#[derive(Debug)]
pub(crate) struct Play {
    pub(crate) policy: Box<dyn EvictionPolicy>,
    rows: Vec<u64>,
    capacity: u64,
    now: u64,
}

impl Play {
    pub(crate) fn new(policy: impl EvictionPolicy, capacity: u64) -> Self {
        Self {
            policy: Box::new(policy),
            rows: Vec::new(),
            capacity,
            now: 0,
        }
    }

    pub(crate) fn context(&self) -> Context {
        Context {
            now: Time(self.now),
            temperature: 1.0,
            hot_bytes: self.rows.len() as u64,
            budget_bytes: self.capacity,
        }
    }

    /// Uses a row, a second after the last; the rows that had to leave for it, or `None` when it was hot.
    pub(crate) fn use_row(&mut self, row: u64) -> Option<Vec<u64>> {
        self.now += 1_000_000;
        let now = Time(self.now);
        let of = |row: u64| Item {
            row: Row(row),
            bytes: 1,
            restore_us: 100.0,
        };
        if self.rows.contains(&row) {
            self.policy
                .on_event(&Event::Accessed { row: Row(row) }, now);
            return None;
        }
        let item = of(row);
        self.policy.on_event(&Event::Missed { item }, now);
        let candidate = self.policy.admit(&item, &self.context());
        let mut left = Vec::new();
        while self.rows.len() as u64 >= self.capacity {
            let context = self.context();
            let victim = self.policy.victim(1, &context).expect("a row may leave");
            if !candidate.certain && !victim.certain && victim.keep >= candidate.keep {
                return Some(left);
            }
            let gone = victim.row.0;
            assert!(self.rows.contains(&gone), "{gone} is not hot");
            self.rows.retain(|r| *r != gone);
            let (item, to) = (of(gone), Tier::Cold);
            self.policy.on_event(&Event::Moved { item, to }, now);
            left.push(gone);
        }
        self.rows.push(row);
        let to = Tier::Hot;
        self.policy.on_event(&Event::Moved { item, to }, now);
        Some(left)
    }

    /// Uses rows in turn; all that left, in order.
    pub(crate) fn use_rows(&mut self, rows: &[u64]) -> Vec<u64> {
        let left = rows.iter().filter_map(|row| self.use_row(*row));
        left.flatten().collect()
    }

    /// Hot rows, sorted.
    pub(crate) fn hot(&self) -> Vec<u64> {
        let mut rows = self.rows.clone();
        rows.sort_unstable();
        rows
    }
}

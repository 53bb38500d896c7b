//! The most recent moves, for `explain`.

use std::collections::VecDeque;

use hashbrown::HashMap;

use super::explained::{Move, Mover};
use crate::clock::Time;
use crate::id::Row;
use crate::role::Tier;

/// Moves remembered: about two megabytes.
const REMEMBERED: usize = 16_384;

/// A move as it is remembered: rows move by thousands, so nothing of it is allocated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Made {
    pub(crate) at: Time,
    pub(crate) to: Tier,
    pub(crate) by: Mover,
    pub(crate) reason: &'static str,
    pub(crate) keep: Option<f64>,
    pub(crate) midpoint: Option<f64>,
    pub(crate) temperature: f64,
}

impl Made {
    fn told(&self, policy: &str) -> Move {
        Move {
            at: self.at,
            to: self.to,
            by: self.by,
            policy: policy.to_owned(),
            reason: self.reason.to_owned(),
            keep: self.keep,
            midpoint: self.midpoint,
            temperature: self.temperature,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Remembered {
    row: Row,
    /// The number of the same row's move before, which may be forgotten by now.
    before: Option<u64>,
    made: Made,
}

/// Moves in the order in which they were made, found by row.
#[derive(Debug, Default)]
pub(crate) struct MoveLog {
    moves: VecDeque<Remembered>,
    /// The number of the first of them.
    first: u64,
    /// The number of each row's last move.
    last: HashMap<Row, u64>,
}

impl MoveLog {
    pub(crate) fn push(&mut self, row: Row, made: Made) {
        let number = self.first + self.moves.len() as u64;
        let before = self.last.insert(row, number);
        self.moves.push_back(Remembered { row, before, made });
        while self.moves.len() > REMEMBERED {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        let Some(Remembered { row, .. }) = self.moves.pop_front() else {
            return;
        };
        if self.last.get(&row) == Some(&self.first) {
            self.last.remove(&row);
        }
        self.first += 1;
    }

    fn made(&self, number: u64) -> Option<&Remembered> {
        let place = number.checked_sub(self.first)?;
        self.moves.get(usize::try_from(place).ok()?)
    }

    /// The last moves of a row, latest first, at most so many, as those of a policy.
    pub(crate) fn last(&self, row: Row, most: usize, policy: &str) -> Vec<Move> {
        let latest = self.last.get(&row).and_then(|n| self.made(*n));
        let moves = std::iter::successors(latest, |r| self.made(r.before?));
        moves.take(most).map(|r| r.made.told(policy)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(at: u64) -> Made {
        Made {
            at: Time(at),
            to: Tier::Cold,
            by: Mover::Flux,
            reason: "least recently used",
            keep: None,
            midpoint: None,
            temperature: 1.0,
        }
    }

    #[test]
    fn the_last_moves_of_a_row_come_latest_first_and_old_ones_are_forgotten() {
        let mut log = MoveLog::default();
        for at in 0..5 {
            log.push(Row(1), made(at));
            log.push(Row(2), made(100 + at));
        }
        let times = |log: &MoveLog, row, most| -> Vec<u64> {
            log.last(Row(row), most, "lru")
                .iter()
                .map(|m| m.at.0)
                .collect()
        };
        assert_eq!(times(&log, 1, 3), [4, 3, 2]);
        assert_eq!(times(&log, 2, 9), [104, 103, 102, 101, 100]);
        assert_eq!(times(&log, 3, 9), [0; 0]);
        // Ten are there: seven of them have to go.
        for at in 0..REMEMBERED as u64 - 3 {
            log.push(Row(1_000 + at), made(at));
        }
        assert_eq!(times(&log, 1, 9), [4]);
        assert_eq!(times(&log, 2, 9), [104, 103]);
        (0..2).for_each(|_| log.push(Row(7), made(9)));
        assert_eq!(times(&log, 1, 9), [0; 0]);
        assert_eq!(times(&log, 2, 9), [104]);
        assert_eq!(log.moves.len(), REMEMBERED);
        assert!(!log.last.contains_key(&Row(1)));
    }
}

//! The most recent moves, for `explain`.

use std::collections::VecDeque;

use hashbrown::HashMap;

use super::explained::Move;
use crate::id::Row;

/// Moves remembered: about four megabytes.
const REMEMBERED: usize = 16_384;

/// Moves in the order in which they were made, found by row.
#[derive(Debug, Default)]
pub(crate) struct MoveLog {
    moves: VecDeque<(Row, Move)>,
    /// The number of the first of them.
    first: u64,
    /// Numbers of each row's moves, earliest first.
    of: HashMap<Row, VecDeque<u64>>,
}

impl MoveLog {
    pub(crate) fn push(&mut self, row: Row, made: Move) {
        let number = self.first + self.moves.len() as u64;
        self.of.entry(row).or_default().push_back(number);
        self.moves.push_back((row, made));
        while self.moves.len() > REMEMBERED {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        let Some((row, _)) = self.moves.pop_front() else {
            return;
        };
        self.first += 1;
        if let Some(numbers) = self.of.get_mut(&row) {
            numbers.pop_front();
            if numbers.is_empty() {
                self.of.remove(&row);
            }
        }
    }

    /// The last moves of a row, latest first, at most so many.
    pub(crate) fn last(&self, row: Row, most: usize) -> Vec<Move> {
        let numbers = self.of.get(&row).into_iter().flatten().rev().take(most);
        let made = |number: &u64| self.moves.get((number - self.first) as usize);
        numbers.filter_map(made).map(|(_, m)| m.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Time;
    use crate::engine::Mover;
    use crate::role::Tier;

    fn made(at: u64) -> Move {
        Move {
            at: Time(at),
            to: Tier::Cold,
            by: Mover::Flux,
            policy: "lru".to_owned(),
            reason: "least recently used".to_owned(),
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
            log.last(Row(row), most).iter().map(|m| m.at.0).collect()
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
        assert!(!log.of.contains_key(&Row(1)));
    }
}

//! The most recent moves, for `explain`.

use std::collections::VecDeque;

use hashbrown::HashMap;

use super::explained::{Move, Mover};
use crate::clock::Time;
use crate::error::Result;
use crate::flux::Midpoint;
use crate::id::Row;
use crate::role::Tier;
use crate::seal::{seal, unseal};
use crate::wire::Reader;

/// Moves remembered: about two megabytes.
const REMEMBERED: usize = 16_384;
/// Those of them that are written down with the policy's books, the newest: 50 kilobytes.
const SAVED: usize = 1_024;
/// Binds what is written down to its place.
const SAVED_SEED: u64 = 0x6d6f_7665_7331;

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

#[derive(Clone, Copy, Debug)]
struct Remembered {
    row: Row,
    /// The number of the same row's move before, which may be forgotten by now.
    before: Option<u64>,
    made: Made,
    /// Of a move that another run of the memory made: whose word it was made on, as a place in [`MoveLog::former`].
    former: Option<u16>,
}

/// Whose word a move was made on, and what it said.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Word {
    policy: String,
    reason: String,
}

/// Moves in the order in which they were made, found by row.
#[derive(Debug, Default)]
pub(crate) struct MoveLog {
    moves: VecDeque<Remembered>,
    /// The number of the first of them.
    first: u64,
    /// The number of each row's last move.
    last: HashMap<Row, u64>,
    /// What policies said in former runs.
    former: Vec<Word>,
}

impl MoveLog {
    pub(crate) fn push(&mut self, row: Row, made: Made) {
        self.append(row, made, None);
    }

    fn append(&mut self, row: Row, made: Made, former: Option<u16>) {
        let number = self.first + self.moves.len() as u64;
        let before = self.last.insert(row, number);
        self.moves.push_back(Remembered {
            row,
            before,
            made,
            former,
        });
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
        moves.take(most).map(|r| self.told(r, policy)).collect()
    }

    fn word(&self, remembered: &Remembered, policy: &str) -> Word {
        let former = remembered
            .former
            .and_then(|at| self.former.get(usize::from(at)));
        former.cloned().unwrap_or_else(|| Word {
            policy: policy.to_owned(),
            reason: remembered.made.reason.to_owned(),
        })
    }

    fn told(&self, remembered: &Remembered, policy: &str) -> Move {
        let Word { policy, reason } = self.word(remembered, policy);
        let made = remembered.made;
        Move {
            at: made.at,
            to: made.to,
            by: made.by,
            policy,
            reason,
            keep: made.keep,
            midpoint: made.midpoint,
            temperature: made.temperature,
        }
    }

    /// The newest moves and the last midpoint, sealed: what `explain` still tells after a restart.
    pub(crate) fn save(&self, midpoint: Option<Midpoint>, policy: &str) -> Vec<u8> {
        let mut words: Vec<Word> = Vec::new();
        let mut moves = Vec::new();
        let newest = self.moves.len().saturating_sub(SAVED);
        for remembered in self.moves.range(newest..) {
            let word = self.word(remembered, policy);
            let at = words.iter().position(|w| *w == word).unwrap_or_else(|| {
                words.push(word);
                words.len() - 1
            });
            let made = remembered.made;
            moves.extend_from_slice(&remembered.row.0.to_le_bytes());
            moves.extend_from_slice(&made.at.0.to_le_bytes());
            moves.push(u8::from(made.to == Tier::Hot));
            moves.push(made.by as u8);
            moves.extend_from_slice(&(at as u16).to_le_bytes());
            put_floats(&mut moves, [made.keep, made.midpoint]);
            put_floats(&mut moves, [Some(made.temperature)]);
        }
        let mut out = Vec::new();
        put_floats(
            &mut out,
            [midpoint.map(|m| m.at), midpoint.map(|m| m.spread)],
        );
        out.extend_from_slice(&(words.len() as u16).to_le_bytes());
        for text in words.iter().flat_map(|w| [&w.policy, &w.reason]) {
            out.extend_from_slice(&(text.len() as u32).to_le_bytes());
            out.extend_from_slice(text.as_bytes());
        }
        out.extend_from_slice(&((self.moves.len() - newest) as u32).to_le_bytes());
        out.extend_from_slice(&moves);
        seal(&mut out, 0, SAVED_SEED);
        out
    }

    /// Takes up what [`MoveLog::save`] wrote, in place of all moves. Damaged, it changes nothing.
    pub(crate) fn load(&mut self, bytes: &[u8]) -> Result<Option<Midpoint>> {
        let what = "the last moves";
        let mut r = Reader::new(unseal(bytes, SAVED_SEED, what)?, what);
        let midpoint = match (take_float(&mut r)?, take_float(&mut r)?) {
            (Some(at), Some(spread)) => Some(Midpoint { at, spread }),
            _ => None,
        };
        let mut log = Self::default();
        for _ in 0..r.u16()? {
            let mut text = || {
                let bytes = r.u32()? as usize;
                let text = std::str::from_utf8(r.take(bytes)?).map(str::to_owned);
                text.map_err(|_| r.bad("a reason is no text"))
            };
            let word = Word {
                policy: text()?,
                reason: text()?,
            };
            log.former.push(word);
        }
        for _ in 0..r.u32()? {
            let (row, at) = (Row(r.u64()?), Time(r.u64()?));
            let to = if r.u8()? > 0 { Tier::Hot } else { Tier::Cold };
            let by = match r.u8()? {
                0 => Mover::Flux,
                1 => Mover::Hand,
                2 => Mover::NoRoom,
                other => return Err(r.bad(&format!("there is no mover {other}"))),
            };
            let word = r.u16()?;
            if usize::from(word) >= log.former.len() {
                return Err(r.bad("a move has no reason"));
            }
            let made = Made {
                at,
                to,
                by,
                reason: "",
                keep: take_float(&mut r)?,
                midpoint: take_float(&mut r)?,
                temperature: take_float(&mut r)?.unwrap_or_default(),
            };
            log.append(row, made, Some(word));
        }
        r.end()?;
        *self = log;
        Ok(midpoint)
    }
}

/// No number stands for none.
fn put_floats<const N: usize>(out: &mut Vec<u8>, values: [Option<f64>; N]) {
    for value in values {
        out.extend_from_slice(&value.unwrap_or(f64::NAN).to_bits().to_le_bytes());
    }
}

fn take_float(r: &mut Reader<'_>) -> Result<Option<f64>> {
    let value = f64::from_bits(r.u64()?);
    Ok((!value.is_nan()).then_some(value))
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
    fn the_newest_moves_are_told_after_a_restart_as_before_it() {
        let mut log = MoveLog::default();
        for at in 0..SAVED as u64 + 50 {
            let odd = Made {
                to: Tier::Hot,
                by: Mover::Hand,
                reason: "asked for",
                keep: Some(at as f64),
                midpoint: Some(0.5),
                ..made(at)
            };
            log.push(Row(at % 40), if at % 2 > 0 { odd } else { made(at) });
        }
        let midpoint = Midpoint {
            at: 2.5,
            spread: 0.25,
        };
        let saved = log.save(Some(midpoint), "lru");
        let mut other = MoveLog::default();
        other.push(Row(3), made(7));
        assert_eq!(other.load(&saved).unwrap(), Some(midpoint));
        for row in 0..40 {
            // Under another policy now: what was said is still the former one's.
            let told = other.last(Row(row), 4, "flux");
            assert_eq!(told, log.last(Row(row), 4, "lru"), "{row}");
        }
        assert_eq!(other.save(Some(midpoint), "flux"), saved);
        other.push(Row(3), made(5_000));
        let policies = |log: &MoveLog| -> Vec<String> {
            let moves = log.last(Row(3), 2, "flux");
            moves.into_iter().map(|m| m.policy).collect()
        };
        assert_eq!(policies(&other), ["flux", "lru"]);
        // A second restart does not blame the wrong one.
        let saved = other.save(None, "flux");
        assert_eq!(other.load(&saved).unwrap(), None);
        assert_eq!(policies(&other), ["flux", "lru"]);
    }

    #[test]
    fn damaged_moves_are_an_error_and_change_nothing() {
        let mut log = MoveLog::default();
        (0..9).for_each(|at| log.push(Row(at), made(at)));
        let saved = log.save(None, "lru");
        for at in 0..saved.len() {
            let mut bad = saved.clone();
            bad[at] ^= 1 << (at % 8);
            assert!(log.load(&bad).is_err(), "{at}");
            assert!(log.load(&saved[..at]).is_err(), "{at}");
        }
        assert_eq!(log.last(Row(8), 1, "lru").len(), 1);
        // Wrong content under a right checksum.
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..20_000 {
            let mut inner = unseal(&saved, SAVED_SEED, "moves").unwrap().to_vec();
            for _ in 0..rng.usize(1..4) {
                let at = rng.usize(..inner.len());
                inner[at] = rng.u8(..);
            }
            inner.truncate(rng.usize(..=inner.len()));
            seal(&mut inner, 0, SAVED_SEED);
            // Refused as damaged, or moves that can be told.
            if let Err(error) = log.load(&inner) {
                assert!(error.is_corrupt(), "{error}");
            }
            log.last(Row(8), 9, "lru");
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

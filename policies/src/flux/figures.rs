//! The figures of one row, packed: 12 bytes for a row that is remembered (20 with its name), 18 for a hot one.

use aether_core::{Error, Result, Time};

use crate::books::{Input, Packed};

/// Steps of a stored score in one doubling.
const STEPS: f64 = 1024.0;

/// A time-invariant score in 6 bytes: `log2(decayed count) + virtual time of the last use`, in steps of 1/1024. It does not
/// change while nothing happens to its row, so that an order of rows stays right as time passes. 0 means no use at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Score([u16; 3]);

impl Score {
    pub(super) fn of(value: f64) -> Self {
        // A cast saturates; what is no number becomes 0.
        let steps = ((value * STEPS).round() as u64).min((1 << 48) - 1);
        Self([steps as u16, (steps >> 16) as u16, (steps >> 32) as u16])
    }

    fn steps(self) -> u64 {
        let [low, middle, high] = self.0.map(u64::from);
        low | middle << 16 | high << 32
    }

    /// `None` for a row that was never used.
    pub(super) fn value(self) -> Option<f64> {
        let steps = self.steps();
        (steps > 0).then(|| steps as f64 / STEPS)
    }

    /// Uses, decayed to the virtual time `now`.
    pub(super) fn count(self, now: f64) -> f64 {
        self.value()
            .map_or(0.0, |score| (score - now).min(64.0).exp2())
    }

    /// The score after `uses` more at `now`: counts add, so that the result is `now + log2(uses + count)`.
    pub(super) fn used(self, uses: f64, now: f64) -> Self {
        let after = Self::of(now + (uses + self.count(now)).log2());
        // Rounding must not take away from a count that one use no longer changes.
        if after.steps() < self.steps() {
            self
        } else {
            after
        }
    }

    fn put(self, out: &mut Vec<u8>) {
        self.0
            .iter()
            .for_each(|part| out.extend_from_slice(&part.to_le_bytes()));
    }

    fn take(input: &mut Input<'_>) -> Result<Self> {
        Ok(Self([input.u16()?, input.u16()?, input.u16()?]))
    }
}

/// The bit of a restore time that marks a row among the most recently used.
const RECENT: u16 = 1 << 15;

/// What outlives a stay in the hot tier.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C, packed(2))]
pub(super) struct Past {
    pub(super) score: Score,
    /// Importance as of `judged_s`, in steps of 1/65,535.
    importance: u16,
    /// The last feedback, in seconds on the memory's time line: good for 136 years.
    judged_s: u32,
}

/// A time in whole seconds, rounded down.
fn seconds(time: Time) -> u32 {
    u32::try_from(time.0 / 1_000_000).unwrap_or(u32::MAX)
}

impl Past {
    pub(super) fn scored(self, score: Score) -> Self {
        Self { score, ..self }
    }

    pub(super) fn judged_at(self, now: Time, importance: f64) -> Self {
        Self {
            importance: (importance.clamp(0.0, 1.0) * f64::from(u16::MAX)).round() as u16,
            judged_s: seconds(now),
            ..self
        }
    }

    /// Importance as of the last feedback.
    pub(super) fn importance(self) -> f64 {
        f64::from(self.importance) / f64::from(u16::MAX)
    }

    pub(super) fn judged_age_s(self, now: Time) -> f64 {
        f64::from(seconds(now).saturating_sub(self.judged_s))
    }
}

impl Packed for Past {
    const BYTES: usize = 12;

    fn put(self, out: &mut Vec<u8>) {
        { self.score }.put(out);
        out.extend_from_slice(&{ self.importance }.to_le_bytes());
        out.extend_from_slice(&{ self.judged_s }.to_le_bytes());
    }

    fn take(input: &mut Input<'_>) -> Result<Self> {
        Ok(Self {
            score: Score::take(input)?,
            importance: input.u16()?,
            judged_s: input.u32()?,
        })
    }
}

/// The figures of a hot row.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C, packed(2))]
pub(super) struct Hot {
    past: Past,
    /// The last use or entry, in seconds on the memory's time line.
    used_s: u32,
    /// The upper half of the restore time's `f32` in microseconds: 8 bits of precision, in order. A time has no sign: that bit
    /// is set while the row is among the most recently used.
    restore: u16,
}

impl Hot {
    /// A restore time that is no number or below 0 counts as 0, an infinite one as the largest number.
    pub(super) fn new(past: Past, restore_us: f32, now: Time) -> Self {
        let hot = Self {
            past,
            used_s: seconds(now),
            ..Self::default()
        };
        hot.restored_in(restore_us)
    }

    pub(super) fn restored_in(self, restore_us: f32) -> Self {
        let restore_us = if restore_us.is_nan() {
            0.0
        } else {
            restore_us.clamp(0.0, f32::MAX)
        };
        Self {
            restore: self.restore & RECENT | (restore_us.to_bits() >> 16) as u16 & !RECENT,
            ..self
        }
    }

    pub(super) fn past(self) -> Past {
        self.past
    }

    pub(super) fn with(self, past: Past) -> Self {
        Self { past, ..self }
    }

    pub(super) fn used_at(self, past: Past, now: Time) -> Self {
        Self {
            past,
            used_s: seconds(now),
            ..self
        }
    }

    pub(super) fn used_age_s(self, now: Time) -> f64 {
        f64::from(seconds(now).saturating_sub(self.used_s))
    }

    pub(super) fn restore_us(self) -> f64 {
        f64::from(f32::from_bits(u32::from(self.restore & !RECENT) << 16))
    }

    pub(super) fn recent(self) -> bool {
        self.restore & RECENT != 0
    }

    pub(super) fn placed(self, recent: bool) -> Self {
        let mark = if recent { RECENT } else { 0 };
        Self {
            restore: self.restore & !RECENT | mark,
            ..self
        }
    }
}

impl Packed for Hot {
    const BYTES: usize = Past::BYTES + 6;

    fn put(self, out: &mut Vec<u8>) {
        self.past().put(out);
        out.extend_from_slice(&{ self.used_s }.to_le_bytes());
        out.extend_from_slice(&{ self.restore }.to_le_bytes());
    }

    fn take(input: &mut Input<'_>) -> Result<Self> {
        let hot = Self {
            past: Past::take(input)?,
            used_s: input.u32()?,
            restore: input.u16()?,
        };
        match hot.restore_us() {
            us if us.is_finite() => Ok(hot),
            us => Err(Error::corrupt(format!(
                "policy books: expected a restore time of 0 or more, got {us}"
            ))),
        }
    }
}

const _: () = assert!(size_of::<Past>() == 12 && size_of::<Hot>() == 18);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restore_times_keep_their_order_and_odd_ones_are_tamed() {
        let of = |us: f32| Hot::new(Past::default(), us, Time(0)).restore_us();
        assert_eq!([of(f32::NAN), of(-5.0), of(0.0)], [0.0; 3]);
        assert!(of(f32::INFINITY).is_finite());
        let times = [0.0, 1e-40, 0.3, 1.0, 150.0, 151.0, 20_000.0, 1e9, f32::MAX];
        assert!(times.map(of).is_sorted());
        assert!((of(150.0) - 150.0).abs() <= 150.0 / 128.0);
    }

    /// Three uses in one moment, then half of each lost with every unit of virtual time.
    #[test]
    fn a_score_holds_a_decayed_count_and_does_not_change_by_waiting() {
        let used = Score::default().used(1.0, 10.0).used(2.0, 10.0);
        assert!((used.count(10.0) - 3.0).abs() < 1e-2);
        assert!((used.count(12.0) - 0.75).abs() < 1e-2);
        let again = used.used(1.0, 12.0);
        assert!((again.count(12.0) - 1.75).abs() < 1e-2);
        assert!((again.value().unwrap() - (12.0 + 1.75_f64.log2())).abs() < 2e-3);
        assert_eq!(Score::default().count(0.0), 0.0);
    }

    #[test]
    fn figures_survive_being_saved_and_wrong_ones_are_refused() {
        let past = Past::default()
            .scored(Score::of(77.25))
            .judged_at(Time(99_000_000), 0.8);
        let hot = Hot::new(past, 250.0, Time(5_000_000)).placed(true);
        let mut bytes = Vec::new();
        hot.put(&mut bytes);
        assert_eq!(bytes.len(), Hot::BYTES);
        assert_eq!(Hot::take(&mut Input(&bytes)).unwrap(), hot);
        assert!((hot.past().importance() - 0.8).abs() < 1e-4);
        assert!(hot.recent() && !hot.placed(false).recent());
        assert_eq!(hot.restore_us(), hot.placed(false).restore_us());
        assert!(hot.restored_in(9.0).recent());
        bytes[16..18].copy_from_slice(&0x7fc0_u16.to_le_bytes());
        assert!(Hot::take(&mut Input(&bytes)).unwrap_err().is_corrupt());
    }
}

//! The figures of one row, packed: 16 bytes for a row that is remembered, 18 for a hot one.

use aether_core::{Error, Result, Time};

use crate::books::{Input, Packed, Stamp};

/// What outlives a stay in the hot tier.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C, packed(2))]
pub(super) struct Past {
    /// The last use, or the entry into the hot tier.
    pub(super) used: Stamp,
    /// Uses, decayed to `used`.
    pub(super) frequency: f32,
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
    pub(super) fn used_at(self, now: Time, frequency: f64) -> Self {
        Self {
            used: Stamp::of(now),
            frequency: (frequency as f32).clamp(0.0, 1e30),
            ..self
        }
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
    const BYTES: usize = 16;

    fn put(self, out: &mut Vec<u8>) {
        { self.used }.put(out);
        out.extend_from_slice(&{ self.frequency }.to_bits().to_le_bytes());
        out.extend_from_slice(&{ self.importance }.to_le_bytes());
        out.extend_from_slice(&{ self.judged_s }.to_le_bytes());
    }

    fn take(input: &mut Input<'_>) -> Result<Self> {
        let past = Self {
            used: Stamp::take(input)?,
            frequency: f32::from_bits(input.u32()?),
            importance: input.u16()?,
            judged_s: input.u32()?,
        };
        let frequency = past.frequency;
        match frequency {
            f if f.is_finite() && f >= 0.0 => Ok(past),
            f => Err(Error::corrupt(format!(
                "policy books: expected a frequency of 0 or more, got {f}"
            ))),
        }
    }
}

/// The figures of a hot row.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C, packed(2))]
pub(super) struct Hot {
    past: Past,
    /// The upper half of the restore time's `f32` in microseconds: 8 bits of precision, in order.
    restore: u16,
}

impl Hot {
    /// A restore time that is no number or below 0 counts as 0, an infinite one as the largest number.
    pub(super) fn new(past: Past, restore_us: f32) -> Self {
        let restore_us = if restore_us.is_nan() {
            0.0
        } else {
            restore_us.clamp(0.0, f32::MAX)
        };
        Self {
            past,
            restore: (restore_us.to_bits() >> 16) as u16,
        }
    }

    pub(super) fn past(self) -> Past {
        self.past
    }

    pub(super) fn with(self, past: Past) -> Self {
        Self { past, ..self }
    }

    pub(super) fn restore_us(self) -> f64 {
        f64::from(f32::from_bits(u32::from(self.restore) << 16))
    }
}

impl Packed for Hot {
    const BYTES: usize = Past::BYTES + 2;

    fn put(self, out: &mut Vec<u8>) {
        self.past().put(out);
        out.extend_from_slice(&{ self.restore }.to_le_bytes());
    }

    fn take(input: &mut Input<'_>) -> Result<Self> {
        let hot = Self {
            past: Past::take(input)?,
            restore: input.u16()?,
        };
        match hot.restore_us() {
            us if us.is_finite() && us >= 0.0 => Ok(hot),
            us => Err(Error::corrupt(format!(
                "policy books: expected a restore time of 0 or more, got {us}"
            ))),
        }
    }
}

const _: () = assert!(size_of::<Past>() == 16 && size_of::<Hot>() == 18);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restore_times_keep_their_order_and_odd_ones_are_tamed() {
        let of = |us: f32| Hot::new(Past::default(), us).restore_us();
        assert_eq!([of(f32::NAN), of(-5.0), of(0.0)], [0.0; 3]);
        assert!(of(f32::INFINITY).is_finite());
        let times = [0.0, 1e-40, 0.3, 1.0, 150.0, 151.0, 20_000.0, 1e9, f32::MAX];
        assert!(times.map(of).is_sorted());
        assert!((of(150.0) - 150.0).abs() <= 150.0 / 128.0);
    }

    #[test]
    fn figures_survive_being_saved_and_wrong_ones_are_refused() {
        let past = Past::default()
            .used_at(Time(123_456_789), 4.25)
            .judged_at(Time(99_000_000), 0.8);
        let hot = Hot::new(past, 250.0);
        let mut bytes = Vec::new();
        hot.put(&mut bytes);
        assert_eq!(bytes.len(), Hot::BYTES);
        assert_eq!(Hot::take(&mut Input(&bytes)).unwrap(), hot);
        assert!((hot.past().importance() - 0.8).abs() < 1e-4);
        for wrong in [f32::NAN, f32::INFINITY, -1.0] {
            let mut bad = bytes.clone();
            bad[6..10].copy_from_slice(&wrong.to_bits().to_le_bytes());
            assert!(Hot::take(&mut Input(&bad)).unwrap_err().is_corrupt());
        }
        bytes[16..].copy_from_slice(&0x7fc0_u16.to_le_bytes());
        assert!(Hot::take(&mut Input(&bytes)).unwrap_err().is_corrupt());
    }
}

//! The learning rate: it climbs with the hit ratio as algorithm 2 of the CACHEUS paper has it (section 4.1), or falls.

use aether_core::Result;

use crate::books::Input;

/// Looks without a gain after which the rate is drawn anew.
const STUCK: u32 = 10;
/// Least rate.
pub(super) const MIN: f64 = 0.001;

/// The rate, looked at once for each use of a row of the tier.
#[derive(Debug)]
pub(super) struct Rate {
    climbs: bool,
    value: f64,
    before: f64,
    hits: u64,
    misses: u64,
    ratio_before: f64,
    stuck: u32,
}

impl Rate {
    /// A rate drawn from 0.001 to 1, which follows the hit ratio.
    pub(super) fn climbing(random: &mut fastrand::Rng) -> Self {
        Self {
            climbs: true,
            ..Self::falling(draw(random))
        }
    }

    /// A rate that sees a window as hit only if all of it was, and so falls: each look takes from it its own product with the
    /// change before, until that is next to nothing.
    pub(super) fn falling(from: f64) -> Self {
        Self {
            climbs: false,
            value: from,
            before: 0.0,
            hits: 0,
            misses: 0,
            ratio_before: 0.0,
            stuck: 0,
        }
    }

    pub(super) fn value(&self) -> f64 {
        self.value
    }

    /// A use, hit or missed; a window has as many uses as the tier has rows.
    pub(super) fn used(&mut self, hit: bool, rows: u64, random: &mut fastrand::Rng) {
        self.hits += u64::from(hit);
        self.misses += u64::from(!hit);
        let uses = self.hits + self.misses;
        if uses < rows.max(1) {
            return;
        }
        let ratio = match self.climbs {
            true => self.hits as f64 / uses as f64,
            false => (self.hits / uses) as f64,
        };
        (self.hits, self.misses) = (0, 0);
        let (gain, change) = (ratio - self.ratio_before, self.value - self.before);
        (self.ratio_before, self.before) = (ratio, self.value);
        if change != 0.0 {
            let sign = if gain / change > 0.0 { 1.0 } else { -1.0 };
            let value = self.value + sign * (self.value * change).abs();
            self.value = value.clamp(MIN, 1.0);
            self.stuck = 0;
            return;
        }
        let idle = ratio == 0.0 || gain <= 0.0;
        self.stuck += u32::from(idle);
        // One that falls is drawn anew only once a window hits as a whole after that.
        if self.stuck >= STUCK && idle == self.climbs {
            self.stuck = 0;
            self.value = draw(random);
        }
    }

    pub(super) fn save(&self, out: &mut Vec<u8>) {
        for number in [self.value, self.before, self.ratio_before] {
            out.extend_from_slice(&number.to_bits().to_le_bytes());
        }
        out.extend_from_slice(&self.hits.to_le_bytes());
        out.extend_from_slice(&self.misses.to_le_bytes());
        out.extend_from_slice(&self.stuck.to_le_bytes());
    }

    pub(super) fn load(&mut self, input: &mut Input<'_>) -> Result<()> {
        let mut share = || -> Result<f64> {
            let share = f64::from_bits(input.u64()?);
            Ok(if (0.0..=1.0).contains(&share) {
                share
            } else {
                0.0
            })
        };
        self.value = share()?.max(MIN);
        (self.before, self.ratio_before) = (share()?, share()?);
        (self.hits, self.misses) = (input.u64()?, input.u64()?);
        self.stuck = input.u32()?;
        Ok(())
    }
}

fn draw(random: &mut fastrand::Rng) -> f64 {
    MIN + (1.0 - MIN) * random.f64()
}

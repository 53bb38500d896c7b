//! The window's size, climbing the hill of the hit ratio.

use aether_core::Result;

use crate::books::Input;

/// Uses of a row of the tier after which the hit ratio is looked at.
const SAMPLE_PER_ROW: u64 = 10;
const SAMPLE_MIN: u64 = 1_000;
/// First step of the window's share, and what is left of it with every look.
const STEP: f64 = 0.0625;
const STEP_DECAY: f64 = 0.98;
/// A change of the hit ratio that makes the steps large again.
const RESTART: f64 = 0.05;
/// The window's least and largest share.
const SHARE: (f64, f64) = (0.001, 0.8);

/// A hill climber.
#[derive(Debug)]
pub(super) struct Climb {
    first: f64,
    adaptive: bool,
    window: f64,
    step: f64,
    hits: u64,
    misses: u64,
    before: f64,
}

impl Climb {
    pub(super) fn new(first: f64, adaptive: bool) -> Self {
        Self {
            first,
            adaptive,
            window: first,
            step: STEP,
            hits: 0,
            misses: 0,
            before: -1.0,
        }
    }

    /// The window's share of the tier.
    pub(super) fn window(&self) -> f64 {
        self.window
    }

    pub(super) fn hit(&mut self) {
        self.hits += 1;
    }

    /// A miss; the sample ends with one, so that the number of rows need not be known at a hit.
    pub(super) fn miss(&mut self, rows: u64) {
        self.misses += 1;
        let uses = self.hits + self.misses;
        if !self.adaptive || uses < (rows.saturating_mul(SAMPLE_PER_ROW)).max(SAMPLE_MIN) {
            return;
        }
        let ratio = self.hits as f64 / uses as f64;
        (self.hits, self.misses) = (0, 0);
        // The first look only tells where the climb begins.
        if self.before >= 0.0 {
            let change = ratio - self.before;
            if change < 0.0 {
                self.step = -self.step;
            }
            self.window = (self.window + self.step).clamp(SHARE.0, SHARE.1);
            self.step = match change.abs() >= RESTART {
                true => STEP.copysign(self.step),
                false => self.step * STEP_DECAY,
            };
        }
        self.before = ratio;
    }

    pub(super) fn save(&self, out: &mut Vec<u8>) {
        for number in [self.window, self.step, self.before] {
            out.extend_from_slice(&number.to_bits().to_le_bytes());
        }
        out.extend_from_slice(&self.hits.to_le_bytes());
        out.extend_from_slice(&self.misses.to_le_bytes());
    }

    pub(super) fn load(&mut self, input: &mut Input<'_>) -> Result<()> {
        let mut number = |low: f64, high: f64, other: f64| -> Result<f64> {
            let number = f64::from_bits(input.u64()?);
            Ok(if number >= low && number <= high {
                number
            } else {
                other
            })
        };
        self.window = number(SHARE.0, 1.0, self.first)?;
        self.step = number(-1.0, 1.0, STEP)?;
        self.before = number(-1.0, 1.0, -1.0)?;
        (self.hits, self.misses) = (input.u64()?, input.u64()?);
        Ok(())
    }

    pub(super) fn clear(&mut self) {
        *self = Self::new(self.first, self.adaptive);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against a tier that hits best at a share of a third, the window ends near it.
    #[test]
    fn it_climbs_to_the_best_share() {
        let mut climb = Climb::new(0.01, true);
        for _ in 0..200 {
            let ratio = 0.5 - (climb.window() - 0.33).powi(2);
            let hits = (ratio * 1e5) as u64;
            (0..hits).for_each(|_| climb.hit());
            climb.misses = 100_000 - hits - 1;
            climb.miss(10_000);
        }
        assert!((climb.window() - 0.33).abs() < 0.06, "{}", climb.window());
    }

    #[test]
    fn a_fixed_window_stays() {
        let mut climb = Climb::new(0.01, false);
        (0..100_000).for_each(|_| climb.miss(10));
        assert_eq!(climb.window(), 0.01);
    }
}

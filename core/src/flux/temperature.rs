//! How eagerly the flux moves rows now.

use crate::config::FluxConfig;

/// A bounded number that pressure multiplies up and calm lets decay.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Temperature {
    value: f64,
    floor: f64,
    ceiling: f64,
    decay: f64,
    rise: f64,
}

impl Temperature {
    /// Starts at the floor.
    pub fn new(config: &FluxConfig) -> Self {
        Self {
            value: config.temperature_floor,
            floor: config.temperature_floor,
            ceiling: config.temperature_ceiling,
            decay: config.temperature_decay,
            rise: config.temperature_rise,
        }
    }

    /// The temperature now.
    pub fn value(&self) -> f64 {
        self.value
    }

    /// Sets it, within its bounds.
    pub fn set(&mut self, value: f64) {
        self.value = value.clamp(self.floor, self.ceiling);
    }

    /// One turn: rises under pressure, else decays. A floor of 0 can still rise.
    pub fn tick(&mut self, under_pressure: bool) {
        let next = if under_pressure {
            self.value.max(1e-3) * self.rise
        } else {
            self.value * self.decay
        };
        self.set(next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_within_its_bounds_and_decays_to_the_floor() {
        let config = FluxConfig::default();
        let mut t = Temperature::new(&config);
        (0..100).for_each(|_| t.tick(true));
        assert_eq!(t.value(), config.temperature_ceiling);
        (0..1000).for_each(|_| t.tick(false));
        assert_eq!(t.value(), config.temperature_floor);
    }
}

//! How long a request takes.

use std::f64::consts::TAU;
use std::time::Duration;

/// The 0.99 quantile of the standard normal distribution.
const Z_99: f64 = 2.326_347_874_040_841;

/// A log-normal distribution given by its median and its 99th percentile.
///
/// The logarithm of a request's seconds is normal with mean ln(median) and deviation ln(p99 / median) / 2.3263: right-skewed and
/// never negative, as measured latencies of object storage are, and exact in the two quantiles that services are described by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Latency {
    median_s: f64,
    deviation: f64,
}

impl Latency {
    /// The distribution with these quantiles; a median of zero is always zero.
    pub fn new(median: Duration, p99: Duration) -> Self {
        let (median_s, p99_s) = (median.as_secs_f64(), p99.as_secs_f64());
        let deviation = if median_s > 0.0 && p99_s > median_s {
            (p99_s / median_s).ln() / Z_99
        } else {
            0.0
        };
        Self {
            median_s,
            deviation,
        }
    }

    /// Draws a time. Takes two numbers of the generator, by the transform of Box and Muller (1958).
    pub fn draw(&self, rng: &mut fastrand::Rng) -> Duration {
        // In (0, 1], for the logarithm of zero is no number.
        let (u, v) = (1.0 - rng.f64(), rng.f64());
        let normal = (-2.0 * u.ln()).sqrt() * (TAU * v).cos();
        Duration::from_secs_f64(self.median_s * (self.deviation * normal).exp())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With 40,000 draws the median's standard error is below 0.1 % and the 99th percentile's below 0.3 %.
    #[test]
    fn draws_have_the_stated_quantiles() {
        for (median_ms, p99_ms) in [(63, 78), (100, 195), (5, 500)] {
            let (median, p99) = (
                Duration::from_millis(median_ms),
                Duration::from_millis(p99_ms),
            );
            let latency = Latency::new(median, p99);
            let mut rng = fastrand::Rng::with_seed(11);
            let mut drawn: Vec<f64> = (0..40_000)
                .map(|_| latency.draw(&mut rng).as_secs_f64())
                .collect();
            drawn.sort_by(f64::total_cmp);
            let spread = p99.as_secs_f64() / median.as_secs_f64();
            for (share, expected) in [
                (0.01, median.as_secs_f64() / spread),
                (0.5, median.as_secs_f64()),
                (0.99, p99.as_secs_f64()),
            ] {
                let got = drawn[(drawn.len() as f64 * share) as usize];
                // Relative, in units of the distribution's own width.
                let off = (got / expected).ln().abs() / spread.ln();
                assert!(
                    off < 0.03,
                    "{median_ms}/{p99_ms} at {share}: {got} for {expected}"
                );
            }
        }
    }

    #[test]
    fn no_spread_is_a_constant_and_no_median_is_nothing() {
        let mut rng = fastrand::Rng::with_seed(1);
        let ms = Duration::from_millis;
        assert_eq!(Latency::new(ms(20), ms(20)).draw(&mut rng), ms(20));
        assert_eq!(Latency::new(ms(0), ms(0)).draw(&mut rng), ms(0));
    }
}

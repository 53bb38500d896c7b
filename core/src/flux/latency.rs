//! How long requests take, those that RAM answered and those that needed the cold tier apart.

/// Steps of a doubling in which times are counted: within a tenth.
const STEPS: f64 = 8.0;
/// Steps there are: up to 2^32 microseconds, more than an hour.
const BUCKETS: usize = 32 * STEPS as usize;
/// Requests after which what was counted before weighs half.
const HALVE_AFTER: u32 = 1 << 14;

/// Times of one kind of request, older ones at less weight.
#[derive(Clone, Debug)]
pub struct Times {
    counts: Vec<f64>,
    all: f64,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            counts: vec![0.0; BUCKETS],
            all: 0.0,
        }
    }
}

fn bucket(us: f64) -> usize {
    ((us.max(1.0).log2() * STEPS) as usize).min(BUCKETS - 1)
}

impl Times {
    /// Requests counted.
    pub fn count(&self) -> f64 {
        self.all
    }

    /// Share of the requests that took longer than `us`; those of its own step, an eighth of a doubling, count as longer. 0 without any.
    pub fn later_than(&self, us: f64) -> f64 {
        if self.all <= 0.0 {
            return 0.0;
        }
        self.counts[bucket(us)..].iter().sum::<f64>() / self.all
    }

    fn halve(&mut self) {
        self.counts.iter_mut().for_each(|n| *n /= 2.0);
        self.all /= 2.0;
    }
}

/// Times of all requests.
#[derive(Clone, Debug, Default)]
pub struct Latencies {
    /// Those that the hot tier alone answered.
    pub hot: Times,
    /// Those that needed the cold tier.
    pub cold: Times,
    /// Rows that all of them used.
    pub rows: f64,
    counted: u32,
}

impl Latencies {
    /// Takes note of a request that used `rows` rows.
    pub fn note(&mut self, us: f64, needed_cold: bool, rows: usize) {
        let times = if needed_cold {
            &mut self.cold
        } else {
            &mut self.hot
        };
        times.counts[bucket(us)] += 1.0;
        times.all += 1.0;
        self.rows += rows as f64;
        self.counted += 1;
        if self.counted >= HALVE_AFTER {
            self.counted = 0;
            self.hot.halve();
            self.cold.halve();
            self.rows /= 2.0;
        }
    }

    /// All that is known, as words.
    pub fn save(&self) -> Vec<u64> {
        let counts = self.hot.counts.iter().chain(&self.cold.counts);
        let head = [self.rows.to_bits(), u64::from(self.counted)];
        head.into_iter()
            .chain(counts.map(|n| n.to_bits()))
            .collect()
    }

    /// What `save` told; `None` for anything else.
    pub fn load(words: &[u64]) -> Option<Self> {
        let (head, counts) = words.split_first_chunk::<2>()?;
        let counts: Vec<f64> = counts.iter().map(|n| f64::from_bits(*n)).collect();
        let rows = f64::from_bits(head[0]);
        let sound = |n: &f64| n.is_finite() && *n >= 0.0;
        if counts.len() != 2 * BUCKETS || !sound(&rows) || !counts.iter().all(sound) {
            return None;
        }
        let times = |counts: &[f64]| Times {
            counts: counts.to_vec(),
            all: counts.iter().sum(),
        };
        Some(Self {
            hot: times(&counts[..BUCKETS]),
            cold: times(&counts[BUCKETS..]),
            rows,
            counted: u32::try_from(head[1]).ok()?,
        })
    }

    /// Requests counted.
    pub fn count(&self) -> f64 {
        self.hot.all + self.cold.all
    }

    /// Share of the requests that needed the cold tier; `None` without any.
    pub fn cold_share(&self) -> Option<f64> {
        (self.count() > 0.0).then(|| self.cold.all / self.count())
    }

    /// Microseconds that 99 of 100 requests would keep to if the share `cold` of them needed the cold tier: the upper end of a step.
    pub fn p99_us(&self, cold: f64) -> f64 {
        let later = |step: usize| {
            let us = 2_f64.powf(step as f64 / STEPS) * 1.000_001;
            (1.0 - cold) * self.hot.later_than(us) + cold * self.cold.later_than(us)
        };
        let step = (0..BUCKETS - 1).find(|step| later(*step) <= 0.01);
        2_f64.powf(step.unwrap_or(BUCKETS - 1) as f64 / STEPS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mixture_is_late_as_its_parts_are() {
        let mut times = Latencies::default();
        for _ in 0..970 {
            times.note(100.0, false, 1);
        }
        for _ in 0..30 {
            times.note(60_000.0, true, 1);
        }
        assert_eq!(times.cold_share(), Some(0.03));
        assert_eq!(
            (
                times.hot.later_than(5_000.0),
                times.cold.later_than(5_000.0)
            ),
            (0.0, 1.0)
        );
        let (now, without) = (times.p99_us(0.03), times.p99_us(0.009));
        assert!((60_000.0..66_000.0).contains(&now), "{now}");
        assert!((100.0..110.0).contains(&without), "{without}");
    }

    #[test]
    fn what_was_saved_comes_back() {
        let mut times = Latencies::default();
        (0..100).for_each(|i| times.note(f64::from(i) * 900.0, i % 7 == 0, 3));
        let back = Latencies::load(&times.save()).unwrap();
        assert_eq!(back.save(), times.save());
        assert_eq!(
            (back.cold_share(), back.p99_us(0.2)),
            (times.cold_share(), times.p99_us(0.2))
        );
        assert!(Latencies::load(&times.save()[1..]).is_none());
    }

    #[test]
    fn what_was_long_ago_weighs_less() {
        let mut times = Latencies::default();
        for _ in 0..HALVE_AFTER {
            times.note(10.0, true, 1);
        }
        for _ in 0..HALVE_AFTER {
            times.note(10.0, false, 1);
        }
        let share = times.cold_share().unwrap();
        assert!((share - 1.0 / 3.0).abs() < 0.01, "{share}");
    }
}

//! How full the hot tier is, and the odds of a row.

/// How many rows the hot tier holds and how many more fit into its budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fill {
    /// Rows resident.
    pub rows: u64,
    /// Rows that may still come.
    pub free: u64,
}

impl Fill {
    /// Measures the hot tier: `bytes_after(n)` is an upper bound of its bytes after `n` more rows and never falls with `n`.
    /// O(log rows) calls.
    pub fn measure(rows: u64, budget: u64, bytes_after: impl Fn(usize) -> u64) -> Self {
        let fits = |n: u64| bytes_after(n as usize) <= budget;
        // Rows whose place was freed are what `bytes_after` counts for nothing, so this sees through arenas that never shrink.
        let (mut low, mut high) = (0u64, 1u64);
        if !fits(1) {
            return Self { rows, free: 0 };
        }
        while high < 1 << 40 && fits(high) {
            low = high;
            high *= 2;
        }
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if fits(middle) {
                low = middle;
            } else {
                high = middle;
            }
        }
        Self { rows, free: low }
    }

    /// The same where no more than `rows` may be resident, whatever the budget holds.
    pub fn limited(self, rows: u64) -> Self {
        Self {
            free: self.free.min(rows.saturating_sub(self.rows)),
            ..self
        }
    }

    /// The same once so many of the rows have left.
    pub fn without(self, leaving: u64) -> Self {
        let leaving = leaving.min(self.rows);
        Self {
            rows: self.rows - leaving,
            free: self.free + leaving,
        }
    }

    /// Rows that the budget holds in all.
    pub fn capacity(&self) -> u64 {
        self.rows + self.free
    }

    /// Share of the capacity in use, 0 to 1; 1 when nothing fits at all.
    pub fn share(&self) -> f64 {
        if self.capacity() == 0 {
            1.0
        } else {
            self.rows as f64 / self.capacity() as f64
        }
    }

    /// Rows above a share of the capacity.
    pub fn above(&self, share: f64) -> u64 {
        self.rows
            .saturating_sub((self.capacity() as f64 * share).floor() as u64)
    }
}

/// The worth at which a row has an even chance, and the spread that turns worth into odds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Midpoint {
    /// The worth.
    pub at: f64,
    /// The sample's interquartile range over 1.349 (a normal distribution's standard deviation), or its standard deviation where
    /// more than half are equal; never 0.
    pub spread: f64,
}

impl Midpoint {
    /// The worth below which the share `leaving` (0 to 1) of the sample lies. `None` for an empty sample.
    pub fn of(keeps: &mut [f64], leaving: f64) -> Option<Self> {
        keeps.sort_unstable_by(f64::total_cmp);
        let last = keeps.len().checked_sub(1)?;
        let quantile = |q: f64| keeps[((last as f64) * q.clamp(0.0, 1.0)).round() as usize];
        let at = quantile(leaving);
        let mut spread = (quantile(0.75) - quantile(0.25)) / 1.349;
        if spread <= 0.0 {
            let mean = keeps.iter().sum::<f64>() / keeps.len() as f64;
            spread =
                (keeps.iter().map(|k| (k - mean).powi(2)).sum::<f64>() / keeps.len() as f64).sqrt();
        }
        let spread = if spread.is_finite() && spread > 0.0 {
            spread
        } else {
            at.abs().max(1.0) * 1e-6
        };
        Some(Self { at, spread })
    }
}

/// Turns worth into odds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Draw {
    /// Where the chance is even.
    pub midpoint: Midpoint,
    /// Steepness in units of the spread.
    pub steepness: f64,
    /// Temperature; above 1 it counts as 1.
    pub temperature: f64,
}

impl Draw {
    fn sigmoid(&self, x: f64) -> f64 {
        let x = (self.steepness * x / self.midpoint.spread).clamp(-500.0, 500.0);
        self.temperature.clamp(0.0, 1.0) / (1.0 + (-x).exp())
    }

    /// Probability that a hot row of worth `keep` leaves: falls as `keep` grows.
    pub fn leave(&self, keep: f64) -> f64 {
        self.sigmoid(self.midpoint.at - keep)
    }

    /// Probability that a cold row of worth `keep` enters: grows with `keep`.
    pub fn enter(&self, keep: f64) -> f64 {
        self.sigmoid(keep - self.midpoint.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fill_counts_what_really_fits() {
        // 100 bytes of overhead, arenas of 10 rows of 7 bytes, 25 rows resident, 3 of 28 places freed.
        let after = |n: usize| 100 + ((25 + n as u64).div_ceil(10) * 70).max(210);
        let fill = Fill::measure(25, 400, after);
        assert_eq!(fill, Fill { rows: 25, free: 15 });
        assert_eq!(fill.above(0.5), 5);
        assert_eq!(Fill::measure(25, 200, after).free, 0);
        assert_eq!(Fill::measure(0, 10, after).share(), 1.0);
    }

    #[test]
    fn a_higher_worth_never_leaves_sooner_nor_enters_later() {
        let mut keeps: Vec<f64> = (0..101).map(f64::from).collect();
        let midpoint = Midpoint::of(&mut keeps, 0.1).unwrap();
        assert_eq!(midpoint.at, 10.0);
        let draw = Draw {
            midpoint,
            steepness: 4.0,
            temperature: 2.0,
        };
        for pair in keeps.windows(2) {
            assert!(draw.leave(pair[0]) >= draw.leave(pair[1]));
            assert!(draw.enter(pair[0]) <= draw.enter(pair[1]));
        }
        assert!(draw.leave(-1e300) <= 1.0 && draw.leave(1e300) >= 0.0);
        assert!((draw.leave(10.0) - 0.5).abs() < 1e-9);
    }

    #[test]
    fn equal_worths_give_even_odds_and_no_nan() {
        let midpoint = Midpoint::of(&mut [3.0; 9], 0.2).unwrap();
        let draw = Draw {
            midpoint,
            steepness: 4.0,
            temperature: 0.5,
        };
        assert!((draw.leave(3.0) - 0.25).abs() < 1e-9);
        assert!(Midpoint::of(&mut [], 0.2).is_none());
    }
}

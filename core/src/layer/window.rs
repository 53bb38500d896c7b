//! The times of the last reads, and the quantile that a late one is told by.

use std::time::Duration;

/// Times that are remembered: enough for a 99th percentile, few enough to follow a store whose pace changes.
const REMEMBERED: usize = 512;
/// Times that have to be known before anything is called late.
const LEAST: usize = 64;
/// The quantile is computed anew after so many times: sorting 512 numbers for each read would be waste.
const EVERY: usize = 32;

/// A ring of times.
#[derive(Debug)]
pub(super) struct Window {
    quantile: f64,
    times: Vec<Duration>,
    next: usize,
    late: Option<Duration>,
}

impl Window {
    pub(super) fn new(quantile: f64) -> Self {
        Self {
            quantile,
            times: Vec::with_capacity(REMEMBERED),
            next: 0,
            late: None,
        }
    }

    pub(super) fn add(&mut self, time: Duration) {
        match self.times.get_mut(self.next % REMEMBERED) {
            Some(place) => *place = time,
            None => self.times.push(time),
        }
        self.next += 1;
        if self.times.len() >= LEAST && self.next.is_multiple_of(EVERY) {
            let mut sorted = self.times.clone();
            sorted.sort_unstable();
            let rank = (sorted.len() as f64 * self.quantile) as usize;
            self.late = sorted.get(rank).copied();
        }
    }

    /// The quantile of the times; `None` until enough are known.
    pub(super) fn late(&self) -> Option<Duration> {
        self.late
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quantile_follows_the_last_times() {
        let ms = Duration::from_millis;
        let mut window = Window::new(0.9);
        (0..63).for_each(|_| window.add(ms(10)));
        assert_eq!(window.late(), None);
        window.add(ms(10));
        assert_eq!(window.late(), Some(ms(10)));
        for i in 0..REMEMBERED as u64 {
            window.add(ms(i % 100 + 1));
        }
        let late = window.late().unwrap();
        assert!((ms(89)..=ms(93)).contains(&late), "{late:?}");
    }
}

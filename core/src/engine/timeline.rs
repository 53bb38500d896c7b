//! The memory's own time line, carried across restarts.

use std::sync::Arc;

use super::sync::{AtomicU64, Ordering::Relaxed};
use crate::clock::{Clock, Time};

/// Monotonic time since the memory was created. While it is open, the monotonic clock drives it and the wall clock is never
/// looked at; at open, the wall clock says how long it was closed, but is believed only within bounds: backwards counts as no
/// time at all, forwards as `jump_max` at most. Should the monotonic clock go back all the same, as on a broken virtual machine, time stands
/// still until it has caught up: nothing that was once over begins anew.
#[derive(Debug)]
pub(crate) struct Timeline {
    clock: Arc<dyn Clock>,
    base: u64,
    started: u64,
    /// The longest time since `started` that the clock has shown.
    passed: AtomicU64,
}

impl Timeline {
    /// Continues from what was saved last: the memory's time and the wall's at that moment.
    pub(crate) fn resume(
        clock: Arc<dyn Clock>,
        saved: Option<(u64, u64)>,
        jump_max_us: u64,
    ) -> Self {
        let base = saved.map_or(0, |(time, wall)| {
            time.saturating_add(clock.wall_us().saturating_sub(wall).min(jump_max_us))
        });
        let started = clock.monotonic_us();
        Self {
            clock,
            base,
            started,
            passed: AtomicU64::new(0),
        }
    }

    /// What drives it.
    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    /// Now.
    pub(crate) fn now(&self) -> Time {
        let passed = self.clock.monotonic_us().saturating_sub(self.started);
        let before = self.passed.load(Relaxed);
        if passed > before {
            self.passed.fetch_max(passed, Relaxed);
        }
        Time(self.base.saturating_add(passed.max(before)))
    }

    /// What to save.
    pub(crate) fn save(&self) -> (u64, u64) {
        (self.now().0, self.clock.wall_us())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::ManualClock;

    #[test]
    fn a_wall_clock_that_jumps_moves_time_only_within_bounds() {
        let clock = Arc::new(ManualClock::new());
        clock.set_wall_us(1_000_000);
        let resume = |saved, max| Timeline::resume(clock.clone(), saved, max).now();
        assert_eq!(resume(None, 10), Time(0));
        assert_eq!(
            resume(Some((5, 999_000)), 10_000),
            Time(1_005),
            "closed for a millisecond"
        );
        assert_eq!(resume(Some((5, 2_000_000)), 10_000), Time(5), "backwards");
        assert_eq!(
            resume(Some((5, 0)), 10_000),
            Time(10_005),
            "ten years forward"
        );
        let line = Timeline::resume(clock.clone(), Some((7, 1_000_000)), 0);
        clock.advance(Duration::from_micros(3));
        clock.set_wall_us(0);
        assert_eq!(line.now(), Time(10));
    }
}

//! Time comes in from outside, so that any run can be replayed.
//!
//! [`Time`] is the memory's own time line: microseconds since the memory was created, never backwards,
//! carried across restarts by the engine. Plug-ins see only [`Time`].

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// A moment on the memory's own time line, in microseconds since the memory was created.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Time(pub u64);

impl Time {
    /// Time passed since `earlier`; zero if that lies ahead.
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    /// Seconds passed since `earlier`; zero if that lies ahead.
    pub fn seconds_since(self, earlier: Time) -> f64 {
        self.0.saturating_sub(earlier.0) as f64 * 1e-6
    }

    /// The moment `duration` later, saturating.
    pub fn after(self, duration: Duration) -> Time {
        Time(
            self.0
                .saturating_add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)),
        )
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}s", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

/// Where the engine gets time from.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// Microseconds since an arbitrary start of this process's clock; never goes backwards.
    fn monotonic_us(&self) -> u64;

    /// Microseconds since the Unix epoch as the wall says it; may jump either way. The engine reads it only
    /// at open, to estimate how long the memory was closed.
    fn wall_us(&self) -> u64;

    /// What tells two machines apart that do the same at the same moment: the number of a new memory is made of it. 0 where the same
    /// run is to give the same bytes; the machine's clock draws it at random.
    fn nonce(&self) -> u64 {
        0
    }
}

/// The machine's clocks.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// A clock that starts now.
    #[allow(clippy::disallowed_methods, reason = "this is where time enters")]
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
        }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn monotonic_us(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    #[allow(clippy::disallowed_methods, reason = "this is where time enters")]
    fn wall_us(&self) -> u64 {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    }

    fn nonce(&self) -> u64 {
        // Seeded by the system for each process and each call.
        RandomState::new().hash_one(std::process::id())
    }
}

/// A clock that stands still until it is moved, for tests and replays.
#[derive(Debug, Default)]
pub struct ManualClock {
    monotonic_us: AtomicU64,
    wall_us: AtomicU64,
}

impl ManualClock {
    /// A clock at zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// Moves both clocks forward.
    pub fn advance(&self, by: Duration) {
        let us = u64::try_from(by.as_micros()).unwrap_or(u64::MAX);
        self.monotonic_us.fetch_add(us, Ordering::SeqCst);
        self.wall_us.fetch_add(us, Ordering::SeqCst);
    }

    /// Sets the wall clock alone, to any value, as an administrator might.
    pub fn set_wall_us(&self, us: u64) {
        self.wall_us.store(us, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn monotonic_us(&self) -> u64 {
        self.monotonic_us.load(Ordering::SeqCst)
    }

    fn wall_us(&self) -> u64 {
        self.wall_us.load(Ordering::SeqCst)
    }
}

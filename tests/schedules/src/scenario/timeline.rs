//! The memory's time under a clock that goes back, seen by several threads (`core: engine/timeline.rs`).

use std::sync::Arc;

use super::{part, together};
use crate::clock::Clock;
use crate::shuttled::sync::{AtomicU64, Ordering::SeqCst};
use crate::shuttled::timeline::Timeline;

#[derive(Debug)]
struct Broken(AtomicU64);

impl Clock for Broken {
    fn monotonic_us(&self) -> u64 {
        self.0.load(SeqCst)
    }

    fn wall_us(&self) -> u64 {
        0
    }
}

/// No thread sees an earlier time than it, or another that it heard from, has seen before.
pub fn time_never_goes_back() {
    let clock = Arc::new(Broken(AtomicU64::new(100)));
    let line = Arc::new(Timeline::resume(clock.clone(), None, 0));
    let heard = Arc::new(AtomicU64::new(0));
    let mut parts = Vec::new();
    for _ in 0..2 {
        let (line, heard) = (line.clone(), heard.clone());
        parts.push(part(move || {
            let mut last = 0;
            for _ in 0..3 {
                let from_others = heard.load(SeqCst);
                let now = line.now().0;
                assert!(
                    now >= last && now >= from_others,
                    "{now} after {last} and {from_others}"
                );
                heard.fetch_max(now, SeqCst);
                last = now;
            }
        }));
    }
    parts.push(part(move || {
        for us in [150, 40, 90, 170] {
            clock.0.store(us, SeqCst);
        }
    }));
    together(parts);
    assert_eq!(line.now().0, 70, "it goes on once the clock has caught up");
}

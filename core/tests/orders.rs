//! The whole engine under every order of things that seeds think of: a few clients at once, each call of a store and each piece of work
//! on another thread a moment at which any other may go on. Everything that was seen fits one order of what was done, whatever was
//! acknowledged is there after a closing or a power cut, and what is stored is whole.
//!
//! `AETHER_SCHEDULES` sets how many schedules each scenario gets (2,000), `AETHER_SEED` runs one, or says which is the first of so many.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
mod orders {
    mod planted;
    pub(crate) mod play;
    pub(crate) mod scenario;
}

use orders::play::explore;
use orders::scenario::Scenario;

macro_rules! scenarios {
    ($($name:ident)*) => {$(
        #[test]
        fn $name() {
            explore(&Scenario::$name());
        }
    )*};
}

scenarios! {
    commits_demotions_deletions_and_searches
    promotions_and_deletions
    compaction_and_readers
    closing_and_everything
    snapshots_and_writes
    pins_feedback_and_expiry
    callers_who_give_up
    no_room_in_ram
    no_room_and_the_memory_s_own_tasks
    anything_drawn
}

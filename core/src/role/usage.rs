//! What a cold store asks of its medium, in the units that services charge for.

use std::ops::{Add, Range, Sub};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::{Deserialize, Serialize};

macro_rules! usage {
    ($($(#[doc = $doc:literal])+ $name:ident,)*) => {
        /// Requests that were sent, and bytes that went either way. Failed and repeated requests count too, where the store sees them.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct Usage { $($(#[doc = $doc])+ pub $name: u64,)* }

        /// A [`Usage`] that grows; for stores that count.
        #[derive(Debug, Default)]
        pub struct UsageCounter { $($(#[doc = $doc])+ pub $name: AtomicU64,)* }

        impl UsageCounter {
            /// The values now.
            pub fn read(&self) -> Usage {
                Usage { $($name: self.$name.load(Relaxed),)* }
            }
        }

        impl Add for Usage {
            type Output = Self;

            fn add(self, other: Self) -> Self {
                Self { $($name: self.$name.saturating_add(other.$name),)* }
            }
        }

        impl Sub for Usage {
            type Output = Self;

            /// What came on top of an earlier state.
            fn sub(self, earlier: Self) -> Self {
                Self { $($name: self.$name.saturating_sub(earlier.$name),)* }
            }
        }
    };
}

usage! {
    /// Requests that read a range or a whole object.
    gets,
    /// Requests that asked for an object's length only.
    heads,
    /// Requests that created an object.
    puts,
    /// Requests for a page of a listing.
    lists,
    /// Requests that deleted an object.
    deletes,
    /// Bytes read, those between coalesced ranges included.
    read_bytes,
    /// Bytes of objects put.
    written_bytes,
}

impl UsageCounter {
    /// One request that reads so many bytes.
    pub fn get(&self, bytes: u64) {
        self.gets.fetch_add(1, Relaxed);
        self.read_bytes.fetch_add(bytes, Relaxed);
    }

    /// One request that puts so many bytes.
    pub fn put(&self, bytes: u64) {
        self.puts.fetch_add(1, Relaxed);
        self.written_bytes.fetch_add(bytes, Relaxed);
    }
}

/// The requests that ranges of one blob make where those with at most `gap` bytes between them are one: sorted, without empty ones.
/// O(n log n).
pub fn runs(ranges: &[Range<u64>], gap: u64) -> Vec<Range<u64>> {
    let mut sorted: Vec<Range<u64>> = ranges.iter().filter(|r| r.start < r.end).cloned().collect();
    sorted.sort_unstable_by_key(|r| r.start);
    let mut runs: Vec<Range<u64>> = Vec::new();
    for range in sorted {
        match runs.last_mut() {
            Some(run) if range.start <= run.end.saturating_add(gap) => {
                run.end = run.end.max(range.end);
            }
            _ => runs.push(range),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_ranges_are_one_run() {
        let ranges = [50..60, 0..10, 5..7, 7..7, 20..30];
        assert_eq!(runs(&ranges, 10), [0..30, 50..60]);
        assert_eq!(runs(&ranges, 9), [0..10, 20..30, 50..60]);
        assert_eq!(runs(&[3..3, 8..8], 9), []);
    }

    #[test]
    fn usage_adds_up_and_never_goes_below_nothing() {
        let counter = UsageCounter::default();
        counter.get(10);
        counter.get(5);
        counter.put(7);
        let now = counter.read();
        assert_eq!((now.gets, now.puts, now.read_bytes), (2, 1, 15));
        assert_eq!(now - Usage::default() + now - now, now);
        assert_eq!(Usage::default() - now, Usage::default());
    }
}

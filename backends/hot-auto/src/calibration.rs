//! How long a scan takes on this machine.

use std::sync::Arc;

use aether_core::plugin::BuildContext;
use aether_core::role::{HotIndex, SearchOptions};
use aether_core::{Clock, Result, Row};

/// Bytes of vectors that are scanned: more than the caches next to a core hold, few enough to be filled in some milliseconds.
const BYTES: usize = 4 << 20;

/// Scans, of which the quickest counts: whatever disturbs a scan only makes it slower.
const SCANS: usize = 5;

/// Answers asked for, as many as usual.
const K: usize = 10;

/// Time to compare a query with one row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ScanCost {
    /// Nanoseconds a row.
    pub(crate) ns_per_row: f64,
    /// Whether it was measured; assumed otherwise.
    pub(crate) measured: bool,
}

impl ScanCost {
    /// What is assumed where time stands still, as it does when a run is replayed: 15 ns a row and 10 bytes a nanosecond, which is on the safe
    /// side. The machine of `docs/benchmarks.md` took 62 ns for 384 dimensions from its caches, where this says 169.
    pub(crate) fn assumed(dim: usize) -> Self {
        Self {
            ns_per_row: 15.0 + 0.4 * dim as f64,
            measured: false,
        }
    }

    /// Rows that a scan compares in so many nanoseconds.
    pub(crate) fn rows_in(self, ns: f64) -> usize {
        (ns / self.ns_per_row) as usize
    }
}

/// Measures scans of a trial index of its own, which is dropped again; its bytes stay below `most`. O([`BYTES`]).
///
/// # Errors
/// Those of the trial index.
pub(crate) fn measure(
    make: impl FnOnce() -> Result<Arc<dyn HotIndex>>,
    context: &BuildContext,
    most: u64,
) -> Result<ScanCost> {
    let bytes = usize::try_from(most).map_or(BYTES, |most| BYTES.min(most));
    let rows = bytes / (4 * context.dim);
    if rows == 0 || stands_still(&*context.clock) {
        return Ok(ScanCost::assumed(context.dim));
    }
    let index = make()?;
    let mut rng = fastrand::Rng::with_seed(context.seed);
    let vectors: Vec<f32> = (0..rows * context.dim).map(|_| rng.f32() + 0.5).collect();
    let numbers: Vec<Row> = (0..rows as u64).map(Row).collect();
    index.insert_batch(&numbers, &vectors)?;
    let mut quickest = u64::MAX;
    for _ in 0..SCANS {
        let begun = context.clock.monotonic_us();
        index.search(&vectors[..context.dim], K, &SearchOptions::default())?;
        quickest = quickest.min(context.clock.monotonic_us() - begun);
    }
    if quickest == 0 {
        return Ok(ScanCost::assumed(context.dim));
    }
    Ok(ScanCost {
        ns_per_row: quickest as f64 * 1e3 / rows as f64,
        measured: true,
    })
}

/// Whether the clock does not go on while something is done.
fn stands_still(clock: &dyn Clock) -> bool {
    /// Looks at the clock: some microseconds' worth of them.
    const LOOKS: usize = 1_000;
    let begun = clock.monotonic_us();
    (0..LOOKS).all(|_| clock.monotonic_us() == begun)
}

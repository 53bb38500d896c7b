//! The worst rows of a random sample, for policies whose order changes with time alone.

use super::{Books, Packed, Shuffle};
use aether_core::Row;
use aether_core::role::{Context, Want};

/// Slots of the worst of as many rows as it takes, worst first, ties by row: `each` rows are looked at for each that must go, at
/// least `least`; without a wish for bytes, as many as are asked for. More are looked at until enough bytes are found or every
/// row was. `key` draws the sample, `keep` weighs a slot.
pub(crate) fn worst_of_sample<X: Packed>(
    books: &Books<X>,
    want: Want,
    context: &Context,
    (each, least): (usize, usize),
    key: u64,
    keep: impl Fn(u32) -> f64,
) -> Vec<u32> {
    let mut walk = Shuffle::new(books.free(), key);
    let mut scored: Vec<(f64, Row, u32)> = Vec::new();
    let mut look = match want.bytes {
        0 => want.rows,
        bytes => {
            let mean = (context.hot_bytes / books.len().max(1) as u64).max(1);
            let need = usize::try_from(bytes / mean).unwrap_or(usize::MAX);
            let rows = need.saturating_add(1).min(want.rows);
            rows.saturating_mul(each).max(least)
        }
    };
    loop {
        let met = walk.by_ref().take(look);
        scored.extend(met.map(|slot| (keep(slot), books.row(slot), slot)));
        scored.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let mut bytes = 0_u64;
        let enough = scored.iter().take(want.rows).position(|(_, _, slot)| {
            bytes = bytes.saturating_add(books.weight_or_mean(*slot, context));
            want.bytes > 0 && bytes >= want.bytes
        });
        let reached = scored.len() >= want.rows || want.bytes == 0;
        if enough.is_some() || reached || walk.is_done() {
            let count = enough.map_or(want.rows, |last| last + 1);
            return scored.iter().take(count).map(|(.., slot)| *slot).collect();
        }
        look = scored.len().max(1);
    }
}

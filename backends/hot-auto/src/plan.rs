//! Up to how many rows a scan is the better index.

use aether_core::config::ByteSize;

use crate::calibration::ScanCost;
use crate::config::AutoConfig;

/// Both indexes together take this part of the budget at most while rows move: room that is left for the rows that come meanwhile,
/// and for what else the budget holds.
const BUDGET_PARTS: u64 = 2;

/// What was decided when the index was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Rows up to which they are scanned; beyond, all of them move to the graph.
    pub(crate) scanned_max: usize,
    /// Why.
    pub(crate) reason: String,
}

impl Plan {
    /// Decides. `few` and `many` are [`bytes_after`](aether_core::role::HotIndex::bytes_after) of both indexes, empty as yet.
    pub(crate) fn new(
        config: &AutoConfig,
        cost: ScanCost,
        budget: Option<u64>,
        few: impl Fn(usize) -> u64,
        many: impl Fn(usize) -> u64,
    ) -> Self {
        let quick = cost.rows_in(config.scan_max.0.as_nanos() as f64);
        let (how, scan_max) = (
            if cost.measured { "measured" } else { "assumed" },
            config.scan_max,
        );
        let reason = format!(
            "comparing a row takes {:.0} ns ({how}), so scans of up to {quick} rows stay within scan_max = {scan_max}",
            cost.ns_per_row
        );
        let because = |scanned_max: usize, more: String| Self {
            scanned_max,
            reason: reason.clone() + &more,
        };
        let size = ByteSize(budget.unwrap_or(u64::MAX));
        if few(quick.saturating_add(1)) > size.0 {
            return because(
                usize::MAX,
                format!(", and the budget of {size} holds no more"),
            );
        }
        if config.rows > quick {
            return because(0, format!(", and {} are expected", config.rows));
        }
        let Some(budget) = budget else {
            return because(quick, String::new());
        };
        let together = |rows: usize| few(rows).saturating_add(many(rows));
        let scanned_max = most(quick, |rows| together(rows) <= budget / BUDGET_PARTS);
        if scanned_max < quick {
            let more =
                format!(", of which {scanned_max} can move within a part of the budget of {size}");
            return because(scanned_max, more);
        }
        because(quick, String::new())
    }
}

/// The largest number up to `limit` that fits, where all smaller ones fit as well; 0 if none does. O(log limit) calls.
fn most(limit: usize, fits: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, limit);
    while low < high {
        let middle = high - (high - low) / 2;
        if fits(middle) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    const COST: ScanCost = ScanCost {
        ns_per_row: 100.0,
        measured: true,
    };

    fn plan(rows: usize, budget: Option<u64>) -> Plan {
        let config = AutoConfig {
            rows,
            ..AutoConfig::default()
        };
        Plan::new(
            &config,
            COST,
            budget,
            |n| n as u64 * 100,
            |n| n as u64 * 150,
        )
    }

    #[test]
    fn the_time_of_a_scan_decides_where_there_is_room() {
        for budget in [None, Some(1 << 30)] {
            let plan = plan(0, budget);
            assert_eq!(plan.scanned_max, 10_000);
            assert!(plan.reason.contains("100 ns (measured)"), "{}", plan.reason);
            assert!(plan.reason.contains("scan_max = 1ms"), "{}", plan.reason);
        }
        assert_eq!(plan(10_000, None).scanned_max, 10_000);
    }

    #[test]
    fn more_rows_expected_than_a_scan_can_do_want_the_graph_at_once() {
        let plan = plan(10_001, Some(1 << 30));
        assert_eq!(plan.scanned_max, 0);
        assert!(
            plan.reason.contains("10001 are expected"),
            "{}",
            plan.reason
        );
    }

    #[test]
    fn a_budget_of_few_rows_wants_no_graph() {
        let plan = plan(0, Some(10_000 * 100));
        assert_eq!(plan.scanned_max, usize::MAX);
        assert!(plan.reason.contains("holds no more"), "{}", plan.reason);
    }

    #[test]
    fn rows_move_while_both_indexes_fit_into_half_the_budget() {
        let plan = plan(0, Some(2_000_000));
        assert_eq!(plan.scanned_max, 4_000);
        assert!(
            plan.reason.contains("of which 4000 can move"),
            "{}",
            plan.reason
        );
    }

    #[test]
    fn the_largest_that_fits_is_found() {
        for limit in [0, 1, 2, 7, 100] {
            for bound in 0..=limit {
                assert_eq!(most(limit, |n| n <= bound), bound);
            }
        }
        assert_eq!(most(9, |_| false), 0);
    }
}

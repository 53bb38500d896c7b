//! The keys of `[policy]` that flux reads.

use std::time::Duration;

use aether_core::config::{RawConfig, Span};
use aether_core::{OptionSpec, Result};
use serde::Deserialize;

use super::steer::Trust;

/// Every key, in the order of the formula.
pub(super) const OPTIONS: &[OptionSpec] = &[
    OptionSpec {
        name: "importance_weight",
        default: "1.0",
        unit: "",
        help: "A row's worth is multiplied by 1 + importance_weight * importance, learned from feedback, 0 to 1.",
    },
    OptionSpec {
        name: "importance_half_life",
        default: "\"7d\"",
        unit: "duration",
        help: "Time in which importance halves without feedback.",
    },
    OptionSpec {
        name: "importance_rate",
        default: "0.3",
        unit: "share",
        help: "How far one feedback draws importance towards its reward.",
    },
    OptionSpec {
        name: "miss_cost",
        default: "\"100us\"",
        unit: "duration",
        help: "What a miss costs beside reading the row; a row's worth grows with miss_cost + its restore time.",
    },
    OptionSpec {
        name: "move_cost",
        default: "0.05",
        unit: "misses",
        help: "What a promotion costs: a cold row enters by its score only if it is expected to save more misses than this.",
    },
    OptionSpec {
        name: "probe",
        default: "0.002",
        unit: "share",
        help: "Share of refused cold rows that are let in all the same, times the temperature up to 1.",
    },
    OptionSpec {
        name: "neighbours",
        default: "0.0",
        unit: "rows for each use",
        help: "Cold rows promoted unasked, at most, because they are retrieved together with rows just used; 0 learns nothing of it.",
    },
    OptionSpec {
        name: "history",
        default: "3.0",
        unit: "rows for each hot row",
        help: "Cold rows whose figures are remembered, at most, 20 bytes each; at least 64 rows, 0 for none.",
    },
    OptionSpec {
        name: "horizon",
        default: "80.0",
        unit: "turnovers of the tier",
        help: "How long a setting's lead in the trials is remembered; longer is surer and slower to change.",
    },
    OptionSpec {
        name: "lead",
        default: "2.0",
        unit: "standard errors",
        help: "By how much a setting must be ahead in the trials before it takes over.",
    },
];

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct FluxConfig {
    pub(super) importance_weight: f64,
    pub(super) importance_half_life: Span,
    pub(super) importance_rate: f64,
    pub(super) miss_cost: Span,
    pub(super) move_cost: f64,
    pub(super) probe: f64,
    pub(super) neighbours: f64,
    pub(super) history: f64,
    pub(super) horizon: f64,
    pub(super) lead: f64,
}

impl Default for FluxConfig {
    fn default() -> Self {
        Self {
            importance_weight: 1.0,
            importance_half_life: Span(Duration::from_secs(7 * 86_400)),
            importance_rate: 0.3,
            // About what a request costs in planning, reading and decoding before its first row arrives from a local disk.
            miss_cost: Span(Duration::from_micros(100)),
            move_cost: 0.05,
            probe: 0.002,
            neighbours: 0.0,
            history: 3.0,
            horizon: Trust::DEFAULT.horizon,
            lead: Trust::DEFAULT.lead,
        }
    }
}

impl FluxConfig {
    /// Checks every value; an error points at its key.
    pub(super) fn check(&self, raw: &RawConfig) -> Result<()> {
        let numbers = [
            ("importance_weight", self.importance_weight, 1e6),
            ("importance_rate", self.importance_rate, 1.0),
            ("move_cost", self.move_cost, 1e6),
            ("probe", self.probe, 1.0),
            ("neighbours", self.neighbours, 0.1),
            ("history", self.history, 64.0),
            ("lead", self.lead, 100.0),
        ];
        if !(1.0..=1e6).contains(&self.horizon) {
            let message = format!("expected 1 to 1000000, got {}", self.horizon);
            return Err(raw.error("horizon", message));
        }
        for (key, value, high) in numbers {
            if !(value >= 0.0 && value <= high) {
                return Err(raw.error(key, format!("expected 0 to {high}, got {value}")));
            }
        }
        let times = [
            ("importance_half_life", self.importance_half_life, "1s"),
            ("miss_cost", self.miss_cost, "1us"),
        ];
        for (key, value, least) in times {
            if least.parse().is_ok_and(|least: Span| value < least) {
                let message = format!("expected \"{least}\" or more, got \"{value}\"");
                return Err(raw.error(key, message));
            }
        }
        Ok(())
    }
}

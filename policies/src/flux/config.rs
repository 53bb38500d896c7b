//! The keys of `[policy]` that flux reads.

use std::time::Duration;

use aether_core::config::{RawConfig, Span};
use aether_core::{OptionSpec, Result};
use serde::Deserialize;

/// Every key, in the order of the formula.
pub(super) const OPTIONS: &[OptionSpec] = &[
    OptionSpec {
        name: "recency_weight",
        default: "1.0",
        unit: "",
        help: "Weight alpha of recency, which is 1 at a use and halves every recency_half_life.",
    },
    OptionSpec {
        name: "recency_half_life",
        default: "\"10min\"",
        unit: "duration",
        help: "Time in which recency halves.",
    },
    OptionSpec {
        name: "frequency_weight",
        default: "0.5",
        unit: "",
        help: "Weight beta of ln(1 + frequency).",
    },
    OptionSpec {
        name: "frequency_half_life",
        default: "\"1h\"",
        unit: "duration",
        help: "Time in which a row's count of uses halves.",
    },
    OptionSpec {
        name: "importance_weight",
        default: "1.0",
        unit: "",
        help: "Weight gamma of importance, 0 to 1, learned from feedback.",
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
        name: "cost_weight",
        default: "0.25",
        unit: "",
        help: "Weight delta of the cost of reading a row back from the cold store.",
    },
    OptionSpec {
        name: "cost_scale",
        default: "\"10ms\"",
        unit: "duration",
        help: "Restore time at which the cost is a half.",
    },
    OptionSpec {
        name: "history",
        default: "0.25",
        unit: "rows for each hot row",
        help: "Cold rows whose figures are remembered, at most; at least 64 rows, 0 for none.",
    },
];

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct FluxConfig {
    pub(super) recency_weight: f64,
    pub(super) recency_half_life: Span,
    pub(super) frequency_weight: f64,
    pub(super) frequency_half_life: Span,
    pub(super) importance_weight: f64,
    pub(super) importance_half_life: Span,
    pub(super) importance_rate: f64,
    pub(super) cost_weight: f64,
    pub(super) cost_scale: Span,
    pub(super) history: f64,
}

impl Default for FluxConfig {
    fn default() -> Self {
        Self {
            recency_weight: 1.0,
            recency_half_life: Span(Duration::from_secs(600)),
            frequency_weight: 0.5,
            // Of 30min, 1h, 2h and 6h the longest that beat lru on all requests of tests/hit_ratio.rs by a point.
            frequency_half_life: Span(Duration::from_secs(3_600)),
            importance_weight: 1.0,
            importance_half_life: Span(Duration::from_secs(7 * 86_400)),
            importance_rate: 0.3,
            cost_weight: 0.25,
            cost_scale: Span(Duration::from_millis(10)),
            history: 0.25,
        }
    }
}

impl FluxConfig {
    /// Checks every value; an error points at its key.
    pub(super) fn check(&self, raw: &RawConfig) -> Result<()> {
        let weights = [
            ("recency_weight", self.recency_weight, 1e6),
            ("frequency_weight", self.frequency_weight, 1e6),
            ("importance_weight", self.importance_weight, 1e6),
            ("importance_rate", self.importance_rate, 1.0),
            ("cost_weight", self.cost_weight, 1e6),
            ("history", self.history, 1.0),
        ];
        for (key, value, high) in weights {
            if !(value >= 0.0 && value <= high) {
                return Err(raw.error(key, format!("expected 0 to {high}, got {value}")));
            }
        }
        let times = [
            ("recency_half_life", self.recency_half_life, "1ms"),
            ("frequency_half_life", self.frequency_half_life, "1ms"),
            ("importance_half_life", self.importance_half_life, "1s"),
            ("cost_scale", self.cost_scale, "1us"),
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

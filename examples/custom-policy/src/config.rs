//! The keys of `[policy]` with `backend = "rhythm"`.

use std::time::Duration;

use aether_core::config::{RawConfig, Span};
use aether_core::{OptionSpec, Result};
use serde::Deserialize;

/// Settings of the policy.
#[derive(Clone, Debug, PartialEq, Deserialize)]
// A misspelt key is an error that shows its line, never a setting that silently does nothing.
#[serde(deny_unknown_fields, default)]
pub struct RhythmConfig {
    /// Length of a day.
    pub period: Span,
    /// Time after which a use counts half.
    pub half_life: Span,
    /// Worth of a habit, next to 1 for a use just now.
    pub habit: f64,
}

impl Default for RhythmConfig {
    fn default() -> Self {
        Self {
            period: Span(Duration::from_secs(86_400)),
            half_life: Span(Duration::from_secs(3_600)),
            habit: 0.5,
        }
    }
}

impl RhythmConfig {
    /// What `aether plugins` prints. The suite compares it with the struct.
    pub const OPTIONS: &[OptionSpec] = &[
        OptionSpec {
            name: "period",
            default: "\"24h\"",
            unit: "duration",
            help: "Length of a day; its 24 parts are its hours.",
        },
        OptionSpec {
            name: "half_life",
            default: "\"1h\"",
            unit: "duration",
            help: "Time after which a use counts half.",
        },
        OptionSpec {
            name: "habit",
            default: "0.5",
            unit: "share",
            help: "Worth of a habit, next to 1 for a use just now.",
        },
    ];

    /// Reads and checks the keys.
    ///
    /// # Errors
    /// `Config`, pointing at the key.
    pub fn read(raw: &RawConfig) -> Result<Self> {
        let config: Self = raw.parse()?;
        for (key, span) in [("period", config.period), ("half_life", config.half_life)] {
            if span.0 < Duration::from_millis(1) {
                return Err(raw.error(key, "expected at least \"1ms\""));
            }
        }
        if !(0.0..=1.0).contains(&config.habit) {
            let got = config.habit;
            return Err(raw.error("habit", format!("expected 0.0 to 1.0, got {got}")));
        }
        Ok(config)
    }
}

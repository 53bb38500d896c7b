//! The keys of `[cold]` with `backend = "simulated-s3"`.

use std::fmt;
use std::time::Duration;

use aether_core::Result;
use aether_core::config::{ByteSize, RawConfig, Span};
use aether_core::plugin::OptionSpec;
use serde::Deserialize;
use serde::de::IgnoredAny;

/// Settings of the simulation.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SimulatedS3Config {
    /// Median time to the first byte of a read.
    pub read_median: Span,
    /// 99th percentile of the same.
    pub read_p99: Span,
    /// Median time of a put or delete.
    pub put_median: Span,
    /// 99th percentile of the same.
    pub put_p99: Span,
    /// Bytes a second of one request, on top of its latency.
    pub bandwidth: ByteSize,
    /// What every wait is multiplied with; 0 waits for nothing.
    pub scale: f64,
    /// Ranges with fewer bytes between them are one request.
    pub gap: ByteSize,
    /// Share of requests that fail before they have an effect.
    pub errors: f64,
    /// Share of puts and deletes that are carried out and then seem to fail.
    pub lost_replies: f64,
    /// What latencies and faults are drawn from; the memory's seed if left out.
    pub seed: Option<u64>,
    /// The store inside, which its own plug-in reads.
    inner: IgnoredAny,
}

impl Default for SimulatedS3Config {
    fn default() -> Self {
        let ms = |n| Span(Duration::from_millis(n));
        Self {
            read_median: ms(63),
            read_p99: ms(78),
            put_median: ms(100),
            put_p99: ms(195),
            bandwidth: ByteSize(90_000_000),
            scale: 1.0,
            gap: ByteSize(1 << 20),
            errors: 0.0,
            lost_replies: 0.0,
            seed: None,
            inner: IgnoredAny,
        }
    }
}

impl SimulatedS3Config {
    pub(crate) const OPTIONS: &[OptionSpec] = &[
        OptionSpec {
            name: "read_median",
            default: "\"63ms\"",
            unit: "duration",
            help: "Median time to the first byte of a read, a listing or a question for a length.",
        },
        OptionSpec {
            name: "read_p99",
            default: "\"78ms\"",
            unit: "duration",
            help: "The time that 99 of 100 of them keep to.",
        },
        OptionSpec {
            name: "put_median",
            default: "\"100ms\"",
            unit: "duration",
            help: "Median time of a put or a deletion, without the transfer.",
        },
        OptionSpec {
            name: "put_p99",
            default: "\"195ms\"",
            unit: "duration",
            help: "The time that 99 of 100 of them keep to.",
        },
        OptionSpec {
            name: "bandwidth",
            default: "\"90MB\"",
            unit: "bytes a second of one request",
            help: "How fast a request's bytes go after its latency.",
        },
        OptionSpec {
            name: "scale",
            default: "1.0",
            unit: "",
            help: "What every wait is multiplied with; 0 counts requests and draws faults, but waits for nothing.",
        },
        OptionSpec {
            name: "gap",
            default: "\"1MiB\"",
            unit: "bytes",
            help: "Ranges of one call with at most so many bytes between them are one request; the others go at the same time.",
        },
        OptionSpec {
            name: "errors",
            default: "0.0",
            unit: "share",
            help: "Share of requests that fail without an effect, as a service that asks to slow down.",
        },
        OptionSpec {
            name: "lost_replies",
            default: "0.0",
            unit: "share",
            help: "Share of puts and deletions that are carried out and whose reply is lost.",
        },
        OptionSpec {
            name: "seed",
            default: "",
            unit: "",
            help: "What latencies and faults are drawn from. Left out: the memory's seed.",
        },
        OptionSpec {
            name: "inner",
            default: "",
            unit: "",
            help: "The store that keeps the blobs, a table [cold.inner] with backend and keys as [cold] has them. Left out: \
                   \"file\".",
        },
    ];

    /// Reads and checks the keys.
    ///
    /// # Errors
    /// `Config`, pointing at the key.
    pub fn read(raw: &RawConfig) -> Result<Self> {
        let config: Self = raw.parse()?;
        let check = |key: &str, ok: bool, expected: &str, got: &dyn fmt::Display| {
            if ok {
                return Ok(());
            }
            Err(raw.error(key, format!("expected {expected}, got {got}")))
        };
        let sane = |median: Span, p99: Span| {
            p99 >= median
                && p99.0 <= Duration::from_secs(3600)
                && (p99.0.is_zero() || !median.0.is_zero())
        };
        let expected = "the median or more, at most \"1h\", and \"0us\" if the median is";
        let (read, put) = (
            sane(config.read_median, config.read_p99),
            sane(config.put_median, config.put_p99),
        );
        check("read_p99", read, expected, &config.read_p99)?;
        check("put_p99", put, expected, &config.put_p99)?;
        check(
            "bandwidth",
            config.bandwidth.0 >= 1000,
            "at least \"1kB\"",
            &config.bandwidth,
        )?;
        let scale = (0.0..=1000.0).contains(&config.scale);
        check("scale", scale, "0.0 to 1000.0", &config.scale)?;
        for (key, share) in [
            ("errors", config.errors),
            ("lost_replies", config.lost_replies),
        ] {
            check(key, (0.0..=1.0).contains(&share), "0.0 to 1.0", &share)?;
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_out_of_range_are_refused_at_their_key() {
        for (key, text) in [
            ("read_p99", "read_p99 = \"62ms\""),
            ("put_p99", "put_p99 = \"2h\""),
            ("read_p99", "read_median = \"0us\""),
            ("bandwidth", "bandwidth = \"0B\""),
            ("scale", "scale = -1.0"),
            ("errors", "errors = 1.5"),
            ("lost_replies", "lost_replies = nan"),
        ] {
            let raw = RawConfig::from_toml("cold", text).unwrap();
            let error = SimulatedS3Config::read(&raw).unwrap_err();
            assert!(error.is_config(), "{text}");
            assert!(
                error.to_string().contains(&format!("[cold] {key}")),
                "{text}: {error}"
            );
        }
        let raw = RawConfig::from_toml("cold", "[inner]\nbackend = \"file\"\n").unwrap();
        assert_eq!(
            SimulatedS3Config::read(&raw).unwrap(),
            SimulatedS3Config::default()
        );
    }
}

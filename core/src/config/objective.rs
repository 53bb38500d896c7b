//! `[flux] objective`: what the user wants of the hot tier, from which the memory derives its size.

use serde::{Deserialize, Serialize};

use super::tables::RemoteConfig;
use super::units::ByteSize;

/// Least RAM that a hot tier may be given.
pub(super) const BUDGET_MIN: u64 = 1 << 16;

/// The keys of `objective` as they are written; empty for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ObjectiveConfig {
    /// Milliseconds that 99 of 100 searches and gets are to keep to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99_ms: Option<f64>,
    /// Price of RAM, in dollars for a gigabyte (1e9 bytes) and month.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ram: Option<f64>,
    /// Price of the local disk that holds rows before they go cold, in dollars for a gigabyte and month; 0 if it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<f64>,
    /// Price of the cold store, in dollars for a gigabyte and month; `remote.price_month` if it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object_store: Option<f64>,
    /// Price of a thousand reads of the cold store, in dollars; `remote.price_get` if it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<f64>,
    /// RAM that the hot tier never exceeds; `memory.hot_budget` if it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within: Option<ByteSize>,
}

/// What the hot tier is to achieve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Objective {
    /// 99 of 100 searches and gets take so many milliseconds at most, in as little RAM as that needs.
    Latency {
        /// Milliseconds.
        p99_ms: f64,
    },
    /// The least cost of RAM and reads together.
    Cost(Prices),
}

/// What things cost, in dollars.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prices {
    /// A gigabyte (1e9 bytes) of RAM for a month.
    pub ram: f64,
    /// A gigabyte of local disk for a month.
    pub disk: f64,
    /// A gigabyte in the cold store for a month.
    pub object_store: f64,
    /// A thousand reads of the cold store.
    pub request: f64,
    /// A gigabyte read from the cold store.
    pub transfer: f64,
}

impl ObjectiveConfig {
    /// Whether nothing is stated.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The objective, with what `[remote]` says of prices that are left out; `None` where nothing is stated.
    ///
    /// # Errors
    /// What is wrong, with the key.
    pub fn objective(&self, remote: &RemoteConfig) -> Result<Option<Objective>, String> {
        if self.is_empty() {
            return Ok(None);
        }
        if let Some(within) = self.within.filter(|w| w.0 < BUDGET_MIN) {
            return Err(format!(
                "within: expected at least \"64KiB\", got \"{within}\""
            ));
        }
        let prices = [
            ("ram", self.ram),
            ("disk", self.disk),
            ("object_store", self.object_store),
            ("request", self.request),
        ];
        let stated = prices.iter().find(|(_, price)| price.is_some());
        match (self.p99_ms, stated) {
            (Some(_), Some((name, _))) => Err(format!(
                "expected either p99_ms or prices, got p99_ms and {name}: take one of them out"
            )),
            (Some(p99_ms), None) => {
                let fits = p99_ms > 0.0 && p99_ms <= 3.6e6;
                let wrong = || format!("p99_ms: expected more than 0 and up to 3600000, got {p99_ms}");
                fits.then_some(Some(Objective::Latency { p99_ms })).ok_or_else(wrong)
            }
            (None, Some(_)) => self.prices(remote).map(|prices| Some(Objective::Cost(prices))),
            (None, None) => Err(
                "expected p99_ms or prices beside within, such as { p99_ms = 5, within = \"2GiB\" } or \
                 { ram = 2.5, request = 0.0004 }; for a fixed size alone set memory.hot_budget"
                    .to_owned(),
            ),
        }
    }

    fn prices(&self, remote: &RemoteConfig) -> Result<Prices, String> {
        // A price of nothing is an answer for what comes free, not for what the arithmetic weighs.
        let weighed = |name: &str, price: Option<f64>, default: Option<f64>| {
            let price = price.or(default).ok_or_else(|| {
                format!(
                    "{name}: expected its price, which has no default, got none: add {name} = ..."
                )
            })?;
            let wrong = || format!("{name}: expected more than 0 and up to 1000000, got {price}");
            (price > 0.0 && price <= 1e6)
                .then_some(price)
                .ok_or_else(wrong)
        };
        let free = |name: &str, price: f64| {
            let wrong = || format!("{name}: expected 0 to 1000000, got {price}");
            (0.0..=1e6)
                .contains(&price)
                .then_some(price)
                .ok_or_else(wrong)
        };
        Ok(Prices {
            ram: weighed("ram", self.ram, None)?,
            disk: free("disk", self.disk.unwrap_or(0.0))?,
            object_store: free(
                "object_store",
                self.object_store.unwrap_or(remote.price_month),
            )?,
            request: weighed("request", self.request, Some(remote.price_get))?,
            transfer: remote.price_transfer,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(toml: &str) -> Result<Option<Objective>, String> {
        let raw = crate::config::RawConfig::from_toml("objective", toml).unwrap();
        let keys: ObjectiveConfig = raw.parse().map_err(|e| e.to_string())?;
        keys.objective(&RemoteConfig::default())
    }

    #[test]
    fn prices_that_are_left_out_are_those_of_the_store() {
        assert_eq!(read(""), Ok(None));
        assert_eq!(
            read("p99_ms = 5\nwithin = \"2GiB\""),
            Ok(Some(Objective::Latency { p99_ms: 5.0 }))
        );
        let expected = Prices {
            ram: 2.5,
            disk: 0.0,
            object_store: 0.023,
            request: 0.0004,
            transfer: 0.0,
        };
        assert_eq!(read("ram = 2.5"), Ok(Some(Objective::Cost(expected))));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_its_key() {
        for (toml, part) in [
            ("p99_ms = 0", "p99_ms: expected more than 0"),
            ("p99_ms = -5", "got -5"),
            ("p99_ms = nan", "p99_ms: expected more than 0"),
            (
                "p99_ms = 5\nram = 1",
                "either p99_ms or prices, got p99_ms and ram",
            ),
            (
                "within = \"1GiB\"",
                "expected p99_ms or prices beside within",
            ),
            ("p99_ms = 5\nwithin = \"1KiB\"", "within: expected at least"),
            ("request = 0.1", "ram: expected its price"),
            ("ram = 0", "ram: expected more than 0"),
            ("ram = -1", "got -1"),
            ("ram = 1\nrequest = 0", "request: expected more than 0"),
            ("ram = 1\ndisk = -0.5", "disk: expected 0 to"),
            ("ram = 1\nobject_store = inf", "object_store: expected 0 to"),
            ("p99_m = 5", "did you mean `p99_ms`?"),
            ("p99_ms = \"5ms\"", "invalid type"),
            ("within = 5", "with a unit"),
        ] {
            let error = read(toml).unwrap_err();
            assert!(error.contains(part), "{toml:?}: {error}");
        }
    }
}

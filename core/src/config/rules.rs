//! What the engine's own settings may be, alone and beside each other.

use super::{Config, objective};
use crate::error::{Error, Result};
use crate::vector::DIM_MAX;

/// The keys of one table.
struct Keys<'a> {
    config: &'a Config,
    table: &'static str,
}

impl Keys<'_> {
    /// An error that names the key and what it says, unless it is as expected.
    fn check(&self, key: &str, ok: bool, expected: &str) -> Result<()> {
        if ok {
            return Ok(());
        }
        let got = self.config.engine_value(self.table, key);
        let message = format!("expected {expected}, got {got}");
        Err(match self.config.origins.get(self.table) {
            Some(raw) => raw.error(key, message),
            None => Error::config(format!("[{}] {key}: {message}", self.table)),
        })
    }

    /// The same for a number between two others, both included.
    fn within(
        &self,
        key: &str,
        number: f64,
        (low, high): (f64, f64),
        expected: &str,
    ) -> Result<()> {
        self.check(key, (low..=high).contains(&number), expected)
    }
}

impl Config {
    /// Checks the engine's own settings against each other.
    ///
    /// # Errors
    /// `Config`, pointing at the key.
    pub fn validate(&self) -> Result<()> {
        self.check_memory()?;
        self.check_flux()?;
        self.check_compaction()?;
        self.check_search()?;
        self.check_codes()?;
        self.check_remote()?;
        self.check_limits()?;
        self.check_shadow()?;
        self.check_record()
    }

    fn keys(&self, table: &'static str) -> Keys<'_> {
        Keys {
            config: self,
            table,
        }
    }

    fn check_memory(&self) -> Result<()> {
        let (keys, m) = (self.keys("memory"), &self.memory);
        keys.check("dim", m.dim <= DIM_MAX, "0 to 65536")?;
        let budget = m.hot_budget.0;
        keys.check(
            "hot_budget",
            budget >= objective::BUDGET_MIN,
            "at least \"64KiB\"",
        )?;
        let space = m.working_space.0;
        keys.check("working_space", space >= 1 << 20, "at least \"1MiB\"")?;
        keys.check("path", !m.path.as_os_str().is_empty(), "a folder")
    }

    fn check_flux(&self) -> Result<()> {
        let (keys, f) = (self.keys("flux"), &self.flux);
        keys.within("high_water", f.high_water, (0.05, 1.0), "0.05 to 1.0")?;
        keys.within(
            "low_water",
            f.low_water,
            (0.01, f.high_water),
            "0.01 to high_water",
        )?;
        let (floor, ceiling) = (f.temperature_floor, f.temperature_ceiling);
        keys.within("temperature_floor", floor, (0.0, 1e6), "0 or more")?;
        keys.within(
            "temperature_ceiling",
            ceiling,
            (floor, 1e6),
            "temperature_floor or more",
        )?;
        let (decay, rise) = (f.temperature_decay, f.temperature_rise);
        keys.within("temperature_decay", decay, (0.0, 1.0), "0.0 to 1.0")?;
        keys.within("temperature_rise", rise, (1.0, 1e6), "1.0 or more")?;
        keys.within("steepness", f.steepness, (0.0, 1e6), "0 or more")?;
        let counts = 1..=1_000_000;
        keys.check("sample", counts.contains(&f.sample), "1 to 1000000")?;
        keys.check("batch_rows", counts.contains(&f.batch_rows), "1 to 1000000")?;
        let bytes = f.batch_bytes.0;
        keys.check("batch_bytes", bytes >= 1 << 12, "at least \"4KiB\"")?;
        keys.check("restore_queue", f.restore_queue > 0, "at least 1")?;
        keys.check("restore_tries", f.restore_tries > 0, "at least 1")?;
        keys.check("event_queue", f.event_queue > 0, "at least 1")?;
        self.objective().map(drop)
    }

    fn check_compaction(&self) -> Result<()> {
        let (keys, c) = (self.keys("compaction"), &self.compaction);
        keys.check("ratio", c.ratio >= 2, "at least 2")?;
        keys.within("dead_share", c.dead_share, (0.05, 1.0), "0.05 to 1.0")?;
        let bytes = 1 << 12..=1 << 30;
        keys.check(
            "segment_bytes",
            bytes.contains(&c.segment_bytes.0),
            "\"4KiB\" to \"1GiB\"",
        )
    }

    fn check_search(&self) -> Result<()> {
        let (keys, s) = (self.keys("search"), &self.search);
        let share = |key: &str, value: f64| keys.within(key, value, (0.0, 1.0), "0.0 to 1.0");
        share("probe", s.probe)?;
        keys.check("partition_rows", s.partition_rows >= 8, "at least 8")?;
        keys.check("reads", s.reads > 0, "at least 1")?;
        share("recall", s.recall)?;
        share("compare", s.compare)?;
        keys.check("read_budget", s.read_budget.0 > 0, "at least \"1B\"")?;
        let waits = !s.deadline.0.is_zero();
        keys.check("deadline", waits, "more than \"0s\"")
    }

    fn check_codes(&self) -> Result<()> {
        let (keys, c) = (self.keys("codes"), &self.codes);
        keys.check("bits", (1..=8).contains(&c.bits), "1 to 8")?;
        keys.within(
            "confidence",
            c.confidence,
            (0.5, 0.999_999),
            "0.5 to 0.999999",
        )?;
        keys.check("group", c.group.0 > 0, "at least \"1B\"")
    }

    fn check_remote(&self) -> Result<()> {
        let (keys, r) = (self.keys("remote"), &self.remote);
        keys.within("hedge", r.hedge, (0.0, 0.999), "0.0 to 0.999")?;
        keys.within("hedge_share", r.hedge_share, (0.0, 1.0), "0.0 to 1.0")?;
        keys.check("retries", r.retries <= 100, "0 to 100")?;
        let prices = [
            ("price_get", r.price_get),
            ("price_put", r.price_put),
            ("price_month", r.price_month),
            ("price_transfer", r.price_transfer),
        ];
        prices
            .into_iter()
            .try_for_each(|(key, price)| keys.within(key, price, (0.0, 1e6), "0.0 to 1000000.0"))
    }

    fn check_limits(&self) -> Result<()> {
        let (keys, l) = (self.keys("limits"), &self.limits);
        keys.check("k", l.k > 0, "at least 1")?;
        keys.check("batch_rows", l.batch_rows > 0, "at least 1")?;
        let bytes = l.batch_bytes.0;
        keys.check("batch_bytes", bytes >= 1 << 20, "at least \"1MiB\"")?;
        keys.check("write_queue", l.write_queue > 0, "at least 1")
    }

    fn check_shadow(&self) -> Result<()> {
        let (keys, s) = (self.keys("shadow"), &self.shadow);
        keys.check("sample", is_sample(s.sample), SAMPLE)?;
        keys.within("read_usd", s.read_usd, (0.0, 1e6), "0.0 or more")?;
        keys.within("write_usd", s.write_usd, (0.0, 1e6), "0.0 or more")
    }

    fn check_record(&self) -> Result<()> {
        let (keys, r) = (self.keys("record"), &self.record);
        keys.check("sample", is_sample(r.sample), SAMPLE)?;
        keys.check("max_bytes", r.max_bytes.0 >= 4096, "at least \"4KiB\"")
    }
}

/// What a sampled share may be.
const SAMPLE: &str = "more than 0.0 and up to 1.0";

fn is_sample(share: f64) -> bool {
    share > 0.0 && share <= 1.0
}

//! The keys of `[cold]` with `backend = "memory"`.

use aether_core::Result;
use aether_core::config::{ByteSize, RawConfig};
use aether_core::plugin::OptionSpec;
use serde::Deserialize;

/// Settings of the memory store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MemoryStoreConfig {
    /// Most bytes of blobs it takes; none is no limit.
    pub capacity: Option<ByteSize>,
}

impl MemoryStoreConfig {
    pub(crate) const OPTIONS: &[OptionSpec] = &[OptionSpec {
        name: "capacity",
        default: "",
        unit: "bytes",
        help: "Most bytes of blobs it takes, as \"1GiB\"; a put beyond is refused with capacity. Left out: no limit.",
    }];

    /// Reads and checks the keys.
    ///
    /// # Errors
    /// `Config`, pointing at the key.
    pub fn read(raw: &RawConfig) -> Result<Self> {
        let config: Self = raw.parse()?;
        if config.capacity == Some(ByteSize(0)) {
            let message = "expected more than \"0B\", got \"0B\"; leave the key out for no limit";
            return Err(raw.error("capacity", message));
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capacity_of_nothing_is_refused_at_its_key() {
        let raw = RawConfig::from_toml("cold", "capacity = \"0B\"").unwrap();
        let error = MemoryStoreConfig::read(&raw).unwrap_err();
        assert!(error.is_config());
        let text = error.to_string();
        assert!(
            text.contains("[cold] capacity") && text.contains('^'),
            "{text}"
        );
    }

    #[test]
    fn keys_read_as_written() {
        let raw = RawConfig::from_toml("cold", "capacity = \"3MiB\"").unwrap();
        let config = MemoryStoreConfig::read(&raw).unwrap();
        assert_eq!(config.capacity, Some(ByteSize(3 << 20)));
        let config = MemoryStoreConfig::read(&RawConfig::empty("cold")).unwrap();
        assert_eq!(config, MemoryStoreConfig::default());
    }
}

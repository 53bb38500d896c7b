//! A cold store in the process's memory: gone when the process ends.
//!
//! For tests, and for memories that keep nothing. See the README for what it does and when not to use it.

#![forbid(unsafe_code)]

mod cold_store;
mod config;

use std::sync::Arc;

use aether_core::config::RawConfig;
use aether_core::plugin::{BuildContext, Factory, Plugin};
use aether_core::role::ColdStore;
use aether_core::{Result, register};

pub use cold_store::MemoryStore;
pub use config::MemoryStoreConfig;

/// The name in `backend = "memory"`.
const NAME: &str = "memory";

/// The cold store `memory`.
pub static PLUGIN: Plugin = Plugin {
    name: NAME,
    crate_name: env!("CARGO_PKG_NAME"),
    summary: "blobs in the process's memory, gone when it ends",
    options: MemoryStoreConfig::OPTIONS,
    persistent: false,
    factory: Factory::Cold(make),
};

register!(PLUGIN);

fn make(raw: &RawConfig, context: &BuildContext) -> Result<Arc<dyn ColdStore>> {
    let config = MemoryStoreConfig::read(raw)?;
    Ok(Arc::new(MemoryStore::new(&config, context.read_only)))
}

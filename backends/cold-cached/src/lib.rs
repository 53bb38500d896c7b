//! A cold store that keeps verified blocks of another, remote one in RAM and on the local disk.
//!
//! # Invariants
//! - Nothing is cached that the engine has not verified ([`ColdStore::verified`]), and what comes back bears a seal of its own that is
//!   checked: damage in the cache is a miss.
//! - A block is known by its blob and its range. Blobs never change, and nothing is kept of a blob that was deleted: no block can be
//!   stale.
//! - The cache begins empty at each opening. A block that is not there, or a local disk that fails, costs a request and nothing else.

#![forbid(unsafe_code)]

mod blocks;
mod cold_store;
mod config;

use std::sync::Arc;

use aether_core::config::{RawConfig, Slot};
use aether_core::plugin::{BuildContext, Factory, Plugin, Role};
use aether_core::role::ColdStore;
use aether_core::{Error, Result, register};

pub use blocks::{BlockCache, CacheCounts};
pub use cold_store::CachedStore;
pub use config::CachedConfig;

/// The name in `backend = "cached"`.
const NAME: &str = "cached";

/// The cold store `cached`.
pub static PLUGIN: Plugin = Plugin {
    name: NAME,
    crate_name: env!("CARGO_PKG_NAME"),
    summary: "another, remote cold store with a cache of verified blocks in RAM and on the local disk",
    options: CachedConfig::OPTIONS,
    persistent: true,
    factory: Factory::Cold(make),
};

register!(PLUGIN);

fn make(raw: &RawConfig, context: &BuildContext) -> Result<Arc<dyn ColdStore>> {
    let config = CachedConfig::read(raw)?;
    let slot = Slot::inner_of(Role::Cold, raw)?;
    let inner = context.registry.cold(&slot, context)?;
    // Reading only leaves no trace, and a memory that keeps nothing has no folder: RAM alone then.
    let folder = config
        .folder(context.data_dir.as_deref())
        .filter(|_| !context.read_only);
    let blocks = BlockCache::open(config.ram.0, folder.map(|f| (f, config.disk.0)));
    let blocks = blocks.map_err(|e: Error| e.at(Role::Cold, NAME, "open"))?;
    Ok(Arc::new(CachedStore::new(inner, blocks)))
}

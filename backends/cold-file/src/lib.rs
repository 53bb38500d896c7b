//! A cold store in a local folder: one file for each blob, durable and create-only.
//!
//! # Invariants
//! - A blob's file appears under its name whole and synced, by one hard link, and is never written again.
//! - What a put has not finished has a name that no blob can have, and goes at the next opening.
//! - No async worker waits for the disk: a read is done in place only as far as the page cache has it.
//! - After a failed sync of the folder nothing is acknowledged any more; reads go on.

#![forbid(unsafe_code)]

#[cfg(not(unix))]
compile_error!(
    "aether-cold-file needs hard links, positioned reads and folder syncs as Unix has them"
);

mod cold_store;
mod config;
mod error;
#[doc(hidden)]
pub mod files;
mod folder;
mod format;
mod open_files;
mod read;
mod sync;

use std::sync::Arc;

use aether_core::config::RawConfig;
use aether_core::plugin::{BuildContext, Factory, Plugin};
use aether_core::role::ColdStore;
use aether_core::{Result, register};

pub use cold_store::FileStore;
pub use config::FileStoreConfig;

/// The name in `backend = "file"`.
const NAME: &str = "file";

/// The cold store `file`.
pub static PLUGIN: Plugin = Plugin {
    name: NAME,
    crate_name: env!("CARGO_PKG_NAME"),
    summary: "one file for each blob in a local folder, synced before it counts",
    options: FileStoreConfig::OPTIONS,
    persistent: true,
    factory: Factory::Cold(make),
};

register!(PLUGIN);

fn make(raw: &RawConfig, context: &BuildContext) -> Result<Arc<dyn ColdStore>> {
    let config = FileStoreConfig::read(raw)?;
    let folder = config.folder(raw, context.data_dir.as_deref())?;
    let store = FileStore::open(&folder, &config, context.read_only)?;
    Ok(Arc::new(store))
}
